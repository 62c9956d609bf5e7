"""A manifest that names what a test needs and is made up in all else."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipelines.versions import Files, Manifest

_MADE_UP = Manifest(
    version="000001",
    parent=None,
    model={"name": "m", "digest": "d"},
    catalog_digest="c",
    key_bits=12,
    n_tables=20,
    snippet_hop_s=0.5,
    replication=1.0,
    compared="codes",
    segments=[],
    files=Files.of([]),
    counters={},
    created="2026-01-02T03:04:05Z",
)


def made_up_manifest(**named: Any) -> Manifest:
    """One of an index without files, but for the fields that are `named`."""
    return dataclasses.replace(_MADE_UP, **named)
