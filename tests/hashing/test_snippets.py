"""Snippets that are cut from spectrograms, and how they are normalised."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.features import (
    BALUJA_COVELL,
    FeatureConfig,
    spectrogram,
)
from hashing.snippets import (
    LONG_QUERY_S,
    audible,
    fill_edges,
    filled,
    query_snippets,
    snippets,
    standardise,
    standardise_frames,
    windows,
)
from hashing.synthesis import render_track

# Frames of 32 samples, so that a second of audio is several blocks of the transform.
SMALL = FeatureConfig(
    sample_rate=8000, n_fft=128, hop_length=32, n_bands=8, snippet_frames=5, snippet_hop=3
)


@given(frames=st.integers(0, 60), hop=st.integers(1, 9))
def test_snippets_are_slices(frames: int, hop: int) -> None:
    spec = np.arange(frames * 8, dtype=np.float32).reshape(frames, 8)
    cut, starts = snippets(spec, SMALL, hop)
    assert starts.tolist() == [at for at in range(0, frames, hop) if at + 5 <= frames]
    assert starts.dtype == np.int32
    assert cut.shape == (starts.size, 8, 5)
    for one, start in zip(cut, starts, strict=True):
        np.testing.assert_array_equal(one, spec[start : start + 5].T)


def test_snippets_share_the_memory_of_the_spectrogram() -> None:
    spec = np.zeros((60, 64), np.float32)
    cut, _ = snippets(spec, FeatureConfig())
    assert np.shares_memory(cut, spec)
    assert not cut.flags.writeable


@given(frames=st.integers(0, 30), width=st.integers(1, 6))
def test_a_window_begins_at_every_frame(frames: int, width: int) -> None:
    config = dataclasses.replace(SMALL, snippet_frames=width)
    spec = np.arange(frames * 8, dtype=np.float32).reshape(frames, 8)
    cut = windows(spec, config)
    assert cut.shape == (max(0, frames - width + 1), 8, width)
    assert cut.dtype == np.float32
    for start, one in enumerate(cut):
        np.testing.assert_array_equal(one, spec[start : start + width].T)
    if len(cut):
        assert np.shares_memory(cut, spec)
        assert not cut.flags.writeable


@given(
    loud=st.sets(st.integers(0, 59)),
    frames=st.integers(0, 60),
    hop=st.one_of(st.none(), st.integers(1, 9)),
)
def test_a_snippet_is_audible_where_one_of_its_cells_is(
    loud: set[int], frames: int, hop: int | None
) -> None:
    spec = np.full((60, 8), -60.0, np.float32)
    spec[list(loud), 3] = -59.9
    starts = audible(spec[:frames], SMALL, hop)
    assert starts.dtype == np.int32
    assert starts.tolist() == [
        start
        for start in range(0, frames - 4, hop or SMALL.snippet_hop)
        if loud & set(range(start, start + 5))
    ]
    cut, same = snippets(spec[:frames], SMALL, hop)
    np.testing.assert_array_equal(same, starts)
    np.testing.assert_array_equal(cut, windows(spec[:frames], SMALL)[starts])


def test_what_is_no_number_is_not_audible() -> None:
    spec = np.zeros((20, 8), np.float32)
    spec[7, 2] = np.nan
    assert audible(spec, SMALL, 1).tolist() == [0, 1, 2, *range(8, 16)]


def test_only_silent_snippets_are_left_out() -> None:
    config = FeatureConfig()
    spec = np.full((28 + 16 * 9, 64), -80.0, np.float32)
    spec[70, 5] = -59.9  # one audible cell: frames 43 to 70 and so on hold it
    cut, starts = snippets(spec, config)
    assert starts.tolist() == [48, 64]
    assert [one.max() for one in cut] == [np.float32(-59.9)] * 2
    spec[70, 5] = -60.0  # at the level itself a snippet is silent
    assert snippets(spec, config)[1].size == 0


# --- snippets of a query


@given(
    bands=st.integers(1, 4),
    heard=st.lists(
        st.integers(0, 6).flatmap(lambda a: st.tuples(st.just(a), st.integers(a + 1, 7))),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 1000),
)
def test_frames_that_were_not_heard_are_the_mean_of_the_others(
    bands: int, heard: list[tuple[int, int]], seed: int
) -> None:
    cut = np.random.default_rng(seed).uniform(-80, 0, (len(heard), bands, 7)).astype(np.float32)
    before = cut.copy()
    first, end = np.array(heard).T
    out = fill_edges(cut, first, end)
    assert out is cut
    for one, old, (a, b) in zip(out, before, heard, strict=True):
        np.testing.assert_array_equal(one[:, a:b], old[:, a:b])
        mean = np.repeat(old[:, a:b].mean(axis=1, keepdims=True), 7, axis=1)
        np.testing.assert_allclose(one[:, :a], mean[:, :a], rtol=1e-5)
        np.testing.assert_allclose(one[:, b:], mean[:, b:], rtol=1e-5)


def test_no_snippets_have_nothing_to_fill() -> None:
    nothing = np.empty(0, np.int64)
    assert fill_edges(np.empty((0, 3, 5), np.float32), nothing, nothing).shape == (0, 3, 5)


# Snippets of 12 frames, 8 apart; those of a query are 4 apart and reach 4 beyond it.
DENSE = FeatureConfig(
    sample_rate=8000, n_fft=128, hop_length=32, n_bands=3, snippet_frames=12, snippet_hop=8
)


@given(frames=st.integers(0, 60), config=st.sampled_from([DENSE, SMALL]))
def test_query_snippets_are_slices_of_what_was_heard(frames: int, config: FeatureConfig) -> None:
    width, hop, margin = config.snippet_frames, config.query_hop, config.query_margin
    assert (hop, margin) == ((4, 4) if config is DENSE else (1, 1))
    rng = np.random.default_rng(frames)
    spec = rng.uniform(-40, 0, (frames, config.n_bands)).astype(np.float32)
    before = spec.copy()
    cut, starts = query_snippets(spec, config)
    assert starts.dtype == np.int32
    expected = range(-margin, frames - width + margin + 1, hop) if frames >= width else []
    assert starts.tolist() == list(expected)
    assert cut.shape == (starts.size, config.n_bands, width)
    for one, start in zip(cut, starts.tolist(), strict=True):
        a, b = max(0, start), min(frames, start + width)
        np.testing.assert_array_equal(one[:, a - start : b - start], spec[a:b].T)
        mean = spec[a:b].mean(axis=0)
        for missing in [*range(a - start), *range(b - start, width)]:
            np.testing.assert_allclose(one[:, missing], mean, rtol=1e-4)
    np.testing.assert_array_equal(spec, before)


@given(begins=st.integers(0, 200), frames=st.integers(28, 120))
def test_a_snippet_of_a_query_is_near_one_of_the_index(begins: int, frames: int) -> None:
    # However a query lies on the grid of the index, some snippet is within half a query hop of it.
    config = FeatureConfig()
    _, starts = query_snippets(np.zeros((frames, 64), np.float32), config)
    off = (begins + starts) % config.snippet_hop
    assert np.minimum(off, config.snippet_hop - off).min() <= config.query_hop / 2


@pytest.mark.parametrize(("config", "factor"), [(FeatureConfig(), 2), (BALUJA_COVELL, 1)])
def test_snippets_of_a_long_query_are_further_apart(config: FeatureConfig, factor: int) -> None:
    # But never so far that a snippet of the index would have none of its own moment.
    for seconds, wide in ((LONG_QUERY_S - 0.2, 1), (LONG_QUERY_S + 0.2, factor)):
        frames = round(seconds / config.frame_s)
        _, starts = query_snippets(np.zeros((frames, config.n_bands), np.float32), config)
        assert starts[0] == -config.query_margin
        assert set(np.diff(starts).tolist()) == {wide * config.query_hop}
        assert config.snippet_hop % (wide * config.query_hop) == 0
        # The last reaches beyond the query as the first does, to a step.
        beyond = int(starts[-1]) + config.snippet_frames - frames
        assert config.query_margin - wide * config.query_hop < beyond <= config.query_margin


@given(hop=st.integers(1, 64), frames=st.integers(2, 64))
def test_what_a_query_reaches_beyond_itself(hop: int, frames: int) -> None:
    config = FeatureConfig(snippet_hop=hop, snippet_frames=frames)
    assert hop % config.query_hop == 0
    assert config.query_margin % config.query_hop == 0
    # Half of a snippet at least was heard.
    assert 0 <= 2 * config.query_margin <= min(hop, frames - 1)


def test_only_silent_snippets_of_a_query_are_left_out() -> None:
    config = FeatureConfig()
    spec = np.full((60, 64), -80.0, np.float32)
    spec[20, 5] = -59.9
    _, starts = query_snippets(spec, config)
    assert starts.tolist() == [-4, 0, 4, 8, 12, 16, 20]  # they hold frame 20
    spec[20, 5] = -60.0
    cut, starts = query_snippets(spec, config)
    assert (cut.shape, starts.size) == ((0, 64, 28), 0)
    # What is no number is not heard.
    spec[20, 5] = np.nan
    assert query_snippets(spec, config)[1].size == 0


@given(gain_db=st.floats(-30.0, 30.0), seed=st.integers(0, 1000))
def test_level_does_not_change_the_input_of_a_hasher(gain_db: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cut = rng.uniform(-90.0, 0.0, (3, 8, 5)).astype(np.float32)
    louder = (cut + np.float32(gain_db)).astype(np.float32)
    np.testing.assert_allclose(standardise(louder, SMALL), standardise(cut, SMALL), atol=1e-4)


# From -20 dB down, what is 60 dB below the loudest of this music would be below the -100 dB floor.
@pytest.mark.parametrize("gain_db", [-20.0, -6.0, 30.0])
def test_gain_of_music_does_not_change_the_input_of_a_hasher(gain_db: float) -> None:
    config = FeatureConfig()
    music = render_track(5, 3.0, 8000)
    gain = np.float32(10 ** (gain_db / 20))
    plain, amplified = (
        standardise(snippets(spectrogram([part], config), config)[0], config)
        for part in (music, gain * music)
    )
    np.testing.assert_allclose(amplified, plain, atol=0.01)


def test_standardised_snippets_have_mean_0_and_deviation_1() -> None:
    config = FeatureConfig()
    cut, _ = snippets(spectrogram([render_track(6, 3.0, 8000)], config), config)
    before = cut.copy()
    out = standardise(cut, config)
    np.testing.assert_allclose(out.mean(axis=1), 0.0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=1), 1.0, atol=1e-4)
    np.testing.assert_array_equal(cut, before)  # the spectrogram is not written to


def test_what_is_60_db_below_the_loudest_does_not_count() -> None:
    cut = np.zeros((1, 8, 5), np.float32)
    cut[0, 3, 2] = -60.0
    deeper = cut.copy()
    deeper[0, 3, 2] = -97.0
    np.testing.assert_array_equal(standardise(deeper, SMALL), standardise(cut, SMALL))
    cut[0, 3, 2] = -59.0
    assert not np.array_equal(standardise(deeper, SMALL), standardise(cut, SMALL))


def test_no_snippets_have_no_input() -> None:
    assert standardise(np.empty((0, 8, 5), np.float32), SMALL).shape == (0, 40)


def test_a_snippet_of_one_level_has_a_finite_input() -> None:
    np.testing.assert_array_equal(standardise(np.full((1, 8, 5), -3.0, np.float32), SMALL), 0.0)


# --- frames that snippets share


def standardised_one_by_one(spec: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """By the definition: every frame as the middle one of a snippet, cut off at the ends."""
    out, width = np.empty(spec.shape), config.snippet_frames
    for frame in range(len(spec)):
        first = frame - width // 2
        around = spec[max(0, first) : first + width].astype(np.float64)
        floor = around.max() - config.dynamic_range_db
        # The floor of a frame is that of its own snippet; so are mean and deviation, of frames that
        # were raised to floors of their own.
        out[frame] = np.maximum(spec[frame].astype(np.float64), floor)
    raised = out.copy()
    for frame in range(len(spec)):
        first = frame - width // 2
        around = raised[max(0, first) : first + width]
        out[frame] = (raised[frame] - around.mean()) / (around.std() + 1e-6)
    return out


@given(
    frames=st.integers(1, 70),
    width=st.integers(1, 12),
    bands=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_a_frame_is_standardised_with_those_around_it(
    frames: int, width: int, bands: int, seed: int
) -> None:
    config = dataclasses.replace(SMALL, snippet_frames=width, n_bands=bands)
    rng = np.random.default_rng(seed)
    # Here and there louder, so that the floor is at work.
    spec = rng.uniform(-100.0, -40.0, (frames, bands)) + 40.0 * (rng.random((frames, 1)) < 0.1)
    spec = spec.astype(np.float32)
    before = spec.copy()
    out = standardise_frames(spec, config)
    np.testing.assert_array_equal(spec, before)
    assert out.dtype == np.float32
    # One cell alone is its own mean.
    expected = standardised_one_by_one(spec, config)
    np.testing.assert_allclose(out, expected, atol=1e-3 if width * bands > 1 else 10.0)


def test_the_middle_of_a_snippet_is_standardised_as_the_snippet_is() -> None:
    # Where nothing is below a floor.
    config = FeatureConfig()
    spec = np.random.default_rng(1).uniform(-50.0, 0.0, (90, 64)).astype(np.float32)
    shared = standardise_frames(spec, config)
    alone = standardise(windows(spec, config), config).reshape(-1, 64, 28)
    for start in (0, 1, 40, 62):
        np.testing.assert_allclose(shared[start + 14], alone[start, :, 14], atol=1e-4)


def test_the_ends_of_a_spectrogram_are_no_music() -> None:
    # Six frames are the whole world of the first: it is not standardised with padding.
    config = FeatureConfig(n_bands=4, snippet_frames=12)
    spec = np.random.default_rng(2).uniform(-50.0, 0.0, (40, 4)).astype(np.float32)
    out = standardise_frames(spec, config)
    head, tail = spec[:6], spec[-7:]
    np.testing.assert_allclose(out[0], (spec[0] - head.mean()) / head.std(), atol=1e-4)
    np.testing.assert_allclose(out[-1], (spec[-1] - tail.mean()) / tail.std(), atol=1e-4)


def test_spectrograms_of_a_batch_do_not_meet() -> None:
    rng = np.random.default_rng(3)
    batch = rng.uniform(-90.0, 0.0, (2, 3, 33, 8)).astype(np.float32)
    batch[1] -= 30.0
    out = standardise_frames(batch, SMALL)
    assert out.shape == batch.shape
    for place in np.ndindex(2, 3):
        np.testing.assert_array_equal(out[place], standardise_frames(batch[place], SMALL))


@given(gain_db=st.floats(-30.0, 30.0), seed=st.integers(0, 1000))
def test_level_does_not_change_a_standardised_frame(gain_db: float, seed: int) -> None:
    spec = np.random.default_rng(seed).uniform(-90.0, 0.0, (30, 8)).astype(np.float32)
    louder = (spec + np.float32(gain_db)).astype(np.float32)
    np.testing.assert_allclose(
        standardise_frames(louder, SMALL), standardise_frames(spec, SMALL), atol=1e-3
    )


@pytest.mark.parametrize("level", [-100.0, -33.3, 0.0])
@pytest.mark.parametrize("frames", [1, 5, 200])
def test_frames_of_one_level_are_nothing(level: float, frames: int) -> None:
    spec = np.full((frames, 64), level, np.float32)
    np.testing.assert_array_equal(standardise_frames(spec, FeatureConfig()), 0.0)


@pytest.mark.parametrize("level", [-100.0, -90.3, -60.7])
def test_near_silence_is_not_blown_up(level: float) -> None:
    """Squares of a hundred dB have few digits left for a deviation of a hundredth of one."""
    config = FeatureConfig()
    rng = np.random.default_rng(4)
    spec = np.full((3000, 64), level, np.float32)
    place = rng.integers(3000, size=60), rng.integers(64, size=60)
    spec[place] += rng.uniform(0.1, 0.5, 60).astype(np.float32)
    out = standardise_frames(spec, config)
    np.testing.assert_allclose(out, standardised_one_by_one(spec, config), atol=0.01)
    # No cell of so many can be further from their mean.
    assert 20.0 < np.abs(out).max() <= np.sqrt(64 * 28)


def test_a_loud_start_does_not_blur_what_comes_after_it() -> None:
    # Half an hour of music, then an end that is almost still: a sum over all would forget it.
    config = FeatureConfig()
    rng = np.random.default_rng(5)
    end = np.full((60, 64), -100.0, np.float32)
    end[::7, 5] += np.float32(0.01)
    spec = np.concatenate((rng.uniform(-90.0, 0.0, (57_600, 64)).astype(np.float32), end))
    # A floor reaches half a snippet, mean and deviation another half.
    alone = standardise_frames(spec[-60:], config)
    np.testing.assert_array_equal(standardise_frames(spec, config)[-32:], alone[-32:])


@given(frames=st.integers(0, 40), wanted=st.integers(1, 20))
def test_what_is_short_is_repeated_from_its_start_on(frames: int, wanted: int) -> None:
    config = FeatureConfig(n_bands=2, snippet_frames=wanted, repeats_short=True)
    spec = np.arange(2 * frames, dtype=np.float32).reshape(frames, 2)
    found = filled(spec, config)
    # Nothing cannot be repeated, and what is long enough stays as it is.
    assert len(found) == (max(frames, wanted) if frames else 0)
    for number, frame in enumerate(found.tolist()):
        assert frame == [2.0 * (number % frames), 2.0 * (number % frames) + 1]
    off = dataclasses.replace(config, repeats_short=False)
    assert np.array_equal(filled(spec, off), spec)
