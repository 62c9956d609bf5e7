"""The two sides of a comparison as slim tables: what says whether a file or its row has changed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.file_state import FILE_STATE
from pipelines.live import PLACES
from pipelines.track_tables import MEASURED, OWN, as_text

Hashes = npt.NDArray[np.uint64]

_NAMED = {"track_id": pa.string(), "uri": pa.string(), "etag": pa.string()}
# `described` is what the rest of the row says: text, or a hash of it where it is sent around.
CATALOG = pa.schema({"row": pa.int64(), **_NAMED, "described": pa.string()})
INDEXED = pa.schema(
    {
        **_NAMED,
        **FILE_STATE,
        "segment": pa.int32(),
        "part": pa.int32(),
        "ordinal": pa.uint32(),
        "duration_s": pa.float64(),
        "described": pa.string(),
    }
)
FAILED = pa.schema({**_NAMED, **FILE_STATE, "stage": pa.string()})

_VALUE, _COLUMN = "\x1e", "\x1f"  # separators of ASCII: no title has them


def catalog_side(catalog: pa.Table, first: int = 0) -> pa.Table:
    """Rows of a catalogue as `CATALOG`; `first` is the number of the first of them."""
    rows = np.arange(first, first + catalog.num_rows)
    described = _described(catalog, skip=("track_id", "uri", "etag"))
    return _side(catalog, CATALOG, {"row": pa.array(rows), "described": described})


def indexed_side(tracks: pa.Table) -> pa.Table:
    """Live tracks, as `pipelines.live` has them, as `INDEXED`."""
    tracks = tracks.combine_chunks()
    described = _described(tracks, skip=(*MEASURED, *PLACES))
    return _side(tracks, INDEXED, {"described": described})


def failed_side(failures: pa.Table) -> pa.Table:
    """Rows of ``failures/`` as `FAILED`."""
    return _side(failures, FAILED, {})


def _side(table: pa.Table, schema: pa.Schema, own: dict[str, Any]) -> pa.Table:
    columns = {}
    for field in schema:
        if field.name in own:
            columns[field.name] = own[field.name]
        elif field.name in table.column_names:
            columns[field.name] = table[field.name].cast(field.type)
        else:  # an etag that no row has, or a file of an earlier hashbeam
            columns[field.name] = pa.nulls(table.num_rows, field.type)
    return pa.table(columns, schema=schema)


def _described(table: pa.Table, skip: Sequence[str]) -> Any:
    """What a row says beside the file, as one text: its columns by name, empty ones left out."""
    texts = []
    for name in sorted(set(table.column_names) - set(skip), key=_plain_name):
        text = as_text(table[name])
        told = pc.binary_join_element_wise(_plain_name(name), text, _VALUE)
        texts.append(pc.if_else(pc.fill_null(pc.not_equal(text, ""), False), told, ""))
    if not texts:
        return pa.array([""] * table.num_rows, pa.string())
    return pc.binary_join_element_wise(*texts, _COLUMN)


def _plain_name(name: str) -> str:
    """The name in the catalogue of a column that an index keeps beside one of its own."""
    plain = name.removeprefix("catalog_")
    return plain if plain in (*OWN, *PLACES) else name


# Places of a text whose weights are made at once; longer texts have more made.
_WEIGHTS = 1 << 12
_HASHED_BYTES = 1 << 20  # of text at once: what is made of it on the way takes 32 times as much


def hash_texts(texts: Any) -> Hashes:
    """A hash of each text [n], the same on every machine; null is 0.

    Multilinear: a random 64-bit weight for each place times the byte there, summed; two texts of
    one hash in 2**56 (Carter and Wegman 1979). Not for what an enemy may choose.

    >>> hash_texts(pa.array(["a", "b", None, "a"])).tolist()[1:]
    [10288627377999834589, 0, 1466318779212382378]
    """
    array = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    array = array.cast(pa.large_binary())
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset :][: len(array) + 1]
    data = np.frombuffer(array.buffers()[2] or b"", np.uint8)
    out = np.zeros(len(array), np.uint64)
    first = 0
    while first < len(array):
        end = int(np.searchsorted(offsets, offsets[first] + _HASHED_BYTES, side="right")) - 1
        end = min(max(end, first + 1), len(array))
        bounds = offsets[first : end + 1]
        out[first:end] = _multilinear(data[bounds[0] : bounds[-1]], bounds - bounds[0])
        first = end
    if array.null_count:
        out[array.is_null().to_numpy(zero_copy_only=False)] = 0
    return out


def _multilinear(data: Any, bounds: Any) -> Hashes:
    lengths = np.diff(bounds)
    longest = int(lengths.max(initial=0))
    weights = _weights(max(_WEIGHTS, 1 << longest.bit_length()))
    places = np.arange(len(data)) - np.repeat(bounds[:-1], lengths)
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum((data + np.uint64(1)) * weights[places], out=sums[1:])
    hashes: Hashes = sums[bounds[1:]] - sums[bounds[:-1]] + np.uint64(1)
    hashes ^= hashes >> np.uint64(32)  # the low bits of a product depend on low bits only
    hashes *= np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio (Knuth, TAOCP 3, 6.4)
    hashes ^= hashes >> np.uint64(29)
    return hashes


@functools.lru_cache(maxsize=4)
def _weights(count: int) -> Hashes:
    # A longer table begins with the shorter one: PCG64 gives one number after the other.
    rng = np.random.default_rng(0)
    return rng.integers(0, 1 << 64, count, dtype=np.uint64, endpoint=False) | np.uint64(1)
