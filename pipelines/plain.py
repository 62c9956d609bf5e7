"""Parquet files of codes or embeddings that can be mapped into memory.

Every reader of Parquet reads them as any other file. Beyond that, the values of their last column
lie in the file as they are, row after row: neither compressed nor coded, and the page of a row
group is not cut, so that look-up reads a row where it lies (`hashing.matrix`) and an index needs to
hold it only once.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.errors import HashbeamError
from pipelines import io, parquet
from pipelines.io import FileInfo

# Bytes of the values of a row group: a page of Parquet has 2 GiB at most.
GROUP_BYTES = 1 << 30

# Columns of rising numbers, which shrink to next to nothing as differences.
RISING = ("snippet", "start_ms")


def write_plain(
    path: str, table: pa.Table, metadata: Mapping[str, str], group_bytes: int = GROUP_BYTES
) -> tuple[FileInfo, list[tuple[int, int]]]:
    """Write `table`, whose last column has values of one width and no nulls.

    Returns:
      The file, and of each row group its rows and the place of its first value in the file.

    Raises: HashbeamError where the disk is full or the like, or where values do not lie as they
      should, which a new version of the writer might cause.
    """
    import pyarrow.parquet as pq

    column = table.column_names[-1]
    rows = rows_of(table[column])
    width = rows.shape[1]
    stamped = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    group_rows = max(1, group_bytes // width)
    # Pages have a highest number of rows in newer versions of pyarrow only.
    named = inspect.signature(pq.write_table).parameters
    pages = {"max_rows_per_page": group_rows} if "max_rows_per_page" in named else {}
    footers: list[Any] = []
    sink = pa.BufferOutputStream()
    pq.write_table(
        stamped,
        sink,
        row_group_size=group_rows,
        data_page_size=2 * group_bytes - 1,
        compression={name: "none" if name == column else "zstd" for name in table.column_names},
        use_dictionary=["track_id"],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in RISING},
        metadata_collector=footers,
        **pages,
    )
    data = sink.getvalue()
    groups, first = [], 0
    for number in range(footers[0].num_row_groups):
        group = footers[0].row_group(number)
        chunk = group.column(group.num_columns - 1)
        # Header and levels come before the values, and nothing after them.
        size = group.num_rows * width
        place = chunk.data_page_offset + chunk.total_compressed_size - size
        kept = rows[first : first + group.num_rows]
        found = np.frombuffer(data, np.uint8)[max(0, place) : max(0, place) + size]
        if place < 0 or not np.array_equal(found, kept.reshape(-1)):
            raise HashbeamError(
                f"{path}: values of {column!r} cannot be mapped as pyarrow {pa.__version__} writes "
                "them; install the version of pyarrow that requirements.txt names"
            )
        groups.append((group.num_rows, place))
        first += group.num_rows
    with io.open_write(path) as file:
        file.write(memoryview(data))
    return parquet.with_rows(file.info, table.num_rows), groups


def rows_of(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """The bytes of a column of codes or embeddings, [rows, width].

    >>> rows_of(pa.chunked_array([pa.array([b"ab", b"cd"], pa.binary(2))])).tolist()
    [[97, 98], [99, 100]]
    """
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        width = array.type.list_size * array.type.value_type.bit_width // 8
        values = array.flatten().to_numpy(zero_copy_only=False)
        return np.ascontiguousarray(values).view(np.uint8).reshape(-1, width)
    width = array.type.byte_width
    buffer = array.buffers()[1]
    first = array.offset * width
    return np.frombuffer(buffer, np.uint8, len(array) * width, first).reshape(-1, width)
