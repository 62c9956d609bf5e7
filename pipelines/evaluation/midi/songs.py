"""Songs of folders of MIDI files: which of them a model knows, and which are the same music."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np

from hashing.errors import UsageError
from hashing.midi_content import content_of, repeated
from hashing.scores import ScoreError, read_score
from pipelines import io
from pipelines.evaluation.midi.options import MidiOptions
from pipelines.midi_folder import find_midi, read_midi_file
from pipelines.stores import is_remote, local

One = TypeVar("One")

LEAST_QUERIES = 2  # foreign pairs are of two songs

# What a model's ``config.json`` says that it knows.
KNOWN = ("trained_on", "chosen_by")


@dataclasses.dataclass(frozen=True)
class SongFile:
    """A MIDI file.

    Attributes:
      root, path: where it is, path relative to root.
      name: folder and stem, as models name what they have learned.
      digest: of its bytes.
      known: whether the model has learned it, or its like, or been chosen by it.
    """

    root: str
    path: str
    name: str
    digest: str
    known: bool = False


@dataclasses.dataclass(frozen=True)
class Songs:
    """Songs of all folders, each music once.

    Attributes:
      all: by name.
      repeats: files that are left out because they are the same music as another one.
      failures: rows of ``failures/``.
    """

    all: list[SongFile]
    repeats: int
    failures: list[dict[str, str]]


def read_songs(folders: Sequence[str], training: Mapping[str, Any]) -> Songs:
    """All songs; music that the model knows under any of its names is known.

    Args:
      training: ``training`` of a model's config.

    Raises: CatalogError where a folder is none, or holds no MIDI files.
    """
    known = {name for part in KNOWN for name in training.get(part, ())}
    files, contents, failures = list[SongFile](), [], list[dict[str, str]]()
    for root in folders:
        found = find_midi(root)
        failures += [failure(root, one.path, one.kind, one.message) for one in found.skipped]
        for path in found.paths:
            try:
                data = read_midi_file(root, path)
                contents.append(content_of(read_score(data, path)))
            except ScoreError as error:
                failures.append(failure(root, path, error.kind, str(error)))
                continue
            name = song_name(root, path)
            files.append(
                SongFile(root, path, name, hashlib.sha256(data).hexdigest(), name in known)
            )
    firsts = repeated(contents)
    for number, first in enumerate(firsts):
        if files[number].known:
            files[first] = dataclasses.replace(files[first], known=True)
    kept = [file for number, file in enumerate(files) if firsts[number] == number]
    kept.sort(key=lambda file: (file.name, file.root, file.path))
    return Songs(kept, len(files) - len(kept), failures)


def song_name(root: str, path: str) -> str:
    """The name of a song: its folder and its stem.

    >>> song_name("/music/folk", "jig.mid"), song_name("/music", "folk/old/jig.mid")
    ('folk-jig', 'old-jig')
    """
    whole = PurePosixPath(io.join(root if is_remote(root) else os.path.abspath(local(root)), path))
    return f"{whole.parent.name}-{whole.stem}"


def failure(root: str, path: str, kind: str, message: str) -> dict[str, str]:
    """A row of ``failures/``."""
    said = " ".join(message.split())
    named = {"track_id": path, "uri": io.join(root, path), "stage": "hear"}
    return {**named, "error": kind, "message": said}


def choose(songs: Sequence[SongFile], options: MidiOptions) -> list[SongFile]:
    """The songs that are asked for: those that the model does not know, or all.

    Raises: UsageError where there are too few.
    """
    asked = [song for song in songs if options.known or not song.known]
    if len(asked) < LEAST_QUERIES:
        why = "" if options.known else " that the model has not learned or been chosen by"
        hint = "" if options.known else ", or ask for all with --all"
        raise UsageError(
            f"--midi: {len(asked)} of {len(songs)} songs can be asked for{why}, {LEAST_QUERIES} or "
            f"more are needed: name more folders{hint}"
        )
    return draw(asked, options.queries, options.seed)


def draw(some: Sequence[One], most: int | None, seed: int) -> list[One]:
    """At most so many of some, by chance, in their order.

    >>> draw([1, 2, 3], None, 1), len(draw([1, 2, 3], 2, 1))
    ([1, 2, 3], 2)
    """
    if most is None or most >= len(some):
        return list(some)
    chosen = np.random.default_rng([0xD0, seed]).choice(len(some), most, replace=False)
    return [some[number] for number in sorted(chosen.tolist())]


def seed_of(seed: int, *names: str) -> int:
    """A seed from names, the same everywhere.

    >>> seed_of(1, "a") == seed_of(1, "a"), seed_of(1, "a") == seed_of(2, "a")
    (True, False)
    """
    text = "\n".join(["evaluate midi", str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
