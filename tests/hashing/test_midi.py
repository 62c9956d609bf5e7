"""The reader of Standard MIDI files: what it reads, and that nothing broken gets through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from midi_files import END, chunk, song

from hashing import midi_events
from hashing.midi import MidiError, parse_midi, read_midi


def test_notes_names_and_bars() -> None:
    name = bytes([0, 0xFF, 0x03, 6]) + b"MELODY"
    waltz = bytes([0, 0xFF, 0x58, 4, 3, 2, 24, 8])
    # Two notes under running status, the second one a beat and a half late and half as long.
    notes = bytes([0, 0x91, 60, 100, 96, 60, 0, 48, 64, 80, 48, 64, 0])
    file = parse_midi(song(name + waltz + notes + END))
    track = file.tracks[0]
    assert (track.name, file.beats_per_bar) == ("MELODY", 3.0)
    assert track.start.tolist() == [0.0, 1.5]
    assert track.length.tolist() == [1.0, 0.5]
    assert track.pitch.tolist() == [60, 64]
    assert track.velocity.tolist() == [100, 80]
    assert track.channel.tolist() == [1, 1]


def test_long_delta_times_and_other_events() -> None:
    sysex = bytes([0, 0xF0, 2, 1, 0xF7])
    program = bytes([0, 0xC0, 5])
    bend = bytes([0, 0xE0, 0, 64])
    note = bytes([0x81, 0x40, 0x90, 60, 1, 0x83, 0x00, 0x80, 60, 0])  # 192 ticks, then 384
    track = parse_midi(song(sysex + program + bend + note + END)).tracks[0]
    assert track.start.tolist() == [2.0]
    assert track.length.tolist() == [4.0]


def test_a_note_struck_again_and_one_never_ended() -> None:
    notes = bytes([0, 0x90, 60, 90, 96, 60, 91, 96, 60, 0, 96, 62, 9, 96]) + END[1:]
    track = parse_midi(song(notes)).tracks[0]
    assert track.start.tolist() == [0.0, 1.0, 3.0]
    assert track.length.tolist() == [2.0, 3.0, 1.0]


def test_foreign_chunks_and_tracks_without_notes_are_kept_apart() -> None:
    data = song(END, bytes([0, 0x90, 60, 1, 1, 60, 0]) + END)
    file = parse_midi(data[:14] + chunk(b"XFIH", b"abc") + data[14:])
    assert [len(track.pitch) for track in file.tracks] == [0, 1]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "does not begin with MThd"),
        (b"RIFF" + bytes(40), "does not begin with MThd"),
        (song(END, division=0), "no ticks"),
        (song(END, division=0xE728), "no ticks"),
        (song(), "no track"),
        (song(END)[:-2], "is cut off: it ends inside a chunk"),
        (song(bytes([0, 0x90, 60])), "ends inside an event"),
        (song(bytes([0, 60, 60])), "where an event must begin"),
        (song(bytes([0, 0xF4])), "which no file may hold"),
        (song(bytes([0xFF] * 4)), "more than four bytes"),
        (song(bytes([0, 0xFF, 1, 0x7F])), "ends inside an event"),
        (song(bytes([0xFF, 0xFF, 0xFF, 0x7F, 0x90, 60, 60]), division=1), "more than 36000 beats"),
        (song(*[b""] * 200, *[b""] * 55) + chunk(b"MTrk", b"") * 2, "more than 256 tracks"),
    ],
)
def test_broken_files_are_one_clear_error(data: bytes, words: str) -> None:
    with pytest.raises(MidiError, match=words):
        parse_midi(data)


def test_limits_on_notes_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track = bytes([0, 0x90]) + bytes([60, 1, 1, 60, 0, 1]) * 20
    monkeypatch.setattr(midi_events, "MAX_NOTES", 10)
    with pytest.raises(MidiError, match="more than 10 notes"):
        parse_midi(song(track[:-1] + END))
    path = tmp_path / "large.mid"
    path.write_bytes(bytes(midi_events.MAX_BYTES + 1))
    with pytest.raises(MidiError, match=r"large\.mid has more than"):
        read_midi(path)


@given(st.binary(max_size=80))
def test_any_bytes_are_notes_or_a_midi_error(data: bytes) -> None:
    try:
        file = parse_midi(song(data))
    except MidiError:
        return
    for track in file.tracks:
        assert np.all(np.diff(track.start) >= 0)
        assert np.all(track.length > 0)
        assert np.all((track.pitch >= 0) & (track.pitch <= 127))
