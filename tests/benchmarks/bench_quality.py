"""How often look-up is right, on real music.

Two measurements, each a run of `hashbeam evaluate lookup`:

* all: every track of the catalogue is in the index; queries of 5 s are cut at random places and
  re-encoded as mp3 at 64 kb/s.
* held out: queries only from tracks that the model's training has not heard, under noise that it
  has not heard. Half of their packages are left out of the index, which holds all the rest of the
  catalogue, and queries from them must find nothing. Packages are kept whole, because tracks of one
  soundtrack share audio.

    python tests/benchmarks/bench_quality.py --music music --noise noise --rooms rir
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hashing.models import DEFAULT_MODEL, load_model
from pipelines.catalog import read_catalog
from pipelines.cli import main as hashbeam

SAME = "variant_group"  # column of the catalogue: tracks that agree in it are one recording
PACKAGE = "source_package"  # column of the catalogue: tracks that agree in it may share audio


def main() -> int:
    """Measure, print, and write the figures of both into --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--music",
        type=Path,
        default=os.environ.get("HASHBEAM_MUSIC"),
        help="a folder with catalog.csv (default: HASHBEAM_MUSIC)",
    )
    parser.add_argument("--noise", type=Path, nargs="*", default=[], help="folders of ambiences")
    parser.add_argument("--rooms", type=Path, nargs="*", default=[], help="folders of responses")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--queries", type=int, default=200, help="of each duration and condition")
    parser.add_argument("--out", type=Path, default=Path("build/quality"))
    args = parser.parse_args()
    if not args.music:
        parser.error("there is no music to measure on: give --music, or set HASHBEAM_MUSIC")
    story = load_model(args.model).config["training"]
    catalog = read_catalog(str(args.music / "catalog.csv"))
    same = ["--same", SAME] if SAME in catalog.column_names else []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        pq.write_table(catalog, scratch / "all.parquet")
        run("index", "--catalog", scratch / "all.parquet", "--out", scratch / "all",
            "--model", args.model)  # fmt: skip
        print("\nevery track in the index:", flush=True)
        run("evaluate", "lookup", "--catalog", scratch / "all.parquet", "--index", scratch / "all",
            "--conditions", "mp3", "clean", "--durations", 5, "--queries", catalog.num_rows,
            "--out", args.out / "all", "--model", args.model, *same)  # fmt: skip
        unheard = set(story["tracks_held_out"])
        held_out = [i for i, t in enumerate(catalog["track_id"].to_pylist()) if t in unheard]
        left_out = half_of_packages(catalog, held_out)
        kept = [i for i in range(catalog.num_rows) if i not in left_out]
        pq.write_table(catalog.take(pa.array(kept)), scratch / "kept.parquet")
        pq.write_table(catalog.take(pa.array(held_out)), scratch / "asked.parquet")
        run("index", "--catalog", scratch / "kept.parquet", "--out", scratch / "kept",
            "--model", args.model)  # fmt: skip
        noise = [f"--noise={held_out_noise(args.noise, story, scratch)}"] if args.noise else []
        rooms = ["--rooms", *args.rooms] if args.rooms else []
        print("\nonly music and noise that training has not heard:", flush=True)
        run("evaluate", "lookup", "--catalog", scratch / "asked.parquet", "--index",
            scratch / "kept", "--queries", args.queries, "--out", args.out / "held-out",
            "--model", args.model, *noise, *rooms, *same)  # fmt: skip
    for name in ("all", "held-out"):
        figures = json.loads((args.out / name / "figures.json").read_text(encoding="utf-8"))
        print(name, json.dumps(figures["durations"]))
    return 0


def half_of_packages(catalog: pa.Table, held_out: list[int]) -> set[int]:
    """Rows of about half of `held_out`, packages kept whole; single tracks where there are none."""
    names = catalog[PACKAGE].to_pylist() if PACKAGE in catalog.column_names else held_out
    by_package: dict[object, list[int]] = {}
    for i, row in enumerate(held_out):
        by_package.setdefault(names[row if names is not held_out else i], []).append(row)
    left_out: list[int] = []
    for package in sorted(by_package.values(), key=len, reverse=True):
        if len(left_out) + len(package) <= len(held_out) / 2:
            left_out += package
    return set(left_out)


def held_out_noise(folders: list[Path], story: dict[str, list[str]], scratch: Path) -> Path:
    """A folder with the recordings of noise that training has not heard."""
    out = scratch / "noise"
    out.mkdir()
    for folder in folders:
        for path in folder.iterdir():
            if path.name in story["noise_held_out"]:
                shutil.copy(path, out / path.name)
    return out


def run(*arguments: object) -> None:
    """One hashbeam command."""
    status = hashbeam([str(argument) for argument in arguments])
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    sys.exit(main())
