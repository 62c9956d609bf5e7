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


def audible(spec: Floats, config: FeatureConfig, hop: int | None = None) -> npt.NDArray[np.int32]:
    """First frames [n] of the snippets of a spectrogram [frames, n_bands] that are not silent.

    The level of a snippet is the loudest cell that it holds. `hop` as in `snippets`.

    >>> audible(np.zeros((60, 64), np.float32), FeatureConfig()).tolist()
    [0, 16, 32]
    """
    hop = hop or config.snippet_hop
    if spec.shape[0] < config.snippet_frames:
        return np.empty(0, dtype=np.int32)
    # A running maximum over frames.
    loudest = spec.max(axis=1)
    levels = np.lib.stride_tricks.sliding_window_view(loudest, config.snippet_frames)[::hop]
    heard = np.flatnonzero(levels.max(axis=1) > config.silence_db)
    return (heard * hop).astype(np.int32)


def filled(spec: Floats, config: FeatureConfig) -> Floats:
    """A spectrogram [frames, n_bands] that holds a whole snippet, if the settings ask for it.

    What is shorter, but at least a frame, is repeated from its start on.

    >>> config = FeatureConfig(repeats_short=True, snippet_frames=5)
    >>> filled(np.array([[1.0], [2.0]], np.float32), config)[:, 0].tolist()
    [1.0, 2.0, 1.0, 2.0, 1.0]
    """
    frames = len(spec)
    if not config.repeats_short or not 0 < frames < config.snippet_frames:
        return spec
    return spec[np.arange(config.snippet_frames) % frames]


def windows(spec: Floats, config: FeatureConfig) -> Floats:
    """The snippet that begins at each frame, a read-only view [n, n_bands, snippet_frames].

    >>> windows(np.zeros((60, 64), np.float32), FeatureConfig()).shape
    (33, 64, 28)
    """
    if spec.shape[0] < config.snippet_frames:
        return np.empty((0, config.n_bands, config.snippet_frames), dtype=np.float32)
    return np.lib.stride_tricks.sliding_window_view(spec, config.snippet_frames, axis=0)


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
    starts, view = audible(spec, config, hop), windows(spec, config)
    every = view[::hop]
    return (every if len(starts) == len(every) else view[starts]), starts


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


def standardise_frames(spec: Floats, config: FeatureConfig) -> Floats:
    """A spectrogram each frame of which is standardised with those around it.

    `standardise` where snippets share their frames: a frame is taken to be in the middle of a
    snippet, and gets that snippet's floor, mean and deviation. At the ends of the spectrogram the
    snippet is what there is of it.

    Args:
      spec: [..., frames, n_bands] in dB.

    Returns:
      [..., frames, n_bands] float32.

    >>> ramp = np.arange(6400, dtype=np.float32).reshape(100, 64) / 200
    >>> out = standardise_frames(ramp, FeatureConfig())
    >>> out.shape, bool(np.allclose(out, standardise_frames(ramp + 6, FeatureConfig()), atol=1e-3))
    ((100, 64), True)
    """
    from scipy.ndimage import maximum_filter1d

    frames, width = spec.shape[-2], config.snippet_frames
    # Repeating the last frame at an end changes no maximum.
    loudest = maximum_filter1d(spec.max(axis=-1), width, axis=-1, mode="nearest")
    out: Floats = np.maximum(spec, (loudest - np.float32(config.dynamic_range_db))[..., None])
    before, after = width // 2, width - width // 2
    place = np.arange(frames)
    heard = np.minimum(place + after, frames) - np.maximum(place - before, 0)

    def mean(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        ends = np.pad(sums, [(0, 0)] * (sums.ndim - 1) + [(before, after - 1)])
        around = np.lib.stride_tricks.sliding_window_view(ends, width, axis=-1).sum(axis=-1)
        return np.asarray(around / (heard * spec.shape[-1]))

    # In double precision, and never summed over a whole track: of near silence the variance is a
    # small difference of large squares.
    level = mean(out.sum(axis=-1, dtype=np.float64))
    squares: npt.NDArray[np.float64] = np.einsum("...fb,...fb->...f", out, out, dtype=np.float64)
    variance = mean(squares) - level**2
    out -= level.astype(np.float32)[..., None]
    deviation = np.sqrt(np.maximum(variance, 0.0)) + 1e-6
    out /= deviation.astype(np.float32)[..., None]
    return out
