"""``hashbeam train clips`` and ``train events``: kinds, mistakes, and one small run of both."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from index_helpers import error_line
from tiny_catalog import write_rows

from hashing.encoders import Hasher
from hashing.events.encoder import ClipEmbedder
from hashing.models import CLIP_KIND, EVENTS_KIND, load_model
from hashing.training.events import encoder, quantization, quantizer_recipe
from pipelines import train_clips, train_events
from pipelines.cli import main, parse
from pipelines.train import choose

Shown = pytest.CaptureFixture[str]

RATE = 8000
LENGTHS_S = (0.5, 1.0, 4.0)
PITCHES = {"low": 200.0, "middle": 700.0, "high": 2500.0}
CLIPS = 290  # of which one in twenty is held out, and 256 are needed


def hum(pitch: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(round(LENGTHS_S[seed % 40] * RATE if seed % 40 < 3 else 0.5 * RATE)) / RATE
    out = 0.3 * np.sin(2 * np.pi * pitch * rng.uniform(0.9, 1.1) * t)
    return (out + 0.01 * rng.standard_normal(t.size)).astype(np.float32)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled clips of 0.5 s to 4 s and their taxonomy; six more ask or are asked for."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for number in range(CLIPS + 6):
        label = list(PITCHES)[number % 3]
        name = f"{label}{number:03d}"
        soundfile.write(folder / f"{name}.wav", hum(PITCHES[label], number), RATE)
        share = ("training", "database", "queries")[0 if number < CLIPS else 1 + number % 2]
        rows.append({"clip_id": name, "uri": f"{name}.wav", "label": label, "share": share})
    (folder / "taxonomy.csv").write_text("label,parent\nhum,\nlow,hum\nmiddle,hum\nhigh,\n")
    return write_rows(folder / "labels.csv", rows)


@pytest.fixture(scope="module")
def unlabelled(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four of the clips again, whose labels may not be known."""
    rows = [
        {"track_id": f"m{n}", "uri": str(clips.parent / f"low{3 * n:03d}.wav"), "label": "secret"}
        for n in range(4)
    ]
    return write_rows(tmp_path_factory.mktemp("more") / "more.csv", rows)


@pytest.fixture(autouse=True, scope="module")
def _few() -> Iterator[None]:
    """What no flag makes small: pairs a step, versions of clips, and processes."""
    small = functools.partial(encoder.ClipTraining, batch=8, label_batch=8, half_precision=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "ClipTraining", small)
        patch.setattr(quantizer_recipe, "MOST_EMBEDDED", 300)
        # Started processes import torch: longer than all the rest.
        patch.setattr(os, "sched_getaffinity", lambda pid: {0})
        hidden = functools.partial(quantization.QuantizerTraining, hidden=32, batch=32)
        patch.setattr(quantization, "QuantizerTraining", hidden)
        yield


@dataclasses.dataclass(frozen=True)
class Trained:
    """What one run of a command gave."""

    out: Path
    flags: list[str]
    status: int
    lines: list[str]


def run_train(kind: str, out: Path, *flags: object) -> Trained:
    words = [str(flag) for flag in flags]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = main(["train", kind, *words, "--out", str(out)])
    return Trained(out, words, status, said.getvalue().splitlines())


@pytest.fixture(scope="module")
def sound(
    clips: Path, unlabelled: Path, tmp_path_factory: pytest.TempPathFactory, _few: None
) -> Trained:
    """A clip encoder that has hardly learned anything."""
    few = ["--steps", "2", "--label-steps", "2", "--dimensions", "16", "--seed", "3"]
    names = ["--catalog", clips, "--unlabelled", unlabelled, "--leave-out", "label=low"]
    return run_train("clips", tmp_path_factory.mktemp("models") / "sound", *names, *few)


@pytest.fixture(scope="module")
def events(clips: Path, unlabelled: Path, sound: Trained, _few: None) -> Trained:
    few = ["--steps", "4", "--bits", "16", "--encoder", sound.out]
    names = ["--catalog", clips, "--unlabelled", unlabelled]
    return run_train("events", sound.out.with_name("events"), *names, *few)


def test_sound_becomes_a_clip_encoder(sound: Trained, clips: Path, unlabelled: Path) -> None:
    assert sound.status == 0
    model = load_model(str(sound.out))
    assert sound.lines[-1] == f"model {sound.out} with digest {model.digest[:16]}"
    assert model.config["kind"] == CLIP_KIND
    narrow, wide = (ClipEmbedder(model, size) for size in (False, True))
    assert (narrow.dimensions, wide.dimensions) == (16, model.config["dimensions_wide"])
    story = model.config["training"]
    settings = story["settings"]
    assert (settings["steps"], settings["label_steps"], settings["seed"]) == (2, 2, 3)
    labelled, other = story["catalogues"]
    # Those that ask or are asked for are not there, nor the labels that may not be known.
    low = sum(n % 3 == 0 for n in range(CLIPS))
    assert (labelled["files"], labelled["labels"]) == (CLIPS - low, ["high", "middle"])
    assert (other["files"], other["labelled"], other["labels"]) == (4, 0, [])
    for folder in (clips.parent, unlabelled.parent, sound.out.parent):
        assert f"{folder}/" not in (sound.out / "README.md").read_text() + story["command"]
    assert f"--catalog {clips.parent.name}/labels.csv --unlabelled " in story["command"]
    assert story["command"].endswith(
        "--leave-out label=low --seed 3 --steps 2 --label-steps 2 --dimensions 16"
    )


def test_the_same_command_goes_on_and_gives_the_same_encoder(
    sound: Trained, tmp_path: Path
) -> None:
    again = run_train("clips", tmp_path / "again", *sound.flags, "--work", f"{sound.out}.work")
    assert again.status == 0
    assert sum("resuming at step 2 of 2" in line for line in again.lines) == 2
    assert load_model(str(again.out)).digest == load_model(str(sound.out)).digest


def test_an_encoder_is_gone_on_from(clips: Path, sound: Trained, tmp_path: Path) -> None:
    names = ["--catalog", clips, "--encoder", sound.out, "--work", f"{sound.out}.work"]
    tuned = run_train("clips", tmp_path / "tuned", *names, "--label-steps", "1")
    assert tuned.status == 0
    assert not any(line.startswith("views ") for line in tuned.lines)
    model, before = (load_model(str(out)) for out in (tuned.out, sound.out))
    assert model.digest != before.digest
    assert model.config["dimensions"] == 16
    assert "--encoder sound" in model.config["training"]["command"]


def test_labelled_clips_become_codes(
    events: Trained, clips: Path, unlabelled: Path, sound: Trained
) -> None:
    assert events.status == 0
    model = load_model(str(events.out))
    assert events.lines[-1].startswith(f"model {events.out} with digest {model.digest[:16]}: mAP ")
    config = model.config
    assert (config["kind"], config["bits"], config["labels"]) == (
        EVENTS_KIND,
        16,
        ["high", "low", "middle"],
    )
    assert config["taxonomy"] == {"high": None, "hum": None, "low": "hum", "middle": "hum"}
    assert set(config["words"]) == {"high", "hum", "low", "middle"}
    assert config["training"]["encoder"]["digest"] == load_model(str(sound.out)).digest
    assert 256 <= config["training"]["clips"] <= CLIPS
    assert config["training"]["settings"]["steps"] == 4
    assert 1 <= config["training"]["clips_guessed"] <= 4
    assert f"labels.csv --unlabelled {unlabelled.parent.name}/" in config["training"]["command"]
    assert any("guessing the labels of" in line for line in events.lines)
    assert "secret" not in (events.out / "README.md").read_text()
    assert str(clips.parent) not in json.dumps(config) + (events.out / "README.md").read_text()
    assert "--bits 16 --steps 4 --seed 1 --encoder sound" in config["training"]["command"]
    hasher = Hasher.load(str(events.out))
    codes = hasher.hash_track([np.repeat(hum(700.0, 2), 2)]).codes
    assert codes.shape == (len(codes), 2)
    assert 0 < config["figures"]["map"] <= 1


def test_clips_that_are_too_few(clips: Path, sound: Trained, tmp_path: Path, capsys: Shown) -> None:
    rows = [
        {"track_id": f"m{n}", "uri": str(clips.parent / f"low{3 * n:03d}.wav"), "label": "low"}
        for n in range(4)
    ]
    few = write_rows(tmp_path / "few.csv", rows)
    assert main(["train", "clips", "--catalog", str(few), "--out", str(tmp_path / "m")]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(
        "hashbeam train: error: 4 windows of sound are too few to learn from: 64"
    )
    words = ["--catalog", str(few), "--out", str(tmp_path / "m"), "--encoder", str(sound.out)]
    assert main(["train", "events", *words]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("hashbeam train: error: 4 labelled clips are too few for codebooks: 256")
    assert not (tmp_path / "m").exists()


# Kinds.


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (["clips"], train_clips),
        (["events", "--out", "encoder"], train_events),
        (["--seed", "1", "events", "--out", "clips"], train_events),
        (["--out", "events", "clips"], train_clips),
        (["--out", "events", "--seed", "1", "clips"], train_clips),
        (["--out=events", "clips"], train_clips),
        (["--wide", "events"], train_events),
        (["--help", "clips"], train_clips),
        (["encoder", "--out", "events"], None),
        (["--out", "events", "encoder"], None),
        (["--unweighted", "sequence", "--out", "events"], None),
        (["--out=events", "sequence", "--work", "clips"], None),
        (["--out", "events"], None),
        (["artist", "events"], None),
        (["encodr", "--out", "events"], None),
        ([], None),
    ],
)
def test_a_kind_is_found_wherever_it_stands(words: list[str], module: object) -> None:
    assert choose(words) is module


def test_parsing_runs_nothing() -> None:
    module, args, left = parse("train", ["--catalog", "a.csv", "b.csv", "--seed", "2", "events"])
    assert (module, args.kind, args.catalog, left) == (
        train_events,
        "events",
        ["a.csv", "b.csv"],
        [],
    )
    assert (args.bits, args.system, args.wide, args.encoder) == ("64", "dqn", False, "sound")
    module, args, _ = parse("train", ["clips", "--out", "events", "--leave-out", "a=1", "b=2"])
    assert (module, args.out, args.leave_out) == (train_clips, "events", ["a=1", "b=2"])


# Mistakes.


@pytest.mark.parametrize(
    ("kind", "flags", "words"),
    [
        ("clips", [], ["--catalog: name one or more", "--out: is needed"]),
        ("events", [], ["--catalog: name one or more", "--out: is needed"]),
        (
            "clips",
            ["--steps", "0", "--label-steps", "-1", "--dimensions", "7", "--seed", "x"],
            ["--steps: must be", "--label-steps: must", "--dimensions: must be", "--seed: must be"],
        ),
        ("clips", ["--leave-out", "fold"], ["--leave-out: must be COLUMN=VALUE, got 'fold'"]),
        ("events", ["--leave-out", "a=b", "=3"], ["--leave-out: must be COLUMN=VALUE, got '=3'"]),
        ("clips", ["--threads", "0"], ["--threads: must be"]),
        (
            "clips",
            ["--encoder", "e", "--steps", "4", "--dimensions", "64"],
            ["--steps: is not for what goes on from --encoder", "--dimensions: is not"],
        ),
        ("events", ["--bits", "20"], ["--bits: must be 8, 16, 24, 32, 48 or 64"]),
        ("events", ["--bits", "40"], ["--bits: must be 8, 16, 24, 32, 48 or 64"]),
        (
            "events",
            ["--bits", "0", "--system", "pq"],
            ["--bits: must be from", "be one of dqn, dtq"],
        ),
        ("events", ["--steps", "0", "--threads", "few"], ["--steps: must", "--threads: must"]),
        ("events", ["--stepz", "3"], ["unknown flag --stepz (did you mean --steps?)"]),
        ("clips", ["--runner", "DirectRunner"], ["unknown flag --runner"]),
    ],
)
def test_mistakes_in_the_command_line_are_named_together(
    kind: str, flags: list[str], words: list[str], capsys: Shown
) -> None:
    assert main(["train", kind, *flags]) == 2
    text = error_line(capsys, "train")
    assert all(word in text for word in words), text


@pytest.mark.parametrize("kind", ["clips", "events"])
def test_a_file_for_a_folder(kind: str, tmp_path: Path, capsys: Shown) -> None:
    (tmp_path / "m").touch()
    assert main(["train", kind, "--catalog", "c.csv", "--out", str(tmp_path / "m")]) == 2
    assert f"--out: {tmp_path}/m is a file; name a folder" in error_line(capsys, "train")


def catalog_of(path: Path, **columns: str) -> Path:
    """A catalogue of two clips that are not there."""
    rows = [{"track_id": n, "uri": f"{n}.wav", **columns} for n in ("a", "b")]
    return write_rows(path, rows)


@pytest.mark.parametrize(
    ("kind", "flags", "expected"),
    [
        (
            "clips",
            ["--labels", "kind"],
            "c.csv: no column 'kind'; name one with --labels: track_id",
        ),
        ("events", ["--labels", "kind"], "c.csv: no column 'kind'; name one with --labels: track"),
        ("events", ["--leave-out", "fold=1"], "c.csv: no row is left to learn from; see --leave-"),
        ("clips", ["--leave-out", "fold=01"], "--leave-out fold=01: no row of"),
        ("events", ["--leave-out", "fodl=1"], "--leave-out fodl=1: no row of"),
        ("events", ["--labels", "none"], "c.csv: no clip has a label; see --labels"),
        (
            "clips",
            ["--labels", "none", "--encoder", "e"],
            "c.csv: no clip has a label, which --enc",
        ),
        ("events", ["--taxonomy", "no.csv"], "cannot read no.csv: "),
        ("clips", ["--unlabelled", "no.csv"], "no.csv does not exist: name a CSV"),
    ],
)
def test_mistakes_in_files_are_told_before_any_work(
    kind: str, flags: list[str], expected: str, tmp_path: Path, capsys: Shown
) -> None:
    catalog = catalog_of(tmp_path / "c.csv", label="x", none="", fold="1")
    words = ["--catalog", str(catalog), "--out", str(tmp_path / "m"), *flags]
    assert main(["train", kind, *words]) == 2
    text = error_line(capsys, "train")
    assert expected in text
    assert [path.name for path in tmp_path.iterdir()] == ["c.csv"]


def test_without_torch(tmp_path: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = catalog_of(tmp_path / "c.csv", label="x")
    monkeypatch.setitem(sys.modules, "torch", None)
    for kind in ("clips", "events"):
        words = ["--catalog", str(catalog), "--out", str(tmp_path / "m")]
        assert main(["train", kind, *words]) == 1
        assert "pip install 'hashbeam[train]'" in error_line(capsys, "train")
