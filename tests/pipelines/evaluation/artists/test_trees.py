"""Trees and cuts: answers that a person can check, and no artist on both sides of a tuned cut."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from artist_points import groups_of, music
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from hashing.artists.cuts import STEP
from hashing.artists.homonyms import Group
from hashing.clusters.ward import ward
from pipelines.evaluation.artists.clusters import own_cuts, tune_by_fold
from pipelines.evaluation.artists.material import Material
from pipelines.evaluation.artists.systems import System
from pipelines.evaluation.artists.trees import FIGURES, Table, album_links, make_table, tune

ARI, AMI = FIGURES.index("ari"), FIGURES.index("ami")


def of_kind(groups: list[Group], kind: str) -> np.ndarray:
    return np.flatnonzero([group.kind == kind for group in groups])


def test_artists_far_apart_are_found_and_single_ones_left_whole() -> None:
    embeddings, artist = music(20, 25, apart=8.0)
    groups = groups_of(artist)
    table = make_table(embeddings, groups)
    chosen, _ = tune_by_fold(table, groups)
    found = table.at(chosen)
    mixed, single = of_kind(groups, "mixed"), of_kind(groups, "single")
    assert (found[mixed, ARI] == 1.0).all()
    assert (found[mixed, AMI] == 1.0).all()
    assert (found[single, FIGURES.index("whole")] == 1.0).all()
    wanted = [len(group.artists) for group in groups]
    assert found[:, FIGURES.index("clusters")].tolist() == wanted
    assert (table.best_number[mixed, ARI] == 1.0).all()


def test_figures_at_a_cut_are_those_of_ward_and_of_scikit_learn() -> None:
    embeddings, artist = music(8, 12, apart=0.5)
    groups = groups_of(artist, count=8)
    table = make_table(embeddings, groups, own_cuts=[1.7] * len(groups))
    place = len(table.cuts) // 2
    assert table.own_cut is not None
    for number, group in enumerate(groups):
        labels = ward(embeddings[group.rows], float(table.cuts[place])).labels
        row = table.figures[number, place]
        assert row[ARI] == pytest.approx(adjusted_rand_score(group.truth, labels))
        assert row[AMI] == pytest.approx(adjusted_mutual_info_score(group.truth, labels))
        assert row[-1] == labels.max()
        own = ward(embeddings[group.rows], 1.7).labels
        assert table.own_cut[number, ARI] == pytest.approx(adjusted_rand_score(group.truth, own))


def test_every_group_is_also_cut_as_the_model_of_its_fold_says() -> None:
    embeddings, artist = music(8, 6, apart=0.5)
    groups = groups_of(artist, count=8)
    fold = {one: group.fold for group in groups for one in group.artists}
    names = [f"part {fold[one]}" for one in range(8)]
    empty = [""] * len(artist)
    material = Material(empty, empty, artist, names, [""] * 8, names)
    own = {f"part {number}": 0.5 + number for number in range(4)}
    system = System("a", embeddings, np.ones(len(artist), bool), by_fold=True)
    assert own_cuts(system, groups, material) == []
    system.facts["fold_cuts"] = own
    cuts = own_cuts(system, groups, material)
    assert cuts == [0.5 + group.fold for group in groups]
    assert own_cuts(dataclasses.replace(system, cut=2.0), groups, material) == [2.0] * len(groups)
    table = make_table(embeddings, groups, own_cuts=cuts)
    assert table.own_cut is not None
    for row, group, cut in zip(table.own_cut, groups, cuts, strict=True):
        assert row[-1] == ward(embeddings[group.rows], cut).n_clusters


def test_embeddings_that_say_nothing_score_nothing() -> None:
    embeddings, artist = music(20, 20, apart=0.0)
    groups = groups_of(artist)
    table = make_table(embeddings, groups)
    chosen, _ = tune_by_fold(table, groups)
    assert abs(table.at(chosen)[of_kind(groups, "mixed"), ARI].mean()) < 0.05


def test_a_cut_never_sees_the_artists_that_it_is_measured_on() -> None:
    embeddings, artist = music(24, 15, apart=0.5)
    groups = groups_of(artist)
    _, before = tune_by_fold(make_table(embeddings, groups), groups)
    artists_of = {
        fold: {one for group in groups if group.fold == fold for one in group.artists}
        for fold in range(4)
    }
    assert not set.intersection(*artists_of.values())
    assert sum(map(len, artists_of.values())) == 24
    rng = np.random.default_rng(3)
    # Whatever is claimed of the artists of fold 0, its own cut stays; the others' may not.
    lied = [
        dataclasses.replace(group, truth=rng.permutation(group.truth)) if group.fold == 0 else group
        for group in groups
    ]
    _, after = tune_by_fold(make_table(embeddings, lied), lied)
    assert after["seed 1 fold 0"] == before["seed 1 fold 0"]
    louder = embeddings.copy()
    louder[np.isin(artist, list(artists_of[0]))] *= 1.5
    _, moved = tune_by_fold(make_table(louder, groups), groups)
    assert moved["seed 1 fold 0"] == before["seed 1 fold 0"]
    # And the test can fail: the truth of other folds decides.
    lied = [
        dataclasses.replace(group, truth=rng.permutation(group.truth)) if group.fold else group
        for group in groups
    ]
    _, other = tune_by_fold(make_table(embeddings, lied), lied)
    assert other["seed 1 fold 0"] != before["seed 1 fold 0"]


def table_of(ami: list[list[float]], whole: list[float]) -> Table:
    """Groups by AMI at four cuts; the last is of one artist, whole or not."""
    figures = np.zeros((len(ami) + 1, 4, len(FIGURES)))
    figures[:-1, :, AMI] = ami
    figures[-1, :, FIGURES.index("whole")] = whole
    return Table(STEP ** np.arange(4), figures, figures[:, 0])


def test_the_cut_has_the_best_mean_or_the_middle_of_the_best() -> None:
    table = table_of([[0.0, 0.9, 0.2, 0.1], [0.0, 0.1, 0.7, 0.1]], [0.0, 0.0, 0.0, 1.0])
    mixed, single = np.array([0, 1]), np.array([2])
    assert tune(table, mixed, single) == 1
    assert tune(table, np.array([1]), single) == 2
    assert tune(table_of([[0.1, 0.5, 0.5, 0.5]], [0.0] * 4), np.array([0]), np.array([1])) == 2


def test_names_of_one_artist_may_be_given_a_say() -> None:
    table = table_of([[0.0, 0.9, 0.2, 0.1]], [0.0, 0.0, 1.0, 1.0])
    mixed, single = np.array([0]), np.array([1])
    assert tune(table, mixed, single, 0.0) == 1
    assert tune(table, mixed, single, 0.8) == 2
    never = table_of([[0.0, 0.9, 0.2, 0.1]], [0.0, 0.0, 0.0, 0.0])
    assert tune(never, mixed, single, 0.8) == 1  # what no cut can give is not asked for


def test_albums_tie_tracks_but_compilations_do_not() -> None:
    rows = np.arange(6)
    group = Group("mixed", 1, 0, (0, 1), rows, np.array([0, 0, 0, 1, 1, 1]))
    albums = ["a", "a", "hits", "hits", "sampler", "", "sampler"]
    artists_of = {"a": {0}, "hits": {0, 1}, "sampler": {1, 2}, "": {1}}
    # Both call an album "hits": under one name nobody could tell.
    assert album_links(group, albums, artists_of) == [(0, 1), (2, 3)]


def test_equal_embeddings_have_one_cut() -> None:
    groups = groups_of(np.repeat(np.arange(8), 4), count=4)
    table = make_table(np.ones((32, 3), np.float32), groups)
    assert (table.column("clusters") == 1).all()
