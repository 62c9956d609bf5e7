from __future__ import annotations

import numpy as np
import pytest
from artist_points import groups_of, music

from pipelines.evaluation.artists.clusters import tune_by_fold
from pipelines.evaluation.artists.reliability import in_bins, overlap, reliability
from pipelines.evaluation.artists.trees import make_table


def test_artists_far_apart_are_sure_and_right() -> None:
    embeddings, artist = music(20, 25, apart=8.0)
    groups = groups_of(artist)
    table = make_table(embeddings, groups)
    chosen, _ = tune_by_fold(table, groups)
    found = reliability(embeddings, groups, (), table.cuts[chosen], table)
    assert [row["overlap"] for row in found["bins"]] == [1.0] * len(found["bins"])
    assert found["bins"][0]["confidence"] > 0.9
    assert found["error"] < 0.05
    assert found["cut_spread"] == 0.0  # the tuned cut is among the best ones of every name
    assert found["one_artist"] == {"whole": pytest.approx(1.0, abs=0.05)}


def test_artists_that_are_not_told_apart_are_not_sure() -> None:
    embeddings, artist = music(20, 25, apart=0.0)
    groups = groups_of(artist)
    table = make_table(embeddings, groups)
    top = float(np.median([group.rows.size for group in groups])) ** 0.5 * 0.3
    wrong = reliability(embeddings, groups, (), np.full(len(groups), top), table)
    assert wrong["bins"][-1]["overlap"] < 0.8
    assert wrong["cut_spread"] > 0.2
    assert sum(row["share"] for row in wrong["bins"]) == pytest.approx(1.0, abs=1e-3)


def test_names_count_alike_however_many_tracks_they_have() -> None:
    assert overlap(np.array([1, 1, 2, 2]), np.array([5, 5, 5, 6])).tolist() == [
        2 / 3,
        2 / 3,
        1 / 4,
        1 / 2,
    ]
    weights = np.array([0.5, *[0.5 / 99] * 99])
    rows = in_bins(np.array([0.2, *[0.8] * 99]), np.array([0.0, *[1.0] * 99]), weights)
    assert rows[0] == {"confidence": 0.2, "overlap": 0.0, "share": 0.5}
    assert {row["confidence"] for row in rows[1:]} == {0.8}
