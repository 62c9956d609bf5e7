from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hashing.training.export import ensemble_graph
from hashing.training.networks import NETWORKS_PER_CHUNK, ConvEncoder, Ensemble

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


def test_an_encoder_of_the_shipped_size_costs_what_it_says() -> None:
    made = ConvEncoder(64, 28, (32, 64, 128, 128), 128, 256).eval()
    products = 0

    def count(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal products
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        products += weight[0].numel() * output[0].numel()

    for module in made.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)  # type: ignore[arg-type]
    embedding, logits = made(torch.randn(1, 64, 28))
    assert (embedding.shape, logits.shape) == ((1, 128), (1, 256))
    # 4 × 4 places of 128 channels are joined and projected.
    assert made.project.in_features == 16 * 128
    assert products == pytest.approx(5.0e6, rel=0.02)


@pytest.mark.parametrize("channels", [(5,), (5, 7), (5, 7, 9), (5, 7, 9, 11)])
def test_a_lighter_encoder_has_fewer_layers(channels: tuple[int, ...]) -> None:
    made = ConvEncoder(64, 28, channels, 10, 12)
    kernels = [layer for layer in made.trunk if isinstance(layer, torch.nn.Conv2d)]
    assert [kernel.out_channels for kernel in kernels] == list(channels)
    assert made.depth == len(channels)
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
