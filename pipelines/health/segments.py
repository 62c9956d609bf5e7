"""The segments of an index, and whether it would pay to merge them."""

from __future__ import annotations

import dataclasses

from pipelines.reindexing.compaction import MAX_REMOVED, MAX_SEGMENTS
from pipelines.versions import Manifest


@dataclasses.dataclass(frozen=True)
class SegmentFacts:
    """A segment: which version built it, what it holds, and what of that has gone since."""

    id: int
    version: str
    tracks: int
    removed: int
    snippets: int
    table_bytes: int


@dataclasses.dataclass(frozen=True)
class Segments:
    """All segments of a version, in order."""

    rows: list[SegmentFacts]

    @property
    def removed_share(self) -> float:
        """Of the tracks in all segments."""
        tracks = sum(row.tracks for row in self.rows)
        return sum(row.removed for row in self.rows) / max(1, tracks)

    @property
    def why_compact(self) -> str:
        """Why `hashbeam compact` would pay; empty where it would not.

        >>> Segments([SegmentFacts(0, "000001", 10, 3, 100, 9)]).why_compact
        '30 % of the tracks in the tables have gone'
        """
        if len(self.rows) > MAX_SEGMENTS:
            return f"a look-up asks {len(self.rows)} segments, one after another"
        if self.removed_share > MAX_REMOVED:
            return f"{100 * self.removed_share:.0f} % of the tracks in the tables have gone"
        return ""


def examine_segments(manifest: Manifest) -> Segments:
    """The segments of a version, by its manifest alone."""
    sizes, built = dict[int, int](), dict[int, str]()
    for segment, path, size in manifest.files.tuples("segment", "path", "bytes", kind="tables"):
        sizes[segment] = sizes.get(segment, 0) + size
        built.setdefault(segment, path.split("/")[1])
    return Segments(
        [
            SegmentFacts(
                segment.id,
                built.get(segment.id, ""),
                segment.tracks,
                segment.tracks - segment.live,
                segment.snippets,
                sizes.get(segment.id, 0),
            )
            for segment in manifest.segments
        ]
    )
