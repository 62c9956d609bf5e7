"""Transcription as the audio side of hash sequences: does it find more recordings, at what cost?

basic-pitch (Bittner et al., "A lightweight instrument-agnostic model for polyphonic note
transcription and multipitch estimation", ICASSP 2022) tells which notes are likely to sound. Its
posteriors stand beside constant-Q frames as what the same network learns from, on the same
performances, by the same steps; scores are rendered or piano rolls.

    pip download --no-deps basic-pitch   # its wheel holds nmp.onnx
    python -m tests.benchmarks.bench_transcription --onnx nmp.onnx --midi songs --work DIR

Songs are examined that are neither learned nor chosen from.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import cqt
from hashing.alignment import hash_scores
from hashing.conditions import Surroundings
from hashing.cqt import CqtConfig
from hashing.fronts import session_of
from hashing.generated.recording import record
from hashing.midi import read_song
from hashing.midi_figures import mean_reciprocal_rank, ranks
from hashing.piano_rolls import piano_roll
from hashing.rendering import render
from hashing.scores import ROLL
from hashing.sequences import pack_codes
from hashing.training.sequences.corpus import EXAM, LEARN, Song
from hashing.training.sequences.features import TRAINING_FONTS, Played, song_files
from hashing.training.sequences.performances import perform

Floats = npt.NDArray[np.float32]

# Of basic-pitch: its rate, window and hop in samples, and the frames that windows share.
RATE_HZ, WINDOW, HOP = 22_050, 43_844, 256
SHARED = 30
LOWEST = 21  # its lowest pitch
SCORE = "TimGM6mb.sf2"


class Transcriber:
    """Posteriors of notes [t, 48] in [0, 1] at the frames of `hashing.cqt`."""

    def __init__(self, path: str, config: CqtConfig) -> None:
        self._session = session_of(Path(path).read_bytes())
        self._config = config

    def __call__(self, samples: Floats) -> Floats:
        """Of samples at `RATE_HZ`."""
        half = SHARED // 2
        step = WINDOW - SHARED * HOP
        padded = np.concatenate([np.zeros(half * HOP, np.float32), samples])
        count = max(1, -(-len(samples) // step))
        padded = np.pad(padded, (0, max(0, (count - 1) * step + WINDOW - len(padded))))
        windows = np.stack([padded[n * step : n * step + WINDOW] for n in range(count)])
        name = self._session.get_inputs()[0].name
        found = [
            self._session.run(["StatefulPartitionedCall:1"], {name: window[None, :, None]})[0][0]
            for window in windows
        ]
        notes = np.concatenate([part[half:-half] for part in found])
        frames = 1 + int(len(samples) / RATE_HZ / self._config.frame_s)
        middle = np.arange(frames) * self._config.frame_s * RATE_HZ / HOP
        around = np.clip(np.round(middle[:, None] + np.arange(-2, 2)), 0, len(notes) - 1)
        pooled = notes[around.astype(np.int64)].mean(axis=1)
        first = self._config.lowest - LOWEST
        return np.asarray(pooled[:, first : first + self._config.n_bins], np.float32)


def as_levels(shares: Floats) -> npt.NDArray[np.float16]:
    """Numbers in [0, 1] as levels whose heard frames are in proportion to them."""
    loudest = max(float(shares.max(initial=0.0)), 1e-6)
    return (60.0 * (shares / loudest - 1)).astype(np.float16)


def make(path: Path, transcribe: Transcriber, config: CqtConfig, work: Path) -> dict[str, Any]:
    """One song: score by both ways, one performance by both ways; kept in `work`."""
    import soxr

    file = work / f"{path.parent.name}-{path.stem}.npz"
    if file.exists():
        with np.load(file) as kept:
            return dict(kept)
    song = read_song(path)
    score = cqt.magnitudes(soxr.resample(render(song, 11_025, SCORE), 11_025, 2760), config)
    performance = perform(song, 7)
    samples = render(performance.song, RATE_HZ, TRAINING_FONTS[0])
    samples = record(samples, Surroundings(RATE_HZ), np.random.default_rng(7))
    heard = cqt.magnitudes(soxr.resample(samples, RATE_HZ, config.sample_rate), config)
    started = time.process_time()
    posteriors = transcribe(samples)
    spent = time.process_time() - started
    times_s = np.arange(len(heard)) * config.frame_s
    ends = {"left": np.nan, "right": np.nan}
    score_s = np.interp(times_s, performance.played_s, performance.score_s, **ends)
    arrays = {
        "score": cqt.decibels(score).astype(np.float16),
        "roll": as_levels(np.minimum(piano_roll(song, config), 127) / 127),
        "cqt": cqt.decibels(heard).astype(np.float16),
        "posteriors": as_levels(posteriors[: len(heard)]),
        "score_frame": (score_s / config.frame_s).astype(np.float32),
        "cost": np.array([spent, len(samples) / RATE_HZ]),
    }
    np.savez(file, **arrays)
    return arrays


def songs_of(made: dict[str, dict[str, Any]], audio: str, score: str) -> list[Song]:
    """Songs whose audio side and score are what is named."""
    return [
        Song(
            name,
            {score: arrays["roll" if score == ROLL else "score"]},
            [Played(TRAINING_FONTS[0], arrays[audio], arrays["score_frame"])],
        )
        for name, arrays in made.items()
    ]


def examine(network: Any, songs: Sequence[Song], score: str) -> dict[str, float]:
    """Mean reciprocal rank of the songs to examine by, among all."""
    from hashing.training.sequences.checking import outputs

    asked = [song for song in songs if song.role == EXAM]
    others = [song for song in songs if song.role != EXAM]

    def codes(levels: Any, side: str) -> npt.NDArray[np.uint32]:
        frames = cqt.heard_frames(levels.astype(np.float32))
        return pack_codes(outputs(network, frames, side)[1])

    heard = [codes(song.played[0].magnitudes, "audio") for song in [*asked, *others]]
    flat, offsets = np.concatenate(heard), np.cumsum([0, *map(len, heard)])
    bits = [hash_scores(codes(song.scores[score], "score"), flat, offsets) for song in asked]
    found = ranks(-np.stack(bits), np.arange(len(asked)))
    return {
        "mrr": round(mean_reciprocal_rank(found), 3),
        "first": round(float((found == 1).mean()), 3),
        "queries": len(asked),
        "recordings": len(heard),
    }


def main(arguments: Sequence[str]) -> int:
    """Prints one line of JSON for each pair of sides."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--onnx", required=True)
    parser.add_argument("--midi", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--songs", type=int, default=600)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args(arguments)
    import torch

    from hashing.training.sequences.settings import SequenceTraining
    from hashing.training.sequences.training import train_hashes

    torch.set_num_threads(1)
    config = CqtConfig()
    transcribe = Transcriber(options.onnx, config)
    options.work.mkdir(parents=True, exist_ok=True)
    paths = sorted(song_files(options.midi), key=lambda path: path.stem[::-1])[: options.songs]
    made = {f"{p.parent.name}-{p.stem}": make(p, transcribe, config, options.work) for p in paths}
    spent, heard_s = np.sum([one["cost"] for one in made.values()], axis=0)
    print(json.dumps({"transcription_times_real_time": round(heard_s / spent, 1)}), flush=True)
    for audio, score in (("cqt", SCORE), ("cqt", ROLL), ("posteriors", ROLL)):
        songs = songs_of(made, audio, score)
        settings = SequenceTraining(scores=(score,), steps=options.steps, every=500)
        work = options.work / f"{audio}-{score}"
        network, _ = train_hashes(songs, settings, work, lambda line: None)
        learned = sum(song.role == LEARN for song in songs)
        row = {"audio": audio, "score": score, "learned": learned, "steps": settings.steps}
        print(json.dumps({**row, **examine(network, songs, score)}), flush=True)
    print(json.dumps(dataclasses.asdict(config)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
