"""``hashbeam evaluate events`` as a whole, on embeddings that tell labels to who learns to look."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_vectors import LABELS, ROLES, rows_of, vectors_of, write_labelled, write_vectors

from hashing import codebooks
from hashing.training.events import quantization
from pipelines.cli import main
from pipelines.evaluation.events import measure
from pipelines.evaluation.events.jobs import SECTIONS, Job

Shown = pytest.CaptureFixture[str]

FLAGS = ("--steps", "20", "--bits", "32", "--shares", "0.1", "1", "--labelled", "1")


def evaluate(folder: Path, out: str = "out", *flags: object) -> int:
    words = ["--catalog", folder / "labels.csv", "--encoder", folder / "vectors.parquet"]
    words += ["--out", folder / out, "--workers", "1", "--quiet", *FLAGS, *flags]
    return main(["evaluate", "events", *map(str, words)])


@pytest.fixture(autouse=True, scope="module")
def _few() -> Iterator[None]:
    """Rounds of k-means, and an order of centroids, which matters to an index alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codebooks, "PQ_ROUNDS", 3)
        patch.setattr(codebooks, "OPQ_ROUNDS", 3)
        patch.setattr(codebooks, "order_centroids", lambda centroids: np.arange(len(centroids)))
        small = functools.partial(quantization.QuantizerTraining, hidden=128, batch=128)
        patch.setattr(quantization, "QuantizerTraining", small)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, _few: None) -> Path:
    """A finished evaluation of all sections; not to be changed."""
    folder = tmp_path_factory.mktemp("events")
    write_labelled(folder)
    assert evaluate(folder) == 0
    return folder


@pytest.fixture
def again(folder: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(folder, tmp_path / "e")
    return tmp_path / "e"


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The pieces that are done from now on."""
    found = list[Job]()
    do: Callable[..., int] = measure.do

    def noted(job: Job, folder: str) -> int:
        found.append(job)
        return do(job, folder)

    monkeypatch.setattr(measure, "do", noted)
    return found


def figures(folder: Path, out: str = "out") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / out / "figures.json").read_text())
    return found


def rows(folder: Path, section: str, **wanted: object) -> dict[str, dict[str, Any]]:
    """Of a section, by system."""
    return {
        row["system"]: row
        for row in figures(folder)["rows"]
        if row["section"] == section and all(row[name] == value for name, value in wanted.items())
    }


def test_every_section_is_measured(folder: Path) -> None:
    found = figures(folder)
    assert {row["section"] for row in found["rows"]} == set(SECTIONS)
    assert found["clips"] == ROLES
    assert (found["classes"], found["taxonomy_levels"], found["failures"]) == (6, 2, [])
    assert found["roles"] == "column share"
    assert list(found["embeddings"]) == ["48-d"]
    for row in found["rows"]:
        assert 0 <= row["map"] <= 1
        assert 0 <= row["map_at_10"] <= 1
    assert "NaN" not in (folder / "out/figures.json").read_text()


def test_who_learns_the_labels_is_far_ahead(folder: Path) -> None:
    table = rows(folder, "table")
    # What is found by chance: a sixth has the label, a tenth of all clips have two.
    assert 0.15 < table["PQ"]["map"] < 0.45
    # All training clips have labels here; those of the database are guessed.
    for name in ("DQN", "DQN + words + guesses", "DTQ", "OrthoHash", "probe + PQ", "linear probe"):
        assert table[name]["map"] > table["PQ"]["map"] + 0.25, name
    assert table["DQN"]["ahp"] > table["PQ"]["ahp"]
    (closed,) = (row for row in figures(folder)["closed"] if row["system"] == "DQN")
    lack = table["PQ"]["map"]
    assert closed["closed"] == pytest.approx((table["DQN"]["map"] - lack) / (1 - lack), abs=1e-4)
    assert closed["closed"] > 0.4
    assert {row["system"] for row in figures(folder)["closed"]} >= {"DQN", "DTQ", "OrthoHash"}
    assert not {"PQ", "ITQ", "embedding"} & {row["system"] for row in figures(folder)["closed"]}


def test_more_labels_are_better(folder: Path) -> None:
    few, all_of_them = (rows(folder, "shares", share=share) for share in (0.1, 1.0))
    assert few["DQN"]["clips"] < 60 < all_of_them["DQN"]["clips"] == 300
    assert all_of_them["DQN"]["map"] > few["DQN"]["map"]
    assert few["embedding"]["map"] == all_of_them["embedding"]["map"]


def test_classes_that_were_not_learned_are_judged_among_themselves(folder: Path) -> None:
    seen, unseen = (rows(folder, "unseen", part=part) for part in ("seen", "unseen"))
    # Halves of 140 clips are too few for codebooks of 256 centroids: those know training as well.
    assert {"SH", "ITQ", "PQ", "embedding", "DTQ"} <= set(seen) & set(unseen)
    # Half of the labels among each other are easier to tell apart than all.
    whole = rows(folder, "table")["embedding"]["map"]
    assert min(seen["embedding"]["map"], unseen["embedding"]["map"]) > whole


def test_a_figure_is_that_of_another_library(folder: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    database, queries = (
        [row for row in rows_of() if row["share"] == share] for share in ("database", "queries")
    )
    one, other = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for vectors in np.split(vectors_of(rows_of())[300:], [280])[::-1]
    )
    found = [
        metrics.average_precision_score(
            [bool({*row["label"].split("; ")} & {*asked["label"].split("; ")}) for row in database],
            scores,
        )
        for asked, scores in zip(queries, one @ other.T, strict=True)
    ]
    assert rows(folder, "table")["embedding"]["map"] == pytest.approx(np.mean(found), abs=1e-4)


def test_words_find_what_they_mean(folder: Path) -> None:
    found = rows(folder, "text")
    assert found["words of labels, codes"]["queries"] == len(LABELS)
    assert found["words of families, codes"]["queries"] == 2
    assert found["words of labels, real-valued"]["map"] > 0.5
    assert found["sound"]["bits"] == 32


def test_all_cells_are_all_codes(folder: Path) -> None:
    found = [row for row in figures(folder)["rows"] if row["section"] == "multi-index"]
    whole = next(row for row in found if row["system"] == "all")
    assert (whole["looked_at"], whole["kept"], whole["asked_share"]) == (1.0, 1.0, None)
    looked = [row["looked_at"] for row in found]
    assert looked == sorted(looked)
    assert all(row["kept"] <= 1.05 for row in found)


def test_what_is_written(folder: Path) -> None:
    page = (folder / "out/report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "DQN" in page
    assert figures(folder)["format_version"] == measure.FORMAT_VERSION
    assert not list((folder / "out.work/rows").glob("*.tmp"))


def test_the_same_command_does_nothing_anew(again: Path, done: list[Job], capsys: Shown) -> None:
    before = figures(again)
    capsys.readouterr()
    assert evaluate(again, "out", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert done == []
    assert told == figures(again)
    assert told["rows"] == before["rows"]


def test_one_that_was_stopped_goes_on(again: Path, done: list[Job]) -> None:
    before = figures(again)["rows"]
    for path in (again / "out.work/rows").iterdir():
        if json.loads(path.read_text())[0]["section"] == "text":
            path.unlink()
    assert evaluate(again) == 0
    assert [job.section for job in done] == ["text"]

    def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if not k.endswith(("_s", "_us"))} for row in rows]

    assert without_times(figures(again)["rows"]) == without_times(before)


def test_other_embeddings_are_measured_anew(again: Path, done: list[Job]) -> None:
    before = rows(again, "table")["embedding"]
    write_vectors(again / "vectors.parquet", rows_of(), seed=2)
    assert evaluate(again, "out", "--only", "table") == 0
    assert [job.section for job in done] == ["table"]
    assert rows(again, "table")["embedding"]["map"] != before["map"]
    assert {row["section"] for row in figures(again)["rows"]} == {"table"}


def test_other_labels_are_measured_anew(again: Path, done: list[Job]) -> None:
    catalog = again / "labels.csv"
    catalog.write_text(catalog.read_text().replace("river", "rain"))
    flags = ("--only", "text", "multi-index", "--taxonomy", "none")
    assert evaluate(again, "out", *flags) == 0
    assert [job.section for job in done] == ["text", "multi-index"]
    assert figures(again)["classes"] == 5
    assert "words of families, codes" not in rows(again, "text")


def test_a_table_for_people(again: Path, capsys: Shown) -> None:
    capsys.readouterr()
    assert evaluate(again) == 0
    text = capsys.readouterr().out
    assert "300 training, 280 database, 30 queries; 6 classes" in text
    assert text.rstrip().endswith("out/report.html")


def test_embeddings_are_of_length_one(folder: Path) -> None:
    """Embeddings in the material are those of the file, of length one."""
    stored = np.load(folder / "out.work/48-d-database.npy")
    assert stored.shape == (280, 48)
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-6)


def test_one_byte_and_clips_that_ask_for_what_is_not_there(tmp_path: Path) -> None:
    """No query has a relevant clip: no figure, and no error either."""
    rows = rows_of()
    for row in rows:
        row["label"] = "gull" if row["share"] == "queries" else row["label"]
    write_labelled(tmp_path, rows)
    flags = ("--bits", "8", "--taxonomy", "none", "--steps", "1")
    assert evaluate(tmp_path, "out", *flags, "--only", "table", "multi-index") == 0
    found = figures(tmp_path)
    assert {row["map"] for row in found["rows"]} == {None}
    assert found["closed"] == []
    assert {row["kept"] for row in found["rows"] if row["section"] == "multi-index"} == {None}
    assert "class code" in {row["system"] for row in found["rows"]}
