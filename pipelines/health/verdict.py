"""From figures to words: what is well with an index, what is not, and what to do about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from pipelines.gating.bounds import MAX_FAILURES
from pipelines.health.bits import Bits
from pipelines.health.buckets import Buckets
from pipelines.health.failed import Failures
from pipelines.health.past import History
from pipelines.health.segments import Segments
from pipelines.reindexing.compaction import MAX_KEY_BITS_BEHIND
from pipelines.tables import BUCKET_BITS

GOOD, LOOK, BAD = "good", "look", "bad"  # levels, the worst at the end
_LEVELS = (GOOD, LOOK, BAD)

# Postings that a key meets, over a perfect hash's: eight times the reading for the same answer.
# (The gates of publication stop only what is far worse: `pipelines.gating.balance`.) The
# shipped model has 1.4 on 427 tracks of real music (14.5 of 14.8 bits), 1.6 on the demo's.
TIMES_MET = 8.0
# Shares of ones between which a bit is worth most of its place: 0.72 bits and more.
EVEN_BIT = (0.2, 0.8)
UNEVEN_BITS = 0.1  # share of the bits that may be outside of that: a few cost nothing
# Postings a bucket, over what keys are chosen for: beyond it `hashbeam compact` makes keys longer.
CROWDED = 2**MAX_KEY_BITS_BEHIND


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: what.
        level: `GOOD`, `LOOK` or `BAD`.
        value: the figure that tells it, for a glance.
        said: what that means.
        advice: what to do; empty where nothing is to be done.
    """

    topic: str
    level: str
    value: str
    said: str
    advice: str = ""


def worst(findings: Sequence[Finding]) -> Finding | None:
    """The first of the gravest findings; None where all is well.

    >>> worst([Finding("a", GOOD, "1", "x"), Finding("b", BAD, "2", "y")]).topic
    'b'
    """
    grave = max(findings, key=lambda finding: _LEVELS.index(finding.level), default=None)
    return None if grave is None or grave.level == GOOD else grave


def judge(
    *,
    problem: str,
    tracks: int,
    failures: Failures,
    buckets: Buckets,
    bits: Bits,
    segments: Segments,
    history: History,
) -> list[Finding]:
    """What is to be said about an index.

    Args:
        problem: the first of its files that is missing or cut short; empty where none is.
        tracks: live ones.
    """
    return [
        _files(problem, [*buckets.damaged, *bits.damaged]),
        _failures(failures, tracks),
        _buckets(buckets),
        _bits(bits),
        _segments(segments),
        _versions(history),
    ]


def _files(problem: str, damaged: Sequence[str]) -> Finding:
    if problem or damaged:
        return Finding(
            "Files",
            BAD,
            "damaged",
            problem or damaged[0],
            "Go back with `hashbeam rollback`, or restore the files; `hashbeam verify` lists all.",
        )
    said = "all there in full size; `hashbeam verify` reads every byte"
    return Finding("Files", GOOD, "whole", said)


def _failures(failures: Failures, tracks: int) -> Finding:
    share = failures.total / max(1, tracks + failures.total)
    value = f"{failures.total:,}"
    if not failures.total:
        return Finding("Failed tracks", GOOD, "none", "every track of the catalogue is indexed")
    often = "all" if len(failures.kinds) == 1 else "most often"
    most = f", {often} {failures.kinds[0].error}" if failures.kinds else ""
    said = f"{_percent(share)} of the catalogue{most}"
    if share > MAX_FAILURES:
        advice = "Mend what is listed below, then `hashbeam reindex`: what has changed is retried."
        return Finding("Failed tracks", LOOK, value, said, advice)
    return Finding("Failed tracks", GOOD, value, said)


def _buckets(buckets: Buckets) -> Finding:
    topic = "Buckets"
    if not buckets.tables:
        return Finding(topic, LOOK, "empty", "there is nothing in the tables")
    times = buckets.met / max(1e-9, buckets.perfect_met)
    value = f"{times:.1f} × perfect"
    said = (
        f"so much a look-up reads, against a perfect hash; {buckets.entropy_bits:.1f} of "
        f"{buckets.perfect_bits:.1f} bits of entropy"
    )
    if times > TIMES_MET:
        advice = "The model does not suit this music: train one on it (`hashbeam train`), reindex."
        return Finding(topic, LOOK, value, said, advice)
    if buckets.mean_load > CROWDED * 2**BUCKET_BITS:
        said = f"{buckets.mean_load:.0f} postings a bucket, chosen for {2**BUCKET_BITS}"
        advice = "Run `hashbeam compact`: it makes the keys longer, if the model has longer ones."
        return Finding(topic, LOOK, value, said, advice)
    return Finding(topic, GOOD, value, said)


def _bits(bits: Bits) -> Finding:
    topic = "Bits of the codes"
    if not bits.shares:
        return Finding(topic, LOOK, "unknown", "there are no codes to look at")
    stuck, outside = bits.outside(0.02, 0.98), bits.outside(*EVEN_BIT)
    n = len(bits.shares)
    value = f"{n - len(outside)} of {n}"
    low, high = (f"{100 * share:.0f}" for share in EVEN_BIT)
    said = f"are ones in {low} to {high} % of the snippets"
    if stuck:
        said += f"; {len(stuck)} hardly ever change"
    if len(outside) > UNEVEN_BITS * n:
        advice = "These bits tell little of this music: train a model on it (`hashbeam train`)."
        return Finding(topic, LOOK, value, said, advice)
    return Finding(topic, GOOD, value, said)


def _segments(segments: Segments) -> Finding:
    count = len(segments.rows)
    value = f"{count:,}"
    if segments.why_compact:
        return Finding("Segments", LOOK, value, segments.why_compact, "Run `hashbeam compact`.")
    removed = f"{_percent(segments.removed_share)} of their tracks have gone"
    said = removed if segments.removed_share else "no removed tracks"
    return Finding("Segments", GOOD, value, f"{said}; compaction would not pay")


def _versions(history: History) -> Finding:
    count = len(history.versions) + history.older
    value = f"{count:,}"
    if stopped := list(_stopped(history)):
        advice = "Run the command that began it again, or drop it with `hashbeam gc`."
        return Finding("Versions", LOOK, value, "; ".join(stopped), advice)
    return Finding("Versions", GOOD, value, "no run was left unfinished")


def _stopped(history: History) -> Iterator[str]:
    for version in history.stopped:
        what = {
            "unfinished": "is not finished: a run goes on, or was stopped",
            "unpublished": "is whole but not published",
            "damaged": "is damaged",
        }[version.state]
        yield f"{version.version} {what}"


def _percent(share: float) -> str:
    """
    >>> _percent(0.5), _percent(0.0123), _percent(0.00001)
    ('50 %', '1.2 %', 'under 0.1 %')
    """
    if 0 < share < 0.001:
        return "under 0.1 %"
    return f"{100 * share:.0f} %" if share >= 0.1 or not share else f"{100 * share:.1f} %"
