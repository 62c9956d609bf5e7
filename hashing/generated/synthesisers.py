"""What plays labelled clips: soundfonts by FluidSynth, FreePats by TiMidity++, and Sonivox.

The more independent synthesisers a class is heard from, the more of what they have in common is the
class. Natural samples of which Debian has no soundfont are in FreePats, a set of patches that
covers two thirds of General MIDI, and in Sonivox, the small synthesiser of Android.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing.errors import HashbeamError
from hashing.generated.instruments import Sound
from hashing.midi import Song
from hashing.midi_writing import midi_bytes
from hashing.rendering import (
    TAIL_S,
    Player,
    RenderingError,
    find_soundfont,
    fluidsynth_command,
    played,
    render,
    whole,
)

Floats = npt.NDArray[np.float32]

FREEPATS, SONIVOX = "FreePats", "Sonivox"
PATCHES = Path("/etc/timidity/freepats.cfg")  # where Debian's package tells what there is

# Programs of General MIDI that FreePats has (its version of 2006), but for those that have samples
# of GMbank and TimGM6mb: soprano saxophone, English horn, pan flute and ocarina.
_FREEPATS_PROGRAMS = frozenset(
    (
        *(0, 1, 2, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 21, *range(23, 31), *range(32, 39)),
        *(40, 42, *range(44, 49), 53, *range(56, 62), *range(65, 69), *range(70, 75), 76, 80, 84),
        *(88, 94, 95, 98, 101, 102, 104, 114, 115, 120, 122, 125),
    )
)

# Sonivox as its header declares it (EAS library, version 3.6): integers are C's long.
_LIBRARY = "libsonivox.so.3"
_STOPPED, _FAILED = 4, 7  # states of a stream
# Lowest and highest key by program, of those that are silent beyond (each key was listened to).
_SONIVOX_KEYS = {
    **{7: (0, 68), 16: (0, 89), 21: (48, 127), 22: (60, 78), 23: (48, 127), 40: (55, 127)},
    **{41: (48, 127), 42: (36, 72), 43: (0, 60), 47: (0, 73), 61: (0, 79), 110: (55, 127)},
    **dict.fromkeys((62, 81, 87, 90), (0, 83)),
    **dict.fromkeys((59, 67, 74, *range(76, 80), 95, *range(113, 128)), (36, 84)),
}


def playable(sound: Sound, name: str) -> Sound | None:
    """A class with those of its programs that a synthesiser has; None where it has none.

    >>> from hashing.generated.instruments import SOUNDS
    >>> kalimba = next(sound for sound in SOUNDS if sound.label == "kalimba")
    >>> playable(kalimba, FREEPATS) is None, playable(kalimba, SONIVOX) is kalimba
    (True, True)
    """
    if name != FREEPATS or sound.is_drum:
        return sound
    programs = tuple(program for program in sound.programs if program in _FREEPATS_PROGRAMS)
    return dataclasses.replace(sound, programs=programs) if programs else None


def require(name: str) -> None:
    """Raises `HashbeamError`, which names the remedy, where a synthesiser cannot play."""
    if name == FREEPATS:
        if shutil.which("timidity") is None or not PATCHES.is_file():
            raise HashbeamError("instruments need FreePats: apt-get install timidity freepats")
    elif name == SONIVOX:
        _sonivox()
    elif fluidsynth_command() is None:
        raise HashbeamError("instruments need FluidSynth: apt-get install fluidsynth")
    else:
        try:
            find_soundfont(name)
        except RenderingError:
            raise HashbeamError(
                f"instruments need the soundfont {name}: apt-get install fluid-soundfont-gm "
                "musescore-general-soundfont-lossless opl3-soundfont csound-soundfont "
                "timgm6mb-soundfont"
            ) from None


def play(song: Song, sample_rate: int, name: str) -> Floats:
    """A song as mono float32, peak 0.8, without reverberation.

    Args:
      name: `FREEPATS`, `SONIVOX`, or a soundfont.

    Raises: RenderingError, HashbeamError where it is not installed.
    """
    if name == FREEPATS:
        return _play_patches(song, sample_rate)
    if name == SONIVOX:
        return _play_sonivox(song, sample_rate)
    return render(song, sample_rate, name)


def tuned(song: Song, semitones: float) -> Song:
    """A song for a player whose samples per second are ``2 ** (-semitones / 12)`` times ours.

    Played at our rate it is in time and, but for what is less than half a semitone, in tune; yet
    every note is made of the sample of another key, with all its resonances moved up that far.
    Drums have no keys to move: they sound higher.

    >>> from hashing.midi import EXAMPLE, parse_song
    >>> song = parse_song(EXAMPLE)
    >>> moved = tuned(song, 12.0)
    >>> (song.pitch - moved.pitch).tolist(), (moved.end_s / song.end_s).tolist()
    ([12, 12], [2.0, 2.0])
    """
    ratio = 2.0 ** (semitones / 12.0)
    pitch = np.where(song.is_drum, song.pitch, np.clip(song.pitch - round(semitones), 0, 127))
    return dataclasses.replace(
        song,
        start_s=song.start_s * ratio,
        end_s=song.end_s * ratio,
        beats_s=song.beats_s * ratio,
        pitch=pitch,
    )


def _play_patches(song: Song, sample_rate: int) -> Floats:
    require(FREEPATS)
    arguments = [
        *("timidity", "-c", str(PATCHES), "-idq", "-EFreverb=0", "-EFchorus=0"),
        *("-Or1slM", "-s", str(sample_rate), "-o", "-"),
    ]
    player = Player("TiMidity++", "install timidity and freepats anew")
    raw = played(song, arguments, sample_rate, 2, player)
    samples = np.frombuffer(raw[: len(raw) // 2 * 2], "<i2").astype(np.float32) / np.float32(
        32768.0
    )
    return whole(samples, song, sample_rate, "FreePats plays nothing")


class _Locator(ctypes.Structure):
    """How Sonivox reads a file."""

    _Read = ctypes.CFUNCTYPE(ctypes.c_int, *(2 * [ctypes.c_void_p]), *(2 * [ctypes.c_int]))
    _Size = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
    _fields_ = [("handle", ctypes.c_void_p), ("read_at", _Read), ("size", _Size)]


class _Configuration(ctypes.Structure):
    """The beginning of what Sonivox tells of itself."""

    _fields_ = [
        (name, ctypes.c_long)
        for name in ("version", "checked", "voices", "channels", "sample_rate", "block")
    ]


@functools.cache
def _sonivox() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise HashbeamError("instruments need Sonivox: apt-get install libsonivox3") from None
    library.EAS_Config.restype = ctypes.POINTER(_Configuration)
    handle, reference = ctypes.c_void_p, ctypes.c_void_p
    for name, arguments in (
        ("Init", [reference]),
        ("OpenFile", [handle, reference, reference]),
        ("Prepare", [handle, handle]),
        ("State", [handle, handle, reference]),
        ("Render", [handle, reference, ctypes.c_long, reference]),
        ("CloseFile", [handle, handle]),
        ("Shutdown", [handle]),
    ):
        function = getattr(library, f"EAS_{name}")
        function.argtypes, function.restype = arguments, ctypes.c_long
    return library


def _play_sonivox(song: Song, sample_rate: int) -> Floats:
    import soxr

    library, data = _sonivox(), midi_bytes(_within_reach(song))
    told = library.EAS_Config().contents

    def read(_: int, buffer: int, offset: int, size: int) -> int:
        part = data[offset : offset + size]
        ctypes.memmove(buffer, part, len(part))
        return len(part)

    # A handle that is null is taken for a file that is not there.
    locator = _Locator(1, _Locator._Read(read), _Locator._Size(lambda _: len(data)))
    player, stream = ctypes.c_void_p(), ctypes.c_void_p()
    state, count = ctypes.c_long(), ctypes.c_long()
    block = np.zeros((told.block, told.channels), np.int16)
    blocks, left = [], int((song.duration_s + TAIL_S) * told.sample_rate)

    def ask(name: str, *arguments: object) -> None:
        if failure := getattr(library, f"EAS_{name}")(*arguments):
            raise RenderingError(f"Sonivox fails: {name} gives {failure}")

    ask("Init", ctypes.byref(player))
    try:
        ask("OpenFile", player, ctypes.byref(locator), ctypes.byref(stream))
        ask("Prepare", player, stream)
        while left > 0:
            ask("State", player, stream, ctypes.byref(state))
            if state.value in (_STOPPED, _FAILED):
                break
            ask("Render", player, block.ctypes.data, told.block, ctypes.byref(count))
            blocks.append(block[: count.value].sum(axis=1, dtype=np.float32))
            left -= told.block
        ask("CloseFile", player, stream)
    finally:
        library.EAS_Shutdown(player)
    found = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    native = np.asarray(soxr.resample(found, told.sample_rate, sample_rate), np.float32)
    return whole(native, song, sample_rate, "Sonivox plays nothing")


def _within_reach(song: Song) -> Song:
    """Notes that Sonivox would leave out, some octaves up or down."""
    reach = np.array([_SONIVOX_KEYS.get(program, (0, 127)) for program in range(128)])
    low, high = reach[np.where(song.is_drum, 0, song.program)].T
    octaves = np.maximum(0, -(-(low - song.pitch) // 12))
    octaves -= np.maximum(0, -(-(song.pitch - high) // 12))
    moved = np.where(song.is_drum, song.pitch, song.pitch + 12 * octaves)
    return dataclasses.replace(song, pitch=moved)
