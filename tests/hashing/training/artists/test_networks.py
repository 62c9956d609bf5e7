from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from artist_fixture import SEGMENT, artist_music
from onnx import numpy_helper

from hashing.training.artists.export import artist_graph
from hashing.training.artists.networks import (
    POOL_STRIDES,
    AnyNetwork,
    ArtistClassifier,
    ArtistNetwork,
    compress,
    pool_padding,
)
from hashing.training.artists.segments import SetRules, training_set


def test_the_sizes_are_those_of_the_papers_table() -> None:
    x = torch.zeros(1, 1, 388, 128)
    sizes = []
    network = ArtistNetwork(128, 388, 32)
    for layer, stride in zip(network.convolutions, POOL_STRIDES, strict=True):
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
        x = torch.nn.functional.max_pool2d(x, 3, stride, pool_padding(stride))
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [
        (16, 388, 128),
        (16, 194, 64),
        (32, 194, 64),
        (32, 64, 21),
        (64, 64, 21),
        (64, 21, 7),
    ]
    assert network.project.in_features == 448
    assert ArtistNetwork(128, 388, 256, averaging="channels").project.in_features == 147


@pytest.mark.parametrize("frames", [129, 388])
@pytest.mark.parametrize("averaging", ["time", "channels"])
def test_embeddings_have_length_one(frames: int, averaging: str) -> None:
    network = ArtistNetwork(128, frames, 32, averaging=averaging).eval()  # type: ignore[arg-type]
    classifier = ArtistClassifier(128, frames, 5).eval()
    levels = torch.randn(2, 128, frames) * 15 - 40
    with torch.no_grad():
        for found, dimensions in ((network(levels), 32), (classifier(levels), 256)):
            assert found.shape == (2, dimensions)
            assert found.norm(dim=1).tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
        assert classifier.logits(levels).shape == (2, 5)


def test_the_average_over_time_forgets_the_order_of_far_parts() -> None:
    # Eighteen frames are one column behind the pools; silence keeps what is near an edge apart.
    torch.manual_seed(0)
    network = ArtistNetwork(24, 20 * 18, 8).eval()
    part = torch.full((1, 24, 20 * 18), -100.0)
    part[:, 5:15, 72:108] = -20.0
    moved = part.roll(144, dims=2)
    with torch.no_grad():
        assert torch.allclose(network(part), network(moved), atol=1e-5)
        other = part.roll(6, dims=1)
        assert not torch.allclose(network(part), network(other), atol=1e-2)


def test_the_first_layer_is_a_logarithm() -> None:
    levels = torch.tensor([-120.0, -60.0, -20.0, 0.0], dtype=torch.float64)
    power = 65_536.0 * 10.0 ** (levels.numpy() / 10.0)
    assert compress(levels).numpy() == pytest.approx(np.log1p(1e4 * power), rel=1e-6)
    assert compress(torch.tensor([0.0])).item() < 21.0


def test_what_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="too few for three pools"):
        ArtistNetwork(10, 388, 32)
    with pytest.raises(ValueError, match="128 at least"):
        ArtistClassifier(128, 100, 5)


# Graphs.


def seen(network: AnyNetwork) -> AnyNetwork:
    """The network with weights that are not those of its beginning."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "norms" in name and value.ndim:
                value.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                value.uniform_(-0.2, 0.2)
    return network.eval()


def networks() -> list[AnyNetwork]:
    torch.manual_seed(2)
    size = 128, 388
    return [
        seen(ArtistNetwork(*size, 32, dropout=0.5)),
        seen(ArtistNetwork(*size, 256, averaging="channels")),
        seen(ArtistNetwork(128, 129, 32)),
        seen(ArtistClassifier(*size, 9)),
        seen(ArtistClassifier(128, 129, 9)),
    ]


@pytest.mark.parametrize("which", range(5))
def test_graphs_answer_as_the_networks_do(which: int) -> None:
    network = networks()[which]
    graph = artist_graph(network)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (source,), (end,) = session.get_inputs(), session.get_outputs()
    assert (source.name, end.name) == ("segments", "embedding")
    rng = np.random.default_rng(0)
    levels = rng.normal(-50, 15, (3, network.bands, network.frames)).astype(np.float32)
    levels[2, ::2] = -120.0
    (found,) = session.run(None, {"segments": levels.reshape(3, -1)})
    with torch.no_grad():
        expected = network(torch.from_numpy(levels)).numpy()
    assert np.abs(found - expected).max() < 1e-3
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-5)
    # The three are not alike, so that an answer to the wrong one would show.
    assert np.abs(expected[0] - expected[2]).max() > 1e-2


def test_weights_are_stored_in_half_precision() -> None:
    network = networks()[0]
    graph = artist_graph(network)
    tensors = [numpy_helper.to_array(t) for t in onnx.load_from_string(graph).graph.initializer]
    half = sum(t.size for t in tensors if t.dtype == np.float16)
    assert half == sum(value.numel() for value in network.parameters())
    assert len(graph) < 2 * half + 5000


def test_a_graph_of_a_trained_classifier_holds_its_normalisation() -> None:
    # Running means that training has moved: a graph without them would answer otherwise.
    music = artist_music(4)
    chosen = training_set(music, range(4), SetRules(), 1)
    torch.manual_seed(0)
    network = ArtistClassifier(SEGMENT.n_bands, SEGMENT.snippet_frames, 4)
    levels = torch.from_numpy(music.cut(chosen.places))
    for _ in range(5):
        network.logits(levels)
    network.eval()
    session = onnxruntime.InferenceSession(
        artist_graph(network), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"segments": levels.numpy().reshape(len(levels), -1)})
    with torch.no_grad():
        assert np.abs(found - network(levels).numpy()).max() < 1e-3
