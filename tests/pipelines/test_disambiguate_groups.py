"""Names and their tracks: which group a track is in, and which group speaks for it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from hashing.artists.names import NameRules
from pipelines.disambiguation.cluster import Before, Rules, cluster_group
from pipelines.disambiguation.group import Groups, group_tracks
from pipelines.disambiguation.show import positions


def grouped(names: list, rules: NameRules | None = None, **more: list) -> Groups:
    ids = [f"t{place}" for place in range(len(names))]
    table = pa.table({"track_id": ids, "artist_name": pa.array(names), **more})
    return group_tracks(table, rules or NameRules())


def tracks_of(groups: Groups) -> dict[str, list[int]]:
    return {key: groups.tracks(place).tolist() for place, key in enumerate(groups.keys)}


def test_spellings_are_one_name_and_the_most_frequent_one_names_it() -> None:
    groups = grouped([["The Owls"], ["OWLS"], ["owls"], ["OWLS"], [], None])
    assert tracks_of(groups) == {"owls": [0, 1, 2, 3]}
    assert groups.names == ["OWLS"]
    assert groups.variants == [(("OWLS", 2), ("The Owls", 1), ("owls", 1))]
    assert groups.first.tolist() == [0, 1, 2, 3, -1, -1]


def test_a_track_of_several_artists_is_in_all_their_groups() -> None:
    groups = grouped([["Ann", "Bob"], ["Bob feat. Ann"], ["Ann", "ANN"]])
    assert tracks_of(groups) == {"ann": [0, 1, 2], "bob": [0, 1]}
    first = [groups.keys[groups.group_of[member]] for member in groups.first]
    assert first == ["ann", "bob", "ann"]
    assert groups.of_track(1) == [0, 1]


def test_the_first_who_is_no_placeholder_speaks_for_a_track() -> None:
    groups = grouped([["Various Artists", "Bob"], ["Unknown"]])
    first = [groups.keys[groups.group_of[member]] for member in groups.first]
    assert first == ["bob", "unknown"]
    assert dict(zip(groups.keys, groups.statuses, strict=True)) == {
        "bob": "",
        "unknown": "placeholder",
        "variousartists": "placeholder",
    }
    assert groups.judged().tolist() == [True, False]
    asked = grouped([["Unknown"]], NameRules(placeholders=False))
    assert asked.statuses == [""]


def test_ids_belong_to_names_in_their_order_and_never_to_guests() -> None:
    groups = grouped(
        [["Ann", "Bob"], ["Ann feat. Bob"], ["Ann", "Bob"]],
        artist_id=[["1", "2"], ["1"], ["1"]],
    )
    by_name = {
        key: [groups.artist_ids[member] for member in groups.members(place)]
        for place, key in enumerate(groups.keys)
    }
    # Of the third, with two names and one id, nobody can tell whose it is.
    assert by_name == {"ann": ["1", "1", ""], "bob": ["2", "", ""]}


def test_duets_are_split_only_into_names_that_stand_alone() -> None:
    names = [["Ann & Bob"], ["Ann"], ["Bob"], ["Salt & Pepper"]]
    assert "annandbob" in grouped(names).keys
    split = grouped(names, NameRules(duets=True))
    assert tracks_of(split) == {"ann": [0, 1], "bob": [0, 2], "saltandpepper": [3]}


def test_decided_tracks_outweigh_albums_and_sound() -> None:
    points = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    before = Before(decided={"a": 1, "b": 2, "c": 1})
    found = cluster_group(points, list("abcd"), Rules(5.0, 2, 0), before, ["x", "x", "", "x"])
    assert found.numbers[:3].tolist() == [1, 2, 1]
    assert found.confidence[:3].tolist() == [1, 1, 1]
    assert found.decided.tolist() == [True, True, True, False]


def test_too_few_tracks_are_left_alone_unless_an_editor_spoke() -> None:
    point = np.ones((2, 2), np.float32)
    found = cluster_group(point, ["a", "b"], Rules(0.5, 3, 0))
    assert (found.status, found.numbers.tolist(), found.doubt) == ("too-few-tracks", [0, 0], 0)
    assert np.isnan(found.confidence).all()
    found = cluster_group(point, ["a", "b"], Rules(0.5, 3, 0), Before(decided={"a": 3}))
    assert found.numbers.tolist() == [3, 3]


def test_copies_of_a_recording_stay_together_unless_an_editor_spoke() -> None:
    points, ids = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32), list("abcd")
    rules, copies = Rules(0.5, 2, 0), ["7", "", "7", ""]
    assert cluster_group(points, ids, rules).numbers.tolist() == [1, 1, 2, 2]
    found = cluster_group(points, ids, rules, recordings=copies).numbers
    assert found[0] == found[2]
    apart = Before(decided={"a": 1, "c": 2})
    found = cluster_group(points, ids, rules, apart, recordings=copies).numbers
    assert (found[0], found[2]) == (1, 2)


def test_copies_of_a_recording_count_as_one_track() -> None:
    point = np.ones((3, 2), np.float32)
    found = cluster_group(point, list("abc"), Rules(0.5, 3, 0), recordings=["7", "", "7"])
    assert found.status == "too-few-tracks"
    found = cluster_group(point, list("abc"), Rules(0.5, 2, 0), recordings=["7", "", "7"])
    assert found.status == "clustered"


def test_the_map_keeps_distances_of_what_is_flat() -> None:
    rng = np.random.default_rng(5)
    flat = rng.standard_normal((30, 2)) @ np.linalg.qr(rng.standard_normal((8, 2)))[0].T
    found = positions(flat.astype(np.float32))
    apart = np.linalg.norm(flat[:, None] - flat, axis=2)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found, axis=2), apart, atol=1e-4)
    assert positions(flat[:1].astype(np.float32)).tolist() == [[0.0, 0.0]]
    assert positions(np.zeros((3, 1), np.float32)).tolist() == [[0.0, 0.0]] * 3


# Clusters from run to run.


def near_and_far() -> np.ndarray:
    rng = np.random.default_rng(3)
    centres = np.repeat(rng.normal(0, 0.35, (3, 4)), 6, axis=0)
    return np.asarray(centres + rng.normal(0, 0.2, centres.shape), dtype=np.float32)


@pytest.mark.parametrize("least", [0.0, 0.999])
def test_the_same_again_is_as_sure_as_the_first_time(least: float) -> None:
    ids, rules = [f"t{i}" for i in range(18)], Rules(0.9, 2, least)
    first = cluster_group(near_and_far(), ids, rules)
    assert first.status == ("clustered" if least == 0 else "uncertain")
    assert len(set(first.numbers.tolist())) > 1
    known = dict(zip(ids, first.numbers.tolist(), strict=True))
    before = Before({}, known, first.highest, first.status == "clustered")
    again = cluster_group(near_and_far(), ids, rules, before)
    assert again.status == first.status
    assert again.numbers.tolist() == first.numbers.tolist()
    np.testing.assert_array_equal(again.confidence, first.confidence)
    assert again.linkage is not None
    np.testing.assert_array_equal(again.linkage, first.linkage)


def test_clusters_are_held_where_sound_has_changed_its_mind() -> None:
    ids, rules = [f"t{i}" for i in range(18)], Rules(0.9, 2, 0.0)
    odd = {name: 1 + i % 2 for i, name in enumerate(ids)}
    held = cluster_group(near_and_far(), ids, rules, Before({}, odd, 2, applied=True))
    assert held.numbers.tolist() == list(odd.values())
    # Nothing of that makes it surer than sound is.
    free = cluster_group(near_and_far(), ids, rules)
    np.testing.assert_array_equal(held.confidence, free.confidence)
    assert cluster_group(
        near_and_far(), ids, rules, Before({}, odd, 2, applied=False)
    ).numbers.tolist() != list(odd.values())
