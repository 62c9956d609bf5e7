"""How well the clusters agree with the true artists, where a column of the catalogue has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.clusters.scores import FIGURES, bootstrap_mean, score_clusters
from hashing.errors import CatalogError
from pipelines.disambiguation.group import Groups
from pipelines.disambiguation.judge import Judged

# Tracks of a group whose true artist is known, below which agreement has no meaning.
LEAST_KNOWN = 2


def read_truth(catalog: pa.Table, column: str, source: str) -> list[str]:
    """The true artist of each track, "" where it is not known.

    Raises: CatalogError where the column is missing, or empty from top to bottom.
    """
    if column not in catalog.column_names:
        raise CatalogError(
            f"{source}: --truth: column {column} is missing, found "
            f"{', '.join(catalog.column_names)}"
        )
    values = catalog[column].to_pylist()
    texts = [";".join(map(str, v)) if isinstance(v, list) else v for v in values]
    truth = ["" if text is None else str(text).strip() for text in texts]
    if not any(truth):
        raise CatalogError(f"{source}: --truth: column {column} is empty in every row")
    return truth


def measure(
    groups: Groups, judged: Judged, truth: Sequence[str], column: str
) -> tuple[dict[str, Any], dict[int, Mapping[str, float]]]:
    """The content of ``metrics.json``, and the figures of each group.

    Every group that was clustered counts once, with its tracks whose true artist is known; groups
    of several true artists and of one are told apart, since nothing but wholeness can be said of
    the latter. What was left alone is counted, not measured.
    """
    each: dict[int, Mapping[str, float]] = {}
    several: list[Mapping[str, float]] = []
    whole: list[bool] = []
    left_alone = unknown = 0
    for group, status in enumerate(judged.status):
        members = groups.members(group)
        known = [m for m in members if truth[int(groups.rows[m])] and judged.numbers[m]]
        if status not in ("clustered", "decided"):
            left_alone += 1
        elif len(known) < LEAST_KNOWN:
            unknown += 1
        else:
            artists = [truth[int(groups.rows[m])] for m in known]
            found = judged.numbers[known]
            each[group] = _figures(artists, found)
            if len(set(artists)) > 1:
                several.append(each[group])
            else:
                whole.append(len(set(found.tolist())) == 1)
    return {
        "truth": column,
        "tracks_with_truth": sum(map(bool, truth)),
        "tracks_without_truth": sum(not text for text in truth),
        "groups_left_alone": left_alone,
        "groups_without_truth": unknown,
        "groups_of_several_artists": len(several),
        "of_several_artists": {
            name: _mean([one[name] for one in several]) for name in FIGURES if several
        },
        "groups_of_one_artist": len(whole),
        "share_left_whole": _mean([float(one) for one in whole]),
    }, each


def _figures(artists: Sequence[str], found: npt.NDArray[np.int32]) -> dict[str, float]:
    scores = score_clusters(artists, found)
    return {name: float(getattr(scores, name)) for name in FIGURES}


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    """Mean over groups, with its bootstrap interval (95 %); nulls where there is no group."""
    mean, low, high = bootstrap_mean(values) if values else (None, None, None)
    return {"mean": mean, "low": low, "high": high}
