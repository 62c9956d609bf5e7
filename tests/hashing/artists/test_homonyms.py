"""Groups that artists share: folds are never mixed, sizes are like the published ones."""

from __future__ import annotations

from collections import Counter

import numpy as np

from hashing.artists.homonyms import (
    SHARED_BY,
    Group,
    deal_folds,
    draw_groups,
    draw_sizes,
    groups_of,
)


def draw(
    tracks: int, artists: int, genres: list[str] | None = None, count: int = 122, seed: int = 1
) -> tuple[list[Group], np.ndarray, np.ndarray]:
    """Groups, folds of the artists, and the artist of each track."""
    genres = genres or [""] * artists
    artist = np.repeat(np.arange(artists), tracks)
    fold = deal_folds(genres, 5, np.random.default_rng(seed))
    return list(draw_groups(artist, genres, fold, count, seed)), fold, artist


def test_every_artist_of_a_group_is_of_its_fold_and_every_track_of_its_artist() -> None:
    groups, fold, artist = draw(30, 60, [f"g{n % 5}" for n in range(60)])
    assert {group.kind for group in groups} == {"mixed", "within", "across", "single"}
    for group in groups:
        assert set(fold[list(group.artists)]) == {group.fold}
        assert (artist[group.rows] == group.truth).all()
        assert len(set(group.rows.tolist())) == len(group.rows)
        assert set(group.truth.tolist()) == set(group.artists)


def test_artists_take_turns() -> None:
    groups, _, _ = draw(20, 40, count=200)
    used = Counter(one for group in groups if group.kind == "mixed" for one in group.artists)
    assert len(used) == 40
    assert max(used.values()) <= 3 * min(used.values())


def test_genres_are_one_within_and_all_different_across() -> None:
    genres = ["rock"] * 20 + ["pop"] * 20 + [""] * 10
    groups, _, _ = draw(10, 50, genres)
    for group in groups:
        theirs = [genres[one] for one in group.artists]
        if group.kind == "within":
            assert len(set(theirs)) == 1
            assert theirs[0]
        if group.kind == "across":
            assert len(set(theirs)) == len(theirs)
            assert all(theirs)
    plain, _, _ = draw(10, 50)
    assert {group.kind for group in plain} == {"mixed", "single"}


def test_every_artist_is_once_a_name_of_its_own() -> None:
    groups, _, _ = draw(10, 30)
    single = [group.artists for group in groups if group.kind == "single"]
    assert sorted(single) == [(number,) for number in range(30)]


def test_seeds_decide_everything() -> None:
    first, again, other = (draw(20, 30, seed=seed)[0] for seed in (1, 1, 2))
    assert [group.rows.tolist() for group in first] == [group.rows.tolist() for group in again]
    assert [group.artists for group in first] != [group.artists for group in other]


def test_few_artists_still_make_pairs() -> None:
    artist = np.repeat([0, 1, 2, 3], 5)
    groups = list(draw_groups(artist, [""] * 4, np.array([0, 0, 1, 1]), 10, 1))
    mixed = [group for group in groups if group.kind == "mixed"]
    assert len(mixed) == 10
    assert {group.artists for group in mixed} == {(0, 1), (2, 3)}


def test_names_of_two_to_four_artists_as_often_as_in_the_paper() -> None:
    sizes = np.bincount(draw_sizes(20_000, 4, np.random.default_rng(1)), minlength=5) / 20_000
    np.testing.assert_allclose(sizes[2:], np.array(list(SHARED_BY.values())) / 122, atol=0.02)
    assert sizes[:2].tolist() == [0, 0]
    assert draw_sizes(50, 2, np.random.default_rng(1)).tolist() == [2] * 50


def test_groups_of_some_artists_have_their_rows_and_no_others() -> None:
    artists = {"b": np.array([40, 7, 9]), "a": np.array([1, 2, 3, 4]), "c": np.array([50, 60])}
    of = {1: artists["b"], 0: artists["a"], 2: artists["c"]}  # numbers by name
    groups = groups_of(artists, 12, 5)
    assert [group.kind for group in groups] == ["mixed"] * 12 + ["single"] * 3
    for group in groups:
        for row, artist in zip(group.rows, group.truth, strict=True):
            assert row in of[int(artist)]
        assert len(group.rows) == sum(len(of[one]) for one in group.artists)


def test_sets_of_artists_are_dealt_by_what_they_count_for() -> None:
    sizes = [3, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    fold = deal_folds([""] * 10, 2, np.random.default_rng(1), sizes)
    assert [sum(n for n, one in zip(sizes, fold, strict=True) if one == f) for f in (0, 1)] == [
        3,
        3,
    ]
    assert np.bincount(fold).tolist() == [5, 5]
