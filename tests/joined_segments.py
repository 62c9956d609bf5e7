"""Segments of several files of codes, for tests and benchmarks of tables."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from pipelines.segment_codes import SegmentCodes


def joined(parts: Sequence[SegmentCodes], *, first_gid: int = 0, silence: int = 0) -> SegmentCodes:
    """One segment of the files of several, with so many silent snippets between them."""
    sizes = [part.total for part in parts]
    ends = itertools.accumulate((size + silence for size in sizes[:-1]), initial=first_gid)
    return dataclasses.replace(
        parts[0],
        parts=range(len(parts)),
        paths=[path for part in parts for path in part.paths],
        tracks_paths=[path for part in parts for path in part.tracks_paths],
        snippets=sizes,
        first_gids=list(ends),
    )
