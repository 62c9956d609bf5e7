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

from hashing.conditions import Surroundings
from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from hashing.features import WINDOWS, FeatureConfig
from hashing.models import Model, save_model
from hashing.training import calibration, cards, corpus, encoder, forgiving, heads, tiles
from hashing.training.ambience import noise_files, noise_spectra, richer, surroundings
from hashing.training.light import LightTraining, train_light
from hashing.training.pairs import EncoderTraining, Pairs
from hashing.training.pool import SnippetPool, build_pool

# Shares of the music that the networks never hear: the hold-out that figures are reported on, and
# the part that the score is calibrated on.
HOLD_OUT_SHARE = 0.2
CALIBRATION_SHARE = 0.15

# Versions of the tiles that recall is reported on.
UNHEARD_VERSIONS = 6


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
      tile_versions: of the tiles that an encoder learns from (`hashing.training.tiles`).
      calibration_queries: for each index size and fold.
      workers: processes that degrade tiles.
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
    tile_versions: int = 24
    window: str = "second"
    calibration_queries: int = 600
    workers: int = 2
    threads: int = 1
    command: str = ""


@dataclasses.dataclass(frozen=True)
class Material:
    """Music and noise, decoded and split: what every kind of training begins with.

    `training`, `checking` and `held_out` are numbers of tracks of `music`; `names` tells which
    tracks are one recording; `heard` is what trains and calibrates, `unheard` is held out.
    """

    music: corpus.Corpus
    rows: Sequence[Mapping[str, str]]
    training: list[int]
    checking: list[int]
    held_out: list[int]
    names: list[str]
    heard: Surroundings
    unheard: Surroundings
    unheard_noise: Sequence[Path]

    @classmethod
    def prepare(cls, recipe: Recipe, seed: int, work: Path, log: Callable[[str], None]) -> Material:
        """Decode and split; raises `HashbeamError` where the music cannot be split."""
        rate = WINDOWS[recipe.window].sample_rate
        music = corpus.load(recipe.rows, rate, work)
        by_id = {row["track_id"]: row for row in recipe.rows}
        rows = [by_id[track] for track in music.track_ids]
        training, checking, held_out = three_ways(rows, recipe.group_columns, seed)
        log(
            f"{len(training)} tracks to train, {len(checking)} to calibrate, "
            f"{len(held_out)} held out"
        )
        if not (training and checking and held_out):
            raise HashbeamError(
                f"{len(rows)} tracks cannot be split so that no "
                f"{' or '.join(recipe.group_columns)} is on two sides: add music of others, or "
                "name other columns with --group"
            )
        heard_noise, unheard_noise = noise_files(recipe.noise)
        return cls(
            music,
            rows,
            training,
            checking,
            held_out,
            [row.get(recipe.same_column, "") or row["track_id"] for row in rows],
            surroundings(heard_noise, recipe.rooms, rate),
            surroundings(unheard_noise, recipe.rooms, rate),
            unheard_noise,
        )

    def story(self, recipe: Recipe) -> dict[str, Any]:
        """What the model's config.json tells about the data."""
        return {
            "command": recipe.command,
            "tracks_trained": len(self.training),
            "tracks_calibrated": len(self.checking),
            "tracks_held_out": [self.music.track_ids[i] for i in self.held_out],
            "noise_held_out": [path.name for path in self.unheard_noise],
            "torch": torch.__version__,
        }


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
    material = Material.prepare(recipe, settings.seed, work, log)
    music = material.music

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

    train_pool = pool("pool", material.training, recipe.excerpts, material.heard, settings.seed)
    held_out_pool = pool(
        "held-out",
        material.held_out,
        max(64, recipe.excerpts // 8),
        material.unheard,
        settings.seed + 1,
    )
    state, front, thresholds, figures = forgiving.train(
        train_pool, held_out_pool, settings, work, log
    )
    story = {
        **material.story(recipe),
        "excerpts": recipe.excerpts,
        "versions": recipe.versions,
    }
    model = forgiving.export(out, state, front, thresholds, settings, features, story, "# Draft")
    fitted = calibrate(model, material, recipe, settings.seed, log)
    card = cards.forgiving_card(
        recipe.command, settings, features, story, figures, fitted, time.time() - started
    )
    return finish(model, fitted, figures, card)


def train_encoder(
    recipe: Recipe,
    settings: EncoderTraining,
    out: Path,
    work: Path,
    log: Callable[[str], None],
) -> Model:
    """Train, export and calibrate; a run that was stopped goes on from what is in `work`."""
    started = time.time()
    torch.set_num_threads(recipe.threads)
    features = WINDOWS[recipe.window]
    material = Material.prepare(recipe, settings.seed, work, log)
    air = richer(material.heard, settings.seed)
    music = material.music

    def pool(name: str, tracks: list[int], versions: int, seed: int) -> SnippetPool:
        tiling = tiles.Tiling(
            music, tiles.lay_tiles(music, tracks, features), versions, features, air, seed
        )
        identity = [
            music.track_ids,
            tracks,
            versions,
            seed,
            dataclasses.asdict(features),
            [len(a) for a in (*air.ambiences, *air.rooms)],
        ]
        return tiles.make_tiles(
            tiling, work / name, json.dumps(identity), recipe.workers, lambda x: log(f"{name}: {x}")
        )

    noise = noise_spectra(air, features, settings.seed)
    training = pool("tiles", material.training, recipe.tile_versions, settings.seed)
    checking = pool("tiles-unheard", material.checking, UNHEARD_VERSIONS, settings.seed + 1)
    pairs = Pairs(training, noise, settings)
    unheard = Pairs(checking, noise, settings)
    state, figures = encoder.train(pairs, unheard, work, log)
    lighter = LightTraining()
    light, more = train_light(pairs, unheard, state.trained, lighter, work, log)
    figures.update(more)
    story = {
        **material.story(recipe),
        "tile_versions": recipe.tile_versions,
        "light": dataclasses.asdict(lighter),
    }
    model = encoder.export(out, state, pairs, light.trained, story, "# Draft")
    fitted = calibrate(model, material, recipe, settings.seed, log, air)
    card = cards.encoder_card(
        recipe.command, settings, features, story, figures, fitted, time.time() - started
    )
    return finish(model, fitted, figures, card)


def train_head(
    recipe: Recipe,
    head: heads.HeadTraining,
    encoder_name: str,
    out: Path,
    work: Path,
    log: Callable[[str], None],
) -> Model:
    """Fit a hash to the embeddings of an encoder, or draw one that needs none; calibrate it."""
    started = time.time()
    material = Material.prepare(recipe, head.seed, work, log)
    story = material.story(recipe)
    if head.kind == "minhash":
        model = heads.draw_minhash(WINDOWS[recipe.window], head, story, out)
    else:
        hasher = Hasher.load(encoder_name)
        log(f"embedding {len(material.training)} tracks with {encoder_name}")
        items = heads.embed(hasher, material.music, material.training, head.seed)
        model = heads.fit_head(hasher.model, items, head, story, out)
    fitted = calibrate(model, material, recipe, head.seed, log, richer(material.heard, head.seed))
    card = cards.head_card(recipe.command, head, encoder_name, story, fitted, time.time() - started)
    return finish(model, fitted, {}, card)


def calibrate(
    model: Model,
    material: Material,
    recipe: Recipe,
    seed: int,
    log: Callable[[str], None],
    air: Surroundings | None = None,
    embeddings: bool = False,
) -> dict[str, Any]:
    """The calibration of a model's score, as its config.json holds it.

    With `embeddings` it is that of an index that keeps them.
    """
    log("calibrating the score")
    answers, chance = calibration.ask(
        Hasher(model),
        material.music,
        material.training,
        material.checking,
        sizes=calibration.index_sizes(len(material.checking), len(material.training)),
        queries=recipe.calibration_queries,
        surroundings=air or material.heard,
        same=material.names,
        seed=seed,
        embeddings=embeddings,
    )
    return calibration.describe(answers, chance)


def finish(
    model: Model, fitted: Mapping[str, Any], figures: Mapping[str, float], card: str
) -> Model:
    """The model folder once more, with calibration, figures and card."""
    config = {**model.config, "calibration": fitted, "figures": figures}
    graphs = {name: model.graph(name) for name in model.graphs}
    return save_model(model.path, config, graphs, model.arrays, card)


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
