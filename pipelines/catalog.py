"""The catalogue: which tracks there are. Read from CSV, JSON Lines or Parquet, checked as a whole.

A catalogue is checked before any work is done, and everything that is wrong with it is told at
once: file, row (counted from 1 below a header), column, remedy.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import sys
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hashing.errors import CatalogError
from pipelines import io
from pipelines.allowed import refusals
from pipelines.stores import is_remote

TRACK_ID, CLIP_ID = "track_id", "clip_id"
TEXT_COLUMNS = ("uri", "album_id", "album", "title", "isrc", "mood", "release_date", "etag")
LIST_COLUMNS = ("artist_id", "artist_name", "genres")  # a list, or text separated by ";"
DIGESTED = ("track_id", "uri", "etag")  # what decides whether a track must be hashed again
MAX_PROBLEMS = 10  # told at once: enough to see the pattern, short enough to read
SNIFFED_BYTES = 1 << 16  # of the beginning, to tell text from binary
FORMATS = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}

DESCRIPTION = """\
Write a catalogue from a folder of audio: one row a file, with its tags.

  hashbeam catalog ~/Music --out catalog.csv
  hashbeam index --catalog catalog.csv --out index

The extension of --out chooses the format: .csv, .jsonl or .parquet. The track_id is the path below
the folder without its extension. Files whose tags cannot be read are listed without tags. A list
of labelled clips may call that column clip_id."""


class _Problems:
    """Up to `MAX_PROBLEMS` sentences about one catalogue, and how many more there were."""

    def __init__(self, path: str, key: str) -> None:
        self.path, self.found, self.more, self.key = path, list[str](), 0, key
        self.text_columns = (key, *TEXT_COLUMNS)

    def settle_key(self, names: Collection[str]) -> None:
        """Lists of labelled clips call the column of ids `CLIP_ID`."""
        if self.key == TRACK_ID and TRACK_ID not in names and CLIP_ID in names:
            self.key, self.text_columns = CLIP_ID, (CLIP_ID, *TEXT_COLUMNS)

    def add(self, problem: str) -> None:
        if len(self.found) < MAX_PROBLEMS:
            self.found.append(problem)
        else:
            self.more += 1

    def add_rows(self, rows: pa.Array, column: str, problem: str) -> None:
        told = rows[: MAX_PROBLEMS - len(self.found)]
        self.found += [f"row {row}, column {column}: {problem}" for row in told.to_pylist()]
        self.more += len(rows) - len(told)

    def finish(self) -> None:
        if self.found:
            more = f"; and {self.more} more" if self.more else ""
            raise CatalogError(
                f"{self.path}: {'; '.join(self.found)}{more}; mend that and run again"
            )


def read_catalog(path: str, key: str = TRACK_ID) -> pa.Table:
    """The tracks of a catalogue, checked, sorted by `track_id` (byte order).

    Text columns are strings (null where empty), `artist_id`, `artist_name` and `genres` lists of
    strings, `uri` absolute; unknown columns come as they are. A list of queries is a catalogue as
    well: `key` is the column of its ids. Without `track_id`, `clip_id` becomes it. No uri may carry
    credentials, or lead out of what the command allows (`pipelines.allowed`).

    Raises: CatalogError naming file, row, column and remedy; all problems (up to 10) at once.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("track_id,uri,artist_name\\nb,/b.mp3,Ann; Bob\\na,/a.mp3,\\n")
    ...     _ = file.flush()
    ...     read_catalog(file.name).to_pylist()[1]
    {'track_id': 'b', 'uri': '/b.mp3', 'artist_name': ['Ann', 'Bob']}
    """
    if io.is_dir(path):
        raise CatalogError(
            f"{path} is a folder: `hashbeam catalog {path} --out catalog.csv` makes a catalogue "
            "of the audio in it"
        )
    if not io.exists(path):
        raise CatalogError(f"{path} does not exist: name a CSV, JSON Lines or Parquet file")
    problems = _Problems(path, key)
    with io.local_copy(path) as local:
        table, rows = _READERS[_format(path, local)](local, problems)
    problems.settle_key(table.column_names)
    wanted, key = key, problems.key
    required = (key, "uri")
    missing = [name for name in required if name not in table.column_names]
    if missing:
        hint = " (columns are separated by commas)" if len(table.column_names) == 1 else ""
        problems.add(
            f"column {' and '.join(missing)} missing, found {', '.join(table.column_names)}{hint}"
        )
        problems.finish()
    if not rows and not problems.found:
        raise CatalogError(f"{path} holds no tracks: add a row for each")
    table = _typed(table, rows, required, problems)
    for name in required:
        empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(table[name]), ""), True)
        problems.add_rows(pc.filter(rows, empty.combine_chunks()), name, "empty")
    order = pc.sort_indices(table[key])  # stable, by UTF-8 bytes
    table, rows = table.take(order), rows.take(order)
    _check_unique(table[key], rows, key, problems)
    problems.finish()
    base = os.path.dirname(path if is_remote(path) else os.path.abspath(io.join(path)))
    absolute = pc.match_substring_regex(table["uri"], r"^(/|[A-Za-z][A-Za-z0-9+.\-]*://)")
    joined = pc.binary_join_element_wise(base.rstrip("/"), table["uri"], "/")
    uri = pc.if_else(absolute, table["uri"], joined)
    refused = refusals(uri)
    for row, place in sorted((rows[place].as_py(), place) for place in refused):
        problems.add(f"row {row}, column uri: {refused[place]}")
    problems.finish()
    table = table.set_column(table.column_names.index("uri"), "uri", uri).combine_chunks()
    return table.rename_columns({key: wanted})


def catalog_digest(table: pa.Table) -> str:
    """What a catalogue says about the audio, as SHA-256 in hex: `track_id`, `uri` and `etag`.

    >>> one = pa.table({"track_id": ["a"], "uri": ["/a"], "title": ["x"]})
    >>> catalog_digest(one) == catalog_digest(one.drop_columns(["title"]))
    True
    """
    digest = hashlib.sha256()
    for name in DIGESTED:
        if name not in table.column_names:
            continue
        digest.update(f"{name}:{table.num_rows};".encode())
        for chunk in table[name].cast(pa.large_string()).chunks:
            texts = pc.fill_null(chunk, "")
            # Lengths beside the bytes, or "ab","c" would be the same as "a","bc".
            digest.update(pc.binary_length(texts).to_numpy(zero_copy_only=False).astype("<i8"))
            digest.update("".join(texts.to_pylist()).encode())
    return digest.hexdigest()


def catalog_format(path: str) -> str | None:
    """``csv``, ``jsonl`` or ``parquet`` by the extension of a path; None for any other."""
    return FORMATS.get(os.path.splitext(path)[1].lower())


def _format(path: str, local: str) -> str:
    """By extension, then content; what is neither text nor Parquet is refused here."""
    try:
        with open(local, "rb") as file:
            head = file.read(SNIFFED_BYTES)
    except OSError as error:
        raise CatalogError(f"cannot read {path}: {error.strerror}; make it readable") from error
    if not head.strip():
        raise CatalogError(f"{path} is empty: it needs a column of ids and the column uri")
    kind = catalog_format(path)
    if head.startswith(b"PAR1"):
        return "parquet"
    if kind == "parquet" or b"\0" in head:
        raise CatalogError(
            f"{path} is no CSV, JSON Lines or Parquet file (binary, or text that is not UTF-8): "
            "save it as one of them"
        )
    if kind is None:
        kind = "jsonl" if head.lstrip().startswith(b"{") else "csv"
    return kind


def _read_csv(path: str, problems: _Problems) -> tuple[pa.Table, pa.Array]:
    from pyarrow import csv as arrow_csv

    ragged: list[int] = []

    def on_ragged(row: Any) -> str:
        ragged.append(row.number - 1)  # Arrow counts the header
        problems.add(
            f"row {row.number - 1}: {row.actual_columns} values, the header names "
            f"{row.expected_columns} columns"
        )
        return "skip"

    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = next((row for row in csv.reader(file) if row), [])
        names = [name for name in header if header.count(name) > 1]
        if names or "" in header:
            raise CatalogError(
                f"{problems.path}: the header names "
                + (f"column {names[0]} twice" if names else "a column with an empty name")
                + "; give every column a name of its own"
            )
        table = arrow_csv.read_csv(
            path,
            # One thread: only then Arrow knows the numbers of ragged rows.
            read_options=arrow_csv.ReadOptions(use_threads=False),
            parse_options=arrow_csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=on_ragged
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
        raise CatalogError(
            f"{problems.path} is no CSV in UTF-8: {str(error).splitlines()[0]}; save it as one"
        ) from error
    skipped = set(ragged)
    rows = [row for row in range(1, table.num_rows + len(ragged) + 1) if row not in skipped]
    return table, pa.array(rows, pa.int64())


def _read_jsonl(path: str, problems: _Problems) -> tuple[pa.Table, pa.Array]:
    columns: dict[str, list[Any]] = {}
    rows: list[int] = []
    try:
        for number, line in _lines(path):
            try:
                values = json.loads(line)
            except ValueError as error:
                problems.add(f"row {number}: no JSON ({error})")
                continue
            if not isinstance(values, dict):
                problems.add(f"row {number}: no JSON object (one object a line is needed)")
                continue
            for name in values:
                # A column that begins late is empty above.
                columns.setdefault(name, [None] * len(rows))
            for name, column in columns.items():
                column.append(_checked_json(values.get(name), name, number, problems))
            rows.append(number)
    except UnicodeDecodeError as error:
        raise CatalogError(f"{problems.path} is not UTF-8: {error}; save it as UTF-8") from error
    if not rows:
        problems.finish()
    problems.settle_key(columns)
    if problems.key == CLIP_ID:
        ids = zip(columns[CLIP_ID], rows, strict=True)
        columns[CLIP_ID] = [_checked_json(value, CLIP_ID, row, problems) for value, row in ids]
    arrays = {n: _json_array(values, n, problems.text_columns) for n, values in columns.items()}
    return pa.table(arrays), pa.array(rows, pa.int64())


def _lines(path: str) -> Iterator[tuple[int, str]]:
    with open(path, encoding="utf-8-sig") as file:
        yield from ((n, line) for n, line in enumerate(file, start=1) if line.strip())


def _checked_json(value: Any, name: str, row: int, problems: _Problems) -> Any:
    if name in LIST_COLUMNS and isinstance(value, list):
        wrong = next((item for item in value if not isinstance(item, str)), None)
    elif name in problems.text_columns or name in LIST_COLUMNS:
        wrong = None if isinstance(value, str) else value
    else:
        return value
    if wrong is None:
        return value
    problems.add(f"row {row}, column {name}: must be text, got {json.dumps(wrong)[:40]}")
    return None


def _json_array(values: list[Any], name: str, text_columns: tuple[str, ...]) -> pa.Array:
    if name in LIST_COLUMNS:
        return pa.array(
            [split_list(v) if isinstance(v, str) else v for v in values], pa.list_(pa.string())
        )
    if name in text_columns:
        return pa.array(values, pa.string())
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        # An unknown column of mixed types is carried along as the JSON that it was.
        return pa.array([None if value is None else json.dumps(value) for value in values])


def _read_parquet(path: str, problems: _Problems) -> tuple[pa.Table, pa.Array]:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise CatalogError(
            f"{problems.path} is no whole Parquet file ({str(error).splitlines()[0]}); "
            "write it again"
        ) from error
    names = [name for name in table.column_names if table.column_names.count(name) > 1]
    if names:
        raise CatalogError(f"{problems.path}: column {names[0]} is there twice; remove one")
    rows = pa.array(range(1, table.num_rows + 1), pa.int64())
    return table.replace_schema_metadata(None), rows


_READERS = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}


def _typed(
    table: pa.Table, rows: pa.Array, required: tuple[str, ...], problems: _Problems
) -> pa.Table:
    """Known columns as string or list<string>; a column of another type is a problem."""
    for index, field in enumerate(table.schema):
        column, kind = table.column(index), field.type
        if pa.types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        text = pa.types.is_null(kind) or pa.types.is_large_string(kind) or pa.types.is_string(kind)
        text = text or str(kind) == "string_view"
        if field.name == "release_date":
            text = text or pa.types.is_temporal(kind) or pa.types.is_integer(kind)
        if field.name in LIST_COLUMNS:
            inner = getattr(kind, "value_type", None)
            if text:
                lists = [split_list(value) for value in column.cast(pa.string()).to_pylist()]
                column = pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
            elif inner is not None and str(inner) in ("string", "large_string", "string_view"):
                column = column.cast(pa.list_(pa.string()))
            else:
                problems.add(f"column {field.name}: must be text or a list of text, is {kind}")
                continue
        elif field.name in problems.text_columns:
            if not text:
                problems.add(f"column {field.name}: must be text, is {kind}")
                if field.name in required:
                    problems.finish()
                continue
            column = column.cast(pa.string())
            if field.name not in required:
                column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
        table = table.set_column(index, field.name, column)
    return table


def split_list(text: str | None) -> list[str] | None:
    """The items of text separated by ";"; None where there are none.

    >>> split_list("Ann; Bob;"), split_list("")
    (['Ann', 'Bob'], None)
    """
    return [item.strip() for item in (text or "").split(";") if item.strip()] or None


def _check_unique(ids: pa.ChunkedArray, rows: pa.Array, key: str, problems: _Problems) -> None:
    ids = ids.combine_chunks()
    if len(ids) < 2:
        return
    # Sorted, so equal ids are neighbours; empty ones have been told already.
    same = pc.and_(pc.equal(ids[1:], ids[:-1]), pc.not_equal(pc.utf8_trim_whitespace(ids[1:]), ""))
    for place in pc.indices_nonzero(pc.fill_null(same, False)).to_pylist():
        first, second = sorted((rows[place].as_py(), rows[place + 1].as_py()))
        problems.add(
            f"row {second}, column {key}: {ids[place].as_py()!r} is there already in row "
            f"{first} (ids must be unique)"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam catalog``."""
    parser.add_argument("folder", metavar="FOLDER", help="a local folder, searched with all below")
    parser.add_argument("--out", metavar="FILE", required=True, help=".csv, .jsonl or .parquet")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam catalog FOLDER --out FILE``: scans, writes, prints what was found."""
    from pipelines.scan import scan_folder, write_catalog

    kind = catalog_format(args.out)
    if kind is None:
        raise CatalogError(f"--out {args.out}: the extension must be .csv, .jsonl or .parquet")
    if io.exists(args.out) and not args.force:
        raise CatalogError(f"{args.out} exists already: name another file, or give --force")
    table, counters = scan_folder(args.folder)
    write_catalog(table, args.out, kind)
    if args.json:
        print(json.dumps({"out": args.out, **counters}))
    else:
        print(f"{args.out}: {counters['tracks']} tracks")
        for name in ("unreadable_tags", "names_not_utf8", "other_files"):
            if counters[name]:
                print(f"  {name.replace('_', ' ')}: {counters[name]}")
    return 0


if __name__ == "__main__":
    from pipelines.cli import main

    sys.exit(main(["catalog", *sys.argv[1:]]))
