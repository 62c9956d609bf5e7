"""The results of a study as a table, with what was published beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hashing.artists.published import BALANCED, SHAPED, SIDE_INFORMATION

_SETTING = ("system", "shape", "artists", "minutes", "dimensions", "probability")
_FIGURES = ("ari", "ami", "ari_within", "eer")


def study_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """A Markdown table: means over folds ± standard error, a row for each setting.

    ``in genre`` is the ARI of names whose artists are of one genre; ``paper`` has its ARI and AMI.

    Args:
      rows: of ``results.jsonl``. Settings that were left out have none.

    >>> row = {"system": "metric", "shape": "balanced", "artists": 25, "minutes": 4.0}
    >>> row |= {"dimensions": 32, "probability": 0.0, "fold": 0, "ari": 0.5, "ami": 0.4}
    >>> print(study_table([{**row, "eer": 0.1}, {**row, "eer": 0.3, "fold": 1}]))
    | system | shape | artists | minutes | d | p | folds | ARI | AMI | in genre | EER | paper |
    |---|---|---|---|---|---|---|---|---|---|---|---|
    | metric | balanced | 25 | 4 | 32 | 0 | 2 | .500±.000 | .400±.000 | | .200±.100 | .447/.422 |
    """
    settings: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if "ari" in row:
            settings[tuple(row[name] for name in _SETTING)].append(row)
    head = ("system", "shape", "artists", "minutes", "d", "p", "folds", "ARI", "AMI")
    lines = [[*head, "in genre", "EER", "paper"]]
    order = sorted(settings, key=lambda one: (one[1], one[5], one[2], one[3], one[0], one[4]))
    for setting in order:
        folds = settings[setting]
        system, shape, artists, minutes, dimensions, probability = setting
        artists = artists or folds[0].get("artists_trained", "all")
        told = [system, shape, artists, f"{minutes:g}", dimensions, f"{probability:g}", len(folds)]
        figures = [_mean([row[name] for row in folds if name in row]) for name in _FIGURES]
        lines.append([str(one) for one in told] + figures + [_published(*setting)])
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([text[0], "|---" * len(lines[0]) + "|", *text[1:]]).replace("|  |", "| |")


def _mean(values: list[float]) -> str:
    if not values:
        return ""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{_short(float(np.mean(values)))}±{_short(float(error))}"


def _published(
    system: str, shape: str, artists: int, minutes: float, dimensions: int, probability: float
) -> str:
    del minutes, dimensions
    if probability:
        found = SIDE_INFORMATION.get(probability)
    elif shape == "balanced":
        found = BALANCED.get((system, artists))
    else:
        found = SHAPED.get((system, shape))
    return "/".join(map(_short, found)) if found else ""


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)
