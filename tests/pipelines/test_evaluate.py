"""``hashbeam evaluate lookup``: the arithmetic by hand, and the verb on rendered music."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from index_helpers import error_line
from model_fixture import random_model
from published_index import Published, wav
from tiny_catalog import RATE, write_rows

from hashing.models import DEFAULT_MODEL, load_model
from hashing.synthesis import render_track
from pipelines.accuracy import Result, summarise
from pipelines.cli import main
from pipelines.questions import draw

TRACKS, LEFT_OUT, PLACES = 12, 3, 10
SECONDS = 8.0

Shown = pytest.CaptureFixture[str]


@pytest.mark.parametrize(("n", "wanted"), [(1, 1), (3, 2), (3, 7), (5, 20)])
def test_places_are_spread_evenly(n: int, wanted: int) -> None:
    drawn = draw(n, wanted, np.random.default_rng(3))
    counts = np.bincount(drawn, minlength=n)
    assert (len(drawn), len(counts)) == (wanted, n)
    assert counts.max() - counts.min() <= 1


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve tracks."""
    folder = tmp_path_factory.mktemp("evaluate")
    rows = []
    for number in range(TRACKS):
        wav(folder / f"{number}.wav", render_track(number, SECONDS, RATE))
        rows.append({"track_id": f"t{number:02d}", "uri": f"{number}.wav"})
    return write_rows(folder / "catalog.csv", rows)


def evaluate(catalog: Path, out: Path, *flags: str) -> int:
    flags = ("--catalog", str(catalog), "--out", str(out), "--workers", "1", *flags)
    return main(["evaluate", "lookup", "--durations", "1", "3", *flags])


SMALL = ("--conditions", "clean", "white@5", "--queries", str(PLACES), "--left-out", "0.25")


@pytest.fixture(scope="module")
def evaluated(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """The figures as printed, and the folder; not to be changed."""
    out = tmp_path_factory.mktemp("figures") / "new"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert evaluate(catalog, out, *SMALL, "--json") == 0
    return json.loads(printed.getvalue()), out


def test_figures_have_a_row_for_each_condition_and_duration(evaluated: tuple[dict, Path]) -> None:
    figures, out = evaluated
    assert figures == json.loads((out / "figures.json").read_text())
    assert figures["model"]["digest"] == load_model(DEFAULT_MODEL).digest
    assert (figures["format_version"], figures["catalog"]) == (1, "catalog.csv")
    assert (figures["seed"], figures["key_bits"]) == (1, 12)
    assert figures["tracks_indexed"] == TRACKS - LEFT_OUT
    cells = [(row["duration_s"], row["condition"]) for row in figures["conditions"]]
    assert cells == [(1, "clean"), (1, "white@5"), (3, "clean"), (3, "white@5")]
    for row in figures["conditions"]:
        assert (row["queries"], row["negatives"]) == (PLACES, PLACES)
        low, high = row["top1_interval"]
        assert 0 <= low <= row["top1"] <= high <= 1
        assert row["accepted"] <= row["top1"]
        assert row["right_place"] <= row["top1"]
    for row in figures["durations"]:
        assert (row["queries"], row["negatives"]) == (2 * PLACES, 2 * PLACES)
    assert set(figures["look_up_cpu_ms"]) == {"1", "3"}
    assert figures["not_asked"] == {}


def test_clean_queries_of_rendered_music_are_found(evaluated: tuple[dict, Path]) -> None:
    figures, _ = evaluated
    clean = {r["duration_s"]: r for r in figures["conditions"] if r["condition"] == "clean"}
    assert clean[3]["top1"] == clean[3]["right_place"] == 1.0
    assert clean[1]["top1"] >= 0.8
    assert clean[3]["accepted"] >= 0.8
    assert clean[3]["false_positives"] <= 0.2


def test_every_query_is_a_row(evaluated: tuple[dict, Path]) -> None:
    figures, out = evaluated
    table = pq.read_table(out / "queries.parquet")
    assert table.schema.metadata[b"hasher_digest"].decode() == figures["model"]["digest"]
    rows = table.to_pylist()
    assert len(rows) == 2 * PLACES * 2 * 2
    assert summarise([Result(**row) for row in rows])["conditions"] == [
        {**row, "top1_interval": tuple(row["top1_interval"])} for row in figures["conditions"]
    ]
    for row in rows:
        assert 0 <= row["start_s"] <= SECONDS - 3 + 1e-6
        assert row["right_place"] <= row["right"] <= bool(row["wanted"])
        if row["right_place"]:
            assert abs(row["offset_s"] - row["start_s"]) <= 0.5
    starts_s = {round(row["start_s"], 3) for row in rows}
    assert len(starts_s) >= 2 * PLACES - 2
    assert max(starts_s) > 2
    # Every indexed track is asked for, and nothing else.
    wanted = {row["wanted"] for row in rows if row["wanted"]}
    assert len(wanted) == TRACKS - LEFT_OUT
    assert not {row["answer"] for row in rows} - wanted - {""}


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name != "cpu_ms"}
        for row in pq.read_table(out / "queries.parquet").to_pylist()
    ]


def test_the_seed_decides_everything(
    catalog: Path, evaluated: tuple[dict, Path], tmp_path: Path, capsys: Shown
) -> None:
    _, out = evaluated
    assert evaluate(catalog, tmp_path / "again", *SMALL) == 0
    assert rows_of(tmp_path / "again") == rows_of(out)
    text = capsys.readouterr().out
    assert f"{TRACKS - LEFT_OUT} tracks indexed, " in text
    assert "right track first, %" in text


def asked(published: Published, out: Path, *flags: str) -> tuple[dict[str, Any], list[Any]]:
    """Figures and queries of an evaluation of the index of twenty tracks."""
    flags = ("--index", str(published.index), "--conditions", "clean", *flags)
    assert evaluate(published.catalog, out, *flags) == 0
    return json.loads((out / "figures.json").read_text()), rows_of(out)


def test_an_index_that_is_there_is_asked(published: Published, tmp_path: Path) -> None:
    """s05, which it does not hold, cannot be decoded: that is counted, and no query is lost."""
    figures, rows = asked(published, tmp_path / "out", "--queries", "19")
    assert (figures["tracks_indexed"], figures["tracks_left_out"]) == (19, 1)
    assert len(rows) == 2 * 19 * 2
    failed = [row for row in rows if row["error"]]
    assert {row["error"] for row in failed if not row["wanted"]} == {"not-audio"}
    assert sum(not row["wanted"] for row in failed) == 2 * 19
    # Some places are silent, in the tracks that have silence.
    silent = [row for row in failed if row["wanted"]]
    assert {row["wanted"] for row in silent} <= {"s03", "s07", "s08"}
    expected = {"not-audio": 2 * 19, **({"silent": len(silent)} if silent else {})}
    assert figures["not_asked"] == expected
    clean = figures["conditions"][1]
    assert clean["duration_s"] == 3
    assert clean["queries"] + sum(row["duration_s"] == 3 for row in silent) == 19
    assert (clean["negatives"], clean["false_positives"]) == (0, None)
    assert clean["top1"] >= 0.95


def test_another_seed_asks_for_other_places(published: Published, tmp_path: Path) -> None:
    found = {
        seed: asked(published, tmp_path / f"{n}", "--queries", "4", "--seed", seed)[1]
        for n, seed in enumerate(("7", "8", "7"))
    }
    assert found["7"] == rows_of(tmp_path / "0") == rows_of(tmp_path / "2")
    assert found["7"] != found["8"]


def test_only_some_tracks_are_asked_for(published: Published, tmp_path: Path) -> None:
    (tmp_path / "only.txt").write_text("s12\n\n  s17 \r\n")
    flags = ("--queries", "5", "--only", str(tmp_path / "only.txt"))
    figures, rows = asked(published, tmp_path / "out", *flags)
    assert {row["wanted"] for row in rows} == {"s12", "s17"}
    assert (figures["tracks_indexed"], figures["tracks_left_out"]) == (19, 0)


def test_versions_of_one_recording_are_no_negatives(published: Published, tmp_path: Path) -> None:
    """The index holds s01 and not x01, which is the same piece, nor x99, which is another."""
    wav(tmp_path / "99.wav", published.songs["s99"])
    uri = str(published.index.parent / "s01.wav")
    rows = [
        {"track_id": "s01", "uri": uri, "work": "w"},
        {"track_id": "x01", "uri": uri, "work": "w"},
        {"track_id": "x99", "uri": "99.wav", "work": ""},
    ]
    catalog = write_rows(tmp_path / "catalog.csv", rows)
    flags = ("--index", str(published.index), "--conditions", "clean", "--queries", "8")
    shares = []
    for out, same in (("apart", ()), ("same", ("--same", "work"))):
        assert evaluate(catalog, tmp_path / out, *flags, *same) == 0
        figures = json.loads((tmp_path / out / "figures.json").read_text())
        shares.append((figures["tracks_left_out"], figures["conditions"][1]["false_positives"]))
    # Of eight negatives x01 is four.
    assert shares == [(2, 0.5), (1, 0.0)]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--conditions", "clean", "loud"], ["--conditions: condition 'loud': no step 'loud'"]),
        (["--conditions", "white@5+white@0"], ["--conditions: ", "one noise and one codec"]),
        (["--durations", "1", "long"], ["--durations: must be numbers, got 'long'"]),
        (["--durations", "0.1"], ["--durations: must be from 0.5 to 3600 seconds"]),
        (["--durations", "nan"], ["--durations: must be from 0.5 to 3600 seconds"]),
        (
            ["--queries", "0", "--left-out", "1", "--seed", "-1", "--probes", "x"],
            ["--queries: ", "--left-out: ", "--seed: ", "--probes: "],
        ),
        (["--noise", "nowhere"], ["--noise, --rooms: nowhere is not a folder"]),
        (["--workers", "0"], ["--workers: must be from 1 to 1024, got 0"]),
        (["--condition", "clean"], ["unknown flag --condition (did you mean --conditions?)"]),
    ],
)
def test_mistakes_in_flags_are_told_at_once(
    catalog: Path, tmp_path: Path, capsys: Shown, flags: list[str], expected: list[str]
) -> None:
    names = ["--catalog", str(catalog), "--out", str(tmp_path / "out")]
    assert main(["evaluate", "lookup", *names, *flags]) == 2
    line = error_line(capsys, "evaluate")
    assert all(part in line for part in expected), line
    assert not (tmp_path / "out").exists()


def test_what_is_needed_is_asked_for(capsys: Shown, tmp_path: Path) -> None:
    assert main(["evaluate", "artists"]) == 2
    line = error_line(capsys, "evaluate")
    for part in ("KIND: must be lookup, got 'artists'", "--catalog: is needed", "--out: is needed"):
        assert part in line
    (tmp_path / "file").write_text("x")
    assert main(["evaluate", "lookup", "--catalog", "c", "--out", str(tmp_path / "file")]) == 2
    assert f"--out: {tmp_path / 'file'} is a file" in error_line(capsys, "evaluate")


def test_inputs_that_cannot_be_used_are_one_line(
    catalog: Path, published: Published, tmp_path: Path, capsys: Shown
) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "unknown.txt").write_text("t00\nnobody\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/licences.txt").write_text("CC0")
    other = random_model(tmp_path / "model", seed=5)
    for flags, status, expected in (
        (("--only", str(tmp_path / "no.txt")), 1, "no.txt"),
        (("--only", str(tmp_path / "empty.txt")), 2, "empty.txt: is empty; give a track_id a line"),
        (("--only", str(tmp_path / "unknown.txt")), 2, "no track nobody in the catalogue"),
        (("--same", "nothing"), 2, "no column 'nothing' (--same)"),
        (("--noise", str(tmp_path / "folder")), 1, "no recording could be decoded"),
        (("--index", str(tmp_path / "nowhere")), 1, "there is no such index"),
        (("--index", str(published.index)), 1, "holds no track of"),
        (("--index", str(published.index), "--model", str(other.path)), 1, other.digest[:16]),
        (("--model", "nowhere"), 1, "no model 'nowhere'"),
    ):
        assert evaluate(catalog, tmp_path / "out", *flags) == status
        assert expected in error_line(capsys, "evaluate")
    assert not (tmp_path / "out").exists()
    assert evaluate(tmp_path / "no.csv", tmp_path / "out") == 2
    assert "no.csv does not exist" in error_line(capsys, "evaluate")


def test_music_that_has_gone_since_it_was_indexed_is_one_line(
    published: Published, tmp_path: Path, capsys: Shown
) -> None:
    wav(tmp_path / "silent.wav", np.zeros(4 * RATE, np.float32))
    uris = ["silent.wav", "silent.wav", "nowhere.wav"]
    rows = [{"track_id": f"s{n:02d}", "uri": uri} for n, uri in enumerate(uris)]
    catalog = write_rows(tmp_path / "catalog.csv", rows)
    flags = ("--index", str(published.index), "--queries", "3")
    assert evaluate(catalog, tmp_path / "out", *flags) == 1
    line = error_line(capsys, "evaluate")
    assert f"{catalog}: no query could be cut from its tracks (silent, missing)" in line


def test_noises_and_rooms_of_ones_own_are_used(
    published: Published, evaluated: tuple[dict, Path], tmp_path: Path
) -> None:
    """Music of the index as loud as the query: what is found is the noise, now and then."""
    (tmp_path / "noise").mkdir()
    (tmp_path / "rooms").mkdir()
    shutil.copy(published.index.parent / "s00.wav", tmp_path / "noise")
    (tmp_path / "noise/README").write_text("CC0")
    click = np.zeros(RATE // 10, np.float32)
    click[0] = 1.0
    wav(tmp_path / "rooms/dry.wav", click)
    (tmp_path / "only.txt").write_text("s11")
    flags = ("--noise", str(tmp_path / "noise"), "--rooms", str(tmp_path / "rooms"))
    _, rows = asked(
        published,
        tmp_path / "out",
        *flags,
        *("--conditions", "reverb", "ambience@-20", "--queries", "4"),
        *("--only", str(tmp_path / "only.txt")),
    )
    answers = {
        name: [row["answer"] for row in rows if row["condition"] == name]
        for name in ("reverb", "ambience@-20")
    }
    # In a room that adds nothing the track is found; under much louder music that is.
    assert answers["reverb"].count("s11") >= 7
    assert answers["ambience@-20"].count("s00") >= 6
