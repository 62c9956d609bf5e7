"""``hashbeam reindex`` end to end on rendered audio: what changed is decoded, and nothing else."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import soundfile
from disambiguation_music import facts
from index_decoder import Heard
from index_helpers import run_index
from model_fixture import learned_model
from quick_index import contents
from tiny_catalog import RATE, tune, write_rows

from hashing.artists.decoder import HeardTrack, hear
from hashing.artists.encoder import ArtistEncoder
from pipelines.cli import main
from pipelines.disambiguation import embed
from pipelines.lock import IndexLock
from pipelines.versions import open_manifest

SECONDS = 4.0
KEPT = ("--keep-embeddings", "--also", "artist,sequence", "--max-failures", "0.5")
# A tenth of ten tracks is one: what these say is tested in `test_gates.py`.
GATES = "failures,run-failures,live-tracks"

Shown = pytest.CaptureFixture[str]


class Shop:
    """Music, the catalogue of it, and its index; tests follow one another."""

    def __init__(self, folder: Path, model: Path, decoder: Heard) -> None:
        self.folder, self.model, self.decoder = folder, model, decoder
        self.index, self.catalog = folder / "index", folder / "catalog.csv"
        self.rows: dict[str, dict[str, Any]] = {}

    def play(self, name: str, seed: int, seconds: float = SECONDS) -> None:
        soundfile.write(self.folder / name, tune(seed, seconds), RATE, subtype="FLOAT")

    def add(self, number: int) -> None:
        self.play(f"{number}.wav", number)
        self.rows[f"t{number:02d}"] = {
            "uri": f"{number}.wav", "title": f"Title {number}", "artist_name": "Nina", "year": 1990
        }  # fmt: skip

    def write(self) -> Path:
        rows = [{"track_id": name, **row} for name, row in self.rows.items()]
        return write_rows(self.catalog, rows)

    def reindex(self, *flags: str, catalog: Path | None = None) -> int:
        names = ["--catalog", str(catalog or self.write()), "--index", str(self.index)]
        return main(["reindex", *names, "--workers", "1", "--no-gates", GATES, *flags])

    def version(self) -> str:
        return open_manifest(str(self.index)).version

    def files(self) -> dict[str, int]:
        """All files of the index, and when they were written."""
        found = (path for path in self.index.rglob("*") if path.is_file())
        return {str(path): path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def shop(one_index_decoder: Heard, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """An index of ten tracks, t05 of which cannot be read; every test goes on where one ended."""
    folder = tmp_path_factory.mktemp("shop")
    learned_model(folder / "model", dimensions=16)
    shop = Shop(folder, folder / "model", one_index_decoder)
    for number in range(10):
        shop.add(number)
    shop.play("5.wav", 5)
    data = (folder / "5.wav").read_bytes()
    (folder / "5.wav").write_bytes(bytes(len(data)))
    os.utime(folder / "5.wav", (1e9, 1e9))
    assert run_index(shop.write(), shop.index, shop.model, *KEPT) == 0
    assert len(one_index_decoder.since()) == 10
    return shop


def the_same_as_a_fresh_one(shop: Shop, tmp_path: Path) -> None:
    """Codes, what is beside them, rows and failures as an index made now has them, bit by bit."""
    fresh = tmp_path / "fresh"
    assert run_index(shop.catalog, fresh, shop.model, *KEPT) == 0
    shop.decoder.since()
    one, other = contents(shop.index), contents(fresh)
    assert one.codes == other.codes
    assert one.artists == other.artists
    assert one.sequences == other.sequences
    assert one.sequences
    assert one.failures == other.failures
    assert one.rows == other.rows
    parts = [vectors_of(index) for index in (shop.index, fresh)]
    assert parts[0].keys() >= parts[1].keys()
    for name, vectors in parts[1].items():
        np.testing.assert_array_equal(parts[0][name], vectors)


def vectors_of(index: Path) -> dict[tuple[str, int], Any]:
    """track_id and snippet → embedding, of all files."""
    manifest = open_manifest(str(index))
    found = {}
    for path in manifest.files.select(kind="embeddings").column("path"):
        table = pq.read_table(index / path)
        vectors = np.array(table["embedding"].to_pylist())
        ids, numbers = (table[name].to_pylist() for name in ("track_id", "snippet"))
        found |= dict(zip(zip(ids, numbers, strict=True), vectors, strict=True))
    return found


def test_no_change_publishes_nothing_whatever_the_catalogue_is_written_in(
    shop: Shop, capsys: Shown
) -> None:
    before = shop.files()
    assert shop.reindex() == 0
    out = capsys.readouterr().out
    assert "nothing has changed since version 000001 (9 unchanged, 1 failed)" in out
    table = pyarrow.csv.read_csv(shop.write())
    names = pa.array([[name] for name in table["artist_name"].to_pylist()])
    table = table.set_column(3, "artist_name", names)
    table = table.set_column(4, "year", table["year"].cast(pa.int16()))
    pq.write_table(table, shop.folder / "catalog.parquet")
    assert shop.reindex("--json", catalog=shop.folder / "catalog.parquet") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["published"], told["version"]) == (False, "000001")
    assert told["changes"]["unchanged"] == 9
    assert shop.files() == before
    assert shop.decoder.since() == []


def everything_changes(shop: Shop) -> None:
    """Something of every class: t09 is all that stays as it is."""
    folder, rows = shop.folder, shop.rows
    shop.add(10)  # new
    shop.add(11)
    (folder / "11.wav").write_bytes(b"no audio")  # new, and cannot be read
    shop.play("1.wav", 101)  # changed
    (folder / "2.wav").rename(folder / "moved.wav")
    rows["t02"]["uri"] = "moved.wav"
    rows["t03"]["title"] = "Other"
    rows["a04"] = rows.pop("t04")  # renamed
    rows["z06"] = {**rows.pop("t06"), "uri": "sub.wav"}  # renamed and moved
    (folder / "6.wav").rename(folder / "sub.wav")
    del rows["t07"]
    (folder / "8.wav").unlink()  # changed: cannot be read any more


def test_every_class_of_change(shop: Shop, capsys: Shown, tmp_path: Path) -> None:
    everything_changes(shop)
    before = shop.files()
    assert shop.reindex("--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    classes = {
        "unchanged": 2, "new": 2, "changed": 2, "retried": 0, "failed": 1, "moved": 1,
        "edited": 1, "renamed": 2, "removed": 1,
    }  # fmt: skip
    assert told["changes"] == classes
    assert (told["version"], told["tracks_to_decode"]) == ("000001", 4)
    assert told["audio_to_decode_s"] == pytest.approx(4 * SECONDS, rel=0.05)
    assert told["hash_cpu_s"] > 0
    assert shop.reindex("--dry-run") == 0
    text = capsys.readouterr().out
    assert "2 new" in text
    assert "4 tracks to decode" in text
    assert shop.files() == before
    assert shop.decoder.since() == []

    assert shop.reindex("--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["parent"]) == ("000002", "000001")
    assert told["changes"] == classes
    assert (told["tracks"], told["tracks_indexed"], told["tracks_failed"]) == (11, 8, 3)
    # A file that is not there is not given to the decoder, or is: nothing else is heard.
    assert set(shop.decoder.since()) - {"8"} == {"1", "10", "11"}
    the_same_as_a_fresh_one(shop, tmp_path)
    assert main(["verify", str(shop.index), "--json"]) == 0


def test_look_up_sees_the_live_tracks_alone(shop: Shop, capsys: Shown, tmp_path: Path) -> None:
    expected = {1: "t07", 101: "t01", 4: "a04", 6: "z06", 2: "t02", 10: "t10"}
    files = []
    for seed in [*expected, 7]:
        files.append(tmp_path / f"{seed}.wav")
        samples = tune(seed, SECONDS)[round(1.25 * RATE) : round(3.5 * RATE)]
        soundfile.write(files[-1], samples, RATE, subtype="FLOAT")
    names = ["lookup", "--index", str(shop.index), "--json", "--min-score", "0", "--top", "1"]
    assert main([*names, *map(str, files)]) == 0
    best = {}
    for line in capsys.readouterr().out.splitlines():
        answer = json.loads(line)
        seen = [(m["track_id"], m["votes"], m["offset_s"]) for m in answer["matches"]]
        best[int(Path(answer["query_id"]).stem)] = seen
    for seed in (101, 4, 6, 2, 10):
        ((track_id, _, offset_s),) = best[seed]
        assert (track_id, offset_s) == (expected[seed], pytest.approx(1.25, abs=0.13))
    # What t01 and t07 were is found nowhere: chance hits at most.
    strongest = min(best[seed][0][1] for seed in (101, 4, 6, 2, 10))
    for seed in (1, 7):
        assert all(track_id != "t07" and votes < strongest / 2 for track_id, votes, _ in best[seed])


def test_disambiguate_hears_nothing_again(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[str] = []

    def listen(encoder: ArtistEncoder, path: str) -> HeardTrack:
        files.append(Path(path).stem)
        return hear(encoder, path, 60.0)

    def open_ear(encoder: ArtistEncoder, job: object) -> Any:
        return contextlib.nullcontext(functools.partial(listen, encoder))

    monkeypatch.setattr(embed, "open_ear", open_ear)
    names = ["--catalog", str(shop.catalog), "--index", str(shop.index), "--name", "Nina"]
    flags = ["--out", str(tmp_path / "out"), "--workers", "1", "--snippets", "0"]
    assert main(["disambiguate", *names, *flags]) == 0
    assert {"5", "8", "11"} >= set(files)  # what has no embedding: it cannot be read
    assert facts(tmp_path / "out")["tracks_reused"] == 8


def test_a_mended_file_is_tried_again_when_asked(shop: Shop, capsys: Shown) -> None:
    """Its size and its time are those that it failed with."""
    shop.play("5.wav", 5)
    os.utime(shop.folder / "5.wav", (1e9, 1e9))
    assert shop.reindex() == 0
    assert "nothing has changed" in capsys.readouterr().out
    shop.play("8.wav", 8)  # and this one is back
    assert shop.reindex("--retry-failed", "--quiet") == 0
    assert shop.decoder.since() == ["11", "5", "8"]
    assert "2 retried" not in capsys.readouterr().out
    found = contents(shop.index)
    assert {"t05", "t08"} <= found.codes.keys()
    assert found.failures.keys() == {("t11", "")}


def test_nothing_of_what_is_new_can_be_read_and_a_track_goes(shop: Shop, tmp_path: Path) -> None:
    shop.rows["t12"] = {**shop.rows["t11"], "uri": "12.wav"}
    assert shop.reindex() == 0
    assert contents(shop.index).failures.keys() == {("t11", ""), ("t12", "")}
    for name in ("t11", "t12", "t09"):
        del shop.rows[name]
    segments = open_manifest(str(shop.index)).segments
    assert shop.reindex() == 0
    manifest = open_manifest(str(shop.index))
    assert [one.id for one in manifest.segments] == [one.id for one in segments]
    assert manifest.counters["tracks_removed"] == 1
    found = contents(shop.index)
    assert found.failures == {}
    assert found.codes.keys() == shop.rows.keys()
    assert shop.decoder.since() in ([], ["12"])  # a file that is not there may be asked for


def test_back_to_an_earlier_version_and_on_from_there(shop: Shop, capsys: Shown) -> None:
    last = shop.version()
    assert main(["rollback", str(shop.index)]) == 0
    assert "t09" in contents(shop.index).codes
    assert shop.reindex("--force", "--quiet") == 0
    assert int(shop.version()) == int(last) + 1
    assert len(shop.decoder.since()) == len(shop.rows)
    found = contents(shop.index)
    assert found.codes.keys() == shop.rows.keys()
    # Nothing was left of the segments before.
    assert len(open_manifest(str(shop.index)).segments) == 1
    assert main(["verify", str(shop.index)]) == 0


@pytest.mark.parametrize(
    ("flags", "status", "told"),
    [
        (["--catalog", "C"], 2, "--index: is needed"),
        (["--index", "I"], 2, "--catalog: is needed"),
        (["--catalog", "C", "--index", "I", "--max-track-hours", "x", "--workers", "0"], 2,
         "--workers: must be from 1 to 1024, got 0; --max-track-hours: must be a number"),
        (["--catalog", "nowhere.csv", "--index", "I"], 2, "nowhere.csv does not exist"),
        (["--catalog", "C", "--index", "nowhere"], 1, "there is no such index"),
        (["--catalog", "C", "--index", "I", "--forse"], 2, "did you mean --force?"),
        (["--catalog", "C", "--index", "I", "--model", "nowhere"], 1, "nowhere"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(
    shop: Shop, capsys: Shown, flags: list[str], status: int, told: str
) -> None:
    shop.rows["t03"]["title"] += " again"
    places = {"C": str(shop.write()), "I": str(shop.index)}
    before = shop.files()
    capsys.readouterr()
    assert main(["reindex", *(places.get(flag, flag) for flag in flags)]) == status
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    # At most a run was begun.
    assert {path for path in shop.files() if "/work/" not in path} == before.keys()


def test_a_second_writer_is_refused(shop: Shop, capsys: Shown) -> None:
    shop.rows["t03"]["title"] += " once more"
    with IndexLock(str(shop.index)):
        before = shop.files()
        assert shop.reindex() == 1
        assert shop.files().keys() == before.keys()
    assert "is being written by process" in capsys.readouterr().err
