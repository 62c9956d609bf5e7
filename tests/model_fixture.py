"""A small untrained hasher for tests: right shapes, random weights, nothing to wait for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from hashing.features import FeatureConfig
from hashing.models import Model, save_model
from hashing.training.export import ensemble_graph


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
        return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)

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
