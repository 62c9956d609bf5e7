"""What a clip encoder learns from: the same clip twice, cut, mixed and coloured each time anew."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from hashing.events.encoder import ClipEmbedder
from hashing.events.spectra import STEP_DB, Spectra
from hashing.snippets import standardise

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Windows cut and coloured at once: of 64 bands and 152 frames 10 MB.
_VIEWS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class ViewSettings:
    """How two views of a clip differ.

    Attributes:
      frames: of a view, of those of a window.
      mixed_chance, mixed_snr_db: of another clip that sounds along, that many dB below.
      equaliser_db: deviation of the random equaliser's gain at each of its knots. Synthesisers
        and microphones differ by as much.
      shifted: bands up or down that a view may be moved; one is a semitone to a tone.
      masked: bands and frames that may be taken away, at most.
    """

    frames: int = 96
    mixed_chance: float = 0.5
    mixed_snr_db: tuple[float, float] = (3.0, 25.0)
    equaliser_db: float = 6.0
    equaliser_knots: int = 7
    shifted: int = 2
    masked: tuple[int, int] = (8, 16)


def draw_views(
    spectra: Spectra, rows: Ints, settings: ViewSettings, rng: np.random.Generator
) -> Floats:
    """A view of each of some windows, standardised, [n, bands, frames]."""
    n = len(rows)
    cut = _crops(spectra, rows, settings.frames, rng)
    mixed = np.flatnonzero(rng.random(n) < settings.mixed_chance)
    if mixed.size:
        others = rng.integers(len(spectra.levels), size=mixed.size)
        along = _power(_crops(spectra, others, settings.frames, rng))
        power = _power(cut[mixed])
        ratio = 10.0 ** (-rng.uniform(*settings.mixed_snr_db, mixed.size) / 10.0)
        ratio *= power.mean(axis=(1, 2)) / along.mean(axis=(1, 2))
        along *= ratio[:, None, None].astype(np.float32)
        cut[mixed] = 10.0 * np.log10(power + along)
    cut += _equalisers(n, cut.shape[1], settings, rng)[:, :, None]
    cut = _shifted(cut, settings.shifted, rng)
    out = standardise(cut, spectra.config).reshape(cut.shape)
    _mask(out, settings.masked, rng)
    return out


def whole_windows(spectra: Spectra, rows: npt.NDArray[np.integer]) -> Floats:
    """Windows as an index hears them, standardised, [n, bands, frames]."""
    cut = spectra.cut(rows)
    return standardise(cut, spectra.config).reshape(cut.shape)


def embed_versions(
    embedder: ClipEmbedder, spectra: Spectra, rows: Ints, versions: int, seed: int
) -> Floats:
    """Embeddings [n, versions, d] of windows as they are, and of views of them.

    What learns from the labels of few clips hears each of them mixed and coloured anew.
    """
    whole = ViewSettings(frames=spectra.levels.shape[1])
    out = np.empty((len(rows), versions, embedder.dimensions), np.float32)
    for first in range(0, len(rows), _VIEWS_AT_ONCE):
        part = slice(first, first + _VIEWS_AT_ONCE)
        rng = np.random.default_rng([seed, first])
        for version in range(versions):
            if version:
                cut = draw_views(spectra, rows[part], whole, rng)
            else:
                cut = whole_windows(spectra, rows[part])
            out[part, version] = embedder.embed_standardised(cut)
    return out


def _crops(spectra: Spectra, rows: Ints, frames: int, rng: np.random.Generator) -> Floats:
    room = spectra.levels.shape[1] - frames
    first = rng.integers(room + 1, size=len(rows))
    levels = spectra.levels[rows[:, None], first[:, None] + np.arange(frames)]
    return np.asarray(np.float32(-STEP_DB) * levels.transpose(0, 2, 1), np.float32)


def _power(cut: Floats) -> Floats:
    return np.asarray(np.exp(cut * np.float32(np.log(10.0) / 10.0)) + np.float32(1e-13))


def _equalisers(
    n: int, bands: int, settings: ViewSettings, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    knots = rng.normal(0.0, settings.equaliser_db, (n, settings.equaliser_knots))
    place = np.linspace(0.0, settings.equaliser_knots - 1.0, bands)
    apart = np.abs(place[None] - np.arange(settings.equaliser_knots)[:, None])
    return np.asarray(knots @ np.maximum(0.0, 1.0 - apart), np.float32)


def _shifted(cut: Floats, most: int, rng: np.random.Generator) -> Floats:
    """Up or down by some bands; the outermost ones are repeated."""
    n, bands = cut.shape[:2]
    moved = np.asarray(rng.integers(-most, most + 1, size=n), np.int64)
    from_band = np.clip(np.arange(bands)[None] - moved[:, None], 0, bands - 1)
    return np.take_along_axis(cut, from_band[:, :, None], axis=1)


def _mask(cut: Floats, most: tuple[int, int], rng: np.random.Generator) -> None:
    """Takes some bands and frames away: they become the mean, which is zero."""
    n = len(cut)
    for axis, limit in ((1, most[0]), (2, most[1])):
        size = cut.shape[axis]
        width = rng.integers(limit + 1, size=n)
        first = rng.integers(size - limit + 1, size=n)
        place = np.arange(size)[None]
        gone = (place >= first[:, None]) & (place < (first + width)[:, None])
        cut *= ~(gone[:, :, None] if axis == 1 else gone[:, None, :])
