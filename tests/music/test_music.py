"""The whole way on real music: catalogue, index, verification, answers.

Every eighth track stays out of the index and must not be found; of all others, 5 s from a random
place, as mp3 of 64 kb/s, must be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from published_index import answer_rows
from tiny_catalog import write_rows

from hashing.audio import decode, encode
from pipelines.catalog import read_catalog
from pipelines.cli import main
from pipelines.scan import AUDIO_EXTENSIONS

# Tracks used at most, spread over the folder: 500 of 2.5 minutes are decoded in 80 s by two cores.
MOST_TRACKS = 500
EVERY, LEFT_OUT = 8, 5  # of every eight tracks, this one is left out

QUERIES, ABSENT_QUERIES = 160, 100
QUERY_S, RATE, BIT_RATE = 5.0, 44_100, 64_000
SILENT = 1e-3  # root mean square, -60 dB: from such a place nobody could tell a track

# A column of some catalogues: tracks that agree in it hold the same recording.
SAME = "variant_group"

# Columns that name an album, or what else a track has come with.
ALBUMS = ("album", "source_package")


@dataclasses.dataclass(frozen=True)
class Cut:
    """A query: which track it is from, and from where."""

    track: dict[str, Any]
    start_s: float
    path: Path


def run(*arguments: object) -> dict[str, Any]:
    """What a verb prints with ``--json``; it must succeed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = main([*map(str, arguments), "--json"])
    assert status == 0, arguments
    return json.loads(printed.getvalue())


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch folder."""
    return tmp_path_factory.mktemp("music")


@pytest.fixture(scope="session")
def catalog(music: Path, work: Path) -> pa.Table:
    """The folder's own catalogue.csv, or one that is made from it; of so many tracks at most."""
    path = music / "catalog.csv"
    if not path.is_file():
        path = work / "scanned.parquet"
        run("catalog", music, "--out", path)
    table = read_catalog(str(path))
    step = max(1, -(-table.num_rows // MOST_TRACKS))
    return table.take(pa.array(range(0, table.num_rows, step)))


def recording(track: dict[str, Any]) -> str:
    """The same for tracks that are one recording."""
    return str(track.get(SAME) or track["track_id"])


def share_audio(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two tracks are of one album or soundtrack."""
    return any(one.get(name) and one[name] == other[name] for name in ALBUMS)


@pytest.fixture(scope="session")
def tracks(catalog: pa.Table) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Tracks to be indexed, and tracks of other recordings that are not."""
    rows = catalog.to_pylist()
    inside = [row for number, row in enumerate(rows) if number % EVERY != LEFT_OUT]
    known = {recording(row) for row in inside}
    outside = [row for row in rows[LEFT_OUT::EVERY] if recording(row) not in known]
    return inside, outside


@pytest.fixture(scope="session")
def summary(
    catalog: pa.Table, tracks: tuple[list[dict[str, Any]], list[Any]], work: Path
) -> dict[str, Any]:
    """What ``hashbeam index`` says of the tracks to be indexed."""
    wanted = pa.array([row["track_id"] for row in tracks[0]])
    kept = catalog.filter(pc.is_in(catalog["track_id"], wanted))
    pq.write_table(kept, work / "catalog.parquet")
    names = ("--catalog", work / "catalog.parquet", "--out", work / "index")
    return run("index", *names, "--workers", 2, "--max-failures", 0.5)


def cut_queries(
    tracks: Sequence[dict[str, Any]], n: int, folder: Path, seed: int
) -> tuple[list[Cut], list[float]]:
    """`n` queries from random places that are heard, and how long the tracks are (s)."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    chosen = [tracks[i] for i in rng.permutation(len(tracks))[:n]]
    each = -(-n // len(chosen))
    starts = rng.random((len(chosen), each, 20))

    def cut(number: int) -> tuple[list[Cut], float]:
        samples = decode(chosen[number]["uri"], RATE)
        found = []
        for place in range(each):
            for share in starts[number, place]:
                first = int(share * max(0.0, samples.size - QUERY_S * RATE))
                part = samples[first : first + int(QUERY_S * RATE)]
                if np.sqrt(np.mean(part**2)) > SILENT:
                    path = folder / f"{number:03d}-{place}.mp3"
                    encode(part, RATE, str(path), codec="mp3", bit_rate=BIT_RATE)
                    found.append(Cut(chosen[number], first / RATE, path))
                    break
        return found, samples.size / RATE

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(cut, range(len(chosen))))
    return [one for cuts, _ in done for one in cuts], [seconds for _, seconds in done]


def look_up(cuts: Sequence[Cut], work: Path, name: str) -> dict[str, dict[str, Any]]:
    """The first match of each query that has any, whatever its score."""
    queries = [{"query_id": one.path.stem, "uri": str(one.path)} for one in cuts]
    listed = write_rows(work / f"{name}.csv", queries)
    out = work / f"{name}-answers"
    names = ("--index", work / "index", "--queries", listed, "--out", out)
    told = run("lookup", *names, "--min-score", 0, "--top", 1, "--workers", 2)
    assert (told["queries"], told["failed"]) == (len(cuts), 0)
    return {row["query_id"]: row for row in answer_rows(out)}


def test_every_file_of_the_folder_is_in_a_scanned_catalogue(music: Path, work: Path) -> None:
    scanned = work / "scan.jsonl"
    counted = run("catalog", music, "--out", scanned)
    files = [path for path in music.rglob("*") if path.suffix.lower() in AUDIO_EXTENSIONS]
    assert counted["tracks"] == len(files)
    assert counted["unreadable_tags"] == 0
    assert set(read_catalog(str(scanned))["uri"].to_pylist()) == set(map(str, files))


def test_every_track_is_decoded_and_hashed(
    summary: dict[str, Any], tracks: tuple[list[Any], list[Any]], work: Path
) -> None:
    failed = work / "index/versions/000001/failures"
    reasons = [row for path in failed.glob("*") for row in pq.read_table(path).to_pylist()]
    assert reasons == []
    assert (summary["tracks"], summary["tracks_failed"]) == (len(tracks[0]), 0)
    assert summary["tracks_indexed"] == len(tracks[0])
    assert summary["max_rss_bytes"] < 1_000_000_000


def test_the_index_is_whole_and_says_what_it_holds(summary: dict[str, Any], work: Path) -> None:
    assert run("verify", work / "index")["problems"] == []
    facts = run("info", work / "index")
    assert facts["tracks"] == summary["tracks"]
    assert facts["snippets"] == summary["snippets"]
    assert facts["kinds"]["tables"]["rows"] == facts["n_tables"] * facts["snippets"]
    # Silent snippets have a number and a row, but no code.
    assert facts["kinds"]["matrices"]["rows"] >= facts["kinds"]["codes"]["rows"]
    # A snippet every hop, but for silence and the last second of a track.
    assert 0.8 <= facts["snippet_hop_s"] * summary["snippets"] / summary["audio_s"] <= 1.0
    assert summary["index_bytes"] / (summary["audio_s"] / 3600) < 1.5e6


def test_what_the_catalogue_says_is_in_the_index(
    summary: dict[str, Any], tracks: tuple[list[dict[str, Any]], list[Any]], work: Path
) -> None:
    """Titles and names with whatever letters, quotes and apostrophes they have."""
    files = sorted((work / "index/versions/000001/tracks").glob("*"))
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    assert len(rows) == summary["tracks_indexed"]
    for row, track in zip(rows, tracks[0], strict=True):
        assert {name: row[name] for name in track} == track


def test_5_s_of_mp3_are_found_in_their_place(
    summary: dict[str, Any],
    tracks: tuple[list[dict[str, Any]], list[Any]],
    work: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cuts, _ = cut_queries(tracks[0], QUERIES, work / "queries", seed=1)
    assert len(cuts) >= 0.9 * min(QUERIES, len(tracks[0]))
    best = look_up(cuts, work, "queries")
    recordings = {track["track_id"]: recording(track) for track in tracks[0]}
    right = [
        one
        for one in cuts
        if one.path.stem in best
        and recordings[best[one.path.stem]["track_id"]] == recording(one.track)
    ]
    sure = [one for one in right if best[one.path.stem]["score"] >= 0.5]
    # Music that repeats itself is in several places at once.
    placed = [one for one in right if abs(best[one.path.stem]["offset_s"] - one.start_s) <= 0.25]
    with capsys.disabled():
        print(
            f"\n{len(cuts)} queries of 5 s, mp3: {len(right)} right, {len(sure)} of them sure, "
            f"{len(placed)} in the right place"
        )
    assert len(right) >= 0.95 * len(cuts)
    assert len(sure) >= 0.9 * len(cuts)
    assert len(placed) >= 0.9 * len(right)
    # One by one, with title and artist as the catalogue has them.
    one = sure[0]
    (answer,) = [run("lookup", "--index", work / "index", one.path)]
    match = answer["matches"][0]
    assert match["track_id"] == best[one.path.stem]["track_id"]
    found = next(track for track in tracks[0] if track["track_id"] == match["track_id"])
    for name in ("title", "artist_name", "album"):
        assert match.get(name) == (found.get(name) or None)


def test_tracks_that_are_not_in_the_index_are_not_found(
    summary: dict[str, Any],
    tracks: tuple[list[Any], list[dict[str, Any]]],
    work: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And are decoded as well: with them every file has been.

    An answer from the same album is not counted as wrong: soundtracks use pieces again under
    other names.
    """
    cuts, seconds = cut_queries(tracks[1], ABSENT_QUERIES, work / "absent", seed=2)
    assert all(length > 0 for length in seconds)
    best = look_up(cuts, work, "absent")
    inside = {track["track_id"]: track for track in tracks[0]}
    found = [one for one in cuts if best.get(one.path.stem, {"score": 0.0})["score"] >= 0.5]
    wrong = [
        one for one in found if not share_audio(one.track, inside[best[one.path.stem]["track_id"]])
    ]
    with capsys.disabled():
        print(
            f"\n{len(cuts)} queries of tracks left out: {len(wrong)} found in other albums, "
            f"{len(found) - len(wrong)} in their own"
        )
    assert len(wrong) <= 0.1 * len(cuts)
