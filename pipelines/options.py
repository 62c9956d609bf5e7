"""From parsed flags to a frozen dataclass of checked values, all mistakes reported at once."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from hashing.errors import UsageError
from pipelines.allowed import Allowed, allowed_now

MAX_TRACK_HOURS = (
    2.0  # hours: the longest concert recordings; spectrogram and codes stay below 40 MB
)
DECODE_TIMEOUT_S = 60.0  # s without one decoded block: 1000 times what a slow disk needs
MIN_KEY_BITS = 12  # 4096 buckets: the smallest index still spreads its postings
HIGHEST_KEY_BITS = 32  # a key is packed with its posting into 64 bits
HIGHEST_WORKERS = 1024  # processes on one machine; beyond that it is a typing mistake


class Checker:
    """Converts flags that argparse left as text, and collects what is wrong with them.

    >>> checker = Checker(argparse.Namespace(workers="0", max_failures="7"))
    >>> _ = checker.integer("--workers", low=1), checker.number("--max-failures", low=0, high=1)
    >>> checker.finish()
    Traceback (most recent call last):
    hashing.errors.UsageError: --workers: must be 1 or more, got 0; --max-failures: must be \
from 0 to 1, got 7
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self.problems: list[str] = []

    def given(self, flag: str) -> bool:
        """Whether the flag has a value that is not empty."""
        return self._value(flag) not in (None, "")

    def is_auto(self, flag: str) -> bool:
        """Whether the flag leaves its value to be chosen."""
        return str(self._value(flag)) == "auto"

    def text(self, flag: str) -> str:
        """A flag that must be given."""
        if not self.given(flag):
            self.problems.append(f"{flag}: is needed")
        return str(self._value(flag) or "")

    def integer(self, flag: str, *, low: int, high: int | None = None) -> int:
        """A whole number from `low` to `high`."""
        value = self._value(flag)
        try:
            number = int(str(value))
        except ValueError:
            self.problems.append(f"{flag}: must be a whole number, got {value!r}")
            return low
        return int(self._within(flag, number, low, high))

    def number(self, flag: str, *, low: float, high: float | None = None) -> float:
        """A finite number from `low` to `high`."""
        value = self._value(flag)
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.problems.append(f"{flag}: must be a number, got {value!r}")
            return low
        return self._within(flag, number, low, high)

    def folder(self, flag: str, path: str) -> None:
        """Notes a path that is a file and no folder: that would show after hours of work."""
        from pipelines import io

        if path and io.exists(path) and not io.is_dir(path):
            self.problems.append(f"{flag}: {path} is a file; name a folder")

    def finish(self) -> None:
        """Raises: UsageError with everything that was found, each naming its flag."""
        if self.problems:
            raise UsageError("; ".join(self.problems))

    def _value(self, flag: str) -> object:
        return getattr(self._args, flag.lstrip("-").replace("-", "_"), None)

    def _within(self, flag: str, value: float, low: float, high: float | None) -> float:
        if value < low or (high is not None and value > high):
            wanted = f"{low:g} or more" if high is None else f"from {low:g} to {high:g}"
            self.problems.append(f"{flag}: must be {wanted}, got {value:g}")
            return low
        return value


@dataclasses.dataclass(frozen=True)
class LookupOptions:
    """What ``hashbeam lookup`` was asked to do; either `files` or `queries` and `out`.

    `duplicates` is the folder of ``hashbeam duplicates`` whose groups are one answer, or "";
    `allowed` is where uris may lead.
    """

    index: str
    files: tuple[str, ...]
    queries: str
    out: str
    model: str | None
    top: int
    min_score: float
    probes: int
    workers: int
    max_query_hours: float
    decode_timeout_s: float
    json: bool
    quiet: bool
    progress: bool
    duplicates: str = ""
    allowed: Allowed = dataclasses.field(default_factory=allowed_now)


def add_decode_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of every command that decodes what strangers made."""
    parser.add_argument(
        "--decode-timeout",
        metavar="S",
        default=DECODE_TIMEOUT_S,
        help="seconds after which a decoder that says nothing is stopped (%(default)s)",
    )


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that every Beam job has."""
    parser.add_argument(
        "--workers",
        metavar="N",
        help="processes of the local engine (default: one for each core)",
    )
    add_output_arguments(parser)


def add_detach_argument(parser: argparse.ArgumentParser) -> None:
    """The flag of verbs that can be sent and not waited for."""
    parser.add_argument(
        "--detach",
        action="store_true",
        help="send the job to its --runner and end: the job's last step, on a worker, finishes "
        "what this command is for",
    )


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say what is printed."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress, no notes")
    parser.add_argument(
        "--progress", action="store_true", help="show progress where stderr is no terminal, too"
    )


def workers(checker: Checker) -> int:
    """``--workers``, or one for each core that this process may use."""
    if not checker.given("--workers"):
        return len(os.sched_getaffinity(0))
    return checker.integer("--workers", low=1, high=HIGHEST_WORKERS)


def key_bits(checker: Checker) -> int | None:
    """``--key-bits``; None where it is "auto", by the size of the index."""
    if checker.is_auto("--key-bits"):
        return None
    return checker.integer("--key-bits", low=1, high=HIGHEST_KEY_BITS)


def unknown_flags(leftover: Sequence[str], known: Iterable[str], *, beam: bool) -> list[str]:
    """One line for each argument that neither the verb nor Beam knows.

    Beam is asked (and imported, 2 s) only when something is left over and the verb is a job.

    >>> unknown_flags(["--worker=2", "x"], ["--workers"], beam=False)
    ['unknown flag --worker (did you mean --workers?)', "unexpected argument 'x'"]
    """
    rest = _unknown_to_beam(leftover) if beam and leftover else list(leftover)
    problems = []
    for argument in rest:
        if argument.startswith("-") and argument != "-":
            flag = argument.split("=", 1)[0]
            close = difflib.get_close_matches(flag, list(known), n=1, cutoff=0.75)
            hint = f" (did you mean {close[0]}?)" if close else ""
            problems.append(f"unknown flag {flag}{hint}")
        else:
            problems.append(f"unexpected argument {argument!r}")
    return problems


class _BeamParser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"Beam: {message}")


def _unknown_to_beam(flags: Sequence[str]) -> list[str]:
    from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

    parser = type("Parser", (_BeamParser, _BeamArgumentParser), {})(
        allow_abbrev=False, add_help=False
    )
    # Beam keeps the flags of each runner and file system in a subclass; the same one may have been
    # registered twice, and adding its flags twice would raise.
    for options in {str(cls): cls for cls in PipelineOptions.__subclasses__()}.values():
        options._add_argparse_args(parser)
    return list(parser.parse_known_args(list(flags))[1])


def short_path(path: str) -> str:
    """A path by its last two parts: what a file is, and not where it was on one machine.

    Catalogues mostly have one name: that of their folder tells them apart.

    >>> short_path("/data/clips/labels.csv")
    'clips/labels.csv'
    """
    return str(Path(*Path(path).absolute().parts[-2:]))


def first_named(arguments: Sequence[str], kinds: Collection[str]) -> str | None:
    """The kind of a verb that is named first; what follows a flag only where nothing else is one.

    >>> first_named(["--index", "search", "index"], ("index", "search")), first_named(["x"], ("y",))
    ('index', None)
    """
    after = zip(("", *arguments), arguments, strict=False)
    named = [(before.startswith("-"), word) for before, word in after if word in kinds]
    return min(named, key=lambda one: one[0])[1] if named else None
