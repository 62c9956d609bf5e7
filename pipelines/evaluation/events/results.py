"""What ``hashbeam evaluate events`` writes: figures and the page."""

from __future__ import annotations

import json
from typing import Any

from pipelines import io
from pipelines.report.events_page import events_page


def write_results(out: str, figures: dict[str, Any]) -> None:
    """Writes into a folder; the page last, so that what it points to is there."""
    io.write_bytes(io.join(out, "figures.json"), json.dumps(figures, indent=1).encode() + b"\n")
    page = events_page(figures)
    io.write_bytes(io.join(out, "report.html"), page.encode() + b"\n")
