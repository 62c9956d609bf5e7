"""Whether a manifest's files make whole segments and tables; told by the manifest alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from pipelines.also import ALSO
from pipelines.versions import Manifest, Segment

# Rows of the files of one kind in one segment, by part.
Parts = dict[int | None, list[int]]
# Key range and rows of the shards of one table of one segment.
Ranges = list[tuple[int, int, int]]


def check_coverage(manifest: Manifest) -> Iterator[str]:
    """One line for each thing that is missing, there twice, or does not add up.

    Files may lie in the folder of any version. Takes one pass over them, whatever the segments.

    >>> from pipelines.versions import Files
    >>> segment = Segment(0, 0, 1, 2, 6, [7], [2])
    >>> list(check_coverage(Manifest("000001", None, {}, "", 12, 0, 0.5, 1.0, "codes", [segment],
    ...     Files.of([]), {}, "")))[0]
    'segment 0: codes of 0 rows in the manifest, expected 6'
    """
    for path, count in Counter(manifest.files.column("path")).items():
        if count > 1:
            yield f"{path} is {count} times in the manifest"
    yield from _check_numbers(manifest)
    parts, shards = _by_place(manifest)
    yield from _check_beside(manifest)
    for segment in manifest.segments:
        yield from _check_parts(segment, manifest.compared, parts)
        for table in range(manifest.n_tables):
            yield from _check_table(manifest, segment, table, shards[segment.id, table])
        yield from _check_removals(segment, manifest)


def _by_place(
    manifest: Manifest,
) -> tuple[dict[tuple[str, int | None], Parts], dict[tuple[int | None, int | None], Ranges]]:
    parts: dict[tuple[str, int | None], Parts] = defaultdict(lambda: defaultdict(list))
    shards: dict[tuple[int | None, int | None], Ranges] = defaultdict(list)
    columns = ("kind", "segment", "part", "table", "key_lo", "key_hi", "rows")
    for kind, segment, part, table, low, high, rows in manifest.files.tuples(*columns):
        if kind == "tables":
            shards[segment, table].append((low, high, rows))
        else:
            parts[kind, segment][part].append(rows)
    return parts, shards


def _check_numbers(manifest: Manifest) -> Iterator[str]:
    """Whether segments have numbers and parts of their own."""
    end, known = 0, set[int]()
    for segment in sorted(manifest.segments, key=lambda one: one.first_part):
        where = f"segment {segment.id}"
        if segment.id in known:
            yield f"{where} is in the manifest twice"
        known.add(segment.id)
        if segment.first_part < end:
            yield f"{where} begins with part {segment.first_part}, which another one has"
        end = segment.first_part + segment.n_parts
        if {len(segment.part_gids), len(segment.part_tracks)} != {segment.n_parts}:
            yield f"{where} does not say for each of its {segment.n_parts} parts what is in it"
        elif sum(segment.part_tracks) != segment.tracks:
            yield f"{where}: parts of {sum(segment.part_tracks)} tracks, expected {segment.tracks}"
    # Failures stay, though nothing of their segment may be left.
    owners = {s for s, kind in manifest.files.tuples("segment", "kind") if kind != "failures"}
    for segment_id in sorted(owners - {*known, None}):
        yield f"there are files of segment {segment_id}, which is not in the manifest"


def _check_beside(manifest: Manifest) -> Iterator[str]:
    # A track that was removed has left the counter, and its row stays.
    removed = any(segment.removals for segment in manifest.segments)
    for one in ALSO.values():
        found = sum(rows for (rows,) in manifest.files.tuples("rows", kind=one.files))
        expected = manifest.counters.get(one.made, 0)
        if found < expected or (found > expected and not removed):
            yield f"{one.files} of {found} rows in the manifest, expected {expected}"


def _check_parts(
    segment: Segment, compared: str, parts: dict[tuple[str, int | None], Parts]
) -> Iterator[str]:
    """Whether each part has one file of each kind, of as many rows as the segment says."""
    wanted = {"codes": segment.snippets, "tracks": segment.tracks}
    wanted["matrices"] = sum(segment.part_gids)
    wanted[compared] = segment.snippets
    codes = parts.get(("codes", segment.id), {})
    numbers = range(segment.first_part, segment.first_part + segment.n_parts)
    where = f"segment {segment.id}"
    for kind, expected in wanted.items():
        found = parts.get((kind, segment.id), {})
        rows = sum(map(sum, found.values()))
        if rows != expected:
            yield f"{where}: {kind} of {rows} rows in the manifest, expected {expected}"
            continue
        for part, tracks, gids in zip(
            numbers, segment.part_tracks, segment.part_gids, strict=False
        ):
            held = found.get(part, [])
            known = {"tracks": tracks, "matrices": gids}
            count = known.get(kind, sum(codes.get(part, [])))
            if len(held) > 1 or sum(held) != count or bool(held) != bool(tracks):
                yield (
                    f"{where}, part {part}: {kind} of {held or 'no'} rows in the manifest, "
                    f"expected {count}"
                )


def _check_table(manifest: Manifest, segment: Segment, table: int, shards: Ranges) -> Iterator[str]:
    where = f"segment {segment.id}, table {table}"
    ranges = sorted((low, high) for low, high, _ in shards)
    ends = [0, *(high for _, high in ranges)]
    starts = [*(low for low, _ in ranges), 2**manifest.key_bits]
    if ends != starts:
        yield f"{where}: the shards do not cover all keys: {ranges}"
    postings = sum(rows for *_, rows in shards)
    # Soft assignment gives a snippet one posting or more.
    wrong = postings < segment.snippets
    if wrong or (manifest.replication == 1 and postings != segment.snippets):
        yield f"{where}: {postings} postings, expected {segment.snippets}"


def _check_removals(segment: Segment, manifest: Manifest) -> Iterator[str]:
    entry = segment.removals
    if entry is None:
        return
    where = f"segment {segment.id}: the removals in {entry.path}"
    if entry.kind != "removals" or entry.segment not in (None, segment.id):
        yield f"{where} are called {entry.kind} of segment {entry.segment}"
    if entry.path in manifest.files.column("path"):
        yield f"{where} are among the other files, too"
    if not 0 < entry.rows <= segment.tracks:
        yield f"{where} name {entry.rows} of {segment.tracks} tracks"
