"""From the figures of each group to those that are told: means, intervals, curves, warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.artists.homonyms import KINDS, Group
from pipelines.evaluation.artists.clusters import Measured
from pipelines.evaluation.artists.compare import GroupBootstrap
from pipelines.evaluation.artists.groups import PUBLISHED
from pipelines.evaluation.artists.systems import System
from pipelines.evaluation.artists.trees import FIGURES

Ints = npt.NDArray[np.int64]

DIFFERENCES = ("ari", "ami", "v_measure", "pair_f1", "b_cubed_f1")

# Fewer artists than that, and one of them more or less moves a mean by its interval over groups.
_MANY_ARTISTS = 50

# Shares of the groups of several artists at which their ARI is told.
_SHARES = np.linspace(0.0, 1.0, 51)


def compare(measured: Sequence[Measured], groups: Sequence[Group]) -> dict[str, Any]:
    """Figures of each system and kind of group, and the differences between any two systems."""
    kind = np.array([group.kind for group in groups])
    rows: list[dict[str, Any]] = [
        {"name": one.name, **one.facts, "cuts": one.tuned, "groups": {}} for one in measured
    ]
    differences: dict[str, Any] = {}
    for name in KINDS:
        here = np.flatnonzero(kind == name)
        if not here.size:
            continue
        members = [groups[place].artists for place in here.tolist()]
        bootstrap = GroupBootstrap({one.name: one.figures[here] for one in measured}, members, 0)
        told = ("whole", "clusters") if name == "single" else FIGURES
        for row, one in zip(rows, measured, strict=True):
            row["groups"][name] = {
                **{figure: bootstrap.figure(one.name, figure) for figure in told},
                **_orientation(one, here, told),
                "by_seed": _by_seed(one, groups, here, told),
            }
        differences[name] = bootstrap.differences(("whole",) if name == "single" else DIFFERENCES)
    for row, one in zip(rows, measured, strict=True):
        row["curve"] = _curve(one, kind) if one.table is not None else None
        sorted_ari = np.quantile(one.figures[kind == "mixed", FIGURES.index("ari")], _SHARES)
        row["ari_quantiles"] = sorted_ari.round(4).tolist()
    return {"systems": rows, "differences": differences}


def _orientation(one: Measured, here: Ints, told: Sequence[str]) -> dict[str, Any]:
    """Means at other cuts than the tuned one; what no user could know is an oracle's."""
    found = {}
    for name in ("own_cut", "best_cut", "best_number"):
        values = getattr(one, name)
        if values is not None:
            means = values[here].mean(axis=0)
            found[name] = {f: round(float(means[FIGURES.index(f)]), 4) for f in told}
    return found


def _by_seed(
    one: Measured, groups: Sequence[Group], here: Ints, told: Sequence[str]
) -> dict[str, dict[str, float]]:
    seeds = np.array([groups[place].seed for place in here.tolist()])
    return {
        str(seed): {
            f: round(float(one.figures[here[seeds == seed], FIGURES.index(f)].mean()), 4)
            for f in told
            if f in ("ari", "ami", "whole")
        }
        for seed in np.unique(seeds)
    }


def _curve(one: Measured, kind: npt.NDArray[Any]) -> list[dict[str, float]]:
    """Means over all groups at every cut: how much hangs on the right one."""
    assert one.table is not None
    mixed, single = np.flatnonzero(kind == "mixed"), np.flatnonzero(kind == "single")
    columns = {
        name: one.table.column(name)[mixed].mean(axis=0)
        for name in ("ari", "ami", "pair_precision", "pair_recall", "clusters")
    }
    columns["whole"] = one.table.column("whole")[single].mean(axis=0)
    return [
        {"cut": round(float(cut), 4), **{n: round(float(c[at]), 4) for n, c in columns.items()}}
        for at, cut in enumerate(one.table.cuts)
    ]


def warnings_of(figures: dict[str, Any], systems: Sequence[System]) -> Iterator[str]:
    """What should keep a reader from believing too much."""
    cleaned, found = figures["cleaned"], figures["statistics"]["mixed"]
    if cleaned["tracks_without_label"]:
        gaps, column = cleaned["tracks_without_label"], figures["labels"]
        yield f"{gaps} tracks have no {column} and count nowhere"
    lost = sum(figures["failed"].values())
    if lost:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(figures["failed"].items()))
        yield f"{lost} tracks could not be heard and count nowhere: {kinds} (failures/)"
    for system in systems:
        known = system.facts.get("known_artists", [])
        if known:
            yield (
                f"{system.name} was trained with tracks of {len(known)} of these "
                f"{figures['artists']} artists: its figures say little about others"
            )
    median = found["tracks_per_artist"]["median"]
    if median < PUBLISHED["tracks_per_artist"]["median"] / 2:
        yield (
            f"artists have {median:g} tracks in these groups (median), the published ones "
            f"{PUBLISHED['tracks_per_artist']['median']}: the catalogue has no more"
        )
    if figures["artists"] < _MANY_ARTISTS:
        yield (
            f"there are {figures['artists']} artists: what other artists would give is uncertain, "
            "see the intervals over artists"
        )
