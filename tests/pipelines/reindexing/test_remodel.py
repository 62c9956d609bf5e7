"""``hashbeam reindex --model NEW`` end to end: what takes over, is refused, and is decoded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from index_decoder import Heard
from index_helpers import run_index
from model_fixture import learned_model
from quick_index import contents
from tiny_catalog import RATE, write_rows

from hashing.models import PRETRAINED, load_model
from hashing.synthesis import render_track
from pipelines.cli import main
from pipelines.opened import open_index
from pipelines.reindexing import remodel, rivals
from pipelines.versions import open_manifest

SECONDS = 6.0
TRACKS = 12
QUERIES = "40"
# Of some ten tracks one is a tenth: what these say is tested in `test_gates.py`.
GATES = "failures,run-failures,live-tracks"
LENIENT = ("--max-failures", "0.5")
KEPT = ("--keep-embeddings", "--also", "artist,sequence")

Shown = pytest.CaptureFixture[str]


class Studio:
    """Models, music and its catalogue, of which indexes are made."""

    def __init__(self, folder: Path, decoder: Heard) -> None:
        self.folder, self.decoder = folder, decoder
        self.catalog = folder / "catalog.csv"
        self.rows: dict[str, dict[str, Any]] = {}
        for number in range(TRACKS):
            self.play(f"{number}.wav", number)
            self.rows[f"t{number:02d}"] = {"uri": f"{number}.wav", "title": f"Title {number}"}
        (folder / "5.wav").write_bytes(b"no audio")

    def play(self, name: str, seed: int) -> None:
        samples = render_track(seed, SECONDS, RATE)
        soundfile.write(self.folder / name, samples, RATE, subtype="FLOAT")

    def model(self, name: str) -> Path:
        shipped = PRETRAINED / name
        return shipped if shipped.is_dir() else self.folder / name

    def write(self) -> Path:
        rows = [{"track_id": name, **row} for name, row in self.rows.items()]
        return write_rows(self.catalog, rows)

    def build(self, index: Path, model: str, *flags: str) -> None:
        assert run_index(self.write(), index, self.model(model), *LENIENT, *flags) == 0
        self.decoder.since()

    def reindex(self, index: Path, *flags: str, gates: str = GATES) -> int:
        names = ["--catalog", str(self.write()), "--index", str(index), "--workers", "1"]
        queries = ["--compare-queries", QUERIES]
        return main(["reindex", *names, *queries, "--no-gates", gates, *flags])


@pytest.fixture(scope="module")
def studio(one_index_decoder: Heard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Twelve tracks, t05 of which cannot be read; models ``old``, ``head`` and ``deaf``."""
    folder = tmp_path_factory.mktemp("studio")
    learned_model(folder / "old")
    learned_model(folder / "head", seed=2, head=2)
    learned_model(folder / "deaf", seed=2, deaf=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rivals, "Decoder", lambda: one_index_decoder)  # the queries come by it, too
        yield Studio(folder, one_index_decoder)


@pytest.fixture(scope="module")
def kept(studio: Studio) -> Path:
    """An index that keeps embeddings; not to be changed."""
    index = studio.folder / "kept"
    studio.build(index, "old", *KEPT)
    return index


@pytest.fixture
def index(kept: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(kept, tmp_path / "index")
    return tmp_path / "index"


def the_same_as_a_fresh_one(studio: Studio, index: Path, model: str, *flags: str) -> None:
    """Rows, codes, artist embeddings and failures; embeddings of snippets where there are some."""
    fresh = index.parent / "fresh"
    studio.build(fresh, model, *flags)
    one, other = contents(index), contents(fresh)
    assert one == other
    first, second = open_manifest(str(index)), open_manifest(str(fresh))
    assert (first.key_bits, first.compared, first.model) == (
        second.key_bits, second.compared, second.model
    )  # fmt: skip
    names = ("tracks", "tracks_hashed", "tracks_failed", "snippets")
    assert [first.counters[name] for name in names] == [second.counters[name] for name in names]
    assert vectors_of(index) == vectors_of(fresh)


def vectors_of(index: Path) -> dict[tuple[str, int], bytes]:
    """track_id and snippet → embedding."""
    found = {}
    for path in open_manifest(str(index)).files.select(kind="embeddings").column("path"):
        table = pq.read_table(index / path)
        vectors = np.array(table["embedding"].to_pylist(), np.float16)
        ids, numbers = (table[name].to_pylist() for name in ("track_id", "snippet"))
        rows = zip(ids, numbers, vectors, strict=True)
        found |= {(name, number): row.tobytes() for name, number, row in rows}
    return found


def summary_of(index: Path) -> dict[str, Any]:
    """What ``run.json`` of the published version says."""
    version = open_manifest(str(index)).version
    found: dict[str, Any] = json.loads((index / "versions" / version / "run.json").read_text())
    return found


def answer(index: Path, seed: int) -> str:
    """The track that a stretch of a piece of music is found in."""
    searcher, tracks, _ = open_index(str(index))
    samples = render_track(seed, SECONDS, RATE)[2 * RATE : 4 * RATE]
    best = searcher.search([searcher.hasher.hash_query([samples])])[0][0]
    return str(tracks.row(best.segment, best.ordinal)["track_id"])


def test_an_equal_model_on_the_same_encoder_takes_over_and_nothing_is_decoded(
    studio: Studio, index: Path, capsys: Shown
) -> None:
    before = contents(index)
    assert studio.reindex(index, "--model", str(studio.model("head"))) == 0
    told = capsys.readouterr()
    assert studio.decoder.since() == []
    assert "asks both models 40 queries" in told.err
    assert "the new model finds" in told.out
    the_same_as_a_fresh_one(studio, index, "head", *KEPT)
    after = contents(index)
    assert (after.artists, after.sequences) == (before.artists, before.sequences)
    assert after.codes.keys() == before.codes.keys()
    assert all(after.codes[name] != before.codes[name] for name in after.codes)
    manifest = open_manifest(str(index))
    assert (manifest.version, manifest.parent) == ("000002", "000001")
    assert manifest.model["digest"] == load_model(str(studio.model("head"))).digest
    assert (manifest.counters["tracks_added"], manifest.counters["tracks_removed"]) == (0, 0)
    figures = summary_of(index)["comparison"]
    assert figures["queries"] == 40
    assert figures["tracks"] == TRACKS - 1
    assert figures["published"] > 0.7
    assert abs(figures["difference"] - (figures["new"] - figures["published"])) < 1e-3
    assert figures["low"] <= figures["difference"] <= figures["high"]
    assert sum(kind["queries"] for kind in figures["kinds"]) == 40
    gates = {gate["name"]: gate for gate in summary_of(index)["gates"]}
    assert gates["model"]["passed"]
    assert gates["model"]["value"] == figures["difference"]
    assert main(["verify", str(index)]) == 0
    assert answer(index, 7) == "t07"
    # And what runs go on from it, or back.
    capsys.readouterr()
    assert studio.reindex(index) == 0
    assert "nothing has changed since version 000002" in capsys.readouterr().out
    assert main(["rollback", str(index)]) == 0
    assert open_manifest(str(index)).model["digest"] == load_model(str(studio.model("old"))).digest
    assert contents(index) == before
    assert answer(index, 7) == "t07"


@pytest.fixture
def changed(studio: Studio) -> Iterator[None]:
    """Something of every class, for one test."""
    folder, rows = studio.folder, dict(studio.rows)
    studio.play("new.wav", 100)
    studio.rows["t20"] = {"uri": "new.wav", "title": "New"}
    shutil.copy2(folder / "1.wav", folder / "1.before")
    studio.play("1.wav", 101)
    shutil.copy2(folder / "2.wav", folder / "moved.wav")
    studio.rows["t02"] = {**rows["t02"], "uri": "moved.wav"}
    (folder / "2.wav").rename(folder / "2.before")
    studio.rows["t03"] = {**rows["t03"], "title": "Other"}
    studio.rows["a04"] = studio.rows.pop("t04")
    del studio.rows["t07"]
    yield
    studio.rows = rows
    for name in ("1", "2"):
        (folder / f"{name}.before").rename(folder / f"{name}.wav")


@pytest.mark.usefixtures("changed")
def test_only_what_changed_is_decoded_on_the_way(
    studio: Studio, index: Path, capsys: Shown
) -> None:
    names = ("--model", str(studio.model("head")))
    assert studio.reindex(index, *names, "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tracks_to_decode"] == 2
    assert studio.reindex(index, *names, "--json") == 0
    assert studio.decoder.since() == ["1", "new"]
    told = json.loads(capsys.readouterr().out)
    assert told["changes"] == {
        "unchanged": 6, "new": 1, "changed": 1, "retried": 0, "failed": 1, "moved": 1,
        "edited": 1, "renamed": 1, "removed": 1,
    }  # fmt: skip
    counters = open_manifest(str(index)).counters
    assert (counters["tracks_added"], counters["tracks_removed"]) == (2, 2)
    # New, changed and renamed ones are not asked for, nor what has gone or failed.
    assert told["comparison"]["tracks"] == 8
    the_same_as_a_fresh_one(studio, index, "head", *KEPT)
    assert main(["verify", str(index)]) == 0
    assert (answer(index, 100), answer(index, 101), answer(index, 4)) == ("t20", "t01", "a04")


def test_a_worse_model_is_refused_and_published_only_when_told_to(
    studio: Studio, index: Path, capsys: Shown
) -> None:
    deaf = ("--model", str(studio.model("deaf")))
    before = contents(index)
    for _ in range(2):  # the second time nothing is left to do but to ask
        assert studio.reindex(index, *deaf) == 1
        told = capsys.readouterr().err
        assert "version 000002 is not published, 1 of 9 quality gates failed: model (-" in told
        assert "at least -0.02): of 40 queries from 11 tracks the new model finds" in told
        assert "--no-gates model publishes all the same" in told
        assert open_manifest(str(index)).version == "000001"
    assert "goes on with the run that was stopped" in told
    assert contents(index) == before
    assert studio.reindex(index, *deaf, gates=f"{GATES},model") == 0
    assert "goes on with the run" in capsys.readouterr().err
    assert summary_of(index)["comparison"] == {}
    assert open_manifest(str(index)).version == "000002"
    assert studio.decoder.since() == []


def test_a_run_without_the_model_gives_the_refused_one_up(
    studio: Studio, index: Path, capsys: Shown
) -> None:
    assert studio.reindex(index, "--model", str(studio.model("deaf"))) == 1
    assert (index / "versions" / "000002").is_dir()
    capsys.readouterr()
    assert studio.reindex(index) == 0
    told = capsys.readouterr()
    assert "run of version 000002 is given up: it was with another model" in told.err
    assert "nothing has changed since version 000001" in told.out
    assert not (index / "versions" / "000002").exists()


def test_another_encoder_hears_everything_again_and_a_killed_run_goes_on(
    studio: Studio, index: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("--model", "contrastive")
    assert studio.reindex(index, *names, "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tracks_to_decode"] == TRACKS
    assert told["audio_to_decode_s"] == pytest.approx(TRACKS * SECONDS, rel=0.05)

    def killed(*args: Any, **named: Any) -> Any:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(remodel, "compare", killed)
        with pytest.raises(RuntimeError, match="killed"):
            studio.reindex(index, *names)
    assert studio.decoder.since() == sorted(map(str, range(TRACKS)))
    receipts = index / "versions" / "000002" / "work" / "receipts"
    _, last = sorted(receipts.glob("part-*"))
    last.unlink()
    assert studio.reindex(index, *names) == 0
    assert studio.decoder.since() == ["10", "11", "8", "9"]
    the_same_as_a_fresh_one(studio, index, "contrastive", *KEPT)
    assert main(["verify", str(index)]) == 0
    assert answer(index, 7) == "t07"


def test_a_model_without_embeddings_takes_the_place_of_one_that_has_some(
    studio: Studio, index: Path, capsys: Shown
) -> None:
    assert studio.reindex(index, "--model", "forgiving", gates=f"{GATES},model") == 0
    assert "the new model has no embeddings" in capsys.readouterr().err
    assert open_manifest(str(index)).compared == "codes"
    the_same_as_a_fresh_one(studio, index, "forgiving", "--also", "artist,sequence")


def test_the_old_model_must_be_found(studio: Studio, index: Path, capsys: Shown) -> None:
    moved = studio.model("old").rename(studio.folder / "elsewhere")
    try:
        names = ("--model", str(studio.model("head")), "--dry-run", "--json")
        assert studio.reindex(index, *names) == 1
        assert "name its folder with --old-model, or publish without" in capsys.readouterr().err
        assert studio.reindex(index, *names, "--old-model", str(moved)) == 0
        assert json.loads(capsys.readouterr().out)["tracks_to_decode"] == 0
        assert studio.reindex(index, *names, gates="model") == 0
        assert json.loads(capsys.readouterr().out)["tracks_to_decode"] == TRACKS
    finally:
        moved.rename(studio.model("old"))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--old-model", "x"], "--old-model: is for a new --model"),
        (["--compare-queries", "3"], "--compare-queries: must be from 20 to 100000, got 3"),
    ],
)
def test_mistakes(capsys: Shown, flags: list[str], told: str) -> None:
    assert main(["reindex", "--catalog", "C", "--index", "I", *flags]) == 2
    assert told in capsys.readouterr().err
