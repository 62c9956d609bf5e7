"""Songs as sound: by FluidSynth where there is one, by plain synthesis elsewhere.

FluidSynth plays a soundfont, recordings of instruments, in a child process with limits. Plain
synthesis needs nothing: partials that die away, which is nearer to FluidSynth than pretty_midi's
sines (`tests/benchmarks/bench_rendering.py`), and faster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing.errors import HashbeamError
from hashing.midi import Song
from hashing.midi_writing import midi_bytes

Floats = npt.NDArray[np.float32]

# Where Debian's packages put soundfonts, and which to prefer: TimGM6mb is part of a default
# installation, small, and renders 1.4 times as fast; the others sound better.
FOLDERS = (
    *("/usr/share/sounds/sf2", "/usr/share/sounds/sf3"),
    *("/usr/share/soundfonts", "/usr/local/share/soundfonts"),
)
PREFERRED = ("TimGM6mb.sf2", "default-GM.sf2", "FluidR3_GM.sf2")

RATES = (8000, 96_000)  # Hz that FluidSynth takes
PEAK = 0.8  # of what is rendered, 1 being full scale
TAIL_S = 90.0  # the longest that FluidSynth lets notes ring: a minute in MuseScore General
TIMEOUT_S = 120.0  # two hours of dense notes take half of it
READ_BYTES = 1 << 20

# Plain synthesis. Strings and hammers die away; what is blown or bowed stays.
PARTIALS = 10
FALL = 1.2  # exponent by which higher partials are weaker
RELEASE_S = 0.1
ATTACK_S = 0.008
SUSTAINED = ((16, 24), (40, 45), (48, 52), (56, 104))  # programs of General MIDI, from and up to
DECAY_S = 1.2  # of middle C, to 1/e; an octave up dies away 1.5 times sooner
PEDAL = 64  # the control that holds notes


class RenderingError(HashbeamError):
    """A song cannot be rendered: no such soundfont, or FluidSynth fails."""


def fluidsynth_command() -> str | None:
    """The path of FluidSynth's command, or None where it is not installed."""
    return shutil.which("fluidsynth")


def find_soundfont(name: str | Path | None = None) -> Path | None:
    """The soundfont to play: the one named, or one of the system's; None where there is none.

    Args:
      name: a path, or the name of a file in one of `FOLDERS`.

    Raises: RenderingError where `name` is no soundfont.

    >>> find_soundfont("no such.sf2")
    Traceback (most recent call last):
    hashing.rendering.RenderingError: no such.sf2 is no file, nor in /usr/share/sounds/sf2...
    """
    if name is not None:
        places = [Path(name), *(Path(folder) / Path(name).name for folder in FOLDERS)]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise RenderingError(
                f"{name} is no file, nor in {', '.join(FOLDERS)}; name a soundfont (.sf2)"
            )
        with found.open("rb") as file:
            head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"sfbk":
            raise RenderingError(f"{found} is no soundfont; name one (.sf2)")
        return found.resolve()
    for folder in map(Path, FOLDERS):
        files = [folder / file for file in PREFERRED]
        with contextlib.suppress(OSError):
            files += sorted(folder.glob("*.sf2"))
        for path in files:
            if path.is_file():
                return path.resolve()
    return None


def render(
    song: Song,
    sample_rate: int,
    soundfont: str | Path | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> Floats:
    """Render a song to mono float32, peak 0.8, at least as long as the song.

    Without FluidSynth, or without a soundfont, it is `render_plainly`, which the features that
    songs are matched by take for another soundfont.

    Args:
      song: what to play.
      sample_rate: Hz.
      soundfont: a path, or the name of one of the system's; None for any.

    Raises: RenderingError where a soundfont is named that is none, or FluidSynth fails with it.
    """
    command, path = fluidsynth_command(), find_soundfont(soundfont)
    if command is None or path is None:
        return render_plainly(song, sample_rate)
    return render_with_fluidsynth(song, sample_rate, path, command=[command], timeout_s=timeout_s)


def render_with_fluidsynth(
    song: Song,
    sample_rate: int,
    soundfont: Path,
    *,
    command: Sequence[str] = ("fluidsynth",),
    timeout_s: float = TIMEOUT_S,
) -> Floats:
    """Render with FluidSynth, without its reverberation and chorus: those are another's to add.

    Raises: RenderingError where it does not start, fails, hangs, or answers without end.
    """
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise RenderingError(f"{sample_rate} Hz is not a rate of {RATES[0]} to {RATES[1]} Hz")
    arguments = [
        *(*command, "-n", "-i", "-q", "-R", "0", "-C", "0"),
        *("-r", str(sample_rate), "-O", "float", "-T", "raw", "-F", "/dev/stdout"),
        *("-o", "synth.cpu-cores=1", "-o", "synth.dynamic-sample-loading=1", str(soundfont)),
    ]
    player = Player("FluidSynth", "try another soundfont, or none")
    raw = played(song, arguments, sample_rate, 8, player, timeout_s)  # stereo, four bytes each
    stereo = np.frombuffer(raw[: len(raw) // 8 * 8], "<f4").reshape(-1, 2)
    samples = stereo[:, 0] + stereo[:, 1]
    return whole(
        samples,
        song,
        sample_rate,
        f"FluidSynth plays nothing with {soundfont}; try another soundfont",
    )


@dataclasses.dataclass(frozen=True)
class Player:
    """A program that plays a MIDI file.

    Attributes:
      name: of the program, for errors.
      remedy: for who meets one.
    """

    name: str
    remedy: str


def played(
    song: Song,
    arguments: Sequence[str],
    sample_rate: int,
    frame_bytes: int,
    player: Player,
    timeout_s: float = TIMEOUT_S,
) -> bytearray:
    """What a child process writes that plays a song.

    Args:
      arguments: the program's; the path of the MIDI file follows them.
      sample_rate, frame_bytes: of what it writes. Nothing that it does can make us hold more than
        the song and `TAIL_S`.

    Raises: RenderingError where it does not start, fails, hangs, or answers without end.
    """
    limit = int((song.duration_s + TAIL_S) * sample_rate) * frame_bytes
    with tempfile.TemporaryDirectory(prefix="hashbeam-") as folder:
        path = Path(folder, "song.mid")
        path.write_bytes(midi_bytes(song))
        return _output([*arguments, str(path)], limit, timeout_s, player)


def whole(samples: Floats, song: Song, sample_rate: int, silent: str) -> Floats:
    """What was played: as long as the song, at least, and with the usual peak.

    Raises: RenderingError, which says `silent`, where there is nothing to hear.
    """
    if not np.isfinite(samples).all() or not samples.any():
        raise RenderingError(silent)
    missing = int(np.ceil(song.duration_s * sample_rate)) - len(samples)
    return _at_peak(np.pad(samples, (0, max(0, missing))))


def _output(arguments: list[str], limit: int, timeout_s: float, player: Player) -> bytearray:
    """What a child writes, up to a number of bytes; it is killed for more, and for being late."""
    try:
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
    except OSError as error:
        raise RenderingError(f"{player.name} does not start: {error.strerror}") from None
    assert child.stdout is not None
    deadline, raw, failure = time.monotonic() + timeout_s, bytearray(), ""
    try:
        while not failure:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
                failure = f"takes more than {timeout_s:g} s"
            elif not (block := os.read(child.stdout.fileno(), READ_BYTES)):
                break
            elif len(raw) + len(block) > limit:
                failure = "plays on after the end of the song"
            else:
                raw += block
        if not failure:
            status = child.wait(max(0.1, deadline - time.monotonic()))
            failure = f"ends with status {status}" if status else ""
    except subprocess.TimeoutExpired:
        failure = f"takes more than {timeout_s:g} s"
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    if failure:
        raise RenderingError(f"{player.name} {failure}; {player.remedy}")
    return raw


def render_plainly(song: Song, sample_rate: int) -> Floats:
    """Render a song to mono float32, peak 0.8, by adding partials; drums are clicks of noise.

    Each note is a table of `PARTIALS` partials, weaker the higher, that dies away or stays as its
    program does; the pedal holds it, bends and volumes do nothing. The same song gives the same
    samples.

    >>> from hashing.midi import EXAMPLE, parse_song
    >>> render_plainly(parse_song(EXAMPLE), 8000).size
    8800
    """
    release = round(RELEASE_S * sample_rate)
    samples = np.zeros(int(np.ceil(song.duration_s * sample_rate)) + release, np.float32)
    drum = _click(sample_rate)
    sustained = np.zeros(128, bool)
    for first, end in SUSTAINED:
        sustained[first:end] = True
    ends_s = held_ends(song)
    rows = zip(
        *(np.round(song.start_s * sample_rate).astype(np.int64).tolist(), ends_s.tolist()),
        *(song.pitch.tolist(), song.velocity.tolist()),
        *(sustained[song.program].tolist(), song.is_drum.tolist()),
        strict=True,
    )
    for start, end_s, pitch, velocity, stays, is_drum in rows:
        # Loudness goes with the square of velocity (General MIDI 2, 1999).
        level = np.float32((velocity / 127.0) ** 2)
        if is_drum:
            sound = drum[: samples.size - start]
            samples[start : start + sound.size] += sound * level
            continue
        n = min(max(1, round(end_s * sample_rate) - start) + release, samples.size - start)
        envelope, useful = _envelope(pitch, stays, sample_rate)
        n = min(n, useful)
        # Of the highest keys it goes round more than once a sample; what overflows is no loss.
        turn = np.uint32(int(_step(pitch, sample_rate) * _PARTS) & 0xFFFFFFFF)
        phase = np.arange(n, dtype=np.uint32) * turn
        sound = _table(pitch, sample_rate)[phase >> _PART_BITS]
        sound *= level
        if not stays:
            sound *= envelope[:n]
        attack = min(n, max(1, round(ATTACK_S * sample_rate)))
        sound[:attack] *= np.linspace(0, 1, attack, dtype=np.float32)
        fade = min(n, release)
        sound[n - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        samples[start : start + n] += sound
    return _at_peak(samples)


def held_ends(song: Song) -> npt.NDArray[np.float64]:
    """Seconds at which notes end [n] where the pedal holds them; never after the song.

    >>> from hashing.midi import EXAMPLE, parse_song
    >>> held_ends(parse_song(EXAMPLE)).tolist()
    [0.5, 1.0]
    """
    ends_s = song.end_s.copy()
    pedal = song.controls.number == PEDAL
    for track in np.unique(song.controls.track[pedal]).tolist():
        of_track = pedal & (song.controls.track == track)
        times_s = song.controls.time_s[of_track]
        down = song.controls.value[of_track] >= PEDAL
        # The release that follows each change: of those while it is up, none.
        until = np.full(times_s.size + 1, song.duration_s)
        for i in range(times_s.size - 1, -1, -1):
            until[i] = until[i + 1] if down[i] else times_s[i]
        notes = np.flatnonzero((song.track == track) & ~song.is_drum)
        last = np.searchsorted(times_s, ends_s[notes], side="right") - 1
        held = (last >= 0) & down[last]
        ends_s[notes[held]] = until[last[held] + 1]
    return np.asarray(np.maximum(ends_s, song.end_s))


_POINTS = 4096  # of a table: the nearest one is 65 dB below the tone off

# A phase is 12 bits of points and 20 of their parts, which overflow at the period as they should.
_PART_BITS = 20
_PARTS = 1 << _PART_BITS


def _step(pitch: int, sample_rate: int) -> float:
    """Points of the table from one sample to the next."""
    return float(440.0 * 2.0 ** ((pitch - 69) / 12) * _POINTS / sample_rate)


@functools.lru_cache(maxsize=512)
def _table(pitch: int, sample_rate: int) -> Floats:
    """One period without partials above half the sample rate."""
    turns = np.arange(_POINTS) / _POINTS * 2 * np.pi
    table = np.zeros(_POINTS)
    for number in range(1, PARTIALS + 1):
        if number * _step(pitch, sample_rate) < 0.45 * _POINTS:
            table += np.sin(number * turns) * number**-FALL
    return table.astype(np.float32)


@functools.lru_cache(maxsize=512)
def _envelope(pitch: int, stays: bool, sample_rate: int) -> tuple[Floats, int]:
    """How a note dies away, and after how many samples it is 60 dB down; what stays, never."""
    if stays:
        return np.zeros(0, np.float32), 1 << 62
    decay = DECAY_S * 1.5 ** ((60 - pitch) / 12) * sample_rate
    useful = int(np.log(1000.0) * decay)
    return np.exp(np.arange(useful) / -decay).astype(np.float32), useful


@functools.lru_cache(maxsize=4)
def _click(sample_rate: int) -> Floats:
    rng = np.random.default_rng(0)
    t = np.arange(sample_rate // 8) / sample_rate
    return (0.5 * rng.standard_normal(t.size) * np.exp(-t / 0.03)).astype(np.float32)


def _at_peak(samples: Floats) -> Floats:
    """Samples whose loudest one is `PEAK`; silence stays silence."""
    loudest = float(np.abs(samples).max(initial=0.0))
    return samples * np.float32(PEAK / loudest) if loudest else samples
