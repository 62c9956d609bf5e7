"""The command line: exit states, one line for each mistake, and what is imported when."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.errors import CatalogError, HashbeamError, UsageError
from pipelines import cli, verbs
from pipelines.cli import main, parse
from pipelines.index_options import index_options
from pipelines.options import Checker

ROOT = Path(cli.__file__).parent.parent
INDEX = ["index", "--catalog", "c.csv", "--out", "o"]


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Stderr, which must be one line without a traceback."""
    text = capsys.readouterr().err
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--nonsense"], "unknown flag --nonsense"),
        (["--worker=2"], "unknown flag --worker (did you mean --workers?)"),
        (["--max", "0.5"], "unknown flag --max; unexpected argument '0.5'"),  # no abbreviations
        (["extra"], "unexpected argument 'extra'"),
        (["--workers", "0"], "--workers: must be from 1 to 1024, got 0"),
        (["--workers", "two"], "--workers: must be a whole number, got 'two'"),
        (["--workers", "1.5"], "--workers: must be a whole number, got '1.5'"),
        (["--max-failures", "7"], "--max-failures: must be from 0 to 1, got 7"),
        (["--max-failures", "nan"], "--max-failures: must be a number, got 'nan'"),
        (["--key-bits", "33"], "--key-bits: must be from 1 to 32, got 33"),
        (["--max-track-hours", "0"], "--max-track-hours: must be 0.001 or more, got 0"),
        (["--decode-timeout", "-1"], "--decode-timeout: must be 0.1 or more, got -1"),
        (["--workers"], "argument --workers: expected one argument; see hashbeam index --help"),
        (["--runner"], "Beam: argument --runner"),
        (["--runner=NoSuchRunner", "--catalog="], "--catalog: is needed"),
    ],
)
def test_a_usage_mistake_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main([*INDEX, *arguments]) == 2
    line = error_line(capsys)
    assert line.startswith("hashbeam index: error: ")
    assert expected in line


def test_all_mistakes_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "--workers=0", "--max-failures=x", "--what", "--key-bits=0"]) == 2
    line = error_line(capsys)
    for flag in ("--workers", "--max-failures", "--what", "--key-bits", "--catalog", "--out"):
        assert flag in line


def test_flags_of_beam_are_passed_on() -> None:
    flags = ["--runner", "DataflowRunner", "--temp_location=gs://b/t", "--experiments=x"]
    module, args, beam_args = parse("index", [*INDEX[1:], *flags])
    assert beam_args == flags
    assert module.__name__ == "pipelines.index"
    assert args.verb == "index"
    # Workers elsewhere have another working folder.
    assert args.catalog == os.path.abspath("c.csv")
    assert parse("index", INDEX[1:])[1].catalog == "c.csv"


def test_flags_become_a_checked_dataclass() -> None:
    _, args, _ = parse("index", [*INDEX[1:], "--workers=3", "--key-bits=20", "--max-failures=0"])
    options = index_options(args)
    assert (options.workers, options.key_bits, options.bounds.max_failures) == (3, 20, 0.0)
    assert (options.catalog, options.out, options.model) == ("c.csv", "o", None)
    assert (options.max_track_hours, options.decode_timeout_s) == (2.0, 60.0)
    _, args, _ = parse("index", INDEX[1:])
    assert index_options(args).key_bits is None
    assert index_options(args).workers >= 1


@given(st.integers(), st.integers(0, 50), st.integers(0, 50))
def test_integers_are_kept_or_named(value: int, low: int, more: int) -> None:
    checker = Checker(argparse.Namespace(n=str(value)))
    number = checker.integer("--n", low=low, high=low + more)
    assert bool(checker.problems) == (not low <= value <= low + more)
    assert number == (value if not checker.problems else low)


@pytest.mark.parametrize("arguments", [["frobnicate"], ["--workers", "0"], ["INDEX"]])
def test_an_unknown_verb_names_those_there_are(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 2
    line = error_line(capsys)
    assert arguments[0] in line
    assert "index, reindex" in line


def test_help_names_every_verb_and_no_verb_is_a_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in verbs.VERBS)
    assert main([]) == 2


@pytest.mark.parametrize("verb", ["index", "catalog", "info", "verify"])
def test_the_help_of_a_verb_has_an_example(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert main([verb, "--help"]) == 0
    assert f"hashbeam {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (HashbeamError("two\nlines"), 1),
        (UsageError("u"), 2),
        (CatalogError("c"), 2),
        (OSError(28, "No space left on device"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_a_user_can_cause_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
) -> None:
    def run(args: argparse.Namespace, beam_args: list[str]) -> int:
        raise error

    module = types.SimpleNamespace(DESCRIPTION="", add_arguments=lambda parser: None, run=run)
    monkeypatch.setitem(sys.modules, "pipelines.some_verb", module)
    monkeypatch.setitem(verbs.VERBS, "some", verbs.Verb("pipelines.some_verb", "x"))
    assert main(["some"]) == status
    assert error_line(capsys).startswith("hashbeam some: error: ")


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace, beam_args: list[str]) -> int:
        raise ZeroDivisionError

    module = types.SimpleNamespace(DESCRIPTION="", add_arguments=lambda parser: None, run=run)
    monkeypatch.setitem(sys.modules, "pipelines.some_verb", module)
    monkeypatch.setitem(verbs.VERBS, "some", verbs.Verb("pipelines.some_verb", "x"))
    with pytest.raises(ZeroDivisionError):
        main(["some"])


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_help_and_info_import_nothing_heavy(tmp_path: Path) -> None:
    heavy = ["apache_beam", "torch", "librosa", "onnxruntime", "scipy", "numba", "av"]
    code = (
        "import sys, json; from pipelines.cli import main; main(sys.argv[1:]); "
        f"print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    )
    for arguments in (["--help"], ["info", str(tmp_path)], ["index2"]):
        done = run_python("-c", code, *arguments)
        assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_job_runs_as_a_module_with_its_error_in_one_line() -> None:
    done = run_python("-m", "pipelines.index", "--catalog", "no.csv", "--out", "x", "--workers=0")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "hashbeam index: error: --workers: must be from 1 to 1024, got 0"
    ]
    assert run_python("-m", "pipelines", "--version").stdout.startswith("hashbeam ")
