"""Mutated files through the decoder as the index job uses it: each one is indexed or explained."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import audio_fuzz
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from tiny_catalog import RATE, tune

from hashing.encoders import Hasher
from hashing.listening import ListeningDecoder
from pipelines.parts import HashJob, hash_part, write_parts
from pipelines.runs import Plan, Receipt, Run

TIMEOUT_S = 20.0  # of a track; a busy machine needs a tenth of it for the slowest
QUICK = 60
# Kinds of errors that say what is wrong with a file; any other is a defect of ours.
EXPLAINED = {
    "empty", "no-samples", "not-audio", "silent", "too-long", "too-short", "truncated",
    "unreadable",
}  # fmt: skip


@pytest.fixture(scope="module")
def hasher(model_folder: Path) -> Hasher:
    return Hasher.load(str(model_folder))


def hash_files(
    folder: Path, files: list[str], hasher: Hasher, decoder: ListeningDecoder, timeout_s: float
) -> tuple[Receipt, dict[str, dict[str, str]], dict[str, int]]:
    """One part of these files: its receipt, the failures by name, snippets of the others."""
    catalog = pa.table({"track_id": files, "uri": [str(folder / name) for name in files]})
    plan = Plan("000001", "c", "m", "x", {}, len(files), 1, "now")
    run = Run(str(folder / "index"), plan)
    path = Path(run.work, "catalog.parquet")
    path.parent.mkdir(parents=True)
    pq.write_table(catalog, path)  # one part, however many
    write_parts(run, catalog)
    receipt = hash_part(HashJob(run, 7200.0, timeout_s), 0, hasher, decoder)
    found: dict[str, pa.Table] = {
        entry.kind: pq.read_table(Path(run.index, entry.path)) for entry in receipt.files
        if entry.path.endswith(".parquet")
    }  # fmt: skip
    failures = found["failures"].to_pylist() if "failures" in found else []
    hashed = found["tracks"].to_pylist() if "tracks" in found else []
    return (
        receipt,
        {row["track_id"]: row for row in failures},
        {row["track_id"]: row["snippets"] for row in hashed},
    )


def check_mutants(folder: Path, numbers: Iterable[int], hasher: Hasher) -> None:
    """Each is indexed or in failures with a reason, in time, and every neighbour is indexed."""
    names = []
    for number in numbers:
        name, data = audio_fuzz.mutant(number)
        (folder / name).write_bytes(data)
        names.append(name)
        if number % 10 == 9:
            names.append(f"neighbour-{number}.wav")
            soundfile.write(folder / names[-1], tune(number, 2.0), RATE)
    neighbours = {name for name in names if name.startswith("neighbour")}
    with ListeningDecoder() as decoder:
        decoder.prepare(hasher)
        started = time.monotonic()
        receipt, failures, hashed = hash_files(folder, names, hasher, decoder, TIMEOUT_S)
        took = time.monotonic() - started
    assert sorted([*failures, *hashed]) == sorted(names)
    assert neighbours <= hashed.keys()
    assert len({hashed[name] for name in neighbours}) == 1  # none lost a snippet
    assert took < TIMEOUT_S * len(names) / 20
    unexplained = {
        name: (row["error"], row["message"])
        for name, row in failures.items()
        if row["error"] not in EXPLAINED
    }
    assert unexplained == {}
    assert all(row["message"] and row["size"] is not None for row in failures.values())
    assert receipt.counters["tracks_failed"] == len(failures)
    # Mutations that do neither nothing nor everything.
    assert 0.1 < len(failures) / len(names) < 0.9


def test_sixty_mutated_files(tmp_path: Path, hasher: Hasher) -> None:
    check_mutants(tmp_path, range(QUICK), hasher)


@pytest.mark.skipif("HASHBEAM_SLOW" not in os.environ, reason="minutes: `make test-slow`")
def test_a_thousand_mutated_files(tmp_path: Path, hasher: Hasher) -> None:
    check_mutants(tmp_path, range(1000), hasher)


def test_mutants_are_the_same_for_a_seed_and_differ() -> None:
    numbers = range(30)
    assert [audio_fuzz.mutant(n) for n in numbers] == [audio_fuzz.mutant(n) for n in numbers]
    assert len({audio_fuzz.mutant(n)[1] for n in numbers}) == len(numbers)
    for number in numbers:
        name, data = audio_fuzz.mutant(number)
        assert data != audio_fuzz.whole_file(name.rpartition(".")[2])


# The real child, whose decoder crashes, aborts or hangs as a native library does.
CRASHING = """
import ctypes, os, signal, time
from hashing import audio, decoder_child

decode = audio.decode_blocks

def crash(path, *args, **kwargs):
    blocks = decode(path, *args, **kwargs)
    if "segfault" in path:
        yield next(blocks)
        ctypes.string_at(0)
    if "abort" in path:
        os.abort()
    if "exit" in path:
        os._exit(7)
    if "killed" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in path:
        time.sleep(60)
    yield from blocks

audio.decode_blocks = crash
decoder_child.main()
"""
CRASHES = {
    "segfault": ("crashed", "SIGSEGV"),
    "abort": ("crashed", "SIGABRT"),
    "exit": ("crashed", "exit status 7"),
    "killed": ("crashed", "SIGKILL"),
    "hang": ("timeout", "nothing in 3 s"),
}


def test_of_fifty_tracks_ten_crash_the_decoder_and_forty_are_indexed(
    tmp_path: Path, hasher: Hasher
) -> None:
    kinds = ["segfault", "abort", "exit", "killed"] * 2 + ["segfault", "hang"]
    names = [f"{number:02d}.wav" for number in range(50)]
    places = np.random.default_rng(0).permutation(49)[:8].tolist()
    for place, kind in zip([*places, 49, 48], kinds, strict=True):  # two in a row, and the last
        names[place] = f"{place:02d}-{kind}.wav"
    for name in names:
        soundfile.write(tmp_path / name, tune(int(name[:2]), 2.0), RATE)
    with ListeningDecoder([sys.executable, "-c", CRASHING]) as decoder:
        decoder.prepare(hasher)
        receipt, failures, hashed = hash_files(tmp_path, names, hasher, decoder, 3.0)
    assert (len(hashed), len(failures)) == (40, 10)
    for name, row in failures.items():
        error, message = CRASHES[name[3:-4]]
        assert (row["stage"], row["error"]) == ("decode", error)
        assert message in row["message"]
    assert set(hashed.values()) == {next(iter(hashed.values()))}
    assert receipt.counters["failed_crashed"] == 9
    assert receipt.counters["failed_timeout"] == 1
