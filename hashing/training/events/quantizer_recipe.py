"""From catalogues of labelled clips to a model whose codes tell labels."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hashing import asymmetric
from hashing.average_precision import mean_average_precision
from hashing.codebooks import CENTROIDS
from hashing.errors import HashbeamError
from hashing.events.encoder import ClipEmbedder
from hashing.events.features import CLIP
from hashing.models import DEFAULT_CLIP_MODEL, EVENTS_KIND, Model, load_model, save_model
from hashing.quantization import ProductQuantizer
from hashing.taxonomy import Taxonomy
from hashing.training.events.export import clip_graph
from hashing.training.events.labels import LabelSets
from hashing.training.events.quantization import (
    Quantized,
    QuantizerTraining,
    train_quantizer,
)
from hashing.training.events.recipe import open_network
from hashing.training.events.self_training import guess_labels, train_with_guesses
from hashing.training.events.sources import Source, hear_sources
from hashing.training.events.views import embed_versions

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Embeddings made of all versions of all clips, at most: a millisecond each.
MOST_EMBEDDED = 120_000
MOST_VERSIONS = 8

# Clips that the figures are judged on: so many ask among as many as the second number.
ASKING, ASKED = 1000, 10_000


@dataclasses.dataclass(frozen=True)
class QuantizerRecipe:
    """What a training run is made of.

    Attributes:
      sources: catalogues of labelled clips.
      taxonomy: of the labels; None for none.
      training: of the quantizer.
      encoder: name or folder of the clip encoder; wide: its wide embedding.
      guesses: whether clips without labels are learned from, by labels that are guessed.
      workers: processes that decode.
      threads: of the networks.
      command: how the run was started, for the model card.
    """

    sources: Sequence[Source]
    taxonomy: Taxonomy | None
    training: QuantizerTraining
    encoder: str = DEFAULT_CLIP_MODEL
    wide: bool = False
    guesses: bool = False
    workers: int = 1
    threads: int = 1
    command: str = ""

    def __post_init__(self) -> None:
        if self.training.system == "orthohash":
            raise ValueError("orthohash has no codebooks, which an index of clips needs: use dqn")


def train_events(
    recipe: QuantizerRecipe, out: Path, work: Path, log: Callable[[str], None] = print
) -> Model:
    """Hear, embed, train and write; spectra are kept in `work`.

    Raises: HashbeamError: too few labelled clips; ModelError: an encoder that cannot be used.
    """
    started = time.monotonic()
    torch.set_num_threads(recipe.threads)
    model = load_model(recipe.encoder)
    embedder = ClipEmbedder(model, recipe.wide)
    network = open_network(model)
    heard = hear_sources(recipe.sources, work / "spectra", CLIP, recipe.workers, log)
    spectra = heard.spectra
    file_labels = [labels for source in heard.sources for labels in source.labels]
    labels = [file_labels[file] for file in spectra.file.tolist()]
    known = np.array([bool(one) for one in labels], bool)
    held_out = heard.held_out()[spectra.file]
    rows, others = np.flatnonzero(known & ~held_out), np.flatnonzero(known & held_out)
    guessed = np.flatnonzero(~known & ~held_out) if recipe.guesses else np.zeros(0, np.int64)
    if len(rows) < CENTROIDS:
        raise HashbeamError(
            f"{len(rows)} labelled clips are too few for codebooks: {CENTROIDS} or more are needed"
        )
    versions = int(np.clip(MOST_EMBEDDED // (len(rows) + len(guessed)), 1, MOST_VERSIONS))
    log(f"embedding {len(rows) + len(guessed)} clips in {versions} versions")

    def embed(hearing: ClipEmbedder, some: Ints) -> Floats:
        return embed_versions(hearing, spectra, some, versions, recipe.training.seed)

    values, unlabelled = embed(embedder, rows), embed(embedder, guessed)
    unheard = embed_versions(embedder, spectra, others, 1, recipe.training.seed)[:, 0]
    sets = LabelSets.from_clips([labels[row] for row in rows.tolist()], recipe.taxonomy)
    if len(guessed):
        log(f"guessing the labels of {len(guessed)} clips")
        other = ClipEmbedder(model, not recipe.wide)
        views = [(values, unlabelled), (embed(other, rows), embed(other, guessed))]
        guesses = guess_labels(views, sets, recipe.training, log=log)
        log(f"learning from {len(guesses.rows)} guesses")
        found = train_with_guesses(values, sets, unlabelled, guesses, recipe.training, log=log)
    else:
        found = train_quantizer(values, sets, recipe.training, log=log)
    told = [labels[row] for row in others.tolist()]
    figures = judge(found, values[:, 0], sets, unheard, told, recipe)
    story = {
        "command": recipe.command,
        "settings": dataclasses.asdict(recipe.training),
        "seed": recipe.training.seed,
        "encoder": {"name": model.name, "digest": model.digest, "wide": recipe.wide},
        "clips": len(rows),
        "clips_guessed": len(guessed),
        "versions": versions,
        "catalogues": [source.name for source in recipe.sources],
        "history": found.history,
        "torch": torch.__version__,
    }
    quantizer = ProductQuantizer(found.codebooks)
    arrays: dict[str, npt.NDArray[Any]] = quantizer.arrays()
    if found.word_vectors is not None:
        arrays["word_vectors"] = found.word_vectors.astype(np.float16)
    config = {
        "kind": EVENTS_KIND,
        "bits": 8 * recipe.training.code_bytes,
        "dimensions": embedder.dimensions,
        "features": dataclasses.asdict(CLIP),
        "labels": list(sets.labels),
        "taxonomy": None if recipe.taxonomy is None else recipe.taxonomy.to_json(),
        "words": list(found.words),
        "training": story,
        "figures": {name: round(value, 4) for name, value in figures.items()},
    }
    card = events_card(config, time.monotonic() - started)
    graph = clip_graph(network, CLIP, recipe.wide, found.layers)
    return save_model(out, config, {"model": graph}, arrays, card)


def judge(
    found: Quantized,
    items: Floats,
    sets: LabelSets,
    asking: Floats,
    labels: Sequence[tuple[str, ...]],
    recipe: QuantizerRecipe,
) -> dict[str, float]:
    """mAP of clips that were not learned from among those that were: ``map`` by codes, ``map_real``
    by real-valued outputs, ``map_embedding`` by embeddings; and ``map_at_10`` by codes."""
    rng = np.random.default_rng(recipe.training.seed)
    some, among = rng.permutation(len(asking))[:ASKING], rng.permutation(len(items))[:ASKED]
    if not len(some):
        return {}
    held = [set(sets.sets[at]) for at in sets.of[among].tolist()]
    relevant = np.array([[bool(one & set(labels[row])) for one in held] for row in some.tolist()])
    stored, asked = found.respond(items[among]), found.respond(asking[some])
    packed = ProductQuantizer(found.codebooks).encode(stored)
    tables = asymmetric.distance_tables(asked, found.codebooks)
    by_codes = np.stack([asymmetric.distances(packed, table) for table in tables])
    return {
        "map": mean_average_precision(by_codes, relevant),
        "map_at_10": mean_average_precision(by_codes, relevant, 10),
        "map_real": mean_average_precision(-asked @ stored.T, relevant),
        "map_embedding": mean_average_precision(-asking[some] @ items[among].T, relevant),
    }


def events_card(config: Mapping[str, Any], seconds: float) -> str:
    """The card of a model of labelled clips."""
    story = config["training"]
    settings = story["settings"]
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in config["figures"].items())
    guessed, count = "", story["clips_guessed"]
    if count:
        guessed = f"\n  and {count} others whose labels were guessed (Xie et al., CVPR 2020)"
    tree = "with a taxonomy" if config["taxonomy"] else "without a taxonomy"
    return f"""# Codes of labelled clips: {settings["system"]}, {config["bits"]} bits

A window of {CLIP.snippet_samples / CLIP.sample_rate:.2f} s becomes a code of
{config["bits"] // 8} bytes: the embedding of the clip encoder `{story["encoder"]["name"]}`, a
network of {settings["hidden"]} hidden units that learned {len(config["labels"])} labels
({tree}), and codebooks of its outputs. {len(config["words"])} words of labels have vectors among
these, so that text finds clips. Cao et al. (AAAI 2016); Jati & Emmanouilidou (ICASSP 2020).

* **Command**: `{story["command"]}`
* **Data**: {story["clips"]} labelled windows in {story["versions"]} versions each{guessed}, of
  {", ".join(story["catalogues"])}. One file in twenty, by its id, is held out.
* **Labels**: {", ".join(config["labels"])}
* **Seed**: {story["seed"]}. **Time**: {seconds / 60:.0f} minutes, torch {story["torch"]}.

Clips that are held out ask among those that were learned from, which the same synthesisers played:
optimistic. `hashbeam evaluate events` judges on others.

| figure | value |
|---|---|
{rows}

```json
{json.dumps(settings)}
```
"""
