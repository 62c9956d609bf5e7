"""Commands of the product in a process of their own, without Beam and without audio.

The process is a fork: it starts in milliseconds, and a kill is a kill. Beam's job is done step by
step by the same functions, and the decoder makes codes of the bytes of a file.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from crash.watched_os import Watch
from quick_index import run_at_once

from hashing.encoders import Hasher, TrackCodes
from hashing.errors import AudioError
from pipelines import (
    cli,
    compact,
    gc,
    index,
    opened,
    reindex,
    remove,
    rollback,
    runner,
    spills,
    summary,
    tables,
)

SNIPPETS = 8  # of a track; the fourth number is silent
SPILLED = ("index", "compact")  # commands that count all segments as large
BROKEN = b"no audio"  # how a file begins that cannot be decoded
POLL_S = 0.003
HANGS_S = 60.0  # a process that takes longer is stuck; it needs a tenth of a second
_VERBS = (compact, gc, index, reindex, remove, rollback)  # loaded here, so that no child need


def run_in_child(
    action: Callable[[], int], said: Path, watch: tuple[Path, Path, int | None] | None = None
) -> int:
    """The exit status of a fork that runs `action`; minus the signal that killed it.

    Args:
        said: file that gets what it prints.
        watch: what `Watch` is made of.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        status = 70
        try:
            text = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
            os.dup2(text, 1)
            os.dup2(text, 2)
            sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
            if watch is not None:
                Watch(*watch).start()
            status = action()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    until = time.monotonic() + HANGS_S
    while True:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(code)
        if time.monotonic() > until:
            os.kill(child, signal.SIGABRT)  # pytest's faulthandler shows where it was
            os.waitpid(child, 0)
            raise AssertionError(f"a child hangs: {said.read_text()}")
        time.sleep(POLL_S)


def command(arguments: list[str], hasher: Hasher) -> Callable[[], int]:
    """A command line as an action for `run_in_child`."""

    def action() -> int:
        _stand_in(hasher)
        if arguments[0] in SPILLED:
            tables.KEPT_SNIPPETS = 0
            spills.SPILL_SNIPPETS = 2 * SNIPPETS
        return cli.main(arguments)

    return action


def codes_of_bytes(data: bytes, code_bytes: int) -> TrackCodes:
    """What the decoder of these tests makes of a file."""
    rng = np.random.default_rng(list(hashlib.sha256(data).digest()))
    snippet = np.array([n for n in range(SNIPPETS + 1) if n != 3], np.int32)
    codes = rng.integers(0, 256, (SNIPPETS, code_bytes), dtype=np.uint8)
    return TrackCodes(codes, snippet, duration_s=5.0)


class BytesDecoder:
    """Stands in for `hashing.listening.ListeningDecoder`."""

    pid = 0

    def hash_track(self, path: str, hasher: Hasher, **limits: Any) -> TrackCodes:
        data = Path(path).read_bytes()
        if data.startswith(BROKEN):
            raise AudioError("not-audio", f"{path} is no audio")
        return codes_of_bytes(data, hasher.quantizer.code_bytes)


def _stand_in(hasher: Hasher) -> None:
    """Puts what is quick in the place of Beam and of loading the model, in every module."""
    replaced: dict[Any, Any] = {
        runner.run_pipeline: lambda build, options: run_at_once(build, hasher, BytesDecoder()),
        opened.find_hasher: lambda manifest, model: hasher,
        summary.versions: lambda: {},  # of packages: a third of the time of a command
    }
    for name, module in list(sys.modules.items()):
        if name.startswith("pipelines."):
            for attribute, value in list(vars(module).items()):
                if callable(value) and getattr(value, "__hash__", None) and value in replaced:
                    setattr(module, attribute, replaced[value])
