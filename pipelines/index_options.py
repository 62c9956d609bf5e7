"""What ``hashbeam index`` was asked to do: its flags as checked values."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.also import ALSO, models_named
from pipelines.gates import gate_options
from pipelines.gating.bounds import DEFAULT_BOUNDS, Bounds
from pipelines.options import (
    DECODE_TIMEOUT_S,
    MAX_TRACK_HOURS,
    Checker,
    key_bits,
    workers,
)


@dataclasses.dataclass(frozen=True)
class IndexOptions:
    """What ``hashbeam index`` was asked to do.

    Fields: `catalog`, `out`, `model` paths or names; `workers` processes of the local engine;
    `bounds` of the quality gates; `key_bits` None = by the size of the index; `metrics` a file;
    `max_track_hours` h; `decode_timeout_s` s; `also` names of `pipelines.also.ALSO`, and
    `also_models` their models where they are named; the rest as the flags say.
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
    also_models: Mapping[str, str] = dataclasses.field(default_factory=dict)
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
        also_models=models_named(args),
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
        bounds=gate_options(checker, args.no_gates),
        metrics=args.metrics or "",
    )
    check_models(checker, options.also, options.also_models)
    checker.finish()
    return options


def add_also_arguments(add: Callable[..., Any]) -> None:
    """``--also``, and the flags of the models of its kinds.

    Args:
        add: as `argparse.ArgumentParser.add_argument`.
    """
    what = "; ".join(f"{name}: {one.purpose}" for name, one in ALSO.items())
    add("--also", metavar="WHAT", action="append", help=f"keep of each track, too: {what}")
    for name, one in ALSO.items():
        default = one.kind.default_model
        add(one.flag, metavar="M", help=f"with --also {name}: a shipped model or one's ({default})")


def also_asked(checker: Checker, values: Sequence[str]) -> tuple[str, ...]:
    """What ``--also`` asks for, each once: flags and commas may both separate."""
    asked = [name.strip() for value in values for name in value.split(",")]
    for name in dict.fromkeys(asked):
        if name not in ALSO:
            checker.problems.append(f"--also: must be {' or '.join(ALSO)}, got {name!r}")
    return tuple(name for name in ALSO if name in asked)


def check_models(checker: Checker, also: Sequence[str], models: Mapping[str, str]) -> None:
    """Tells of models that are named for kinds that are not asked for."""
    for name in models:
        if name not in also:
            told = f"is for --also {name}; add that, or leave this out"
            checker.problems.append(f"{ALSO[name].flag}: {told}")
