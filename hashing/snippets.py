"""Snippets: overlapping windows of a track's or a query's spectrogram, and how they are normalised.

A track has one spectrogram, so its Fourier transforms are computed once however dense the snippets
are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hashing.features import FeatureConfig

Floats = npt.NDArray[np.float32]

# A query longer than this, seconds, has snippets half as dense: it has enough of them, and they are
# most of the cost of a look-up.
LONG_QUERY_S = 4.0


def snippets(
    spec: Floats, config: FeatureConfig, hop: int | None = None
) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Snippets of a spectrogram that are not silent.

    Args:
      spec: [frames, n_bands] in dB re full scale.
      config: the settings.
      hop: frames between two snippets; ``config.snippet_hop`` unless told. Queries use a finer one.

    Returns:
      A read-only view [n, n_bands, snippet_frames] where nothing is silent, else a copy, and the
      first frame of each, int32. The view shares memory with `spec`.

    >>> cut, starts = snippets(np.zeros((60, 64), np.float32), FeatureConfig())
    >>> cut.shape, starts.tolist()
    ((3, 64, 28), [0, 16, 32])
    """
    hop = hop or config.snippet_hop
    if spec.shape[0] < config.snippet_frames:
        return (
            np.empty((0, config.n_bands, config.snippet_frames), dtype=np.float32),
            np.empty(0, dtype=np.int32),
        )
    view = np.lib.stride_tricks.sliding_window_view(spec, config.snippet_frames, axis=0)[::hop]
    starts = np.arange(view.shape[0], dtype=np.int32) * np.int32(hop)
    # The level of a snippet is the loudest cell that it holds; a running maximum over frames.
    loudest = spec.max(axis=1)
    levels = np.lib.stride_tricks.sliding_window_view(loudest, config.snippet_frames)[::hop]
    audible = levels.max(axis=1) > config.silence_db
    if audible.all():
        return view, starts
    return view[audible], starts[audible]


def fill_edges(cut: Floats, first: npt.NDArray[np.integer], end: npt.NDArray[np.integer]) -> Floats:
    """Snippets of which only some frames were heard; the others get the mean of those that were.

    Args:
      cut: [n, n_bands, snippet_frames]; changed in place.
      first, end: the frames of each that were heard, [n], end exclusive.

    Returns:
      `cut`.

    >>> fill_edges(np.array([[[1.0, 3.0, 9.0]]], np.float32), np.array([0]), np.array([2])).tolist()
    [[[1.0, 3.0, 2.0]]]
    """
    frames = np.arange(cut.shape[2])
    missing = (frames < first[:, None]) | (frames >= end[:, None])
    some = np.flatnonzero(missing.any(axis=1))
    lost = missing[some][:, None, :]
    total = np.where(lost, np.float32(0.0), cut[some]).sum(axis=2)
    mean = total / (end - first)[some][:, None].astype(np.float32)
    cut[some] = np.where(lost, mean[:, :, None], cut[some])
    return cut


def query_snippets(spec: Floats, config: FeatureConfig) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Snippets of a query that are not silent, `FeatureConfig.query_hop` frames apart.

    Those of a query of more than `LONG_QUERY_S` are twice as far apart.

    An index has a snippet every half second; where a query of one second begins between two of
    them, its only whole snippet is up to a quarter of a second off both. So a query also gets
    snippets that begin up to half an index hop before it or end as much after it: what of them was
    not heard is filled (`fill_edges`). One of them is within half a query hop of the index's grid.

    Args:
      spec: [frames, n_bands], at least one snippet long.

    Returns:
      [n, n_bands, snippet_frames] and the first frame of each, int32, negative before the query.
    """
    margin, width, frames = config.query_margin, config.snippet_frames, spec.shape[0]
    if frames < width:
        return snippets(spec, config, config.query_hop)
    hop = config.query_hop
    if frames * config.frame_s > LONG_QUERY_S and config.snippet_hop % (2 * hop) == 0:
        hop *= 2
    # One of them begins where the query does.
    first = -(margin - margin % hop)
    starts = np.arange(first, frames - width + margin + 1, hop, dtype=np.int32)
    at = np.clip(starts[:, None] + np.arange(width, dtype=np.int32), 0, frames - 1)
    cut = np.ascontiguousarray(spec[at].transpose(0, 2, 1))
    audible = cut.reshape(len(cut), -1).max(axis=1) > config.silence_db
    cut, starts = cut[audible], starts[audible]
    heard, end = np.maximum(-starts, 0), np.minimum(frames - starts, width)
    return fill_edges(cut, heard, end), starts


def standardise(cut: Floats, config: FeatureConfig) -> Floats:
    """Snippets with mean 0 and deviation 1 each: level and contrast do not change a code.

    Args:
      cut: [n, n_bands, snippet_frames] in dB; cells more than ``dynamic_range_db`` below the
        loudest of their snippet are raised to that level first, so that what is inaudible beside
        the music does not count.

    Returns:
      [n, n_bands * snippet_frames] float32, the input of every hasher.

    >>> ramp = np.arange(1792, dtype=np.float32).reshape(1, 64, 28) / 40
    >>> out = standardise(ramp, FeatureConfig())
    >>> out.shape, bool(abs(out.mean()) < 1e-5), bool(abs(out.std() - 1) < 1e-4)
    ((1, 1792), True, True)
    """
    flat = cut.reshape(cut.shape[0], cut.shape[1] * cut.shape[2])
    floor = flat.max(axis=1, keepdims=True) - np.float32(config.dynamic_range_db)
    out = np.maximum(flat, floor)
    out -= out.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.einsum("ij,ij->i", out, out) / np.float32(out.shape[1]))
    out /= (deviation + np.float32(1e-6))[:, None]
    return np.asarray(out)
