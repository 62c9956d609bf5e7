"""Every system on every group: clusters at the tuned cut, and at others for orientation."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.artists.homonyms import Group
from hashing.clusters.links import Link
from hashing.errors import UsageError
from pipelines.evaluation.artists.material import Material
from pipelines.evaluation.artists.mfcc import NAME as MFCC
from pipelines.evaluation.artists.options import ArtistOptions
from pipelines.evaluation.artists.reliability import reliability
from pipelines.evaluation.artists.systems import System
from pipelines.evaluation.artists.trees import (
    Table,
    album_links,
    label_figures,
    make_table,
    tune,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Comparators that are no embeddings, as they are called in figures.
_SPOKEN = {
    "albums": "albums alone",
    "one": "one cluster",
    "each": "each track alone",
    "random": "random",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """A system's figures: of each group [groups, len(FIGURES)], and the cuts [groups] they are at.

    `own_cut` are those at the model's own cut, `best_cut` at the best one of each group,
    `best_number` at the true number of artists; `table` has all cuts. None where there is no such
    thing.
    """

    name: str
    figures: Floats
    cuts: Floats | None = None
    own_cut: Floats | None = None
    best_cut: Floats | None = None
    best_number: Floats | None = None
    table: Table | None = None
    tuned: dict[str, float] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def measure_systems(
    systems: Sequence[System], groups: Sequence[Group], material: Material, options: ArtistOptions
) -> list[Measured]:
    """Every system on every group; models with an album column also with albums kept together."""
    artists_of: dict[str, set[int]] = defaultdict(set)
    for album, artist in zip(material.albums, material.artist.tolist(), strict=True):
        artists_of[album].add(artist)
    links = [album_links(group, material.albums, artists_of) for group in groups]
    found = []
    for system in systems:
        cuts = own_cuts(system, groups, material)
        found.append(_of_system(system, system.name, groups, (), cuts, options))
        if any(links) and system.name != MFCC:
            name = f"{system.name} + albums"
            found.append(_of_system(system, name, groups, links, cuts, options))
    for name in _SPOKEN:
        if name not in options.comparators or (name == "albums" and not any(material.albums)):
            continue
        rows = [label_figures(group, _labels(name, group, material.albums)) for group in groups]
        found.append(Measured(_SPOKEN[name], np.array(rows)))
    if not found:
        raise UsageError("there is nothing to compare: name a --model or --comparators")
    return found


def _labels(name: str, group: Group, albums: Sequence[str]) -> Ints:
    n = len(group.rows)
    if name == "one":
        return np.zeros(n, np.int64)
    if name == "each":
        return np.arange(n)
    if name == "random":
        rng = np.random.default_rng([group.seed, 0x4A, *group.rows.tolist()])
        return rng.integers(0, len(group.artists), n)
    keys = [albums[row] or f"\0{row}" for row in group.rows.tolist()]
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


def _of_system(
    system: System,
    name: str,
    groups: Sequence[Group],
    links: Sequence[Sequence[Link]],
    cuts: Sequence[float],
    options: ArtistOptions,
) -> Measured:
    table = make_table(system.embeddings, groups, links, cuts)
    chosen, tuned = tune_by_fold(table, groups, options.least_whole)
    best = np.argmax(table.column("ami"), axis=1)
    sure = reliability(groups, table, chosen)
    return Measured(
        name,
        table.at(chosen),
        table.cuts[chosen],
        table.own_cut,
        table.at(best),
        table.best_number,
        table,
        tuned,
        {
            **system.facts,
            "own_cut": float(np.mean(cuts)) if cuts else None,
            "confidence": sure,
        },
    )


def own_cuts(system: System, groups: Sequence[Group], material: Material) -> list[float]:
    """The cut that a group's model came with, of each group; none where there is no such cut.

    The models of folds say theirs in the fact ``fold_cuts``, by fold.
    """
    if system.cut is not None:
        return [system.cut] * len(groups)
    of_fold: dict[str, float] = system.facts.get("fold_cuts", {})
    names = sorted(set(material.folds))
    if not of_fold or set(names) - set(of_fold):
        return []
    return [of_fold[names[group.fold]] for group in groups]


def tune_by_fold(
    table: Table, groups: Sequence[Group], least_whole: float = 0.0
) -> tuple[Ints, dict[str, float]]:
    """The cut of each group, tuned on the other folds of its seed; and the cuts by seed and fold.

    Returns:
        Numbers of cuts [groups], and "seed 1 fold 0" → cut.
    """
    seed = np.array([group.seed for group in groups])
    fold = np.array([group.fold for group in groups])
    kind = np.array([group.kind for group in groups])
    chosen = np.zeros(len(groups), np.int64)
    tuned = {}
    for one, other in sorted(set(zip(seed.tolist(), fold.tolist(), strict=True))):
        development = (seed == one) & (fold != other)
        mixed = np.flatnonzero(development & (kind == "mixed"))
        single = np.flatnonzero(development & (kind == "single"))
        at = tune(table, mixed, single, least_whole)
        chosen[(seed == one) & (fold == other)] = at
        tuned[f"seed {one} fold {other}"] = round(float(table.cuts[at]), 4)
    return chosen, tuned
