"""The tables of a run, written and read again by the next one.

``clusters.parquet`` has every track of the catalogue once, by track id: ``artist_name`` (the name's
most frequent spelling, null where the track has none), ``track_id``, ``cluster`` (0: left alone),
``confidence`` (null where nobody judged), ``status``. ``memberships.parquet`` has every artist of
every track, name by name, with the cluster that was ``considered`` where it was not applied.
``groups.parquet`` has the names, ``proposals.parquet`` the splits and merges.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hashing.errors import HashbeamError
from pipelines import io, parquet
from pipelines.disambiguation.cluster import Before
from pipelines.disambiguation.group import Groups
from pipelines.disambiguation.judge import Judged
from pipelines.disambiguation.outcome import Proposal
from pipelines.disambiguation.review import DecidedProposal, Decisions

FORMAT_VERSION = 1
CLUSTERS, MEMBERSHIPS, GROUPS, PROPOSALS = (
    f"{name}.parquet" for name in ("clusters", "memberships", "groups", "proposals")
)
RUN = "run.json"

_PROPOSALS = pa.schema(
    [
        ("proposal_id", pa.string()),
        ("kind", pa.string()),
        ("decision", pa.string()),
        ("score", pa.float64()),
        ("reason", pa.string()),
        ("names", pa.list_(pa.string())),
        ("artist_names", pa.list_(pa.string())),
        ("clusters", pa.list_(pa.int32())),
        ("artist_ids", pa.list_(pa.string())),
        ("sizes", pa.list_(pa.int64())),
        ("tracks", pa.list_(pa.list_(pa.string()))),
        ("evidence", pa.string()),
    ]
)


def clusters_table(groups: Groups, judged: Judged, catalog: pa.Table) -> pa.Table:
    """The rows of ``clusters.parquet``."""
    member = groups.first
    named = member >= 0
    names = pa.array(groups.names, pa.string())
    status = pa.array([*judged.member_status, "no-name"], pa.string())
    of = np.where(named, groups.group_of[member], 0)
    confidence = np.where(named, judged.confidence[member], np.nan)
    return pa.table(
        {
            "artist_name": names.take(pa.array(of, mask=~named)),
            "track_id": catalog["track_id"],
            "cluster": pa.array(np.where(named, judged.applied()[member], 0), pa.int32()),
            "confidence": _known(confidence),
            "status": status.take(pa.array(np.where(named, member, len(status) - 1))),
        }
    )


def memberships_table(groups: Groups, judged: Judged, catalog: pa.Table) -> pa.Table:
    """The rows of ``memberships.parquet``."""
    of = pa.array(groups.group_of)
    return pa.table(
        {
            "name": pa.array(groups.keys, pa.string()).take(of),
            "artist_name": pa.array(groups.names, pa.string()).take(of),
            "track_id": catalog["track_id"].take(pa.array(groups.rows)),
            "artist_id": pa.array([artist_id or None for artist_id in groups.artist_ids]),
            "cluster": pa.array(judged.applied(), pa.int32()),
            "considered": pa.array(judged.numbers, pa.int32()),
            "confidence": _known(judged.confidence),
            "typical": pa.array(judged.typical, pa.float32()),
            "status": pa.array(judged.member_status, pa.string()),
        }
    )


def groups_table(groups: Groups, judged: Judged) -> pa.Table:
    """The rows of ``groups.parquet``."""
    applied, bounds = judged.applied(), groups.starts.tolist()
    counts = [
        len(set(applied[start:end].tolist()) - {0}) for start, end in itertools.pairwise(bounds)
    ]
    return pa.table(
        {
            "name": pa.array(groups.keys, pa.string()),
            "artist_name": pa.array(groups.names, pa.string()),
            "spellings": pa.array(
                [[spelling for spelling, _ in variants] for variants in groups.variants],
                pa.list_(pa.string()),
            ),
            "tracks": pa.array(np.diff(groups.starts), pa.int64()),
            "clusters": pa.array(counts, pa.int32()),
            "doubt": pa.array(judged.doubt, pa.float32()),
            "status": pa.array(judged.status, pa.string()),
            "highest": pa.array(judged.highest, pa.int32()),
        }
    )


def proposals_table(
    proposals: Sequence[Proposal], decisions: Decisions, earlier: pa.Table | None
) -> pa.Table:
    """Open proposals, then those that were decided, as they stood when they were made."""
    rows = [
        {
            "proposal_id": proposal.proposal_id,
            "kind": proposal.kind,
            "decision": "open",
            "score": proposal.score,
            "reason": proposal.reason,
            "names": [side.key for side in proposal.sides],
            "artist_names": [side.name for side in proposal.sides],
            "clusters": [side.cluster for side in proposal.sides],
            "artist_ids": [side.artist_id or None for side in proposal.sides],
            "sizes": [side.size for side in proposal.sides],
            "tracks": [list(side.tracks) for side in proposal.sides],
            "evidence": json.dumps(dict(proposal.evidence), ensure_ascii=False),
        }
        for proposal in proposals
    ]
    known = {row["proposal_id"]: row for row in earlier.to_pylist()} if earlier else {}
    for decided in decisions.proposals:
        row = known.get(decided.proposal_id)
        if row:
            rows.append({**row, "decision": decided.decision})
    return pa.Table.from_pylist(rows, schema=_PROPOSALS)


def _known(confidence: Any) -> pa.Array:
    values = np.asarray(confidence, np.float32)
    return pa.array(values, pa.float32(), mask=np.isnan(values))


@dataclasses.dataclass(frozen=True, eq=False)
class Earlier:
    """The results of an earlier run, as far as the next one needs them.

    Attributes:
        folder: where they are.
        run_id: of the run; `runs` it and those before it, the latest first; empty: no run.
        settings: those that change clusters.
    """

    folder: str
    run_id: str = ""
    runs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    _members: pa.Table | None = None
    _places: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    _groups: Mapping[str, tuple[int, str]] = dataclasses.field(default_factory=dict)

    def numbers(self, name: str) -> dict[str, int]:
        """Track id → the cluster that was considered, of one normalised name."""
        if self._members is None or name not in self._places:
            return {}
        start, stop = self._places[name]
        rows = self._members.slice(start, stop - start)
        pairs = zip(rows["track_id"].to_pylist(), rows["considered"].to_pylist(), strict=True)
        return {track_id: number for track_id, number in pairs if number}

    def tracks(self, name: str) -> set[str]:
        """Ids of the tracks of one normalised name."""
        if self._members is None or name not in self._places:
            return set()
        start, stop = self._places[name]
        return set(self._members.slice(start, stop - start)["track_id"].to_pylist())

    def before(self, name: str, decisions: Decisions) -> Before:
        """What is known of a name."""
        highest, status = self._groups.get(name, (0, ""))
        applied = status in ("clustered", "decided")
        return Before(decisions.of(name), self.numbers(name), highest, applied)

    def proposals(self) -> pa.Table | None:
        """The rows of ``proposals.parquet``."""
        path = io.join(self.folder, PROPOSALS)
        return parquet.read_table(path) if self.run_id and io.exists(path) else None

    def decidable(self) -> dict[str, DecidedProposal]:
        """The proposals by id."""
        table = self.proposals()
        rows = table.to_pylist() if table is not None else []
        return {
            row["proposal_id"]: DecidedProposal(
                row["proposal_id"], row["kind"], "", row["names"], row["tracks"]
            )
            for row in rows
        }


def load_earlier(folder: str) -> Earlier:
    """The results of the run in a folder; nothing where none has finished there.

    Raises: HashbeamError where they are damaged.
    """
    data = io.read_if_exists(io.join(folder, RUN))
    if data is None:
        return Earlier(folder)
    try:
        facts = json.loads(data)
        run_id, runs, settings = facts["run_id"], facts["runs"], facts["settings"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HashbeamError(
            f"{io.join(folder, RUN)} is not that of a run of disambiguate; name another folder"
        ) from None
    columns = ["name", "track_id", "considered"]
    members = parquet.read_table(io.join(folder, MEMBERSHIPS), columns).combine_chunks()
    names = parquet.read_table(io.join(folder, GROUPS), ["name", "highest", "status"])
    # Rows of one name follow each other.
    runs_of = pc.run_end_encode(members["name"].combine_chunks()) if len(members) else None
    places: dict[str, tuple[int, int]] = {}
    if runs_of is not None:
        start = 0
        ends = runs_of.run_ends.to_pylist()
        for name, end in zip(runs_of.values.to_pylist(), ends, strict=True):
            places[name] = (start, end)
            start = end
    known = {row["name"]: (int(row["highest"]), str(row["status"])) for row in names.to_pylist()}
    return Earlier(folder, run_id, tuple(runs), settings, members, places, known)
