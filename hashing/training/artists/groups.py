"""Names that several artists share, made up of artists that do not, to compare embeddings with.

How Royo-Letelier et al. (ISMIR 2018) judge: the tracks of each name are clustered by Ward's method,
cut at a distance that suits the names of other artists.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster

from hashing.clusters.scores import score_clusters
from hashing.clusters.ward import ward

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Names of two, three and four artists among the paper's 122.
SHARED_BY = {2: 102, 3: 17, 4: 3}

# Distances that are tried as a cut: of embeddings of length one, Ward's are between 0 and the root
# of twice the tracks.
CUTS = np.geomspace(0.05, 8.0, 80)


def draw_sizes(n: int, most: int, rng: np.random.Generator) -> Ints:
    """How many artists share each of `n` names, as often as in the paper, `most` at the most.

    >>> set(draw_sizes(50, 3, np.random.default_rng(1)).tolist()) <= {2, 3}
    True
    """
    chances = np.array(list(SHARED_BY.values())) / sum(SHARED_BY.values())
    return np.asarray(np.minimum(rng.choice(np.array(list(SHARED_BY)), n, p=chances), most))


@dataclasses.dataclass(frozen=True)
class Groups:
    """Names, as trees of their tracks.

    Attributes:
      truth: artist of each track of a name.
      linkages: Ward's tree of each name, as scipy has it.
    """

    truth: list[Ints]
    linkages: list[npt.NDArray[np.float64]]

    @classmethod
    def draw(cls, embeddings: Floats, artists: Ints, n: int, rng: np.random.Generator) -> Groups:
        """`n` names of random artists with all their tracks.

        Args:
          embeddings: of tracks, [tracks, d].
          artists: of each track, [tracks]; two at least.
        """
        names = np.unique(artists)
        truth, linkages = [], []
        for size in draw_sizes(n, len(names), rng):
            own = rng.choice(names, size, replace=False)
            rows = np.flatnonzero(np.isin(artists, own))
            truth.append(artists[rows])
            linkages.append(np.asarray(ward(embeddings[rows], cut=1.0).linkage))
        return cls(truth, linkages)

    def scores(self, cut: float) -> dict[str, float]:
        """``ari`` and ``ami``, means over the names, at one cut."""
        found = [
            score_clusters(truth, fcluster(linkage, cut, "distance"))
            for truth, linkage in zip(self.truth, self.linkages, strict=True)
        ]
        return {
            "ari": float(np.mean([one.ari for one in found])),
            "ami": float(np.mean([one.ami for one in found])),
        }

    def best_cut(self, cuts: Sequence[float] = tuple(CUTS.tolist())) -> float:
        """The cut with the highest ``ami``, as in the paper; the middle one of equals."""
        values = np.array([self.scores(cut)["ami"] for cut in cuts])
        best = np.flatnonzero(values >= values.max() - 1e-12)
        return float(cuts[best[len(best) // 2]])
