"""Which fold a track is in: by a column of the catalogue, or by a file of ``train artist``.

A file is what two commands have in common when artists are dealt out by chance.
"""

from __future__ import annotations

import csv
import io as text_io
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hashing.errors import CatalogError
from pipelines import io

if TYPE_CHECKING:  # --help does without
    import pyarrow as pa

    from hashing.artists.labels import Labels

FOLD = "{fold}"  # in the name of a model: one for each fold
FILE = "folds.csv"  # beside the models of folds
_COLUMNS = ("track_id", "fold")

# Artists below which a fold cannot have a name of several.
LEAST_OF_A_FOLD = 2


def read_folds(catalog: pa.Table, source: str, fold_by: str) -> list[str]:
    """The fold of each track, "" where it has none; all "" for ``fold_by=""``.

    Args:
        catalog: as from `pipelines.catalog.read_catalog`.
        source: its path, for messages.
        fold_by: a column of it, or a CSV file with the columns ``track_id`` and ``fold``.

    Raises: CatalogError where there is no such column nor file, or the file has other columns or
        no track of the catalogue.

    >>> import pyarrow as pa
    >>> read_folds(pa.table({"track_id": ["x", "y"], "part": [1, None]}), "c.csv", "part")
    ['1', '']
    """
    if not fold_by:
        return [""] * catalog.num_rows
    if fold_by in catalog.column_names:
        return ["" if one is None else str(one) for one in catalog[fold_by].to_pylist()]
    if not io.exists(fold_by) or io.is_dir(fold_by):
        raise CatalogError(
            f"{source}: no column {fold_by!r} (--fold-by), and there is no file of that name"
        )
    with io.local_copy(fold_by) as local:
        try:
            with open(local, newline="", encoding="utf-8") as lines:
                rows = list(csv.DictReader(lines))
        except (UnicodeDecodeError, csv.Error):
            rows = []
    if not rows or not set(_COLUMNS) <= set(rows[0]):
        raise CatalogError(
            f"--fold-by: {fold_by} is no CSV file with the columns {' and '.join(_COLUMNS)}"
        )
    fold = {row["track_id"]: row["fold"] or "" for row in rows}
    found = [fold.get(track, "") for track in catalog["track_id"].to_pylist()]
    if not any(found):
        raise CatalogError(f"--fold-by: {fold_by} has no track of {source}")
    return found


def write_folds(folder: str, track_ids: Sequence[str], folds: Sequence[str]) -> str:
    """Write `FILE` with the tracks that are in a fold; returns its path."""
    text = text_io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(row for row in zip(track_ids, folds, strict=True) if row[1])
    path = io.join(folder, FILE)
    io.write_bytes(path, text.getvalue().encode())
    return path


def folds_beside(model: str) -> str:
    """The file of the folds that models with `FOLD` in their name were trained for; "": none."""
    path = io.join(model.partition(FOLD)[0], FILE)
    return path if io.exists(path) else ""


def check_folds(
    source: str, fold_by: str, labels: Labels, folds: Sequence[str], rows: Sequence[int]
) -> None:
    """Whether every artist is in one fold, and every fold has artists to make names of.

    Args:
        folds: of each track of the catalogue.
        rows: of those that count.

    Raises: CatalogError where not.
    """
    if not fold_by:
        return
    of_artist: dict[str, set[str]] = defaultdict(set)
    members: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        of_artist[labels.artist[row]].add(folds[row])
        members[folds[row]].add(labels.artist[row])
    for artist, found in of_artist.items():
        if len(found) > 1 or "" in found:
            what = "in several folds" if len(found) > 1 else "in no fold"
            raise CatalogError(
                f"{source}: {labels.names[artist]} is {what} of {fold_by}: an artist must be in one"
            )
    small = [name for name, found in members.items() if len(found) < LEAST_OF_A_FOLD]
    if len(members) < 2 or small:
        raise CatalogError(
            f"{source}: {fold_by} must deal the artists into two folds or more of "
            f"{LEAST_OF_A_FOLD} artists or more"
        )
