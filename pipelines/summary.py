"""What an index run did: for people on stdout, for programs as JSON, and for later in run.json."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import json
import platform
import time
from collections.abc import Sequence
from typing import Any

from hashing.errors import HashbeamError
from pipelines import io
from pipelines.also import ALSO
from pipelines.gather import Built, failure_kinds, total
from pipelines.gating.balance import table_stats
from pipelines.gating.bounds import Gate
from pipelines.records import Record
from pipelines.runs import Receipt
from pipelines.versions import FORMAT_VERSION, Manifest, current_version, load_json, version_path

PACKAGES = (
    "hashbeam",
    "numpy",
    "pyarrow",
    "apache-beam",
    "onnxruntime",
    "soundfile",
    "soxr",
    "av",
)


@dataclasses.dataclass(frozen=True)
class Summary(Record):
    """Counters and timings of a run, units in the names.

    `startup_s` is from the command to the first part's start; `hash_wall_s` from there to the last
    part's end; `wall_s` all. `times_real_time` is audio per `hash_wall_s`,
    `times_real_time_per_cpu` audio per CPU time of hashing, decoder included; parts that an earlier
    start of the run had finished count in neither wall time nor speed. `entropy_bits` is the mean
    over the tables, `max_rss_bytes` that of the largest worker with its decoder. `compared` is
    what look-up compares queries with, ``codes`` or ``embeddings``, and `compared_bytes` its
    size; `index_bytes` is that of all files of the version. `also` has the name of the model of
    each thing that was asked for beside codes; tracks that are `tracks_not_embedded` or
    `tracks_not_sequenced` are indexed.

    `gates` are what the quality gates found before publication, and `comparison` the figures of
    `pipelines.reindexing.rivals` where another model took over.

    Of a run that started from the version `parent`, `changes` counts tracks by class, and
    `failures`, `max_bucket`, `entropy_bits`, what was made beside codes and all timings are of the
    run alone; the other figures are of the whole version, `snippets` with those of tracks that have
    gone and whose segment was not merged yet.
    """

    index: str
    version: str
    model: str
    tracks: int
    tracks_indexed: int
    tracks_failed: int
    failures: dict[str, int]
    audio_s: float
    snippets: int
    key_bits: int
    n_tables: int
    postings: int
    table_bytes: int
    bytes_per_posting: float
    compared: str
    compared_bytes: int
    index_bytes: int
    max_bucket: int
    entropy_bits: float
    workers: int
    parts_resumed: int
    startup_s: float
    hash_wall_s: float
    hash_cpu_s: float
    tables_wall_s: float
    tables_cpu_s: float
    wall_s: float
    times_real_time: float
    times_real_time_per_cpu: float
    max_rss_bytes: int
    versions: dict[str, str]
    format_version: int = FORMAT_VERSION
    also: dict[str, str] = dataclasses.field(default_factory=dict)
    tracks_embedded: int = 0
    tracks_not_embedded: int = 0
    tracks_sequenced: int = 0
    tracks_not_sequenced: int = 0
    parent: str | None = None
    changes: dict[str, int] = dataclasses.field(default_factory=dict)
    gates: list[Gate] = dataclasses.field(default_factory=list)
    comparison: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_json())

    def to_text(self) -> str:
        """A few lines for people."""
        lines = [
            f"{self.index}: version {self.version} is published"
            + (f", made from {self.parent}" if self.parent else ""),
            f"  {self.tracks_indexed} of {self.tracks} tracks, {self.audio_s / 3600:.2f} h, "
            f"{self.snippets} snippets",
            f"  {self.n_tables} tables of {self.key_bits} bits, {self.postings} postings, "
            f"{self.table_bytes / 1e6:.1f} MB",
            f"  queries are compared with {self.compared}, {self.compared_bytes / 1e6:.1f} MB",
            f"  {self.index_bytes / 1e6:.1f} MB in all, "
            f"{self.index_bytes / 1e6 / max(self.audio_s / 3600, 1e-9):.2f} MB an hour of audio",
        ]
        speed = "nothing was decoded"
        if self.times_real_time:
            speed = (
                f"{self.times_real_time:.0f} × real time with {self.workers} "
                f"worker{'s' if self.workers > 1 else ''}, "
                f"{self.times_real_time_per_cpu:.0f} × per CPU"
            )
        lines.append(
            f"  {speed}; {self.wall_s:.1f} s in all, {self.startup_s:.1f} s of them to start"
        )
        if self.changes:
            changed = (f"{count} {name}" for name, count in self.changes.items() if count)
            lines.insert(1, f"  {', '.join(changed)}")
        if self.comparison:
            lines.append(f"  {next(one.message for one in self.gates if one.name == 'model')}")
        lines += [
            f"  {one.title}s of {getattr(self, one.made)} tracks by model {self.also[name]}"
            for name, one in ALSO.items()
            if name in self.also
        ]
        if self.parts_resumed:
            lines.append(f"  {self.parts_resumed} parts were finished before")
        lost = {"failed": self.tracks_failed}
        lost |= {f"have no {one.title}": getattr(self, one.lacking) for one in ALSO.values()}
        if told := [f"{count} tracks {what}" for what, count in lost.items() if count]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.failures.items())
            kinds = f" ({kinds})" if kinds else ""
            where = version_path(self.index, self.version, "failures")
            lines.append(f"  {', '.join(told)}{kinds}: see {where}")
        return "\n".join(lines)


def at_once(done: Sequence[Receipt]) -> int:
    """How many pieces of work were under way at one time, at most.

    >>> def receipt(started, finished):
    ...     return Receipt("", "", [], {}, started, finished)
    >>> at_once([receipt(0, 5), receipt(1, 3), receipt(3, 4)]), at_once([])
    (2, 0)
    """
    # Of an end and a start at one time the end comes first.
    edges = [(one.started, 1) for one in done] + [(one.finished, -1) for one in done]
    return max(itertools.accumulate(change for _, change in sorted(edges)), default=0)


def summarise(
    index: str,
    workers: int | None,
    manifest: Manifest,
    parts: Sequence[Receipt],
    made: Built,
    launched: float,
) -> Summary:
    """The summary of a run that is about to be published.

    Args:
        workers: processes of the local engine; None: as many as were seen to work at once.
        parts: receipts of all parts of the run.
        made: with those of shards and spills. What started before `launched` (Unix s) was finished
            by an earlier start of the run.
    """
    now = time.time()
    fresh = [part for part in parts if part.started >= launched]
    first = min((part.started for part in fresh), default=launched)
    hash_wall_s = max((part.finished for part in fresh), default=launched) - first
    hash_cpu_s = _total(fresh, "cpu_s")
    fresh_audio_s = _total(fresh, "audio_s") - _total(fresh, "audio_kept_s")
    built = [one for one in (*made.spills, *made.shards) if one.started >= launched]
    tables = list(table_stats(made.shards).values())
    files, counters = manifest.files, manifest.counters
    names = (name for one in ALSO.values() for name in (one.made, one.lacking))
    beside: dict[str, Any] = {name: total(parts, name) for name in names}
    in_tables = files.select(kind="tables")
    table_bytes, postings = sum(in_tables.column("bytes")), sum(in_tables.column("rows"))
    return Summary(
        index=index,
        version=manifest.version,
        model=manifest.model["name"],
        tracks=int(counters["tracks"]),
        tracks_indexed=int(counters["tracks_hashed"]),
        tracks_failed=int(counters["tracks_failed"]),
        failures=failure_kinds(parts),
        audio_s=counters["audio_s"],
        snippets=int(counters["snippets"]),
        key_bits=manifest.key_bits,
        n_tables=manifest.n_tables,
        postings=postings,
        table_bytes=table_bytes,
        bytes_per_posting=table_bytes / max(postings, 1),
        compared=manifest.compared,
        compared_bytes=sum(
            sum(files.select(kind=kind).column("bytes")) for kind in (manifest.compared, "matrices")
        ),
        index_bytes=sum(files.column("bytes")),
        max_bucket=max((table.max_bucket for table in tables), default=0),
        entropy_bits=sum(table.entropy_bits for table in tables) / max(len(tables), 1),
        workers=at_once(fresh) if workers is None else workers,
        parts_resumed=len(parts) - len(fresh),
        startup_s=first - launched,
        hash_wall_s=hash_wall_s,
        hash_cpu_s=hash_cpu_s,
        tables_wall_s=_span_s(built),
        tables_cpu_s=_total(built, "cpu_s"),
        wall_s=now - launched,
        times_real_time=fresh_audio_s / hash_wall_s if hash_wall_s else 0.0,
        times_real_time_per_cpu=fresh_audio_s / hash_cpu_s if hash_cpu_s else 0.0,
        max_rss_bytes=int(max((part.counters["max_rss_bytes"] for part in parts), default=0)),
        versions=versions(),
        also={name: model["name"] for name, model in manifest.also.items()},
        **beside,
        parent=manifest.parent,
        changes={
            name.removeprefix("changes_"): int(count)
            for name, count in counters.items()
            if name.startswith("changes_")
        },
    )


def read_summary(index: str) -> Summary:
    """The summary of the run that made the published version.

    Raises: IndexFormatError where it is damaged; HashbeamError where it is missing.
    """
    version = current_version(index) or ""
    summary = summary_of(index, version)
    if summary is None:
        raise HashbeamError(f"{version_path(index, version, 'run.json')} is missing")
    return summary


def summary_of(index: str, version: str) -> Summary | None:
    """The summary of the run that made a version; None where there is none.

    Raises: IndexFormatError where it is damaged.
    """
    path = version_path(index, version, "run.json")
    data = io.read_if_exists(path)
    return None if data is None else Summary.from_json(load_json(data, path), path)


def _total(receipts: Sequence[Receipt], counter: str) -> float:
    return sum(receipt.counters[counter] for receipt in receipts)


def _span_s(receipts: Sequence[Receipt]) -> float:
    if not receipts:
        return 0.0
    return max(one.finished for one in receipts) - min(one.started for one in receipts)


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Of python and of packages, for run.json."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
