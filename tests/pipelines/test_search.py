"""``hashbeam lookup FILE…`` as a user meets it: answers, JSON, and one line for each mistake."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from index_helpers import error_line, paths
from model_fixture import random_model
from published_index import SECONDS, Published, wav
from tiny_catalog import RATE

from hashing import decoder
from hashing.audio import encode
from hashing.encoders import Hasher
from hashing.models import load_model
from pipelines import cli
from pipelines.answers import Answer, Query
from pipelines.cli import main
from pipelines.versions import open_manifest

ROOT = Path(cli.__file__).parent.parent
SNIPPET_S = 1.0  # a match ends where its last snippet does

# The Matches contract, but for query_id, which stands once a query.
COLUMNS = {
    "rank": int,
    "track_id": str,
    "score": float,
    "votes": int,
    "offset_s": float,
    "query_start_s": float,
    "query_end_s": float,
}

Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module", autouse=True)
def one_decoder() -> Iterator[None]:
    """One child process for all look-ups in this process: each would start its own."""
    with decoder.Decoder() as shared, pytest.MonkeyPatch.context() as patched:
        patched.setattr(decoder, "Decoder", lambda: contextlib.nullcontext(shared))
        yield


def lookup(published: Published, *arguments: object) -> int:
    return main(["lookup", "--index", str(published.index), *map(str, arguments)])


def answers(capsys: Shown) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def best(published: Published, capsys: Shown, path: Path, *flags: str) -> dict[str, Any]:
    """The first match of one file."""
    assert lookup(published, path, "--json", *flags) == 0
    (answer,) = answers(capsys)
    return answer["matches"][0]


def test_a_file_is_told_with_track_and_time(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    query = wav(tmp_path / "q.wav", published.cut("s13", 4.5, 9.5))
    assert lookup(published, query) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    first, match = captured.out.splitlines()
    assert first == str(query)
    assert match.split()[0] == "1"
    assert "  s13  (Song 13, Ann, Bob)  query 0.0-" in match
    assert " s at 4.5 s of the track, " in match


def test_json_is_the_contract_of_matches(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    query = wav(tmp_path / "q.wav", published.cut("s11", 2.7, 7.7))
    assert lookup(published, query, "--json", "--min-score", "0", "--top", "3") == 0
    (answer,) = answers(capsys)
    assert list(answer) == ["query_id", "uri", "matches"]
    assert answer["uri"] == str(query)
    matches = answer["matches"]
    assert 1 <= len(matches) <= 3
    assert [match["rank"] for match in matches] == list(range(1, len(matches) + 1))
    scores = [match["score"] for match in matches]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)
    for match in matches:
        assert {name: type(match[name]) for name in COLUMNS} == COLUMNS
        assert 0 <= match["score"] <= 1
        assert 0 <= match["query_start_s"] < match["query_end_s"] <= 5
    assert matches[0]["track_id"] == "s11"
    assert matches[0]["title"] == "Song 11"
    assert matches[0]["artist_name"] == ["Ann", "Bob"]
    assert abs(matches[0]["offset_s"] - 2.7) <= 0.25
    assert matches[0]["query_start_s"] < 0.5
    assert matches[0]["query_end_s"] > 4.5


def test_one_second_is_enough(published: Published, capsys: Shown, tmp_path: Path) -> None:
    starts_s = [0.0, 1.1, 3.37, 7.62, 10.9]
    queries = [
        wav(tmp_path / f"{start_s}.wav", published.cut("s15", start_s, start_s + 1))
        for start_s in starts_s
    ]
    assert lookup(published, *queries, "--json", "--min-score", "0") == 0
    for start_s, answer in zip(starts_s, answers(capsys), strict=True):
        assert answer["matches"][0]["track_id"] == "s15"
        assert abs(answer["matches"][0]["offset_s"] - start_s) <= 0.25


def test_a_query_may_have_any_format_and_rate(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    samples = np.repeat(published.cut("s09", 5, 9), 3) * 0.5  # 24 kHz, and half as loud
    files = [tmp_path / f"q.{codec}" for codec in ("mp3", "ogg", "opus", "flac", "m4a")]
    for path in files:
        encode(samples, 3 * RATE, str(path), codec=path.suffix[1:])
    assert lookup(published, *files, "--json") == 0
    for answer in answers(capsys):
        assert [match["track_id"] for match in answer["matches"]] == ["s09"]
        assert abs(answer["matches"][0]["offset_s"] - 5) <= 0.25


def test_a_query_may_be_longer_than_its_track(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    noise = 0.1 * np.random.default_rng(1).standard_normal(5 * RATE).astype(np.float32)
    query = wav(tmp_path / "q.wav", noise, published.songs["s10"], noise)
    found = best(published, capsys, query)
    assert found["track_id"] == "s10"
    assert abs(found["offset_s"] - -5) <= 0.25  # the track begins 5 s after the query does
    assert abs(found["query_start_s"] - 5) <= SNIPPET_S
    assert abs(found["query_end_s"] - (5 + SECONDS)) <= SNIPPET_S


def test_two_tracks_in_one_file_are_two_matches(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    parts = (published.cut("s01", 2, 7), published.cut("s12", 5, 9))
    assert lookup(published, wav(tmp_path / "q.wav", *parts), "--json") == 0
    (answer,) = answers(capsys)
    first, second = sorted(answer["matches"], key=lambda match: match["query_start_s"])
    assert [match["track_id"] for match in (first, second)] == ["s01", "s12"]
    assert abs(first["offset_s"] - 2) <= 0.25
    assert abs(second["offset_s"] - 0) <= 0.25  # 5 s of the track are 5 s of the query
    # Each explains its own part; they share no more than the snippets across the cut.
    assert first["query_start_s"] < 0.5
    assert abs(first["query_end_s"] - 5) <= SNIPPET_S
    assert abs(second["query_start_s"] - 5) <= SNIPPET_S
    assert second["query_end_s"] > 8.5


def test_noise_has_no_match(published: Published, capsys: Shown, tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(1).standard_normal(5 * RATE).astype(np.float32)
    query = wav(tmp_path / "noise.wav", noise)
    assert lookup(published, query) == 0
    assert capsys.readouterr().out == f"{query}: no match\n"


def test_a_track_that_is_not_indexed_has_no_match_but_rows_below_the_score(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    query = wav(tmp_path / "other.wav", published.cut("s99", 2, 7))
    assert lookup(published, query, "--json") == 0
    assert answers(capsys)[0]["matches"] == []
    assert lookup(published, query, "--json", "--min-score", "0", "--top", "2") == 0
    (answer,) = answers(capsys)
    assert len(answer["matches"]) == 2
    assert answer["matches"][0]["score"] < 0.5


def test_a_track_that_could_not_be_indexed_is_no_match(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    query = wav(tmp_path / "q.wav", published.cut("s05", 2, 7))
    assert lookup(published, query) == 0
    assert capsys.readouterr().out.endswith(": no match\n")


def test_letters_of_all_scripts_are_shown_and_terminals_are_left_alone(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    query = wav(tmp_path / "q\n\x1b[2J東.wav", published.cut("s02", 2, 5))
    assert lookup(published, query) == 0
    out = capsys.readouterr().out
    assert "Ödön «Ő» 東京\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}track" in out
    assert "q\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[2J東.wav" in out
    assert "\x1b" not in out
    assert out.count("\n") == 2


def test_a_file_name_that_is_no_text_is_no_obstacle(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    name = os.fsdecode(bytes(tmp_path / "q") + b"\xff.wav")
    shutil.copy(wav(tmp_path / "q.wav", published.cut("s02", 2, 5)), name)
    assert lookup(published, name) == 0
    out = capsys.readouterr().out
    assert "q\N{REPLACEMENT CHARACTER}.wav" in out
    assert "  s02  " in out


def broken(folder: Path) -> dict[str, str]:
    """Files that cannot be looked up, and the kind of error of each."""
    (folder / "text.mp3").write_text("this is no music " * 100)
    (folder / "empty.wav").write_bytes(b"")
    whole = wav(folder / "whole.wav", np.ones(3 * RATE, np.float32)).read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    wav(folder / "silent.wav", np.zeros(3 * RATE, np.float32))
    wav(folder / "short.wav", 0.1 * np.ones(RATE // 2, np.float32))
    return {
        str(folder / "nowhere.wav"): "missing",
        str(folder): "not-a-file",
        str(folder / "text.mp3"): "not-audio",
        str(folder / "empty.wav"): "empty",
        str(folder / "cut.wav"): "truncated",
        str(folder / "silent.wav"): "silent",
        str(folder / "short.wav"): "too-short",
    }


def test_all_files_that_cannot_be_asked_are_told_in_one_line(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    files = broken(tmp_path)
    assert lookup(published, "--json", *files) == 1
    captured = capsys.readouterr()
    told = [json.loads(line) for line in captured.out.splitlines()]
    assert {answer["uri"]: answer["error"] for answer in told} == files
    assert captured.err.count("\n") == 1
    assert all(path in captured.err for path in files)
    for answer in told:
        assert list(answer) == ["query_id", "uri", "error", "message"]
        assert answer["uri"] in answer["message"]


@pytest.mark.parametrize("name", ["nowhere.wav", "text.mp3", "short.wav"])
def test_a_file_that_cannot_be_asked_is_one_line(
    published: Published, capsys: Shown, tmp_path: Path, name: str
) -> None:
    broken(tmp_path)
    assert lookup(published, tmp_path / name) == 1
    assert str(tmp_path / name) in error_line(capsys, "lookup")


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_one_bad_file_does_not_cost_the_others_their_answers(
    published: Published, capsys: Shown, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    good = [wav(tmp_path / f"{track}.wav", published.cut(track, 3, 6)) for track in ("s04", "s18")]
    broken(tmp_path)
    bad = tmp_path / "text.mp3"
    assert lookup(published, good[0], bad, good[1], *flags) == 1
    captured = capsys.readouterr()
    for track in ("s04", "s18"):
        assert captured.out.count(f'"track_id": "{track}"' if flags else f"  {track}  ") == 1
    assert captured.err.count("\n") == 1
    line = "hashbeam lookup: error: 1 of 3 files could not be looked up: "
    assert captured.err.startswith(line)
    assert str(bad) in captured.err


def test_long_queries_are_refused_until_they_are_allowed(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    query = wav(tmp_path / "q.wav", published.songs["s01"])
    assert lookup(published, query, "--max-query-hours", "0.001") == 1  # 3.6 s
    assert str(query) in error_line(capsys, "lookup")
    assert best(published, capsys, query, "--max-query-hours", "0.01")["track_id"] == "s01"


def test_more_probes_find_no_less(published: Published, capsys: Shown, tmp_path: Path) -> None:
    query = wav(tmp_path / "q.wav", published.cut("s06", 3, 7))
    few = best(published, capsys, query, "--probes", "1")
    many = best(published, capsys, query, "--probes", "32")
    assert few["track_id"] == many["track_id"] == "s06"
    assert few["votes"] < many["votes"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ["--index: is needed", "FILE: name recordings"]),
        (["--index", "i", "q.wav", "--top", "0"], ["--top: must be from 1 to 1000, got 0"]),
        (
            ["--index", "i", "q.wav", "--min-score", "2", "--probes=x", "--workers", "0"],
            [
                "--min-score: must be from 0 to 1, got 2",
                "--probes: must be a whole number, got 'x'",
                "--workers: must be from 1 to 1024, got 0",
            ],
        ),
        (["--index", "i", "q.wav", "--min-score", "nan"], ["--min-score: must be a number"]),
        (["--index", "i", "--queries", "q.csv"], ["--out: is needed with --queries"]),
        (["--index", "i", "q.wav", "--queries", "q.csv", "--out", "o"], ["files or --queries"]),
        (["--index", "i", "q.wav", "--out", "o"], ["--out: goes with --queries"]),
        (
            ["--index", "i", "q.wav", "--topp=3", "--min-score=7"],
            ["unknown flag --topp (did you mean --top?)", "--min-score: must be from 0 to 1"],
        ),
        (["--index", "i", "q.wav", "--max-query-hours", "3"], ["--max-query-hours: must be from"]),
    ],
)
def test_mistakes_in_flags_are_told_at_once(
    capsys: Shown, flags: list[str], expected: list[str]
) -> None:
    assert main(["lookup", *flags]) == 2
    line = error_line(capsys, "lookup")
    for part in expected:
        assert part in line


@pytest.fixture
def damaged(published: Published, tmp_path: Path) -> Published:
    """A copy of the index, to be damaged."""
    shutil.copytree(published.index, tmp_path / "index")
    return Published(published.catalog, tmp_path / "index", published.songs)


def test_an_index_that_is_not_there_is_one_line(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    query = wav(tmp_path / "q.wav", published.cut("s01", 2, 4))
    for name, expected in {
        tmp_path / "nowhere": "there is no such index; make one with `hashbeam index",
        query: "is a file, not an index",
        tmp_path: "is no index",
    }.items():
        assert main(["lookup", "--index", str(name), str(query)]) == 1
        line = error_line(capsys, "lookup")
        assert expected in line
        assert str(name) in line


def test_an_index_of_another_format_is_one_line(
    damaged: Published, capsys: Shown, tmp_path: Path
) -> None:
    where = damaged.index / "versions/000001/manifest.json"
    where.write_text(json.dumps({**json.loads(where.read_text()), "format_version": 9}))
    assert lookup(damaged, wav(tmp_path / "q.wav", damaged.cut("s01", 2, 4))) == 1
    line = error_line(capsys, "lookup")
    assert f"{where} has format version 9, this hashbeam reads 1" in line


def test_an_index_of_another_model_is_one_line_with_both_digests(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    other = random_model(tmp_path / "other", seed=5)
    query = wav(tmp_path / "q.wav", published.cut("s01", 2, 4))
    assert lookup(published, query, "--model", tmp_path / "other") == 1
    line = error_line(capsys, "lookup")
    assert other.digest[:16] in line
    assert load_model("forgiving").digest[:16] in line
    assert lookup(published, query, "--model", "nowhere") == 1
    assert "no model 'nowhere'" in error_line(capsys, "lookup")
    assert best(published, capsys, query, "--model", "forgiving")["track_id"] == "s01"


@pytest.mark.parametrize("verb", ["lookup", "verify"])
def test_a_truncated_shard_is_named(
    damaged: Published, capsys: Shown, tmp_path: Path, verb: str
) -> None:
    shard = paths(damaged.index, open_manifest(str(damaged.index)), "tables")[3]
    shard.write_bytes(shard.read_bytes()[:-40])
    query = wav(tmp_path / "q.wav", damaged.cut("s01", 2, 4))
    arguments = ["--index", str(damaged.index), str(query)] if verb == "lookup" else []
    assert main([verb, *(arguments or [str(damaged.index)])]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert f"{shard} is truncated" in captured.err + captured.out


@pytest.mark.parametrize("kind", ["tables", "tracks"])
def test_a_changed_byte_is_found_by_verify(damaged: Published, capsys: Shown, kind: str) -> None:
    path = paths(damaged.index, open_manifest(str(damaged.index)), kind)[1]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert main(["verify", str(damaged.index)]) == 1
    captured = capsys.readouterr()
    assert f"{path} has SHA-256" in captured.out
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("damage", [b"", b"PAR1 and nothing"])
def test_a_damaged_file_of_tracks_is_one_line(
    damaged: Published, capsys: Shown, tmp_path: Path, damage: bytes
) -> None:
    path = paths(damaged.index, open_manifest(str(damaged.index)), "tracks")[0]
    path.write_bytes(damage)
    assert lookup(damaged, wav(tmp_path / "q.wav", damaged.cut("s01", 2, 4))) == 1
    line = error_line(capsys, "lookup")
    assert str(path) in line
    assert "hashbeam verify" in line


START = """
import sys
sys.path.insert(0, sys.argv[1])
from pipelines.cli import main
status = main(["lookup", *sys.argv[2:]])
slow = ("apache_beam", "torch", "librosa", "numba", "scipy.signal", "sklearn", "faiss", "grpc")
print(status, [name for name in slow if name in sys.modules], file=sys.stderr)
"""


def test_one_file_is_answered_at_once_and_without_beam(
    published: Published, tmp_path: Path
) -> None:
    query = wav(tmp_path / "q.wav", published.cut("s14", 3, 8))
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", START, ROOT, "--index", published.index, query, "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    wall_s = time.perf_counter() - begin
    assert done.stderr == "0 []\n"
    assert json.loads(done.stdout)["matches"][0]["track_id"] == "s14"
    assert wall_s < 6  # 3 s are promised; other tests may use the other core


def test_a_reader_that_has_seen_enough_is_no_error(published: Published, tmp_path: Path) -> None:
    query = wav(tmp_path / "q.wav", published.cut("s14", 3, 8))
    command = [sys.executable, "-m", "pipelines", "lookup", "--index", published.index]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*map(str, command), str(query)],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 1


def test_an_answer_is_the_same_whatever_else_is_asked(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    queries = [
        wav(tmp_path / f"{n}.wav", published.cut(f"s{n:02d}", 1 + n / 7, 4 + n / 7))
        for n in (0, 9, 16)
    ]
    assert lookup(published, *queries, "--json") == 0
    together = answers(capsys)
    alone = []
    for query in queries:
        assert lookup(published, query, "--json") == 0
        alone += answers(capsys)
    assert together == alone
    assert [answer["uri"] for answer in together] == [str(query) for query in queries]


def test_offsets_are_of_the_query_and_its_times_of_the_track(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    """3 s of silence before what is heard: the match starts after them, the query before."""
    silence = np.zeros(3 * RATE, np.float32)
    query = wav(tmp_path / "q.wav", silence, published.cut("s16", 6, 10))
    found = best(published, capsys, query)
    assert abs(found["offset_s"] - 3) <= 0.25
    assert 2 <= found["query_start_s"] <= 3.5
    assert lookup(published, query) == 0
    text = capsys.readouterr().out
    shown = float(text.split(" at ")[1].split(" s of the track")[0])
    assert shown == pytest.approx(found["offset_s"] + found["query_start_s"], abs=0.06)


def test_answers_as_text() -> None:
    match = {
        "rank": 1,
        "track_id": "a/b",
        "score": 0.98765,
        "votes": 12,
        "offset_s": -1.5,
        "query_start_s": 2.0,
        "query_end_s": 4.96,
        "title": "T",
    }
    query = Query("q.wav", "q.wav")
    assert Answer(query, [match]).to_text() == (
        "q.wav\n   1  0.988  a/b  (T)  query 2.0-5.0 s at 0.5 s of the track, 12 votes"
    )
    assert Answer(query, []).to_text() == "q.wav: no match"
    failed = Answer(query, [], "empty", "q.wav holds no bytes")
    assert failed.to_text() == "q.wav holds no bytes"
    assert failed.to_json() == {
        "query_id": "q.wav",
        "uri": "q.wav",
        "error": "empty",
        "message": "q.wav holds no bytes",
    }


def test_the_query_of_a_known_second_is_that_of_the_hasher(published: Published) -> None:
    """What is compared with the index is what the model makes of the same samples."""
    samples, rate = soundfile.read(published.index.parent / "s01.wav", dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(samples, published.songs["s01"])
    assert Hasher.load().features.sample_rate == RATE
