"""The indexes that an evaluation asks: those that were named, or one made for each model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from hashing.models import DEFAULT_MODEL
from pipelines import parquet
from pipelines.evaluation.options import EvaluateOptions
from pipelines.evaluation.questions import leave_out
from pipelines.evaluation.systems import OpenedIndex
from pipelines.gates import NO_GATES
from pipelines.index_options import IndexOptions


def trial_indexes(
    options: EvaluateOptions,
    catalog: pa.Table,
    asked: set[str],
    scratch: str,
    beam_args: Sequence[str],
) -> list[OpenedIndex]:
    """Open the indexes that were named, or make one for each model of what is not left out.

    Args:
        asked: ids of the tracks that queries are cut from; of these some are left out.
        scratch: a folder for the indexes that are made.
    """
    models: Sequence[str | None] = options.models or [None] * max(1, len(options.indexes))
    if options.indexes:
        paths: Sequence[str] = options.indexes
        otherwise = [Path(path.rstrip("/")).name for path in paths]
    else:
        paths = [f"{scratch}/{number}" for number in range(len(models))]
        otherwise = [model or DEFAULT_MODEL for model in models]
        kept = kept_rows(catalog.to_pylist(), asked, options)
        parquet.write_table(f"{scratch}/catalog.parquet", catalog.take(pa.array(kept)))
        for model, path in zip(models, paths, strict=True):
            _make_index(options, f"{scratch}/catalog.parquet", model, path, beam_args)
    opened = [OpenedIndex(path, model) for path, model in zip(paths, models, strict=True)]
    names = distinct_names([one.searcher.hasher.model.name for one in opened], otherwise)
    for index, name in zip(opened, names, strict=True):
        index.name = name
    return opened


def distinct_names(names: Sequence[str], otherwise: Sequence[str]) -> list[str]:
    """Every name once: those of several get what stands in `otherwise` too, or their place.

    >>> distinct_names(["a", "b", "b"], ["x", "y", "z"]), distinct_names(["a", "a"], ["x", "x"])
    (['a', 'b (y)', 'b (z)'], ['a (1)', 'a (2)'])
    """
    for more in (otherwise, [str(number) for number in range(1, len(names) + 1)]):
        counts = Counter(names)
        longer = [
            name if counts[name] == 1 else f"{name} ({other})"
            for name, other in zip(names, more, strict=True)
        ]
        if len(set(longer)) == len(longer):
            break
    return longer


def group_of(row: dict[str, Any], column: str) -> str:
    """What tells groups of tracks apart: what the column says, or the track itself.

    >>> group_of({"track_id": "a", "work": "w"}, "work"), group_of({"track_id": "a"}, "work")
    ("work='w'", 'a')
    """
    value = row.get(column)
    return f"{column}={value!r}" if value else str(row["track_id"])


def kept_rows(
    rows: Sequence[dict[str, Any]], asked: set[str], options: EvaluateOptions
) -> list[int]:
    """Numbers of the rows that are indexed; what is left out goes in groups, as a whole.

    Groups are tracks that agree in ``--left-out-by``, or in ``--same``, or in both by a chain of
    them: versions of one recording stay together even where they are on two albums.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            name = above
        return name

    for row in rows:
        for column in (options.left_out_by, options.same):
            parent[root(group_of(row, column))] = root(f"track {row['track_id']}")
    groups = [root(f"track {row['track_id']}") for row in rows]
    candidates = [
        group for row, group in zip(rows, groups, strict=True) if row["track_id"] in asked
    ]
    out = {candidates[i] for i in leave_out(candidates, options.left_out, options.seed)}
    return [number for number, group in enumerate(groups) if group not in out]


def _make_index(
    options: EvaluateOptions, catalog: str, model: str | None, index: str, beam_args: Sequence[str]
) -> None:
    from pipelines.index import build_index

    build_index(
        IndexOptions(
            catalog=catalog,
            out=index,
            model=model,
            workers=options.workers,
            bounds=NO_GATES,
            key_bits=options.key_bits,
            keep_embeddings=options.keep_embeddings,
            quiet=options.quiet,
            progress=options.progress,
        ),
        beam_args,
    )
