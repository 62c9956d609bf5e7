from __future__ import annotations

import numpy as np
import pytest
from artist_points import groups_of, music
from sklearn.metrics import adjusted_rand_score

from hashing.clusters.ward import CUT_SPREAD, ward
from pipelines.disambiguation.options import MIN_CONFIDENCE
from pipelines.evaluation.artists.clusters import tune_by_fold
from pipelines.evaluation.artists.reliability import SPREADS, in_bins, overlap, reliability
from pipelines.evaluation.artists.trees import make_table


def test_artists_far_apart_are_sure_and_right() -> None:
    embeddings, artist = music(20, 25, apart=8.0)
    groups = groups_of(artist)
    table = make_table(embeddings, groups)
    chosen, _ = tune_by_fold(table, groups)
    found = reliability(groups, table, chosen)
    assert [row["overlap"] for row in found["bins"]] == [1.0] * len(found["bins"])
    assert found["bins"][0]["confidence"] > 0.9
    assert found["error"] < 0.05
    assert found["cut_spread"] == 0.0  # the tuned cut is among the best ones of every name
    assert found["one_artist"] == {"whole": pytest.approx(1.0, abs=0.05)}
    # Nobody is below, and nothing is said of nobody.
    sides = found["sides"]
    assert sides["below"]["names"] == sides["below"]["one_artist"] == sides["above"]["split"] == 0
    assert (sides["below"]["ari"], sides["below"]["split_share"]) == (None, None)
    assert (sides["above"]["names"], sides["above"]["ari"]) == (20, 1.0)
    assert sides["above"]["one_artist"] == 20


def test_artists_that_are_not_told_apart_are_not_sure() -> None:
    embeddings, artist = music(20, 25, apart=0.0)
    groups = groups_of(artist)
    table = make_table(embeddings, groups)
    top = float(np.median([group.rows.size for group in groups])) ** 0.5 * 0.3
    at = np.full(len(groups), np.searchsorted(table.cuts, top))
    wrong = reliability(groups, table, at)
    assert wrong["bins"][-1]["overlap"] < 0.8
    assert wrong["cut_spread"] > 0.2
    assert sum(row["share"] for row in wrong["bins"]) == pytest.approx(1.0, abs=1e-3)


def test_confidence_is_that_of_ward_with_links_and_with_other_spreads() -> None:
    """What is read off the table's trees is what clustering each name anew gives."""
    embeddings, artist = music(16, 10, apart=0.2)
    groups = groups_of(artist, count=12)
    links = [[(0, 3), (3, 5)]] * len(groups)
    table = make_table(embeddings, groups, links)
    chosen, _ = tune_by_fold(table, groups)
    chosen -= 2  # a little too low: some names are split, and some are not sure
    found = reliability(groups, table, chosen)
    told = [place for place, one in enumerate(groups) if one.kind in ("mixed", "single")]
    kinds = [groups[place].kind for place in told]
    for spread in (*SPREADS, CUT_SPREAD):
        sure, right, weights, names = [], [], [], []
        for place in told:
            own = groups[place]
            cut = float(table.cuts[chosen[place]])
            again = ward(embeddings[own.rows], cut, links[place], spread=spread)
            sure.append(again.confidence.astype(np.float64))
            right.append(overlap(again.labels.astype(np.int64), own.truth))
            weights.append(np.full(len(own.rows), 1 / kinds.count(own.kind) / len(own.rows)))
            ari = adjusted_rand_score(own.truth, again.labels)
            names.append((own.kind == "single", 1 - again.doubt(), ari, again.n_clusters == 1))
        bins = in_bins(*map(np.concatenate, (sure, right, weights)))
        error = sum(one["share"] * abs(one["confidence"] - one["overlap"]) for one in bins)
        if spread in SPREADS:
            assert found["errors"][f"{spread:g}"] == pytest.approx(error, abs=1e-4)
    assert found["bins"] == bins
    assert found["error"] == pytest.approx(error, abs=1e-4)
    assert len(set(found["errors"].values())) == len(SPREADS)
    single, doubted, ari, whole = np.array(names, np.float64).T
    for side, here in (("below", doubted < MIN_CONFIDENCE), ("above", doubted >= MIN_CONFIDENCE)):
        one, several = here & (single > 0), here & (single == 0)
        row = found["sides"][side]
        assert (row["names"], row["one_artist"]) == (several.sum(), one.sum())
        assert row["names"] > 0
        assert row["ari"] == pytest.approx(ari[several].mean(), abs=1e-4)
        assert row["split"] == (whole[one] == 0).sum()


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
