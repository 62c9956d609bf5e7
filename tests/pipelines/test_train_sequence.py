"""``hashbeam train sequence`` from the command line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from index_helpers import error_line

from pipelines import train
from pipelines.cli import main

MIDI = ("--midi", "MIDI", "--out", "OUT")


def command(tmp_path: Path, flags: tuple[str, ...]) -> list[str]:
    (tmp_path / "midi").mkdir(exist_ok=True)
    places = {"MIDI": str(tmp_path / "midi"), "OUT": str(tmp_path / "out")}
    return ["train", "sequence", *(places.get(flag, flag) for flag in flags)]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--out", "OUT"), "--midi: name one or more folders of MIDI files"),
        (("--midi", "MIDI"), "--out: is needed"),
        (("--midi", "nowhere", "MIDI", "--out", "OUT"), "--midi: nowhere is no folder"),
        ((*MIDI, "--system", "triplets"), "--system: must be one of contrast, margin, published"),
        ((*MIDI, "--scores", "sung"), "--scores: must be one of rendered, roll"),
        ((*MIDI, "--steps", "0"), "--steps: must be"),
        ((*MIDI, "--embedding-steps", "x"), "--embedding-steps: must be a whole number"),
        ((*MIDI, "--performances", "0"), "--performances: must be"),
        ((*MIDI, "--threads", "0"), "--threads: must be"),
        ((*MIDI, "--seed", "-1"), "--seed: must be"),
        ((*MIDI, "--narrow", "0.5"), "--narrow: is for --system published"),
        ((*MIDI, "--system", "published", "--narrow", "2"), "--narrow: must be"),
        ((*MIDI, "--catalog", "a.csv"), "--catalog: is not for sequence"),
        ((*MIDI, "--noise", "a"), "--noise: is not for sequence"),
        ((*MIDI, "--rooms", "a"), "--rooms: is not for sequence"),
        ((*MIDI, "--group", "album"), "--group: is not for sequence"),
        ((*MIDI, "--same", "isrc"), "--same: is not for sequence"),
        ((*MIDI, "--window", "dense"), "--window: is not for sequence"),
        ((*MIDI, "--queries", "4"), "--queries: is not for sequence"),
        ((*MIDI, "--bits", "64"), "--bits: is for"),
        ((*MIDI, "--folds", "5"), "--folds: is for artist, not for sequence"),
    ],
)
def test_mistakes_are_one_line(
    flags: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, flags)) == 2
    assert words in error_line(capsys, "train")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flag", ["--midi", "--scores", "--performances", "--narrow", "--unweighted"]
)
def test_its_flags_are_not_for_others(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = [] if flag == "--unweighted" else ["1"]
    assert main(["train", "lsh", "--catalog", "c", "--out", "o", flag, *values]) == 2
    assert f"{flag}: is for sequence, not for lsh" in error_line(capsys, "train")


def test_all_mistakes_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--out", "OUT", "--steps", "0", "--scores", "sung", "--queries", "1")
    assert main(command(tmp_path, flags)) == 2
    line = error_line(capsys, "train")
    assert all(flag in line for flag in ("--midi:", "--steps:", "--scores:", "--queries:"))


def test_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        train.importlib.util,
        "find_spec",
        lambda name, *more: None if name == "torch" else find(name, *more),
    )
    assert main(command(tmp_path, MIDI)) == 1
    assert "training needs torch, which is not installed" in error_line(capsys, "train")


def test_no_midi_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hashing.rendering import fluidsynth_command

    assert main(command(tmp_path, MIDI)) == 1
    wanted = "no MIDI files" if fluidsynth_command() else "needs FluidSynth"
    assert wanted in error_line(capsys, "train")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the run is asked for, instead of the run."""
    from hashing.training.sequences import recipe

    calls: list[Any] = []

    def run(made: Any, out: Path, work: Path, log: Any) -> Any:
        log("a line")
        calls.append((made, out, work))
        return SimpleNamespace(
            path=out, digest="0123456789abcdef77", config={"figures": {"mrr": 0.75}}
        )

    monkeypatch.setattr(recipe, "train_sequence", run)
    return calls


def test_a_plain_run(tmp_path: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(tmp_path, MIDI)) == 0
    ((made, out, work),) = asked
    assert (out, work) == (tmp_path / "out", tmp_path / "out.work")
    assert made.midi == [str(tmp_path / "midi")]
    assert (made.performances, made.threads) == (4, 1)
    assert made.workers >= 1
    training = made.training
    assert (training.system, training.seed, training.attention) == ("contrast", 1, 128)
    assert training.scores == ("TimGM6mb.sf2", "plain")
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "a line",
        f"model {out} with digest 0123456789abcdef: mean reciprocal rank 0.750 on the songs "
        "that it was chosen by",
    ]


def test_every_flag_arrives_and_is_told(tmp_path: Path, asked: list[Any]) -> None:
    flags = (*MIDI, "--work", str(tmp_path / "w"), "--system", "published", "--narrow", "0.25",
             "--scores", "roll", "--performances", "7", "--steps", "30", "--embedding-steps", "20",
             "--unweighted", "--seed", "5", "--threads", "2")  # fmt: skip
    assert main(command(tmp_path, flags)) == 0
    ((made, _, work),) = asked
    assert work == tmp_path / "w"
    assert (made.performances, made.threads) == (7, 2)
    training = made.training
    assert (training.system, training.narrow, training.scores) == ("published", 0.25, ("roll",))
    assert (training.steps, training.embed_steps, training.seed) == (30, 20, 5)
    assert training.attention is None
    assert (training.batch, training.embed_batch) == (50, 20)
    # The command of the card makes the same model, and tells nothing of this machine.
    assert str(tmp_path) not in made.command
    again = made.command.split()[1:]
    again[again.index("midi")] = str(tmp_path / "midi")
    assert main([*again, "--out", str(tmp_path / "out")]) == 0
    assert asked[1][0].training == training
    assert asked[1][0].performances == 7
