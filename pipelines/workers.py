"""Worker processes of the local engine: how they are started, and what happens when one dies.

Beam's FnApiRunner does not always notice that a worker process has died (a lack of memory, a crash
in native code): it may wait for its answer for ever. So each worker leaves its exit status in a
file, and a guard ends the wait. And when the job itself is interrupted, while workers start or end
above all, Beam may wait for workers that wait for it: so each leaves its number, too, and the guard
kills what is left of them.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Self

from hashing.errors import HashbeamError

POLL_S = 0.5  # s between two looks at the statuses
GRACE_S = 3.0  # s that Beam has to notice by itself, which it mostly does at once
_WORKER = "apache_beam.runners.worker.sdk_worker_main"


class _DiedError(BaseException):
    """Interrupts the main thread; no Exception, so that nothing on the way catches it."""


class Workers:
    """A folder where the workers of one pipeline leave their numbers, logs and exit statuses.

    >>> with Workers() as workers:
    ...     workers.statuses()
    []
    """

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="hashbeam-")
        self._file("go").touch()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()  # all have ended, unless something went wrong
        for thread in threading.enumerate():
            if thread.name == "run_worker":  # Beam's, each waits for a worker
                thread.join(GRACE_S)
        self._folder.cleanup()

    @property
    def command(self) -> str:
        """What the shell of each worker runs.

        As in Beam's multi_processing mode, but with this installation on the path whatever folder
        we were started in, and the SDK's log, a page for each start, in a file.
        """
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        log, numbers, go, statuses = (
            shlex.quote(str(self._file(name))) for name in ("log", "numbers", "go", "statuses")
        )
        # Its number first: either `kill` finds it there, or it finds that it is not to start.
        start = (
            f"echo $$ >>{numbers} && [ -e {go} ] && PYTHONPATH={shlex.quote(path)}"
            f" exec {shlex.quote(sys.executable)} -m {_WORKER}"
        )
        return (
            f"/bin/sh -c {shlex.quote(start)} 2>>{log};"
            f" status=$?; echo $status >>{statuses}; exit $status"
        )

    def kill(self) -> None:
        """Kills the workers that there are, and starts no more."""
        self._file("go").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            for number in map(int, self._file("numbers").read_text().split()):
                if _is_worker(number):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(number, signal.SIGKILL)

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
        """Interrupts the block when a worker has died; kills workers that an interruption leaves.

        Raises: HashbeamError where a worker has died. Only the main thread can be interrupted; in
            any other the block is left to itself.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        over, interrupted = threading.Event(), threading.Event()
        main = threading.get_ident()

        def watch() -> None:
            while not over.wait(POLL_S):
                if interrupted.is_set():
                    if not over.wait(GRACE_S):
                        self.kill()
                    return
                if any(self.statuses()) and not over.wait(GRACE_S):
                    # A true signal: nothing less wakes a thread that waits for a lock.
                    signal.pthread_kill(main, signal.SIGUSR1)
                    return

        def interrupt(number: int, frame: FrameType | None) -> None:
            if not over.is_set():
                raise _DiedError

        def note(earlier: Callable[[int, FrameType | None], Any]) -> Callable[..., Any]:
            def noted(number: int, frame: FrameType | None) -> Any:
                interrupted.set()
                return earlier(number, frame)

            return noted

        before = {
            number: handler
            for number in (signal.SIGINT, signal.SIGTERM)
            if callable(handler := signal.getsignal(number))
        }
        for number, handler in before.items():
            signal.signal(number, note(handler))
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
            for number, handler in before.items():
                signal.signal(number, handler)

    def _file(self, name: str) -> Path:
        return Path(self._folder.name, name)


def _is_worker(number: int) -> bool:
    """Whether a process is a worker still, or a shell that is about to become one."""
    try:
        return _WORKER.encode() in Path(f"/proc/{number}/cmdline").read_bytes()
    except FileNotFoundError:
        # It has ended; where there is no /proc at all, nothing better is known than its number.
        return not Path("/proc/self").exists()
