"""As much of the Dataflow service as a launcher talks to: it notes which permissions it was asked.

The methods are those of its REST interface, and the permissions what Google's table says of them.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

_JOBS = re.compile(r"/v1b3/projects/[^/]+/locations/[^/]+/jobs(/[^/]+)?(/messages|/metrics)?")
_PERMISSIONS = {
    ("POST", False, None): "dataflow.jobs.create",
    ("GET", False, None): "dataflow.jobs.list",
    ("GET", True, None): "dataflow.jobs.get",
    ("PUT", True, None): "dataflow.jobs.cancel",
    ("GET", True, "/messages"): "dataflow.messages.list",
    ("GET", True, "/metrics"): "dataflow.metrics.get",
}


class DataflowService(http.server.ThreadingHTTPServer):
    """One job that runs until it has been asked twice how it is.

    Attributes:
        used: permissions that it was asked to have.
        job: as it was created.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("localhost", 0), _Handler)
        self.used = set[str]()
        self.job: dict[str, Any] = {}
        self.asked = 0

    @property
    def address(self) -> str:
        return f"http://localhost:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: DataflowService

    def _answer(self) -> None:
        service, body = self.server, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = _JOBS.fullmatch(self.path.split("?")[0])
        assert found is not None, self.path
        permission = _PERMISSIONS[self.command, found[1] is not None, found[2]]
        service.used.add(permission)
        state = "JOB_STATE_RUNNING"
        if permission == "dataflow.jobs.create":
            service.job, service.asked = json.loads(body), 0
        elif permission == "dataflow.jobs.get":
            service.asked += 1
            state = "JOB_STATE_DONE" if service.asked > 2 else state
        elif permission == "dataflow.jobs.cancel":
            state = "JOB_STATE_CANCELLED"
        told = {"id": "job-1", "name": "job", "currentState": state}
        data = json.dumps({} if found[2] else told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _answer  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def dataflow_service() -> Iterator[DataflowService]:
    """Runs it."""
    with DataflowService() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()
