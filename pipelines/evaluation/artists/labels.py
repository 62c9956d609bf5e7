"""The columns of a catalogue that say who made a track: artists, genres, albums."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import pyarrow as pa

from hashing.artists.labels import COLUMNS, Labels, clean_labels
from hashing.errors import CatalogError


def read_labels(catalog: pa.Table, source: str, column: str = "", same: str = "") -> Labels:
    """The labels of a catalogue, cleaned by `hashing.artists.labels.clean_labels`.

    Args:
        catalog: as from `pipelines.catalog.read_catalog`.
        source: its path, for messages.
        column: that tells artists apart; "": `artist_id`, or else `artist_name`.
        same: column whose equal values are one recording; "": none.

    Raises: CatalogError where a column is missing, or no track has a label.

    >>> names, ids = [["Nina"], ["NINA"], ["Tom"], None], [["1"], ["1"], ["2"], ["3"]]
    >>> table = pa.table({"artist_id": ids, "artist_name": names})
    >>> read_labels(table, "c.csv").artist
    ['1', '1', '2', '3']
    >>> read_labels(table, "c.csv", "artist_name").artist
    ['nina', 'nina', 'tom', '']
    """
    column = column or _default(catalog, source)
    for flag, name in (("--labels", column), ("--same", same)):
        if name and name not in catalog.column_names:
            raise CatalogError(
                f"{source}: {flag}: column {name} is missing, found "
                f"{', '.join(catalog.column_names)}"
            )
    given = texts_of(catalog, column)
    if not any(given):
        raise CatalogError(
            f"{source}: column {column} is empty in every row: without known artists nothing can "
            "be measured; fill it, or name another with --labels"
        )
    ids, names = texts_of(catalog, "artist_id"), texts_of(catalog, "artist_name")
    return clean_labels(column, given, ids, names, texts_of(catalog, same) if same else ())


def main_genres(catalog: pa.Table, rows: Sequence[int], artist: Sequence[int]) -> list[str]:
    """The genre that most tracks of each artist have first, "" where none has any.

    Args:
        rows: of the catalogue, of the tracks that count.
        artist: of each of them, numbers from 0 without gaps.

    >>> table = pa.table({"genres": [["rock"], ["rock", "pop"], ["pop"], None]})
    >>> main_genres(table, [0, 1, 2, 3], [0, 0, 0, 1])
    ['rock', '']
    """
    found: dict[int, Counter[str]] = defaultdict(Counter)
    genres = texts_of(catalog, "genres")
    for row, number in zip(rows, artist, strict=True):
        found[number].update(genres[row][:1])
    count = max(artist, default=-1) + 1
    return [max(found[n], key=lambda g: (found[n][g], g), default="") for n in range(count)]


def album_keys(catalog: pa.Table) -> list[str]:
    """The album of each track, `album_id` or else `album`; "" for none."""
    column = next((name for name in ("album_id", "album") if name in catalog.column_names), "")
    return ["; ".join(texts) for texts in texts_of(catalog, column)]


def texts_of(catalog: pa.Table, column: str) -> list[tuple[str, ...]]:
    """A column as texts without blanks, none where there is nothing; all none: no such column.

    >>> texts_of(pa.table({"x": [["a ", ""], None]}), "x")
    [('a',), ()]
    """
    if column not in catalog.column_names:
        return [()] * catalog.num_rows
    values = catalog[column].to_pylist()
    lists = [value if isinstance(value, list) else [value] for value in values]
    return [
        tuple(text for one in items if one is not None and (text := str(one).strip()))
        for items in lists
    ]


def _default(catalog: pa.Table, source: str) -> str:
    for name in COLUMNS:
        if any(texts_of(catalog, name)):
            return name
    raise CatalogError(
        f"{source}: no artist is known, columns {' and '.join(COLUMNS)} are missing or empty; fill "
        "one, or name another with --labels"
    )
