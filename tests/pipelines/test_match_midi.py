"""``hashbeam match-midi`` end to end: songs, and recordings that are played from them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from index_helpers import error_line, run_index
from midi_files import END, made_up_song, note, song, tempo
from published_index import answer_rows
from tiny_catalog import write_rows

from hashing.errors import HashbeamError
from hashing.midi import parse_song, read_song
from hashing.midi_writing import midi_bytes
from hashing.models import DEFAULT_MODEL, PRETRAINED
from hashing.rendering import render_plainly
from hashing.scores import RENDER_HZ
from pipelines.cli import main
from pipelines.matching import run as matching_run
from pipelines.versions import CURRENT, open_manifest

SECONDS = 16.0
LATE_S = 3.0  # silence before the song in the recording of song 1
SONGS = 4
FAR = bytes([0xFF, 0xFF, 0xFF, 0x7F])  # the longest time to an event, in ticks

LONG = bytes([0xA3, 0]) + note(60, 96)[1:]  # a note 76 min later, where a beat has one tick

BAD = {
    "cut.mid": ("truncated", midi_bytes(made_up_song(9, 14.0))[:-40]),
    "no-tracks.mid": ("no-tracks", song()),
    "no-notes.mid": ("no-notes", song(tempo(500_000) + END)),
    "drums.mid": ("drums-only", song(note(40, 96, channel=9) + END)),
    "tempo-0.mid": ("bad-tempo", song(tempo(0) + note(60, 96) + END)),
    "text.mid": ("not-midi", b"no music at all"),
    "empty.mid": ("not-midi", b""),
    "short.mid": ("too-short", song(note(60, 96) * 8 + END)),
    "far.mid": ("too-long", song(note(60, 96) + FAR + note(62, 96)[1:] + END)),
    "ten-hours.mid": ("too-long", song(note(60, 96) + 8 * LONG + END, division=1)),
}


@dataclasses.dataclass(frozen=True)
class Music:
    """Songs in a folder, an index of recordings, and what the verb made of both."""

    folder: Path
    index: Path
    midi: Path
    out: Path
    summary: dict[str, Any]

    @property
    def best(self) -> dict[str, dict[str, Any]]:
        """The first match of each MIDI file that has one."""
        return {row["query_id"]: row for row in answer_rows(self.out) if row["rank"] == 1}


def match(index: Path, midi: Path, out: Path, *flags: str) -> int:
    """The exit status of ``hashbeam match-midi`` in this process."""
    names = ["--index", str(index), "--midi", str(midi), "--out", str(out)]
    return main(["match-midi", *names, "--soundfont", "plain", "--workers", "1", *flags])


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Music:
    """Four songs and their recordings, one of them late; one song, and one recording, alone."""
    folder = tmp_path_factory.mktemp("match")
    midi, rows = folder / "midi", []
    (midi / "sub").mkdir(parents=True)
    samples = {}
    for number in range(SONGS + 2):
        data = midi_bytes(made_up_song(number, SECONDS))
        if number <= SONGS:
            name = f"sub/s{number}.mid" if number % 2 else f"s{number}.kar"
            (midi / name).write_bytes(data)
        if number != SONGS:
            samples[f"t{number}"] = render_plainly(parse_song(data), RENDER_HZ)
    samples["t1"] = np.concatenate([np.zeros(round(LATE_S * RENDER_HZ), np.float32), samples["t1"]])
    samples["silent"] = np.zeros(RENDER_HZ * 15, np.float32)
    samples["below-a-code"] = samples["t0"][: round(0.2 * RENDER_HZ)]
    samples["two-seconds"] = samples["t0"][: 2 * RENDER_HZ]
    for name, values in samples.items():
        soundfile.write(folder / f"{name}.wav", values, RENDER_HZ)
        rows.append({"track_id": name, "uri": f"{name}.wav"})
    catalog = write_rows(folder / "catalog.csv", rows)
    index = folder / "index"
    flags = ["--also", "sequence", "--no-gates", "all", "--quiet"]
    assert run_index(catalog, index, PRETRAINED / DEFAULT_MODEL, *flags) == 0
    for name, (_, data) in BAD.items():
        (midi / name).write_bytes(data)
    os.symlink(midi / "s0.kar", midi / "link.mid")
    out = folder / "out"
    assert match(index, midi, out, "--min-score", "0", "--aligned", "--quiet") == 0
    return Music(folder, index, midi, out, json.loads((out / "run.json").read_text()))


def test_each_song_finds_its_recording_and_where_it_lies(music: Music) -> None:
    for number in range(SONGS):
        row = music.best[f"sub/s{number}.mid" if number % 2 else f"s{number}.kar"]
        assert row["track_id"] == f"t{number}"
        assert row["score"] > 0.9
        late_s = LATE_S if number == 1 else 0.0
        assert row["offset_s"] == pytest.approx(late_s, abs=0.1)
        assert row["query_start_s"] == pytest.approx(0.0, abs=0.1)
        assert row["query_end_s"] == pytest.approx(SECONDS - 1, abs=1.5)
        pairs = np.array([list(pair.values()) for pair in row["alignment"]])
        np.testing.assert_allclose(pairs[:, 1] - pairs[:, 0], late_s, atol=0.1)


def test_ranks_rise_and_scores_fall(music: Music) -> None:
    rows = answer_rows(music.out)
    for query in {row["query_id"] for row in rows}:
        own = [row for row in rows if row["query_id"] == query]
        assert [row["rank"] for row in own] == list(range(1, len(own) + 1))
        order = [(-row["score"], row["hash_score"], row["track_id"]) for row in own]
        assert order == sorted(order)
        assert len(own) == SONGS + 1  # neither what is silent nor what is too short


def test_moved_files_lie_at_the_time_of_their_recordings(music: Music) -> None:
    moved = read_song(music.out / "aligned" / "sub" / "s1.mid")
    own = read_song(music.midi / "sub" / "s1.mid")
    assert abs(len(moved.start_s) - len(own.start_s)) <= 4  # what the alignment does not reach
    assert moved.start_s[0] == pytest.approx(own.start_s[0] + LATE_S, abs=0.1)
    names = sorted(str(p.relative_to(music.out)) for p in (music.out / "aligned").rglob("*.mid"))
    assert names[:2] == ["aligned/s0.kar.mid", "aligned/s2.kar.mid"]


def test_bad_files_are_told_with_their_reason(music: Music) -> None:
    failures = {row["track_id"]: row for row in answer_rows(music.out, "failures")}
    kinds = {name: row["error"] for name, row in failures.items()}
    assert kinds == {"link.mid": "link", **{name: kind for name, (kind, _) in BAD.items()}}
    assert all(name in row["message"] for name, row in failures.items())
    summary = music.summary
    assert (summary["midi_failed"], summary["midi_skipped"]) == (len(BAD), 1)
    assert summary["midi_files"] == SONGS + 1 + len(BAD)
    assert summary["midi_matched"] == summary["midi_files"] - len(BAD)


def test_a_folder_of_bad_files_has_no_matches(music: Music, tmp_path: Path) -> None:
    bad, out = tmp_path / "midi", tmp_path / "out"
    bad.mkdir()
    for name in ("cut.mid", "drums.mid"):
        shutil.copy(music.midi / name, bad)
    assert match(music.index, bad, out, "--aligned") == 0
    assert answer_rows(out) == []
    summary = json.loads((out / "run.json").read_text())
    assert (summary["midi_failed"], summary["midi_unmatched"], summary["pairs"]) == (2, 0, 0)


def test_counters_add_up(music: Music) -> None:
    summary = music.summary
    assert summary["recordings"] == SONGS + 2  # "two-seconds" among them
    assert summary["recordings_too_short"] == 1
    assert summary["pairs"] == summary["pairs_after_embeddings"] == (SONGS + 1) * (SONGS + 2)
    assert summary["pairs_after_hashes"] == summary["midi_matched"] * (SONGS + 1)
    assert summary["matches"] == len(answer_rows(music.out))
    assert 0 < summary["align_cpu_s"] < summary["wall_s"]
    assert not (music.out / "work").exists()


def test_a_song_without_a_recording_has_no_match(
    music: Music, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    out = tmp_path / "out"
    few = tmp_path / "midi"
    few.mkdir()
    for name in ("sub/s1.mid", "s4.kar"):
        shutil.copy(music.midi / name, few / Path(name).name)
    assert match(music.index, few, out, "--top", "1", "--json") == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary == json.loads((out / "run.json").read_text())
    assert [(row["query_id"], row["track_id"]) for row in answer_rows(out)] == [("s1.mid", "t1")]
    assert (summary["midi_matched"], summary["midi_unmatched"], summary["midi_failed"]) == (1, 1, 0)
    assert match(music.index, few, out, "--top", "1") == 1
    assert "holds all matches already" in error_line(capsys, "match-midi")
    assert match(music.index, few, out, "--top", "2") == 1
    assert "with other options" in error_line(capsys, "match-midi")


def test_tracks_that_have_gone_are_not_found(music: Music, tmp_path: Path) -> None:
    index, few = tmp_path / "index", tmp_path / "midi"
    shutil.copytree(music.index, index)
    few.mkdir()
    shutil.copy(music.midi / "s0.kar", few)
    (tmp_path / "gone.txt").write_text("t0\nt3\n")
    gone = ["--ids", str(tmp_path / "gone.txt"), "--no-gates", "all"]
    assert main(["remove", str(index), *gone]) == 0
    assert match(index, few, tmp_path / "out", "--min-score", "0", "--top", "9") == 0
    found = sorted(row["track_id"] for row in answer_rows(tmp_path / "out"))
    assert found == ["t1", "t2", "t5"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["recordings"] == SONGS


def test_a_stopped_run_goes_on(
    music: Music, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patched:

        def stop(*_: object) -> Any:
            raise HashbeamError("the disk is full")

        patched.setitem(matching_run.WITH_QUERIES, "gather", stop)
        assert match(music.index, music.midi, out, "--min-score", "0", "--quiet", "--aligned") == 1
    assert not (out / "run.json").exists()
    with monkeypatch.context() as patched:
        for step in ("hear", "search"):  # nothing is done twice
            group = matching_run.WITH_MODEL if step == "hear" else matching_run.WITH_QUERIES
            patched.setitem(group, step, stop)
        assert match(music.index, music.midi, out, "--min-score", "0", "--aligned") == 0
    assert answer_rows(out) == answer_rows(music.out)
    assert answer_rows(out, "failures") == answer_rows(music.out, "failures")
    summary = json.loads((out / "run.json").read_text())
    assert summary["tasks_resumed"] == summary["tasks"] - 3
    assert summary["pairs"] == music.summary["pairs"]
    text = capsys.readouterr().out
    assert f"{SONGS + 1} with a match, 0 without, {len(BAD)} that could not be heard" in text


def test_what_cannot_be_used_is_one_line(
    music: Music, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    capsys.readouterr()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert match(music.index, empty, tmp_path / "out") == 2
    assert "holds no MIDI files" in error_line(capsys, "match-midi")
    assert match(tmp_path / "none", music.midi, tmp_path / "out") == 1
    assert "there is no such index" in error_line(capsys, "match-midi")
    assert match(music.index, music.midi, tmp_path / "out", "--soundfont", "no.sf2") == 1
    assert "no.sf2" in error_line(capsys, "match-midi")
    assert main(["match-midi", "--top", "0", "--share", "0", "--candidates", "x"]) == 2
    line = error_line(capsys, "match-midi")
    flags = ("--index", "--midi", "--out", "--top", "--share", "--candidates")
    assert all(flag in line for flag in flags)
    assert not (tmp_path / "out").exists()


def test_an_index_without_sequences_or_of_another_model_is_refused(
    music: Music, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    index = tmp_path / "index"
    version = open_manifest(str(music.index)).version
    folder = Path("versions") / version
    (index / folder).mkdir(parents=True)
    shutil.copy(music.index / CURRENT, index / CURRENT)
    manifest = json.loads((music.index / folder / "manifest.json").read_text())
    made_by = manifest["also"]["sequence"]

    def write(also: dict[str, Any]) -> None:
        text = json.dumps({**manifest, "also": also})
        (index / folder / "manifest.json").write_text(text)

    write({})
    assert match(index, music.midi, tmp_path / "out") == 2
    assert "hashbeam index --also sequence" in error_line(capsys, "match-midi")
    write({"sequence": {**made_by, "digest": "f" * 64}})
    assert match(index, music.midi, tmp_path / "out") == 1
    line = error_line(capsys, "match-midi")
    assert "f" * 16 in line
    assert made_by["digest"][:16] in line
    assert "--sequence-model" in line
