"""Notes from Standard MIDI files, read with limits, because such files come from anywhere.

Times stay in beats (quarter notes): whoever plays the notes sets the tempo. Running status, all
event types and formats 0 to 2 are read; SMPTE time divisions, which hold no beats, are refused.
Source: Standard MIDI Files 1.0, MIDI Manufacturers Association (1988).
"""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing.errors import HashbeamError

MAX_BYTES = 4 << 20  # the largest of 1,634 songs has 20 kB; more is no song
MAX_TRACKS = 256
MAX_NOTES = 200_000  # one file of 4 MiB can hold no more than a few times that
MAX_BEATS = 100_000.0  # eleven hours at 150 beats/min

_HEADER = 14  # bytes of the header chunk
_META, _SYSEX, _ESCAPE = 0xFF, 0xF0, 0xF7
_TRACK_NAME, _TIME_SIGNATURE, _END = 0x03, 0x58, 0x2F


class MidiError(HashbeamError):
    """A file is no Standard MIDI file, or is broken, or beyond the limits."""


@dataclasses.dataclass(frozen=True)
class MidiTrack:
    """One track: its name, and its notes as columns of one length, in order of time.

    `start` and `length` are in beats, `pitch` is 0 to 127 with 60 for middle C, `velocity` is 1 to
    127, `channel` 0 to 15 (9 is percussion).
    """

    name: str
    start: npt.NDArray[np.float64]
    length: npt.NDArray[np.float64]
    pitch: npt.NDArray[np.int64]
    velocity: npt.NDArray[np.int64]
    channel: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class MidiFile:
    """All tracks of a file, those without notes too, and quarter notes to its first bar."""

    tracks: tuple[MidiTrack, ...]
    beats_per_bar: float


def read_midi(path: str | Path) -> MidiFile:
    """Read the Standard MIDI file at `path`. Raises `MidiError` with one clear line.

    >>> read_midi("no such.mid")
    Traceback (most recent call last):
    hashing.midi.MidiError: no such.mid cannot be read: No such file or directory
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MidiError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise MidiError(f"{path} has more than {MAX_BYTES} bytes: that is no song")
    try:
        return parse_midi(data)
    except MidiError as error:
        raise MidiError(f"{path} {error}") from None


def parse_midi(data: bytes) -> MidiFile:
    """Parse the bytes of a Standard MIDI file; see `read_midi`.

    >>> track = bytes([0, 0x90, 60, 100, 96, 60, 0, 0, 0xFF, 0x2F, 0])
    >>> head = b"MThd" + bytes([0, 0, 0, 6, 0, 0, 0, 1, 0, 96])
    >>> file = parse_midi(head + b"MTrk" + bytes([0, 0, 0, len(track)]) + track)
    >>> file.tracks[0].pitch.tolist(), file.tracks[0].length.tolist()
    ([60], [1.0])
    """
    if len(data) < _HEADER or data[:4] != b"MThd":
        raise MidiError("is not a Standard MIDI file: it does not begin with MThd")
    size, _, _, division = struct.unpack(">IHHH", data[4:_HEADER])
    if size < 6 or division & 0x8000 or not division:
        raise MidiError("counts no ticks to a beat, so its notes have no beats")
    at, bar, notes = 8 + size, 0.0, 0
    tracks: list[MidiTrack] = []
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "big")
        if at + 8 + length > len(data):
            raise MidiError(f"ends before its chunk of {length} bytes does")
        if kind == b"MTrk":
            if len(tracks) == MAX_TRACKS:
                raise MidiError(f"has more than {MAX_TRACKS} tracks")
            reader = _TrackReader(data[at + 8 : at + 8 + length], division, MAX_NOTES - notes)
            tracks.append(reader.read())
            notes += len(tracks[-1].pitch)
            bar = bar or reader.beats_per_bar
        at += 8 + length
    if not tracks:
        raise MidiError("holds no track")
    return MidiFile(tuple(tracks), bar or 4.0)


class _TrackReader:
    """Reads the events of one track chunk; every read is checked against its end."""

    def __init__(self, data: bytes, division: int, room: int) -> None:
        self.data, self.division, self.room = data, division, room
        self.at = 0
        self.name, self.beats_per_bar = "", 0.0
        self.open: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self.notes: list[tuple[float, float, int, int, int]] = []

    def read(self) -> MidiTrack:
        tick, status, done = 0, 0, False
        while self.at < len(self.data) and not done:
            tick += self._number()
            if tick > MAX_BEATS * self.division:
                raise MidiError(f"lasts more than {MAX_BEATS:g} beats")
            byte = self._byte()
            if byte >= 0x80:
                status = byte
            elif status < 0x80 or status >= 0xF0:
                raise MidiError("has data where an event must begin")
            else:
                self.at -= 1  # running status: the byte is data of an event like the last
            if status == _META:
                done = self._meta()
            elif status in (_SYSEX, _ESCAPE):
                self._skip(self._number())
            elif status >= 0xF0:
                raise MidiError(f"has the event {status:#x}, which no file may hold")
            else:
                self._channel_event(status, tick)
        for (number, key), starts in self.open.items():  # notes that nobody ended
            for first, loud in starts:
                self._note(first, tick, key, loud, number)
        rows = sorted(self.notes)
        columns = [np.array([row[i] for row in rows]) for i in range(5)]
        start, length = (column.astype(np.float64) for column in columns[:2])
        pitch, velocity, channel = (column.astype(np.int64) for column in columns[2:])
        return MidiTrack(self.name, start, length, pitch, velocity, channel)

    def _channel_event(self, status: int, tick: int) -> None:
        kind, channel = status & 0xF0, status & 0x0F
        first = self._byte() & 0x7F
        second = 0 if kind in (0xC0, 0xD0) else self._byte() & 0x7F
        if kind == 0x90 and second:
            self.open.setdefault((channel, first), []).append((tick, second))
        elif kind in (0x80, 0x90):
            starts = self.open.get((channel, first))
            if starts:
                start, velocity = starts.pop(0)
                self._note(start, tick, first, velocity, channel)

    def _note(self, start: int, end: int, pitch: int, velocity: int, channel: int) -> None:
        if len(self.notes) >= self.room:
            raise MidiError(f"holds more than {MAX_NOTES} notes")
        if end > start:
            beats = (start / self.division, (end - start) / self.division)
            self.notes.append((*beats, pitch, velocity, channel))

    def _meta(self) -> bool:
        kind, length = self._byte(), self._number()
        text = self.data[self.at : self.at + length]
        self._skip(length)
        if kind == _TRACK_NAME and not self.name:
            self.name = text.decode("latin-1").strip()[:200]
        if kind == _TIME_SIGNATURE and len(text) >= 2 and not self.beats_per_bar:
            self.beats_per_bar = text[0] * 4.0 / 2 ** min(text[1], 6)
        return kind == _END

    def _skip(self, length: int) -> None:
        self.at += length
        if self.at > len(self.data):
            raise MidiError("ends inside an event")

    def _byte(self) -> int:
        self._skip(1)
        return self.data[self.at - 1]

    def _number(self) -> int:
        """A number of variable length: seven bits a byte, four bytes at most."""
        value = 0
        for _ in range(4):
            byte = self._byte()
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value
        raise MidiError("has a number of more than four bytes")
