"""From a catalogue of music to a shipped model: the stages of training, in order."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hashing.audio import decode
from hashing.conditions import Surroundings
from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from hashing.features import WINDOWS, FeatureConfig
from hashing.metrics import brier_score, calibration_error
from hashing.models import Model, save_model
from hashing.training import calibration, corpus, forgiving
from hashing.training.pool import SnippetPool, build_pool

# Shares of the music that the networks never hear: the hold-out that figures are reported on, and
# the part that the score is calibrated on.
HOLD_OUT_SHARE = 0.2
CALIBRATION_SHARE = 0.15

# Every fourth recording of noise, by name, is kept for measuring.
NOISE_HOLD_OUT = 4

AUDIO_SUFFIXES = (".opus", ".ogg", ".mp3", ".flac", ".wav", ".m4a")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training run is made of, beside the networks' settings.

    Attributes:
      rows: the catalogue, each with ``track_id`` and a local ``uri``.
      noise, rooms: folders of ambiences and of room responses; empty for synthetic ones.
      group_columns: rows that agree in one of these stay on one side of every split.
      same_column: rows that agree in it are one recording; empty where none is known.
      window: name of the snippet's settings (`hashing.features.WINDOWS`).
      excerpts, versions: of the pool (`hashing.training.pool`).
      calibration_queries: for each index size and fold.
      threads: of torch.
      command: how the run was started, for the model card.
    """

    rows: Sequence[Mapping[str, str]]
    noise: Sequence[Path] = ()
    rooms: Sequence[Path] = ()
    group_columns: Sequence[str] = ("album", "artist_name")
    same_column: str = ""
    excerpts: int = 4096
    versions: int = 12
    window: str = "second"
    calibration_queries: int = 600
    threads: int = 1
    command: str = ""


def noise_files(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Recordings to train with, and those held out: every fourth by name."""
    files = sorted(
        path for folder in folders for path in folder.iterdir() if path.suffix in AUDIO_SUFFIXES
    )
    held_out = files[NOISE_HOLD_OUT - 1 :: NOISE_HOLD_OUT]
    return [path for path in files if path not in set(held_out)], held_out


def surroundings(noise: Sequence[Path], rooms: Sequence[Path], sample_rate: int) -> Surroundings:
    """Recorded ambiences and rooms, decoded."""
    responses = [
        path
        for folder in rooms
        for path in sorted(folder.iterdir())
        if path.suffix in AUDIO_SUFFIXES
    ]
    return Surroundings(
        sample_rate,
        [decode(str(path), sample_rate) for path in noise],
        [decode(str(path), sample_rate) for path in responses],
    )


def train_forgiving(
    recipe: Recipe,
    settings: forgiving.ForgivingTraining,
    out: Path,
    work: Path,
    log: Callable[[str], None],
) -> Model:
    """Train, export and calibrate; a run that was stopped goes on from what is in `work`."""
    started = time.time()
    settings.check(recipe.excerpts)  # before anything is decoded
    torch.set_num_threads(recipe.threads)
    features = WINDOWS[recipe.window]
    # A snippet of a query is at most half a hop away from one of the index.
    offsets = features.snippet_hop + 1
    music = corpus.load(recipe.rows, features.sample_rate, work)
    by_id = {row["track_id"]: row for row in recipe.rows}
    rows = [by_id[track] for track in music.track_ids]
    training, checking, held_out = three_ways(rows, recipe.group_columns, settings.seed)
    log(f"{len(training)} tracks to train, {len(checking)} to calibrate, {len(held_out)} held out")
    if not (training and checking and held_out):
        raise HashbeamError(
            f"{len(rows)} tracks cannot be split so that no {' or '.join(recipe.group_columns)} is "
            "on two sides: add music of others, or name other columns with --group"
        )
    heard_noise, unheard_noise = noise_files(recipe.noise)
    heard = surroundings(heard_noise, recipe.rooms, features.sample_rate)
    unheard = surroundings(unheard_noise, recipe.rooms, features.sample_rate)

    def pool(name: str, tracks: list[int], excerpts: int, air: Surroundings, seed: int) -> Any:
        identity = json.dumps(
            [
                music.track_ids,
                tracks,
                excerpts,
                recipe.versions,
                offsets,
                seed,
                dataclasses.asdict(features),
                [len(a) for a in air.ambiences],
            ]
        )
        return _cached_pool(
            work / name,
            identity,
            features,
            lambda: build_pool(
                music, tracks, excerpts, recipe.versions, offsets, features, air, seed
            ),
        )

    train_pool = pool("pool", training, recipe.excerpts, heard, settings.seed)
    held_out_pool = pool(
        "held-out", held_out, max(64, recipe.excerpts // 8), unheard, settings.seed + 1
    )
    state, front, thresholds, figures = forgiving.train(
        train_pool, held_out_pool, settings, work, log
    )
    story = {
        "command": recipe.command,
        "excerpts": recipe.excerpts,
        "versions": recipe.versions,
        "tracks_trained": len(training),
        "tracks_calibrated": len(checking),
        "tracks_held_out": [music.track_ids[i] for i in held_out],
        "noise_held_out": [path.name for path in unheard_noise],
        "torch": torch.__version__,
    }
    model = forgiving.export(out, state, front, thresholds, settings, features, story, "# Draft")
    log("calibrating the score")
    names = [row.get(recipe.same_column, "") or row["track_id"] for row in rows]
    answers = calibration.ask(
        Hasher(model),
        music,
        training,
        checking,
        sizes=[len(checking), 2 * len(checking), len(checking) // 2 + len(training)],
        queries=recipe.calibration_queries,
        surroundings=heard,
        same=names,
        seed=settings.seed,
    )
    confidence = calibration.fit(answers)
    scores = confidence.score(answers.evidence)
    fitted = {
        **confidence.to_json(),
        "matches": int(scores.size),
        "expected_calibration_error": round(calibration_error(scores, answers.right), 4),
        "brier_score": round(brier_score(scores, answers.right), 4),
    }
    minutes = (time.time() - started) / 60
    config = {**model.config, "calibration": fitted, "figures": figures}
    shown = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    card = _card(recipe, settings, features, story, shown, fitted, minutes)
    return save_model(out, config, {"model": model.graph("model")}, model.arrays, card)


def three_ways(
    rows: Sequence[Mapping[str, str]], columns: Sequence[str], seed: int
) -> tuple[list[int], list[int], list[int]]:
    """Rows to train on, to calibrate on, and to hold out; groups are kept together."""
    heard, held_out = corpus.split(rows, columns, seed, HOLD_OUT_SHARE)
    share = CALIBRATION_SHARE / (1.0 - HOLD_OUT_SHARE)
    training, checking = corpus.split([rows[i] for i in heard], columns, seed, share)
    return [heard[i] for i in training], [heard[i] for i in checking], held_out


def _cached_pool(
    folder: Path, identity: str, features: FeatureConfig, build: Callable[[], SnippetPool]
) -> SnippetPool:
    spectra, settings = folder / "spectra.npy", folder / "identity.json"
    if settings.exists() and settings.read_text() == identity:
        return SnippetPool(np.load(spectra, allow_pickle=False), features)
    pool = build()
    folder.mkdir(parents=True, exist_ok=True)
    settings.unlink(missing_ok=True)
    np.save(spectra, pool.spectra)
    settings.write_text(identity)
    return pool


def _card(
    recipe: Recipe,
    settings: forgiving.ForgivingTraining,
    features: FeatureConfig,
    story: Mapping[str, Any],
    figures: str,
    fitted: Mapping[str, Any],
    minutes: float,
) -> str:
    seconds = features.snippet_samples / features.sample_rate
    return f"""# Forgiving hash, snippets of {seconds:.2f} s

{len(settings.hidden)} networks of {settings.outputs} outputs on log-mel snippets of
{features.n_bands} bands and {features.snippet_frames} frames, bits
dealt out to {settings.n_tables} hash tables by mutual information (Baluja & Covell, IJCAI 2007).

* **Command**: `{recipe.command}`
* **Data**: {story["tracks_trained"]} tracks ({recipe.excerpts} excerpts in
  {recipe.versions} versions each) to train the networks, {story["tracks_calibrated"]} others to
  calibrate the score, {len(story["tracks_held_out"])} held out (listed in `config.json`), no album
  and no artist on two sides. Every {NOISE_HOLD_OUT}th recording of noise is held out as well.
* **Seed**: {settings.seed}. **Time**: {minutes:.0f} minutes on one thread, torch {story["torch"]}.
* **Score**: logistic regression on {fitted["matches"]} matches in indexes of three sizes; expected
  calibration error {fitted["expected_calibration_error"]}, Brier score {fitted["brier_score"]} on
  the matches that it was fitted to.

On held-out music, a clean snippet against one that is degraded and up to half a hop
({features.snippet_hop_s / 2:.2f} s) off:

| figure | value |
|---|---|
{figures}

`agreement` is the share of equal bits (chance: 0.5), `nearest` the share of snippets whose nearest
clean snippet among all held-out excerpts is their own, `effective_bits` the number of independent
fair bits that would spread distances as much. `hashbeam evaluate lookup` measures look-up.
"""


def require_audio(folders: Sequence[Path]) -> None:
    """Raises `HashbeamError` for a folder that is missing or holds no audio."""
    for folder in folders:
        if not folder.is_dir():
            raise HashbeamError(f"{folder} is not a folder: name one that holds recordings")
        if not any(path.suffix in AUDIO_SUFFIXES for path in folder.iterdir()):
            raise HashbeamError(f"{folder} holds no audio ({', '.join(AUDIO_SUFFIXES)})")
