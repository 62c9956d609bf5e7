"""What one file may take of the machine: time, memory, size, and nothing beside its own process."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from model_fixture import random_model

from hashing import audio
from hashing.audio import decode, encode
from hashing.decoder import Decoder
from hashing.encoders import Hasher
from hashing.errors import AudioError
from hashing.synthesis import render_track

# A child whose decoder does something else with files of some names.
WICKED = """\
import os, resource, socket, sys, time
import numpy as np
import hashing.audio as audio, hashing.decoder_child as child
real = audio.decode_blocks
def blocks(path, sample_rate, **options):
    name = os.path.basename(path)
    if name == "slow":
        for _ in range(1000):
            begun = time.process_time()
            while time.process_time() - begun < 0.5: pass
            yield np.zeros(1 << 15, np.float32)
    if name == "writes":
        with open(os.path.join(os.path.dirname(path), "written"), "wb") as file:
            file.write(bytes(1 << 20))
    if name == "greedy": bytearray(8 << 30)
    if name == "opens": kept = [open(path, "rb") for _ in range(10_000)]
    if name == "limits":
        names = ("AS", "FSIZE", "CORE", "NOFILE")
        found = [resource.getrlimit(getattr(resource, "RLIMIT_" + one))[1] for one in names]
        yield np.array(found, np.float32)
        return
    if name == "raises":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    yield from real(path, sample_rate, **options)
audio.decode_blocks = blocks
child.main()
"""


def may_raise_limits() -> bool:
    """Whether this process has CAP_SYS_RESOURCE, as root mostly has."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (capabilities,) = (line.split()[1] for line in lines if line.startswith("CapEff:"))
    return bool(int(capabilities, 16) >> 24 & 1)


@pytest.fixture
def wicked() -> Decoder:
    return Decoder([sys.executable, "-c", WICKED])


@pytest.fixture
def song(tmp_path: Path) -> str:
    path = str(tmp_path / "song.mp3")
    encode(render_track(5, 4.0, 44100), 44100, path, codec="mp3", bit_rate=128_000)
    return path


def test_limits_hold_for_good(wicked: Decoder, tmp_path: Path) -> None:
    """The hard limits: a process without privileges cannot raise them again."""
    with wicked:
        (found,) = wicked.blocks(str(tmp_path / "limits"), 8000)
    assert found.tolist() == [4 << 30, 0, 0, 128]


@pytest.mark.skipif(may_raise_limits(), reason="this process may raise its limits")
def test_limits_cannot_be_raised(wicked: Decoder, tmp_path: Path) -> None:
    with wicked, pytest.raises(AudioError, match="crashes the decoder"):
        list(wicked.blocks(str(tmp_path / "raises"), 8000))


def test_what_takes_longer_than_it_lasts_is_given_up(
    wicked: Decoder, tmp_path: Path, song: str
) -> None:
    """Blocks come, each within its time limit, but for 0.17 s of sound 0.5 s of CPU are gone."""
    busy = r"slow keeps the decoder busy: \d+ s of CPU for 1 s of sound"
    with wicked:
        assert sum(map(len, wicked.blocks(song, 8000))) == 32_000
        pid = wicked.pid
        with pytest.raises(AudioError, match=busy) as caught:
            list(wicked.blocks(str(tmp_path / "slow"), 192_000, timeout_s=1.2))
        assert caught.value.kind == "timeout"
        assert sum(map(len, wicked.blocks(song, 8000))) == 32_000
        assert wicked.pid == pid


def test_signs_of_life_do_not_go_on_for_ever(tmp_path: Path) -> None:
    """From a child that a file has taken over."""
    code = (
        "import os, struct, time\n"
        "def frame(kind): os.write(1, struct.pack('<cI', kind, 0))\n"
        "frame(b'H')\n"
        "while True: frame(b'P'); time.sleep(0.02)\n"
    )
    hasher = Hasher(random_model(tmp_path / "model"))
    with Decoder([sys.executable, "-c", code]) as decoder:
        begun = time.monotonic()
        with pytest.raises(AudioError, match=r"busy: no end after 0\.7 s") as caught:
            decoder.hash_track("song.mp3", hasher, max_seconds=0.5, timeout_s=0.2)
        assert caught.value.kind == "timeout"
        assert time.monotonic() - begun < 5
        assert decoder.pid is None


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("writes", "crashed", "crashes the decoder"),
        ("opens", "crashed", "crashes the decoder"),
        ("greedy", "unreadable", "needs more than 4 GiB of memory"),
    ],
)
def test_nothing_is_written_and_little_is_taken(
    wicked: Decoder, tmp_path: Path, song: str, name: str, kind: str, words: str
) -> None:
    (tmp_path / name).write_bytes(Path(song).read_bytes())
    with wicked:
        with pytest.raises(AudioError, match=words) as caught:
            list(wicked.blocks(str(tmp_path / name), 8000))
        assert caught.value.kind == kind
        assert sum(map(len, wicked.blocks(song, 8000))) == 32_000  # the next file is not harmed
    written = tmp_path / "written"
    assert not written.exists() or written.stat().st_size == 0


def test_a_file_of_more_bytes_than_its_sound_can_take(tmp_path: Path, song: str) -> None:
    """Nothing is read of it; of a part that is asked for, only that part is."""
    path = tmp_path / "huge.mp3"
    path.write_bytes(Path(song).read_bytes())
    os.truncate(path, 500_000_000_000)  # of which next to nothing is on the disk
    begun = time.monotonic()
    with pytest.raises(AudioError, match=r"500\.0 GB, and 2 h of sound take 45\.3 GB") as got:
        decode(str(path), 8000)
    assert got.value.kind == "too-large"
    assert time.monotonic() - begun < 1
    with pytest.raises(AudioError, match=r"raise --max-track-hours"), Decoder() as decoder:
        list(decoder.blocks(str(path), 8000))
    assert len(decode(str(path), 8000, duration_s=1.0)) == 8000
    # Eight channels of 32 bits at 192 kHz are let in, for as long as a track may last.
    most = int(3600 * audio.MAX_BYTES_PER_S) + audio.BESIDE_BYTES
    audio._check_size("x", most, 3600.0)
    with pytest.raises(AudioError, match="1 h of sound"):
        audio._check_size("x", most + 1, 3600.0)
