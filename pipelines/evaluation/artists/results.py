"""What ``hashbeam evaluate artists`` writes: figures, the groups and their tracks, the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.artists.homonyms import Group
from pipelines import io, parquet
from pipelines.evaluation.artists.clusters import Measured
from pipelines.evaluation.artists.material import Material
from pipelines.evaluation.artists.trees import FIGURES
from pipelines.report.artist_page import artist_page
from pipelines.track_tables import FAILURES

FORMAT_VERSION = 1  # of figures.json and the tables


def write_results(
    out: str,
    figures: dict[str, Any],
    groups: Sequence[Group],
    measured: Sequence[Measured],
    material: Material,
    failures: Sequence[Mapping[str, str]],
) -> None:
    """Writes into a folder; the page last, so that what it points to is there."""
    stamp = {"hashbeam_format": str(FORMAT_VERSION)}
    for name, table in (
        ("groups", groups_table(groups, measured, material)),
        ("members", members_table(groups, material)),
    ):
        parquet.write_table(io.join(out, f"{name}.parquet"), table, metadata=stamp)
    table = pa.Table.from_pylist([dict(row) for row in failures], schema=FAILURES)
    parquet.write_table(io.join(out, "failures", "part-00000.parquet"), table)
    io.write_bytes(io.join(out, "figures.json"), json.dumps(figures, indent=1).encode() + b"\n")
    page = artist_page(figures)
    io.write_bytes(io.join(out, "report.html"), page.encode() + b"\n")


def groups_table(
    groups: Sequence[Group], measured: Sequence[Measured], material: Material
) -> pa.Table:
    """A row for each group and system: what the group is, the cut, and all figures."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("system", *_facts(0, groups[0], material))
    }
    columns |= {name: [] for name in ("cut", *FIGURES)}
    for one in measured:
        for number, group in enumerate(groups):
            facts = {"system": one.name, **_facts(number, group, material)}
            cut = None if one.cuts is None else float(one.cuts[number])
            values = dict(zip(FIGURES, one.figures[number].tolist(), strict=True))
            for name, value in {**facts, "cut": cut, **values}.items():
                columns[name].append(value)
    columns["clusters"] = [int(one) for one in columns["clusters"]]
    columns["whole"] = [bool(one) for one in columns["whole"]]
    return pa.table({**columns, "cut": pa.array(columns["cut"], pa.float64())})


def members_table(groups: Sequence[Group], material: Material) -> pa.Table:
    """A row for each track of each group: its artist."""
    number = np.repeat(np.arange(len(groups)), [len(group.rows) for group in groups])
    rows = np.concatenate([group.rows for group in groups])
    return pa.table(
        {
            "group": pa.array(number, pa.int32()),
            "track_id": pa.array(material.track_ids).take(pa.array(rows)),
            "artist": pa.array(material.names).take(pa.array(material.artist[rows])),
        }
    )


def _facts(number: int, group: Group, material: Material) -> dict[str, Any]:
    return {
        "group": number,
        "kind": group.kind,
        "seed": group.seed,
        "fold": group.fold,
        "artists": [material.names[one] for one in group.artists],
        "tracks": len(group.rows),
    }
