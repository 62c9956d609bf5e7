"""An index of a million tracks, made and measured in pieces; `deploy/SCALE.md` is made of it.

    PYTHONPATH=. python tests/benchmarks/bench_scale.py COMMAND --work-dir DIR --results FILE.json

Commands, each of which can be given again and writes its figures under its own name:

    balance   made-up codes against the real ones that they are drawn from
    build     a published index of so many tracks, by stages: --tracks N [--first N] [--tables 13]
    merge     indexes that `build` made into one, by `hashbeam merge`
    lookup    what a query costs in an index, by length of the query
    plan      what `hashbeam plan` says of the same, of 10 and of 100 million tracks
    paper     the elements of every stage at 1, 10 and 100 million tracks, on paper
    report    tables and chart of the document, from the results of all others: --document FILE

`--real INDEX` is an index of the default model of real music whose catalogue has a column
`source_package`; half of the packages are drawn from, the other half asks.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from pipelines.cli import main as main_of_hashbeam

SNIPPETS = 480  # of a track
HALF = 500_000  # tracks: the largest index is merged of two such
AS_LONG = "--minutes 2.01417"  # as 480 snippets of the default model
DAY = "--hours 24 --start-s 180"
PLANS = {
    "keys-1 half": f"--tracks {HALF} {AS_LONG}",
    "keys-1 480M": f"--tracks {2 * HALF} {AS_LONG}",
    "keys-1 100M": f"--tracks 208334 {AS_LONG}",
    "keys-13 10M": f"--tracks 20834 {AS_LONG}",
    "1": f"--tracks 1000000 {AS_LONG} {DAY}",
    "10": f"--tracks 10000000 {AS_LONG} {DAY}",
    "100": f"--tracks 100000000 {AS_LONG} {DAY}",
    "10 of 4 min": f"--tracks 10000000 --minutes 4 {DAY}",
    "100 of 4 min": f"--tracks 100000000 --minutes 4 {DAY}",
}


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
    parser.add_argument("--times", type=int, default=1, help="lookup: the usual probes")
    parser.add_argument("--document", type=Path, help="report: whose tables are written")
    parser.add_argument("--catalog", help="lookup: of the real music, whose files are asked with")
    return parser.parse_args(argv)


def keep(path: Path, found: dict[str, Any]) -> None:
    """Adds figures to the file of results."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results |= found
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """An index of one table, or of all, in stages."""
    import scale_index

    name = args.name or f"{args.tracks}x{args.tables}"
    folder = args.work_dir / name
    figures = scale_index.build(folder, args.real, args.first, args.tracks, SNIPPETS, args.tables)
    return {f"build {name}": figures}


def merge(args: argparse.Namespace) -> dict[str, Any]:
    """The names, merged."""
    import scale_index

    folders = [args.work_dir / name for name in args.names]
    rows = scale_index.rows_of_merge(folders, args.work_dir / "rows")
    figures = scale_index.merge(folders, args.work_dir / args.name)
    return {f"merge {args.name}": figures | {"rows": rows}}


def lookup(args: argparse.Namespace) -> dict[str, Any]:
    """Queries to one index."""
    import scale_index
    import scale_lookup

    (name,) = args.names
    index = str(args.work_dir / name)
    found = scale_index.in_fresh_process(
        scale_lookup.measure, index, args.catalog, args.queries, args.rounds, args.times
    )
    return {f"lookup {name}{'-wide' if args.times > 1 else ''}": found}


def balance(args: argparse.Namespace) -> dict[str, Any]:
    """Codes against codes."""
    import scale_balance

    return {"balance": scale_balance.compare(args.real, SNIPPETS)}


def report(args: argparse.Namespace) -> None:
    """Nothing is measured: what there is goes into the document."""
    import scale_report

    scale_report.write(args.document, json.loads(args.results.read_text()))


def paper(args: argparse.Namespace) -> dict[str, Any]:
    """Elements of the job."""
    import scale_paper

    from hashing.encoders import Hasher

    quantizer = Hasher.load().quantizer
    found = {}
    for millions in scale_paper.MILLIONS:
        size = millions * 1_000_000, SNIPPETS, quantizer
        found[f"{millions}"] = scale_paper.elements(*size) | scale_paper.listings(*size)
    return {"paper": found}


def plan(args: argparse.Namespace) -> dict[str, Any]:
    """`hashbeam plan` of what was built, and of what was not."""
    found = {}
    for name, flags in PLANS.items():
        told = ["--from", args.real]
        if name.startswith("keys-"):
            given = ["--hash-cpu-s", "4", "--table-cpu-s", "0.06"]  # only its bytes are looked at
            told = ["--model", str(args.work_dir / name.split()[0]), *given]
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            if main_of_hashbeam(["plan", *flags.split(), *told, "--json"]):
                raise SystemExit(f"no plan for {flags}")
        found[name] = {**json.loads(text.getvalue()), "flags": flags}
        del found[name]["speeds"]["source"]  # names folders of this machine
    return {"plan": found}


COMMANDS = {
    "balance": balance,
    "build": build,
    "merge": merge,
    "lookup": lookup,
    "paper": paper,
    "plan": plan,
    "report": report,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
