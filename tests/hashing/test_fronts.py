"""Graphs of every shape that a front may have, and those that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from model_fixture import learned_model, random_model
from onnx import TensorProto, helper, numpy_helper

from hashing import fronts
from hashing.errors import ModelError
from hashing.features import FeatureConfig
from hashing.fronts import Answer, open_front, open_session
from hashing.models import Model, load_model, save_model
from hashing.quantizers import SignQuantizer, open_quantizer
from hashing.track_fronts import SeparateSnippets, open_fronts

INPUTS = 64 * 28
CONFIG = FeatureConfig()


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return learned_model(tmp_path_factory.mktemp("m") / "learned")


def value(name: str, size: int, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["n", size])


def linear(seed: int, outputs: int) -> np.ndarray:
    weight = np.random.default_rng(seed).standard_normal((INPUTS, outputs)) / np.sqrt(INPUTS)
    return np.asarray(weight, dtype=np.float32)


def graph_of(
    outputs: dict[str, np.ndarray], ends: list[onnx.ValueInfoProto] | None = None
) -> bytes:
    """A graph with a linear output for each matrix; `ends`: what it says that its outputs are."""
    weights = [numpy_helper.from_array(matrix, f"{name}_w") for name, matrix in outputs.items()]
    nodes = [helper.make_node("MatMul", ["snippets", f"{name}_w"], [name]) for name in outputs]
    ends = ends or [value(name, matrix.shape[1]) for name, matrix in outputs.items()]
    graph = helper.make_graph(nodes, "g", [value("snippets", INPUTS)], ends, weights)
    opset = [helper.make_opsetid("", 15)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def with_graphs(model: Model, folder: Path, graphs: dict[str, bytes]) -> Model:
    return save_model(folder, model.config, graphs, model.arrays, "#")


def inputs_of(n: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, INPUTS)).astype(np.float32)


def refused(model: Model) -> str:
    with pytest.raises(ModelError) as caught:
        open_fronts(model, CONFIG, open_quantizer(model))
    message = str(caught.value)
    assert "\n" not in message
    assert str(model.path) in message
    return message


# --- what a front answers


def test_responses_embeddings_and_norms(learned: Model) -> None:
    front = open_front(learned, CONFIG, open_quantizer(learned))
    answer = front(inputs_of(5))
    assert answer.embeddings is not None
    assert answer.norms is not None
    # Responses are the embedding turned, and an encoder alone answers with the embedding itself.
    assert answer.responses.shape == answer.embeddings.shape == (5, 64)
    np.testing.assert_allclose(
        answer.responses @ answer.responses.T, answer.embeddings @ answer.embeddings.T, atol=1e-5
    )
    assert np.abs(answer.responses - answer.embeddings).max() > 0.1
    np.testing.assert_allclose(np.linalg.norm(answer.embeddings, axis=1), 1.0, atol=1e-5)
    assert answer.norms.shape == (5,)
    # The norm is the length that the embedding had before: the layer is linear.
    zero = front(np.zeros((1, INPUTS), np.float32))
    assert zero.embeddings is not None
    assert zero.norms is not None
    bias = zero.norms * zero.embeddings
    before = answer.norms[:, None] * answer.embeddings
    twice = front(2 * inputs_of(5))
    assert twice.embeddings is not None
    assert twice.norms is not None
    np.testing.assert_allclose(
        twice.norms[:, None] * twice.embeddings - bias, 2 * (before - bias), atol=1e-3
    )


def test_an_encoder_alone_answers_with_its_embedding(learned: Model, tmp_path: Path) -> None:
    alone = graph_of({"embedding": linear(1, 64), "norm": linear(2, 1)})
    model = with_graphs(learned, tmp_path / "m", {"model": alone})
    answer = open_front(model, CONFIG, open_quantizer(model))(inputs_of(5))
    assert answer.responses is answer.embeddings
    np.testing.assert_allclose(answer.responses, inputs_of(5) @ linear(1, 64), atol=1e-4)


def test_a_graph_of_responses_alone(tmp_path: Path) -> None:
    model = random_model(tmp_path / "m")
    answer = open_front(model, CONFIG, open_quantizer(model))(inputs_of(3))
    assert answer.responses.shape == (3, 464)
    assert answer.embeddings is None
    assert answer.norms is None


@pytest.mark.parametrize("order", [1, -1])
def test_outputs_are_told_by_their_names(tmp_path: Path, order: int) -> None:
    matrices = {"responses": linear(1, 464), "embedding": linear(2, 16), "norm": linear(3, 1)}
    names = list(matrices)[::order]
    model = with_graphs(
        random_model(tmp_path / "m"),
        tmp_path / "other",
        {"model": graph_of({name: matrices[name] for name in names})},
    )
    inputs = inputs_of(4)
    answer = open_front(model, CONFIG, open_quantizer(model))(inputs)
    assert answer.embeddings is not None
    assert answer.norms is not None
    np.testing.assert_allclose(answer.responses, inputs @ matrices["responses"], atol=1e-4)
    np.testing.assert_allclose(answer.embeddings, inputs @ matrices["embedding"], atol=1e-4)
    np.testing.assert_allclose(answer.norms, (inputs @ matrices["norm"])[:, 0], atol=1e-4)


def test_tracks_and_queries_mostly_share_a_front(learned: Model) -> None:
    tracks, query_front = open_fronts(learned, CONFIG, open_quantizer(learned))
    assert isinstance(tracks, SeparateSnippets)
    assert tracks.front is query_front


def test_queries_may_have_a_graph_of_their_own(learned: Model, tmp_path: Path) -> None:
    model = with_graphs(
        learned,
        tmp_path / "m",
        {"model": graph_of({"embedding": linear(1, 64)}), "query": learned.graph("model")},
    )
    assert model.graphs == ["model", "query"]
    tracks, query_front = open_fronts(model, CONFIG, open_quantizer(model))
    assert isinstance(tracks, SeparateSnippets)
    inputs = inputs_of(3)
    np.testing.assert_allclose(tracks.front(inputs).responses, inputs @ linear(1, 64), atol=1e-4)
    expected = open_front(learned, CONFIG, open_quantizer(learned))(inputs)
    np.testing.assert_array_equal(query_front(inputs).responses, expected.responses)
    # It is part of the model's identity, and is checked as the other is.
    alone = with_graphs(learned, tmp_path / "alone", {"model": model.graph("model")})
    assert alone.digest != model.digest
    (tmp_path / "m/query.onnx").write_bytes(graph_of({"embedding": linear(1, 63)}))
    assert "query.onnx gives responses that its arrays do not fit" in refused(
        load_model(str(tmp_path / "m"))
    )
    (tmp_path / "m/query.onnx").write_bytes(b"no graph")
    assert "query.onnx cannot be run" in refused(load_model(str(tmp_path / "m")))


def test_a_hasher_that_brings_a_function_needs_no_graph(learned: Model) -> None:
    class Own(SignQuantizer):
        def responses(self, inputs: np.ndarray) -> np.ndarray:
            return np.asarray(inputs[:, :2], dtype=np.float32)

    model = Model(learned.path / "nowhere", learned.config, {}, "")
    own = Own(np.zeros(2), np.ones(2), np.array([[0, 1]]))
    tracks, query_front = open_fronts(model, CONFIG, own)
    assert isinstance(tracks, SeparateSnippets)
    for front in (tracks.front, query_front):
        answer = front(inputs_of(3))
        np.testing.assert_array_equal(answer.responses, inputs_of(3)[:, :2])
        assert answer.embeddings is None


def test_no_snippets_have_no_answers(learned: Model, tmp_path: Path) -> None:
    for model in (learned, random_model(tmp_path / "m")):
        answer = open_front(model, CONFIG, open_quantizer(model))(inputs_of(0))
        assert answer.responses.shape[0] == 0
        assert open_quantizer(model).encode(answer.responses).shape[0] == 0


def test_answers_are_joined() -> None:
    def filled(n: int, *values: float) -> Answer:
        first, second, third = (np.full((n, 2), value, np.float32) for value in values)
        return Answer(first, second, third[:, 0])

    both = Answer.join([filled(2, 0, 1, 5), filled(1, 1, 0, 7)])
    assert both.responses[:, 0].tolist() == [0, 0, 1]
    assert both.embeddings is not None
    assert both.norms is not None
    assert both.embeddings[:, 0].tolist() == [1, 1, 0]
    assert both.norms.tolist() == [5, 5, 7]
    plain = Answer.join([Answer(answer.responses) for answer in (filled(2, 0, 1, 5), both)])
    assert plain.responses[:, 0].tolist() == [0, 0, 0, 0, 1]
    assert plain.embeddings is None
    assert plain.norms is None


def test_some_of_the_answers() -> None:
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    answer = Answer(values, values + 10, values[:, 0] + 20)
    some = answer.take(np.array([2, 0, 2]))
    assert some.embeddings is not None
    assert some.norms is not None
    assert some.responses.tolist() == [[4, 5], [0, 1], [4, 5]]
    assert some.embeddings.tolist() == [[14, 15], [10, 11], [14, 15]]
    assert some.norms.tolist() == [24, 20, 24]
    none = Answer(values).take(np.empty(0, np.int64))
    assert (none.responses.shape, none.embeddings, none.norms) == ((0, 2), None, None)


# --- graphs that do not fit


@pytest.mark.parametrize(
    "graph",
    [
        lambda: graph_of({"logits": linear(1, 464)}),
        lambda: graph_of({"responses": linear(1, 464), "more": linear(2, 3)}),
        lambda: graph_of({"norm": linear(1, 1)}),
        lambda: graph_of({"responses": linear(1, 464)}, [value("responses", 464, 11)]),  # float64
    ],
)
def test_graphs_with_other_ends_are_refused(graph: Callable[[], bytes], tmp_path: Path) -> None:
    model = with_graphs(random_model(tmp_path / "m"), tmp_path / "m", {"model": graph()})
    message = refused(model)
    assert "does not turn snippets of 1792 values into responses" in message or (
        "cannot be run" in message
    )


@pytest.mark.parametrize("width", [1, 463, 465])
def test_graphs_of_another_width_are_refused(width: int, tmp_path: Path) -> None:
    graphs = {"model": graph_of({"responses": linear(1, width)})}
    model = with_graphs(random_model(tmp_path / "m"), tmp_path / "m", graphs)
    message = refused(model)
    assert "gives responses that its arrays do not fit" in message
    assert f"{width} responses for 464 bits" in message


def test_a_graph_that_fails_when_it_runs_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Nothing is wrong with it until the numbers arrive.
    shape = numpy_helper.from_array(np.array([7, 5], dtype=np.int64), "shape")
    node = helper.make_node("Reshape", ["snippets", "shape"], ["responses"])
    graph = helper.make_graph(
        [node], "g", [value("snippets", INPUTS)], [value("responses", 464)], [shape]
    )
    opset = [helper.make_opsetid("", 15)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=8)
    model = with_graphs(
        random_model(tmp_path / "m"), tmp_path / "m", {"model": made.SerializeToString()}
    )
    assert "model.onnx cannot be run" in refused(model)
    capfd.readouterr()  # ONNX Runtime says so too


def test_features_of_another_model_are_refused(learned: Model, tmp_path: Path) -> None:
    features = dict(learned.config["features"], n_bands=32)
    config = {**learned.config, "features": features}
    model = save_model(
        tmp_path / "m", config, {"model": learned.graph("model")}, learned.arrays, "#"
    )
    with pytest.raises(ModelError, match="does not turn snippets of 896 values into responses"):
        open_fronts(model, FeatureConfig.from_json(features), open_quantizer(model))
    assert json.loads((tmp_path / "m/config.json").read_text())["features"]["n_bands"] == 32


def test_a_session_runs_on_one_thread_without_spinning(learned: Model) -> None:
    # A worker runs on every core already.
    options = open_session(learned).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert not Path(fronts.NOWHERE).is_dir()
