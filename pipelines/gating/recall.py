"""Gates that look up: stored codes must find their own place, removed tracks must not be found.

Stretches of codes are looked up as the new version holds them, in their own segment: tables, code
matrices, tracks and removals must fit together for that, and nothing is decoded.
"""

from __future__ import annotations

import numpy as np

from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from pipelines.gating.bounds import Bounds, Gate
from pipelines.gating.stored import StoredCodes
from pipelines.live import removed_ordinals
from pipelines.versions import Manifest


def new_segments(manifest: Manifest) -> list[int]:
    """Segments whose tables lie in the version's own folder, in order."""
    tables = manifest.files.tuples("path", "segment", kind="tables")
    return sorted({segment for path, segment in tables if manifest.is_own(path)})


def gate_self_recall(index: str, manifest: Manifest, hasher: Hasher, bounds: Bounds) -> Gate:
    """A sample of stretches of new segments is found where it stands, or at a copy of it."""
    name, bound = "self-recall", bounds.min_self_recall
    segments = new_segments(manifest)
    if not segments:
        return Gate(name, None, bound, True, "no new segment to look up in")
    try:
        stored = StoredCodes(index, manifest, hasher)
        samples = stored.draw(segments, bounds.samples, bounds.seed)
        missed = [one for one, places in stored.find(samples) if not stored.is_own(one, places)]
        message = f"{len(samples) - len(missed)} of {len(samples)} stretches of stored codes are "
        message += "found where they stand"
        if missed:
            first = missed[0]
            track = stored.tracks.row(first.segment, first.ordinal)["track_id"]
            message += f"; the first that is not is of track {track!r}"
    except HashbeamError as error:
        return Gate(name, None, bound, False, f"the new segments cannot be looked up in: {error}")
    share = 1 - len(missed) / max(len(samples), 1)
    return Gate(name, share, bound, share >= bound, message)


def gate_removed(
    index: str, manifest: Manifest, parent: Manifest | None, hasher: Hasher, bounds: Bounds
) -> Gate:
    """What was removed stays so, and a sample of what is newly removed is not found."""
    try:
        gone, wrong = _newly_removed(index, manifest, parent)
        rng = np.random.default_rng(bounds.seed)
        chosen = rng.choice(len(gone), min(bounds.removed_samples, len(gone)), replace=False)
        stored = StoredCodes(index, manifest, hasher) if gone else None
        samples = [one for at in chosen if stored for one in stored.of_track(*gone[at])]
        for sample, places in stored.find(samples) if stored else ():
            if (places.ordinal == sample.ordinal).any():
                wrong.append(
                    f"track {sample.ordinal} of segment {sample.segment} was removed and is found"
                )
    except HashbeamError as error:
        return Gate("removed", None, 0, False, f"removed tracks cannot be looked up: {error}")
    message = f"{len(samples)} of {len(gone)} tracks that this version removes looked up, none is "
    message += "found"
    return Gate("removed", len(wrong), 0, not wrong, wrong[0] if wrong else message)


def _newly_removed(
    index: str, manifest: Manifest, parent: Manifest | None
) -> tuple[list[tuple[int, int]], list[str]]:
    """Segment and ordinal of what is gone since `parent`, and what of it cannot be."""
    gone, wrong = list[tuple[int, int]](), list[str]()
    before = {segment.id: segment for segment in parent.segments} if parent else {}
    for segment in manifest.segments:
        old = before.get(segment.id)
        if segment.removals == (old.removals if old else None):
            continue
        earlier = removed_ordinals(index, old) if old else np.empty(0, np.int64)
        removed = removed_ordinals(index, segment)
        back = np.setdiff1d(earlier, removed)
        if back.size:
            wrong.append(
                f"{back.size} tracks of segment {segment.id} that were removed are back, the "
                f"first: {back[0]}"
            )
        gone += [(segment.id, int(ordinal)) for ordinal in np.setdiff1d(removed, earlier)]
    return gone, wrong
