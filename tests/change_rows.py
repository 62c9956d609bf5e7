"""Changes told by hand, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.changes.classes import CHANGES, Changes, collect, rows_of
from pipelines.changes.compare import CLASS, REASON


def changes_of(*rows: dict[str, Any], **counts: int | float) -> Changes:
    """Changes with these rows: ``class`` and ``reason`` by name, what is left out is null."""
    ordered = sorted(rows, key=lambda row: row["track_id"].encode())
    columns = {
        field.name: pa.array([row.get(field.name) for row in ordered], field.type)
        for field in CHANGES
        if field.name not in ("class", "reason")
    }
    classes = np.array([CLASS[row["class"]] for row in ordered], np.int8)
    reasons = np.array([REASON[row.get("reason", "id")] for row in ordered], np.int8)
    return collect([rows_of(classes, reasons, columns)], counts)
