"""What ``hashbeam disambiguate`` can be asked to do: its flags, and their checked values."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable

from hashing.artists.names import NameRules, describe_rules
from hashing.errors import UsageError
from pipelines import io
from pipelines.options import (
    MAX_TRACK_HOURS,
    Checker,
    add_decode_arguments,
    add_detach_argument,
    add_job_arguments,
    workers,
)

# Share of the tracks that may fail. Higher than an index allows: a name can be judged without some
# of its tracks, but where most cannot be heard the catalogue's paths are wrong.
MAX_FAILURES = 0.5
# Fewer tracks of a name are left alone: of two, only one distance is known.
MIN_TRACKS = 3
# Mean confidence of a group's tracks below which its clusters are not applied. Of 750 made-up
# names, by models and at cuts that had met none of their artists, those below had a mean ARI of
# .28, the others .45; of artists who were split for no reason 41 % stood below, and none who were
# left whole (`hashbeam evaluate artists`, models of folds).
MIN_CONFIDENCE = 0.6
LEAST_CUT = 1e-6  # below the rounding of equal embeddings
REPORT_GROUPS = 500  # shown: more than an editor reads, few enough that the page opens at once
SNIPPETS = 300  # to listen to: 10 kB each, so that the page stays below some megabytes


@dataclasses.dataclass(frozen=True)
class DisambiguateOptions:
    """What ``hashbeam disambiguate`` was asked to do.

    Fields: `catalog`, `out`, `index`, `previous`, `model`, `review`, `duplicates` paths or names
    ("" or None: none); `names` only these, `opt_outs` never these; `cut` distance, None: the
    model's; `min_confidence` 0 to 1; `max_failures` share of the tracks; the rest as the flags say.
    """

    catalog: str
    out: str
    index: str = ""
    previous: str = ""
    model: str | None = None
    review: str = ""
    truth: str = ""
    names: tuple[str, ...] = ()
    opt_outs: tuple[str, ...] = ()
    rules: NameRules = dataclasses.field(default_factory=NameRules)
    keep_albums: bool = False
    recluster: bool = False
    cut: float | None = None
    min_tracks: int = MIN_TRACKS
    min_confidence: float = MIN_CONFIDENCE
    report_groups: int = REPORT_GROUPS
    snippets: int = SNIPPETS
    max_failures: float = MAX_FAILURES
    max_track_hours: float = MAX_TRACK_HOURS
    decode_timeout_s: float = 60.0
    workers: int = 1
    json: bool = False
    quiet: bool = False
    progress: bool = False
    duplicates: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam disambiguate``."""
    add = parser.add_argument
    add("--catalog", metavar="C", help="CSV, JSON Lines or Parquet: track_id, uri, artist_name")
    add("--out", metavar="DIR", help="a new folder, or that of an earlier run, brought up to date")
    add(
        "--index",
        metavar="INDEX",
        help="reuse the artist embeddings of an index (made with --also artist) or of a run",
    )
    add("--previous", metavar="DIR", help="the earlier run to go on from where --out has none")
    add("--model", metavar="M", help="a shipped artist model or a model folder (artist)")
    names = parser.add_argument_group("which names")
    add = names.add_argument
    add("--name", metavar="NAME", nargs="+", action="extend", help="only these names")
    add("--opt-out", metavar="NAME", nargs="+", action="extend", help="never these names")
    add("--opt-out-file", metavar="FILE", help="the same, one name a line")
    add(
        "--rule-off",
        metavar="RULE",
        nargs="+",
        action="extend",
        help="rules of names not to follow: " + ", ".join(_rules(True)),
    )
    add(
        "--rule-on",
        metavar="RULE",
        nargs="+",
        action="extend",
        help="rules of names that are off: " + ", ".join(_rules(False)),
    )
    clusters = parser.add_argument_group("clusters")
    add = clusters.add_argument
    add("--keep-albums", action="store_true", help="tracks of one album stay together")
    add(
        "--duplicates",
        metavar="DIR",
        help="what `hashbeam duplicates` wrote: copies of a recording stay together, and are one",
    )
    add("--cut", metavar="D", help="distance at which the tree is cut (the model's own)")
    add(
        "--min-tracks",
        metavar="N",
        default=MIN_TRACKS,
        help="leave names with fewer tracks alone (%(default)s)",
    )
    add(
        "--min-confidence",
        metavar="P",
        default=MIN_CONFIDENCE,
        help="leave names alone whose clusters are less certain, 0 to 1 (%(default)s)",
    )
    add(
        "--recluster",
        action="store_true",
        help="cluster what no editor has decided afresh, not as in the run before",
    )
    judging = parser.add_argument_group("review and report")
    add = judging.add_argument
    add("--review", metavar="FILE", help="decisions that the report exported, JSON or CSV")
    add("--truth", metavar="COLUMN", help="the true artist where it is known: writes metrics.json")
    add(
        "--report-groups",
        metavar="N",
        default=REPORT_GROUPS,
        help="names in the report, the most doubtful first (%(default)s)",
    )
    add(
        "--snippets",
        metavar="N",
        default=SNIPPETS,
        help="tracks in the report to listen to (%(default)s)",
    )
    add(
        "--max-failures",
        metavar="SHARE",
        default=MAX_FAILURES,
        help="share of the tracks that may fail, 0 to 1 (%(default)s)",
    )
    add(
        "--max-track-hours",
        metavar="H",
        default=MAX_TRACK_HOURS,
        help="longer tracks fail (%(default)s)",
    )
    add_decode_arguments(parser)
    add_detach_argument(parser)
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> DisambiguateOptions:
    """The options of ``hashbeam disambiguate``.

    Raises: UsageError that names every flag that is wrong.
    """
    checker = Checker(args)
    rules = NameRules()
    for flag, value in (("--rule-off", False), ("--rule-on", True)):
        for rule in getattr(args, flag[2:].replace("-", "_")) or ():
            if rule in describe_rules():
                rules = dataclasses.replace(rules, **{rule: value})
            else:
                known = ", ".join(describe_rules())
                checker.problems.append(f"{flag}: no rule {rule!r}, use one of {known}")
    opt_outs = list(args.opt_out or ())
    if args.opt_out_file:
        try:
            opt_outs += _lines(args.opt_out_file)
        except UsageError as error:
            checker.problems.append(str(error))
    empty = [flag for flag in ("--name", "--opt-out") if "" in _stripped(args, flag)]
    checker.problems += [f"{flag}: a name is empty" for flag in empty]
    options = DisambiguateOptions(
        catalog=checker.text("--catalog"),
        out=checker.text("--out"),
        duplicates=args.duplicates or "",
        index=args.index or "",
        previous=args.previous or "",
        model=args.model or None,
        review=args.review or "",
        truth=args.truth or "",
        names=tuple(args.name or ()),
        opt_outs=tuple(opt_outs),
        rules=rules,
        keep_albums=args.keep_albums,
        recluster=args.recluster,
        cut=checker.number("--cut", low=LEAST_CUT) if checker.given("--cut") else None,
        min_tracks=checker.integer("--min-tracks", low=1),
        min_confidence=checker.number("--min-confidence", low=0, high=1),
        report_groups=checker.integer("--report-groups", low=0),
        snippets=checker.integer("--snippets", low=0),
        max_failures=checker.number("--max-failures", low=0, high=1),
        max_track_hours=checker.number("--max-track-hours", low=0.001),
        decode_timeout_s=checker.number("--decode-timeout", low=0.1),
        workers=workers(checker),
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
    )
    checker.finish()
    return options


def _rules(default: bool) -> Iterable[str]:
    return (name for name, (on, _) in describe_rules().items() if on is default)


def _stripped(args: argparse.Namespace, flag: str) -> list[str]:
    return [name.strip() for name in getattr(args, flag[2:].replace("-", "_")) or ()]


def _lines(path: str) -> list[str]:
    if io.is_dir(path) or not io.exists(path):
        raise UsageError(f"--opt-out-file: {path} is no file: name one with a name a line")
    try:
        text = io.read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"--opt-out-file: {path} is no text in UTF-8: save it as that") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
