"""``hashbeam match-midi`` and ``midi-pairs`` where MIDI files, index and results are on ``gs://``."""

from __future__ import annotations

import io as bytes_io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from midi_files import made_up_song

from hashing.midi import parse_song
from hashing.midi_writing import midi_bytes
from hashing.models import DEFAULT_MODEL
from hashing.rendering import render_plainly
from hashing.scores import RENDER_HZ
from pipelines import io
from pipelines.cli import main

SECONDS = 16.0
SONGS = 2
LATE_S = 2.0  # silence before the song in all recordings


@pytest.fixture
def music(root: str) -> str:
    """Songs, one of them in a folder below, a broken file, and a catalogue of recordings."""
    rows = ["track_id,uri,title,artist_name"]
    for number in range(SONGS):
        data = midi_bytes(made_up_song(number, SECONDS))
        name = ("sub", f"Ann - Song {number}.mid") if number else (f"Ann - Song {number}.mid",)
        io.write_bytes(io.join(root, "midi", *name), data)
        played = render_plainly(parse_song(data), RENDER_HZ)
        late = np.concatenate([np.zeros(round(LATE_S * RENDER_HZ), np.float32), played])
        file = bytes_io.BytesIO()
        soundfile.write(file, late, RENDER_HZ, format="wav")
        io.write_bytes(io.join(root, "music", f"t{number}.wav"), file.getvalue())
        rows.append(f"t{number},t{number}.wav,Song {number},Ann")
    io.write_bytes(io.join(root, "midi", "broken.mid"), b"MThd and no more")
    io.write_bytes(io.join(root, "music", "catalog.csv"), "\n".join(rows).encode())
    return root


def rows_of(folder: str) -> list[dict[str, object]]:
    """The rows of all parts below a folder of the store."""
    parts = [io.join(folder, name) for name in sorted(io.list_dir(folder))]
    return [
        row
        for part in parts
        for row in pq.read_table(bytes_io.BytesIO(io.read_bytes(part))).to_pylist()
    ]


def test_midi_files_find_their_recordings(music: str, capsys: pytest.CaptureFixture[str]) -> None:
    index, out = io.join(music, "index"), io.join(music, "matches")
    midi, catalog = io.join(music, "midi"), io.join(music, "music", "catalog.csv")
    flags = ["--model", DEFAULT_MODEL, "--also", "sequence", "--no-gates", "all"]
    assert main(["index", "--catalog", catalog, "--out", index, "--workers", "1", *flags]) == 0
    capsys.readouterr()
    command = ["match-midi", "--index", index, "--midi", midi, "--out", out, "--workers", "1"]
    assert main([*command, "--soundfont", "plain", "--aligned", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["midi_files"], summary["midi_failed"]) == (SONGS + 1, 1)
    best = {row["query_id"]: row for row in rows_of(io.join(out, "matches")) if row["rank"] == 1}
    assert {name: row["track_id"] for name, row in best.items()} == {
        "Ann - Song 0.mid": "t0",
        "sub/Ann - Song 1.mid": "t1",
    }
    for row in best.values():
        assert row["offset_s"] == pytest.approx(LATE_S, abs=0.1)
    (failure,) = rows_of(io.join(out, "failures"))
    assert failure["track_id"] == "broken.mid"
    moved = io.read_bytes(io.join(out, "aligned", "sub", "Ann - Song 1.mid"))
    own = parse_song(io.read_bytes(io.join(midi, "sub", "Ann - Song 1.mid")))
    assert parse_song(moved).start_s[0] == pytest.approx(own.start_s[0] + LATE_S, abs=0.1)


def test_pairs_for_training_are_found(music: str, capsys: pytest.CaptureFixture[str]) -> None:
    midi, catalog = io.join(music, "midi"), io.join(music, "music", "catalog.csv")
    out = io.join(music, "pairs")
    command = ["midi-pairs", "--midi", midi, "--catalog", catalog, "--out", out, "--workers", "1"]
    assert main([*command, "--soundfont", "plain", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["pairs_kept"] == SONGS
    found = {(row["midi_path"], row["track_id"]) for row in rows_of(io.join(out, "pairs"))}
    assert found == {("Ann - Song 0.mid", "t0"), ("sub/Ann - Song 1.mid", "t1")}
