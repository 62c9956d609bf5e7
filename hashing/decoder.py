"""`decode_blocks` in a child process, because a broken file may crash or hang a native decoder.

One child serves many files. Requests and answers are frames of a type byte, a length (u32,
little-endian) and a body: ``Q`` a request (JSON), ``B`` a block of float32 samples, ``E`` an
error (JSON: kind, message), ``D`` done, ``H`` ready. Nothing that crosses the pipe is unpickled.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from hashing.errors import AudioError

# A damaged header can ask for any amount of memory. A healthy decode maps under 1 GB, libraries
# included; at this limit the request fails in the child instead of starving the machine.
ADDRESS_SPACE_BYTES = 4 << 30
# Blocks are joined up to this size: 4 s at 8 kHz, so that the pipe costs nothing beside decoding.
FRAME_BYTES = 1 << 17
PIPE_BYTES = 1 << 20  # Linux's limit for everyone: the child decodes ahead while its reader works
MAX_FRAME_BYTES = 1 << 28  # a longer frame is no frame; blocks are bounded by the decoders' packets
IDLE_POLL_S = 5.0  # an idle child looks so often whether its parent lives
CLOSE_S = 1.0  # an idle child needs milliseconds to exit

ALARM_MARGIN_S = 5.0  # the parent's own time limit comes first

_HEAD = struct.Struct("<cI")


class Decoder:
    """Decodes files in a child process that is started when needed and replaced when it dies.

    Not for use from several threads at once. `command` replaces the child's program (for tests).

    >>> with Decoder() as decoder:
    ...     next(decoder.blocks("no such file.mp3", 8000))
    Traceback (most recent call last):
    hashing.errors.AudioError: no such file.mp3 does not exist
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self._command = list(command or [sys.executable, "-m", "hashing.decoder"])
        self._child: subprocess.Popen[bytes] | None = None
        self._busy = False
        self._ready = False  # the child has said a word

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
            # numpy multiplies nothing here; its thread pool would map memory for every core.
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
        name = path if path.isprintable() else ascii(path)
        request = {
            "path": path,
            "sample_rate": sample_rate,
            "max_seconds": max_seconds,
            "start_s": start_s,
            "duration_s": duration_s,
        }
        if self._busy:
            self._kill()
        child = self._request(json.dumps({"timeout_s": timeout_s, **request}).encode())
        self._busy = True
        try:
            while True:
                if child is not self._child:
                    raise RuntimeError("another file was begun before this one ended")
                kind, body = self._answer(child, name, timeout_s)
                self._ready = True
                if kind == b"B":
                    yield np.frombuffer(body, np.float32)
                elif kind == b"D":
                    self._busy = False
                    return
                elif kind == b"E":
                    raise self._reported(name, body)
        finally:
            if self._busy and child is self._child:
                self._kill()

    def _request(self, body: bytes) -> subprocess.Popen[bytes]:
        """Send a request; a child that died while idle is replaced."""
        for attempt in (1, 2):
            self.start()
            assert self._child is not None
            try:
                _send(_fd(self._child.stdin), b"Q", body)
                return self._child
            except OSError:
                self._kill()
                if attempt == 2:
                    raise AudioError("crashed", "the decoder ends as soon as it starts") from None
        raise AssertionError

    def _answer(
        self, child: subprocess.Popen[bytes], name: str, timeout_s: float
    ) -> tuple[bytes, bytearray]:
        """Read one frame, or kill the child and raise what it deserves."""
        deadline = time.monotonic() + timeout_s
        try:
            kind, length = _HEAD.unpack(_receive(_fd(child.stdout), _HEAD.size, deadline))
            sound = kind in (b"H", b"B", b"D", b"E") and length <= MAX_FRAME_BYTES
            if not sound or (kind == b"B" and length % 4):
                raise self._nonsense(name)
            return kind, _receive(_fd(child.stdout), length, deadline)
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
            raise AudioError("crashed", f"{what} ({reason})") from None

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


def _timeout(name: str, timeout_s: float) -> AudioError:
    return AudioError("timeout", f"{name} hangs the decoder: nothing in {timeout_s:g} s")


def _fd(stream: IO[bytes] | None) -> int:
    assert stream is not None
    return stream.fileno()


def _send(fd: int, kind: bytes, *body: Any) -> None:
    """Write one frame whose body is the buffers `body`, without joining them."""
    views = [memoryview(part).cast("B") for part in body]
    views.insert(0, memoryview(_HEAD.pack(kind, sum(map(len, views)))))
    while views:
        written = os.writev(fd, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views:
            views[0] = views[0][written:]


def _receive(fd: int, length: int, deadline: float) -> bytearray:
    """Read exactly `length` bytes; TimeoutError after `deadline`, EOFError at the end."""
    body = bytearray(length)
    view = memoryview(body)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while len(view):
        left_ms = max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(None if left_ms == math.inf else left_ms):
            raise TimeoutError
        got = os.readv(fd, [view])
        if not got:
            raise EOFError
        view = view[got:]
    return body


def _serve(requests: int, answers: int) -> None:
    """Answer requests until their pipe ends or the parent is gone."""
    from hashing import audio

    # What nearly every file needs, loaded before the first one comes.
    __import__("soundfile"), __import__("soxr"), __import__("av")
    _send(answers, b"H")
    parent = os.getppid()
    while True:
        # Another process that the parent forked may hold the pipe open after the parent's end.
        while not select.select([requests], [], [], IDLE_POLL_S)[0]:
            if os.getppid() != parent:
                return
        try:
            _, length = _HEAD.unpack(_receive(requests, _HEAD.size, math.inf))
            request = json.loads(_receive(requests, length, math.inf))
        except EOFError:
            return
        timeout_s = request.pop("timeout_s")
        try:
            for joined in _joined(audio.decode_blocks(**request), timeout_s):
                _send(answers, b"B", *joined)
            _send(answers, b"D")
        except AudioError as error:
            _send(answers, b"E", _error(error.kind, str(error)))
        except MemoryError:
            limit = f"needs more than {ADDRESS_SPACE_BYTES >> 30} GiB of memory"
            _send(answers, b"E", _error("unreadable", f"{request['path']} {limit}"))


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"kind": kind, "message": message}).encode()


def _joined(blocks: Iterator[np.ndarray], timeout_s: float) -> Iterator[list[np.ndarray]]:
    """Gather blocks into frames of FRAME_BYTES.

    The kernel's alarm ends a process that decodes one frame for too long: should the parent be
    gone, nobody else would, and no Python code runs while a native decoder hangs.
    """
    pending: list[np.ndarray] = []
    size = 0
    signal.setitimer(signal.ITIMER_REAL, timeout_s + ALARM_MARGIN_S)
    for block in blocks:
        pending.append(block)
        size += block.nbytes
        if size >= FRAME_BYTES:
            signal.setitimer(signal.ITIMER_REAL, 0)  # a reader may take its time
            yield pending
            pending, size = [], 0
            signal.setitimer(signal.ITIMER_REAL, timeout_s + ALARM_MARGIN_S)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if pending:
        yield pending


def main() -> None:
    """Serve a `Decoder` on stdin and stdout; ends when stdin does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it closes us
    answers = os.dup(1)
    os.dup2(2, 1)  # what a native library prints must not end up between the frames
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(BrokenPipeError):  # the parent is gone
        _serve(0, answers)


if __name__ == "__main__":
    main()
