"""A whole training run on little songs, from their frames to a model that finds them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sequence_songs import SONGS, TINY, tiny_songs, write_songs
from training_fixture import Log

from hashing.alignment import hash_scores
from hashing.cascade import likeness
from hashing.errors import HashbeamError
from hashing.models import load_model
from hashing.scores import PLAIN, ROLL
from hashing.sequences import SequenceEncoder
from hashing.training.sequences import recipe
from hashing.training.sequences.corpus import CHOOSE, EXAM, LEARN
from hashing.training.sequences.recipe import SequenceRecipe, train_sequence
from hashing.training.sequences.training import train_hashes

SETTINGS = dataclasses.replace(
    TINY, steps=60, every=60, embed_steps=150, batch=16, embed_batch=16, learning_rate=5e-3
)
MADE = SequenceRecipe(["songs"], SETTINGS, performances=2, command="hashbeam train sequence")


@pytest.fixture(autouse=True)
def _rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are there already."""

    def make(folders: Any, out: Path, performances: int, workers: int, log: Any) -> None:
        assert (folders, performances, workers) == (["songs"], MADE.performances, 1)
        if not out.exists():
            write_songs(out)

    monkeypatch.setattr(recipe, "make_frames", make)


def reciprocal_ranks(encoder: SequenceEncoder, score: str) -> tuple[float, float]:
    """Of songs that were learned from, by hash sequences and by embeddings."""
    songs = [song for song in tiny_songs() if song.role == LEARN]
    heard = [encoder.hear_levels(s.played[0].magnitudes.astype(np.float32)) for s in songs]
    read = [encoder.hear_levels(s.scores[score].astype(np.float32), "score") for s in songs]
    codes = np.concatenate([one.codes for one in heard])
    bounds = np.cumsum([0, *(len(one.codes) for one in heard)])
    windows = np.concatenate([one.embeddings for one in heard])
    ends = np.cumsum([0, *(len(one.embeddings) for one in heard)])
    found = []
    for number, asked in enumerate(read):
        far = hash_scores(asked.codes, codes, bounds)
        near = -likeness(asked.embeddings, windows, ends)
        # Who is as good stands before the right one: the same answer to everything finds nothing.
        found.append([1 / (one <= one[number]).sum() for one in (far, near)])
    mean = np.mean(found, axis=0)
    return float(mean[0]), float(mean[1])


def test_a_run_makes_a_model_that_finds_its_songs(tmp_path: Path) -> None:
    log, out = Log(), tmp_path / "out"
    model = train_sequence(MADE, out, tmp_path / "work", log)
    encoder = SequenceEncoder.load(str(out))
    assert encoder.digest == model.digest == load_model(str(out)).digest
    by_hashes, by_embeddings = reciprocal_ranks(encoder, PLAIN)
    # Chance among twenty is 0.18.
    assert by_hashes > 0.9
    assert by_embeddings > 0.5
    # Who has learned nothing finds less.
    settings = dataclasses.replace(SETTINGS, steps=1, embed_steps=1, learning_rate=1e-9)
    never = dataclasses.replace(MADE, training=settings)
    untrained = train_sequence(never, tmp_path / "no", tmp_path / "work2", Log())
    worse = reciprocal_ranks(SequenceEncoder(untrained), PLAIN)
    assert worse[0] < 0.3
    assert worse[1] < by_embeddings - 0.15

    # What the folder tells of itself.
    told, figures = model.config["training"], model.config["figures"]
    assert {"mrr", "first", "bc", "embedding_mrr", "embedding_p97"} <= set(figures)
    assert 0.5 < figures["mrr"] <= 1
    by_role = {
        name: [s.name for s in tiny_songs() if s.role == name] for name in (LEARN, CHOOSE, EXAM)
    }
    assert told["trained_on"] == by_role[LEARN]
    assert told["chosen_by"] == by_role[CHOOSE]
    assert told["examined_by"] == by_role[EXAM]
    assert told["command"] == MADE.command
    card = (out / "README.md").read_text()
    assert "20 songs to learn from in 2 performances" in card
    assert f"| mrr | {figures['mrr']:g} |" in card
    assert encoder.features.score == "rendered"
    assert encoder.features.dimensions == SETTINGS.dimensions
    assert log.lines[0] == f"{SONGS} songs from {tmp_path / 'work' / 'frames'}"
    # The same command again: everything is there, and the model is the same.
    log = Log(stop_at="step")
    assert train_sequence(MADE, out, tmp_path / "work", log).digest == model.digest


def test_what_hears_piano_rolls_says_so(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, scores=(ROLL,), steps=1, embed_steps=1)
    rolls = dataclasses.replace(MADE, training=settings)
    model = train_sequence(rolls, tmp_path / "out", tmp_path / "work", Log())
    assert SequenceEncoder(model).features.score == ROLL


def test_too_few_songs(tmp_path: Path) -> None:
    write_songs(tmp_path / "frames")
    for path in sorted((tmp_path / "frames").iterdir())[:3]:
        path.unlink()
    with pytest.raises(HashbeamError, match="23 songs are too few to learn from: 40 or more"):
        train_sequence(MADE, tmp_path / "out", tmp_path, Log())
    assert not (tmp_path / "out").exists()


def test_frames_of_other_runs_are_refused(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, scores=("other.sf2",))
    other = dataclasses.replace(MADE, training=settings)
    with pytest.raises(HashbeamError, match="songs with other scores or another number"):
        train_sequence(other, tmp_path / "out", tmp_path, Log())
    songs = [dataclasses.replace(song, played=song.played[1:]) for song in tiny_songs()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "load_songs", lambda *_: songs)
        with pytest.raises(HashbeamError, match="remove it, or name another folder"):
            train_sequence(MADE, tmp_path / "out", tmp_path, Log())


def test_a_run_that_learned_longer_is_not_taken_back(tmp_path: Path) -> None:
    train_hashes(tiny_songs(), dataclasses.replace(TINY, steps=2), tmp_path, Log())
    short = dataclasses.replace(MADE, training=dataclasses.replace(TINY, steps=1))
    write_songs(tmp_path / "frames")
    with pytest.raises(HashbeamError, match="learned for 2 steps, which is more than 1"):
        train_sequence(short, tmp_path / "out", tmp_path, Log())
