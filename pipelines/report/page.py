"""The pages: figures become one HTML file each that needs no network and no script."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hashing.errors import AudioError
from pipelines import io
from pipelines.report.charts import LEFT, RIGHT, WIDTH, score_chart, share_chart
from pipelines.report.images import data_uri, spectrogram_png
from pipelines.report.text import name_line

if TYPE_CHECKING:
    import jinja2

# What each condition is, as a person would say it.
CONDITION_NAMES = {
    "clean": ("Clean", "as it is in the track"),
    "mp3": ("mp3", "a poor stream: mp3 at 64 kb/s"),
    "white@5": ("White 5 dB", "hiss, 5 dB below the music"),
    "ambience@5": ("Ambience 5 dB", "pink noise as of a street, 5 dB below the music"),
    "reverb": ("Reverb", "played in a room that takes 0.2 to 0.8 s to fall silent"),
}

# Negatives with a wrong match that are shown of each duration; all of them are in the full list.
_MOST_WRONG = 2

# Places by which the examples move on from one cell to the next, so that tracks take turns.
_STRIDE = 3


@dataclasses.dataclass(frozen=True)
class Example:
    """A recording as the page shows it; images as data URIs, empty where there is none."""

    query: dict[str, Any]
    original: str
    heard: str


@dataclasses.dataclass(frozen=True)
class Section:
    """The examples of one condition."""

    title: str
    note: str
    found: str
    examples: list[Example]


def demo_page(figures: dict[str, Any], commands: Sequence[str], out: str) -> str:
    """The page, as HTML.

    Args:
        figures: what ``figures.json`` of the demo holds.
        commands: what to type next.
        out: the folder of the demo, for the spectrograms of its recordings.
    """

    @functools.cache
    def image(file: str) -> str:
        try:
            return data_uri(spectrogram_png(io.join(out, file)))
        except AudioError:
            return ""

    known = [query for query in figures["queries"] if query["indexed"]]
    absent = [query for query in figures["queries"] if not query["indexed"]]
    return render(
        "demo.html.j2",
        figures=figures,
        index=figures["index"],
        known=len(known),
        found=sum(query["verdict"] == "right" for query in known),
        mistaken=sum(query["verdict"] == "wrong" for query in known),
        absent=len(absent),
        false_alarms=sum(query["verdict"] == "wrong" for query in absent),
        sections=list(_sections(known, absent, image)),
        shares=share_chart(figures),
        scores=score_chart(figures),
        names=[name_line(name) for name in figures["names"]],
        commands=commands,
    )


def render(template: str, **values: Any) -> str:
    """A template of this folder with `values` in it, every one of them escaped.

    >>> render("macros.html.j2")
    ''
    """
    return _environment().get_template(template).render(values).strip()


@functools.cache
def _environment() -> jinja2.Environment:
    """One for all pages: a template is compiled once, which takes longer than to fill it."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"WIDTH": WIDTH, "LEFT": LEFT, "RIGHT": RIGHT}
    environment.filters |= {
        "number": lambda value: f"{value:,.0f}",
        "seconds": lambda value: f"{value:.1f} s",
        "size": size,
        "length": length,
        "condition": _condition,
        "address": quote,
        "names": lambda value: ", ".join(value) if isinstance(value, list) else value or "",
    }
    return environment


def _condition(name: str) -> str:
    # white@0 → white 0 dB, where the demo has no name for it.
    named = CONDITION_NAMES.get(name, ("", ""))[0]
    return named or re.sub(r"@(-?\d+)", r" \1 dB", name)


def size(n_bytes: float) -> str:
    """Bytes for a person, in powers of 1000.

    >>> size(691_000), size(2_500_000_000)
    ('691 kB', '2.5 GB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"


def length(seconds: float) -> str:
    """A duration for a person.

    >>> length(1800.0), length(5400.0), length(45)
    ('30 min', '1.5 h', '45 s')
    """
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _sections(
    known: Sequence[dict[str, Any]],
    absent: Sequence[dict[str, Any]],
    image: Callable[[str], str],
) -> Iterator[Section]:
    turn = itertools.count(0, _STRIDE)
    for name in dict.fromkeys(query["condition"] for query in known):
        title, note = CONDITION_NAMES.get(name, (name, ""))
        asked = [query for query in known if query["condition"] == name]
        right = sum(query["verdict"] == "right" for query in asked)
        chosen = [
            query
            for seconds in _durations(asked)
            for query in _pick([q for q in asked if q["duration_s"] == seconds], next(turn), 1)
        ]
        yield Section(title, note, f"{right} of {len(asked)} found", _examples(chosen, image))
    silent = sum(query["verdict"] == "right" for query in absent)
    chosen = [
        query
        for seconds in _durations(absent)
        for query in _pick(
            [q for q in absent if q["duration_s"] == seconds], next(turn), _MOST_WRONG
        )
    ]
    yield Section(
        "Not in the index",
        "recordings of the tracks left out, in all conditions: no match is the right answer",
        f"{silent} of {len(absent)} right",
        _examples(chosen, image),
    )


def _durations(queries: Sequence[dict[str, Any]]) -> list[float]:
    return sorted({query["duration_s"] for query in queries})


def _pick(queries: list[dict[str, Any]], turn: int, failures: int) -> list[dict[str, Any]]:
    """One that is right and up to `failures` that are not, of different tracks, from `turn` on."""
    at = turn % max(1, len(queries))
    queries = queries[at:] + queries[:at]
    right = [query for query in queries if query["verdict"] == "right"]
    failed: dict[str, dict[str, Any]] = {}
    for query in queries:
        if query["verdict"] != "right":
            failed.setdefault(query["track"]["track_id"], query)
    return right[:1] + list(failed.values())[:failures]


def _examples(queries: Sequence[dict[str, Any]], image: Callable[[str], str]) -> list[Example]:
    return [Example(query, image(query["original"]), image(query["file"])) for query in queries]
