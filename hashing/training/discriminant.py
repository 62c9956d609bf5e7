"""A linear front that keeps what survives degradation: Fisher's discriminant on snippets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hashing.snippets import standardise
from hashing.training.pool import SnippetPool

# Draws of each excerpt for the covariances: enough for the within-excerpt one to have full rank.
DRAWS = 8

# Share of the mean variance added to the diagonal of the within-excerpt covariance, so that
# directions that hold nothing are not blown up.
RIDGE = 1e-2


def fit_discriminant(pool: SnippetPool, components: int, seed: int) -> npt.NDArray[np.float32]:
    """Directions in which excerpts differ most, against how much their versions do.

    Fisher's linear discriminant (1936) with one class an excerpt: the generalised eigenvectors of
    the between- and the within-excerpt covariance. Column `i` is scaled so that the mean over
    versions has a variance of ``ratio / (1 + ratio)``: what noise drowns comes out small.

    Returns:
      [n_bands * snippet_frames, components] float32.
    """
    import scipy.linalg

    rng = np.random.default_rng(seed)
    excerpts, versions = pool.spectra.shape[:2]
    width = pool.config.n_bands * pool.config.snippet_frames
    total = np.zeros((width, width))
    between = np.zeros((width, width))
    for first in range(0, excerpts, 512):
        chosen = np.arange(first, min(first + 512, excerpts))
        draws = np.stack(
            [
                standardise(
                    pool.snippets(
                        chosen,
                        rng.integers(versions, size=chosen.size),
                        rng.integers(pool.offsets, size=chosen.size),
                    ),
                    pool.config,
                )
                for _ in range(DRAWS)
            ]
        ).astype(np.float64)
        flat = draws.reshape(-1, width)
        total += flat.T @ flat
        means = draws.mean(axis=0)
        between += DRAWS * (means.T @ means)
    within = (total - between) / (excerpts * (DRAWS - 1))
    # The means still hold 1 / DRAWS of the within variance; what is left is between excerpts.
    between = between / (excerpts * DRAWS) - within / DRAWS
    within += np.eye(width) * (RIDGE * np.trace(within) / width)
    ratios, vectors = scipy.linalg.eigh(between, within)
    ratios, vectors = ratios[::-1][:components], vectors[:, ::-1][:, :components]
    ratios = np.maximum(ratios, 1e-3)
    # eigh gives unit within-variance, so the variance of a column is one plus its ratio.
    gains = ratios / (1.0 + ratios)
    scaled = vectors / np.sqrt(1.0 + ratios) * gains
    return np.asarray(scaled / np.sqrt(np.mean(gains**2)), dtype=np.float32)
