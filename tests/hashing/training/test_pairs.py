from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_fixture import FEATURES, TINY_ENCODER, encoder_pairs

from hashing.errors import HashbeamError
from hashing.features import BALUJA_COVELL, WINDOWS, FeatureConfig
from hashing.fronts import Answer
from hashing.track_fronts import Reach, SharedLayers
from hashing.training import pairs as pairs_module
from hashing.training.networks import TrackEncoder
from hashing.training.pairs import EDGE_CHANCE, EncoderTraining, Pairs
from hashing.training.pool import SnippetPool
from hashing.training.tiles import TILE_FRAMES


def changed(**values: object) -> EncoderTraining:
    return dataclasses.replace(TINY_ENCODER, **values)  # type: ignore[arg-type]


# The learning rate.


def test_the_learning_rate_rises_stays_and_falls() -> None:
    settings = changed(steps=100, warm_up=10, decay_share=0.4, learning_rate=2.0)
    rates = [settings.learning_rate_at(step) for step in range(100)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert rates[9:60] == [2.0] * 51
    # A quarter, a half and three quarters of the way down: 1 + cos of 45°, 90° and 135°.
    assert rates[70] == pytest.approx(1.0 + math.sqrt(0.5))
    assert rates[80] == pytest.approx(1.0)
    assert rates[90] == pytest.approx(1.0 - math.sqrt(0.5))
    assert np.all(np.diff(rates[60:]) < 0)
    assert 0 < rates[99] < 0.01


@given(steps=st.integers(1, 400), warm_up=st.integers(0, 50), share=st.floats(0, 1))
def test_the_learning_rate_is_never_above_its_height(
    steps: int, warm_up: int, share: float
) -> None:
    settings = changed(steps=steps, warm_up=warm_up, decay_share=share, learning_rate=1.0)
    rates = [settings.learning_rate_at(step) for step in range(steps)]
    assert all(0.0 < rate <= 1.0 for rate in rates)


def test_draws_differ_by_seed_stage_and_step() -> None:
    def first(seed: int, stage: int, step: int) -> float:
        return float(changed(seed=seed).seeds(stage, step).random())

    assert first(1, 2, 3) == first(1, 2, 3)
    assert len({first(1, 2, 3), first(2, 2, 3), first(1, 3, 3), first(1, 2, 4)}) == 4


# Pairs.


def coded_pool(tiles: int = 12, versions: int = 3, frames: int = 46) -> SnippetPool:
    """Cells that tell where they are: band 0 the tile, band 1 the version, others the frame."""
    spectra = np.empty((tiles, versions, frames, FEATURES.n_bands), dtype=np.float16)
    spectra[..., 0] = np.arange(tiles)[:, None, None]
    spectra[..., 1] = np.arange(versions)[:, None]
    spectra[..., 2:] = np.arange(frames)[:, None]
    return SnippetPool(spectra, FEATURES)


def coded_pairs(monkeypatch: pytest.MonkeyPatch, pool: SnippetPool, **values: object) -> Pairs:
    """Pairs of a coded pool, given as they are cut: standardising would hide the numbers."""
    monkeypatch.setattr(pairs_module, "_standard", lambda cut, config: cut)
    quiet = {
        "noise_chance": 0.0,
        "equaliser_chance": 0.0,
        "shifted_steps": 10,
        "jitter": 3,
    }
    return Pairs(pool, np.empty((0, 16), np.float16), changed(**{**quiet, **values}))


def test_pairs_at_first_are_of_one_moment_up_to_half_a_hop_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = coded_pairs(monkeypatch, coded_pool())
    late, versions, first = [], [], []
    for step in range(80):
        clean, heard = pairs.draw(np.random.default_rng(step), 10, 9)
        assert clean.shape == heard.shape == (10, 16, 14)
        # Tiles of a batch differ, and are the same on both sides.
        tile = clean[:, 0, 0]
        assert len(set(tile)) == 10
        np.testing.assert_array_equal(heard[:, 0], np.repeat(tile[:, None], 14, axis=1))
        assert np.all(clean[:, 1] == 0)
        for side in (clean, heard):
            np.testing.assert_array_equal(np.diff(side[:, 2], axis=1), 1.0)
        late += (heard[:, 2, 0] - clean[:, 2, 0]).tolist()
        versions += heard[:, 1, 0].tolist()
        first += clean[:, 2, 0].tolist()
    assert sorted(set(late)) == list(range(-8, 9))
    assert abs(np.mean(late)) < 4 * math.sqrt((17**2 - 1) / 12 / 800)
    assert sorted(set(versions)) == [1, 2]
    # 33 places for a snippet in 46 frames, 8 of them at each end for a late or an early one.
    assert sorted(set(first)) == list(range(8, 25))


def unmasked(frames: np.ndarray) -> tuple[float, int]:
    """First frame of a coded snippet as it was cut, and the frames lost: below zero at its end."""
    same = np.diff(frames) == 0
    begin = int(np.argmin(same)) + 1 if same[0] else int(frames[1] - frames[0] != 1)
    end = int(np.argmin(same[::-1])) + 1 if same[-1] else int(frames[-1] - frames[-2] != 1)
    assert not (begin and end)
    kept = frames[begin : 14 - end]
    np.testing.assert_array_equal(np.diff(kept), 1.0)
    # What was not heard is the mean of what was.
    np.testing.assert_allclose(np.delete(frames, range(begin, 14 - end)), kept.mean())
    return float(kept[0] - begin), begin - end


def test_pairs_later_are_at_their_place_and_lack_an_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = coded_pairs(monkeypatch, coded_pool(), masked_chance=0.6)
    late, lost = [], []
    for step in range(60):
        clean, heard = pairs.draw(np.random.default_rng(step), 12, 10)
        np.testing.assert_array_equal(np.diff(clean[:, 2], axis=1), 1.0)
        for one, frames in zip(clean[:, 2], heard[:, 2], strict=True):
            first, missing = unmasked(frames)
            late.append(first - one[0])
            lost.append(missing)
    assert sorted(set(late)) == list(range(-3, 4))
    # A hop of 16 frames, queries every four of them, half a snippet at most: four frames.
    assert FEATURES.query_margin == 4
    assert sorted(set(lost)) == list(range(-4, 5))
    assert abs(np.mean(np.array(lost) != 0) - 0.6) < 4 * math.sqrt(0.24 / 720)


def test_a_batch_larger_than_the_pool_draws_tiles_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = coded_pairs(monkeypatch, coded_pool(tiles=3))
    clean, _ = pairs.draw(np.random.default_rng(1), 40, 0)
    assert sorted(set(clean[:, 0, 0])) == [0, 1, 2]
    alone = coded_pairs(monkeypatch, coded_pool(versions=1))
    assert np.all(alone.draw(np.random.default_rng(1), 8, 0)[1][:, 1] == 0)


def test_noise_is_added_at_the_ratio_that_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = coded_pairs(monkeypatch, coded_pool(), noise_chance=1.0, noise_snr_db=(5.0, 5.0))
    noise = np.random.default_rng(1).normal(-30.0, 8.0, (200, 16)).astype(np.float16)
    cut = np.random.default_rng(2).normal(-20.0, 6.0, (6, 16, 14)).astype(np.float32)
    before = 10.0 ** (cut.astype(np.float64) / 10.0)
    noisy = dataclasses.replace(pairs, noise=noise)._degrade(cut, np.random.default_rng(3))
    added = 10.0 ** (noisy.astype(np.float64) / 10.0) - before
    ratio = 10.0 * np.log10(before.mean(axis=(1, 2)) / added.mean(axis=(1, 2)))
    np.testing.assert_allclose(ratio, 5.0, atol=0.01)
    # It has the shape of a piece of the noise.
    windows = np.lib.stride_tricks.sliding_window_view(noise.astype(np.float64), 14, axis=0)
    shape = 10.0 * np.log10(added[0])
    levels = [(shape - window).std() for window in windows]
    assert min(levels) < 0.01


def test_the_equaliser_tilts_bands_and_no_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = coded_pairs(monkeypatch, coded_pool(), equaliser_chance=0.5)
    gains = pairs._degrade(np.zeros((2000, 16, 14), np.float32), np.random.default_rng(1))
    assert np.all(gains == gains[:, :, :1])
    touched = gains[:, :, 0].any(axis=1)
    assert abs(touched.mean() - 0.5) < 4 * math.sqrt(0.25 / 2000)
    # Six knots over 16 bands: at the ends a knot alone, in between a line, so that three bands
    # from one knot to the next differ by equal steps.
    moved = gains[touched, :, 0]
    assert moved[:, [0, 15]].std() == pytest.approx(pairs_module.EQUALISER_DB, rel=0.06)
    np.testing.assert_allclose(np.diff(moved[:, :4], n=2, axis=1), 0.0, atol=1e-4)


def test_what_is_drawn_is_standardised_and_decided_by_the_generator() -> None:
    pairs = encoder_pairs()
    drawn = [pairs.draw(TINY_ENCODER.seeds(1, step), 16, 0) for step in (5, 5, 6)]
    for side in drawn[0]:
        np.testing.assert_allclose(side.mean(axis=(1, 2)), 0.0, atol=1e-4)
        np.testing.assert_allclose(side.std(axis=(1, 2)), 1.0, atol=1e-3)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


# Snippets in their track.

# Of three layers behind snippets of 14 frames: an answer every 8 frames, and so much around it.
REACH = TrackEncoder(16, 14, (2, 2, 2), 4).reach


def as_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "standardise_frames", lambda spec, config: spec)


def test_a_snippet_is_heard_with_what_is_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Counted from one: zeros are beyond a track.
    pool = coded_pool(frames=70)
    pairs = coded_pairs(monkeypatch, SnippetPool(pool.spectra + np.float16(1.0), FEATURES))
    as_is(monkeypatch)
    first, late, lost, versions, sides = [], [], [], [], []
    for step in range(60):
        drawn = pairs.draw_in_track(np.random.default_rng(step), 12, REACH)
        around, clean, heard = drawn
        assert around.shape == (12, 16, 8 + 14 + 10)
        assert clean.shape == heard.shape == (12, 16, 14)
        assert all(side.dtype == np.float32 for side in drawn)
        # The clean snippet is in the middle of its surroundings, and the heard one is of its tile.
        np.testing.assert_array_equal(around[:, :, 8:22], clean)
        tile = clean[:, 0, 0]
        assert sorted(tile) == list(range(1, 13))
        np.testing.assert_array_equal(heard[:, 0], np.repeat(tile[:, None], 14, axis=1))
        assert np.all(clean[:, 1] == 1)
        versions += heard[:, 1, 0].tolist()
        for row in range(12):
            begin = clean[row, 2, 0]
            expected = np.tile(np.arange(begin - 8, begin + 24), (14, 1))
            before, after = (not around[row, :, part].any() for part in (slice(8), slice(22, 32)))
            assert not (before and after)
            expected[:, : 8 * before] = expected[:, 32 - 10 * after :] = 0.0
            np.testing.assert_array_equal(around[row, 2:], expected)
            np.testing.assert_array_equal(around[row, :2], clean[row, :2, :1] * (expected[:2] > 0))
            at, missing = unmasked(heard[row, 2])
            first.append(begin - 1)
            late.append(at - begin)
            lost.append(missing)
            sides.append((before, after))
    # 57 places for a snippet in 70 frames; 8 frames before it and 10 after are heard, and 7 more on
    # either side are what those are standardised with.
    assert sorted(set(first)) == list(range(8 + 7, 57 - 10 - 7))
    assert sorted(set(versions)) == [2, 3]
    assert sorted(set(late)) == list(range(-3, 4))
    assert sorted(set(lost)) == list(range(-4, 5))
    for side in ((True, False), (False, True)):
        spread = math.sqrt(EDGE_CHANCE * (1 - EDGE_CHANCE) / len(sides))
        assert abs(sides.count(side) / len(sides) - EDGE_CHANCE) < 4 * spread


def noisy_pool(config: FeatureConfig, frames: int, tiles: int = 3) -> SnippetPool:
    """Noise that becomes louder and softer, so that it matters what a frame is standardised by.

    Nothing is below the dynamic range: floors of frames reach further than their levels.
    """
    rng = np.random.default_rng(5)
    level = 10.0 * np.sin(np.arange(frames) / 9.0)[:, None]
    spectra = rng.uniform(-40.0, -10.0, (tiles, 2, frames, config.n_bands)) + level
    return SnippetPool(spectra.astype(np.float16), config)


def heard_in_track(
    track: np.ndarray, start: int, reach: Reach, config: FeatureConfig
) -> np.ndarray:
    """What a graph that hears whole tracks gets of one snippet, [bands, frames]."""
    seen: list[np.ndarray] = []

    def run(values: np.ndarray) -> Answer:
        seen.append(values)
        rows = (len(values) - reach.frames(1, config)) // reach.stride + 1
        return Answer(np.zeros((rows, 1), np.float32))

    list(SharedLayers(run, reach, config)(track, np.array([start])))
    return seen[-1][-reach.frames(1, config) :].T


def sides_of(
    pairs: Pairs, reach: Reach, tracks: Callable[[np.ndarray, int], list[tuple[np.ndarray, int]]]
) -> set[int]:
    """Which of the `tracks` of a tile and a first frame each snippet drawn is heard in.

    `pairs` give clean snippets as they are cut, which tells their moments.
    """
    config, found = pairs.pool.config, []
    for step in range(20):
        around, clean, _ = pairs.draw_in_track(np.random.default_rng(step), 3, reach)
        for tile, (mine, cut) in enumerate(zip(around, clean, strict=True)):
            spec = pairs.pool.spectra[tile, 0].astype(np.float32)
            view = np.lib.stride_tricks.sliding_window_view(spec, config.snippet_frames, axis=0)
            (offset,) = np.flatnonzero((view == cut).all(axis=(1, 2)))
            wanted = [heard_in_track(*one, reach, config) for one in tracks(spec, int(offset))]
            same = [i for i, one in enumerate(wanted) if np.abs(one - mine).max() < 1e-3]
            assert len(same) == 1
            found += same
    return set(found)


@pytest.mark.parametrize(
    ("config", "frames"), [(FEATURES, 70), (WINDOWS["dense"], TILE_FRAMES)], ids=["tiny", "dense"]
)
def test_a_snippet_is_drawn_as_a_track_has_it(
    monkeypatch: pytest.MonkeyPatch, config: FeatureConfig, frames: int
) -> None:
    reach = TrackEncoder(config.n_bands, config.snippet_frames, (1, 1, 1), 4).reach
    pairs = coded_pairs(monkeypatch, noisy_pool(config, frames))

    def tracks(tile: np.ndarray, offset: int) -> list[tuple[np.ndarray, int]]:
        # In the middle of a track, as its first snippet, and as its last.
        end = offset + config.snippet_frames
        return [(tile, offset), (tile[offset:], 0), (tile[:end], offset)]

    assert sides_of(pairs, reach, tracks) == {0, 1, 2}


@pytest.mark.parametrize(
    ("config", "frames", "half"),
    [(FEATURES, 42, 2), (FEATURES, 32, 0), (BALUJA_COVELL, TILE_FRAMES, 28)],
)
def test_of_a_short_tile_a_part_is_what_frames_are_standardised_by(
    monkeypatch: pytest.MonkeyPatch, config: FeatureConfig, frames: int, half: int
) -> None:
    reach = TrackEncoder(config.n_bands, config.snippet_frames, (1, 1, 1), 4).reach
    pairs = coded_pairs(monkeypatch, noisy_pool(config, frames), jitter=0)
    offsets = set()

    def tracks(tile: np.ndarray, offset: int) -> list[tuple[np.ndarray, int]]:
        offsets.add(offset)
        first, end = offset - reach.before - half, offset + config.snippet_frames
        last = end + reach.after + half
        assert first >= 0
        assert last <= frames
        within = offset - first
        return [(tile[first:last], within), (tile[offset:last], 0), (tile[first:end], within)]

    assert sides_of(pairs, reach, tracks) == {0, 1, 2}
    # Half of the room is left for moments.
    room = frames - reach.frames(1, config)
    assert len(offsets) <= room - 2 * half + 1
    assert len(offsets) > room / 4


def test_a_tile_that_is_shorter_than_a_snippet_and_its_surroundings_is_refused() -> None:
    for frames in (31, 14):
        pairs = Pairs(coded_pool(frames=frames), np.empty((0, 16), np.float16), TINY_ENCODER)
        words = f"a tile of {frames} frames is too short for snippets of 14 and .* shorter window"
        with pytest.raises(HashbeamError, match=words):
            pairs.draw_in_track(np.random.default_rng(1), 4, REACH)


def test_what_is_drawn_in_a_track_is_decided_by_the_generator() -> None:
    pairs = encoder_pairs()
    drawn = [pairs.draw_in_track(TINY_ENCODER.seeds(4, step), 16, REACH) for step in (5, 5, 6)]
    for one, same, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)
        # As torch takes it.
        assert one.flags.c_contiguous
    for side in drawn[0][1:]:
        np.testing.assert_allclose(side.mean(axis=(1, 2)), 0.0, atol=1e-4)
        np.testing.assert_allclose(side.std(axis=(1, 2)), 1.0, atol=1e-3)
