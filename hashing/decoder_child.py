"""The program of the child behind `hashing.decoder`: ``python -m hashing.decoder_child``."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from hashing import audio
from hashing.decoder_frames import HEAD, pack_codes, receive, send
from hashing.encoders import Hasher
from hashing.errors import AudioError

# A damaged header can ask for any amount of memory. A healthy decode maps under 1 GB, libraries
# included; at this limit the request fails in the child instead of starving the machine.
ADDRESS_SPACE_BYTES = 4 << 30
# Blocks are joined up to this size: 4 s at 8 kHz, so that the pipe costs nothing beside decoding.
FRAME_BYTES = 1 << 17
# Blocks that are hashed here wait for a minute of others: decoder and Fourier transform push
# each other out of the caches, and in turns of one block take 6 % longer than in turns of this.
HASHED_BYTES = 1 << 21
# A decoder reads one file at a time, after libraries and models: seven are open between files.
MAX_OPEN_FILES = 128
IDLE_POLL_S = 5.0  # an idle child looks so often whether its parent lives
ALARM_MARGIN_S = 5.0  # the parent's own time limit comes first
SIGN_OF_LIFE_S = 0.5  # while a track is hashed, the parent hears so often that work goes on


def _serve(requests: int, answers: int) -> None:
    """Answer requests until their pipe ends or the parent is gone."""
    # What nearly every file needs, loaded before the first one comes.
    __import__("soundfile"), __import__("soxr"), __import__("av")
    send(answers, b"H")
    parent = os.getppid()
    hashers: dict[str, Hasher] = {}
    encoders: dict[tuple[str, str], Any] = {}
    while True:
        # Another process that the parent forked may hold the pipe open after the parent's end.
        while not select.select([requests], [], [], IDLE_POLL_S)[0]:
            if os.getppid() != parent:
                return
        try:
            _, length = HEAD.unpack(receive(requests, HEAD.size, math.inf))
            request = json.loads(receive(requests, length, math.inf))
        except EOFError:
            return
        timeout_s = request.pop("timeout_s")
        model = request.pop("model", None)
        embeddings = request.pop("embeddings", False)
        artist = request.pop("artist", None)  # of a track that is not hashed
        beside = request.pop("beside", {})
        try:
            for place in [*beside.items(), *([("artist", artist)] if artist else [])]:
                if place not in encoders:
                    encoders[place] = _load_encoder(*place)
            if model is not None and model not in hashers:
                hashers[model] = Hasher.load(model)
                hashers[model].warm_up()
            if not request["path"]:
                send(answers, b"D")
                continue
            if artist is not None:
                send(answers, b"C", *_hear(encoders["artist", artist], request, timeout_s))
                continue
            if beside:
                chosen = {name: encoders[name, folder] for name, folder in beside.items()}
                args = (hashers[model], chosen, request, timeout_s, answers, embeddings)
                send(answers, b"C", *_hash_and_hear(*args))
                continue
            size = FRAME_BYTES if model is None else HASHED_BYTES
            blocks = _joined(audio.decode_blocks(**request), size, timeout_s, request)
            if model is None:
                for joined in blocks:
                    send(answers, b"B", *joined)
                send(answers, b"D")
            else:
                send(answers, b"C", *pack_codes(_hash(hashers[model], blocks, answers, embeddings)))
        except AudioError as error:
            send(answers, b"E", _error(error.kind, str(error)))
        except MemoryError:
            limit = f"needs more than {ADDRESS_SPACE_BYTES >> 30} GiB of memory"
            send(answers, b"E", _error("unreadable", f"{request['path']} {limit}"))


def _hash(
    hasher: Hasher, blocks: Iterator[list[np.ndarray]], answers: int, embeddings: bool
) -> Any:
    """The codes of a track; the parent gets a frame now and then, so that it goes on waiting."""

    def watched() -> Iterator[np.ndarray]:
        told = time.monotonic()
        for joined in blocks:
            yield from joined
            if time.monotonic() - told > SIGN_OF_LIFE_S:
                send(answers, b"P")
                told = time.monotonic()

    return hasher.hash_track(watched(), embeddings)


def _load_encoder(kind: str, model: str) -> Any:
    from hashing.beside import KINDS  # only some children need it

    return KINDS[kind].load(model)


def _hear(encoder: Any, request: dict[str, Any], timeout_s: float) -> list[Any]:
    """The artist embedding of a track."""
    from hashing.artists import decoder

    with _alarm(timeout_s):
        return decoder.pack(decoder.hear(encoder, **request))


def _hash_and_hear(
    hasher: Hasher,
    encoders: dict[str, Any],
    request: dict[str, Any],
    timeout_s: float,
    answers: int,
    embeddings: bool,
) -> list[Any]:
    """The codes of a track and what is made beside them, or why not, from one decoding."""
    from hashing.listening import Listeners, pack_all

    listeners, beside = Listeners(encoders), dict[str, Any]()
    decoded = audio.decode_blocks(**request, listener=listeners.hear)
    joined = _joined(decoded, HASHED_BYTES, timeout_s, request)
    codes = _hash(hasher, joined, answers, embeddings)
    for name in encoders:
        send(answers, b"P")
        with _alarm(timeout_s):
            beside[name] = listeners.make(name)
    return pack_all(pack_codes(codes), beside)


@contextlib.contextmanager
def _alarm(timeout_s: float) -> Iterator[None]:
    """Ends this process if what is done takes too long; see `_joined`."""
    signal.setitimer(signal.ITIMER_REAL, timeout_s + ALARM_MARGIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"kind": kind, "message": message}).encode()


def _joined(
    blocks: Iterator[np.ndarray], frame_bytes: int, timeout_s: float, request: dict[str, Any]
) -> Iterator[list[np.ndarray]]:
    """Gather blocks into frames of `frame_bytes`.

    A file that gives some sound now and then could be decoded for days: all of it, and what is
    made of it on the way, may take as much CPU time as it lasts, and `timeout_s` beside.

    The kernel's alarm ends a process that decodes one frame for too long: should the parent be
    gone, nobody else would, and no Python code runs while a native decoder hangs.
    """
    pending: list[np.ndarray] = []
    size, samples, began = 0, 0, time.process_time()
    signal.setitimer(signal.ITIMER_REAL, timeout_s + ALARM_MARGIN_S)
    for block in blocks:
        pending.append(block)
        size += block.nbytes
        samples += len(block)
        took, lasts = time.process_time() - began, samples / request["sample_rate"]
        if took > timeout_s + lasts:
            signal.setitimer(signal.ITIMER_REAL, 0)
            name = request["path"] if request["path"].isprintable() else ascii(request["path"])
            what = f"{took:.0f} s of CPU for {lasts:.0f} s of sound"
            raise AudioError("timeout", f"{name} keeps the decoder busy: {what}")
        if size >= frame_bytes:
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
        # Pipes are no files: what is made of a track goes through, and nothing is written to disks.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    with contextlib.suppress(BrokenPipeError):  # the parent is gone
        _serve(0, answers)


if __name__ == "__main__":
    main()
