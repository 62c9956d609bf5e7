"""``hashbeam evaluate lookup``: how often look-up is right, and how often it is wrongly sure."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hashing import metrics
from hashing.audio import decode
from hashing.conditions import Condition, Surroundings
from hashing.encoders import Hasher
from hashing.errors import AudioError, CatalogError, HashbeamError, UsageError
from hashing.search import PROBES, QUERY_HOP, Searcher
from pipelines import io
from pipelines.catalog import read_catalog
from pipelines.opened import IndexTracks, open_index
from pipelines.options import Checker, IndexOptions, add_job_arguments, workers

DESCRIPTION = """\
Measure look-up: cut queries from a catalogue, degrade them, look them up, count.

  hashbeam evaluate lookup --catalog music/catalog.csv --out figures
  hashbeam evaluate lookup --catalog music/catalog.csv --noise noise --rooms rir \\
      --durations 1 5 --conditions clean mp3 ambience@0 --queries 400 --out figures

A share of the tracks (--left-out) is kept out of the index, and queries from them must get no
match. --out gets figures.json, queries.parquet (a row a query) and figures.svg."""

CONDITIONS = (
    "clean",
    "mp3",
    "white@5",
    "white@0",
    "ambience@5",
    "ambience@0",
    "reverb",
    "reverb+ambience@5",
)
DURATIONS = ("1", "2", "3", "5", "10")

# Rate at which queries are cut and degraded, Hz: above what any hasher hears, so that codecs and
# rooms work as they do in the world.
SAMPLE_RATE = 24_000

# A match is in the right place when it is this near, seconds: the hop of an index.
PLACE_TOLERANCE_S = 0.5

# Music around a query that its room has heard before it begins, seconds.
LEAD_S = 0.5


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What ``hashbeam evaluate lookup`` was asked to do."""

    catalog: str
    out: str
    model: str | None
    index: str
    durations: tuple[float, ...]
    conditions: tuple[Condition, ...]
    queries: int
    left_out: float
    same: str
    noise: tuple[str, ...]
    rooms: tuple[str, ...]
    seed: int
    probes: int
    workers: int
    only: str
    json: bool
    quiet: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam evaluate``."""
    add = parser.add_argument
    add("kind", metavar="KIND", help="what to evaluate: lookup")
    add("--catalog", metavar="C", help="the tracks that queries are cut from")
    add("--out", metavar="DIR", help="a folder for the figures")
    add("--model", metavar="M", help="a shipped model or a model folder")
    add(
        "--index",
        metavar="INDEX",
        help="an index to ask, instead of one made for the purpose; tracks of the catalogue that "
        "it does not hold are the negatives",
    )
    add("--durations", metavar="S", nargs="+", default=DURATIONS, help="seconds of the queries")
    add(
        "--conditions",
        metavar="NAME",
        nargs="+",
        default=CONDITIONS,
        help=f"(default: {' '.join(CONDITIONS)})",
    )
    add(
        "--queries",
        metavar="N",
        default="100",
        help="queries of each duration and condition, and as many from tracks left out (100)",
    )
    add(
        "--left-out",
        metavar="SHARE",
        default="0.2",
        help="share of the tracks that is kept out of the index (0.2); 0 for none",
    )
    add("--same", metavar="COLUMN", default="", help="tracks that agree in it are one recording")
    add(
        "--only",
        metavar="FILE",
        default="",
        help="a file with the track_ids (one a line) that queries are cut from",
    )
    add("--noise", metavar="DIR", nargs="+", default=[], help="folders of ambient recordings")
    add("--rooms", metavar="DIR", nargs="+", default=[], help="folders of room responses")
    add("--seed", metavar="N", default="1", help="(default: 1)")
    add("--probes", metavar="N", default=PROBES, help="keys a snippet and table (%(default)s)")
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> EvaluateOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    checker = Checker(args)
    if args.kind != "lookup":
        checker.problems.append(f"KIND: must be lookup, got {args.kind!r}")
    durations = []
    for text in args.durations:
        try:
            durations.append(float(text))
        except ValueError:
            checker.problems.append(f"--durations: must be numbers, got {text!r}")
    if any(not 0.5 <= seconds <= 3600 for seconds in durations):
        checker.problems.append("--durations: must be from 0.5 to 3600 seconds")
    conditions = []
    for name in args.conditions:
        try:
            conditions.append(Condition.parse(name))
        except UsageError as error:
            checker.problems.append(f"--conditions: {error}")
    for folder in (*args.noise, *args.rooms):
        if not Path(folder).is_dir():
            checker.problems.append(f"--noise, --rooms: {folder} is not a folder")
    options = EvaluateOptions(
        catalog=checker.text("--catalog"),
        out=checker.text("--out"),
        model=args.model or None,
        index=args.index or "",
        durations=tuple(durations),
        conditions=tuple(conditions),
        queries=checker.integer("--queries", low=1, high=1_000_000),
        left_out=checker.number("--left-out", low=0, high=0.9),
        same=args.same,
        noise=tuple(args.noise),
        rooms=tuple(args.rooms),
        seed=checker.integer("--seed", low=0, high=2**31 - 1),
        probes=checker.integer("--probes", low=1, high=64),
        workers=workers(checker),
        only=args.only,
        json=args.json,
        quiet=args.quiet,
    )
    checker.finish()
    return options


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam evaluate lookup``."""
    options = options_from(args)
    figures = evaluate_lookup(options, beam_args)
    print(json.dumps(figures) if options.json else as_text(figures))
    return 0


def evaluate_lookup(options: EvaluateOptions, beam_args: Sequence[str] = ()) -> dict[str, Any]:
    """Index what is not left out, ask, and write the figures; returns them."""
    catalog = read_catalog(options.catalog)
    if options.same and options.same not in catalog.column_names:
        raise CatalogError(f"{options.catalog}: no column {options.same!r} (--same)")
    with tempfile.TemporaryDirectory() as scratch:
        index = options.index
        if not index:
            index = f"{scratch}/index"
            _make_index(options, catalog, scratch, index, beam_args)
        searcher, tracks, manifest = open_index(index, options.model, options.probes)
        held = _ids_of(index, manifest)
        rows = [
            _Track(row["track_id"], row["uri"], row.get(options.same) or row["track_id"])
            for row in catalog.to_pylist()
        ]
        asked = _asked(options.only, rows)
        known = {row.same for row in rows if row.track_id in held}
        inside = [row for row in asked if row.track_id in held]
        outside = [row for row in rows if row.track_id not in held and row.same not in known]
        if not inside:
            raise HashbeamError(
                f"{index} holds no track of {options.catalog} to cut queries from: evaluate with "
                "the catalogue that was indexed"
            )
        questions = _Questions(options, searcher.hasher)
        results = list(_ask_all(options, questions, searcher, tracks, inside, outside, rows))
    figures = {
        "catalog": Path(options.catalog).name,
        "model": {"name": searcher.hasher.model.name, "digest": searcher.hasher.digest},
        "tracks_indexed": len(held),
        "tracks_left_out": len(outside),
        "key_bits": manifest.key_bits,
        "probes": options.probes,
        "seed": options.seed,
        **summarise(results),
    }
    _write(options.out, figures, results)
    return figures


@dataclasses.dataclass(frozen=True)
class _Track:
    track_id: str
    uri: str
    same: str


@dataclasses.dataclass(frozen=True)
class Result:
    """One query and what came of it; `wanted` is empty where no answer is right."""

    condition: str
    duration_s: float
    wanted: str
    start_s: float
    answer: str
    score: float
    offset_s: float
    right: bool
    right_place: bool
    cpu_ms: float


class _Questions:
    """Cuts, degrades and hashes queries."""

    def __init__(self, options: EvaluateOptions, hasher: Hasher) -> None:
        self._hasher = hasher
        self._air = Surroundings(
            SAMPLE_RATE, _recordings(options.noise), _recordings(options.rooms)
        )

    def hash(
        self, audio: np.ndarray, condition: Condition, lead: int, rng: np.random.Generator
    ) -> Any:
        import soxr

        heard = self._air.degrade(audio, condition, rng)[lead:]
        rate = self._hasher.features.sample_rate
        return self._hasher.hash_query([soxr.resample(heard, SAMPLE_RATE, rate)], QUERY_HOP)


def _recordings(folders: Sequence[str]) -> list[np.ndarray]:
    found = []
    for folder in folders:
        for path in sorted(Path(folder).iterdir()):
            try:
                found.append(decode(str(path), SAMPLE_RATE))
            except AudioError:
                continue  # a list of licences beside the recordings
    if folders and not found:
        raise HashbeamError(f"{', '.join(folders)}: no recording could be decoded")
    return found


def _ask_all(
    options: EvaluateOptions,
    questions: _Questions,
    searcher: Searcher,
    tracks: IndexTracks,
    inside: Sequence[_Track],
    outside: Sequence[_Track],
    rows: Sequence[_Track],
) -> Iterator[Result]:
    from tqdm import tqdm

    same = {row.track_id: row.same for row in rows}
    rng = np.random.default_rng(options.seed)
    # One decoding serves a query of every duration and condition: cut from the same place on.
    plan = [(inside[i], True) for i in _draw(len(inside), options.queries, rng)]
    if outside:
        plan += [(outside[i], False) for i in _draw(len(outside), options.queries, rng)]
    longest = max(options.durations)
    hidden = options.quiet or not sys.stderr.isatty()
    for track, known in tqdm(plan, desc="queries", disable=hidden):
        try:
            audio = decode(track.uri, SAMPLE_RATE)
        except AudioError:
            continue
        last = max(0, audio.size - int(longest * SAMPLE_RATE))
        first = int(rng.integers(last + 1))
        lead = min(first, int(LEAD_S * SAMPLE_RATE))
        for duration_s in options.durations:
            cut = audio[first - lead : first + int(duration_s * SAMPLE_RATE)]
            for condition in options.conditions:
                begin = time.process_time()
                try:
                    query = questions.hash(cut, condition, lead, rng)
                except AudioError:
                    continue  # silence in the music: no query
                begin = time.process_time()
                found = searcher.search([query], top=1)[0]
                cpu_ms = (time.process_time() - begin) * 1000
                wanted = track.track_id if known else ""
                start_s = first / SAMPLE_RATE
                if not found:
                    yield Result(
                        condition.name,
                        duration_s,
                        wanted,
                        start_s,
                        "",
                        0.0,
                        0.0,
                        False,
                        False,
                        cpu_ms,
                    )
                    continue
                match = found[0]
                answer = tracks.row(match.segment, match.ordinal)["track_id"]
                right = known and same.get(answer) == track.same
                placed = abs(match.offset_s - start_s) <= PLACE_TOLERANCE_S
                yield Result(
                    condition.name,
                    duration_s,
                    wanted,
                    start_s,
                    answer,
                    match.score,
                    match.offset_s,
                    right,
                    right and placed,
                    cpu_ms,
                )


def _draw(n: int, wanted: int, rng: np.random.Generator) -> list[int]:
    rounds = [rng.permutation(n) for _ in range(-(-wanted // n))]
    return [int(i) for i in np.concatenate(rounds)[:wanted]]


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """Figures by duration and condition.

    ``top1``: share of queries whose first match is the right recording, whatever its score;
    ``accepted``: the same with a score of 0.5 or more; ``at_1_percent``: the same with a score
    above the one that 1 % of the negatives of that duration reach; ``right_place``: the same as
    ``top1`` and at most 0.5 s off; ``false_positives``: share of negatives with a score of 0.5 or
    more. Each ``top1`` has its 95 % interval.
    """
    rows: list[dict[str, Any]] = []
    by_duration: list[dict[str, Any]] = []
    scores = np.array([result.score for result in results])
    positive = np.array([bool(result.wanted) for result in results])
    right = np.array([result.right for result in results])
    placed = np.array([result.right_place for result in results])
    duration = np.array([result.duration_s for result in results])
    condition = np.array([result.condition for result in results])
    for seconds in sorted(set(duration.tolist())):
        here = duration == seconds
        threshold = metrics.false_positive_threshold(scores[here & ~positive])
        names = list(dict.fromkeys(condition[here].tolist()))
        for name in [*names, "all"]:
            chosen = here & (condition == name) if name != "all" else here
            asked, left = chosen & positive, chosen & ~positive
            n = int(asked.sum())
            row = {
                "duration_s": seconds,
                "condition": name,
                "queries": n,
                "negatives": int(left.sum()),
                "top1": _share(right[asked]),
                "top1_interval": metrics.wilson_interval(int(right[asked].sum()), n),
                "right_place": _share(placed[asked]),
                "accepted": _share(right[asked] & (scores[asked] >= 0.5)),
                "at_1_percent": _share(right[asked] & (scores[asked] > threshold)),
                "false_positives": _share(scores[left] >= 0.5),
            }
            (by_duration if name == "all" else rows).append(row)
    answered = scores > 0
    cpu_ms = np.array([result.cpu_ms for result in results])
    return {
        "conditions": rows,
        "durations": by_duration,
        "expected_calibration_error": metrics.calibration_error(scores[answered], right[answered]),
        "brier_score": metrics.brier_score(scores[answered], right[answered]),
        "look_up_cpu_ms": {
            f"{seconds:g}": round(float(np.median(cpu_ms[duration == seconds])), 3)
            for seconds in sorted(set(duration.tolist()))
        },
    }


def _share(flags: np.ndarray) -> float | None:
    return round(float(flags.mean()), 4) if flags.size else None


def as_text(figures: dict[str, Any]) -> str:
    """Tables for a person: conditions down, durations across."""
    durations = [row["duration_s"] for row in figures["durations"]]
    names = [*dict.fromkeys(row["condition"] for row in figures["conditions"]), "all"]
    cells = {
        (row["condition"], row["duration_s"]): row
        for row in (*figures["conditions"], *figures["durations"])
    }
    out = [
        f"{figures['tracks_indexed']} tracks indexed, {figures['tracks_left_out']} left out, "
        f"keys of {figures['key_bits']} bits, {figures['probes']} probes"
    ]
    for figure, title in (
        ("top1", "right track first, %"),
        ("accepted", "right and score at least 0.5, %"),
        ("false_positives", "queries of tracks left out with score at least 0.5, %"),
    ):
        out += ["", title, f"{'':20s}" + "".join(f"{seconds:7g} s" for seconds in durations)]
        for name in names:
            values = [cells.get((name, seconds), {}).get(figure) for seconds in durations]
            shown = ["      -  " if v is None else f"{100 * v:7.1f}  " for v in values]
            out.append(f"{name:20s}" + "".join(shown))
    out.append("")
    out.append(f"expected calibration error {figures['expected_calibration_error']:.3f}")
    return "\n".join(out)


def _asked(only: str, rows: Sequence[_Track]) -> list[_Track]:
    if not only:
        return list(rows)
    wanted = {line.strip() for line in io.read_bytes(only).decode("utf-8").splitlines()}
    return [row for row in rows if row.track_id in wanted]


def _ids_of(index: str, manifest: Any) -> set[str]:
    ids: set[str] = set()
    for (path,) in manifest.files.tuples("path", kind="tracks"):
        ids.update(io.read_table(io.join(index, path), ["track_id"])["track_id"].to_pylist())
    return ids


def _make_index(
    options: EvaluateOptions, catalog: pa.Table, scratch: str, index: str, beam_args: Sequence[str]
) -> None:
    from pipelines.index import build_index

    order = np.random.default_rng(options.seed).permutation(catalog.num_rows)
    kept = np.sort(order[int(options.left_out * catalog.num_rows) :])
    io.write_table(f"{scratch}/catalog.parquet", catalog.take(pa.array(kept)), metadata={})
    build_index(
        IndexOptions(
            catalog=f"{scratch}/catalog.parquet",
            out=index,
            model=options.model,
            workers=options.workers,
            max_failures=1.0,
            quiet=options.quiet,
        ),
        beam_args,
    )


def _write(out: str, figures: dict[str, Any], results: Sequence[Result]) -> None:
    io.write_bytes(io.join(out, "figures.json"), json.dumps(figures, indent=1).encode() + b"\n")
    table = pa.Table.from_pylist([dataclasses.asdict(result) for result in results])
    io.write_table(io.join(out, "queries.parquet"), table, metadata={"hashbeam_format": "1"})
