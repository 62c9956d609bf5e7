"""fake-gcs-server, started for tests: Google Cloud Storage in the memory of a process.

It honours the generation preconditions of uploads, and looks at the `generation` of downloads and
deletions, but not at the preconditions of deletions.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

VARIABLE = "HASHBEAM_GCS_EMULATOR"  # names the binary
MISSING = f"{VARIABLE} names no fake-gcs-server; `make test-gcs` builds one where there is Go"
START_S = 30.0


def binary() -> str | None:
    """The emulator's binary, or None."""
    path = os.environ.get(VARIABLE, "")
    return path if path and os.access(path, os.X_OK) else None


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def emulator() -> Iterator[str]:
    """Runs the emulator; its address, ``http://127.0.0.1:PORT``."""
    path = binary()
    assert path is not None, MISSING
    port = free_port()
    flags = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    flags += ["-public-host", f"127.0.0.1:{port}", "-log-level", "error"]
    with subprocess.Popen([path, *flags]) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            _wait(address, server)
            yield address
        finally:
            server.terminate()


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert server.poll() is None, f"the emulator ended with {server.returncode}"
        try:
            with urllib.request.urlopen(f"{address}/_internal/healthcheck", timeout=1):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert time.monotonic() < deadline, "the emulator does not answer"
            time.sleep(0.05)
