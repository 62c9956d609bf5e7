"""Labels of artists: what is certain stays, everything else is left out and counted."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from hashing.errors import CatalogError
from pipelines.evaluation.artists.labels import album_keys, main_genres, read_labels


def table(rows: list[tuple[Any, Any]], **more: list[Any]) -> pa.Table:
    """Rows of (ids, names), as the catalogue has them."""
    lists = pa.list_(pa.string())
    columns = {
        "artist_id": pa.array([ids for ids, _ in rows], lists),
        "artist_name": pa.array([names for _, names in rows], lists),
    }
    return pa.table({**columns, **more})


def test_names_of_several_ids_and_ids_of_several_names_are_left_out() -> None:
    catalog = table(
        [
            (["1"], ["Nina"]),
            (["1"], ["The Nina"]),  # the same name by the rules
            (["2"], ["Owls"]),
            (["3"], ["OWLS"]),  # a homonym: one name, two ids
            (["3"], ["Owls"]),
            (["4"], ["Cat Stevens"]),
            (["4"], ["Yusuf Islam"]),  # an alias: one id, two names
            (["5"], ["Tom"]),
        ]
    )
    for column, expected in (
        ("artist_id", ["1", "1", "", "", "", "", "", "5"]),
        ("artist_name", ["nina", "nina", "", "", "", "", "", "tom"]),
    ):
        labels = read_labels(catalog, "c.csv", column)
        assert labels.artist == expected
        assert labels.report["names_of_several_ids"] == ["owls"]
        assert labels.report["ids_of_several_names"] == ["4"]
        assert labels.report["tracks_name_of_several_ids"] == 3
        assert labels.report["tracks_id_of_several_names"] == 2


def test_tracks_that_say_nothing_certain_are_counted() -> None:
    catalog = table(
        [
            (None, ["Nina"]),
            (["1", "2"], ["Nina", "Tom"]),
            (["1"], ["Nina feat. Tom"]),  # by two, though the id names one of them
            (["3"], ["Various Artists"]),
            (["1"], ["Nina"]),
            (["1"], ["Nina"]),
        ],
        take=["a", "b", "c", "d", "e", "e"],
    )
    by_id = read_labels(catalog, "c.csv", same="take")
    assert by_id.artist == ["", "", "1", "", "1", ""]
    assert by_id.report["tracks_without_label"] == 1
    assert by_id.report["tracks_of_several_artists"] == 1
    assert by_id.report["tracks_placeholder"] == 1
    assert by_id.report["tracks_copy"] == 1
    assert read_labels(catalog, "c.csv", "artist_name").artist[2] == ""


def test_any_column_may_tell_artists_apart() -> None:
    catalog = pa.table({"voice": ["a ", "b", None, "a"]})
    labels = read_labels(catalog, "c.csv", "voice")
    assert labels.artist == ["a", "b", "", "a"]
    assert labels.names == {"a": "a", "b": "b"}


@pytest.mark.parametrize(
    ("catalog", "flags", "expected"),
    [
        (pa.table({"title": ["x"]}), {}, "no artist is known, columns artist_id and artist_name"),
        (table([(None, None)]), {}, "no artist is known"),
        (table([(["1"], None)]), {"column": "voice"}, "--labels: column voice is missing"),
        (table([(["1"], None)]), {"column": "artist_name"}, "artist_name is empty in every row"),
        (table([(["1"], None)]), {"same": "take"}, "--same: column take is missing"),
    ],
)
def test_no_labels_are_one_line(catalog: pa.Table, flags: dict[str, str], expected: str) -> None:
    with pytest.raises(CatalogError, match=expected) as error:
        read_labels(catalog, "c.csv", **flags)
    assert "c.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_main_genre_is_the_first_of_most_tracks_and_albums_go_by_id() -> None:
    catalog = pa.table(
        {"genres": [["a"], ["b", "a"], ["b"]], "album_id": ["1", None, "2"], "album": ["x"] * 3}
    )
    assert main_genres(catalog, [0, 1, 2], [0, 0, 0]) == ["b"]
    assert album_keys(catalog) == ["1", "", "2"]
    assert album_keys(pa.table({"title": ["x"]})) == [""]
