"""What change detection needs to know of a file: its state when it was decoded."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

from pipelines.content import CONTENT_BYTES

# Columns of tables that hold a `FileState`.
FILE_STATE = {"size": pa.int64(), "mtime": pa.float64(), "content": pa.binary(CONTENT_BYTES)}


@dataclasses.dataclass
class FileState:
    """A file as it was when it was decoded: bytes, Unix seconds, `content_checksum`.

    Unknown (None) of a file that is not there; the time also of a remote file whose store tells
    none.
    """

    size: int | None = None
    mtime: float | None = None
    content: bytes | None = None
