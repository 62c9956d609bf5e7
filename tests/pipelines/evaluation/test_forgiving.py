from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_catalog import write_rows

from hashing import audio
from hashing.errors import CatalogError, HashbeamError, UsageError
from hashing.synthesis import render_track
from pipelines import cli
from pipelines.evaluation import forgiving as forgiving_study
from pipelines.report import forgiving_claims as published
from pipelines.report.forgiving_charts import NAMES, forgiving_charts
from pipelines.report.forgiving_claims import claims, fewer_candidates, gain_of_information, only
from pipelines.report.forgiving_findings import findings
from pipelines.report.forgiving_page import forgiving_page

RATE, TRACKS = 8000, 24
FEW = ["--networks", "4", "--outputs", "3", "--epochs", "4", "--quick", "--group", "artist_name"]


def parse(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    forgiving_study.add_arguments(parser)
    return parser.parse_args(["forgiving", *flags])


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short tracks, each by an artist of its own."""
    folder = tmp_path_factory.mktemp("music")
    rows = []
    for i in range(TRACKS):
        path = folder / f"{i}.wav"
        audio.encode(render_track(i, 6.5, RATE), RATE, str(path), codec="wav")
        rows.append({"track_id": f"t{i:02d}", "uri": path.name, "artist_name": f"artist {i}"})
    return write_rows(folder / "catalog.csv", rows)


@pytest.fixture(scope="module")
def studied(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("studied") / "study"
    args = parse("--catalog", str(catalog), "--out", str(out), "--quiet", *FEW)
    assert forgiving_study.run(args, []) == 0
    return out, json.loads((out / "figures.json").read_text())


# --- the command ---------------------------------------------------------------------------------


def test_every_table_is_measured_and_written(studied: tuple[Path, dict[str, Any]]) -> None:
    out, figures = studied
    tables = figures["tables"]
    assert {path.stem for path in out.glob("*.parquet")} == set(tables)
    for name, rows in tables.items():
        written = pq.read_table(out / f"{name}.parquet")
        assert written.schema.metadata[b"hashbeam_format"] == b"1"
        assert written.num_rows == len(rows) > 0, name
        for row, stored in zip(rows, written.to_pylist(), strict=True):
            assert {key: stored[key] for key in row} == row
    shares = [
        row[name]
        for rows in tables.values()
        for row in rows
        for name in ("right", "found", "examined")
        if row.get(name) is not None
    ]
    assert all(0 <= share <= 1 for share in shares)
    assert len(set(shares)) > 20


def test_the_facts_are_those_of_the_music(studied: tuple[Path, dict[str, Any]]) -> None:
    _, figures = studied
    assert figures["songs_learned"] == 8
    assert figures["bits"] == 12
    assert figures["reference"] == [12, 12]  # as much as twelve bits give
    learned, unheard = figures["recordings_to_learn"], figures["large"]["songs"]
    checking = figures["checking"]["recordings"]
    assert learned + checking + unheard == figures["tracks"] == figures["recordings"] == TRACKS
    assert (checking, unheard) == (2, 6)  # of 24: a tenth, a quarter
    assert figures["held_out"] == {
        "artist_name": sorted(f"artist {t[1:].lstrip('0') or 0}" for t in figures["unheard_tracks"])
    }
    # 6.5 s hold 41 snippets; 2 excerpts of 2.9 s each.
    assert figures["large"]["snippets"] == 41 * unheard
    small = {"songs": 2 * unheard, "snippets": 20 * unheard, "recordings": unheard}
    assert figures["small"] == small
    assert figures["disjoint_hops"] == 16  # 1.85 s at 0.116 s
    assert str(figures["command"]).endswith("--quick")
    assert "/" not in figures["command"]


def test_accuracy_and_share_examined_rise_with_tables(
    studied: tuple[Path, dict[str, Any]],
) -> None:
    _, figures = studied
    grid = [row for row in figures["tables"]["grid"] if row["database"] == "songs"]
    # Bits of the same tables: found can only rise where tables are added to, and does by chance.
    few = {row["key_bits"]: row for row in grid if row["n_tables"] == 1}
    many = {row["key_bits"]: row for row in grid if row["n_tables"] == 12}
    assert all(many[b]["examined"] > few[b]["examined"] for b in few)
    assert all(many[b]["found"] >= few[b]["found"] for b in few)


def test_a_second_run_takes_the_networks_of_the_first(
    catalog: Path, studied: tuple[Path, dict[str, Any]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out, figures = studied
    again = tmp_path / "again"
    flags = ["--catalog", str(catalog), "--out", str(again), "--work", f"{out}.work", *FEW]
    assert forgiving_study.run(parse(*flags, "--json"), []) == 0
    printed = capsys.readouterr()
    assert "single networks" in printed.err
    assert "epoch" not in printed.err
    shown = json.loads(printed.out)
    assert shown["tables"] == figures["tables"]
    assert shown["claims"] == figures["claims"]


def test_the_report_needs_no_network_and_shows_the_paper_beside(
    studied: tuple[Path, dict[str, Any]],
) -> None:
    out, figures = studied
    page = (out / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|figures\.json)', page)
    assert "<script" not in page
    assert page.count("<svg") > 12
    for row in figures["findings"]:
        assert row["question"] in page
    for claim in figures["claims"]:
        assert claim["claim"].split(" (")[0].split("’")[0][:30] in page.replace("&#39;", "'")
    assert "of 6,500 songs" in page
    for name, (title, _) in NAMES.items():
        assert title in page, name
    # Table II: a published row stands below each of the two that the paper has.
    for value in (72.3, 98.9, 35.5, 73.0):
        assert f">{value}<" in page


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--outputs", "0", "--epochs", "x"], r"--epochs.*--outputs|--outputs.*--epochs"),
        (["--noise", "no-such-folder"], "no-such-folder is not a folder"),
        (["--group", "composer"], "no column composer"),
        (["--outputs", "6"], "64 songs are to be learned, and .* --outputs to [34]"),
        (["--same", "work"], "no column 'work'"),
    ],
)
def test_mistakes_are_named(catalog: Path, tmp_path: Path, flags: list[str], message: str) -> None:
    args = parse("--catalog", str(catalog), "--out", str(tmp_path / "o"), "--quiet", *FEW, *flags)
    with pytest.raises((UsageError, CatalogError, HashbeamError), match=message):
        forgiving_study.run(args, [])


def test_tracks_that_share_audio_are_one_recording(catalog: Path, tmp_path: Path) -> None:
    found = tmp_path / "figures.json"
    # Groups of a larger catalogue may name tracks that this one has not.
    groups = [["t00", "t01"], ["t02", "t01"], ["t05", "elsewhere"]]
    found.write_text(json.dumps({"shared_audio": {"groups": groups}}))
    args = parse("--catalog", str(catalog), "--out", "o", "--shared", str(found), *FEW)
    rows = [{"track_id": f"t{i:02d}"} for i in range(TRACKS)]
    names = forgiving_study._recordings(forgiving_study.options_from(args), rows)
    assert names["t00"] == names["t01"] == names["t02"]
    assert len(set(names.values())) == TRACKS - 2
    found.write_text(json.dumps({"shared_audio": None}))  # evaluate lookup --as-listed
    with pytest.raises(UsageError, match=r"--shared: .*figures\.json is no figures\.json of"):
        forgiving_study.run(args, [])


def test_evaluate_names_its_kinds_and_says_what_is_missing(
    catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert cli.main(["evaluate", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "evaluate forgiving" in shown
    assert "evaluate lookup" in shown
    assert cli.main(["evaluate", "forgiving", "--help"]) == 0
    assert "--networks" in capsys.readouterr().out
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else find(name)
    )
    out = str(tmp_path / "out")
    assert cli.main(["evaluate", "forgiving", "--catalog", str(catalog), "--out", out]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "hashbeam evaluate: error: training needs torch, which is not installed: "
        "pip install 'hashbeam[train]'"
    ]


def test_quick_is_small_unless_told_otherwise(tmp_path: Path) -> None:
    needed = ("--catalog", "c.csv", "--out", str(tmp_path / "o"))
    whole = forgiving_study.options_from(parse(*needed))
    quick = forgiving_study.options_from(parse(*needed, "--quick", "--networks", "20"))
    assert (whole.networks, whole.outputs, whole.epochs) == (58, 8, 1000)
    assert (quick.networks, quick.epochs) == (20, 100)
    assert whole.work == f"{tmp_path / 'o'}.work"


# --- the claims ----------------------------------------------------------------------------------


def papers_own_tables() -> dict[str, list[dict[str, Any]]]:
    """Tables as the paper's own music would have given them."""
    middle = {5: 500, 7: 300, 11: 150, 33: 150, 61: 150}
    found = {"reassigned": {5: 0.795, 7: 0.785}, "static": {}, "random": {}}
    single = [
        {
            "procedure": name,
            "hidden": hidden,
            "outputs": 10,
            "bits_right": bits,
            "candidates": candidates,
            "examined": middle[hidden] / 38_000 if name == "reassigned" else 0.0032,
            "found": found[name].get(hidden, share),
        }
        for name, (candidates, share) in published.SINGLE.items()
        for hidden in middle
        for bits in [{"reassigned": 7.2, "static": 5.5, "random": None}[name]]
    ]
    selection = [
        {"selector": name, "key_bits": b, "candidates": n, "examined": n / 38_000, "found": share}
        for name, worse in (("information", 0.0), ("correlation", 0.01), ("random", 0.02))
        for b, (n, share) in {10: (90, 0.74 - worse), 22: (5, 0.40 - worse)}.items()
    ]
    grid = [
        {"database": "excerpts", "n_tables": t, "key_bits": 22, "right": r / 100, "examined": 0.001}
        for t, r in published.GRID_22_BITS.items()
    ]
    grid += [
        {"database": name, "n_tables": t, "key_bits": b, "right": right, "examined": examined}
        for name, t, b, right, examined in (
            ("excerpts", 16, 14, 0.85, 0.006),
            ("excerpts", 20, 14, 0.9, 0.0055),
            ("songs", 18, 22, 0.72, 0.0027),
        )
    ]
    hashes = [
        {"hash": "reassigned", "n_tables": 18, "key_bits": 22, "examined": 0.0027, "right": 0.723},
        *(
            {"hash": name, "n_tables": 18, "key_bits": b, "examined": examined, "right": right}
            for name in ("min-hash", "random projections")
            for b, examined, right in ((8, 0.01, 0.4), (16, 0.001, 0.3))
        ),
    ]
    for row in hashes:
        row["chosen"] = row["hash"] == "reassigned"
    lengths = [
        {"hash": name, "apart": 1, "rule": "sum", "length_s": seconds, "right": value / 100}
        for name, values in published.LENGTHS.items()
        for seconds, value in values.items()
    ]
    ranks = [{"rank": i, "right": value / 100} for i, value in enumerate(published.RANKS, 1)]
    return {
        "single": single, "selection": selection, "grid": grid, "hashes": hashes,
        "lengths": lengths, "ranks": ranks,
    }  # fmt: skip


def test_the_papers_own_figures_meet_its_claims() -> None:
    rows = claims(papers_own_tables())
    assert [row["claim"] for row in rows if row["holds"] is not True] == []
    assert "72.0 against" not in rows[-1]["here"]
    # At 0.27 %, between 0.1 and 1 %: 0.3 + 0.1 · log10(2.7).
    assert rows[-1]["here"] == "72.3 against 34.3 %"


@pytest.mark.parametrize(
    ("table", "wanted", "changed", "claim"),
    [
        ("single", {"procedure": "reassigned", "hidden": 33}, {"bits_right": 5.4}, "Moving"),
        ("single", {"procedure": "reassigned", "hidden": 5}, {"found": 0.9}, "Networks of 5"),
        ("single", {"procedure": "reassigned", "hidden": 5}, {"examined": 1e-3}, "Networks of 5"),
        ("single", {"procedure": "static"}, {"found": 0.19}, "A single"),
        ("single", {"procedure": "random"}, {"candidates": 100}, "and that"),
        ("selection", {"selector": "information", "key_bits": 22}, {"found": 0.2}, "From 10"),
        ("selection", {"selector": "random"}, {"found": 0.73}, "Bits of least"),
        ("selection", {"selector": "correlation"}, {"found": 0.73}, "and slightly better"),
        ("grid", {"n_tables": 22}, {"right": 0.8}, "The more tables"),
        ("grid", {"n_tables": 16, "key_bits": 14}, {"right": 0.79}, "More than 14"),
        ("hashes", {"chosen": True}, {"right": 0.71}, "In the large"),
        ("hashes", {"chosen": True}, {"examined": 0.003}, "In the large"),
        ("ranks", {"rank": 25}, {"right": 0.2}, "Candidates"),
        ("lengths", {"length_s": 13.0}, {"right": 0.5}, "Longer"),
        ("hashes", {"hash": "min-hash"}, {"right": 0.8}, "At as many"),
        ("hashes", {"hash": "random projections"}, {"right": 0.8}, "the same against"),
    ],
)
def test_a_claim_fails_where_its_figure_does(
    table: str, wanted: dict[str, Any], changed: dict[str, Any], claim: str
) -> None:
    tables = copy.deepcopy(papers_own_tables())
    for row in tables[table]:
        if all(row[name] == value for name, value in wanted.items()):
            row.update(changed)
    failed = [row["claim"] for row in claims(tables) if row["holds"] is False]
    assert any(one.startswith(claim) for one in failed), failed


def test_what_was_not_measured_is_said_to_be_so() -> None:
    tables = papers_own_tables()
    tables["selection"] = [row for row in tables["selection"] if row["key_bits"] == 10]
    tables["hashes"] = [row for row in tables["hashes"] if row["hash"] != "min-hash"]
    verdicts = {row["claim"]: row["holds"] for row in claims(tables)}
    assert sum(holds is None for holds in verdicts.values()) >= 2


def test_selectors_are_compared_at_as_many_candidates() -> None:
    line = [(0.001, 0.2), (0.1, 0.6)]  # found rises by 0.2 for ten times the candidates
    rows = [
        {"selector": "information", "examined": examined, "found": found}
        for examined, found in line
    ]
    rows.append({"selector": "random", "examined": 0.01, "found": 0.35})
    assert gain_of_information(rows, "random") == pytest.approx(5.0)
    rows.append({"selector": "correlation", "examined": 0.5, "found": 0.35})
    assert gain_of_information(rows, "correlation") is None


def test_selectors_are_compared_at_as_many_found() -> None:
    rows = [
        {"selector": "information", "examined": examined, "found": found}
        for examined, found in ((0.001, 0.2), (0.1, 0.6))
    ]
    # 0.4 is found among 1 %, halfway between the logarithms; random bits look at 2 %.
    rows.append({"selector": "random", "examined": 0.02, "found": 0.4})
    assert fewer_candidates(rows, "random") == pytest.approx(0.5)
    rows.append({"selector": "correlation", "examined": 0.02, "found": 0.7})
    assert fewer_candidates(rows, "correlation") is None


def test_findings_take_the_rows_that_they_name(studied: tuple[Path, dict[str, Any]]) -> None:
    _, figures = studied
    tables = copy.deepcopy(figures["tables"])
    for row in tables["variants"]:
        row["examined"] = published.REFERENCE_EXAMINED * (0.5 if row["key_bits"] == 8 else 2.0)
        row["right"] = {"one bit": 0.25, "own songs": 0.5, "same songs": 0.75}[row["variant"]]
    rows = {row["question"]: row["here"] for row in findings(tables)}
    assert rows["Learners of one bit each"].startswith("25.0 % of answers right against 75.0 %")
    assert rows["Learners trained on different songs"].startswith("50.0 % of answers right")
    for row in tables["noise"]:
        if row["hash"] == "reassigned" and row["length_s"] == 5.0:
            row["right"] = {"white@0": 0.1, "white@20": 0.9}.get(row["condition"], 0.5)
    white = {row["question"]: row["here"] for row in findings(tables)}["Unstructured noise (white)"]
    assert "20, 10, 5, 0 dB below the music: forgiving hash 90 · 50 · 50 · 10;" in white


def test_other_excerpts_of_a_recording_are_said_to_be_no_mistake() -> None:
    tables = papers_own_tables()
    for row in only(tables["grid"], database="excerpts", key_bits=14):
        row["right_recording"] = row["right"] + 0.05
    (claim,) = [row for row in claims(tables) if row["claim"].startswith("More than 14")]
    assert claim["here"] == (
        "85 to 90 % (2 of the settings); 90 to 95 % where other excerpts of the same recording "
        "count as right"
    )


# --- the page ------------------------------------------------------------------------------------


def test_lines_lie_within_the_chart(studied: tuple[Path, dict[str, Any]]) -> None:
    _, figures = studied
    for name, chart in forgiving_charts(figures).items():
        assert chart.lines, name
        for line in chart.lines:
            assert all(48 <= x <= 498 and 10 <= y <= 246 for x, y in line.dots), (name, line)
        assert len(chart.x_ticks) >= 2, name
        assert len(chart.y_ticks) >= 3, name


def test_what_examines_nothing_has_no_place_on_a_logarithmic_axis(
    studied: tuple[Path, dict[str, Any]],
) -> None:
    _, figures = studied
    ends = [(0.0, 0.1), (0.001, 0.2), (0.1, 0.6)]
    rows = [{"selector": "random", "examined": x, "found": y} for x, y in ends]
    chart = forgiving_charts({**figures, "tables": {**figures["tables"], "selection": rows}})
    (line,) = chart["selection"].lines
    assert len(line.dots) == 2


def test_the_page_escapes_what_a_catalogue_is_called(
    studied: tuple[Path, dict[str, Any]],
) -> None:
    _, figures = studied
    page = forgiving_page({**figures, "catalog": "<b>music</b>.csv"})
    assert "<b>music</b>" not in page
    assert "&lt;b&gt;music" in page
