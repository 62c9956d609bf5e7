"""The flags of ``hashbeam plan``, checked together."""

from __future__ import annotations

import argparse
import dataclasses

from hashing.models import DEFAULT_MODEL
from pipelines.also import ALSO, models_named
from pipelines.footprint import WORKER_BYTES
from pipelines.index_options import add_also_arguments, also_asked, check_models
from pipelines.options import Checker, key_bits
from pipelines.options import workers as cores
from pipelines.planning.estimate import (
    CPU_HOUR_USD,
    GB_HOUR_USD,
    GB_MONTH_USD,
    MAX_WORKERS,
    READ_MB_S,
    Prices,
)
from pipelines.planning.speeds import START_S, VERIFY_CPU_S

# kb/s of files whose size nobody told: what shops and streams mostly have.
BIT_RATE = 256.0
MOST_TRACKS = 10_000_000_000  # a hundred times all music there is: beyond, a typing mistake


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """What ``hashbeam plan`` was asked; None where a flag was left out.

    `also_models` has the model of each thing that is asked for beside codes, by kind.

    Speeds are in CPU seconds: `hash_cpu_s` of an hour of audio, `table_cpu_s` of a million
    postings, `codes_cpu_s` of a million codes read for them, `verify_cpu_s` of a gigabyte.
    """

    tracks: int | None
    minutes: float | None
    catalog: str
    past: str
    measure: bool
    model: str | None
    keep_embeddings: bool
    also_models: dict[str, str]
    key_bits: int | None
    bit_rate: float | None
    hash_cpu_s: float | None
    table_cpu_s: float | None
    codes_cpu_s: float | None
    verify_cpu_s: float | None
    start_s: float | None
    worker_bytes: float | None
    changed: float | None
    workers: int
    hours: float | None
    read_bytes_per_s: float
    prices: Prices
    json: bool
    dataflow: bool = False

    @property
    def measured(self) -> bool:
        """Whether this machine must be measured: nothing else tells all speeds."""
        told = self.hash_cpu_s is not None and self.table_cpu_s is not None
        return self.measure or not (self.past or told)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam plan``."""
    what = parser.add_argument_group("what is to be indexed").add_argument
    what("--tracks", metavar="N", help="so many tracks, of --minutes each")
    what("--minutes", metavar="M", help="mean length of a track, minutes")
    what("--catalog", metavar="C", help="a catalogue: its rows, and its declared_duration_s")
    what("--bit-rate", metavar="KBPS", help=f"of the audio files, kb/s ({BIT_RATE:g})")
    what("--changed", metavar="SHARE", help="reindex: share of the tracks, 0 to 1, that changed")
    how = parser.add_argument_group("how it is indexed").add_argument
    how("--model", metavar="M", help=f"a shipped model or a model folder ({DEFAULT_MODEL})")
    how("--keep-embeddings", action="store_true", help="as `hashbeam index --keep-embeddings`")
    add_also_arguments(how)
    how("--key-bits", metavar="N", default="auto", help="bits of a table's key (by the size)")
    fast = parser.add_argument_group(
        "how fast (a given speed counts before any other)"
    ).add_argument
    fast("--from", dest="past", metavar="INDEX", help="as its run was; the same kind of index")
    fast("--measure", action="store_true", help="as this machine is now (without --from, always)")
    fast("--hash-cpu-s", metavar="S", help="CPU seconds to decode and hash an hour of audio")
    fast("--table-cpu-s", metavar="S", help="CPU seconds to put a million postings into tables")
    fast("--codes-cpu-s", metavar="S", help="CPU seconds to read a million codes for tables")
    fast("--verify-cpu-s", metavar="S", help=f"CPU seconds to check a GB ({VERIFY_CPU_S:g})")
    fast("--start-s", metavar="S", help=f"seconds until workers work ({START_S:g}; Dataflow: 180)")
    fast("--worker-gb", metavar="GB", help=f"memory of a worker ({WORKER_BYTES / 1e9:g}, measured)")
    fast(
        "--read-mb-s",
        metavar="MB",
        default=READ_MB_S,
        help="that one worker reads a second (%(default)g: a stream of an object store)",
    )
    many = parser.add_argument_group("how many workers").add_argument
    many("--workers", metavar="N", help="so many (default: one for each core of this machine)")
    many("--hours", metavar="H", help="as many as end in so many hours")
    cost = parser.add_argument_group(
        "prices, USD: defaults to be replaced by your own"
    ).add_argument
    cost(
        "--price-cpu-hour",
        metavar="USD",
        default=CPU_HOUR_USD,
        help="a vCPU an hour (%(default)s)",
    )
    cost(
        "--price-gb-hour",
        metavar="USD",
        default=GB_HOUR_USD,
        help="a GB of memory an hour (%(default)s)",
    )
    cost(
        "--price-gb-month",
        metavar="USD",
        default=GB_MONTH_USD,
        help="a GB of storage a month (%(default)s)",
    )
    add = parser.add_argument
    add("--dataflow", action="store_true", help="say which machines of Dataflow that takes, too")
    add("--json", action="store_true", help="print the plan as JSON")


def plan_options(args: argparse.Namespace) -> PlanOptions:
    """The options of ``hashbeam plan``.

    Raises: UsageError that names every flag that is wrong.
    """
    checker = Checker(args)
    given = checker.given

    def number(flag: str, low: float, high: float | None = None) -> float | None:
        return checker.number(flag, low=low, high=high) if given(flag) else None

    tracks = None
    if given("--catalog") and given("--tracks"):
        checker.problems.append("--tracks: --catalog tells how many there are; leave one of them")
    elif given("--tracks"):
        tracks = checker.integer("--tracks", low=1, high=MOST_TRACKS)
        if not given("--minutes"):
            checker.problems.append("--minutes: is needed with --tracks")
    elif not given("--catalog"):
        checker.problems.append("--tracks: is needed, or --catalog")
    if given("--workers") and given("--hours"):
        checker.problems.append("--hours: --workers says how many there are; leave one of them")
    if args.past:
        for flag, value in (
            ("--keep-embeddings", args.keep_embeddings),
            ("--also", args.also),
            *((ALSO[name].flag, model) for name, model in models_named(args).items()),
        ):
            if value:
                checker.problems.append(
                    f"{flag}: the plan is for an index like that of --from; leave one of them"
                )
    also = also_asked(checker, args.also or ())
    models = models_named(args)
    if not args.past:
        check_models(checker, also, models)
    gigabytes = number("--worker-gb", 0.01)
    many = cores(checker) if not given("--workers") else 1
    if given("--workers"):
        many = checker.integer("--workers", low=1, high=MAX_WORKERS)
    options = PlanOptions(
        tracks=tracks,
        minutes=number("--minutes", 0.01),
        catalog=args.catalog or "",
        past=args.past or "",
        measure=args.measure,
        model=args.model or None,
        keep_embeddings=args.keep_embeddings,
        also_models={name: models.get(name) or ALSO[name].kind.default_model for name in also},
        key_bits=key_bits(checker),
        bit_rate=number("--bit-rate", 1),
        hash_cpu_s=number("--hash-cpu-s", 1e-6),
        table_cpu_s=number("--table-cpu-s", 1e-9),
        codes_cpu_s=number("--codes-cpu-s", 0),
        verify_cpu_s=number("--verify-cpu-s", 0),
        start_s=number("--start-s", 0),
        worker_bytes=None if gigabytes is None else gigabytes * 1e9,
        changed=number("--changed", 0, 1),
        workers=many,
        hours=number("--hours", 1e-6),
        read_bytes_per_s=checker.number("--read-mb-s", low=0.001) * 1e6,
        prices=Prices(
            *(
                checker.number(f"--price-{name}", low=0)
                for name in ("cpu-hour", "gb-hour", "gb-month")
            )
        ),
        json=args.json,
        dataflow=args.dataflow,
    )
    checker.finish()
    return options
