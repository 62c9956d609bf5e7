"""``hashbeam index --also artist``: artist embeddings beside the codes, and who reuses them."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from disambiguation_music import facts, numbers, pitch_encoder
from index_helpers import assert_same_content, error_line, full_disk_for, paths, run_index
from model_fixture import learned_model
from tiny_catalog import RATE, tune, write_rows

from hashing.artists.decoder import HeardTrack, hear
from hashing.artists.encoder import ArtistEncoder
from pipelines.cli import main
from pipelines.disambiguation import embed
from pipelines.disambiguation.store import MEASURE_COLUMNS
from pipelines.gather import forget_failures
from pipelines.runs import Plan, Receipt, Run
from pipelines.versions import ARTIST_EMBEDDINGS, open_manifest

pytestmark = pytest.mark.usefixtures("one_index_decoder")

N_TRACKS = 10
KEPT = "--keep-embeddings"
SHORT = "t09"  # long enough for codes, too short for an artist embedding

Shown = pytest.CaptureFixture[str]


class Made(NamedTuple):
    """An index with artist embeddings.

    `refused` is what was said when the disk was full, when the run was continued without --also,
    and when more tracks had failed than allowed; `out` what was said when it was published.
    """

    index: Path
    refused: tuple[str, ...]
    out: str


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten tracks: two parts."""
    folder = tmp_path_factory.mktemp("music")
    rows = []
    for number in range(N_TRACKS):
        seconds = 2.0 if f"t{number:02d}" == SHORT else 4.0
        soundfile.write(folder / f"{number}.wav", tune(number, seconds), RATE, subtype="FLOAT")
        name = "Nina" if number < 6 else "Kit"
        rows.append({"track_id": f"t{number:02d}", "uri": f"{number}.wav", "artist_name": name})
    return write_rows(folder / "catalog.csv", rows)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose embeddings of snippets are kept as well: these are other files."""
    folder = tmp_path_factory.mktemp("learned") / "model"
    learned_model(folder, dimensions=16)
    return folder


@pytest.fixture(scope="module")
def made(catalog: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Published at the fourth attempt; not to be changed."""
    index = tmp_path_factory.mktemp("made") / "index"
    out, err, also = io.StringIO(), io.StringIO(), (KEPT, "--also", "artist")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        with full_disk_for("/embeddings/", "part-00001-artist"):
            assert run_index(catalog, index, model, *also) == 1
        assert run_index(catalog, index, model, KEPT) == 1
        assert run_index(catalog, index, model, *also) == 1
        assert not (index / "CURRENT").exists()
        assert run_index(catalog, index, model, *also, "--max-failures", "0.1") == 0
    refused = [line for line in err.getvalue().splitlines() if ": error: " in line]
    return Made(index, tuple(refused), out.getvalue())


@pytest.fixture(scope="module")
def plain(catalog: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same index without them; not to be changed."""
    index = tmp_path_factory.mktemp("plain") / "index"
    assert run_index(catalog, index, model, KEPT) == 0
    return index


def test_embeddings_are_those_of_the_encoder(catalog: Path, made: Made) -> None:
    encoder, manifest = ArtistEncoder.load(), open_manifest(str(made.index))
    files = paths(made.index, manifest, ARTIST_EMBEDDINGS)
    assert [path.parent.name for path in files] == ["embeddings"] * 2
    assert all(path.match(f"part-0000{part}-artist-*.parquet") for part, path in enumerate(files))
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    assert [row["track_id"] for row in rows] == [f"t{number:02d}" for number in range(9)]
    for row in rows:
        found = encoder.embed_file(row["uri"])
        assert float(np.dot(row["embedding"], found.embedding)) > 0.9999
        assert (row["duration_s"], row["segments"]) == (4.0, 1)
        status = os.stat(row["uri"])
        assert (row["size"], row["mtime"]) == (status.st_size, status.st_mtime)
        assert all(np.isfinite(row[name]) for name in MEASURE_COLUMNS)
    assert manifest.also == {"artist": {"name": "artist", "digest": encoder.digest}}
    for path in files:
        assert pq.read_schema(path).metadata[b"model_digest"].decode() == encoder.digest
    entries = manifest.files.select(kind=ARTIST_EMBEDDINGS)
    assert (entries.column("rows"), entries.column("part")) == ([8, 1], [0, 1])


def test_everything_else_is_as_without_them(made: Made, plain: Path) -> None:
    assert_same_content(made.index, plain)
    one, other = (open_manifest(str(index)) for index in (made.index, plain))
    digests = [
        manifest.files.select(kind="embeddings").column("sha256") for manifest in (one, other)
    ]
    assert digests[0] == digests[1]
    assert not other.also
    assert not paths(plain, other, ARTIST_EMBEDDINGS)


def test_a_track_that_has_none_is_indexed_and_told(made: Made) -> None:
    assert "1 of 10 tracks failed (1 too-short), more than --max-failures 0.05" in made.refused[2]
    (path,) = paths(made.index, open_manifest(str(made.index)), "failures")
    (row,) = pq.read_table(path).to_pylist()
    assert (row["track_id"], row["stage"], row["error"]) == (SHORT, "embed", "too-short")
    assert "track of 2.00 s is shorter than 3 s" in row["message"]
    run = json.loads((made.index / "versions/000001/run.json").read_text())
    counts = ("tracks_indexed", "tracks_failed", "tracks_embedded", "tracks_not_embedded")
    assert [run[name] for name in counts] == [10, 0, 9, 1]
    assert (run["also"], run["parts_resumed"]) == ({"artist": "artist"}, 2)
    assert "artist embeddings of 9 tracks by model artist" in made.out
    assert "  1 tracks have no artist embedding (1 too-short): see " in made.out


def test_a_run_goes_on_with_what_it_was_asked_for(made: Made) -> None:
    full_disk, others, _ = made.refused
    where = f"{made.index}/versions/000001/embeddings/part-00001-artist"
    assert f"cannot write {where}" in full_disk
    assert "other options (also={'artist': '" in others


def test_parts_that_lack_embeddings_are_tried_again_when_asked(tmp_path: Path) -> None:
    run = Run(str(tmp_path), Plan("000001", "c", "m", "x", {}, 24, 3, "now"))
    for part, (failed, not_embedded) in enumerate([(0, 0), (0, 1), (1, 0)]):
        counters = {"tracks_failed": failed, "tracks_not_embedded": not_embedded}
        run.write_receipt(Receipt(f"part-0000{part}", "a", [], counters, 0.0, 0.0))
    forget_failures(run)
    assert list(run.receipts()) == ["part-00000"]


def test_files_are_checked_and_shown(made: Made, tmp_path: Path, capsys: Shown) -> None:
    assert main(["verify", str(made.index)]) == 0
    capsys.readouterr()
    assert main(["info", str(made.index)]) == 0
    shown = capsys.readouterr().out
    assert "  artist embeddings by model artist (" in shown
    assert "  artist_embeddings: 2 files, 9 rows, " in shown
    assert "  embeddings: 2 files, " in shown
    copy = tmp_path / "index"
    shutil.copytree(made.index, copy)
    where = copy / "versions/000001/manifest.json"
    values = json.loads(where.read_text())
    values["also"]["artist"]["digest"] = "0" * 64
    values["counters"]["tracks_embedded"] = 10
    where.write_text(json.dumps(values))
    first, second = paths(copy, open_manifest(str(copy)), ARTIST_EMBEDDINGS)
    second.unlink()
    assert main(["verify", str(copy), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    digest = ArtistEncoder.load().digest[:12]
    assert sorted(problems) == sorted(
        [
            "artist_embeddings of 9 rows in the manifest, expected 10",
            f"{first} was made by model {digest}, the index by 000000000000",
            f"{second} is missing",
        ]
    )


def disambiguate(catalog: Path, out: Path, *flags: str) -> int:
    names = ["--catalog", str(catalog), "--out", str(out), "--name", "Nina", "--workers", "1"]
    return main(["disambiguate", *names, "--snippets", "0", *flags])


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that `disambiguate` hears, in this process: a child takes a second to start."""
    files: list[str] = []

    def listen(encoder: ArtistEncoder, path: str) -> HeardTrack:
        files.append(Path(path).name)
        return hear(encoder, path, 60.0)

    def open_ear(encoder: ArtistEncoder, job: object) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext(functools.partial(listen, encoder))

    monkeypatch.setattr(embed, "open_ear", open_ear)
    return files


def test_disambiguate_hears_nothing_again(
    catalog: Path, made: Made, heard: list[str], tmp_path: Path
) -> None:
    reused, alone = tmp_path / "reused", tmp_path / "alone"
    assert disambiguate(catalog, reused, "--index", str(made.index)) == 0
    assert heard == []
    done = facts(reused)
    assert (done["tracks_heard"], done["tracks_reused"], done["audio_heard_now_s"]) == (6, 6, 0)
    assert not (reused / "embeddings").exists()
    assert disambiguate(catalog, alone) == 0
    assert heard == [f"{number}.wav" for number in range(6)]
    done = facts(alone)
    assert (done["tracks_heard"], done["tracks_reused"], done["audio_heard_now_s"]) == (6, 0, 24)
    assert numbers(reused) == numbers(alone)
    for name in ("clusters", "groups"):
        one, other = (pq.read_table(out / f"{name}.parquet") for out in (reused, alone))
        for column in one.column_names:
            if one[column].type == "float":
                np.testing.assert_allclose(one[column], other[column], atol=1e-3)
            else:
                assert one[column] == other[column]


def test_a_track_that_has_changed_is_heard_again(
    catalog: Path, made: Made, heard: list[str], tmp_path: Path, capsys: Shown
) -> None:
    path = catalog.parent / "3.wav"
    before = os.stat(path)
    try:
        os.utime(path, (1e9, 1e9))
        assert disambiguate(catalog, tmp_path / "out", "--index", str(made.index)) == 0
    finally:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = facts(tmp_path / "out")
    assert (done["tracks_reused"], done["audio_heard_now_s"], heard) == (5, 4.0, ["3.wav"])
    assert capsys.readouterr().err == ""


def test_an_index_of_no_use_is_told(
    catalog: Path, made: Made, plain: Path, tmp_path: Path, capsys: Shown
) -> None:
    digest = ArtistEncoder.load().digest[:12]
    with pitch_encoder() as encoder:
        for index, said in (
            (plain, f"{plain} has no artist embeddings: `hashbeam index --also artist` makes some"),
            (made.index, f"with digest {digest}, not {encoder.digest[:12]}"),
        ):
            assert disambiguate(catalog, tmp_path / index.parent.name, "--index", str(index)) == 0
            err = capsys.readouterr().err
            assert err.startswith("hashbeam disambiguate: ")
            assert said in err
        assert len(encoder.heard) == 12
    assert disambiguate(catalog, tmp_path / "none", "--index", str(tmp_path / "nowhere")) == 2
    assert f"--index: {tmp_path}/nowhere holds neither" in error_line(capsys, "disambiguate")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--also", "artists"], "--also: must be artist or sequence, got 'artists'"),
        (["--also", "artist,midi"], "--also: must be artist or sequence, got 'midi'"),
        (["--also", ""], "--also: must be artist or sequence, got ''"),
        (["--artist-model", "artist"], "--artist-model: is for --also artist"),
        (["--also", "artist", "--sequence-model", "m"], "--sequence-model: is for --also sequence"),
    ],
)
def test_mistakes_are_named_before_any_work(
    catalog: Path, model_folder: Path, tmp_path: Path, capsys: Shown, flags: list[str], said: str
) -> None:
    assert run_index(catalog, tmp_path / "index", model_folder, *flags) == 2
    assert said in error_line(capsys)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("name", ["artist", "sequence"])
def test_a_hasher_is_no_model_of_another_kind(
    catalog: Path, model_folder: Path, tmp_path: Path, capsys: Shown, name: str
) -> None:
    flags = ("--also", name, f"--{name}-model", str(model_folder))
    assert run_index(catalog, tmp_path / "index", model_folder, *flags) == 1
    assert f"name one of the kind '{name}'" in error_line(capsys)
    assert not (tmp_path / "index").exists()
