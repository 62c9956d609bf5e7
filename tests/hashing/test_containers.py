"""Headers and ends of files: values from the formats' own tables, and cuts at every place."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.audio import encode
from hashing.containers import Container, inspect, mpeg_frame
from hashing.synthesis import render_track

CODECS = ("wav", "flac", "ogg", "mp3", "opus", "m4a")
NAMES = {"opus": "ogg", "m4a": "mp4"}


def inspect_bytes(folder: Path, data: bytes) -> Container:
    path = folder / "bytes"
    path.write_bytes(data)
    with path.open("rb") as file:
        found = inspect(file.fileno(), len(data))
        assert file.tell() == 0
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """By codec: the bytes of 2 s of music at 44.1 kHz."""
    folder = tmp_path_factory.mktemp("files")
    made = {}
    for codec in CODECS:
        path = folder / f"a.{codec}"
        encode(render_track(1, 2.0, 44100), 44100, str(path), codec=codec)
        made[codec] = path.read_bytes()
    return made


@pytest.mark.parametrize(
    ("header", "length", "samples", "rate"),
    [
        ("fffb9000", 417, 1152, 44100),  # MPEG-1 layer III, 128 kb/s: 144 · 128000 / 44100
        ("fffb9200", 418, 1152, 44100),  # the same, padded
        ("fffbe400", 960, 1152, 48000),  # 320 kb/s: 144 · 320000 / 48000
        ("fff38000", 208, 576, 22050),  # MPEG-2, 64 kb/s: 72 · 64000 / 22050
        ("ffe318c4", 72, 576, 8000),  # MPEG-2.5 mono, 8 kb/s: 72 · 8000 / 8000
        ("fffd8400", 384, 1152, 48000),  # layer II, 128 kb/s: 144 · 128000 / 48000
        ("ffff1400", 32, 384, 48000),  # layer I, 32 kb/s: 12 · 32000 / 48000 slots of 4 bytes
    ],
)
def test_mpeg_headers(header: str, length: int, samples: int, rate: int) -> None:
    frame = mpeg_frame(bytes.fromhex(header))
    assert frame is not None
    assert (frame.length, frame.samples, frame.sample_rate) == (length, samples, rate)


@pytest.mark.parametrize(
    "header", ["fffbf000", "fffb0000", "fffb9c00", "ffeb9000", "fff99000", "fb", ""]
)
def test_no_mpeg_header(header: str) -> None:
    assert mpeg_frame(bytes.fromhex(header)) is None


@pytest.mark.parametrize("codec", CODECS)
def test_whole_files(tmp_path: Path, files: dict[str, bytes], codec: str) -> None:
    found = inspect_bytes(tmp_path, files[codec])
    assert found.name == NAMES.get(codec, codec)
    assert found.cut is None
    if codec != "m4a":  # whose boxes FFmpeg reads
        assert found.declared_s == pytest.approx(2.0, abs=0.06)


@pytest.mark.parametrize("codec", ["wav", "ogg", "mp3", "opus", "m4a"])
@settings(max_examples=40)
@given(share=st.floats(0.05, 1, exclude_max=True))
def test_a_cut_anywhere_is_seen(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], codec: str, share: float
) -> None:
    data = files[codec]
    kept = min(int(share * len(data)), len(data) - 3)  # less than one sample is no cut
    assert inspect_bytes(tmp_path_factory.getbasetemp(), data[:kept]).cut is not None


def test_mp3_without_a_count_of_frames(tmp_path: Path, files: dict[str, bytes]) -> None:
    data = files["mp3"].replace(b"Info", b"none").replace(b"Xing", b"none")
    assert inspect_bytes(tmp_path, data) == Container("mp3")
    assert inspect_bytes(tmp_path, data[:-10]).cut == "its last frame is cut"


def test_tags_around_an_mp3(tmp_path: Path, files: dict[str, bytes]) -> None:
    data = files["mp3"]
    audio = data[data.index(b"\xff\xfb") :]
    front = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 5]) + bytes(2 * 128 + 5)
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 32 + 40, 1, 0) + bytes(8)
    old = b"TAG" + b"x" * 125
    tails = (b"", old, b"\0" * 40 + ape, b"\0" * 40 + ape + old, bytes(3000), b"some words")
    for head in (b"", front, front + front, bytes(500)):
        for tail in tails:
            assert inspect_bytes(tmp_path, head + audio + tail).cut is None
        for tail in (b"", old):
            assert inspect_bytes(tmp_path, head + audio[:-20] + tail).cut is not None
    assert inspect_bytes(tmp_path, front[:100]).cut == "it ends inside its ID3 tag"


def test_wav_chunks(tmp_path: Path) -> None:
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    data = b"data" + struct.pack("<I", 16000) + bytes(16000)
    whole = b"RIFF" + struct.pack("<I", 0) + b"WAVE" + fmt + odd + data
    assert inspect_bytes(tmp_path, whole) == Container("wav", 1.0)
    assert inspect_bytes(tmp_path, whole + odd) == Container("wav", 1.0)
    assert inspect_bytes(tmp_path, whole[:-100]).cut is not None
    assert inspect_bytes(tmp_path, whole[:40]).cut == "it ends before its data chunk"
    # RF64 keeps the true size apart, for files above 4 GiB.
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, 0, 16000, 8000, 0)
    long = b"RF64" + b"\xff" * 4 + b"WAVE" + ds64 + fmt + b"data" + b"\xff" * 4 + bytes(16000)
    assert inspect_bytes(tmp_path, long) == Container("wav", 1.0)
    assert inspect_bytes(tmp_path, long[:-100]).cut is not None


def test_mp4_boxes(tmp_path: Path) -> None:
    def box(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", 8 + len(body)) + name + body

    start, moov, mdat = box(b"ftyp", b"M4A "), box(b"moov", bytes(50)), box(b"mdat", bytes(500))
    for order in (start + moov + mdat, start + mdat + moov):
        assert inspect_bytes(tmp_path, order) == Container("mp4")
        assert inspect_bytes(tmp_path, order[:-1]).cut is not None
    assert inspect_bytes(tmp_path, start + mdat).cut == "it has no moov box"
    to_the_end = start + moov + struct.pack(">I", 0) + b"mdat" + bytes(99)
    assert inspect_bytes(tmp_path, to_the_end) == Container("mp4")
    long = struct.pack(">I", 1) + b"mdat" + struct.pack(">Q", 16 + 99) + bytes(99)
    assert inspect_bytes(tmp_path, start + moov + long) == Container("mp4")
    assert inspect_bytes(tmp_path, start + moov + long[:-1]).cut is not None


def test_noise_is_no_container(tmp_path: Path) -> None:
    for seed in range(30):
        data = np.random.default_rng(seed).bytes(60_000)
        assert inspect_bytes(tmp_path, data) == Container("")
    assert inspect_bytes(tmp_path, b"\xff" * 5000) == Container("")
    assert inspect_bytes(tmp_path, b"") == Container("")


def test_the_file_position_stays(tmp_path: Path, files: dict[str, bytes]) -> None:
    path = tmp_path / "a"
    path.write_bytes(files["ogg"])
    fd = os.open(path, os.O_RDONLY)
    os.lseek(fd, 100, os.SEEK_SET)
    inspect(fd, len(files["ogg"]))
    assert os.lseek(fd, 0, os.SEEK_CUR) == 100
    os.close(fd)
