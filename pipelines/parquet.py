"""Arrow tables as Parquet files, in and out, on every store that `pipelines.io` reaches."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hashing.errors import IndexFormatError
from pipelines import io, stores
from pipelines.io import FileInfo
from pipelines.stores import reading

if TYPE_CHECKING:
    import pyarrow as pa


def write_table(
    path: str,
    table: pa.Table,
    *,
    metadata: Mapping[str, str] | None = None,
    row_group_size: int | None = None,
    compression: str | dict[str, str] = "zstd",
    use_dictionary: bool | list[str] = True,
) -> FileInfo:
    """Writes an Arrow table as Parquet with `metadata` in its schema; the info tells its rows.

    `compression` and `use_dictionary` may be given by column: packed codes shrink by neither.
    """
    import pyarrow.parquet as pq

    stamped = {**(table.schema.metadata or {}), **(metadata or {})}
    with io.open_write(path) as file:
        pq.write_table(
            table.replace_schema_metadata(stamped),
            file,
            row_group_size=row_group_size,
            compression=compression,
            use_dictionary=use_dictionary,
        )
    return with_rows(file.info, table.num_rows)


def with_rows(info: FileInfo, rows: int) -> FileInfo:
    """`info` of a file that holds so many rows."""
    return dataclasses.replace(info, rows=rows)


def read_table(
    path: str,
    columns: Sequence[str] | None = None,
    *,
    row_groups: Sequence[int] | None = None,
    small: bool = False,
) -> pa.Table:
    """A Parquet file, or some of its columns and row groups, as an Arrow table.

    A `small` file is fetched whole and unpacked by one thread: of thousands, each takes a third of
    the time.

    Raises: IndexFormatError where it is damaged; HashbeamError where it cannot be read.
    """
    with _parquet(path, small=small) as file:
        names = None if columns is None else list(columns)
        missing = set(names or []) - set(file.schema_arrow.names)
        if missing:
            raise IndexFormatError(
                f"{path} has no column {', '.join(sorted(missing))}; "
                "run `hashbeam verify` on the index"
            )
        if row_groups is None:
            return file.read(columns=names, use_threads=not small)
        return file.read_row_groups(list(row_groups), columns=names, use_threads=not small)


def read_metadata(path: str) -> dict[str, str]:
    """What `write_table` put into the schema of a Parquet file."""
    with _parquet(path) as file:
        found = file.schema_arrow.metadata or {}
        return {key.decode(): value.decode() for key, value in found.items()}


@contextlib.contextmanager
def _parquet(path: str, *, small: bool = False) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def opened() -> Any:
        return pa.BufferReader(io.read_bytes(path)) if small else stores.open_read(path)

    with reading(path), opened() as source:
        try:
            with pq.ParquetFile(source) as file:
                yield file
        except (OSError, ValueError, pa.ArrowException) as error:
            if getattr(error, "errno", None) is not None:
                raise  # the store's own complaint; Arrow's about the content bear no number
            reason = str(error).splitlines()[0]
            raise IndexFormatError(
                f"{path} is not a whole Parquet file ({reason}); run `hashbeam verify` on the index"
            ) from error
