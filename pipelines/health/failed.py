"""Why tracks failed: how many of each kind, with a few examples."""

from __future__ import annotations

import dataclasses
import itertools

from pipelines.live import failed_tracks
from pipelines.versions import Manifest

READ_FILES = 256  # of failures/, the newest: a second on a disk, some seconds of an object store
EXAMPLES = 3  # of a kind: enough to see what they have in common
MESSAGE_LETTERS = 200  # of an example; `hashbeam list --failures` has all of it


@dataclasses.dataclass(frozen=True)
class Example:
    """A track that failed, as ``failures/`` has it."""

    track_id: str
    uri: str
    message: str


@dataclasses.dataclass(frozen=True)
class FailureKind:
    """Tracks that failed alike: at which stage, with which error, how many of them."""

    stage: str
    error: str
    tracks: int
    examples: list[Example]


@dataclasses.dataclass(frozen=True)
class Failures:
    """The failures that a version lists.

    Attributes:
        total: rows in all files.
        read: rows that the kinds count: those of the newest files.
        kinds: the most frequent first.
    """

    total: int
    read: int
    kinds: list[FailureKind]


def examine_failures(index: str, manifest: Manifest, *, read_files: int = READ_FILES) -> Failures:
    """The failures of a version by kind.

    Raises: IndexFormatError where a file is damaged.
    """
    counts = dict[tuple[str, str], int]()
    examples = dict[tuple[str, str], list[Example]]()
    for table in itertools.islice(failed_tracks(index, manifest), read_files):
        names = ("stage", "error", "track_id", "uri", "message")
        columns = [table[name].to_pylist() for name in names]
        for stage, error, *told in zip(*columns, strict=True):
            kind = (stage or "", error or "")
            counts[kind] = counts.get(kind, 0) + 1
            shown = examples.setdefault(kind, [])
            if len(shown) < EXAMPLES:
                track_id, uri, message = (str(value or "") for value in told)
                shown.append(Example(track_id, uri, _shortened(message)))
    order = sorted(counts, key=lambda kind: (-counts[kind], kind))
    return Failures(
        total=sum(manifest.files.select(kind="failures").column("rows")),
        read=sum(counts.values()),
        kinds=[FailureKind(*kind, counts[kind], examples[kind]) for kind in order],
    )


def _shortened(message: str) -> str:
    """
    >>> _shortened("a" * 400)[-3:], len(_shortened("a" * 400)), _shortened("short")
    ('aa…', 200, 'short')
    """
    if len(message) <= MESSAGE_LETTERS:
        return message
    return message[: MESSAGE_LETTERS - 1] + "…"
