"""The page of an index's health: hostile names, no network; in Chromium, at two widths."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from chromium import Chromium
from unwell_index import FAILED, HOSTILE, made_up_summary, write_unwell_index

from pipelines.cli import main
from pipelines.health.buckets import SizeClass
from pipelines.health.examine import examine
from pipelines.inspect import describe
from pipelines.report.health_charts import NAME, bit_chart, class_chart, size_chart, speed_chart
from pipelines.report.health_page import POLICY, health_page
from pipelines.versions import KINDS, open_manifest


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an index that has much wrong with it."""
    folder = tmp_path_factory.mktemp("health")
    write_unwell_index(folder / "music.index")
    path = folder / "health.html"
    assert main(["info", str(folder / "music.index"), "--html", str(path), "--json"]) == 0
    return path


class _Reader(HTMLParser):
    """Elements and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_verdict_stands_on_top(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(" ".join(_Reader(page.read_text()).texts).split())
    head = text.index("music.index needs a look – 5 things to look at")
    assert head < text.index("Mend what is listed below") < text.index("Buckets")
    for said in (
        "16.0 × perfect",
        "90 new, 10 changed, 60 removed against 000001",
        "35 % of the tracks in the tables have gone",
        "000003 is not finished",
        "hashbeam list",
        "not-audio 9 tracks, found at decode",
        "bit 3 0.0 %",
    ):
        assert said in text, said
    capsys.readouterr()
    index = str(page.parent / "music.index")
    assert main(["info", index, "--html", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "\n  health: Failed tracks: 9.7 % of the catalogue" in printed
    assert printed.endswith(f"\n  {page}\n")


def test_what_strangers_typed_stays_text(page: Path) -> None:
    reader = _Reader(page.read_text())
    assert [tag for tag, _ in reader.elements if tag == "script"] == []
    assert sum(tag == "style" for tag, _ in reader.elements) == 2
    assert [
        value for _, attrs in reader.elements for value in attrs if value.startswith("on")
    ] == []
    shown = [text for text in reader.texts if HOSTILE in text]
    # The model twice; of each kind its examples with id, message and uri; and one kind itself.
    examples = sum(min(3, count) for _, count in FAILED)
    assert len(shown) == 2 + 3 * examples + 1


def test_page_asks_nothing_of_a_network(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"https?:|@import|url\(", text) == []
    reader = _Reader(text)
    places = [attrs[at] for _, attrs in reader.elements for at in ("src", "href") if at in attrs]
    assert places == ["data:,"]
    policies = [attrs["content"] for _, attrs in reader.elements if "http-equiv" in attrs]
    assert policies == [POLICY]
    assert POLICY.startswith("default-src 'none';")


def test_bars_are_as_long_as_their_values() -> None:
    chart = class_chart([SizeClass(1, 1, 0.2, 0.4), SizeClass(2, 2, 0.8, 0.6)])
    one, two = chart.bars
    assert two.height == pytest.approx(4 * one.height, abs=0.2)
    assert one.perfect < one.y
    assert two.perfect > two.y
    assert "80.0 % of the postings stand in buckets of 2 to 2" in two.spoken
    sizes = size_chart({"a": {"bytes": 500_000}, "b": {"bytes": 1_000_000}}, 1000)
    assert [row.name for row in sizes.rows] == ["b", "a"]
    assert [row.figure for row in sizes.rows] == ["1.0 MB, 1000.0 B", "500 kB, 500.0 B"]
    assert sizes.rows[0].pieces[0].width == 2 * sizes.rows[1].pieces[0].width


def test_stages_of_a_run_follow_one_another() -> None:
    run = made_up_summary(startup_s=10.0, hash_wall_s=60.0, tables_wall_s=20.0, wall_s=100.0)
    (row,) = speed_chart([("000001", run)]).rows
    widths = [piece.width for piece in row.pieces]
    assert [round(width / sum(widths), 2) for width in widths] == [0.1, 0.6, 0.2, 0.1]
    assert row.pieces[0].x == NAME
    for before, after in zip(row.pieces, row.pieces[1:], strict=False):
        assert after.x == pytest.approx(before.x + before.width, abs=0.2)


def test_charts_of_an_empty_index_are_empty() -> None:
    assert class_chart([]).bars == bit_chart([], (0.2, 0.8)).bars == size_chart({}, 0).rows == []


def test_a_page_that_cannot_be_written_is_one_line(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = str(page.parent / "music.index")
    assert main(["info", index, "--html", str(page / "below" / "a.html")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def crowded(page: Path) -> Path:
    """The page of an index as large as they come: forty tables, buckets of millions, many runs."""
    index = str(page.parent / "music.index")
    manifest = open_manifest(index)
    health = examine(index, manifest, describe(index, manifest))
    one = health.history.versions[1]
    sizes = {name: {"bytes": 10**12, "rows": 1, "files": 1} for name in KINDS}
    health = dataclasses.replace(
        health,
        facts=health.facts | {"kinds": sizes, "snippets": 5 * 10**9},
        bits=dataclasses.replace(health.bits, shares=[0.45] * 464),
        history=dataclasses.replace(health.history, versions=[one] * 12, older=500),
        buckets=dataclasses.replace(
            health.buckets,
            tables=[dataclasses.replace(health.buckets.tables[0], table=at) for at in range(40)],
            classes=[SizeClass(2**at // 2 + 1, 2**at, 0.04, 0.04) for at in range(25)],
        ),
    )
    path = page.parent / "crowded.html"
    path.write_text(health_page(health))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", ["page", "crowded"])
def test_page_in_a_browser(
    chromium: Chromium, request: pytest.FixtureRequest, name: str, width: int, scheme: str
) -> None:
    page: Path = request.getfixturevalue(name)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    chromium.call("Emulation.setEmulatedMedia", features=[feature])
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    chromium.call("Emulation.setDeviceMetricsOverride", **size)
    chromium.open(page)
    assert chromium.complaints() == []
    assert chromium.addresses() == [page.as_uri()]
    # Only tables may be wider than the window, and scroll by themselves.
    assert chromium.run("document.documentElement.scrollWidth") <= width
    top = "document.querySelector('.verdict').getBoundingClientRect().bottom"
    assert chromium.run(top) < 450
    # Every text of a chart stands inside of its drawing, and labels do not touch each other.
    outside = """[...document.querySelectorAll('svg text')].filter(one => {
        const own = one.getBoundingClientRect(), all = one.ownerSVGElement.getBoundingClientRect();
        return own.left < all.left - 1 || own.right > all.right + 1 || own.bottom > all.bottom + 1;
    }).map(one => one.textContent)"""
    assert chromium.run(outside) == []
    touching = """[...document.querySelectorAll('figure svg')].flatMap(svg => {
        const boxes = [...svg.querySelectorAll('text')].map(one => one.getBoundingClientRect());
        return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b =>
            a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom
        ).map(() => svg.getAttribute('aria-label')));
    })"""
    assert chromium.run(touching) == []
    # Text against what is behind it: a dark page is dark.
    background = chromium.run("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", background)[0]) < 128) == (scheme == "dark")
