"""``hashbeam generate``: made-up artists, by command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hashing.generated.clips import ClipSettings
from pipelines.cli import main

Shown = pytest.CaptureFixture[str]


def test_songs_and_a_catalogue_of_them(tmp_path: Path, capsys: Shown) -> None:
    command = ["generate", "--out", str(tmp_path / "g"), "--artists", "4", "--albums", "1"]
    command += ["--songs", "2", "--seconds", "1", "--codec", "wav", "--workers", "1"]
    assert main([*command, "--homonyms", "1", "--duets", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"catalog": f"{tmp_path}/g/catalog.csv", "tracks": 9}
    rows = list(csv.DictReader(Path(told["catalog"]).read_text("utf-8").splitlines()))
    assert len(rows) == 9
    assert all((tmp_path / "g" / row["uri"]).stat().st_size > 40_000 for row in rows)
    names = {row["artist_id"]: row["artist_name"] for row in rows if ";" not in row["artist_id"]}
    assert len(names) == 4
    assert len(set(names.values())) == 3  # two of them share one
    assert sum(";" in row["artist_name"] for row in rows) == 1
    # Started again, it finds everything there.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "g").rglob("*.wav")}
    assert main([*command, "--homonyms", "1", "--duets", "1"]) == 0
    assert capsys.readouterr().out.endswith("catalog.csv: 9 tracks of 4 artists\n")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "g").rglob("*.wav")}
    # Other songs do not go into the same folder.
    assert main([*command, "--seed", "2"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--artists", "0"], "--artists"),
        (["--albums", "3", "--songs", "2"], "--albums: an album needs a song"),
        (["--artists", "3", "--homonyms", "2"], "--homonyms, --aliases: they need more artists"),
        (["--artists", "3", "--duets", "4"], "--duets: no more than there are artists"),
        (["--codec", "exe"], "--codec: must be one of flac"),
        (["--midi", "no such folder"], "--midi: no such folder is not a folder"),
        (["--seconds", "0"], "--seconds"),
        (["paintings"], "KIND: paintings is none of artists, instruments"),
        (["instruments", "--training", "-1"], "--training"),
        (["instruments", "--seconds", "61"], "--seconds"),
        (
            ["instruments", *["--training", "0", "--database", "0", "--queries", "0"]],
            "no clips at all",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, capsys: Shown, flags: list[str], words: str) -> None:
    assert main(["generate", "--out", str(tmp_path / "g"), *flags]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "g").exists()


def test_clips_of_instruments(
    tmp_path: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    def write(*arguments: object) -> list[dict[str, str]]:
        made.extend(arguments)
        return [{"label": "violin"}, {"label": "violin"}, {"label": "cello"}]

    monkeypatch.setattr("pipelines.generate.write_clips", write)
    command = ["generate", "instruments", "--out", str(tmp_path / "c"), "--training", "7"]
    assert main([*command, "--workers", "3", "--seed", "4"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/c/labels.csv: 3 clips of 2 classes\n"
    assert made == [str(tmp_path / "c"), ClipSettings(training=7, seed=4), 3]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"labels": f"{tmp_path}/c/labels.csv", "clips": 3, "classes": 2}
