from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_fixture import track_model
from training_fixture import FEATURES, RATE, corpus_of, music

from hashing.conditions import Surroundings
from hashing.encoders import Hasher
from hashing.errors import HashbeamError, ModelError
from hashing.features import spectrogram
from hashing.fronts import Answer
from hashing.snippets import snippets, windows
from hashing.training import embeddings
from hashing.training.corpus import Corpus
from hashing.training.embeddings import (
    Pairs,
    clean_embeddings,
    dense_embeddings,
    paired_embeddings,
)

AIR = Surroundings(RATE)


def levels(cut: np.ndarray) -> Answer:
    """An encoder whose embedding is the mean of each band: [n, bands]."""
    means = cut.mean(axis=2)
    return Answer(means, means)


def levels_in_track(spec: np.ndarray, starts: np.ndarray) -> Answer:
    """The same of the snippets of a track."""
    return levels(windows(spec, FEATURES)[starts])


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


def pairs_of(corpus: Corpus, n: int) -> Pairs:
    """Pairs of all tracks."""
    tracks = range(len(corpus))
    return paired_embeddings(levels_in_track, levels, FEATURES, corpus, tracks, n, AIR, seed=1)


def test_pairs_are_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = music(4)
    pairs = pairs_of(corpus, 40)
    assert pairs.clean.shape == pairs.heard.shape == (40, FEATURES.n_bands)
    assert not np.allclose(pairs.clean, pairs.heard, atol=1.0)
    # Where nothing happens to the sound, a pair is nearer than two moments are.
    monkeypatch.setattr(embeddings, "degrade", lambda samples, air, rng: samples)
    pairs = pairs_of(corpus, 40)
    distance = np.abs(pairs.clean[:, None] - pairs.heard[None]).mean(axis=2)
    assert np.mean(distance.argmin(axis=1) == np.arange(40)) > 0.9


def test_pairs_share_the_music_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is degraded begins half a second early, so that a room has heard something."""
    lengths = []

    def listen(samples: np.ndarray, air: Surroundings, rng: np.random.Generator) -> np.ndarray:
        lengths.append(samples.size)
        return samples

    monkeypatch.setattr(embeddings, "degrade", listen)
    pairs_of(music(1), 2)
    late = FEATURES.query_hop * FEATURES.hop_length // 2
    assert set(lengths) == {RATE // 2 + FEATURES.snippet_samples + late}


def test_clean_and_degraded_snippets_have_graphs_of_their_own() -> None:
    def louder(cut: np.ndarray) -> Answer:
        return levels(cut + 100.0)

    def quieter(spec: np.ndarray, starts: np.ndarray) -> Answer:
        return levels_in_track(spec - 100.0, starts)

    rest = (FEATURES, music(2), [0, 1], 6, AIR, 1)
    plain = paired_embeddings(levels_in_track, levels, *rest)
    heard = paired_embeddings(levels_in_track, louder, *rest)
    np.testing.assert_array_equal(heard.clean, plain.clean)
    np.testing.assert_allclose(heard.heard, plain.heard + 100.0, atol=1e-3)
    clean = paired_embeddings(quieter, levels, *rest)
    np.testing.assert_allclose(clean.clean, plain.clean - 100.0, atol=1e-3)
    np.testing.assert_array_equal(clean.heard, plain.heard)


def test_a_clean_snippet_is_heard_with_what_is_around_it() -> None:
    """Two snippets of music to either side, or as much of it as the track has."""
    corpus, seen = music(1, seconds=4.0), []
    whole = spectrogram([corpus.track(0)], FEATURES)
    width = FEATURES.snippet_frames

    def listen(spec: np.ndarray, starts: np.ndarray) -> Answer:
        (start,) = starts.tolist()
        seen.append((start, len(spec)))
        return levels_in_track(spec, starts)

    found = paired_embeddings(listen, levels, FEATURES, corpus, [0], 60, AIR, seed=1)
    assert len(seen) == len(found.clean) == 60
    before, after = zip(*((start, held - width - start) for start, held in seen), strict=True)
    assert max(before) == max(after) == embeddings.AROUND * width
    # Some are near the start of the track, some near its end, and some have all that they may.
    assert min(before) < embeddings.AROUND * width > min(after)
    assert (embeddings.AROUND * width, embeddings.AROUND * width) in set(
        zip(before, after, strict=True)
    )
    # What is heard first is in the music, wherever on the grid of frames it begins.
    levels_of = windows(whole, FEATURES).mean(axis=2)
    nearest = np.abs(found.clean[:, None] - levels_of[None]).max(axis=2).min(axis=1)
    assert nearest.max() < 3.0


@pytest.mark.parametrize("second", [0.0, 0.4, 3.0, 7.4, 7.75])
def test_what_is_around_a_snippet_is_more_than_a_front_takes_in(
    second: float, tmp_path: Path
) -> None:
    """An encoder that hears whole tracks answers the excerpt as it does the track."""
    hasher = Hasher(track_model(tmp_path / "m"))
    features = hasher.features
    corpus = music(1, seconds=8.75)
    frame = round(second / features.frame_s)
    spec = spectrogram([corpus.track(0)], features)
    first = frame * features.hop_length
    part, start = embeddings._around(corpus, 0, first, corpus.track(0).size, features)
    assert len(part) < len(spec)
    whole = hasher.respond_in_track(spec, np.array([frame])).embeddings
    alone = hasher.respond_in_track(part, np.array([start])).embeddings
    np.testing.assert_allclose(alone, whole, atol=1e-3)


def test_clean_snippets_of_pairs_are_those_of_the_track() -> None:
    """Of a track of exactly one snippet there is nothing else to hear."""
    late = FEATURES.query_hop * FEATURES.hop_length // 2
    exact = music(1).track(0)[: FEATURES.snippet_samples + late]
    corpus, starts_of = corpus_of([exact]), []

    def listen(spec: np.ndarray, starts: np.ndarray) -> Answer:
        starts_of.append(starts.tolist())
        return levels_in_track(spec, starts)

    found = paired_embeddings(listen, levels, FEATURES, corpus, [0], 3, AIR, seed=1)
    cut, _ = snippets(spectrogram([corpus.track(0)], FEATURES), FEATURES)
    np.testing.assert_allclose(found.clean, cut[:1].mean(axis=2).repeat(3, axis=0), atol=1e-4)
    assert starts_of == [[0]] * 3


def test_dense_embeddings_are_those_of_every_snippet() -> None:
    silence = np.zeros(2 * RATE, np.float32)
    corpus = corpus_of([tone(300.0, 2.0), tone(300.0, 0.2), silence, tone(900.0, 1.0)])
    found = dense_embeddings(levels_in_track, FEATURES, corpus, [3, 1, 2, 0], hop=4)
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
        dense_embeddings(levels_in_track, FEATURES, corpus, [1, 2], hop=4)
    with pytest.raises(ModelError, match="has no embeddings"):
        dense_embeddings(lambda spec, starts: Answer(spec[starts]), FEATURES, corpus, [0], hop=4)
