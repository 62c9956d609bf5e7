"""Splits and merges: found in embeddings that a person can picture, and never asked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from disambiguation_music import facts, numbers, pitch_encoder, run, tracks, write_tones
from index_helpers import error_line

from hashing.artists.names import NameRules
from pipelines.disambiguation import nearest as nearest_module
from pipelines.disambiguation.cluster import Before, Rules
from pipelines.disambiguation.group import Groups, group_tracks
from pipelines.disambiguation.judge import Centres, Judged, judge
from pipelines.disambiguation.nearest import nearest, ward_heights
from pipelines.disambiguation.outcome import Proposal
from pipelines.disambiguation.proposals import propose, spelled_alike
from pipelines.disambiguation.review import DecidedProposal

CUT = 0.5


def judged(rows: list[tuple[Any, float]], **columns: list) -> tuple[Groups, Judged, list[str]]:
    """Names and angles (degrees on the unit circle) of tracks, judged."""
    names = [[name] if isinstance(name, str) else name for name, _ in rows]
    ids = [f"t{place:03d}" for place in range(len(rows))]
    catalog = pa.table({"track_id": ids, "uri": ids, "artist_name": names, **columns})
    angles = np.radians([angle for _, angle in rows])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    groups = group_tracks(catalog, NameRules())
    heard = np.ones(len(rows), bool)
    rules = Rules(CUT, 2, 0.0)
    found = judge(groups, catalog, heard, embeddings, rules, before=lambda _: Before())
    return groups, found, ids


def proposed(
    rows: list[tuple[Any, float]], decided: list[DecidedProposal] | None = None, **columns: list
) -> list[Proposal]:
    groups, found, ids = judged(rows, **columns)
    spelled = spelled_alike(groups, found, NameRules())
    return propose(groups, found, ids, CUT, spelled=spelled, decided=decided or [])


def voice(name: Any, angle: float, n: int = 4) -> list[tuple[Any, float]]:
    return [(name, angle + step) for step in range(n)]


def names_of(proposal: Proposal) -> set[str]:
    return {side.name for side in proposal.sides}


def test_two_names_with_one_voice_are_found_whatever_they_are_called() -> None:
    rows = [*voice("Cat Stevens", 10), *voice("Yusuf Islam", 11), *voice("Nina", 180)]
    (found,) = proposed(rows)
    assert found.kind == "merge"
    assert names_of(found) == {"Cat Stevens", "Yusuf Islam"}
    assert found.evidence["found_by"] == "sound"
    assert found.evidence["nearest_of_each_other"] == "true"
    assert 0.9 < found.score <= 1
    assert all(len(side.tracks) == 3 for side in found.sides)


def test_spelling_and_sound_find_an_alias_with_a_single_track() -> None:
    rows = [*voice("Youssou N'Dour", 10, 5), ("Ndour", 12), *voice("Nina", 180)]
    (found,) = proposed(rows)
    assert names_of(found) == {"Youssou N'Dour", "Ndour"}
    assert found.evidence["found_by"] == "spelling and sound"
    assert found.evidence["spelling_found_by"] == "part"
    # Names that are spelled alike and sound otherwise are not proposed.
    assert proposed([*voice("Youssou N'Dour", 10, 5), ("Ndour", 150)]) == []


def test_names_that_stand_on_one_track_are_two_people() -> None:
    rows = [*voice("Cat Stevens", 10), *voice("Yusuf Islam", 11)]
    rows.append((["Cat Stevens", "Yusuf Islam"], 12))
    assert proposed(rows) == []


def test_an_id_with_two_voices_is_a_split() -> None:
    rows = [*voice("Nina", 10), *voice("Nina", 100), ("Nina", 190)]
    ids = [["A1"]] * 9
    (found,) = proposed(rows, artist_id=ids)
    assert found.kind == "split"
    # The track that is alone says too little.
    assert [(side.cluster, side.size, side.artist_id) for side in found.sides] == [
        (1, 4, "A1"),
        (2, 4, "A1"),
    ]
    assert found.reason == "id A1 has 2 voices, of 4 and 4 tracks"
    assert found.score > 0.9


def test_an_id_of_two_names_with_one_voice_is_not_split_nor_merged() -> None:
    rows = [*voice("Cat Stevens", 10), *voice("Yusuf Islam", 11)]
    assert proposed(rows, artist_id=[["A1"]] * 8) == []
    rows = [*voice("Cat Stevens", 10), *voice("Yusuf Islam", 120)]
    (found,) = proposed(rows, artist_id=[["A1"]] * 8)
    assert found.kind == "split"
    assert names_of(found) == {"Cat Stevens", "Yusuf Islam"}


def test_two_ids_of_one_name_with_one_voice_are_a_merge() -> None:
    (found,) = proposed(voice("Nina", 10, 6), artist_id=[["A1"]] * 4 + [["A2"]] * 2)
    assert found.kind == "merge"
    assert [(side.artist_id, side.size) for side in found.sides] == [("A1", 4), ("A2", 2)]


def test_homonyms_with_an_id_each_are_left_in_peace() -> None:
    rows = [*voice("Nina", 10), *voice("Nina", 100)]
    assert proposed(rows, artist_id=[["A1"]] * 4 + [["A2"]] * 4) == []


def test_what_was_decided_is_not_proposed_again_while_the_tracks_are_the_same() -> None:
    rows = [*voice("Cat Stevens", 10), *voice("Yusuf Islam", 11), *voice("Nina", 180)]
    (found,) = proposed(rows)
    decided = DecidedProposal(
        "merge-of-an-earlier-run",
        "merge",
        "rejected",
        [side.key for side in found.sides],
        [list(side.tracks) for side in found.sides],
    )
    assert proposed(rows, [decided]) == []
    # Of other tracks of the same names nothing was said.
    rows += [*voice("Cat Stevens", 250), *voice("Yusuf Islam", 251)]
    (other,) = proposed(rows, [decided])
    assert {side.cluster for side in other.sides} == {2}


def test_proposals_have_one_id_from_run_to_run() -> None:
    rows = [*voice("Cat Stevens", 10), *voice("Yusuf Islam", 11)]
    assert proposed(rows)[0].proposal_id == proposed([*rows, *voice("Nina", 180)])[0].proposal_id


def test_the_nearest_clusters_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    n = 60
    centres = Centres(
        rng.integers(0, 20, n),
        np.arange(n),
        rng.integers(3, 40, n),
        rng.standard_normal((n, 5)).astype(np.float32),
        [()] * n,
    )
    monkeypatch.setattr(nearest_module, "BLOCK_BYTES", 4 * n * 7)  # seven rows at a time
    rows = np.arange(0, n, 2)
    found, heights = nearest(centres, rows, 4)
    for place, row in enumerate(rows.tolist()):
        others = rows[centres.group[rows] != centres.group[row]]
        expected = ward_heights(centres, np.full(others.size, row), others)
        order = np.argsort(expected)[:4]
        assert found[place].tolist() == others[order].tolist()
        np.testing.assert_allclose(heights[place], expected[order], rtol=1e-4)


def test_a_decision_about_a_proposal_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*tracks("Cat Stevens", [300, 303, 306]), *tracks("Yusuf Islam", [301, 304, 307])]
    catalog = write_tones(tmp_path, rows)
    with pitch_encoder():
        assert run(catalog, tmp_path / "out") == 0
        before = numbers(tmp_path / "out")
        (row,) = pq.read_table(tmp_path / "out" / "proposals.parquet").to_pylist()
        assert (row["kind"], row["decision"]) == ("merge", "open")
        assert sorted(row["artist_names"]) == ["Cat Stevens", "Yusuf Islam"]
        assert json.loads(row["evidence"])["found_by"] == "sound"
        review = {
            "format": "hashbeam-review",
            "format_version": 1,
            "run": facts(tmp_path / "out")["run_id"],
            "proposals": [{"proposal": row["proposal_id"], "decision": "accepted"}],
        }
        path = tmp_path / "r.json"
        path.write_text(json.dumps(review))
        for flags in (["--review", str(path)], []):
            assert run(catalog, tmp_path / "out", *flags) == 0
            (again,) = pq.read_table(tmp_path / "out" / "proposals.parquet").to_pylist()
            assert again == {**row, "decision": "accepted"}
            assert facts(tmp_path / "out")["proposals"] == 0
        assert numbers(tmp_path / "out") == before  # proposals are never applied
        capsys.readouterr()
        review["proposals"] = [{"proposal": "merge-x", "decision": "accepted"}]
        path.write_text(json.dumps(review))
        assert run(catalog, tmp_path / "out", "--review", str(path)) == 2
    assert "there is no proposal 'merge-x'" in error_line(capsys, "disambiguate")
