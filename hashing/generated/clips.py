"""A set of labelled clips on disk: instruments played by synthesisers, in three shares.

The share ``training`` is played by others than the ``database``, and that by another one
than the ``queries``: who tells instruments apart by the sound of one synthesiser finds nothing.
Each clip is a phrase of its own, recorded in a room, noise or neither, and at its own loudness.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tqdm

from hashing import audio
from hashing.conditions import Surroundings
from hashing.generated.folder import claim, replacing, write_csv
from hashing.generated.instruments import SOUNDS, Sound, medley
from hashing.generated.other_sounds import OTHER_SOUNDS
from hashing.generated.processes import spread
from hashing.generated.recording import record
from hashing.generated.synthesisers import FREEPATS, SONIVOX, playable, require, tuned
from hashing.generated.synthesisers import play as render

FORMAT = 2  # of what the same settings give
COLUMNS = ("clip_id", "uri", "label", "share", "synthesiser")
LABELS, TAXONOMY = "labels.csv", "taxonomy.csv"

RATE_HZ = 24_000  # of the files: what is above 12 kHz tells cymbals apart, and little else
GAP_S = 1.5  # between two phrases: what rings longer is heard in the next, 30 dB below
CLIPS_A_MEDLEY = 25  # that FluidSynth plays at once; starting it takes as long as playing three

# Training: Debian's fluid-soundfont-gm, freepats, opl3-soundfont (synthetic: no two sound less
# alike) and libsonivox3. Others: musescore-general-soundfont-lossless, csound-soundfont and
# timgm6mb-soundfont. Soundfonts are made of one another: MuseScore General has half of the samples
# of FluidR3, bit by bit, and TimGM6mb two thirds of those of GMbank. So the database is played by
# kin of what training hears, as labelled clips often are a part of it, but queries by soundfonts
# that share no sample with any other: were they kin of the database, whoever knows a sample again
# would find its label.
SHARES = {
    "training": ("FluidR3_GM.sf2", FREEPATS, "OPL-3_FM_128M.sf2", SONIVOX),
    "database": ("MuseScore_General_Full.sf2",),
    "queries": ("sf_GMbank.sf2", "TimGM6mb.sf2"),
}
SETS = {"instruments": SOUNDS, "other-sounds": OTHER_SOUNDS}

# Medleys of the share ``training`` that are played in another tuning, and how many semitones up or
# down: a third keeps the samples as they are; further off, voices become those of dwarfs.
TUNED_CHANCE, TUNING_SEMITONES = 2 / 3, 5.0


@dataclasses.dataclass(frozen=True)
class ClipSettings:
    """What a set is made of.

    Attributes:
      kind: which of `SETS`.
      training, database, queries: clips of each class in each share.
      seconds: of each clip.
      seed: the same gives the same clips.
      codec: of `hashing.audio.encode`.
    """

    kind: str = "instruments"
    training: int = 450
    database: int = 150
    queries: int = 50
    seconds: float = 4.0
    seed: int = 1
    codec: str = "flac"

    def __post_init__(self) -> None:
        counts = (self.training, self.database, self.queries)
        if self.kind not in SETS:
            raise ValueError(f"kind={self.kind!r} must be one of {', '.join(SETS)}")
        if min(counts) < 0 or not max(counts) or not 0.5 <= self.seconds <= 60 or self.seed < 0:
            raise ValueError(f"{self}: nothing to write")


@dataclasses.dataclass(frozen=True)
class Batch:
    """Clips of one class, as one synthesiser has it, that are played together."""

    folder: Path
    sound: Sound
    share: str
    font: str
    first: int
    count: int
    settings: ClipSettings

    def names(self) -> list[str]:
        """Of the clips: ``violin-database-0012``."""
        numbers = range(self.first, self.first + self.count)
        return [f"{self.sound.label}-{self.share}-{number:04d}" for number in numbers]

    def rows(self) -> list[dict[str, str]]:
        """Of ``labels.csv``."""
        return [
            {
                "clip_id": name,
                "uri": f"{self.share}/{self.sound.label}/{name}.{self.settings.codec}",
                "label": self.sound.label,
                "share": self.share,
                "synthesiser": self.font,
            }
            for name in self.names()
        ]


def write_clips(
    folder: str | Path, settings: ClipSettings, workers: int = 1, *, show: bool = True
) -> list[dict[str, str]]:
    """Writes a set of clips, its ``labels.csv`` and ``taxonomy.csv``; returns the rows of labels.

    What has been written is kept: a call that was stopped goes on, and a folder with other settings
    is refused. `show` prints a line of progress.

    Raises: UsageError for a folder of other things; HashbeamError where a synthesiser is missing.
    """
    _require_players(settings)
    folder = Path(folder)
    claim(folder, {**dataclasses.asdict(settings), "format": FORMAT})
    batches = list(plan(folder, settings))
    todo = [batch for batch in batches if not _is_done(batch)]
    with tqdm.tqdm(
        total=sum(batch.count for batch in todo), desc="clips", mininterval=5.0, disable=not show
    ) as bar:
        for done in spread(_write, todo, workers):
            bar.update(done)
    rows = [row for batch in batches for row in batch.rows()]
    write_csv(folder / LABELS, COLUMNS, rows)
    sounds = SETS[settings.kind]
    families = sorted({sound.family for sound in sounds})
    tree = [{"label": family, "parent": ""} for family in families]
    tree += [{"label": sound.label, "parent": sound.family} for sound in sounds]
    write_csv(folder / TAXONOMY, ("label", "parent"), tree)
    return rows


def plan(folder: Path, settings: ClipSettings) -> Iterator[Batch]:
    """All batches of a set; synthesisers of a share take turns."""
    for sound in SETS[settings.kind]:
        for share, fonts in SHARES.items():
            wanted = getattr(settings, share)
            own = {font: playable(sound, font) for font in fonts}
            players = [(font, as_played) for font, as_played in own.items() if as_played]
            for number, first in enumerate(range(0, wanted, CLIPS_A_MEDLEY)):
                count = min(CLIPS_A_MEDLEY, wanted - first)
                font, as_played = players[number % len(players)]
                yield Batch(folder, as_played, share, font, first, count, settings)


def play(batch: Batch) -> Iterator[np.ndarray]:
    """The clips of a batch, float32 [round(seconds * RATE_HZ)].

    Raises: RenderingError.
    """
    settings, surroundings = batch.settings, Surroundings(RATE_HZ)
    kind = [*SHARES].index(batch.share)
    place = [sound.label for sound in SETS[settings.kind]].index(batch.sound.label)
    seed = int(np.random.default_rng([settings.seed, place, kind, batch.first]).integers(2**31))
    song = medley(batch.sound, batch.count, settings.seconds, GAP_S, seed)
    semitones = _tuning(batch, seed)
    rate = round(RATE_HZ * 2.0 ** (-semitones / 12.0))
    samples = render(tuned(song, semitones), rate, batch.font)
    length = round(settings.seconds * RATE_HZ)
    for number in range(batch.count):
        start = round(number * (settings.seconds + GAP_S) * RATE_HZ)
        clip = np.zeros(length, np.float32)
        found = samples[start : start + length]
        clip[: len(found)] = found
        yield record(clip, surroundings, np.random.default_rng([seed, 1, number]))


def _write(batch: Batch) -> int:
    rows = batch.rows()
    for row, clip in zip(rows, play(batch), strict=True):
        path = batch.folder / row["uri"]
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            audio.encode(clip, RATE_HZ, str(part), codec=batch.settings.codec)
    return batch.count


def _is_done(batch: Batch) -> bool:
    return all((batch.folder / row["uri"]).exists() for row in batch.rows())


def _tuning(batch: Batch, seed: int) -> float:
    """Semitones."""
    rng = np.random.default_rng([seed, 2])
    if batch.share != "training" or rng.random() >= TUNED_CHANCE:
        return 0.0
    return float(rng.uniform(-TUNING_SEMITONES, TUNING_SEMITONES))


def _require_players(settings: ClipSettings) -> None:
    for share, fonts in SHARES.items():
        for font in fonts if getattr(settings, share) else ():
            require(font)
