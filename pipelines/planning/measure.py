"""How fast this machine is, by a few seconds of the very work that an index is made of.

Some tracks become a part, as they do in an index run, and codes of random bits become shards: the
first of a segment, for which codes are read, and another one, for which they are in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.audio import encode
from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from hashing.listening import ListeningDecoder
from hashing.quantizers import Quantizer
from hashing.synthesis import render_track
from pipelines import parquet
from pipelines.allowed import ANYWHERE
from pipelines.options import DECODE_TIMEOUT_S, MAX_TRACK_HOURS
from pipelines.parts import MIN_TRACKS, HashJob, count_parts, hash_part, write_parts
from pipelines.plain import write_plain
from pipelines.planning.speeds import (
    FILE_CPU_S,
    POSTINGS_CPU_S,
    SHARD_CPU_S,
    Speeds,
    TableSpeeds,
)
from pipelines.runs import Plan, Receipt, Run
from pipelines.segment_codes import SegmentCodes
from pipelines.stores import is_remote, local
from pipelines.tables import ShardTask, build_table
from pipelines.versions import FIRST_VERSION, utc_now

# Made up where no catalogue is named: a file of mp3 at 128 kb/s, as most catalogues have, that is
# hashed so often that the ticks of the CPU's clock do not tell.
RENDERED_S, RENDERED_RATE, RENDERED_BITS, RENDERED_COPIES = 30.0, 44_100, 128_000, 16
# Of a catalogue: three parts, of which as many are hashed as take so many CPU seconds.
SAMPLED_TRACKS = 3 * MIN_TRACKS
ENOUGH_CPU_S = 5.0
# A segment that is kept in memory while its shards are built, and whose sorting tells.
TABLE_SNIPPETS = 200_000
KEY_BITS = 16  # so that buckets hold three postings, as they do in an index
ROUNDS = 3  # the median: another process may have had the machine in one of them


@dataclasses.dataclass(frozen=True)
class Measured:
    """Speeds, and bytes of audio a second where tracks of a catalogue were heard (else 0)."""

    speeds: Speeds
    audio_bytes_per_s: float


def measure(
    hasher: Hasher,
    encoders: Mapping[str, Any] | None = None,
    *,
    keep_embeddings: bool = False,
    uris: Sequence[str] = (),
    hashing: bool = True,
) -> Measured:
    """Decodes and hashes a few tracks, and builds two shards of random codes.

    Args:
        hasher: the model.
        encoders: of what is asked for beside codes, by kind.
        keep_embeddings: whether those of snippets are kept.
        uris: tracks to hash; none: some are made up.
        hashing: False measures tables only.

    Raises: HashbeamError where none of the tracks can be hashed.
    """
    with tempfile.TemporaryDirectory(prefix="hashbeam-plan-") as folder:
        receipts = []
        if hashing:
            receipts = _hash(folder, hasher, encoders or {}, keep_embeddings, uris)
        tables = _build(folder, hasher)
    if not hashing:
        return Measured(Speeds(0.0, tables, source="this machine"), 0.0)
    total: Counter[str] = Counter()
    for receipt in receipts:
        total.update(
            {name: receipt.counters[name] for name in ("audio_s", "cpu_s", "tracks_hashed")}
        )
    what = "tracks" if uris else "made-up tracks"
    speeds = Speeds(
        hash_cpu_s_per_hour=3600 * total["cpu_s"] / total["audio_s"],
        tables=tables,
        worker_bytes=float(max(receipt.counters["max_rss_bytes"] for receipt in receipts)),
        source=f"this machine ({total['tracks_hashed']} {what}, {total['audio_s']:.0f} s)",
    )
    heard = uris[: int(sum(receipt.counters["tracks"] for receipt in receipts))]
    return Measured(speeds, _bytes_per_s(heard, total["audio_s"]))


def _bytes_per_s(uris: Sequence[str], audio_s: float) -> float:
    """Of files on this machine; 0 where there are none: their sizes are not asked for elsewhere."""
    paths = [local(uri) for uri in uris if not is_remote(uri)]
    sizes = [Path(path).stat().st_size for path in paths if Path(path).is_file()]
    return sum(sizes) / audio_s if len(sizes) == len(uris) else 0.0


def _hash(
    folder: str,
    hasher: Hasher,
    encoders: Mapping[str, Any],
    keep_embeddings: bool,
    uris: Sequence[str],
) -> list[Receipt]:
    """The receipts of parts of these tracks, hashed when all is warm."""
    made_up = not uris
    uris = list(uris) or _render(folder)
    catalog = pa.table({"track_id": [f"{n:06d}" for n in range(len(uris))], "uri": uris})
    receipts = list[Receipt]()
    with contextlib.closing(ListeningDecoder()) as decoder:
        decoder.prepare(hasher)
        if encoders:
            decoder.prepare_beside(encoders)

        def hash_parts(name: str, tracks: pa.Table) -> Iterator[Receipt]:
            run = run_of(str(Path(folder, name)), hasher, tracks.num_rows)
            write_parts(run, tracks)
            job = HashJob(run, MAX_TRACK_HOURS * 3600, DECODE_TIMEOUT_S, keep_embeddings)
            if made_up:
                job = dataclasses.replace(job, allowed=ANYWHERE)
            for part in range(run.plan.n_parts):
                yield hash_part(job, part, hasher, decoder, encoders)

        # The first track pays for libraries that are loaded late: in a job it is one of thousands.
        next(hash_parts("first", catalog.slice(0, 1)))
        for receipt in hash_parts("all", catalog):
            receipts.append(receipt)
            if sum(one.counters["cpu_s"] for one in receipts) > ENOUGH_CPU_S:
                break
    if not any(receipt.counters["tracks_hashed"] for receipt in receipts):
        raise HashbeamError(
            f"none of {len(uris)} tracks of the catalogue can be hashed, for one {uris[0]}: mend "
            "their uris, or give speeds with --from or --hash-cpu-s"
        )
    return receipts


def run_of(folder: str, hasher: Hasher, tracks: int) -> Run:
    """The run of an index that starts from nothing, of no catalogue in particular."""
    plan = Plan(
        version=FIRST_VERSION,
        catalog_digest="",
        model_digest=hasher.digest,
        model_name=hasher.model.name,
        options={},
        n_tracks=tracks,
        n_parts=count_parts(tracks),
        created=utc_now(),
    )
    return Run(folder, plan)


def _render(folder: str) -> list[str]:
    mono = render_track(0, RENDERED_S, RENDERED_RATE)
    side = 0.2 * np.roll(mono, 37)  # the channels differ a little, as those of music do
    path = str(Path(folder, "rendered.mp3"))
    stereo = 0.8 * np.stack([mono + side, mono - side], 1)
    encode(stereo, RENDERED_RATE, path, codec="mp3", bit_rate=RENDERED_BITS)
    return [path] * RENDERED_COPIES


def _build(folder: str, hasher: Hasher) -> TableSpeeds:
    """What a million postings cost, and what a million codes cost that are read.

    Codes of a small segment are read for its first shard, and are in memory for all others.
    """
    quantizer = hasher.quantizer
    bits = min(KEY_BITS, quantizer.key_bits_max)
    run = run_of(str(Path(folder, "tables")), hasher, 1)
    reading, building = list[float](), list[float]()
    for number in range(ROUNDS + 1):
        # The first is small and pays for libraries that are loaded late.
        segment = random_segment(folder, quantizer, TABLE_SNIPPETS if number else 1000, number)
        first, second = (
            build_table(run, segment, task, quantizer).counters["cpu_s"]
            for task in (
                ShardTask(number, 0, shard, 0, 2**bits, segment.total, bits) for shard in (0, 1)
            )
        )
        if number:
            reading.append(first - second)
            building.append(second - SHARD_CPU_S)
    millions = TABLE_SNIPPETS / 1e6
    postings = max(1e-6, float(np.median(building))) / millions / quantizer.replication
    codes = max(1e-6, float(np.median(reading))) / millions
    factor = max(1.0, postings / POSTINGS_CPU_S)  # small costs shrink less than sorting does
    return TableSpeeds(factor * SHARD_CPU_S, factor * FILE_CPU_S, postings, codes)


def random_segment(folder: str, quantizer: Quantizer, snippets: int, seed: int) -> SegmentCodes:
    """One track of random codes in files of `folder`, as index runs write it."""
    packed = np.random.default_rng(seed).bytes(snippets * quantizer.code_bytes)
    code = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(quantizer.code_bytes), snippets, [None, pa.py_buffer(packed)]
    )
    numbers = pa.array(np.arange(snippets, dtype=np.int32))
    columns = {"track_id": pa.array(["t"] * snippets), "snippet": numbers}
    codes, tracks = (str(Path(folder, f"{name}{seed}.parquet")) for name in ("codes", "tracks"))
    write_plain(codes, pa.table({**columns, "start_ms": numbers, "code": code}), {})
    count = pa.array([snippets], pa.uint32())
    parquet.write_table(tracks, pa.table({"snippets": count, "gids": count}))
    return SegmentCodes(seed, range(1), [codes], [tracks], [snippets], [0], f"random {seed}")
