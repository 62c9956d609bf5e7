"""Worker processes of the local engine: how they are started, and what happens when one dies.

Beam's FnApiRunner does not always notice that a worker process has died (a lack of memory, a crash
in native code): it may wait for its answer for ever. So each worker leaves its exit status in a
file, and a guard ends the wait.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Self

from hashing.errors import HashbeamError

POLL_S = 0.5  # s between two looks at the statuses
GRACE_S = 3.0  # s that Beam has to notice by itself, which it mostly does at once


class _DiedError(BaseException):
    """Interrupts the main thread; no Exception, so that nothing on the way catches it."""


class Workers:
    """A folder where the workers of one pipeline leave their logs and exit statuses.

    >>> with Workers() as workers:
    ...     workers.statuses()
    []
    """

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="hashbeam-")
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    @property
    def command(self) -> str:
        """What the shell of each worker runs.

        As in Beam's multi_processing mode, but with this installation on the path whatever folder
        we were started in, and the SDK's log, a page for each start, in a file.
        """
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        log, statuses = (shlex.quote(str(self._file(name))) for name in ("log", "statuses"))
        return (
            f"PYTHONPATH={shlex.quote(path)} {shlex.quote(sys.executable)}"
            f" -m apache_beam.runners.worker.sdk_worker_main 2>>{log};"
            f" status=$?; echo $status >>{statuses}; exit $status"
        )

    def statuses(self) -> list[int]:
        """The exit statuses of the workers that have ended."""
        with contextlib.suppress(FileNotFoundError):
            return [int(line) for line in self._file("statuses").read_text().split()]
        return []

    def died(self) -> HashbeamError:
        """What to tell when a worker has died."""
        last = "it was killed, perhaps for its memory"
        with contextlib.suppress(FileNotFoundError):
            lines = self._file("log").read_text("utf-8", "replace").strip().splitlines()
            errors = [line for line in lines if not line.startswith(("INFO:", "WARNING:"))]
            last = errors[-1][:200] if errors else last
        return HashbeamError(
            f"a worker process died ({last}); run the same command again, with fewer --workers "
            "if memory was short: finished parts are kept"
        )

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Interrupts the block when a worker has died.

        Raises: HashbeamError that says so. Only the main thread can be interrupted; in any other
            the block is left to itself.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        over = threading.Event()
        main = threading.get_ident()

        def watch() -> None:
            while not over.wait(POLL_S):
                if any(self.statuses()) and not over.wait(GRACE_S):
                    # A true signal: nothing less wakes a thread that waits for a lock.
                    signal.pthread_kill(main, signal.SIGUSR1)
                    return

        def interrupt(number: int, frame: FrameType | None) -> None:
            if not over.is_set():
                raise _DiedError

        earlier = signal.signal(signal.SIGUSR1, interrupt)
        watcher = threading.Thread(target=watch, name="worker guard", daemon=True)
        watcher.start()
        try:
            yield
        except _DiedError:
            raise self.died() from None
        finally:
            over.set()
            watcher.join()
            signal.signal(signal.SIGUSR1, earlier)

    def _file(self, name: str) -> Path:
        return Path(self._folder.name, name)
