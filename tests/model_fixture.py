"""Small hashers for tests, which nobody has to train or to wait for."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from hashing.confidence import Confidence
from hashing.features import FeatureConfig, spectrogram
from hashing.models import Model, save_model
from hashing.quantization import fit_pq
from hashing.snippets import snippets, standardise
from hashing.synthesis import render_track
from hashing.training.export import append_linear, encoder_graph, ensemble_graph

# Music that the encoder of `learned_model` is fitted to; no test renders these seeds.
FITTED = range(9000, 9024)
FITTED_SECONDS = 8.0

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
    folder: Path, seed: int = 1, dimensions: int = 64, bits: int = 256, n_tables: int = 20
) -> Model:
    """A model folder of the kind `learned`: whitened principal components of rendered music.

    Its graph is an encoder of one linear layer and a rotation of its embedding; codes have a byte
    for every two numbers, keys are signs of random projections. It knows rendered music again in
    noise; its calibration is a guess.
    """
    rng = np.random.default_rng(seed)
    mean, components, embeddings = _principal_components(dimensions)
    rotation, codebooks = _codebooks(dimensions)
    weights = rng.standard_normal((dimensions, bits)).astype(np.float32)
    projected = embeddings @ rotation @ weights
    features = FeatureConfig()
    graph = encoder_graph(
        features.n_bands, features.snippet_frames, [], (components, -mean @ components)
    )
    graph = append_linear(graph, rotation, np.zeros(dimensions, np.float32))
    config = {
        "kind": "learned",
        "bits": 8 * len(codebooks),
        "dimensions": dimensions,
        "features": dataclasses.asdict(features),
        "calibration": Confidence(chance=CHANCE).to_json(),
    }
    arrays = {
        "codebooks": codebooks,
        "weights": weights,
        "thresholds": np.median(projected, axis=0).astype(np.float32),
        "spreads": projected.std(axis=0),
        "tables": np.stack([rng.permutation(bits)[:24] for _ in range(n_tables)]).astype(np.int16),
    }
    return save_model(folder, config, {"model": graph}, arrays, "# Principal components, for tests")


@functools.cache
def _codebooks(dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """A turn that half precision holds exactly, and codebooks of a byte for every two numbers."""
    rng = np.random.default_rng(1)
    turn = np.eye(dimensions, dtype=np.float32)[:, rng.permutation(dimensions)]
    turn *= rng.choice(np.array([-1.0, 1.0], np.float32), dimensions)
    embeddings = _principal_components(dimensions)[2]
    return turn, fit_pq(embeddings @ turn, dimensions // 2).codebooks


@functools.cache
def _principal_components(dimensions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean snippet, whitening components [inputs, dimensions], and what they make of the music."""
    config = FeatureConfig()
    music = (render_track(seed, FITTED_SECONDS, config.sample_rate) for seed in FITTED)
    cut = np.concatenate([snippets(spectrogram([track], config), config)[0] for track in music])
    inputs = standardise(cut, config)
    mean = inputs.mean(axis=0)
    _, deviations, components = np.linalg.svd(inputs - mean, full_matrices=False)
    whitening = components[:dimensions].T / (deviations[:dimensions] / np.sqrt(len(inputs)))
    whitening = whitening.astype(np.float16).astype(np.float32)  # as the graph stores it
    embeddings = (inputs - mean) @ whitening
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return mean, whitening, embeddings
