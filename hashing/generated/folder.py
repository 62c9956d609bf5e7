"""A folder that something is generated into: of one kind of settings, and without half files."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hashing.errors import UsageError

SETTINGS = "generated.json"


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings to a folder, or checks that they are those of the files in it.

    Raises: UsageError where the folder holds anything else.
    """
    path = folder / SETTINGS
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            known = None
        if known != settings:
            raise UsageError(f"{folder} holds a catalogue of other settings; choose another folder")
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        new.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` that takes its place when all is well: no half file is ever seen."""
    part = path.with_name(f".{path.name}.part")
    yield part
    os.replace(part, path)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Writes rows of text; whole or not at all."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
