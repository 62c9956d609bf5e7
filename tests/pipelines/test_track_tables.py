"""Rows of ``tracks/``: made of rows of a catalogue, and back."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.track_tables import MEASURED, OWN, as_text, catalog_rows, tracks_table, unite

names = st.sampled_from([*OWN, "etag", "title", "year", "segment", "part", "class"])
values = st.one_of(st.none(), st.text("aé;", max_size=3))


@st.composite
def catalogs(draw: st.DrawFn) -> pa.Table:
    """Rows of a catalogue with any columns, those that are called like ours among them."""
    count = draw(st.integers(0, 4))
    columns: dict[str, Any] = {
        name: pa.array([f"{name}{row}" for row in range(count)], pa.string())
        for name in ("track_id", "uri")
    }
    for name in draw(st.lists(names, unique=True)):
        kind = draw(st.sampled_from([pa.string(), pa.int64(), pa.list_(pa.string())]))
        texts = draw(st.lists(values, min_size=count, max_size=count))
        if name == "etag" or kind == pa.string():
            columns[name] = pa.array(texts, pa.string())
        elif kind == pa.int64():
            columns[name] = pa.array([None if text is None else len(text) for text in texts], kind)
        else:
            columns[name] = pa.array([text and text.split(";") for text in texts], kind)
    return pa.table(columns)


@given(catalogs())
def test_the_rows_of_the_catalogue_come_back(catalog: pa.Table) -> None:
    measured = {name: [None] * catalog.num_rows for name in OWN}
    tracks = tracks_table(catalog, measured)
    assert tracks.column_names[: len(MEASURED)] == list(MEASURED)
    back = catalog_rows(tracks)
    if "etag" not in catalog.column_names:
        assert back["etag"].null_count == catalog.num_rows
        back = back.drop_columns(["etag"])
    assert sorted(back.column_names) == sorted(catalog.column_names)
    assert back.select(catalog.column_names).equals(catalog)


@given(st.lists(catalogs(), min_size=1, max_size=4))
def test_whatever_columns_tables_have_they_can_be_put_together(tables: list[pa.Table]) -> None:
    whole = unite(tables)
    assert whole.num_rows == sum(table.num_rows for table in tables)
    assert set(whole.column_names) == {name for table in tables for name in table.column_names}
    first = 0
    for table in tables:
        part = whole.slice(first, table.num_rows)
        first += table.num_rows
        for name in table.column_names:
            same = part[name].type == table[name].type
            expected = table[name] if same else as_text(table[name])
            if not pa.types.is_null(expected.type):
                assert part[name].to_pylist() == expected.to_pylist()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.array([1], pa.int32()), pa.array([2], pa.int64()), [1, 2]),
        (pa.array([1], pa.int64()), pa.array([2.5]), [1.0, 2.5]),
        (pa.array([None]), pa.array([[["a"]]]), [None, [["a"]]]),
        (pa.array([b"\xff"]), pa.array(["a"]), [b"\xff", b"a"]),
        (pa.array([{"a": 1}]), pa.array(["a"]), ["{'a': 1}", "a"]),
        (pa.array([{"a": 1}]), pa.array([{"b": 2}]), [{"a": 1, "b": None}, {"a": None, "b": 2}]),
    ],
)
def test_types_that_differ(one: pa.Array, other: pa.Array, expected: list[Any]) -> None:
    assert unite([pa.table({"x": one}), pa.table({"x": other})])["x"].to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([["a", None], None, []]), ["a;", None, ""]),
        (pa.array([[1.0, 2.5], [True]], pa.list_(pa.float64())), ["1;2.5", "1"]),
        (pa.array([b"a\xff", b"a", None]), ["a\\xff", "a", None]),
        (pa.array([{"a": 1}, None]), ["{'a': 1}", None]),
        (pa.array([["a"], ["b", "c"]], pa.large_list(pa.string())).slice(1), ["b;c"]),
    ],
)
def test_values_as_text(values: pa.Array, expected: list[str | None]) -> None:
    assert as_text(pa.chunked_array([values])).to_pylist() == expected
