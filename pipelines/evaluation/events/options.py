"""What ``hashbeam evaluate events`` can be asked to do: its flags, and their checked values."""

from __future__ import annotations

import argparse
import dataclasses

from hashing.events.features import CLIP, CODE_BITS
from hashing.models import DEFAULT_CLIP_MODEL
from pipelines.options import Checker, add_job_arguments, workers

BITS = (8, 16, 24, 32, 64)
SHARES = (0.01, 0.05, 0.1, 0.5, 1.0)
RANKS = (10, 100)


@dataclasses.dataclass(frozen=True)
class EventsOptions:
    """What ``hashbeam evaluate events`` was asked to do.

    Fields: `catalog` with labels; `encoder` a name, folder, .onnx or .parquet; `taxonomy` a file,
    None for the one beside the catalogue, "none" for none; `sample_rate` in Hz, of what an .onnx
    hears; `labelled` the share of known labels in all sections but that of shares; `steps` of
    training, 0 for the usual ones; the rest as the
    flags say.
    """

    catalog: str
    out: str
    work: str
    encoder: str = DEFAULT_CLIP_MODEL
    labels: str | None = None
    taxonomy: str | None = None
    query_fold: str | None = None
    sample_rate: int = CLIP.sample_rate
    bits: tuple[int, ...] = BITS
    shares: tuple[float, ...] = SHARES
    labelled: float = 0.1
    ranks: tuple[int, ...] = RANKS
    steps: int = 0
    sections: tuple[str, ...] = ()
    seed: int = 1
    workers: int = 1
    json: bool = False
    quiet: bool = False
    progress: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam evaluate events``."""
    from pipelines.evaluation.events.jobs import SECTIONS

    add = parser.add_argument
    add("kind", metavar="KIND", help="events")
    add("--catalog", metavar="C", help="labelled clips, with a column share or fold")
    add("--out", metavar="DIR", help="a folder for the figures")
    add("--labels", metavar="COLUMN", help="the labels (default: label, or labels)")
    add(
        "--encoder",
        metavar="E",
        default=DEFAULT_CLIP_MODEL,
        help="embeddings: a clip encoder by name or folder (%(default)s), an ONNX file that hears "
        "samples, or a Parquet file of embeddings",
    )
    add(
        "--sample-rate",
        metavar="HZ",
        default=str(CLIP.sample_rate),
        help="of what an ONNX file hears (%(default)s)",
    )
    add(
        "--taxonomy",
        metavar="T",
        help="parents of labels: a file, or none (default: taxonomy.csv beside the catalogue)",
    )
    add("--query-fold", metavar="F", help="the fold that asks (default: the last)")
    add("--bits", metavar="N", nargs="+", default=[*map(str, BITS)], help="of codes (8 … 64)")
    add(
        "--shares",
        metavar="S",
        nargs="+",
        default=[*map(str, SHARES)],
        help="of the labels that are known, 0 to 1 (0.01 … 1)",
    )
    add("--labelled", metavar="S", default="0.1", help="the same in other sections (%(default)s)")
    add("--at", metavar="R", nargs="+", default=[*map(str, RANKS)], help="R of mAP@R (10 100)")
    add("--steps", metavar="N", help="of training each quantizer (default: the usual)")
    add("--only", metavar="SECTION", nargs="+", default=[], help=f"of {', '.join(SECTIONS)}")
    add("--seed", metavar="N", default="1", help="(default: 1)")
    add("--work", metavar="DIR", default="", help="what was heard and measured (OUT.work)")
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> EventsOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    from pipelines.evaluation.events.jobs import SECTIONS

    checker = Checker(args)
    if args.kind != "events":
        checker.problems.append(f"KIND: must be events, got {args.kind!r}")
    catalog, out = checker.text("--catalog"), checker.text("--out")
    bits = _numbers(checker, "--bits", args.bits, 8, 64)
    if not set(bits) <= set(CODE_BITS):
        checker.problems.append("--bits: must be 8, 16, 24, 32, 48 or 64")
    shares = []
    for text in args.shares:
        try:
            shares.append(float(text))
        except ValueError:
            shares.append(-1.0)
    if not all(0 < share <= 1 for share in shares):
        checker.problems.append("--shares: must be numbers above 0 to 1")
    if unknown := sorted(set(args.only) - set(SECTIONS)):
        checker.problems.append(f"--only: {', '.join(unknown)} is none of {', '.join(SECTIONS)}")
    options = EventsOptions(
        catalog=catalog,
        out=out,
        work=args.work or f"{out.rstrip('/')}.work",
        encoder=args.encoder,
        labels=args.labels or None,
        taxonomy=args.taxonomy or None,
        query_fold=args.query_fold or None,
        bits=tuple(bits),
        shares=tuple(sorted(set(shares))),
        sample_rate=checker.integer("--sample-rate", low=1000, high=384_000),
        labelled=checker.number("--labelled", low=1e-4, high=1),
        ranks=tuple(_numbers(checker, "--at", args.at, 1, 10**9)),
        steps=checker.integer("--steps", low=1, high=10**7) if checker.given("--steps") else 0,
        sections=tuple(dict.fromkeys(args.only)) or tuple(SECTIONS),
        seed=checker.integer("--seed", low=0, high=2**31 - 1),
        workers=workers(checker),
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
    )
    if out:
        checker.folder("--out", out)
        checker.folder("--work", options.work)
    checker.finish()
    return options


def _numbers(checker: Checker, flag: str, texts: list[str], low: int, high: int) -> list[int]:
    """Distinct whole numbers, rising."""
    found = set()
    for text in texts:
        if text.isascii() and text.isdigit() and low <= int(text) <= high:
            found.add(int(text))
        else:
            checker.problems.append(f"{flag}: must be whole numbers from {low} to {high}")
            return [low]
    return sorted(found)
