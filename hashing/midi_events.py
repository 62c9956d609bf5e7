"""The events of Standard MIDI files, read with limits, because such files come from anywhere.

pretty_midi gives them their meaning (`hashing.midi`); mido, which reads the bytes for it, has no
limits and reads a byte a call. So the bytes are read here, every read checked against the end of
its chunk, and handed on as mido's messages. Running status, all events and formats 0 to 2 are read;
SMPTE time divisions, which hold no beats, are refused.
Source: Standard MIDI Files 1.0, MIDI Manufacturers Association (1988).
"""

from __future__ import annotations

import dataclasses
import struct
from collections import deque
from typing import TYPE_CHECKING

from hashing.errors import HashbeamError

if TYPE_CHECKING:
    import mido

MAX_BYTES = 4 << 20  # the largest of 1,634 songs has 36 kB; more is no song
MAX_TRACKS = 256
MAX_NOTES = 100_000  # fourteen a second for two hours
MAX_EVENTS = 250_000  # of all kinds: a note is two, and a message takes 0.5 kB
MAX_BEATS = 36_000.0  # two hours at 300 beats/min
MAX_TICKS = 10_000_000  # pretty_midi holds the time of every tick, 8 bytes each
MAX_SECONDS = 7200.0  # as for audio; an opera is several files
MAX_TEXT = 200  # characters of a name or a line of text

_HEADER = 14  # bytes of the header chunk
_META, _SYSEX, _ESCAPE = 0xFF, 0xF0, 0xF7
_TEXT, _TRACK_NAME, _LYRICS, _END = 0x01, 0x03, 0x05, 0x2F
_TEMPO, _TIME_SIGNATURE, _KEY_SIGNATURE = 0x51, 0x58, 0x59
_START_BEAT_US = 500_000  # a file without a tempo has 120 beats/min

# What a message of each kind calls its two bytes; pressure on keys is left out.
_NOTE_OFF, _NOTE_ON, _CONTROL, _PROGRAM, _BEND = 0x80, 0x90, 0xB0, 0xC0, 0xE0


class MidiError(HashbeamError):
    """A file is no Standard MIDI file, or is broken, or beyond the limits."""


Event = tuple[int, str, dict[str, object]]  # tick, mido's type, mido's fields
Note = tuple[int, int, int, int, int]  # first and last tick, pitch, velocity, channel


@dataclasses.dataclass(frozen=True)
class Events:
    """What a file holds, checked.

    Attributes:
      file: mido's file. Its first track holds what goes for all of them (tempo and signatures,
        wherever the file had them); the others are the file's own.
      names: of the file's own tracks; "" where a track has none.
      notes: of each track, sorted: first and last tick, pitch, velocity, channel. A key that is
        struck again while it sounds is released in the order of its strokes.
      beats_per_bar: quarter notes to the first bar.
    """

    file: mido.MidiFile
    names: tuple[str, ...]
    notes: tuple[tuple[Note, ...], ...]
    beats_per_bar: float


def read_events(data: bytes) -> Events:
    """Read the bytes of a Standard MIDI file.

    Raises: MidiError, whose line begins with a verb: the caller knows the file's name.

    >>> track = bytes([0, 0x90, 60, 100, 96, 60, 0, 0, 0xFF, 0x2F, 0])
    >>> head = b"MThd" + bytes([0, 0, 0, 6, 0, 0, 0, 1, 0, 96])
    >>> events = read_events(head + b"MTrk" + bytes([0, 0, 0, len(track)]) + track)
    >>> [message.type for message in events.file.tracks[1]]
    ['track_name', 'note_on', 'note_on']
    """
    import mido

    if len(data) > MAX_BYTES:
        raise MidiError(f"has more than {MAX_BYTES >> 20} MiB: that is no song; split it")
    if len(data) < _HEADER or data[:4] != b"MThd":
        raise MidiError("is not a Standard MIDI file: it does not begin with MThd; export it again")
    size, _, _, division = struct.unpack(">IHHH", data[4:_HEADER])
    if size < 6 or division & 0x8000 or not division:
        raise MidiError("counts no ticks to a beat, so its notes have no beats; export it again")
    tracks = _tracks(data, 8 + size, division)
    _check_length(tracks, division)
    last = max((track.last_note for track in tracks), default=0)
    shared = sorted((event for track in tracks for event in track.shared), key=lambda e: e[0])
    file = mido.MidiFile(ticks_per_beat=division)
    file.tracks.append(_messages(shared, last, ""))
    file.tracks += [_messages(track.events, last, track.name) for track in tracks]
    bar = next((track.beats_per_bar for track in tracks if track.beats_per_bar), 4.0)
    notes = tuple(tuple(sorted(track.notes)) for track in tracks)
    return Events(file, tuple(track.name for track in tracks), notes, bar)


def _tracks(data: bytes, at: int, division: int) -> list[_TrackReader]:
    tracks: list[_TrackReader] = []
    events = notes = 0
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "big")
        if at + 8 + length > len(data):
            raise MidiError(f"is cut off: it ends inside a chunk of {length} bytes; copy it again")
        if kind == b"MTrk":
            if len(tracks) == MAX_TRACKS:
                raise MidiError(f"has more than {MAX_TRACKS} tracks; leave some out")
            chunk = data[at + 8 : at + 8 + length]
            tracks.append(_TrackReader(chunk, division, MAX_EVENTS - events, MAX_NOTES - notes))
            tracks[-1].read()
            events += tracks[-1].count
            notes += tracks[-1].struck
        at += 8 + length
    if not tracks:
        raise MidiError("holds no track: nothing could be matched; export it again")
    return tracks


def _check_length(tracks: list[_TrackReader], division: int) -> None:
    """Refuse what lasts too long, before anything is allocated for it."""
    last = max(track.last_note for track in tracks)
    if last > MAX_TICKS:
        raise MidiError(
            f"has {last} ticks, more than {MAX_TICKS}; export it with fewer ticks a beat"
        )
    tempos = sorted(
        (event for track in tracks for event in track.shared if event[1] == "set_tempo"),
        key=lambda event: event[0],
    )
    at, beat_us, micros = 0, _START_BEAT_US, 0.0
    for tick, _, fields in tempos:
        if tick >= last:
            break
        micros, at = micros + (tick - at) / division * beat_us, tick
        beat_us = int(str(fields["tempo"]))
    micros += (last - at) / division * beat_us
    if micros > MAX_SECONDS * 1e6:
        raise MidiError(
            f"lasts {micros / 3.6e9:.1f} hours, more than {MAX_SECONDS / 3600:g}; cut it into parts"
        )


def _messages(events: list[Event], last: int, name: str) -> mido.MidiTrack:
    """mido's messages of a track, up to the last note of the file: later ones sound nowhere."""
    import mido

    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
    at = 0
    for tick, kind, fields in events:
        if tick > last:
            break
        if kind in _META_KINDS:
            track.append(mido.MetaMessage(kind, skip_checks=True, time=tick - at, **fields))
        else:
            track.append(mido.Message(kind, skip_checks=True, time=tick - at, **fields))
        at = tick
    return track


_META_KINDS = ("set_tempo", "time_signature", "key_signature", "lyrics", "text")

# Key signatures by sharps (negative: flats) from -7 to 7, as mido writes them.
_MAJOR = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")
_MINOR = (
    *("Abm", "Ebm", "Bbm", "Fm", "Cm", "Gm", "Dm"),
    *("Am", "Em", "Bm", "F#m", "C#m", "G#m", "D#m", "A#m"),
)


class _TrackReader:
    """Reads the events of one track chunk; every read is checked against its end."""

    def __init__(self, data: bytes, division: int, room: int, notes: int) -> None:
        self.data, self.division = data, division
        self.room, self.note_room = room, notes
        self.at = self.count = self.struck = self.last_note = 0
        self.name, self.beats_per_bar = "", 0.0
        self.events: list[Event] = []
        self.shared: list[Event] = []  # what goes for all tracks
        self.open: dict[tuple[int, int], deque[tuple[int, int]]] = {}
        self.notes: list[Note] = []

    def read(self) -> None:
        tick, status, done = 0, 0, False
        while self.at < len(self.data) and not done:
            tick += self._number()
            if tick > MAX_BEATS * self.division:
                raise MidiError(f"lasts more than {MAX_BEATS:g} beats; cut it into parts")
            self.count += 1
            if self.count > self.room:
                raise MidiError(f"holds more than {MAX_EVENTS} events; leave some tracks out")
            byte = self._byte()
            if byte >= 0x80:
                status = byte
            elif status < 0x80 or status >= 0xF0:
                raise MidiError("is damaged: data where an event must begin; copy it again")
            else:
                self.at -= 1  # running status: the byte is data of an event like the last
            if status == _META:
                done = self._meta(tick)
            elif status in (_SYSEX, _ESCAPE):
                self._skip(self._number())
            elif status >= 0xF0:
                raise MidiError(
                    f"is damaged: the event {status:#x}, which no file may hold; copy it again"
                )
            else:
                self._channel_event(status, tick)
        for (channel, pitch), starts in self.open.items():  # nobody ended them: their track does
            for _ in list(starts):
                self._off(tick, channel, pitch)

    def _channel_event(self, status: int, tick: int) -> None:
        kind, channel = status & 0xF0, status & 0x0F
        first = self._byte() & 0x7F
        second = 0 if kind in (0xC0, 0xD0) else self._byte() & 0x7F
        fields: dict[str, object] = {"channel": channel}
        if kind == _NOTE_ON and second:
            self.struck += 1
            if self.struck > self.note_room:
                raise MidiError(f"holds more than {MAX_NOTES} notes; leave some tracks out")
            self.open.setdefault((channel, first), deque()).append((tick, second))
            fields |= {"note": first, "velocity": second}
            self.events.append((tick, "note_on", fields))
        elif kind in (_NOTE_OFF, _NOTE_ON):
            self._off(tick, channel, first)
        elif kind == _PROGRAM:
            self.events.append((tick, "program_change", fields | {"program": first}))
        elif kind == _CONTROL:
            fields |= {"control": first, "value": second}
            self.events.append((tick, "control_change", fields))
        elif kind == _BEND:
            bend = (second << 7 | first) - 8192
            self.events.append((tick, "pitchwheel", fields | {"pitch": bend}))

    def _off(self, tick: int, channel: int, pitch: int) -> None:
        starts = self.open.get((channel, pitch))
        if not starts:
            return
        fields: dict[str, object] = {"channel": channel, "note": pitch, "velocity": 0}
        self.events.append((tick, "note_on", fields))
        self.last_note = max(self.last_note, tick)
        start, velocity = starts.popleft()
        if tick > start:
            self.notes.append((start, tick, pitch, velocity, channel))

    def _meta(self, tick: int) -> bool:
        kind, length = self._byte(), self._number()
        data = self.data[self.at : self.at + length]
        self._skip(length)
        text = data[:MAX_TEXT].decode("latin-1")
        if kind == _TRACK_NAME and not self.name:
            self.name = text.strip()
        elif kind == _TEXT:
            self.events.append((tick, "text", {"text": text}))
        elif kind == _LYRICS:
            self.events.append((tick, "lyrics", {"text": text}))
        elif kind == _TEMPO and length == 3:
            beat_us = int.from_bytes(data, "big")
            if not beat_us:
                raise MidiError("sets a tempo of 0 µs a beat; take that event out, or set one")
            self.shared.append((tick, "set_tempo", {"tempo": beat_us}))
        elif kind == _TIME_SIGNATURE and length >= 2:
            self._time_signature(tick, data[0], min(data[1], 6))
        elif kind == _KEY_SIGNATURE and length == 2 and data[1] <= 1:
            sharps = (data[0] + 128) % 256 - 128
            if -7 <= sharps <= 7:
                key = (_MINOR if data[1] else _MAJOR)[sharps + 7]
                self.shared.append((tick, "key_signature", {"key": key}))
        return kind == _END

    def _time_signature(self, tick: int, beats: int, power: int) -> None:
        if not beats:
            return
        if not self.beats_per_bar:
            self.beats_per_bar = beats * 4.0 / 2**power
        fields: dict[str, object] = {"numerator": beats, "denominator": 2**power}
        fields |= {"clocks_per_click": 24, "notated_32nd_notes_per_beat": 8}
        self.shared.append((tick, "time_signature", fields))

    def _skip(self, length: int) -> None:
        self.at += length
        if self.at > len(self.data):
            raise MidiError("is cut off: it ends inside an event; copy it again")

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
        raise MidiError("is damaged: a number of more than four bytes; copy it again")
