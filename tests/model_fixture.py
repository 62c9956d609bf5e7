"""Small hashers for tests, which nobody has to train or to wait for."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hashing.codebooks import fit_pq
from hashing.confidence import Confidence
from hashing.features import FeatureConfig, spectrogram
from hashing.models import Model, save_model
from hashing.snippets import snippets, standardise, standardise_frames
from hashing.synthesis import render_track
from hashing.training.export import append_linear, encoder_graph, ensemble_graph, track_graph

if TYPE_CHECKING:
    from hashing.training.networks import TrackEncoder

# Music that encoders are fitted to; no test renders these seeds.
FITTED = range(9000, 9024)
FITTED_SECONDS = 8.0

# Embeddings of the music, and the rotation and the codebooks that were fitted to them.
Fitted = tuple[np.ndarray, np.ndarray, np.ndarray]

# Two deviations of the inner product of random directions in 64 dimensions.
CHANCE = 0.25


def random_model(
    folder: Path,
    seed: int = 1,
    bits: int = 464,
    n_tables: int = 20,
    features: FeatureConfig | None = None,
) -> Model:
    """A model folder of `bits` random projections of the snippet: a plain sign-LSH."""
    rng = np.random.default_rng(seed)
    features = features or FeatureConfig()
    inputs, hidden, chunks = features.n_bands * features.snippet_frames, 116, 4

    def normal(*shape: int) -> np.ndarray:
        return np.asarray(rng.standard_normal(shape) / np.sqrt(shape[0]), dtype=np.float32)

    second = [normal(hidden // chunks, bits // chunks) for _ in range(chunks)]
    graph = ensemble_graph(
        normal(inputs, 64),
        (normal(64, hidden), np.zeros(hidden, np.float32)),
        second,
        np.zeros(bits, np.float32),
    )
    tables = np.stack([rng.permutation(bits)[:24] for _ in range(n_tables)]).astype(np.int16)
    config = {
        "kind": "forgiving",
        "bits": bits,
        "features": dataclasses.asdict(features),
        "calibration": {},
    }
    arrays = {
        "thresholds": np.zeros(bits, np.float32),
        "spreads": np.ones(bits, np.float32),
        "tables": tables,
    }
    return save_model(folder, config, {"model": graph}, arrays, "# Random weights, for tests")


def learned_model(
    folder: Path,
    seed: int = 1,
    dimensions: int = 64,
    bits: int = 256,
    n_tables: int = 20,
    head: int = 1,
    deaf: bool = False,
) -> Model:
    """A model folder of the kind `learned`: whitened principal components of rendered music.

    Its graph is an encoder of one linear layer and a rotation of its embedding; codes have a byte
    for every two numbers, keys are signs of random projections. It knows rendered music again in
    noise; its calibration is a guess.

    Those of another `head` stand on the same encoder and have other codes. One that is `deaf` has
    another encoder for queries: what it keeps is sound, and it finds nothing.
    """
    mean, components, fitted = _principal_components(dimensions)
    if head != 1:
        fitted = _fitted(fitted[0], head)
    features = FeatureConfig()
    layer = components, -mean @ components
    graphs = {"model": encoder_graph(features.n_bands, features.snippet_frames, [], layer)}
    if deaf:
        layer = np.roll(components, components.shape[0] // 3, axis=0), layer[1]
        graphs["query"] = encoder_graph(features.n_bands, features.snippet_frames, [], layer)
    return _saved(folder, graphs, fitted, seed, bits, n_tables)


def track_model(
    folder: Path, seed: int = 1, dimensions: int = 64, bits: int = 256, n_tables: int = 20
) -> Model:
    """As `learned_model`, but its index graph hears whole spectrograms (`track_network`).

    Queries have a graph of their own: the same layers, on a snippet alone.
    """
    network, fitted = _track_network(dimensions)
    features = FeatureConfig()
    layers, (kernel, bias) = network.folded()
    alone = kernel.reshape(bias.size, -1).T, bias
    graphs = {
        "model": track_graph(features.n_bands, layers, (kernel, bias), network.reach),
        "query": encoder_graph(features.n_bands, features.snippet_frames, layers, alone),
    }
    return _saved(folder, graphs, fitted, seed, bits, n_tables)


def track_network(dimensions: int = 64) -> TrackEncoder:
    """An encoder of tracks, not to be changed.

    Its layers are random, its projection whitens what they make of rendered music.
    """
    return _track_network(dimensions)[0]


def _saved(
    folder: Path,
    graphs: dict[str, bytes],
    fitted: Fitted,
    seed: int,
    bits: int,
    n_tables: int,
) -> Model:
    """A model folder of the kind `learned` over the encoders of `fitted` (`_fitted`)."""
    rng = np.random.default_rng(seed)
    embeddings, rotation, codebooks = fitted
    dimensions = embeddings.shape[1]
    weights = rng.standard_normal((dimensions, bits)).astype(np.float32)
    projected = embeddings @ rotation @ weights
    config = {
        "kind": "learned",
        "bits": 8 * len(codebooks),
        "dimensions": dimensions,
        "features": dataclasses.asdict(FeatureConfig()),
        "calibration": Confidence(chance=CHANCE).to_json(),
    }
    arrays = {
        "codebooks": codebooks,
        "weights": weights,
        "thresholds": np.median(projected, axis=0).astype(np.float32),
        "spreads": projected.std(axis=0),
        "tables": np.stack([rng.permutation(bits)[:24] for _ in range(n_tables)]).astype(np.int16),
    }
    turned = {
        name: append_linear(graph, rotation, np.zeros(dimensions, np.float32))
        for name, graph in graphs.items()
    }
    return save_model(folder, config, turned, arrays, "# Principal components, for tests")


def _fitted(embeddings: np.ndarray, seed: int = 1) -> Fitted:
    """What an encoder makes of the music, and a rotation and codebooks for it.

    The rotation is a turn that half precision holds exactly; a byte has two numbers.
    """
    rng = np.random.default_rng(seed)
    dimensions = embeddings.shape[1]
    turn = np.eye(dimensions, dtype=np.float32)[:, rng.permutation(dimensions)]
    turn *= rng.choice(np.array([-1.0, 1.0], np.float32), dimensions)
    return embeddings, turn, fit_pq(embeddings @ turn, dimensions // 2).codebooks


@functools.cache
def _music() -> list[np.ndarray]:
    """Spectrograms that encoders are fitted to."""
    config = FeatureConfig()
    music = (render_track(seed, FITTED_SECONDS, config.sample_rate) for seed in FITTED)
    return [spectrogram([track], config) for track in music]


@functools.cache
def _principal_components(dimensions: int) -> tuple[np.ndarray, np.ndarray, Fitted]:
    """Mean snippet, whitening components [inputs, dimensions], and what they make of the music."""
    config = FeatureConfig()
    cut = np.concatenate([snippets(spec, config)[0] for spec in _music()])
    mean, components, embeddings = _whitened(standardise(cut, config), dimensions)
    return mean, components, _fitted(embeddings)


def _whitened(inputs: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Their mean, whitening components, and embeddings of length one that these make of them."""
    mean = inputs.mean(axis=0)
    _, deviations, components = np.linalg.svd(inputs - mean, full_matrices=False)
    whitening = components[:dimensions].T / (deviations[:dimensions] / np.sqrt(len(inputs)))
    whitening = whitening.astype(np.float16).astype(np.float32)  # as the graph stores it
    embeddings = (inputs - mean) @ whitening
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return mean, whitening, embeddings


@functools.cache
def _track_network(dimensions: int) -> tuple[TrackEncoder, Fitted]:
    import torch

    from hashing.training.networks import TrackEncoder

    torch.set_num_threads(1)
    config = FeatureConfig()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = TrackEncoder(config.n_bands, config.snippet_frames, (4, 6, 8), dimensions)
    width, hop = network.reach.frames(1, config), config.snippet_hop
    spectra = (standardise_frames(spec, config) for spec in _music())
    around = np.concatenate(
        [np.lib.stride_tricks.sliding_window_view(spec, width, 0)[::hop] for spec in spectra]
    )
    with torch.no_grad():
        for layer in network.trunk:
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None  # the statistics of this music, not a running mean
        network.train().trunk(torch.from_numpy(around[:, None]))
        made = network.eval().trunk(torch.from_numpy(around[:, None]))
        inputs = made[:, :, :, 1 : 1 + network.columns].flatten(1).numpy()
        mean, components, embeddings = _whitened(inputs, dimensions)
        network.project.weight.copy_(torch.from_numpy(components.T))
        network.project.bias.copy_(torch.from_numpy(-mean @ components))
    return network, _fitted(embeddings)
