"""Files that take too much, or name others, are rows of ``failures/``, and the rest is indexed."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from index_helpers import paths, run_index
from tiny_catalog import tiny_catalog, write_rows

from hashing.listening import ListeningDecoder
from pipelines.versions import open_manifest

# A child in which files of some names do what a decoder that was taken over could try.
WICKED = """\
import os, sys, time
import hashing.audio as audio, hashing.decoder_child as child
real = audio.decode_blocks
def blocks(path, sample_rate, **options):
    name = os.path.basename(path)
    if name == "hangs.wav": time.sleep(60)
    if name == "greedy.wav": bytearray(8 << 30)
    if name == "crashes.wav": os.abort()
    if name == "writes.wav": open(path + ".out", "wb", buffering=0).write(b"x")
    yield from real(path, sample_rate, **options)
audio.decode_blocks = blocks
child.main()
"""


def sparse_wav(path: Path, hours: float) -> None:
    """Silence that is on no disk: 8 kHz, 8 bits, mono."""
    size = round(hours * 3600 * 8000)
    head = b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt "
    head += struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", size)
    path.write_bytes(head)
    os.truncate(path, len(head) + size)


def test_each_limit_is_a_row(
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    music, out = tmp_path / "music", tmp_path / "index"
    tiny_catalog(music, 2)
    sound = (music / "0.wav").read_bytes()
    for name in ("hangs", "greedy", "crashes", "writes"):
        (music / f"{name}.wav").write_bytes(sound)
    sparse_wav(music / "long.wav", 2.1)
    (music / "large.mp3").write_bytes(b"\xff\xfb\x90\x00" * 4)
    os.truncate(music / "large.mp3", 500_000_000_000)
    (music / "concat.mp3").write_text(f"ffconcat version 1.0\nfile {music}/0.wav\n")
    os.mkfifo(music / "fifo.wav")
    expected = {
        "hangs.wav": ("decode", "timeout", "nothing in 2 s"),
        "greedy.wav": ("decode", "unreadable", "needs more than 4 GiB of memory"),
        "crashes.wav": ("decode", "crashed", "crashes the decoder (SIGABRT)"),
        "writes.wav": ("decode", "crashed", "crashes the decoder"),
        "long.wav": ("decode", "too-long", "lasts more than 2 h; --max-track-hours allows it"),
        "large.mp3": ("fetch", "too-large", "has 500.0 GB, and 2 h of sound take 45.3 GB at most"),
        "concat.mp3": ("decode", "not-audio", "is not audio"),
        "fifo.wav": ("decode", "not-a-file", "is not a file"),
    }
    rows = [{"track_id": name, "uri": name} for name in ("0.wav", *expected, "1.wav")]
    catalog = write_rows(music / "catalog.csv", rows)
    command = [sys.executable, "-c", WICKED]
    monkeypatch.setattr("pipelines.index_job.ListeningDecoder", lambda: ListeningDecoder(command))
    flags = ["--max-failures", "0.9", "--decode-timeout", "2"]
    assert run_index(catalog, out, model_folder, *flags) == 0
    manifest = open_manifest(str(out))
    found = [row for p in paths(out, manifest, "failures") for row in pq.read_table(p).to_pylist()]
    assert {row["track_id"] for row in found} == set(expected)
    for row in found:
        stage, kind, words = expected[row["track_id"]]
        assert (row["stage"], row["error"]) == (stage, kind), row
        assert words in row["message"], row
        assert "\n" not in row["message"]
    assert sum(segment.tracks for segment in manifest.segments) == 2
    left = {path.name for path in music.iterdir()} - {row["uri"] for row in rows}
    assert left <= {"catalog.csv", "writes.wav.out"}
    assert not (music / "writes.wav.out").exists() or not (music / "writes.wav.out").stat().st_size
    capsys.readouterr()
