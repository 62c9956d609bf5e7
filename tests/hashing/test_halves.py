"""The halves of a model's graph: which encoders are one, and the head that was cut off."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_fixture import learned_model, random_model, track_model

from hashing.encoders import CHUNK_ROWS, Hasher
from hashing.errors import ModelError
from hashing.features import FeatureConfig
from hashing.fronts import session_of
from hashing.halves import cut_at_embedding
from hashing.models import Model, load_model
from hashing.synthesis import render_track
from hashing.training.export import append_linear, encoder_graph

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "one": learned_model(folder / "one"),
        "head": learned_model(folder / "head", seed=2, head=2),
        "small": learned_model(folder / "small", dimensions=32),
        "tracks": track_model(folder / "tracks"),
        "signs": random_model(folder / "signs"),
    }


def random_encoder(seed: int, head: bool = True) -> bytes:
    rng = np.random.default_rng(seed)
    weights, bias = rng.standard_normal((24, 6)).astype(np.float32), np.zeros(6, np.float32)
    graph = encoder_graph(4, 6, [], (weights, bias))
    turn = rng.standard_normal((6, 5)).astype(np.float32)
    return append_linear(graph, turn, np.arange(5, dtype=np.float32)) if head else graph


def test_models_on_one_encoder_have_its_digest(models: dict[str, Model]) -> None:
    digests = {name: Hasher(model).encoder_digest for name, model in models.items()}
    assert digests["one"] == digests["head"]
    assert digests["signs"] is None
    assert len(set(digests.values())) == 4


@pytest.mark.parametrize("name", ["contrastive", "one", "tracks"])
def test_the_head_alone_answers_as_the_whole(name: str, models: dict[str, Model]) -> None:
    hasher = Hasher(models.get(name) or load_model(name))
    cut = cut_at_embedding(hasher.model.graph("model"))
    assert cut is not None
    assert cut.head is not None
    onnx.checker.check_model(onnx.load_from_string(cut.head))
    spec = -40 + 10 * np.random.default_rng(1).standard_normal((200, 64)).astype(np.float32)
    answer = hasher.respond_in_track(spec, np.arange(0, 128, 16))
    assert answer.embeddings is not None
    (responses,) = session_of(cut.head).run(None, {"embedding": answer.embeddings})
    np.testing.assert_allclose(responses, answer.responses, atol=1e-6)


def test_codes_of_what_was_kept_are_those_of_the_other_model(models: dict[str, Model]) -> None:
    one, other = Hasher(models["one"]), Hasher(models["head"])
    music = render_track(1, 8.0, one.features.sample_rate)
    kept, expected = (hasher.hash_track([music], embeddings=True) for hasher in (one, other))
    assert kept.embeddings is not None
    np.testing.assert_array_equal(other.codes_of(kept.embeddings), expected.codes)
    assert (kept.codes != expected.codes).any(axis=1).all()


def test_codes_do_not_depend_on_how_many_there_are_beyond_a_chunk(
    models: dict[str, Model],
) -> None:
    hasher = Hasher(models["one"])
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((CHUNK_ROWS + 3, 64)).astype(np.float16)
    codes = hasher.codes_of(vectors)
    np.testing.assert_array_equal(hasher.codes_of(vectors[:CHUNK_ROWS]), codes[:CHUNK_ROWS])
    assert hasher.codes_of(vectors[:0]).shape == (0, 32)


def test_a_model_without_embeddings_makes_no_codes_of_them(models: dict[str, Model]) -> None:
    with pytest.raises(ModelError, match="signs makes no codes of embeddings"):
        Hasher(models["signs"]).codes_of(np.zeros((1, 64), np.float16))


def test_what_the_features_are_belongs_to_the_encoder(models: dict[str, Model]) -> None:
    hasher = Hasher(models["one"])
    before = hasher.encoder_digest
    hasher.features = dataclasses.replace(FeatureConfig(), silence_db=-50.0)
    assert hasher.encoder_digest != before
    hasher.features = dataclasses.replace(FeatureConfig(), repeats_short=True)
    assert hasher.encoder_digest != before


def test_settings_of_later_versions_that_are_off_change_no_digest() -> None:
    """Embeddings that were kept before there was `repeats_short` stay those of their model."""
    hasher = Hasher(load_model("contrastive"))
    settings = hasher.model.config["features"]
    assert "repeats_short" not in settings
    halves = cut_at_embedding(hasher.model.graph("model"))
    assert halves is not None
    text = f"{json.dumps(settings, sort_keys=True)} {halves.encoder}"
    assert hasher.encoder_digest == hashlib.sha256(text.encode()).hexdigest()


def test_any_weight_of_the_encoder_tells_it_apart_and_none_of_the_head() -> None:
    one = cut_at_embedding(random_encoder(1))
    assert one is not None
    bare = cut_at_embedding(random_encoder(1, head=False))
    assert bare is not None
    assert (bare.encoder, bare.head) == (one.encoder, None)
    other = cut_at_embedding(random_encoder(2))
    assert other is not None
    assert other.encoder != one.encoder
    model = onnx.load_from_string(random_encoder(1))
    for tensor in model.graph.initializer:
        changed = onnx.load_from_string(random_encoder(1))
        (own,) = [one for one in changed.graph.initializer if one.name == tensor.name]
        own.raw_data = bytes([*own.raw_data[:-1], own.raw_data[-1] ^ 1])
        found = cut_at_embedding(changed.SerializeToString())
        assert found is not None
        assert (found.encoder == one.encoder) == tensor.name.startswith("linear")


def test_what_is_not_understood_is_not_cut() -> None:
    model = onnx.load_from_string(random_encoder(1))
    functions = onnx.load_from_string(random_encoder(1))
    functions.functions.add().name = "own"
    inner = onnx.load_from_string(random_encoder(1))
    inner.graph.node[0].attribute.add().g.name = "inner"
    sparse = onnx.load_from_string(random_encoder(1))
    sparse.graph.sparse_initializer.add().dims.append(1)
    for strange in (functions, inner, sparse):
        assert cut_at_embedding(strange.SerializeToString()) is None
    # The response hears the snippet itself, too.
    model.graph.node[-1].input[0] = "snippets"
    assert cut_at_embedding(model.SerializeToString()) is None


GRAPH = random_encoder(1)


@given(
    at=st.integers(0, len(GRAPH) - 1),
    byte=st.integers(0, 255),
    end=st.integers(0, len(GRAPH)),
    cut=st.booleans(),
)
def test_damaged_bytes_raise_nothing(at: int, byte: int, end: int, cut: bool) -> None:
    data = bytearray(GRAPH)
    data[at] = byte
    cut_at_embedding(bytes(data[:end] if cut else data))
