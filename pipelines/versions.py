"""The index directory: what a version holds, which one is published, and how it comes to be.

::

    INDEX/CURRENT                    one line, the published version, replaced atomically
    INDEX/HISTORY                    those that were published before it (`pipelines.history`)
    INDEX/LOCK                       the one writer (`pipelines.lock`)
    INDEX/versions/000001/
        manifest.json                every file that counts; readers look nowhere else
        run.json                     counters, timings, versions of everything
        codes/ tracks/ failures/ matrices/ tables/ and, where they were asked for, embeddings/ of
                                 snippets (part-NNNNN-…) and of whole tracks (part-NNNNN-artist-…)
                                 and sequences/
        work/                        the plan and the receipts of the run, and the postings on
                                     their way into tables (`pipelines.spills`), until it is
                                     published

Nothing that a published manifest names is ever changed, so a reader of any version is undisturbed.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

from hashing.errors import HashbeamError, IndexFormatError
from pipelines import io
from pipelines.records import Record, damaged
from pipelines.stores import TEMPORARY_SUFFIX

FORMAT_VERSION = 3  # of everything in an index directory; raise it when older readers would err
FIRST_VERSION = "000001"
# Embeddings of whole tracks, which tell artists apart; they stand in embeddings/ as those of
# snippets do, with "artist" in their names.
ARTIST_EMBEDDINGS = "artist_embeddings"
SEQUENCES = "sequences"  # of hashes, and frames, of whole tracks: what MIDI files are matched by
# Kinds of files, all others each a folder of a version; `matrices` say where in their shards the
# codes, or embeddings, of snippet numbers lie; `spills` are of an unfinished run, in its work/.
KINDS = (
    "codes",
    "tracks",
    "failures",
    "matrices",
    "embeddings",
    ARTIST_EMBEDDINGS,
    SEQUENCES,
    "tables",
    "removals",
    "spills",
)

_VERSION = re.compile(r"\d{6,}")
CURRENT, VERSIONS = "CURRENT", "versions"
_LOCK = "LOCK"


@dataclasses.dataclass(frozen=True)
class FileEntry(Record):
    """One file of an index, with what proves that it is whole.

    `path` is relative to the index directory. `segment`, `table`, `key_lo` and `key_hi`
    (exclusive) place a table shard, `segment` and `part` a file of the catalogue's part.
    """

    path: str
    kind: str
    rows: int
    bytes: int
    sha256: str
    segment: int | None = None
    table: int | None = None
    key_lo: int | None = None
    key_hi: int | None = None
    part: int | None = None

    def __post_init__(self) -> None:
        _check_places([self.path], {self.kind}, "a file entry")


_COLUMNS: dict[str, set[type]] = {
    **{name: {str} for name in ("path", "kind")},
    **{name: {int} for name in ("rows", "bytes")},
    "sha256": {str},
    **{name: {int, type(None)} for name in ("segment", "table", "key_lo", "key_hi", "part")},
}  # in the order of FileEntry's fields


class Files(Sequence[FileEntry]):
    """The files of a manifest, kept in columns: an index has thousands, and opens at once.

    >>> files = Files.of([FileEntry("versions/000001/codes/a", "codes", 3, 9, "00", 0, part=0)])
    >>> files[0].rows, len(files.select(kind="tables")), files.column("path")
    (3, 0, ['versions/000001/codes/a'])
    >>> files.tuples("path", "part", kind="codes")
    [('versions/000001/codes/a', 0)]
    """

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns = columns

    @classmethod
    def of(cls, entries: Iterable[FileEntry]) -> Files:
        """The files that `entries` describe, in their order."""
        rows = list(entries)
        return cls({name: [getattr(row, name) for row in rows] for name in _COLUMNS})

    def column(self, name: str) -> list[Any]:
        """One field of all the files; not to be changed."""
        return self._columns[name]

    def select(self, **values: Any) -> Files:
        """The files whose fields have these values: ``select(kind="tables", segment=0)``."""
        chosen = self._chosen(values)
        return Files({name: [c[row] for row in chosen] for name, c in self._columns.items()})

    def tuples(self, *names: str, **values: Any) -> list[tuple[Any, ...]]:
        """These fields of the files that `select` would give: what `TableSet` opens, fast."""
        chosen, columns = self._chosen(values), [self._columns[name] for name in names]
        return list(zip(*([column[row] for row in chosen] for column in columns), strict=True))

    def _chosen(self, values: dict[str, Any]) -> Sequence[int]:
        chosen: Sequence[int] = range(len(self))
        for name, value in values.items():
            column = self._columns[name]
            chosen = [row for row in chosen if column[row] == value]
        return chosen

    def __len__(self) -> int:
        return len(self._columns["path"])

    @overload
    def __getitem__(self, row: int) -> FileEntry: ...
    @overload
    def __getitem__(self, row: slice) -> Files: ...
    def __getitem__(self, row: int | slice) -> FileEntry | Files:
        if isinstance(row, slice):
            return Files({name: column[row] for name, column in self._columns.items()})
        return FileEntry(**{name: column[row] for name, column in self._columns.items()})

    def __iter__(self) -> Iterator[FileEntry]:
        return (FileEntry(*row) for row in zip(*self._columns.values(), strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Files) and self._columns == other._columns

    __hash__ = None  # type: ignore[assignment]

    def to_json(self) -> dict[str, list[Any]]:
        """Column name → values."""
        return self._columns

    @classmethod
    def from_json(cls, data: Any, where: str) -> Files:
        """The files that `to_json` gave.

        Raises: IndexFormatError where a column is missing, of another length or type, or names a
            path outside of the index.
        """
        if not isinstance(data, dict) or not all(type(v) is list for v in data.values()):
            raise damaged(f"{where}: files are not given by column")
        for name, kinds in _COLUMNS.items():
            if name not in data or len(data[name]) != len(data.get("path", ())):
                raise damaged(f"{where}: column {name} of the files is missing or cut short")
            if not set(map(type, data[name])) <= kinds:
                raise damaged(f"{where}: column {name} of the files has a wrong type")
        _check_places(data["path"], set(data["kind"]), where)
        return cls({name: data[name] for name in _COLUMNS})


@dataclasses.dataclass(frozen=True)
class Segment(Record):
    """Consecutive parts of a catalogue whose snippets are numbered together (below 2**32).

    `part_gids` (snippet numbers taken up) and `part_tracks` count by part, from `first_part` on;
    `removals` names the tracks that have gone since the segment was built.
    """

    id: int
    first_part: int
    n_parts: int
    tracks: int
    snippets: int
    part_gids: list[int]
    part_tracks: list[int]
    removals: FileEntry | None = None

    @property
    def live(self) -> int:
        """Tracks that have not gone."""
        return self.tracks - (0 if self.removals is None else self.removals.rows)


@dataclasses.dataclass(frozen=True)
class Manifest(Record):
    """A version of an index: all that a reader needs to find and to check its files.

    `model` has ``name`` and ``digest`` (and ``path`` where it is no shipped one); `parent` is the
    version that this one was made from; `snippet_hop_s` is in seconds; `created` is UTC.
    `replication` is 1 where every snippet has one posting a table, and more where a hasher gives it
    several; `compared` says what look-up compares a query with: ``codes`` or ``embeddings``. `also`
    has a model like `model` for each thing beside codes that the index was asked for: ``artist``,
    ``sequence``.
    """

    version: str
    parent: str | None
    model: dict[str, str]
    catalog_digest: str
    key_bits: int
    n_tables: int
    snippet_hop_s: float
    replication: float
    compared: str
    segments: list[Segment]
    files: Files
    counters: dict[str, int | float]
    created: str
    format_version: int = FORMAT_VERSION
    also: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    def entries(self) -> list[FileEntry]:
        """All that the version consists of, removals at the end."""
        removals = (segment.removals for segment in self.segments)
        return [*self.files, *(entry for entry in removals if entry is not None)]

    def every_file(self) -> dict[str, int]:
        """Path → bytes of `entries`."""
        return {entry.path: entry.bytes for entry in self.entries()}

    def is_own(self, path: str) -> bool:
        """Whether a file was made by the version itself, not by one before it."""
        return path.startswith(folder_of(self.version))

    def also_digests(self) -> dict[str, str]:
        """What there is beside codes → digest of the model that made it."""
        return {name: model["digest"] for name, model in self.also.items()}


def utc_now() -> str:
    """The time of day in UTC, to the second, as manifests and plans have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def version_path(index: str, version: str, *parts: str) -> str:
    """The folder of a version, or something in it.

    >>> version_path("music.index", "000001", "manifest.json")
    'music.index/versions/000001/manifest.json'
    """
    return io.join(index, VERSIONS, version, *parts)


def folder_of(version: str) -> str:
    """What the paths of a version's own files begin with, within the index.

    >>> folder_of("000001")
    'versions/000001/'
    """
    return f"{VERSIONS}/{version}/"


def dump_json(record: Record) -> bytes:
    """A record as JSON, one field a line."""
    lines = (
        f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}"
        for name, value in record.to_json().items()
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def load_json(data: bytes, where: str) -> dict[str, Any]:
    """A JSON file of an index as a dict.

    Raises: IndexFormatError where it is damaged or of another format version.
    """
    try:
        values = json.loads(data)
    except ValueError as error:
        raise damaged(f"{where} is not whole JSON ({error})") from error
    if not isinstance(values, dict) or "format_version" not in values:
        raise damaged(f"{where} has no format version")
    if values["format_version"] != FORMAT_VERSION:
        raise IndexFormatError(
            f"{where} has format version {values['format_version']!r}, this hashbeam reads "
            f"{FORMAT_VERSION}; use the hashbeam that wrote it, or build the index anew "
            "with `hashbeam index`"
        )
    return values


def is_version(name: str) -> bool:
    """Whether a name looks like a version.

    >>> is_version("000012"), is_version("12"), is_version("00001a")
    (True, False, False)
    """
    return _VERSION.fullmatch(name) is not None


def current_version(index: str) -> str | None:
    """The published version of an index, or None where none has been published."""
    return read_pointer(index)[0]


def read_pointer(index: str) -> tuple[str | None, str | None]:
    """The published version, and the stamp of the pointer that names it."""
    path = io.join(index, CURRENT)
    found = io.read_stamped(path)
    if found is None:
        return None, None
    version = found.data.decode("utf-8", "replace").strip()
    if not is_version(version):
        raise damaged(f"{path} names no version: {version[:40]!r}")
    return version, found.stamp


def read_manifest(index: str, version: str) -> Manifest | None:
    """The manifest of a version; None where it has none.

    Raises: IndexFormatError where it is damaged, or that of another version.
    """
    where = version_path(index, version, "manifest.json")
    data = io.read_if_exists(where)
    if data is None:
        return None
    manifest = Manifest.from_json(load_json(data, where), where)
    if manifest.version != version:
        raise damaged(f"{where} is of version {manifest.version}, not {version}")
    return manifest


def open_manifest(index: str, version: str | None = None) -> Manifest:
    """The manifest of the published version, or of `version`.

    Raises: HashbeamError where there is no such index or version; IndexFormatError where its
        manifest is damaged or of another format version.
    """
    if version is not None and not is_version(version):
        raise HashbeamError(f"{version!r} is no version; they look like {FIRST_VERSION}")
    wanted = version or current_version(index)
    while wanted is not None:
        manifest = read_manifest(index, wanted)
        if manifest is not None:
            return manifest
        if version is not None:
            raise HashbeamError(f"{index} has no version {version}; see `hashbeam info {index}`")
        # The version may have been retired between the two reads: then CURRENT has moved.
        missing, wanted = wanted, current_version(index)
        if wanted == missing:
            where = version_path(index, missing, "manifest.json")
            raise damaged(f"{where} is missing, though CURRENT names it")
    raise HashbeamError(_why_no_index(index))


def is_temporary(name: str) -> bool:
    """Whether a killed writer left this file; the lock, always in use, looks after its own.

    >>> is_temporary("codes/.a.parquet.0f.tmp"), is_temporary(".LOCK.0f.tmp")
    (True, False)
    """
    base = name.rsplit("/", 1)[-1]
    return (
        base.startswith(".")
        and base.endswith(TEMPORARY_SUFFIX)
        and not base.startswith(f".{_LOCK}.")
    )


def _check_places(paths: Sequence[str], kinds: set[str], where: str) -> None:
    together = "\n".join(["", *paths])  # thousands of paths: searched in C
    if "\n/" in together or ".." in together or "://" in together:
        bad = next((p for p in paths if p[:1] == "/" or ".." in p or "://" in p), paths[0])
        raise damaged(f"{where}: {bad!r} is no path inside the index")
    if not kinds <= set(KINDS):
        raise damaged(f"{where}: {sorted(kinds - set(KINDS))} are no kinds of files")


def _why_no_index(index: str) -> str:
    if not io.exists(index):
        return f"{index}: there is no such index; make one with `hashbeam index --out {index}`"
    if not io.is_dir(index):
        return f"{index} is a file, not an index; name the folder that `hashbeam index` wrote"
    if io.list_dir(io.join(index, VERSIONS)):
        return f"{index} is not finished yet; run the same `hashbeam index` command again"
    return f"{index} is no index: it has no CURRENT; name the folder that `hashbeam index` wrote"
