"""A catalogue from a folder of audio: one row a file, with the tags that the files carry."""

from __future__ import annotations

import csv
import io as text_io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from hashing.errors import CatalogError
from pipelines import io, parquet
from pipelines.stores import is_remote

# fmt: off
AUDIO_EXTENSIONS = frozenset({
    ".aac", ".ac3", ".aif", ".aiff", ".ape", ".flac", ".m4a", ".m4b", ".mka", ".mp2", ".mp3",
    ".mp4", ".mpc", ".oga", ".ogg", ".opus", ".wav", ".wave", ".webm", ".wma", ".wv",
})
# fmt: on
SCHEMA = pa.schema(
    [
        ("track_id", pa.string()),
        ("uri", pa.string()),
        ("title", pa.string()),
        ("artist_name", pa.list_(pa.string())),
        ("album", pa.string()),
        ("isrc", pa.string()),
        ("genres", pa.list_(pa.string())),
        ("release_date", pa.string()),
        ("declared_duration_s", pa.float64()),  # as the container says; decoding may differ
    ]
)
# Our column → the key in Vorbis comments and mutagen's easy tags, the ID3 frame of WAV and AIFF.
_TAGS = {
    "title": ("title", "TIT2"),
    "artist_name": ("artist", "TPE1"),
    "album": ("album", "TALB"),
    "isrc": ("isrc", "TSRC"),
    "genres": ("genre", "TCON"),
    "release_date": ("date", "TDRC"),
}


def scan_folder(folder: str) -> tuple[pa.Table, dict[str, int]]:
    """Every audio file below a local folder, sorted by `track_id`, and counters of what was met.

    `track_id` is the path below the folder without extension, with it where two files differ in
    nothing else; `uri` is absolute. Columns as in `SCHEMA`. Counters: ``tracks``,
    ``unreadable_tags``, ``names_not_utf8``, ``other_files``.

    Raises: CatalogError where there is no such folder, or no audio in it.
    """
    from tqdm import tqdm

    if is_remote(folder):
        raise CatalogError(
            f"{folder}: tags are read from a local folder only; copy it, or mount it"
        )
    root = os.path.abspath(io.join(folder))
    if not os.path.isdir(root):
        raise CatalogError(f"{folder} is no folder: name the folder with the audio")
    counters = Counter(tracks=0, unreadable_tags=0, names_not_utf8=0, other_files=0)
    paths = []
    for where, folders, names in os.walk(root):
        folders.sort()
        for name in names:
            path = os.path.relpath(os.path.join(where, name), root)
            hidden = name.startswith(".")  # "._a.mp3" of macOS is no audio
            if hidden or os.path.splitext(name)[1].lower() not in AUDIO_EXTENSIONS:
                counters["other_files"] += 1
            elif not _is_utf8(path):
                counters["names_not_utf8"] += 1
            else:
                paths.append(path)
    if not paths:
        raise CatalogError(
            f"{folder} holds no audio ({counters['other_files']} other files): name another folder"
        )
    rows = []
    progress = tqdm(paths, unit="file", disable=not sys.stderr.isatty(), leave=False)
    for path, track_id in zip(progress, track_ids(paths), strict=True):
        row: dict[str, Any] = {"track_id": track_id, "uri": os.path.join(root, path)}
        try:
            row |= read_tags(row["uri"])
        except Exception:  # mutagen raises nearly anything on damaged files; the row stays
            counters["unreadable_tags"] += 1
        rows.append(row)
    counters["tracks"] = len(rows)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return table.sort_by("track_id"), dict(counters)


def track_ids(paths: Iterable[str]) -> list[str]:
    """An id for each path: without its extension, unless another path would get the same.

    >>> track_ids(["a/x.mp3", "a/y.mp3", "a/y.flac"])
    ['a/x', 'a/y.mp3', 'a/y.flac']
    """
    paths = list(paths)
    stems = Counter(os.path.splitext(path)[0] for path in paths)
    ids = []
    for path in paths:
        stem = os.path.splitext(path)[0]
        ids.append(stem if stems[stem] == 1 else path)
    # "y.mp3.ogg" beside "y.mp3" and "y.flac": whoever lost the extension gets it back.
    twice = {name for name, count in Counter(ids).items() if count > 1}
    return [path if name in twice else name for path, name in zip(paths, ids, strict=True)]


def read_tags(path: str) -> dict[str, Any]:
    """The tags of a file under the names of `SCHEMA`; raises whatever mutagen raises."""
    import mutagen

    file = mutagen.File(path, easy=True)
    if file is None:
        raise CatalogError(f"{path}: no tags that mutagen knows")
    row: dict[str, Any] = {}
    for column, (key, frame) in _TAGS.items():
        values = _tag(file.tags, key, frame)
        if values:
            several = column in ("artist_name", "genres")
            row[column] = values if several else values[0]
    length = getattr(file.info, "length", None)
    if length:
        row["declared_duration_s"] = float(length)
    return row


def _tag(tags: Any, key: str, frame: str) -> list[str]:
    if tags is None:
        return []
    values: Any = tags.getall(frame) if hasattr(tags, "getall") else None
    if values is not None:
        values = [text for value in values for text in value.text]
    elif key in tags:
        values = tags[key]
    texts = [str(value).replace("\0", " ").strip() for value in values or []]
    return [text for text in texts if text]


def write_catalog(table: pa.Table, path: str, kind: str) -> None:
    """Writes a scanned catalogue as ``csv``, ``jsonl`` or ``parquet``, whole or not at all.

    Where the audio lies below the folder of the file, `uri` becomes relative to it, so that both
    can be moved together.
    """
    if not is_remote(path):
        base = os.path.join(os.path.dirname(os.path.abspath(io.join(path))), "")
        uris = [uri.removeprefix(base) for uri in table["uri"].to_pylist()]
        table = table.set_column(1, "uri", pa.array(uris, pa.string()))
    if kind == "parquet":
        parquet.write_table(path, table)
        return
    text = text_io.StringIO(newline="")
    rows = table.to_pylist()
    if kind == "jsonl":
        for row in rows:
            filled = {name: value for name, value in row.items() if value is not None}
            text.write(json.dumps(filled, ensure_ascii=False) + "\n")
    else:
        writer = csv.DictWriter(text, table.column_names, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            lists = {n: ";".join(v) for n, v in row.items() if isinstance(v, list)}
            writer.writerow(row | lists)
    io.write_bytes(path, text.getvalue().encode())


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
