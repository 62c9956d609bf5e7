"""Instruments that a score does not have, but another performance of it may: bass, pad and drums.

They play what the song's own notes suggest, so that they are in key: the pitch classes that sound
most in each half bar of four beats. That is what bands do, and what makes a recording differ from
its MIDI file without making it another song.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.midi import COLUMNS, Song

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SPAN = 2  # beats to a harmony: chords change no faster in most songs
BASSES = (32, 40)  # programs of General MIDI, from and up to
PADS = (88, 96)
BASS_PITCH = 36  # C2; the bass plays the octave above it
PAD_PITCH = 60
KICK, SNARE, HAT = 36, 38, 42  # General MIDI's percussion
NOTE_S = 0.1  # of a drum

MIN_BEATS = 8  # a song with fewer has nothing to be accompanied
MAX_BEATS = 40_000  # two hours at 300 beats/min, and some


def add_track(
    song: Song,
    start_s: Floats,
    end_s: Floats,
    pitch: Ints,
    velocity: Ints,
    *,
    name: str,
    program: int = 0,
    is_drum: bool = False,
) -> Song:
    """The song with one more track; notes that do not last are left out.

    >>> from hashing.midi import EXAMPLE, parse_song
    >>> one, at = np.array([72]), np.array([0.25])
    >>> add_track(parse_song(EXAMPLE), at, at + 1, one, one, name="flute").pitch.tolist()
    [60, 72, 64]
    """
    keep = end_s > start_s
    n = int(keep.sum())
    new = (
        *(start_s[keep], end_s[keep], pitch[keep], velocity[keep]),
        *(np.full(n, program), np.full(n, is_drum), np.full(n, len(song.names))),
    )
    columns = [np.concatenate(pair) for pair in zip(song.columns(), new, strict=True)]
    order = np.lexsort((columns[6], columns[2], columns[0]))
    ordered: dict[str, Any] = {
        name: column[order] for name, column in zip(COLUMNS, columns, strict=True)
    }
    return dataclasses.replace(song, names=(*song.names, name), **ordered)


def harmonies(song: Song) -> tuple[Floats, npt.NDArray[np.float64]]:
    """How long each pitch class sounds in each span of two beats.

    Returns:
      edges_s [k + 1] of the spans, and seconds [k, 12], C first, weighted by velocity.
    """
    edges_s = song.beats_s[:MAX_BEATS:SPAN]
    notes = song.where(~song.is_drum)
    seconds = np.zeros((max(0, edges_s.size - 1), 12))
    if not len(seconds):
        return edges_s, seconds
    first = np.searchsorted(edges_s, notes.start_s, side="right") - 1
    last = np.searchsorted(edges_s, notes.end_s, side="left") - 1
    reach = int(min((last - first).max(initial=0), 16)) + 1  # longer notes are drones
    for step in range(reach):
        span = first + step
        here = (span >= 0) & (span <= last) & (span < len(seconds))
        at = span[here]
        low = np.maximum(notes.start_s[here], edges_s[at])
        high = np.minimum(notes.end_s[here], edges_s[at + 1])
        weight = np.maximum(high - low, 0.0) * notes.velocity[here]
        np.add.at(seconds, (at, notes.pitch[here] % 12), weight)
    return edges_s, seconds


def add_bass(song: Song, rng: np.random.Generator) -> Song:
    """With a bass that plays the strongest pitch class, once or twice in two beats."""
    edges_s, seconds = harmonies(song)
    if song.beats_s.size < MIN_BEATS:
        return song
    sounding = np.flatnonzero(seconds.any(axis=1))
    pitch = BASS_PITCH + seconds[sounding].argmax(axis=1)
    start_s, end_s = edges_s[sounding], edges_s[sounding + 1]
    if rng.random() < 0.5:
        middle_s = (start_s + end_s) / 2
        start_s, end_s = np.append(start_s, middle_s), np.append(middle_s, end_s)
        pitch = np.append(pitch, pitch)
    velocity = rng.integers(60, 100, pitch.size)
    program = int(rng.integers(*BASSES))
    return add_track(
        song, start_s, end_s * 0.98 + start_s * 0.02, pitch, velocity, name="bass", program=program
    )


def add_pad(song: Song, rng: np.random.Generator) -> Song:
    """With a pad that holds the three strongest pitch classes for two beats."""
    edges_s, seconds = harmonies(song)
    if song.beats_s.size < MIN_BEATS:
        return song
    order = np.argsort(-seconds, axis=1, kind="stable")[:, :3]
    spans, places = np.nonzero(np.take_along_axis(seconds, order, axis=1) > 0)
    return add_track(
        song,
        *(edges_s[spans], edges_s[spans + 1]),
        PAD_PITCH - 12 * int(rng.integers(0, 2)) + order[spans, places],
        np.full(spans.size, int(rng.integers(40, 75))),
        name="pad",
        program=int(rng.integers(*PADS)),
    )


def add_drums(song: Song, rng: np.random.Generator) -> Song:
    """With kick, snare and hat on the beats, in four."""
    beats_s = song.beats_s[:MAX_BEATS]
    if beats_s.size < MIN_BEATS:
        return song
    number = np.arange(beats_s.size) + int(rng.integers(0, 4))
    halves_s = (beats_s[:-1] + beats_s[1:]) / 2
    parts = [
        (beats_s[number % 4 == 0], KICK, 100),
        (beats_s[number % 4 == 2], SNARE, 90),
        (np.append(beats_s, halves_s) if rng.random() < 0.5 else beats_s, HAT, 60),
    ]
    start_s = np.concatenate([times_s for times_s, _, _ in parts])
    pitch = np.concatenate([np.full(times_s.size, drum) for times_s, drum, _ in parts])
    loud = np.concatenate([np.full(times_s.size, velocity) for times_s, _, velocity in parts])
    velocity = np.clip(loud + rng.integers(-15, 16, loud.size), 1, 127)
    return add_track(song, start_s, start_s + NOTE_S, pitch, velocity, name="drums", is_drum=True)


EXTRAS = {"bass": add_bass, "pad": add_pad, "drums": add_drums}
