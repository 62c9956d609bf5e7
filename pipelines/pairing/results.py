"""What a search for pairs publishes, and what it says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import parquet
from pipelines.pairing.job import (
    DUPLICATES,
    FAILURES,
    FORMAT_VERSION,
    PAIRS,
    PAIRS_PER_FILE,
    PairsJob,
    part_file,
)


def publish(
    job: PairsJob,
    parts: int,
    repeats: Mapping[str, str],
    failures: Sequence[Mapping[str, str | None]],
) -> dict[str, int]:
    """Writes pairs, duplicates and failures, each sorted by its MIDI file; counts of all.

    Memory: `PAIRS_PER_FILE` pairs, and the failures.

    Args:
        parts: of candidates, all of them aligned.
        repeats: as from `pipelines.pairing.candidates.find_repeated`.
        failures: of the stages before.
    """
    metadata = {
        "hashbeam_format": str(FORMAT_VERSION),
        "min_confidence": str(job.options.min_confidence),
    }
    waiting, files = PAIRS.empty_table(), 0
    failed = [pa.Table.from_pylist(list(map(dict, failures)), schema=FAILURES)]
    counts = {"pairs_aligned": 0, "pairs_failed": 0, "pairs_kept": 0}
    midi, tracks = set[str](), set[str]()

    def write(table: pa.Table) -> None:
        parquet.write_table(job.path("pairs", part_file(files)), table, metadata=metadata)

    for part in range(parts):
        table = parquet.read_table(job.part_path("align", part))
        broken = table.filter(pc.is_valid(table["error"]))
        failed.append(broken.select(FAILURES.names))
        kept = table.filter(
            pc.fill_null(pc.greater_equal(table["confidence"], job.options.min_confidence), False)
        )
        counts["pairs_failed"] += broken.num_rows
        counts["pairs_aligned"] += table.num_rows - broken.num_rows
        counts["pairs_kept"] += kept.num_rows
        midi.update(kept["midi_path"].to_pylist())
        tracks.update(kept["track_id"].to_pylist())
        waiting = pa.concat_tables([waiting, kept.select(PAIRS.names)])
        if waiting.num_rows >= PAIRS_PER_FILE:
            write(waiting)
            waiting, files = PAIRS.empty_table(), files + 1
    if waiting.num_rows or not files:  # without pairs, too: its columns say what there would be
        write(waiting)
    rows = [{"midi_path": path, "repeats": first} for path, first in sorted(repeats.items())]
    table = pa.Table.from_pylist(rows, schema=DUPLICATES)
    parquet.write_table(job.path("duplicates", part_file(0)), table, metadata=metadata)
    table = pa.concat_tables(failed).sort_by([("midi_path", "ascending"), ("uri", "ascending")])
    parquet.write_table(job.path("failures", part_file(0)), table, metadata=metadata)
    counts |= {"midi_files_kept": len(midi), "tracks_kept": len(tracks)}
    return counts | {"failures": table.num_rows}


def as_text(summary: Mapping[str, Any]) -> str:
    """A few lines for a person."""
    lines = [
        f"{summary['out']}: {summary['midi_files']} MIDI files and {summary['tracks']} tracks in "
        f"{summary['wall_s']:.1f} s",
        f"  {summary['midi_files_repeated']} repeat another one, {summary['midi_files_failed']} "
        "cannot be used",
        f"  {summary['midi_files_named']} have the name of a track: {summary['pairs_aligned']} "
        "pairs aligned",
        f"  {summary['pairs_kept']} pairs kept, of {summary['midi_files_kept']} MIDI files and "
        f"{summary['tracks_kept']} tracks, with a confidence of {summary['min_confidence']:g} or "
        "more",
    ]
    if summary["failures"]:
        lines.append(f"  {summary['failures']} failures: see failures/")
    return "\n".join(lines)
