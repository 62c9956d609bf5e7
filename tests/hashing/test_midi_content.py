"""What makes two MIDI files the same music, and what does not."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_files import END, chunk, song, tempo

from hashing.midi import parse_song
from hashing.midi_content import Content, content_of, repeated, same_music, titles_inside

# Start in steps of a sixteenth, pitch, channel: one after another, so that no note meets itself.
Notes = list[tuple[int, int, int]]
NOTES = st.lists(
    st.tuples(st.integers(1, 8), st.integers(30, 90), st.sampled_from([0, 1, 9])),
    min_size=2,
    max_size=30,
).filter(lambda notes: any(channel != 9 for _, _, channel in notes))


def number(value: int) -> bytes:
    """A number of variable length."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | value & 0x7F)
    return bytes(reversed(out))


def text(kind: int, words: bytes) -> bytes:
    return bytes([0, 0xFF, kind, len(words)]) + words


def track(notes: list[tuple[int, int, int, int]], head: bytes, running: bool) -> bytes:
    """Notes as start, end (ticks), pitch, channel."""
    events = [(start, 1, pitch, channel) for start, _, pitch, channel in notes]
    events += [(end, 0, pitch, channel) for _, end, pitch, channel in notes]
    data, at, status = head, 0, 0
    for tick, on, pitch, channel in sorted(events):
        wanted = 0x90 | channel  # an end as a stroke without velocity
        data += number(tick - at)
        data += b"" if running and status == wanted else bytes([wanted])
        data += bytes([pitch, 80 * on])
        at, status = tick, wanted
    return data + END


def written(
    notes: Notes,
    *,
    beat: int = 96,
    order: int = 0,
    name: bytes = b"",
    running: bool = False,
    beat_us: int = 500_000,
    rest: int = 0,
) -> bytes:
    """A file with a track for each channel, and a tempo in a track of its own."""
    at, of_channel = rest * beat // 4, dict[int, list[tuple[int, int, int, int]]]()
    for steps, pitch, channel in notes:
        note = (at, at + beat // 8, pitch, channel)
        of_channel.setdefault(channel, []).append(note)
        at += steps * beat // 4
    tracks = [track(some, text(3, name) + text(1, name), running) for some in of_channel.values()]
    orders = list(itertools.permutations(tracks))
    permuted = orders[order % len(orders)]
    return song(tempo(beat_us) + END, *permuted, division=beat)


def content(data: bytes) -> Content:
    return content_of(parse_song(data))


@settings(max_examples=50)
@given(
    notes=NOTES,
    beat=st.sampled_from([48, 96, 100, 384, 480, 960]),
    order=st.integers(0, 5),
    name=st.binary(max_size=20),
    running=st.booleans(),
    rest=st.integers(0, 32),
)
def test_the_way_of_writing_does_not_matter(
    notes: Notes, beat: int, order: int, name: bytes, running: bool, rest: int
) -> None:
    one = content(written(notes))
    changed = written(notes, beat=beat, order=order, name=name, running=running, rest=rest)
    assert same_music(one, content(changed))


@settings(max_examples=25)
@given(notes=NOTES, at=st.integers(0, 29))
def test_another_note_matters(notes: Notes, at: int) -> None:
    one = content(written(notes))
    steps, pitch, channel = notes[at % len(notes)]
    higher = [*notes]
    higher[at % len(notes)] = (steps, pitch + 1, channel)
    assert not same_music(one, content(written(higher)))
    drummed = [*notes]
    drummed[at % len(notes)] = (steps, pitch, 0 if channel == 9 else 9)
    if any(channel != 9 for _, _, channel in drummed):
        assert not same_music(one, content(written(drummed)))
    if notes[0][2] != 9:
        assert not same_music(one, content(written([notes[0], *notes])))


@settings(max_examples=25)
@given(notes=NOTES)
def test_other_times_matter(notes: Notes) -> None:
    one = content(written(notes))
    assert not same_music(one, content(written(notes, beat_us=650_000)))
    steps, *rest = notes[0]
    assert not same_music(one, content(written([(steps + 1, *rest), *notes[1:]])))


@given(st.lists(st.integers(0, 4), max_size=12))
def test_each_repeats_the_first_of_its_kind(kinds: list[int]) -> None:
    contents = [Content("k", np.array([0.0, kind], np.float32)) for kind in kinds]
    assert repeated(contents) == [kinds.index(kind) for kind in kinds]


def test_titles_inside() -> None:
    name = text(3, b"  Let It Be ")
    words = text(1, b"@TYesterday") + text(1, b"@TBeatles") + text(1, b"@KMIDI") + text(5, b"la")
    assert titles_inside(song(name + END, text(3, b"PIANO") + END)) == ["Let It Be"]
    assert titles_inside(song(text(3, b"x") + END, words + END)) == ["x", "Yesterday Beatles"]
    assert titles_inside(song(END) + chunk(b"XXXX", b"")) == []
