from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hashing.training.export import ensemble_graph
from hashing.training.networks import NETWORKS_PER_CHUNK, ConvEncoder, Ensemble, TrackEncoder

SIZES = list(range(3, 3 + 2 * NETWORKS_PER_CHUNK + 3))


@pytest.fixture
def network() -> Ensemble:
    torch.manual_seed(1)
    ensemble = Ensemble(12, SIZES, 4)
    with torch.no_grad():
        ensemble.first_bias.normal_()
        ensemble.second_bias.normal_()
    return ensemble


def test_an_ensemble_is_many_perceptrons(network: Ensemble) -> None:
    x = torch.randn(len(SIZES), 5, 12)
    together = network(x).detach().numpy()
    assert together.shape == (len(SIZES), 5, 4)
    for i, size in enumerate(SIZES):
        weight = network.first[i, :, :size].detach().numpy()
        bias = network.first_bias[i, 0, :size].detach().numpy()
        hidden = np.tanh(x[i].numpy() @ weight + bias)
        alone = hidden @ network.second[i, :size].detach().numpy()
        np.testing.assert_allclose(
            together[i], alone + network.second_bias[i, 0].detach().numpy(), atol=1e-5
        )


def test_padding_is_never_trained(network: Ensemble) -> None:
    before = network.first.detach().clone()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    network(torch.randn(len(SIZES), 5, 12)).square().sum().backward()
    optimiser.step()
    changed = (network.first != before).any(dim=1)
    for i, size in enumerate(SIZES):
        assert changed[i, :size].all()
        assert not changed[i, size:].any()


def test_networks_do_not_see_each_other(network: Ensemble) -> None:
    x = torch.randn(len(SIZES), 5, 12, requires_grad=True)
    network(x)[3].sum().backward()
    assert x.grad is not None
    touched = x.grad.abs().sum(dim=(1, 2)) > 0
    assert touched.nonzero().flatten().tolist() == [3]


def test_the_fused_product_is_the_ensemble(network: Ensemble) -> None:
    (weight, bias), chunks, last = network.fused()
    assert weight.shape == (12, sum(SIZES))
    assert len(chunks) == 3
    x = torch.randn(9, 12)
    hidden = np.tanh(x.numpy() @ weight + bias)
    parts = np.split(hidden, np.cumsum([len(chunk) for chunk in chunks])[:-1], axis=1)
    joined = np.concatenate([part @ chunk for part, chunk in zip(parts, chunks, strict=True)], 1)
    expected = network(x.expand(len(SIZES), 9, 12)).permute(1, 0, 2).reshape(9, -1)
    np.testing.assert_allclose(joined + last, expected.detach().numpy(), atol=1e-5)


def test_responses_of_new_networks_have_about_one_scale() -> None:
    torch.manual_seed(2)
    ensemble = Ensemble(160, [5, 20, 61], 8)
    spread = ensemble(torch.randn(3, 500, 160)).std(dim=(1, 2)).detach().numpy()
    assert np.all((spread > 0.3) & (spread < 1.2))


def test_the_graph_holds_half_precision_and_standard_operators(network: Ensemble) -> None:
    front = np.random.default_rng(3).standard_normal((30, 12)).astype(np.float32)
    graph = onnx.load_from_string(ensemble_graph(front, *network.fused()))
    onnx.checker.check_model(graph, full_check=True)
    assert {node.domain for node in graph.graph.node} == {""}
    assert [opset.domain for opset in graph.opset_import] == [""]
    assert graph.opset_import[0].version == 15
    types = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    assert types.pop("sizes") == onnx.TensorProto.INT64
    assert set(types.values()) == {onnx.TensorProto.FLOAT16}
    assert all(not tensor.external_data for tensor in graph.graph.initializer)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_the_graph_takes_any_number_of_snippets(network: Ensemble, n: int) -> None:
    rng = np.random.default_rng(4)
    front = (rng.standard_normal((30, 12)) / 5).astype(np.float16).astype(np.float32)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())
    session = onnxruntime.InferenceSession(ensemble_graph(front, *network.fused()))
    snippets = rng.standard_normal((n, 30)).astype(np.float32)
    (found,) = session.run(None, {"snippets": snippets})
    x = torch.from_numpy(snippets @ front)
    expected = network(x.expand(len(SIZES), n, 12)).permute(1, 0, 2).reshape(n, len(SIZES) * 4)
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-4)


def test_the_same_weights_give_the_same_bytes(network: Ensemble) -> None:
    front = np.ones((30, 12), np.float32)
    first, again = (ensemble_graph(front, *network.fused()) for _ in range(2))
    assert first == again


# The encoder.


@pytest.fixture
def encoder() -> ConvEncoder:
    """A small encoder that has seen batches."""
    torch.manual_seed(5)
    made = ConvEncoder(16, 14, (4, 6, 8), 10, 12)
    with torch.no_grad():
        for _ in range(10):
            made(torch.randn(64, 16, 14) * 1.5 + 0.3)
    return made


def count_products(network: torch.nn.Module) -> list[int]:
    """What a network's layers will multiply for one input, once each of them has run."""
    counts: list[int] = []

    def count(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        counts.append(weight[0].numel() * output[0].numel())

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)  # type: ignore[arg-type]
    return counts


def test_an_encoder_of_the_shipped_size_costs_what_it_says() -> None:
    made = ConvEncoder(64, 28, (32, 64, 128, 128), 128, 256).eval()
    products = count_products(made)
    embedding, logits = made(torch.randn(1, 64, 28))
    assert (embedding.shape, logits.shape) == ((1, 128), (1, 256))
    # 4 × 4 places of 128 channels are joined and projected.
    assert made.project.in_features == 16 * 128
    assert sum(products) == pytest.approx(5.0e6, rel=0.02)


@pytest.mark.parametrize("channels", [(5,), (5, 7), (5, 7, 9), (5, 7, 9, 11)])
def test_a_lighter_encoder_has_fewer_layers(channels: tuple[int, ...]) -> None:
    made = ConvEncoder(64, 28, channels, 10, 12)
    kernels = [layer for layer in made.trunk if isinstance(layer, torch.nn.Conv2d)]
    assert [kernel.out_channels for kernel in kernels] == list(channels)
    # Bands by 4, then each of two layers halves both; the fourth layer keeps its size.
    places = {1: 16 * 14, 2: 8 * 7, 3: 4 * 4, 4: 4 * 4}[len(channels)]
    assert made.project.in_features == places * channels[-1]
    # To measure the size, no batch was counted.
    assert made.training
    assert all(
        int(layer.num_batches_tracked) == 0
        for layer in made.modules()
        if isinstance(layer, torch.nn.BatchNorm2d) and layer.num_batches_tracked is not None
    )


def test_embeddings_have_length_one_and_bits_are_balanced(encoder: ConvEncoder) -> None:
    embedding, logits = encoder.train()(torch.randn(200, 16, 14))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(200))
    torch.testing.assert_close(logits.mean(dim=0), torch.zeros(12), atol=1e-4, rtol=0)
    torch.testing.assert_close(logits.var(dim=0, correction=0), torch.ones(12), atol=0.05, rtol=0)


def test_half_precision_stops_before_the_embedding(encoder: ConvEncoder) -> None:
    x = torch.randn(20, 16, 14)
    whole, _ = encoder.eval()(x)
    with torch.autocast("cpu", torch.bfloat16):
        embedding, logits = encoder(x)
    assert embedding.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(20))
    torch.testing.assert_close(embedding, whole, atol=0.05, rtol=0)


def test_a_snippet_does_not_see_the_others_of_its_batch(encoder: ConvEncoder) -> None:
    x = torch.randn(9, 16, 14)
    together, _ = encoder.eval()(x)
    alone, _ = encoder(x[4:5])
    torch.testing.assert_close(together[4:5], alone)


def test_folded_layers_are_the_trained_ones(encoder: ConvEncoder) -> None:
    layers, project, head = encoder.eval().folded()
    x = torch.randn(30, 16, 14)
    value = x[:, None]
    for layer in layers:
        value = torch.relu(
            torch.nn.functional.conv2d(
                value,
                torch.from_numpy(layer.weight),
                torch.from_numpy(layer.bias),
                layer.strides,
                layer.padding,
            )
        )
    projected = value.flatten(1).numpy() @ project[0] + project[1]
    embedding = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    expected, logits = encoder(x)
    np.testing.assert_allclose(embedding, expected.detach().numpy(), atol=1e-5)
    responses = embedding @ head[0] + head[1]
    np.testing.assert_allclose(responses, logits.detach().numpy(), atol=2e-4)


# The encoder of whole tracks.


def seen(network: TrackEncoder, frames: int) -> TrackEncoder:
    """The network after batches, so that what normalises them is not one and zero."""
    torch.manual_seed(6)
    with torch.no_grad():
        for _ in range(10):
            network(torch.randn(64, 16, frames) * 1.5 + 0.3)
    return network.eval()


def answers_in(network: TrackEncoder, track: torch.Tensor) -> torch.Tensor:
    """Embeddings of all snippets of a spectrogram [bands, frames], its layers computed once."""
    columns = network.trunk(track[None, None])[0].unfold(2, network.columns, 1)
    projected = network.project(columns.permute(2, 0, 1, 3).flatten(1))
    # The first and the last are of what is around the snippets.
    return torch.nn.functional.normalize(projected[1:-1], dim=1)


@pytest.mark.parametrize(
    ("frames", "channels", "expected"),
    [
        # Strides of two; as many columns as cover the snippet, and one more on either side.
        (28, (4,), (2, 2, 2)),
        (28, (4, 6), (4, 4, 4)),
        (28, (4, 6, 8), (8, 8, 12)),
        (14, (4, 6, 8), (8, 8, 10)),
        (128, (4, 6, 8), (8, 8, 8)),
        (15, (4, 6), (4, 4, 5)),
    ],
)
def test_reach_by_hand(
    frames: int, channels: tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    reach = TrackEncoder(16, frames, channels, 10).reach
    assert (reach.stride, reach.before, reach.after) == expected


def test_neighbours_share_what_they_cost() -> None:
    for channels, expected in (((32, 64, 128), 0.9e6), ((24, 48, 96), 0.55e6)):
        made = TrackEncoder(64, 28, channels, 128).eval()
        products = count_products(made)
        made.trunk(torch.randn(1, 1, 64, 8 * 100))
        made.project(torch.randn(1, made.project.in_features))
        assert sum(products[:3]) / 100 + products[3] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("frames", [14, 15])
@pytest.mark.parametrize("channels", [(4,), (4, 6), (4, 6, 8)])
def test_an_answer_is_of_its_own_window(channels: Sequence[int], frames: int) -> None:
    network = TrackEncoder(16, frames, channels, 10)
    stride = network.reach.stride
    window = network.reach.before + frames + network.reach.after
    seen(network, window)
    track = torch.randn(16, window + 6 * stride)
    together = answers_in(network, track)
    assert together.shape == (7, 10)
    with torch.no_grad():
        for i, answer in enumerate(together):
            own = network(track[None, :, i * stride : i * stride + window])
            torch.testing.assert_close(answer[None], own, atol=1e-5, rtol=0)
    # Of the fourth, all frames of the snippet matter, and some around it; none outside.
    heard = track.clone().requires_grad_()
    (answers_in(network, heard)[3] @ torch.randn(10)).backward()  # type: ignore[no-untyped-call]
    assert heard.grad is not None
    touched = heard.grad.abs().amax(dim=0).nonzero().flatten() - 3 * stride
    # A column of a layer more reaches from one stride, less one frame, before its own to its end.
    first, last = 1, stride * (network.columns + 1)
    assert touched.tolist() == list(range(first, last + 1))
    assert first <= network.reach.before
    assert last >= network.reach.before + frames - 1
    assert last < window


def test_embeddings_of_a_track_have_length_one_and_are_left_by_half_precision() -> None:
    network = seen(TrackEncoder(16, 14, (4, 6, 8), 10), 32)
    x = torch.randn(20, 16, 32)
    whole = network(x)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(20))
    torch.testing.assert_close(network(x[4:5]), whole[4:5])
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("channels", "layers"),
    [((4, 6, 8), 3), ((4, 6), 2), ((4, 6, 9), 2), ((4, 7, 8), 1), ((5, 6, 8), 0)],
)
def test_a_track_encoder_begins_as_the_layers_that_are_as_wide(
    encoder: ConvEncoder, channels: tuple[int, ...], layers: int
) -> None:
    network = TrackEncoder(16, 14, channels, 10)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.begin_as(encoder)
    after, full = network.state_dict(), encoder.state_dict()
    assert after.keys() == before.keys()
    for name, value in after.items():
        taken = name.startswith("trunk") and int(name.split(".")[1]) < 3 * layers
        # Nothing behind the first that is not as wide, what normalises a layer of equal width
        # included.
        torch.testing.assert_close(value, (full if taken else before)[name], atol=0, rtol=0)
    # They are copies: what the one learns, the other does not.
    with torch.no_grad():
        network.trunk[1].weight.add_(1.0)
    assert not torch.equal(network.trunk[1].weight, encoder.trunk[1].weight)


def test_a_track_encoder_of_four_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="one to three layers"):
        TrackEncoder(16, 14, (2, 3, 4, 5), 6)
