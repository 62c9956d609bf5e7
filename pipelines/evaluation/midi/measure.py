"""What ``hashbeam evaluate midi`` does: read, render, hear, ask, count."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hashing.cascade import CascadeSettings
from hashing.errors import UsageError
from hashing.midi_figures import Asked
from hashing.models import Model
from hashing.scores import PLAIN
from hashing.sequences import SequenceEncoder
from pipelines.catalog import read_catalog
from pipelines.evaluation.midi.asking import Answer, asker
from pipelines.evaluation.midi.distances import Query
from pipelines.evaluation.midi.fonts import recording_font, score_font
from pipelines.evaluation.midi.hearing import Heard, Music, Performed, Score, hearer
from pipelines.evaluation.midi.options import MidiOptions
from pipelines.evaluation.midi.processes import each
from pipelines.evaluation.midi.results import FORMAT_VERSION, write_results
from pipelines.evaluation.midi.songs import (
    LEAST_QUERIES,
    SongFile,
    Songs,
    choose,
    draw,
    failure,
    read_songs,
    seed_of,
)
from pipelines.evaluation.midi.summary import summarise
from pipelines.lock import IndexLock
from pipelines.progress import Progress, shows_progress

Recording = Performed | Music
Item = Score | Recording
Made = TypeVar("Made")


def measure_midi(options: MidiOptions) -> dict[str, Any]:
    """All of it; writes the results, and returns the figures.

    Raises: CatalogError, UsageError, ModelError, HashbeamError: one line on what is wrong.
    """
    encoder = SequenceEncoder.load(options.model)
    scores = score_font()
    font = recording_font(options.soundfont, scores)
    music = _music(options)
    songs = read_songs(options.midi, encoder.model.config.get("training", {}))
    asked = choose(songs.all, options)
    with IndexLock(options.out):  # two runs would render the same songs, and mix their results
        heard, failures = _hear(
            _items(songs, asked, music, options, font, scores, encoder.features.score), options
        )
        queries, recordings = _sorted(asked, heard)
        if len(queries) < LEAST_QUERIES:
            raise UsageError(
                f"--midi: {len(queries)} songs and their recordings can be heard, {LEAST_QUERIES} "
                f"or more are needed: see {options.out}/failures"
            )
        settings = CascadeSettings()
        answers = _ask(queries, recordings, encoder, settings, options)
        figures = {
            "format_version": FORMAT_VERSION,
            "command": _command(options),
            "model": {"name": Path(options.model).name, "digest": encoder.digest},
            "soundfonts": {"recordings": Path(font).name, "scores": _named(scores, encoder)},
            "seed": options.seed,
            "songs": len(songs.all),
            "songs_known": sum(song.known for song in songs.all),
            "songs_repeated": songs.repeats,
            "known_asked": sum(query.song.known for query in queries),
            "queries": len(queries),
            "recordings": len(recordings),
            "recordings_of_music": sum(isinstance(item, Music) for item, _ in recordings),
            "hours": round(sum(one.seconds for _, one in recordings) / 3600, 2),
            "failed": dict(Counter(row["error"] for row in [*songs.failures, *failures])),
            "cascade": dataclasses.asdict(settings),
            **summarise(
                queries,
                answers,
                len(recordings),
                encoder.features,
                _means(encoder.model),
                settings,
            ),
        }
        figures["warnings"] = list(_warnings(figures, font == scores))
        names = [recording_name(item) for item, _ in recordings]
        write_results(options.out, figures, queries, answers, names, songs.failures + failures)
    return figures


def _music(options: MidiOptions) -> list[Music]:
    if not options.catalog:
        return []
    rows = read_catalog(options.catalog).select(["track_id", "uri"]).to_pylist()
    return [
        Music(row["track_id"], row["uri"], seed_of(options.seed, "music", row["track_id"]))
        for row in rows
        if row["uri"]
    ]


def _items(
    songs: Songs,
    asked: Sequence[SongFile],
    music: Sequence[Music],
    options: MidiOptions,
    font: str,
    scores: str,
    kind: str,
) -> list[Item]:
    """All that is heard: recordings that are asked for, scores that ask, and other recordings."""

    def performed(song: SongFile) -> Performed:
        return Performed(song, font, seed_of(options.seed, song.name, song.digest))

    chosen = {(song.root, song.path) for song in asked}
    others: list[Recording] = [
        performed(song) for song in songs.all if (song.root, song.path) not in chosen
    ]
    return [
        *map(performed, asked),
        *(Score(song, scores, kind) for song in asked),
        *draw([*others, *music], options.decoys, options.seed),
    ]


def _hear(
    items: Sequence[Item], options: MidiOptions
) -> tuple[list[tuple[Item, Heard]], list[dict[str, str]]]:
    """What could be heard, and rows of ``failures/`` for the rest."""
    made = each(hearer(options.model, options.work), items, options.workers)
    heard, failures = list[tuple[Item, Heard]](), dict[str, dict[str, str]]()
    for item, one in zip(items, _followed(made, len(items), "recording", options), strict=True):
        if isinstance(one, Heard):
            heard.append((item, one))
        elif isinstance(item, Music):
            failures[item.uri] = {**failure("", item.track_id, *one), "uri": item.uri}
        else:  # a file is told of once, where neither it nor its performance can be heard
            row = failure(item.song.root, item.song.path, *one)
            failures.setdefault(row["uri"], row)
    return heard, list(failures.values())


def _sorted(
    asked: Sequence[SongFile], heard: Sequence[tuple[Item, Heard]]
) -> tuple[list[Query], list[tuple[Recording, Heard]]]:
    """Queries whose score and recording were heard, and all recordings, theirs among them."""
    recordings = [(item, one) for item, one in heard if not isinstance(item, Score)]
    scores = {item.song: one for item, one in heard if isinstance(item, Score)}
    places = {
        item.song: place
        for place, (item, _) in enumerate(recordings)
        if isinstance(item, Performed)
    }
    queries = [
        Query(song, scores[song], recordings[places[song]][1], places[song])
        for song in asked
        if song in scores and song in places
    ]
    return queries, recordings


def _ask(
    queries: Sequence[Query],
    recordings: Sequence[tuple[Recording, Heard]],
    encoder: SequenceEncoder,
    settings: CascadeSettings,
    options: MidiOptions,
) -> list[Answer]:
    sequences = [one.sequence for _, one in recordings]
    make = asker(sequences, encoder.features, _means(encoder.model), settings)
    asked = [
        Asked(one.score.sequence, one.place, one.recording.score_s, one.recording.played_s)
        for one in queries
    ]
    return list(_followed(each(make, asked, options.workers), len(asked), "MIDI file", options))


def _followed(made: Iterator[Made], total: int, unit: str, options: MidiOptions) -> Iterator[Made]:
    """The same, with progress."""
    done = 0
    show = shows_progress(quiet=options.quiet, asked=options.progress)
    name = "" if options.quiet else "hashbeam evaluate midi"
    with Progress(total, lambda: done, unit=unit, show=show, name=name):
        for one in made:
            done += 1
            yield one


def _means(model: Model) -> tuple[Any, Any]:
    return tuple(
        np.asarray(model.arrays[f"{side}.mean"], np.float32) for side in ("audio", "score")
    )  # type: ignore[return-value]


def recording_name(item: Recording) -> str:
    """A recording, for people: the name of its song, or the id of its track."""
    return item.track_id if isinstance(item, Music) else item.song.name


def _named(scores: str, encoder: SequenceEncoder) -> str:
    return "none: piano roll" if encoder.features.score == "roll" else Path(scores).name


def _warnings(figures: dict[str, Any], same_font: bool) -> Iterator[str]:
    if figures["known_asked"]:
        yield (
            f"the model has learned or been chosen by {figures['known_asked']} of the songs that "
            "are asked for: figures say too much about them"
        )
    if same_font:
        by = figures["soundfonts"]["scores"]
        what = "plain synthesis" if by == PLAIN else by
        yield f"scores and recordings are played by the same: {what}"
    if figures["queries"] < ENOUGH_QUERIES:
        yield f"{figures['queries']} queries are few: shares of them are rough"


ENOUGH_QUERIES = 100  # with fewer, 1 % is less than a query


def _command(options: MidiOptions) -> str:
    """The command, with names of folders and not where they were on one machine."""
    parts = ["hashbeam", "evaluate", "midi", "--midi", *(Path(one).name for one in options.midi)]
    parts += ["--catalog", Path(options.catalog).name] if options.catalog else []
    parts += ["--model", Path(options.model).name, "--seed", str(options.seed)]
    parts += ["--soundfont", Path(options.soundfont).name] if options.soundfont else []
    for flag, count in (("--queries", options.queries), ("--decoys", options.decoys)):
        parts += [flag, str(count)] if count is not None else []
    return shlex.join([*parts, *(["--all"] if options.known else [])])
