"""Mistakes with ``hashbeam events``: each is told in one line, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from event_hums import Hums, index_clips, index_hums
from events_model import events_model
from index_decoder import Heard
from tiny_catalog import write_rows

from hashing.models import DEFAULT_MODEL, PRETRAINED
from pipelines.cli import main, parse

Shown = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("one_index_decoder", "one_decoder")


@pytest.fixture(scope="module")
def hums(one_index_decoder: Heard, tmp_path_factory: pytest.TempPathFactory) -> Hums:
    """Not to be changed."""
    return index_hums(tmp_path_factory.mktemp("hums"))


def line_of(capsys: Shown, status: int, *words: object) -> str:
    """The one line that a mistake is told in."""
    capsys.readouterr()
    assert main(["events", *map(str, words)]) == status
    text = capsys.readouterr().err
    assert text.startswith("hashbeam events: error: ")
    assert text.count("\n") == 1
    return text


def test_mistakes_of_index(hums: Hums, tmp_path: Path, capsys: Shown) -> None:
    catalog = write_rows(tmp_path / "c.csv", [{"track_id": "a", "uri": "a.wav", "kind": "dog"}])
    words = ["index", "--catalog", catalog, "--out", tmp_path / "i", "--model", hums.model]
    told = line_of(capsys, 2, *words)
    assert "no column label or labels;" in told
    assert "track_id, uri, kind" in told
    assert "no column 'other'" in line_of(capsys, 2, *words, "--labels", "other")
    words = [*words[:-1], PRETRAINED / DEFAULT_MODEL, "--labels", "kind"]
    assert "not 'events', which labelled clips need" in line_of(capsys, 1, *words)
    assert not (tmp_path / "i").exists()
    told = line_of(capsys, 2, "index", "--labels", "kind", "--worker", "2")
    assert all(word in told for word in ("--catalog: is needed", "--out: is needed", "--workers?"))


def test_mistakes_of_search(hums: Hums, tmp_path: Path, capsys: Shown) -> None:
    index = ["search", "--index", hums.index]
    assert "name recordings" in line_of(capsys, 2, *index)
    assert "not both" in line_of(capsys, 2, *index, "a.wav", "--queries", "q", "--out", "o")
    assert "--out: is needed" in line_of(capsys, 2, *index, "--queries", "q")
    for share in ("0", "1.5", "x"):
        assert "--multi-index: must be" in line_of(capsys, 2, *index, "a", "--multi-index", share)
    told = line_of(capsys, 2, *index, "--text", "barking dogs")
    assert "--text: 'barking dogs': the model knows none" in told
    assert "high, low, middle" in told
    assert "--text: name some words" in line_of(capsys, 2, *index, "--text", " ")
    told = line_of(capsys, 2, *index, "--text", "low", "--labels", "genre")
    assert "no column 'genre'" in told
    assert "ordinal, track_id, uri," in told
    assert "label, mood" in told
    assert "no such index" in line_of(capsys, 1, "search", "--index", tmp_path / "x", "a.wav")
    assert "KIND: must be index or search, got 'serach'" in line_of(capsys, 2, "serach")
    other = tmp_path / "other"
    events_model(other, n_bytes=2, words=False)
    assert "has digest" in line_of(capsys, 1, *index, "--text", "low", "--model", other)


def test_a_model_without_words(hums: Hums, tmp_path: Path, capsys: Shown) -> None:
    events_model(tmp_path / "model", n_bytes=2, words=False)
    row = {"track_id": "a", "uri": str(hums.folder / "low0.wav"), "label": "low"}
    catalog = write_rows(tmp_path / "c.csv", [row])
    assert index_clips(catalog, tmp_path / "index", tmp_path / "model") == 0
    told = line_of(capsys, 2, "search", "--index", tmp_path / "index", "--text", "low")
    assert "knows no words" in told


@pytest.mark.usefixtures("one_index_decoder")
def test_an_index_of_music_is_refused(hums: Hums, tmp_path: Path, capsys: Shown) -> None:
    catalog = write_rows(
        tmp_path / "c.csv", [{"track_id": "a", "uri": str(hums.folder / "long.wav")}]
    )
    words = ["--catalog", catalog, "--out", tmp_path / "index", "--workers", "1", "--quiet"]
    assert main(["index", *map(str, words)]) == 0
    told = line_of(capsys, 1, "search", "--index", tmp_path / "index", "a.wav")
    assert "is of kind" in told
    assert "'events'" in told


def test_files_stand_anywhere() -> None:
    for words in (
        ["search", "--index", "i", "a.wav", "b.wav"],
        ["--index", "i", "search", "a.wav", "b.wav"],
        ["search", "a.wav", "--index", "i", "b.wav"],
        ["a.wav", "--index", "search", "--json", "search", "b.wav"][1:],
    ):
        _, args, left = parse("events", words)
        assert args.files in (["a.wav", "b.wav"], ["b.wav"])
        assert (args.kind, left) == ("search", [])


@pytest.mark.parametrize("kind", ["index", "search"])
def test_help_teaches(kind: str, capsys: Shown) -> None:
    assert main(["events", kind, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"hashbeam events {kind} --" in text
    assert "--labels COLUMN" in text
    assert main(["events", "--help"]) == 0
    assert "hashbeam events search" in capsys.readouterr().out
