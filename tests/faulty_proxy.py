"""An HTTP proxy that breaks what passes through it, as networks and overloaded stores do."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import http.server
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import TypeVar
from urllib.parse import urlsplit


@dataclasses.dataclass
class Fault:
    """One way to break requests.

    Attributes:
        kind: a status to answer with (503), or "reset" (the connection is lost before the request
            was read), "torn upload" (after half of its body), "lost answer" (when it has been
            done), "torn download" (after half of the answer's body) or "stall" (no answer).
        where: pattern of ``METHOD path?query`` that it concerns.
        times: how often it happens.
    """

    kind: int | str
    where: str = ""
    times: int = 1


Proxy = TypeVar("Proxy", bound="FaultyProxy")


class FaultyProxy(http.server.ThreadingHTTPServer):
    """Passes requests on to `target`, but for `faults`, each met as often as it says.

    Attributes:
        seen: ``METHOD path?query`` of every request, in order.
        met: kinds of the faults that happened, in order.
        delay_s: how long every request is held back, as by a distance.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.met: list[int | str] = []
        self.bytes_down = 0
        self.delay_s = 0.0
        self._lock = threading.Lock()
        self.stopped = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault_for(self, request: str) -> int | str | None:
        """What to do to a request; counts it."""
        with self._lock:
            self.seen.append(request)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.where, request):
                    fault.times -= 1
                    self.met.append(fault.kind)
                    return fault.kind
        return None

    def refuses(self, method: str, path: str, body: bytes) -> str | None:
        """Why a whole request is answered with 403, not passed on; None: it is not."""
        return None

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is no matter."""


@contextlib.contextmanager
def faulty_proxy(target: str) -> Iterator[FaultyProxy]:
    """Runs a proxy in front of `target`."""
    with serving(FaultyProxy(target)) as proxy:
        yield proxy


@contextlib.contextmanager
def serving(proxy: Proxy) -> Iterator[Proxy]:
    """Runs a proxy."""
    with proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.stopped.set()
            proxy.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: FaultyProxy

    def _pass(self) -> None:
        time.sleep(self.server.delay_s)
        kind = self.server.fault_for(f"{self.command} {self.path}")
        size = int(self.headers.get("Content-Length") or 0)
        if kind == "reset":
            return self._reset()
        if kind == "torn upload":
            self.rfile.read(size // 2)
            return self._reset()
        body = self.rfile.read(size)
        if kind == "stall":
            self.server.stopped.wait(30)
            return self._reset()
        if isinstance(kind, int):
            return self._answer(kind, [("Content-Type", "text/plain")], b"broken on purpose")
        if (refusal := self.server.refuses(self.command, self.path, body)) is not None:
            return self._answer(403, [("Content-Type", "text/plain")], refusal.encode())
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            reply = connection.getresponse()
            data = reply.read()
        if kind == "lost answer":
            return self._reset()
        headers = [
            (name, value)
            for name, value in reply.getheaders()
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date")
        ]
        if kind == "torn download":
            self._answer(reply.status, headers, data, sent=len(data) // 2)
            return self._reset()
        self.server.bytes_down += len(data)
        return self._answer(reply.status, headers, data)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _pass  # noqa: N815

    def _answer(
        self, status: int, headers: list[tuple[str, str]], data: bytes, sent: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:sent])
        self.wfile.flush()

    def _reset(self) -> None:
        """Ends the connection as a crash does, without the usual farewell."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""
