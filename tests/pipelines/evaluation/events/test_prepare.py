"""From a catalogue to the material of ``hashbeam evaluate events``: roles, embeddings, mistakes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from index_helpers import error_line
from labelled_vectors import rows_of, write_labelled, write_vectors
from onnx import TensorProto, helper, numpy_helper
from tiny_catalog import write_rows

from hashing.errors import CatalogError, ModelError
from pipelines.cli import main, parse
from pipelines.evaluation.events import prepare
from pipelines.evaluation.events.material import ROLES, Material
from pipelines.evaluation.events.options import EventsOptions, options_from
from pipelines.evaluation.events.prepare import Clips, read_clips, read_taxonomy

Shown = pytest.CaptureFixture[str]

FEW = {"training": 4, "database": 3, "queries": 2}
RATE = 8000


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of clips will do."""
    for name in ("LEAST", "LEAST_GIVEN"):
        monkeypatch.setattr(prepare, name, dict.fromkeys(ROLES, 1))


def catalog(folder: Path, **columns: list[str]) -> str:
    """Clips a, b, … with these columns."""
    n = len(next(iter(columns.values())))
    rows = [
        {"clip_id": "abcdefghijkl"[at], "uri": f"{at}.wav"}
        | {name: values[at] for name, values in columns.items()}
        for at in range(n)
    ]
    return str(write_rows(folder / "c.csv", rows))


def ids(clips: Clips, role: str) -> str:
    return "".join(clips.ids[row] for row in clips.roles[role])


@pytest.mark.usefixtures("few")
def test_roles_by_share(tmp_path: Path) -> None:
    shares = ["queries", "training", "database", "other", "", "training", "database"]
    labels = ["x", "y", "x; y", "x", "x", "y", ""]
    clips = read_clips(catalog(tmp_path, share=shares, label=labels), None, None)
    assert {role: ids(clips, role) for role in ROLES} == {
        "training": "bf",
        "database": "c",  # the last one has no label
        "queries": "a",
    }
    assert clips.told == "column share"
    assert clips.labels[2] == ("x", "y")


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("folds", "asked", "queries", "others"),
    [
        (["1", "2", "3", "", "1"], None, "c", "abe"),
        (["1", "2", "3", "", "1"], "1", "ae", "bc"),
        (["1", "2", "10", "9", "10"], None, "ce", "abd"),  # of ten the tenth is the last
        (["train", "test", "train", "train", "valid"], "test", "b", "acde"),
    ],
)
def test_roles_by_fold(
    folds: list[str], asked: str | None, queries: str, others: str, tmp_path: Path
) -> None:
    path = catalog(tmp_path, fold=folds, labels=["x", "y", "z", "x", "y"])
    clips = read_clips(path, None, asked)
    assert ids(clips, "queries") == queries
    assert ids(clips, "training") == ids(clips, "database") == others
    assert f"fold {asked or max(folds, key=len)}" in clips.told or asked is None


@pytest.mark.usefixtures("few")
def test_a_fold_that_is_named_counts_more_than_shares(tmp_path: Path) -> None:
    columns = {"share": [*ROLES, "training"], "fold": ["1", "2", "2", "1"], "label": [*"xyxy"]}
    path = catalog(tmp_path, **columns)
    assert ids(read_clips(path, None, None), "queries") == "c"
    assert ids(read_clips(path, None, "1"), "queries") == "ad"


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("columns", "fold", "expected"),
    [
        ({"share": ["training", "queries"]}, None, "no column share with training, database, que"),
        ({"share": [*ROLES[:2]], "fold": ["", ""]}, None, "no fold '' beside others in the colu"),
        ({"fold": ["1", "1"]}, None, "no fold '1' beside others in the column fold"),
        ({"fold": ["1", "2"]}, "3", "no fold '3' beside others in the column fold"),
        (
            {"fold": ["1", "2"], "label": ["", "x"]},
            None,
            r"no labelled clip in the role of training",
        ),
        ({"fold": ["1", "2"], "label": ["x", "x"]}, None, "all clips have the same labels"),
        ({"fold": ["1", "2"], "label": None}, None, "no column label or labels"),
    ],
)
def test_roles_that_are_missing(
    columns: dict[str, list[str] | None], fold: str | None, expected: str, tmp_path: Path
) -> None:
    given = {"label": ["x", "y"], **columns}
    path = catalog(tmp_path, **{name: one for name, one in given.items() if one is not None})
    with pytest.raises(CatalogError, match=rf"c\.csv: {expected}") as error:
        read_clips(path, None, fold)
    assert "\n" not in str(error.value)


def test_too_few_clips_for_codebooks(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "c.csv", rows_of({"training": 64, "database": 63, "queries": 1}))
    with pytest.raises(CatalogError, match=r"63 labelled clips in the role of database .*: 64 or"):
        read_clips(str(path), None, None)


def test_which_taxonomy(tmp_path: Path) -> None:
    path = catalog(tmp_path, label=["x"])
    assert read_taxonomy(None, path) is None
    (tmp_path / "taxonomy.csv").write_text("label,parent\nx,\n")
    beside = read_taxonomy(None, path)
    assert beside is not None
    assert beside.labels == ("x",)
    assert read_taxonomy("none", path) is None
    (tmp_path / "other.json").write_text('{"y": null}')
    other = read_taxonomy(str(tmp_path / "other.json"), path)
    assert other is not None
    assert other.labels == ("y",)
    with pytest.raises(CatalogError, match="cannot read"):
        read_taxonomy(str(tmp_path / "no.csv"), path)


def options(folder: Path, encoder: Path, **changes: object) -> EventsOptions:
    names = [str(folder / name) for name in ("labels.csv", "out", "work")]
    return dataclasses.replace(EventsOptions(*names, encoder=str(encoder)), **changes)  # type: ignore[arg-type]


def prepared(chosen: EventsOptions) -> tuple[Material, dict[str, object]]:
    return prepare.prepare(chosen, lambda line: None)


@pytest.mark.usefixtures("few")
def test_embeddings_of_a_table(tmp_path: Path) -> None:
    rows = rows_of(FEW)
    write_labelled(tmp_path, [*rows, {**rows[0], "clip_id": "idle", "share": "none"}])
    # Windows of a clip are a mean; one clip has none, and who plays no part needs none.
    told = {row["clip_id"]: [3.0, 4.0 * (row["share"] == "queries")] for row in rows[:-1]}
    columns = {"clip_id": [*told, "training000"], "embedding": [*told.values(), [0.0, 3.0]]}
    path = tmp_path / "two.parquet"
    pq.write_table(pa.table(columns), path)
    material, facts = prepared(options(tmp_path, path))
    assert facts["clips"] == {"training": 4, "database": 3, "queries": 1}
    assert facts["failures"] == [
        {
            "track_id": "queries001",
            "error": "no-embedding",
            "message": f"{path} has no row for queries001",
        }
    ]
    found = material.embedded("2-d")
    assert found.training.shape == (4, 1, 2)
    np.testing.assert_allclose(found.training[0, 0], np.sqrt([0.5, 0.5]), atol=1e-6)
    np.testing.assert_allclose(found.training[1:, 0], [[1, 0]] * 3)
    np.testing.assert_allclose(found.queries, [[0.6, 0.8]])
    assert material.labels == ["cat", "cow", "rain", "small dog"]
    assert facts["taxonomy_levels"] == 2


@pytest.mark.usefixtures("few")
def test_material_tells_embeddings_and_roles_apart(tmp_path: Path) -> None:
    rows = rows_of(FEW)
    catalog = write_labelled(tmp_path, rows)
    chosen = options(tmp_path, tmp_path / "vectors.parquet")
    first = prepared(chosen)[0].digest
    assert prepared(chosen)[0].digest == first
    write_vectors(tmp_path / "vectors.parquet", rows, seed=2)
    second = prepared(chosen)[0].digest
    write_rows(
        catalog,
        [
            {**row, "share": {"training": "database"}.get(row["share"], "training")}
            if row["share"] != "queries"
            else row
            for row in rows
        ],
    )
    third = prepared(chosen)[0].digest
    assert len({first, second, third}) == 3


@pytest.mark.usefixtures("few")
def test_labels_that_the_taxonomy_lacks(tmp_path: Path) -> None:
    rows = [{**row, "label": row["label"].replace("cat", "gull")} for row in rows_of(FEW)]
    write_labelled(tmp_path, rows)
    chosen = options(tmp_path, tmp_path / "vectors.parquet")
    with pytest.raises(CatalogError, match=r"taxonomy\.csv lacks 'gull': add .* --taxonomy none"):
        prepared(chosen)
    assert prepared(dataclasses.replace(chosen, taxonomy="none"))[0].taxonomy is None
    assert not (tmp_path / "out").exists()


def test_a_table_of_other_clips(tmp_path: Path) -> None:
    write_labelled(tmp_path)
    other = write_vectors(tmp_path / "o.parquet", rows_of({"training": 300}))
    with pytest.raises(CatalogError, match=r"0 clips in the role of database .*o\.parquet has no"):
        prepared(options(tmp_path, other))


def network(path: Path, *, window: int = 4000) -> Path:
    """Hears windows of samples; its three numbers are means of thirds of them."""
    weights = np.repeat(np.eye(3, dtype=np.float32), -(-window // 3), axis=0)[:window]
    node = helper.make_node("MatMul", ["samples", "weights"], ["found"])
    heard = helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["n", window])
    end = helper.make_tensor_value_info("found", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(
        [node], "means", [heard], [end], [numpy_helper.from_array(weights, "weights")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.usefixtures("few")
def test_embeddings_of_a_network(tmp_path: Path) -> None:
    rows = rows_of(FEW)
    for number, row in enumerate(rows):
        steps = np.repeat([0.1, 0.1 * (number + 1), 0.0], [1334, 1334, 1332])
        soundfile.write(tmp_path / row["uri"], steps, RATE, subtype="FLOAT")
    write_labelled(tmp_path, rows)
    (tmp_path / "queries001.wav").write_text("no sound " * 100)
    encoder = network(tmp_path / "net.onnx")
    material, facts = prepared(options(tmp_path, encoder, sample_rate=RATE))
    assert facts["clips"] == {"training": 4, "database": 3, "queries": 1}
    (failure,) = facts["failures"]  # type: ignore[misc]
    assert (failure["track_id"], failure["error"]) == ("queries001", "not-audio")
    found = material.embedded("3-d")
    expected = np.array([[1, number + 1, 0] for number in range(4)]) / 1.0
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.training[:, 0], expected, atol=2e-3)
    # Heard at twice the rate, the window is half as long, and two make a clip.
    other = prepared(options(tmp_path, encoder, sample_rate=2 * RATE))[0]
    assert other.digest != material.digest


@pytest.mark.usefixtures("few")
def test_a_network_that_hears_nothing(tmp_path: Path) -> None:
    write_labelled(tmp_path, rows_of(FEW))  # no file is there
    encoder = network(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"net\.onnx: no clip can be embedded \(.*wav"):
        prepared(options(tmp_path, encoder))
    (tmp_path / "net.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"net\.onnx cannot be run"):
        prepared(options(tmp_path, encoder))


# Options.


def test_options_are_what_was_typed() -> None:
    words = ["events", "--catalog", "c.csv", "--out", "o/", "--bits", "32", "8", "32"]
    words += ["--shares", "1", "0.5", "1.0", "--at", "5", "--only", "text", "table", "text"]
    _, args, _ = parse("evaluate", [*words, "--sample-rate", "32000", "--workers", "1"])
    found = options_from(args)
    assert (found.bits, found.shares, found.ranks) == ((8, 32), (0.5, 1.0), (5,))
    assert (found.sections, found.work, found.steps) == (("text", "table"), "o.work", 0)
    assert (found.sample_rate, found.labels, found.query_fold) == (32_000, None, None)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--catalog: is needed", "--out: is needed"]),
        (["--bits", "12"], ["--bits: must be 8, 16, 24, 32, 48 or 64"]),
        (["--bits", "40"], ["--bits: must be 8, 16, 24, 32, 48 or 64"]),
        (["--bits", "few", "--at", "0"], ["--bits: must be whole", "--at: must be whole numbers"]),
        (["--shares", "0.5", "2"], ["--shares: must be numbers above 0 to 1"]),
        (["--shares", "nan", "--labelled", "0"], ["--shares: must be", "--labelled: must be"]),
        (["--only", "tables"], ["--only: tables is none of table, shares,"]),
        (["--steps", "0", "--sample-rate", "0"], ["--steps: must be", "--sample-rate: must be"]),
        (["--seed", "-1", "--workers", "0"], ["--seed: must be", "--workers: must be"]),
        (["--querry-fold", "1"], ["unknown flag --querry-fold (did you mean --query-fold?)"]),
    ],
)
def test_mistakes_in_the_command_line(flags: list[str], words: list[str], capsys: Shown) -> None:
    assert main(["evaluate", "events", *flags]) == 2
    text = error_line(capsys, "evaluate")
    assert all(word in text for word in words), text


def test_mistakes_in_files(tmp_path: Path, capsys: Shown) -> None:
    write_labelled(tmp_path)
    (tmp_path / "file").touch()
    names = {"--catalog": "labels.csv", "--out": "out", "--encoder": "vectors.parquet"}

    def told(status: int, **changes: str) -> str:
        flags = {**names, **{f"--{name}": value for name, value in changes.items()}}
        words = [word for flag, value in flags.items() for word in (flag, f"{tmp_path}/{value}")]
        assert main(["evaluate", "events", *words, "--workers", "1", "--quiet"]) == status
        return error_line(capsys, "evaluate")

    assert "file is a file; name a folder" in told(2, out="file")
    assert "file is a file; name a folder" in told(2, work="file")
    assert "no.csv does not exist: name a" in told(2, catalog="no.csv")
    assert "no.parquet does not exist: name a Parquet" in told(2, encoder="no.parquet")
    assert "no.onnx cannot be read" in told(1, encoder="no.onnx")
    assert "cannot read" in told(2, taxonomy="no.csv")
    assert not (tmp_path / "out").exists()
