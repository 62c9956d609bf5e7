"""Who made a track, as far as a catalogue says so beyond doubt.

Labels are cleaned as Royo-Letelier et al. clean theirs (ISMIR 2018): a name that stands for several
ids, and an id that stands under several names, say nothing certain about who is heard.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from hashing.artists.names import is_placeholder, normalise, split_artists

COLUMNS = ("artist_id", "artist_name")  # where labels are looked for, the first that has any

Texts = Sequence[tuple[str, ...]]  # a column: of each track, the texts that are not empty

REASONS = (
    "without_label",
    "of_several_artists",
    "placeholder",
    "name_of_several_ids",
    "id_of_several_names",
    "copy",
)


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

    def shown(self) -> list[str]:
        """The spelling of each track's artist, "" where nothing certain is known."""
        return [self.names[one] if one else "" for one in self.artist]


def clean_labels(
    column: str, given: Texts, ids: Texts, names: Texts, recordings: Texts = ()
) -> Labels:
    """The labels of a catalogue's tracks, cleaned.

    A track of several artists, a placeholder ("Various Artists"), a name of several ids and an id
    of several names are left out; so are all but the first track of one recording. Names are equal
    by `hashing.artists.names.normalise`.

    Args:
        column: that tells artists apart, for any other than `COLUMNS` only itself counts.
        given: its texts.
        ids: of the column ``artist_id``, () for a track without.
        names: of the column ``artist_name``.
        recordings: equal ones are one recording; (): nothing is known of them.

    >>> names, ids = [("Nina",), ("NINA",), ("Tom",), ()], [("1",), ("1",), ("2",), ("3",)]
    >>> clean_labels("artist_id", ids, ids, names).artist
    ['1', '1', '2', '3']
    >>> clean_labels("artist_name", names, [("1",), ("4",), ("2",), ("3",)], names).report[
    ...     "names_of_several_ids"
    ... ]
    ['nina']
    """
    spelled = [_single_name(texts) for texts in names]
    reasons = [""] * len(given)
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
    _leave_copies(recordings, reasons)
    artist = [
        "" if reason else _label(column, texts, name)
        for reason, texts, name in zip(reasons, given, spelled, strict=True)
    ]
    counts = Counter(reasons)
    report: dict[str, Any] = {f"tracks_{reason}": counts[reason] for reason in REASONS}
    report["names_of_several_ids"] = sorted(many_ids)
    report["ids_of_several_names"] = sorted(many_names)
    return Labels(column, artist, _shown(artist, given, spelled), report)


def named_artists(ids: Texts, names: Texts) -> list[frozenset[str]]:
    """Everybody whom each track names, certain or not: ``id …`` and ``name …``, normalised.

    Tracks that have one of them in common may be of one artist. Placeholders name nobody.

    >>> both = named_artists([("7",), ()], [("Nina feat. Tom",), ("TOM; Various Artists",)])
    >>> sorted(both[0]), sorted(both[1])
    (['id 7', 'name nina', 'name tom'], ['name tom'])
    """
    return [
        frozenset(f"id {one}" for one in of_ids if not is_placeholder(one))
        | {
            f"name {normalise(name)}"
            for text in of_names
            for name in split_artists(text)
            if not is_placeholder(name)
        }
        for of_ids, of_names in zip(ids, names, strict=True)
    ]


def _single_name(texts: Iterable[str]) -> str | None:
    """The one artist that a field names; "" for several, None for none."""
    names = [name for text in texts for name in split_artists(text)]
    if not names:
        return None
    return names[0] if len(names) == 1 else ""


def _ambiguous(
    ids: Texts, spelled: Sequence[str | None], reasons: Sequence[str]
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


def _leave_copies(recordings: Texts, reasons: list[str]) -> None:
    seen: set[tuple[str, ...]] = set()
    for row, recording in enumerate(recordings):
        if recording and not reasons[row]:
            if recording in seen:
                reasons[row] = "copy"
            seen.add(recording)


def _label(column: str, texts: tuple[str, ...], name: str | None) -> str:
    return normalise(name or texts[0]) if column == "artist_name" else texts[0]


def _shown(artist: Sequence[str], given: Texts, spelled: Sequence[str | None]) -> dict[str, str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for label, texts, name in zip(artist, given, spelled, strict=True):
        if label:
            counts[label][name or texts[0]] += 1
    return {label: max(found, key=lambda n: (found[n], n)) for label, found in counts.items()}
