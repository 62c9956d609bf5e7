"""Folds of artists: nobody on two sides, and nothing of theirs is left behind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.training.artists.folds import Listing, deal_artists, hold_out, without_each


def kin(*sets: str) -> list[frozenset[str]]:
    return [frozenset(one.split()) for one in sets]


def test_copies_and_duets_of_who_is_held_out_go_with_them() -> None:
    artist = ["a", "a", "b", "", "", "", "c"]
    #   b has a guest, a; then a duet of both, a copy of a's first track, and nobody's.
    everything = kin("a same:1", "a", "b a", "a b", "same:1", "", "c")
    own = kin("a same:1", "a", "", "a b", "same:1", "", "c")
    listing = Listing([{}] * 7, artist, everything, own)
    other = Listing([{}] * 3, [""] * 3, kin("a", "b", "same:1"))
    first, second = hold_out([listing, other], {"a"})
    assert first.tolist() == [False, False, False, False, False, True, True]
    assert second.tolist() == [False, True, False]
    # Who was only a guest does not take the host's friends along.
    first, second = hold_out([listing, other], {"b"})
    assert first.tolist() == [True, True, False, True, True, True, True]
    first, _ = hold_out([listing, other], {"c"}, [5])
    assert first.tolist() == [True] * 5 + [False, False]


def test_each_fold_is_left_out_with_its_rows_its_artists_and_their_kin() -> None:
    artist = ["b", "a", "a", "", "c", ""]
    first = Listing([{}] * 6, artist, kin("b", "a", "a", "x", "c", "b"))
    other = Listing([{}] * 2, [""] * 2, kin("a b", "c"))
    # The second row of a is in no fold, and a row of nobody is in one.
    found = list(without_each([first, other], ["2", "10", "", "10", "", ""]))
    assert [one.name for one in found] == ["10", "2"]
    assert [one.tested for one in found] == [{"a"}, {"b"}]
    assert found[0].kept[0].tolist() == [True, False, False, False, True, True]
    assert found[1].kept[0].tolist() == [False, True, True, True, True, False]
    assert [one.kept[1].tolist() for one in found] == [[False, True]] * 2
    assert found[0].held_out == {"fold": "10", "artists": ["a"], "tracks": [3, 1]}
    assert not list(without_each([first, other], [""] * 6))


@given(st.integers(0, 10_000))
def test_whoever_shares_something_is_in_one_fold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    artist = [f"a{n}" if n else "" for n in rng.integers(0, 12, 40)]
    albums = [f"album {n}" if n < 6 else "" for n in rng.integers(0, 12, 40)]
    shared = [frozenset([one] if one else []) for one in albums]
    listing = Listing([{}] * 40, artist, shared)
    folds = deal_artists(listing, 3, 2, rng)
    assert [fold == "" for fold in folds] == [one == "" for one in artist]
    of: dict[str, set[str]] = {}
    for fold, one, album in zip(folds, artist, albums, strict=True):
        for key in (one, album) if one else ():
            if key:
                of.setdefault(key, set()).add(fold)
    assert all(len(found) == 1 for found in of.values())


def test_folds_have_as_many_artists_that_names_are_made_of() -> None:
    artist = [f"big {n}" for n in range(10) for _ in range(3)] + [f"small {n}" for n in range(20)]
    listing = Listing([{}] * 50, artist, [frozenset[str]()] * 50)
    folds = deal_artists(listing, 5, 3, np.random.default_rng(1))
    for fold in "01234":
        members = {one for one, own in zip(artist, folds, strict=True) if own == fold}
        assert sum(one.startswith("big") for one in members) == 2
        assert sum(one.startswith("small") for one in members) == 4
    assert folds == deal_artists(listing, 5, 3, np.random.default_rng(1))
    assert folds != deal_artists(listing, 5, 3, np.random.default_rng(2))


def test_two_of_a_genre_are_dealt_together() -> None:
    artist = [f"a{n}" for n in range(12)]
    genres = {one: "rock" if n < 6 else "" for n, one in enumerate(artist)}
    listing = Listing([{}] * 12, artist, [frozenset[str]()] * 12, genres=genres)
    folds = deal_artists(listing, 4, 1, np.random.default_rng(1))
    rock = folds[:6]
    assert all(rock.count(fold) >= 2 for fold in rock)


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="1 artists and 2 sets for 2 rows"):
        Listing([{}, {}], ["a"], kin("", ""))
