"""``hashbeam evaluate midi`` end to end: songs made up, played plainly, and asked for."""

from __future__ import annotations

import copy
import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from index_helpers import error_line
from midi_files import made_up_song, note, song
from tiny_catalog import write_rows

from hashing import audio, rendering
from hashing.errors import HashbeamError
from hashing.midi_writing import midi_bytes
from hashing.models import ARTIST_KIND, DEFAULT_SEQUENCE_MODEL, PRETRAINED
from hashing.synthesis import render_track
from pipelines.cli import main
from pipelines.evaluation.midi import fonts
from pipelines.evaluation.midi.processes import each
from pipelines.evaluation.midi.summary import _curve
from pipelines.report.midi_page import midi_page

SONGS, SECONDS, RATE = 7, 15.0, 8000
Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module", autouse=True)
def _no_synthesiser() -> Any:
    """All is played plainly, whatever is installed here."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (fonts, rendering):
            patched.setattr(module, "fluidsynth_command", lambda: None)
        yield


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven songs, a copy of one of them, and files that cannot be heard."""
    folder = tmp_path_factory.mktemp("evaluate") / "songs"
    folder.mkdir()
    for number in range(SONGS):
        (folder / f"s{number}.mid").write_bytes(midi_bytes(made_up_song(number, SECONDS)))
    shutil.copy(folder / "s3.mid", folder / "s9.mid")
    (folder / "cut.mid").write_bytes((folder / "s0.mid").read_bytes()[:-40])
    (folder / "short.mid").write_bytes(song(note(60, 96) * 8))
    return folder


@pytest.fixture(scope="module")
def catalog(songs: Path) -> Path:
    """Two tracks of music, and one that is not there."""
    rows = []
    for number in range(2):
        path = songs.parent / f"{number}.wav"
        audio.encode(render_track(number, 13.0, RATE), RATE, str(path), codec="wav")
        rows.append({"track_id": f"t{number}", "uri": path.name})
    rows.append({"track_id": "gone", "uri": "gone.wav"})
    return write_rows(songs.parent / "catalog.csv", rows)


@pytest.fixture(scope="module")
def model(songs: Path) -> Path:
    """The shipped model, as if it had learned two of the songs, one of them by its copy."""
    folder = songs.parent / "model"
    shutil.copytree(PRETRAINED / DEFAULT_SEQUENCE_MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    config["training"] = {"trained_on": ["songs-s0", "other-s1"], "chosen_by": ["songs-s9"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def run(*flags: object) -> int:
    return main(["evaluate", "midi", "--quiet", "--workers", "1", *map(str, flags)])


@pytest.fixture(scope="module")
def measured(songs: Path, catalog: Path, model: Path) -> tuple[Path, dict[str, Any]]:
    out = songs.parent / "out"
    assert run("--midi", songs, "--catalog", catalog, "--model", model, "--out", out) == 0
    return out, json.loads((out / "figures.json").read_text())


def rows_of(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "queries.parquet").to_pylist()
    return rows


def test_songs_that_the_model_knows_are_there_but_do_not_ask(measured: tuple[Path, dict]):
    out, figures = measured
    assert [row["name"] for row in rows_of(out)] == [f"songs-s{n}" for n in (1, 2, 4, 5, 6)]
    assert (figures["songs"], figures["songs_known"], figures["songs_repeated"]) == (8, 2, 1)
    assert (figures["recordings"], figures["recordings_of_music"]) == (SONGS + 2, 2)
    assert figures["failed"] == {"truncated": 1, "too-short": 1, "missing": 1}
    failed = pq.read_table(out / "failures").to_pylist()
    assert {(row["track_id"], row["error"]) for row in failed} == {
        *(("cut.mid", "truncated"), ("short.mid", "too-short"), ("gone", "missing")),
    }


def test_figures_are_those_of_the_rows(measured: tuple[Path, dict]):
    out, figures = measured
    rows, n = rows_of(out), figures["recordings"]
    stages = {one["name"]: one for one in figures["stages"]}
    for name, column in (
        ("hash sequences", "rank_hashes"),
        ("thresholded frames", "rank_hashes_baseline"),
        ("embeddings", "rank_embeddings"),
        ("mean and deviation", "rank_embeddings_baseline"),
    ):
        ranks = np.array([row[column] for row in rows])
        assert 1 <= ranks.min() <= ranks.max() <= n
        assert stages[name]["mrr"] == pytest.approx((1 / ranks).mean())
        assert stages[name]["curve"][-1] == [n, 1.0]
    own = figures["cascades"][0]
    assert own["first"] == np.mean([row["rank"] == 1 for row in rows])
    assert own["sure_where_absent"] == np.mean([row["confidence_absent"] > 0.5 for row in rows])
    for value, column in (
        (own["alignment_error_s"]["median"], "error_s"),
        (own["confidence"]["right"]["0.5"], "confidence"),
    ):
        assert value == pytest.approx(np.median([row[column] for row in rows]), abs=1e-4)
    assert own["threshold_at_1_percent"] == max(row["confidence_absent"] for row in rows)
    assert {row["absent_best"] for row in rows}.isdisjoint({None})
    assert all(row["absent_best"] != row["name"] for row in rows)
    # All are aligned, where there are so few.
    assert own["pruned"] == {"embeddings": 0.0, "hashes": 0.0, "both": 0.0}
    assert own["dropped_by_embeddings"] == own["dropped_by_hashes"] == 0


def test_alignment_finds_recordings_and_where_they_lie(measured: tuple[Path, dict]):
    own = measured[1]["cascades"][0]
    assert own["first"] >= 0.8
    assert own["alignment_error_s"]["median"] < 0.1
    assert own["sure_where_absent"] == 0


def test_the_page_says_it_all_and_needs_nothing_else(measured: tuple[Path, dict]):
    out, figures = measured
    page = (out / "report.html").read_text()
    for text in (
        "Stage by stage",
        "Recall",
        "What each stage leaves",
        "thresholded frames",
        "0.704",
    ):
        assert text in page
    assert "5 queries are few" in page
    assert "played by the same: plain synthesis" in page
    assert "<script" not in page
    assert "src=" not in page
    assert str(out.parent) not in page + json.dumps(figures)


def test_names_are_escaped(measured: tuple[Path, dict]):
    out, figures = measured
    rows = rows_of(out)
    rows[0] |= {"name": "<script>alert(1)</script>", "rank": 0, "best": None}
    page = midi_page(copy.deepcopy(figures), rows)
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>" not in page


def test_the_same_command_takes_what_was_rendered(
    measured: tuple[Path, dict], songs: Path, catalog: Path, model: Path
):
    out, figures = measured
    work = sorted(Path(f"{out}.work").iterdir())
    before = [path.stat().st_mtime_ns for path in work]
    work[0].write_bytes(b"cut")  # a file that was spoiled is made anew
    flags = ["--midi", songs, "--catalog", catalog, "--model", model]
    assert run(*flags, "--out", songs.parent / "again", "--work", f"{out}.work") == 0
    assert sorted(Path(f"{out}.work").iterdir()) == work
    assert [path.stat().st_mtime_ns for path in work[1:]] == before[1:]
    again = json.loads((songs.parent / "again" / "figures.json").read_text())
    assert again["distances"] == figures["distances"]
    for one, other in zip(again["stages"], figures["stages"], strict=True):
        assert {**one, "cpu_s": 0} == {**other, "cpu_s": 0}


def test_fewer_queries_and_decoys(
    measured: tuple[Path, dict], songs: Path, model: Path, capsys: Shown
):
    out = songs.parent / "few"
    flags = ["--midi", songs, "--model", model, "--work", f"{measured[0]}.work", "--json"]
    capsys.readouterr()
    assert run(*flags, "--out", out, "--queries", "2", "--decoys", "1", "--all") == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["queries"], figures["recordings"]) == (2, 3)
    assert figures == json.loads((out / "figures.json").read_text())
    known = sum(row["known"] for row in rows_of(out))
    assert figures["known_asked"] == known


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--midi: name one or more folders", "--out"]),
        (["--midi", "{songs}", "--out", "{out}", "--queries", "1"], ["--queries: must be from 2"]),
        (["--midi", "no-such", "--out", "{out}"], ["no-such is no folder"]),
        (["--midi", "{songs}", "--out", "{file}"], ["--out", "is a file"]),
        (
            ["--midi", "{songs}", "--out", "{out}", "--model", "{artist}"],
            ["is of the kind 'artist'"],
        ),
        (
            ["--midi", "{songs}", "--out", "{out}", "--soundfont", "a.sf2"],
            ["--soundfont: a.sf2 needs FluidSynth"],
        ),
    ],
)
def test_mistakes_are_one_line(
    flags: list[str], words: list[str], songs: Path, tmp_path: Path, capsys: Shown
):
    names = {"songs": songs, "out": tmp_path / "o", "file": songs / "s0.mid"}
    names["artist"] = next(
        path.parent
        for path in PRETRAINED.glob("*/config.json")
        if json.loads(path.read_text())["kind"] == ARTIST_KIND
    )
    assert run(*[flag.format(**names) for flag in flags]) in (1, 2)
    line = error_line(capsys, "evaluate")
    assert all(word in line for word in words), line
    assert not (tmp_path / "o").exists()


def test_a_soundfont_that_is_none(
    songs: Path, tmp_path: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fonts, "fluidsynth_command", lambda: "fluidsynth")
    flags = ["--midi", songs, "--out", tmp_path / "o", "--soundfont"]
    assert run(*flags, "no-such.sf2") == 2
    assert "--soundfont: no-such.sf2 is no file" in error_line(capsys, "evaluate")
    assert run(*flags, songs / "s0.mid") == 2
    assert "is no soundfont" in error_line(capsys, "evaluate")


def test_too_few_songs(songs: Path, model: Path, tmp_path: Path, capsys: Shown):
    few = tmp_path / "songs"
    few.mkdir()
    for name in ("s0.mid", "s1.mid"):
        shutil.copy(songs / name, few)
    flags = ["--midi", few, "--model", model, "--out", tmp_path / "o"]
    assert run(*flags) == 2
    line = error_line(capsys, "evaluate")
    assert "1 of 2 songs can be asked for that the model has not learned" in line
    assert "--all" in line


def test_another_soundfont_than_that_of_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def add(name: str) -> str:
        (tmp_path / name).write_bytes(b"RIFF\0\0\0\0sfbk")
        return str(tmp_path / name)

    monkeypatch.setattr(fonts, "fluidsynth_command", lambda: "fluidsynth")
    for module in (fonts, rendering):
        monkeypatch.setattr(module, "FOLDERS", (str(tmp_path),))
    assert fonts.score_font() == "plain"
    scores = add("TimGM6mb.sf2")
    assert fonts.score_font() == scores
    assert fonts.recording_font(None, scores) == "plain"
    other = add("other.sf2")
    assert fonts.recording_font(None, scores) == other
    best = add(fonts.RECORDINGS)
    assert fonts.recording_font(None, scores) == best
    assert fonts.recording_font("other.sf2", scores) == other
    assert fonts.recording_font("plain", scores) == "plain"


def test_recall_counts_what_was_dropped_as_not_found():
    assert _curve(np.array([0, 2, 2, 3]), 10) == [(1, 0.0), (2, 0.5), (3, 0.75), (10, 0.75)]


def test_processes_answer_in_order_and_one_that_dies_is_told():
    assert list(each(functools.partial(functools.partial, abs), [-1, 2, -3], 2)) == [1, 2, 3]
    with pytest.raises(HashbeamError, match="a worker process died"):
        list(each(functools.partial(functools.partial, os._exit), [1, 1], 2))
