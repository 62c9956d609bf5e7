"""A small model of labelled sounds for tests, and sounds that it tells apart: hums.

It averages the bands of a window over time, and turns them. It knows the words low, middle and
high, which are the names of the hums.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from onnx import TensorProto, helper, numpy_helper

from hashing.codebooks import fit_pq
from hashing.features import FeatureConfig, spectrogram
from hashing.models import EVENTS_KIND, Model, save_model
from hashing.snippets import filled, snippets, standardise

RATE = 8000
FEATURES = FeatureConfig(
    sample_rate=RATE,
    n_fft=512,
    hop_length=200,  # 25 ms
    n_bands=32,
    fmin=50.0,
    fmax=3900.0,
    snippet_frames=38,  # 0.99 s
    snippet_hop=20,  # 0.5 s
    repeats_short=True,
)
DIMENSIONS = 16
PITCHES = {"low": 200.0, "middle": 800.0, "high": 2500.0}


def hum(kind: str, seed: int, seconds: float = 2.0) -> np.ndarray:
    """A hum of about the pitch of its kind with a soft overtone, in some noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    pitch = PITCHES[kind] * rng.uniform(0.9, 1.1)
    out = 0.003 * rng.standard_normal(t.size)
    for partial, level in ((1, 0.3), (1.5, rng.uniform(0.01, 0.1))):
        if pitch * partial < RATE / 2:
            out += level * np.sin(2 * np.pi * (pitch * partial * t + rng.random()))
    return out.astype(np.float32)


def write_hum(path: Path, *parts: np.ndarray) -> Path:
    """A file of these samples, one part after the other."""
    soundfile.write(path, np.concatenate(parts), RATE, subtype="FLOAT")
    return path


def directions() -> np.ndarray:
    """What windows are multiplied with, [bands * frames, DIMENSIONS]."""
    bands, frames = FEATURES.n_bands, FEATURES.snippet_frames
    rng = np.random.default_rng(5)
    turn = np.linalg.qr(rng.standard_normal((bands, bands)))[0][:, :DIMENSIONS]
    return np.repeat(turn / frames, frames, axis=0).astype(np.float32)


def responses_to(samples: np.ndarray) -> np.ndarray:
    """What the model says about the windows of a sound, computed without it, [n, DIMENSIONS]."""
    cut, _ = snippets(filled(spectrogram([samples], FEATURES), FEATURES), FEATURES)
    found = standardise(cut, FEATURES) @ directions()
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def events_model(folder: Path, n_bytes: int = 4, words: bool = True) -> Model:
    """The folder of the model, with codes of `n_bytes` bytes."""
    sounds = {
        kind: np.concatenate([responses_to(hum(kind, 500 + seed)) for seed in range(40)])
        for kind in PITCHES
    }
    known = np.concatenate(list(sounds.values()))
    rng = np.random.default_rng(6)
    known = np.concatenate([known, known + 0.2 * rng.standard_normal(known.shape)])
    codebooks = fit_pq(known, n_bytes).codebooks
    vectors = np.stack([sound.mean(axis=0) for sound in sounds.values()])
    arrays = {"codebooks": codebooks}
    if n_bytes == 1:
        arrays["tables"] = np.zeros((1, 1), np.int16)
    if words:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        arrays["word_vectors"] = vectors.astype(np.float32)
    config = {
        "kind": EVENTS_KIND,
        "bits": 8 * n_bytes,
        "features": FEATURES.to_json(),
        "labels": list(PITCHES),
        "taxonomy": None,
        "words": list(PITCHES) if words else [],
    }
    return save_model(folder, config, {"model": _graph()}, arrays, "# Bands, for tests")


def _graph() -> bytes:
    weights = directions()
    nodes = [
        helper.make_node("MatMul", ["snippets", "weights"], ["product"]),
        helper.make_node("LpNormalization", ["product"], ["responses"], axis=1, p=2),
        helper.make_node("Identity", ["responses"], ["embedding"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", DIMENSIONS])
        for name in ("responses", "embedding")
    ]
    heard = helper.make_tensor_value_info("snippets", TensorProto.FLOAT, ["n", len(weights)])
    graph = helper.make_graph(
        nodes, "bands", [heard], ends, [numpy_helper.from_array(weights, "weights")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
