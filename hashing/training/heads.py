"""Other hashers on the embeddings of a trained encoder: what the shipped one is compared with.

All of them are fitted to the same embeddings of the same training music, clean and half a hop
apart, as an index holds them; nothing here needs torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import binary, codebooks, quantization
from hashing.codes import MAX_KEY_BITS
from hashing.encoders import Hasher
from hashing.errors import AudioError, ModelError
from hashing.features import FeatureConfig
from hashing.forgiving import group_bits
from hashing.minhash import MinHash
from hashing.models import Model, save_model
from hashing.training.corpus import Corpus
from hashing.training.export import append_linear

Floats = npt.NDArray[np.float32]

# Embeddings that a hash is fitted to: medians to ±0.3 % of their rank, 128 for each of 256
# centroids.
FITTED_ITEMS = 32_768


@dataclasses.dataclass(frozen=True)
class HeadTraining:
    """Settings of a hash on embeddings.

    Attributes:
      kind: one of `HEADS`.
      bits: of a code; a product quantizer has a byte for each eight.
      n_tables: hash tables.
    """

    kind: str
    bits: int = 256
    n_tables: int = 16
    seed: int = 1


LINEAR: Mapping[str, Callable[[Floats, HeadTraining], binary.LinearHash]] = {
    "lsh": lambda items, head: binary.random_projection(items, head.bits, head.seed),
    "pca": lambda items, head: binary.pca(items, head.bits),
    "itq": lambda items, head: binary.itq(items, head.bits, seed=head.seed),
    "transport": lambda items, head: binary.optimal_transport(items, head.bits, seed=head.seed),
}
PRODUCT: Mapping[str, Callable[[Floats, HeadTraining], codebooks.ProductFit]] = {
    "pq": lambda items, head: codebooks.fit_pq(items, head.bits // 8, head.seed),
    "opq": lambda items, head: codebooks.fit_opq(items, head.bits // 8, head.seed),
}
HEADS = (*LINEAR, *PRODUCT)


def embed(hasher: Hasher, music: Corpus, tracks: list[int], seed: int) -> Floats:
    """Embeddings [n, d] of clean snippets of tracks, `FITTED_ITEMS` at most.

    Raises `ModelError` for a hasher without embeddings.
    """
    found = []
    for track in tracks:
        try:
            kept = hasher.hash_track([music.track(track)], embeddings=True).embeddings
        except AudioError:
            continue
        assert kept is not None
        found.append(kept)
    if not found:
        raise ModelError("no track of the training music is long and loud enough")
    items = np.concatenate(found).astype(np.float32)
    rng = np.random.default_rng(seed)
    return items[np.sort(rng.permutation(len(items))[:FITTED_ITEMS])]


def fit_head(
    encoder: Model, items: Floats, head: HeadTraining, story: Mapping[str, Any], out: Path
) -> Model:
    """A model folder of a hash fitted to `items` [n, d], embeddings of `encoder`.

    Raises `ModelError` where there are too few of them, or more bits than the hash can have.
    """
    try:
        if head.kind in LINEAR:
            linear = LINEAR[head.kind](items, head)
            weights, kind = linear.weights, "signs"
            key_bits = min(MAX_KEY_BITS, head.bits)
            bits = linear.responses(items) > linear.thresholds
            arrays: dict[str, npt.NDArray[Any]] = {
                "thresholds": linear.thresholds,
                "spreads": linear.spreads,
                "tables": group_bits(bits, min(head.n_tables, head.bits), key_bits),
            }
        else:
            product = PRODUCT[head.kind](items, head)
            weights, kind = product.rotation, "product"
            arrays = quantization.ProductQuantizer(product.codebooks).arrays()
    except ValueError as error:
        raise ModelError(f"{head.kind} of {head.bits} bits cannot be fitted: {error}") from None
    bias = np.zeros(weights.shape[1], dtype=np.float32)
    graphs = {name: append_linear(encoder.graph(name), weights, bias) for name in encoder.graphs}
    config = {
        "kind": kind,
        "bits": head.bits,
        "dimensions": encoder.config.get("dimensions", items.shape[1]),
        "features": encoder.config["features"],
        "training": {
            **dataclasses.asdict(head),
            **story,
            "encoder": {"name": encoder.name, "digest": encoder.digest},
        },
        "calibration": {},
    }
    return save_model(out, config, graphs, arrays, "# Draft")


def draw_minhash(
    features: FeatureConfig, head: HeadTraining, story: Mapping[str, Any], out: Path
) -> Model:
    """A model folder of Min-Hash over wavelets, which learns nothing (see `hashing.minhash`)."""
    hasher = MinHash.draw(features, head.seed)
    config = {
        "kind": "minhash",
        "bits": 8 * hasher.code_bytes,
        "features": dataclasses.asdict(features),
        "training": {"seed": head.seed, **story},
        "calibration": {},
    }
    return save_model(out, config, {}, hasher.arrays(), "# Draft")
