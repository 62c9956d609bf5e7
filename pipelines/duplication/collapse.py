"""Copies of one recording become one answer: what look-up does with groups of duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines import io

# Matches that are looked at for each that is wanted: most recordings that stand in a catalogue
# more than once stand there two or three times.
MORE = 4

# Share of the shorter of two parts of a query that they must have in common to be one part.
SAME_PART = 0.5


def open_groups(folder: str) -> dict[str, int] | None:
    """Group of every track with duplicates, by its id; None where no folder is named.

    Raises: HashbeamError where the folder holds no finished search for duplicates.
    """
    if not folder:
        return None
    from pipelines.duplication.results import read_groups

    return read_groups(folder)


def groups_digest(folder: str) -> str:
    """Names the groups in a folder; "" where none is named."""
    from pipelines.duplication.results import GROUPS_FILE

    return io.sha256_file(io.join(folder, GROUPS_FILE)) if folder else ""


def collapse(matches: Sequence[dict[str, Any]], groups: Mapping[str, int]) -> list[dict[str, Any]]:
    """Matches of a query, best first, with one for each recording and part of the query.

    A match that stands for others has their ids as ``duplicates``; ranks are counted anew.

    >>> rows = [{"track_id": name, "query_start_s": 0.0, "query_end_s": 5.0} for name in "abc"]
    >>> [(row["rank"], row["track_id"], row["duplicates"]) for row in collapse(
    ...     rows, {"a": 1, "c": 1})]
    [(1, 'a', ['c']), (2, 'b', [])]
    """
    out: list[dict[str, Any]] = []
    for match in matches:
        group = groups.get(match["track_id"])
        before = (
            row
            for row in out
            if group is not None and groups.get(row["track_id"]) == group and _one_part(row, match)
        )
        found = next(before, None)
        if found is not None:
            if match["track_id"] not in [found["track_id"], *found["duplicates"]]:
                found["duplicates"].append(match["track_id"])
        else:
            out.append({**match, "rank": len(out) + 1, "duplicates": []})
    return out


def _one_part(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    start = max(one["query_start_s"], other["query_start_s"])
    end = min(one["query_end_s"], other["query_end_s"])
    shorter = min(row["query_end_s"] - row["query_start_s"] for row in (one, other))
    return bool(end - start > SAME_PART * shorter)
