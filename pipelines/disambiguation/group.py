"""The tracks of a catalogue by name: which groups there are, and which of them are judged.

A track may carry several artists (a list, "A; B", "A feat. B"): it is in the group of each. Its row
of ``clusters.parquet`` is that of its first artist who is no placeholder, or of its first one where
all are; all its groups are in ``memberships.parquet``.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.artists.names import NameRules, is_placeholder, normalise, split_artists
from hashing.errors import CatalogError, UsageError

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Groups:
    """Names and the tracks that carry them; a *member* is one track in one group.

    Attributes:
        keys: normalised names, sorted; `names` their most frequent spelling, `variants` all
            spellings with their counts, the most frequent first.
        statuses: of each group: "" where it is to be judged, or why not.
        rows: int64 [members], row in the catalogue, group by group, rising within a group.
        starts: int64 [groups + 1], the first member of each group, and their number.
        artist_ids: of each member, "" where none is known.
        first: int64 [tracks], the member that is a track's row of clusters.parquet; -1: no name.
    """

    keys: list[str]
    names: list[str]
    variants: list[tuple[tuple[str, int], ...]]
    statuses: list[str]
    rows: Ints
    starts: Ints
    artist_ids: list[str]
    first: Ints

    def members(self, group: int) -> range:
        """The members of a group."""
        return range(int(self.starts[group]), int(self.starts[group + 1]))

    def tracks(self, group: int) -> Ints:
        """Rows of the catalogue of a group."""
        return self.rows[self.starts[group] : self.starts[group + 1]]

    @functools.cached_property
    def group_of(self) -> Ints:
        """int64 [members]: the group of each member."""
        return np.repeat(np.arange(len(self.keys)), np.diff(self.starts))

    def of_track(self, row: int) -> list[int]:
        """The groups of a track, by its row in the catalogue."""
        rows, order = self._by_row
        start, stop = np.searchsorted(rows, [row, row + 1])
        return [int(self.group_of[member]) for member in order[start:stop]]

    @functools.cached_property
    def _by_row(self) -> tuple[Ints, Ints]:
        order = np.argsort(self.rows, kind="stable")
        return self.rows[order], order

    def judged(self) -> npt.NDArray[np.bool_]:
        """bool [tracks]: whether a track is in a group that is to be judged, so must be heard."""
        wanted = np.array([not status for status in self.statuses], bool)
        out = np.zeros(len(self.first), bool)
        out[self.rows[wanted[self.group_of]]] = True
        return out


def group_tracks(
    catalog: pa.Table,
    rules: NameRules,
    *,
    names: Sequence[str] = (),
    opt_outs: Sequence[str] = (),
    source: str = "the catalogue",
) -> Groups:
    """Groups the tracks of a catalogue by equality of the normalised name.

    Args:
        catalog: as from `pipelines.catalog.read_catalog`.
        names: judge only these, placeholders too if they are among them; none: all.
        opt_outs: never judge these.
        source: name of the catalogue for messages.

    Raises: CatalogError where it has no artist names; UsageError where no track has one of `names`.

    >>> table = pa.table({"track_id": ["a", "b"], "artist_name": [["The Owls"], ["OWLS; Kit"]]})
    >>> groups = group_tracks(table, NameRules())
    >>> groups.keys, groups.rows.tolist(), groups.starts.tolist(), groups.first.tolist()
    (['kit', 'owls'], [1, 0, 1], [0, 1, 3], [1, 2])
    """
    if "artist_name" not in catalog.column_names:
        raise CatalogError(
            f"{source}: column artist_name is missing: without names there is nothing to tell "
            "apart; add it, or name another catalogue"
        )
    fields = [tuple(field or ()) for field in catalog["artist_name"].to_pylist()]
    counts = Counter(fields)
    parsed = _parse(counts, rules)
    keys = sorted({key for artists in parsed.values() for key, _, _ in artists})
    if not keys:
        raise CatalogError(f"{source}: column artist_name is empty in every row; fill it")
    spellings: dict[str, Counter[str]] = {key: Counter() for key in keys}
    for field, artists in parsed.items():
        for key, spelling, _ in artists:
            spellings[key][spelling] += counts[field]
    variants = [
        tuple(sorted(spellings[key].items(), key=lambda item: (-item[1], item[0]))) for key in keys
    ]
    spelled = [spelling[0][0] for spelling in variants]
    number = {key: place for place, key in enumerate(keys)}
    rows, groups, ids, mains = _members(catalog, fields, parsed, number)
    order = np.lexsort((rows, groups))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    starts = np.searchsorted(groups[order], np.arange(len(keys) + 1))
    return Groups(
        keys,
        spelled,
        variants,
        _statuses(keys, spelled, rules, names, opt_outs),
        rows[order],
        starts.astype(np.int64),
        [ids[member] for member in order.tolist()],
        np.where(mains >= 0, place[mains], -1),
    )


def _parse(
    fields: Iterable[tuple[str, ...]], rules: NameRules
) -> dict[tuple[str, ...], list[tuple[str, str, int]]]:
    """Each distinct value of the column → its artists: (key, spelling, number of the item).

    The first artist of an item is the one that its id belongs to; guests have the item -1.
    """
    known: set[str] | None = None
    if rules.duets:
        single = dataclasses.replace(rules, duets=False)
        lone = [field[0] for field in fields if len(field) == 1]
        names = [names[0] for item in lone if len(names := split_artists(item, single)) == 1]
        known = {normalise(name, rules) for name in names}
    out: dict[tuple[str, ...], list[tuple[str, str, int]]] = {}
    for field in fields:
        artists: dict[str, tuple[str, str, int]] = {}
        for item, text in enumerate(field):
            for place, name in enumerate(split_artists(text, rules, known)):
                key = normalise(name, rules)
                artists.setdefault(key, (key, name, -1 if place else item))
        out[field] = list(artists.values())
    return out


def _members(
    catalog: pa.Table,
    fields: Sequence[tuple[str, ...]],
    parsed: dict[tuple[str, ...], list[tuple[str, str, int]]],
    number: dict[str, int],
) -> tuple[Ints, Ints, list[str], Ints]:
    """Row, group and artist id of every member, and the main member of every track."""
    known = "artist_id" in catalog.column_names
    given = catalog["artist_id"].to_pylist() if known else [None] * len(fields)
    main_of = {
        field: next(
            (n for n, (_, name, _) in enumerate(artists) if not is_placeholder(name)),
            0 if artists else -1,
        )
        for field, artists in parsed.items()
    }
    rows: list[int] = []
    groups: list[int] = []
    ids: list[str] = []
    mains = np.full(len(fields), -1, np.int64)
    for row, (field, artist_ids) in enumerate(zip(fields, given, strict=True)):
        artists = parsed[field]
        # Ids belong to the names in their order; where the numbers differ nobody can tell.
        matched = artist_ids is not None and len(artist_ids) == len(field)
        if artists:
            mains[row] = len(rows) + main_of[field]
        for key, _, item in artists:
            rows.append(row)
            groups.append(number[key])
            ids.append(artist_ids[item] if matched and item >= 0 else "")
    return np.array(rows, np.int64), np.array(groups, np.int64), ids, mains


def _statuses(
    keys: Sequence[str],
    spelled: Sequence[str],
    rules: NameRules,
    names: Sequence[str],
    opt_outs: Sequence[str],
) -> list[str]:
    asked = {normalise(name, rules): name for name in names}
    known = set(keys)
    missing = [name for key, name in asked.items() if key not in known]
    if missing:
        near = difflib.get_close_matches(missing[0].lower(), [n.lower() for n in spelled], 1, 0.7)
        close = [name for name in spelled if [name.lower()] == near]
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        told = ", ".join(repr(name) for name in missing[:5])
        raise UsageError(f"--name: no track of the catalogue is by {told}{hint}")
    left_out = {normalise(name, rules) for name in opt_outs}
    out = []
    for key, name in zip(keys, spelled, strict=True):
        if key in left_out:
            out.append("opted-out")
        elif asked and key not in asked:
            out.append("not-asked")
        elif rules.placeholders and not asked and is_placeholder(name):
            out.append("placeholder")
        else:
            out.append("")
    return out
