"""Tables of a large segment: from spills, and from its codes, which every shard reads again.

    PYTHONPATH=.:tests python tests/benchmarks/bench_spills.py --snippets 3e6 --ranges 4

Random codes. From codes, `--shards` of all shards are built and counted for all; from spills, all
of the pieces are written and as many shards are built. CPU seconds and peak memory of each; the
last lines say what ten million tracks of 480 snippets would cost by these figures.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path

from joined_segments import joined

from hashing.encoders import Hasher
from hashing.models import DEFAULT_MODEL
from hashing.tables import BLOCK_POSTINGS, plan_key_ranges
from pipelines import spills, tables
from pipelines.planning.measure import random_segment
from pipelines.runs import Plan, Run
from pipelines.spills import plan_spills, write_spill
from pipelines.tables import build_table, plan_shards

FILES, KEY_BITS = 12, 26
CATALOGUE = 4.8e9  # snippets of ten million tracks


def main() -> int:
    """Writes codes, builds shards both ways, prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="(%(default)s)")
    parser.add_argument("--snippets", type=float, default=3e6, help="of the segment (%(default)g)")
    parser.add_argument("--piece", type=float, default=1e6, help="of a spill (%(default)g)")
    parser.add_argument("--ranges", type=int, default=4, help="of keys, a table (%(default)s)")
    parser.add_argument("--shards", type=int, default=4, help="that are built (%(default)s)")
    options = parser.parse_args()
    quantizer = Hasher.load(options.model).quantizer
    bits, snippets = min(KEY_BITS, quantizer.key_bits_max), int(options.snippets)
    block = round(snippets * quantizer.replication / options.ranges)
    tables.KEPT_SNIPPETS, spills.SPILL_SNIPPETS = 0, int(options.piece)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(str(Path(folder, "index")), Plan("000001", "", "", "", {}, 1, 1, ""))
        small = random_segment(folder, quantizer, 1000, 0)
        build_table(run, small, next(plan_shards(small, quantizer, 8)), quantizer)
        parts = [random_segment(folder, quantizer, snippets // FILES, 1 + n) for n in range(FILES)]
        segment = joined(parts)
        shards = list(plan_shards(segment, quantizer, bits, block))
        chosen = shards[:: max(1, len(shards) // options.shards)][: options.shards]
        ranges = plan_key_ranges(round(snippets * quantizer.replication), bits, block)
        written = [
            write_spill(run, segment, task, quantizer)
            for task in plan_spills(segment, bits, ranges)
        ]
        entries = [one.files[0] for one in written]
        spill_s = sum(one.counters["cpu_s"] for one in written)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        spilled = [build_table(run, segment, task, quantizer, entries) for task in chosen]
        for task in chosen:
            run.discard(task.name)
            tables._kept.clear()
        direct = []
        for task in chosen:
            tables._kept.clear()
            direct.append(build_table(run, segment, task, quantizer))
        assert [one.files[0].sha256 for one in spilled] == [one.files[0].sha256 for one in direct]
    every = len(shards) / len(chosen)
    from_spills = every * sum(one.counters["cpu_s"] for one in spilled)
    from_codes = every * sum(one.counters["cpu_s"] for one in direct)
    millions, postings = snippets / 1e6, sum(task.postings for task in shards) / 1e6
    print(
        f"{options.model}: {millions:g} M snippets, {len(shards)} shards, {postings:.0f} M postings"
    )
    print(f"from codes   {from_codes:8.1f} s of CPU, {from_codes / millions:6.2f} a M snippets")
    megabytes = sum(one.bytes for one in entries) / 1e6
    print(
        f"from spills  {spill_s + from_spills:8.1f} s: {spill_s:.1f} to spill "
        f"({spill_s / millions:.2f} a M snippets, {megabytes:.0f} MB), "
        f"{from_spills:.1f} to build ({from_spills / postings:.3f} a M postings); {memory:.0f} MB"
    )
    print(f"ratio        {from_codes / (spill_s + from_spills):8.1f}")
    huge = len(plan_key_ranges(round(CATALOGUE * quantizer.replication), 32, BLOCK_POSTINGS))
    one = from_codes / len(shards) / millions  # of a shard, for a million snippets
    hours = CATALOGUE / 1e6 * one * quantizer.n_tables * huge / 3600
    now = (spill_s + from_spills) / millions * CATALOGUE / 1e6 / 3600
    print(f"10 M tracks: from codes some {hours:.0f} CPU hours, from spills {now:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
