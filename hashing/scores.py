"""A MIDI file as it is heard: read, played, and made into the frames that recordings are made of.

What may be wrong with a file of a stranger is one exception, `ScoreError`, with a kind to count by.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing import cqt
from hashing.cqt import A4, A4_HZ, CqtConfig
from hashing.errors import HashbeamError
from hashing.midi import MidiError, Song, parse_song, read_bytes
from hashing.piano_rolls import piano_roll
from hashing.rendering import (
    RenderingError,
    find_soundfont,
    fluidsynth_command,
    render,
    render_plainly,
)

Floats = npt.NDArray[np.float32]

RENDER_HZ = 11_025  # four times what the spectra need, so that instruments sound like themselves
PLAIN = "plain"  # as a soundfont: no soundfont, but `hashing.rendering.render_plainly`
# What is heard of a score (`hashing.sequences.SCORES`): its sound, or `piano_roll`.
RENDERED, ROLL = "rendered", "roll"
MAX_SCORE_S = 600.0  # as scores are trained with; the published system left out what has over 464 s

# What `MidiError` says of a file, by its first words.
_KINDS = (
    *(("is not a Standard MIDI file", "not-midi"), ("counts no ticks", "no-beats")),
    *(("is cut off", "truncated"), ("is damaged", "damaged"), ("sets a tempo", "bad-tempo")),
    *(("holds no track", "no-tracks"), ("holds no notes", "no-notes")),
    *(("holds drums only", "drums-only"), ("lasts", "too-long")),
    *(("has", "too-large"), ("holds more", "too-large")),
)


class ScoreError(HashbeamError):
    """A MIDI file cannot be heard; becomes a row in ``failures/``.

    `kind` is a short stable word for counting: ``unreadable``, ``not-midi``, ``no-beats``,
    ``truncated``, ``damaged``, ``bad-tempo``, ``no-tracks``, ``no-notes``, ``drums-only``,
    ``too-long``, ``too-large``, ``silent`` or ``not-rendered``.

    >>> ScoreError("no-notes", "a.mid holds no notes").kind
    'no-notes'
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[ScoreError], tuple[str, str]]:
        # Exceptions cross process borders on Beam; the default would lose `kind`.
        return (ScoreError, (self.kind, str(self)))


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
    """A song, and what is heard of it.

    Attributes:
      song: its notes, in seconds.
      levels: float32 [t, n_bins], dB below the loudest cell (`hashing.cqt.decibels`). Frame t is
        at t · ``config.frame_s`` seconds of the song; after the song there are none.
    """

    song: Song
    levels: Floats


def read_score(source: str | Path | bytes, name: str | None = None) -> Song:
    """The notes of a MIDI file, by its path or its bytes.

    Args:
      source: a path, or the bytes of a file.
      name: of the file, for messages; the path where there is one.

    Raises: ScoreError for every fault of the file.

    >>> from hashing.midi import EXAMPLE
    >>> read_score(EXAMPLE).pitch.tolist()
    [60, 64]
    >>> read_score(EXAMPLE[:30], "a.mid")
    Traceback (most recent call last):
    hashing.scores.ScoreError: a.mid is cut off: it ends inside a chunk of 17 bytes; copy it again
    """
    name = _said(source, name)
    try:
        data = source if isinstance(source, bytes) else read_bytes(source)
    except MidiError as error:
        raise ScoreError("unreadable", str(error)) from None
    try:
        return parse_song(data)
    except MidiError as error:
        message = str(error)
        kind = next((kind for words, kind in _KINDS if message.startswith(words)), "damaged")
        raise ScoreError(kind, f"{name} {message}") from None
    except ValueError as error:  # of a note shorter than any clock can tell
        raise ScoreError("damaged", f"{name} is damaged: {error}; export it again") from None


def hear_score(
    source: str | Path | bytes,
    config: CqtConfig | None = None,
    soundfont: str | Path | None = None,
    *,
    name: str | None = None,
    max_seconds: float = MAX_SCORE_S,
    kind: str = RENDERED,
) -> Score:
    """Reads a MIDI file, plays it, and gives the levels of its frames.

    Args:
      source: a path, or the bytes of a file.
      config: of the frames.
      soundfont: as of `hashing.rendering.render`; `PLAIN` for plain synthesis.
      name: of the file, for messages; the path where there is one.
      max_seconds: a song that lasts longer is refused before it is played.
      kind: `RENDERED`, or `ROLL`, for which nothing is played.

    Raises: ScoreError for every fault of the file, and where it cannot be rendered.

    >>> from hashing.midi import EXAMPLE
    >>> score = hear_score(EXAMPLE, soundfont=PLAIN)
    >>> score.levels.shape, int(score.levels[5].argmax()) + CqtConfig().lowest
    ((22, 48), 60)
    """
    config = config or CqtConfig()
    song = read_score(source, name)
    said = _said(source, name)
    return Score(song, score_levels(song, config, soundfont, said, max_seconds, kind))


def score_levels(
    song: Song,
    config: CqtConfig,
    soundfont: str | Path | None = None,
    name: str = "the song",
    max_seconds: float = MAX_SCORE_S,
    kind: str = RENDERED,
) -> Floats:
    """What `hear_score` hears of a song that is read already.

    >>> from hashing.midi import EXAMPLE
    >>> levels = score_levels(read_score(EXAMPLE), CqtConfig(), kind=ROLL)
    >>> np.flatnonzero(levels[5] == 0).tolist(), round(float(levels[5].min()))
    ([24], -100)
    """
    if song.duration_s > max_seconds:
        raise ScoreError(
            "too-long",
            f"{name} lasts {song.duration_s / 60:.1f} minutes, more than {max_seconds / 60:g}; "
            "cut it into parts",
        )
    try:
        roll = kind == ROLL
        found = piano_roll(song, config) if roll else score_magnitudes(song, config, soundfont)
    except RenderingError as error:
        raise ScoreError("not-rendered", f"{name} is not rendered: {error}") from None
    levels = cqt.decibels(found)
    if not (levels > -config.dynamic_range_db).any():
        raise ScoreError("silent", f"{name} is silent: none of its notes can be heard")
    return levels


def score_magnitudes(song: Song, config: CqtConfig, soundfont: str | Path | None = None) -> Floats:
    """Amplitudes [t, n_bins] of the frames that begin within a song; errors as of `sound`.

    >>> from hashing.midi import EXAMPLE
    >>> score_magnitudes(read_score(EXAMPLE), CqtConfig(), PLAIN).shape
    (22, 48)
    """
    # What rings on after the last note is of the soundfont, not of the song.
    frames = 1 + int(song.duration_s / config.frame_s)
    samples = sound(song, soundfont)[: int((frames + 1) * config.frame_s * RENDER_HZ)]
    return frames_of(samples, config)[:frames]


def sound(song: Song, soundfont: str | Path | None = None) -> Floats:
    """A song as samples at `RENDER_HZ`; without keys that have no place there.

    Raises: RenderingError, as of `hashing.rendering.render`.
    """
    key_hz = A4_HZ * 2.0 ** ((song.pitch - A4) / 12)
    heard = song.where(song.is_drum | (key_hz < RENDER_HZ / 2))
    if soundfont == PLAIN:
        return render_plainly(heard, RENDER_HZ)
    return render(heard, RENDER_HZ, soundfont)


def frames_of(samples: Floats, config: CqtConfig) -> Floats:
    """Constant-Q magnitudes [t, n_bins] of samples at `RENDER_HZ`."""
    import soxr

    return cqt.magnitudes(soxr.resample(samples, RENDER_HZ, config.sample_rate), config)


def check_soundfont(soundfont: str | Path | None) -> None:
    """Raises `RenderingError` where a soundfont is named that is none; for a job to ask first."""
    if soundfont != PLAIN:
        find_soundfont(soundfont)


def played_by(soundfont: str | Path | None) -> list[str | int]:
    """What songs are played by, to tell two runs apart: name and bytes of a soundfont, or `PLAIN`.

    Raises: RenderingError where a soundfont is named that is none.
    """
    found = None if soundfont == PLAIN else find_soundfont(soundfont)
    if found is None or fluidsynth_command() is None:
        return [PLAIN]
    return [found.name, found.stat().st_size]


def _said(source: str | Path | bytes, name: str | None) -> str:
    if name is None:
        name = "the file" if isinstance(source, bytes) else str(source)
    return name if name.isprintable() else ascii(name)
