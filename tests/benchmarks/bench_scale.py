"""An index of a million tracks, made and measured in pieces; `deploy/SCALE.md` is made of it.

    PYTHONPATH=. python tests/benchmarks/bench_scale.py COMMAND --work-dir DIR --results FILE.json

Commands, each of which can be given again and writes its figures under its own name:

    balance   made-up codes against the real ones that they are drawn from
    build     a published index of so many tracks, by stages: --tracks N [--first N] [--tables 13]
    merge     indexes that `build` made into one, by `hashbeam merge`
    lookup    what a query costs in an index, by length of the query
    paper     the elements of every stage at 1, 10 and 100 million tracks, on paper
    report    tables and chart of the document, from the results of all others

`--real INDEX` is an index of the default model of real music whose catalogue has a column
`source_package`; half of the packages are drawn from, the other half asks.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

SNIPPETS = 480  # of a track
# (name, first track, tracks) of what one table of is built; the largest is merged of two halves.
HALF = 500_000


def main(argv: list[str]) -> int:
    """One command."""
    args = parse(argv)
    found = COMMANDS[args.command](args)
    if found is not None:
        keep(args.results, found)
        print(json.dumps(found, indent=1))
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("names", nargs="*", help="merge: of the indexes; lookup: of one")
    parser.add_argument("--work-dir", type=Path, help="where indexes are, and are kept")
    parser.add_argument("--results", type=Path, required=True, help="a JSON object, added to")
    parser.add_argument("--real", help="index of real music")
    parser.add_argument("--name", help="of the index that is made")
    parser.add_argument("--tracks", type=int, default=HALF)
    parser.add_argument("--first", type=int, default=0, help="number of the first track")
    parser.add_argument("--tables", type=int, choices=(1, 13), default=1)
    parser.add_argument("--queries", type=int, default=64, help="of each length")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--catalog", help="lookup: of the real music, whose files are asked with")
    return parser.parse_args(argv)


def keep(path: Path, found: dict[str, Any]) -> None:
    """Adds figures to the file of results."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results |= found
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def build(args: argparse.Namespace) -> dict[str, Any]:
    import scale_index

    name = args.name or f"{args.tracks}x{args.tables}"
    folder = args.work_dir / name
    figures = scale_index.build(folder, args.real, args.first, args.tracks, SNIPPETS, args.tables)
    return {f"build {name}": figures}


def merge(args: argparse.Namespace) -> dict[str, Any]:
    import scale_index

    folders = [args.work_dir / name for name in args.names]
    rows = scale_index.rows_of_merge(folders, args.work_dir / "rows")
    figures = scale_index.merge(folders, args.work_dir / args.name)
    return {f"merge {args.name}": figures | {"rows": rows}}


def lookup(args: argparse.Namespace) -> dict[str, Any]:
    import scale_index
    import scale_lookup

    (name,) = args.names
    index = str(args.work_dir / name)
    found = scale_index.in_fresh_process(
        scale_lookup.measure, index, args.catalog, args.queries, args.rounds
    )
    return {f"lookup {name}": found}


def balance(args: argparse.Namespace) -> dict[str, Any]:
    import scale_balance

    return {"balance": scale_balance.compare(args.real, SNIPPETS)}


def paper(args: argparse.Namespace) -> dict[str, Any]:
    import scale_paper

    from hashing.encoders import Hasher

    quantizer = Hasher.load().quantizer
    found = {}
    for millions in scale_paper.MILLIONS:
        size = millions * 1_000_000, SNIPPETS, quantizer
        found[f"{millions}"] = scale_paper.elements(*size) | scale_paper.listings(*size)
    return {"paper": found}


COMMANDS = {
    "balance": balance,
    "build": build,
    "merge": merge,
    "lookup": lookup,
    "paper": paper,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
