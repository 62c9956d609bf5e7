"""Sets of labels: which there are, how alike they are, and what their clips may be called."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.errors import CatalogError
from hashing.taxonomy import Taxonomy
from hashing.training.events.labels import LabelSets

TREE = Taxonomy({"wind": None, "oboe": "wind", "flute": "wind", "drum": None})
FAMILIES = {
    "all": None,
    "a": "all",
    "b": "all",
    "c": None,
    "a1": "a",
    "a2": "a",
    "b1": "b",
    "c1": "c",
}


def test_sets_of_labels_by_hand() -> None:
    found = LabelSets.from_clips([["oboe", "flute"], ["drum"], ["oboe", "oboe"], ["drum"]], TREE)
    assert found.labels == ("drum", "flute", "oboe")
    assert found.sets == (("drum",), ("flute", "oboe"), ("oboe",))
    assert found.of.tolist() == [1, 0, 2, 0]
    # One oboe is as good as a set with an oboe (1), the other way half of it is met by a relative:
    # (1 + 1/2) / 2.
    alike = [[1, -1, -1], [-1, 1, 0.75], [-1, 0.75, 1]]
    np.testing.assert_allclose(found.likeness, alike)
    np.testing.assert_allclose(found.shares, [[1, 0, 0], [0, 0.5, 0.5], [0, 0, 1]])
    # A wind instrument is what an oboe is called half as often as an oboe.
    assert found.names == ("drum", "flute", "oboe", "wind")
    called = [[1, 0, 0, 0], [0, 1 / 3, 1 / 3, 1 / 3], [0, 0, 2 / 3, 1 / 3]]
    np.testing.assert_allclose(found.name_shares, called, atol=1e-6)


def test_relatives_are_alike_with_a_taxonomy_only() -> None:
    clips = [["oboe"], ["flute"], ["drum"]]  # sets are drum, flute, oboe
    assert LabelSets.from_clips(clips, TREE).likeness[2].tolist() == [-1, 0, 1]
    alone = LabelSets.from_clips(clips)
    assert alone.likeness[2].tolist() == [-1, -1, 1]
    assert alone.names == alone.labels
    np.testing.assert_array_equal(alone.name_shares, np.eye(3))


def test_a_label_may_lie_within() -> None:
    found = LabelSets.from_clips([["wind"], ["oboe"]], TREE)  # sets are oboe, wind
    assert found.labels == ("oboe", "wind")
    assert found.likeness[0].tolist() == [1, 0]
    np.testing.assert_allclose(found.name_shares, [[2 / 3, 1 / 3], [0, 1]], atol=1e-6)


def test_what_cannot_be_learned_from() -> None:
    with pytest.raises(ValueError, match="teaches nothing"):
        LabelSets.from_clips([["oboe"], []])
    with pytest.raises(CatalogError, match="harp"):
        LabelSets.from_clips([["oboe"], ["harp"]], TREE)


@given(
    st.lists(
        st.lists(st.sampled_from(["a1", "a2", "b1", "c1", "a"]), min_size=1, max_size=4),
        min_size=1,
        max_size=12,
    ),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_of_any_clips(clips: list[list[str]], related: bool, rng: object) -> None:
    tree = Taxonomy(FAMILIES) if related else None
    found = LabelSets.from_clips(clips, tree)
    assert [set(found.sets[at]) for at in found.of] == [set(one) for one in clips]
    assert len(set(found.sets)) == len(found.sets)
    np.testing.assert_allclose(found.likeness, found.likeness.T)
    np.testing.assert_array_equal(np.diag(found.likeness), 1)
    assert (found.likeness >= -1).all()
    # Two different sets are never the same.
    np.testing.assert_array_equal(found.likeness == 1, np.eye(len(found.sets), dtype=bool))
    for shares, names in ((found.shares, found.labels), (found.name_shares, found.names)):
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
        for one, row in zip(found.sets, shares, strict=True):
            above = {name for label in one for name in (tree.ancestors(label) if tree else ())}
            called = {name for name, share in zip(names, row, strict=True) if share > 0}
            assert called == (set(one) if names is found.labels else set(one) | above)
    # The order of the clips does not matter but to `of`.
    rng.shuffle(clips)  # type: ignore[attr-defined]
    again = LabelSets.from_clips(clips, tree)
    assert again.sets == found.sets
    np.testing.assert_array_equal(again.likeness, found.likeness)
