"""A tune is what a song is before anybody plays it: a melody and chords, in steps of a scale.

Steps and not pitches, so that every artist plays it in scales and keys of its own. Tunes are taken
from MIDI files (a melody track and an accompaniment) or composed by the artist (`composition`).
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing.midi import MidiError, MidiFile, MidiTrack, read_midi

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "harmonic": (0, 2, 3, 5, 7, 8, 11),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}
DARK = ("minor", "dorian", "harmonic", "phrygian")

# How well each pitch class above the tonic fits major and minor keys, as listeners rated them:
# Krumhansl and Kessler, "Tracing the dynamic changes in perceived tonal organization" (1982).
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)

MIN_NOTES = 24  # fewer make no tune of half a minute


@dataclasses.dataclass(frozen=True)
class Tune:
    """A melody and its chords.

    `start` and `length` [n] are in beats, `step` [n] in scale steps above the tonic (7 an octave),
    `accidental` [n] in semitones. `chords` [m] are the roots of the chords in scale steps 0 to 6,
    one every half bar. `bar` is beats per bar.
    """

    start: Floats
    length: Floats
    step: Ints
    accidental: Ints
    chords: Ints
    bar: float

    @property
    def beats(self) -> float:
        """Length in beats."""
        return len(self.chords) * self.bar / 2


def pitches(step: Ints, scale: tuple[int, ...]) -> Ints:
    """Semitones above the tonic of scale steps [n].

    >>> pitches(np.array([0, 2, 7, -1]), SCALES["major"]).tolist()
    [0, 4, 12, -1]
    """
    return np.asarray(scale, np.int64)[step % 7] + 12 * (step // 7)


def tune_files(folder: str | Path) -> list[Path]:
    """Return all MIDI files under `folder`, sorted, so that a seed draws the same one anywhere."""
    return sorted(path for path in Path(folder).rglob("*.mid") if path.is_file())


@functools.lru_cache(maxsize=64)
def read_tune(path: Path) -> Tune | None:
    """Read the tune in a MIDI file, or None where it is broken or holds no tune."""
    try:
        file = read_midi(path)
    except MidiError:
        return None
    return tune_of(file)


def tune_of(file: MidiFile) -> Tune | None:
    """Find melody, chords, key and bars of a file; None where there are too few notes.

    The melody is the track of that name, else the first with notes; all others accompany.
    """
    tracks = [t for t in file.tracks if len(t.pitch) and np.any(t.channel != 9)]
    if not tracks:
        return None
    melody = next((t for t in tracks if t.name.upper() == "MELODY"), tracks[0])
    backing = [t for t in tracks if t is not melody] or [melody]
    start, length, pitch = _monophonic(melody)
    if len(start) < MIN_NOTES:
        return None
    # One, two or four beats a bar are the same to an arranger, and all of them are played in four.
    bar = 3.0 if file.beats_per_bar in (1.5, 3.0, 4.5) else 4.0
    shift = _downbeat(backing, bar)
    first = shift + np.floor((start[0] - shift) / bar) * bar
    tonic, minor = _key([melody, *backing])
    scale = SCALES["minor" if minor else "major"]
    step, accidental = _steps(pitch - tonic, scale)
    # The octave of the melody becomes the artist's choice: its middle note lies around step 4.
    step -= 7 * int(np.round((np.median(step) - 4) / 7))
    last = float((start + length).max())
    chords = _chords(backing, first, last, bar / 2, tonic, scale)
    # Players are late and early, artists have habits of their own: all notes go on the grid.
    grid = np.round((start - first) * 4) / 4
    return Tune(grid, np.maximum(np.round(length * 4) / 4, 0.25), step, accidental, chords, bar)


def excerpt(tune: Tune, first_bar: int, bars: int) -> Tune:
    """Cut bars out of a tune; it begins again where it ends.

    >>> two = np.zeros(2, np.int64)
    >>> tune = Tune(np.array([0.0, 5.0]), np.ones(2), two, two, np.array([0, 1, 2, 3]), 4.0)
    >>> excerpt(tune, 1, 2).start.tolist(), excerpt(tune, 1, 2).chords.tolist()
    ([1.0, 4.0], [2, 3, 0, 1])
    """
    period = max(2, len(tune.chords) // 2 * 2)
    begin, end = first_bar * tune.bar, (first_bar + bars) * tune.bar
    turns = range(int(end // (period / 2 * tune.bar)) + 1)
    start = np.concatenate([tune.start + turn * period / 2 * tune.bar for turn in turns])
    keep = np.flatnonzero((start >= begin) & (start < end))
    which = keep % len(tune.start)
    half_bars = (np.arange(2 * bars) + 2 * first_bar) % period
    return Tune(
        start[keep] - begin,
        tune.length[which],
        tune.step[which],
        tune.accidental[which],
        tune.chords[np.minimum(half_bars, len(tune.chords) - 1)],
        tune.bar,
    )


def _monophonic(track: MidiTrack) -> tuple[Floats, Floats, Ints]:
    """The highest of notes that begin together, each ending where the next begins."""
    order = np.lexsort((-track.pitch, np.round(track.start * 8)))
    beats = np.round(track.start[order] * 8)
    top = order[np.append(True, np.diff(beats) > 0)] if len(order) else order
    start, length = track.start[top], track.length[top]
    if len(start) > 1:
        length = np.append(np.minimum(length[:-1], np.diff(start)), length[-1])
    return start, length, track.pitch[top]


def _downbeat(backing: list[MidiTrack], bar: float) -> float:
    """The beat in [0, bar) on which the accompaniment begins most and longest notes."""
    start = np.concatenate([track.start for track in backing])
    weight = np.minimum(np.concatenate([track.length for track in backing]), bar)
    ticks = np.round(start % bar * 12).astype(np.int64) % round(bar * 12)
    counts = np.bincount(ticks, weight, round(bar * 12))
    return float(np.argmax(counts)) / 12


def _key(tracks: list[MidiTrack]) -> tuple[int, bool]:
    """Tonic (0 to 11) and whether the key is minor, by correlation with the key profiles."""
    pitch = np.concatenate([track.pitch for track in tracks])
    weight = np.minimum(np.concatenate([track.length for track in tracks]), 4.0)
    share = np.bincount(pitch % 12, weight, 12)
    share = share - share.mean()
    scores = [
        [
            float(np.roll(share, -tonic) @ (np.array(profile) - np.mean(profile)))
            for tonic in range(12)
        ]
        for profile in (_MAJOR, _MINOR)
    ]
    minor, tonic = divmod(int(np.argmax(scores)), 12)
    return tonic, bool(minor)


def _steps(semitones: Ints, scale: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Nearest scale step at or below each pitch, and what is left over in semitones."""
    step = np.searchsorted(np.array(scale), semitones % 12, side="right") - 1
    return step + 7 * (semitones // 12), semitones % 12 - np.array(scale)[step]


def _chords(
    backing: list[MidiTrack],
    first: float,
    last: float,
    span: float,
    tonic: int,
    scale: Ints | tuple[int, ...],
) -> Ints:
    """The triad of the scale that covers most of what sounds in each half bar."""
    n = max(2, 2 * int(np.ceil((last - first) / (2 * span))))
    start = np.concatenate([track.start for track in backing])
    end = start + np.concatenate([track.length for track in backing])
    pitch = np.concatenate([track.pitch for track in backing])
    left = first + span * np.arange(n)[:, None]
    sounding = np.clip(np.minimum(end, left + span) - np.maximum(start, left), 0, None)
    share = np.stack([sounding[:, pitch % 12 == c].sum(1) for c in range(12)], axis=1)
    triads = np.zeros((7, 12))
    for root in range(7):
        for third, weight in ((0, 1.3), (2, 1.0), (4, 1.0)):
            triads[root, (tonic + scale[(root + third) % 7]) % 12] = weight
    best: Ints = np.argmax(share @ triads.T, axis=1)
    silent = share.sum(1) == 0
    for i in np.flatnonzero(silent):
        best[i] = best[i - 1] if i else 0
    return best
