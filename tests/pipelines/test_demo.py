"""The demo from end to end on a tiny catalogue whose titles are hostile HTML, and its page."""

from __future__ import annotations

import contextlib
import copy
import html.parser
import io
import json
import re
import shlex
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from index_helpers import error_line

from hashing import synthesis
from pipelines.answers import Answer, Query
from pipelines.cli import main
from pipelines.demo import CONDITIONS, DURATIONS, MARKER, prepare_folder
from pipelines.demo_artists import SONGS, TRUTH, tell_name
from pipelines.report.charts import LEFT, RIGHT, WIDTH, score_chart, share_chart
from pipelines.report.figures import Outcome, Recording
from pipelines.report.images import png
from pipelines.report.page import demo_page
from pipelines.report.text import name_line

TRACKS, LEFT_OUT, SECONDS = 10, 2, 12.0
HOSTILE = "<script>alert('1')</script>\"&"


class Demo(NamedTuple):
    folder: Path
    status: int
    out: str
    err: str
    figures: dict
    page: str


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Runs over what a former demo, and somebody else, have left in the folder."""
    folder = tmp_path_factory.mktemp("demo") / "two words"
    for name in ("music/track-9999.ogg", "index/CURRENT", "queries/old.flac", MARKER, "notes.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("former")
    out, err = io.StringIO(), io.StringIO()
    arguments = ["--out", str(folder), "--tracks", str(TRACKS), "--seconds", str(SECONDS)]
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patched.setattr(synthesis, "_FIRST", [HOSTILE + word for word in synthesis._FIRST])
        status = main(["demo", *arguments])
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    page = (folder / "report.html").read_text(encoding="utf-8")
    return Demo(folder, status, out.getvalue(), err.getvalue(), figures, page)


def test_demo_replaces_its_own_and_nothing_else(demo: Demo):
    assert demo.status == 0
    names = {path.name for path in demo.folder.iterdir()}
    written = {"music", "left-out", "index", "queries", "artists"}
    written |= {"report.html", "figures.json", "run.json"}
    assert names == written | {MARKER, "notes.txt"}
    assert (demo.folder / "notes.txt").read_text() == "former"
    assert sorted(path.name for path in (demo.folder / "music").iterdir()) == [
        "catalog.csv",
        *(f"song-{artist}0{number}.ogg" for artist in range(3) for number in range(SONGS)),
        *(f"track-{number:04d}.ogg" for number in range(TRACKS)),
    ]
    assert not (demo.folder / "queries" / "old.flac").exists()


def test_progress_goes_to_stderr_and_the_result_to_stdout(demo: Demo):
    assert all(line.startswith("hashbeam demo: ") for line in demo.err.splitlines())
    assert demo.err.count("\n") == 6
    assert "report.html" in demo.out
    assert "report.html" not in demo.err


def test_figures_are_sensible(demo: Demo):
    index = demo.figures["index"]
    tracks = TRACKS + 3 * SONGS
    assert (index["tracks"], index["tracks_left_out"]) == (tracks, LEFT_OUT)
    assert index["audio_s"] == pytest.approx(tracks * SECONDS, rel=0.01)
    # Snippets of 0.97 s every 0.25 s: 45 fit into 12 s; a few may be silent.
    assert tracks * 41 <= index["snippets"] <= tracks * 45
    assert 0 < index["table_bytes"] < index["bytes"]
    assert index["times_real_time"] > 1
    cells = Counter((row["condition"], row["duration_s"]) for row in demo.figures["queries"])
    assert cells == {(n, s): TRACKS + LEFT_OUT for n in CONDITIONS for s in DURATIONS}
    facts = json.loads((demo.folder / "run.json").read_text())
    assert facts["index"]["snippets"] == index["snippets"]
    assert set(facts["wall_s"]) == {"render", "index", "cut", "lookup", "artists", "report"}
    assert facts["index"]["tracks_embedded"] == tracks


def test_artists_of_one_name_are_judged(demo: Demo):
    """From the embeddings of the index: nothing is heard again."""
    both, alone = demo.figures["names"]
    assert both["name"] != alone["name"]
    assert (both["songs"], both["artists"]) == (2 * SONGS, 2)
    assert (alone["songs"], alone["artists"]) == (SONGS, 1)
    table = pq.read_table(demo.folder / "artists" / "clusters.parquet")
    found = Counter(
        row["cluster"] for row in table.to_pylist() if row["artist_name"] == both["name"]
    )
    assert both["clusters"] == [found[number] for number in sorted(found) if number]
    facts = json.loads((demo.folder / "artists" / "run.json").read_text())
    assert (facts["tracks_heard"], facts["tracks_reused"]) == (3 * SONGS, 3 * SONGS)
    for name in (both, alone):
        assert name_line(name) in demo.out
        assert name_line(name) in "".join(_Reader(demo.page).texts)
    assert str(demo.folder / "artists" / "report.html") in demo.out


def test_most_clean_recordings_of_five_seconds_are_right(demo: Demo):
    asked = [
        row
        for row in demo.figures["queries"]
        if row["indexed"] and (row["condition"], row["duration_s"]) == ("clean", 5)
    ]
    assert len(asked) == TRACKS
    right = [row for row in asked if row["answer"]["track_id"] == row["track"]["track_id"]]
    assert len(right) >= 0.8 * TRACKS
    near = [row for row in right if abs(row["answer"]["offset_s"] - row["start_s"]) <= 0.5]
    assert len(near) >= 0.8 * TRACKS


def test_shares_are_those_of_the_listed_queries(demo: Demo):
    for row in demo.figures["conditions"]:
        place = (row["condition"], row["duration_s"])
        asked = [q for q in demo.figures["queries"] if (q["condition"], q["duration_s"]) == place]
        known = [q for q in asked if q["indexed"]]
        found = [q for q in known if q["verdict"] == "right"]
        wrong = [q for q in asked if not q["indexed"] and q["verdict"] == "wrong"]
        assert row["accepted"] == pytest.approx(len(found) / len(known), abs=1e-4)
        assert row["false_positives"] == pytest.approx(len(wrong) / LEFT_OUT, abs=1e-4)


def test_recordings_are_audio_files_of_their_length(demo: Demo):
    listed = {row["file"]: row["duration_s"] for row in demo.figures["queries"]}
    assert set(listed) == {f"queries/{path.name}" for path in (demo.folder / "queries").iterdir()}
    for file, seconds in listed.items():
        info = soundfile.info(demo.folder / file)
        assert info.duration == pytest.approx(seconds, abs=0.1)  # mp3 has frames of 26 ms
        assert info.format == ("MP3" if "-mp3" in file else "FLAC")


def test_conditions_do_what_they_say(demo: Demo):
    folder = demo.folder / "queries"
    clean, _ = soundfile.read(folder / "01-5s-clean.flac")
    noisy, _ = soundfile.read(folder / "01-5s-white-5.flac")
    gain = np.dot(noisy, clean) / np.dot(clean, clean)  # a loud mixture is turned down
    noise = noisy / gain - clean
    ratio_db = 10 * np.log10(np.mean(clean**2) / np.mean(noise**2))
    assert ratio_db == pytest.approx(5.0, abs=1.0)


def test_lookup_gives_the_answer_of_the_page(demo: Demo, capsys: pytest.CaptureFixture[str]):
    """The command that the demo prints runs, and says what figures.json says."""
    printed = next(line for line in demo.out.splitlines() if " lookup --index " in line)
    words = shlex.split(printed)
    arguments = words[words.index("lookup") :]
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (row,) = [q for q in demo.figures["queries"] if arguments[-1].endswith(q["file"])]
    assert row["verdict"] == "right"
    best = answer["matches"][0]
    assert (best["track_id"], best["offset_s"]) == (
        row["track"]["track_id"],
        row["answer"]["offset_s"],
    )
    assert best["score"] == pytest.approx(row["answer"]["score"])


VOID = {"meta", "link", "img", "br", "rect", "line", "circle"}


class _Reader(html.parser.HTMLParser):
    """Elements of a page, and whether every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_page_needs_no_network(demo: Demo):
    page = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "data:", demo.page)
    assert re.findall(r"https?:|//\w|@import|url\(", page) == []
    elements = _Reader(demo.page).elements
    places = [a[name] for _, a in elements for name in ("src", "href") if name in a]
    local = {unquote(place) for place in places if not place.startswith("data:")}
    assert {"figures.json", "artists/report.html", "queries/01-1s-clean.flac"} <= local
    assert [place for place in local if not (demo.folder / place).is_file()] == []
    assert not any(tag == "script" for tag, _ in elements)


def test_page_is_whole_and_accessible(demo: Demo):
    reader = _Reader(demo.page)
    assert reader.open == []
    kinds = Counter(tag for tag, _ in reader.elements)
    assert (kinds["html"], kinds["main"], kinds["h1"]) == (1, 1, 1)
    images = [a for tag, a in reader.elements if tag == "img"]
    players = [a for tag, a in reader.elements if tag == "audio"]
    # One of each condition and duration at least, and one of each duration that is not indexed.
    assert len(players) >= (len(CONDITIONS) + 1) * len(DURATIONS)
    assert len(images) == 2 * len(players)
    assert all(image["alt"] for image in images)
    assert all(player["aria-label"] and "controls" in player for player in players)
    assert all(
        "aria-label" in a or "aria-hidden" in a for tag, a in reader.elements if tag == "svg"
    )
    circles = [a for tag, a in reader.elements if tag == "circle" and a["r"] == "3"]
    assert len(circles) == len(demo.figures["queries"])


def test_titles_are_escaped(demo: Demo):
    title = demo.figures["queries"][0]["track"]["title"]
    assert HOSTILE in title
    assert HOSTILE not in demo.page
    assert "<script" not in demo.page
    reader = _Reader(demo.page)
    assert title in "".join(reader.texts)
    labels = [a["aria-label"] for tag, a in reader.elements if tag == "audio"]
    assert all(HOSTILE in label for label in labels)


def test_page_of_a_query_that_failed(demo: Demo):
    """What has no answer, no title or no such file is shown, not a reason to fail."""
    figures = copy.deepcopy(demo.figures)
    first, second = figures["queries"][:2]
    first |= {"answer": None, "verdict": "missed", "message": "<b>silent</b>", "file": "gone.flac"}
    second["answer"] |= {"title": None, "artist_name": None, "track_id": "<i>"}
    page = demo_page(figures, ["a < b"], str(demo.folder))
    assert "&lt;b&gt;silent&lt;/b&gt;" in page
    assert "<td>&lt;i&gt;</td>" in page
    assert "a &lt; b" in page
    assert _Reader(page).open == []


@pytest.mark.parametrize(
    ("indexed", "found", "score", "verdict"),
    [
        (True, "a", 0.5, "right"),
        (True, "a", 0.49, "missed"),
        (True, "b", 0.9, "wrong"),
        (True, "b", 0.1, "missed"),
        (True, None, 0.0, "missed"),
        (False, "a", 0.5, "wrong"),
        (False, "a", 0.49, "right"),
        (False, None, 0.0, "right"),
    ],
)
def test_verdicts(indexed: bool, found: str | None, score: float, verdict: str):
    recording = Recording("q.flac", "q.flac", "clean", 1, {"track_id": "a"}, 3.0, indexed)
    matches = [{"track_id": found, "score": score, "offset_s": 3.4}] if found else []
    outcome = Outcome(recording, Answer(Query("q", "q"), matches), 1.0)
    assert outcome.verdict == verdict
    assert outcome.in_place == (indexed and found == "a")
    assert outcome.result().right == outcome.on_target


@pytest.mark.parametrize(
    ("clusters", "status", "said"),
    [
        ((1, 1, 2), "clustered", "found: 2 artists (2 + 1 songs), each song right"),
        ((1, 2, 2), "clustered", "found: 2 artists (1 + 2 songs), not all songs right"),
        ((1, 1, 1), "clustered", "found: 1 artist (3 songs), not all songs right"),
        ((0, 0, 0), "uncertain", "left alone: uncertain"),
    ],
)
def test_what_is_said_of_a_name(clusters: tuple[int, ...], status: str, said: str):
    songs = [
        {"track_id": str(row), "artist_name": "Owls", TRUTH: who} for row, who in enumerate("aab")
    ]
    found = {str(row): (number, status) for row, number in enumerate(clusters)}
    assert name_line(tell_name("Owls", songs, found)) == f"Owls: 3 songs by 2 artists; {said}"


def test_foreign_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    line = error_line(capsys, "demo")
    assert f"--out: {tmp_path} holds other files, such as thesis.tex" in line
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert main(["demo", "--out", str(tmp_path / "thesis.tex")]) == 2
    assert "is a file" in error_line(capsys, "demo")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_links_in_a_former_demo_are_not_followed(tmp_path: Path):
    music, folder = tmp_path / "own music", tmp_path / "demo"
    music.mkdir()
    (music / "song.ogg").write_text("song")
    prepare_folder(str(folder))
    (folder / "music").symlink_to(music)
    prepare_folder(str(folder))
    assert [path.name for path in folder.iterdir()] == [MARKER]
    assert (music / "song.ogg").read_text() == "song"


def test_mistakes_are_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    wrong = ["--tracks", "1", "--seconds", "5", "--seed", "x", "--workers", "0"]
    assert main(["demo", "--out", "gs://bucket/demo", *wrong]) == 2
    line = error_line(capsys, "demo")
    for flag in ("--tracks", "--seconds", "--seed", "--workers", "--out"):
        assert f"{flag}: " in line


def test_png_by_hand():
    """Two rows, [0, 1] above [0.5, 0], of 128 colours: the format's own fields say so."""
    image = png(np.array([[0.0, 1.0], [0.5, 0.0]], np.float32))
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(image):
        (length,) = struct.unpack(">I", image[at : at + 4])
        kind, data = image[at + 4 : at + 8], image[at + 8 : at + 8 + length]
        (check,) = struct.unpack(">I", image[at + 8 + length : at + 12 + length])
        assert check == zlib.crc32(kind + data)
        chunks[kind] = data
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (2, 2, 8, 3, 0, 0, 0)
    assert zlib.decompress(chunks[b"IDAT"]) == bytes([0, 0, 127, 0, 64, 0])
    palette = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
    brightness = palette @ np.array([0.2126, 0.7152, 0.0722])
    assert len(palette) == 128
    assert (np.diff(brightness) > -0.5).all()  # louder is brighter


def test_charts_stand_where_the_figures_say():
    plot = WIDTH - LEFT - RIGHT
    rows = [
        {"condition": "mp3", "duration_s": 5.0, "accepted": 1.0, "top1": 1.0},
        {"condition": "mp3", "duration_s": 1.0, "accepted": 0.25, "top1": 0.5},
    ]
    (group,) = share_chart({"conditions": rows}).groups
    assert [(bar.name, bar.accepted, bar.top1, bar.label) for bar in group.bars] == [
        ("1 s", plot / 4, plot / 2, "25 %"),
        ("5 s", plot, plot, "100 %"),
    ]
    queries = [
        {"indexed": True, "duration_s": 1, "answer": None, "verdict": "missed"},
        {"indexed": False, "duration_s": 1, "answer": {"score": 0.75}, "verdict": "wrong"},
    ]
    chart = score_chart({"queries": queries, "min_score": 0.5})
    dots = [row.dots[0] for _, _, rows in chart.sections for row in rows]
    assert [(dot.x, dot.verdict) for dot in dots] == [
        (LEFT, "missed"),
        (LEFT + 0.75 * plot, "wrong"),
    ]
    assert chart.threshold == LEFT + plot / 2
    assert dots[0].y < dots[1].y < chart.bottom
