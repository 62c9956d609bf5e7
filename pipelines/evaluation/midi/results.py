"""What ``hashbeam evaluate midi`` writes: figures, a row a MIDI file, failures, the page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipelines import io, parquet
from pipelines.evaluation.midi.asking import CASCADES, OWN, Answer
from pipelines.evaluation.midi.distances import Query
from pipelines.report.midi_page import midi_page
from pipelines.track_tables import FAILURES

FORMAT_VERSION = 1  # of figures.json and the tables


def write_results(
    out: str,
    figures: dict[str, Any],
    queries: Sequence[Query],
    answers: Sequence[Answer],
    names: Sequence[str],
    failures: Sequence[Mapping[str, str]],
) -> None:
    """Writes into a folder; the page last, so that what it points to is there.

    Args:
      names: of the recordings.
    """
    rows = [query_row(query, answer, names) for query, answer in zip(queries, answers, strict=True)]
    stamp = {"hashbeam_format": str(FORMAT_VERSION)}
    parquet.write_table(io.join(out, "queries.parquet"), pa.Table.from_pylist(rows), metadata=stamp)
    table = pa.Table.from_pylist([dict(row) for row in failures], schema=FAILURES)
    parquet.write_table(io.join(out, "failures", "part-00000.parquet"), table)
    io.write_bytes(io.join(out, "figures.json"), json.dumps(figures, indent=1).encode() + b"\n")
    page = midi_page(figures, rows)
    io.write_bytes(io.join(out, "report.html"), page.encode() + b"\n")


def query_row(query: Query, answer: Answer, names: Sequence[str]) -> dict[str, Any]:
    """One MIDI file: what was played of it, and what each system says."""
    own, own_found = answer.decisions[OWN], answer.found["own"]
    row: dict[str, Any] = {
        "name": query.song.name,
        "path": query.song.path,
        "known": query.song.known,
        "score_s": round(query.score.seconds, 2),
        "recording_s": round(query.recording.seconds, 2),
        "changed": query.recording.said,
        "best": names[own.best] if own.best >= 0 else None,
        "best_confidence": own.confidence,
        "absent_best": names[own.other] if own.other >= 0 else None,
        "hash_bits": float(own_found.bits[query.place]),
        "left_by_embeddings": own_found.left,
    }
    for name, found in answer.found.items():
        end = "" if name == "own" else f"_{name}"
        row |= {f"rank_embeddings{end}": found.by_likeness, f"rank_hashes{end}": found.by_hashes}
    for name in CASCADES:
        end, decided = "" if name == OWN else f"_{name}", answer.decisions[name]
        row |= {
            f"rank{end}": decided.rank,
            f"confidence{end}": decided.own,
            f"confidence_absent{end}": decided.absent,
            f"error_s{end}": decided.error_s if math.isfinite(decided.error_s) else None,
        }
    row |= {
        "rendering_cpu_s": query.score.rendering_s,
        "hashing_cpu_s": query.score.hashing_s,
        "embeddings_cpu_s": own_found.seconds[0],
        "hashes_cpu_s": own_found.seconds[1],
        "alignment_cpu_s": own.seconds,
    }
    return row
