"""Which MIDI files are the same music, however they were written.

Collections from the web hold most songs several times: with another name, text or order of tracks,
written again by another program, at another resolution. What counts here is which keys are struck
when. Instruments, loudness and lengths do not: a sequence that was set for another synthesiser is
that sequence still. Another tempo, another key or a verse less is another one.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hashing.midi import Song
from hashing.midi_events import read_events

Floats = npt.NDArray[np.float32]

# Half a tick of 48 to a beat at 60 beats/min is 10.4 ms: what writing at a coarser resolution moves
# a note by, either way.
SPREAD_S = 0.025

MAX_TITLES = 4  # of a file; more are no titles


@dataclasses.dataclass(frozen=True, eq=False)
class Content:
    """What two files of the same music have in common.

    Attributes:
      key: hex digest of how often each key and each drum is struck. Files that differ in it are
        different music; files that agree mostly are not, and `same_music` tells.
      onsets: float32 [n], seconds of the strokes, by key and then time.
    """

    key: str
    onsets: Floats


def content_of(song: Song) -> Content:
    """The content of a song.

    >>> from hashing.midi import EXAMPLE, parse_song
    >>> content_of(parse_song(EXAMPLE)).onsets.tolist()
    [0.0, 0.5]
    """
    voice = song.pitch + 128 * song.is_drum
    order = np.lexsort((song.start_s, voice))
    struck, counts = np.unique(voice, return_counts=True)
    table = np.stack([struck, counts], axis=1).astype("<i8")
    key = hashlib.sha256(table.tobytes()).hexdigest()
    return Content(key, song.start_s[order].astype(np.float32))


def same_music(one: Content, other: Content) -> bool:
    """Whether two contents are the same music: the same keys at the same times.

    Silence before the first note does not count.

    >>> a = Content("k", np.array([1.0, 2.0], np.float32))
    >>> same_music(a, Content("k", np.array([2.0, 3.0], np.float32)))
    True
    >>> same_music(a, Content("k", np.array([1.0, 2.1], np.float32)))
    False
    """
    if one.key != other.key or one.onsets.shape != other.onsets.shape:
        return False
    shift = one.onsets.astype(np.float64) - other.onsets
    return bool(np.ptp(shift) <= SPREAD_S) if shift.size else True


def repeated(contents: Sequence[Content]) -> list[int]:
    """The number of the first content that each one repeats; its own where it repeats none.

    Each is compared with those of its key that repeat none.

    >>> a, b = (Content("k", np.array([0.0, at], np.float32)) for at in (1.0, 2.0))
    >>> repeated([a, b, a])
    [0, 1, 0]
    """
    firsts: dict[str, list[int]] = {}
    found = []
    for number, content in enumerate(contents):
        known = firsts.setdefault(content.key, [])
        first = next((other for other in known if same_music(contents[other], content)), number)
        if first == number:
            known.append(number)
        found.append(first)
    return found


def titles_inside(data: bytes) -> list[str]:
    """Texts of a MIDI file that may be its title: its first track's name, titles of karaoke.

    Raises: MidiError, as `hashing.midi_events.read_events`.

    >>> from hashing.midi import EXAMPLE
    >>> titles_inside(EXAMPLE)
    []
    """
    events = read_events(data)
    texts = [events.names[0]]
    for track in events.file.tracks[1:]:
        # Title, then artist, of the .kar format (Tune 1000, 1994).
        lines = [m.text for m in track if m.type in ("text", "lyrics") and m.text[:2] == "@T"]
        texts.append(" ".join(line[2:].strip() for line in lines[:2]))
    return [text for text in dict.fromkeys(texts) if text.strip()][:MAX_TITLES]
