"""Alignment at two scales: the band holds the cheapest path, and a known map is found again."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing import band_kernel, cqt, matched
from hashing.alignment import Alignment, align_matrix
from hashing.cqt import CqtConfig
from hashing.matched import BAND, match, refine, smooth
from hashing.sequences import SequenceFeatures, TrackSequence

FEATURES = SequenceFeatures()
FRAME_S = FEATURES.cqt.frame_s


def unit(rng: np.random.Generator, n: int, width: int = 6) -> np.ndarray:
    frames = np.abs(rng.standard_normal((n, width))).astype(np.float32)
    return frames / np.linalg.norm(frames, axis=1, keepdims=True)


def by_table(x: np.ndarray, y: np.ndarray, starts: np.ndarray, width: int, penalty: float) -> float:
    """The cost of the cheapest path within a band, from a table of all cells of the matrix."""
    distances = np.maximum(1 - x.astype(np.float64) @ y.T.astype(np.float64), 0)
    m, n = distances.shape
    inside = [
        [starts[i] <= j < starts[i] + width for j in range(n)]
        for i in range(m)
    ]  # fmt: skip
    step = penalty * distances[np.array(inside)].mean()
    best = np.full((m, n), np.inf)
    for i, j in itertools.product(range(m), range(n)):
        if not inside[i][j]:
            continue
        ways = [0.0] if i == 0 else []
        if i and j:
            ways.append(best[i - 1, j - 1])
        if i:
            ways.append(best[i - 1, j] + step)
        if j:
            ways.append(best[i, j - 1] + step)
        best[i, j] = min(ways) + distances[i, j]
    return float(best[-1].min())


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([0.0, 0.2, 1.5]))
@settings(max_examples=60)
def test_no_path_in_the_band_is_cheaper(seed: int, half: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    m, n = (int(size) for size in rng.integers(1, 14, 2))
    x, y = unit(rng, m), unit(rng, n)
    width = 2 * half + 1
    centres = np.minimum(np.cumsum(rng.integers(0, half + 1, m)), n - 1)
    starts = centres - half
    room = np.full((2 * (m + n) + 2 * width, 2), -9, np.int32)
    begin = band_kernel.within_band(x, y, starts, width, penalty, room)
    path = room[begin:]
    i, j = path.T
    assert (room[:begin] == -9).all()
    assert i[0] == 0
    assert i[-1] == m - 1
    assert (j >= np.maximum(starts[i], 0)).all()
    assert (j < np.minimum(starts[i] + width, n)).all()
    steps = np.diff(path, axis=0)
    assert set(map(tuple, steps.tolist())) <= {(1, 1), (1, 0), (0, 1)}
    # What the path costs is what the cheapest costs.
    distances = np.maximum(1 - x @ y.T, 0)
    banded = [distances[r, max(s, 0) : s + width] for r, s in enumerate(starts)]
    each = penalty * np.concatenate(banded).mean()
    cost = distances[i, j].sum() + each * (steps.sum(axis=1) == 1).sum()
    assert cost == pytest.approx(by_table(x, y, starts, width, penalty), abs=1e-4)


def test_a_path_that_leaps_stays_in_the_matrix() -> None:
    """A pause in the recording: many steps of it for one of the score."""
    rng = np.random.default_rng(2)
    x, y = unit(rng, 80), unit(rng, 2000)
    coarse = [(i, i) for i in range(5)] + [(5, j) for j in range(5, 240)]
    coarse += [(5 + i, 239 + i) for i in range(1, 5)]
    found = refine(x, y, np.array(coarse, np.int32), 8)
    assert (np.diff(found, axis=0) >= 0).all()
    assert (np.diff(found, axis=0).sum(axis=1) > 0).all()
    assert found[0, 0] == 0
    assert found[-1, 0] == 79
    assert found[:, 1].min() >= 0
    assert found[:, 1].max() < 2000


def test_a_refined_path_follows_the_frames() -> None:
    rng = np.random.default_rng(3)
    x = unit(rng, 400, 24)
    # A recording a tenth slower, of which the coarse path is a code off.
    places = np.minimum(np.arange(440) * 10 // 11, 399)
    coarse = np.array([[i, min(i * 11 // 10 + 1, 54)] for i in range(50)], np.int32)
    found = refine(x, x[places], coarse, 8)
    off = np.abs(places[found[:, 1]] - found[:, 0])
    assert np.median(off[30:-30]) == 0
    assert np.quantile(off[30:-30], 0.9) <= 1


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_smooth_times_rise_and_keep_a_steady_tempo(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Any path.
    moves = np.array([[1, 1], [1, 0], [0, 1]])[rng.integers(0, 3, int(rng.integers(1, 90)))]
    path = np.concatenate([[[4, 7]], 4 + np.cumsum(moves, axis=0) + [0, 3]]).astype(np.int32)
    times = smooth(path, 6)
    assert (np.diff(times, axis=1) > 0).all()
    assert set(times[0].tolist()) <= set(path[:, 0].tolist())
    # A line stays one, whatever the rounding of its path.
    rows = np.arange(120)
    speed = rng.uniform(0.8, 1.2)
    line = np.stack([rows, np.round(rows * speed)], axis=1).astype(np.int32)
    found = smooth(line, 20)
    assert np.abs(found[1] - found[0] * speed).max() < 0.5
    assert np.abs(np.diff(found[1]) / np.diff(found[0]) - speed)[20:-20].max() < 0.05


def test_smooth_is_a_fit_by_numpy() -> None:
    rng = np.random.default_rng(4)
    rows = np.arange(50)
    path = np.stack([rows, np.sort(rng.integers(0, 70, 50))], axis=1).astype(np.int32)
    half = 5
    found = smooth(path, half)
    fitted = []
    for row in rows:
        near = np.abs(rows - row) <= half
        weights = np.sqrt(1 - ((rows[near] - row) / (half + 1)) ** 2)
        line = np.polyfit(rows[near], path[near, 1], 1, w=weights)
        fitted.append(np.polyval(line, row))
    rising = np.maximum.accumulate(fitted)
    kept = np.isin(rows, found[0].astype(int))
    assert kept.sum() > 30
    assert found[1] == pytest.approx(rising[kept], abs=1e-6)


def heard(frames: np.ndarray, codes: np.ndarray) -> TrackSequence:
    return TrackSequence(codes, np.zeros((1, 4), np.float32), cqt.pack_levels(frames, CqtConfig()))


def pair(rng: np.random.Generator, steps: int = 60) -> tuple[TrackSequence, TrackSequence]:
    """A score, and a recording that begins five steps later and has other frames at its end."""
    levels = rng.uniform(-60, 0, (steps * 8 + 5, 48)).astype(np.float32)
    codes = rng.integers(0, 2**32, steps, dtype=np.uint32)
    score = heard(levels, codes)
    noisy = codes[5:] ^ (np.uint32(1) << rng.integers(0, 32, steps - 5).astype(np.uint32))
    recording = heard(levels[40:] + rng.normal(0, 3, levels[40:].shape).astype(np.float32), noisy)
    return score, recording


def test_a_recording_is_found_in_its_place() -> None:
    score, recording = pair(np.random.default_rng(5))
    found = match(score, recording, FEATURES)
    assert found.coarse.confidence > 0.8
    assert (np.diff(found.score_s) > 0).all()
    assert (np.diff(found.recording_s) > 0).all()
    off = found.score_s - found.recording_s - 40 * FRAME_S
    assert np.abs(off).max() < FRAME_S
    stranger = pair(np.random.default_rng(6))[1]
    assert match(score, stranger, FEATURES).coarse.confidence < 0.5


@pytest.mark.parametrize("frames", [8, 15, 31, 63])
def test_short_sequences_have_steps_of_eight_frames(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left after the last code belongs to none."""
    rng = np.random.default_rng(frames)
    levels = rng.uniform(-60, 0, (frames, 48)).astype(np.float32)
    track = heard(levels, rng.integers(0, 2**32, frames // 8, dtype=np.uint32))
    seen: list[np.ndarray] = []

    def told(distances: np.ndarray, **settings: Any) -> Alignment:
        seen.append(distances)
        return align_matrix(distances, **settings)

    monkeypatch.setattr(matched, "align_matrix", told)
    found = match(track, track, FEATURES)
    steps = track.frames(FEATURES.cqt)[: frames // 8 * 8].reshape(frames // 8, 8, -1)
    means = steps.mean(axis=1) / np.linalg.norm(steps.mean(axis=1), axis=1, keepdims=True)
    bits = [[bin(int(a ^ b)).count("1") for b in track.codes] for a in track.codes]
    wanted = (1 - means @ means.T) / 2 + np.array(bits) / 32
    assert seen[0] == pytest.approx(wanted, abs=1e-5)
    assert found.score_s == pytest.approx(found.recording_s, abs=FRAME_S / 2)


def test_nothing_to_align() -> None:
    score, recording = pair(np.random.default_rng(7))
    empty = TrackSequence(recording.codes[:0], recording.embeddings, recording.levels[:4])
    for one, other in ((score, empty), (empty, recording)):
        with pytest.raises(ValueError, match="has no code"):
            match(one, other, FEATURES)
    assert 2 * FEATURES.downsampling + 1 > BAND
