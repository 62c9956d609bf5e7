"""From a tune to the notes of every player, by the habits of an artist."""

from __future__ import annotations

import dataclasses

import numpy as np

from hashing.generated.genres import Genre
from hashing.generated.tunes import Floats, Ints, Tune, pitches

# Columns of notes: first beat, length in beats, MIDI pitch, velocity (0 to 1).
Notes = Floats

CHORDS = ((0, 2, 4), (0, 2, 4, 6), (0, 4), (0, 4, 8), (0, 2, 4, 8))  # steps above the root


@dataclasses.dataclass(frozen=True)
class Manner:
    """How an artist plays.

    `swing` is where the second half of a beat falls (0.5 even, 0.67 triplets), `late_s` and
    `loose_s` how far behind the beat and how unevenly the players are (seconds), `chord` and
    `spread` the notes of a chord and whether they are played in open position, `rhythm` the 16
    steps of stabs, `harmony` the second voice's distance in steps, `legato` the length of notes,
    `accent` how much the loudness of notes differs.
    """

    swing: float
    late_s: float
    loose_s: float
    chord: tuple[int, ...]
    spread: bool
    rhythm: tuple[int, ...]
    pluck_order: tuple[int, ...]
    comping: tuple[str, ...]
    walking: tuple[str, ...]
    harmony: int
    legato: float
    accent: float
    transpose: tuple[int, ...]  # semitones of lead, second, chords and bass

    @classmethod
    def draw(cls, genre: Genre, rng: np.random.Generator) -> Manner:
        """Draw the manner of one artist of a genre."""
        power = genre.name == "metal" or (genre.name == "rock" and rng.random() < 0.4)
        chord = (
            CHORDS[2] if power else CHORDS[int(rng.choice(len(CHORDS), p=_chord_weights(genre)))]
        )
        comping, walking = genre.comping.split(), genre.walking.split()
        rhythm = np.flatnonzero(rng.random(16) < rng.uniform(0.15, 0.5) * np.tile([1.6, 0.6], 8))
        return cls(
            rng.uniform(*genre.swing),
            rng.normal(0, 0.006),
            rng.uniform(0.001, 0.014) * (0.2 if genre.name in ("electronic", "chiptune") else 1),
            chord,
            bool(rng.random() < 0.4),
            tuple(rhythm.tolist()) or (0,),
            tuple(rng.permutation(4).tolist()),
            tuple(rng.choice(comping, 2).tolist()),
            tuple(rng.choice(walking, 2).tolist()),
            int(rng.choice([-2, -2, -5, 2, 7, -7])),
            rng.uniform(0.5, 1.05),
            rng.uniform(0.1, 0.5),
            (*rng.choice([-12, -5, 0, 0, 0, 5, 12], 3).tolist(), 0),
        )


def _chord_weights(genre: Genre) -> list[float]:
    if genre.name in ("jazz", "funk", "ambient", "hip hop"):
        return [0.15, 0.5, 0.05, 0.1, 0.2]
    return [0.6, 0.12, 0.1, 0.08, 0.1]


def melody(
    tune: Tune, scale: tuple[int, ...], tonic: int, density: float, rng: np.random.Generator
) -> Notes:
    """The tune itself; below a `density` of 1 some notes off the beat are left out."""
    off = (tune.start % 1) != 0
    kept = ~off | (rng.random(len(tune.start)) < density)
    pitch = tonic + pitches(tune.step, scale) + tune.accidental
    played: Notes = _notes(tune.start, tune.length, pitch, 0.8 + 0.15 * ~off)[kept]
    return played


def second_voice(
    tune: Tune, scale: tuple[int, ...], tonic: int, manner: Manner, rng: np.random.Generator
) -> Notes:
    """Harmony in parallel to the longer notes, or answers between the phrases."""
    if rng.random() < 0.5:
        kept = tune.length >= 0.5
        pitch = tonic + pitches(tune.step + manner.harmony, scale)
        return _notes(tune.start, tune.length, pitch, np.full(len(pitch), 0.6))[kept]
    rests = np.flatnonzero(np.diff(np.append(tune.start, tune.beats)) >= 1.0)
    rows = []
    for i in rests.tolist():
        root = _chord_at(tune, tune.start[i])
        for k in range(int(rng.integers(2, 4))):
            step = root + manner.chord[(k + i) % len(manner.chord)] + 7
            rows.append((tune.start[i] + 0.5 + 0.5 * k, 0.5, step, 0.65))
    return _in_scale(rows, scale, tonic)


def comping(
    tune: Tune,
    pattern: str,
    scale: tuple[int, ...],
    tonic: int,
    manner: Manner,
    rng: np.random.Generator,
) -> Notes:
    """Chords: held, strummed, as power chords, off the beat, as arpeggios or as stabs."""
    half = tune.bar / 2
    rows: list[tuple[float, float, int, float]] = []
    voicing = [s + (7 if manner.spread and i % 2 else 0) for i, s in enumerate(manner.chord)]
    for number, root in enumerate(tune.chords.tolist()):
        base, at = root if root < 4 else root - 7, number * half  # the nearer octave
        steps = [base + s for s in voicing]
        if pattern == "hold":
            same = number % 2 == 1 and tune.chords[number - 1] == root
            times = [] if same else [(0.0, 2 * half if number % 2 == 0 else half)]
        elif pattern == "strum":
            grid = [k / 2 for k in range(int(2 * half))]
            times = [(g, 0.5) for g in grid if g == 0 or rng.random() < 0.7]
        elif pattern == "power":
            times = [(k / 2, 0.45) for k in range(int(2 * half))]
        elif pattern == "offbeat":
            times = [(k + 0.5, 0.3) for k in range(int(np.ceil(half))) if k + 0.5 < half]
        elif pattern == "arpeggio":
            order = manner.pluck_order * 3
            for k in range(int(2 * half)):
                rows.append((at + k / 2, 1.0, steps[order[k] % len(steps)] + 7 * (k % 3 == 2), 0.7))
            continue
        else:
            first = 8 * (number % 2)
            times = [((r - first) / 4, 0.4) for r in manner.rhythm if 0 <= r - first < 4 * half]
        for offset, length in times:
            rows.extend((at + offset, length, step, 0.75 if offset else 0.85) for step in steps)
    return _in_scale(rows, scale, tonic)


def bass_line(
    tune: Tune,
    pattern: str,
    scale: tuple[int, ...],
    tonic: int,
    manner: Manner,
    rng: np.random.Generator,
) -> Notes:
    """Roots, fifths, eighths, octaves, a walk, a pedal, notes off the beat, or an own pulse."""
    half = tune.bar / 2
    rows: list[tuple[float, float, int, float]] = []
    for number, root in enumerate(tune.chords.tolist()):
        base, at = root if root < 4 else root - 7, number * half
        following = int(tune.chords[(number + 1) % len(tune.chords)])
        if pattern == "pedal":
            steps = [(0.0, half, 0 if number % 8 < 6 else base)]
        elif pattern == "roots":
            steps = [(0.0, half, base)]
        elif pattern == "fifths":
            steps = [(0.0, half * 0.6, base if number % 2 == 0 else base + 4)]
        elif pattern == "eighths":
            steps = [(k / 2, 0.45, base) for k in range(int(2 * half))]
        elif pattern == "octaves":
            steps = [(k / 2, 0.4, base + 7 * (k % 2)) for k in range(int(2 * half))]
        elif pattern == "offbeat":
            steps = [(k + 0.5, 0.4, base) for k in range(int(half))]
        elif pattern == "walking":
            near = following if following < 4 else following - 7
            walk = (base, base + int(rng.choice([1, 2, 4, -1])))
            steps = [(float(k), 0.9, walk[k % 2]) for k in range(int(half))]
            if len(steps) > 1 and rng.random() < 0.5:
                steps[-1] = (steps[-1][0], 0.9, near + int(rng.choice([-1, 1])))
        else:
            first = 8 * (number % 2)
            hits = [r - first for r in manner.rhythm if 0 <= r - first < 4 * half]
            steps = [
                (r / 4, 0.4, base if i % 3 < 2 else base + 4) for i, r in enumerate([0, *hits])
            ]
        rows.extend((at + o, n, s, 0.85) for o, n, s in steps)
    return _in_scale(rows, scale, tonic)


def drum_hits(
    beat: tuple[tuple[float, ...], ...],
    bars: int,
    bar: float,
    sections: Ints,
    rng: np.random.Generator,
) -> list[Notes]:
    """First beats and velocities [n, 2] of every piece; `sections` [bars] numbers the sections.

    A crash opens a section, and a fill on the tom and the snare closes it, now and then.
    """
    steps = round(bar * 4)
    chances = np.array(beat)[:, :steps]
    struck = rng.random((bars, *chances.shape)) < chances
    ends = np.append(sections[1:] != sections[:-1], False)
    for number in np.flatnonzero(ends & (rng.random(bars) < 0.6)).tolist():
        struck[number, 4, -6:] |= rng.random(6) < 0.5
        struck[number, 1, -4:] |= rng.random(4) < 0.5
        if number + 1 < bars:
            struck[number + 1, 5, 0] = rng.random() < 0.7
    out = []
    for piece in range(chances.shape[0]):
        which, step = np.nonzero(struck[:, piece])
        strong = np.where(step % 4 == 0, 0.9, 0.7) * rng.uniform(0.8, 1.1, len(step))
        out.append(np.stack([which * bar + step / 4, strong], axis=1))
    return out


def swung(beats: Floats, swing: float) -> Floats:
    """Move what lies between beats: half a beat falls at `swing`.

    >>> swung(np.array([1.0, 1.5, 1.75]), 0.6).tolist()
    [1.0, 1.6, 1.8]
    """
    whole = np.floor(beats)
    part = beats - whole
    late = np.where(part < 0.5, part * 2 * swing, swing + (part - 0.5) * 2 * (1 - swing))
    moved: Floats = whole + late
    return moved


def _chord_at(tune: Tune, beat: float) -> int:
    return int(tune.chords[min(int(beat / tune.bar * 2), len(tune.chords) - 1)])


def _in_scale(
    rows: list[tuple[float, float, int, float]], scale: tuple[int, ...], tonic: int
) -> Notes:
    table = np.array(rows, np.float64).reshape(-1, 4)
    table[:, 2] = tonic + pitches(table[:, 2].astype(np.int64), scale)
    return table


def _notes(start: Floats, length: Floats, pitch: Ints, velocity: Floats) -> Notes:
    return np.stack([start, length, pitch.astype(np.float64), velocity], axis=1)
