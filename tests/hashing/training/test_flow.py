from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from scipy import stats
from sklearn.decomposition import PCA

from hashing.balance import measure_balance
from hashing.flow import FlowQuantizer, normal_scale
from hashing.training import flow as training
from hashing.training.export import append_linear
from hashing.training.flow import (
    Flow,
    FlowData,
    FlowTraining,
    disagreement,
    prior_log_density,
    respond,
    train,
)
from hashing.training.flow_export import FlowWeights, append_flow
from hashing.training.flow_projection import (
    principal_components,
    triplet_loss,
    triplet_projection,
)

TINY = FlowTraining(
    bits=4,
    couplings=3,
    hidden=(16,),
    pairs=32,
    items=64,
    steps=30,
    warm_up=5,
    learning_rate=1e-2,
    averaging=0.9,
    radius=0.5,
    projection_steps=200,
)
DIMENSIONS = 12


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "STEPS_PER_REPORT", 10)


def embeddings(n: int, seed: int) -> np.ndarray:
    """Of length one; the third component depends on the first two, without correlation."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, DIMENSIONS)) * np.array([2.0, 1.6, 1.3] + [0.3] * 9)
    values[:, 2] = np.sign(values[:, 0] * values[:, 1]) * np.abs(values[:, 2])
    values = values @ np.linalg.qr(np.random.default_rng(9).standard_normal((12, 12)))[0]
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def heard(clean: np.ndarray, seed: int) -> np.ndarray:
    noisy = clean + np.random.default_rng(seed).normal(0, 0.2, clean.shape)
    return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def data() -> FlowData:
    clean, other = embeddings(2000, 1), embeddings(500, 2)
    return FlowData(
        clean,
        heard(clean, 3),
        embeddings(4000, 4),
        other,
        heard(other, 5),
        embeddings(2000, 6),
        np.arange(2000) // 4,
    )


@pytest.fixture(scope="module")
def network(data: FlowData) -> Flow:
    """A network whose every weight matters, rounded as a graph keeps it."""
    torch.manual_seed(1)
    flow = Flow(*principal_components(data.dense, 5), 3, (16, 8))
    with torch.no_grad():
        for parameter in flow.couplings.parameters():
            parameter.normal_(std=0.3)
        flow.warp.add_(torch.linspace(-0.2, 0.2, 15).reshape(3, 5))
        for tensor in (*flow.couplings.parameters(), flow.weight, flow.bias):
            tensor.copy_(tensor.half().float())
        flow.warp.copy_(flow.warp.exp().half().float().log())
    return flow


class Log:
    """Lines of progress; `stop_at` is the step at whose line the run is killed."""

    def __init__(self, stop_at: int = -1) -> None:
        self.lines: list[str] = []
        self.stop_at = stop_at

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith(f"step {self.stop_at:6d} "):
            raise KeyboardInterrupt


def flat(weights: FlowWeights) -> np.ndarray:
    layers = [weights.projection]
    for coupling in weights.couplings:
        layers += [*coupling.hidden, coupling.shift, coupling.log_scale]
    parts = [part.ravel() for layer in layers for part in layer]
    return np.concatenate([*parts, weights.warp.ravel()])


def run(data: FlowData, work: Path, settings: FlowTraining = TINY, log: Log | None = None) -> Flow:
    return train(data, settings, work, log or Log())[0].trained


@pytest.fixture(scope="module")
def undisturbed(data: FlowData, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return flat(run(data, tmp_path_factory.mktemp("undisturbed")).weights())


def test_the_prior_is_a_density_with_its_modes_at_two() -> None:
    z = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    density = prior_log_density(z[:, None]).exp().numpy()
    assert density.sum() * 0.001 == pytest.approx(1.0, abs=1e-9)
    expected = 0.5 * stats.norm.pdf(z.numpy(), 2) + 0.5 * stats.norm.pdf(z.numpy(), -2)
    np.testing.assert_allclose(density, expected, rtol=1e-9)
    two = prior_log_density(torch.tensor([[0.3, -1.7]]))
    one = prior_log_density(torch.tensor([[0.3], [-1.7]]))
    assert two.item() == pytest.approx(one.sum().item())


def test_disagreement_by_hand() -> None:
    undecided = torch.zeros(1, 1)
    assert disagreement(undecided, undecided).item() == pytest.approx(2 * np.log(2))
    sure = torch.tensor([[3.0, -3.0]])
    assert disagreement(sure, sure).item() < 1e-3
    # Sure of opposite bits: each way 4 * 3 nats.
    assert disagreement(sure[:, :1], -sure[:, :1]).item() == pytest.approx(24.0, abs=1e-3)
    # Sure against undecided: log 2 one way, half of 4 * 3 the other.
    assert disagreement(sure[:, :1], undecided).item() == pytest.approx(np.log(2) + 6, abs=1e-3)


def test_the_growth_is_the_jacobian_and_the_flow_can_be_inverted(network: Flow) -> None:
    y = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    double = network.double()
    try:
        z, growth = double.transform(y)
        for row in range(6):
            jacobian = torch.autograd.functional.jacobian(
                lambda one: double.transform(one[None])[0][0], y[row]
            )
            sign, expected = torch.linalg.slogdet(jacobian)
            assert sign == 1
            assert growth[row].item() == pytest.approx(expected.item(), abs=1e-9)
        assert z.shape == (6, 5)
    finally:
        network.float()


def test_a_new_flow_makes_normal_coordinates_bimodal() -> None:
    flow = Flow(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 2, (8,))
    with torch.no_grad():
        for coupling in flow.couplings.transforms:
            coupling.hyper[-1].weight.zero_()
    normal = np.random.default_rng(7).standard_normal((4000, 3)).astype(np.float32)
    back = normal_scale(respond(flow, normal))
    usual = np.abs(normal) < 2.5
    np.testing.assert_allclose(back[usual], normal[usual], atol=0.12)
    assert stats.kstest(back.ravel(), "norm").statistic < 0.02


def test_principal_components_against_scikit_learn(data: FlowData) -> None:
    weight, bias = principal_components(data.dense, 4)
    projected = data.dense @ weight + bias
    np.testing.assert_allclose(np.median(projected, axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(projected.std(axis=0), 1.0, atol=1e-4)
    expected = PCA(4, svd_solver="full").fit_transform(data.dense)
    for k in range(4):
        assert abs(np.corrcoef(projected[:, k], expected[:, k])[0, 1]) == pytest.approx(1, abs=1e-4)


def test_the_triplet_loss_by_hand() -> None:
    y = torch.tensor([[0.0, 0.0], [6.0, 8.0]])
    # The others of either pair are the two of the other: at (6, 8) and at (0, 3) on average.
    other = torch.tensor([[0.0, 6.0], [6.0, 8.0]])
    assert triplet_loss(y, other).item() == 0.0  # 6 < 10, and 0 < sqrt(36 + 25)
    other = torch.tensor([[0.0, 12.0], [6.0, 8.0]])
    assert triplet_loss(y, other).item() == pytest.approx(1.0)  # 12 - 10, and nothing


def test_the_triplet_projection_lowers_its_loss(data: FlowData) -> None:
    def loss(projection: tuple[np.ndarray, np.ndarray]) -> float:
        y, other = (part @ projection[0] + projection[1] for part in (data.clean, data.heard))
        return triplet_loss(torch.from_numpy(y), torch.from_numpy(other)).item()

    def draw(step: int) -> np.ndarray:
        return np.random.default_rng(step).integers(len(data.clean), size=32)

    projection = triplet_projection(data.clean, data.heard, data.dense, 4, draw, 200)
    assert loss(projection) < loss(principal_components(data.dense, 4))
    projected = data.dense @ projection[0] + projection[1]
    np.testing.assert_allclose(np.median(projected, axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(projected.std(axis=0), 1.0, atol=1e-4)


def test_the_same_seed_gives_the_same_flow(
    data: FlowData, undisturbed: np.ndarray, tmp_path: Path
) -> None:
    np.testing.assert_array_equal(flat(run(data, tmp_path / "again").weights()), undisturbed)
    other = dataclasses.replace(TINY, seed=2)
    assert not np.array_equal(flat(run(data, tmp_path / "other", other).weights()), undisturbed)


@pytest.mark.parametrize(("stop_at", "resumed_at"), [(10, 10), (20, 20), (30, 30)])
def test_a_run_that_was_stopped_goes_on(
    data: FlowData, undisturbed: np.ndarray, tmp_path: Path, stop_at: int, resumed_at: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, log=Log(stop_at))
    log = Log()
    np.testing.assert_array_equal(flat(run(data, tmp_path, log=log).weights()), undisturbed)
    assert log.lines[0] == f"resuming at step {resumed_at} of 30"


def test_a_checkpoint_belongs_to_settings_and_music(data: FlowData, tmp_path: Path) -> None:
    run(data, tmp_path)
    log = Log()
    run(data, tmp_path, dataclasses.replace(TINY, radius=1.0), log)  # chosen after the training
    assert log.lines == ["resuming at step 30 of 30"]
    for settings, music in (
        (dataclasses.replace(TINY, stability=0.5), data),
        (TINY, dataclasses.replace(data, dense=data.dense[:-1])),
    ):
        log = Log()
        run(music, tmp_path, settings, log)
        assert log.lines[0].startswith("step     10 of 30  likelihood_loss ")
        assert log.lines[0].endswith("minutes left")


def test_training_balances_what_depends_without_correlation(data: FlowData, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        TINY, bits=3, hidden=(32,), couplings=4, steps=150, noise=0.0, stability=0.0, items=128
    )
    state, quantizer, figures = train(data, settings, tmp_path, Log())
    weight, bias = principal_components(data.dense, 3)
    keys = (data.unheard_dense @ weight + bias > 0) @ np.array([4, 2, 1])
    before = measure_balance(keys, 3).entropy
    assert before < 2.6  # the sign of the third tells of the first two
    assert figures["unheard_entropy"] > before + 0.15
    z = respond(state.trained, data.unheard_dense)
    found = measure_balance((z > 0) @ np.array([4, 2, 1]), 3, data.unheard_groups)
    assert figures["unheard_entropy"] == found.entropy
    assert figures["unheard_clumped_entropy"] == found.clumped_entropy
    assert "train_clumped_entropy" not in figures
    # Replication and spreads are those of the training music.
    rows, _ = quantizer.postings(quantizer.encode(respond(state.trained, data.dense)), 0, 3)
    assert quantizer.replication == rows.size / len(data.dense) > 1.0
    clean, again = (normal_scale(respond(state.trained, x)) for x in (data.clean, data.heard))
    np.testing.assert_allclose(quantizer.spreads, (again - clean).std(axis=0), rtol=1e-5)


def test_stability_keeps_bits_of_two_hearings_together(data: FlowData, tmp_path: Path) -> None:
    flipped, entropies = [], []
    for weight in (0.0, 0.3):
        settings = dataclasses.replace(TINY, steps=100, noise=0.0, stability=weight)
        figures = train(data, settings, tmp_path / str(weight), Log())[2]
        flipped.append(figures["unheard_flipped"])
        entropies.append(figures["unheard_entropy"])
    assert flipped[1] < 0.9 * flipped[0]
    assert entropies[1] < entropies[0]  # which is what it costs


def encoder(dimensions: int = DIMENSIONS, inputs: int = 20) -> bytes:
    """Snippets → embedding of length one, built as the real encoder is."""
    weight = np.random.default_rng(8).standard_normal((inputs, dimensions)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["snippets", "weight"], ["projected"]),
        helper.make_node("ReduceL2", ["projected"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Div", ["projected", "length"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("snippets", TensorProto.FLOAT, ["n", inputs])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", dimensions])],
        [numpy_helper.from_array(weight, "weight")],
    )
    opset = [helper.make_opsetid("", 15)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("n", [0, 1, 300])
def test_the_graph_is_the_network(network: Flow, n: int) -> None:
    session = onnxruntime.InferenceSession(append_flow(encoder(), network.weights()))
    snippets = np.random.default_rng(n).standard_normal((n, 20)).astype(np.float32)
    z, embedding = session.run(["responses", "embedding"], {"snippets": snippets})
    (alone,) = onnxruntime.InferenceSession(encoder()).run(None, {"snippets": snippets})
    np.testing.assert_array_equal(embedding, alone)
    assert z.shape == (n, 5)
    if n:
        np.testing.assert_allclose(z, respond(network, embedding), atol=1e-4)
        assert np.abs(z).max() < 50


def test_a_trained_flow_survives_its_export(data: FlowData, tmp_path: Path) -> None:
    flow = run(data, tmp_path)
    session = onnxruntime.InferenceSession(append_flow(encoder(), flow.weights()))
    snippets = np.random.default_rng(3).standard_normal((500, 20)).astype(np.float32)
    z, embedding = session.run(["responses", "embedding"], {"snippets": snippets})
    expected = respond(flow, embedding)
    np.testing.assert_allclose(z, expected, atol=1e-4)
    certain = np.abs(expected) > 1e-4
    np.testing.assert_array_equal((z > 0)[certain], (expected > 0)[certain])
    quantizer = FlowQuantizer(np.ones(4), radius=0.5)
    assert np.mean(quantizer.encode(z) == quantizer.encode(expected)) > 0.999


def test_the_weights_say_which_coordinates_move(network: Flow) -> None:
    """The couplings written down with numpy, from the weights alone."""
    weights = network.weights()
    y = embeddings(20, 5) @ weights.projection[0] + weights.projection[1]
    u = y.astype(np.float64)
    for coupling in weights.couplings:
        assert sorted([*coupling.kept, *coupling.moved]) == list(range(5))
        hidden = u[:, coupling.kept]
        for weight, bias in coupling.hidden:
            hidden = np.maximum(hidden @ weight + bias, 0.0)
        shift = hidden @ coupling.shift[0] + coupling.shift[1]
        raw = hidden @ coupling.log_scale[0] + coupling.log_scale[1]
        scale = np.exp(raw / (1 + np.abs(raw) / np.log(1000.0)))
        u[:, coupling.moved] = u[:, coupling.moved] * scale + shift
    linear, height, steepness = weights.warp
    z = linear * u + height * np.tanh(steepness * u)
    np.testing.assert_allclose(z, respond(network, embeddings(20, 5)), atol=1e-4)


def test_the_graph_holds_half_precision_and_standard_operators(network: Flow) -> None:
    graph = onnx.load_from_string(append_flow(encoder(), network.weights()))
    onnx.checker.check_model(graph, full_check=True)
    assert [end.name for end in graph.graph.output] == ["responses", "embedding"]
    assert {node.domain for node in graph.graph.node} == {""}
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 15)]
    added = [tensor for tensor in graph.graph.initializer if tensor.name.startswith("flow_")]
    weights = [tensor for tensor in added if tensor.name.endswith("_half")]
    assert {tensor.data_type for tensor in weights} == {TensorProto.FLOAT16}
    values = sum(int(np.prod(tensor.dims)) for tensor in weights)
    assert values == flat(network.weights()).size
    assert sum(int(np.prod(tensor.dims)) for tensor in added) - values < 50


def test_a_head_that_the_encoder_had_is_taken_off(network: Flow) -> None:
    head = np.ones((DIMENSIONS, 700), np.float32)
    with_head = append_linear(encoder(), head, np.zeros(700, np.float32))
    changed = append_flow(with_head, network.weights())
    assert changed == append_flow(encoder(), network.weights())


def test_the_length_of_embeddings_is_kept(network: Flow) -> None:
    graph = onnx.load_from_string(encoder())
    next(node for node in graph.graph.node if node.op_type == "ReduceL2").output[0] = "norm"
    graph.graph.node[-1].input[1] = "norm"
    graph.graph.output.append(helper.make_tensor_value_info("norm", TensorProto.FLOAT, ["n", 1]))
    with_norm = graph.SerializeToString()
    snippets = np.random.default_rng(3).standard_normal((5, 20)).astype(np.float32)
    for model in (with_norm, append_linear(with_norm, np.ones((12, 3), np.float32), np.zeros(3))):
        session = onnxruntime.InferenceSession(append_flow(model, network.weights()))
        assert [end.name for end in session.get_outputs()] == ["responses", "embedding", "norm"]
        expected = onnxruntime.InferenceSession(with_norm).run(["norm"], {"snippets": snippets})
        np.testing.assert_array_equal(session.run(["norm"], {"snippets": snippets}), expected)


def test_figures_of_other_moments_of_the_training_music(data: FlowData, tmp_path: Path) -> None:
    more = dataclasses.replace(
        data,
        dense_groups=np.arange(4000) // 8,
        kept_dense=embeddings(600, 7),
        kept_groups=np.arange(600) // 6,
    )
    state, quantizer, figures = train(more, TINY, tmp_path, Log())
    keys = (respond(state.trained, more.kept_dense) > 0) @ np.array([8, 4, 2, 1])
    found = measure_balance(keys, quantizer.bits, more.kept_groups)
    assert figures["kept_entropy"] == found.entropy
    assert figures["kept_clumped_entropy"] == found.clumped_entropy
    assert 0 < figures["train_clumped_entropy"] <= figures["train_perfect_entropy"]


def test_a_flow_of_another_encoder_is_refused(network: Flow) -> None:
    with pytest.raises(ValueError, match=r"embeddings of \[13\], the flow takes \[12\]"):
        append_flow(encoder(13), network.weights())
    nameless = onnx.load_from_string(encoder())
    nameless.graph.output[0].name = "projected"
    with pytest.raises(ValueError, match=r"embeddings of \[\]"):
        append_flow(nameless.SerializeToString(), network.weights())
