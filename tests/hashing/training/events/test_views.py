"""Views of windows: each way in which two differ, taken by itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from clip_sounds import SMALL, noisy, spectra_of

from hashing.training.events import views
from hashing.training.events.views import ViewSettings, draw_views, embed_versions, whole_windows

BANDS, FRAMES = SMALL.n_bands, SMALL.snippet_frames

# No two views differ.
NOTHING = ViewSettings(frames=FRAMES, mixed_chance=0.0, equaliser_db=0.0, shifted=0, masked=(0, 0))


def only(**values: Any) -> ViewSettings:
    return dataclasses.replace(NOTHING, **values)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def standard(cut: np.ndarray) -> np.ndarray:
    """Windows [n, bands, frames] of mean zero and deviation one."""
    centred = cut - cut.mean(axis=(1, 2), keepdims=True)
    return np.asarray(centred / centred.std(axis=(1, 2), keepdims=True))


def test_without_any_difference_a_view_is_the_window() -> None:
    spectra, rows = noisy(6), np.array([3, 0, 3])
    found = draw_views(spectra, rows, NOTHING, rng())
    assert found.shape == (3, BANDS, FRAMES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, standard(spectra.cut(rows)), atol=1e-4)
    np.testing.assert_array_equal(found, whole_windows(spectra, rows))


def test_a_cut_may_begin_anywhere() -> None:
    spectra = noisy(1)
    whole = spectra.cut(np.array([0]))[0]
    cuts = standard(np.stack([whole[:, first : first + 29] for first in range(4)]))
    found = draw_views(spectra, np.zeros(60, np.int64), only(frames=29), rng())
    apart = np.abs(found[:, None] - cuts[None]).max(axis=(2, 3))
    assert (apart.min(axis=1) < 1e-4).all()
    assert set(apart.argmin(axis=1)) == {0, 1, 2, 3}


def test_another_clip_sounds_along_as_loud_as_told() -> None:
    spectra, snr_db = noisy(3), 6.0
    power = 10 ** (spectra.cut(np.arange(3)).astype(np.float64) / 10)
    mean = power.mean(axis=(1, 2))
    mixed = [power[0] + power[k] * mean[0] / mean[k] * 10 ** (-snr_db / 10) for k in range(3)]
    expected = standard(10 * np.log10(np.stack(mixed)))
    how = only(mixed_chance=1.0, mixed_snr_db=(snr_db, snr_db))
    found = draw_views(spectra, np.zeros(40, np.int64), how, rng())
    apart = np.abs(found[:, None] - expected[None]).max(axis=(2, 3))
    assert (apart.min(axis=1) < 1e-3).all()
    assert set(apart.argmin(axis=1)) == {0, 1, 2}
    # Now and then only.
    some = draw_views(spectra, np.zeros(300, np.int64), only(mixed_chance=0.3), rng())
    alone = np.isclose(some, whole_windows(spectra, np.zeros(300, np.int64))).all(axis=(1, 2))
    assert 0.6 < alone.mean() < 0.85  # one of three is mixed with itself, and stays as it is


def test_the_equaliser_is_a_line_between_its_knots() -> None:
    spectra = noisy(400)
    rows = np.arange(400)
    found = draw_views(spectra, rows, only(equaliser_db=4.0, equaliser_knots=4), rng())
    levels = spectra.cut(rows)
    # What was divided by is told by the deviation within a band, which has no gain in it.
    spread = levels[:, 0].std(axis=1) / found[:, 0].std(axis=1)
    gains = found * spread[:, None, None] - levels
    np.testing.assert_allclose(gains, gains[:, :, :1] + np.zeros(FRAMES), atol=0.05)
    gain = gains[:, :, 0]
    # Sixteen bands: knots are at 0, 5, 10 and 15.
    bends = np.abs(np.diff(gain, n=2, axis=1))
    knots = np.array([5, 10]) - 1
    assert bends[:, np.delete(np.arange(14), knots)].max() < 0.05
    assert (bends[:, knots].max(axis=1) > 0.05).mean() > 0.9
    # Differences of two knots deviate by the root of two times as much.
    assert np.std(gain[:, 5] - gain[:, 0]) == pytest.approx(4 * np.sqrt(2), rel=0.15)


def test_bands_are_moved_up_and_down() -> None:
    levels = np.full((1, BANDS, FRAMES), -60.0)
    levels[0, 7] = -20
    levels[0, 0] = -40
    found = draw_views(spectra_of(levels), np.zeros(80, np.int64), only(shifted=2), rng())
    peaks = found[:, :, 0].argmax(axis=1)
    assert set(peaks) == {5, 6, 7, 8, 9}
    # The lowest is repeated where others are moved up, and gone where they are moved down.
    middle = (found[:, 7, 0][peaks == 9] + found.max(axis=(1, 2))[peaks == 9]) / 2
    assert (found[:, 1, 0][peaks == 9] == found[:, 0, 0][peaks == 9]).all()
    assert (found[:, 1, 0][peaks == 9] > found[:, 5, 0][peaks == 9]).all()
    assert (found[:, 0, 0][peaks == 5] < middle.mean()).all()
    assert (found[:, 0, 0][peaks == 5] == found[:, 3, 0][peaks == 5]).all()


def test_some_bands_and_frames_are_taken_away() -> None:
    spectra, rows = noisy(200), np.arange(200)
    whole = whole_windows(spectra, rows)
    found = draw_views(spectra, rows, only(masked=(3, 5)), rng())
    for axis, most in ((2, 3), (1, 5)):
        gone = (found == 0).all(axis=axis)
        counts = gone.sum(axis=1)
        assert set(counts) == set(range(most + 1))
        ends = np.diff(gone.astype(int), axis=1, prepend=0, append=0)
        assert ((ends == 1).sum(axis=1) <= 1).all()  # side by side
        assert gone.any(axis=0)[:-2].all()  # anywhere but, it may be, at the end
    kept = found != 0
    np.testing.assert_array_equal(found[kept], whole[kept])


def test_the_same_draws_give_the_same_views_and_leave_the_windows() -> None:
    spectra, rows = noisy(9), np.arange(9)
    before = spectra.levels.copy()
    how = ViewSettings(frames=20, masked=(2, 3))
    first, second = (draw_views(spectra, rows, how, rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, draw_views(spectra, rows, how, rng(5)))
    np.testing.assert_array_equal(spectra.levels, before)


class Means:
    """An embedder that gives the level of each band."""

    dimensions = BANDS

    def embed_standardised(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values.mean(axis=2), np.float32)


def test_versions_are_the_window_and_views_of_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    spectra, rows = noisy(9), np.array([1, 8, 1, 5, 0])
    heard: list[ViewSettings] = []

    def told(spectra: Any, rows: Any, how: ViewSettings, rng: Any) -> Any:
        heard.append(how)
        return draw_views(spectra, rows, how, rng)

    monkeypatch.setattr(views, "draw_views", told)
    monkeypatch.setattr(views, "_VIEWS_AT_ONCE", 2)
    embedder: Any = Means()
    found = embed_versions(embedder, spectra, rows, 3, seed=4)
    assert found.shape == (5, 3, BANDS)
    np.testing.assert_allclose(found[:, 0], whole_windows(spectra, rows).mean(axis=2))
    assert {one.frames for one in heard} == {FRAMES}
    assert len(heard) == 2 * 3
    # No two views of one clip are the same, neither in one part of the rows nor in the next.
    some = found[[0, 2]].reshape(6, BANDS)[[1, 2, 4, 5]]
    apart = np.abs(some[:, None] - some[None]).max(axis=2)
    assert (apart[~np.eye(4, dtype=bool)] > 1e-3).all()
    np.testing.assert_array_equal(found, embed_versions(embedder, spectra, rows, 3, seed=4))
    other = embed_versions(embedder, spectra, rows, 3, seed=5)
    np.testing.assert_array_equal(found[:, 0], other[:, 0])
    assert not np.allclose(found[:, 1], other[:, 1])


def test_no_clips_have_no_versions() -> None:
    embedder: Any = Means()
    assert embed_versions(embedder, noisy(2), np.empty(0, np.int64), 2, 1).shape == (0, 2, BANDS)
