from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from index_helpers import error_line, run_index
from tiny_catalog import write_rows

from hashing import audio
from hashing.confidence import Confidence
from hashing.encoders import Hasher
from hashing.flow import FlowQuantizer
from hashing.learned import LearnedQuantizer
from hashing.models import load_model
from hashing.synthesis import render_track
from hashing.training import ambience, calibration, encoder, flow_data, pairs, recipe, tiles
from hashing.training.light import LightTraining
from hashing.training.pairs import EncoderTraining
from pipelines import train
from pipelines.cli import main, parse
from pipelines.versions import open_manifest

pytestmark = pytest.mark.usefixtures("one_index_decoder")

RATE, TRACKS = 8000, 16


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short tracks, each with an artist of its own, in a catalogue with relative uris."""
    folder = tmp_path_factory.mktemp("music")
    rows = []
    for i in range(TRACKS):
        audio.encode(render_track(i, 5.0, RATE), RATE, str(folder / f"{i}.wav"), codec="wav")
        rows.append({"track_id": f"t{i:02d}", "uri": f"{i}.wav", "artist_name": f"artist {i}"})
    return write_rows(folder / "catalog.csv", rows)


def run_train(catalog: Path, out: Path, *flags: str) -> int:
    few = ["--steps", "30", "--songs", "16", "--excerpts", "16", "--queries", "4"]
    return main(["train", "forgiving", "--catalog", str(catalog), "--out", str(out), *few, *flags])


@pytest.fixture(autouse=True, scope="module")
def _few() -> Iterator[None]:
    """What no flag makes small: rooms, noises, and the networks of the encoder."""
    small = functools.partial(
        EncoderTraining,
        channels=(4, 6),
        dimensions=16,
        bits=40,
        batch=16,
        code_bytes=8,
        n_tables=4,
        key_bits=14,
    )
    light = functools.partial(LightTraining, channels=(4,), steps=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "EncoderTraining", small)
        patch.setattr(encoder, "STATISTICS_SNIPPETS", 1024)
        patch.setattr(recipe, "LightTraining", light)
        patch.setattr(recipe, "Recipe", functools.partial(recipe.Recipe, versions=3))
        patch.setattr(calibration, "CHANCE_QUERIES", 4)
        patch.setattr(tiles, "TILE_FRAMES", 64)
        for name, few in {
            "SIMULATED_ROOMS": 2,
            "BABBLES": 2,
            "BABBLE_SECONDS": 2,
            "VOICES": 2,
            "COLOURED_SECONDS": 2,
        }.items():
            patch.setattr(ambience, name, few)
        patch.setattr(recipe, "UNHEARD_VERSIONS", 2)
        yield


@dataclasses.dataclass(frozen=True)
class Trained:
    """What one run of the command gave."""

    out: Path
    flags: list[str]
    status: int
    lines: list[str]


@pytest.fixture(scope="module")
def trained(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    for name, count in (("noise", 5), ("rooms", 2)):
        (folder / name).mkdir()
        for i in range(count):
            path = folder / name / f"{name}-{i}.wav"
            audio.encode(render_track(50 + i, 1.0, RATE), RATE, str(path), codec="wav")
    flags = ["--seed", "5", "--noise", str(folder / "noise"), "--rooms", str(folder / "rooms")]
    out = folder / "models" / "mine"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = run_train(catalog, out, *flags)
    return Trained(out, flags, status, said.getvalue().splitlines())


def test_a_catalogue_becomes_a_model(trained: Trained, catalog: Path) -> None:
    out = trained.out
    assert trained.status == 0
    hasher = Hasher.load(str(out))
    assert trained.lines[-1] == (
        f"model {out} with digest {hasher.digest[:16]}; use it with --model {out}"
    )
    assert any("step     30 of 30  loss 0." in line for line in trained.lines)
    # The whole of the paper's ensemble, at the features of the shipped model.
    assert hasher.config["bits"] == 464
    assert hasher.quantizer.n_tables == 20
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "arrays.safetensors",
        "config.json",
        "model.onnx",
    ]
    story = hasher.config["training"]
    assert (story["seed"], story["steps"]) == (5, 30)
    assert story["noise_held_out"] == ["noise-3.wav"]
    assert Confidence.from_json(hasher.config["calibration"]) != Confidence()


def test_the_card_says_how_it_was_made_and_not_where(trained: Trained, catalog: Path) -> None:
    # Whoever repeats the command has the same model: all flags but those of one machine.
    card = (trained.out / "README.md").read_text()
    assert "`hashbeam train forgiving --catalog catalog.csv --noise noise " in card
    assert " --window second --seed 5 --steps 30 --songs 16 --excerpts 16 --queries 4`" in card
    text = card + (trained.out / "config.json").read_text()
    for folder in (catalog.parent, trained.out.parent):
        assert str(folder) not in text


def test_the_model_is_of_use_at_once(trained: Trained, catalog: Path, tmp_path: Path) -> None:
    assert run_index(catalog, tmp_path / "index", trained.out) == 0
    manifest = open_manifest(str(tmp_path / "index"))
    assert manifest.model["digest"] == load_model(str(trained.out)).digest


def test_the_same_command_goes_on_and_gives_the_same_model(
    trained: Trained, catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*trained.flags, "--work", f"{trained.out}.work"]
    assert run_train(catalog, tmp_path / "again", *flags) == 0
    assert "resuming at step 30 of 30" in capsys.readouterr().out
    assert load_model(str(tmp_path / "again")).digest == load_model(str(trained.out)).digest
    assert not (tmp_path / "again.work").exists()


def run_encoder(catalog: Path, out: Path, *flags: str) -> int:
    few = ["--steps", "8", "--tile-versions", "2", "--queries", "4", "--seed", "5"]
    return main(["train", "encoder", "--catalog", str(catalog), "--out", str(out), *few, *flags])


@pytest.fixture(scope="module")
def trained_encoder(catalog: Path, tmp_path_factory: pytest.TempPathFactory, _few: None) -> Trained:
    out = tmp_path_factory.mktemp("trained") / "models" / "encoder"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = run_encoder(catalog, out)
    return Trained(out, [], status, said.getvalue().splitlines())


def test_a_catalogue_becomes_an_encoder(
    trained_encoder: Trained, catalog: Path, tmp_path: Path
) -> None:
    out = trained_encoder.out
    assert trained_encoder.status == 0
    hasher = Hasher.load(str(out))
    assert trained_encoder.lines[-1] == (
        f"model {out} with digest {hasher.digest[:16]}; use it with --model {out}"
    )
    assert any("step      8 of 8  loss " in line for line in trained_encoder.lines)
    assert isinstance(hasher.quantizer, LearnedQuantizer)
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "arrays.safetensors",
        "config.json",
        "model.onnx",
        "query.onnx",
    ]
    story = hasher.config["training"]
    assert (story["seed"], story["steps"], story["tile_versions"]) == (5, 8, 2)
    assert Confidence.from_json(hasher.config["calibration"]) != Confidence()
    card = (out / "README.md").read_text()
    assert "`hashbeam train encoder --catalog catalog.csv --group " in card
    assert " --window dense --seed 5 --steps 8 --tile-versions 2 --queries 4`" in card
    for folder in (catalog.parent, out.parent):
        assert str(folder) not in card + (out / "config.json").read_text()
    assert run_index(catalog, tmp_path / "index", out) == 0
    assert open_manifest(str(tmp_path / "index")).model["digest"] == hasher.digest


def test_the_same_command_goes_on_with_the_encoder(
    trained_encoder: Trained, catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = f"{trained_encoder.out}.work"
    assert run_encoder(catalog, tmp_path / "again", "--work", work) == 0
    said = capsys.readouterr().out
    assert "resuming at step 8 of 8" in said
    assert "light encoder: resuming at step 6 of 6" in said
    again, first = (load_model(str(out)) for out in (tmp_path / "again", trained_encoder.out))
    assert again.digest == first.digest
    assert again.config["calibration"] == first.config["calibration"]
    # What has been learned cannot be unlearned.
    assert run_encoder(catalog, tmp_path / "less", "--work", work, "--steps", "4") == 1
    text = error_line(capsys, "train")
    assert "has learned for 8 steps, which is more than 4" in text
    assert not (tmp_path / "less").exists()


def test_a_flow_on_an_encoder(
    trained_encoder: Trained,
    catalog: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(flow_data, "PAIRS", 32)
    monkeypatch.setattr(flow_data, "UNHEARD_PAIRS", 8)
    out, encoder = tmp_path / "flow", str(trained_encoder.out)
    few = ["--bits", "5", "--steps", "4", "--queries", "4", "--seed", "5", "--radius", "0.5"]
    names = ["--catalog", str(catalog), "--out", str(out), "--encoder", encoder]
    assert main(["train", "flow", *names, *few]) == 0
    assert f"use it with --model {out}" in capsys.readouterr().out
    hasher = Hasher.load(str(out))
    assert isinstance(hasher.quantizer, FlowQuantizer)
    assert (hasher.quantizer.bits, float(hasher.quantizer.radius)) == (5, 0.5)
    story = load_model(encoder).config["training"]
    assert set(story["tracks_held_out"]) <= set(hasher.config["training"]["tracks_held_out"])
    card = (out / "README.md").read_text()
    assert "`hashbeam train flow --catalog catalog.csv --group " in card
    assert " --seed 5 --steps 4 --bits 5 --radius 0.5 --encoder encoder --queries 4`" in card
    # Of use at once, with embeddings, which its look-up compares.
    index = tmp_path / "index"
    assert run_index(catalog, index, out, "--keep-embeddings") == 0
    assert open_manifest(str(index)).model["digest"] == hasher.digest
    query = str(catalog.parent / "3.wav")
    assert main(["lookup", query, "--index", str(index), "--model", str(out), "--json"]) == 0
    assert '"matches": [' in capsys.readouterr().out  # so few steps find nothing


def test_parsing_runs_nothing() -> None:
    module, args, leftover = parse("train", ["forgiving", "--catalog", "c", "--noise", "a", "b"])
    assert module is train
    assert (args.kind, args.catalog, args.noise, args.rooms) == ("forgiving", "c", ["a", "b"], [])
    assert (args.seed, args.threads, args.steps, args.work) == ("1", "1", None, None)
    assert (args.tile_versions, args.excerpts, args.queries) == (None, None, None)
    assert args.group is None  # album and artist_name, but for artists
    assert leftover == []


@pytest.mark.parametrize("kind", ["forgetting", "", "FORGIVING"])
def test_an_unknown_kind(
    kind: str, catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", kind, "--catalog", str(catalog), "--out", str(tmp_path / "m")]) == 2
    line = error_line(capsys, "train")
    assert f"no kind {kind!r} to train: use one of {', '.join(train.KINDS)}" in line
    assert "forgiving" in train.KINDS


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--catalog: is needed", "--out: is needed"]),
        (["--catalog", "c.csv"], ["--out: is needed"]),
        (
            ["--steps", "0", "--songs", "few", "--seed", "-1"],
            ["--steps: must be 1 or more", "--songs: must be a whole number", "--seed: must be"],
        ),
        (["--excerpts", "7", "--queries", "0"], ["--excerpts: must be 8", "--queries: must be 1"]),
        (["--threads", "0"], ["--threads: must be"]),
        (["--epochs", "3"], ["--epochs"]),
        (["--runner", "DirectRunner"], ["--runner"]),
    ],
)
def test_mistakes_in_the_command_line_are_named_together(
    flags: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "forgiving", *flags]) == 2
    text = error_line(capsys, "train")
    assert all(word in text for word in words)


@pytest.mark.parametrize(
    ("kind", "flag", "value", "kinds"),
    [
        ("encoder", "--songs", "16", "forgiving"),
        ("encoder", "--excerpts", "16", "forgiving"),
        ("forgiving", "--tile-versions", "4", "encoder"),
        ("lsh", "--steps", "9", "encoder, forgiving, flow, artist, sequence"),
        ("minhash", "--songs", "16", "forgiving"),
        ("itq", "--radius", "0.5", "flow"),
        ("encoder", "--stability", "0.5", "flow"),
    ],
)
def test_flags_of_another_kind_are_refused(
    kind: str, flag: str, value: str, kinds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", kind, "--catalog", "c.csv", "--out", "m", flag, value]) == 2
    assert f"{flag}: is for {kinds}, not for {kind}" in error_line(capsys, "train")


@pytest.mark.parametrize("kind", ["encoder", "forgiving"])
def test_flags_of_heads_are_not_for_networks(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--encoder", "contrastive", "--bits", "64"]
    assert main(["train", kind, "--catalog", "c.csv", "--out", "m", *flags]) == 2
    text = error_line(capsys, "train")
    assert "--encoder: is for lsh, " in text
    assert "--bits: is for lsh, " in text


def test_a_tile_has_a_clean_and_a_degraded_version(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--catalog", "c.csv", "--out", "m", "--tile-versions", "1"]
    assert main(["train", "encoder", *flags]) == 2
    assert "--tile-versions: must be 2" in error_line(capsys, "train")


def test_no_kind_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert "KIND" in error_line(capsys, "train")


def test_a_catalogue_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_train(tmp_path / "none.csv", tmp_path / "m") == 2
    assert "none.csv" in error_line(capsys, "train")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["torch", "onnx", "pyroomacoustics"])
def test_without_what_training_needs(
    name: str,
    catalog: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert importlib.util.find_spec(name) is None
    assert run_train(catalog, tmp_path / "m") == 1
    text = error_line(capsys, "train")
    assert f"training needs {name}, which is not installed" in text
    assert "pip install 'hashbeam[train]'" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--noise", "--rooms"])
def test_folders_without_recordings(
    flag: str, catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for folder, words in (("empty", "holds no audio"), ("missing", "is not a folder")):
        assert run_train(catalog, tmp_path / "m", flag, str(tmp_path / folder)) == 1
        text = error_line(capsys, "train")
        assert str(tmp_path / folder) in text
        assert words in text


@pytest.mark.parametrize("flags", [["--group", "composer"], ["--same", "composer"]])
def test_a_column_that_the_catalogue_lacks(
    flags: list[str], catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Taken for no column at all, the split would let the same composer stand on both sides.
    assert run_train(catalog, tmp_path / "m", *flags) == 2
    assert "no column composer to group by" in error_line(capsys, "train")


def test_too_few_artists_to_hold_any_out(
    catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"track_id": f"t{i}", "uri": str(catalog.parent / f"{i}.wav"), "artist_name": "one"}
        for i in range(3)
    ]
    assert run_train(write_rows(tmp_path / "one.csv", rows), tmp_path / "m") == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "3 tracks cannot be split" in said.err
    assert not (tmp_path / "m").exists()


def test_more_songs_than_excerpts(
    catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_train(catalog, tmp_path / "m", "--songs", "17") == 1
    assert "a network learns 17 songs, the pool has 16 excerpts" in error_line(capsys, "train")
    assert list(tmp_path.iterdir()) == []  # said before anything was decoded


def test_several_artists_are_one_name() -> None:
    assert train._text(["b", "a"]) == "b; a"
    assert train._text(None) == ""
    assert train._text(np.int64(7)) == "7"
