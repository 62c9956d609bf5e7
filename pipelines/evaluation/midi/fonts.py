"""What plays recordings, and what plays scores: not the same, where there are two."""

from __future__ import annotations

from pathlib import Path

from hashing.errors import UsageError
from hashing.rendering import FOLDERS, RenderingError, find_soundfont, fluidsynth_command
from hashing.scores import PLAIN

# Of Debian's, the one that sounds most like instruments.
RECORDINGS = "FluidR3_GM.sf2"


def score_font() -> str:
    """The system's soundfont, or `PLAIN`."""
    found = find_soundfont() if fluidsynth_command() is not None else None
    return PLAIN if found is None else str(found)


def recording_font(asked: str | None, scores: str) -> str:
    """The soundfont that was asked for; or one that is not that of the scores; or `PLAIN`.

    Raises: UsageError where what was asked for is no soundfont, or nothing can play it.

    >>> recording_font("no such.sf2", PLAIN)
    Traceback (most recent call last):
    hashing.errors.UsageError: --soundfont: ...
    """
    if asked == PLAIN:
        return PLAIN
    if fluidsynth_command() is None:
        if asked is not None:
            raise UsageError(f"--soundfont: {asked} needs FluidSynth: apt-get install fluidsynth")
        return PLAIN
    try:
        if asked is not None:
            return str(find_soundfont(asked))
    except RenderingError as error:
        raise UsageError(f"--soundfont: {error}") from None
    others = [RECORDINGS, *(str(path) for folder in FOLDERS for path in _files(Path(folder)))]
    for name in others:
        try:
            found = str(find_soundfont(name))
        except RenderingError:
            continue
        if found != scores:
            return found
    return PLAIN


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.sf[23]")) if folder.is_dir() else []
