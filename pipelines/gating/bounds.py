"""What a gate says, and the bounds that gates hold a version to."""

from __future__ import annotations

import dataclasses

from pipelines.records import Record

# Share of the tracks that may fail: more than that is rather a wrong mount than bad files.
MAX_FAILURES = 0.05

# Tracks of one run that may fail, whatever their share of it: 1 broken file of the 3 that came
# tonight is no reason to keep the other 2 back, nor the removals. A wrong mount breaks more.
FAILURES_ALLOWED = 5

# Share of the live tracks that may go from one version to the next, and as many tracks in any case.
# Catalogues are taken down by label or by country, some per cent at once; a catalogue that was cut
# short, or written from half of the database, loses more.
MAX_SHRINK = 0.1
SHRINK_ALLOWED = 1


@dataclasses.dataclass(frozen=True)
class Gate(Record):
    """What one gate found.

    Attributes:
      name: one of `pipelines.gates.REMEDIES`.
      value: what was measured; None where there was nothing to measure, or it could not be.
      bound: what `value` is held to.
      passed: whether the version may be published, for all that this gate knows.
      message: the finding in words, for people.
    """

    name: str
    value: float | None
    bound: float | None
    passed: bool
    message: str


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What gates hold a version to; counts of tracks, of postings, and shares from 0 to 1.

    Attributes:
      max_failures: share of failed tracks, of the catalogue and of those that a run tried.
      failures_allowed: tracks of a run that may fail whatever their share of it.
      max_shrink: share of the parent's live tracks that may be missing.
      shrink_allowed: tracks that may be missing whatever their share.
      min_entropy: see `pipelines.gating.balance`, like the next two.
      max_bucket: share of a table's postings in one bucket.
      min_postings: of a table, from which on these two are held to.
      min_self_recall: share of `samples` stretches of stored codes that must be found.
      samples: of new segments, for that; `removed_samples` of tracks that were removed.
      seed: of the samples.
      left_out: names of gates that are not asked.
    """

    max_failures: float = MAX_FAILURES
    failures_allowed: int = FAILURES_ALLOWED
    max_shrink: float = MAX_SHRINK
    shrink_allowed: int = SHRINK_ALLOWED
    min_entropy: float = 0.7
    max_bucket: float = 0.2
    min_postings: int = 16_384
    min_self_recall: float = 0.98
    samples: int = 64
    removed_samples: int = 16
    seed: int = 0
    left_out: tuple[str, ...] = ()


DEFAULT_BOUNDS = Bounds()
