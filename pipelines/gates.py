"""Quality gates between a finished version and its publication: asked one by one, told together."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence

from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from hashing.models import EVENTS_KIND
from pipelines.gather import total
from pipelines.gating.balance import gate_entropy, gate_largest_bucket, mostly_copies, table_stats
from pipelines.gating.bounds import MAX_FAILURES, MAX_SHRINK, Bounds, Gate
from pipelines.gating.counts import (
    count_failed,
    gate_empty_tables,
    gate_failures,
    gate_live_tracks,
    gate_run_failures,
)
from pipelines.gating.recall import gate_removed, gate_self_recall
from pipelines.options import Checker
from pipelines.runs import Receipt
from pipelines.versions import Manifest

# What to do about a gate that did not pass, by its name.
_MEND = "see failures/ for the reasons, mend the files and run again, or raise --max-failures"
_RETRAIN = "try another model, or a catalogue with fewer copies of one recording"
_VERIFY = "delete the unfinished version and run again; if it comes back, report it as a bug"
REMEDIES = {
    "failures": _MEND,
    "run-failures": _MEND,
    "live-tracks": "check that the catalogue is whole, or raise --max-shrink",
    "empty-tables": _VERIFY,
    "bucket-entropy": _RETRAIN,
    "largest-bucket": _RETRAIN,
    "self-recall": f"{_VERIFY}, or lower --min-self-recall",
    "removed": _VERIFY,
    "model": "train it further, or ask more with --compare-queries",
}


# Of an index that is measured, or made of what stood in others: whatever it is, it is wanted.
NO_GATES = Bounds(left_out=tuple(REMEDIES))
# Of a version that decodes nothing: who failed, and how many there are, has been judged before.
NOTHING_DECODED = Bounds(left_out=("failures", "run-failures", "live-tracks"))


# Not asked of models of a kind. Codes of clips of one label lie together, which is what they are
# for, and search looks at the codes, not at the tables.
UNASKED = {EVENTS_KIND: ("bucket-entropy", "largest-bucket", "self-recall")}


def add_gate_arguments(parser: argparse.ArgumentParser, *, parent: bool = True) -> None:
    """The flags of gates; without `parent`, those of the first version of an index."""
    add = parser.add_argument
    add(
        "--max-failures",
        metavar="SHARE",
        default=MAX_FAILURES,
        help="share of the tracks that may fail, 0 to 1 (%(default)s)",
    )
    if parent:
        add(
            "--max-shrink",
            metavar="SHARE",
            default=MAX_SHRINK,
            help="share of the live tracks that may go at once, 0 to 1 (%(default)s)",
        )
    add(
        "--min-self-recall",
        metavar="SHARE",
        default=Bounds.min_self_recall,
        help="share of sampled new codes that must be found in the new tables (%(default)s)",
    )
    add_no_gates(parser)


def add_no_gates(parser: argparse.ArgumentParser) -> None:
    """The flag that leaves gates out: all that verbs have that decode nothing."""
    parser.add_argument(
        "--no-gates",
        metavar="NAMES",
        action="append",
        help=f"publish without asking these: {', '.join(REMEDIES)}; or all",
    )


def gate_options(checker: Checker, no_gates: Sequence[str] | None = None) -> Bounds:
    """The bounds that the flags ask for; what is wrong with them is noted in `checker`.

    Args:
      no_gates: values of ``--no-gates``, each one name or several with commas between them.

    >>> gate_options(Checker(argparse.Namespace(max_shrink="0.5")), ["removed, failures"]).left_out
    ('failures', 'removed')
    """
    asked = {name.strip() for value in no_gates or () for name in value.split(",")}
    unknown = sorted(asked - {"all", *REMEDIES})
    if unknown:
        checker.problems.append(
            f"--no-gates: must be of {', '.join(REMEDIES)}, or all; got {unknown[0]!r}"
        )
    left_out = tuple(name for name in REMEDIES if name in asked or "all" in asked)

    def share(flag: str, otherwise: float) -> float:
        return checker.number(flag, low=0, high=1) if checker.given(flag) else otherwise

    return Bounds(
        max_failures=share("--max-failures", Bounds.max_failures),
        max_shrink=share("--max-shrink", Bounds.max_shrink),
        min_self_recall=share("--min-self-recall", Bounds.min_self_recall),
        left_out=left_out,
    )


def nothing_decoded(checker: Checker, no_gates: Sequence[str] | None = None) -> Bounds:
    """`NOTHING_DECODED` without what ``--no-gates`` leaves out, too."""
    asked = gate_options(checker, no_gates).left_out
    left_out = (name for name in REMEDIES if name in (*NOTHING_DECODED.left_out, *asked))
    return dataclasses.replace(NOTHING_DECODED, left_out=tuple(left_out))


def check_gates(
    index: str,
    manifest: Manifest,
    parent: Manifest | None,
    hasher: Hasher,
    parts: Sequence[Receipt],
    shards: Sequence[Receipt],
    bounds: Bounds,
) -> list[Gate]:
    """What every gate says about a version that is whole and not published yet.

    Costs some hundred small reads whatever the size of the index: of segments that the version
    before had, only what the removals of this one concern.

    Args:
      parent: the manifest of the version before, None for the first one.
      hasher: the model of the version.
      parts, shards: receipts of what this run has done.
    """
    tried, failed, kinds = count_failed(parts)
    counters = manifest.counters
    tables = functools.cache(lambda: {} if mostly_copies(index, manifest) else table_stats(shards))
    failed_in_all = int(counters["tracks_failed"]) + total(parts, "tracks_not_embedded")
    gates: dict[str, Callable[[], Gate]] = {
        "failures": lambda: gate_failures(int(counters["tracks"]), failed_in_all, bounds),
        "run-failures": lambda: gate_run_failures(
            tried, failed, kinds, bounds, first=parent is None
        ),
        "live-tracks": lambda: gate_live_tracks(manifest, parent, bounds),
        "empty-tables": lambda: gate_empty_tables(manifest),
        "bucket-entropy": lambda: gate_entropy(tables(), manifest.key_bits, bounds),
        "largest-bucket": lambda: gate_largest_bucket(tables(), bounds),
        "self-recall": lambda: gate_self_recall(index, manifest, hasher, bounds),
        "removed": lambda: gate_removed(index, manifest, parent, hasher, bounds),
    }
    kind = str(hasher.config.get("kind"))
    unasked = dict.fromkeys(UNASKED.get(kind, ()), f"not asked of models of kind {kind!r}")
    unasked |= dict.fromkeys(bounds.left_out, "not asked: --no-gates")
    return [
        Gate(name, None, None, True, unasked[name]) if name in unasked else ask()
        for name, ask in gates.items()
    ]


def refuse(index: str, version: str, gates: Sequence[Gate]) -> None:
    """Stops the publication of a version that did not pass.

    Raises: HashbeamError that names every gate that failed, with value, bound and remedy.

    >>> refuse("i", "000002", [Gate("failures", 0.25, 0.05, False, "1 of 4 tracks failed")])
    Traceback (most recent call last):
    hashing.errors.HashbeamError: i: version 000002 is not published, 1 of 1 quality gates failed: \
failures (0.25, at most 0.05): 1 of 4 tracks failed; see failures/ for the reasons, mend the files \
and run again, or raise --max-failures. Finished work is kept; --no-gates failures publishes all \
the same
    """
    failed = [gate for gate in gates if not gate.passed]
    if not failed:
        return
    found = " | ".join(
        f"{_heading(gate)}: {gate.message}; {REMEDIES[gate.name]}" for gate in failed
    )
    names = ",".join(gate.name for gate in failed)
    raise HashbeamError(
        f"{index}: version {version} is not published, {len(failed)} of {len(gates)} quality gates "
        f"failed: {found}. Finished work is kept; --no-gates {names} publishes all the same"
    )


def _heading(gate: Gate) -> str:
    if gate.value is None or gate.bound is None:
        return gate.name
    limit = "at least" if gate.value < gate.bound else "at most"
    return f"{gate.name} ({gate.value:.4g}, {limit} {gate.bound:g})"
