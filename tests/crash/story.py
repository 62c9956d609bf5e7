"""A tiny catalogue before and after a night in which everything happens, and what is expected.

Files hold a few bytes, which stand for audio (`crash.process`). What an index of a catalogue must
hold is computed from the catalogue alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from crash.process import BROKEN, codes_of_bytes
from tiny_catalog import write_rows

from hashing.codes import unpack
from hashing.encoders import Hasher, QueryCodes
from pipelines import parquet
from pipelines.history import published_versions
from pipelines.live import failed_tracks, live_tracks
from pipelines.opened import IndexTracks, open_index
from pipelines.plain import rows_of
from pipelines.versions import Manifest, open_manifest, read_manifest, version_path

# A true match has a vote for each snippet and table, a chance one hardly any.
VOTES = 8

# Name of a recording → its bytes.
RECORDINGS = {
    **{f"r{number}": f"recording {number}".encode() * (number + 5) for number in range(12)},
    "bad": BROKEN,
    "worse": BROKEN + b" either",
}
# File → recording, and rows: track_id, file, title.
OLD_FILES = {f"{n}.wav": f"r{n}" for n in range(9)} | {"bad.wav": "bad"}
OLD = [(f"t{n}", f"{n}.wav", f"Title {n}") for n in range(9)] + [("x0", "bad.wav", "Broken")]
NEW_FILES = OLD_FILES | {"1.wav": "r9", "10.wav": "r10", "moved.wav": "r4", "worse.wav": "worse"}
NEW = [
    ("t0", "0.wav", "Title 0"),
    ("t1", "1.wav", "Title 1"),  # another recording
    # t2 has gone
    ("u3", "3.wav", "Title 3"),  # renamed
    ("t4", "moved.wav", "Title 4"),
    ("t5", "5.wav", "Another title"),
    *((f"t{n}", f"{n}.wav", f"Title {n}") for n in (6, 7, 8, 10)),
    ("x0", "bad.wav", "Broken"),
    ("x1", "worse.wav", "Broken, too"),
]
# A night between the two, whose run was given up.
MIDDLE = [row for row in NEW if row[0] not in ("x1", "t5")]


@dataclasses.dataclass(frozen=True)
class Content:
    """What an index holds, as its readers see it.

    Attributes:
        tracks: track_id → file, title, and a digest of its snippets and codes.
        failed: track_ids.
        answers: name of every recording there is → the track that look-up finds.
    """

    tracks: dict[str, tuple[str, str, str]]
    failed: frozenset[str]
    answers: dict[str, str | None]


def lay_out(folder: Path, name: str, files: dict[str, str], rows: list[tuple[str, ...]]) -> Path:
    """Files as they are that night, and a catalogue of this name."""
    folder.mkdir(exist_ok=True)
    for file, recording in files.items():
        if not (folder / file).exists() or (folder / file).read_bytes() != RECORDINGS[recording]:
            (folder / file).write_bytes(RECORDINGS[recording])
    named = [dict(zip(("track_id", "uri", "title"), row, strict=True)) for row in rows]
    return write_rows(folder / f"{name}.csv", named)


def expected(files: dict[str, str], rows: list[tuple[str, ...]], hasher: Hasher) -> Content:
    """What an index of these rows must hold."""
    tracks, failed, owners = {}, set[str](), dict[str, str | None]()
    for track_id, file, title in rows:
        recording = files[file]
        if RECORDINGS[recording].startswith(BROKEN):
            failed.add(track_id)
            continue
        made = codes_of_bytes(RECORDINGS[recording], hasher.quantizer.code_bytes)
        tracks[track_id] = (file, title, digest(made.snippet, made.codes))
        owners[recording] = track_id
    asked = [name for name in RECORDINGS if not RECORDINGS[name].startswith(BROKEN)]
    return Content(tracks, frozenset(failed), {name: owners.get(name) for name in asked})


def content_of(index: Path, hasher: Hasher) -> Content:
    """What the published version of an index holds."""
    manifest = open_manifest(str(index))
    tracks, failed = tracks_of(index, manifest), failed_of(index, manifest)
    return Content(tracks, failed, Reader(index, hasher, manifest).answers())


def tracks_of(index: Path, manifest: Manifest) -> dict[str, tuple[str, str, str]]:
    """The live tracks of a version, as `Content` has them; none of them may be there twice."""
    codes: dict[tuple[int, str], str] = {}
    for path, segment in manifest.files.tuples("path", "segment", kind="codes"):
        table = parquet.read_table(str(index / path), small=True)
        ids, snippet = np.array(table["track_id"].to_pylist()), table["snippet"].to_numpy()
        code = rows_of(table["code"])
        for track_id in np.unique(ids).tolist():
            own = ids == track_id
            codes[segment, track_id] = digest(snippet[own], code[own])
    tracks: dict[str, tuple[str, str, str]] = {}
    for table in live_tracks(str(index), manifest):
        for row in table.to_pylist():
            track_id = row["track_id"]
            assert track_id not in tracks, f"{track_id} is live twice"
            own = codes[row["segment"], track_id]
            tracks[track_id] = (Path(row["uri"]).name, row["title"], own)
    return tracks


def failed_of(index: Path, manifest: Manifest) -> frozenset[str]:
    """The tracks that failed; none of them may be there twice."""
    tables = failed_tracks(str(index), manifest)
    failed = [track_id for table in tables for track_id in table["track_id"].to_pylist()]
    assert len(failed) == len(set(failed)), failed
    return frozenset(failed)


class Reader:
    """A look-up that has opened an index, and keeps it open."""

    def __init__(self, index: Path, hasher: Hasher, manifest: Manifest | None = None) -> None:
        self._searcher, self._tracks, self.manifest = open_index(
            str(index), manifest=manifest, hasher=hasher
        )
        assert isinstance(self._tracks, IndexTracks)

    def answers(self) -> dict[str, str | None]:
        """Recording → the track that is found for its own codes."""
        asked = {n: data for n, data in RECORDINGS.items() if not data.startswith(BROKEN)}
        hasher = self._searcher.hasher
        queries = [_query(data, hasher) for data in asked.values()]
        found: dict[str, str | None] = {}
        for name, matches in zip(asked, self._searcher.search(queries, 1), strict=True):
            true = [match for match in matches if match.votes >= VOTES]
            rows = [self._tracks.row(match.segment, match.ordinal) for match in true]
            found[name] = rows[0]["track_id"] if rows else None
        return found


def _query(data: bytes, hasher: Hasher) -> QueryCodes:
    """A recording as a query: responses that give just its codes."""
    made = codes_of_bytes(data, hasher.quantizer.code_bytes)
    signs = unpack(made.codes, int(hasher.config["bits"]))
    responses = np.where(signs, 1.0, -1.0).astype(np.float32)
    start = made.snippet * np.int32(hasher.features.snippet_hop)
    contrast = np.full(len(start), 10.0, np.float32)
    return QueryCodes(responses, start, made.duration_s, contrast=contrast)


def digest(snippet: np.ndarray, codes: np.ndarray) -> str:
    """Stands for the codes of a track."""
    return hashlib.sha256(snippet.astype(np.int32).tobytes() + codes.tobytes()).hexdigest()


def leftovers(index: Path) -> set[str]:
    """Files and folders of an index that nothing needs: of runs that are over, or were given up."""
    found = {str(path.relative_to(index)) for path in index.rglob("*")}
    needed = {"CURRENT", "HISTORY", "versions"}
    for version in published_versions(str(index)):
        manifest = read_manifest(str(index), version)
        if manifest is not None:
            own = version_path("", version)
            needed |= {*manifest.every_file(), f"{own}/manifest.json", f"{own}/run.json"}
    folders = {str(parent) for name in needed for parent in Path(name).parents}
    return found - needed - folders
