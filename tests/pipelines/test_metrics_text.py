"""Prometheus text, read by a strict parser of the format; what stays when a run fails."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unwell_index import made_up_summary

from hashing.errors import HashbeamError, UsageError
from pipelines import io
from pipelines.counters import COUNTERS
from pipelines.metrics_text import (
    RunMetrics,
    Samples,
    add_metrics_argument,
    as_text,
    parse,
    samples_of,
)
from pipelines.summary import Summary

INDEX = 'gs://bucket/"odd"\\index\nof music'
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
_PLAIN = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
_NUMBER = r"[+-]?(?:Inf|NaN|\d+(?:\.\d+)?(?:e[+-]?\d+)?)"


def strictly(text: str) -> tuple[Series, dict[str, str]]:
    """Samples and types of a text in the format 0.0.4, as its description has it; asserts it is."""
    assert text.endswith("\n")
    series: Series = {}
    helped: set[str] = set()
    kinds: dict[str, str] = {}
    done: set[str] = set()
    last = ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, told = line.removeprefix("# HELP ").split(" ", 1)
            assert name not in helped
            assert told
            helped.add(name)
        elif line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert name not in kinds
            assert kind in ("counter", "gauge")
            assert (kind == "counter") == name.endswith("_total")
            kinds[name] = kind
        else:
            found = re.fullmatch(rf"({_NAME})\{{({_LABEL}(?:,{_LABEL})*)\}} ({_NUMBER})", line)
            assert found, line
            name = found[1]
            assert name in kinds
            assert name in helped
            if name != last:  # all lines of a metric are one group
                assert name not in done
                done.add(last)
                last = name
            pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2])
            labels = tuple(
                (label, re.sub(r"\\.", lambda one: _PLAIN[one[0]], value)) for label, value in pairs
            )
            assert len(dict(labels)) == len(labels)
            assert (name, labels) not in series
            series[name, labels] = float(found[3])
    return series, kinds


def of_run(summary: Summary | None, earlier: Samples | None = None, ended: float = 100.0) -> Series:
    samples = samples_of(
        summary, index=INDEX, verb="index", ended=ended, wall_s=5.0, earlier=earlier
    )
    return strictly(as_text(samples))[0]


OWN = (("index", INDEX),)


def test_a_run_that_succeeds_tells_all_its_counters() -> None:
    summary = made_up_summary(
        tracks=433, audio_s=32904.5, index_bytes=12 * 10**9, failures={"not-audio": 2, 'a"b': 1}
    )
    series = of_run(summary)
    assert series["hashbeam_index_catalog_tracks", OWN] == 433
    assert series["hashbeam_index_audio_seconds", OWN] == 32904.5
    assert series["hashbeam_index_bytes", OWN] == 12e9
    assert series["hashbeam_last_run_failures", (*OWN, ("kind", 'a"b'))] == 1
    assert series["hashbeam_last_run_success", (*OWN, ("verb", "index"))] == 1
    assert series["hashbeam_last_success_timestamp_seconds", OWN] == 100
    told = {name for name, _ in series}
    numbers = {f"hashbeam_{one.metric}" for one in COUNTERS if one.metric and not one.label}
    assert numbers <= told
    assert numbers == {
        f"hashbeam_{one.metric}"
        for one in COUNTERS
        if isinstance(getattr(summary, one.name), int | float) and one.name != "format_version"
    }


def test_names_say_their_units() -> None:
    for one in COUNTERS:
        if one.metric and one.unit in ("s", "bytes"):
            assert one.metric.endswith({"s": "_seconds", "bytes": "_bytes"}[one.unit])
    metrics = [one.metric for one in COUNTERS if one.metric]
    assert len(set(metrics)) == len(metrics)


def test_what_the_index_is_stays_when_a_run_fails() -> None:
    good = as_text(
        samples_of(made_up_summary(tracks=9), index=INDEX, verb="index", ended=100.0, wall_s=5.0)
    )
    series = of_run(None, parse(good), ended=200.0)
    assert series["hashbeam_last_run_success", (*OWN, ("verb", "index"))] == 0
    assert series["hashbeam_last_run_timestamp_seconds", OWN] == 200
    assert series["hashbeam_last_success_timestamp_seconds", OWN] == 100
    assert series["hashbeam_index_catalog_tracks", OWN] == 9
    assert series["hashbeam_last_run_wall_seconds", OWN] == 5
    assert ("hashbeam_last_run_hash_cpu_seconds", OWN) not in series  # of another run
    runs = {
        labels[2][1]: value
        for (name, labels), value in series.items()
        if name.endswith("runs_total")
    }
    assert runs == {"success": 1, "failure": 1}


def test_totals_count_on_from_run_to_run() -> None:
    samples: Samples = {}
    for number in range(3):
        samples = samples_of(
            made_up_summary(hash_cpu_s=10.5),
            index=INDEX,
            verb="reindex",
            ended=float(number),
            wall_s=1.0,
            earlier=parse(as_text(samples)),
        )
    series = strictly(as_text(samples))[0]
    labels = (*OWN, ("verb", "reindex"), ("result", "success"))
    assert series["hashbeam_runs_total", labels] == 3
    assert series["hashbeam_cpu_seconds_total", (*OWN, ("stage", "hash"))] == 31.5


def test_the_file_of_another_index_is_not_taken_over() -> None:
    other = samples_of(made_up_summary(), index="other", verb="index", ended=1.0, wall_s=1.0)
    series = of_run(None, other)
    assert {labels[0] for _, labels in series} == {("index", INDEX)}


@given(
    texts=st.lists(st.text(max_size=8), min_size=1, max_size=3, unique=True),
    value=st.floats(allow_nan=False) | st.integers(-(2**60), 2**60),
)
def test_any_label_and_number_comes_back(texts: list[str], value: float) -> None:
    samples: Samples = {"last_run_failures": {(("kind", text),): float(value) for text in texts}}
    text = as_text(samples)
    # The format has no line end but "\n"; a text file may have others in its labels.
    series, _ = strictly(text)
    assert series == {
        ("hashbeam_last_run_failures", labels): number
        for labels, number in samples["last_run_failures"].items()
    }
    assert parse(text) == samples


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "hashbeam.prom"
    path.write_bytes(b'\xff\xfe # HELP\nhashbeam_runs_total{index="m"} many\nother 3\n')
    with RunMetrics(str(path), "index", "m") as metrics:
        metrics.note(made_up_summary())
    series, _ = strictly(path.read_text())
    labels = (("index", "m"), ("verb", "index"), ("result", "success"))
    assert series["hashbeam_runs_total", labels] == 1


def test_a_run_is_told_of_whatever_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "hashbeam.prom"
    times = iter([10.0, 17.5, 20.0, 21.0, 30.0, 31.0])

    def metrics() -> RunMetrics:
        return RunMetrics(str(path), "index", "m", clock=lambda: next(times))

    with metrics() as well:
        summary = made_up_summary()
        assert well.note(summary) is summary
    own = (("index", "m"),)
    series, _ = strictly(path.read_text())
    assert series["hashbeam_last_run_success", (*own, ("verb", "index"))] == 1
    for error in (HashbeamError("too many failed"), KeyboardInterrupt()):
        with pytest.raises(type(error)), metrics():
            raise error
        series, _ = strictly(path.read_text())
        assert series["hashbeam_last_run_success", (*own, ("verb", "index"))] == 0
        assert series["hashbeam_last_success_timestamp_seconds", own] == 17.5
    assert os.listdir(path.parent) == ["hashbeam.prom"]  # no temporary file is left


def test_the_error_of_the_run_is_the_one_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: str, data: bytes) -> None:
        raise HashbeamError(f"{path}: no space left")

    monkeypatch.setattr(io, "write_bytes", full)
    path = str(tmp_path / "a.prom")
    with pytest.raises(HashbeamError, match="the run itself"), RunMetrics(path, "index", "m"):
        raise HashbeamError("the run itself")
    assert "metrics were not written" in capsys.readouterr().err
    with pytest.raises(HashbeamError, match="no space"), RunMetrics(path, "index", "m") as metrics:
        metrics.note(made_up_summary())


def test_without_the_flag_nothing_is_written(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_metrics_argument(parser)
    assert parser.parse_args([]).metrics == ""
    assert parser.parse_args(["--metrics", "a.prom"]).metrics == "a.prom"
    with RunMetrics("", "index", "m") as metrics:
        metrics.note(made_up_summary())
    with pytest.raises(UsageError, match=r"--metrics: .* is a folder"):
        RunMetrics(str(tmp_path), "index", "m")


def test_every_field_of_a_summary_is_documented() -> None:
    fields = [field.name for field in dataclasses.fields(Summary)]
    assert sorted(one.name for one in COUNTERS) == sorted(fields)
    assert all(one.meaning for one in COUNTERS)
