"""Classifier against metric learning, as artists and minutes grow: one network after another.

The comparison of Royo-Letelier et al. (ISMIR 2018) on any music with known artists. Artists are
dealt out to folds; a fold is tested with networks that have learned from the others, whose distance
of the cut and whose last step come from a few artists that are neither learned from nor tested.
Every network is a line of ``results.jsonl``. What is there is not trained again. A table of the
means over folds, with the published figures beside it, is printed at the end.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch

from hashing.artists.mel_segments import LENGTHS
from hashing.clusters.scores import equal_error_rate
from hashing.errors import HashbeamError
from hashing.training.artists import training as artist_training
from hashing.training.artists.groups import Groups
from hashing.training.artists.segments import (
    SHAPES,
    ArtistMusic,
    SetRules,
    Shape,
    TrainingSet,
    load_music,
    training_set,
)
from hashing.training.artists.study_table import study_table
from hashing.training.artists.training import (
    CHOOSING_SHARE,
    ArtistTraining,
    System,
    TrainedArtists,
    embed_tracks,
)
from hashing.training.checkpoints import write_checkpoint

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

FOLDS = 5

# Names that are made up of the artists of a fold, and of those that the cut is chosen with.
TEST_NAMES, CHOOSING_NAMES = 200, 100

# Steps whose time is taken before a study begins, after one to warm up.
TIMED_STEPS = 2


@dataclasses.dataclass(frozen=True)
class Setting:
    """One network of a study."""

    system: System
    artists: int
    minutes: float
    shape: Shape
    dimensions: int
    probability: float
    fold: int

    def training(self, base: ArtistTraining) -> ArtistTraining:
        """How it is trained; all else as in `base`."""
        return dataclasses.replace(
            base,
            system=self.system,
            dimensions=self.dimensions,
            probability=self.probability,
        )


@dataclasses.dataclass(frozen=True)
class Grid:
    """All settings of a study. The defaults are a small one: six networks.

    >>> len(Grid().settings()), len(Grid(dimensions=(32, 256)).settings())
    (6, 9)
    """

    systems: tuple[System, ...] = ("classifier", "metric")
    artists: tuple[int, ...] = (10, 25, 50)
    minutes: tuple[float, ...] = (2.0,)
    shapes: tuple[Shape, ...] = ("balanced",)
    dimensions: tuple[int, ...] = (32,)
    probabilities: tuple[float, ...] = (0.0,)
    folds: tuple[int, ...] = (0,)

    def settings(self) -> list[Setting]:
        """Each once: a classifier has 256 dimensions and no negatives."""
        found: dict[Setting, None] = {}
        for system, artists, minutes, shape, d, p, fold in itertools.product(
            self.systems,
            self.artists,
            self.minutes,
            self.shapes,
            self.dimensions,
            self.probabilities,
            self.folds,
        ):
            d, p = (256, 0.0) if system == "classifier" else (d, p)
            p = p if system == "metric" else 0.0
            found[Setting(system, artists, minutes, shape, d, p, fold)] = None
        return list(found)


@dataclasses.dataclass(frozen=True)
class Study:
    """A study in a folder.

    Attributes:
      music: of all artists.
      base: what all networks have in common.
      work: a folder for checkpoints, embeddings and ``results.jsonl``.
      log: what is told on the way.
    """

    music: ArtistMusic
    base: ArtistTraining
    work: Path
    log: Callable[[str], None] = print

    def run(self, settings: Sequence[Setting]) -> list[dict[str, Any]]:
        """Train what is not there yet; the results of all settings, in their order."""
        self.work.mkdir(parents=True, exist_ok=True)
        known = known_results(self.work)
        left = [setting for setting in settings if self.key(setting) not in known]
        self.log(f"{len(settings)} networks, {len(settings) - len(left)} of them are there")
        if left:
            self.log(self.estimate(left))
        for i, setting in enumerate(left):
            self.log(f"{i + 1} of {len(left)}: {dataclasses.asdict(setting)}")
            row = self.one(setting)
            with (self.work / "results.jsonl").open("a") as sink:
                sink.write(json.dumps(row) + "\n")
            known[row["key"]] = row
        return [known[self.key(setting)] for setting in settings]

    def key(self, setting: Setting) -> str:
        """What tells the result of a setting from those of others, and of other music."""
        parts = [dataclasses.asdict(setting), dataclasses.asdict(self.base), self.music.identity()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def parts(self, fold: int) -> tuple[list[int], list[int], list[int]]:
        """Artists to learn from, to choose with, and to test with; no artist in two of them."""
        n = len(self.music.names)
        order = np.random.default_rng(self.base.seed).permutation(n)
        test = order[fold::FOLDS]
        others = np.setdiff1d(order, test)
        np.random.default_rng([self.base.seed, fold]).shuffle(others)
        few = max(2, round(CHOOSING_SHARE * n))
        return sorted(others[few:].tolist()), sorted(others[:few].tolist()), sorted(test.tolist())

    def chosen(self, setting: Setting) -> TrainingSet:
        """The segments that a network learns from."""
        rules = SetRules(setting.artists, setting.minutes, setting.shape)
        return training_set(self.music, self.parts(setting.fold)[0], rules, self.base.seed)

    def estimate(self, settings: Sequence[Setting]) -> str:
        """How long the networks will take at most, from the time of a few steps of each kind."""
        per_kind: dict[tuple[Any, ...], float] = {}
        total, kinds = 0.0, 0
        for setting in settings:
            try:
                chosen = self.chosen(setting)
            except HashbeamError:
                continue
            training = setting.training(self.base)
            rows = min(training.artists, chosen.n_artists) * training.samples
            kind = (setting.system, setting.dimensions, rows)
            if kind not in per_kind:
                per_kind[kind] = self._seconds(training, chosen, setting.fold)
            total += per_kind[kind]
            kinds += 1
        paces = ", ".join(
            f"{system} d={d} {seconds / self.base.steps:.2f} s a step"
            for (system, d, _), seconds in per_kind.items()
        )
        return f"{kinds} networks take {total / 3600:.1f} hours at most ({paces}, checks included)"

    def _seconds(self, training: ArtistTraining, chosen: TrainingSet, fold: int) -> float:
        """Of one network that takes all its steps, with its reports."""
        learn = artist_training.stepper(self.music, chosen, training)
        learn(0)
        started = time.monotonic()
        for step in range(TIMED_STEPS):
            learn(step + 1)
        a_step = (time.monotonic() - started) / TIMED_STEPS
        network = artist_training.new_network(training, self.music, chosen.n_artists).eval()
        tracks = self._tracks(self.parts(fold)[1])
        started = time.monotonic()
        artist_training.check(network, self.music, tracks)
        a_check = time.monotonic() - started
        return training.steps * a_step + training.steps / training.every * a_check

    def one(self, setting: Setting) -> dict[str, Any]:
        """Train and test one network; a row of the results."""
        row: dict[str, Any] = {"key": self.key(setting), **dataclasses.asdict(setting)}
        try:
            chosen = self.chosen(setting)
        except HashbeamError as error:
            self.log(f"left out: {error}")
            return {**row, "left_out": str(error)}
        _, choosing, testing = self.parts(setting.fold)
        folder = self.work / row["key"]
        started = time.monotonic()
        trained = artist_training.train(
            self.music, chosen, choosing, setting.training(self.base), folder, self.log
        )
        seconds = time.monotonic() - started
        found = self._test(trained, choosing, testing, folder)
        row |= {
            "artists_trained": chosen.n_artists,
            "minutes_trained": round(
                len(chosen.places) * self.music.config.snippet_hop_s / 60.0, 2
            ),
            "steps": trained.history[-1]["step"],
            "best_step": min(trained.history, key=lambda report: report["eer"])["step"],
            "ended": trained.ended,
            "collapsed": trained.collapsed,
            "seconds": round(seconds, 1),  # since training last went on
            **{name: round(value, 4) for name, value in found.items()},
        }
        self.log(f"ARI {row['ari']:.3f}  AMI {row['ami']:.3f}  EER {row['eer']:.3f}")
        return row

    def _test(
        self, trained: TrainedArtists, choosing: list[int], testing: list[int], folder: Path
    ) -> dict[str, float]:
        """``cut``, and on the fold's artists ``ari``, ``ami``, ``eer``.

        Where genres are known, also the figures of names whose artists have one genre, at the same
        cut: ``ari_within`` and ``ami_within``.
        """
        sides = []
        for artists, names, stage in ((choosing, CHOOSING_NAMES, 8), (testing, TEST_NAMES, 9)):
            tracks = self._tracks(artists)
            embeddings = embed_tracks(trained.network, self.music, tracks)
            rng = self.base.seeds(stage)
            own = self.music.artists[tracks]
            sides.append((tracks, embeddings, own, Groups.draw(embeddings, own, names, rng)))
        # For whoever wants to judge them otherwise.
        write_checkpoint(
            {
                name: {"tracks": torch.from_numpy(side[0]), "embeddings": torch.from_numpy(side[1])}
                for name, side in zip(("choosing", "testing"), sides, strict=True)
            },
            folder / "embeddings.pt",
        )
        cut = sides[0][3].best_cut()
        _, embeddings, own, groups = sides[1]
        first, second = np.triu_indices(len(own), 1)
        likeness = (embeddings @ embeddings.T)[first, second]
        rate = equal_error_rate(likeness, own[first] == own[second])
        found = {"cut": cut, **groups.scores(cut), "eer": rate}
        if within := self._within_genres(embeddings, sides[1][0]):
            found |= {f"{name}_within": value for name, value in within.scores(cut).items()}
        return found

    def _within_genres(self, embeddings: Floats, tracks: Ints) -> Groups | None:
        """Names of artists of one genre each, as many of every genre that has two artists."""
        own, genres = self.music.artists[tracks], self.music.tags.genres[tracks]
        members = [np.flatnonzero(genres[:, genre]) for genre in range(genres.shape[1])]
        members = [rows for rows in members if len(np.unique(own[rows])) > 1]
        parts = [
            Groups.draw(
                embeddings[rows], own[rows], TEST_NAMES // len(members), self.base.seeds(10, i)
            )
            for i, rows in enumerate(members)
        ]
        if not parts:
            return None
        return Groups(
            [one for part in parts for one in part.truth],
            [one for part in parts for one in part.linkages],
        )

    def _tracks(self, artists: Sequence[int]) -> Ints:
        return np.flatnonzero(np.isin(self.music.artists, np.asarray(artists)))


def known_results(work: Path) -> dict[str, dict[str, Any]]:
    """What is there, by key; a line that was not written to its end is taken off the file."""
    path = work / "results.jsonl"
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    rows = [json.loads(line) for line in whole.splitlines()]
    return {row["key"]: row for row in rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a study from the command line: ``python -m hashing.training.artists.study``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    base, grid = ArtistTraining(), Grid()
    parser.add_argument("--catalog", type=Path, required=True, help="CSV with artist_id")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--segments", choices=LENGTHS, default="9s", help="length of a segment")
    parser.add_argument("--systems", nargs="+", choices=get_args(System), default=grid.systems)
    parser.add_argument("--artists", nargs="+", type=int, default=grid.artists)
    parser.add_argument("--minutes", nargs="+", type=float, default=grid.minutes)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=grid.shapes)
    parser.add_argument("--dimensions", nargs="+", type=int, default=grid.dimensions)
    parser.add_argument("--probabilities", nargs="+", type=float, default=grid.probabilities)
    parser.add_argument("--folds", nargs="+", type=int, default=grid.folds, choices=range(FOLDS))
    parser.add_argument("--steps", type=int, default=base.steps, help="at most")
    parser.add_argument("--every", type=int, default=base.every, help="steps between checks")
    parser.add_argument("--patience", type=int, default=base.patience, help="checks without gain")
    parser.add_argument("--batch-artists", type=int, default=base.artists)
    parser.add_argument("--seed", type=int, default=base.seed)
    parser.add_argument("--estimate", action="store_true", help="only tell how long it would take")
    parser.add_argument("--table", action="store_true", help="only show all results of the folder")
    asked = parser.parse_args(arguments)
    if asked.table:
        print(study_table(known_results(asked.work).values()))
        return
    torch.set_num_threads(1)
    with asked.catalog.open(newline="", encoding="utf-8") as source:
        rows = [
            {**row, "uri": str(asked.catalog.parent / row["uri"])} for row in csv.DictReader(source)
        ]
    music = load_music(rows, asked.work / "levels", LENGTHS[asked.segments])
    names = [field.name for field in dataclasses.fields(Grid)]
    settings = Grid(**{name: tuple(getattr(asked, name)) for name in names}).settings()
    base = dataclasses.replace(
        base,
        steps=asked.steps,
        every=asked.every,
        patience=asked.patience,
        artists=asked.batch_artists,
        seed=asked.seed,
    )
    study = Study(music, base, asked.work, lambda line: print(line, flush=True))
    if asked.estimate:
        print(study.estimate(settings))
    else:
        print(study_table(study.run(settings)))


if __name__ == "__main__":
    main()
