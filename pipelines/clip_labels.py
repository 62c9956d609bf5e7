"""Labels of clips in a catalogue: which column they are in, and several of one clip."""

from __future__ import annotations

import re

import pyarrow as pa

from hashing.errors import CatalogError
from pipelines.catalog import split_list

# Columns that hold labels where none is named.
USUAL = ("label", "labels")

# Line breaks and other signs without a shape, which a taxonomy refuses.
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def label_column(table: pa.Table, path: str, column: str | None, *, required: bool = True) -> str:
    """The column of labels: the named one, or one of the usual; "" for none.

    Raises: CatalogError where the named one is missing, or where there is none and one is required.
    """
    if column:
        if column not in table.column_names:
            raise CatalogError(
                f"{path}: no column {column!r}; name one with --labels: "
                f"{', '.join(table.column_names)}"
            )
        return column
    found = next((name for name in USUAL if name in table.column_names), "")
    if required and not found:
        raise CatalogError(
            f"{path}: no column {' or '.join(USUAL)}; name that of the labels with --labels: "
            f"{', '.join(table.column_names)}"
        )
    return found


def labels_of(table: pa.Table, column: str) -> list[tuple[str, ...]]:
    """Labels of each row, sorted: a list, or a text with ``;`` between them; () for none.

    What is blank in a label becomes one space.

    >>> labels_of(pa.table({"label": ["dog; bark", None, "rain"]}), "label")
    [('bark', 'dog'), (), ('rain',)]
    """
    found = []
    for value in table[column].to_pylist():
        several = (
            value if isinstance(value, list) else split_list(None if value is None else str(value))
        )
        texts = [_BLANKS.sub(" ", str(one)).strip() for one in several or () if one is not None]
        found.append(tuple(sorted({text for text in texts if text})))
    return found
