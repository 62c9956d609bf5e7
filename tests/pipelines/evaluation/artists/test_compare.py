"""Intervals over groups and over artists, and who is who: by hand and by theory."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.evaluation.artists.compare import GroupBootstrap
from pipelines.evaluation.artists.identity import Trial, draw_trial, identity
from pipelines.evaluation.artists.trees import FIGURES


def figures(ari: np.ndarray) -> np.ndarray:
    return np.repeat(ari[:, None], len(FIGURES), axis=1).astype(np.float64)


def test_over_groups_the_interval_is_that_of_a_mean() -> None:
    values = np.random.default_rng(0).standard_normal(100)
    artists = [(2 * n, 2 * n + 1) for n in range(100)]
    found = GroupBootstrap({"a": figures(values)}, artists, 1).figure("a", "ari")
    half = 1.96 * values.std() / 10
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-4)
    assert found["groups"] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.03)


def test_groups_of_the_same_artists_are_no_independent_witnesses() -> None:
    """Ten artists, each good or bad in all of its groups: far wider over artists than groups."""
    rng = np.random.default_rng(1)
    good = np.repeat([0.0, 1.0], 5)
    artists = [tuple(rng.choice(10, 2, replace=False).tolist()) for _ in range(400)]
    values = np.array([good[list(one)].mean() for one in artists])
    found = GroupBootstrap({"a": figures(values)}, artists, 1, 2000).figure("a", "ari")
    over = {name: found[name][1] - found[name][0] for name in ("groups", "artists")}
    # A mean of ten artists has a deviation of 0.5 / √10; an interval is four of them wide.
    assert over["artists"] == pytest.approx(4 * 0.5 / np.sqrt(10), rel=0.25)
    assert over["groups"] < over["artists"] / 4


def test_names_of_one_artist_are_drawn_as_artists() -> None:
    values = np.repeat([0.0, 1.0], 50)
    artists = [(n,) for n in range(100)]
    found = GroupBootstrap({"a": figures(values)}, artists, 1, 5000).figure("a", "whole")
    assert found["groups"] == pytest.approx(found["artists"], abs=0.02)


def test_differences_are_paired_and_seeds_decide() -> None:
    rng = np.random.default_rng(2)
    worse = rng.uniform(size=50)
    artists = [(n, n + 1) for n in range(50)]
    systems = {"better": figures(worse + 0.1), "worse": figures(worse)}
    one = GroupBootstrap(systems, artists, 1, 500)
    row = one.differences(["ari"])[0]
    assert (row["one"], row["other"]) == ("better", "worse")
    assert row["ari"]["mean"] == pytest.approx(0.1)
    assert row["ari"]["groups"] == pytest.approx([0.1, 0.1])  # what both find hard is no doubt
    assert row["ari"]["artists"] == pytest.approx([0.1, 0.1])
    again, other = (GroupBootstrap(systems, artists, seed, 500) for seed in (1, 2))
    assert one.figure("worse", "ari") == again.figure("worse", "ari")
    assert one.figure("worse", "ari") != other.figure("worse", "ari")


def test_a_trial_never_compares_a_track_with_itself() -> None:
    artist = np.repeat(np.arange(4), [3, 4, 20, 60])
    trial = draw_trial(artist, np.arange(4), 1)
    assert not set(trial.models.tolist()) & set(trial.tests.tolist())
    assert np.bincount(trial.model_artist).tolist() == [2, 3, 15, 15]
    assert np.bincount(trial.test_artist).tolist() == [1, 1, 5, 5]
    assert (artist[trial.models] == trial.model_artist).all()


def test_perfect_and_worthless_embeddings_are_told_apart() -> None:
    rng = np.random.default_rng(3)
    artist = np.repeat(np.arange(12), 20)
    perfect = np.eye(12, dtype=np.float32)[artist]
    noise = rng.standard_normal((240, 6)).astype(np.float32)
    trials = [[draw_trial(artist, np.arange(12), seed)] for seed in (1, 2)]
    found = identity({"perfect": perfect, "noise": noise}, trials, 1)
    rows = {row["name"]: row for row in found["systems"]}
    assert rows["perfect"]["eer"] == {"mean": 0.0, "artists": [0.0, 0.0]}
    assert rows["perfect"]["accuracy"] == {"mean": 1.0, "artists": [1.0, 1.0]}
    assert rows["noise"]["eer"]["mean"] == pytest.approx(0.5, abs=0.1)
    assert rows["noise"]["accuracy"]["mean"] < 0.3
    low, high = rows["noise"]["eer"]["artists"]
    assert low < rows["noise"]["eer"]["mean"] < high
    assert found["differences"][0]["eer"]["artists"][1] < 0.0
    assert found["chance"] == pytest.approx(1 / 12)
    assert found["tests"] == 60


def test_artists_of_different_folds_are_not_compared_where_models_differ() -> None:
    """Two folds in one place: all of them at once would take each for its neighbour."""
    artist = np.repeat(np.arange(4), 8)
    embeddings = np.eye(2, dtype=np.float32)[artist % 2]
    together = [[draw_trial(artist, np.arange(4), 1)]]
    apart: list[list[Trial]] = [[draw_trial(artist, np.array(two), 1) for two in ([0, 1], [2, 3])]]
    within = identity({"a": embeddings}, apart, 1)
    assert within["systems"][0]["accuracy"]["mean"] == 1.0
    assert within["compared_with"] == 2
    assert identity({"a": embeddings}, together, 1)["systems"][0]["accuracy"]["mean"] == 0.5
