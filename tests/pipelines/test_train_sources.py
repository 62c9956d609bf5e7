"""What ``hashbeam train clips`` and ``train events`` learn from: rows, labels and taxonomies."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from tiny_catalog import write_rows

from hashing.errors import CatalogError, UsageError
from pipelines.train_clips import KEPT_OUT, rows_left, sources_of
from pipelines.train_events import joined_taxonomy


def catalog_of(path: Path, **columns: str) -> Path:
    """A catalogue of two clips that are not there."""
    rows = [{"track_id": n, "uri": f"{n}.wav", **columns} for n in ("a", "b")]
    return write_rows(path, rows)


def test_rows_that_are_kept_out(tmp_path: Path) -> None:
    shares = ["training", "database", "queries", "", "training"]
    rows = [
        {"track_id": f"t{n}", "uri": f"{n}.wav", "label": "x", "share": share, "fold": str(n)}
        for n, share in enumerate(shares)
    ]
    path = str(write_rows(tmp_path / "c.csv", rows))
    (source,) = sources_of([path], None, KEPT_OUT)
    assert source.ids == ["t0", "t3", "t4"]
    assert source.labels == [("x",)] * 3
    assert source.paths == [str(tmp_path / f"{n}.wav") for n in (0, 3, 4)]
    (source,) = sources_of([path], None, [*KEPT_OUT, ("fold", "3"), ("fold", "4")])
    assert source.ids == ["t0"]
    assert source.name == f"{tmp_path.name}/c.csv"
    with pytest.raises(CatalogError, match="no row is left"):
        sources_of([path], None, [*KEPT_OUT, ("label", "x")])


def test_a_row_to_leave_out_may_be_in_one_catalogue_of_several(tmp_path: Path) -> None:
    one = str(catalog_of(tmp_path / "one.csv", label="x", fold="1"))
    two = str(catalog_of(tmp_path / "two.csv", kind="y"))
    rows = [
        {"track_id": "a", "uri": "a.wav", "fold": "2"},
        {"track_id": "b", "uri": "b", "fold": ""},
    ]
    three = str(write_rows(tmp_path / "three.csv", rows))
    kept_out = [*KEPT_OUT, ("fold", "2")]
    found = sources_of([one, two], None, kept_out, [three])
    assert [source.ids for source in found] == [["a", "b"], ["a", "b"], ["b"]]
    assert [source.labels for source in found] == [[("x",)] * 2, [()] * 2, [()]]
    with pytest.raises(UsageError, match=r"--leave-out fold=2: no row of \S*one.csv, \S*two.csv"):
        sources_of([one, two], None, kept_out)


def test_numbers_are_compared_as_text() -> None:
    table = pa.table({"fold": [1, 2, None]})
    assert rows_left(table, [("fold", "2"), ("other", "1")]) == [0, 2]


# Taxonomies.


def taxonomies(folder: Path, **files: str) -> list[str]:
    """Files with these lines, and a catalogue beside each."""
    paths = []
    for name, lines in files.items():
        (folder / name).mkdir()
        (folder / name / "taxonomy.csv").write_text(f"label,parent\n{lines}")
        paths.append(str(folder / name / "labels.csv"))
    return paths


def test_taxonomies_are_joined(tmp_path: Path) -> None:
    catalogs = taxonomies(tmp_path, one="animal,\ndog,animal\n", two="animal,\ncat,animal\nrain,\n")
    expected = {"animal": None, "cat": "animal", "dog": "animal", "rain": None, "siren": None}
    # Labels that none of the files has are roots; a catalogue may have none beside it.
    found = joined_taxonomy(None, [*catalogs, catalogs[0], "x.csv"], ["dog", "siren"])
    assert found is not None
    assert found.to_json() == expected
    assert found.similarity("cat", "dog") == 0.5
    named = [path.replace("labels", "taxonomy") for path in catalogs]
    again = joined_taxonomy([*named, "none"], ["x.csv"], ["siren"])
    assert again is not None
    assert again.to_json() == expected
    assert joined_taxonomy(["none"], catalogs, ["dog"]) is None
    assert joined_taxonomy(None, ["x.csv"], ["dog"]) is None


@pytest.mark.parametrize("parent", ["thing,\ndog,thing\n", "dog,\n"])
def test_taxonomies_that_differ(parent: str, tmp_path: Path) -> None:
    catalogs = taxonomies(
        tmp_path, one="rain,\n", two="animal,\ndog,animal\n", three=f"rain,\n{parent}"
    )
    expected = r"three/taxonomy\.csv: label 'dog' has another parent than in \S*two/taxonomy\.csv: "
    with pytest.raises(CatalogError, match=expected):
        joined_taxonomy(None, catalogs, ["dog"])
    with pytest.raises(CatalogError, match=r"two/taxonomy\.csv: label 'dog' has .* in \S*three/"):
        joined_taxonomy(None, catalogs[::-1], ["dog"])
