"""Planning of segments and shards, for sizes that no test could store."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.quantizers import SignQuantizer
from pipelines.runs import Plan, Receipt, Run
from pipelines.segment_codes import SegmentCodes, read_segments
from pipelines.tables import choose_key_bits, plan_shards
from pipelines.versions import FileEntry

BITS = np.arange(2 * 22).reshape(2, 22)
QUANTIZER = SignQuantizer(np.zeros(44), np.ones(44), BITS)


class Soft(SignQuantizer):
    """Gives a snippet three postings a table, on average: soft assignment."""

    replication = 3.0


SOFT = Soft(np.zeros(44), np.ones(44), BITS)


def run_of(n_parts: int) -> Run:
    plan = Plan("000001", "c", "m", "model", {}, 8 * n_parts, n_parts, "now")
    return Run("index", plan)


def receipts_of(snippets: list[int]) -> dict[str, Receipt]:
    found = {}
    for part, count in enumerate(snippets):
        name = f"part-{part:05d}"
        files = [
            FileEntry(f"versions/000001/{kind}/{name}", kind, count, 9, f"{part:x}", part=part)
            for kind in ("codes", "tracks")
            if count  # a part of failures only has no codes
        ]
        # Silence in every part: numbers without a code.
        counters = {"snippets": count, "gids": count * 11 // 10}
        found[name] = Receipt(name, "a", files, counters, 0.0, 1.0)
    return found


def test_a_segment_ends_where_numbers_of_snippets_would_not_fit() -> None:
    # 10 million tracks of 480 snippets in 4096 parts: 4.8e9 snippets, more than 2**32.
    snippets = [1_171_870] * 4096
    numbers = 1_289_057  # of a part
    first, second = read_segments(run_of(4096), receipts_of(snippets))
    assert first.total + second.total == 1_171_870 * 4096
    assert first.first_gids[-1] + numbers < 2**32 <= first.first_gids[-1] + 2 * numbers
    assert (first.parts.start, second.parts.start, second.parts.stop) == (0, 3331, 4096)
    assert second.paths[0] == "index/versions/000001/codes/part-03331"
    assert second.tracks_paths[0] == "index/versions/000001/tracks/part-03331"
    assert second.first_gids[:2] == [0, numbers]
    long = SignQuantizer(np.zeros(32), np.ones(32), np.arange(32)[None])
    assert choose_key_bits([first, second], long) == 31  # four postings a bucket
    assert choose_key_bits([first, second], QUANTIZER) == 22  # its longest


def test_parts_without_codes_are_counted_but_not_read() -> None:
    (segment,) = read_segments(run_of(3), receipts_of([50, 0, 70]))
    assert (segment.parts, segment.snippets, segment.total) == (range(3), [50, 70], 120)
    assert segment.first_gids == [0, 55]


def segment_of(snippets: int, digest: str = "digest") -> SegmentCodes:
    return SegmentCodes(0, range(1), ["c"], ["t"], [snippets], [0], digest)


@pytest.mark.parametrize(("snippets", "hard", "soft"), [(1000, 12, 12), (2**17, 15, 17)])
def test_keys_are_as_long_as_postings_ask_for(snippets: int, hard: int, soft: int) -> None:
    """Three postings a snippet take 1.6 bits more than one."""
    assert choose_key_bits([segment_of(snippets)], QUANTIZER) == hard
    assert choose_key_bits([segment_of(snippets)], SOFT) == soft


@given(st.integers(1, 2**32 - 1), st.integers(1, 22), st.sampled_from([QUANTIZER, SOFT]))
def test_shards_cover_every_key_of_every_table_once(
    total: int, key_bits: int, quantizer: SignQuantizer
) -> None:
    tasks = list(plan_shards(segment_of(total), quantizer, key_bits))
    assert len({task.name for task in tasks}) == len(tasks)
    for table in (0, 1):
        of_table = [task for task in tasks if task.table == table]
        assert of_table[0].key_lo == 0
        assert of_table[-1].key_hi == 2**key_bits
        for task, following in itertools.pairwise(of_table):
            assert task.key_hi == following.key_lo
        assert all(task.key_bits == key_bits for task in of_table)
        assert sum(task.postings for task in of_table) >= total * quantizer.replication
        # Memory: a shard is no larger than a block, unless the keys are too short to cut more.
        if len(of_table) < 2**key_bits:
            assert of_table[0].postings <= 32_000_000


@pytest.mark.parametrize("change", ["codes", "bits", "range"])
def test_a_shard_made_from_something_else_is_told_by_its_inputs(change: str) -> None:
    segment = segment_of(100)
    other = segment_of(100, "other" if change == "codes" else "digest")
    task = next(iter(plan_shards(segment, QUANTIZER, 22)))
    block = 10 if change == "range" else 32_000_000
    changed = next(iter(plan_shards(other, QUANTIZER, 21 if change == "bits" else 22, block)))
    assert changed.name == task.name
    assert changed.inputs(other) != task.inputs(segment)
