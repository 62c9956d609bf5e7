"""How fast a machine is: the few numbers that a plan is multiplied with."""

from __future__ import annotations

import dataclasses

from hashing.encoders import Hasher
from pipelines.footprint import WORKER_BYTES
from pipelines.planning.layout import Layout

# CPU seconds of the pieces of a table, measured in turns on one core of a shared Xeon server with
# codes of 32 and 58 bytes: of a shard (open, directory, receipt), of a file of codes (footer and
# columns), and of a million postings (key, pack, sort, write, SHA-256).
SHARD_CPU_S = 0.0025
FILE_CPU_S = 0.0035
# Share of what a file costs that each table pays for it again: its codes are a call of their own.
CALL_SHARE = 0.035
POSTINGS_CPU_S = 0.058
# Of a million postings that are spilled on the way: sort, write, SHA-256, read; keys of 26 bits in
# four ranges (tests/benchmarks/bench_spills.py).
SPILL_CPU_S = 0.034
# Of a million codes: reading, by their bytes, and what keys are made of where that is not the code
# itself: a model of this kind decodes it and multiplies.
CODE_BYTE_CPU_S = 0.002
MATERIAL_CPU_S = {"learned": 1.45}
# Of a gigabyte that is read back: SHA-256 1.0, and 0.6 to look through a table.
VERIFY_CPU_S = 1.6
# From the command to the first track with two workers of one machine: libraries and models.
START_S = 4.0


@dataclasses.dataclass(frozen=True)
class TableSpeeds:
    """CPU seconds of building tables.

    Attributes:
        shard_cpu_s: of each table file.
        file_cpu_s: of each file of codes, each time it is opened.
        postings_cpu_s: of a million postings: keys, sorting, writing.
        codes_cpu_s: of a million codes, each time they are read.
    """

    shard_cpu_s: float
    file_cpu_s: float
    postings_cpu_s: float
    codes_cpu_s: float

    @classmethod
    def usual(cls, hasher: Hasher) -> TableSpeeds:
        """Those of the machine that the constants were measured on."""
        material = MATERIAL_CPU_S.get(hasher.config["kind"], 0.0)
        codes = CODE_BYTE_CPU_S * hasher.quantizer.code_bytes + material
        return cls(SHARD_CPU_S, FILE_CPU_S, POSTINGS_CPU_S, codes)

    def scaled(self, factor: float) -> TableSpeeds:
        """Those of a machine that needs `factor` times as long."""
        return TableSpeeds(*(factor * value for value in dataclasses.astuple(self)))

    def cpu_s(self, layout: Layout) -> float:
        """CPU seconds of all tables of an index.

        All codes are read once. Those of a segment that fits into memory are then at hand for each
        table; the postings of a larger one are sorted out into spills and read again from there.

        >>> import numpy as np
        >>> from hashing.quantizers import SignQuantizer
        >>> from pipelines.planning.layout import plan_layout
        >>> quantizer = SignQuantizer(np.zeros(24), np.ones(24), np.tile(np.arange(24), (2, 1)))
        >>> speeds = TableSpeeds(0.0, 0.0, POSTINGS_CPU_S, 10.0)
        >>> layouts = [plan_layout(8, n, n, quantizer) for n in (10**6, 10**7, 10**8)]
        >>> [layout.segments[0].n for layout in layouts]
        [1, 1, 4]
        >>> [round(speeds.cpu_s(layout) / layout.snippets * 1e6, 2) for layout in layouts]
        [10.12, 10.18, 10.18]
        """
        # A machine that needs longer for a posting does so for a spilled one as well.
        spill_s = SPILL_CPU_S / POSTINGS_CPU_S * self.postings_cpu_s
        calls = 1 + CALL_SHARE * layout.n_tables
        return (
            layout.shards * self.shard_cpu_s
            + calls * layout.parts * self.file_cpu_s
            + layout.snippets / 1e6 * self.codes_cpu_s
            + layout.postings / 1e6 * self.postings_cpu_s
            + layout.spilled / 1e6 * spill_s
        )


@dataclasses.dataclass(frozen=True)
class Speeds:
    """How fast a machine works.

    Attributes:
        hash_cpu_s_per_hour: CPU seconds to decode and hash an hour of audio, decoder included.
        tables: of building tables.
        verify_cpu_s_per_gb: CPU seconds to check a gigabyte of what was written.
        start_s: seconds until the first track is begun.
        worker_bytes: peak memory of a worker with its decoder, with small parts.
        source: where they are from, for people.
    """

    hash_cpu_s_per_hour: float
    tables: TableSpeeds
    verify_cpu_s_per_gb: float = VERIFY_CPU_S
    start_s: float = START_S
    worker_bytes: float = WORKER_BYTES
    source: str = ""
