"""Who made a track, as far as a catalogue says so beyond doubt.

Labels are cleaned as Royo-Letelier et al. clean theirs (ISMIR 2018): a name that stands for several
ids, and an id that stands under several names, say nothing certain about who is heard.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from hashing.artists.names import is_placeholder, normalise, split_artists
from hashing.errors import CatalogError

COLUMNS = ("artist_id", "artist_name")  # where labels are looked for, the first that has any


@dataclasses.dataclass(frozen=True)
class Labels:
    """The artist of each track of a catalogue.

    Attributes:
        column: that the labels are from.
        artist: of each track, "" where nothing certain is known.
        names: artist → the spelling that is shown.
        report: what was left out and why: numbers of tracks, lists of names and ids.
    """

    column: str
    artist: list[str]
    names: dict[str, str]
    report: dict[str, Any]


def read_labels(catalog: pa.Table, source: str, column: str = "", same: str = "") -> Labels:
    """The labels of a catalogue, cleaned.

    A track of several artists, a placeholder ("Various Artists"), a name of several ids and an id
    of several names are left out; so are all but the first track of one recording. Names are equal
    by `hashing.artists.names.normalise`.

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
    given = _texts(catalog, column)
    if not any(given):
        raise CatalogError(
            f"{source}: column {column} is empty in every row: without known artists nothing can "
            "be measured; fill it, or name another with --labels"
        )
    ids = _texts(catalog, "artist_id")
    spelled = [_single_name(texts) for texts in _texts(catalog, "artist_name")]
    reasons = [""] * catalog.num_rows
    for row, texts in enumerate(given):
        if not texts:
            reasons[row] = "without_label"
        elif len(texts) > 1 or (column == "artist_name" and spelled[row] == ""):
            reasons[row] = "of_several_artists"
        elif is_placeholder(texts[0]) or (spelled[row] and is_placeholder(spelled[row] or "")):
            reasons[row] = "placeholder"
    many_ids, many_names = (
        _ambiguous(ids, spelled, reasons) if column in COLUMNS else (set(), set())
    )
    for row, reason in enumerate(reasons):
        if reason:
            continue
        if normalise(spelled[row] or "") in many_ids:
            reasons[row] = "name_of_several_ids"
        elif ids[row] and ids[row][0] in many_names:
            reasons[row] = "id_of_several_names"
    _leave_copies(_texts(catalog, same) if same else [], reasons)
    artist = [
        "" if reason else _label(column, texts, name)
        for reason, texts, name in zip(reasons, given, spelled, strict=True)
    ]
    counts = Counter(reasons)
    report = {
        **{
            f"tracks_{reason}": counts[reason]
            for reason in (
                "without_label",
                "of_several_artists",
                "placeholder",
                "name_of_several_ids",
                "id_of_several_names",
                "copy",
            )
        },
        "names_of_several_ids": sorted(many_ids),
        "ids_of_several_names": sorted(many_names),
    }
    return Labels(column, artist, _shown(artist, given, spelled), report)


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
    genres = _texts(catalog, "genres")
    for row, number in zip(rows, artist, strict=True):
        found[number].update(genres[row][:1])
    count = max(artist, default=-1) + 1
    return [max(found[n], key=lambda g: (found[n][g], g), default="") for n in range(count)]


def album_keys(catalog: pa.Table) -> list[str]:
    """The album of each track, `album_id` or else `album`; "" for none."""
    column = next((name for name in ("album_id", "album") if name in catalog.column_names), "")
    return ["; ".join(texts) for texts in _texts(catalog, column)]


def _default(catalog: pa.Table, source: str) -> str:
    for name in COLUMNS:
        if any(_texts(catalog, name)):
            return name
    raise CatalogError(
        f"{source}: no artist is known, columns {' and '.join(COLUMNS)} are missing or empty; fill "
        "one, or name another with --labels"
    )


def _texts(catalog: pa.Table, column: str) -> list[tuple[str, ...]]:
    """A column as texts without blanks, none where there is nothing; all none: no such column."""
    if column not in catalog.column_names:
        return [()] * catalog.num_rows
    values = catalog[column].to_pylist()
    lists = [value if isinstance(value, list) else [value] for value in values]
    return [
        tuple(text for one in items if one is not None and (text := str(one).strip()))
        for items in lists
    ]


def _single_name(texts: Iterable[str]) -> str | None:
    """The one artist that a field names; "" for several, None for none."""
    names = [name for text in texts for name in split_artists(text)]
    if not names:
        return None
    return names[0] if len(names) == 1 else ""


def _ambiguous(
    ids: Sequence[tuple[str, ...]], spelled: Sequence[str | None], reasons: Sequence[str]
) -> tuple[set[str], set[str]]:
    """Normalised names that stand for several ids, and ids that stand under several names."""
    ids_of: dict[str, set[str]] = defaultdict(set)
    names_of: dict[str, set[str]] = defaultdict(set)
    for row, name in enumerate(spelled):
        if name and len(ids[row]) == 1 and not reasons[row]:
            key = normalise(name)
            ids_of[key].add(ids[row][0])
            names_of[ids[row][0]].add(key)
    return (
        {name for name, found in ids_of.items() if len(found) > 1},
        {one for one, found in names_of.items() if len(found) > 1},
    )


def _leave_copies(recordings: Sequence[tuple[str, ...]], reasons: list[str]) -> None:
    seen: set[tuple[str, ...]] = set()
    for row, recording in enumerate(recordings):
        if recording and not reasons[row]:
            if recording in seen:
                reasons[row] = "copy"
            seen.add(recording)


def _label(column: str, texts: tuple[str, ...], name: str | None) -> str:
    return normalise(name or texts[0]) if column == "artist_name" else texts[0]


def _shown(
    artist: Sequence[str], given: Sequence[tuple[str, ...]], spelled: Sequence[str | None]
) -> dict[str, str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for label, texts, name in zip(artist, given, spelled, strict=True):
        if label:
            counts[label][name or texts[0]] += 1
    return {label: max(found, key=lambda n: (found[n], n)) for label, found in counts.items()}
