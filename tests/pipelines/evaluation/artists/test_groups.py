"""What groups are like: as the published ones where the catalogue has the tracks."""

from __future__ import annotations

import numpy as np
import pytest

from hashing.artists.homonyms import deal_folds, draw_groups
from pipelines.evaluation.artists.groups import PUBLISHED, statistics


def test_groups_are_like_the_published_ones_where_there_are_the_tracks() -> None:
    fold = deal_folds([""] * 60, 2, np.random.default_rng(1))
    artist = np.repeat(np.arange(60), 170)
    groups = list(draw_groups(artist, [""] * 60, fold, 600, 1))
    found = statistics([one for one in groups if one.kind == "mixed"], [""] * len(artist))
    for name in ("tracks_per_artist", "tracks_per_group", "majority_share"):
        for middle in ("median", "mean"):
            assert found[name][middle] == pytest.approx(PUBLISHED[name][middle], rel=0.12)
    counts = found["artists_of_a_group"]
    assert counts["2"] / 600 == pytest.approx(102 / 122, abs=0.05)
    assert counts["3"] > counts["4"] > 0
    assert found["tracks_per_artist"]["low"] >= 8
    assert found["tracks_per_artist"]["high"] <= 168
