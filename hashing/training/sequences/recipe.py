"""From folders of MIDI files to a model of sequences: frames, hashes, embeddings, folder."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hashing.errors import HashbeamError
from hashing.models import Model
from hashing.scores import RENDERED, ROLL
from hashing.training.sequences.corpus import CHOOSE, EXAM, LEARN, Song, load_songs
from hashing.training.sequences.export import export
from hashing.training.sequences.features import EXAM_FONTS, make_frames
from hashing.training.sequences.settings import SequenceTraining
from hashing.training.sequences.training import train_embeddings, train_hashes

# Songs to learn from, at least: a batch needs different ones, and somebody must choose.
LEAST_SONGS = 20


@dataclasses.dataclass(frozen=True)
class SequenceRecipe:
    """What a training run is made of.

    Attributes:
      midi: folders of MIDI files.
      training: of the networks.
      performances: of each song, to learn from.
      workers: processes that render.
      threads: of the networks.
      command: how the run was started, for the model card.
    """

    midi: Sequence[str]
    training: SequenceTraining
    performances: int = 4
    workers: int = 1
    threads: int = 1
    command: str = ""


def train_sequence(
    recipe: SequenceRecipe, out: Path, work: Path, log: Callable[[str], None]
) -> Model:
    """Render, train and write; frames and checkpoints are kept in `work`.

    A tenth of the songs, by their names, is neither learned nor chosen from: ``examined_by`` of the
    model's ``config.json`` names them, and ``hashbeam evaluate midi`` asks for them.

    Raises: HashbeamError: too few songs, no FluidSynth to render them with, or frames in `work`
      that were made otherwise.
    """
    started = time.monotonic()
    torch.set_num_threads(recipe.threads)
    frames = work / "frames"
    make_frames(recipe.midi, frames, recipe.performances, recipe.workers, log)
    songs = load_songs(frames, log)
    wanted = set(recipe.training.scores), recipe.performances + len(EXAM_FONTS)
    if any(wanted[0] - set(song.scores) or len(song.played) != wanted[1] for song in songs):
        raise HashbeamError(
            f"{frames} holds songs with other scores or another number of performances: remove it, "
            "or name another folder with --work"
        )
    by_role = {role: [song for song in songs if song.role == role] for role in ROLES}
    if len(by_role[LEARN]) < LEAST_SONGS or not by_role[CHOOSE]:
        raise HashbeamError(
            f"{len(songs)} songs are too few to learn from: {2 * LEAST_SONGS} or more are needed"
        )
    network, found = train_hashes(songs, recipe.training, work, log)
    head, embedding = train_embeddings(network, songs, recipe.training, work, log)
    figures = {**found, **{f"embedding_{name}": value for name, value in embedding.items()}}
    figures = {name: round(value, 4) for name, value in figures.items()}
    story = _story(recipe, by_role)
    card = sequence_card(recipe, story, figures, time.monotonic() - started)
    score = ROLL if recipe.training.scores == (ROLL,) else RENDERED
    return export(out, network, head, {"training": story, "figures": figures}, card, score)


ROLES = (LEARN, CHOOSE, EXAM)


def _story(recipe: SequenceRecipe, by_role: Mapping[str, Sequence[Song]]) -> dict[str, Any]:
    return {
        "command": recipe.command,
        "settings": dataclasses.asdict(recipe.training),
        "seed": recipe.training.seed,
        "performances": recipe.performances,
        "trained_on": [song.name for song in by_role[LEARN]],
        "chosen_by": [song.name for song in by_role[CHOOSE]],
        "examined_by": [song.name for song in by_role[EXAM]],
        "torch": torch.__version__,
    }


def sequence_card(
    recipe: SequenceRecipe,
    story: Mapping[str, Any],
    figures: Mapping[str, float],
    seconds: float,
) -> str:
    """The card of a model of sequences."""
    settings = recipe.training
    rows = "\n".join(f"| {name} | {value:g} |" for name, value in figures.items())
    return f"""# Hash sequences and embeddings of scores and recordings: {settings.system}

A 32-bit code for every eight constant-Q frames (0.37 s) and an embedding of {settings.dimensions}
numbers for every 30 s, the same for a rendered score and for a recording of it: `hashbeam
match-midi` finds recordings by them (after Raffel, 2016, chapters 5 to 7).

* **Command**: `{recipe.command}`
* **Data**: {len(story["trained_on"])} songs to learn from in {recipe.performances} performances
  each, {len(story["chosen_by"])} to choose by; {len(story["examined_by"])} more were not heard
  (all listed in `config.json`).
* **Settings**: {json.dumps(story["settings"])}
* **Seed**: {settings.seed}. **Time**: {seconds / 60:.0f} minutes, torch {story["torch"]}.

On the songs to choose by, among performances of them and of songs that were learned from:

| figure | |
|---|---|
{rows}

`mrr` is the mean reciprocal rank of the true recording by Hamming DTW, `bc` the Bhattacharyya
coefficient of the distances of steps (`same`, `foreign`: their means in bits), `embedding_p97` the
share of the recordings that must be kept to lose 3 % of the true ones by embeddings. `hashbeam
evaluate midi` judges it on songs that it has not heard.
"""
