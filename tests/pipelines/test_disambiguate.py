"""``hashbeam disambiguate`` from end to end, with an encoder that hears the pitch of tones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from disambiguation_music import (
    PitchEncoder,
    clusters,
    facts,
    failures,
    numbers,
    pitch_encoder,
    run,
    tracks,
    write_tone,
    write_tones,
)

from pipelines.cli import main

Shown = pytest.CaptureFixture[str]

LOW, HIGH = [300, 305, 310], [800, 805, 810]  # Hz: two voices


def music() -> list[dict]:
    """Nina is two artists, the Owls are one, and everything else is left alone."""
    rows = [
        *tracks("Nina", [*LOW, *HIGH], title="A <b>title</b>"),
        *tracks("The Owls", [1000, 1002, 1004, 1006]),
        *tracks("Kit", [500]),
        *tracks("Various Artists", [200, 400, 700]),
        *tracks("Bad", [None, 0, 3600, 300]),
        *tracks("", [300]),
    ]
    rows[7]["artist_name"] = "OWLS feat. Nina"
    return rows


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``music/catalog.jsonl`` and the results of one run in ``out``."""
    folder = tmp_path_factory.mktemp("disambiguated")
    catalog = write_tones(folder / "music", music())
    with pitch_encoder():
        assert run(catalog, folder / "out") == 0
    return folder


@pytest.fixture
def again(first: Path, tmp_path: Path) -> Path:
    """A copy of the results, to be changed; the music stays where it is."""
    shutil.copytree(first / "out", tmp_path / "out")
    return tmp_path


def test_every_track_has_its_cluster_and_says_why_not(first: Path) -> None:
    assert clusters(first / "out") == {
        **{f"nina{i:02d}": ("Nina", 1 if i < 3 else 2, "clustered") for i in range(6)},
        **{f"theowls{i:02d}": ("The Owls", 1, "clustered") for i in range(4)},
        "kit00": ("Kit", 0, "too-few-tracks"),
        **{f"variousartis{i:02d}": ("Various Artists", 0, "placeholder") for i in range(3)},
        **{f"bad{i:02d}": ("Bad", 0, "failed") for i in range(3)},
        "bad03": ("Bad", 0, "too-few-tracks"),
        "x00": (None, 0, "no-name"),
    }
    table = pq.read_table(first / "out" / "clusters.parquet")
    assert table.column_names == ["artist_name", "track_id", "cluster", "confidence", "status"]
    assert table.schema.field("cluster").type == pa.int32()
    assert table["cluster"].null_count == 0
    judged = [row for row in table.to_pylist() if row["status"] == "clustered"]
    assert all(0.9 < row["confidence"] <= 1 for row in judged)
    assert table["confidence"].null_count == table.num_rows - len(judged)


def test_a_featured_artist_has_the_track_too(first: Path) -> None:
    rows = pq.read_table(first / "out" / "memberships.parquet").to_pylist()
    found = {(row["name"], row["cluster"]) for row in rows if row["track_id"] == "theowls01"}
    # 1002 Hz is neither of Nina's voices.
    assert found == {("owls", 1), ("nina", 3)}
    names = pq.read_table(first / "out" / "groups.parquet").to_pylist()
    owls = next(row for row in names if row["name"] == "owls")
    assert owls["spellings"] == ["The Owls", "OWLS"]
    assert (owls["tracks"], owls["clusters"], owls["highest"]) == (4, 1, 1)


def test_what_cannot_be_heard_is_a_failure_and_in_the_report(first: Path) -> None:
    assert failures(first / "out") == {
        "bad00": ("decode", "missing"),
        "bad01": ("embed", "silent"),
        "bad02": ("decode", "unreadable"),  # an embedding that is no number
    }
    page = (first / "out" / "report.html").read_text(encoding="utf-8")
    assert all(track_id in page for track_id in ("bad00", "bad01", "bad02"))
    assert "<b>title</b>" not in page
    told = facts(first / "out")
    assert (told["tracks"], told["tracks_heard"], told["tracks_failed"]) == (19, 12, 3)
    assert told["groups_by_status"] == {"clustered": 2, "placeholder": 1, "too-few-tracks": 2}
    assert (told["clusters"], told["names_split"]) == (4, 1)
    assert {file["path"] for file in told["files"]} >= {"clusters.parquet", "report.html"}


def test_unchanged_tracks_are_not_heard_again(first: Path, again: Path) -> None:
    before = facts(again / "out")
    with pitch_encoder() as encoder:
        assert run(first / "music" / "catalog.jsonl", again / "out") == 0
        assert encoder.heard == ["bad00", "bad01", "bad02"]  # what failed may have been mended
    assert facts(again / "out")["tracks_reused"] == 12
    assert facts(again / "out")["run_id"] == before["run_id"]
    assert clusters(again / "out") == clusters(first / "out")


def test_a_changed_track_and_another_model_are_heard_again(tmp_path: Path) -> None:
    catalog = write_tones(tmp_path, tracks("Nina", [*LOW, *HIGH]))
    with pitch_encoder() as encoder:
        assert run(catalog, tmp_path / "out") == 0
    with pitch_encoder() as encoder:
        write_tone(tmp_path / "nina00.wav", 803, seconds=0.6)
        assert run(catalog, tmp_path / "out") == 0
        assert encoder.heard == ["nina00"]
        assert numbers(tmp_path / "out")["nina00"] == 1  # as before: --recluster would move it
        assert run(catalog, tmp_path / "out", "--recluster") == 0
        assert numbers(tmp_path / "out")["nina00"] == 2
    other = PitchEncoder()
    other.digest = "0" * 64
    with pitch_encoder(other):
        assert run(catalog, tmp_path / "out") == 0
    assert len(other.heard) == 6
    stamps = [
        pq.read_schema(path).metadata[b"model_digest"]
        for path in (tmp_path / "out" / "embeddings").glob("*.parquet")
    ]
    assert stamps == [b"0" * 64]  # what nobody needs any more is gone


def test_embeddings_on_disk_follow_the_contract(first: Path) -> None:
    (path,) = (first / "out" / "embeddings").glob("part-*.parquet")
    table = pq.read_table(path)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 3)
    assert {"track_id", "uri", "etag", "size", "mtime"} <= set(table.column_names)
    assert table.schema.metadata[b"model_digest"] == PitchEncoder.digest.encode()
    values = np.array(table["embedding"].to_pylist())
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-5)


def test_a_run_that_was_stopped_goes_on_with_the_rest(tmp_path: Path) -> None:
    catalog = write_tones(tmp_path, tracks("Nina", [*LOW, *HIGH, *LOW, *HIGH]))

    class Stopped(PitchEncoder):
        def embed_file(self, path: str):  # type: ignore[no-untyped-def]
            if len(self.heard) == 7:
                raise KeyboardInterrupt
            return super().embed_file(path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pipelines.disambiguation.embed.TRACKS_PER_PART", 3)
        with pitch_encoder(Stopped()):
            assert run(catalog, tmp_path / "out") == 130
        assert not (tmp_path / "out" / "clusters.parquet").exists()
        with pitch_encoder() as encoder:
            assert run(catalog, tmp_path / "out") == 0
    # Two parts of three were finished.
    assert len(encoder.heard) == 6
    assert set(numbers(tmp_path / "out").values()) == {1, 2}
    assert not (tmp_path / "out" / "work").exists()


def test_only_the_names_that_are_asked_for(first: Path, tmp_path: Path) -> None:
    catalog = first / "music" / "catalog.jsonl"
    with pitch_encoder() as encoder:
        assert run(catalog, tmp_path / "out", "--name", "OWLS", "various artists") == 0
        assert sorted(encoder.heard) == [
            *(f"theowls{i:02d}" for i in range(4)),
            *(f"variousartis{i:02d}" for i in range(3)),
        ]
    found = clusters(tmp_path / "out")
    assert found["nina00"] == ("Nina", 0, "not-asked")
    assert {found[f"variousartis{i:02d}"][1] for i in range(3)} == {1, 2, 3}
    assert len(found) == 19


def test_names_that_are_opted_out_are_never_heard(first: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("the OWLS\n\n")
    flags = ["--opt-out", "nina", "--opt-out-file", str(names), "--max-failures", "1"]
    with pitch_encoder() as encoder:
        assert run(first / "music" / "catalog.jsonl", tmp_path / "out", *flags) == 0
        assert not any(name.startswith(("nina", "theowls")) for name in encoder.heard)
    found = clusters(tmp_path / "out")
    assert found["nina00"] == ("Nina", 0, "opted-out")
    assert found["theowls00"] == ("The Owls", 0, "opted-out")


def test_rules_of_names_can_be_switched_off(tmp_path: Path) -> None:
    rows = [*tracks("Ünder", LOW), *tracks("Under", LOW, first=10)]
    catalog = write_tones(tmp_path, rows)
    with pitch_encoder():
        assert run(catalog, tmp_path / "out") == 0
        assert {name for name, _, _ in clusters(tmp_path / "out").values()} == {"Under"}
        assert run(catalog, tmp_path / "out", "--rule-off", "accents") == 0
        assert {name for name, _, _ in clusters(tmp_path / "out").values()} == {"Under", "Ünder"}


def test_albums_stay_together_when_asked_but_not_compilations(tmp_path: Path) -> None:
    rows = [
        *tracks("Nina", LOW, album="Low"),
        *tracks("Nina", HIGH, first=3, album="High"),
        *tracks("Nina", [301, 801], first=6, album="Mixed"),
        *tracks("Nina", [302, 802], first=8, album="Hits"),
        *tracks("Kit", [600], album="Hits"),
    ]
    catalog = write_tones(tmp_path, rows)
    with pitch_encoder():
        assert run(catalog, tmp_path / "free") == 0
        assert run(catalog, tmp_path / "kept", "--keep-albums") == 0
    free, kept = numbers(tmp_path / "free"), numbers(tmp_path / "kept")
    assert free["nina06"] != free["nina07"]
    assert kept["nina06"] == kept["nina07"]
    assert kept["nina08"] != kept["nina09"]


def test_a_thousand_tracks_of_one_embedding_are_one_artist(tmp_path: Path) -> None:
    rows = [{**row, "uri": "nina00.wav"} for row in tracks("Nina", [300] + [None] * 999)]
    catalog = write_tones(tmp_path, rows)
    with pitch_encoder():
        assert run(catalog, tmp_path / "out") == 0
    assert set(numbers(tmp_path / "out").values()) == {1}
    confidence = pq.read_table(tmp_path / "out" / "clusters.parquet")["confidence"].to_numpy()
    assert (confidence == 1).all()


def test_truth_with_gaps_is_measured_where_it_is_known(tmp_path: Path) -> None:
    rows = [
        *tracks("Nina", LOW, who="a"),
        *tracks("Nina", HIGH, first=3, who="b"),
        *tracks("Nina", [302], first=6),
        *tracks("Owls", LOW, who="o"),
        *tracks("Kit", [500], who="k"),
        *tracks("Elms", LOW),
    ]
    catalog = write_tones(tmp_path, rows)
    with pitch_encoder():
        assert run(catalog, tmp_path / "out", "--truth", "who") == 0
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (figures["tracks_with_truth"], figures["tracks_without_truth"]) == (10, 4)
    assert figures["groups_of_several_artists"] == figures["groups_of_one_artist"] == 1
    assert figures["of_several_artists"]["ari"]["mean"] == 1
    assert figures["share_left_whole"]["mean"] == 1
    assert (figures["groups_left_alone"], figures["groups_without_truth"]) == (1, 1)
    with pitch_encoder():
        assert run(catalog, tmp_path / "out") == 0
    assert not (tmp_path / "out" / "metrics.json").exists()  # they were of another run


def test_uncertain_names_are_left_alone_and_say_so(tmp_path: Path) -> None:
    # Points at the cut: whether they are two voices is as good as a coin's word.
    catalog = write_tones(tmp_path, tracks("Nina", [300, 345, 420, 465, 540, 585]))
    with pitch_encoder():
        assert run(catalog, tmp_path / "out", "--min-confidence", "0.99") == 0
        assert set(clusters(tmp_path / "out").values()) == {("Nina", 0, "uncertain")}
        rows = pq.read_table(tmp_path / "out" / "memberships.parquet").to_pylist()
        assert len({row["considered"] for row in rows}) > 1
        assert run(catalog, tmp_path / "out", "--min-confidence", "0") == 0
    assert len(set(numbers(tmp_path / "out").values())) > 1


def test_embeddings_of_an_earlier_run_elsewhere_are_reused(first: Path, tmp_path: Path) -> None:
    catalog = first / "music" / "catalog.jsonl"
    flags = ["--name", "Nina"]
    with pitch_encoder() as encoder:
        assert run(catalog, tmp_path / "a", "--index", str(first / "out"), *flags) == 0
        assert run(catalog, tmp_path / "b", "--previous", str(first / "out"), *flags) == 0
        assert encoder.heard == []
        # The results of --previous can go: what was reused of them has been copied.
        assert run(catalog, tmp_path / "b", *flags) == 0
        assert encoder.heard == []
    assert facts(tmp_path / "b")["runs"][-1] == facts(first / "out")["run_id"]


def test_snippets_are_cut_for_the_report(tmp_path: Path) -> None:
    catalog = write_tones(tmp_path, [*tracks("Nina", [*LOW, *HIGH]), *tracks("Owls", LOW)])
    with pitch_encoder():
        assert run(catalog, tmp_path / "out", "--snippets", "3") == 0
        names = sorted(path.name for path in (tmp_path / "out" / "snippets").iterdir())
        assert len(names) == 3  # of Nina only: with one voice there is nothing to compare
        page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        assert page.count("data:audio/mpeg;base64,") == 3
        assert run(catalog, tmp_path / "out", "--snippets", "2") == 0
    assert len(list((tmp_path / "out" / "snippets").iterdir())) == 2


def test_the_summary_is_json_when_asked(tmp_path: Path, capsys: Shown) -> None:
    catalog = write_tones(tmp_path, tracks("Nina", LOW))
    with pitch_encoder():
        assert run(catalog, tmp_path / "out", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["run_id"] == facts(tmp_path / "out")["run_id"]
    assert (told["tracks_heard"], told["clusters"]) == (3, 1)


def test_embeddings_may_lie_on_disk_and_results_in_an_object_store(
    first: Path, memory_objects: dict[str, bytes]
) -> None:
    catalog = first / "music" / "catalog.jsonl"
    with pytest.MonkeyPatch.context() as patched, pitch_encoder() as encoder:
        patched.setattr("pipelines.disambiguation.run.MOST_IN_MEMORY", 0)
        flags = ["--catalog", str(catalog), "--out", "mem://store/out", "--workers", "1"]
        assert main(["disambiguate", *flags]) == 0
        encoder.heard.clear()
        assert main(["disambiguate", *flags]) == 0
        assert encoder.heard == ["bad00", "bad01", "bad02"]
    name = next(name for name in memory_objects if name.endswith("out/clusters.parquet"))
    table = pq.read_table(pa.BufferReader(memory_objects[name]))
    found = dict(zip(table["track_id"].to_pylist(), table["cluster"].to_pylist(), strict=True))
    assert found == numbers(first / "out")
