"""``--allow``: where uris may lead, before any work and again when a file is opened."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from index_helpers import error_line, paths, run_index
from tiny_catalog import tiny_catalog, write_rows

from hashing.encoders import Hasher
from hashing.errors import AudioError, CatalogError, UsageError
from pipelines import parts, verbs
from pipelines.allowed import Allowed, allowed_now, only, parse_prefix
from pipelines.catalog import read_catalog
from pipelines.cli import main, parse
from pipelines.parts import HashJob
from pipelines.planning import measure
from pipelines.versions import open_manifest


def rules(*prefixes: object) -> Allowed:
    return Allowed(tuple(parse_prefix(str(prefix)) for prefix in prefixes))


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A folder of music that is allowed, one beside it that is not, and links between them."""
    for name in ("music/a", "music-private", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("music/a/in.wav", "music-private/out.wav", "elsewhere/in.wav"):
        (tmp_path / name).touch()
    (tmp_path / "music/a/link.wav").symlink_to(tmp_path / "music-private/out.wav")
    (tmp_path / "music/a/folder").symlink_to(tmp_path / "music-private")
    (tmp_path / "music/a/inner.wav").symlink_to("in.wav")
    (tmp_path / "music/a/loop.wav").symlink_to("loop.wav")
    (tmp_path / "linked").symlink_to(tmp_path / "music")
    return tmp_path


IN = [
    "music/a/in.wav",
    "music/a/../a/./in.wav",
    "music//a/in.wav",
    "music/a/inner.wav",
    "music/no/such.wav",
    "linked/a/in.wav",
    "music-private/../music/a/in.wav",
    "music/a%2Fin.wav",
    "music/a/loop.wav",
]
OUT = [
    "music-private/out.wav",
    "music/../music-private/out.wav",
    "music/a/link.wav",
    "music/a/folder/out.wav",
    "music/a/folder/../elsewhere/in.wav",  # the kernel follows the link before it goes up
    "music",  # its neighbours' names begin alike; it is no file either
]


def test_local_files(places: Path) -> None:
    music = rules(places / "music")
    inside, outside = ([f"{places}/{name}" for name in names] for names in (IN, OUT[:-1]))
    assert [uri for uri in inside if not music.permits(uri)] == []
    assert [uri for uri in outside if music.permits(uri)] == []
    assert music.refused([*inside, *outside]) == list(range(len(IN), len(IN) + len(OUT) - 1))
    assert [music.permits(f"file://{uri}") for uri in (inside[0], outside[0])] == [True, False]
    for strange in ("/etc/passwd", "/", "", "..", f"{places}/music/\0", "file://host/music/a"):
        assert not music.permits(strange), strange
        assert music.refused([strange]) == [0], strange
    # Percent signs are signs of a name.
    assert not music.permits(f"{places}/%6dusic/a/in.wav")
    # A link as the prefix means what it leads to, and the root all of the disk.
    assert rules(places / "linked").permits(inside[0])
    assert rules("/").permits("/etc/passwd")
    assert rules(f"file://{places}/music/").permits(inside[0])
    assert rules(f"{places}/music/a/in.wav").permits(inside[0])


def test_names_of_a_store_are_taken_as_they_are() -> None:
    music = rules("gs://b/audio", "hdfs://host/music/")
    for uri in (
        "gs://b/audio/x.mp3",
        "gs://b/audio/../x",
        "gs://b/audio//x",
        "hdfs://host/music/x",
    ):
        assert music.permits(uri), uri
    for uri in (
        "gs://b/audio-private/x.mp3",
        "gs://b/audi",
        "gs://b/other/../audio/x",
        "gs://b//audio/x",
        "gs://B/audio/x",
        "GS://b/audio/x",
        "gs:/b/audio/x",
        "gs://b/%61udio/x",
        "http://b/audio/x",
        "hdfs://other/music/x",
        "file://gs://b/audio/x",
        "/gs://b/audio/x",
        "x/gs://b/audio/x",
        "/etc/passwd",
    ):
        assert not music.permits(uri), uri
        assert music.refused([uri]) == [0], uri
    assert rules("gs://").permits("gs://any/thing")
    # A local name with :// in it goes to Beam, which follows no rule of ours: no folder allows it.
    assert not rules("/").permits("/music/a://b.mp3")


def test_without_prefixes_everything_is_allowed() -> None:
    everything = Allowed()
    assert everything.permits("http://a/b")
    assert everything.refused(["/etc/passwd", "\0"]) == []
    assert allowed_now() == everything


SEGMENTS = st.sampled_from(["music", "music2", "a", "link", "up", "..", ".", "", "in.wav"])


@pytest.fixture(scope="module")
def maze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("maze")
    (root / "music/a").mkdir(parents=True)
    (root / "music2").mkdir()
    (root / "music/link").symlink_to(root / "music2")
    (root / "music/a/up").symlink_to("../..")
    (root / "music2/a").symlink_to(root / "music/a")
    for name in ("music/in.wav", "music/a/in.wav", "music2/in.wav"):
        (root / name).touch()
    return root


@given(segments=st.lists(SEGMENTS, max_size=8))
def test_what_is_permitted_is_what_the_kernel_opens(maze: Path, segments: list[str]) -> None:
    uri = "/".join([str(maze), *segments])
    music = rules(maze / "music")
    assert (music.refused([uri]) == []) == music.permits(uri)
    try:
        descriptor = os.open(uri, os.O_RDONLY)
    except OSError:
        return
    opened = os.readlink(f"/proc/self/fd/{descriptor}")
    os.close(descriptor)
    assert music.permits(uri) == f"{opened}/".startswith(f"{maze}/music/")


def test_a_catalogue_that_leads_out_is_refused_whole(places: Path) -> None:
    names = [*IN, *OUT]
    rows = [{"track_id": f"t{99 - n}", "uri": name} for n, name in enumerate(names)]
    rows += [{"track_id": "p", "uri": "/etc/" + "p" * 300}, {"track_id": "g", "uri": "gs://b/x"}]
    path = str(write_rows(places / "catalog.csv", rows))
    assert read_catalog(path).num_rows == len(rows)
    with only([str(places / "music"), "gs://a"]):
        with pytest.raises(CatalogError) as caught:
            read_catalog(path)
        told = str(caught.value)
        assert told.startswith(
            f"{path}: row {len(IN) + 1}, column uri: '{places}/music-private/out.wav' leads out of "
            f"what --allow permits ({places}/music or gs://a); row {len(IN) + 2}, column uri: "
        )
        assert told.count("column uri") == len(OUT) - 1 + 2
        assert "'…" + "p" * 99 + "'" in told
        assert told.endswith("mend that and run again")
    assert read_catalog(path).num_rows == len(rows)


def test_more_than_ten_are_counted(tmp_path: Path) -> None:
    rows = [{"track_id": str(n), "uri": f"/else/{n}"} for n in range(25)]
    path = str(write_rows(tmp_path / "catalog.csv", rows))
    with only([str(tmp_path)]), pytest.raises(CatalogError, match="and 15 more; mend") as caught:
        read_catalog(path)
    assert str(caught.value).count("column uri") == 10


def test_every_verb_that_reads_a_list_takes_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {"events": ["index", "search"], "evaluate": ["lookup", "midi"], "train": ["encoder"]}
    taking = set[str]()
    for verb in verbs.VERBS:
        for kind in kinds.get(verb, [""]):
            assert main([verb, *[kind] * bool(kind), "--help"]) == 0
            text = capsys.readouterr().out
            reads = "\n  --catalog " in text or "\n  --queries Q" in text
            assert reads == ("\n  --allow PREFIX" in text), (verb, kind)
            taking |= {verb} if reads else set()
    assert taking == verbs.READ_URIS
    assert {"index", "reindex", "lookup", "disambiguate", "events", "evaluate"} <= taking
    _, args, _ = parse("index", ["--catalog", "c", "--out", "o", "--allow", "a", "--allow", "b"])
    assert args.allow == ["a", "b"]


def test_an_empty_prefix_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    for empty in ("", "file://", " "):
        with pytest.raises(UsageError, match="--allow: names nothing"):
            parse_prefix(empty)
        assert main(["index", "--catalog", "c", "--out", "o", "--allow", empty]) == 2
        assert "--allow: names nothing" in error_line(capsys)
    assert allowed_now() == Allowed()


def test_workers_take_it_along() -> None:
    with only(["gs://b"]):
        job = HashJob(None, 1.0, 1.0)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(job)).allowed == rules("gs://b")
    with (
        pytest.raises(AudioError, match="'/etc/passwd' leads out of what --allow permits") as got,
        job.allowed.local_copy("/etc/passwd"),
    ):
        pass
    assert got.value.kind == "not-allowed"


@pytest.mark.usefixtures("one_index_decoder")
def test_a_link_that_is_put_in_place_of_a_file_is_a_failure(
    tmp_path: Path,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the look at the catalogue and the opening of the file."""
    music, out = tmp_path / "music", tmp_path / "index"
    catalog = tiny_catalog(music, 4)
    secret = tiny_catalog(tmp_path / "secret", 1).parent / "0.wav"
    real: Callable[..., None] = parts.write_parts

    def swap(*args: object) -> None:
        real(*args)
        (music / "2.wav").unlink()
        (music / "2.wav").symlink_to(secret)

    monkeypatch.setattr("pipelines.index.write_parts", swap)
    flags = ["--allow", str(music), "--max-failures", "0.5"]
    assert run_index(catalog, out, model_folder, *flags) == 0
    manifest = open_manifest(str(out))
    (path,) = paths(out, manifest, "failures")
    (row,) = pq.read_table(path).to_pylist()
    assert (row["track_id"], row["stage"], row["error"]) == ("t02", "fetch", "not-allowed")
    assert "2.wav' leads out of what --allow permits" in row["message"]
    assert row["content"] is None


@pytest.mark.usefixtures("one_index_decoder")
def test_a_run_goes_on_with_another_list(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    music, out = tmp_path / "music", tmp_path / "index"
    catalog = tiny_catalog(music, 4)
    (music / "2.wav").write_text("no audio")
    assert run_index(catalog, out, model_folder, "--allow", str(music)) == 1
    assert "1 of 4 tracks" in error_line(capsys)
    tiny_catalog(music, 4)
    assert run_index(catalog, out, model_folder, "--allow", str(tmp_path / "elsewhere")) == 2
    assert "row 1, column uri: " in error_line(capsys)
    again = ["--allow", str(tmp_path), "--retry-failed"]
    assert run_index(catalog, out, model_folder, *again) == 0


def test_a_query_that_leads_out_is_refused(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a list before any work, as a file when its turn comes."""
    music, index = tmp_path / "music", str(tmp_path / "index")
    assert run_index(tiny_catalog(music, 2), Path(index), model_folder) == 0
    capsys.readouterr()
    queries = write_rows(music / "q.csv", [{"query_id": "q", "uri": "/etc/passwd"}])
    names = ["lookup", "--index", index, "--model", str(model_folder), "--allow", str(music)]
    many = ["--queries", str(queries), "--out", str(tmp_path / "answers"), "--workers", "1"]
    assert main([*names, *many]) == 2
    assert "row 1, column uri: '/etc/passwd' leads out" in error_line(capsys, "lookup")
    assert not (tmp_path / "answers").exists()
    assert main([*names, str(music / "0.wav"), "--min-score", "0"]) == 0
    assert main([*names, "/etc/passwd"]) == 1
    assert "'/etc/passwd' leads out of what --allow permits" in error_line(capsys, "lookup")


def test_a_plan_measures_made_up_tracks_whatever_is_allowed(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "RENDERED_COPIES", 1)
    with only(["gs://bucket"]):
        (receipt,) = measure._hash(str(tmp_path), Hasher.load(str(model_folder)), {}, False, ())
    assert receipt.counters["tracks_hashed"] == 1
