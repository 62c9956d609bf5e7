"""The clip encoder as a network, and as graphs and arrays of a model folder."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import training_fixture  # noqa: F401  (torch on one thread)
from clip_sounds import SMALL, any_network, same_weights

from hashing.fronts import session_of
from hashing.training.events.export import (
    PREFIX,
    as_exported,
    clip_graph,
    network_arrays,
    network_from,
)
from hashing.training.events.networks import ClipEncoder

CELLS = SMALL.n_bands * SMALL.snippet_frames


def windows(n: int, bands: int = 16, frames: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, bands, frames, generator=torch.Generator().manual_seed(seed))


def run(graph: bytes, x: torch.Tensor, *outputs: str) -> list[np.ndarray]:
    flat = x.reshape(len(x), -1).numpy()
    return [np.asarray(one) for one in session_of(graph).run(list(outputs), {"snippets": flat})]


def unit(values: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(values, dim=1).detach().numpy()


# The network.


@pytest.mark.parametrize(("bands", "wide"), [(64, 1024), (16, 256), (33, 768)])
def test_any_number_of_frames_has_one_embedding(bands: int, wide: int) -> None:
    network = ClipEncoder(bands, dimensions=24).eval()
    assert network.wide == wide
    for frames in (9, 96, 152):
        found, narrow = network(windows(2, bands, frames))
        assert found.shape == (2, wide)
        assert narrow.shape == (2, 24)
        assert network.contrasted(narrow).norm(dim=1).tolist() == pytest.approx([1, 1])


def test_it_does_not_matter_when_something_happens() -> None:
    """Moved by the product of all strides, as long as it does not come near an end."""
    network, event = any_network(), windows(1, 16, 8)
    found = []
    for first in (64, 72, 104):
        x = torch.zeros(1, 16, 192)
        x[:, :, first : first + 8] = event
        found.append(network(x)[0])
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[0], found[2], atol=1e-4, rtol=1e-4)
    silent = network(torch.zeros(1, 16, 192))[0]
    assert (found[0] - silent).abs().max().item() > 0.1


def test_the_wide_embedding_is_means_and_maxima_in_one_scale() -> None:
    network = any_network()
    x = windows(5)
    kept = network.trunk(x[:, None])
    assert kept.shape == (5, 128, 1, 4)  # of 16 bands one is left, of 32 frames four
    pooled = torch.cat((kept.mean(dim=3).flatten(1), kept.max(dim=3).values.flatten(1)), dim=1)
    mean, variance = network.balance.running_mean, network.balance.running_var
    assert mean is not None
    assert variance is not None
    wide, narrow = network(x)
    torch.testing.assert_close(wide, (pooled - mean) / (variance + network.balance.eps).sqrt())
    torch.testing.assert_close(narrow, network.narrow(wide))
    # None hears the others of its batch.
    torch.testing.assert_close(network(x[2:3])[0], wide[2:3], atol=1e-5, rtol=1e-5)


# Its graphs.


@pytest.mark.parametrize("wide", [False, True])
def test_a_graph_is_the_network(wide: bool) -> None:
    network, x = any_network(), windows(7)
    found, norm = run(clip_graph(network, SMALL, wide), x, "embedding", "norm")
    expected = network(x)[0 if wide else 1]
    assert found.shape == (7, network.wide if wide else 8)
    np.testing.assert_allclose(found, unit(expected), atol=1e-3)
    np.testing.assert_allclose(norm[:, 0], expected.detach().norm(dim=1).numpy(), rtol=2e-3)
    # No two windows are the same to it.
    assert np.sort(found @ found.T, axis=1)[:, -2].max() < 0.9999


@pytest.mark.parametrize("sizes", [(8, 6), (8, 12, 6), (8, 5, 7, 4)])
def test_a_head_answers_beside_the_embedding(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    layers = [
        (
            rng.standard_normal((before, after)).astype(np.float32),
            rng.standard_normal(after).astype(np.float32),
        )
        for before, after in itertools.pairwise(sizes)
    ]
    network, x = any_network(), windows(5)
    graph = clip_graph(network, SMALL, False, layers)
    responses, embedding = run(graph, x, "responses", "embedding")
    (alone,) = run(clip_graph(network, SMALL, False), x, "embedding")
    np.testing.assert_array_equal(embedding, alone)
    value = embedding
    for number, (weight, bias) in enumerate(layers):
        value = value @ weight + bias
        if number < len(layers) - 1:
            value = np.maximum(value, 0)
    value /= np.linalg.norm(value, axis=1, keepdims=True)
    np.testing.assert_allclose(responses, value, atol=3e-3)
    np.testing.assert_allclose(np.linalg.norm(responses, axis=1), 1, atol=1e-5)


def test_weights_of_a_graph_are_in_half_precision() -> None:
    network = any_network()
    used = [*network.trunk.parameters(), *network.narrow.parameters()]
    numbers = sum(one.numel() for one in used)
    assert len(clip_graph(network, SMALL, False)) < 2 * numbers + 4 * 2 * network.wide + 8000


# Its arrays.


def test_arrays_are_the_network_in_half_precision() -> None:
    network, x = any_network(), windows(4)
    arrays = network_arrays(network)
    assert all(name.startswith(PREFIX) for name in arrays)
    assert {one.dtype for one in arrays.values()} == {np.dtype(np.float16)}
    again = network_from(arrays, bands=16, dimensions=8)
    assert not again.training
    np.testing.assert_allclose(unit(again(x)[1]), unit(network(x)[1]), atol=1e-3)
    assert not same_weights(network, again)
    # Rounded once they stay as they are.
    for kept in (as_exported(network), as_exported(again)):
        assert same_weights(again, kept)


def test_arrays_that_do_not_fit() -> None:
    arrays = network_arrays(any_network())
    name = f"{PREFIX}narrow.weight"
    with pytest.raises(ValueError, match=r"network\.narrow\.weight of shape \(9, 256\)"):
        network_from(arrays, bands=16, dimensions=9)
    with pytest.raises(ValueError, match=name):
        network_from({**arrays, name: arrays[name].T}, bands=16, dimensions=8)
    del arrays[f"{PREFIX}trunk.0.weight"]
    with pytest.raises(ValueError, match=r"lacks the array network\.trunk\.0\.weight"):
        network_from(arrays, bands=16, dimensions=8)
