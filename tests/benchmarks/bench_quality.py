"""How often look-up is right on music, and in noise, that the models have not been trained on.

One run of `hashbeam evaluate lookup`. Queries are cut from the tracks that every one of the models
lists as held out of its training, under noise that is held out, too. About half of the packages (or
albums: --left-out-by) of these tracks are left out of the index, which holds all the rest of the
catalogue, and queries from them must find nothing. Tracks that share audio are found by the
evaluation itself.

    python tests/benchmarks/bench_quality.py --catalog music/catalog.csv --noise noise events

The same seed, data and models give the same figures, but for CPU times. Without --rooms, rooms are
synthetic, with reverberation times of 0.3 to 1 s.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from goal_conditions import CONDITIONS

from hashing.errors import HashbeamError
from hashing.models import DEFAULT_MODEL, load_model
from pipelines.cli import main as hashbeam

MODELS = (DEFAULT_MODEL, "forgiving")

DURATIONS = (1, 2, 3, 5, 10)  # seconds


def main() -> int:
    """Measure, print, and write the figures into --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--catalog", type=Path, required=True, help="the music, held-out tracks and others")
    add("--noise", type=Path, nargs="+", default=[], help="folders with held-out ambiences")
    add("--rooms", type=Path, nargs="+", default=[], help="folders of room responses")
    add("--model", nargs="+", default=MODELS, help=f"(default: {' '.join(MODELS)})")
    add("--left-out-by", default="source_package", help="column of groups that stay together")
    add("--queries", type=int, default=100, help="of each duration and condition (100)")
    add("--seed", type=int, default=1)
    add("--out", type=Path, default=Path("build/quality"))
    args = parser.parse_args()
    stories = [load_model(model).config["training"] for model in args.model]
    with tempfile.TemporaryDirectory() as scratch:
        only = Path(scratch, "held-out.txt")
        only.write_text("\n".join(held_out(stories, "tracks_held_out")), encoding="utf-8")
        noise = Path(scratch, "noise")
        noise.mkdir()
        unheard = held_out(stories, "noise_held_out")
        for folder in args.noise:
            for path in sorted(folder.iterdir()):
                if path.name in unheard:
                    shutil.copy(path, noise / path.name)
        command = [
            *("evaluate", "lookup", "--catalog", args.catalog, "--only", only, "--out", args.out),
            *("--left-out", 0.5, "--left-out-by", args.left_out_by, "--model", *args.model),
            *("--conditions", *CONDITIONS, "--durations", *DURATIONS),
            *("--queries", args.queries, "--seed", args.seed, "--progress"),
            *(("--noise", noise) if args.noise else ()),
            *(("--rooms", *args.rooms) if args.rooms else ()),
        ]
        words = [str(word) for word in command]
        print("hashbeam", shlex.join(words), flush=True)
        return hashbeam(words)


def held_out(stories: list[dict[str, list[str]]], what: str) -> list[str]:
    """What no model has been trained on: in the list `what` of every one's training."""
    common = set.intersection(*(set(story.get(what, [])) for story in stories))
    if not common:
        raise HashbeamError(f"these models have no {what} in common: name others")
    return sorted(common)


if __name__ == "__main__":
    sys.exit(main())
