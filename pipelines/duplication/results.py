"""What a search for duplicates publishes, and what look-up and disambiguation read of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hashing.errors import HashbeamError, IndexFormatError
from hashing.overlaps import RELATIONS, SAME
from hashing.recordings import Recordings, group_recordings
from pipelines import io, parquet
from pipelines.duplication.compare import NUMBERS, PAIRS, read_receipts
from pipelines.duplication.job import FORMAT_VERSION, DuplicatesJob

# Score from which on a pair of one recording makes a group: more likely one than two.
GROUP_SCORE = 0.5

DUPLICATES, GROUPS_FILE, SUMMARY = "duplicates.parquet", "groups.parquet", "run.json"

GROUPS = pa.schema(
    [
        ("group", pa.int64()),
        ("track_id", pa.string()),
        ("is_representative", pa.bool_()),
        ("size", pa.int32()),
        ("score", pa.float64()),
        ("offset_s", pa.float64()),
    ]
)


def publish(job: DuplicatesJob, metadata: dict[str, str]) -> dict[str, int | float]:
    """Writes the pairs of all parts as one file, and the groups that they make; counts of both.

    Memory: the pairs of one recording, some 200 bytes each.

    Args:
        metadata: what stands in the schema of both files.
    """
    strong, kept = list[pa.Table](), ["score", "start_s", "other_start_s"]
    counts: dict[str, int | float] = {f"pairs_{name}": 0 for name in RELATIONS}
    counts |= {"pairs_isrc_equal": 0, "pairs_isrc_different": 0}
    counts |= {"pairs_compared": 0, "shifts_compared": 0, "compare_cpu_s": 0.0}
    with io.open_write(job.path(DUPLICATES)) as file:
        schema = PAIRS.with_metadata(metadata)
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for part in range(job.n_parts):
                path = job.part_path(part)
                table, told = parquet.read_table(path), parquet.read_metadata(path)
                writer.write_table(table.select(PAIRS.names).replace_schema_metadata(metadata))
                relations, isrcs = (table[name].to_pylist() for name in ("relation", "isrc"))
                for name in RELATIONS:
                    counts[f"pairs_{name}"] += relations.count(name)
                for name in ("equal", "different"):
                    counts[f"pairs_isrc_{name}"] += isrcs.count(name)
                counts["pairs_compared"] += int(told["compared"])
                counts["shifts_compared"] += int(told["shifts"])
                counts["compare_cpu_s"] += float(told["cpu_s"])
                score = table["score"].to_numpy()
                same = np.array([name == SAME for name in relations], bool)
                chosen = table.filter(pa.array(same & (score >= GROUP_SCORE)))
                strong.append(chosen.select([*NUMBERS, "track_id", "other_track_id", *kept]))
    pairs = pa.concat_tables(strong)
    found = group_recordings(
        pairs["number"].to_numpy().astype(np.int64),
        pairs["other_number"].to_numpy().astype(np.int64),
        pairs["score"].to_numpy(),
    )
    parquet.write_table(job.path(GROUPS_FILE), _groups(pairs, found), metadata=metadata)
    counts["groups"] = int(found.group.max(initial=-1)) + 1
    counts["tracks_in_groups"] = int(found.track.size)
    counts["tracks_split_from_groups"] = found.split
    return counts


def _groups(pairs: pa.Table, found: Recordings) -> pa.Table:
    ids, starts = dict[int, str](), dict[tuple[int, int], float]()
    for row in pairs.to_pylist():
        one, other = row["number"], row["other_number"]
        ids[one], ids[other] = row["track_id"], row["other_track_id"]
        starts[one, other] = row["other_start_s"] - row["start_s"]
        starts[other, one] = -starts[one, other]
    sizes = np.bincount(found.group, minlength=1)
    first = np.diff(found.group, prepend=-1) != 0  # the medoid comes first
    medoid = found.track[np.flatnonzero(first)][found.group] if found.track.size else found.track
    offsets = [
        0.0 if track == centre else starts[track, centre]
        for track, centre in zip(found.track.tolist(), medoid.tolist(), strict=True)
    ]
    return pa.table(
        {
            "group": pa.array(found.group + 1, pa.int64()),
            "track_id": pa.array([ids[track] for track in found.track.tolist()], pa.string()),
            "is_representative": pa.array(first, pa.bool_()),
            "size": pa.array(sizes[found.group], pa.int32()),
            "score": pa.array(found.score, pa.float64()),
            "offset_s": pa.array(np.round(offsets, 3), pa.float64()),
        },
        schema=GROUPS,
    )


def join_counts(job: DuplicatesJob) -> dict[str, int | float]:
    """What the blocks were made of."""
    receipts = read_receipts(job)
    names = ("postings", "long_buckets", "long_postings", "pairs", "cpu_s")
    told = ("postings_joined", "long_buckets", "long_postings", "snippet_pairs", "join_cpu_s")
    return {
        name: sum(getattr(receipt, field) for receipt in receipts)
        for field, name in zip(names, told, strict=True)
    }


def read_groups(folder: str) -> dict[str, int]:
    """Group of every track that has duplicates, by its id: what ``--duplicates DIR`` names.

    Raises: HashbeamError where the folder holds no finished search for duplicates.
    """
    if io.read_if_exists(io.join(folder, SUMMARY)) is None:
        raise HashbeamError(
            f"--duplicates: {folder} holds no finished `hashbeam duplicates`: name its --out, or "
            "run it again"
        )
    path = io.join(folder, GROUPS_FILE)
    if parquet.read_metadata(path).get("hashbeam_format") != str(FORMAT_VERSION):
        raise IndexFormatError(
            f"{path} has another format than {FORMAT_VERSION}, which this hashbeam reads; run "
            "`hashbeam duplicates` again"
        )
    table = parquet.read_table(path, ["track_id", "group"])
    return dict(zip(table["track_id"].to_pylist(), table["group"].to_pylist(), strict=True))


def as_text(summary: dict[str, Any]) -> str:
    """A few lines for a person."""
    pairs = ", ".join(f"{summary[f'pairs_{name}']} {name}" for name in RELATIONS)
    lines = [
        f"{summary['out']}: {summary['tracks']} tracks in {summary['wall_s']:.1f} s",
        f"  {summary['groups']} recordings stand there more than once, as "
        f"{summary['tracks_in_groups']} tracks",
        f"  pairs of tracks that share audio: {pairs}",
    ]
    if summary["long_buckets"]:
        lines.append(
            f"  {summary['long_buckets']} buckets with {summary['long_postings']} of "
            f"{summary['postings_joined']} postings were passed over: more than "
            f"{summary['max_bucket']} each; --max-bucket raises that"
        )
    return "\n".join(lines)


def unfinished(job: DuplicatesJob, names: Sequence[str]) -> tuple[set[str], list[int]]:
    """Names of blocks that are not joined, and parts that are not compared."""
    done = {receipt.name for receipt in read_receipts(job)}
    missing = {name for name in names if name not in done}
    written = set(io.list_dir(job.path("work", "parts")))
    parts = [part for part in range(job.n_parts) if job.part_file(part) not in written]
    return missing, parts
