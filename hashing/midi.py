"""Songs as notes: MIDI files read into columns, moved in time, and written again.

`hashing.midi_events` reads the bytes, with limits; pretty_midi gives them their meaning: seconds,
instruments, which note ends where (Raffel and Ellis, "Intuitive analysis, creation and manipulation
of MIDI data with pretty_midi", 2014). `Song` is in seconds, for sound; `MidiFile` in beats, for
whoever plays the notes at a tempo of their own.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hashing.midi_events import MAX_BYTES, MAX_SECONDS, MAX_TRACKS, Events, MidiError, read_events

if TYPE_CHECKING:
    import pretty_midi

__all__ = ["Controls", "MidiError", "MidiFile", "MidiTrack", "Song", "aligned_midi"]
__all__ += ["parse_midi", "parse_song", "read_bytes", "read_midi", "read_song"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BEND = 128  # the number of pitch bends among `Controls`: MIDI's own controls end at 127


@dataclasses.dataclass(frozen=True)
class MidiTrack:
    """One track: its name, and its notes as columns of one length, in order of time.

    `start` and `length` are in beats, `pitch` is 0 to 127 with 60 for middle C, `velocity` is 1 to
    127, `channel` 0 to 15 (9 is percussion).
    """

    name: str
    start: Floats
    length: Floats
    pitch: Ints
    velocity: Ints
    channel: Ints


@dataclasses.dataclass(frozen=True)
class MidiFile:
    """All tracks of a file, those without notes too, and quarter notes to its first bar."""

    tracks: tuple[MidiTrack, ...]
    beats_per_bar: float


@dataclasses.dataclass(frozen=True)
class Controls:
    """What changes the sound of notes, as columns of one length in order of time.

    `number` is MIDI's (7 volume, 10 pan, 11 expression, 64 pedal), with `value` 0 to 127, or `BEND`
    with -8192 to 8191: two semitones down to two up. `track` is a track of the song.
    """

    time_s: Floats
    track: Ints
    number: Ints
    value: Ints


NO_CONTROLS = Controls(np.zeros(0), *(np.zeros(0, np.int64) for _ in range(3)))


COLUMNS = ("start_s", "end_s", "pitch", "velocity", "program", "is_drum", "track")


@dataclasses.dataclass(frozen=True)
class Song:
    """The notes of a song as columns [n], in order of their start.

    Attributes:
      start_s, end_s: seconds from the start of the song; an end is after its start.
      pitch: 0 to 127, 60 for middle C; of drums, which one.
      velocity: 1 to 127.
      program: of General MIDI, 0 to 127; 0 for drums.
      is_drum: percussion.
      track: 0 to ``len(names) - 1``. A track has one program, or drums.
      names: of the tracks; "" where the file gave none.
      beats_s: seconds at which beats (quarter notes) begin; rises.
      controls: of the tracks.

    Raises: ValueError for columns of several lengths, and for times that are negative, not finite,
      beyond four hours (twice what is read), or end before they start; for values that
      MIDI does not have.
    """

    start_s: Floats
    end_s: Floats
    pitch: Ints
    velocity: Ints
    program: Ints
    is_drum: Flags
    track: Ints
    names: tuple[str, ...]
    beats_s: Floats
    controls: Controls = NO_CONTROLS

    def __post_init__(self) -> None:
        n = self.start_s.size
        if any(column.shape != (n,) for column in self.columns()):
            raise ValueError("the columns of a song are of several lengths")
        inside = (self.start_s >= 0) & (self.end_s > self.start_s) & (self.end_s <= 2 * MAX_SECONDS)
        if not inside.all():
            at = int(np.argmin(inside))
            raise ValueError(f"note {at} lasts from {self.start_s[at]} to {self.end_s[at]} s")
        limits = ((0, 128), (1, 128), (0, 128), (0, len(self.names)))
        values = (self.pitch, self.velocity, self.program, self.track)
        for column, (least, end) in zip(values, limits, strict=True):
            if n and not (least <= column.min() and column.max() < end):
                raise ValueError(f"a value of a note is not from {least} to {end - 1}")

    def columns(self) -> tuple[npt.NDArray[Any], ...]:
        """The columns of `COLUMNS`, in order."""
        return tuple(getattr(self, name) for name in COLUMNS)

    @property
    def duration_s(self) -> float:
        """Seconds to the end of the last note; 0 without notes."""
        return float(self.end_s.max(initial=0.0))

    def where(self, keep: Flags | Ints) -> Song:
        """The song with these notes only; tracks keep their numbers.

        >>> song = parse_song(EXAMPLE)
        >>> song.where(song.pitch > 60).pitch.tolist()
        [64]
        """
        return dataclasses.replace(self, **{name: getattr(self, name)[keep] for name in COLUMNS})

    def mapped(self, old_s: Floats, new_s: Floats) -> Song:
        """The song with its times moved: what was at ``old_s[i]`` is at ``new_s[i]``.

        Linear between. What sounds outside of the pairs is cut off there, as in a recording.

        Args:
          old_s, new_s: [k], k at least 2, seconds, both strictly rising.

        >>> song = parse_song(EXAMPLE)
        >>> song.mapped(np.array([0.0, 1.0]), np.array([3.0, 5.0])).start_s.tolist()
        [3.0, 4.0]
        """
        if len(old_s) < 2 or min(np.diff(old_s).min(), np.diff(new_s).min()) <= 0:
            raise ValueError("a map of times needs two pairs or more that rise")

        # Whatever is wholly outside has no length left.
        start_s = np.interp(self.start_s, old_s, new_s)
        end_s = np.interp(self.end_s, old_s, new_s)
        keep = end_s > start_s
        controls, beats_s = self.controls, self.beats_s
        # What was set before the first pair is still set: such controls begin with the song.
        set_by = controls.time_s < old_s[-1]
        columns = (controls.track, controls.number, controls.value)
        between = (beats_s >= old_s[0]) & (beats_s <= old_s[-1])
        return dataclasses.replace(
            self.where(keep),
            start_s=start_s[keep],
            end_s=end_s[keep],
            beats_s=np.interp(beats_s[between], old_s, new_s),
            controls=Controls(
                np.interp(controls.time_s[set_by], old_s, new_s),
                *(column[set_by] for column in columns),
            ),
        )


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file of 4 MiB at most. Raises `MidiError` with one clear line.

    >>> read_bytes("no such.mid")
    Traceback (most recent call last):
    hashing.midi_events.MidiError: no such.mid cannot be read: No such file or directory
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MidiError(f"{_shown(path)} cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise MidiError(
            f"{_shown(path)} has more than {MAX_BYTES >> 20} MiB: that is no song; split it"
        )
    return data


def read_midi(path: str | Path) -> MidiFile:
    """Read a MIDI file in beats. Raises `MidiError` with one clear line."""
    data = read_bytes(path)
    try:
        return parse_midi(data)
    except MidiError as error:
        raise MidiError(f"{_shown(path)} {error}") from None


def read_song(path: str | Path) -> Song:
    """Read a MIDI file in seconds. Raises `MidiError` with one clear line."""
    data = read_bytes(path)
    try:
        return parse_song(data)
    except MidiError as error:
        raise MidiError(f"{_shown(path)} {error}") from None


# A song of two notes, half a second each; for examples.
EXAMPLE = bytes.fromhex(
    "4d546864 00000006 0000 0001 0060 4d54726b 00000011 00903c64 603c00 004050 604000 00ff2f00"
)


def parse_midi(data: bytes) -> MidiFile:
    """Parse the bytes of a MIDI file; see `read_midi`.

    >>> file = parse_midi(EXAMPLE)
    >>> file.tracks[0].pitch.tolist(), file.tracks[0].start.tolist()
    ([60, 64], [0.0, 1.0])
    """
    events = read_events(data)
    division = float(events.file.ticks_per_beat)
    tracks = []
    for name, notes in zip(events.names, events.notes, strict=True):
        rows = np.array(notes, np.int64).reshape(-1, 5)
        start, length = rows[:, 0] / division, (rows[:, 1] - rows[:, 0]) / division
        tracks.append(MidiTrack(name, start, length, *rows[:, 2:].T.copy()))
    return MidiFile(tuple(tracks), events.beats_per_bar)


def parse_song(data: bytes) -> Song:
    """Parse the bytes of a MIDI file; see `read_song`.

    Raises: MidiError, also for a file without notes, or with drums only: nothing of it could be
      matched by its pitches.

    >>> parse_song(EXAMPLE).end_s.tolist()
    [0.5, 1.0]
    """
    midi = _meaning(read_events(data))
    if len(midi.instruments) > MAX_TRACKS:
        raise MidiError(f"holds more than {MAX_TRACKS} instruments; leave some out")
    rows, changes, names = [], [], []
    for track, instrument in enumerate(midi.instruments):
        names.append(instrument.name)
        program = 0 if instrument.is_drum else int(instrument.program)
        for note in instrument.notes:
            # A key struck again ends together with what it repeats, as synthesisers release it.
            what = (note.pitch, note.velocity, program, instrument.is_drum, track)
            rows.append((note.start, note.end, *what))
        for control in instrument.control_changes:
            changes.append((control.time, track, control.number, control.value))
        for bend in instrument.pitch_bends:
            changes.append((bend.time, track, BEND, bend.pitch))
    if not rows:
        raise MidiError("holds no notes: nothing could be matched; give a file that does")
    if all(row[5] for row in rows):
        raise MidiError("holds drums only: nothing could be matched by pitch; give one with notes")
    rows.sort()
    changes.sort(key=lambda row: row[0])
    table = np.array(rows, np.float64)
    other = table[:, 2:].astype(np.int64)
    last_beat = int(np.ceil(max(midi.time_to_tick(table[:, 1].max()), 1) / midi.resolution))
    beats_s = [midi.tick_to_time(beat * midi.resolution) for beat in range(last_beat + 1)]
    columns = np.array(changes, np.float64).reshape(-1, 4)
    return Song(
        *(table[:, 0].copy(), table[:, 1].copy()),
        *(other[:, 0].copy(), other[:, 1].copy(), other[:, 2].copy()),
        *(other[:, 3].astype(bool), other[:, 4].copy()),
        tuple(names),
        np.array(beats_s),
        Controls(columns[:, 0].copy(), *columns[:, 1:].T.astype(np.int64)),
    )


def aligned_midi(data: bytes, old_s: Sequence[float], new_s: Sequence[float]) -> bytes:
    """The bytes of a MIDI file whose times are moved: what was at ``old_s[i]`` is at ``new_s[i]``.

    Everything else stays (names, lyrics, controls); tempos change, so that beats stay beats. Notes
    that are not wholly between the pairs are left out, as pretty_midi's ``adjust_times`` does it,
    which made the aligned files of the Lakh MIDI dataset (Raffel, thesis of 2016).

    Args:
      data: of a MIDI file.
      old_s, new_s: [k], seconds. Pairs that do not rise in both are left out.

    Raises: MidiError for bytes that are no song, or where fewer than two pairs rise.

    >>> parse_song(aligned_midi(EXAMPLE, [0.0, 1.0], [0.0, 2.0])).end_s.round(3).tolist()
    [1.0, 2.0]
    """
    old, new = _rising(np.asarray(old_s, np.float64), np.asarray(new_s, np.float64))
    midi = _meaning(read_events(data))
    midi.adjust_times(old, new)
    file = io.BytesIO()
    try:
        midi.write(file)
    except ValueError:  # three bytes hold the microseconds of a beat
        raise MidiError("cannot be aligned: a beat would last more than 16 seconds") from None
    return file.getvalue()


def _rising(old_s: Floats, new_s: Floats) -> tuple[Floats, Floats]:
    """The pairs that rise in both, of those given in any order; at least a millisecond apart."""
    kept: list[tuple[float, float]] = []
    for old, new in sorted(zip(old_s.tolist(), new_s.tolist(), strict=True)):
        if not (0 <= old <= MAX_SECONDS and 0 <= new <= MAX_SECONDS):
            raise MidiError(f"cannot be moved from {old} to {new} s: outside of 0 to {MAX_SECONDS}")
        if not kept or min(old - kept[-1][0], new - kept[-1][1]) >= 0.001:
            kept.append((old, new))
    if len(kept) < 2:
        raise MidiError("cannot be aligned: fewer than two pairs of times rise")
    return np.array([old for old, _ in kept]), np.array([new for _, new in kept])


def _meaning(events: Events) -> pretty_midi.PrettyMIDI:
    import pretty_midi

    return pretty_midi.PrettyMIDI(mido_object=events.file)


def _shown(path: str | Path) -> str:
    name = str(path)
    return name if name.isprintable() else ascii(name)
