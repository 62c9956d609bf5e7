"""What ``hashbeam index`` was asked to do: its flags as checked values."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

from pipelines.gates import gate_options
from pipelines.gating.bounds import DEFAULT_BOUNDS, Bounds
from pipelines.options import (
    DECODE_TIMEOUT_S,
    MAX_TRACK_HOURS,
    Checker,
    key_bits,
    workers,
)

ALSO = ("artist",)  # what an index may hold beside codes: a model of that kind makes it


@dataclasses.dataclass(frozen=True)
class IndexOptions:
    """What ``hashbeam index`` was asked to do.

    Fields: `catalog`, `out`, `model` paths or names; `workers` processes of the local engine;
    `bounds` of the quality gates; `key_bits` None = by the size of the index; `metrics` a file;
    `max_track_hours` h; `decode_timeout_s` s; `also` names of `ALSO`; the rest as the flags say.
    """

    catalog: str
    out: str
    model: str | None
    workers: int
    key_bits: int | None = None
    max_track_hours: float = MAX_TRACK_HOURS
    decode_timeout_s: float = DECODE_TIMEOUT_S
    retry_failed: bool = False
    keep_embeddings: bool = False
    also: tuple[str, ...] = ()
    artist_model: str | None = None
    json: bool = False
    quiet: bool = False
    progress: bool = False
    bounds: Bounds = DEFAULT_BOUNDS
    metrics: str = ""


def index_options(args: argparse.Namespace) -> IndexOptions:
    """The options of ``hashbeam index``.

    Raises: UsageError that names every flag that is wrong.
    """
    checker = Checker(args)
    options = IndexOptions(
        catalog=checker.text("--catalog"),
        out=checker.text("--out"),
        model=args.model or None,
        workers=workers(checker),
        key_bits=key_bits(checker),
        max_track_hours=checker.number("--max-track-hours", low=0.001),
        decode_timeout_s=checker.number("--decode-timeout", low=0.1),
        retry_failed=args.retry_failed,
        keep_embeddings=args.keep_embeddings,
        also=also_asked(checker, args.also or ()),
        artist_model=args.artist_model or None,
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
        bounds=gate_options(checker, args.no_gates),
        metrics=args.metrics or "",
    )
    if options.artist_model and "artist" not in options.also:
        checker.problems.append("--artist-model: is for --also artist; add that, or leave this out")
    checker.finish()
    return options


def also_asked(checker: Checker, values: Sequence[str]) -> tuple[str, ...]:
    """What ``--also`` asks for, each once: flags and commas may both separate."""
    asked = [name.strip() for value in values for name in value.split(",")]
    for name in dict.fromkeys(asked):
        if name == "sequence":
            checker.problems.append("--also: sequence cannot be made yet; leave it out")
        elif name not in ALSO:
            checker.problems.append(f"--also: must be {' or '.join(ALSO)}, got {name!r}")
    return tuple(name for name in ALSO if name in asked)
