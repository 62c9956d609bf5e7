"""A song as the bytes of a MIDI file: for synthesisers, and for whoever wants to open it."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from hashing.midi import BEND, Song

Floats = npt.NDArray[np.float64]

DIVISION = 480  # ticks to a beat: one in 1 ms at 120 beats/min, well below what is heard as early
START_BEAT_S = 0.5  # of a song without beats
NEAREST_BEATS_S = 0.01  # closer ones are no beats
LONGEST_BEAT_S = 10.0  # three bytes hold 16.7 s in microseconds

DRUM_CHANNEL = 9  # of General MIDI, counted from 0
CHANNELS = tuple(channel for channel in range(16) if channel != DRUM_CHANNEL)


def midi_bytes(song: Song) -> bytes:
    """The song as a MIDI file of format 1: a track of tempos, then one for each of its tracks.

    Beats are kept, within half a tick of each note. MIDI has 15 channels for instruments: of a song
    with more tracks, those with one program share one.

    >>> from hashing.midi import EXAMPLE, parse_song
    >>> parse_song(midi_bytes(parse_song(EXAMPLE))).start_s.tolist()
    [0.0, 0.5]
    """
    knots_s = _knots(song)
    micros = np.diff(np.round(knots_s * 1e6).astype(np.int64))
    changed = np.flatnonzero(np.diff(micros, prepend=0))
    tempo = [(int(i) * DIVISION, 0, b"\xff\x51\x03" + _three(int(micros[i]))) for i in changed]
    grid = DIVISION * np.arange(knots_s.size, dtype=np.float64)

    def ticks(times_s: Floats) -> npt.NDArray[np.int64]:
        return np.round(np.interp(times_s, knots_s, grid)).astype(np.int64)

    start, end = ticks(song.start_s), ticks(song.end_s)
    end = np.maximum(end, start + 1)
    changes_at = ticks(song.controls.time_s)
    chunks = [_chunk(tempo)]
    for track, channel in enumerate(_channels(song)):
        notes, controls = song.track == track, song.controls.track == track
        # At one tick: names and programs, releases, controls, then strokes.
        events = [(0, 0, b"\xff\x03" + _named(song.names[track]))]
        if channel != DRUM_CHANNEL and notes.any():
            program = int(song.program[np.argmax(notes)])
            events.append((0, 0, bytes([0xC0 | channel, program])))
        for pitch, velocity, first, last in zip(
            *(column[notes].tolist() for column in (song.pitch, song.velocity, start, end)),
            strict=True,
        ):
            events.append((first, 3, bytes([0x90 | channel, pitch, velocity])))
            events.append((last, 1, bytes([0x90 | channel, pitch, 0])))
        for at, number, value in zip(
            changes_at[controls].tolist(),
            song.controls.number[controls].tolist(),
            song.controls.value[controls].tolist(),
            strict=True,
        ):
            if number == BEND:
                bend = value + 8192
                events.append((at, 2, bytes([0xE0 | channel, bend & 0x7F, bend >> 7])))
            else:
                events.append((at, 2, bytes([0xB0 | channel, number, value])))
        chunks.append(_chunk(sorted(events, key=lambda event: event[:2])))
    head = struct.pack(">4sIHHH", b"MThd", 6, 1, len(chunks), DIVISION)
    return head + b"".join(chunks)


def _knots(song: Song) -> Floats:
    """Seconds of beats from 0 to the end of the song, each a tempo of its own."""
    beats, end_s = song.beats_s, max(song.duration_s, START_BEAT_S)
    if beats.size < 2:
        beats = np.array([0.0, START_BEAT_S])
    first, last = (max(step, 0.1) for step in (beats[1] - beats[0], beats[-1] - beats[-2]))
    before = np.arange(beats[0] - first, NEAREST_BEATS_S, -first)[::-1]
    after = np.arange(beats[-1] + last, end_s + 2 * last, last)
    kept = [0.0]
    for beat in (*before.tolist(), *beats.tolist(), *after.tolist()):
        gap = beat - kept[-1]
        if gap >= NEAREST_BEATS_S:
            parts = int(np.ceil(gap / LONGEST_BEAT_S))
            kept += [kept[-1] + gap * (i + 1) / parts for i in range(parts)]
    return np.array(kept)


def _channels(song: Song) -> list[int]:
    """A channel for each track."""
    drums = set(song.track[song.is_drum].tolist())
    pitched = [track for track in range(len(song.names)) if track not in drums]
    places = {track: place for place, track in enumerate(pitched)}
    if len(pitched) > len(CHANNELS):
        program = {int(t): int(song.program[np.argmax(song.track == t)]) for t in pitched}
        order = {kind: place for place, kind in enumerate(sorted(set(program.values())))}
        places = {track: order[program[track]] for track in pitched}
    return [
        DRUM_CHANNEL if track in drums else CHANNELS[places[track] % len(CHANNELS)]
        for track in range(len(song.names))
    ]


def _chunk(events: list[tuple[int, int, bytes]]) -> bytes:
    data, at = bytearray(), 0
    for tick, _, event in events:
        data += _number(tick - at) + event
        at = tick
    data += b"\x00\xff\x2f\x00"
    return b"MTrk" + len(data).to_bytes(4, "big") + bytes(data)


def _number(value: int) -> bytes:
    """A number of variable length: seven bits a byte, the last one without the eighth."""
    if value < 0x80:
        return bytes([value])
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F | 0x80)
    return bytes(reversed(parts))


def _three(value: int) -> bytes:
    return value.to_bytes(3, "big")


def _named(name: str) -> bytes:
    text = name.encode("latin-1", "replace")[:127]
    return bytes([len(text)]) + text
