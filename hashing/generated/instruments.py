"""The instruments of labelled clips: 48 of General MIDI in families, and phrases that they play.

A class is one or two programs of General MIDI that people call by one name, and the pitches that
its players use and all soundfonts of Debian have samples for; a family is what an orchestra's
librarian would file it under. Percussion classes are drums of the drum channel.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from hashing.midi import Song

Values = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Sound:
    """A class of clips.

    Attributes:
      label, family: names.
      programs: of General MIDI, from 0; empty for drums.
      low, high: lowest and highest MIDI pitch; of drums those of the drum channel that it is.
      chords: whether one player plays several notes at once.
    """

    label: str
    family: str
    programs: tuple[int, ...]
    low: int
    high: int
    chords: bool = False

    @property
    def is_drum(self) -> bool:
        """Whether it is played on the drum channel."""
        return not self.programs


SOUNDS = (
    Sound("piano", "keyboard", (0, 1), 33, 93, chords=True),
    Sound("electric_piano", "keyboard", (4, 5), 36, 90, chords=True),
    Sound("harpsichord", "keyboard", (6,), 36, 86, chords=True),
    Sound("clavinet", "keyboard", (7,), 36, 86, chords=True),
    Sound("glockenspiel", "mallets", (9,), 72, 100),
    Sound("music_box", "mallets", (10,), 60, 96, chords=True),
    Sound("vibraphone", "mallets", (11,), 53, 89, chords=True),
    Sound("marimba", "mallets", (12,), 48, 88),
    Sound("xylophone", "mallets", (13,), 65, 100),
    Sound("tubular_bells", "mallets", (14,), 60, 77),
    Sound("drawbar_organ", "organ", (16,), 36, 90, chords=True),
    Sound("church_organ", "organ", (19,), 36, 90, chords=True),
    Sound("accordion", "organ", (21, 23), 48, 84, chords=True),
    Sound("harmonica", "organ", (22,), 60, 84),
    Sound("nylon_guitar", "guitar", (24,), 40, 79, chords=True),
    Sound("steel_guitar", "guitar", (25,), 40, 79, chords=True),
    Sound("clean_guitar", "guitar", (27,), 40, 79, chords=True),
    Sound("distorted_guitar", "guitar", (29, 30), 40, 79, chords=True),
    Sound("double_bass", "bass", (32,), 28, 55),
    Sound("electric_bass", "bass", (33, 34), 28, 55),
    Sound("slap_bass", "bass", (36, 37), 28, 55),
    Sound("synth_bass", "bass", (38, 39), 28, 55),
    Sound("violin", "strings", (40,), 55, 93),
    Sound("cello", "strings", (42,), 36, 72),
    Sound("pizzicato", "strings", (45,), 40, 84),
    Sound("harp", "strings", (46,), 36, 91, chords=True),
    Sound("string_ensemble", "strings", (48, 49), 40, 88, chords=True),
    Sound("choir", "voice", (52, 53), 48, 79, chords=True),
    Sound("trumpet", "brass", (56,), 55, 82),
    Sound("trombone", "brass", (57,), 40, 70),
    Sound("tuba", "brass", (58,), 29, 55),
    Sound("french_horn", "brass", (60,), 41, 72),
    Sound("brass_section", "brass", (61,), 45, 79, chords=True),
    Sound("saxophone", "reed", (65, 66), 46, 77),
    Sound("oboe", "reed", (68,), 58, 88),
    Sound("bassoon", "reed", (70,), 34, 70),
    Sound("clarinet", "reed", (71,), 50, 88),
    Sound("piccolo", "pipe", (72,), 74, 98),
    Sound("flute", "pipe", (73,), 60, 92),
    Sound("pan_flute", "pipe", (75,), 60, 88),
    Sound("sitar", "plucked", (104,), 48, 77),
    Sound("banjo", "plucked", (105,), 48, 82, chords=True),
    Sound("kalimba", "plucked", (108,), 53, 84),
    Sound("bass_drum", "drums", (), 35, 36),
    Sound("snare_drum", "drums", (), 38, 40),
    Sound("tom_tom", "drums", (), 41, 50),
    Sound("hi_hat", "drums", (), 42, 46),
    Sound("cymbal", "drums", (), 49, 57),
)
# Pitches between that are other drums.
_NOT = {
    "tom_tom": (42, 44, 46, 49),
    "hi_hat": (43, 45),
    "cymbal": (50, 53, 54, 56),
    "snare_drum": (39,),
}

# Steps of scales that phrases go along: major, minor, pentatonic, chromatic.
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), tuple(range(12)))
CHORDS = ((0, 4, 7), (0, 3, 7), (0, 7), (0, 12), (0, 4, 7, 10), (0, 5, 7))
MANNERS = ("held", "repeated", "melody", "arpeggio", "chords")
_SHORTEST_S = 0.06  # of a note: shorter ones are clicks


def phrase(sound: Sound, seconds: float, rng: np.random.Generator) -> Values:
    """What somebody plays on an instrument for some seconds.

    Returns:
      [n, 4], n at least 1: start and end in seconds, from 0 to `seconds`, pitch, velocity.

    >>> found = phrase(SOUNDS[0], 2.0, np.random.default_rng(1))
    >>> bool((found[:, 1] <= 2.0).all() and (found[:, 2] >= SOUNDS[0].low).all())
    True
    """
    manner = MANNERS[int(rng.integers(len(MANNERS) - (not sound.chords)))]
    step_s = float(np.exp(rng.uniform(np.log(0.11), np.log(0.8))))
    if manner == "held" and not sound.is_drum:
        step_s = seconds
    count = max(1, int(seconds / step_s))
    starts = np.arange(count) * step_s + rng.normal(0, 0.02 * step_s, count)
    starts = np.clip(starts, 0, seconds - _SHORTEST_S)
    ends = np.minimum(starts + max(_SHORTEST_S, step_s * rng.uniform(0.35, 1.0)), seconds)
    loudness = np.clip(rng.normal(rng.uniform(60, 115), 8, count), 25, 127)
    if sound.is_drum:
        allowed = [
            p for p in range(sound.low, sound.high + 1) if p not in _NOT.get(sound.label, ())
        ]
        few = rng.choice(allowed, min(len(allowed), int(rng.integers(1, 4))), replace=False)
        pitches = rng.choice(few, count)
        return np.stack([starts, ends, pitches, loudness], axis=1)
    pitches = _walk(sound, manner, count, rng)
    rows = np.stack([starts, ends, pitches, loudness], axis=1)
    if manner != "chords":
        return rows
    shape = np.array(CHORDS[int(rng.integers(len(CHORDS)))])
    played = np.repeat(rows, len(shape), axis=0)
    played[:, 2] += np.tile(shape, len(rows))
    return played[played[:, 2] <= sound.high]


def _walk(sound: Sound, manner: str, count: int, rng: np.random.Generator) -> Values:
    """Pitches of a melody: along a scale by small steps, turning back at both ends."""
    scale = SCALES[int(rng.integers(len(SCALES)))]
    tonic = int(rng.integers(12))
    pitches = np.array([p for p in range(sound.low, sound.high + 1) if (p - tonic) % 12 in scale])
    place = int(rng.integers(len(pitches)))
    leap = {"held": 0, "repeated": 0, "melody": 2, "arpeggio": 2, "chords": 4}[manner]
    found, direction = [], int(rng.choice([-1, 1]))
    for _ in range(count):
        found.append(pitches[place])
        if manner == "arpeggio":
            if not 0 <= place + direction * leap < len(pitches):
                direction = -direction
            moved = place + direction * leap
        else:
            moved = place + int(rng.integers(-leap, leap + 1))
        place = int(np.clip(moved, 0, len(pitches) - 1))
    return np.array(found, np.float64)


def medley(sound: Sound, clips: int, seconds: float, gap_s: float, seed: int) -> Song:
    """Phrases of one instrument one after another, with silence between, in which they fade.

    Phrase number i begins at ``i * (seconds + gap_s)``. It is the same however many there are.

    Args:
      seconds: of each phrase.
    """
    rows, programs = [], []
    for number in range(clips):
        rng = np.random.default_rng([seed, number])
        found = phrase(sound, seconds, rng)
        program = 0 if sound.is_drum else int(rng.choice(sound.programs))
        found[:, :2] += number * (seconds + gap_s)
        rows.append(found)
        programs += [program] * len(found)
    table = np.concatenate(rows)
    order = np.argsort(table[:, 0], kind="stable")
    table, used = table[order], sorted(set(programs))
    pitch, velocity = (np.round(table[:, column]).astype(np.int64) for column in (2, 3))
    played_by = np.array(programs, np.int64)[order]
    return Song(
        *(table[:, 0], table[:, 1], pitch, velocity, played_by),
        np.full(len(table), sound.is_drum),
        np.searchsorted(used, played_by).astype(np.int64),
        tuple(f"{sound.label} {program}" for program in used),
        np.arange(0.0, clips * (seconds + gap_s) + 1.0, 0.5),
    )
