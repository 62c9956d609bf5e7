"""``hashbeam events``: an index of labelled clips, and what is found in it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from event_hums import Hums, index_clips, index_hums
from events_model import DIMENSIONS, RATE, events_model, hum, responses_to, write_hum
from index_decoder import Heard
from tiny_catalog import write_rows

from hashing.encoders import Hasher
from pipelines import query_parts
from pipelines.cli import main
from pipelines.event_search import TOP

Shown = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("one_index_decoder", "one_decoder")

WINDOW_S = (37 * 200 + 512) / RATE


@pytest.fixture(scope="module")
def hums(one_index_decoder: Heard, tmp_path_factory: pytest.TempPathFactory) -> Hums:
    """Not to be changed."""
    return index_hums(tmp_path_factory.mktemp("hums"))


def search(hums: Hums, capsys: Shown, *arguments: object, status: int = 0) -> list[dict[str, Any]]:
    """What ``events search --json`` prints, a dict a query."""
    capsys.readouterr()
    words = ["--index", hums.index, *arguments, "--json"]
    assert main(["events", "search", *map(str, words)]) == status
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_clip_finds_itself(hums: Hums, capsys: Shown) -> None:
    names = [track for track in hums.sounds if track != "long"]
    answers = search(hums, capsys, *(hums.folder / f"{track}.wav" for track in names))
    for track, answer in zip(names, answers, strict=True):
        assert answer["query_id"] == answer["uri"] == str(hums.folder / f"{track}.wav")
        first = answer["matches"][0]
        assert first["track_id"] == track
        assert first["distance"] == pytest.approx(hums.expected(track), abs=1e-5)
        assert [one["rank"] for one in answer["matches"]] == list(range(1, TOP + 1))
        distances = [one["distance"] for one in answer["matches"]]
        assert distances == sorted(distances)
        assert distances[0] >= 0
        assert distances[-1] <= 4
        assert len({one["track_id"] for one in answer["matches"]}) == TOP


def test_labels_are_those_of_the_catalogue(hums: Hums, capsys: Shown) -> None:
    (answer,) = search(hums, capsys, hums.folder / "high1.wav", "--top", "15")
    labels = {one["track_id"]: one["labels"] for one in answer["matches"]}
    assert labels["long"] == ["high", "low"]
    assert labels["nameless"] == []
    assert labels["middle2"] == ["middle"]
    assert len(labels) == 15
    assert {one["track_id"] for one in answer["matches"][:5]} >= {f"high{n}" for n in range(4)}
    assert answer["guess"]["label"] == "high"
    assert 0.3 < answer["guess"]["share"] <= 1


def test_times_say_where(hums: Hums, tmp_path: Path, capsys: Shown) -> None:
    """The second half of the long recording is found by its end, the first one by its begin."""
    end = write_hum(tmp_path / "end.wav", hums.sounds["long"][4 * RATE :])
    (answer,) = search(hums, capsys, end)
    first = answer["matches"][0]
    assert first["track_id"] == "long"
    assert first["start_s"] >= 3.0
    assert first["end_s"] == pytest.approx(first["start_s"] + WINDOW_S, abs=2e-3)
    assert first["query_end_s"] == pytest.approx(first["query_start_s"] + WINDOW_S, abs=2e-3)
    (answer,) = search(hums, capsys, hums.folder / "long.wav", "--all-windows", "--top", "40")
    windows = [one for one in answer["matches"] if one["track_id"] == "long"]
    starts = sorted(one["start_s"] for one in windows)
    np.testing.assert_allclose(starts, 0.5 * np.arange(11), atol=1e-6)
    assert max(one["end_s"] for one in windows) <= 6.0
    for one in windows:  # what is low is nearest to what is low
        if not 2.0 < one["start_s"] < 3.0:
            assert (one["start_s"] < 2.5) == (one["query_start_s"] < 2.5)


def test_a_short_clip_ends_where_it_does(hums: Hums, capsys: Shown) -> None:
    (answer,) = search(hums, capsys, hums.folder / "short.wav")
    first = answer["matches"][0]
    assert (first["track_id"], first["start_s"], first["query_start_s"]) == ("short", 0.0, 0.0)
    assert first["end_s"] == first["query_end_s"]
    assert 0.25 < first["end_s"] <= 0.3


@pytest.mark.parametrize("flags", [(), ("--symmetric",), ("--all-windows",)])
def test_the_whole_multi_index_is_all_codes(
    hums: Hums, capsys: Shown, flags: tuple[str, ...]
) -> None:
    query = hums.folder / "middle0.wav"
    full = search(hums, capsys, query, *flags)
    assert search(hums, capsys, query, "--multi-index", "1.0", *flags) == full


def test_a_share_of_the_multi_index_finds_the_nearest(hums: Hums, capsys: Shown) -> None:
    (answer,) = search(hums, capsys, hums.folder / "middle0.wav", "--multi-index", "0.2")
    assert answer["matches"][0]["track_id"] == "middle0"
    assert {one["labels"][0] for one in answer["matches"][:3]} == {"middle"}


def test_symmetric_finds_its_own_code_at_no_distance(hums: Hums, capsys: Shown) -> None:
    (answer,) = search(hums, capsys, hums.folder / "middle3.wav", "--symmetric")
    first = answer["matches"][0]
    assert first["distance"] == pytest.approx(0, abs=1e-5)
    assert first["labels"] == ["middle"]
    assert "middle3" in [one["track_id"] for one in answer["matches"] if one["distance"] < 1e-5]


def test_words_find_what_they_mean(hums: Hums, capsys: Shown) -> None:
    (answer,) = search(hums, capsys, "--text", "Highs of x")
    assert (answer["text"], answer["unknown_words"]) == ("Highs of x", ["of", "x"])
    assert answer["guess"]["label"] == "high"
    assert all("high" in one["labels"] for one in answer["matches"][:4])
    assert {one["query_start_s"] for one in answer["matches"]} == {None}
    assert main(["events", "search", "--index", str(hums.index), "--text", "high x"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "hashbeam events: the model does not know x\n"
    assert shown.out.startswith("high x: high? (")


def test_a_table_for_people(hums: Hums, capsys: Shown) -> None:
    name = str(hums.folder / "low1.wav")
    assert main(["events", "search", name, "--index", str(hums.index), "--top", "2"]) == 0
    title, head, first, _ = capsys.readouterr().out.splitlines()
    assert title.startswith(f"{name}: low? (")
    assert head.split() == ["rank", "distance", "labels", "track_id", "at", "of", "the", "query"]
    assert first.split()[0] == "1"
    assert first.split()[2:4] == ["low", "low1"]
    assert " s" in first


def test_what_cannot_be_heard_is_told_and_the_rest_is_answered(
    hums: Hums, tmp_path: Path, capsys: Shown
) -> None:
    (tmp_path / "text.wav").write_text("no sound " * 100)
    write_hum(tmp_path / "silence.wav", np.zeros(RATE, np.float32))
    names = [tmp_path / "none.wav", hums.folder / "low0.wav", *tmp_path.glob("*.wav")]
    words = ["--index", hums.index, *names, "--json"]
    assert main(["events", "search", *map(str, words)]) == 1
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("hashbeam events: ") for line in lines)
    answers = [json.loads(line) for line in shown.out.splitlines()]
    errors = {Path(one["uri"]).name: one["error"] for one in answers if "error" in one}
    assert errors == {"none.wav": "missing", "text.wav": "not-audio", "silence.wav": "silent"}
    assert answers[1]["matches"][0]["track_id"] == "low0"


def test_changed_removed_and_merged_clips(hums: Hums, tmp_path: Path, capsys: Shown) -> None:
    """A new segment, removals, and another index beside: answers are those of what is there now."""
    index = tmp_path / "index"
    shutil.copytree(hums.index, index)
    changed = dataclasses.replace(hums, index=index)
    for track in ("high0", "high1"):
        shutil.copy(hums.folder / f"{track}.wav", tmp_path)
    write_hum(tmp_path / "new.wav", hum("middle", 70))
    kept = [
        {**row, "uri": str(hums.folder / row["uri"])}
        for row in hums.rows
        if row["track_id"] != "low0"
    ]
    kept.append({"track_id": "new", "uri": str(tmp_path / "new.wav"), "label": "x", "mood": ""})
    kept[3] = {**kept[3], "label": "other"}
    catalog = write_rows(tmp_path / "c.csv", kept)
    assert kept[3]["track_id"] == "middle0"
    words = ["--catalog", catalog, "--index", index, "--workers", "1", "--quiet"]
    assert main(["reindex", *map(str, words), "--model", str(hums.model)]) == 0
    (tmp_path / "ids.txt").write_text("low1\n")
    assert main(["remove", str(index), "--ids", str(tmp_path / "ids.txt")]) == 0
    asked = [hums.folder / "low0.wav", hums.folder / "low1.wav", tmp_path / "new.wav"]
    answers = search(changed, capsys, *asked, "--top", "50")
    present = {row["track_id"] for row in kept} - {"low1"}
    for answer in answers:
        assert {one["track_id"] for one in answer["matches"]} == present
        labels = {one["track_id"]: one["labels"] for one in answer["matches"]}
        assert (labels["new"], labels["middle0"], labels["long"]) == (
            ["x"],
            ["other"],
            ["high", "low"],
        )
    assert answers[2]["matches"][0]["track_id"] == "new"
    small = write_rows(
        tmp_path / "s.csv",
        [{"track_id": "again", "uri": str(hums.folder / "low0.wav"), "labels": "a;b"}],
    )
    assert index_clips(small, tmp_path / "small", hums.model) == 0
    both = tmp_path / "both"
    words = [index, tmp_path / "small", "--out", both, "--workers", "1", "--quiet"]
    assert main(["merge", *map(str, words), "--model", str(hums.model)]) == 0
    merged = dataclasses.replace(hums, index=both)
    (answer,) = search(merged, capsys, hums.folder / "low0.wav", "--top", "50")
    assert {one["track_id"] for one in answer["matches"]} == present | {"again"}
    assert answer["matches"][0]["track_id"] == "again"
    (answer,) = search(
        merged, capsys, hums.folder / "low0.wav", "--labels", "labels", "--top", "50"
    )
    labels = {one["track_id"]: one["labels"] for one in answer["matches"]}
    assert (labels["again"], labels["high0"]) == (["a", "b"], [])


def test_an_index_in_an_object_store(
    hums: Hums, capsys: Shown, memory_objects: dict[str, bytes]
) -> None:
    for path in filter(Path.is_file, hums.index.rglob("*")):
        memory_objects[f"mem://b/i/{path.relative_to(hums.index)}"] = path.read_bytes()
    for name in ("low0", "long"):
        memory_objects[f"mem://b/{name}.wav"] = (hums.folder / f"{name}.wav").read_bytes()
    names = [f"mem://b/{name}.wav" for name in ("low0", "long", "none")]
    words = ["--index", "mem://b/i", *names, "--json"]
    assert main(["events", "search", *words]) == 1
    shown = capsys.readouterr()
    assert "mem://b/none.wav" in shown.err
    far = [json.loads(line) for line in shown.out.splitlines()]
    near = search(hums, capsys, hums.folder / "low0.wav", hums.folder / "long.wav")
    assert [one["uri"] for one in far] == names
    assert [one["matches"] for one in far[:2]] == [one["matches"] for one in near]


def test_an_index_of_one_byte(hums: Hums, tmp_path: Path, capsys: Shown) -> None:
    events_model(tmp_path / "model", n_bytes=1)
    table = pa.table(
        {
            "track_id": [row["track_id"] for row in hums.rows],
            "uri": [str(hums.folder / row["uri"]) for row in hums.rows],
            "tags": [row["label"].split("; ") if row["label"] else [] for row in hums.rows],
        }
    )
    pq.write_table(table, tmp_path / "c.parquet")
    capsys.readouterr()
    flags = ("--labels", "tags", "--json")
    model = tmp_path / "model"
    assert index_clips(tmp_path / "c.parquet", tmp_path / "index", model, *flags) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["labelled"] == {"column": "tags", "labels": 3, "clips": 14, "unlabelled": 1}
    small = dataclasses.replace(hums, index=tmp_path / "index", model=model)
    query = hums.folder / "high2.wav"
    (answer,) = search(small, capsys, query, "--labels", "tags")
    assert answer["matches"][0]["labels"] == ["high"]
    assert answer["matches"][0]["distance"] <= small.expected("high2") + 1e-5
    assert search(small, capsys, query, "--labels", "tags", "--multi-index", "1") == [answer]
    (nameless,) = search(small, capsys, query)
    assert {tuple(one["labels"]) for one in nameless["matches"]} == {()}
    assert nameless["guess"] is None


@pytest.fixture
def one_query_decoder(open_decoder: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_parts, "Decoder", lambda: open_decoder)
    monkeypatch.setattr(query_parts, "QUERIES_PER_PART", 2)


@pytest.mark.usefixtures("one_query_decoder")
def test_many_queries(hums: Hums, tmp_path: Path, capsys: Shown) -> None:
    """In parts; one cannot be heard, another is a part of a recording."""
    (tmp_path / "text.wav").write_text("no sound " * 100)
    rows = [
        {"query_id": "q1", "uri": str(hums.folder / "low2.wav"), "start_s": ""},
        {"query_id": "q2", "uri": "text.wav", "start_s": ""},
        {"query_id": "q3", "uri": str(hums.folder / "long.wav"), "start_s": "4"},
    ]
    queries = write_rows(tmp_path / "queries.csv", rows)
    out = tmp_path / "out"
    words = ["--index", hums.index, "--queries", queries, "--out", out, "--top", "3"]
    command = ["events", "search", *map(str, words), "--workers", "1"]
    assert main([*command, "--json", "--quiet"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((out / "run.json").read_text())
    assert (summary["queries"], summary["answered"], summary["failed"]) == (3, 2, 1)
    assert (summary["parts"], summary["labels"]) == (2, "label")
    parts = sorted((out / "matches").iterdir())
    assert [path.name for path in parts] == ["part-00000.parquet", "part-00001.parquet"]
    found = pa.concat_tables(map(pq.read_table, parts)).to_pylist()
    assert [(row["query_id"], row["rank"]) for row in found] == [
        (name, rank) for name in ("q1", "q3") for rank in (1, 2, 3)
    ]
    assert [row["track_id"] for row in found if row["rank"] == 1] == ["low2", "long"]
    assert found[3]["start_s"] >= 3
    assert (found[0]["guess"], found[3]["guess"]) == ("low", "high")
    (alone,) = search(hums, capsys, hums.folder / "low2.wav", "--top", "3")
    names = ("rank", "track_id", "labels", "distance", "start_s", "end_s", "query_start_s")
    assert [{name: row[name] for name in names} for row in found[:3]] == [
        {name: row[name] for name in names} for row in alone["matches"]
    ]
    (failure,) = pq.read_table(out / "failures/part-00000.parquet").to_pylist()
    assert (failure["track_id"], failure["error"], failure["stage"]) == ("q2", "not-audio", "query")
    assert main(command) == 1
    assert "holds all answers already" in capsys.readouterr().err
    # One that was stopped goes on with what is missing.
    before = [path.read_bytes() for path in parts]
    (out / "run.json").unlink()
    parts[1].unlink()
    assert main([*command, "--json", "--quiet"]) == 1
    assert json.loads(capsys.readouterr().out)["parts_resumed"] == 1
    assert [path.read_bytes() for path in parts] == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    command[command.index(str(out))] = str(tmp_path / "full")
    assert main(command) == 1
    assert "is not empty" in capsys.readouterr().err


def test_codes_are_the_models(hums: Hums) -> None:
    """What is kept of a hum is what the quantizer makes of it."""
    hasher = Hasher.load(str(hums.model))
    assert hasher.respond(np.zeros((1, 32, 38), np.float32)).responses.shape == (1, DIMENSIONS)
    track = hasher.hash_track([hums.sounds["low0"]])
    expected = hasher.quantizer.encode(responses_to(hums.sounds["low0"]).astype(np.float32))
    assert (track.codes == expected).mean() > 0.95
