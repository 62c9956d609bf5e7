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

from hashing.models import load_model
from hashing.synthesis import render_track
from pipelines.accuracy import Result, as_text, summarise
from pipelines.cli import main
from pipelines.questions import draw

TRACKS, LEFT_OUT, PLACES = 12, 3, 10
SECONDS = 8.0

Shown = pytest.CaptureFixture[str]


def result(condition: str, wanted: str, answer: str, score: float, **more: Any) -> Result:
    right = bool(wanted) and wanted == answer
    placed = more.pop("right_place", right)
    return Result(condition, 5.0, wanted, 1.0, answer, score, right=right, right_place=placed)


def test_shares_by_hand() -> None:
    results = [
        result("clean", "a", "a", 0.9),
        result("clean", "b", "b", 0.4, right_place=False),  # right, but unsure and elsewhere
        result("clean", "c", "d", 0.7),  # wrong and sure
        result("clean", "e", "", 0.0),  # nothing found
        result("noisy", "a", "a", 0.8),
        result("clean", "", "x", 0.6),  # negatives: one wrongly sure,
        result("clean", "", "x", 0.1),
        result("noisy", "", "", 0.0),
    ]
    figures = summarise(results)
    clean, noisy = figures["conditions"]
    assert (clean["condition"], clean["duration_s"]) == ("clean", 5.0)
    assert (clean["queries"], clean["negatives"]) == (4, 2)
    assert clean["top1"] == 0.5
    assert clean["right_place"] == 0.25
    assert clean["accepted"] == 0.25
    assert clean["false_positives"] == 0.5
    # 1 % of three negatives is none of them: what counts must be above 0.6, the highest.
    assert clean["at_1_percent"] == 0.25
    assert noisy["at_1_percent"] == 1.0
    assert (noisy["top1"], noisy["false_positives"]) == (1.0, 0.0)
    (every,) = figures["durations"]
    assert (every["condition"], every["queries"], every["negatives"]) == ("all", 5, 3)
    assert every["top1"] == 0.6
    assert every["false_positives"] == 0.3333
    low, high = clean["top1_interval"]
    assert (round(low, 3), round(high, 3)) == (0.150, 0.850)  # Wilson's for 2 of 4
    # Six answers; their squared distances from right (1) and wrong (0).
    squares = [0.1**2, 0.6**2, 0.7**2, 0.2**2, 0.6**2, 0.1**2]
    assert figures["brier_score"] == pytest.approx(np.mean(squares))
    # Six bins of one answer each: the mean distance.
    assert figures["expected_calibration_error"] == pytest.approx(np.mean(np.sqrt(squares)))
    assert figures["not_asked"] == {}


def test_a_share_of_nothing_is_none() -> None:
    row = summarise([result("clean", "a", "a", 0.9)])["conditions"][0]
    assert (row["top1"], row["accepted"]) == (1.0, 1.0)
    assert (row["false_positives"], row["at_1_percent"]) == (None, None)
    row = summarise([result("clean", "", "a", 0.9)])["conditions"][0]
    assert (row["top1"], row["right_place"], row["accepted"]) == (None, None, None)
    assert (row["top1_interval"], row["false_positives"]) == ((0.0, 1.0), 1.0)


def test_what_could_not_be_asked_is_counted_apart() -> None:
    failed = [Result("clean", 1.0, "a", 0.0, error="silent"), Result("x", 5.0, "", 0.0, error="e")]
    figures = summarise([result("clean", "a", "a", 0.9), *failed, failed[0]])
    assert figures["not_asked"] == {"silent": 2, "e": 1}
    assert [row["queries"] for row in figures["conditions"]] == [1]
    nothing = summarise(failed)
    assert (nothing["conditions"], nothing["durations"]) == ([], [])


def test_durations_are_told_apart_and_in_order() -> None:
    results = [Result("clean", s, "a", 0.0, "a", 0.9, right=s > 2, cpu_ms=s) for s in (10, 5, 1)]
    figures = summarise(results)
    assert [(row["duration_s"], row["top1"]) for row in figures["durations"]] == [
        (1, 0.0),
        (5, 1.0),
        (10, 1.0),
    ]
    assert figures["look_up_cpu_ms"] == {"1": 1.0, "5": 5.0, "10": 10.0}


def test_the_table_for_people() -> None:
    facts = {"tracks_indexed": 9, "tracks_left_out": 2, "key_bits": 12, "probes": 8}
    results = [result("clean", "a", "a", 0.9), result("clean", "b", "", 0.0)]
    text = as_text({**facts, **summarise(results)})
    lines = text.splitlines()
    assert lines[0] == "9 tracks indexed, 2 left out, keys of 12 bits, 8 probes"
    assert lines[3].split() == ["5", "s"]
    assert lines[4].split() == ["clean", "50.0"]
    assert lines[-3].split() == ["all", "-"]  # no negatives


@pytest.mark.parametrize(("n", "wanted"), [(1, 1), (3, 2), (3, 7), (5, 20)])
def test_places_are_spread_evenly(n: int, wanted: int) -> None:
    drawn = draw(n, wanted, np.random.default_rng(3))
    counts = np.bincount(drawn, minlength=n)
    assert (len(drawn), len(counts)) == (wanted, n)
    assert counts.max() - counts.min() <= 1


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve tracks, of which t10 and t11 are the same piece, and a column that says so."""
    folder = tmp_path_factory.mktemp("evaluate")
    rows = []
    for number in range(TRACKS):
        samples = render_track(min(number, 10), SECONDS, RATE)
        wav(folder / f"{number}.wav", samples)
        row = {"track_id": f"t{number:02d}", "uri": f"{number}.wav", "artist_name": "A;B"}
        rows.append({**row, "work": "w" if number >= 10 else ""})
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
        assert evaluate(catalog, out, *SMALL, "--same", "work", "--json") == 0
    return json.loads(printed.getvalue()), out


def test_figures_have_a_row_for_each_condition_and_duration(evaluated: tuple[dict, Path]) -> None:
    figures, out = evaluated
    assert figures == json.loads((out / "figures.json").read_text())
    assert figures["model"]["digest"] == load_model("forgiving").digest
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
    # Every indexed track is asked for, and nothing else; every query twice an s long as well.
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
    assert evaluate(catalog, tmp_path / "again", *SMALL, "--same", "work") == 0
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


def test_versions_of_one_recording_are_right_answers_and_no_negatives(
    catalog: Path, tmp_path: Path, capsys: Shown
) -> None:
    """The index holds t10 and not t11, which is the same piece."""
    rows = [
        {"track_id": f"t{n:02d}", "uri": str(catalog.parent / f"{n}.wav")} for n in range(1, 11)
    ]
    listed = write_rows(tmp_path / "listed.csv", rows)
    index = tmp_path / "index"
    assert main(["index", "--catalog", str(listed), "--out", str(index), "--workers=1"]) == 0
    flags = ("--index", str(index), "--conditions", "clean", "--queries", "10")
    assert evaluate(catalog, tmp_path / "apart", *flags) == 0
    assert evaluate(catalog, tmp_path / "same", *flags, "--same", "work") == 0
    capsys.readouterr()
    figures = [json.loads((tmp_path / n / "figures.json").read_text()) for n in ("apart", "same")]
    # Apart, t00 and t11 are negatives, and t11 is found wrongly, in t10.
    assert [one["tracks_left_out"] for one in figures] == [2, 1]
    apart = [row for row in rows_of(tmp_path / "apart") if not row["wanted"]]
    assert sum(row["answer"] == "t10" and row["score"] >= 0.5 for row in apart) >= 5
    same = [row for row in rows_of(tmp_path / "same") if not row["wanted"]]
    assert not [row for row in same if row["answer"] == "t10" and row["score"] >= 0.5]


def test_a_column_of_lists_may_tell_recordings(published: Published, tmp_path: Path) -> None:
    """All tracks have the same two artists: whatever answers is right, and nothing is left out."""
    flags = ("--same", "artist_name", "--queries", "4")
    figures, rows = asked(published, tmp_path / "out", *flags)
    assert (figures["tracks_indexed"], figures["tracks_left_out"]) == (19, 0)
    assert all(row["right"] for row in rows if row["answer"])


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
