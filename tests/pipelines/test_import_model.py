"""``hashbeam import-model``: once for real, without torch; and every mistake in one line."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_encoder import BANDS, FEATURES, FRAMES, encoder, node, projection, written
from index_helpers import error_line, run_index
from published_index import wav
from tiny_catalog import RATE, write_rows

from hashing.confidence import Confidence
from hashing.encoders import Hasher
from hashing.errors import UsageError
from hashing.features import BALUJA_COVELL, FeatureConfig
from hashing.models import DEFAULT_MODEL, PRETRAINED, load_model
from hashing.synthesis import render_track
from pipelines import import_model
from pipelines.cli import main, parse
from pipelines.import_model import ImportOptions, command, options_from

TRACKS = 10
SMALL = ("--n-bands", str(BANDS), "--snippet-frames", str(FRAMES))
FEW = ("--bits", "64", "--tables", "4", "--queries", "12")

Shown = pytest.CaptureFixture[str]

# The verb in a process of its own that cannot import torch.
WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Blocker())
from pipelines import cli

sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten short tracks by as many artists, with relative uris."""
    folder = tmp_path_factory.mktemp("music")
    rows = []
    for i in range(TRACKS):
        wav(folder / f"{i}.wav", render_track(i, 5.0, RATE))
        rows.append({"track_id": f"t{i}", "uri": f"{i}.wav", "artist_name": f"artist {i}"})
    return write_rows(folder / "catalog.csv", rows)


@dataclasses.dataclass(frozen=True)
class Imported:
    """What one run of the command gave."""

    out: Path
    arguments: list[str]
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def imported(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    """An encoder with frames first, a channel last, biased, and a classifier behind."""
    folder = tmp_path_factory.mktemp("imported")
    path = written(
        folder / "theirs.onnx",
        encoder(
            (FRAMES, BANDS, 1),
            projection(dimensions=32),
            after=[node("Add", ["product", "bias"], "pooled"), node("Relu", ["pooled"], "scores")],
            values={"bias": np.full(32, 0.1, np.float32)},
        ),
    )
    (folder / "noise").mkdir()
    wav(folder / "noise" / "hum.wav", render_track(99, 2.0, RATE))
    out = folder / "models" / "mine"
    arguments = ["import-model", str(path), "--catalog", str(catalog), "--out", str(out)]
    arguments += ["--output", "pooled", "--noise", str(folder / "noise"), *SMALL, *FEW]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Imported(out, arguments, done)


def test_no_torch_is_needed(imported: Imported) -> None:
    assert imported.done.returncode == 0, imported.done.stderr
    digest = load_model(str(imported.out)).digest
    assert imported.done.stdout.splitlines()[-1] == (
        f"model {imported.out} with digest {digest[:16]}; use it with --model {imported.out}"
    )


def test_the_model_is_like_those_that_are_trained_here(imported: Imported) -> None:
    hasher = Hasher.load(str(imported.out))
    assert hasher.features == FEATURES
    assert (hasher.quantizer.code_bytes, hasher.quantizer.n_tables) == (8, 4)
    calibration = hasher.config["calibration"]
    assert Confidence.from_json(calibration) != Confidence()
    assert calibration["matches"] > 0
    assert 0.0 <= calibration["brier_score"] <= 1.0
    story = hasher.config["training"]
    assert story["encoder"]["layout"] == "frames-bands"
    assert len(story["tracks_calibrated"]) == 3  # 30 % of ten
    assert story["tracks_fitted"] == 7
    # Three tracks are too few to trust the score, and that is said.
    assert "warning: the score is fitted to " in imported.done.stderr


@pytest.mark.usefixtures("one_index_decoder", "one_decoder")
def test_it_indexes_and_finds(
    imported: Imported, catalog: Path, tmp_path: Path, capsys: Shown
) -> None:
    index = tmp_path / "index"
    assert run_index(catalog, index, imported.out) == 0
    song = render_track(4, 5.0, RATE)[RATE : 4 * RATE]
    query = wav(tmp_path / "query.wav", song)
    capsys.readouterr()
    arguments = ["lookup", "--index", str(index), "--model", str(imported.out), str(query)]
    assert main([*arguments, "--json", "--min-score", "0"]) == 0
    (answer,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert answer["matches"][0]["track_id"] == "t4"
    assert answer["matches"][0]["offset_s"] == pytest.approx(1.0, abs=0.13)


def test_the_card_tells_a_command_that_can_be_typed(imported: Imported, catalog: Path) -> None:
    card = (imported.out / "README.md").read_text()
    (line,) = (row for row in card.splitlines() if row.startswith("* **Command**"))
    typed = shlex.split(line.split("`")[1])
    assert typed == [
        *("hashbeam", "import-model", "theirs.onnx", "--catalog", "catalog.csv"),
        *("--n-bands", "16", "--snippet-frames", "14", "--output", "pooled"),
        *("--noise", "noise", "--bits", "64", "--tables", "4", "--seed", "1"),
        *("--group", "album", "artist_name", "--queries", "12"),
    ]
    typed[typed.index("--noise") : typed.index("--bits")] = ["--out", "m"]
    assert options_from(parse("import-model", typed[2:])[1]).features == FEATURES
    text = card + (imported.out / "config.json").read_text()
    for folder in (catalog.parent, imported.out.parents[1]):
        assert str(folder) not in text


def test_the_same_command_refuses_to_write_over_it(imported: Imported, capsys: Shown) -> None:
    digest = load_model(str(imported.out)).digest
    assert main(imported.arguments) == 1
    assert f"{imported.out} exists already: name another folder" in error_line(
        capsys, "import-model"
    )
    assert load_model(str(imported.out)).digest == digest


def run_import(encoder_path: Path, catalog: Path, out: Path, *flags: str) -> int:
    arguments = [str(encoder_path), "--catalog", str(catalog), "--out", str(out)]
    return main(["import-model", *arguments, "--no-calibration", *FEW, *flags])


def test_json(catalog: Path, tmp_path: Path, capsys: Shown) -> None:
    path = written(tmp_path / "enc.onnx", encoder(weights=projection(dimensions=9)))
    assert run_import(path, catalog, tmp_path / "m", *SMALL, "--json") == 0
    said = capsys.readouterr()
    facts = json.loads(said.out)  # nothing else on stdout
    assert facts["model"] == str(tmp_path / "m")
    assert facts["digest"] == load_model(str(tmp_path / "m")).digest
    assert set(facts["figures"]) >= {"recall", "recall_rounded", "met_by_keys", "varying"}
    assert Hasher.load(str(tmp_path / "m")).quantizer.code_bytes == 3  # a quarter of nine, up


def options(*flags: str) -> ImportOptions:
    given = ["e.onnx", "--catalog", "c", "--out", "m", *flags]
    return options_from(parse("import-model", given)[1])


def test_parsing_runs_nothing() -> None:
    module, args, leftover = parse("import-model", ["e.onnx", "--catalog", "c", "--out", "m"])
    assert (module, leftover) == (import_model, [])
    found = options_from(args)
    assert (found.encoder, found.catalog, found.out, found.work) == ("e.onnx", "c", "m", "m.work")
    assert found.features == FeatureConfig()
    assert (found.bits, found.tables, found.seed, found.queries) == (256, 16, 1, 600)
    assert (found.input, found.output, found.layout, found.same) == ("", "", "", "")
    assert options("--no-calibration").queries == 0


def test_features(tmp_path: Path) -> None:
    file = tmp_path / "features.json"
    file.write_text(json.dumps({"n_bands": 40, "fmax": 3000.0}))
    forty = FeatureConfig(n_bands=40, fmax=3000.0)
    assert options("--features", str(file)).features == forty
    assert options("--features", str(file), "--n-bands", "41").features.n_bands == 41
    assert options("--window", "baluja-covell").features == BALUJA_COVELL
    assert options("--silence-db", "-50").features == FeatureConfig(silence_db=-50.0)
    assert options("--repeats-short").features == FeatureConfig(repeats_short=True)
    file.write_text(json.dumps({"repeats_short": True}))
    assert options("--features", str(file)).features == FeatureConfig(repeats_short=True)
    # The features of another model, by its own file.
    settings = PRETRAINED / DEFAULT_MODEL / "config.json"
    assert options("--features", str(settings)).features == Hasher.load().features


@pytest.mark.parametrize(
    "flags",
    [
        ("--n-bands", "40", "--fmax", "3000", "--sample-rate", "16000"),
        ("--window", "baluja-covell"),
        ("--window", "baluja-covell", "--snippet-hop", "20"),
        ("--window", "dense", "--repeats-short"),
        ("--layout", "frames-bands", "--input", "a b", "--same", "work", "--no-calibration"),
        ("--group", "composer", "--queries", "7", "--seed", "3"),
    ],
)
def test_the_command_of_the_card_is_what_was_asked(flags: tuple[str, ...]) -> None:
    asked = options(*flags)
    typed = shlex.split(command(asked))[2:]
    again = options_from(parse("import-model", [*typed, "--out", "m"])[1])
    assert again == dataclasses.replace(asked, queries=again.queries)
    assert again.queries == asked.queries


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--catalog: is needed", "--out: is needed"]),
        (["--bits", "31", "--tables", "0"], ["--bits: must be from 32", "--tables: must be from"]),
        (["--bits", "32", "--tables", "40"], ["--tables: 40 need as many --bits at least"]),
        (["--seed", "-1", "--queries", "0"], ["--seed: must be", "--queries: must be from 1"]),
        (["--layout", "upright"], ["--layout: must be one of bands-frames, frames-bands, flat"]),
        (["--window", "minute"], ["--window: must be one of second, dense, baluja-covell"]),
        (["--window", "second", "--features", "f"], ["--window, --features: give one of them"]),
        (["--features", "none.json"], ["--features: none.json cannot be read"]),
        (["--n-bands", "many"], ["--n-bands: must be a whole number"]),
        (["--fmin", "5000"], ["fmin=5000.0 and fmax=3900.0 must rise"]),
        (["--noise", "none"], ["--noise, --rooms: none is not a folder"]),
        (["--epochs", "3"], ["unknown flag --epochs"]),
        (["--repeats-short", "1"], ["1"]),
        (["--runner", "DirectRunner"], ["unknown flag --runner"]),
    ],
)
def test_mistakes_in_the_command_line_are_named_together(
    flags: list[str], words: list[str], capsys: Shown
) -> None:
    assert main(["import-model", "e.onnx", *flags]) == 2
    text = error_line(capsys, "import-model")
    assert all(word in text for word in ["--catalog: is needed", *words])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "is no object of settings"),
        (b'{"bands": 3}', "unknown feature settings ['bands']"),
        (b'{"n_bands": "3"}', "feature setting n_bands='3' is not a number"),
        (b"\xff\xfe", "is not JSON"),
        (b" " * (1 << 20) + b"{}", "is too large"),
    ],
)
def test_files_of_features_that_are_none(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    file.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        options("--features", str(file))
    assert "--features: " in str(raised.value)
    assert words in str(raised.value)


def no_file(folder: Path) -> Path:
    return folder / "none.onnx"


def no_onnx(folder: Path) -> Path:
    (folder / "notes.txt").write_text("weights to come\n")
    return folder / "notes.txt"


def two_outputs(folder: Path) -> Path:
    more = {"outputs": [("product", ["n", 16]), ("row", ["n", 224])]}
    return written(folder / "two.onnx", encoder(**more))


def of_other_snippets(folder: Path) -> Path:
    return written(folder / "enc.onnx", encoder((128, 101), projection(128 * 101)))


@pytest.mark.parametrize(
    ("make", "status", "words"),
    [
        (no_file, 1, "none.onnx cannot be read"),
        (no_onnx, 1, "notes.txt is no ONNX model: export one"),
        (two_outputs, 2, "two.onnx has 2 outputs: name the embedding with --output, one of"),
        (of_other_snippets, 1, "input mel takes [n, 128, 101], which does not hold"),
    ],
)
def test_mistakes_in_the_encoder(
    make: Any, status: int, words: str, catalog: Path, tmp_path: Path, capsys: Shown
) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    assert run_import(make(folder), catalog, tmp_path / "m", *SMALL) == status
    assert words in error_line(capsys, "import-model")
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]  # nothing was decoded


def test_a_catalogue_that_is_not_there(tmp_path: Path, capsys: Shown) -> None:
    assert run_import(tmp_path / "e.onnx", tmp_path / "none.csv", tmp_path / "m") == 2
    assert "none.csv does not exist" in error_line(capsys, "import-model")


@pytest.mark.parametrize("flags", [["--group", "composer"], ["--same", "composer"]])
def test_a_column_that_the_catalogue_lacks(
    flags: list[str], catalog: Path, tmp_path: Path, capsys: Shown
) -> None:
    assert run_import(tmp_path / "e.onnx", catalog, tmp_path / "m", *flags) == 2
    assert "catalog.csv has no column composer" in error_line(capsys, "import-model")


def test_without_onnx(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    path = written(tmp_path / "enc.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert run_import(path, catalog, tmp_path / "m", *SMALL) == 1
    text = error_line(capsys, "import-model")
    assert "import-model needs onnx, which is not installed: pip install onnx" in text
    assert "'hashbeam[train]'" in text
    assert [path.name for path in tmp_path.iterdir()] == ["enc.onnx"]


def test_the_help_says_what_is_possible(capsys: Shown) -> None:
    assert main(["import-model", "--help"]) == 0
    text = capsys.readouterr().out
    for words in ("cannot be trained further", "as --encoder by those\nkinds of", "--n-bands"):
        assert words in text
