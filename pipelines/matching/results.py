"""What a search for the recordings of MIDI files says at its end."""

from __future__ import annotations

import json
from typing import Any

from pipelines import io
from pipelines.matching.job import ALIGN, COUNT, GATHER, HEAR, PRUNE, SEARCH, MatchJob, totals


def read_counts(job: MatchJob) -> dict[str, int | float]:
    """The counters of all tasks, by names with units.

    `…_cpu_s` are seconds of CPU of all workers together; `hear_s` is time that passed, since most
    of it passes in FluidSynth. `…_left_share` is how many pairs of a MIDI file and a recording a
    stage has left, of those that it was given.
    """
    paths = [io.join(job.receipts, f"{name}.json") for name in sorted(job.done())]
    found = totals([json.loads(data) for data in io.read_all(paths) if data is not None])
    heard, searched, aligned = found[HEAR], found[SEARCH], found[ALIGN]
    searches = max(job.n_blocks, 1)  # each block meets all recordings
    pairs, left = searched.get("pairs", 0), searched.get("pairs_left", 0)
    candidates = found[GATHER].get("candidates", 0)
    failed, matched = int(heard.get("midi_failed", 0)), int(aligned.get("midi_matched", 0))
    return {
        "midi_files": job.n_midi,
        "midi_matched": matched,
        "midi_unmatched": job.n_midi - failed - matched,
        "midi_failed": failed,
        "matches": int(aligned.get("matches", 0)),
        "midi_aligned": int(aligned.get("midi_aligned", 0)),
        "midi_not_aligned": int(aligned.get("midi_not_aligned", 0)),
        "midi_s": round(heard.get("midi_s", 0.0), 3),
        "recordings": int(searched.get("recordings", 0)) // searches,
        "recordings_too_short": int(searched.get("recordings_too_short", 0)) // searches,
        "pairs": int(pairs),
        "pairs_after_embeddings": int(left),
        "pairs_after_hashes": int(candidates),
        "embeddings_left_share": _share(left, pairs),
        "hashes_left_share": _share(candidates, left),
        "hear_s": round(heard.get("s", 0.0), 3),
        "embeddings_cpu_s": round(
            sum(found[step].get("cpu_s", 0.0) for step in (COUNT, PRUNE))
            + searched.get("embeddings_cpu_s", 0.0),
            3,
        ),
        "hashes_cpu_s": round(
            searched.get("hashes_cpu_s", 0.0) + found[GATHER].get("cpu_s", 0.0), 3
        ),
        "align_cpu_s": round(aligned.get("cpu_s", 0.0), 3),
    }


def _share(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole else 1.0


def as_text(summary: dict[str, Any]) -> str:
    """A few lines for a person."""
    lines = [
        f"{summary['out']}: {summary['midi_files']} MIDI files against {summary['recordings']} "
        f"recordings in {summary['wall_s']:.1f} s",
        f"  {summary['midi_matched']} with a match, {summary['midi_unmatched']} without, "
        f"{summary['midi_failed']} that could not be heard",
        f"  of {summary['pairs']} pairs embeddings left {summary['pairs_after_embeddings']} and "
        f"hash sequences {summary['pairs_after_hashes']}; seconds of work: to hear "
        f"{summary['hear_s']:.1f}, embeddings {summary['embeddings_cpu_s']:.1f}, hash sequences "
        f"{summary['hashes_cpu_s']:.1f}, alignment {summary['align_cpu_s']:.1f}",
    ]
    if summary["midi_failed"] or summary["midi_not_aligned"] or summary["midi_skipped"]:
        lines.append(f"  the reasons stand in {io.join(summary['out'], 'failures')}")
    if summary["midi_aligned"]:
        where = io.join(summary["out"], "aligned")
        lines.append(f"  {summary['midi_aligned']} MIDI files stand in {where}, moved")
    return "\n".join(lines)
