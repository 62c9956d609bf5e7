"""The roles of `deploy/roles`, proven by runs: accounts do their work with them, and use all."""

from __future__ import annotations

import functools
import json
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.dataflow import dataflow_runner
from faulty_proxy import FaultyProxy, serving
from index_helpers import error_line
from published_index import wav
from quick_index import QuickJobs, song
from rights_dataflow import dataflow_service
from rights_gateway import Grant, RightsGateway, role
from stored_songs import StoredSongs
from tiny_catalog import RATE, write_rows

from hashing.errors import HashbeamError
from hashing.models import DEFAULT_MODEL
from hashing.synthesis import render_track
from pipelines import gcs, io, parquet, patience, sweep
from pipelines.cli import main
from pipelines.runner import make_pipeline_options, run_pipeline
from pipelines.versions import current_version, open_manifest

CREATE, DELETE = "storage.objects.create", "storage.objects.delete"
GET, LIST = "storage.objects.get", "storage.objects.list"
SECONDS = 4.0

Account = Callable[..., RightsGateway]


@pytest.fixture
def account(emulator_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """From now on ``gs://`` is reached with these grants: ``account(Grant(…), …)``."""
    running: list[RightsGateway] = []
    contexts = []

    def become(*grants: Grant) -> RightsGateway:
        context = serving(RightsGateway(emulator_address, grants))
        gateway = context.__enter__()
        contexts.append(context)
        running.append(gateway)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gateway.address)
        return gateway

    monkeypatch.setattr(patience, "PATIENCE", patience.Patience(0.01, 0.05, 60.0, 20.0))
    yield become
    for context in contexts:
        context.__exit__(None, None, None)


def bucket_of(path: str) -> str:
    return path.removeprefix("gs://").split("/")[0]


def writer(bucket: str, music: str = "") -> list[Grant]:
    """What is given to the account of a job."""
    grants = [Grant(role("writer"), bucket, "index/")]
    return [*grants, Grant(role("reader"), music, "music/")] if music else grants


def reader(bucket: str, prefix: str = "index/") -> Grant:
    return Grant(role("reader"), bucket, prefix)


def test_what_the_gateway_asks_of_each_request(bucket: str, account: Account) -> None:
    """The requests of all operations of a store, next to what the JSON API's table says."""
    name = bucket_of(bucket)
    seen = account(Grant(role("writer"), name, "index/"))

    def needed(action: Callable[[], object]) -> set[str]:
        seen.used.clear()
        action()
        return {permission for permission, _, _ in seen.used}

    path = f"{bucket}/index/a b/ü?.x"
    assert needed(lambda: io.create_exclusive(path, b"1")) == {CREATE}
    assert needed(lambda: io.create_exclusive(path, b"2")) == {CREATE}
    assert needed(lambda: io.write_bytes(path, b"3")) == {CREATE, DELETE}
    large = bytes(gcs.SPOOL_BYTES + 1)  # goes up in pieces
    assert needed(lambda: io.write_bytes(path, large)) == {CREATE, DELETE}
    assert needed(lambda: io.write_bytes(f"{bucket}/index/large", large)) == {CREATE}
    assert (CREATE, name, "index/large") in seen.used
    assert needed(lambda: io.read_range(path, 1, 2)) == {GET}
    assert needed(lambda: io.file_size(path)) == {GET}
    assert needed(lambda: io.list_files(f"{bucket}/index")) == {LIST}
    assert needed(lambda: io.exists(f"{bucket}/index/none")) == {GET, LIST}
    stamp = io.read_stamped(path)
    assert stamp is not None
    assert needed(lambda: io.replace_if(path, b"4", stamp.stamp)) == {CREATE, DELETE}
    assert needed(lambda: io.remove(path)) == {DELETE}
    assert seen.denied == []
    # Beyond the prefix, and in no bucket of its own, nothing may be done, nor is it done.
    for outside in (f"{bucket}/index-of-others/x", f"{bucket}/x"):
        with pytest.raises(HashbeamError, match="these credentials may not do that"):
            io.write_bytes(outside, b"1")
    with pytest.raises(Exception, match="buckets"):
        gcs.client().create_bucket("another")
    assert [one.split(":")[0] for one in seen.denied] == [
        f"{CREATE} on {name}/index-of-others/x",
        f"{CREATE} on {name}/x",
        "storage.buckets.create on /",
    ]


def put_music(folder: Path, music: str, rows: list[dict[str, str]]) -> str:
    """Writes tracks and their catalogue into the bucket of the music, as its owner."""
    for row in rows:
        if not io.exists(io.join(music, row["uri"])):
            number = int(row["uri"].removesuffix(".wav"))
            wav(folder / row["uri"], render_track(number, SECONDS, RATE))
            io.write_bytes(io.join(music, row["uri"]), (folder / row["uri"]).read_bytes())
    write_rows(folder / "catalog.csv", rows)
    io.write_bytes(io.join(music, "catalog.csv"), (folder / "catalog.csv").read_bytes())
    return io.join(music, "catalog.csv")


def test_writer_and_reader_do_their_work_with_their_roles_and_need_all_of_them(
    bucket: str,
    emulator_address: str,
    tmp_path: Path,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = bucket_of(bucket)
    store = f"{bucket}-music"
    gcs.client().create_bucket(bucket_of(store))
    index, music = f"{bucket}/index", f"{store}/music"
    rows = [{"track_id": f"s{n}", "uri": f"{n}.wav", "title": f"Song {n}"} for n in range(9)]
    catalog = put_music(tmp_path, music, rows)
    io.write_bytes(f"{music}/gone.wav", b"no audio")
    catalog = put_music(tmp_path, music, [*rows, {"track_id": "bad", "uri": "gone.wav"}])
    owner = emulator_address

    job = account(*writer(name, bucket_of(store)))
    common = ["--workers", "1", "--quiet", "--max-failures", "0.2"]
    made = ["--catalog", catalog, "--out", index, "--model", DEFAULT_MODEL]
    assert main(["index", *made, "--also", "artist,sequence", *common]) == 0

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", owner)
    rows[0]["title"] = "Another title"
    rows[1]["uri"] = "20.wav"
    put_music(tmp_path, music, [*rows[:8], {"track_id": "s30", "uri": "30.wav"}])
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", job.address)
    update = ["--catalog", catalog, "--index", index]
    assert main(["reindex", *update, *common]) == 0
    assert main(["compact", index, "--all", "--quiet", "--workers", "1"]) == 0
    assert main(["rollback", index]) == 0
    swept = functools.partial(sweep.plan_sweep, grace_s=0.0)
    monkeypatch.setattr("pipelines.gc.plan_sweep", swept)
    assert main(["gc", index, "--keep", "1", "--unfinished-days", "0"]) == 0
    assert current_version(index) == "000002"

    assert job.denied == []
    used = {
        where: {p for p, b, _ in job.used if b == where} for where in {b for _, b, _ in job.used}
    }
    assert used == {name: set(role("writer")), bucket_of(store): set(role("reader"))}
    # Nothing is asked of what lies beside the index, or of the buckets themselves.
    assert {n.split("/")[0] for p, _, n in job.used if p != LIST} == {"index", "music"}

    before = io.list_files(index)
    capsys.readouterr()
    person = account(reader(name), reader(bucket_of(store), "music/"))
    query = wav(tmp_path / "query.wav", render_track(5, SECONDS, RATE)[: 2 * RATE])
    assert main(["lookup", "--index", index, str(query), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["matches"][0]["track_id"] == "s5"
    assert main(["info", index]) == 0
    assert main(["info", index, "--html", str(tmp_path / "health.html")]) == 0
    assert main(["verify", index]) == 0
    assert main(["list", index]) == 0
    assert main(["list", index, "--failures"]) == 0
    assert main(["versions", index]) == 0
    assert main(["reindex", *update, "--dry-run", "--workers", "1", "--quiet"]) == 0
    assert main(["plan", "--from", index, "--catalog", catalog, "--minutes", "3"]) == 0
    assert person.denied == []
    assert person.permissions == role("reader")

    # And it can do nothing else, which it is told in one line.
    for verb in (["reindex", *update], ["gc", index, "--keep", "1"], ["rollback", index]):
        capsys.readouterr()
        assert main([*verb, *common] if verb[0] == "reindex" else verb) == 1
        assert "LOCK: these credentials may not do that (403)" in error_line(capsys, verb[0])
    assert {one.split(" ")[0] for one in person.denied} == {CREATE}
    assert io.list_files(index) == before


@pytest.mark.parametrize("missing", sorted(role("writer")))
def test_a_writer_without_one_of_its_permissions_says_so(
    bucket: str, account: Account, model: Path, jobs: QuickJobs, missing: str
) -> None:
    songs = StoredSongs(f"{bucket}/index")
    for number in range(3):
        songs.put(f"s{number}", song(number, number))
    songs.build(model)
    songs.put("s1", song(1, 1000))
    songs.catalog()
    account(Grant(role("writer") - {missing}, bucket_of(bucket), "index/"))
    with pytest.raises(HashbeamError, match=r"gs://.*these credentials may not do that \(403\)"):
        songs.update()


def test_a_reader_writes_nothing_on_a_disk_either(
    tmp_path: Path, model: Path, jobs: QuickJobs
) -> None:
    """Not even what it would take away again: folders keep their times."""
    songs = StoredSongs(str(tmp_path))
    for number in range(3):
        songs.put(f"s{number}", song(number, number))
    songs.build(model)

    def state() -> dict[Path, tuple[int, int, int]]:
        found = [tmp_path, *tmp_path.rglob("*")]
        return {p: (s.st_mtime_ns, s.st_ctime_ns, s.st_size) for p in found for s in [p.stat()]}

    before = state()
    songs.held()
    for verb in ("info", "verify", "list", "versions"):
        assert main([verb, songs.index]) == 0
    assert state() == before


def test_a_launcher_starts_watches_and_cancels_with_its_roles_and_needs_all_of_them(
    bucket: str, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, worker = bucket_of(bucket), "worker@project.iam.gserviceaccount.com"
    watch = types.SimpleNamespace(sleep=lambda _: None, time=time.time)
    monkeypatch.setattr(dataflow_runner, "time", watch)  # it waits five seconds between questions

    def job(pipeline: beam.Pipeline) -> None:
        _ = pipeline | beam.Create([1])

    with dataflow_service() as service:
        storage = account(Grant(role("stager"), name, "staging/"))
        flags = {
            "runner": "DataflowRunner",
            "project": "project",
            "region": "europe-west1",
            "temp_location": f"{bucket}/staging/tmp",
            "staging_location": f"{bucket}/staging/jobs",
            "service_account_email": worker,
            "sdk_container_image": "registry/hashbeam:1",
            "dataflow_endpoint": service.address,
        }
        told = [f"--{flag}={value}" for flag, value in flags.items()]
        options = make_pipeline_options(1, [*told, "--no_auth"])
        run_pipeline(job, options)
        pipeline = beam.Pipeline(options=options)
        job(pipeline)
        pipeline.run().cancel()
        used = service.used
        environment = service.job["environment"]
    assert storage.denied == []
    assert used == role("launcher")
    assert storage.permissions | {LIST} == role("stager")  # a 404 is one for who may list
    assert environment["serviceAccountEmail"] == worker  # as whom a launcher must be able to act


def test_a_large_object_is_a_failure_and_is_not_downloaded(
    bucket: str,
    proxy: FaultyProxy,
    model: Path,
    jobs: QuickJobs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker's disk would be full before a decoder could say that it is no track."""
    songs = StoredSongs(bucket)
    songs.put("small", song(1, 1))
    songs.put("large", song(2, 2) + bytes(5_000_000))
    monkeypatch.setattr(io, "local_copy", functools.partial(io.local_copy, max_bytes=1_000_000))
    songs.build(model)
    manifest = open_manifest(songs.index)
    (path,) = manifest.files.select(kind="failures").column("path")
    (row,) = parquet.read_table(io.join(songs.index, path)).to_pylist()
    assert (row["track_id"], row["stage"], row["error"]) == ("large", "fetch", "too-large")
    assert "large.song has 5000003 bytes or more, and 1000000 at most are" in row["message"]
    asked = [request for request in proxy.seen if "/songs%2Flarge.song" in request]
    assert asked
    assert not [request for request in asked if "alt=media" in request]
