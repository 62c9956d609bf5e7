from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hashing.training.export import ensemble_graph
from hashing.training.networks import NETWORKS_PER_CHUNK, Ensemble

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
