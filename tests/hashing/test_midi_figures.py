"""Figures of MIDI files that ask for their recordings: by hand, and on sequences made up."""

from __future__ import annotations

import numpy as np
import pytest

from hashing import cqt
from hashing.alignment import hash_scores
from hashing.cascade import CascadeSettings
from hashing.cqt import CqtConfig
from hashing.midi_figures import (
    Asked,
    Laid,
    alignment_error,
    baseline_stages,
    bhattacharyya,
    decide,
    lay_at_two_scales,
    lay_frames,
    learned_stages,
    rank_figures,
    search,
    step_pairs,
)
from hashing.sequences import SequenceFeatures, TrackSequence

FEATURES = SequenceFeatures()
CONFIG = CqtConfig()
SETTINGS = CascadeSettings(share=0.25, least=4, candidates=3, shortest=10)
CODES, RECORDINGS = 40, 16
SAME_S = np.array([0.0, CODES * FEATURES.code_s])  # a score that is played as it stands


def made_up(seed: int) -> TrackSequence:
    rng = np.random.default_rng(seed)
    vector = rng.standard_normal((1, 128)).astype(np.float32)
    # Notes that last: frames of one step are alike, and those of others are not.
    notes = rng.uniform(-80, 0, (CODES * 2, 48)) - 20 * (rng.random((CODES * 2, 48)) < 0.8)
    levels = np.repeat(notes, 4, axis=0).astype(np.float32)
    return TrackSequence(
        rng.integers(0, 2**32, CODES, dtype=np.uint32),
        vector / np.linalg.norm(vector),
        cqt.pack_levels(levels, CONFIG),
    )


def like(other: TrackSequence, seed: int) -> TrackSequence:
    """The same music, with bits flipped and an embedding that is a little off."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 2**32, (3, CODES), dtype=np.uint32)
    vector = other.embeddings + 0.03 * rng.standard_normal((1, 128)).astype(np.float32)
    return TrackSequence(
        other.codes ^ (noise[0] & noise[1] & noise[2]),
        (vector / np.linalg.norm(vector)).astype(np.float32),
        other.levels,
    )


@pytest.fixture(scope="module")
def recordings() -> list[TrackSequence]:
    return [made_up(seed) for seed in range(RECORDINGS)]


def asked(recordings: list[TrackSequence], truth: int) -> Asked:
    return Asked(like(recordings[truth], 100 + truth), truth, SAME_S, SAME_S)


def test_rank_figures_by_hand():
    found = rank_figures(np.array([1] * 8 + [2, 50]), 100)
    assert found["mrr"] == pytest.approx((8 + 0.5 + 0.02) / 10)
    assert (found["first"], found["rank_50"], found["rank_90"], found["rank_95"]) == (0.8, 1, 2, 50)
    assert found["kept_at_10"] == 0.9
    assert found["pruned_97"] == 0.5


def test_the_coefficient_of_two_histograms_by_hand():
    one, other = np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1])
    expected = 2 * np.sqrt(0.75 * 0.25)
    assert bhattacharyya(one, other, np.arange(3)) == pytest.approx(expected)


def test_both_stages_find_the_true_recording(recordings: list[TrackSequence]):
    stages = learned_stages(recordings)
    for truth in (0, 7):
        found = search(asked(recordings, truth), stages, SETTINGS)
        assert (found.by_likeness, found.by_hashes, found.left) == (1, 1, True)
        assert len(found.candidates) == SETTINGS.candidates
        assert found.candidates[0] == truth


def test_candidates_are_the_best_of_what_likeness_leaves(recordings: list[TrackSequence]):
    stages, query = learned_stages(recordings), asked(recordings, 3)
    found = search(query, stages, SETTINGS)
    bits = hash_scores(query.heard.codes, stages.codes, stages.offsets)
    kept = np.argsort(-found.alike)[:4]
    assert found.candidates.tolist() == sorted(kept.tolist(), key=lambda n: bits[n])[:3]
    np.testing.assert_array_equal(found.bits, bits)


def test_without_the_true_one_the_next_best_are_candidates(recordings: list[TrackSequence]):
    found = search(asked(recordings, 3), learned_stages(recordings), SETTINGS)
    kept = [n for n in np.argsort(-found.alike).tolist() if n != 3][:4]
    assert found.others.tolist() == sorted(kept, key=lambda n: found.bits[n])[:3]


def test_what_likeness_drops_is_not_found_and_its_confidence_is_told(
    recordings: list[TrackSequence],
):
    query = asked(recordings, 5)
    lost = TrackSequence(query.heard.codes, -query.heard.embeddings, query.heard.levels)
    query = Asked(lost, 5, SAME_S, SAME_S)
    found = search(query, learned_stages(recordings), SETTINGS)
    assert (found.by_likeness, found.by_hashes, found.left) == (RECORDINGS, 1, False)
    decided = decide(query, found, lambda n: lay_at_two_scales(lost, recordings[n], FEATURES))
    assert decided.rank == 0
    assert decided.best in found.candidates
    assert decided.own > 0.9  # it would have been found
    assert decided.other in found.others


@pytest.mark.parametrize("lay", [lay_at_two_scales, lay_frames])
def test_alignment_decides(recordings: list[TrackSequence], lay):
    query = asked(recordings, 2)
    found = search(query, learned_stages(recordings), SETTINGS)
    decided = decide(query, found, lambda n: lay(query.heard, recordings[n], FEATURES))
    assert (decided.best, decided.rank) == (2, 1)
    assert decided.confidence == decided.own > 0.9 > decided.absent
    assert decided.error_s < CONFIG.frame_s


def test_baselines_stand_on_frames_alone(recordings: list[TrackSequence]):
    mean = np.full(48, 0.1, np.float32)
    stages = baseline_stages(recordings, FEATURES, mean, mean)
    lost = TrackSequence(recordings[9].codes, -recordings[9].embeddings, recordings[4].levels)
    found = search(Asked(lost, 4, SAME_S, SAME_S), stages, SETTINGS)
    assert (found.by_likeness, found.by_hashes) == (1, 1)
    assert found.bits[4] == 0


def test_the_error_is_the_median_distance_from_the_true_map():
    query = Asked(made_up(1), 0, np.array([10.0, 20.0]), np.array([0.0, 5.0]))
    score_s = np.array([0.0, 11.0, 12.0, 13.0, 30.0])
    off_s = np.array([9.0, 0.1, -0.2, 0.3, 9.0])  # the first and the last are not in the map
    laid = Laid(0.0, 1.0, score_s, (score_s - 10) / 2 + off_s)
    assert alignment_error(laid, query) == pytest.approx(0.2)
    assert alignment_error(Laid(0.0, 1.0, score_s[:1], score_s[:1]), query) == np.inf


def test_pairs_of_steps_follow_the_true_map():
    code_s = FEATURES.code_s
    # The recording begins at step 4 of the score, at its tempo.
    played_s = np.array([0.0, 20 * code_s])
    query = Asked(made_up(1), 0, played_s + 4 * code_s, played_s)
    pairs = step_pairs(query, (40, 20), FEATURES)
    assert pairs.tolist() == [[step + 4, step] for step in range(20)]
    # Half of it is beyond the score's steps.
    assert step_pairs(query, (14, 20), FEATURES).tolist() == pairs[:10].tolist()
    # Twice as fast: every second step.
    fast = Asked(made_up(1), 0, 2 * played_s, played_s)
    steps = step_pairs(fast, (40, 20), FEATURES)[:, 0]
    assert np.abs(steps - (2 * np.arange(20) + 0.5)).max() <= 0.5
