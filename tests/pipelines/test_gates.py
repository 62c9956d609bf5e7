"""All gates together: their flags, and what stops a publication."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from grown_index import Grown

from hashing.errors import HashbeamError, UsageError
from hashing.models import EVENTS_KIND
from pipelines.gates import (
    REMEDIES,
    UNASKED,
    add_gate_arguments,
    check_gates,
    gate_options,
    refuse,
)
from pipelines.gating.bounds import Bounds, Gate
from pipelines.options import Checker
from pipelines.runs import Receipt


def part(tracks: int, failed: int) -> Receipt:
    counters = {"tracks": tracks, "tracks_failed": failed, "failed_silent": failed}
    return Receipt("part-00003", "a", [], dict(counters), 0.0, 1.0)


def shards(grown: Grown, **counters: float) -> list[Receipt]:
    """Receipts of the tables of version 000002."""
    found = {"postings": 20, "distinct_keys": 20, "max_bucket": 1, "entropy_bits": 4.3}
    return [
        Receipt("s", "a", [entry], {**found, **counters}, 0.0, 1.0)
        for entry in grown.second.files.select(kind="tables", segment=1)
    ]


def ask(grown: Grown, bounds: Bounds, failed: int = 0, **counters: float) -> list[Gate]:
    return check_gates(
        str(grown.index),
        grown.second,
        grown.first,
        grown.hasher,
        [part(3, failed)],
        shards(grown, **counters),
        bounds,
    )


def test_a_sound_version_passes_all(grown: Grown) -> None:
    gates = ask(grown, Bounds())
    # That of a model is asked where another one takes over (`test_remodel.py`).
    assert [gate.name for gate in gates] == [name for name in REMEDIES if name != "model"]
    assert [gate.name for gate in gates if not gate.passed] == []
    refuse(str(grown.index), "000002", gates)
    assert [Gate.from_json(json.loads(json.dumps(g.to_json())), "run.json") for g in gates] == gates


def test_every_failed_gate_is_in_one_report(grown: Grown) -> None:
    bounds = Bounds(failures_allowed=0, max_shrink=1.0, min_postings=1024)
    gates = ask(grown, bounds, failed=2, postings=4096, entropy_bits=6.0, max_bucket=2048)
    with pytest.raises(HashbeamError) as error:
        refuse("music.index", "000002", gates)
    message = str(error.value)
    assert message.startswith(
        "music.index: version 000002 is not published, 3 of 8 quality gates failed: "
    )
    assert "run-failures (0.6667, at most 0.05): 2 of 3 tracks that this run tried" in message
    assert "failed (2 silent); see failures/ for the reasons" in message
    assert "raise --max-failures" in message
    assert "bucket-entropy (0.5" in message
    assert "at least 0.7): table 0 of segment 1 has 6.00 bits of entropy, a perfect" in message
    assert "largest-bucket (0.5, at most 0.2): table 0 of segment 1 has 2048 of its" in message
    assert message.endswith(
        "Finished work is kept; --no-gates run-failures,bucket-entropy,largest-bucket publishes "
        "all the same"
    )
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("failures", "--max-failures"),
        ("live-tracks", "--max-shrink"),
        ("self-recall", "--min-self-recall"),
    ],
)
def test_a_report_names_the_flag_that_changes_the_bound(name: str, flag: str) -> None:
    with pytest.raises(HashbeamError, match=flag):
        refuse("i", "000002", [Gate(name, 0.5, 0.1, False, "so it is")])


def test_a_gate_without_a_value_is_told_without(grown: Grown) -> None:
    gates = [Gate("self-recall", None, 0.98, False, "the new segments cannot be looked up in: x")]
    with pytest.raises(HashbeamError, match=r"failed: self-recall: the new segments cannot"):
        refuse("i", "000002", gates)


def test_gates_that_are_left_out_are_not_asked(grown: Grown) -> None:
    broken = dataclasses.replace(grown, index=Path("/nowhere"))
    every = ask(broken, Bounds(left_out=tuple(REMEDIES)))
    assert {(gate.passed, gate.value, gate.message) for gate in every} == {
        (True, None, "not asked: --no-gates")
    }
    gates = ask(broken, Bounds())
    assert [gate.name for gate in gates if not gate.passed] == ["self-recall", "removed"]


def test_gates_that_codes_of_clips_are_not_asked(grown: Grown) -> None:
    """Whatever verb makes the version: codes of clips of one label lie together."""
    of_clips: Any = SimpleNamespace(config={"kind": EVENTS_KIND})
    uneven = shards(grown, postings=40_000, entropy_bits=0.1, max_bucket=39_000)
    rest = (grown.second, grown.first, of_clips, [part(3, 0)], uneven)
    bounds = Bounds(left_out=("removed",))
    gates = {gate.name: gate for gate in check_gates(str(grown.index), *rest, bounds)}
    unasked = "not asked of models of kind 'events'"
    assert {name for name, gate in gates.items() if gate.message == unasked} == set(
        UNASKED["events"]
    )
    assert gates["removed"].message == "not asked: --no-gates"
    assert all(gate.passed for gate in gates.values())
    bounds = Bounds(left_out=("removed", "largest-bucket"))
    again = {gate.name: gate for gate in check_gates(str(grown.index), *rest, bounds)}
    assert again["largest-bucket"].message == "not asked: --no-gates"


def parsed(*flags: str, parent: bool = True) -> Bounds:
    parser = argparse.ArgumentParser()
    add_gate_arguments(parser, parent=parent)
    args = parser.parse_args(flags)
    checker = Checker(args)
    bounds = gate_options(checker, args.no_gates)
    checker.finish()
    return bounds


def test_flags_are_bounds() -> None:
    assert parsed() == parsed(parent=False) == Bounds()
    flags = ["--max-failures", "0.2", "--max-shrink=1", "--min-self-recall", "0.5"]
    bounds = parsed(*flags, "--no-gates", "removed,largest-bucket", "--no-gates", "failures")
    assert (bounds.max_failures, bounds.max_shrink, bounds.min_self_recall) == (0.2, 1.0, 0.5)
    assert bounds.left_out == ("failures", "largest-bucket", "removed")
    assert parsed("--no-gates", "all").left_out == tuple(REMEDIES)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--max-shrink", "2"], "--max-shrink: must be from 0 to 1, got 2"),
        (["--min-self-recall=x"], "--min-self-recall: must be a number, got 'x'"),
        (["--no-gates", "recal"], r"--no-gates: must be of failures, .*, or all; got 'recal'"),
    ],
)
def test_mistakes_name_their_flag(flags: list[str], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        parsed(*flags)
