"""Gates that need only counts: failures, live tracks, and tables without postings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipelines.gather import failure_kinds, total, total_lacking
from pipelines.gating.bounds import Bounds, Gate
from pipelines.live import count_live
from pipelines.runs import Receipt
from pipelines.versions import Manifest


def count_failed(parts: Iterable[Receipt]) -> tuple[int, int, dict[str, int]]:
    """Tracks that a run tried, those of them that failed, and how many of each kind.

    A track that has codes but not all that was asked for beside them has failed, too.
    """
    chosen = list(parts)
    failed = total(chosen, "tracks_failed") + total_lacking(chosen)
    return total(chosen, "tracks"), failed, failure_kinds(chosen)


def gate_failures(tracks: int, failed: int, bounds: Bounds) -> Gate:
    """Not too many of the catalogue's tracks have failed, in this run or before.

    >>> gate_failures(100, 6, Bounds()).message
    '6 of 100 tracks of the catalogue failed'
    """
    return Gate(
        "failures",
        failed / max(tracks, 1),
        bounds.max_failures,
        failed <= bounds.max_failures * tracks,
        f"{failed} of {tracks} tracks of the catalogue failed",
    )


def gate_run_failures(
    tried: int, failed: int, kinds: Mapping[str, int], bounds: Bounds, *, first: bool
) -> Gate:
    """Not too many of the tracks that a run tried have failed, but for a handful.

    Args:
      kinds: failures of each kind.
      first: there is no version before, so that a handful may be the whole catalogue.

    >>> gate_run_failures(3, 1, {"unreadable": 1}, Bounds(), first=False).passed
    True
    """
    allowed = 0 if first else bounds.failures_allowed
    why = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return Gate(
        "run-failures",
        failed / max(tried, 1),
        bounds.max_failures,
        failed <= max(allowed, bounds.max_failures * tried),
        f"{failed} of {tried} tracks that this run tried failed" + (f" ({why})" if why else ""),
    )


def gate_live_tracks(manifest: Manifest, parent: Manifest | None, bounds: Bounds) -> Gate:
    """Not too many live tracks are missing that the version before had, and not all of them."""
    live = count_live(manifest)
    if parent is None:
        return Gate("live-tracks", None, bounds.max_shrink, live > 0, f"{live} live tracks")
    before = count_live(parent)
    lost = max(0, before - live)
    few = lost <= max(bounds.shrink_allowed, bounds.max_shrink * before)
    return Gate(
        "live-tracks",
        lost / max(before, 1),
        bounds.max_shrink,
        few and (live > 0 or bounds.max_shrink >= 1 or not before),
        f"{live} live tracks, version {parent.version} has {before}",
    )


def gate_empty_tables(manifest: Manifest) -> Gate:
    """Every table of every segment has postings."""
    postings = dict.fromkeys(
        (
            (segment.id, table)
            for segment in manifest.segments
            for table in range(manifest.n_tables)
        ),
        0,
    )
    columns = ("segment", "table", "rows")
    for segment, table, rows in manifest.files.tuples(*columns, kind="tables"):
        if (segment, table) in postings:
            postings[segment, table] += rows
    empty = [place for place, rows in postings.items() if not rows]
    message = f"{len(postings)} tables have postings"
    if empty:
        segment, table = empty[0]
        message = (
            f"{len(empty)} of {len(postings)} tables are empty, the first: table {table} of "
            f"segment {segment}"
        )
    return Gate("empty-tables", len(empty), 0, not empty, message)
