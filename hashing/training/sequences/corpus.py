"""The songs that hash sequences learn from and are examined by, and pairs of crops of them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing import cqt
from hashing.errors import HashbeamError
from hashing.training.sequences.features import (
    SCORE_FONTS,
    TRAINING_FONTS,
    Played,
    SongFrames,
    load_song,
)

Floats = npt.NDArray[np.float32]
Half = npt.NDArray[np.float16]
Ints = npt.NDArray[np.int64]

# Tenths of the songs, by their names: one is examined by, one chooses, eight are learned from.
EXAM, CHOOSE, LEARN = "exam", "choose", "learn"
TENTHS = (EXAM, CHOOSE)


@dataclasses.dataclass(frozen=True)
class Song:
    """A song's levels in dB below the loudest cell [n, 48], as float16.

    Attributes:
      scores: by soundfont.
      played: performances, of which `Played.magnitudes` are levels here.
    """

    name: str
    scores: dict[str, Half]
    played: list[Played]

    @property
    def role(self) -> str:
        """What the song is for; the same for a song of one name everywhere.

        >>> {Song(f"song {n}", {}, []).role for n in range(40)} == {EXAM, CHOOSE, LEARN}
        True
        """
        digest = hashlib.sha256(f"role {self.name}".encode()).digest()
        tenth = int.from_bytes(digest[:4], "little") % 10
        return TENTHS[tenth] if tenth < len(TENTHS) else LEARN


def load_songs(folder: Path, log: Callable[[str], None] = print) -> list[Song]:
    """All songs that `hashing.training.sequences.features` has written, in order of name.

    Raises: HashbeamError where there are none.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise HashbeamError(f"{folder} holds no songs: make them with hashbeam train sequence")
    songs = [as_levels(load_song(path)) for path in paths]
    log(f"{len(songs)} songs from {folder}")
    return songs


def as_levels(song: SongFrames) -> Song:
    """A song's magnitudes as levels."""
    return Song(
        song.name,
        {font: _levels(frames) for font, frames in song.scores.items()},
        [
            Played(one.font, _levels(one.magnitudes), one.score_frame)  # type: ignore[arg-type]
            for one in song.played
        ],
    )


def _levels(magnitudes: Floats) -> Half:
    return cqt.decibels(magnitudes).astype(np.float16)


@dataclasses.dataclass(frozen=True)
class Spoiling:
    """What is done to the levels of a crop of audio, beside what the performance did.

    Attributes:
      transposed: most semitones, up or down; all pairs of a batch together, so that songs of one
        key, which are the hardest to tell apart, stay so.
      level_db: most by which the loudest cell of the track may have been another.
      curve_db: deviation of an equaliser of `CURVE_KNOTS` knots.
      noise_db: range of a noise floor below the loudest cell; drawn in half of the crops.
    """

    transposed: int = 4
    level_db: float = 6.0
    curve_db: float = 4.0
    noise_db: tuple[float, float] = (-70.0, -25.0)


CURVE_KNOTS = 6
SILENCE_DB = -100.0


@dataclasses.dataclass(frozen=True)
class Batch:
    """Pairs of crops.

    Attributes:
      audio: heard frames [B, n, bins].
      score: [B, m, bins], what the audio plays, and some around it.
      step: of the score for each step of the audio [B, n // downsampling]; -1 where there is none.
    """

    audio: Floats
    score: Floats
    step: Ints


def draw_pairs(
    songs: Sequence[Song],
    rng: np.random.Generator,
    batch: int,
    frames: int,
    downsampling: int,
    spoiling: Spoiling | None,
    slack: float = 0.25,
    scores: Sequence[str] = SCORE_FONTS,
) -> Batch:
    """Crops of performances of different songs, with the part of the score that they play.

    Args:
      frames: of an audio crop; the score's is longer by `slack`, and begins at any frame, so that
        steps of the two sides do not fall together.
      spoiling: None for crops as they are.
      scores: what plays the scores.
    """
    around = int(np.ceil(frames * (1 + slack) / downsampling)) * downsampling
    audio, score, steps = [], [], []
    by = 0 if spoiling is None else int(rng.integers(-spoiling.transposed, spoiling.transposed + 1))
    for number in rng.choice(len(songs), min(batch, len(songs)), replace=False):
        song = songs[number]
        played = [one for one in song.played if one.font in TRAINING_FONTS]
        one = played[rng.integers(len(played))]
        levels = song.scores[scores[int(rng.integers(len(scores)))]]
        start = int(rng.integers(0, max(1, len(one.magnitudes) - frames + 1)))
        where = one.score_frame[start : start + frames]
        known = where[np.isfinite(where)]
        # A tempo of 1.1 makes the score's part a tenth longer; what is left lies on both sides.
        spare = around - (float(np.ptp(known)) if known.size else 0.0)
        first = int((known[0] if known.size else 0) - rng.uniform(0, max(spare, 1.0)))
        heard = crop(one.magnitudes.astype(np.float32), start, frames)
        read = crop(levels.astype(np.float32), first, around)
        if spoiling is not None:
            heard = spoil(transposed(heard, by), spoiling, rng)
            read = transposed(read, by)
        audio.append(cqt.heard_frames(heard))
        score.append(cqt.heard_frames(read))
        steps.append(_steps(where, frames, first, around, downsampling, audio[-1]))
    return Batch(np.stack(audio), np.stack(score), np.stack(steps))


def crop(levels: Floats, start: int, frames: int) -> Floats:
    """So many frames from `start` on, which may be before the beginning; silence outside."""
    out = np.full((frames, levels.shape[1]), SILENCE_DB, np.float32)
    low, high = max(start, 0), min(start + frames, len(levels))
    if low < high:
        out[low - start : high - start] = levels[low:high]
    return out


def spoil(heard: Floats, spoiling: Spoiling, rng: np.random.Generator) -> Floats:
    """Levels of audio, equalised, in noise, and louder or softer."""
    bins = heard.shape[1]
    knots = rng.normal(0, spoiling.curve_db, CURVE_KNOTS)
    curve = np.interp(np.linspace(0, CURVE_KNOTS - 1, bins), np.arange(CURVE_KNOTS), knots)
    heard = heard + (curve + rng.uniform(-spoiling.level_db, spoiling.level_db)).astype(np.float32)
    if rng.random() < 0.5:
        floor_db = rng.uniform(*spoiling.noise_db) + np.cumsum(rng.normal(0, 0.7, bins))
        noise = 10.0 ** (floor_db / 10) * rng.exponential(1.0, heard.shape)
        power = 10.0 ** (heard / np.float32(10)) + noise
        heard = (10 * np.log10(power)).astype(np.float32)
    return heard


def transposed(levels: Floats, by: int) -> Floats:
    """Levels moved by so many semitones, which are bins."""
    out = np.full_like(levels, SILENCE_DB)
    bins = levels.shape[1]
    out[:, max(by, 0) : bins + min(by, 0)] = levels[:, max(-by, 0) : bins - max(by, 0)]
    return out


def _steps(
    where: Floats, frames: int, first: int, around: int, downsampling: int, heard: Floats
) -> Ints:
    """See `Batch.step`: by the middles of steps; none where nothing is heard."""
    count = frames // downsampling
    middle = (downsampling - 1) / 2
    centres = np.arange(count) * downsampling + middle
    padded = np.full(frames, np.nan)
    padded[: len(where)] = where
    low = np.floor(centres).astype(np.int64)
    at = (padded[low] + padded[np.minimum(low + 1, frames - 1)]) / 2
    silent = ~heard.reshape(count, -1).any(axis=1)
    with np.errstate(invalid="ignore"):
        step = np.round((at - first - middle) / downsampling)
        fits = np.isfinite(step) & (step >= 0) & (step < around // downsampling) & ~silent
    return np.where(fits, np.nan_to_num(step), -1).astype(np.int64)


def statistics(
    songs: Sequence[Song], rng: np.random.Generator, scores: Sequence[str] = SCORE_FONTS
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Mean and deviation [bins] of the heard frames of audio, and of scores."""
    chosen = [songs[number] for number in rng.permutation(len(songs))[:STATISTICS_SONGS]]
    audio = [one.magnitudes for song in chosen for one in song.played if one.font in TRAINING_FONTS]
    score = [song.scores[font] for song in chosen for font in scores]

    def moments(parts: Sequence[npt.NDArray[np.floating]]) -> tuple[Floats, Floats]:
        frames = np.concatenate([cqt.heard_frames(part.astype(np.float32)) for part in parts])
        deviation = frames.std(axis=0) + LEAST_DEVIATION
        return frames.mean(axis=0), np.asarray(deviation, np.float32)

    return moments(audio), moments(score)


STATISTICS_SONGS = 200
LEAST_DEVIATION = 1e-3  # of frames of length one: a bin that no song plays is not blown up
