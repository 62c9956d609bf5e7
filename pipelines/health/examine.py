"""All that `hashbeam info --html` shows of an index, gathered from its files."""

from __future__ import annotations

import dataclasses
from typing import Any

from hashing.errors import HashbeamError
from pipelines.health.bits import Bits, examine_bits
from pipelines.health.buckets import Buckets, examine_buckets
from pipelines.health.failed import Failures, examine_failures
from pipelines.health.past import History, examine_history
from pipelines.health.segments import Segments, examine_segments
from pipelines.health.verdict import Finding, judge, worst
from pipelines.history import check_whole
from pipelines.live import count_live
from pipelines.versions import Manifest


@dataclasses.dataclass(frozen=True)
class Health:
    """What was found.

    Attributes:
        facts: of the published version, as ``hashbeam info --json`` has them.
        tracks: live ones.
        findings: one for each thing that was looked at.
    """

    facts: dict[str, Any]
    tracks: int
    findings: list[Finding]
    buckets: Buckets
    bits: Bits
    failures: Failures
    segments: Segments
    history: History

    @property
    def verdict(self) -> str:
        """One line that says whether anything is to be done."""
        grave = worst(self.findings)
        if grave is None:
            return "Healthy"
        return f"{grave.topic}: {grave.said}. {grave.advice}".strip()


def examine(index: str, manifest: Manifest, facts: dict[str, Any]) -> Health:
    """How the published version of an index is doing.

    What is read is bounded, whatever the size of the index: some directories of table shards, some
    files of codes, the newest files of failures, and the newest versions.

    Args:
        manifest: of the published version.
        facts: about it, for the page.

    Raises: HashbeamError where it cannot be read; what is damaged in it is a finding.
    """
    problem = ""
    try:
        check_whole(index, manifest)
    except HashbeamError as error:
        problem = str(error)
    try:
        failures = examine_failures(index, manifest)
    except HashbeamError as error:
        problem = problem or str(error)
        failures = Failures(sum(manifest.files.select(kind="failures").column("rows")), 0, [])
    buckets, bits = examine_buckets(index, manifest), examine_bits(index, manifest)
    segments, history = examine_segments(manifest), examine_history(index, manifest)
    tracks = count_live(manifest)
    findings = judge(
        problem=problem,
        tracks=tracks,
        failures=failures,
        buckets=buckets,
        bits=bits,
        segments=segments,
        history=history,
    )
    return Health(facts, tracks, findings, buckets, bits, failures, segments, history)
