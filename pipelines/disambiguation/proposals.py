"""What an editor may want to do beyond one name: splits of known ids, and merges of names or ids.

Nothing here is ever applied. A *split* is one known artist id whose tracks have several voices. A
*merge* is two names with one voice, found by spelling or by sound alone whatever they are called,
or two ids with one voice under one name. Names that stand on one track together are never merged:
nobody credits himself twice. What an editor has decided is not proposed again.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from hashing.artists.aliases import propose_aliases
from hashing.artists.names import NameRules
from hashing.clusters.dendrogram import chance_below
from hashing.clusters.ward import CUT_SPREAD
from pipelines.disambiguation.group import Groups
from pipelines.disambiguation.judge import Judged
from pipelines.disambiguation.nearest import nearest, ward_heights
from pipelines.disambiguation.outcome import Proposal, Side
from pipelines.disambiguation.review import DecidedProposal

Evidence = Mapping[str, float | str | None]

# Tracks of a cluster, or of an id in it, below which sound alone proposes nothing: in a catalogue
# of many artists some two tracks always sound alike.
MIN_TRACKS = 3
# How likely one voice must be where two clusters are not the nearest of each other. Of 27 artists
# of game music, 107 pairs were below the cut, 6 of them above this; an editor reads no hundred.
ONE_SIDED_CHANCE = 0.8
# How likely one voice must be for a merge of names that are spelled alike: they need no more than
# not to be contradicted by what is heard.
SPELLED_CHANCE = 0.1
# Tracks of an id in a cluster below which they say nothing about it: one may be a mistake.
ID_TRACKS = 2
# Clusters that are compared with each other: 30,000 take 13 s of one core, and time grows with the
# square. The smallest are left out.
MOST_CENTRES = 100_000


@dataclasses.dataclass(frozen=True)
class Spelled:
    """Two names that are spelled alike: their groups, how much (0 to 1), and how it was found."""

    one: int
    other: int
    score: float
    how: str


def spelled_alike(groups: Groups, judged: Judged, rules: NameRules) -> list[Spelled]:
    """Names of which something was judged that are spelled alike, by `hashing.artists.aliases`."""
    heard = set(judged.centres.group.tolist())
    number = {groups.names[group]: group for group in sorted(heard)}
    return [
        Spelled(number[alias.first], number[alias.second], alias.score, alias.reason)
        for alias in propose_aliases(list(number), rules)
    ]


def propose(
    groups: Groups,
    judged: Judged,
    track_ids: Sequence[str],
    cut: float,
    *,
    spelled: Iterable[Spelled] = (),
    decided: Sequence[DecidedProposal] = (),
) -> list[Proposal]:
    """All proposals, the strongest first.

    Args:
        groups, judged: of one run.
        track_ids: of the catalogue.
        cut: Ward distance at which clusters are cut.
        spelled: pairs of names from `spelled_alike`.
        decided: proposals that are not made again.
    """
    maker = _Maker(groups, judged, track_ids, cut)
    made = [*maker.splits(), *maker.shared(), *maker.merges(spelled)]
    over = {maker.resolve(one) for one in decided} | {one.proposal_id for one in decided}
    left = {
        proposal.proposal_id: proposal
        for proposal in made
        if proposal.proposal_id not in over and _sides(proposal) not in over
    }
    return sorted(left.values(), key=lambda one: (-one.score, one.proposal_id))


def _sides(proposal: Proposal) -> tuple[str, frozenset[tuple[str, int]]]:
    return proposal.kind, frozenset((side.key, side.cluster) for side in proposal.sides)


class _Maker:
    """Makes proposals from one run."""

    def __init__(
        self, groups: Groups, judged: Judged, track_ids: Sequence[str], cut: float
    ) -> None:
        self._groups, self._judged, self._ids, self._cut = groups, judged, track_ids, cut
        self._group_of = groups.group_of
        self._applied = judged.applied()
        centres = judged.centres
        self._place = {
            (group, number): row
            for row, (group, number) in enumerate(
                zip(centres.group.tolist(), centres.number.tolist(), strict=True)
            )
        }
        self._together = self._credited_together()
        # Tracks of each known id in each cluster, as heard.
        self._counts: Counter[tuple[str, int]] = Counter()
        self._of_id: dict[str, list[int]] = {}
        for member, artist_id in enumerate(groups.artist_ids):
            if artist_id and self._applied[member]:
                row = self._place.get((int(self._group_of[member]), int(self._applied[member])))
                if row is not None:
                    self._counts[artist_id, row] += 1
        for (artist_id, row), count in self._counts.items():
            if count >= ID_TRACKS:
                self._of_id.setdefault(artist_id, []).append(row)
        self._ids_of: dict[int, list[str]] = {}
        for artist_id, rows in self._of_id.items():
            for row in rows:
                self._ids_of.setdefault(row, []).append(artist_id)

    def splits(self) -> Iterator[Proposal]:
        """Ids with several voices."""
        for artist_id, rows in sorted(self._of_id.items()):
            if len(rows) < 2 or self._all_decided(artist_id):
                continue
            voices = self._voices(rows)
            if len(voices) < 2:
                continue
            rows = sorted((voice[0] for voice in voices), key=lambda row: -self._size(row))
            height = min(
                float(self._height(one, other))
                for place, one in enumerate(rows)
                for other in rows[place + 1 :]
            )
            counts = [self._counts[artist_id, row] for row in rows]
            yield self._proposal(
                "split",
                [self._side(row, artist_id, self._counts[artist_id, row]) for row in rows],
                1 - self._chance(height),
                f"id {artist_id} has {len(rows)} voices, of {_listed(counts)} tracks",
                {
                    "least_ward_distance": round(height, 4),
                    "cut": round(self._cut, 4),
                    "tracks_of_the_id": sum(counts),
                },
            )

    def shared(self) -> Iterator[Proposal]:
        """Ids that share a cluster of one name."""
        centres = self._judged.centres
        for row, ids in sorted(self._ids_of.items()):
            ids = sorted(ids, key=lambda artist_id: (-self._counts[artist_id, row], artist_id))
            for other in ids[1:]:
                pair = [ids[0], other]
                counts = [self._counts[artist_id, row] for artist_id in pair]
                confidence = self._confidence(row)
                yield self._proposal(
                    "merge",
                    [
                        self._side(row, artist_id, count)
                        for artist_id, count in zip(pair, counts, strict=True)
                    ],
                    confidence,
                    f"ids {pair[0]} and {pair[1]} of one name are one voice "
                    f"(cluster {int(centres.number[row])})",
                    {"found_by": "one cluster", "cluster_confidence": round(confidence, 4)},
                )

    def merges(self, spelled: Iterable[Spelled]) -> Iterator[Proposal]:
        """Names with one voice."""
        centres = self._judged.centres
        order = np.argsort(-centres.size, kind="stable")[:MOST_CENTRES]
        rows = np.sort(order[centres.size[order] >= MIN_TRACKS])
        found, heights = nearest(centres, rows)
        first = {row: found[place].tolist() for place, row in enumerate(rows.tolist())}
        told: set[tuple[int, int]] = set()
        for pair in spelled:
            proposal = self._spelled(pair, told)
            if proposal:
                yield proposal
        for place, row in enumerate(rows.tolist()):
            for rank, other in enumerate(first[row]):
                height = float(heights[place, rank])
                if other < 0 or height > self._cut:
                    break
                names = self._names(row, other)
                if row > other and row in first[other]:
                    continue  # seen from the other side
                if names in told or names in self._together or self._same_id(row, other):
                    continue
                beyond = heights[place, rank + 1 :]
                margin = 1 - height / float(beyond[0]) if beyond.size else 1.0
                mutual = row in first[other][:1] and rank == 0
                if not mutual and self._chance(height) < ONE_SIDED_CHANCE:
                    continue
                yield self._merge(
                    row,
                    other,
                    height,
                    self._chance(height) * (0.5 + 0.5 * margin) * (1 if mutual else 0.5),
                    "sound",
                    {"margin": round(margin, 4), "nearest_of_each_other": str(mutual).lower()},
                )

    def _spelled(self, pair: Spelled, told: set[tuple[int, int]]) -> Proposal | None:
        names = (min(pair.one, pair.other), max(pair.one, pair.other))
        if names in self._together or names in told:
            return None
        sides = [
            [row for row in self._rows_of(group) if self._size(row)]
            for group in (pair.one, pair.other)
        ]
        pairs = [(one, other) for one in sides[0] for other in sides[1]]
        if not pairs:
            return None  # nothing was heard of one of them
        one, other = min(pairs, key=lambda rows: self._height(*rows))
        height = float(self._height(one, other))
        chance = self._chance(height)
        if chance < SPELLED_CHANCE or self._same_id(one, other):
            return None
        told.add(names)
        evidence: Evidence = {"spelling": round(pair.score, 4), "spelling_found_by": pair.how}
        score = pair.score * chance
        return self._merge(one, other, height, score, "spelling and sound", evidence)

    def _merge(
        self,
        one: int,
        other: int,
        height: float,
        score: float,
        how: str,
        evidence: Evidence,
    ) -> Proposal:
        one, other = sorted((one, other), key=lambda row: (-self._size(row), row))
        names = [self._groups.names[int(self._judged.centres.group[row])] for row in (one, other)]
        return self._proposal(
            "merge",
            [self._side(row) for row in (one, other)],
            score,
            f"{names[0]} and {names[1]} are one voice, by {how}",
            {
                "found_by": how,
                "ward_distance": round(height, 4),
                "cut": round(self._cut, 4),
                "chance_of_one_voice": round(self._chance(height), 4),
                **evidence,
            },
        )

    def resolve(self, decided: DecidedProposal) -> tuple[str, frozenset[tuple[str, int]]]:
        """The clusters that a decided proposal is about now, by the tracks it names."""
        sides = []
        for key, tracks in zip(decided.names, decided.tracks, strict=False):
            wanted = set(tracks)
            place = bisect.bisect_left(self._groups.keys, key)
            if self._groups.keys[place : place + 1] != [key]:
                continue
            numbers = Counter(
                int(self._judged.numbers[member])
                for member in self._groups.members(place)
                if self._ids[int(self._groups.rows[member])] in wanted
            )
            if numbers:
                sides.append((key, min(numbers, key=lambda number: (-numbers[number], number))))
        return decided.kind, frozenset(sides)

    def _proposal(
        self,
        kind: str,
        sides: Sequence[Side],
        score: float,
        reason: str,
        evidence: Evidence,
    ) -> Proposal:
        names = sorted(f"{side.key}\0{side.cluster}\0{side.artist_id}" for side in sides)
        digest = hashlib.sha256("\0\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()
        score = round(min(max(score, 0.0), 1.0), 4)
        return Proposal(f"{kind}-{digest[:12]}", kind, tuple(sides), score, reason, evidence)

    def _side(self, row: int, artist_id: str = "", size: int | None = None) -> Side:
        centres, groups = self._judged.centres, self._groups
        group = int(centres.group[row])
        number = int(centres.number[row])
        tracks = [self._ids[place] for place in centres.medoids[row]]
        if artist_id:
            tracks = self._typical(group, number, artist_id) or tracks
        return Side(
            groups.keys[group],
            groups.names[group],
            number,
            self._size(row) if size is None else size,
            tuple(tracks),
            artist_id or self._known_id(row),
        )

    def _typical(self, group: int, number: int, artist_id: str) -> list[str]:
        members = [
            member
            for member in self._groups.members(group)
            if self._groups.artist_ids[member] == artist_id and self._applied[member] == number
        ]
        members.sort(key=lambda member: -float(self._judged.typical[member]))
        return [self._ids[int(self._groups.rows[member])] for member in members[:3]]

    def _voices(self, rows: Sequence[int]) -> list[list[int]]:
        """Clusters of an id, those of different names together where they sound alike."""
        voices: list[list[int]] = []
        group = self._judged.centres.group
        for row in sorted(rows, key=lambda row: (-self._size(row), row)):
            near = [
                voice
                for voice in voices
                if all(group[row] != group[other] for other in voice)
                and any(self._height(row, other) <= self._cut for other in voice)
            ]
            if near:
                near[0].append(row)
            else:
                voices.append([row])
        return voices

    def _credited_together(self) -> set[tuple[int, int]]:
        groups = self._groups
        order = np.argsort(groups.rows, kind="stable")
        rows, of = groups.rows[order], self._group_of[order]
        pairs: set[tuple[int, int]] = set()
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        ends = np.append(starts[1:], rows.size)
        several = ends - starts > 1
        for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
            names = sorted(of[start:end].tolist())
            pairs |= {(a, b) for i, a in enumerate(names) for b in names[i + 1 :]}
        return pairs

    def _names(self, one: int, other: int) -> tuple[int, int]:
        a, b = sorted(int(self._judged.centres.group[row]) for row in (one, other))
        return a, b

    def _rows_of(self, group: int) -> range:
        places = self._judged.centres.group  # rising: names are judged in their order
        return range(*np.searchsorted(places, [group, group + 1]).tolist())

    def _known_id(self, row: int) -> str:
        ids = self._ids_of.get(row, [])
        return max(ids, key=lambda artist_id: self._counts[artist_id, row], default="")

    def _same_id(self, one: int, other: int) -> bool:
        return bool(set(self._ids_of.get(one, ())) & set(self._ids_of.get(other, ())))

    def _all_decided(self, artist_id: str) -> bool:
        status, ids = self._judged.member_status, self._groups.artist_ids
        own = (member for row in self._of_id[artist_id] for member in self._members(row))
        return all(status[member] == "decided" for member in own if ids[member] == artist_id)

    def _members(self, row: int) -> list[int]:
        centres = self._judged.centres
        number = int(centres.number[row])
        members = self._groups.members(int(centres.group[row]))
        return [member for member in members if self._judged.numbers[member] == number]

    def _confidence(self, row: int) -> float:
        values = self._judged.confidence[self._members(row)]
        return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0

    def _size(self, row: int) -> int:
        return int(self._judged.centres.size[row])

    def _height(self, one: int, other: int) -> float:
        pair = np.array([one]), np.array([other])
        return float(ward_heights(self._judged.centres, *pair)[0])

    def _chance(self, height: float) -> float:
        """How likely two clusters at this distance are one voice."""
        return 1 - float(chance_below(np.array([height]), self._cut, CUT_SPREAD)[0])


def _listed(counts: Sequence[int]) -> str:
    """
    >>> _listed([7, 4, 2])
    '7, 4 and 2'
    """
    texts = [str(count) for count in counts]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else texts[0]
