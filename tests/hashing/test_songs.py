"""Songs in seconds: what is read, refused, moved in time and written again."""

from __future__ import annotations

import dataclasses
import io
import random
import time
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from midi_files import END, chunk, made_up_song, note, song, tempo

from hashing import midi
from hashing.midi import BEND, MidiError, Song, aligned_midi, parse_song, read_song
from hashing.midi_writing import midi_bytes

# A melody with a name, a program, a volume and a bend; drums; and a tempo that slows in another
# track than the first.
NAME = bytes([0, 0xFF, 3, 5]) + b"FLUTE"
SOUND = bytes([0, 0xC2, 73, 0, 0xB2, 7, 99, 0, 0xE2, 0, 0x60])
MELODY = NAME + SOUND + note(72, 96, channel=2) + note(74, 48, channel=2, velocity=50) + END
DRUMS = note(36, 24, channel=9) + END
SLOWER = tempo(1_000_000, after=96) + END
FILE = song(MELODY, DRUMS, SLOWER)


def test_seconds_programs_drums_and_controls() -> None:
    read = parse_song(FILE)
    assert read.start_s.tolist() == [0.0, 0.0, 0.5]
    assert read.end_s.tolist() == [0.125, 0.5, 1.0]  # half a beat of the slower tempo
    assert read.pitch.tolist() == [36, 72, 74]
    assert read.velocity.tolist() == [90, 90, 50]
    assert read.program.tolist() == [0, 73, 73]
    assert read.is_drum.tolist() == [True, False, False]
    assert read.track.tolist() == [1, 0, 0]
    assert read.names == ("FLUTE", "")
    assert read.beats_s.tolist() == [0.0, 0.5, 1.5]
    assert read.controls.number.tolist() == [7, BEND]
    assert read.controls.value.tolist() == [99, 4096]


def test_agrees_with_pretty_midi_alone() -> None:
    data = midi_bytes(made_up_song(1))
    theirs = pretty_midi.PrettyMIDI(io.BytesIO(data))
    notes = sorted(
        (n.start, n.end, n.pitch, n.velocity, i.program)
        for i in theirs.instruments
        for n in i.notes
    )
    read = parse_song(data)
    order = np.lexsort((read.program, read.velocity, read.pitch, read.end_s, read.start_s))
    columns = (read.start_s, read.end_s, read.pitch, read.velocity, read.program)
    assert np.array_equal(np.array(notes), np.stack([c[order] for c in columns], axis=1))


LONG = bytes([0xFF, 0xFF, 0x7F])  # 2,097,151 ticks, as a number of variable length


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "does not begin with MThd"),
        (FILE[:-20], "is cut off"),
        (song(), "holds no track"),
        (song(END), "holds no notes"),
        (song(NAME + SOUND + END), "holds no notes"),
        (song(DRUMS), "holds drums only"),
        (song(tempo(0) + END, MELODY), "a tempo of 0"),
        # Ten hours: 36,000 s in one note, at 16 s a beat.
        (
            song(tempo(16_000_000) + bytes([0, 0x90, 60, 9]) + LONG + bytes([0x80, 60, 0])),
            r"lasts 97\.1 hours, more than 2",
        ),
        (song(bytes([0, 0x90, 60, 9]) + LONG + bytes([0x80, 60, 0]) + END, division=1), "beats"),
        (
            song((LONG + bytes([0x90, 60, 9])) * 6 + bytes([1, 0x80, 60, 0]), division=9600),
            "has 12582907 ticks, more than 10000000",
        ),
        (song(*[note(60, 9) + END] * 255) + chunk(b"MTrk", END) * 2, "more than 256 tracks"),
        (
            song(b"".join(bytes([0, 0xC0 | i % 9, i % 128]) + note(60, 1, channel=i % 9)
                          for i in range(300)) + END),
            "more than 256 instruments",
        ),
    ],
)  # fmt: skip
def test_what_is_no_song_is_one_clear_line(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.mid"
    path.write_bytes(data)
    with pytest.raises(MidiError, match=words) as caught:
        read_song(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line


def test_a_folder_and_a_name_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(MidiError, match="cannot be read: Is a directory"):
        read_song(tmp_path)
    with pytest.raises(MidiError, match=r"'a\\x00b' cannot be read"):
        read_song("a\0b")


def test_what_comes_after_the_last_note_does_not_lengthen_a_song() -> None:
    late = bytes([0xFF, 0xFF, 0xFF, 0x7F])
    read = parse_song(song(note(60, 96) + late + END[1:], division=20_000))
    assert read.end_s.tolist() == pytest.approx([0.5 * 96 / 20_000])


def test_mutated_files_are_songs_or_midi_errors() -> None:
    """Sixty here; `tests/benchmarks/bench_rendering.py --mutations` takes thousands of files."""
    rng = random.Random(7)
    whole = midi_bytes(made_up_song(2, 5.0))
    outcomes, lines = [], []
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(data) if rng.random() < 0.7 else 60)
            data[at] = rng.choice([0, 1, 0x51, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        began = time.process_time()
        try:
            read = parse_song(bytes(data))
            outcomes.append(True)
            assert read.duration_s <= 7200
            aligned_midi(bytes(data), [0.0, read.duration_s], [0.0, 1 + read.duration_s])
        except MidiError as error:
            outcomes.append(False)
            lines.append(str(error))
        assert time.process_time() - began < 5
    assert max(map(len, lines)) < 120
    assert 10 < sum(outcomes) < 55


@given(st.integers(0, 40), st.integers(1, 5), st.booleans())
def test_what_is_written_is_read_again(seed: int, tracks: int, drums: bool) -> None:
    made = made_up_song(seed, 8.0, tracks, drums)
    read = parse_song(midi_bytes(made))
    assert read.names == made.names
    # Half a tick, and a pitch that is struck again ends where it is struck.
    assert np.allclose(np.sort(read.start_s), np.sort(made.start_s), atol=0.0006)
    assert sorted(zip(read.pitch.tolist(), read.program.tolist(), strict=True)) == sorted(
        zip(made.pitch.tolist(), made.program.tolist(), strict=True)
    )
    beats = min(read.beats_s.size, made.beats_s.size)
    assert beats >= 13
    assert np.allclose(read.beats_s[:beats], made.beats_s[:beats], atol=1e-5)
    assert read.controls.value.tolist() == made.controls.value.tolist()


def test_odd_beats_and_many_tracks_are_written() -> None:
    base = made_up_song(3, 8.0, tracks=40)
    for beats_s in ([], [3.0], [0.7, 0.7001, 1.9], [0.0, 0.1, 60.0], [30.0, 30.5]):
        made = dataclasses.replace(base, beats_s=np.array(beats_s))
        read = parse_song(midi_bytes(made))
        assert np.allclose(np.sort(read.start_s), np.sort(made.start_s), atol=0.03)


def test_times_are_mapped_and_cut_at_the_ends() -> None:
    made = made_up_song(4, 20.0)
    old_s, new_s = np.array([5.0, 10.0, 15.0]), np.array([0.0, 10.0, 12.0])
    moved = made.mapped(old_s, new_s)
    kept = (made.end_s > 5) & (made.start_s < 15)
    assert np.array_equal(moved.start_s, np.interp(made.start_s[kept], old_s, new_s))
    assert np.array_equal(moved.end_s, np.interp(made.end_s[kept], old_s, new_s))
    assert moved.controls.time_s.tolist() == [0.0, 0.0, 0.0]
    assert moved.beats_s[[0, -1]].tolist() == [0.0, 12.0]
    with pytest.raises(ValueError, match="two pairs"):
        made.mapped(old_s, new_s[::-1])


@pytest.mark.parametrize("times", [(-1.0, 1.0), (1.0, 1.0), (0.0, np.nan), (0.0, 1e9)])
def test_impossible_notes_are_refused(times: tuple[float, float]) -> None:
    one = np.array([60])
    start, end = (np.array([at]) for at in times)
    with pytest.raises(ValueError, match="note 0 lasts from"):
        Song(start, end, one, one, one, one > 90, one * 0, ("",), np.zeros(0))


def test_an_aligned_file_is_where_the_pairs_say() -> None:
    made = made_up_song(5, 30.0)
    rng = np.random.default_rng(1)
    old_s = np.arange(0.0, 31.0, 0.4)
    new_s = 3.0 + np.cumsum(rng.uniform(0.36, 0.44, old_s.size))
    # A frame twice and one that goes back are what alignments hold.
    data = aligned_midi(midi_bytes(made), [*old_s, old_s[9], 2.2], [*new_s, new_s[9] + 1, 0.1])
    read, wanted = parse_song(data), made.mapped(old_s, new_s)
    assert read.start_s.size == wanted.start_s.size
    assert np.abs(np.sort(read.start_s) - np.sort(wanted.start_s)).max() < 0.003
    assert read.names == made.names


@pytest.mark.parametrize(
    ("old_s", "new_s", "words"),
    [
        ([0.0], [0.0], "fewer than two pairs"),
        ([0.0, 1.0], [1.0, 1.0], "fewer than two pairs"),
        ([0.0, -1.0], [1.0, 2.0], "outside of 0 to"),
        ([0.0, 1.0], [0.0, float("nan")], "outside of 0 to"),
        ([0.0, 0.1], [0.0, 7000.0], "a beat would last"),
    ],
)
def test_impossible_alignments_are_one_clear_line(
    old_s: list[float], new_s: list[float], words: str
) -> None:
    with pytest.raises(MidiError, match=words):
        aligned_midi(midi.EXAMPLE, old_s, new_s)
