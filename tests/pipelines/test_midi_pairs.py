"""``hashbeam midi-pairs`` end to end, on music that is made up and played without a soundfont."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from index_helpers import error_line as error_line_of
from midi_files import END, made_up_song, note, song, tempo
from tiny_catalog import write_rows

from hashing.midi import Song
from hashing.midi_writing import midi_bytes
from hashing.models import DEFAULT_MODEL
from hashing.rendering import render_plainly
from hashing.scores import ScoreError
from hashing.sequences import SequenceFeatures, TrackSequence
from pipelines.cli import main
from pipelines.pairing import align

RATE = 8000
# A note of 9,600 beats where a beat has two ticks.
HOURS = bytes([0, 0x90, 60, 90, 0x81, 0x96, 0, 0x80, 60, 0])
SECONDS = 24.0
TITLES = {1: "Let It Be", 2: "Yesterday", 3: "Élégie (Remastered)"}
ARTISTS = {1: "The Beatles", 2: "The Beatles", 3: "Youssou N'Dour"}


def slower(a_song: Song, factor: float) -> Song:
    """A song at another tempo."""
    whole = np.array([0.0, a_song.duration_s])
    return a_song.mapped(whole, whole * factor)


@dataclasses.dataclass(frozen=True)
class Folder:
    """Recordings, their catalogue, and MIDI files; what the verb made of them."""

    root: Path
    catalog: Path
    midi: Path
    out: Path
    summary: dict[str, Any]

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """All rows of a kind of result."""
        return pq.read_table(self.out / kind).to_pylist()


def find(root: Path, out: Path, *flags: str) -> int:
    """The exit status of ``hashbeam midi-pairs`` in this process."""
    folders = ["--catalog", str(root / "catalog.csv"), "--midi", str(root / "midi")]
    settings = ["--out", str(out), "--workers", "1", "--soundfont", "plain"]
    return main(["midi-pairs", *folders, *settings, *flags])


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    return error_line_of(capsys, "midi-pairs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Three recordings, slower than their MIDI files; copies, a decoy, and broken files."""
    root = tmp_path_factory.mktemp("pairs")
    rows = []
    for seed, title in TITLES.items():
        played = slower(made_up_song(seed, SECONDS, drums=False), 1.05)
        soundfile.write(root / f"{seed}.wav", render_plainly(played, RATE), RATE)
        row = {"track_id": f"t{seed}", "uri": f"{seed}.wav", "title": title}
        rows.append(row | {"artist_name": ARTISTS[seed]})
    rows.append({"track_id": "t4", "uri": "no.wav", "title": "Gone", "artist_name": "Nobody"})
    write_rows(root / "catalog.csv", rows)
    first = made_up_song(1, SECONDS, drums=False)
    files = {
        "Beatles/LetItBe.mid": midi_bytes(first),
        "copies/Beatles - Let It Be.kar": midi_bytes(
            dataclasses.replace(first, names=("a", "b", "c"))
        ),
        "the_beatles-yesterday_(live).2.MID": midi_bytes(made_up_song(9, SECONDS, drums=False)),
        "youssou_ndour_elegie.midi": midi_bytes(made_up_song(3, SECONDS, drums=False)),
        "Nobody - Gone.mid": midi_bytes(made_up_song(4, SECONDS, drums=False)),
        "strange.mid": midi_bytes(made_up_song(5, SECONDS, drums=False)),
        "broken/cut.mid": midi_bytes(first)[:-40],
        "broken/drums.mid": song(note(36, 96, channel=9) + END),
        "broken/empty.mid": b"",
        "broken/no notes.mid": song(END),
        "broken/no tracks.mid": song(),
        "broken/short.mid": song(note(60, 96) + END),
        "broken/tempo 0.mid": song(tempo(0) + note(60, 96) + END),
        "broken/ten hours.mid": song(tempo(0xFFFFFF) + HOURS + END, division=2),
        ".hidden.mid": b"",
        "notes.txt": b"no music",
    }
    for name, data in files.items():
        path = root / "midi" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    os.symlink("strange.mid", root / "midi" / "link.mid")
    out = root / "found"
    assert find(root, out) == 0
    summary = json.loads((out / "run.json").read_text())
    return Folder(root, root / "catalog.csv", root / "midi", out, summary)


def test_pairs_are_those_that_sound_alike(folder: Folder) -> None:
    found = {(row["midi_path"], row["track_id"]): row for row in folder.rows("pairs")}
    assert set(found) == {("Beatles/LetItBe.mid", "t1"), ("youssou_ndour_elegie.midi", "t3")}
    assert all(row["confidence"] > 0.7 for row in found.values())
    assert all(0.9 < row["name_score"] <= 1 for row in found.values())


def test_alignments_are_true(folder: Folder) -> None:
    for row in folder.rows("pairs"):
        pairs = row["alignment"]
        midi_s = np.array([pair["midi_s"] for pair in pairs])
        audio_s = np.array([pair["audio_s"] for pair in pairs])
        assert (np.diff(midi_s) > 0).all()
        assert (np.diff(audio_s) >= 0).all()
        at = np.arange(1, SECONDS - 2, 0.25)
        error = np.abs(np.interp(at, midi_s, audio_s) - 1.05 * at)
        assert np.median(error) < 0.06


def test_copies_are_told(folder: Folder) -> None:
    copy = {"midi_path": "copies/Beatles - Let It Be.kar", "repeats": "Beatles/LetItBe.mid"}
    assert folder.rows("duplicates") == [copy]


def test_failures_are_told(folder: Folder) -> None:
    rows = {row["midi_path"]: (row["stage"], row["error"]) for row in folder.rows("failures")}
    assert rows == {
        "Nobody - Gone.mid": ("decode", "missing"),
        "broken/cut.mid": ("read", "truncated"),
        "broken/drums.mid": ("read", "drums-only"),
        "broken/empty.mid": ("read", "not-midi"),
        "broken/no notes.mid": ("read", "no-notes"),
        "broken/no tracks.mid": ("read", "no-tracks"),
        "broken/short.mid": ("read", "too-short"),
        "broken/tempo 0.mid": ("read", "bad-tempo"),
        "broken/ten hours.mid": ("read", "too-long"),
        "link.mid": ("find", "link"),
    }


def test_the_summary_counts(folder: Folder) -> None:
    wanted = {"tracks": 4, "midi_files": 14, "midi_files_skipped": 1, "midi_files_failed": 8}
    wanted |= {"midi_files_repeated": 1, "midi_files_named": 4, "pairs_failed": 1}
    wanted |= {"pairs_aligned": 3, "pairs_kept": 2, "midi_files_kept": 2, "tracks_kept": 2}
    assert {name: folder.summary[name] for name in wanted} == wanted
    assert sorted(path.name for path in folder.out.iterdir()) == [
        *("duplicates", "failures", "pairs", "plan.json", "run.json")
    ]


def test_a_finished_folder_and_one_of_other_things_are_refused(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find(folder.root, folder.out) == 1
    assert "holds all pairs already" in error_line(capsys)
    assert find(folder.root, folder.root / "midi") == 1
    assert "is not empty" in error_line(capsys)


def test_a_stopped_run_goes_on(
    folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: Any) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.pairing.transforms.align_part", stop)
        assert find(folder.root, tmp_path / "out") == 1
    assert "the disk is full" in error_line(capsys)
    assert find(folder.root, tmp_path / "out", "--min-confidence", "0.1") == 1
    assert "found with other options" in error_line(capsys)
    assert find(folder.root, tmp_path / "out", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["parts_resumed"], summary["pairs_kept"]) == (1, 2)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"track_id": "a", "uri": "a.wav"}], "there is no column title"),
        ([{"track_id": "a", "uri": "a.wav", "title": ""}], "titles are all empty"),
    ],
)
def test_a_catalogue_without_titles(
    rows: list[dict[str, str]],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_rows(tmp_path / "catalog.csv", rows)
    (tmp_path / "midi").mkdir()
    assert find(tmp_path, tmp_path / "out") == 2
    assert words in error_line(capsys)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_midi(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "catalog.csv", [{"track_id": "a", "uri": "a", "title": "A"}])
    (tmp_path / "midi").mkdir()
    assert find(tmp_path, tmp_path / "out") == 2
    assert "holds no MIDI files" in error_line(capsys)


def test_all_mistakes_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--min-confidence", "2", "--soundfont", "no such.sf2", "--workers", "x"]
    assert main(["midi-pairs", "--midi", str(tmp_path), *flags]) == 2
    line = error_line(capsys)
    for flag in ("--catalog", "--out", "--min-confidence", "--soundfont", "--workers"):
        assert flag in line


def test_too_many_cells_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align, "MAX_CELLS", 99)
    ten = TrackSequence(
        np.zeros(10, np.uint32), np.zeros((1, 128), np.float32), np.zeros((80, 48), np.uint8)
    )
    with pytest.raises(ScoreError, match="too long to be aligned"):
        align.lay_along(ten, ten, SequenceFeatures(), 0.5)


def test_a_model_of_another_kind_is_refused(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find(folder.root, tmp_path / "out", "--sequence-model", DEFAULT_MODEL) == 1
    assert "name one of the kind 'sequence'" in error_line(capsys)
    assert not (tmp_path / "out").exists()
