"""What the demo says on the terminal when it is done."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from pipelines import io


def next_commands(program: str = "hashbeam") -> list[str]:
    """What to type next, for music of one's own.

    >>> next_commands()[0]
    'hashbeam catalog ~/Music --out catalog.csv'
    """
    return [
        f"{program} catalog ~/Music --out catalog.csv",
        f"{program} index --catalog catalog.csv --out music.index --also artist",
        f"{program} lookup --index music.index recording.mp3",
        f"{program} disambiguate --catalog catalog.csv --index music.index --out artists",
    ]


def _program() -> str:
    """How this installation is started from here: its script may not be on the PATH."""
    if shutil.which("hashbeam"):
        return "hashbeam"
    python = Path(sys.executable)
    script = python.with_name("hashbeam")
    return _shown(script) if script.exists() else f"{_shown(python)} -m pipelines"


def _shown(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def name_line(name: dict[str, Any]) -> str:
    """What became of a name; `name` is what `pipelines.demo_artists.tell_name` gives.

    >>> name = {"name": "Owls", "songs": 8, "artists": 2, "right": True, "left_alone": ""}
    >>> name_line({**name, "clusters": [4, 4]})
    'Owls: 8 songs by 2 artists; found: 2 artists (4 + 4 songs), each song right'
    """
    known = f"{name['name']}: {name['songs']} songs by {_artists(name['artists'])}"
    if name["left_alone"]:
        return f"{known}; left alone: {name['left_alone']}"
    sizes = " + ".join(map(str, name["clusters"]))
    verdict = "each song right" if name["right"] else "not all songs right"
    return f"{known}; found: {_artists(len(name['clusters']))} ({sizes} songs), {verdict}"


def _artists(count: int) -> str:
    return f"{count} artist{'' if count == 1 else 's'}"


def as_text(
    figures: dict[str, Any], folder: str, index_path: str, page: str, artists_page: str
) -> str:
    """A few lines for a person.

    Args:
        figures: what ``figures.json`` of the demo holds.
        folder: of the demo.
        index_path, page, artists_page: of its index and its pages.
    """
    index, queries = figures["index"], figures["queries"]
    absent = [row for row in queries if not row["indexed"]]
    wrong = sum(row["verdict"] == "wrong" for row in absent)
    cells = {(row["condition"], row["duration_s"]): row for row in figures["conditions"]}
    durations = sorted({seconds for _, seconds in cells})
    lines = [
        f"{index['tracks']} tracks indexed: {index['audio_s'] / 60:.0f} min of music as "
        f"{index['snippets']} snippets, {index['times_real_time']:.0f} × real time, "
        f"{index['bytes'] / 1e6:.1f} MB",
        f"{len(queries) - len(absent)} recordings of them looked up, "
        f"{figures['answer_wall_ms']:.0f} ms each; found, with a score of "
        f"{figures['min_score']:g} or more, in %:",
        " " * 14 + "".join(f"{seconds:6g} s" for seconds in durations),
    ]
    for name in dict.fromkeys(name for name, _ in cells):
        shares = [100 * cells[name, seconds]["accepted"] for seconds in durations]
        lines.append(f"  {name:<12}" + "".join(f"{share:8.0f}" for share in shares))
    # One that will be found again, and was not easy.
    found = [row for row in queries if row["indexed"] and row["verdict"] == "right"]
    example = next((row for row in found if row["condition"] != "clean"), queries[0])["file"]
    asked = ["lookup", "--index", index_path, io.join(folder, example)]
    lines += [
        f"{len(absent)} recordings of {index['tracks_left_out']} tracks that are not in the index: "
        f"{wrong} were given a match",
        "Artists of one name, told apart by sound alone:",
        *(f"  {name_line(name)}" for name in figures["names"]),
        "",
        f"The pages:\n  {page}\n  {artists_page}",
        f"Ask yourself:\n  {_program()} {shlex.join(asked)}",
        "The same on music of your own:",
        *(f"  {command}" for command in next_commands(_program())),
    ]
    return "\n".join(lines)
