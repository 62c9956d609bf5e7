"""Rows of ``tracks/`` and ``failures/``: what hashbeam says of a track, then its owner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hashing.errors import AudioError, HashbeamError
from pipelines.credentials import one_line
from pipelines.file_state import FILE_STATE

FAILURES = pa.schema(
    [(name, pa.string()) for name in ("track_id", "uri", "stage", "error", "message")]
)
# Kinds of errors of files that are not opened at all, and those that are found by listening; all
# others are found while decoding.
_NOT_FETCHED, _JUDGED_BY_EAR = ("not-allowed", "too-large"), ("silent", "too-short")
MAX_LETTERS = 1000  # of the message of a row
# What change detection needs to know of a file: one that failed is tried again when it differs.
_FILE = {"etag": pa.string(), **FILE_STATE}
TRACK_FAILURES = pa.schema([*FAILURES, *_FILE.items()])
# What hashbeam says about a track, in the order of the columns; the catalogue's own follow.
MEASURED = {
    "ordinal": pa.uint32(),
    "track_id": pa.string(),
    "uri": pa.string(),
    "snippets": pa.uint32(),
    "gids": pa.uint32(),
    "duration_s": pa.float64(),
    **_FILE,
}
# Of these a column of the catalogue with the same name is kept beside, as catalog_NAME.
OWN = ("ordinal", "snippets", "gids", "duration_s", *FILE_STATE)


def explain(error: Exception, heard: str, uri: str = "") -> dict[str, str]:
    """Stage, kind and message of the row of a track that failed.

    Args:
        heard: the stage that listens.
        uri: what the message is to name.

    >>> explain(AudioError("silent", "a.mp3 is silent"), "hash")
    {'stage': 'hash', 'error': 'silent', 'message': 'a.mp3 is silent'}
    """
    message = one_line(error)[:MAX_LETTERS]
    if isinstance(error, AudioError):
        stage = heard if error.kind in _JUDGED_BY_EAR else "decode"
        stage = "fetch" if error.kind in _NOT_FETCHED else stage
        shown = message if uri in message else f"{uri}: {message}"
        return {"stage": stage, "error": error.kind, "message": shown}
    if isinstance(error, HashbeamError | OSError):  # a remote file, or one that has just gone
        return {"stage": "fetch", "error": "unreadable", "message": message}
    return {"stage": heard, "error": type(error).__name__, "message": message}


def tracks_table(rows: pa.Table, measured: Mapping[str, Sequence[Any] | pa.Array]) -> pa.Table:
    """Rows of a catalogue as rows of ``tracks/``.

    Args:
        rows: as from `pipelines.catalog.read_catalog`.
        measured: the columns `OWN`, a value for each of the rows.

    >>> rows = pa.table({"track_id": ["a"], "uri": ["a.mp3"], "title": ["A"], "size": ["big"]})
    >>> table = tracks_table(rows, {name: [None] for name in OWN})
    >>> table.column_names[-2:]
    ['title', 'catalog_size']
    """
    columns = {}
    for name, kind in MEASURED.items():
        if name in measured:
            values = measured[name]
            columns[name] = pa.array(values, kind) if isinstance(values, Sequence) else values
        else:
            found = name in rows.column_names
            columns[name] = rows[name] if found else pa.nulls(rows.num_rows, kind)
    for name in rows.column_names:
        if name not in columns or name in measured:
            # A column of the catalogue that is called like one of ours is kept beside it.
            columns[f"catalog_{name}" if name in OWN else name] = rows[name]
    return pa.table(columns)


def catalog_rows(tracks: pa.Table) -> pa.Table:
    """Rows of ``tracks/`` as the rows of the catalogue that they were made of.

    >>> rows = pa.table({"track_id": ["a"], "uri": ["a.mp3"], "title": ["A"], "size": ["big"]})
    >>> table = tracks_table(rows, {name: [None] for name in OWN})
    >>> catalog_rows(table).to_pylist()
    [{'track_id': 'a', 'uri': 'a.mp3', 'etag': None, 'title': 'A', 'size': 'big'}]
    """
    columns = {}
    for name in tracks.column_names:
        if name not in OWN:
            plain = name.removeprefix("catalog_")
            columns[plain if plain in OWN else name] = tracks[name]
    return pa.table(columns)


def unite(tables: Iterable[pa.Table]) -> pa.Table:
    """Tables one after the other, whose owners may have given a column in different types.

    A column that is missing is null. One whose types do not go together becomes text: a year that
    was a number in last year's catalogue and a text in this one's.

    >>> unite([pa.table({"year": [1999]}), pa.table({"year": ["2001", None]})])["year"].to_pylist()
    ['1999', '2001', None]
    """
    found = list(tables)
    try:
        return pa.concat_tables(found, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.concat_tables(_alike(found), promote_options="permissive")


def _alike(tables: Sequence[pa.Table]) -> list[pa.Table]:
    kinds: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for field in table.schema:
            if not pa.types.is_null(field.type):
                kinds.setdefault(field.name, set()).add(field.type)
    made = []
    for table in tables:
        for place, name in enumerate(table.column_names):
            if len(kinds.get(name, ())) > 1:
                table = table.set_column(place, name, as_text(table[name]))
        made.append(table)
    return made


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text; a list as its items with ``;`` between them, as a CSV has it.

    What a value becomes depends on nothing but itself: rows are compared by it.

    >>> as_text(pa.chunked_array([[["a", "b"], None, ["c", None], []]])).to_pylist()
    ['a;b', None, 'c;', '']
    """
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.chunked_array([_joined(chunk) for chunk in column.chunks], pa.string())
    if _is_binary(kind):
        texts = [
            None if v is None else v.decode(errors="backslashreplace") for v in column.to_pylist()
        ]
        return pa.chunked_array([pa.array(texts, pa.string())])
    try:
        return column.cast(pa.string())
    except pa.ArrowNotImplementedError:  # nested
        texts = [None if value is None else repr(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])


def _is_binary(kind: pa.DataType) -> bool:
    is_kind = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(check(kind) for check in is_kind)


def _joined(lists: Any) -> Any:
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    values = as_text(pa.chunked_array([lists.flatten()])).combine_chunks()
    whole = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pc.fill_null(values, ""))
    return pc.if_else(lists.is_valid(), pc.binary_join(whole, ";").cast(pa.string()), None)
