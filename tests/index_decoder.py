"""A decoder that many runs and look-ups share, and that tells what it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hashing.listening import ListeningDecoder


class Heard(ListeningDecoder):
    """Stays open when a run has done with it; `files` are those that it has hashed."""

    def __init__(self) -> None:
        super().__init__()
        self.files = list[str]()

    def __exit__(self, *error: object) -> None:
        """Stays open."""

    def hash_track(self, path: str, *args: Any, **limits: Any) -> Any:
        self.files.append(Path(path).stem)
        return super().hash_track(path, *args, **limits)

    def hash_and_hear(self, path: str, *args: Any, **limits: Any) -> Any:
        self.files.append(Path(path).stem)
        return super().hash_and_hear(path, *args, **limits)

    def since(self) -> list[str]:
        """The files that were hashed since this was asked last."""
        found, self.files = sorted(self.files), []
        return found
