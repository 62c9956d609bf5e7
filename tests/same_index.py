"""Whether two indexes say the same, row for row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.versions import Manifest, Segment, current_version, open_manifest

Place = tuple[Any, ...]


def published(index: Path) -> Manifest:
    """The published version."""
    version = current_version(str(index))
    assert version is not None, f"{index} is not published"
    return open_manifest(str(index), version)


def files(index: Path) -> dict[Place, tuple[int, str]]:
    """Rows and checksum of every file of the published version, by what it holds."""
    held = {
        (one.kind, one.segment, one.part, one.table, one.key_lo): (one.rows, one.sha256)
        for one in published(index).files
    }
    assert len(held) == len(published(index).files), "two files hold the same"
    return held


def rows(index: Path, kind: str) -> pa.Table:
    """All rows of a kind of Parquet file, in order."""
    entries = sorted(
        (one for one in published(index).files if one.kind == kind),
        key=lambda one: (one.segment or 0, one.part or 0),
    )
    return pa.concat_tables([pq.read_table(index / one.path) for one in entries])


def assert_same(index: Path, wanted: Path) -> None:
    """The same rows of the same files, byte for byte, and the same facts about them."""
    for kind in ("codes", "tracks"):
        assert rows(index, kind).equals(rows(wanted, kind)), kind
    assert files(index) == files(wanted)
    mine, other = published(index), published(wanted)
    assert mine.version == other.version
    assert [facts(one) for one in mine.segments] == [facts(one) for one in other.segments]


def facts(segment: Segment) -> dict[str, Any]:
    """What a manifest says of a segment, without the names of attempts."""
    told = segment.to_json()
    if told["removals"]:
        told["removals"]["path"] = ""
    return told
