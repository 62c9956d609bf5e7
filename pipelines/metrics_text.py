"""What a run did as Prometheus text (version 0.0.4), for the textfile collector of node_exporter.

A file tells of one index. What ``hashbeam_last_run_…`` says is of the last run, be it a failed one;
what ``hashbeam_index_…`` says is of what that or an earlier run published, and stays when a run
fails, as the index does; ``…_total`` counts on from run to run, since the file was first written.
Good to be woken by: ``hashbeam_last_run_success == 0``, and
``time() - hashbeam_last_success_timestamp_seconds > 2 * 86400``.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from hashing.errors import HashbeamError, UsageError
from pipelines import io
from pipelines.counters import COUNTERS, Counter
from pipelines.sent_away import SentAwayError
from pipelines.summary import Summary

Labels = tuple[tuple[str, str], ...]
# Name of a metric, without "hashbeam_" → labels → value.
Samples = dict[str, dict[Labels, float]]


def _help(one: Counter) -> str:
    """
    >>> _help(COUNTERS[4]), _help(Counter("wall_s", "s", "from first to last"))
    ('Tracks in the catalogue', 'From first to last')
    """
    # Times and ratios say what they are; of all else it is the unit that is counted.
    told = one.meaning if one.unit in ("s", "ratio") else f"{one.unit} {one.meaning}"
    return told[:1].upper() + told[1:]


# Metrics that are no fields of a summary: type and help.
_OWN = {
    "runs_total": ("counter", "Runs, by verb and by how they ended"),
    "cpu_seconds_total": ("counter", "CPU of all runs that succeeded, by stage"),
    "last_run_success": ("gauge", "1 if the last run did what it says, otherwise 0"),
    "last_run_timestamp_seconds": ("gauge", "When the last run ended, Unix time"),
    "last_success_timestamp_seconds": ("gauge", "When the last run that succeeded ended"),
    "index_info": ("gauge", "Always 1: version and model of the index are in the labels"),
}
_FAMILIES = {
    **_OWN,
    **{one.metric: ("gauge", _help(one)) for one in COUNTERS if one.metric},
}
_SAMPLE = re.compile(r"hashbeam_(\w+)\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)",?')
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
_PLAIN = {escaped: plain for plain, escaped in _ESCAPES.items()}


def add_metrics_argument(parser: argparse.ArgumentParser) -> None:
    """The flag of the verbs that write metrics."""
    parser.add_argument(
        "--metrics",
        metavar="FILE",
        default="",
        help="write what the run did as Prometheus text, also when it fails; node_exporter's "
        "textfile collector reads FILE if it ends in .prom",
    )


def samples_of(
    summary: Summary | None,
    *,
    index: str,
    verb: str,
    ended: float,
    wall_s: float,
    earlier: Samples | None = None,
) -> Samples:
    """The samples of a run.

    Args:
        summary: None where the run failed.
        ended: when, Unix s.
        wall_s: how long it took.
        earlier: the samples of the run before: what the index is stays when a run fails, and totals
            count on.
    """
    own: Labels = (("index", index),)
    kept: Samples = {}
    for name, values in (earlier or {}).items():
        is_total = name.endswith("_total") or name == "last_success_timestamp_seconds"
        if is_total or (summary is None and name.startswith("index_")):
            kept[name] = {labels: value for labels, value in values.items() if own[0] in labels}
    result = "failure" if summary is None else "success"
    _add(kept, "runs_total", (*own, ("verb", verb), ("result", result)), 1)
    kept["last_run_success"] = {(*own, ("verb", verb)): float(summary is not None)}
    kept["last_run_timestamp_seconds"] = {own: ended}
    kept["last_run_wall_seconds"] = {own: wall_s}
    if summary is None:
        return kept
    kept["last_success_timestamp_seconds"] = {own: ended}
    told = (("version", summary.version), ("model", summary.model), ("compared", summary.compared))
    kept["index_info"] = {(*own, *told): 1.0}
    for stage, value in (("hash", summary.hash_cpu_s), ("tables", summary.tables_cpu_s)):
        _add(kept, "cpu_seconds_total", (*own, ("stage", stage)), value)
    for one in COUNTERS:
        found = getattr(summary, one.name, None)
        if one.metric and isinstance(found, Mapping):
            kept[one.metric] = {(*own, (one.label, name)): float(n) for name, n in found.items()}
        elif one.metric and found is not None:
            kept[one.metric] = {own: float(found)}
    return kept


def as_text(samples: Samples) -> str:
    """Samples in Prometheus text format, each metric with its help and type.

    >>> print(as_text({"last_run_success": {(("index", 'a "b"'),): 1.0}}), end="")
    # HELP hashbeam_last_run_success 1 if the last run did what it says, otherwise 0
    # TYPE hashbeam_last_run_success gauge
    hashbeam_last_run_success{index="a \\"b\\""} 1
    """
    return "".join(f"{line}\n" for line in _lines(samples))


def _lines(samples: Samples) -> Iterator[str]:
    for name, (kind, told) in _FAMILIES.items():
        if not samples.get(name):
            continue
        yield f"# HELP hashbeam_{name} {told}"
        yield f"# TYPE hashbeam_{name} {kind}"
        for labels, value in samples[name].items():
            shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
            yield f"hashbeam_{name}{{{shown}}} {_number(value)}"


def parse(text: str) -> Samples:
    """The samples that `as_text` gave; whatever else the text holds is passed over.

    >>> samples = {"runs_total": {(("index", 'a\\\\"'), ("verb", "index")): 3.0}}
    >>> parse(as_text(samples)) == samples
    True
    """
    samples: Samples = {}
    for line in text.split("\n"):
        found = _SAMPLE.fullmatch(line)
        if found is None or found[1] not in _FAMILIES:
            continue
        with contextlib.suppress(ValueError):
            pairs = _LABEL.findall(found[2])
            labels = tuple((label, _unescaped(value)) for label, value in pairs)
            samples.setdefault(found[1], {})[labels] = float(found[3])
    return samples


class RunMetrics:
    """Writes the metrics of a run when its block ends, well or not; nothing where `path` is "".

    >>> with RunMetrics("", "index", "music.index") as metrics:
    ...     pass
    """

    def __init__(
        self, path: str, verb: str, index: str, clock: Callable[[], float] = time.time
    ) -> None:
        """Raises: UsageError where a folder stands in the way."""
        if path and io.is_dir(path):
            raise UsageError(f"--metrics: {path} is a folder; name a file")
        self._path, self._verb, self._index, self._clock = path, verb, index, clock
        self._summary: Summary | None = None

    def note(self, summary: Summary) -> Summary:
        """Keeps what the run did, and gives it back: without it the run counts as failed."""
        self._summary = summary
        return summary

    def __enter__(self) -> RunMetrics:
        self._started = self._clock()
        return self

    def __exit__(self, kind: object, error: object, _: object) -> None:
        if not self._path or isinstance(error, SentAwayError):  # whoever finishes it will tell
            return
        try:
            self.write(None if kind else self._summary)
        except HashbeamError as problem:
            if kind is None:
                raise
            # The error of the run itself is what is told.
            print(f"hashbeam {self._verb}: metrics were not written: {problem}", file=sys.stderr)

    def write(self, summary: Summary | None) -> None:
        """Replaces the file at once; raises HashbeamError where that cannot be done."""
        ended = self._clock()
        data = io.read_if_exists(self._path) or b""
        samples = samples_of(
            summary,
            index=self._index,
            verb=self._verb,
            ended=ended,
            wall_s=ended - self._started,
            earlier=parse(data.decode("utf-8", "replace")),
        )
        io.write_bytes(self._path, as_text(samples).encode())


def _add(samples: Samples, name: str, labels: Labels, value: float) -> None:
    values = samples.setdefault(name, {})
    before = values.get(labels, 0.0)
    values[labels] = value + (before if math.isfinite(before) else 0.0)


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def _unescaped(text: str) -> str:
    return re.sub(r"\\.", lambda found: _PLAIN.get(found[0], found[0][1:]), text)


def _number(value: float) -> str:
    """
    >>> _number(3.0), _number(0.25), _number(float("inf")), _number(1e15)
    ('3', '0.25', '+Inf', '1000000000000000')
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
