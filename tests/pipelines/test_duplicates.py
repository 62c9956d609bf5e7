"""``hashbeam duplicates`` end to end on rendered music, and what uses its groups."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from index_helpers import error_line, run_index
from published_index import answer_rows, wav
from tiny_catalog import RATE, write_rows

from hashing.audio import encode
from hashing.models import DEFAULT_MODEL, PRETRAINED, load_model
from hashing.synthesis import render_track
from pipelines import io
from pipelines.cli import main
from pipelines.duplication.job import FORMAT_VERSION

SECONDS = 16.0


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Music with copies, the index of it, and what the verb found."""

    folder: Path
    index: Path
    out: Path
    summary: dict[str, Any]

    @property
    def pairs(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The rows of duplicates.parquet, by the ids of both tracks."""
        rows = pq.read_table(self.out / "duplicates.parquet").to_pylist()
        return {(row["track_id"], row["other_track_id"]): row for row in rows}

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The rows of groups.parquet."""
        return pq.read_table(self.out / "groups.parquet").to_pylist()


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Six songs; a has three copies, b lends five seconds to c."""
    folder = tmp_path_factory.mktemp("duplicates")
    songs = {name: render_track(seed, SECONDS, RATE) for seed, name in enumerate("abcdef", 1)}
    songs["c"][4 * RATE : 9 * RATE] = songs["b"][7 * RATE : 12 * RATE]
    rng = np.random.default_rng(1)
    noise = 0.02 * rng.standard_normal(songs["a"].size).astype(np.float32)
    files = {
        **songs,
        "a-late": songs["a"][round(2.1 * RATE) :] * 0.4,
        "a-noisy": songs["a"] + noise,
        "a-part": songs["a"][5 * RATE : 12 * RATE],
    }
    isrcs = {"a": "AA-111-22-33333", "a-late": "AA1112233333", "a-noisy": "BB1112233333"}
    rows = []
    for name, samples in files.items():
        wav(folder / f"{name}.wav", samples)
        rows.append({"track_id": name, "uri": f"{name}.wav", "isrc": isrcs.get(name, "")})
    encode(songs["d"], RATE, str(folder / "d-mp3.mp3"), codec="mp3", bit_rate=32_000)
    rows.append({"track_id": "d-mp3", "uri": "d-mp3.mp3", "isrc": ""})
    for row in rows:
        row["artist_name"] = "Ann"
    catalog = write_rows(folder / "catalog.csv", rows)
    index, out = folder / "index", folder / "found"
    assert run_index(catalog, index, PRETRAINED / DEFAULT_MODEL) == 0
    assert find(index, out) == 0
    return Catalogue(folder, index, out, json.loads((out / "run.json").read_text()))


def find(index: Path, out: Path, *flags: str) -> int:
    """The exit status of ``hashbeam duplicates`` in this process."""
    return main(["duplicates", str(index), "--out", str(out), "--workers", "1", *flags])


def test_copies_excerpts_and_samples_are_told_apart(catalogue: Catalogue) -> None:
    found = {pair: row["relation"] for pair, row in catalogue.pairs.items()}
    assert found == {
        ("a", "a-late"): "same",
        ("a", "a-noisy"): "same",
        ("a-late", "a-noisy"): "same",
        ("a", "a-part"): "part",
        ("a-late", "a-part"): "part",
        ("a-noisy", "a-part"): "part",
        ("d", "d-mp3"): "same",
        ("b", "c"): "shared",
    }


@pytest.mark.parametrize(
    ("pair", "overlap_s", "start_s", "other_start_s"),
    [
        (("a", "a-late"), 13.9, 2.1, 0.0),
        (("a", "a-part"), 7.0, 5.0, 0.0),
        (("d", "d-mp3"), 16.0, 0.0, 0.0),
        (("b", "c"), 5.0, 7.0, 4.0),
    ],
)
def test_overlaps_lie_where_they_were_made(
    catalogue: Catalogue,
    pair: tuple[str, str],
    overlap_s: float,
    start_s: float,
    other_start_s: float,
) -> None:
    row = catalogue.pairs[pair]
    assert row["overlap_s"] == pytest.approx(overlap_s, abs=1.1)
    assert row["start_s"] == pytest.approx(start_s, abs=0.6)
    assert row["other_start_s"] == pytest.approx(other_start_s, abs=0.6)
    assert 0.5 <= row["score"] <= 1.0


def test_isrcs_are_evidence_however_they_are_spelled(catalogue: Catalogue) -> None:
    pairs = catalogue.pairs
    assert pairs["a", "a-late"]["isrc"] == "equal"
    assert pairs["a", "a-noisy"]["isrc"] == "different"
    assert pairs["d", "d-mp3"]["isrc"] is None
    assert (catalogue.summary["pairs_isrc_equal"], catalogue.summary["pairs_isrc_different"]) == (
        1,
        2,
    )


def test_groups_have_one_representative_each(catalogue: Catalogue) -> None:
    members: dict[int, list[str]] = {}
    for row in catalogue.groups:
        members.setdefault(row["group"], []).append(row["track_id"])
        assert row["size"] == {"a": 3, "d": 2}[row["track_id"][0]]
    assert sorted(map(sorted, members.values())) == [["a", "a-late", "a-noisy"], ["d", "d-mp3"]]
    chosen = [row for row in catalogue.groups if row["is_representative"]]
    assert [(row["score"], row["offset_s"]) for row in chosen] == [(1.0, 0.0)] * 2
    assert catalogue.summary["groups"] == 2
    assert catalogue.summary["tracks_in_groups"] == 5


def test_files_say_what_made_them(catalogue: Catalogue) -> None:
    for name in ("duplicates", "groups"):
        metadata = pq.read_schema(catalogue.out / f"{name}.parquet").metadata
        assert metadata[b"hashbeam_format"].decode() == str(FORMAT_VERSION)
        assert metadata[b"hasher_digest"].decode() == load_model(DEFAULT_MODEL).digest
    names = sorted(path.name for path in catalogue.out.iterdir())
    assert names == ["duplicates.parquet", "groups.parquet", "plan.json", "run.json"]
    assert catalogue.summary["postings_joined"] > 0
    assert catalogue.summary["long_buckets"] == 0


def test_look_up_gives_one_match_for_a_recording(
    catalogue: Catalogue, one_decoder: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del one_decoder  # for all look-ups; the index was made with its own
    query = wav(tmp_path / "q.wav", render_track(1, SECONDS, RATE)[6 * RATE : 10 * RATE])
    flags = ["lookup", "--index", str(catalogue.index), "--top", "5", "--min-score", "0.3"]
    duplicates = ["--duplicates", str(catalogue.out)]
    assert main([*flags, "--json", str(query)]) == 0
    alone = json.loads(capsys.readouterr().out)["matches"]
    assert {"a", "a-late", "a-noisy"} < {row["track_id"] for row in alone}
    assert main([*flags, *duplicates, "--json", str(query)]) == 0
    found = json.loads(capsys.readouterr().out)["matches"]
    assert [row["rank"] for row in found] == list(range(1, len(found) + 1))
    (copies,) = [row for row in found if row["duplicates"]]
    assert {copies["track_id"], *copies["duplicates"]} == {"a", "a-late", "a-noisy"}
    assert main([*flags, *duplicates, str(query)]) == 0
    assert "the same recording as a" in capsys.readouterr().out
    queries = write_rows(tmp_path / "q.csv", [{"query_id": "q", "uri": "q.wav"}])
    out = tmp_path / "answers"
    many = ["--queries", str(queries), "--out", str(out), "--workers", "1"]
    assert main([*flags, *duplicates, *many]) == 0
    rows = answer_rows(out)
    assert [(r["track_id"], r["duplicates"]) for r in rows] == [
        (r["track_id"], r["duplicates"]) for r in found
    ]


def test_a_stopped_run_goes_on(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found"
    with monkeypatch.context() as patched:

        def stop(*_: object) -> None:
            raise io.HashbeamError("the disk is full")

        patched.setattr("pipelines.duplication.join.compare_part", stop)
        assert find(catalogue.index, out, "--quiet") == 1
    assert not (out / "run.json").exists()
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.duplication.join.join_block", stop)  # nothing is joined twice
        assert find(catalogue.index, out, "--quiet") == 0
    summary = json.loads((out / "run.json").read_text())
    assert summary["pieces_resumed"] == summary["pieces"] - 1
    for name in ("duplicates", "groups"):
        one, other = (pq.read_table(path / f"{name}.parquet") for path in (out, catalogue.out))
        assert one.equals(other)
    assert not (out / "work").exists()


def test_a_folder_of_something_else_is_refused(
    catalogue: Catalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert find(catalogue.index, catalogue.out) == 1
    assert "holds all duplicates already" in error_line(capsys, "duplicates")
    assert find(catalogue.index, catalogue.out, "--every", "2") == 1
    assert "with other options" in error_line(capsys, "duplicates")
    assert find(catalogue.index, catalogue.folder) == 1
    assert "is not empty" in error_line(capsys, "duplicates")
    assert find(tmp_path / "nowhere", tmp_path / "out") == 1
    error_line(capsys, "duplicates")
    assert main(["duplicates", str(catalogue.index), "--every", "0", "--max-bucket", "x"]) == 2
    line = error_line(capsys, "duplicates")
    assert all(flag in line for flag in ("--out", "--every", "--max-bucket"))
    unfinished = ["--duplicates", str(tmp_path / "nothing")]
    assert main(["lookup", "--index", str(catalogue.index), *unfinished, "q.wav"]) == 1
    assert "holds no finished" in error_line(capsys, "lookup")
