"""Codes of a catalogue that nobody has, drawn from a small index of real music.

Keys of real music are not balanced: some are many times as frequent as others, and the longer a key
is, the more so. Uniform ones would flatter every figure. So a snippet of the made-up catalogue is a
real one heard anew: the projections that make its keys (`hashing.key_head`) are each moved by a
normal deviate of `SIGMA` spreads, so that bits near their threshold flip and others do not. Tracks
are runs of consecutive snippets. Half of the real music, by the package that it came in, is drawn
from; the other half asks, so that what it meets are chance hits, as nearly all are in a catalogue.

Codes are the bits of keys, nothing else: of one table 32 bits, of all thirteen 256.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hashing import codes
from hashing.encoders import Hasher, TrackCodes
from hashing.models import DEFAULT_MODEL, Model, save_model
from pipelines import io, parquet
from pipelines.plain import rows_of
from pipelines.versions import open_manifest

# Found by `bench_scale.py balance`: of 0.1 to 1, keys of all lengths are about as far from uniform
# as real ones, by the entropy of buckets and by what a look-up meets.
SIGMA = 0.25
TABLE = 0  # the one of the model's that is built where one is enough
PACKAGE = "source_package"  # column that tells which tracks belong together
SEED = 1


@dataclasses.dataclass(frozen=True)
class Real:
    """Snippets of an index of real music.

    Attributes:
      margins: of each projection, in spreads from its threshold, float32 [n, bits].
      asks: which snippets are of the half that is not drawn from, [n].
    """

    margins: np.ndarray
    asks: np.ndarray


def read_real(index: str) -> Real:
    """All snippets of a published index of the default model, whose catalogue names packages."""
    quantizer: Any = Hasher.load().quantizer
    manifest = open_manifest(index)
    margins, packages = [], list[str]()
    names = ("path", "segment", "part")
    tracks = {
        place: path
        for path, *place_ in manifest.files.tuples(*names, kind="tracks")
        for place in [tuple(place_)]
    }
    for path, *place in manifest.files.tuples(*names, kind="codes"):
        rows = parquet.read_table(io.join(index, path)).combine_chunks()
        margins.append(quantizer.head.margins(quantizer.decode(rows_of(rows["code"]))))
        own = parquet.read_table(io.join(index, tracks[tuple(place)]))
        of_track = dict(
            zip(*(own[name].to_pylist() for name in ("track_id", PACKAGE)), strict=True)
        )
        packages += [of_track[track] for track in rows["track_id"].to_pylist()]
    return Real(np.concatenate(margins), np.isin(packages, asking_packages(packages)))


def asking_packages(packages: Sequence[str]) -> list[str]:
    """Half of the packages: their music is asked with, not drawn from."""
    found: list[str] = np.random.default_rng(SEED).permutation(np.unique(packages))[::2].tolist()
    return found


class MadeUpMusic:
    """Codes by track number: the same number gives the same codes.

    Stands where `hashing.decoder.Decoder` does for `pipelines.parts.hash_part`.

    Args:
      bits: packed, of real snippets, [n, ceil(columns / 8)].
      flips: chance that each bit is another, in 256ths, uint8 [n, columns].
      snippets: of a track.
    """

    pid = None

    def __init__(
        self, bits: np.ndarray, flips: np.ndarray, snippets: int, seed: int = SEED
    ) -> None:
        self.bits, self.flips = bits, flips
        self._snippets, self._seed = snippets, seed

    @classmethod
    def like(
        cls, real: Real, columns: np.ndarray, snippets: int, sigma: float = SIGMA
    ) -> MadeUpMusic:
        """Drawn from the half of `real` that does not ask; its codes have the bits `columns`."""
        from scipy.special import ndtr

        margins = real.margins[~real.asks][:, columns]
        chance = ndtr(-np.abs(margins) / sigma)
        flips = np.minimum(np.rint(256 * chance), 255).astype(np.uint8)
        return cls(codes.pack(margins > 0), flips, snippets)

    @classmethod
    def load(cls, path: Path, snippets: int) -> MadeUpMusic:
        """What `save` has written."""
        with np.load(path) as arrays:
            return cls(arrays["bits"], arrays["flips"], snippets)

    def save(self, path: Path) -> None:
        """All that is drawn from."""
        np.savez(path, bits=self.bits, flips=self.flips)

    def codes(self, track: int) -> np.ndarray:
        """Codes [snippets, ceil(columns / 8)] of a track."""
        rng = np.random.default_rng([self._seed, track])
        first = rng.integers(len(self.bits))
        rows = (first + np.arange(self._snippets)) % len(self.bits)
        flips = self.flips[rows]
        drawn = np.frombuffer(rng.bytes(flips.size), np.uint8).reshape(flips.shape)
        return self.bits[rows] ^ codes.pack(drawn < flips)

    def hash_track(self, path: str, hasher: Hasher, **limits: Any) -> TrackCodes:
        """What a decoder gives for the file of a track."""
        del limits
        snippet = np.arange(self._snippets, dtype=np.int32)
        seconds = self._snippets * hasher.features.snippet_hop_s
        return TrackCodes(self.codes(int(Path(path).name)), snippet, seconds)


def columns_of(n_tables: int) -> np.ndarray:
    """The bits that codes of so many tables have: those of `TABLE`, or all there are."""
    head = Hasher.load().quantizer.head  # type: ignore[attr-defined]
    return (
        head.tables[TABLE].astype(np.int64) if n_tables == 1 else np.arange(head.weights.shape[1])
    )


def save_key_model(folder: Path, n_tables: int) -> Model:
    """The default model cut to the keys of so many tables: a model folder of signs.

    Its keys are those of the default model, bit by bit; its codes are the bits of the keys.
    """
    shipped = Hasher.load(DEFAULT_MODEL)
    head = shipped.quantizer.head  # type: ignore[attr-defined]
    columns = columns_of(n_tables)
    tables = np.arange(columns.size)[None] if n_tables == 1 else head.tables
    arrays = {
        "thresholds": np.zeros(columns.size, np.float32),
        "spreads": np.ones(columns.size, np.float32),
        "tables": tables.astype(np.int16),
    }
    weights = (head.weights / head.spreads)[:, columns]
    offsets = (head.thresholds / head.spreads)[columns]
    graphs = {
        name: _projected(shipped.model.graph(name), weights, offsets)
        for name in shipped.model.graphs
    }
    config = {"kind": "signs", "bits": int(columns.size), "features": shipped.config["features"]}
    return save_model(folder, config, graphs, arrays, "# Bits of keys, to measure scale with")


def _projected(graph: bytes, weights: np.ndarray, offsets: np.ndarray) -> bytes:
    """A graph whose responses are projections of what its responses were."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_model_from_string(graph)
    for node in model.graph.node:
        node.output[:] = ["rotated" if name == "responses" else name for name in node.output]
        node.input[:] = ["rotated" if name == "responses" else name for name in node.input]
    for name, array in (("key_weights", weights), ("key_offsets", offsets)):
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    model.graph.node.append(
        helper.make_node("MatMul", ["rotated", "key_weights"], ["key_projections"])
    )
    model.graph.node.append(
        helper.make_node("Sub", ["key_projections", "key_offsets"], ["responses"])
    )
    (output,) = (one for one in model.graph.output if one.name == "responses")
    output.type.tensor_type.shape.dim[1].dim_value = weights.shape[1]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
