"""What editors decide: applied on the next run, kept by track id, and never asked again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from disambiguation_music import (
    clusters,
    facts,
    numbers,
    pitch_encoder,
    run,
    tracks,
    write_review,
    write_tones,
)
from index_helpers import error_line

from hashing.errors import UsageError
from pipelines.disambiguation.review import (
    Decisions,
    apply_review,
    read_review,
)

Shown = pytest.CaptureFixture[str]

LOW, HIGH = [300, 305, 310], [800, 805, 810]  # Hz: two voices
NINA = [*LOW, *HIGH, 1300, 1305]


def ids(*places: int) -> list[str]:
    return [f"nina{place:02d}" for place in places]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run over Nina, three voices: 0 to 2, 3 to 5, 6 and 7."""
    folder = tmp_path_factory.mktemp("reviewed")
    catalog = write_tones(folder, tracks("Nina", NINA))
    with pitch_encoder():
        assert run(catalog, folder / "out") == 0
    assert list(numbers(folder / "out").values()) == [1, 1, 1, 2, 2, 2, 3, 3]
    return folder


@pytest.fixture
def again(first: Path, tmp_path: Path) -> Path:
    """A copy with results and music of its own."""
    shutil.copytree(first, tmp_path / "copy", copy_function=shutil.copy2)
    return tmp_path / "copy"


def rerun(folder: Path, *flags: str) -> list[int]:
    with pitch_encoder():
        assert run(folder / "catalog.jsonl", folder / "out", *flags) == 0
    return list(numbers(folder / "out").values())


def test_a_merge_and_an_acceptance_are_applied_and_stay(again: Path) -> None:
    review = write_review(
        again / "r.json",
        again / "out",
        [("nina", 1, ids(0, 1, 2, 6, 7)), ("nina", 2, ids(3, 4, 5))],
    )
    merged = [1, 1, 1, 2, 2, 2, 1, 1]
    assert rerun(again, "--review", str(review)) == merged
    assert set(clusters(again / "out").values()) == {("Nina", 1, "decided"), ("Nina", 2, "decided")}
    (row,) = pq.read_table(again / "out" / "groups.parquet").to_pylist()
    assert (row["status"], row["doubt"]) == ("decided", 0)
    # Without the review, however often; with it again; and when everything is clustered afresh.
    assert rerun(again) == merged
    assert rerun(again, "--review", str(review)) == merged
    assert rerun(again, "--recluster", "--cut", "3") == merged


def test_a_split_keeps_the_number_of_the_rest(again: Path) -> None:
    decisions = [("nina", 1, ids(0, 1)), ("nina", 4, ids(2))]
    review = write_review(again / "r.json", again / "out", decisions)
    assert rerun(again, "--review", str(review)) == [1, 1, 4, 2, 2, 2, 3, 3]
    status = [row[2] for row in clusters(again / "out").values()]
    assert status == ["decided"] * 3 + ["clustered"] * 5
    # Even where nothing else is apart.
    rough = rerun(again, "--cut", "10")
    assert rough[:3] == [1, 1, 4]
    assert len(set(rough[3:])) == 1


def test_new_tracks_join_a_cluster_or_open_a_new_one(again: Path) -> None:
    review = write_review(again / "r.json", again / "out", [("nina", 2, ids(3, 4, 5))])
    rerun(again, "--review", str(review))
    # Before all others in the catalogue, so that numbers by order would change.
    more = tracks("Nina", [802, 1050, 307])
    more = [{**row, "track_id": f"a{place}"} for place, row in enumerate(more)]
    write_tones(again, [*tracks("Nina", NINA), *more])
    assert rerun(again) == [2, 4, 1, 1, 1, 1, 2, 2, 2, 3, 3]
    found = clusters(again / "out")
    assert found["a0"][2] == "clustered"  # an editor has not seen it
    assert found["nina03"][2] == "decided"
    # A track that goes takes no number with it, and none is given twice.
    write_tones(again, [row for row in [*tracks("Nina", NINA), *more] if row["track_id"] != "a1"])
    assert 4 not in rerun(again)
    write_tones(again, [*tracks("Nina", NINA), *more, *tracks("Nina", [560], first=50)])
    last = rerun(again)
    assert (last[1], last[-1]) == (5, 6)


def test_csv_says_the_same_as_json(again: Path) -> None:
    run_id = facts(again / "out")["run_id"]
    lines = ["run,name,artist,track_id,proposal,decision"]
    lines += [f"{run_id},nina,1,{track_id},," for track_id in ids(0, 1, 2, 6, 7)]
    (again / "r.csv").write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    assert rerun(again, "--review", str(again / "r.csv")) == [1, 1, 1, 2, 2, 2, 1, 1]


def test_a_later_decision_replaces_an_earlier_one(again: Path) -> None:
    one = write_review(again / "1.json", again / "out", [("nina", 1, ids(0, 1, 2, 3, 4, 5))])
    assert rerun(again, "--review", str(one)) == [1, 1, 1, 1, 1, 1, 3, 3]
    two = write_review(again / "2.json", again / "out", [("nina", 2, ids(3, 4, 5))])
    apart = [1, 1, 1, 2, 2, 2, 3, 3]
    assert rerun(again, "--review", str(two)) == apart
    # The first one is known, and does not come back over the second.
    assert rerun(again, "--review", str(one)) == apart


def test_decided_tracks_stay_decided_when_they_cannot_be_heard(again: Path) -> None:
    review = write_review(again / "r.json", again / "out", [("nina", 3, ids(6, 7))])
    rerun(again, "--review", str(review))
    for track_id in (*ids(6), *ids(0)):
        (again / f"{track_id}.wav").unlink()
    rerun(again)
    found = clusters(again / "out")
    assert found["nina06"] == ("Nina", 3, "decided")
    assert found["nina00"] == ("Nina", 0, "failed")


def test_results_go_on_in_another_folder(again: Path) -> None:
    review = write_review(again / "r.json", again / "out", [("nina", 1, ids(0, 1, 2, 6, 7))])
    rerun(again)  # the copied tracks are other files
    flags = ["--previous", str(again / "out"), "--review", str(review)]
    with pitch_encoder() as encoder:
        assert run(again / "catalog.jsonl", again / "next", *flags) == 0
        assert encoder.heard == []
    assert list(numbers(again / "next").values()) == [1, 1, 1, 2, 2, 2, 1, 1]
    assert list(numbers(again / "out").values()) == [1, 1, 1, 2, 2, 2, 3, 3]


def test_a_review_of_another_run_is_refused(again: Path, capsys: Shown) -> None:
    review = write_review(again / "r.json", again / "out", [("nina", 1, ids(0))])
    text = review.read_text().replace(facts(again / "out")["run_id"], "f" * 16)
    review.write_text(text)
    before = (again / "out" / "run.json").read_bytes()
    with pitch_encoder() as encoder:
        flags = ["--review", str(review)]
        assert run(again / "catalog.jsonl", again / "out", *flags) == 2
        line = error_line(capsys, "disambiguate")
        assert "is a review of run ffffffffffffffff" in line
        assert facts(again / "out")["run_id"] in line
        assert (again / "out" / "run.json").read_bytes() == before
        assert run(again / "catalog.jsonl", again / "fresh", *flags) == 2
        assert "there are no results yet" in error_line(capsys, "disambiguate")
        assert encoder.heard == []


def test_a_review_of_tracks_that_the_run_does_not_have_is_refused(
    again: Path, capsys: Shown
) -> None:
    decisions = [("nina", 1, ["else"]), ("owls", 1, ids(0))]
    review = write_review(again / "r.json", again / "out", decisions)
    with pitch_encoder():
        assert run(again / "catalog.jsonl", again / "out", "--review", str(review)) == 2
    line = error_line(capsys, "disambiguate")
    assert "name 'nina' has no track 'else'" in line
    assert "name 'owls' has no track 'nina00'" in line


GOOD = {"format": "hashbeam-review", "format_version": 1, "run": "r", "proposals": []}
HEADER = "run,name,artist,track_id,proposal,decision\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("{", "is no JSON"),
        ("[]", "is no review"),
        ('{"format": "other"}', "is no review"),
        (json.dumps({**GOOD, "format_version": 2}), "has format version 2"),
        (json.dumps({**GOOD, "run": None, "decisions": []}), "it does not say of which run"),
        (json.dumps({**GOOD, "decisions": []}), "it decides nothing"),
        (json.dumps({**GOOD, "decisions": {}}), "decisions is no list"),
        (json.dumps({**GOOD, "decisions": [3]}), "decisions 1 is no object"),
        (
            json.dumps({**GOOD, "decisions": [{"name": "n", "artist": 0, "tracks": ["a"]}]}),
            "decisions 1: artist 0 is no number from 1 up",
        ),
        (
            json.dumps({**GOOD, "decisions": [{"name": "n", "artist": 1}]}),
            "decisions 1: tracks are missing",
        ),
        (
            json.dumps({**GOOD, "proposals": [{"proposal": "merge-1", "decision": "maybe"}]}),
            "proposals 1: 'maybe' is none of accepted, rejected",
        ),
        ("a,b\n1,2\n", "column run and name"),
        (HEADER + "r,n,x,a,,\n", "row 1: artist 'x' is no number"),
        (HEADER + "r,n,1,a,,\nq,n,1,b,,\n", "row 2: run 'q' beside 'r'"),
        (HEADER + "r,n,1,a,,\nr,n,2,a,,\n", "row 2: track 'a' is given to artists 1 and 2"),
        (HEADER + "r,n,1,,,\n", "row 1: a track id is missing"),
    ],
)
def test_what_is_wrong_with_a_review_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "r").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_review(str(tmp_path / "r"))
    assert expected in str(caught.value)
    assert str(tmp_path / "r") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_review_that_is_no_file_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no.json"):
        with pytest.raises(UsageError, match=r"--review: .* name the file"):
            read_review(str(path))
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00r")
    with pytest.raises(UsageError, match="no text in UTF-8"):
        read_review(str(tmp_path / "b"))


def test_decisions_survive_as_json() -> None:
    given = Decisions({"nina": {"a": 1}}, [], ["x"])
    assert Decisions.from_json(json.loads(json.dumps(given.to_json())), "d") == given
    assert given.count == 1


def test_names_and_ids_of_any_letters_are_read(tmp_path: Path) -> None:
    name, track_id = '\u0646\u064a\u0646\u0627, "<b>"', "a\nb,c"
    rows = [{"name": name, "artist": 1, "tracks": [track_id]}]
    (tmp_path / "r.json").write_text(json.dumps({**GOOD, "decisions": rows}))
    quoted = ",".join('"' + text.replace('"', '""') + '"' for text in ("r", name, "1", track_id))
    (tmp_path / "r.csv").write_text(HEADER + quoted + ",,\n", newline="")
    for path in ("r.json", "r.csv"):
        review = read_review(str(tmp_path / path))
        assert review.tracks == {(name, track_id): 1}
        found = apply_review(
            Decisions(), review, runs=["r"], members={name: {track_id}}, proposals={}
        )
        assert found.of(name) == {track_id: 1}


def test_the_apostrophe_before_a_formula_is_no_part_of_an_id(tmp_path: Path) -> None:
    """Of an exported file; in one that was written otherwise, cells are what they are."""
    cells = {"'=1+1": "=1+1", "'-5": "-5", "''@a": "'@a", "'\t=1": "\t=1", "'\uff1d1": "\uff1d1"}
    cells |= {cell: cell for cell in ("=2+2", "-6", "'til", "''", "a'=1")}
    rows = "".join(f'r,"{cell}",1,"{cell}",,\n' for cell in cells)
    (tmp_path / "r.csv").write_text(HEADER + rows, encoding="utf-8", newline="")
    assert read_review(str(tmp_path / "r.csv")).tracks == {(id_, id_): 1 for id_ in cells.values()}
