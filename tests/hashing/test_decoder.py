"""The decoder in a child process: same samples, and nothing a file does ends the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_fixture import learned_model

from hashing.audio import decode, decode_blocks, encode
from hashing.decoder import Decoder, EndedError
from hashing.decoder_frames import pack_codes, unpack_codes
from hashing.encoders import Hasher, TrackCodes
from hashing.errors import AudioError
from hashing.models import DEFAULT_MODEL
from hashing.synthesis import render_track

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("song") / "a.mp3")
    encode(render_track(5, 20.0, 44100), 44100, path, codec="mp3", bit_rate=128_000)
    return path


def child(code: str) -> Decoder:
    """A decoder whose child runs `code`; `request` waits for a request, `frame` answers."""
    prelude = (
        "import os, signal, struct, sys, time\n"
        "def request():\n"
        "    kind, length = struct.unpack('<cI', os.read(0, 5))\n"
        "    return os.read(0, length)\n"
        "def frame(kind, body=b''): os.write(1, struct.pack('<cI', kind, len(body)) + body)\n"
    )
    return Decoder([sys.executable, "-c", prelude + code])


def fails(decoder: Decoder, path: str = "song.mp3", timeout_s: float = 30.0) -> AudioError:
    with pytest.raises(AudioError) as caught:
        list(decoder.blocks(path, 8000, timeout_s=timeout_s))
    assert "\n" not in str(caught.value)
    assert decoder.pid is None
    return caught.value


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestSameAsInProcess:
    @pytest.mark.parametrize("rate", [8000, 48000])
    def test_samples(self, song: str, rate: int) -> None:
        with Decoder() as decoder:
            blocks = list(decoder.blocks(song, rate))
            np.testing.assert_array_equal(np.concatenate(blocks), decode(song, rate))
            assert all(block.dtype == np.float32 for block in blocks)
            part = np.concatenate(list(decoder.blocks(song, rate, start_s=3.3, duration_s=2.0)))
            np.testing.assert_array_equal(part, decode(song, rate, start_s=3.3, duration_s=2.0))

    def test_one_child_serves_all_files_good_and_bad(self, song: str, tmp_path: Path) -> None:
        broken = tmp_path / "broken\n\udcff.mp3"  # a name that is no text
        broken.write_bytes(Path(song).read_bytes()[:50_000])
        with Decoder() as decoder:
            pids = set()
            for path, options in ((song, {}), (str(broken), {}), (song, {"max_seconds": 5.0})):
                outcomes = []
                for blocks in (decoder.blocks, decode_blocks):
                    try:
                        outcomes.append(sum(map(len, blocks(path, 8000, **options))))
                    except AudioError as error:
                        outcomes.append((error.kind, str(error)))
                assert outcomes[0] == outcomes[1]
                pids.add(decoder.pid)
            assert len(pids) == 1
            assert None not in pids

    def test_start_is_early_and_optional(self, song: str) -> None:
        decoder = Decoder()
        assert decoder.pid is None
        decoder.start()
        pid = decoder.pid
        assert pid is not None
        assert len(list(decoder.blocks(song, 8000))) > 0
        assert decoder.pid == pid
        decoder.close()
        decoder.close()
        assert not is_alive(pid)

    def test_current_folder_cannot_shadow_modules(
        self, song: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "soundfile.py").write_text("raise SystemExit(1)")
        (tmp_path / "hashing").mkdir()
        (tmp_path / "hashing" / "__init__.py").write_text("raise SystemExit(1)")
        monkeypatch.chdir(tmp_path)
        with Decoder() as decoder:
            assert sum(map(len, decoder.blocks(song, 8000))) == 160_000


class TestBadChildren:
    def test_crash_while_decoding(self, song: str) -> None:
        code = (
            "request(); frame(b'H'); frame(b'B', bytes(400)); os.kill(os.getpid(), signal.SIGSEGV)"
        )
        with child(code) as decoder:
            error = fails(decoder)
        assert error.kind == "crashed"
        assert "song.mp3" in str(error)
        assert "SIGSEGV" in str(error)

    def test_a_child_that_cannot_start(self) -> None:
        with child("sys.exit(3)") as decoder:
            error = fails(decoder)
        assert error.kind == "crashed"
        assert "does not start" in str(error)
        with Decoder(["/no/such/program"]) as decoder:
            assert fails(decoder).kind == "crashed"

    def test_hang(self) -> None:
        for code in ("time.sleep(60)", "request(); frame(b'B', bytes(4)); time.sleep(60)"):
            with child(code) as decoder:
                begun = time.monotonic()
                assert fails(decoder, timeout_s=0.3).kind == "timeout"
                assert time.monotonic() - begun < 5

    def test_a_hang_that_holds_the_interpreter_ends_without_a_parent(self) -> None:
        # The alarm of the child itself, as the real one sets it while it decodes.
        code = "signal.setitimer(signal.ITIMER_REAL, 0.2); request(); frame(b'H'); 7 ** 7 ** 9"
        with child(code) as decoder:
            assert fails(decoder).kind == "timeout"

    @pytest.mark.parametrize(
        "answer",
        [
            "os.write(1, b'Traceback (most recent call last)')",
            "frame(b'B', b'123')",  # not a whole number of samples
            "os.write(1, struct.pack('<cI', b'B', 0xFFFFFFFF))",  # 4 GB are promised
            "frame(b'E', b'not JSON')",
            "frame(b'E', b'[1, 2]')",
        ],
    )
    def test_nonsense(self, answer: str) -> None:
        with child(f"request(); {answer}; time.sleep(60)") as decoder:
            error = fails(decoder)
        assert error.kind == "crashed"
        assert "song.mp3" in str(error)

    def test_the_next_file_has_a_fresh_child(self, song: str) -> None:
        # Crashes at one file, serves the others as the real child does.
        code = (
            "import hashing.audio as audio, hashing.decoder_child as decoder\n"
            "real = audio.decode_blocks\n"
            "def blocks(path, *rest, **options):\n"
            "    if path == 'crash': os.abort()\n"
            "    if path == 'hang': time.sleep(60)\n"
            "    if path == 'greedy': bytearray(8 << 30)\n"
            "    yield from real(path, *rest, **options)\n"
            "audio.decode_blocks = blocks\n"
            "decoder.main()\n"
        )
        with child(code) as decoder:
            for path, kind in (("crash", "crashed"), ("hang", "timeout")):
                assert fails(decoder, path, timeout_s=2.0).kind == kind
                assert sum(map(len, decoder.blocks(song, 8000))) == 160_000
            pid = decoder.pid
            with pytest.raises(AudioError, match="greedy needs more than 4 GiB") as caught:
                list(decoder.blocks("greedy", 8000))
            assert caught.value.kind == "unreadable"
            assert sum(map(len, decoder.blocks(song, 8000))) == 160_000
            assert decoder.pid == pid

    @pytest.mark.parametrize(("sign", "hashed"), [("KILL", True), ("SEGV", False)])
    def test_a_child_that_is_killed_costs_no_file_but_one_that_crashes_does(
        self, song: str, tmp_path: Path, sign: str, hashed: bool
    ) -> None:
        code = (
            "import hashing.audio as audio, hashing.decoder_child as decoder\n"
            "real = audio.decode_blocks\n"
            "def blocks(path, *rest, **options):\n"
            f"    try: os.mkdir({str(tmp_path / 'tried')!r})\n"
            "    except FileExistsError: yield from real(path, *rest, **options)\n"
            f"    else: os.kill(os.getpid(), signal.SIG{sign})\n"
            "audio.decode_blocks = blocks\n"
            "decoder.main()\n"
        )
        hasher = Hasher.load(DEFAULT_MODEL)
        with child(code) as decoder:
            if hashed:
                assert len(decoder.hash_track(song, hasher).codes) > 10
            else:
                with pytest.raises(AudioError, match=f"SIG{sign}"):
                    decoder.hash_track(song, hasher)

    def test_a_child_that_is_killed_again_is_the_file_s_fault(self, song: str) -> None:
        with child("request(); frame(b'H'); os.kill(os.getpid(), signal.SIGKILL)") as decoder:
            with pytest.raises(AudioError, match="SIGKILL") as caught:
                decoder.hash_track(song, Hasher.load(DEFAULT_MODEL))
            assert caught.value.kind == "crashed"

    def test_a_child_that_dies_idle_costs_no_file(self, song: str) -> None:
        with Decoder() as decoder:
            for _ in range(2):
                assert sum(map(len, decoder.blocks(song, 8000))) == 160_000
                assert decoder.pid is not None
                os.kill(decoder.pid, signal.SIGKILL)
                time.sleep(0.1)


class TestLifeTime:
    def test_a_worker_that_is_stopped_blames_no_file(self, song: str) -> None:
        hasher, raised = Hasher.load(DEFAULT_MODEL), list[BaseException]()
        decoder = child("request(); frame(b'H'); frame(b'P'); time.sleep(60)")

        def hash_it() -> None:
            try:
                decoder.hash_track(song, hasher)
            except BaseException as error:
                raised.append(error)

        with decoder:
            thread = threading.Thread(target=hash_it)
            thread.start()
            while not decoder._ready:
                time.sleep(0.005)
        thread.join(10)
        (error,) = raised
        assert isinstance(error, EndedError)
        with pytest.raises(EndedError):  # nor does it start again
            decoder.hash_track(song, hasher)
        assert decoder.pid is None

    def test_a_consumer_that_stops_early(self, song: str) -> None:
        with Decoder() as decoder:
            blocks = decoder.blocks(song, 8000)
            next(blocks)
            blocks.close()
            assert sum(map(len, decoder.blocks(song, 8000))) == 160_000

    def test_two_files_at_once_are_refused(self, song: str) -> None:
        with Decoder() as decoder:
            first = decoder.blocks(song, 48000)
            next(first)
            assert sum(map(len, decoder.blocks(song, 8000))) == 160_000
            with pytest.raises(RuntimeError, match="another file was begun"):
                list(first)

    def test_interrupts_are_left_to_the_parent(self, song: str) -> None:
        with Decoder() as decoder:
            list(decoder.blocks(song, 8000))
            pid = decoder.pid
            assert pid is not None
            os.kill(pid, signal.SIGINT)
            assert sum(map(len, decoder.blocks(song, 8000))) == 160_000
            assert decoder.pid == pid

    @pytest.mark.parametrize("rate", [8000, 192_000])
    def test_the_child_ends_with_its_parent(self, song: str, rate: int) -> None:
        # Idle at 8 kHz; at 192 kHz the pipe is full and the child in the middle of writing.
        stop = "list(blocks)" if rate == 8000 else "next(blocks)"
        code = (
            "import time; from hashing.decoder import Decoder\n"
            f"decoder = Decoder(); blocks = decoder.blocks({song!r}, {rate}); {stop}\n"
            "print(decoder.pid, flush=True); time.sleep(60)\n"
        )
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert is_alive(pid)
            parent.kill()
        end = time.monotonic() + 10
        while is_alive(pid) and time.monotonic() < end:
            time.sleep(0.02)
        assert not is_alive(pid)

    def test_no_descriptor_is_left_open(self, song: str) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with Decoder() as decoder:
                next(decoder.blocks(song, 8000))
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Hasher:
    return Hasher(learned_model(tmp_path_factory.mktemp("models") / "learned"))


class TestHashing:
    def test_codes_and_embeddings_are_those_of_this_process(
        self, song: str, learned: Hasher
    ) -> None:
        blocks = [decode(song, 8000)]
        with Decoder() as decoder:
            decoder.prepare(learned)
            pid = decoder.pid
            for embeddings in (False, True, False):
                expected = learned.hash_track(blocks, embeddings)
                found = decoder.hash_track(song, learned, embeddings=embeddings)
                np.testing.assert_array_equal(found.codes, expected.codes)
                np.testing.assert_array_equal(found.snippet, expected.snippet)
                assert found.duration_s == expected.duration_s
                assert (found.embeddings is None) == (not embeddings)
                if found.embeddings is not None and expected.embeddings is not None:
                    assert found.embeddings.dtype == np.float16
                    np.testing.assert_array_equal(found.embeddings, expected.embeddings)
            assert decoder.pid == pid

    def test_what_cannot_be_hashed_leaves_the_child_for_the_next(
        self, song: str, learned: Hasher, tmp_path: Path
    ) -> None:
        silent = str(tmp_path / "silent.wav")
        encode(np.zeros(16_000, np.float32), 8000, silent, codec="wav")
        with Decoder() as decoder:
            for path, kind in ((silent, "silent"), (str(tmp_path / "none.mp3"), "missing")):
                with pytest.raises(AudioError) as caught:
                    decoder.hash_track(path, learned, embeddings=True)
                assert caught.value.kind == kind
            pid = decoder.pid
            assert len(decoder.hash_track(song, learned).codes) == 39
            assert decoder.pid == pid

    @pytest.mark.parametrize(
        "body", ["b''", "bytes(7)", "bytes(16)", "struct.pack('<dII', 1.0, 1, 0) + bytes(35)"]
    )
    def test_codes_that_are_cut_short_are_nonsense(self, learned: Hasher, body: str) -> None:
        with child(f"request(); frame(b'C', {body}); time.sleep(60)") as decoder:
            with pytest.raises(AudioError, match=r"song\.mp3") as caught:
                decoder.hash_track("song.mp3", learned)
            assert caught.value.kind == "crashed"


class TestFrames:
    @given(
        n=st.integers(1, 5),
        width=st.integers(1, 9),
        dimensions=st.one_of(st.none(), st.integers(1, 6)),
        seed=st.integers(0, 1000),
    )
    def test_a_track_in_a_frame(
        self, n: int, width: int, dimensions: int | None, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        kept = None if dimensions is None else rng.standard_normal((n, dimensions))
        track = TrackCodes(
            rng.integers(256, size=(n, width)).astype(np.uint8),
            np.sort(rng.permutation(3 * n)[:n]).astype(np.int32),
            float(rng.uniform(1, 1000)),
            None if kept is None else kept.astype(np.float16),
        )
        body = bytearray(b"".join(bytes(part) for part in pack_codes(track)))
        found = unpack_codes(body, width)
        np.testing.assert_array_equal(found.codes, track.codes)
        np.testing.assert_array_equal(found.snippet, track.snippet)
        assert found.duration_s == track.duration_s
        if track.embeddings is None:
            assert found.embeddings is None
        else:
            np.testing.assert_array_equal(found.embeddings, track.embeddings)
        for other in (width + 1, width - 1):
            with pytest.raises(ValueError, match="do not hold"):
                unpack_codes(body, other)
        with pytest.raises(ValueError, match="do not hold"):
            unpack_codes(body[:-1], width)

    def test_no_codes_are_no_track(self) -> None:
        nothing = TrackCodes(np.empty((0, 4), np.uint8), np.empty(0, np.int32), 1.0)
        with pytest.raises(ValueError, match="do not hold 0 codes"):
            unpack_codes(bytearray(b"".join(bytes(part) for part in pack_codes(nothing))), 4)
