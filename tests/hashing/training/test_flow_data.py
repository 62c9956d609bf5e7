from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from model_fixture import learned_model, random_model, track_model
from training_fixture import RATE, corpus_of

from hashing.conditions import Surroundings
from hashing.encoders import Hasher
from hashing.errors import ModelError
from hashing.fronts import Answer
from hashing.models import Model
from hashing.synthesis import render_track
from hashing.training import flow_data
from hashing.training.corpus import Corpus
from hashing.training.flow_data import cut_ends, gather

AIR = Surroundings(RATE)
TRAINING, UNHEARD = [0, 1, 2], [3]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_data, "PAIRS", 12)
    monkeypatch.setattr(flow_data, "UNHEARD_PAIRS", 5)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return corpus_of([render_track(seed, 4.0 + seed, RATE) for seed in range(4)])


@pytest.fixture(scope="module")
def hasher(tmp_path_factory: pytest.TempPathFactory) -> Hasher:
    return Hasher(learned_model(tmp_path_factory.mktemp("encoder")))


def made(hasher: Hasher, corpus: Corpus, work: Path, said: list[str], seed: int = 1):
    return gather(hasher, corpus, TRAINING, UNHEARD, AIR, seed, work, said.append)


def test_embeddings_are_what_an_index_and_a_query_hold(
    hasher: Hasher, corpus: Corpus, tmp_path: Path
) -> None:
    data = made(hasher, corpus, tmp_path, [])
    # Every fourth snippet of the dense ones is one of the index, in its order.
    expected = hasher.hash_track([corpus.track(3)], embeddings=True)
    assert expected.embeddings is not None
    np.testing.assert_array_equal(
        data.unheard_dense[:: 16 // flow_data.DENSE_HOP], expected.embeddings.astype(np.float32)
    )
    assert set(data.unheard_groups) == {3}
    assert set(data.dense_groups) == set(data.kept_groups) == {0, 1, 2}
    assert data.clean.shape == data.heard.shape == (12, 64)
    assert data.unheard_clean.shape == data.unheard_heard.shape == (5, 64)
    for part in (data.clean, data.heard, data.dense, data.kept_dense):
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1.0, atol=2e-3)


@pytest.mark.parametrize("made_model", [learned_model, track_model])
def test_clean_music_is_heard_as_a_track_and_queries_with_their_graph(
    made_model: Callable[[Path], Model],
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hasher = Hasher(made_model(tmp_path / "encoder"))
    tracks, queries = [], []
    in_track, respond = hasher.respond_in_track, hasher.respond

    def listen_in_track(spec: np.ndarray, starts: np.ndarray) -> Answer:
        tracks.append(in_track(spec, starts))
        return tracks[-1]

    def listen(cut: np.ndarray) -> Answer:
        queries.append(respond(cut))
        return queries[-1]

    monkeypatch.setattr(hasher, "respond_in_track", listen_in_track)
    monkeypatch.setattr(hasher, "respond", listen)
    data = made(hasher, corpus, tmp_path / "work", [])
    # Four tracks, and each clean snippet of a pair in its surroundings.
    dense, pairs = tracks[:4], tracks[4:]
    assert [len(answer.responses) for answer in pairs] == [1] * (12 + 5)
    np.testing.assert_array_equal(
        np.concatenate((data.clean, data.unheard_clean)),
        np.concatenate([answer.embeddings for answer in pairs]),
    )
    np.testing.assert_array_equal(
        data.unheard_dense, dense[3].embeddings.astype(np.float16).astype(np.float32)
    )
    assert [len(answer.responses) for answer in queries] == [12, 5]
    np.testing.assert_array_equal(data.heard, queries[0].embeddings)
    np.testing.assert_array_equal(data.unheard_heard, queries[1].embeddings)


def test_the_same_embeddings_are_made_once(hasher: Hasher, corpus: Corpus, tmp_path: Path) -> None:
    said: list[str] = []
    first = made(hasher, corpus, tmp_path, said)
    again = made(hasher, corpus, tmp_path, said)
    assert said == [
        "embedding 3 tracks to train, 1 others",
        "embeddings are those of an earlier run",
    ]
    for name in ("clean", "heard", "dense", "kept_dense", "kept_groups", "unheard_heard"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    other = made(hasher, corpus, tmp_path, said, seed=2)
    assert len(said) == 3
    assert not np.array_equal(other.heard, first.heard)
    np.testing.assert_array_equal(other.dense, first.dense)


def test_the_end_of_each_track_is_kept_apart(hasher: Hasher, corpus: Corpus) -> None:
    music = flow_data.dense_embeddings(
        hasher.respond_in_track, hasher.features, corpus, TRAINING, flow_data.DENSE_HOP
    )
    early, last = cut_ends(music)
    assert len(early.frame) + len(last.frame) == len(music.frame)
    for track in TRAINING:
        before, after = early.frame[early.track == track], last.frame[last.track == track]
        assert before.max() < after.min()
        assert len(after) / (len(before) + len(after)) == pytest.approx(0.15, abs=0.05)


def test_a_model_without_embeddings_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    hasher = Hasher(random_model(tmp_path / "m"))
    with pytest.raises(ModelError, match="has no embeddings"):
        made(hasher, corpus, tmp_path / "w", [])
    assert not (tmp_path / "w").exists()
