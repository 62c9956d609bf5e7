"""Labels of clips in a catalogue: which column, and several of one clip."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hashing.errors import CatalogError
from hashing.taxonomy import Taxonomy
from pipelines.clip_labels import label_column, labels_of


def table(**columns: list[object]) -> pa.Table:
    return pa.table({"track_id": ["a", "b"], **columns})


def test_the_column_is_the_named_one_or_a_usual_one() -> None:
    both = table(label=["x", "y"], labels=["x", "y"], kind=["u", "v"])
    assert label_column(both, "c.csv", None) == "label"
    assert label_column(both, "c.csv", "") == "label"
    assert label_column(both, "c.csv", "kind") == "kind"
    assert label_column(table(labels=["x", "y"]), "c.csv", None) == "labels"
    assert label_column(table(), "c.csv", None, required=False) == ""


def test_a_column_that_is_not_there_is_told_with_those_that_are() -> None:
    found = table(kind=["x", "y"])
    with pytest.raises(CatalogError, match=r"^c\.csv: no column label or labels; .*--labels: tr"):
        label_column(found, "c.csv", None)
    for required in (True, False):  # what was typed must be there
        with pytest.raises(CatalogError, match=r"^c\.csv: no column 'knd'; .* track_id, kind$"):
            label_column(found, "c.csv", "knd", required=required)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("dog", ("dog",)),
        (" rain; dog ;;rain", ("dog", "rain")),
        (["rain", " dog", None, "", "dog; cat"], ("dog", "dog; cat", "rain")),
        ([], ()),
        (None, ()),
        (" ; ", ()),
        (7, ("7",)),
        ("snare\n\tdrum\x00", ("snare drum",)),
    ],
)
def test_labels_of_a_row(value: object, expected: tuple[str, ...]) -> None:
    column = pa.table({"label": pa.array([value])})
    assert labels_of(column, "label") == [expected]
    if expected:
        assert set(Taxonomy(dict.fromkeys(expected)).labels) == set(expected)
