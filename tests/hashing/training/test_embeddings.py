from __future__ import annotations

import numpy as np
import pytest
from training_fixture import FEATURES, RATE, corpus_of, music

from hashing.conditions import Surroundings
from hashing.errors import HashbeamError, ModelError
from hashing.features import spectrogram
from hashing.fronts import Answer
from hashing.snippets import snippets
from hashing.training import embeddings
from hashing.training.embeddings import clean_embeddings, dense_embeddings, paired_embeddings

AIR = Surroundings(RATE)


def levels(cut: np.ndarray) -> Answer:
    """An encoder whose embedding is the mean of each band: [n, bands]."""
    means = cut.mean(axis=2)
    return Answer(means, means)


def tone(hz: float, seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def test_every_snippet_is_of_its_track() -> None:
    tones = [tone(hz, 2.0) for hz in (300.0, 900.0, 2700.0)]
    corpus = corpus_of(tones)
    found = clean_embeddings(levels, FEATURES, corpus, [0, 2], 20, seed=1)
    assert found.embeddings.shape == (20, FEATURES.n_bands)
    assert set(found.track.tolist()) == {0, 2}
    loudest = {
        track: int(spectrogram([tones[track]], FEATURES).mean(axis=0).argmax()) for track in (0, 2)
    }
    assert loudest[0] != loudest[2]
    for track, embedding in zip(found.track.tolist(), found.embeddings, strict=True):
        assert int(embedding.argmax()) == loudest[track]


def test_long_tracks_are_heard_as_much_more_often() -> None:
    corpus = corpus_of([tone(300.0, 2.0), tone(900.0, 10.0)])
    found = clean_embeddings(levels, FEATURES, corpus, [0, 1], 600, seed=1)
    # Places for a first sample: 2 s and 10 s less the 0.53 s of a snippet.
    assert found.track.mean() == pytest.approx(9.47 / (9.47 + 1.47), abs=0.04)


def test_silence_is_left_out() -> None:
    silence = np.zeros(4 * RATE, np.float32)
    corpus = corpus_of([silence, tone(900.0, 4.0)])
    found = clean_embeddings(levels, FEATURES, corpus, [0, 1], 50, seed=1)
    assert set(found.track.tolist()) == {1}
    assert 30 <= len(found.track) <= 50
    with pytest.raises(HashbeamError, match="silent wherever it was listened to"):
        clean_embeddings(levels, FEATURES, corpus, [0], 50, seed=1)


def test_music_shorter_than_a_snippet() -> None:
    with pytest.raises(HashbeamError, match=r"as long as a snippet \(0\.53 s\): add music"):
        clean_embeddings(levels, FEATURES, corpus_of([tone(300.0, 0.5)]), [0], 5, seed=1)


def test_a_track_of_exactly_one_snippet() -> None:
    exact = tone(300.0, FEATURES.snippet_samples / RATE)
    corpus = corpus_of([exact])
    found = clean_embeddings(levels, FEATURES, corpus, [0], 3, seed=1)
    cut, _ = snippets(spectrogram([corpus.track(0)], FEATURES), FEATURES)
    np.testing.assert_allclose(found.embeddings, cut.mean(axis=2).repeat(3, axis=0), atol=1e-4)


def test_a_model_without_embeddings() -> None:
    with pytest.raises(ModelError, match="has no embeddings"):
        clean_embeddings(lambda cut: Answer(cut[:, 0]), FEATURES, music(1), [0], 3, seed=1)


def test_the_seed_decides() -> None:
    corpus = music(3)
    one, same, other = (
        clean_embeddings(levels, FEATURES, corpus, [0, 1, 2], 9, seed).embeddings
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_pairs_are_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = music(4)
    pairs = paired_embeddings(levels, FEATURES, corpus, [0, 1, 2, 3], 40, AIR, seed=1)
    assert pairs.clean.shape == pairs.heard.shape == (40, FEATURES.n_bands)
    assert not np.allclose(pairs.clean, pairs.heard, atol=1.0)
    # Where nothing happens to the sound, a pair is nearer than two moments are.
    monkeypatch.setattr(embeddings, "degrade", lambda samples, air, rng: samples)
    pairs = paired_embeddings(levels, FEATURES, corpus, [0, 1, 2, 3], 40, AIR, seed=1)
    distance = np.abs(pairs.clean[:, None] - pairs.heard[None]).mean(axis=2)
    assert np.mean(distance.argmin(axis=1) == np.arange(40)) > 0.9


def test_pairs_share_the_music_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is degraded begins half a second early, so that a room has heard something."""
    lengths = []

    def listen(samples: np.ndarray, air: Surroundings, rng: np.random.Generator) -> np.ndarray:
        lengths.append(samples.size)
        return samples

    monkeypatch.setattr(embeddings, "degrade", listen)
    paired_embeddings(levels, FEATURES, music(1), [0], 2, AIR, seed=1)
    late = FEATURES.query_hop * FEATURES.hop_length // 2
    assert set(lengths) == {RATE // 2 + FEATURES.snippet_samples + late}


def test_queries_may_be_heard_by_another_graph() -> None:
    def louder(cut: np.ndarray) -> Answer:
        return levels(cut + 100.0)

    arguments = (FEATURES, music(2), [0, 1], 6, AIR)
    same = paired_embeddings(levels, *arguments, seed=1)
    other = paired_embeddings(levels, *arguments, seed=1, respond_heard=louder)
    np.testing.assert_array_equal(other.clean, same.clean)
    np.testing.assert_allclose(other.heard, same.heard + 100.0, atol=1e-3)


def test_dense_embeddings_are_those_of_every_snippet() -> None:
    silence = np.zeros(2 * RATE, np.float32)
    corpus = corpus_of([tone(300.0, 2.0), tone(300.0, 0.2), silence, tone(900.0, 1.0)])
    found = dense_embeddings(levels, FEATURES, corpus, [3, 1, 2, 0], hop=4)
    assert found.embeddings.dtype == np.float16
    # Track by track as asked for; those too short and the silent one are missing.
    expected, frames = [], []
    for track in (3, 0):
        cut, starts = snippets(spectrogram([corpus.track(track)], FEATURES), FEATURES, 4)
        expected.append(cut.mean(axis=2).astype(np.float16))
        frames.append(starts)
        assert (found.track == track).sum() == len(starts) > 3
    np.testing.assert_array_equal(found.embeddings, np.concatenate(expected))
    np.testing.assert_array_equal(found.frame, np.concatenate(frames))
    assert found.track[0] == 3
    with pytest.raises(HashbeamError, match="long and loud enough"):
        dense_embeddings(levels, FEATURES, corpus, [1, 2], hop=4)
    with pytest.raises(ModelError, match="has no embeddings"):
        dense_embeddings(lambda cut: Answer(cut[:, 0]), FEATURES, corpus, [0], hop=4)
