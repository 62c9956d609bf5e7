"""Groups that artists share: folds are never mixed, sizes are like the published ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pipelines.evaluation.artists.groups import (
    PUBLISHED,
    Group,
    deal_folds,
    draw_groups,
    statistics,
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


def test_groups_are_like_the_published_ones_where_there_are_the_tracks() -> None:
    groups, _, _ = draw(170, 200, count=600)
    found = statistics([one for one in groups if one.kind == "mixed"], [""] * (170 * 200))
    for name in ("tracks_per_artist", "tracks_per_group", "majority_share"):
        for middle in ("median", "mean"):
            assert found[name][middle] == pytest.approx(PUBLISHED[name][middle], rel=0.12)
    counts = found["artists_of_a_group"]
    assert counts["2"] / 600 == pytest.approx(102 / 122, abs=0.05)
    assert counts["3"] > counts["4"] > 0
    assert found["tracks_per_artist"]["low"] >= 8
    assert found["tracks_per_artist"]["high"] <= 168


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
