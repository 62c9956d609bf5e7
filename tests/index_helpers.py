"""What tests of the index job share: to run it, and to read what it wrote."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from pipelines.versions import Manifest, open_manifest


def run_index(catalog: Path, out: Path, model: Path, *flags: str) -> int:
    """The exit status of ``hashbeam index`` in this process."""
    names = ["--catalog", str(catalog), "--out", str(out), "--model", str(model)]
    return main(["index", *names, "--workers", "1", *flags])


def error_line(capsys: pytest.CaptureFixture[str], verb: str = "index") -> str:
    """What a verb said on stderr, which must be one line, beside those of tracks that failed."""
    lines = capsys.readouterr().err.splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith(f"hashbeam {verb}: track "))
    assert text.count("\n") == 1, text
    assert text.startswith(f"hashbeam {verb}: error: ")
    return text


def paths(index: Path, manifest: Manifest, kind: str) -> list[Path]:
    """The files of one kind."""
    return [index / entry.path for entry in manifest.files.select(kind=kind)]


def codes_of(index: Path, manifest: Manifest) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Track ids, snippet numbers and codes of a whole index, in order."""
    tables = [pq.read_table(path) for path in paths(index, manifest, "codes")]
    ids = [name for table in tables for name in table["track_id"].to_pylist()]
    snippet = np.concatenate([table["snippet"].to_numpy() for table in tables])
    code = [value for table in tables for value in table["code"].to_pylist()]
    return ids, snippet, np.frombuffer(b"".join(code), np.uint8).reshape(len(code), -1)


def numbers_of(ids: list[str], snippet: np.ndarray) -> np.ndarray:
    """The number of each snippet in its segment, track by track: silent ones keep theirs."""
    numbers, first = [], 0
    for name in sorted(set(ids)):
        within = [int(snippet[row]) for row, other in enumerate(ids) if other == name]
        numbers += [first + number for number in within]
        first += within[-1] + 1
    return np.array(numbers)


def assert_same_content(one: Path, other: Path) -> None:
    """Two indexes have the same rows, and the same bytes of tables and matrices."""
    first, second = open_manifest(str(one)), open_manifest(str(other))
    for a, b in zip(codes_of(one, first), codes_of(other, second), strict=True):
        np.testing.assert_array_equal(a, b)
    for kind in ("tables", "matrices"):
        files = [manifest.files.select(kind=kind) for manifest in (first, second)]
        assert files[0].column("sha256") == files[1].column("sha256")
    assert first.segments == second.segments
    assert first.key_bits == second.key_bits


@contextlib.contextmanager
def full_disk_for(*words: str) -> Iterator[None]:
    """Every file that is made with these words in its path is the kernel's own full device."""
    real = os.open

    def open_full(path: str, flags: int, *args: int, **named: int) -> int:
        full = flags & os.O_CREAT and all(word in str(path) for word in words)
        return real("/dev/full", os.O_WRONLY) if full else real(path, flags, *args, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "open", open_full)
        yield
