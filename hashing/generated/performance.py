"""Players and a mixing desk: notes become one dry mix and what is sent to the room."""

from __future__ import annotations

import dataclasses

import numpy as np

from hashing.generated import arrangement
from hashing.generated.arrangement import Manner, Notes
from hashing.generated.drums import PIECES, Kit, hits
from hashing.generated.production import Production, produce
from hashing.generated.timbres import KINDS, Instrument, Samples, tone
from hashing.generated.tunes import Floats, Ints, Tune

ROLES = ("lead", "second", "chords", "bass")
RELEASE_S = 0.06  # of a note that is stopped
SENDS = {"lead": 1.0, "second": 1.0, "chords": 0.8, "bass": 0.15, "drums": 0.4}
_TONIC = 60  # scale step 0 of a tune, before every instrument finds its octave


@dataclasses.dataclass(frozen=True)
class Score:
    """Everything that a song needs to be played.

    `instruments` by role; a second lead sings every other section of a duet. `playing` by role is
    whether it plays in each section, `sections` [bars] numbers them. `levels_db` by role, with
    the drums' last. `drive` is of the chords' amplifier.
    """

    tune: Tune
    scale: tuple[int, ...]
    tonic: int
    tempo: float
    manner: Manner
    comping: str
    walking: str
    density: float
    instruments: dict[str, Instrument]
    guest_lead: Instrument | None
    kit: Kit | None
    beat: tuple[tuple[float, ...], ...]
    sections: Ints
    playing: dict[str, tuple[bool, ...]]
    levels_db: tuple[float, ...]
    drive: float
    production: Production


def play(score: Score, seconds: float, sample_rate: int, seed: int) -> Samples:
    """Return the song as float32 [round(seconds * sample_rate)]; same arguments, same samples."""
    rng = np.random.default_rng([seed, 1])
    total = round(seconds * sample_rate)
    dry = np.zeros(total, np.float32)
    sent = np.zeros(total, np.float32)
    tune, scale, manner = score.tune, score.scale, score.manner
    args = (scale, _TONIC + score.tonic, manner, rng)
    parts: dict[str, Notes] = {
        "lead": arrangement.melody(tune, scale, _TONIC + score.tonic, score.density, rng),
        "second": arrangement.second_voice(tune, *args),
        "chords": arrangement.comping(tune, score.comping, *args),
        "bass": arrangement.bass_line(tune, score.walking, *args),
    }
    for number, role in enumerate(ROLES):
        bus = np.zeros(total, np.float32)
        notes = _in_sections(parts[role], score, role)
        shift = manner.transpose[number]
        guest = score.guest_lead if role == "lead" else None
        for turn, player in enumerate((score.instruments[role], guest)):
            if player is not None:
                own = notes if guest is None else notes[_section_of(notes, score) % 2 == turn]
                _play_notes(bus, own, player, shift, score, sample_rate, rng)
        if role == "chords" and score.drive > 0:
            bus *= np.float32(4 * score.drive)
            np.tanh(bus, out=bus)
            bus *= np.float32(0.12)
        _mix(bus, role, score.levels_db[number], dry, sent)
    if score.kit is not None:
        bus = np.zeros(total, np.float32)
        _play_drums(bus, score, sample_rate, rng)
        _mix(bus, "drums", score.levels_db[len(ROLES)], dry, sent)
    return produce(dry, sent, score.production, sample_rate, seed)


def _mix(bus: Samples, role: str, level_db: float, dry: Samples, sent: Samples) -> None:
    bus *= np.float32(10 ** (level_db / 20))
    dry += bus
    bus *= np.float32(SENDS[role])
    sent += bus


def _section_of(notes: Notes, score: Score) -> Ints:
    bars = (notes[:, 0] / score.tune.bar).astype(np.int64)
    return score.sections[np.minimum(bars, len(score.sections) - 1)]


def _in_sections(notes: Notes, score: Score, role: str) -> Notes:
    kept: Notes = notes[np.array(score.playing[role])[_section_of(notes, score)]]
    return kept


def _samples_at(beats: Floats, score: Score, sample_rate: int, rng: np.random.Generator) -> Ints:
    """First samples [n] of what begins at `beats` [n], as these players place it."""
    seconds = arrangement.swung(beats, score.manner.swing) * 60 / score.tempo
    seconds += score.manner.late_s + rng.normal(0, score.manner.loose_s, len(beats))
    return np.maximum(seconds * sample_rate, 0).astype(np.int64)


def _play_notes(
    bus: Samples,
    notes: Notes,
    player: Instrument,
    shift: int,
    score: Score,
    sample_rate: int,
    rng: np.random.Generator,
) -> None:
    """Add notes to a bus, each cut from the longest note of its pitch."""
    if not len(notes):
        return
    manner = score.manner
    # The part moves by octaves to where the instrument plays.
    pitch = notes[:, 2] + shift
    pitch += 12 * np.round((KINDS[player.kind].middle + shift - np.median(pitch)) / 12)
    pitch = np.where(pitch > 100, pitch - 12, np.where(pitch < 24, pitch + 12, pitch))
    at = _samples_at(notes[:, 0], score, sample_rate, rng)
    length = notes[:, 1] * (60 / score.tempo * sample_rate * manner.legato)
    velocity = notes[:, 3] * np.exp(rng.normal(0, manner.accent / 2, len(notes)))
    release = round(RELEASE_S * sample_rate)
    fade = np.linspace(1, 0, release, dtype=np.float32)
    rows = zip(at.tolist(), length.tolist(), pitch.tolist(), velocity.tolist(), strict=True)
    for first, hold, height, loud in rows:
        sound = tone(player, int(height), sample_rate)
        n = min(max(int(hold), release) + release, len(sound), len(bus) - first)
        if n > release:
            note = sound[:n] * np.float32(loud)
            note[n - release :] *= fade
            bus[first : first + n] += note


def _play_drums(bus: Samples, score: Score, sample_rate: int, rng: np.random.Generator) -> None:
    assert score.kit is not None
    sounds = hits(score.kit, sample_rate)
    bars = len(score.sections)
    struck = arrangement.drum_hits(score.beat, bars, score.tune.bar, score.sections, rng)
    for piece, times in zip(PIECES, struck, strict=True):
        kept = _in_sections(times, score, "drums")
        at = _samples_at(kept[:, 0], score, sample_rate, rng)
        for first, loud in zip(at.tolist(), kept[:, 1].tolist(), strict=True):
            n = min(len(sounds[piece]), len(bus) - first)
            if n > 0:
                bus[first : first + n] += sounds[piece][:n] * np.float32(loud)
