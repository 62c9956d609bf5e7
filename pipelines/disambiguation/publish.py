"""Results on disk: each file whole or not at all, ``run.json`` last."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.decoder import Decoder
from pipelines import io, parquet
from pipelines.disambiguation import results
from pipelines.disambiguation.group import Groups
from pipelines.disambiguation.judge import Judged, count_by_status
from pipelines.disambiguation.options import DisambiguateOptions
from pipelines.disambiguation.outcome import FAILURES_SHOWN, Failure, Group, Proposal, Run
from pipelines.disambiguation.results import Earlier
from pipelines.disambiguation.review import Decisions, save_decisions
from pipelines.disambiguation.show import show_group
from pipelines.disambiguation.snippets import as_address, cut_snippets, forget_others
from pipelines.io import FileInfo
from pipelines.progress import Progress, shows_progress
from pipelines.summary import versions
from pipelines.versions import utc_now

FORMAT_VERSION = 1
REPORT, METRICS, DECISIONS = "report.html", "metrics.json", "decisions.json"
PROPOSALS_SHOWN = 500  # by the report; all are in proposals.parquet

_PACKAGES = ("hashbeam", "numpy", "scipy", "pyarrow", "apache-beam", "onnxruntime", "soundfile")


@dataclasses.dataclass(frozen=True)
class Hearing:
    """How many tracks were known before, how much audio (s) was heard now, and in what time (s)."""

    reused: int
    audio_s: float
    wall_s: float


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """Everything that a run has found, before any of it is written.

    Attributes:
        runs: this run, and those before it, the latest first.
        heard: bool [tracks]; `embeddings` float32 [tracks, d]; `durations` float32 [tracks] in s;
            `measures` float32 [tracks, measures].
        failures: rows of ``failures/``.
        settings: those that change clusters.
        figures: the content of ``metrics.json``, or None; `truth` the figures of each group.
        started: Unix seconds.
        workers: as `pipelines.runner.workers_here` tells.
    """

    run_id: str
    runs: tuple[str, ...]
    catalog: pa.Table
    groups: Groups
    judged: Judged
    heard: npt.NDArray[np.bool_]
    embeddings: npt.NDArray[np.float32]
    durations: npt.NDArray[np.float32]
    measures: npt.NDArray[np.float32]
    failures: pa.Table
    proposals: Sequence[Proposal]
    decisions: Decisions
    earlier: Earlier
    settings: Mapping[str, Any]
    figures: Mapping[str, Any] | None
    truth: Mapping[int, Mapping[str, float]]
    model: str
    hearing: Hearing
    started: float
    workers: int | None


@dataclasses.dataclass(frozen=True)
class Summary:
    """What was done: for people, and for programs as in ``run.json``."""

    out: str
    facts: Mapping[str, Any]

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps({"out": self.out, **self.facts}, ensure_ascii=False)

    def to_text(self) -> str:
        """A few lines for people."""
        facts = self.facts
        status = facts["groups_by_status"]
        judged = status.get("clustered", 0) + status.get("decided", 0)
        lines = [
            f"{io.join(self.out, REPORT)}: {facts['tracks']} tracks, {facts['groups']} names, "
            f"{facts['wall_s']:.1f} s",
            f"  {facts['tracks_heard']} tracks heard, {facts['tracks_reused']} of them before; "
            f"{facts['tracks_failed']} failed",
            f"  {judged} names judged, {facts['names_split']} of them split: "
            f"{facts['clusters']} clusters",
        ]
        alone = [f"{count} {name}" for name, count in status.items() if name not in _JUDGED]
        if alone:
            lines.append(f"  names left alone: {', '.join(alone)}")
        if facts["proposals"]:
            lines.append(f"  {facts['proposals']} splits and merges are proposed")
        if facts["tracks_decided"]:
            lines.append(f"  {facts['tracks_decided']} tracks are decided by editors")
        if facts["tracks_failed"]:
            lines.append(f"  the reasons stand in {io.join(self.out, 'failures')}")
        return "\n".join(lines)


_JUDGED = ("clustered", "decided")


def publish(options: DisambiguateOptions, found: Findings) -> Summary:
    """Writes all results of a run into its folder."""
    from pipelines.report.disambiguation import render

    out, groups, judged = options.out, found.groups, found.judged
    memberships = results.memberships_table(groups, judged, found.catalog)
    names = results.groups_table(groups, judged)
    tables = {
        results.MEMBERSHIPS: memberships,
        results.GROUPS: names,
        results.PROPOSALS: results.proposals_table(
            found.proposals, found.decisions, found.earlier.proposals()
        ),
        results.CLUSTERS: results.clusters_table(groups, judged, found.catalog),
    }
    facts = _facts(options, found, names)
    snippets = _snippets(options, found)
    shown = _shown(options, found, snippets)
    listed = sum(status != "not-asked" for status in judged.status)
    run = Run(
        found.run_id,
        facts,
        tuple(shown),
        tuple(found.proposals[:PROPOSALS_SHOWN]),
        tuple(Failure(**row) for row in found.failures.slice(0, FAILURES_SHOWN).to_pylist()),
        found.figures,
        listed - len(shown),
    )
    page = render(run).encode("utf-8", "replace")
    _write_failures(out, found.failures)
    stamp = {"hashbeam_format": str(FORMAT_VERSION), "run_id": found.run_id}
    files = [
        parquet.write_table(io.join(out, name), table, metadata=stamp)
        for name, table in tables.items()
    ]
    if found.figures is None:
        io.remove(io.join(out, METRICS))
    else:
        files.append(_write_json(io.join(out, METRICS), dict(found.figures)))
    files.append(io.write_bytes(io.join(out, REPORT), page))
    save_decisions(io.join(out, DECISIONS), found.decisions)
    facts = {
        **facts,
        "wall_s": round(time.time() - found.started, 3),
        "files": [
            {
                "path": file.path.removeprefix(io.join(out, "")),
                "bytes": file.bytes,
                "rows": file.rows,
                "sha256": file.sha256,
            }
            for file in files
        ],
    }
    _write_json(io.join(out, results.RUN), facts)
    forget_others(out, snippets.values())
    return Summary(out, facts)


def _facts(options: DisambiguateOptions, found: Findings, names: pa.Table) -> dict[str, Any]:
    judged = found.judged
    clusters = names["clusters"].to_numpy()
    wanted = int(found.groups.judged().sum())
    return {
        "format_version": FORMAT_VERSION,
        "job": "disambiguate",
        "run_id": found.run_id,
        "runs": list(found.runs),
        "created": utc_now(),
        "catalog": options.catalog,
        "model": found.model,
        "settings": dict(found.settings),
        "cut": found.settings["cut"],
        "min_tracks": options.min_tracks,
        "min_confidence": options.min_confidence,
        "names_asked": list(options.names),
        "names_opted_out": len(options.opt_outs),
        "rules": dataclasses.asdict(options.rules),
        "review": options.review,
        "tracks": found.catalog.num_rows,
        "tracks_wanted": wanted,
        "tracks_heard": int(found.heard.sum()),
        "tracks_reused": found.hearing.reused,
        "audio_heard_now_s": round(found.hearing.audio_s, 3),
        "hear_wall_s": round(found.hearing.wall_s, 3),
        "tracks_failed": found.failures.num_rows,
        "tracks_decided": judged.member_status.count("decided"),
        "audio_s": round(float(found.durations[found.heard].sum(dtype=np.float64)), 3),
        "groups": len(found.groups.keys),
        "groups_by_status": dict(count_by_status(judged.status)),
        "names_split": int((clusters > 1).sum()),
        "clusters": int(clusters.sum()),
        "proposals": len(found.proposals),
        "workers": found.workers,
        "wall_s": round(time.time() - found.started, 3),
        "versions": versions(_PACKAGES),
    }


def _shown(
    options: DisambiguateOptions, found: Findings, snippets: Mapping[str, str]
) -> list[Group]:
    addresses = {track_id: as_address(path) for track_id, path in snippets.items()}
    reasons = {row["track_id"]: row["message"] for row in found.failures.to_pylist()}
    return [
        show_group(
            group,
            found.groups,
            found.judged,
            clustered,
            found.catalog,
            found.heard,
            found.embeddings,
            found.measures,
            found.settings["cut"],
            snippets=addresses,
            failures=reasons,
            truth=found.truth.get(group),
        )
        for group, clustered in found.judged.shown.items()
    ]


def _snippets(options: DisambiguateOptions, found: Findings) -> dict[str, str]:
    """Snippets of the most typical tracks: one of each cluster first, then a second."""
    shown = found.judged.shown
    centres = found.judged.centres
    wanted: dict[int, None] = {}
    for rank in range(2):
        for group, clustered in shown.items():
            # With one voice there is nothing to compare, and less to doubt.
            if len(set(clustered.numbers.tolist())) < 2:
                continue
            for place in np.flatnonzero(centres.group == group).tolist():
                if len(centres.medoids[place]) > rank and len(wanted) < options.snippets:
                    wanted[centres.medoids[place][rank]] = None
    rows = list(wanted)
    ids, uris = (
        found.catalog[name].take(pa.array(rows, pa.int64())).to_pylist()
        for name in ("track_id", "uri")
    )
    done: list[None] = []
    show = shows_progress(quiet=options.quiet, asked=options.progress) and bool(rows)
    with Decoder() as decoder, Progress(len(rows), lambda: len(done), unit="snippet", show=show):
        return cut_snippets(
            options.out,
            zip(ids, uris, found.durations[rows].tolist(), strict=True),
            decoder,
            timeout_s=options.decode_timeout_s,
            progress=lambda: done.append(None),
        )


def _write_failures(out: str, failures: pa.Table) -> None:
    folder = io.join(out, "failures")
    path = io.join(folder, "part-00000.parquet")
    if failures.num_rows:
        parquet.write_table(path, failures)
    else:
        io.remove(path)


def _write_json(path: str, data: Mapping[str, Any]) -> FileInfo:
    text = json.dumps(data, ensure_ascii=False, indent=1)
    return io.write_bytes(path, text.encode("utf-8", "replace") + b"\n")
