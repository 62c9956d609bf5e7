"""Files on ``gs://`` behave like files on a disk: the same tests for both."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest
from store_contract import assert_absent, assert_one_creates, assert_ranges

from hashing.errors import HashbeamError
from pipelines import gcs, io, parquet, stores


def test_files_are_written_read_listed_and_removed(root: str) -> None:
    for name in ("a", "deep/b", "deep/er/c", "deeper/d", "empty.gz"):
        io.write_bytes(io.join(root, name), b"" if name == "empty.gz" else name.encode())
    sizes = {"a": 1, "deep/b": 6, "deep/er/c": 9, "deeper/d": 8, "empty.gz": 0}
    assert io.list_files(root) == io.list_files(root + "/") == sizes
    assert io.list_dir(root) == ["a", "deep", "deeper", "empty.gz"]
    assert io.list_dir(io.join(root, "deep")) == ["b", "er"]
    assert io.read_bytes(io.join(root, "deep/b")) == b"deep/b"
    assert io.read_bytes(io.join(root, "empty.gz")) == b""
    assert io.sha256_file(io.join(root, "empty.gz"))[:8] == "e3b0c442"  # of nothing
    assert io.file_size(io.join(root, "deep/er/c")) == 9
    assert io.exists(root)
    assert io.exists(io.join(root, "deep"))
    assert io.is_dir(io.join(root, "deep"))
    assert not io.is_dir(io.join(root, "a"))
    assert not io.exists(io.join(root, "dee"))
    io.remove(io.join(root, "a"))
    io.remove(io.join(root, "a"))
    io.remove_tree(io.join(root, "deep"))
    assert io.list_dir(root) == ["deeper", "empty.gz"]


def test_what_is_missing_is_none_or_a_line(root: str) -> None:
    assert_absent(io.join(root, "absent"))


def test_a_bucket_that_is_missing_is_a_line(bucket: str) -> None:
    for call in (io.list_files, io.read_bytes, lambda path: io.write_bytes(path, b"x")):
        with pytest.raises(HashbeamError, match=r"gs://no-such-bucket/a: there is no such object"):
            call("gs://no-such-bucket/a")
    with pytest.raises(HashbeamError, match="a path looks like gs://bucket/folder"):
        io.read_bytes("gs://")


def write_half(path: str) -> None:
    with io.open_write(path) as file:
        file.write(bytes(20_000_000))
        raise ZeroDivisionError


def test_a_block_that_raises_leaves_what_stood_there(root: str) -> None:
    path = io.join(root, "a")
    for before in (None, b"old"):
        if before is not None:
            io.write_bytes(path, before)
        with pytest.raises(ZeroDivisionError):
            write_half(path)
        assert io.read_if_exists(path) == before


def test_an_object_that_is_replaced_while_it_is_read_does_not_come_torn(bucket: str) -> None:
    path = f"{bucket}/a"
    io.write_bytes(path, b"1" * 20_000_000)
    with stores.open_read(path) as file:
        assert file.read(10) == b"1" * 10
        io.write_bytes(path, b"2" * 20_000_000)
        with pytest.raises(FileNotFoundError, match="there is no such object"):
            file.read()


def test_ranges(root: str) -> None:
    assert_ranges(io.join(root, "a"))


def test_tables(root: str) -> None:
    table = pa.table({"x": list(range(300_000)), "y": ["a"] * 300_000})
    path = io.join(root, "t.parquet")
    info = parquet.write_table(path, table, metadata={"k": "v"}, row_group_size=50_000)
    assert (info.bytes, info.sha256) == (io.file_size(path), io.sha256_file(path))
    assert parquet.read_table(path).equals(table)
    assert parquet.read_table(path, ["x"], row_groups=[5])["x"].to_pylist()[:1] == [250_000]
    assert parquet.read_metadata(path)["k"] == "v"


def test_a_stamp_is_of_one_file_and_no_other(root: str) -> None:
    path = io.join(root, "a")
    stamp = io.replace_if(path, b"1", None)
    assert stamp is not None
    assert io.replace_if(path, b"2", None) is None
    assert io.read_stamped(path) == io.Stamped(b"1", stamp)
    io.write_bytes(path, b"2")
    io.write_bytes(path, b"1")  # what it said before, and another file all the same
    assert io.replace_if(path, b"3", stamp) is None
    assert not io.remove_if(path, stamp)
    assert io.read_bytes(path) == b"1"
    found = io.read_stamped(path)
    assert found is not None
    later = io.replace_if(path, b"4", found.stamp)
    assert later is not None
    assert io.remove_if(path, later)
    assert not io.remove_if(path, later)
    assert io.replace_if(path, b"5", later) is None
    assert io.list_files(root) == {}


@pytest.mark.parametrize("attempt", range(3))
def test_of_many_writers_exactly_one_wins_every_time(root: str, attempt: int) -> None:
    """Eight writers add one to a number fifty times in all: none of the steps is lost."""
    path, start, lost = io.join(root, "n"), threading.Barrier(8), []
    io.write_bytes(path, b"0")

    def count() -> None:
        start.wait()
        while True:
            found = io.read_stamped(path)
            assert found is not None
            if found.data == b"50":
                return
            if io.replace_if(path, str(int(found.data) + 1).encode(), found.stamp) is None:
                lost.append(found.data)
            else:
                won.append(int(found.data) + 1)

    won: list[int] = []
    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(1, 51))
    assert lost  # else they never met


def test_of_many_writers_exactly_one_creates(root: str) -> None:
    assert_one_creates(io.join(root, "a"))


def test_the_marks_that_consoles_leave_are_no_files(bucket: str) -> None:
    gcs.client().bucket(bucket.removeprefix("gs://")).blob("f/").upload_from_string(b"")
    assert io.list_files(f"{bucket}/f") == {}
    assert not io.is_dir(f"{bucket}/f")
    assert io.list_dir(f"{bucket}/f") == []
