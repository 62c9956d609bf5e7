from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.track_fronts import Reach
from hashing.training.export import Convolution, append_linear, encoder_graph, track_graph
from hashing.training.networks import ConvEncoder, TrackEncoder

Heads = tuple[np.ndarray, np.ndarray]
Network = TypeVar("Network", ConvEncoder, TrackEncoder)


def run(graph: bytes, snippets: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs of a graph, in its order."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [end.name for end in session.get_outputs()]
    (source,) = (end.name for end in session.get_inputs())
    flat = snippets.reshape(len(snippets), math.prod(snippets.shape[1:]))
    found = session.run(names, {source: flat})
    return dict(zip(names, found, strict=True))


def trained(
    channels: Sequence[int] = (4, 6, 8, 5),
    bands: int = 16,
    frames: int = 14,
    dimensions: int = 10,
    bits: int = 12,
) -> ConvEncoder:
    """An encoder that has seen batches."""
    torch.manual_seed(1)
    return seen(ConvEncoder(bands, frames, channels, dimensions, bits), bands, frames)


def seen(network: Network, bands: int, frames: int) -> Network:
    """The network after batches, so that what normalises them is not one and zero."""
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.startswith("trunk") and value.ndim == 1:
                value.uniform_(0.5, 1.5) if name.endswith("weight") else value.normal_(0.0, 0.2)
        for _ in range(20):
            network(torch.randn(64, bands, frames) * 1.5 + 0.3)
    return network.eval()


def graph_of(network: ConvEncoder, bands: int, frames: int, head: bool = True) -> bytes:
    layers, project, last = network.folded()
    return encoder_graph(bands, frames, layers, project, last if head else None)


def test_a_graph_by_hand() -> None:
    # Two bands, two frames; one kernel of one cell doubles, and takes one off. What is left of
    # 1 2 / 0 2.5 is 1 3 / 0 4, of which the projection takes the third and fourth hundredth.
    layer = Convolution(
        np.full((1, 1, 1, 1), 2.0, np.float32), np.array([-1.0], np.float32), (1, 1), (0, 0)
    )
    project = np.zeros((4, 2), np.float32)
    project[1, 0] = project[3, 1] = 1.0
    head = np.array([[5.0, 0.0, 1.0], [0.0, 5.0, 1.0]], np.float32)
    graph = encoder_graph(
        2,
        2,
        [layer],
        (project, np.zeros(2, np.float32)),
        (head, np.array([0.0, -1.0, 0.5], np.float32)),
    )
    found = run(graph, np.array([[1.0, 2.0, 0.0, 2.5]], np.float32))
    assert list(found) == ["responses", "embedding", "norm"]
    np.testing.assert_allclose(found["embedding"], [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(found["norm"], [[5.0]], rtol=1e-6)
    np.testing.assert_allclose(found["responses"], [[3.0, 3.0, 1.9]], rtol=1e-6)


def test_nothing_has_no_direction() -> None:
    nothing = np.zeros((4, 2), np.float32), np.zeros(2, np.float32)
    found = run(encoder_graph(2, 2, [], nothing), np.ones((1, 4), np.float32))
    np.testing.assert_array_equal(found["embedding"], [[0.0, 0.0]])
    assert 0.0 <= found["norm"][0, 0] < 1e-6


@settings(max_examples=40)
@given(
    out=st.integers(1, 4),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    seed=st.integers(0, 99),
)
def test_layers_are_torchs_own(
    out: int,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, int],
    seed: int,
) -> None:
    # Weights that half precision holds, so that nothing is rounded.
    rng = np.random.default_rng(seed)
    weight = (rng.integers(-8, 9, (out, 1, *kernel)) / 8).astype(np.float32)
    bias = (rng.integers(-8, 9, out) / 8).astype(np.float32)
    snippets = rng.standard_normal((3, 6, 7)).astype(np.float32)
    layer = torch.nn.functional.conv2d(
        torch.from_numpy(snippets)[:, None],
        torch.from_numpy(weight),
        torch.from_numpy(bias),
        strides,
        padding,
    )
    expected = torch.relu(layer).flatten(1).numpy()
    size = expected.shape[1]
    identity = np.eye(size, dtype=np.float32), np.zeros(size, np.float32)
    found = run(
        encoder_graph(6, 7, [Convolution(weight, bias, strides, padding)], identity), snippets
    )
    np.testing.assert_allclose(found["embedding"] * found["norm"], expected, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_graph_is_the_network_of_torch(depth: int) -> None:
    network = trained((4, 6, 8, 5)[:depth])
    snippets = np.random.default_rng(depth).standard_normal((50, 16, 14)).astype(np.float32)
    with torch.no_grad():
        embedding, logits = network(torch.from_numpy(snippets))
        projected = network.project(network.trunk(torch.from_numpy(snippets)[:, None]).flatten(1))
    found = run(graph_of(network, 16, 14), snippets)
    # Weights were rounded to half precision: eleven bits.
    np.testing.assert_allclose(found["embedding"], embedding.numpy(), atol=1e-3)
    norms = projected.norm(dim=1, keepdim=True).numpy()
    np.testing.assert_allclose(found["norm"], norms, rtol=2e-3)
    np.testing.assert_allclose(found["responses"], logits.numpy(), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found["embedding"], axis=1), 1.0, atol=1e-5)


def test_the_shipped_size_agrees_as_well() -> None:
    network = trained((32, 64, 128, 128), 64, 28, 128, 256)
    snippets = np.random.default_rng(5).standard_normal((8, 64, 28)).astype(np.float32)
    with torch.no_grad():
        embedding, logits = network(torch.from_numpy(snippets))
    found = run(graph_of(network, 64, 28), snippets)
    np.testing.assert_allclose(found["embedding"], embedding.numpy(), atol=1e-3)
    bits = found["responses"] > 0
    clear = np.abs(logits.numpy()) > 0.02 * logits.std().item()
    assert clear.mean() > 0.97
    np.testing.assert_array_equal(bits[clear], (logits.numpy() > 0)[clear])


def test_without_a_head_there_are_no_responses() -> None:
    network = trained()
    snippets = np.random.default_rng(6).standard_normal((4, 16, 14)).astype(np.float32)
    found = run(graph_of(network, 16, 14, head=False), snippets)
    assert list(found) == ["embedding", "norm"]
    whole = run(graph_of(network, 16, 14), snippets)
    np.testing.assert_array_equal(found["embedding"], whole["embedding"])


@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_graph_takes_any_number_of_snippets(n: int) -> None:
    network = trained()
    snippets = np.random.default_rng(7).standard_normal((9, 16, 14)).astype(np.float32)
    graph = graph_of(network, 16, 14)
    few, all_of_them = run(graph, snippets[:n]), run(graph, snippets)
    for name, size in (("responses", 12), ("embedding", 10), ("norm", 1)):
        assert few[name].shape == (n, size)
        np.testing.assert_allclose(few[name], all_of_them[name][:n], atol=1e-5)


def check_file(graph: bytes) -> onnx.ModelProto:
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 15)]
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert types.pop("tiny") == onnx.TensorProto.FLOAT
    half = {name for name in types if name.endswith("_half")}
    assert {types.pop(name) for name in half} == {onnx.TensorProto.FLOAT16}
    # Sizes are whole numbers; there is nothing else.
    assert set(types.values()) == {onnx.TensorProto.INT64}
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    return model


def test_graphs_hold_half_precision_and_standard_operators() -> None:
    network = trained()
    plain = graph_of(network, 16, 14)
    assert plain == graph_of(network, 16, 14)
    check_file(plain)
    weights = sum(value.numel() for value in network.parameters())
    assert len(plain) < 2 * weights + 6000
    check_file(append_linear(plain, np.ones((10, 3), np.float32), np.zeros(3, np.float32)))


# A linear hash on an encoder.


def linear(d: int, r: int, seed: int = 8) -> Heads:
    """Weights and bias that half precision holds."""
    rng = np.random.default_rng(seed)
    return (
        (rng.integers(-16, 17, (d, r)) / 16).astype(np.float32),
        (rng.integers(-16, 17, r) / 16).astype(np.float32),
    )


@pytest.mark.parametrize("head", [False, True])
def test_a_linear_hash_takes_the_place_of_the_head(head: bool) -> None:
    network = trained()
    encoder = graph_of(network, 16, 14, head=head)
    weights, bias = linear(10, 7)
    snippets = np.random.default_rng(9).standard_normal((20, 16, 14)).astype(np.float32)
    before, found = run(encoder, snippets), run(append_linear(encoder, weights, bias), snippets)
    assert list(found) == ["responses", "embedding", "norm"]
    np.testing.assert_array_equal(found["embedding"], before["embedding"])
    np.testing.assert_array_equal(found["norm"], before["norm"])
    expected = before["embedding"] @ weights + bias
    np.testing.assert_allclose(found["responses"], expected, atol=1e-5)


def test_the_head_that_was_taken_off_leaves_nothing_behind() -> None:
    weights, bias = linear(10, 7)
    one, other = (
        onnx.load_from_string(append_linear(graph_of(trained(), 16, 14, head=head), weights, bias))
        for head in (True, False)
    )
    assert [node.op_type for node in one.graph.node] == [node.op_type for node in other.graph.node]
    names = [{tensor.name for tensor in model.graph.initializer} for model in (one, other)]
    assert names[0] == names[1]


def test_a_hash_of_a_hash() -> None:
    # The second of two takes the first's place.
    encoder = graph_of(trained(), 16, 14, head=False)
    first = append_linear(encoder, *linear(10, 7))
    second = append_linear(first, *linear(10, 4, seed=3))
    assert second == append_linear(encoder, *linear(10, 4, seed=3))


def test_a_layer_of_one_channel_is_a_sum() -> None:
    # All weights one: the embedding of one number is its sign, its length is the sum.
    ones = np.ones((1, 1, 3, 3), np.float32)
    layer = Convolution(ones, np.zeros(1, np.float32), (1, 1), (0, 0))
    project = np.ones((1, 1), np.float32), np.zeros(1, np.float32)
    found = run(encoder_graph(3, 3, [layer], project), np.full((1, 9), 0.5, np.float32))
    assert found["norm"][0, 0] == pytest.approx(4.5)
    assert math.isclose(found["embedding"][0, 0], 1.0)


# Whole tracks.


def track_network(
    channels: Sequence[int] = (4, 6, 8), bands: int = 16, frames: int = 14, dimensions: int = 10
) -> TrackEncoder:
    torch.manual_seed(2)
    network = TrackEncoder(bands, frames, channels, dimensions)
    return seen(network, bands, window_of(network.reach, frames))


def window_of(reach: Reach, frames: int) -> int:
    return reach.before + frames + reach.after


def test_a_track_graph_by_hand() -> None:
    # Snippets are two frames of two bands, at every frame, and one more is heard before and after.
    # The kernel takes the first band's first frame and the second band's second frame.
    kernel = np.zeros((2, 1, 2, 2), np.float32)
    kernel[0, 0, 0, 0] = kernel[1, 0, 1, 1] = 1.0
    graph = track_graph(2, [], (kernel, np.array([0.0, 1.0], np.float32)), Reach(1, 1, 1))
    low, high = [9.0, 3.0, 5.0, 0.0, 9.0], [9.0, 9.0, 3.0, 11.0, 9.0]
    found = run(graph, np.array([low, high], np.float32).T)
    assert list(found) == ["embedding", "norm"]
    np.testing.assert_allclose(found["embedding"], [[0.6, 0.8], [5 / 13, 12 / 13]], rtol=1e-6)
    np.testing.assert_allclose(found["norm"], [[5.0], [13.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("channels", "bands", "frames", "dimensions", "answers"),
    [
        ((4,), 16, 14, 10, 60),
        ((4, 6), 16, 15, 10, 60),
        ((4, 6, 8), 16, 14, 10, 60),
        ((4, 6, 8), 16, 14, 10, 2),
        ((32, 64, 128), 64, 28, 128, 20),
    ],
)
def test_every_row_of_a_track_graph_is_the_network_of_torch_on_its_window(
    channels: tuple[int, ...], bands: int, frames: int, dimensions: int, answers: int
) -> None:
    network = track_network(channels, bands, frames, dimensions)
    reach = network.reach
    width = window_of(reach, frames)
    rng = np.random.default_rng(11)
    track = rng.standard_normal((width + (answers - 1) * reach.stride, bands)).astype(np.float32)
    windows = np.stack([track[i * reach.stride :][:width].T for i in range(answers)])
    lengths: list[torch.Tensor] = []
    network.project.register_forward_hook(lambda *call: lengths.append(call[2].norm(dim=1)))
    with torch.no_grad():
        expected = network(torch.from_numpy(windows)).numpy()
    found = run(track_graph(bands, *network.folded(), reach), track)
    # Weights were rounded to half precision: eleven bits.
    np.testing.assert_allclose(found["embedding"], expected, atol=1e-3)
    np.testing.assert_allclose(found["norm"][:, 0], lengths[0].numpy(), rtol=2e-3)
    # Neighbours are further from one another than that, so that none stands for another.
    apart = np.linalg.norm(expected[1:] - expected[:-1], axis=1)
    assert apart.min() > 0.03


def test_a_track_graph_tells_its_reach() -> None:
    network = track_network()
    graph = track_graph(16, *network.folded(), network.reach)
    assert graph == track_graph(16, *network.folded(), network.reach)
    linear_graph = append_linear(graph, *linear(10, 7))
    for one in (graph, linear_graph):
        model = check_file(one)
        told = {entry.key: entry.value for entry in model.metadata_props}
        assert told == {"stride": "8", "before": "8", "after": "10"}
        # As many rows as answers, which are fewer than frames, in all outputs.
        rows = {end.type.tensor_type.shape.dim[0].dim_param for end in model.graph.output}
        (frames,) = (end.type.tensor_type.shape.dim[0].dim_param for end in model.graph.input)
        assert len(rows) == 1
        assert frames not in rows
    snippets = onnx.load_from_string(graph_of(trained(), 16, 14))
    assert not snippets.metadata_props


def test_a_linear_hash_on_a_track_graph() -> None:
    network = track_network()
    graph = track_graph(16, *network.folded(), network.reach)
    weights, bias = linear(10, 7)
    track = np.random.default_rng(12).standard_normal((32 + 4 * 8, 16)).astype(np.float32)
    before, found = run(graph, track), run(append_linear(graph, weights, bias), track)
    assert list(found) == ["responses", "embedding", "norm"]
    np.testing.assert_array_equal(found["embedding"], before["embedding"])
    assert found["responses"].shape == (5, 7)
    np.testing.assert_allclose(found["responses"], before["embedding"] @ weights + bias, atol=1e-5)
