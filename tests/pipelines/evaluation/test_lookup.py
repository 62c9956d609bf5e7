"""``hashbeam evaluate lookup`` on rendered music, from the flags to the page."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from index_helpers import run_index
from model_fixture import random_model
from published_index import Published, wav
from tiny_catalog import RATE, write_rows

from hashing.models import DEFAULT_MODEL, PRETRAINED, load_model
from hashing.synthesis import render_track
from pipelines.cli import main
from pipelines.evaluation.accuracy import Result, summarise
from pipelines.report.evaluation import as_text

pytestmark = pytest.mark.usefixtures("one_index_decoder")

TRACKS, PLACES = 12, 10
SECONDS = 8.0

Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve tracks; t11, alone on an album, is music of t00 and music of its own."""
    folder = tmp_path_factory.mktemp("evaluate")
    songs = [render_track(number, SECONDS, RATE) for number in range(TRACKS)]
    songs[11][: 5 * RATE] = songs[0][: 5 * RATE]
    rows = []
    for number, song in enumerate(songs):
        wav(folder / f"{number}.wav", song)
        album = "last & <least>" if number == 11 else f"album {min(4, number // 2)}"
        rows.append({"track_id": f"t{number:02d}", "uri": f"{number}.wav", "album": album})
    return write_rows(folder / "catalog.csv", rows)


def evaluate(catalog: Path, out: Path, *flags: str) -> int:
    flags = ("--catalog", str(catalog), "--out", str(out), "--workers", "1", *flags)
    return main(["evaluate", "lookup", "--durations", "1", "3", *flags])


SYSTEMS = (
    "contrastive, 1 probe",
    "contrastive, 8 probes",
    "other & <another>, 1 probe",
    "other & <another>, 8 probes",
)
SMALL = ("--conditions", "clean", "white@5", "--queries", str(PLACES), "--left-out", "0.25")


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model in a folder that a page must escape."""
    folder = tmp_path_factory.mktemp("models") / "other & <another>"
    random_model(folder)
    return folder


@pytest.fixture(scope="module")
def flags(other_model: Path) -> tuple[str, ...]:
    """Two models, each with two numbers of probes."""
    models = ("--model", DEFAULT_MODEL, str(other_model))
    return (*SMALL, *models, "--probes", "1", "8", "--left-out-by", "album")


@pytest.fixture(scope="module")
def evaluated(
    catalog: Path, flags: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """The figures as printed, and the folder; not to be changed."""
    out = tmp_path_factory.mktemp("figures") / "new"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert evaluate(catalog, out, *flags, "--json") == 0
    return json.loads(printed.getvalue()), out


def test_every_system_has_a_row_for_each_condition_and_duration(
    evaluated: tuple[dict[str, Any], Path],
) -> None:
    figures, out = evaluated
    assert figures == json.loads((out / "figures.json").read_text())
    assert (figures["format_version"], figures["catalog"], figures["seed"]) == (2, "catalog.csv", 1)
    assert figures["verbatim"] == ["clean"]
    assert tuple(system["name"] for system in figures["systems"]) == SYSTEMS
    first = figures["systems"][0]
    assert first["model"]["digest"] == load_model(DEFAULT_MODEL).digest
    assert (first["key_bits"], first["replication"], first["compared_with"]) == (12, 1, "codes")
    for system in figures["systems"]:
        cells = [(row["duration_s"], row["condition"]) for row in system["conditions"]]
        assert cells == [(1, "clean"), (1, "white@5"), (3, "clean"), (3, "white@5")]
        for row in system["conditions"]:
            assert row["queries"] == PLACES
            low, high = row["top1_interval"]
            assert 0 <= low <= row["top1"] <= high <= 1
            assert row["accepted"] <= row["top1"]
            assert row["at_1_percent"] <= row["top1"]
            assert row["right_place"] <= row["right_audio"]
            assert 0 < row["examined"] < 1
        for row in (*system["durations"], system["overall"]):
            low, high = row["at_1_percent_interval"]
            assert low <= row["at_1_percent"] <= high
    few, many = (system["overall"] for system in figures["systems"][:2])
    assert few["examined"] < many["examined"]
    # The same queries are hashed once for both.
    assert few["hash_cpu_ms"] == many["hash_cpu_ms"]


def test_groups_are_left_out_whole_and_what_the_index_holds_is_no_negative(
    evaluated: tuple[dict[str, Any], Path],
) -> None:
    figures, out = evaluated
    assert figures["left_out_by"] == "album"
    rows = pq.read_table(out / "queries.parquet").to_pylist()
    negatives = {row["source"] for row in rows if not row["wanted"]}
    wanted = {row["wanted"] for row in rows if row["wanted"]}
    assert figures["tracks_indexed"] == len(wanted)
    shared = figures["shared_audio"]
    assert shared["found_by"] == ["contrastive"]
    assert shared["groups"] == [["t00", "t11"]]
    assert {tuple(sorted((pair["one"], pair["other"]))) for pair in shared["pairs"]} == {
        ("t00", "t11")
    }
    assert len(negatives) == figures["tracks_left_out"]
    assert len(wanted) + len(negatives) + len(shared["no_negatives"]) == TRACKS
    albums = [{f"t{n:02d}" for n in range(at, at + 2)} for at in (0, 2, 4, 6)]
    assert all(album <= wanted or not album & wanted for album in albums)
    # One of the two was left out, and is asked for as little as if it were in the index.
    assert not {"t00", "t11"} & negatives


def test_queries_of_rendered_music_are_found(evaluated: tuple[dict[str, Any], Path]) -> None:
    figures, _ = evaluated
    best = figures["systems"][1]
    clean = {r["duration_s"]: r for r in best["conditions"] if r["condition"] == "clean"}
    assert clean[3]["top1"] == clean[3]["right_audio"] == 1.0
    assert clean[1]["top1"] >= 0.8
    assert clean[3]["accepted"] >= 0.8
    assert best["overall"]["top1"] > figures["systems"][2]["overall"]["top1"]


def test_any_two_systems_are_compared_on_the_same_queries(
    evaluated: tuple[dict[str, Any], Path],
) -> None:
    figures, _ = evaluated
    pairs = [(row["one"], row["other"]) for row in figures["differences"]]
    assert set(pairs) == set(itertools.combinations(SYSTEMS, 2))
    overall = {system["name"]: system["overall"] for system in figures["systems"]}
    for row in figures["differences"]:
        for figure in ("top1", "at_1_percent"):
            assert row[figure]["low"] <= row[figure]["difference"] <= row[figure]["high"]
            if row["duration_s"] is None:
                expected = overall[row["one"]][figure] - overall[row["other"]][figure]
                assert row[figure]["difference"] == pytest.approx(expected, abs=2e-4)


def test_few_negatives_are_told_of(evaluated: tuple[dict[str, Any], Path]) -> None:
    figures, _ = evaluated
    n = 2 * PLACES
    (warning,) = figures["warnings"]
    assert f"needs 300 queries of tracks left out of each length, there are {n} of 1 s" in warning


def test_every_query_is_a_row(evaluated: tuple[dict[str, Any], Path]) -> None:
    figures, out = evaluated
    table = pq.read_table(out / "queries.parquet")
    digests = table.schema.metadata[b"hasher_digest"].decode().split()
    assert digests == [figures["systems"][at]["model"]["digest"] for at in (0, 2)]
    rows = table.to_pylist()
    assert len(rows) == 2 * PLACES * 2 * 2 * len(SYSTEMS)
    for system in figures["systems"]:
        own = [row for row in rows if row["system"] == system["name"]]
        assert [row["query"] for row in own] == list(range(2 * PLACES * 2 * 2))
        found = json.loads(json.dumps(summarise([Result(**row) for row in own])))
        assert found["conditions"] == system["conditions"]
    for row in rows:
        assert 0 <= row["start_s"] <= SECONDS - 3 + 1e-6
        assert row["right_place"] <= row["right_audio"] <= row["right"] <= bool(row["wanted"])
        assert row["examined"] <= 1
        assert row["compared"] <= 1
        if row["right_place"]:
            assert abs(row["offset_s"] - row["start_s"]) <= 0.5


def test_the_page_needs_no_network_and_escapes_names(
    evaluated: tuple[dict[str, Any], Path],
) -> None:
    figures, out = evaluated
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<another>" not in page
    assert "other &amp; &lt;another&gt;, 8 probes" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)
    assert "{{" not in page
    for system in figures["systems"]:
        assert f"{100 * system['overall']['top1']:.1f}" in page
    # Every drawing can be read aloud, and every mark has a place.
    drawings = re.findall(r'<svg viewBox="[^"]*" role="img"\s+aria-label="([^"]+)"', page)
    assert len(drawings) == 4 + 3 * len(SYSTEMS)
    assert page.count("<svg") == page.count("</svg>")
    assert not re.search(r"\b(nan|inf|None|Undefined)\b", page)


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.endswith("cpu_ms")}
        for row in pq.read_table(out / "queries.parquet").to_pylist()
    ]


def test_the_seed_decides_everything_whoever_else_is_asked(
    catalog: Path, evaluated: tuple[dict[str, Any], Path], tmp_path: Path, capsys: Shown
) -> None:
    figures, out = evaluated
    flags = (*SMALL, "--left-out-by", "album")
    assert evaluate(catalog, tmp_path / "again", *flags) == 0
    again, before = rows_of(tmp_path / "again"), rows_of(out)
    assert {row.pop("system") for row in again} == {"contrastive"}
    before = [row for row in before if row.pop("system") == "contrastive, 8 probes"]
    assert again == before
    text = capsys.readouterr().out
    assert text.startswith(f"{figures['tracks_indexed']} tracks indexed, ")
    assert "1 groups of tracks share audio" in text
    assert "Right track first, %" in text
    assert "* these samples are in the index" in text


def test_the_tables_for_a_terminal(evaluated: tuple[dict[str, Any], Path]) -> None:
    figures, _ = evaluated
    text = as_text(figures)
    for row in figures["differences"]:
        assert f"{row['one']} - {row['other']}: top-1 " in text
    best = figures["systems"][1]
    section = text[text.index(f"{best['name']}: ") :]
    assert section.startswith(f"{best['name']}: {best['n_tables']} tables, keys of 12 bits, ")
    lines = section.splitlines()
    assert lines[2] == "Right track first, %"
    assert lines[3].split() == ["1", "s", "3", "s"]
    shares = [row["top1"] for row in best["conditions"] if row["condition"] == "clean"]
    assert lines[4].split() == ["clean", "*", *(f"{100 * share:.1f}" for share in shares)]


def asked(published: Published, out: Path, *flags: str) -> tuple[dict[str, Any], list[Any]]:
    """Figures and queries of an evaluation of the index of twenty tracks."""
    flags = ("--index", str(published.index), "--conditions", "clean", "--as-listed", *flags)
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
    (system,) = figures["systems"]
    assert system["not_asked"] == expected
    assert any("could not be asked" in line and "silent" in line for line in figures["warnings"])
    clean = system["conditions"][1]
    assert clean["duration_s"] == 3
    assert clean["queries"] + sum(row["duration_s"] == 3 for row in silent) == 19
    assert (clean["negatives"], clean["false_positives"]) == (0, None)
    assert clean["top1"] >= 0.95


def test_another_seed_asks_for_other_places(published: Published, tmp_path: Path) -> None:
    one, other = (
        asked(published, tmp_path / seed, "--queries", "4", "--seed", seed)[1]
        for seed in ("7", "8")
    )
    assert one != other


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
    for out, more in (("apart", ["--as-listed"]), ("same", ["--as-listed", "--same", "work"]),
                      ("found", [])):  # fmt: skip
        assert evaluate(catalog, tmp_path / out, *flags, *more) == 0
        figures = json.loads((tmp_path / out / "figures.json").read_text())
        row = figures["systems"][0]["conditions"][1]
        shares.append((figures["tracks_left_out"], row["false_positives"]))
        assert (figures["shared_audio"] is None) == bool(more)
    # Of eight negatives x01 is four.
    assert shares == [(2, 0.5), (1, 0.0), (1, 0.0)]


def test_two_indexes_are_asked_and_their_embeddings_compared(
    catalog: Path, published: Published, tmp_path: Path
) -> None:
    """Of the same model: their folders tell them apart. What one of them holds is no negative."""
    folder = published.index.parent
    rows = [{"track_id": f"s{n:02d}", "uri": str(folder / f"s{n:02d}.wav")} for n in range(3)]
    both = write_rows(tmp_path / "both.csv", rows)
    half = write_rows(tmp_path / "half.csv", rows[:2])
    kept = tmp_path / "kept"
    assert run_index(half, kept, PRETRAINED / DEFAULT_MODEL, "--keep-embeddings") == 0
    indexes = ("--index", str(published.index), str(kept))
    out = tmp_path / "out"
    assert evaluate(both, out, *indexes, "--conditions", "clean", "--queries", "4") == 0
    figures = json.loads((out / "figures.json").read_text())
    assert [system["name"] for system in figures["systems"]] == [
        "contrastive (index)",
        "contrastive (kept)",
    ]
    assert [system["compared_with"] for system in figures["systems"]] == ["codes", "embeddings"]
    assert (figures["tracks_indexed"], figures["tracks_left_out"]) == (2, 0)
    assert figures["systems"][1]["durations"][1]["top1"] == 1.0


def test_noises_and_rooms_of_ones_own_are_used(published: Published, tmp_path: Path) -> None:
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
