"""Whether a track is known for its artist's: equal error rate, and the nearest artist.

As Royo-Letelier et al. (ISMIR 2018) and Park et al. (ISMIR 2018) measure it: an artist is the mean
of the embeddings of 15 tracks, and 5 others are compared with all artists. Of artists with fewer
tracks, a quarter is compared.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.clusters.scores import equal_error_rate
from hashing.metrics import draws, interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MODEL_TRACKS, TEST_TRACKS = 15, 5
PUBLISHED = {"artists": 467, "best_eer": 0.160, "best_accuracy": 0.186}

# Bootstrap samples of the two figures, artists drawn anew: each costs a pass over all pairs, and
# the ends of an interval then stand on ten samples each.
_RESAMPLES = 400

# Pairs of two artists that bootstrap samples are made of, at most: a share of a hundred thousand
# is certain to a thousandth, and there are far fewer pairs of one artist.
_MOST_PAIRS = 100_000


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """Tracks that make artists, and tracks that are compared with them.

    Attributes:
        models, tests: rows of the tracks, int64.
        model_artist, test_artist: whose they are.
    """

    models: Ints
    model_artist: Ints
    tests: Ints
    test_artist: Ints


def draw_trial(artist: Ints, members: Ints, seed: int) -> Trial:
    """Tracks of the artists `members`, 15 and 5 of each, or three quarters and one.

    >>> trial = draw_trial(np.array([0] * 30 + [1] * 8), np.array([0, 1]), 1)
    >>> np.bincount(trial.model_artist).tolist(), np.bincount(trial.test_artist).tolist()
    ([15, 6], [5, 2])
    """
    rng = np.random.default_rng([seed, 0x1D])
    models, tests = [], []
    for number in members.tolist():
        rows = rng.permutation(np.flatnonzero(artist == number))[: MODEL_TRACKS + TEST_TRACKS]
        n = max(1, len(rows) * TEST_TRACKS // (MODEL_TRACKS + TEST_TRACKS))
        tests.append(rows[:n])
        models.append(rows[n:])
    model, test = np.concatenate(models), np.concatenate(tests)
    return Trial(model, artist[model], test, artist[test])


def identity(
    embeddings: Mapping[str, npt.NDArray[np.float32]], trials: list[list[Trial]], seed: int
) -> dict[str, Any]:
    """Equal error rate and accuracy of each system, with 95 % intervals over artists.

    Args:
        embeddings: of all tracks, by system.
        trials: by seed, and by set of artists that are compared with each other: all of them at
            once, or those of each fold.

    Returns:
        ``systems`` and ``differences``, and how many artists and tracks there were.
    """
    rows, samples = [], {}
    for name, values in embeddings.items():
        means, drawn = [], []
        for parts in trials:
            compared = [_compare(values.astype(np.float64), one) for one in parts]
            means.append(_figures(compared))
            rng = np.random.default_rng([seed, 0xEE])
            drawn.append(_resampled(compared, rng))
        found = np.mean(means, axis=0)
        samples[name] = np.mean(drawn, axis=0)
        rows.append({"name": name, **_told(found, samples[name])})
    measured = {
        row["name"]: np.array([row["eer"]["mean"], row["accuracy"]["mean"]]) for row in rows
    }
    differences = [
        {"one": a, "other": b, **_told(measured[a] - measured[b], samples[a] - samples[b])}
        for a, b in itertools.combinations(embeddings, 2)
    ]
    first = trials[0]
    return {
        "artists": sum(len(np.unique(one.model_artist)) for one in first),
        "compared_with": max(len(np.unique(one.model_artist)) for one in first),
        "sets": len(first),
        "model_tracks": float(np.median(np.concatenate([_counts(o.model_artist) for o in first]))),
        "tests": sum(one.tests.size for one in first),
        "chance": float(np.mean([1.0 / len(np.unique(one.model_artist)) for one in first])),
        "systems": rows,
        "differences": differences,
    }


@dataclasses.dataclass(frozen=True, eq=False)
class _Compared:
    """Distances of tests to artists, as pairs by rising distance, and which tests were right."""

    same: npt.NDArray[np.bool_]
    test: Ints
    model: Ints
    scores: Floats
    right: npt.NDArray[np.bool_]
    test_artist: Ints
    artists: int


def _compare(values: Floats, trial: Trial) -> _Compared:
    artists, model = np.unique(trial.model_artist, return_inverse=True)
    test = np.searchsorted(artists, trial.test_artist)
    centres = np.zeros((len(artists), values.shape[1]))
    np.add.at(centres, model, values[trial.models])
    centres /= np.bincount(model)[:, None]
    norms = np.linalg.norm(values[trial.models], axis=1)
    if np.allclose(norms, 1.0, atol=1e-3):  # the mean of points on a sphere belongs there, too
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    tests = values[trial.tests]
    squares = (tests**2).sum(1)[:, None] - 2 * tests @ centres.T + (centres**2).sum(1)
    distances = np.sqrt(np.maximum(squares, 0.0))
    pairs_test, pairs_model = (one.ravel() for one in np.indices(distances.shape))
    order = np.argsort(distances.ravel(), kind="stable")
    return _Compared(
        same=(test[pairs_test] == pairs_model)[order],
        test=test[pairs_test][order],
        model=pairs_model[order],
        scores=-distances.ravel()[order],
        right=np.argmin(distances, axis=1) == test,
        test_artist=test,
        artists=len(artists),
    )


def _figures(compared: list[_Compared]) -> Floats:
    """Equal error rate over all pairs, and the share of tests that are right."""
    scores = np.concatenate([one.scores for one in compared])
    same = np.concatenate([one.same for one in compared])
    right = np.concatenate([one.right for one in compared])
    return np.array([equal_error_rate(scores, same), right.mean()])


def _resampled(compared: list[_Compared], rng: np.random.Generator) -> Floats:
    """Both figures of bootstrap samples, [samples, 2]."""
    scores = np.concatenate([one.scores for one in compared])
    order = np.argsort(-scores, kind="stable")
    same = np.concatenate([one.same for one in compared])[order]
    # Artists of one set after those of another.
    before = np.cumsum([0, *(one.artists for one in compared)])
    test = np.concatenate([one.test + at for one, at in zip(compared, before, strict=False)])[order]
    model = np.concatenate([one.model + at for one, at in zip(compared, before, strict=False)])
    model = model[order]
    of_test = np.concatenate(
        [one.test_artist + at for one, at in zip(compared, before, strict=False)]
    )
    right = np.concatenate([one.right for one in compared])
    others = np.flatnonzero(~same)
    if others.size > _MOST_PAIRS:
        some = np.zeros(same.size, bool)
        some[rng.choice(others, _MOST_PAIRS, replace=False)] = True
        same, test, model = (one[some | same] for one in (same, test, model))
    found = []
    for counts in draws(int(before[-1]), rng, _RESAMPLES):
        for count in counts:
            # An artist who was drawn twice is not taken for another.
            weights = np.where(same, count[test], count[test] * count[model])
            asked = count[of_test]
            found.append([_weighted_eer(same, weights), right @ asked / asked.sum()])
    return np.array(found)


def _weighted_eer(same: npt.NDArray[np.bool_], weights: Ints) -> float:
    """Equal error rate of pairs by falling score, each with a weight; ties as they come.

    >>> _weighted_eer(np.array([True, False, True, False]), np.array([1, 1, 1, 1]))
    0.5
    """
    right, wrong = np.cumsum(weights * same), np.cumsum(weights * ~same)
    if not (right[-1] and wrong[-1]):
        return 0.5  # a sample of one artist says nothing
    refused, accepted = 1.0 - right / right[-1], wrong / wrong[-1]
    at = int(np.argmax(accepted >= refused))
    return float((accepted[at] + refused[at]) / 2)


def _told(found: Floats, samples: Floats) -> dict[str, Any]:
    return {
        name: {
            "mean": round(float(found[place]), 4),
            "artists": [round(end, 4) for end in interval(samples[:, place])],
        }
        for place, name in enumerate(("eer", "accuracy"))
    }


def _counts(values: Ints) -> Ints:
    return np.unique(values, return_counts=True)[1]
