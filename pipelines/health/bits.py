"""How evenly the bits of codes are set: half of the snippets should have a one at each."""

from __future__ import annotations

import dataclasses

import numpy as np

from hashing.errors import HashbeamError
from pipelines import io, parquet
from pipelines.plain import rows_of
from pipelines.stores import in_turn, is_remote
from pipelines.versions import Manifest

# Rows that are looked at: the share of a bit is then right to 0.4 points (twice its standard
# error), if they were independent; neighbouring snippets are alike, so it is rather one point.
SAMPLE_ROWS = 1 << 16
# Bytes of files of codes that are read, but at least one file: those of ten million tracks have 70
# MB each.
READ_BYTES = 64 << 20

READERS = 8  # files of an object store in memory at once

_SEED = 11  # of the choice of files


@dataclasses.dataclass(frozen=True)
class Bits:
    """The bits of a sample of codes.

    Attributes:
        shares: of the rows that have a one at each bit; bits that only fill the last byte up are
            left out, as far as they can be told: all zero, and the last ones.
        rows: codes of the sample, spread over the files that were read.
        files, files_read: of codes.
        damaged: files that could not be read, and why.
    """

    shares: list[float]
    rows: int
    files: int
    files_read: int
    damaged: list[str]

    def outside(self, low: float, high: float) -> list[int]:
        """Numbers of the bits whose share is below `low` or above `high`.

        >>> Bits([0.5, 0.0, 0.9], 9, 1, 1, []).outside(0.1, 0.8)
        [1, 2]
        """
        return [bit for bit, share in enumerate(self.shares) if not low <= share <= high]


def examine_bits(
    index: str,
    manifest: Manifest,
    *,
    sample_rows: int = SAMPLE_ROWS,
    read_bytes: int = READ_BYTES,
) -> Bits:
    """The share of ones at every bit, from a sample of the codes of a version.

    Args:
        sample_rows: about so many, from all files alike.
        read_bytes: of files at most, but at least one is read.
    """
    files = [row for row in manifest.files.tuples("path", "bytes", "rows", kind="codes") if row[2]]
    order = np.random.default_rng(_SEED).permutation(len(files)).tolist()
    chosen, held = list[str](), 0
    for at in order:
        path, size, _ = files[at]
        held += size
        if chosen and held > read_bytes:
            break
        chosen.append(path)
    rows_of_file = -(-sample_rows // max(1, len(chosen)))
    ones: np.ndarray | None = None
    rows, read, damaged = 0, 0, list[str]()
    tables = in_turn(lambda path: _codes_of(index, path), chosen, is_remote(index), READERS)
    for path, codes in zip(chosen, tables, strict=True):
        if isinstance(codes, str):
            damaged.append(codes)
            continue
        step = max(1, len(codes) // rows_of_file)
        bits = np.unpackbits(codes[::step][:rows_of_file], axis=1, bitorder="little")
        counted = bits.sum(axis=0, dtype=np.int64)
        if ones is not None and ones.size != counted.size:
            damaged.append(f"{path} has codes of {codes.shape[1]} bytes, others {ones.size // 8}")
            continue
        ones = counted if ones is None else ones + counted
        rows += len(bits)
        read += 1
    shares = [] if ones is None else (_without_padding(ones) / max(1, rows)).tolist()
    return Bits(shares, rows, len(files), read, damaged)


def _codes_of(index: str, path: str) -> np.ndarray | str:
    """The codes of a file [n, bytes], or why it cannot be read."""
    try:
        return rows_of(parquet.read_table(io.join(index, path), ["code"])["code"])
    except HashbeamError as error:
        return str(error)


def _without_padding(ones: np.ndarray) -> np.ndarray:
    """Counts of the bits without the zeros that end the last byte.

    >>> _without_padding(np.array([1, 0, 3, 2, 4, 0, 0, 0])).tolist()
    [1, 0, 3, 2, 4]
    """
    filled = np.flatnonzero(ones)
    last = int(filled[-1]) + 1 if filled.size else 0
    return ones[: max(last, ones.size - 7)]
