"""Other performances of a song, whose true alignment with its score is known.

A recording of a song differs from a MIDI file of it in tempo, instruments, octaves and care, and
covers a part of it. Each of these is drawn from a seed, and the map from score to performance is
kept, so that matching can be trained and alignment be measured (as the "easy" set of Raffel,
"Learning-based methods for comparing sequences", 2016, was made by distorting MIDI files).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from hashing.midi import Song
from hashing.training.sequences.accompaniment import EXTRAS, add_track

Floats = npt.NDArray[np.float64]

STREAM = 0x5C0  # keeps these draws apart from other users of the same seed

KNOT_S = 0.5  # between the knots of a drifting tempo: faster changes are not tempo but timing
DRIFT_WAVES = 4  # sines whose sum the drift is
DRIFT_PERIOD_S = (8.0, 60.0)  # of each: from a phrase to a section
LOWEST, HIGHEST = 24, 103  # pitches that a transposed track must stay within: C1 to G7
# Programs of General MIDI that play the notes that are written: not harmonics of a guitar, timpani,
# orchestra hits, synthetic rain, gunshots and birds.
PROGRAMS = tuple(n for n in range(112) if n not in (31, 47, 55, *range(96, 104)))
# Highest pitches of programs that FluidR3_GM.sf2 has no samples for above, where that is below C6:
# FluidSynth is silent there (rendered note by note with each of the soundfonts).
REACH = {
    **{28: 84, 33: 84, 34: 84, 35: 84, 36: 84, 37: 84},  # guitars and basses
    **{43: 58, 58: 73, 65: 85, 67: 72, 69: 85, 70: 85},  # contrabass, tuba, low reeds
}
MOMENT_S = 0.05  # notes that begin closer together begin at one moment
ENOUGH_NOTES = 20  # a crop with fewer is drawn again, this often
CROP_DRAWS = 20


@dataclasses.dataclass(frozen=True)
class Changes:
    """What may differ, and by how much. Everything off is the score itself.

    Attributes:
      tempo: largest change of tempo, as a share; 0.1 is 10 % faster or slower.
      drift: chance that the tempo drifts, instead of being another constant one.
      missing: chance of each track to be left out; one with notes always stays.
      left: share of the moments at which notes begin that must stay: what plays the chords of a
        song and not its tune is no recording of it.
      extra: chance of each of bass, pad and drums to join.
      octave: chance of each track to be played an octave higher or lower.
      program: chance of each track to be played on another instrument.
      velocity: deviation of a track's loudness in velocities; of its notes, a third of it.
      dropped: largest share of notes that are not played.
      late_s: deviation of notes from the map, seconds, at most three times that.
      crop_s: shortest and longest part that is played, seconds; None for all of it.
    """

    tempo: float = 0.1
    drift: float = 0.7
    missing: float = 0.25
    left: float = 0.5
    extra: float = 0.3
    octave: float = 0.2
    program: float = 0.7
    velocity: float = 15.0
    dropped: float = 0.08
    late_s: float = 0.012  # what separates players from a machine
    crop_s: tuple[float, float] | None = (30.0, 60.0)


SCORE = Changes(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None)


@dataclasses.dataclass(frozen=True)
class Performance:
    """A song as somebody else plays it.

    Attributes:
      song: what is played, from 0 s on.
      score_s, played_s: [k], the true map, both strictly rising: what stands at ``score_s[i]`` is
        played at ``played_s[i]``, exactly; between them the map is linear. Nothing outside is
        played.
      seed: that it was drawn with.
      description: what was changed, for people.
    """

    song: Song
    score_s: Floats
    played_s: Floats
    seed: int
    description: str

    def played(self, score_s: Floats) -> Floats:
        """Seconds of the performance at seconds of the score; NaN outside of what is played.

        >>> from hashing.midi import EXAMPLE, parse_song
        >>> perform(parse_song(EXAMPLE), 1, SCORE).played(np.array([0.25, 9.0])).tolist()
        [0.25, nan]
        """
        return np.interp(score_s, self.score_s, self.played_s, left=np.nan, right=np.nan)


def perform(song: Song, seed: int, changes: Changes | None = None) -> Performance:
    """Draw a performance of a song; the same arguments give the same one.

    >>> from hashing.midi import EXAMPLE, parse_song
    >>> performance = perform(parse_song(EXAMPLE), 1)
    >>> bool(np.all(np.diff(performance.played_s) > 0))
    True
    """
    changes = changes or Changes()
    rng = np.random.default_rng([STREAM, seed])
    score_s, played_s, tempo = _time_map(song.duration_s, changes, rng)
    cut_score, cut_played = _crop(song, score_s, played_s, changes, rng)
    said = [tempo]
    if cut_played.size and changes.crop_s is not None:
        said.append(f"{cut_score[0]:.1f} to {cut_score[-1]:.1f} s")
    played, more = _arrange(song, cut_score[[0, -1]], changes, rng)
    said += more
    played = played.mapped(cut_score, cut_played)
    played, more = _by_hand(played, changes, rng)
    return Performance(played, cut_score, cut_played, seed, ", ".join(said + more))


def _time_map(
    duration_s: float, changes: Changes, rng: np.random.Generator
) -> tuple[Floats, Floats, str]:
    """Knots from 0 to the end of the song, and what the tempo does."""
    if rng.random() >= changes.drift:
        speed = float(np.exp(rng.uniform(-1, 1) * np.log1p(changes.tempo)))
        return (
            np.array([0.0, duration_s]),
            np.array([0.0, duration_s / speed]),
            f"tempo {speed:.3f}",
        )
    knots_s = np.append(np.arange(0.0, duration_s - KNOT_S / 2, KNOT_S), duration_s)
    middle_s = (knots_s[:-1] + knots_s[1:]) / 2
    low, high = DRIFT_PERIOD_S
    periods_s = low * (high / low) ** rng.random(DRIFT_WAVES)
    phases, weights = rng.uniform(0, 2 * np.pi, DRIFT_WAVES), rng.uniform(0.3, 1, DRIFT_WAVES)
    waves = np.sin(2 * np.pi * middle_s[:, None] / periods_s + phases) @ (weights / weights.sum())
    # Around a tempo of its own, and together never beyond the limit.
    centre = rng.uniform(-0.5, 0.5)
    speeds = np.exp((centre + (1 - abs(centre)) * waves) * np.log1p(changes.tempo))
    played_s = np.append(0.0, np.cumsum(np.diff(knots_s) / speeds))
    return knots_s, played_s, f"tempo drifting from {speeds.min():.3f} to {speeds.max():.3f}"


def _crop(
    song: Song, score_s: Floats, played_s: Floats, changes: Changes, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """The part of the map that is played, which begins at 0 s."""
    total_s = float(played_s[-1])
    if changes.crop_s is None or total_s <= changes.crop_s[0]:
        return score_s, played_s
    length_s = min(float(rng.uniform(*changes.crop_s)), total_s)
    starts_s = np.interp(song.start_s[~song.is_drum], score_s, played_s)
    best, most = 0.0, -1
    for _ in range(CROP_DRAWS):
        first_s = float(rng.uniform(0, total_s - length_s))
        notes = int(((starts_s >= first_s) & (starts_s < first_s + length_s)).sum())
        if notes > most:
            best, most = first_s, notes
        if most >= ENOUGH_NOTES:
            break
    edges = np.array([best, best + length_s])
    # A knot closer to an edge than a microsecond is that edge.
    inside = (played_s > edges[0] + 1e-6) & (played_s < edges[1] - 1e-6)
    first, last = np.interp(edges, played_s, score_s)
    new_score = np.concatenate([[first], score_s[inside], [last]])
    new_played = np.concatenate([edges[:1], played_s[inside], edges[1:]]) - edges[0]
    return new_score, new_played


def _arrange(
    song: Song, part_s: Floats, changes: Changes, rng: np.random.Generator
) -> tuple[Song, list[str]]:
    """Other instruments, octaves and tracks, in the time of the score."""
    said = []
    heard = (song.start_s >= part_s[0]) & (song.start_s < part_s[1])
    tracks = list(range(len(song.names)))
    pitched = sorted(set(song.track[heard & ~song.is_drum].tolist()))
    missing = {track for track in tracks if rng.random() < changes.missing}
    stays = int(rng.choice(pitched)) if pitched else -1
    missing.discard(stays)
    missing -= _needed(song.where(heard & ~song.is_drum), missing, changes.left)
    extras = [name for name in EXTRAS if rng.random() < changes.extra]
    pitch, program = song.pitch.copy(), song.program.copy()
    for track in tracks:
        notes = (song.track == track) & ~song.is_drum
        moved, other = rng.random() < changes.octave, rng.random() < changes.program
        step, instrument = int(rng.choice([-12, 12])), PROGRAMS[int(rng.integers(len(PROGRAMS)))]
        if track in missing or not notes.any():
            continue
        lowest, highest = int(pitch[notes].min()), int(pitch[notes].max())
        moved &= bool(lowest + step >= LOWEST and highest + step <= HIGHEST)
        if moved:
            pitch[notes] += step
            said.append(f"track {track} {step:+d}")
        # Who cannot play a track leaves it to the one who has it.
        if other and highest + step * moved <= REACH.get(instrument, HIGHEST):
            program[notes] = instrument
            said.append(f"track {track} on program {instrument}")
    arranged = dataclasses.replace(song, pitch=pitch, program=program)
    arranged = arranged.where(~np.isin(song.track, sorted(missing)))
    # Those who join play what the whole song suggests, also where its players are missing.
    for name in extras:
        joined = EXTRAS[name](song, rng)
        part = joined.where(joined.track == len(song.names))
        if part.pitch.size:
            arranged = add_track(
                *(arranged, part.start_s, part.end_s, part.pitch, part.velocity),
                name=name,
                program=int(part.program[0]),
                is_drum=bool(part.is_drum[0]),
            )
            said.append(f"with {name}")
    said += [f"without track {track}" for track in sorted(missing)]
    return arranged, said


def _needed(song: Song, missing: set[int], left: float) -> set[int]:
    """Tracks that may not be missing, so that enough of the moments stay when notes begin."""
    moments = np.round(song.start_s / MOMENT_S).astype(np.int64)
    least, needed = left * np.unique(moments).size, set[int]()

    def staying(without: set[int]) -> int:
        return int(np.unique(moments[~np.isin(song.track, sorted(without))]).size)

    while missing - needed and staying(missing - needed) < least:
        needed.add(max(sorted(missing - needed), key=lambda one: staying(missing - needed - {one})))
    return needed


def _by_hand(song: Song, changes: Changes, rng: np.random.Generator) -> tuple[Song, list[str]]:
    """Notes that are not played, not in time, and not equally loud."""
    n, said = song.start_s.size, []
    share = rng.uniform(0, changes.dropped) if changes.dropped else 0.0
    keep = rng.random(n) >= share
    if not keep[~song.is_drum].any():
        keep[:] = True
    late_s = np.clip(rng.standard_normal(n), -3, 3) * changes.late_s
    louder = rng.normal(0, 1, len(song.names))[song.track] + rng.normal(0, 1 / 3, n)
    velocity = np.clip(np.round(song.velocity + changes.velocity * louder), 1, 127).astype(np.int64)
    start_s = np.maximum(song.start_s + late_s, 0.0)
    end_s = np.maximum(song.end_s + late_s, start_s + 0.01)
    if not changes.late_s:
        start_s, end_s = song.start_s, song.end_s
    if share:
        said.append(f"{share:.0%} of the notes dropped")
    changed = dataclasses.replace(song, start_s=start_s, end_s=end_s, velocity=velocity)
    order = np.flatnonzero(keep)
    return changed.where(order[np.argsort(start_s[order], kind="stable")]), said
