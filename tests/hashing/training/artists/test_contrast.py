"""Maps that bring tracks of one artist together: loss, slope, draws, and what is learned."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hashing.training.artists import contrast as contrasts
from hashing.training.artists.contrast import (
    ARTISTS_A_STEP,
    NOISE,
    TEMPERATURE,
    TRACKS_AN_ARTIST,
    Catalogue,
    Tracks,
    contrast,
    learn_map,
)
from hashing.training.artists.triplets import contrastive_loss


def catalogue(artists: int, seed: int = 0, axis: int = 0) -> Catalogue:
    """Six tracks each: artists differ a little along one axis, tracks much along all others."""
    rng = np.random.default_rng(seed)
    rows, counts = [], []
    for artist in range(artists):
        for _ in range(6):
            track = rng.standard_normal(4) * 0.5
            track[axis] = (artist - (artists - 1) / 2) / artists
            counts.append(int(rng.integers(1, 5)))
            rows.append(track + 0.05 * rng.standard_normal((counts[-1], 4)))
    tracks = Tracks.of(np.concatenate(rows), np.array(counts))
    return Catalogue(tracks, list(np.arange(6 * artists).reshape(artists, 6)))


# Loss and slope.


def test_the_loss_is_that_of_the_network_system() -> None:
    rng = np.random.default_rng(0)
    points, found = rng.standard_normal((9, 3)), rng.standard_normal((3, 3))
    artist = np.array([0, 1, 0, 1, 1, 2, 2, 0, 1])
    units = torch.nn.functional.normalize(torch.tensor(points @ found.T), dim=1)
    expected, _ = contrastive_loss(units, torch.tensor(artist), TEMPERATURE)
    assert contrast(found, points, artist)[0] == pytest.approx(expected.item(), rel=1e-9)


@given(st.integers(0, 10_000))
def test_the_slope_is_that_of_finite_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, found = rng.standard_normal((8, 3)), np.eye(3) + 0.3 * rng.standard_normal((3, 3))
    artist = np.array([0, 0, 1, 1, 1, 2, 2, 2])
    slope = contrast(found, points, artist)[1]
    for row, column in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[row, column] = 1e-6
        up, down = (contrast(found + sign * step, points, artist)[0] for sign in (1, -1))
        assert slope[row, column] == pytest.approx((up - down) / 2e-6, abs=2e-4, rel=1e-4)


def test_points_at_the_origin_do_no_harm() -> None:
    loss, slope = contrast(np.eye(2), np.zeros((4, 2)), np.array([0, 0, 1, 1]))
    assert loss == pytest.approx(math.log(3))
    assert np.isfinite(slope).all()


# What a step hears.


def test_some_segments_of_a_track_are_heard_half_of_them_or_more() -> None:
    counts = np.array([1, 4, 10])
    tracks = Tracks.of(np.eye(15), counts)  # a mean tells which segments are in it
    np.testing.assert_allclose(tracks.means()[1], [0] + [0.25] * 4 + [0] * 10)
    rng = np.random.default_rng(0)
    for place, (first, most) in enumerate(((0, 1), (1, 4), (5, 10))):
        heard = tracks.heard(np.full(300, place), rng)
        sizes = (heard > 0).sum(axis=1)
        np.testing.assert_allclose(heard.sum(axis=1), 1.0)
        np.testing.assert_allclose(heard.max(axis=1), 1.0 / sizes)
        assert not heard[:, :first].any()
        assert not heard[:, first + most :].any()
        assert set(sizes.tolist()) == set(range(max(most // 2, 1), most + 1))
        assert (heard[:, first : first + most] > 0).any(axis=0).all()


def test_a_step_has_some_artists_and_as_many_tracks_of_each() -> None:
    rng = np.random.default_rng(0)
    points, artist = catalogue(30).draw(rng)
    assert points.shape == (ARTISTS_A_STEP * TRACKS_AN_ARTIST, 4)
    assert np.bincount(artist).tolist() == [TRACKS_AN_ARTIST] * ARTISTS_A_STEP
    few = Catalogue(catalogue(3).tracks, [np.array([0, 1]), np.array([6, 7, 8, 9, 10])])
    points, artist = few.draw(rng)
    assert np.bincount(artist).tolist() == [TRACKS_AN_ARTIST] * 2


def test_tracks_are_heard_with_some_noise() -> None:
    rows = np.repeat(np.eye(50)[:2], 6, axis=0)
    music = Catalogue(Tracks.of(rows, np.ones(12, np.int64)), list(np.arange(12).reshape(2, 6)))
    rng = np.random.default_rng(0)
    drawn = np.concatenate([music.draw(rng)[0] for _ in range(50)])
    drawn[:, :2] -= drawn[:, :2].round()
    lengths = np.linalg.norm(drawn, axis=1)
    # From nothing to `NOISE`, uniform: the root of a third of it in the mean of squares.
    assert np.sqrt(np.mean(lengths**2)) == pytest.approx(NOISE / math.sqrt(3), rel=0.1)
    assert lengths.min() < 0.02 < 0.25 < lengths.max()


# Maps.


def test_what_tells_artists_apart_grows() -> None:
    found = learn_map([catalogue(8), catalogue(8, 1)], 60, 1)
    gains = np.linalg.norm(found, axis=0)
    assert gains[0] > 1.02 > 0.98 > gains[1:].max()


def test_no_two_catalogues_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = catalogue(8), catalogue(8, 1)
    moved = Tracks(other.tracks.segments + 100.0, other.tracks.counts)
    compared = []

    def watched(found: np.ndarray, points: np.ndarray, artist: np.ndarray) -> object:
        compared.append(sorted(set((points[:, 1] > 50).tolist())))
        return contrast(found, points, artist)

    monkeypatch.setattr(contrasts, "contrast", watched)
    learn_map([one, Catalogue(moved, other.artists)], 2, 1)
    assert compared in ([[False], [True]] * 2, [[True], [False]] * 2)


def test_the_seed_decides_and_no_step_changes_nothing() -> None:
    music = [catalogue(4)]
    np.testing.assert_array_equal(learn_map(music, 5, 1), learn_map(music, 5, 1))
    assert not np.array_equal(learn_map(music, 5, 1), learn_map(music, 5, 2))
    np.testing.assert_array_equal(learn_map(music, 0, 1), np.eye(4))


def test_steps_are_those_of_adam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrasts, "PENALTY", 0.0)
    slope = np.random.default_rng(0).standard_normal((4, 4))

    def end(*signs: float) -> np.ndarray:
        left = iter(signs)
        monkeypatch.setattr(contrasts, "contrast", lambda *_: (0.0, next(left) * slope))
        moved = learn_map([catalogue(2)], len(signs), 1) - np.eye(4)
        return np.asarray(-moved / np.sign(slope) / contrasts.RATE)

    # The same slope again and again is a whole step each time: four, then 2/3, then 1/3.
    np.testing.assert_allclose(end(*[1.0] * 6), 5.0, atol=1e-4)
    # One that turns around: its memory is (.9 - 1) * .1 / (1 - .9²).
    np.testing.assert_allclose(end(1.0, -1.0), 1.0 - 0.01 / 0.19, atol=1e-4)


def test_a_strong_penalty_holds_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    free = learn_map([catalogue(8)], 60, 1)
    monkeypatch.setattr(contrasts, "PENALTY", 100.0)
    held = learn_map([catalogue(8)], 60, 1)
    assert np.abs(held - np.eye(4)).max() < 0.5 * np.abs(free - np.eye(4)).max()


def test_what_cannot_be_learned_from_is_refused() -> None:
    known = catalogue(2)
    alone, short = (
        Catalogue(known.tracks, own) for own in (known.artists[:1], [np.array([0]), np.array([6])])
    )
    for catalogues in ([], [known, alone]):
        with pytest.raises(ValueError, match="needs two artists"):
            learn_map(catalogues, 1, 1)
    with pytest.raises(ValueError, match="fewer than 2 tracks"):
        learn_map([short], 1, 1)
