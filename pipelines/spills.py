"""The postings of a large segment, sorted out by table and key range in one reading of its codes.

A shard holds the postings of one key range of one table, and there are thousands of shards in a
large index. Where each of them read all codes of its segment and made keys of them again, ten
million tracks would cost thousands of CPU hours. So the codes are gone through once, a piece of
`SPILL_SNIPPETS` at a time, and the postings of each table are written down in order of their keys:
a *spill*. A shard then reads its own slice of each spill of its segment.

A spill is a file in the run's work folder, gone when the run is published::

    slices    the postings of each key range of each table, as `hashing.sorted_runs` packs them
    places    uint64 [n_tables * n_ranges + 1, 2]: the byte at which a slice begins, and how many
              postings stand before it; the last: their ends
    footer    magic, format version, n_tables, n_ranges

All numbers are little-endian.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hashing.errors import IndexFormatError
from hashing.quantizers import Quantizer
from hashing.sorted_runs import decode_run, encode_run
from hashing.tables import pack_postings
from pipelines import io
from pipelines.runs import Receipt, Run, new_attempt
from pipelines.segment_codes import SegmentCodes, codes_of, segment_name
from pipelines.stores import in_turn, is_remote
from pipelines.versions import FileEntry

# Snippets of a piece: what keys are made of takes 256 MB at 64 bytes each, the postings of a table
# 32 MB, and of the largest segment's 135 key ranges a slice has 160 KB, which is worth a request.
SPILL_SNIPPETS = 1 << 22
FORMAT_VERSION = 2
_PLACE = 16  # bytes of a row of places
_FOOTER = struct.Struct("<4sIII")
_MAGIC = b"HBSP"
_KIND = "spills"  # of file entries

Ranges = Sequence[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class SpillTask:
    """One piece of a segment: some consecutive files of its codes.

    `ranges` are the key ranges of every table, ``(key_lo, key_hi)`` with `key_hi` exclusive.
    """

    segment: int
    number: int
    files: range
    key_bits: int
    ranges: tuple[tuple[int, int], ...]

    @property
    def name(self) -> str:
        """The name of its receipt: ``s000-p00012``."""
        return f"{segment_name(self.segment)}p{self.number:05d}"

    def inputs(self, segment: SegmentCodes) -> str:
        """What the spill is made from and how, as a digest."""
        made_from = f"{segment.digest} {self.files} {self.key_bits} {len(self.ranges)}"
        made_from += f" {FORMAT_VERSION}"  # that of an earlier hashbeam is made anew
        return hashlib.sha256(made_from.encode()).hexdigest()


def plan_spills(segment: SegmentCodes, key_bits: int, ranges: Ranges) -> list[SpillTask]:
    """The pieces of a segment: whole files of codes, of about `SPILL_SNIPPETS` together."""
    tasks, first, held = list[SpillTask](), 0, 0
    for file, snippets in enumerate(segment.snippets):
        held += snippets
        if held >= SPILL_SNIPPETS or file == len(segment.snippets) - 1:
            files = range(first, file + 1)
            tasks.append(SpillTask(segment.id, len(tasks), files, key_bits, tuple(ranges)))
            first, held = file + 1, 0
    return tasks


def write_spill(run: Run, segment: SegmentCodes, task: SpillTask, quantizer: Quantizer) -> Receipt:
    """Writes the spill of a piece, and its receipt.

    Memory: what keys are made of, of all the piece, and 8 bytes for each posting of one table.

    Raises: HashbeamError where codes cannot be read or the spill cannot be written.
    """
    started, cpu_s = time.time(), time.process_time()
    made = [(quantizer.key_material(codes), gid) for codes, gid in codes_of(segment, task.files)]
    edges = np.array([lo for lo, _ in task.ranges[1:]], np.uint64) << np.uint64(32)
    places = [(0, 0)]
    attempt = new_attempt()
    path = io.join(run.work, "spills", f"{task.name}-{attempt}.hbsp")
    expected = round(sum(segment.snippets[file] for file in task.files) * quantizer.replication)
    with io.open_write(path) as file:
        for table in range(quantizer.n_tables):
            chunks = ((*quantizer.postings(one, table, task.key_bits), gid) for one, gid in made)
            packed = pack_postings(chunks, 0, 1 << task.key_bits, expected)
            packed.sort()
            for part in np.split(packed, np.searchsorted(packed, edges)):
                size = sum(map(file.write, encode_run(part)))
                places.append((places[-1][0] + size, places[-1][1] + len(part)))
            del packed, part  # before those of the next table are made
        file.write(np.array(places, "<u8").tobytes())
        shape = quantizer.n_tables, len(task.ranges)
        file.write(_FOOTER.pack(_MAGIC, FORMAT_VERSION, *shape))
    entry = run.entry(_KIND, file.info, rows=places[-1][1], segment=task.segment)
    counters = {"cpu_s": time.process_time() - cpu_s, "wall_s": time.time() - started}
    return run.write_receipt(
        Receipt(task.name, attempt, [entry], counters, started, time.time(), task.inputs(segment))
    )


def finished_spills(
    segment: SegmentCodes, tasks: Sequence[SpillTask], receipts: Mapping[str, Receipt]
) -> list[Receipt]:
    """The receipts of those pieces that are done."""
    found = ((task, receipts.get(task.name)) for task in tasks)
    return [one for task, one in found if one is not None and one.inputs == task.inputs(segment)]


def read_slices(
    index: str, spills: Sequence[FileEntry], table: int, number: int
) -> NDArray[np.uint64]:
    """The postings of a key range of a table from all spills, ``key << 32 | gid`` [n].

    Memory: 8 bytes for each posting, and some slices.

    Raises: IndexFormatError where a spill is damaged; HashbeamError where it cannot be read.
    """
    paths, far = [io.join(index, entry.path) for entry in spills], is_remote(index)
    sizes = {path: entry.bytes for path, entry in zip(paths, spills, strict=True)}

    def find(path: str) -> _Slice:
        return _find_slice(path, sizes[path], table, number)

    found = list(in_turn(find, paths, far))
    packed, held = np.empty(sum(one.postings for one in found), np.uint64), 0
    for one, data in zip(found, in_turn(_read_slice, found, far), strict=True):
        try:
            decode_run(data, packed[held : held + one.postings])
        except ValueError:
            raise _damaged(one.path) from None
        held += one.postings
    return packed


@dataclasses.dataclass(frozen=True)
class _Slice:
    """The postings of a key range of a table in a spill: from byte `first` to `end`."""

    path: str
    first: int
    end: int
    postings: int


def _find_slice(path: str, size: int, table: int, number: int) -> _Slice:
    tail = io.read_range(path, size - _FOOTER.size, _FOOTER.size)
    magic, version, n_tables, n_ranges = _FOOTER.unpack(tail)
    places = size - _FOOTER.size - _PLACE * (n_tables * n_ranges + 1)
    ours = (magic, version) == (_MAGIC, FORMAT_VERSION) and places >= 0
    if not ours or table >= n_tables or number >= n_ranges:
        raise _damaged(path)
    row = io.read_range(path, places + _PLACE * (table * n_ranges + number), 2 * _PLACE)
    first, before, end, until = np.frombuffer(row, "<u8").tolist()
    # A posting takes three bytes or more: a count beyond what can stand there asks for no memory.
    if not 0 <= first <= end <= places or not before <= until <= before + (end - first) // 3:
        raise _damaged(path)
    return _Slice(path, first, end, until - before)


def _read_slice(one: _Slice) -> bytes:
    return io.read_range(one.path, one.first, one.end - one.first)


def _damaged(path: str) -> IndexFormatError:
    return IndexFormatError(f"{path} is no whole spill; delete it and run the same command again")
