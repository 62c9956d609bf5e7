"""Scores, performances of songs, and real music, heard as a model hears them.

What is rendered or decoded is kept as levels of frames, one file each, by what it was made of: a
run that was stopped goes on from there, and so does one with another model.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hashing import cqt
from hashing.cascade import CascadeSettings
from hashing.cqt import CqtConfig
from hashing.errors import AudioError, HashbeamError
from hashing.midi import Song
from hashing.rendering import RenderingError
from hashing.scores import RENDER_HZ, ScoreError, read_score, score_levels
from hashing.sequences import SequenceEncoder, TrackSequence
from pipelines import io
from pipelines.allowed import allowed_now
from pipelines.evaluation.midi.songs import SongFile
from pipelines.midi_folder import read_midi_file

if TYPE_CHECKING:
    from hashing.decoder import Decoder

Floats = npt.NDArray[np.float32]
Seconds = npt.NDArray[np.float64]

FORMAT_VERSION = 1  # of what is kept; another one is made anew

EXCERPT_S = (30.0, 60.0)  # of real music: as long as performances are


@dataclasses.dataclass(frozen=True)
class Score:
    """A MIDI file as it stands; `soundfont` None for the system's, `kind` "rendered" or "roll"."""

    song: SongFile
    soundfont: str | None
    kind: str


@dataclasses.dataclass(frozen=True)
class Performed:
    """A song as somebody else plays it."""

    song: SongFile
    soundfont: str
    seed: int


@dataclasses.dataclass(frozen=True)
class Music:
    """A part of a track."""

    track_id: str
    uri: str
    seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Heard:
    """What was heard.

    Attributes:
      sequence: as the model hears it.
      seconds: how long it is.
      said: what was changed in a performance, for people.
      score_s, played_s: of a performance, the true map of times.
      rendering_s, hashing_s: of CPU, to play it once, and to make its codes and embeddings.
    """

    sequence: TrackSequence
    seconds: float
    said: str
    score_s: Seconds
    played_s: Seconds
    rendering_s: float
    hashing_s: float


@dataclasses.dataclass(frozen=True, eq=False)
class _Levels:
    """What is kept: levels in dB as float16 [t, n_bins], and what is known of them."""

    levels: npt.NDArray[np.float16]
    score_s: Seconds
    played_s: Seconds
    said: str = ""
    rendering_s: float = 0.0


class Hearer:
    """Hears one thing after the other, in a process of its own perhaps.

    Args:
      model: name or folder.
      work: a folder for what is rendered.
    """

    def __init__(self, model: str, work: str) -> None:
        self._encoder = SequenceEncoder.load(model)
        self._config = self._encoder.features.cqt
        self._work = Path(work)
        self._decoder: Decoder | None = None
        self._work.mkdir(parents=True, exist_ok=True)

    def __call__(self, item: Score | Performed | Music) -> Heard | tuple[str, str]:
        """What was heard, or the kind of the fault and a line about it."""
        try:
            kept = self._levels(item)
            return self._hear(kept, "score" if isinstance(item, Score) else "audio")
        except (ScoreError, AudioError) as error:
            return error.kind, str(error)
        except RenderingError as error:
            return "not-rendered", str(error)

    def _hear(self, kept: _Levels, side: Any) -> Heard:
        levels, config = kept.levels.astype(np.float32), self._config
        seconds = len(levels) * config.frame_s
        self._check_length(seconds)
        if not (levels > -config.dynamic_range_db).any():
            raise AudioError("silent", "nothing of it can be heard")
        started = time.process_time()
        sequence = self._encoder.hear_levels(levels, side)
        spent = time.process_time() - started
        return Heard(
            sequence, seconds, kept.said, kept.score_s, kept.played_s, kept.rendering_s, spent
        )

    def _check_length(self, seconds: float) -> None:
        least_s = CascadeSettings().shortest * self._encoder.features.code_s
        if seconds < least_s:
            raise AudioError("too-short", f"lasts {seconds:.1f} s, less than {least_s:.1f}")

    def _levels(self, item: Score | Performed | Music) -> _Levels:
        path = self._work / f"{self._key(item)}.safetensors"
        if (kept := _load(path, self._config)) is not None:
            return kept
        started = _cpu_s()
        if isinstance(item, Music):
            kept = self._decoded(item)
        else:
            song = read_score(read_midi_file(item.song.root, item.song.path), item.song.path)
            self._check_length(song.duration_s)
            make = _score if isinstance(item, Score) else _performance
            kept = make(item, song, self._config)
        kept = dataclasses.replace(kept, rendering_s=_cpu_s() - started)
        _save(path, kept)
        return kept

    def _key(self, item: Score | Performed | Music) -> str:
        """What it is made of, as a name of a file."""
        if isinstance(item, Music):
            made_of: list[Any] = [item.uri, io.file_size(item.uri), item.seed]
        elif isinstance(item, Score):
            made_of = [item.song.digest, _font(item.soundfont), item.kind]
        else:
            made_of = [item.song.digest, _font(item.soundfont), item.seed]
        parts = [FORMAT_VERSION, type(item).__name__, made_of, dataclasses.asdict(self._config)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def _decoded(self, item: Music) -> _Levels:
        from hashing.decoder import Decoder

        if self._decoder is None:
            self._decoder = Decoder()
        rate = self._config.sample_rate
        try:
            with allowed_now().local_copy(item.uri) as path:
                samples = np.concatenate(list(self._decoder.blocks(path, rate)))
        except AudioError:
            raise
        except HashbeamError as error:
            raise AudioError("unreadable", str(error)) from None
        rng = np.random.default_rng([0xD1, item.seed])
        length = int(rng.uniform(*EXCERPT_S) * rate)
        first = int(rng.uniform(0, max(len(samples) - length, 0)))
        levels = cqt.decibels(cqt.magnitudes(samples[first : first + length], self._config))
        return _Levels(levels.astype(np.float16), np.empty(0), np.empty(0))

    def close(self) -> None:
        """Ends the child that decodes, where there is one."""
        if self._decoder is not None:
            self._decoder.close()


def hearer(model: str, work: str) -> Callable[[], Hearer]:
    """What makes a `Hearer` in another process."""
    return functools.partial(Hearer, model, work)


def _score(item: Any, song: Song, config: CqtConfig) -> _Levels:
    levels = score_levels(song, config, item.soundfont, item.song.path, kind=item.kind)
    return _Levels(levels.astype(np.float16), np.empty(0), np.empty(0))


def _performance(item: Any, song: Song, config: CqtConfig) -> _Levels:
    # Performances are drawn as those that models learn from; torch is not needed for it.
    from hashing.training.sequences.features import play

    found, performance = play(song, item.soundfont, item.seed, _surroundings(), config)
    return _Levels(
        cqt.decibels(found.magnitudes).astype(np.float16),
        performance.score_s,
        performance.played_s,
        performance.description,
    )


@functools.cache
def _surroundings() -> Any:
    from hashing.conditions import Surroundings

    return Surroundings(RENDER_HZ)


def _font(soundfont: str | None) -> list[Any]:
    """A soundfont by its name and size; another path is the same one."""
    if soundfont is None or not os.path.isfile(soundfont):
        return [soundfont]
    return [os.path.basename(soundfont), os.path.getsize(soundfont)]


def _cpu_s() -> float:
    """Seconds of CPU of this process and of the synthesisers that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _save(path: Path, kept: _Levels) -> None:
    """Whole or not at all."""
    from safetensors.numpy import save_file

    arrays: dict[str, npt.NDArray[Any]] = {
        "levels": kept.levels,
        "score_s": kept.score_s,
        "played_s": kept.played_s,
    }
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
    save_file(arrays, temporary, {"said": kept.said, "rendering_s": f"{kept.rendering_s:.4f}"})
    temporary.replace(path)


def _load(path: Path, config: CqtConfig) -> _Levels | None:
    """What was kept; None where there is nothing that can be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            said, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        kept = _Levels(
            arrays["levels"],
            arrays["score_s"],
            arrays["played_s"],
            said["said"],
            float(said["rendering_s"]),
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return kept if kept.levels.shape[1:] == (config.n_bins,) else None
