"""The life of an index, on a disk and on ``gs://``: the same tests for both."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty_proxy import Fault, FaultyProxy
from index_helpers import error_line
from made_up_manifest import made_up_manifest
from published_index import wav
from tiny_catalog import RATE, write_rows

from hashing.errors import HashbeamError
from hashing.models import DEFAULT_MODEL
from hashing.synthesis import render_track
from pipelines import gcs, io, parquet, publication, versions
from pipelines.cli import main
from pipelines.lock import IndexLock
from pipelines.opened import open_index
from pipelines.versions import Manifest, current_version, open_manifest

SECONDS = 8.0
TRACKS = 9  # in two parts


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tracks s0, s1, … and a catalogue of them; s3 is no audio."""
    folder = tmp_path_factory.mktemp("music")
    rows = []
    for number in range(TRACKS):
        wav(folder / f"s{number}.wav", song(number))
        names = {"artist_name": "Ann" if number % 2 else "Bob", "title": f"Song {number}"}
        rows.append({"track_id": f"s{number}", "uri": f"s{number}.wav", **names})
    (folder / "s3.wav").write_bytes(b"no audio at all")
    write_rows(folder / "catalog.csv", rows)
    wav(folder / "query.wav", song(7)[2 * RATE : 6 * RATE])
    queries = [{"query_id": "q", "uri": "query.wav"}, {"query_id": "gone", "uri": "gone.wav"}]
    write_rows(folder / "queries.csv", queries)
    return folder


def song(number: int) -> np.ndarray:
    return render_track(number, SECONDS, RATE)


@pytest.fixture
def catalog(root: str, music: Path) -> str:
    """The music in the store, beside what will be the index."""
    for path in music.iterdir():
        io.write_bytes(io.join(root, "music", path.name), path.read_bytes())
    return io.join(root, "music", "catalog.csv")


def command(catalog: str, index: str, *flags: str) -> list[str]:
    names = ["--catalog", catalog, "--out", index, "--model", DEFAULT_MODEL]
    return ["index", *names, "--workers", "1", "--max-failures", "0.2", *flags]


def test_the_life_of_an_index(root: str, catalog: str, capsys: pytest.CaptureFixture[str]) -> None:
    index, out = io.join(root, "music.index"), io.join(root, "answers")
    assert main([*command(catalog, index, "--also", "artist,sequence"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["tracks_indexed"], summary["tracks_failed"]) == (TRACKS - 1, 1)
    manifest = open_manifest(index)
    # Nothing but what the manifest names: no temporary file, no lock, no work.
    named = {*manifest.files.column("path"), "CURRENT"}
    named |= {f"versions/000001/{name}.json" for name in ("manifest", "run")}
    assert set(io.list_files(index)) == named

    assert main(["info", index, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tracks_hashed"] == TRACKS - 1
    assert main(["verify", index]) == 0
    capsys.readouterr()

    query = io.join(root, "music", "query.wav")
    assert main(["lookup", "--index", index, query, "--json"]) == 0
    (match, *_) = json.loads(capsys.readouterr().out)["matches"]
    assert match["track_id"] == "s7"
    assert abs(match["offset_s"] - 2.0) <= 0.25

    queries = io.join(root, "music", "queries.csv")
    names = ["--index", index, "--queries", queries, "--out", out, "--workers", "1"]
    assert main(["lookup", *names, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["matched"], found["failed"]) == (1, 1)
    matches = parquet.read_table(io.join(out, "matches", "part-00000.parquet")).to_pylist()
    assert matches[0] == {"query_id": "q", **{k: match[k] for k in match_columns(out)[1:]}}

    names = ["--catalog", catalog, "--index", index, "--out", io.join(root, "artists")]
    assert main(["disambiguate", *names, "--workers", "1"]) == 0
    clusters = parquet.read_table(io.join(root, "artists", "clusters.parquet"))
    assert clusters.num_rows == TRACKS
    capsys.readouterr()

    # An index that is published is not written over.
    assert main(command(catalog, index)) != 0
    assert "holds a published index (version 000001)" in error_line(capsys)
    # A flipped byte is found.
    broken = io.join(index, manifest.files.select(kind="tables").column("path")[3])
    data = bytearray(io.read_bytes(broken))
    data[-1] ^= 1
    io.write_bytes(broken, bytes(data))
    assert main(["verify", index]) == 1
    assert broken in capsys.readouterr().out


def match_columns(out: str) -> list[str]:
    return parquet.read_table(io.join(out, "matches", "part-00000.parquet")).column_names


def test_the_store_makes_no_difference(
    bucket: str, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in music.iterdir():
        io.write_bytes(f"{bucket}/music/{path.name}", path.read_bytes())
    here, there = str(tmp_path / "index"), f"{bucket}/index"
    assert main(command(str(music / "catalog.csv"), here)) == 0
    assert main(command(f"{bucket}/music/catalog.csv", there)) == 0
    files = [open_manifest(index).files for index in (here, there)]
    for kind in ("codes", "tables", "matrices"):
        sums = [chosen.select(kind=kind).column("sha256") for chosen in files]
        assert sums[0] == sums[1] != []
    capsys.readouterr()
    answers = []
    for index in (here, there):
        assert main(["lookup", "--index", index, str(music / "query.wav"), "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out)["matches"])
    assert answers[0] == answers[1] != []


def start(*arguments: str) -> subprocess.Popen[str]:
    """``hashbeam …`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(io.__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100
    while not seen():
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.02)


def test_a_killed_run_goes_on_where_it_was(
    root: str, catalog: str, capsys: pytest.CaptureFixture[str]
) -> None:
    index = io.join(root, "music.index")
    receipts = io.join(index, "versions", "000001", "work", "receipts")
    with start(*command(catalog, index)) as process:
        wait_for(process, lambda: bool(io.list_dir(receipts)))
        # Meanwhile it is refused to another writer.
        assert main(command(catalog, index)) != 0
        assert f"is being written by process {process.pid} of host" in error_line(capsys)
        process.send_signal(signal.SIGKILL)
    done = io.list_dir(receipts)
    assert current_version(index) is None
    assert io.exists(io.join(index, "LOCK"))
    kept = {name: io.read_bytes(io.join(receipts, name)) for name in done}
    again = []
    real = io.create_exclusive

    def create(path: str, data: Any) -> bool:
        again.append(path.rsplit("/", 1)[-1])
        return real(path, data)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(io, "create_exclusive", create)
        assert main(command(catalog, index)) == 0
    assert kept
    assert not set(again) & set(kept)
    assert not io.exists(io.join(index, "LOCK"))
    assert main(["verify", index]) == 0


def is_part(name: str) -> bool:
    """Whether this is the receipt of a part."""
    return name.startswith("part-")


def test_a_night_that_was_cut_short(
    root: str, catalog: str, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The workers of reindex, duplicates and compact, on music; the first reindex is killed."""
    index, out = io.join(root, "music.index"), io.join(root, "copies")
    folder = io.join(root, "music")
    assert main(command(catalog, index)) == 0
    # s0 has another recording, s3 was mended, s5 has gone, s6 was copied, fresh ones came.
    rows = [
        {"track_id": f"s{number}", "uri": f"s{number}.wav", "title": f"Song {number}"}
        for number in (0, 1, 2, 3, 4, 6, 7, 8, 60, 70, 71, 72, 73, 74, 75, 76, 77)
    ]
    for number, seed in {0: 90, 3: 3, 60: 6, **{n: n for n in range(70, 78)}}.items():
        made = wav(tmp_path / "made.wav", song(seed))
        io.write_bytes(io.join(folder, f"s{number}.wav"), made.read_bytes())
    written = write_rows(tmp_path / "catalog.csv", rows)
    io.write_bytes(catalog, written.read_bytes())
    night = ["--catalog", catalog, "--index", index, "--workers", "2"]
    night = ["reindex", *night, "--max-shrink", "0.5"]
    receipts = io.join(index, "versions", "000002", "work", "receipts")
    with start(*night) as process:
        wait_for(process, lambda: any(map(is_part, io.list_dir(receipts))))
        process.send_signal(signal.SIGKILL)
    assert current_version(index) == "000001"
    parts = len(list(filter(is_part, io.list_dir(receipts))))
    assert main(["verify", index]) == 0
    capsys.readouterr()
    assert main([*night, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["tracks_indexed"], told["tracks_failed"]) == ("000002", 17, 0)
    # A worker that had outlived its launcher may have finished another one.
    assert told["parts_resumed"] >= parts > 0
    assert main(["verify", index]) == 0

    assert main(["duplicates", index, "--out", out, "--workers", "1"]) == 0
    pairs = parquet.read_table(io.join(out, "duplicates.parquet")).to_pylist()
    assert [(row["track_id"], row["other_track_id"], row["relation"]) for row in pairs] == [
        ("s6", "s60", "same")
    ]
    assert main(["compact", index, "--all", "--workers", "1"]) == 0
    assert main(["verify", index]) == 0
    assert len(open_manifest(index).segments) == 1
    capsys.readouterr()
    query = io.join(folder, "query.wav")
    assert main(["lookup", "--index", index, query, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["matches"][0]["track_id"] == "s7"
    assert main(["rollback", index]) == 0
    assert main(["verify", index]) == 0


def test_two_writers_and_a_stale_lock(
    root: str, catalog: str, capsys: pytest.CaptureFixture[str]
) -> None:
    index = io.join(root, "music.index")
    path = io.join(index, "LOCK")
    with IndexLock(index):
        assert main(command(catalog, index)) != 0
        assert f"is being written by process {os.getpid()} of host" in error_line(capsys)
        values = json.loads(io.read_bytes(path))
    assert not io.exists(path)
    # Of another machine: alive as long as its lease, and then dead.
    far = {**values, "host": "elsewhere", "lease_end": time.time() + 60}
    io.write_bytes(path, json.dumps(far).encode())
    assert main(command(catalog, index)) != 0
    assert "of host elsewhere" in error_line(capsys)
    io.write_bytes(path, json.dumps({**far, "lease_end": time.time() - 1}).encode())
    with IndexLock(index) as lock:
        lock.check()
    # Of this machine, by a process that is no more.
    io.write_bytes(path, json.dumps({**values, "process_start": "1"}).encode())
    with IndexLock(index) as lock:
        lock.check()
    assert io.list_files(index) == {}


def test_a_holder_that_was_overtaken_notices_and_harms_nobody(root: str) -> None:
    index = io.join(root, "music.index")
    with IndexLock(index, lease_s=0.3) as lock:
        path = io.join(index, "LOCK")
        values = json.loads(io.read_bytes(path))
        taken = json.dumps({**values, "token": "another", "host": "elsewhere"}).encode()
        io.write_bytes(path, taken)
        time.sleep(0.5)  # several renewals
        assert io.read_bytes(path) == taken
        with pytest.raises(HashbeamError, match=r"was taken by process .* of host elsewhere"):
            lock.check()
    assert io.read_bytes(path) == taken


def version(number: str, parent: str | None, created: str) -> Manifest:
    """A version without files, told by when it was made."""
    return made_up_manifest(version=number, parent=parent, created=created)


@pytest.mark.parametrize("moment", ["manifest", "pointer"])
def test_a_pointer_that_was_moved_meanwhile_is_not_moved(root: str, moment: str) -> None:
    """Two writers, of whom one has lost the lock without knowing, publish at the same time."""
    publication.publish(root, version("000001", None, "first"))
    mine, theirs = (version("000002", "000001", name) for name in ("mine", "theirs"))
    real = io.replace_if
    word = "manifest.json" if moment == "manifest" else "CURRENT"

    def replace_if(path: str, data: Any, stamp: str | None) -> str | None:
        if path.endswith(word):
            patched.undo()
            io.remove(versions.version_path(root, "000002", "manifest.json"))
            publication.publish(root, theirs)
        return real(path, data, stamp)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(io, "replace_if", replace_if)
        with pytest.raises(HashbeamError, match="another writer has published at the same time"):
            publication.publish(root, mine)
    assert open_manifest(root).created == "theirs"


def test_of_many_writers_one_publishes(root: str) -> None:
    publication.publish(root, version("000001", None, "first"))
    start, said = threading.Barrier(6), []

    def publish(number: int) -> None:
        start.wait()
        try:
            # Each with a version of its own: the pointer decides.
            publication.publish(root, version(f"{number:06d}", "000001", str(number)))
            said.append("")
        except HashbeamError as error:
            said.append(str(error))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(2, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count("") == 1
    for text in filter(None, said):
        assert "nothing was published by this one" in text or "started from 000001" in text
    manifest = open_manifest(root)
    assert manifest.created == str(int(manifest.version))


def test_a_bad_line_from_beginning_to_end(
    proxy: FaultyProxy, music: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every eighth request is broken, each time in another way."""
    name = f"bucket-{os.urandom(4).hex()}"
    gcs.client().create_bucket(name)
    for path in music.iterdir():
        io.write_bytes(f"gs://{name}/music/{path.name}", path.read_bytes())
    kinds = [503, 429, 500, "reset", "torn upload", "lost answer", "torn download"]
    requests = itertools.count(1)

    class EveryEighth(list[Fault]):
        def __iter__(self) -> Iterator[Fault]:
            number = next(requests)
            if number % 8 == 0:
                yield Fault(kinds[number // 8 % len(kinds)])

    proxy.faults = EveryEighth()
    index = f"gs://{name}/index"
    assert main(command(f"gs://{name}/music/catalog.csv", index)) == 0
    assert main(["verify", index]) == 0
    capsys.readouterr()
    assert main(["lookup", "--index", index, f"gs://{name}/music/query.wav", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["matches"][0]["track_id"] == "s7"
    assert set(proxy.met) == set(kinds)
    assert len(proxy.met) > 20
    # To open it asks for the pointer and the manifest, which says how large everything is.
    proxy.faults = []
    proxy.seen.clear()
    open_index(index)
    names = [re.split("%2F|/", request.split("?")[0])[-1] for request in proxy.seen]
    assert names == ["CURRENT", "manifest.json"]
