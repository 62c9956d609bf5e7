"""From a catalogue and an encoder to a balanced flow hash: the stages of training, in order."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch

from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from hashing.models import Model
from hashing.training import flow, flow_data, flow_model
from hashing.training.ambience import richer
from hashing.training.recipe import Material, Recipe, calibrate, finish


def train_flow(
    recipe: Recipe,
    settings: flow.FlowTraining,
    encoder: str,
    out: Path,
    work: Path,
    log: Callable[[str], None],
) -> Model:
    """Train, export and calibrate; a run that was stopped goes on from what is in `work`.

    Tracks that the encoder has held out are held out here too, whatever the split.

    Raises:
      HashbeamError: music that cannot be split, or is of another rate than the encoder's.
      ModelError: a model without embeddings.
    """
    started = time.time()
    torch.set_num_threads(recipe.threads)
    hasher = Hasher.load(encoder)
    material = apart(Material.prepare(recipe, settings.seed, work, log), hasher)
    features = hasher.features
    if features.sample_rate != material.music.sample_rate:
        raise HashbeamError(
            f"{encoder} hears music at {features.sample_rate} Hz, the window {recipe.window!r} "
            f"is at {material.music.sample_rate} Hz: name another with --window"
        )
    air = richer(material.heard, settings.seed)
    data = flow_data.gather(
        hasher, material.music, material.training, material.checking, air, settings.seed, work, log
    )
    state, quantizer, figures = flow.train(data, settings, work, log)
    late = features.query_hop * features.hop_length // 2 / features.sample_rate
    story = {**material.story(recipe), "late_s": late}
    model = flow_model.export(out, hasher, state.trained.weights(), quantizer, settings, story)
    fitted = calibrate(model, material, recipe, settings.seed, log, air, embeddings=True)
    card = flow_model.flow_card(
        recipe.command, settings, encoder, story, figures, fitted, time.time() - started
    )
    return finish(model, fitted, figures, card)


def apart(material: Material, hasher: Hasher) -> Material:
    """`material` with the tracks that an encoder has held out taken from its other parts.

    Raises `HashbeamError` where nothing is left to train or to calibrate with.
    """
    unheard = set(hasher.config.get("training", {}).get("tracks_held_out", ()))
    names = material.music.track_ids

    def heard(tracks: list[int]) -> list[int]:
        return [track for track in tracks if names[track] not in unheard]

    training, checking = heard(material.training), heard(material.checking)
    if not (training and checking):
        raise HashbeamError(
            f"{hasher.model.name} was not trained on any of the music: name a catalogue that it "
            "was trained on"
        )
    taken = set(training) | set(checking)
    held_out = [track for track in range(len(names)) if track not in taken]
    return dataclasses.replace(material, training=training, checking=checking, held_out=held_out)
