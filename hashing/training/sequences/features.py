"""What hash sequences learn from: scores and performances of songs as constant-Q frames.

Each song is rendered once as its MIDI file says, and several times as somebody else might play it
(`performances`), with another soundfont, and recorded in noise, rooms and as mp3. All become
constant-Q magnitudes; of every frame of a performance it is known which moment of the score it is.

    python -m hashing.training.sequences.features --midi FOLDER --out FOLDER

writes one file a song, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import cqt
from hashing.conditions import Surroundings
from hashing.cqt import CqtConfig
from hashing.midi import MidiError, Song, read_song
from hashing.rendering import find_soundfont, render
from hashing.training.sequences.performances import Performance, perform, record

Floats = npt.NDArray[np.float32]

FORMAT_VERSION = 1
RENDER_HZ = 11_025  # four times what the spectra need, so that instruments sound like themselves
# The score is played by one soundfont, performances by another: what is learned is not the sound.
SCORE_FONT, PERFORMANCE_FONT = "TimGM6mb.sf2", "FluidR3_GM.sf2"
MAX_SCORE_S = 600.0  # of a song; what is longer is cut there
MIN_FRAMES = 100  # of a performance: a shorter one teaches nothing


@dataclasses.dataclass(frozen=True)
class Played:
    """A performance as frames: magnitudes [n, 48], and the score's frame of each [n], NaN: none."""

    magnitudes: Floats
    score_frame: Floats


@dataclasses.dataclass(frozen=True)
class SongFrames:
    """A song as frames: its score's magnitudes [n, 48], and its performances."""

    name: str
    score: Floats
    played: list[Played]


def frames_of(samples: Floats, rate: int, config: CqtConfig) -> Floats:
    """Constant-Q magnitudes [n, n_bins] of samples at any rate."""
    import soxr

    return cqt.magnitudes(soxr.resample(samples, rate, config.sample_rate), config)


def play(
    song: Song, seed: int, surroundings: Surroundings, config: CqtConfig
) -> tuple[Played, Performance]:
    """A performance of a song, rendered, recorded, and made into frames."""
    performance = perform(song, seed)
    samples = render(performance.song, RENDER_HZ, find_soundfont(PERFORMANCE_FONT))
    heard = record(samples, surroundings, np.random.default_rng([seed, 1]))
    found = frames_of(heard, RENDER_HZ, config)
    times_s = np.arange(len(found)) * config.frame_s
    ends = {"left": np.nan, "right": np.nan}
    score_s = np.interp(times_s, performance.played_s, performance.score_s, **ends)
    return Played(found, (score_s / config.frame_s).astype(np.float32)), performance


def make_song(
    path: Path, performances: int, surroundings: Surroundings, config: CqtConfig
) -> SongFrames:
    """A song with its performances; seeds follow from its name.

    Raises: MidiError where the file cannot be read or has no notes to be heard.
    """
    song = read_song(path)
    if song.duration_s > MAX_SCORE_S:
        song = song.where(song.end_s <= MAX_SCORE_S)
    score = frames_of(render(song, RENDER_HZ, find_soundfont(SCORE_FONT)), RENDER_HZ, config)
    first = int.from_bytes(hashlib.sha256(path.stem.encode()).digest()[:4], "little")
    played = [play(song, first + number, surroundings, config)[0] for number in range(performances)]
    return SongFrames(path.stem, score, [one for one in played if len(one.score_frame)])


def save_song(path: Path, song: SongFrames) -> None:
    """Writes a song's frames as float16, all arrays in one file; whole or not at all."""
    from safetensors.numpy import save_file

    arrays: dict[str, npt.NDArray[Any]] = {"score": song.score.astype(np.float16)}
    for number, one in enumerate(song.played):
        arrays[f"played{number}"] = one.magnitudes.astype(np.float16)
        arrays[f"frame{number}"] = one.score_frame
    metadata = {"format_version": str(FORMAT_VERSION), "name": song.name}
    temporary = path.with_suffix(".tmp")
    save_file(arrays, temporary, metadata)
    temporary.replace(path)


def load_song(path: Path) -> SongFrames:
    """What `save_song` has written."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        name = file.metadata()["name"]
        names = file.keys()  # no dict: it cannot be iterated
        numbers = sorted(int(key[5:]) for key in names if key.startswith("frame"))
        played = [
            Played(file.get_tensor(f"played{n}").astype(np.float32), file.get_tensor(f"frame{n}"))
            for n in numbers
        ]
        return SongFrames(name, file.get_tensor("score").astype(np.float32), played)


def song_files(folders: Sequence[str]) -> Iterator[Path]:
    """All MIDI files below some folders, in order of name."""
    for folder in folders:
        yield from sorted(path for path in Path(folder).rglob("*.mid") if path.is_file())


def _make(path: Path, out: Path, performances: int) -> str:
    target = out / f"{path.parent.name}-{path.stem}.safetensors"
    if target.exists():
        return "was there"
    config = CqtConfig()
    try:
        made = make_song(path, performances, Surroundings(RENDER_HZ), config)
    except MidiError as error:
        return str(error)
    save_song(target, dataclasses.replace(made, name=f"{path.parent.name}-{path.stem}"))
    return ""


def main(arguments: Sequence[str]) -> int:
    """Makes what is missing; says which files were left out, and why."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--midi", action="append", required=True, help="folder of MIDI files")
    parser.add_argument("--out", type=Path, required=True, help="folder for one file a song")
    parser.add_argument("--performances", type=int, default=6, help="a song (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    files = list(song_files(options.midi))
    with concurrent.futures.ProcessPoolExecutor(options.workers) as pool:
        work = {pool.submit(_make, path, options.out, options.performances): path for path in files}
        for done, future in enumerate(concurrent.futures.as_completed(work), 1):
            problem = future.result()
            if problem and problem != "was there":
                print(f"{work[future]}: {problem}", file=sys.stderr)
            if done % 100 == 0:
                print(f"{done} of {len(files)} songs", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
