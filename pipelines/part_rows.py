"""The rows that a job goes through, cut into parts for its workers.

A part is a row group, and a file has `PARTS_A_FILE` of them: whoever reads the rows of one part
reads the footer of its file, too, which must not grow with the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from pipelines import io, parquet

PARTS_A_FILE = 64  # whose footer has some 100 kB


def rows_path(folder: str, file: int) -> str:
    """Where a job keeps the rows of parts from ``file * PARTS_A_FILE`` on; most jobs have one."""
    return io.join(folder, f"catalog-{file:05d}.parquet" if file else "catalog.parquet")


def write_rows(folder: str, tables: Iterable[pa.Table], schema: pa.Schema, per_part: int) -> None:
    """Writes rows, which come in pieces of any size, `per_part` of them to a part.

    One file's are in memory.

    Args:
        folder: what only the job needs, such as `Run.work`.
    """
    size, file = per_part * PARTS_A_FILE, 0
    waiting = schema.empty_table()
    for table in tables:
        waiting = pa.concat_tables([waiting, table])
        while waiting.num_rows > size:
            _write(folder, file, waiting.slice(0, size), per_part)
            waiting, file = waiting.slice(size), file + 1
    _write(folder, file, waiting, per_part)


def _write(folder: str, file: int, rows: pa.Table, per_part: int) -> None:
    parquet.write_table(rows_path(folder, file), rows, row_group_size=per_part)


def has_rows(folder: str, n_parts: int) -> bool:
    """Whether all have been written: the last file is written last."""
    return io.exists(rows_path(folder, _files(n_parts) - 1))


def read_rows(folder: str, number: int) -> pa.Table:
    """The rows of the part `number`, counted from 0.

    Raises: IndexFormatError where they are damaged; HashbeamError where they cannot be read.
    """
    file, group = divmod(number, PARTS_A_FILE)
    return parquet.read_table(rows_path(folder, file), row_groups=[group])


def read_all(folder: str, n_parts: int, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Columns of all rows, a file at a time; errors as `read_rows`."""
    for file in range(_files(n_parts)):
        yield parquet.read_table(rows_path(folder, file), columns)


def _files(n_parts: int) -> int:
    return max(1, -(-n_parts // PARTS_A_FILE))
