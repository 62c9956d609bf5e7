"""What must hold of every store, local or not."""

from __future__ import annotations

import threading

import pytest

from hashing.errors import HashbeamError, IndexFormatError
from pipelines import io, parquet


def assert_absent(path: str) -> None:
    """Nothing of this name is there: looking says so, reading is one line that names it."""
    assert io.read_if_exists(path) is None
    assert io.read_stamped(path) is None
    assert io.file_size(path) is None
    assert not io.exists(path)
    assert io.list_dir(path) == []
    assert io.list_files(path) == {}
    for read in (io.read_bytes, io.sha256_file, parquet.read_table, parquet.read_metadata):
        with pytest.raises(HashbeamError, match=r"cannot read .*absent: .*; check") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def assert_ranges(path: str) -> None:
    """Parts of a file are read; what it lacks is told."""
    io.write_bytes(path, bytes(range(100)))
    assert io.read_range(path, 10, 3) == b"\x0a\x0b\x0c"
    assert io.read_range(path, 100, 0) == b""
    for start, found in ((98, 2), (200, 0)):
        told = f"truncated: 3 bytes wanted at {start}, {found} found"
        with pytest.raises(IndexFormatError, match=told):
            io.read_range(path, start, 3)


def assert_one_creates(path: str) -> None:
    """Of eight writers exactly one creates a file, and what it wrote is there."""
    start, won = threading.Barrier(8), list[int]()

    def create(number: int) -> None:
        start.wait()
        if io.create_exclusive(path, str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert io.read_bytes(path) == str(won[0]).encode()
