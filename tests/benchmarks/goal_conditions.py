"""What the project's goals for look-up are set on; `clean` is what the index holds."""

from __future__ import annotations

CONDITIONS = (
    "clean",
    "white@5",
    "white@0",
    "ambience@5",
    "ambience@0",
    "mp3",
    "reverb",
    "reverb+ambience@5",
)
