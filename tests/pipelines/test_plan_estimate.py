"""Figures of a plan that can be worked out by hand, or by the code that builds indexes."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_catalog import write_rows

from hashing.encoders import Hasher
from hashing.errors import UsageError
from hashing.quantizers import SignQuantizer
from hashing.tables import build_shard, plan_segments
from pipelines.execution import READ_BACK_BYTES
from pipelines.parts import tracks_per_part
from pipelines.planning.content import Content, Overhead
from pipelines.planning.estimate import (
    Prices,
    Stage,
    estimate_changes,
    estimate_index,
    workers_for,
)
from pipelines.planning.layout import plan_layout
from pipelines.planning.outcome import Outcome, notes_on
from pipelines.planning.speeds import Speeds, TableSpeeds
from pipelines.planning.workload import of_catalog, of_tracks
from pipelines.segment_codes import SegmentCodes
from pipelines.tables import choose_key_bits, plan_shards

SIGNS = SignQuantizer(np.zeros(32), np.ones(32), np.tile(np.arange(32), (3, 1)))
FAST = Speeds(10.0, TableSpeeds(0.0, 0.0, 0.1, 0.2), 2.0, 5.0, 3e8, "test")


@pytest.fixture(scope="module")
def content() -> Content:
    """The index that the shipped forgiving hash makes: 58 bytes every half second, 20 tables."""
    overheads = {"codes": Overhead(1000.0, 10.0), "tracks": Overhead(5000.0, 100.0)}
    return Content(Hasher.load("forgiving"), overheads=overheads)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200_000_000), st.integers(10, 1000))
def test_an_index_is_cut_as_the_index_job_does(tracks: int, snippets: int) -> None:
    total = tracks * snippets
    layout = plan_layout(tracks, total, total, SIGNS)
    bounds = [total * part // layout.parts for part in range(layout.parts + 1)]
    parts = np.diff(bounds).tolist()
    sizes = [sum(parts[part] for part in segment) for segment in plan_segments(parts)]
    segments = [
        SegmentCodes(number, range(1), ["c"], ["t"], [size], [0], "")
        for number, size in enumerate(sizes)
    ]
    bits = choose_key_bits(segments, SIGNS)
    assert layout.key_bits == bits
    assert [segment.snippets for segment in layout.segments] == sizes
    tasks = [task for segment in segments for task in plan_shards(segment, SIGNS, bits)]
    assert layout.shards == len(tasks)
    assert layout.postings == 3 * total
    # Short buckets, but where the smallest and the longest keys end.
    if bits > 12 and layout.wanted_key_bits <= 32:
        assert 2 <= layout.bucket <= 4
    assert layout.bucket == pytest.approx(total / 2**bits)


@pytest.mark.parametrize(
    ("postings", "key_bits", "kind"),
    [(20_000, 12, "dense"), (20_000, 15, "ranked"), (90, 12, "sparse")],
)
def test_bytes_of_tables_are_those_of_a_perfect_hash(
    postings: int, key_bits: int, kind: str
) -> None:
    keys = np.random.default_rng(0).integers(0, 2**key_bits, postings, np.uint64)
    out = io.BytesIO()
    place = {"table": 0, "segment": 0, "key_bits": key_bits, "key_lo": 0, "key_hi": 2**key_bits}
    build_shard(keys << np.uint64(32), out, **place)
    layout = plan_layout(10, postings, postings, SIGNS, key_bits=key_bits)
    assert layout.table_bytes == pytest.approx(3 * len(out.getvalue()), rel=0.01), kind


def test_keys_end_where_the_model_ends() -> None:
    short = SignQuantizer(np.zeros(16), np.ones(16), np.arange(16)[None])
    layout = plan_layout(10**6, 10**9, 10**9, short)
    assert (layout.key_bits, layout.wanted_key_bits) == (16, 28)
    assert layout.bucket == pytest.approx(10**9 / 2**16)


def test_stages_by_hand(content: Content) -> None:
    job = estimate_index(of_tracks(1600, 1.0, 32_000.0), content, FAST)
    # 60 s: (60 - 1.0) / 0.5 steps, one more, and half of one lost.
    window_s = content.hasher.features.snippet_samples / content.hasher.features.sample_rate
    snippets = round(1600 * ((60 - window_s) / 0.5 + 0.5))
    assert job.layout.snippets == snippets
    hashing, building, publishing = job.stages
    assert hashing.cpu_s == pytest.approx(1600 / 60 * 10)
    parts = math.ceil(1600 / tracks_per_part(1600))
    assert hashing.pieces == parts
    assert hashing.read_bytes == 1600 * 60 * 32_000
    assert job.index_bytes["codes"] == parts * 1000 + 1600 * 10 + snippets * 58
    assert job.index_bytes["tracks"] == parts * 5000 + 1600 * 100
    assert job.index_bytes["matrices"] == parts * 48 + snippets / 8
    assert hashing.written_bytes + building.written_bytes == pytest.approx(job.total_bytes)
    assert building.written_bytes == job.index_bytes["tables"]
    # Few enough snippets for one reading of the codes, which all tables share.
    assert building.cpu_s == pytest.approx(snippets / 1e6 * (20 * 0.1 + 0.2))
    assert building.read_bytes == pytest.approx(job.index_bytes["codes"])
    assert publishing.cpu_s == pytest.approx(job.total_bytes / 1e9 * 2)
    assert publishing.pieces == 1


def test_of_a_large_index_a_sample_is_read_back(content: Content) -> None:
    """One process does it, whatever many have written."""
    small, large = (
        estimate_index(of_tracks(tracks, 4.0, 32_000.0), content, FAST).stages[-1]
        for tracks in (1_000_000, 100_000_000)
    )
    assert (small.read_bytes, large.read_bytes) == (READ_BACK_BYTES, READ_BACK_BYTES)
    assert large.cpu_s == pytest.approx(READ_BACK_BYTES / 1e9 * 2)


def test_money_is_for_workers_while_they_wait(content: Content) -> None:
    job = estimate_index(of_tracks(80, 1.0, 1.0), content, FAST)
    stage = Stage("x", cpu_s=7200.0, pieces=4, read_bytes=8e9, written_bytes=0.0, memory_bytes=2e9)
    outcome = Outcome(job, 3, 1e7, Prices(0.06, 0.01, 0.02), [])
    # Two rounds of (7200 + 800) / 4 s, in which three workers are held.
    assert stage.wall_s(3, 1e7) == pytest.approx(4000)
    assert outcome.stage_usd(stage) == pytest.approx(3 * 4000 / 3600 * (0.06 + 2 * 0.01))
    assert outcome.month_usd == pytest.approx(job.total_bytes / 1e9 * 0.02)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 10**7), st.floats(0.02, 1000))
def test_the_fewest_workers_that_end_in_time(tracks: int, hours: float) -> None:
    job = estimate_index(of_tracks(tracks, 4.0, 32_000.0), Content(_FORGIVING), FAST)
    found = workers_for(job, hours * 3600, 1e8)
    if found is None:
        assert job.wall_s(10**6, 1e8) > hours * 3600
        return
    assert job.wall_s(found, 1e8) <= hours * 3600
    assert found == 1 or job.wall_s(found - 1, 1e8) > hours * 3600


_FORGIVING = Hasher.load("forgiving")


def test_a_reindex_costs_what_changed(content: Content) -> None:
    workload = of_tracks(100_000, 4.0, 32_000.0)
    whole = estimate_index(workload, content, FAST)
    part = estimate_changes(workload, content, FAST, 0.01)
    assert part.workload.tracks == 1000
    assert part.layout.key_bits == whole.layout.key_bits
    assert part.base == whole
    assert part.stages[1].cpu_s == pytest.approx(whole.stages[0].cpu_s / 100)
    assert part.total_bytes == pytest.approx(whole.total_bytes + sum(part.index_bytes.values()))
    cpu = [sum(stage.cpu_s for stage in job.stages) for job in (part, whole)]
    assert cpu[0] < 0.02 * cpu[1]
    # The catalogue is compared as a whole.
    assert part.stages[0].read_bytes > whole.index_bytes["tracks"]


def test_memory_grows_with_parts_and_embeddings(content: Content) -> None:
    small, large = of_tracks(100, 4.0, 1.0), of_tracks(10**7, 4.0, 1.0)
    kept = dataclasses.replace(content, dimensions=128)
    few, many, embedded = (
        estimate_index(*pair, FAST).stages[0].memory_bytes
        for pair in ((small, content), (large, content), (large, kept))
    )
    assert 3e8 < few < 3.1e8 < many < embedded


def test_what_surprises_is_said(content: Content) -> None:
    huge = estimate_index(of_tracks(10**7, 4.0, 1.0), content, FAST)
    (note,) = notes_on(huge)
    assert note.startswith("while tables are built, 488.1 GB of sorted postings stand beside them")
    assert huge.layout.spilled == huge.layout.postings
    assert huge.temporary_bytes > 5 * huge.layout.spilled
    crowded = estimate_index(of_tracks(10**5, 4.0, 1.0), content, FAST, key_bits=12)
    assert any("buckets are long" in note for note in notes_on(crowded))
    assert not notes_on(estimate_index(of_tracks(1000, 4.0, 1.0), content, FAST))


def test_lengths_of_a_catalogue(tmp_path: Path) -> None:
    rows = [
        {"track_id": name, "uri": f"{name}.mp3", "declared_duration_s": told}
        for name, told in (("a", "100"), ("b", ""), ("c", "50"), ("d", "long"))
    ]
    path = str(write_rows(tmp_path / "catalog.csv", rows))
    assert of_catalog(path, None, 10.0).audio_s == 100 + 50 + 2 * 75
    told = of_catalog(path, 2.0, 10.0)
    assert (told.tracks, told.audio_s, told.audio_bytes) == (4, 390.0, 3900.0)
    bare = str(write_rows(tmp_path / "bare.csv", [{"track_id": "a", "uri": "a.mp3"}]))
    with pytest.raises(UsageError, match=r"--minutes: is needed, since .*bare\.csv has no column"):
        of_catalog(bare, None, 10.0)
