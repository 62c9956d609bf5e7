"""Decoding and hashing in a child process: a broken file may crash or hang a native decoder.

One child serves many files; `hashing.decoder_child` is its program, and `hashing.decoder_frames`
says what they tell each other.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

import numpy as np

from hashing.decoder_frames import HEAD, receive, send, unpack_codes
from hashing.encoders import Hasher, TrackCodes
from hashing.errors import AudioError

PIPE_BYTES = 1 << 20  # Linux's limit for everyone: the child decodes ahead while its reader works
MAX_FRAME_BYTES = 1 << 28  # a longer frame is no frame; blocks are bounded by the decoders' packets
PREPARE_S = 120.0  # a busy machine with a cold disk loads the libraries in seconds
CLOSE_S = 1.0  # an idle child needs milliseconds to exit


Made = TypeVar("Made")


class _KilledError(AudioError):
    """The child was killed from outside."""


class EndedError(BaseException):
    """Another thread has ended the decoder: the worker that it is part of is being stopped.

    No Exception, so that nobody takes it for the fault of the file that was being decoded.
    """


class Decoder:
    """Decodes files in a child process that is started when needed and replaced when it dies.

    Not for use from several threads at once. `command` replaces the child's program (for tests).

    >>> with Decoder() as decoder:
    ...     next(decoder.blocks("no such file.mp3", 8000))
    Traceback (most recent call last):
    hashing.errors.AudioError: no such file.mp3 does not exist
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self._command = list(command or [sys.executable, "-m", "hashing.decoder_child"])
        self._child: subprocess.Popen[bytes] | None = None
        self._busy = False
        self._ready = False  # the child has said a word
        self._ended = False

    def __enter__(self) -> Decoder:
        self._ended = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = True
        self.close()

    @property
    def pid(self) -> int | None:
        """Process number of the living child, or None."""
        return None if self._child is None or self._child.poll() is not None else self._child.pid

    def start(self) -> None:
        """Start the child without waiting for it, so that its imports overlap with other work."""
        if self.pid is not None:
            return
        self.close()
        self._ready = False
        # The package that runs here is the one that runs there: not another one that happens to
        # lie in the current folder (which -m would put first).
        places = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, places)),
            "PYTHONSAFEPATH": "1",
            # Every core has a worker of its own.
            "OPENBLAS_NUM_THREADS": "1",
        }
        try:
            self._child = subprocess.Popen(
                self._command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # codecs write warnings there, a page for a bad file
                env=environment,
            )
        except OSError as error:
            raise AudioError("crashed", f"the decoder cannot be started: {error}") from None
        with contextlib.suppress(ImportError, AttributeError, OSError):  # Linux; others do without
            import fcntl

            fcntl.fcntl(_fd(self._child.stdout), fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def close(self) -> None:
        """End the child, gently if it is idle."""
        child, self._child = self._child, None
        if child is None:
            return
        for stream in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()
        try:
            child.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def blocks(
        self,
        path: str,
        sample_rate: int,
        *,
        max_seconds: float = 7200.0,
        timeout_s: float = 60.0,
        start_s: float = 0.0,
        duration_s: float | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield what `hashing.audio.decode_blocks` yields for these arguments, and its errors.

        Blocks are longer, their samples the same. Two kinds of `AudioError` come on top:
        ``crashed`` when the child dies, ``timeout`` when no block comes within `timeout_s`
        seconds; either way the next call has a fresh child. A generator that is closed before
        its end costs a new child as well.
        """
        request = {
            "path": path,
            "sample_rate": sample_rate,
            "max_seconds": max_seconds,
            "start_s": start_s,
            "duration_s": duration_s,
        }
        for kind, body in self._ask(path, request, timeout_s):
            if kind == b"B":
                yield np.frombuffer(body, np.float32)

    def prepare(self, hasher: Hasher) -> None:
        """Have the child load a hasher, and all that the first file would load; waits for it.

        Raises: AudioError of kind ``crashed`` or ``timeout`` where the child cannot be started.
        """
        self._load({"model": str(hasher.model.path)})

    def hash_track(
        self,
        path: str,
        hasher: Hasher,
        *,
        max_seconds: float = 7200.0,
        timeout_s: float = 60.0,
        embeddings: bool = False,
    ) -> TrackCodes:
        """What `Hasher.hash_track` makes of a file, computed where it is decoded.

        A catalogue is hashed like this: samples that do not cross a pipe cost nothing, and a file
        that makes the hasher fail cannot take the worker with it. Errors as in `blocks`, and those
        of `Hasher.hash_track`.
        """
        request = {
            "path": path,
            "sample_rate": hasher.features.sample_rate,
            "max_seconds": max_seconds,
            "model": str(hasher.model.path),
            "embeddings": embeddings,
        }
        width = hasher.quantizer.code_bytes
        return self._made(path, request, timeout_s, lambda body: unpack_codes(body, width))

    def _load(self, request: dict[str, Any]) -> None:
        """Have the child load what a request names beside a file; waits for it."""
        for _ in self._ask("(start)", {**request, "path": ""}, PREPARE_S):
            pass

    def _made(
        self,
        path: str,
        request: dict[str, Any],
        timeout_s: float,
        unpack: Callable[[bytearray], Made],
    ) -> Made:
        """What the child has made of a file, unpacked; `unpack` raises where it is nonsense.

        A child that was killed was so for the lack of memory, perhaps of somebody else's making,
        or by hand: the file is tried once more. One that dies of the file itself gets a signal of
        another name.
        """
        try:
            return self._made_once(path, request, timeout_s, unpack)
        except _KilledError:
            return self._made_once(path, request, timeout_s, unpack)

    def _made_once(
        self,
        path: str,
        request: dict[str, Any],
        timeout_s: float,
        unpack: Callable[[bytearray], Made],
    ) -> Made:
        for kind, body in self._ask(path, request, timeout_s):
            if kind == b"C":
                with contextlib.suppress(ValueError, struct.error):
                    return unpack(body)
        raise self._nonsense(_shown(path))

    def _ask(
        self, path: str, request: dict[str, Any], timeout_s: float
    ) -> Iterator[tuple[bytes, bytearray]]:
        """The frames that answer a request, up to the one that ends it.

        Raises: EndedError where the decoder's block is left meanwhile.
        """
        try:
            yield from self._frames(path, request, timeout_s)
        except Exception as error:  # of streams that are closed, or a child that is gone
            if self._ended:
                raise EndedError from error
            raise

    def _frames(
        self, path: str, request: dict[str, Any], timeout_s: float
    ) -> Iterator[tuple[bytes, bytearray]]:
        if self._ended:
            raise RuntimeError("the decoder has ended")
        name = _shown(path)
        if self._busy:
            self._kill()
        child = self._request(json.dumps({"timeout_s": timeout_s, **request}).encode())
        self._busy = True
        # Signs of life do not go on for ever: no track takes longer than the longest one lasts.
        most_s = timeout_s + request.get("max_seconds", 0.0)
        left_s = most_s
        try:
            while True:
                if child is not self._child:
                    raise RuntimeError("another file was begun before this one ended")
                asked = time.monotonic()
                kind, body = self._answer(child, name, timeout_s)
                left_s -= time.monotonic() - asked
                if left_s < 0:
                    busy = f"{name} keeps the decoder busy: no end after {most_s:g} s"
                    raise AudioError("timeout", busy)
                self._ready = True
                if kind == b"E":
                    raise self._reported(name, body)
                self._busy = kind not in (b"C", b"D")
                yield kind, body
                if kind in (b"C", b"D"):
                    return
        finally:
            if self._busy and child is self._child:
                self._kill()

    def _request(self, body: bytes) -> subprocess.Popen[bytes]:
        """Send a request; a child that died while idle is replaced."""
        for attempt in (1, 2):
            self.start()
            assert self._child is not None
            try:
                send(_fd(self._child.stdin), b"Q", body)
                return self._child
            except OSError:
                self._kill()
                if attempt == 2:
                    ends = "the decoder does not start (it ends at once)"
                    raise AudioError("crashed", ends) from None
        raise AssertionError

    def _answer(
        self, child: subprocess.Popen[bytes], name: str, timeout_s: float
    ) -> tuple[bytes, bytearray]:
        """Read one frame, or kill the child and raise what it deserves."""
        deadline = time.monotonic() + timeout_s
        try:
            kind, length = HEAD.unpack(receive(_fd(child.stdout), HEAD.size, deadline))
            sound = kind in (b"H", b"B", b"P", b"C", b"D", b"E") and length <= MAX_FRAME_BYTES
            if not sound or (kind == b"B" and length % 4):
                raise self._nonsense(name)
            return kind, receive(_fd(child.stdout), length, deadline)
        except TimeoutError:
            self._kill()
            raise _timeout(name, timeout_s) from None
        except EOFError:
            # The pipe closes a moment before the status is there.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(CLOSE_S)
            status = self._kill()
            if status == -signal.SIGALRM:
                raise _timeout(name, timeout_s) from None
            reason = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            what = f"{name} crashes the decoder" if self._ready else "the decoder does not start"
            error = _KilledError if status == -signal.SIGKILL else AudioError
            raise error("crashed", f"{what} ({reason})") from None

    def _reported(self, name: str, body: bytearray) -> AudioError:
        """Return the error that the child reports; it stays for the next file."""
        try:
            error = json.loads(body)
            reported = AudioError(str(error["kind"]), str(error["message"]))
        except (ValueError, TypeError, KeyError):
            return self._nonsense(name)
        self._busy = False
        return reported

    def _nonsense(self, name: str) -> AudioError:
        self._kill()
        return AudioError("crashed", f"{name} makes the decoder answer nonsense")

    def _kill(self) -> int:
        """Kill the child; returns its exit status (minus the signal that ended it)."""
        child = self._child
        self._busy = False
        if child is None:
            return 0
        child.kill()
        child.wait()
        self.close()
        return child.returncode


def _shown(path: str) -> str:
    return path if path.isprintable() else ascii(path)


def _timeout(name: str, timeout_s: float) -> AudioError:
    return AudioError("timeout", f"{name} hangs the decoder: nothing in {timeout_s:g} s")


def _fd(stream: IO[bytes] | None) -> int:
    assert stream is not None
    return stream.fileno()
