"""A published index of rendered music, for tests of look-up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from index_helpers import run_index
from tiny_catalog import RATE, write_rows

from hashing.models import DEFAULT_MODEL, PRETRAINED
from hashing.synthesis import render_track
from pipelines.cli import main

SECONDS = 12.0
TRACKS = 20

# A title that a terminal would obey, and letters of several scripts.
ODD_TITLE = "Ödön «Ő» 東京\x1b[31m\ttrack"


@dataclasses.dataclass(frozen=True)
class Published:
    """Music, and the index of it.

    Attributes:
        catalog, index: where they are.
        songs: samples of each track at `RATE`; of ``s99`` too, which is not indexed.
    """

    catalog: Path
    index: Path
    songs: dict[str, np.ndarray]

    def cut(self, track: str, start_s: float, end_s: float) -> np.ndarray:
        """A part of a track."""
        return self.songs[track][round(start_s * RATE) : round(end_s * RATE)]


def wav(path: Path, *parts: np.ndarray) -> Path:
    """A file of these samples, one part after the other."""
    soundfile.write(path, np.concatenate(parts), RATE, subtype="FLOAT")
    return path


def publish_music(folder: Path) -> Published:
    """Twenty tracks s00 … s19 in three parts, by the default model; not to be changed.

    s03 begins with silence, s07 ends with it, s08 has it in the middle; s05 cannot be read.
    """
    silence = np.zeros(3 * RATE, np.float32)
    songs = {f"s{number:02d}": render_track(number, SECONDS, RATE) for number in range(TRACKS)}
    songs["s03"] = np.concatenate([silence, songs["s03"][: -len(silence)]])
    songs["s07"][-len(silence) :] = 0.0
    songs["s08"][4 * RATE : 7 * RATE] = 0.0
    rows = []
    for number, (track_id, samples) in enumerate(songs.items()):
        wav(folder / f"{track_id}.wav", samples)
        title = ODD_TITLE if number == 2 else f"Song {number}"
        names = {"title": title, "artist_name": "Ann; Bob", "mood": "calm"}
        rows.append({"track_id": track_id, "uri": f"{track_id}.wav", **names})
    (folder / "s05.wav").write_bytes(b"no audio at all")
    songs["s99"] = render_track(99, SECONDS, RATE)
    catalog = write_rows(folder / "catalog.csv", rows)
    index = folder / "index"
    assert run_index(catalog, index, PRETRAINED / DEFAULT_MODEL, "--max-failures", "0.1") == 0
    return Published(catalog, index, songs)


def answer_rows(out: Path, kind: str = "matches") -> list[dict[str, Any]]:
    """What ``lookup --queries`` wrote, ``matches`` or ``failures``: the rows of all parts."""
    files = sorted((out / kind).glob("*.parquet"))
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def look_up_files(published: Published, *arguments: object) -> int:
    """The exit status of ``hashbeam lookup FILE…`` in this process."""
    return main(["lookup", "--index", str(published.index), *map(str, arguments)])


def printed_answers(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What it printed with ``--json``."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def best_match(
    published: Published, capsys: pytest.CaptureFixture[str], path: Path, *flags: str
) -> dict[str, Any]:
    """The first match of one file."""
    assert look_up_files(published, path, "--json", *flags) == 0
    (answer,) = printed_answers(capsys)
    match: dict[str, Any] = answer["matches"][0]
    return match
