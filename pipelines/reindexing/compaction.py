"""Which segments of an index are merged, and when: its cost to readers within a stated bound.

Each version that adds tracks adds a segment. A look-up goes through all of them, and through the
postings of tracks that have gone. Segments are merged by size, small ones first, so that each
track is rewritten a few times only while the index grows (tiered merging, as search engines do).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from hashing.quantizers import Quantizer
from hashing.table_format import MAX_GIDS
from pipelines.tables import choose_key_bits_of
from pipelines.versions import Manifest, Segment

# Bounds of the read cost. Ten segments cost a look-up up to 1.5 times what one does (measured by
# tests/benchmarks/bench_segments.py); a share of a fifth of removed tracks costs up to a fifth.
MAX_SEGMENTS = 10
MAX_REMOVED = 0.2
# A segment is merged with smaller ones that have half of its tracks or more together: then each
# track is rewritten once for each doubling of what it is merged into.
TIER = 2.0
# Keys this many bits shorter than the index would get today: four times as many postings a bucket.
MAX_KEY_BITS_BEHIND = 2


# A segment of more than this share of `MAX_GIDS` is not merged with others because there are many:
# two of them would be two again.
FULL = 0.5
# What a part at the end of a full segment may leave free: parts have a 4096th of an index.
_LEFT_FREE = 1 / 1024


@dataclasses.dataclass(frozen=True)
class Compaction:
    """Segments to merge, by id, the key length afterwards, and why.

    `whole`: they are all segments, and `key_bits` an estimate: the choice is made of what is left.
    """

    segments: list[int]
    key_bits: int
    reason: str
    whole: bool


def plan_compaction(
    manifest: Manifest, quantizer: Quantizer, *, whole: bool = False
) -> Compaction | None:
    """What to merge; None where the cost is within the bounds, as it is after what is told here.

    Args:
        whole: merge all segments, whatever the cost; nothing where that changes nothing.
    """
    segments = manifest.segments
    snippets = math.ceil(sum(one.snippets * _share(one) for one in segments))
    bits = choose_key_bits_of(snippets, quantizer)
    if bits - manifest.key_bits > MAX_KEY_BITS_BEHIND:
        reason = f"keys have {manifest.key_bits} bits, an index of its size gets {bits}"
        return _merge(manifest, segments, bits, reason)
    if whole:
        fewest = math.ceil(sum(map(_gids, segments)) * (1 + _LEFT_FREE) / MAX_GIDS)
        if len(segments) <= fewest and all(one.live == one.tracks for one in segments):
            return None
        return _merge(manifest, segments, bits, "as asked")
    chosen, reasons = list[Segment](), list[str]()
    if len(segments) > MAX_SEGMENTS:
        chosen = smallest(segments)
        reasons += [f"{len(segments)} segments, more than {MAX_SEGMENTS}"] if chosen else []
    left = [one for one in segments if one not in chosen]
    gone = sum(one.tracks - one.live for one in left)
    share = gone / max(sum(one.live for one in segments) + gone, 1)
    if share > MAX_REMOVED:
        chosen += [one for one in left if 1 - one.live / one.tracks > MAX_REMOVED / 2]
        reasons.append(f"{share:.0%} of the tracks have gone, more than {MAX_REMOVED:.0%}")
    return _merge(manifest, chosen, bits, ", and ".join(reasons))


def smallest(segments: Sequence[Segment]) -> list[Segment]:
    """The segments that are merged where there are too many; none where all but one are full.

    >>> def sized(*tracks):
    ...     return [Segment(n, n, 1, t, t, [t], [t]) for n, t in enumerate(tracks)]
    >>> [one.id for one in smallest(sized(1000, 70, 10, 10, 10, 10))]
    [2, 3, 4, 5, 1]
    """
    ordered = sorted(segments, key=lambda one: one.live)
    chosen, held = list[Segment](), 0
    for segment in (one for one in ordered if _gids(one) <= FULL * MAX_GIDS):
        # Two at least, and so many that the bound holds.
        needed = len(chosen) < 2 or len(segments) - len(chosen) >= MAX_SEGMENTS
        if not needed and segment.live > TIER * held:
            break
        chosen.append(segment)
        held += segment.live
    return chosen if len(chosen) > 1 else []


def _share(segment: Segment) -> float:
    """Live tracks of a segment by all of them."""
    return segment.live / max(segment.tracks, 1)


def _gids(segment: Segment) -> float:
    """Snippet numbers that the live tracks of a segment take up, about."""
    return sum(segment.part_gids) * _share(segment)


def _merge(
    manifest: Manifest, segments: Sequence[Segment], bits: int, reason: str
) -> Compaction | None:
    chosen = sorted(one.id for one in segments)
    # All shards of an index have keys of one length: it changes only where all are made anew.
    whole = len(chosen) == len(manifest.segments)
    key_bits = bits if whole else manifest.key_bits
    return Compaction(chosen, key_bits, reason, whole) if chosen else None
