"""What hash sequences learn from: scores and performances of songs as constant-Q frames.

Each song is rendered as its MIDI file says, and several times as somebody else might play it
(`performances`), with other soundfonts, and recorded in noise, rooms and as mp3. All become
constant-Q magnitudes; of every frame of a performance it is known which moment of the score it is.

There is one file a song; a run that was stopped goes on. It needs FluidSynth and Debian's packages
timgm6mb-soundfont, fluid-soundfont-gm, csound-soundfont and opl3-soundfont.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.conditions import Surroundings
from hashing.cqt import CqtConfig
from hashing.errors import HashbeamError
from hashing.generated.recording import record
from hashing.midi import Song
from hashing.piano_rolls import piano_roll
from hashing.rendering import RenderingError, find_soundfont, fluidsynth_command
from hashing.scores import (
    MAX_SCORE_S,
    PLAIN,
    RENDER_HZ,
    ROLL,
    ScoreError,
    frames_of,
    read_score,
    score_magnitudes,
    sound,
)
from hashing.training.sequences.performances import Performance, perform

Floats = npt.NDArray[np.float32]

FORMAT_VERSION = 1
# Scores are played by one soundfont, or by plain synthesis, performances by others: what is learned
# is not the sound. The last one plays only in examinations.
SCORE_FONTS = ("TimGM6mb.sf2", PLAIN)
TRAINING_FONTS = ("FluidR3_GM.sf2", "sf_GMbank.sf2")
EXAM_FONTS = ("OPL-3_FM_128M.sf2",)
LEAST_S = 2.0  # of a score, and of what is played of it: five hashes


@dataclasses.dataclass(frozen=True)
class Played:
    """A performance as frames: magnitudes [n, 48], and the score's frame of each [n], NaN: none."""

    font: str
    magnitudes: Floats
    score_frame: Floats


@dataclasses.dataclass(frozen=True)
class SongFrames:
    """A song as frames: its score's magnitudes [n, 48] by soundfont, and its performances."""

    name: str
    scores: dict[str, Floats]
    played: list[Played]


def play(
    song: Song, font: str, seed: int, surroundings: Surroundings, config: CqtConfig
) -> tuple[Played, Performance]:
    """A performance of a song, rendered, recorded, and made into frames."""
    performance = perform(song, seed)
    samples = sound(performance.song, font)
    heard = record(samples, surroundings, np.random.default_rng([seed, 1]))
    found = frames_of(heard, config)
    times_s = np.arange(len(found)) * config.frame_s
    ends = {"left": np.nan, "right": np.nan}
    score_s = np.interp(times_s, performance.played_s, performance.score_s, **ends)
    # Without what rings after its last note.
    end = int(performance.song.duration_s / config.frame_s) + 1
    score_frame = (score_s / config.frame_s).astype(np.float32)
    return Played(font, found[:end], score_frame[:end]), performance


def make_song(
    path: Path, performances: int, surroundings: Surroundings, config: CqtConfig
) -> SongFrames:
    """A song with its performances; seeds follow from its name.

    Raises: ScoreError where the file cannot be read, or has too few notes to be heard;
      RenderingError.
    """
    song = read_score(path)
    if song.duration_s > MAX_SCORE_S:
        song = song.where(song.end_s <= MAX_SCORE_S)
    if song.duration_s < LEAST_S or song.is_drum.all():
        raise ScoreError("too-short", f"{path} lasts less than {LEAST_S:g} s")
    scores = {font: score_magnitudes(song, config, font) for font in SCORE_FONTS}
    scores[ROLL] = piano_roll(song, config)
    fonts = [TRAINING_FONTS[n % len(TRAINING_FONTS)] for n in range(performances)] + [*EXAM_FONTS]
    first = _number(path)
    played = [
        play(song, font, first + number, surroundings, config)[0]
        for number, font in enumerate(fonts)
    ]
    if min(len(one.magnitudes) for one in played) * config.frame_s < LEAST_S:
        raise ScoreError("too-short", f"{path} has parts in which nothing is played")
    return SongFrames(path.stem, scores, played)


def _number(path: Path) -> int:
    """A number from a file's name and folder, the same everywhere."""
    return int.from_bytes(hashlib.sha256(_name(path).encode()).digest()[:4], "little")


def save_song(path: Path, song: SongFrames) -> None:
    """Writes a song's frames as float16, all arrays in one file; whole or not at all."""
    from safetensors.numpy import save_file

    arrays: dict[str, npt.NDArray[Any]] = {
        f"score {font}": frames.astype(np.float16) for font, frames in song.scores.items()
    }
    for number, one in enumerate(song.played):
        arrays[f"played {number} {one.font}"] = one.magnitudes.astype(np.float16)
        arrays[f"frame {number} {one.font}"] = one.score_frame
    metadata = {"format_version": str(FORMAT_VERSION), "name": song.name}
    temporary = path.with_suffix(".tmp")
    save_file(arrays, temporary, metadata)
    temporary.replace(path)


def load_song(path: Path) -> SongFrames:
    """What `save_song` has written."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        name = file.metadata()["name"]
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    scores, played = {}, {}
    for key, array in arrays.items():
        kind, *rest = key.split(" ")
        if kind == "score":
            scores[rest[0]] = array.astype(np.float32)
        elif kind == "played":
            frame = arrays[f"frame {rest[0]} {rest[1]}"]
            played[int(rest[0])] = Played(rest[1], array.astype(np.float32), frame)
    return SongFrames(name, scores, [played[number] for number in sorted(played)])


def song_files(folders: Sequence[str]) -> Iterator[Path]:
    """All MIDI files below some folders, in order of name."""
    for folder in folders:
        yield from sorted(path for path in Path(folder).rglob("*.mid") if path.is_file())


def _name(path: Path) -> str:
    """What a song is called: files that have one folder name and one name are taken for one."""
    return f"{path.parent.name}-{path.stem}"


def _make(path: Path, out: Path, performances: int) -> str:
    target = out / f"{_name(path)}.safetensors"
    if target.exists():
        return ""
    config = CqtConfig()
    try:
        made = make_song(path, performances, Surroundings(RENDER_HZ), config)
    except (ScoreError, RenderingError) as error:
        return str(error)
    save_song(target, dataclasses.replace(made, name=_name(path)))
    return ""


def make_frames(
    folders: Sequence[str],
    out: Path,
    performances: int,
    workers: int,
    log: Callable[[str], None] = print,
) -> None:
    """Makes what is missing in `out`; tells which files are left out, and why.

    Raises: HashbeamError where FluidSynth or a soundfont is missing, or there is no MIDI file.
    """
    if fluidsynth_command() is None:
        raise HashbeamError("training needs FluidSynth: apt-get install fluidsynth")
    for font in (*SCORE_FONTS, *TRAINING_FONTS, *EXAM_FONTS):
        if font != PLAIN:
            find_soundfont(font)
    # In no order, so that what is there half-way is a fair sample.
    files = sorted(song_files(folders), key=_number)
    if not files:
        raise HashbeamError(f"no MIDI files (.mid) below {', '.join(folders)}")
    songs = {_name(path): path for path in reversed(files)}
    for path in files:
        if songs[_name(path)] != path:
            log(f"left out: {path}: has the name of {songs[_name(path)]}")
    files = [path for path in files if songs[_name(path)] == path]
    out.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        work = {pool.submit(_make, path, out, performances): path for path in files}
        for done, future in enumerate(concurrent.futures.as_completed(work), 1):
            if problem := future.result():
                log(f"left out: {work[future]}: {problem}")
            if done % REPORT_SONGS == 0 or done == len(files):
                log(f"{done} of {len(files)} songs rendered")


REPORT_SONGS = 100
