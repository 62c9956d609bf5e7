"""From catalogues of sound to a clip encoder: hearing, training, folder."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hashing.errors import HashbeamError
from hashing.events.features import CLIP
from hashing.events.spectra import Spectra
from hashing.models import CLIP_KIND, Model, load_model, save_model
from hashing.training.events.encoder import (
    ClipTraining,
    embed,
    train_labels,
    train_views,
)
from hashing.training.events.export import clip_graph, network_arrays, network_from
from hashing.training.events.networks import ClipEncoder
from hashing.training.events.sources import Source, hear_sources
from hashing.training.events.views import draw_views, whole_windows

# Windows whose figures are told on the way.
JUDGED = 1024

# Fewer windows make no batch in which anything can be told apart.
LEAST_WINDOWS = 64


@dataclasses.dataclass(frozen=True)
class ClipRecipe:
    """What a training run is made of.

    Attributes:
      sources: catalogues.
      training: of the network.
      begin_with: name or folder of the encoder to go on from; None to begin anew, with views.
      workers: processes that decode.
      threads: of the network.
      command: how the run was started, for the model card.
    """

    sources: Sequence[Source]
    training: ClipTraining
    begin_with: str | None = None
    workers: int = 1
    threads: int = 1
    command: str = ""


def train_clips(
    recipe: ClipRecipe, out: Path, work: Path, log: Callable[[str], None] = print
) -> Model:
    """Hear, train and write; spectra and checkpoints are kept in `work`.

    Raises: HashbeamError: nothing to hear, or too little; ModelError: an encoder that cannot be
      gone on from.
    """
    started = time.monotonic()
    torch.set_num_threads(recipe.threads)
    heard = hear_sources(recipe.sources, work / "spectra", CLIP, recipe.workers, log)
    learned, unheard = heard.learned(), heard.unheard()
    if len(learned.levels) < LEAST_WINDOWS:
        raise HashbeamError(
            f"{len(learned.levels)} windows of sound are too few to learn from: {LEAST_WINDOWS} "
            "or more are needed"
        )
    log(f"{len(learned.levels)} windows to learn from, {len(unheard.levels)} others")
    settings = recipe.training

    def told(network: ClipEncoder) -> dict[str, float]:
        return judge(network, unheard, heard.labelled(unheard), settings)

    if recipe.begin_with is None:
        network = train_views(learned, settings, work, log, told)
    else:
        network = open_network(load_model(recipe.begin_with))
    labelled = heard.labelled(learned)
    if labelled and settings.label_steps:
        network = train_labels(network, learned, labelled, settings, work, log, told)
    figures = {name: round(value, 4) for name, value in told(network).items()}
    story = {
        "command": recipe.command,
        "settings": dataclasses.asdict(settings),
        "seed": settings.seed,
        "begun_with": recipe.begin_with and Path(recipe.begin_with).name,
        "windows": len(learned.levels),
        "catalogues": [
            {
                "name": source.name,
                "files": len(source.ids),
                "labelled": sum(1 for one in source.labels if one),
                "labels": sorted({label for one in source.labels for label in one}),
            }
            for source in recipe.sources
        ],
        "torch": torch.__version__,
    }
    card = clip_card(story, figures, time.monotonic() - started)
    return export_encoder(out, network, story, figures, card)


def open_network(model: Model) -> ClipEncoder:
    """The network of a model folder; raises `ModelError` where it has none."""
    from hashing.errors import ModelError

    try:
        return network_from(model.arrays, CLIP.n_bands, int(model.config["dimensions"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"model {model.path} cannot be trained further ({error}): name a clip encoder"
        ) from None


def export_encoder(
    out: Path,
    network: ClipEncoder,
    story: Mapping[str, Any],
    figures: Mapping[str, float],
    card: str,
) -> Model:
    """Write the model folder."""
    network = network.cpu().eval()
    graphs = {"model": clip_graph(network, CLIP, False), "wide": clip_graph(network, CLIP, True)}
    config = {
        "kind": CLIP_KIND,
        "bits": 0,
        "dimensions": network.narrow.out_features,
        "dimensions_wide": network.wide,
        "features": dataclasses.asdict(CLIP),
        "training": story,
        "figures": figures,
    }
    return save_model(out, config, graphs, network_arrays(network), card)


def judge(
    network: ClipEncoder, spectra: Spectra, labelled: Sequence[Any], settings: ClipTraining
) -> dict[str, float]:
    """Figures on windows that were not learned from.

    ``views`` is the share of views whose nearest other view is of the same window;
    ``neighbour_N`` the share of labelled windows of catalogue N whose nearest other window has the
    same labels.
    """
    rng = np.random.default_rng(settings.seed)
    rows = rng.permutation(len(spectra.levels))[:JUDGED]
    found = {}
    if len(rows) > 1:
        one, other = (
            embed(network, draw_views(spectra, rows, settings.views, rng)) for _ in range(2)
        )
        found["views"] = float(((one @ other.T).argmax(1) == np.arange(len(rows))).mean())
    for number, clips in enumerate(labelled):
        some = rng.permutation(len(clips.rows))[:JUDGED]
        if len(some) < 2:
            continue
        likeness = (lambda e: e @ e.T)(embed(network, whole_windows(spectra, clips.rows[some])))
        np.fill_diagonal(likeness, -2)
        own = clips.labels.of[some]
        found[f"neighbour_{number}"] = float((own[likeness.argmax(1)] == own).mean())
    return found


def clip_card(story: Mapping[str, Any], figures: Mapping[str, float], seconds: float) -> str:
    """The card of a clip encoder."""
    settings = story["settings"]
    lines = "\n".join(
        f"  * {one['name']}: {one['files']} files, {one['labelled']} of them with labels "
        f"({len(one['labels'])} labels)"
        for one in story["catalogues"]
    )
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    begun = story["begun_with"]
    begin = f"goes on from `{begun}`" if begun else f"{settings['steps']} steps of views alone"
    return f"""# Clip encoder

Four convolutions on log-mel windows of {CLIP.snippet_samples / CLIP.sample_rate:.2f} s; their means
and maxima over time are the wide embedding, a linear map of it the narrow one
({settings["dimensions"]} numbers). Learned from pairs of views of one window (NT-Xent: Chen et al.,
ICML 2020), and from labels.

* **Command**: `{story["command"]}`
* **Data**: {story["windows"]} windows of
{lines}
  One file in twenty, by its id, is held out.
* **Training**: {begin}, {settings["label_steps"]} with labels, {settings["batch"]} pairs and
  {settings["label_batch"]} labelled windows a step.
* **Seed**: {story["seed"]}. **Time**: {seconds / 60:.0f} minutes (the last run of the command,
  which goes on where an earlier one stopped), torch {story["torch"]}.

On windows that are held out:

| figure | value |
|---|---|
{rows}

`views` is the share of views whose nearest other view is of the same window (of
{JUDGED} or all), `neighbour_N` the share of labelled windows of the N-th labelled catalogue whose
nearest other window has the same labels. `hashbeam evaluate events` judges embeddings and codes.

```json
{json.dumps(settings)}
```
"""
