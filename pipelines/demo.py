"""``hashbeam demo``: from nothing to an index, answers, and a page that shows them."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from hashing.conditions import CODECS, Condition, Floats, Surroundings
from hashing.errors import HashbeamError, UsageError
from pipelines import io
from pipelines.answers import TOP, Query, ask
from pipelines.demo_artists import SONGS, judge_names, render_artists
from pipelines.index_options import IndexOptions
from pipelines.options import (
    DECODE_TIMEOUT_S,
    HIGHEST_WORKERS,
    MAX_TRACK_HOURS,
    Checker,
    add_job_arguments,
)
from pipelines.progress import Progress, shows_progress
from pipelines.report.figures import FORMAT_VERSION, Outcome, Recording, make_figures
from pipelines.report.text import as_text, next_commands
from pipelines.stores import is_remote, writing

if TYPE_CHECKING:
    from pipelines.summary import Summary

DESCRIPTION = """\
Show what hashbeam does without any music of your own: render a small catalogue, index it, cut
short recordings from it, damage them, look them up, tell two artists of one name apart, and write a
page about it.

  hashbeam demo
  hashbeam demo --out /tmp/demo --tracks 100 --seconds 90

DIR gets music/ and left-out/ (tracks that are not indexed), index/, queries/, artists/ (what
`hashbeam disambiguate` found, with a page of its own), report.html, figures.json and run.json. It
must be new or empty, or hold a former demo, which is replaced."""

OUT = "hashbeam-demo"
TRACKS, SECONDS = 40, 45.0  # half an hour of music, indexed in a few seconds
MOST_TRACKS = 1000
SHORTEST_S, LONGEST_S = 6.0, 600.0  # of a track: room for the longest query; a long song
DURATIONS = (1, 2, 5)  # s of the queries
CONDITIONS = ("clean", "mp3", "white@5", "ambience@5", "reverb")

# One process: a catalogue this small is indexed before a second one has started.
WORKERS = 1

# Tracks that stay out of the index, as a share of those in it.
LEFT_OUT = 0.2

# Places that queries are cut from, no two in one track; each gives a query of every condition and
# duration.
PLACES, PLACES_LEFT_OUT = 20, 8

SAMPLE_RATE = 22_050  # Hz, that of the rendered music
LEAD_S = 0.5  # s of music before a query, so that its room is not silent when it begins
PEAK = 0.99  # of full scale; music and noise together may be louder, and a file would clip them

MARKER = ".hashbeam-demo"
MUSIC, ABSENT, CATALOG, INDEX, QUERIES = "music", "left-out", "catalog.csv", "index", "queries"
ARTISTS = "artists"
REPORT, FIGURES, RUN = "report.html", "figures.json", "run.json"
OURS = (MUSIC, ABSENT, INDEX, QUERIES, ARTISTS, REPORT, FIGURES, RUN)

Track = dict[str, str]
Bar = Callable[[int, Callable[[], int], str], Progress]


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """What ``hashbeam demo`` was asked to do; `seconds` of each track."""

    out: str
    tracks: int
    seconds: float
    seed: int
    workers: int
    json: bool
    quiet: bool
    progress: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam demo``."""
    add = parser.add_argument
    add("--out", metavar="DIR", default=OUT, help="a new folder (%(default)s)")
    add(
        "--tracks",
        metavar="N",
        default=TRACKS,
        help=f"tracks to index (%(default)s), beside {3 * SONGS} songs of three artists",
    )
    add("--seconds", metavar="S", default=SECONDS, help="length of a track (%(default)g)")
    add("--seed", metavar="N", default=1, help="another seed makes other music (%(default)s)")
    add_job_arguments(parser)
    parser.set_defaults(workers=WORKERS)


def options_from(args: argparse.Namespace) -> DemoOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    checker = Checker(args)
    options = DemoOptions(
        out=checker.text("--out"),
        tracks=checker.integer("--tracks", low=2, high=MOST_TRACKS),
        seconds=checker.number("--seconds", low=SHORTEST_S, high=LONGEST_S),
        seed=checker.integer("--seed", low=0, high=2**31 - 1),
        workers=checker.integer("--workers", low=1, high=HIGHEST_WORKERS),
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
    )
    if is_remote(options.out):
        checker.problems.append(f"--out: {options.out} is not on this machine; name a local folder")
    checker.finish()
    return options


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam demo``."""
    options = options_from(args)
    figures = run_demo(options)
    if options.json:
        shown = {name: value for name, value in figures.items() if name != "queries"}
        print(json.dumps({"report": io.join(options.out, REPORT), **shown}))
    else:
        index, page = (io.join(options.out, name) for name in (INDEX, REPORT))
        artists = io.join(options.out, figures["artists_page"])
        print(as_text(figures, options.out, index, page, artists))
    return 0


def run_demo(options: DemoOptions) -> dict[str, Any]:
    """All of the demo; returns what ``figures.json`` holds.

    Raises: UsageError for a folder that is not ours; HashbeamError where a step fails.
    """
    from pipelines.report.page import demo_page

    prepare_folder(options.out)
    steps = _Steps(options)
    left_out = math.ceil(options.tracks * LEFT_OUT)
    rendered = f"{options.tracks} + {left_out} tracks of {options.seconds:g} s"
    with steps.step("render", f"rendering {rendered}, and {3 * SONGS} songs of three artists"):
        inside, outside, songs = render_music(options, left_out, steps.bar)
    with steps.step("index", f"hashbeam index, {options.tracks + len(songs)} tracks"):
        summary = _index(options)
    with steps.step("cut", "cutting recordings from all tracks, and damaging them"):
        recordings = cut_recordings(options, inside, outside, steps.bar)
    with steps.step("lookup", f"hashbeam lookup, {len(recordings)} recordings"):
        outcomes = look_up(options.out, recordings, steps.bar)
    with steps.step("artists", "hashbeam disambiguate, two names"):
        names = judge_names(
            io.join(options.out, ARTISTS),
            io.join(options.out, MUSIC, CATALOG),
            io.join(options.out, INDEX),
            songs,
            workers=options.workers,
            quiet=options.quiet,
            progress=options.progress,
        )
    figures = {
        **make_figures(_index_facts(options, summary, left_out), outcomes),
        "names": names,
        "artists_page": f"{ARTISTS}/{REPORT}",
    }
    with steps.step("report", "writing the page"):
        page = demo_page(figures, next_commands(), options.out)
        io.write_bytes(io.join(options.out, REPORT), page.encode())
    io.write_bytes(io.join(options.out, FIGURES), _pretty(figures))
    facts = {
        "format_version": FORMAT_VERSION,
        "options": dataclasses.asdict(options),
        "wall_s": steps.wall_s,
        "index": summary.to_json(),
    }
    io.write_bytes(io.join(options.out, RUN), _pretty(facts))
    return figures


class _Steps:
    """Says on stderr what is being done, and times it."""

    def __init__(self, options: DemoOptions) -> None:
        self._quiet = options.quiet
        self._show = shows_progress(quiet=options.quiet, asked=options.progress)
        self.wall_s: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        if not self._quiet:
            print(f"hashbeam demo: {what}", file=sys.stderr, flush=True)
        begin = time.perf_counter()
        yield
        self.wall_s[name] = round(time.perf_counter() - begin, 3)

    def bar(self, total: int, count: Callable[[], int], unit: str) -> Progress:
        return Progress(total, count, unit=unit, show=self._show)


def prepare_folder(out: str) -> None:
    """Makes an empty folder for the demo, or removes what a former demo has written into it.

    Raises: UsageError for a file, and for a folder with anything else in it.

    >>> prepare_folder(__file__)
    Traceback (most recent call last):
    hashing.errors.UsageError: --out: ...demo.py is a file; name a new or empty folder
    """
    if io.exists(out) and not io.is_dir(out):
        raise UsageError(f"--out: {out} is a file; name a new or empty folder")
    names = io.list_dir(out)
    if names and MARKER not in names:
        raise UsageError(
            f"--out: {out} holds other files, such as {names[0]}; name a new or empty folder, or "
            "one of a former demo"
        )
    for name in OURS:
        path = io.join(out, name)
        if os.path.isdir(path) and not os.path.islink(path):
            io.remove_tree(path)
        else:
            io.remove(path)
    io.write_bytes(io.join(out, MARKER), b"hashbeam demo made this folder and may replace it.\n")


def render_music(
    options: DemoOptions, left_out: int, bar: Bar
) -> tuple[list[Track], list[Track], list[Track]]:
    """Catalogue rows of tracks in ``music/``, of those in ``left-out/``, and of artists' songs.

    The songs are in ``music/`` as well, and in its catalogue.
    """
    import mutagen
    import soundfile

    from hashing.synthesis import render_catalogue

    music, absent = io.join(options.out, MUSIC), io.join(options.out, ABSENT)
    count = options.tracks + left_out
    total = count + 3 * SONGS
    try:
        with bar(total, lambda: min(total, len(io.list_dir(music))), "track"):  # and catalog.csv
            rows = render_catalogue(music, count, options.seconds, seed=options.seed)
            songs = render_artists(music, options.seconds, options.seed)
    except (OSError, soundfile.SoundFileError, mutagen.MutagenError) as error:
        problem = f"cannot write {music}: {str(error).rstrip('.')}"
        raise HashbeamError(f"{problem}; free space, or name another folder") from error
    inside, outside = rows[: options.tracks], rows[options.tracks :]
    os.makedirs(absent)
    for row in outside:
        os.rename(io.join(music, row["uri"]), io.join(absent, row["uri"]))
    for folder, tracks in ((music, [*songs, *inside]), (absent, outside)):
        text = StringIO(newline="")
        writer = csv.DictWriter(text, list(tracks[0]), restval="")
        writer.writeheader()
        writer.writerows(tracks)
        io.write_bytes(io.join(folder, CATALOG), text.getvalue().encode())
    return inside, outside, songs


def _index(options: DemoOptions) -> Summary:
    from pipelines.index import build_index

    return build_index(
        IndexOptions(
            catalog=io.join(options.out, MUSIC, CATALOG),
            out=io.join(options.out, INDEX),
            model=None,
            workers=options.workers,
            also=("artist",),
            quiet=options.quiet,
            progress=options.progress,
        )
    )


def cut_recordings(
    options: DemoOptions, inside: Sequence[Track], outside: Sequence[Track], bar: Bar
) -> list[Recording]:
    """Writes ``queries/``: one of every condition and duration from each of some random places."""
    from hashing.audio import decode

    rng = np.random.default_rng(options.seed)
    air = Surroundings(SAMPLE_RATE)
    conditions = [Condition.parse(name) for name in CONDITIONS]
    chosen = [
        (tracks[at], folder)
        for tracks, folder, places in ((inside, MUSIC, PLACES), (outside, ABSENT, PLACES_LEFT_OUT))
        for at in rng.permutation(len(tracks))[:places].tolist()
    ]
    os.makedirs(io.join(options.out, QUERIES))
    lead = round(LEAD_S * SAMPLE_RATE)
    done: list[Recording] = []
    total = len(chosen) * len(conditions) * len(DURATIONS)
    with bar(total, lambda: len(done), "recording"):
        for number, (track, folder) in enumerate(chosen, 1):
            music = decode(io.join(options.out, folder, track["uri"]), SAMPLE_RATE)
            first = int(rng.integers(lead, music.size - max(DURATIONS) * SAMPLE_RATE))
            for duration_s, condition in itertools.product(DURATIONS, conditions):
                cut = music[first - lead : first + duration_s * SAMPLE_RATE]
                heard = air.degrade(cut, dataclasses.replace(condition, codec=""), rng)[lead:]
                stem = f"{QUERIES}/{number:02d}-{duration_s}s-"
                file = stem + condition.name.replace("@", "-") + f".{condition.codec or 'flac'}"
                _write_audio(io.join(options.out, file), heard, condition.codec)
                done.append(
                    Recording(
                        file=file,
                        original=f"{stem}clean.flac",
                        condition=condition.name,
                        duration_s=duration_s,
                        track=track,
                        start_s=first / SAMPLE_RATE,
                        indexed=folder == MUSIC,
                    )
                )
    return done


def _write_audio(path: str, samples: Floats, codec: str) -> None:
    from hashing.audio import encode

    file = BytesIO()
    samples = samples * np.float32(PEAK / max(PEAK, float(np.abs(samples).max())))
    encode(samples, SAMPLE_RATE, file, codec=codec or "flac", bit_rate=CODECS.get(codec))
    with writing(path), open(path, "wb") as out:  # not synced to the disk: there are hundreds
        out.write(file.getvalue())


def look_up(out: str, recordings: Sequence[Recording], bar: Bar) -> list[Outcome]:
    """Asks the index about every recording, as ``hashbeam lookup --min-score 0`` does."""
    from hashing.decoder import Decoder
    from pipelines.opened import open_index

    outcomes: list[Outcome] = []
    with Decoder() as decoder, bar(len(recordings), lambda: len(outcomes), "query"):
        searcher, tracks, _ = open_index(io.join(out, INDEX))
        answers = ask(
            [Query(one.file, io.join(out, one.file)) for one in recordings],
            searcher,
            tracks,
            decoder,
            top=TOP,
            min_score=0.0,
            max_seconds=MAX_TRACK_HOURS * 3600,
            timeout_s=DECODE_TIMEOUT_S,
        )
        begin = time.perf_counter()
        for recording, answer in zip(recordings, answers, strict=True):
            wall_ms = (time.perf_counter() - begin) * 1000
            outcomes.append(Outcome(recording, answer, wall_ms))
            begin = time.perf_counter()
    return outcomes


def _index_facts(options: DemoOptions, summary: Summary, left_out: int) -> dict[str, Any]:
    kept = ("audio_s", "snippets", "n_tables", "key_bits", "table_bytes", "times_real_time")
    more = ("workers", "wall_s", "model")
    return {
        "seed": options.seed,
        "tracks": summary.tracks_indexed,
        "tracks_left_out": left_out,
        "bytes": sum(io.list_files(summary.index).values()),
        **{name: getattr(summary, name) for name in kept + more},
    }


def _pretty(facts: dict[str, Any]) -> bytes:
    return (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode()
