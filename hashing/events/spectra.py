"""Spectrograms of many clips in one file, so that training and evaluation decode them once."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tqdm

from hashing.audio import decode_blocks
from hashing.errors import AudioError, HashbeamError
from hashing.features import FeatureConfig, spectrogram
from hashing.generated.processes import spread
from hashing.snippets import audible, filled

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

FORMAT_VERSION = 1

# Files that a process decodes before it tells: some seconds of work.
FILES_A_TASK = 100

# dB: what spectrograms are kept as, in steps of 0.5 dB below full scale, a byte each.
STEP_DB = 0.5


@dataclasses.dataclass(frozen=True)
class Spectra:
    """Windows of sound files.

    Attributes:
      levels: uint8 [windows, frames, bands], steps of `STEP_DB` below full scale.
      file: which of the files each window is from, rising, [windows].
      start_frame: where in its file it begins, [windows].
      failures: what could not be heard: number of the file → kind of error and message.
      config: the settings.
    """

    levels: npt.NDArray[np.uint8]
    file: Ints
    start_frame: Ints
    failures: dict[int, tuple[str, str]]
    config: FeatureConfig

    def cut(self, rows: npt.NDArray[np.integer]) -> Floats:
        """Windows [n, bands, frames] in dB re full scale."""
        levels = self.levels[rows].astype(np.float32)
        return np.ascontiguousarray((-STEP_DB * levels).transpose(0, 2, 1))

    def first_windows(self, n_files: int) -> Ints:
        """The first window of each file, [n_files]; -1 where there is none."""
        first = np.full(n_files, -1, np.int64)
        first[self.file[::-1]] = np.arange(len(self.file))[::-1]
        return first


def hear(
    paths: Sequence[str],
    folder: Path,
    config: FeatureConfig,
    *,
    windows: int = 0,
    workers: int = 1,
    log: Callable[[str], None] | None = None,
) -> Spectra:
    """Spectrograms of the windows of files that are not silent.

    They are kept in `folder`, from where the next call with the same files takes them; a call that
    was stopped goes on.

    Args:
      windows: at most so many of each file, the first ones; 0 for all, `snippet_hop` apart. A file
        is silent if these are.
      workers: processes.
      log: told what is done; a line of progress is shown where it is given.

    Raises:
      HashbeamError: not one file could be heard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        _Task(folder, tuple(paths[first : first + FILES_A_TASK]), config, windows)
        for first in range(0, len(paths), FILES_A_TASK)
    ]
    todo = [task for task in tasks if not task.path.exists()]
    if log is not None and todo:
        log(f"hearing {sum(len(task.paths) for task in todo)} files")
    total = sum(len(task.paths) for task in todo)
    with tqdm.tqdm(total=total, desc="heard", mininterval=5.0, disable=log is None) as bar:
        for done in spread(_hear_task, todo, workers):
            bar.update(done)
    levels, file, start, failures = [], [], [], {}
    for number, task in enumerate(tasks):
        with np.load(task.path, allow_pickle=False) as found:
            levels.append(found["levels"])
            file.append(found["of"].astype(np.int64) + number * FILES_A_TASK)
            start.append(found["start"].astype(np.int64))
            told = json.loads(str(found["failures"]))
        failures.update({int(at) + number * FILES_A_TASK: tuple(why) for at, why in told.items()})
    if not tasks or not sum(map(len, file)):
        reason = next(iter(failures.values()), ("", "no files"))[1]
        raise HashbeamError(f"none of {len(paths)} clips can be heard ({reason})")
    return Spectra(
        np.concatenate(levels), np.concatenate(file), np.concatenate(start), failures, config
    )


def hear_file(
    path: str, config: FeatureConfig, windows: int = 0
) -> tuple[npt.NDArray[np.uint8], Ints]:
    """Windows of one file, [n, frames, bands] as `Spectra` keeps them, and their first frames.

    Raises:
      AudioError: what cannot be decoded, and ``too-short`` or ``silent``.
    """
    # The first windows only: of a recording of an hour the rest need not be decoded.
    name = path if path.isprintable() else ascii(path)
    needed = (windows - 1) * config.snippet_hop * config.hop_length + config.snippet_samples
    duration_s = needed / config.sample_rate if windows else None
    spec = spectrogram(decode_blocks(path, config.sample_rate, duration_s=duration_s), config)
    if not len(spec):
        raise AudioError("too-short", f"{name} is shorter than a frame")
    spec = filled(spec, config)
    if len(spec) < config.snippet_frames:
        raise AudioError("too-short", f"{name} is shorter than a window")
    starts = audible(spec, config)
    if not starts.size:
        raise AudioError("silent", f"{name} is silent: nothing above {config.silence_db:.0f} dB")
    if windows:
        starts = starts[:windows]
    levels = np.clip(np.rint(spec / -STEP_DB), 0, 255).astype(np.uint8)
    cut = levels[starts[:, None] + np.arange(config.snippet_frames)]
    return cut, starts.astype(np.int64)


@dataclasses.dataclass(frozen=True)
class _Task:
    folder: Path
    paths: tuple[str, ...]
    config: FeatureConfig
    windows: int

    @functools.cached_property
    def path(self) -> Path:
        """Named by what is in it: files that have changed since are heard anew."""
        states = [(path, _state(path)) for path in self.paths]
        told = [FORMAT_VERSION, states, dataclasses.asdict(self.config), self.windows]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:24]}.npz"


def _state(path: str) -> list[int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return []
    return [found.st_size, found.st_mtime_ns]


def _hear_task(task: _Task) -> int:
    config, failures = task.config, {}
    empty = np.empty((0, config.snippet_frames, config.n_bands), np.uint8)
    levels, file, start = [empty], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for number, path in enumerate(task.paths):
        try:
            cut, starts = hear_file(path, config, task.windows)
        except AudioError as error:
            failures[number] = (error.kind, str(error))
            continue
        levels.append(cut)
        file.append(np.full(len(starts), number, np.int64))
        start.append(starts)
    part = task.path.with_suffix(f".{os.getpid()}.tmp")
    with part.open("wb") as out:
        np.savez(
            out,
            levels=np.concatenate(levels),
            of=np.concatenate(file),
            start=np.concatenate(start),
            failures=np.array(json.dumps(failures)),
        )
    part.replace(task.path)
    return len(task.paths)
