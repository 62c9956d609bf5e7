"""What must hold of every store, local or not."""

from __future__ import annotations

import pytest

from hashing.errors import HashbeamError
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
