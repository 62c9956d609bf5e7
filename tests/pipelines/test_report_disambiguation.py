"""The page of disambiguation: hostile names, no network; and in Chromium, what an editor does."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import html
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Chromium
from disambiguation_run import CUT, make_group, make_run, merge_of

from pipelines.disambiguation.outcome import Feature, Group, Run, Side
from pipelines.disambiguation.review import read_review
from pipelines.report.disambiguation import render

HOSTILE = "</script><script>alert('1')</script>\"&<!-- \u2028"
LIMIT_MS = 2000  # to open and sort a page of 500 names
ATTEMPTS = 5
ARABIC = "محمد عبده (live"


class _Reader(HTMLParser):
    """Elements, texts, and the content of every script by its id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id") or "" if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.texts.append(data)
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


def hostile_run() -> Run:
    """Names, titles, ids and messages that are markup, quotes, or written from right to left."""
    bad = make_group(HOSTILE, [8, 6], seed=1, failed=1, title=HOSTILE)
    right = make_group(ARABIC, [7, 5, 4], seed=2, title="أغنية")
    one = make_group('O\'Neil "Q"', [9], seed=3)
    proposal = dataclasses.replace(
        merge_of(bad, right), reason=HOSTILE, evidence={HOSTILE: HOSTILE, "distance": 0.5}
    )
    run = make_run([bad, right, one], [proposal])
    return dataclasses.replace(run, facts={**run.facts, "catalog": HOSTILE})


def group_data(page: str, number: int = 0) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_Reader(page).scripts[f"group-{number}"])
    return data


def test_what_strangers_typed_stays_text() -> None:
    run = hostile_run()
    page = render(run)
    reader = _Reader(page)
    assert [attrs for tag, attrs in reader.elements if tag == "script" and "type" not in attrs] == [
        {}
    ]
    assert page.count("<script") == len(reader.scripts) == 2 + len(run.groups)
    assert "alert('1')</script>" not in page
    place = next(n for n, group in enumerate(run.groups) if group.name == HOSTILE)
    data = group_data(page, place)
    assert data["name"] == HOSTILE
    assert data["columns"]["title"][0] == f"{HOSTILE} 0"
    rows = [attrs for tag, attrs in reader.elements if attrs.get("class") == "name"]
    assert [row["data-name"] for row in rows] == [group.name for group in run.groups]
    texts = "".join(reader.texts)
    for group in run.groups:
        assert group.name in texts
        # A name in another direction must not turn the text around it.
        assert f"<bdi>{html.escape(group.name).replace('&quot;', '&#34;')}</bdi>" in page.replace(
            "&#39;", "&#x27;"
        )


def test_page_asks_nothing_of_a_network() -> None:
    page = render(hostile_run())
    assert re.findall(r"https?:|//\w|@import|url\(", re.sub(r"^ *//.*", "", page, flags=re.M)) == []
    reader = _Reader(page)
    places = [
        attrs[name] for _, attrs in reader.elements for name in ("src", "href") if name in attrs
    ]
    assert places == ["data:,"]
    (policy,) = [
        attrs["content"]
        for _, attrs in reader.elements
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    digest = base64.b64encode(hashlib.sha256(reader.scripts[""].encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}';")


def test_names_are_told_apart_by_what_became_of_them() -> None:
    several, one = make_group("Several", [6, 6], seed=1), make_group("One", [6], seed=2)
    alone = dataclasses.replace(make_group("Alone", [2], seed=3), status="too-few-tracks")
    alone = dataclasses.replace(alone, clusters=(), linkage=None)
    run = make_run([several, one, alone])
    page = render(dataclasses.replace(run, groups_left_out=7))
    rows = {
        attrs["data-name"]: attrs["data-kind"]
        for _, attrs in _Reader(page).elements
        if attrs.get("class") == "name"
    }
    assert rows == {"Several": "several", "One": "one", "Alone": "alone"}
    assert "1 of 3 names on this page sound like several artists" in page
    assert "left alone: too few tracks that can be heard" in page
    assert "7 names of less doubt are not on this page" in page
    assert list(rows) == [group.name for group in run.groups]  # the most doubtful first


def test_data_of_a_name() -> None:
    group = make_group("Name", [3, 2], seed=5, failed=1)
    tree = np.array([[0, 1, 1, 2], [3, 4, 2, 2], [2, 5, 3, 3], [6, 7, 9, 5]], np.float64)
    group = dataclasses.replace(
        group,
        linkage=tree,
        truth={"ari": 0.5},
        positions=np.array([[0, 0], [2, 0], [0, 1], [1, 1], [2, 1]], np.float32),
    )
    data = group_data(render(make_run([group])))
    columns = data["columns"]
    assert columns["cluster"] == [1, 1, 1, 2, 2, 0]
    # As shares of the wider side of the map; what was not heard has no place.
    assert columns["x"] == [0.0, 1.0, 0.0, 0.5, 1.0, None]
    assert columns["y"] == [0.0, 0.0, 0.5, 0.5, 0.5, None]
    assert columns["remark"] == ["", "", "", "", "", "no such file"]
    assert "listen" not in columns  # a column that says nothing
    assert data["merges"] == [[0, 1, 1.0], [3, 4, 2.0], [2, 5, 3.0], [6, 7, 9.0]]
    assert data["cut"] == CUT
    assert [one["apart"] for one in data["clusters"]] == [
        [
            "tempo: 121 bpm, the others 100 bpm",
            "sound: its tracks join by 3, the others at 9; cut 4",
        ],
        [
            "tempo: 122 bpm, the others 100 bpm",
            "sound: its tracks join by 2, the others at 9; cut 4",
        ],
    ]
    assert "ARI 0.5" in data["facts"]
    assert "1 of 6 tracks could not be heard" in data["facts"]


def test_numbers_that_are_none_are_no_reason_to_fail() -> None:
    """Merges that were forced have no height, and a cluster may have nothing to say."""
    group = make_group("Name", [3, 2], seed=5)
    assert group.linkage is not None
    tree = group.linkage.copy()
    tree[-1, 2] = np.inf
    weak = (Feature("tempo", 1.0, 2.0, "bpm", 0.1), Feature("key", 1.0, 2.0, "", float("nan")))
    clusters = tuple(dataclasses.replace(one, apart=weak, albums=()) for one in group.clusters)
    tracks = tuple(dataclasses.replace(track, confidence=None) for track in group.tracks)
    run = make_run([dataclasses.replace(group, linkage=tree, clusters=clusters, tracks=tracks)])
    data = group_data(render(dataclasses.replace(run, facts={}, figures={"ari": float("nan")})))
    assert data["merges"][-1][2] == pytest.approx(1.1 * tree[-2, 2], abs=1e-3)
    assert [words.split(":")[0] for words in data["clusters"][0]["apart"]] == ["sound"]
    assert "confidence" not in data["columns"]
    empty = render(Run("r", {}, (), (), ()))
    assert "0 of 0 names" in empty


@pytest.mark.parametrize(
    ("uri", "snippet", "address", "place"),
    [
        ("a.opus", None, "", "a.opus"),  # relative to a catalogue that is who knows where
        ("/music/a b#1.opus", None, "/music/a%20b%231.opus", "/music/a b#1.opus"),
        ("//host/a.opus", None, "/host/a.opus", "//host/a.opus"),
        ("file:///music/a%20b.opus", None, "/music/a%20b.opus", "file:///music/a%20b.opus"),
        ("gs://bucket/a.opus", None, "", "gs://bucket/a.opus"),
        ("a.opus", "snippets/1.ogg", "snippets/1.ogg", "snippets/1.ogg"),
        ("a.opus", "https://host/1.ogg", "", "https://host/1.ogg"),
        ("a.opus", "javascript:alert(1)", "", "javascript:alert(1)"),
        ("a.opus", "data:audio/ogg;base64,T2dn", "data:audio/ogg;base64,T2dn", ""),
        ("a.opus", "data:text/html,<script>", "", "data:text/html,<script>"),
    ],
)
def test_where_sound_comes_from(uri: str, snippet: str | None, address: str, place: str) -> None:
    group = make_group("Name", [2], seed=1)
    tracks = (dataclasses.replace(group.tracks[0], uri=uri, snippet=snippet), group.tracks[1])
    columns = group_data(render(make_run([dataclasses.replace(group, tracks=tracks)])))["columns"]
    assert columns.get("listen", [""])[0] == address
    assert columns["place"][0] == place


def test_known_ids_and_other_artists_are_told() -> None:
    group = make_group("Name", [2], seed=1)
    track = dataclasses.replace(group.tracks[0], artist_id="id-7", others=("Kit", "Ada"))
    group = dataclasses.replace(group, tracks=(track, group.tracks[1]))
    proposal = merge_of(group, make_group("Other", [3], seed=2), "split-9")
    sides = (*proposal.sides, Side("gone", "Gone", 2, 30, ("x/1",), "id-8"))
    proposal = dataclasses.replace(proposal, kind="split", sides=sides)
    page = render(make_run([group], [proposal]))
    assert (
        group_data(page)["columns"]["remark"][0]
        == "id \u2068id-7\u2069 · with \u2068Kit\u2069, \u2068Ada\u2069"
    )
    assert "split Name 1, Other 1 and Gone 2 (id id-8)" in re.sub("[\u2068\u2069]", "", page)
    assert "<bdi>x/1</bdi>" in page  # the title of a name that is not on the page


def test_size_of_the_page() -> None:
    """What is said of a track is said once: under 130 bytes each, beside a page of 60 kB."""
    run = make_run([make_group(f"Name {n}", [30, 30], seed=n) for n in range(20)])
    assert len(render(run)) < 60_000 + 20 * 60 * 130


# ------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    chromium = Chromium(tmp_path_factory.mktemp("browser"))
    yield chromium
    chromium.close()


def opened(browser: Chromium, tmp_path: Path, run: Run) -> Path:
    """The page of a run, without marks of other tests."""
    page = tmp_path / "report.html"
    page.write_text(render(run), encoding="utf-8")
    browser.open(page)
    # In the page itself: a busy browser brings what is cleared late to the next page.
    browser.run("localStorage.clear(), review.reload()")
    return page


NAMES = (
    "[...document.querySelectorAll('tbody.name')].filter(one => !one.hidden)"
    ".map(one => one.dataset.name)"
)


def open_name(browser: Chromium, name: str) -> str:
    """Opens a name; a selector of it."""
    number = browser.run(
        "[...document.querySelectorAll('tbody.name')]"
        f".find(one => one.dataset.name === {json.dumps(name)}).dataset.number"
    )
    selector = f"tbody.name[data-number='{number}']"
    browser.click(f"{selector} button.open")
    return selector


def list_tracks(browser: Chromium, scope: str) -> None:
    """Opens the list of a name's tracks."""
    browser.click(f"{scope} summary")
    browser.wait(f'document.querySelector("{scope} table.all") !== null')


def press_button(browser: Chromium, scope: str, text: str) -> None:
    """Clicks the button whose label begins like this."""
    browser.click(f"{scope} button[aria-label^={json.dumps(text)}]")


def marked(browser: Chromium, tmp_path: Path) -> tuple[dict[str, Any], dict[tuple[str, str], int]]:
    """The review that the page exports: as JSON, and as the next run reads both files."""
    browser.click("#json")
    exported = browser.downloaded("review-run-1.json")
    browser.click("#csv")
    table = browser.downloaded("review-run-1.csv")
    read = []
    for name, data in (("review.json", exported), ("review.csv", table)):
        (tmp_path / name).write_bytes(data)
        read.append(read_review(str(tmp_path / name)))
    assert [review.run_id for review in read] == ["run-1", "run-1"]
    assert read[0].tracks == read[1].tracks
    assert read[0].proposals == read[1].proposals
    return json.loads(exported), dict(read[0].tracks)


def members(group: Group, number: int) -> list[str]:
    return [track.track_id for track in group.tracks if track.cluster == number]


def test_opens_sorts_and_searches(browser: Chromium, tmp_path: Path) -> None:
    run = hostile_run()
    page = opened(browser, tmp_path, run)
    assert browser.run(NAMES) == [group.name for group in run.groups]
    browser.click("th[data-sort='tracks'] button")
    by_tracks = sorted(run.groups, key=lambda group: -len(group.tracks))
    assert browser.run(NAMES) == [group.name for group in by_tracks]
    head = "document.querySelector(\"th[data-sort='tracks']\").getAttribute('aria-sort')"
    assert browser.run(head) == "descending"
    browser.click("th[data-sort='tracks'] button")
    assert browser.run(NAMES) == [group.name for group in reversed(by_tracks)]
    browser.press("/")
    for letter in "o'NE":
        browser.press(letter)
    assert browser.run(NAMES) == ['O\'Neil "Q"']
    assert browser.run("document.getElementById('shown').textContent") == "1 of 3 names"
    assert browser.complaints() == []
    assert browser.addresses() == [page.as_uri()]


def test_names_are_text_in_the_browser(browser: Chromium, tmp_path: Path) -> None:
    run = hostile_run()
    opened(browser, tmp_path, run)
    for group in run.groups:
        scope = open_name(browser, group.name)
        list_tracks(browser, scope)
        heard = sum(not track.failure for track in group.tracks)
        count = f'document.querySelectorAll("{scope} {{}}").length'
        assert browser.run(count.format(".map [data-track]")) == heard
        assert browser.run(count.format(".leaf")) == heard
        assert browser.run(count.format(".cluster")) == len(group.clusters)
        assert browser.run(count.format("table.all tbody tr")) == len(group.tracks)
        shown = browser.run(f'document.querySelector("{scope} table.all").textContent')
        assert all(track.title in shown for track in group.tracks)
    assert browser.run("document.querySelectorAll('main script').length") == 2 + len(run.groups)
    assert browser.run("[...document.querySelectorAll('main b')].every(one => !one.textContent)")
    assert browser.complaints() == []


def test_script_of_a_stranger_does_not_run(browser: Chromium, tmp_path: Path) -> None:
    """Were a name ever set as markup, the policy would still stop it."""
    opened(browser, tmp_path, hostile_run())
    browser.run(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.broken = 1\">')"
    )
    browser.run("new Promise(done => setTimeout(done, 200))")
    assert browser.run("window.broken === undefined")
    assert any("Content Security Policy" in text for text in browser.complaints())


def test_map_is_walked_with_the_keyboard(browser: Chromium, tmp_path: Path) -> None:
    group = make_group("Walk", [6, 6], seed=4)
    opened(browser, tmp_path, make_run([group]))
    scope = open_name(browser, "Walk")
    focused = "document.activeElement.dataset.track"
    browser.run(f"document.querySelector(\"{scope} .map [tabindex='0']\").focus()")
    first = browser.run(focused)
    assert browser.run("document.querySelector('.tip').hidden") is False
    assert browser.run("document.querySelector('.tip').textContent").startswith(
        f"\u2068Song {first}\u2069, "
    )
    seen = {first}
    for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp") * 3:
        browser.press(key)
        seen.add(browser.run(focused))
    assert len(seen) > 2
    browser.press("Enter")
    assert browser.run("document.activeElement.getAttribute('aria-checked')") == "true"
    browser.press("Escape")
    assert browser.run("document.querySelector('.tip').hidden") is True


def test_marks_are_exported_as_the_next_run_reads_them(browser: Chromium, tmp_path: Path) -> None:
    group = make_group(ARABIC, [7, 5, 4], seed=2)
    other = make_group('=1+1, "quoted"', [6], seed=3)
    opened(browser, tmp_path, make_run([group, other], [merge_of(group, other)]))
    scope = open_name(browser, ARABIC)
    press_button(browser, scope, "Accept artist 1 ")
    press_button(browser, scope, "Split artist 2 ")
    press_button(browser, ".proposals", "Reject")
    content, tracks = marked(browser, tmp_path)
    assert [one["kind"] for one in content["decisions"]] == ["accept", "split", "split"]
    assert [one["artist"] for one in content["decisions"]] == [1, 2, 4]
    assert len(content["decisions"][1]["tracks"]) >= len(content["decisions"][2]["tracks"]) > 0
    assert {id_ for (_, id_), artist in tracks.items() if artist == 1} == set(members(group, 1))
    split = {id_ for (_, id_), artist in tracks.items() if artist in (2, 4)}
    assert split == set(members(group, 2))
    assert {name for name, _ in tracks} == {group.key}
    assert content["proposals"][0] | {"note": ""} == {
        "proposal": "merge-1",
        "decision": "rejected",
        "note": "",
    }
    # The other name, from the keyboard.
    browser.run("document.querySelectorAll('button.open')[1].focus()")
    named = browser.run("document.activeElement.textContent")
    browser.press("a")
    content, tracks = marked(browser, tmp_path)
    assert {name for name, _ in tracks} == {group.key, other.key}
    assert named in (ARABIC, other.name)


def test_no_cell_is_computed_by_a_spreadsheet_and_every_id_survives(
    browser: Chromium, tmp_path: Path
) -> None:
    starts = ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1", "\n=1", "\uff1d1", "'=1", "''-1", "'til"]
    groups = []
    for number, start in enumerate(starts):
        group = make_group(f"Name {number}", [3], seed=number)
        tracks = [
            dataclasses.replace(track, track_id=f'{start},"{n}"')
            for n, track in enumerate(group.tracks)
        ]
        groups.append(dataclasses.replace(group, tracks=tracks, key=start))
    opened(browser, tmp_path, make_run(groups))
    for group in groups:
        scope = open_name(browser, group.name)
        press_button(browser, scope, "Accept all")
    _, tracks = marked(browser, tmp_path)
    assert tracks == {(group.key, track.track_id): 1 for group in groups for track in group.tracks}
    text = (tmp_path / "review.csv").read_bytes().decode()
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r\n\uff1d"))]
    assert {"'=1+1", "''=1", "'til"} <= set(cells)


def test_a_mark_gives_way_to_what_contradicts_it(browser: Chromium, tmp_path: Path) -> None:
    group = make_group("Name", [7, 5, 4], seed=2)
    opened(browser, tmp_path, make_run([group]))
    scope = open_name(browser, "Name")
    press_button(browser, scope, "Accept all")
    content, tracks = marked(browser, tmp_path)
    assert tracks == {(group.key, t.track_id): t.cluster for t in group.tracks}
    for number in (2, 3):
        browser.click(f"{scope} .cluster:nth-child({number}) input")
    press_button(browser, scope, "Merge ticked artists")
    content, tracks = marked(browser, tmp_path)
    assert [one["kind"] for one in content["decisions"]] == ["accept", "accept", "merge"]
    assert set(tracks.values()) == {1, 2}
    assert {id_ for (_, id_), artist in tracks.items() if artist == 2} == {
        *members(group, 2),
        *members(group, 3),
    }
    said = browser.run("document.getElementById('said').textContent")
    assert "No longer marked: \u2068Name\u2069 3 is one artist" in said
    press_button(browser, scope, "Merge ticked artists")  # once more: taken back
    content, _ = marked(browser, tmp_path)
    assert [one["artist"] for one in content["decisions"]] == [1, 2]


def test_single_tracks_are_moved(browser: Chromium, tmp_path: Path) -> None:
    """Twice from one artist: what was moved first stays moved."""
    group = make_group("Name", [7, 5], seed=2)
    opened(browser, tmp_path, make_run([group]))
    scope = open_name(browser, "Name")
    list_tracks(browser, scope)
    for track, artist, expected in ((0, "new", 3), (1, "2", 2)):
        browser.click(f"{scope} tr[data-track='{track}'] input")
        browser.run(f"document.querySelector(\"{scope} select\").value = '{artist}'")
        browser.run(f'[...document.querySelectorAll("{scope} .all-artists button")].at(-1).click()')
        _, tracks = marked(browser, tmp_path)
        assert tracks[group.key, group.tracks[track].track_id] == expected
    first = members(group, 1)
    assert {id_: artist for (_, id_), artist in tracks.items()} == {
        **dict.fromkeys(first, 1),
        first[0]: 3,
        first[1]: 2,
    }


def test_marks_are_stored_and_can_be_read_back(browser: Chromium, tmp_path: Path) -> None:
    group = make_group("Name", [7, 5], seed=2)
    run = make_run([group])
    opened(browser, tmp_path, run)
    scope = open_name(browser, "Name")
    press_button(browser, scope, "Split artist 1 ")
    before, _ = marked(browser, tmp_path)
    # As a page does that is loaded again. The reload itself is the browser's: a busy one was seen
    # to forget what it had stored a moment before.
    again = "new Review(RUN.id, window.localStorage)"
    assert browser.run(f"{again}.marks.length") == 1
    assert json.loads(browser.run(f"{again}.asJson()")) == before
    # Another run has marks of its own.
    other = tmp_path / "other.html"
    other.write_text(render(dataclasses.replace(run, run_id="run/2")), encoding="utf-8")
    browser.open(other)
    assert browser.run("document.getElementById('json').disabled") is True
    text = json.dumps(json.dumps(before))
    said = browser.run(
        f"loadFile({{target: {{files: [new File([{text}], 'review.json')]}}}})"
        ".then(() => document.getElementById('said').textContent)"
    )
    assert said == "1 mark read. It is the review of another run, run-1."
    browser.click("#json")
    again = json.loads(browser.downloaded("review-run-2.json"))
    assert again == {**before, "run": "run/2"}
    said = browser.run(
        "loadFile({target: {files: [new File(['{}'], 'x.json')]}})"
        ".then(() => document.getElementById('said').textContent)"
    )
    assert said == "x.json cannot be read: this is not a review of format 1."


def test_sound_is_played(browser: Chromium, tmp_path: Path) -> None:
    import soundfile

    samples = np.zeros(8000, np.float32)
    soundfile.write(tmp_path / "a b.wav", samples, 8000)
    data = base64.b64encode((tmp_path / "a b.wav").read_bytes()).decode()
    for snippet in ("a b.wav", f"data:audio/wav;base64,{data}"):
        group = make_group("Name", [3], seed=2, snippet=snippet)
        opened(browser, tmp_path, make_run([group]))
        scope = open_name(browser, "Name")
        press_button(browser, scope, "Listen to Song 0")
        length = browser.run(
            "new Promise(done => { const one = document.getElementById('player');"
            " if (one.readyState) done(one.duration);"
            " one.onloadedmetadata = () => done(one.duration); one.onerror = () => done(-1); })"
        )
        assert length == pytest.approx(1.0)
        assert browser.run("document.getElementById('playing').textContent").startswith("Song 0")
        assert browser.complaints() == []


def test_500_names_open_and_sort_in_2_s(browser: Chromium, tmp_path: Path) -> None:
    """The best of a few attempts: other processes may take the machine at any moment."""
    run = make_run([make_group(f"Name {n}", [35, 25], seed=n) for n in range(500)])
    opened(browser, tmp_path, run)
    taken_ms = []
    for _ in range(ATTEMPTS):
        browser.reload()
        loaded_ms = browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
        sorted_ms = browser.run(
            "(async () => { const start = performance.now();"
            " document.querySelector(\"th[data-sort='name'] button\").click();"
            " await new Promise(done => requestAnimationFrame(() => setTimeout(done)));"
            " return performance.now() - start; })()"
        )
        taken_ms.append(loaded_ms + sorted_ms)
        if taken_ms[-1] < LIMIT_MS:
            break
    assert min(taken_ms) < LIMIT_MS
    assert browser.run(NAMES)[:3] == ["Name 0", "Name 1", "Name 10"]
    assert browser.run("document.querySelectorAll('svg.map').length") == 0  # drawn when opened


def test_a_huge_name_is_drawn(browser: Chromium, tmp_path: Path) -> None:
    group = make_group("Various Artists", [1500, 1000], seed=1)
    opened(browser, tmp_path, make_run([group]))
    scope = open_name(browser, "Various Artists")
    count = f'document.querySelectorAll("{scope} {{}}").length'
    assert 1000 < browser.run(count.format(".map [data-track]")) < 1600
    assert browser.run(count.format(".leaf")) <= 80
    press_button(browser, scope, "Accept all")
    _, tracks = marked(browser, tmp_path)
    assert len(tracks) == 2500
    assert browser.complaints() == []
