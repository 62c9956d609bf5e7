"""Files appear whole or not at all, on disk and in an object store; failures are one line."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import memory_store
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_contract import assert_absent, assert_one_creates, assert_ranges

from hashing.errors import HashbeamError, IndexFormatError
from pipelines import io, parquet, stores

# FIPS 180-2, appendix B.1: the digest of "abc".
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture(params=["disk", "object store"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place to write to, of both kinds."""
    memory_store.OBJECTS.clear()
    memory_store.FAIL_WRITES.clear()
    return str(tmp_path) if request.param == "disk" else "mem://bucket/folder"


def test_what_is_written_is_read_back_with_its_known_checksum(root: str) -> None:
    path = io.join(root, "new", "deep", "a.gz")  # the name must not make Beam unpack it
    assert io.write_bytes(path, b"abc") == io.FileInfo(path, 3, ABC)
    assert io.read_bytes(path) == io.read_if_exists(path) == b"abc"
    assert io.sha256_file(path) == ABC
    assert io.file_size(path) == 3
    assert io.exists(path)
    assert io.is_dir(io.join(root, "new"))
    assert not io.is_dir(path)


def test_what_is_missing_is_none_or_an_error_that_names_it(root: str) -> None:
    assert_absent(io.join(root, "absent"))


def test_listing_and_removing(root: str) -> None:
    for name in ("a", "deep/b", "deep/er/c"):
        io.write_bytes(io.join(root, name), name.encode())
    assert io.list_files(root) == {"a": 1, "deep/b": 6, "deep/er/c": 9}
    assert io.list_dir(root) == ["a", "deep"]
    io.remove(io.join(root, "a"))
    io.remove(io.join(root, "a"))
    io.remove_tree(io.join(root, "deep"))
    io.remove_tree(io.join(root, "deep"))
    assert io.list_dir(root) == []
    assert not io.exists(io.join(root, "deep"))


def write_half(path: str) -> None:
    with io.open_write(path) as file:
        file.write(b"half")
        raise ZeroDivisionError


def test_a_block_that_raises_leaves_what_stood_there(root: str) -> None:
    path = io.join(root, "a")
    for before in (None, b"old"):
        if before is not None and not io.is_remote(root):
            io.write_bytes(path, before)
        with pytest.raises(ZeroDivisionError):
            write_half(path)
        # An upload cannot be given up: it has replaced the old object, and is then taken away.
        assert io.read_if_exists(path) == (None if io.is_remote(root) else before)
    assert [name for name in io.list_dir(root) if name != "a"] == []


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(root: str) -> None:
    path = io.join(root, "a")
    io.write_bytes(path, b"old")
    with io.open_write(path) as file:
        file.write(b"new and longer")
        assert io.read_bytes(path) == b"old"
    assert io.read_bytes(path) == b"new and longer"


@given(pieces=st.lists(st.binary(max_size=50)))
def test_pieces_add_up(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    path = str(tmp_path_factory.getbasetemp() / "pieces")
    with io.open_write(path) as file:
        assert [file.write(piece) for piece in pieces] == [len(piece) for piece in pieces]
    whole = b"".join(pieces)
    assert file.info == io.FileInfo(path, len(whole), hashlib.sha256(whole).hexdigest())
    assert io.read_bytes(path) == whole


def test_arrays_are_written_as_their_bytes(tmp_path: Path) -> None:
    array = np.arange(6, dtype="<u4").reshape(2, 3)
    with io.open_write(str(tmp_path / "a")) as file:
        assert file.write(array) == 24
        assert file.write(array[:0]) == 0
    assert (tmp_path / "a").read_bytes() == array.tobytes()


def test_files_have_the_permissions_of_usual_files(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    io.write_bytes(str(tmp_path / "a"), b"")
    io.create_exclusive(str(tmp_path / "b"), b"")
    modes = {stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("usual", "a", "b")}
    assert len(modes) == 1


def test_the_data_and_the_name_are_synced_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, os.replace

    def recorded_sync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        calls.append("sync folder" if is_folder else "sync file")
        sync(descriptor)

    def recorded_replace(source: str, target: str) -> None:
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    io.write_bytes(str(tmp_path / "a"), b"abc")
    assert calls == ["sync file", "replace", "sync folder"]
    calls.clear()
    io.write_bytes(str(tmp_path / "new" / "a"), b"abc")
    assert calls == ["sync folder", "sync file", "replace", "sync folder"]


def test_exclusive_creation_keeps_the_first(root: str) -> None:
    path = io.join(root, "a")
    assert io.create_exclusive(path, b"first")
    assert not io.create_exclusive(path, b"second")
    assert io.read_bytes(path) == b"first"
    with pytest.raises(HashbeamError, match="exists already: name another path"):
        io.write_bytes(path, b"third", overwrite=False)
    assert io.write_bytes(io.join(root, "b"), b"abc", overwrite=False).sha256 == ABC
    assert io.list_dir(root) == ["a", "b"]


def test_a_file_is_replaced_only_if_it_is_the_one_that_was_read(root: str) -> None:
    path = io.join(root, "new", "a")
    assert io.read_stamped(path) is None
    stamp = io.replace_if(path, b"1", None)
    assert stamp is not None
    assert io.replace_if(path, b"2", None) is None
    assert io.read_stamped(path) == io.Stamped(b"1", stamp)
    later = io.replace_if(path, b"22", stamp)
    assert later is not None
    assert io.replace_if(path, b"3", stamp) is None
    assert not io.remove_if(path, stamp)
    assert io.read_bytes(path) == b"22"
    assert io.remove_if(path, later)
    assert not io.remove_if(path, later)
    assert io.replace_if(path, b"3", later) is None
    assert io.list_files(root) == {}


def test_of_many_writers_exactly_one_replaces_every_time(tmp_path: Path) -> None:
    """Six writers add one to a number thirty times in all: none of the steps is lost."""
    path, start, won = str(tmp_path / "n"), threading.Barrier(6), []
    io.write_bytes(path, b"0")

    def count() -> None:
        start.wait()
        while (found := io.read_stamped(path)) is not None and found.data != b"30":
            step = int(found.data) + 1
            if io.replace_if(path, str(step).encode(), found.stamp) is not None:
                won.append(step)

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(1, 31))
    assert os.listdir(tmp_path) == ["n"]


def test_many_files_are_read_and_removed(root: str) -> None:
    paths = [io.join(root, str(number)) for number in range(40)]
    for path in paths[::2]:
        io.write_bytes(path, path.encode())
    assert io.read_all(paths) == [
        None if number % 2 else path.encode() for number, path in enumerate(paths)
    ]
    io.remove_all(paths)
    assert io.list_files(root) == {}


@pytest.mark.parametrize("hard_links", [True, False])
def test_of_many_writers_exactly_one_creates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    if not hard_links:

        def refuse(source: str, target: str) -> None:
            raise PermissionError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    assert_one_creates(str(tmp_path / "a"))
    assert os.listdir(tmp_path) == ["a"]


def test_ranges(root: str) -> None:
    assert_ranges(io.join(root, "a"))


def test_a_limit_of_file_sizes_is_one_line_and_leaves_no_half_file(tmp_path: Path) -> None:
    """A real refusal by the kernel, in a process of its own: the limit is for a whole process."""
    (tmp_path / "kept").write_bytes(b"old")
    program = (
        "import sys\n"
        "from hashing.errors import HashbeamError\n"
        "from pipelines import io\n"
        "for name in ('new', 'kept'):\n"
        "    try:\n"
        "        io.write_bytes(f'{sys.argv[1]}/{name}', bytes(100_000))\n"
        "    except HashbeamError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
        env={**os.environ, "PYTHONPATH": str(Path(io.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"cannot write {tmp_path}/new: File too large; raise the limit")
    assert lines[0].endswith("run the same command again: finished parts are kept")
    assert os.listdir(tmp_path) == ["kept"]
    assert (tmp_path / "kept").read_bytes() == b"old"


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new file is the kernel's own full device: it opens, and takes no byte."""
    real = os.open

    def open_full(path: str, flags: int, *args: int) -> int:
        return real("/dev/full", os.O_WRONLY) if flags & os.O_CREAT else real(path, flags, *args)

    monkeypatch.setattr(os, "open", open_full)
    monkeypatch.setattr(os, "unlink", lambda path: None)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("size", [10, 10_000_000])
@pytest.mark.parametrize("way", ["bytes", "exclusive", "table"])
def test_a_full_disk_is_one_line_with_the_remedy(tmp_path: Path, size: int, way: str) -> None:
    path = str(tmp_path / "a")
    table = pa.table({"x": np.random.default_rng(1).random(size // 8)})
    write: dict[str, Callable[[], object]] = {
        "bytes": lambda: io.write_bytes(path, bytes(size)),
        "exclusive": lambda: io.create_exclusive(path, bytes(size)),
        "table": lambda: parquet.write_table(path, table),
    }
    with pytest.raises(HashbeamError) as caught:
        write[way]()
    assert str(caught.value) == (
        f"cannot write {path}: No space left on device; "
        "free space and run the same command again: finished parts are kept"
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "make the folder writable, or name another one"),
        (errno.EROFS, "name a folder on a file system that can be written"),
        (errno.EDQUOT, "finished parts are kept"),
        (errno.EIO, "check the path, its device or network"),
    ],
)
def test_other_refusals_name_their_remedy(number: int, remedy: str) -> None:
    with pytest.raises(HashbeamError) as caught, stores.writing("out/a"):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(f"cannot write out/a: {os.strerror(number)}; ")
    assert remedy in str(caught.value)


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("file/a", "file/deep/a"):
        with pytest.raises(HashbeamError, match="a file stands where a folder is needed"):
            io.write_bytes(str(tmp_path / name), b"")
    with pytest.raises(HashbeamError, match="a folder stands where a file is needed"):
        io.write_bytes(str(tmp_path), b"")
    assert os.listdir(tmp_path) == ["file"]


def test_errors_of_the_block_itself_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), io.open_write(str(tmp_path / "a")) as file:
        file.write((tmp_path / "absent").read_bytes())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("before", [{}, {"mem://b/a": b"old"}])
def test_a_lost_connection_loses_nothing_and_names_the_path(before: dict[str, bytes]) -> None:
    memory_store.OBJECTS.clear()
    memory_store.OBJECTS.update(before)
    memory_store.FAIL_WRITES.append("connection lost")
    with pytest.raises(HashbeamError, match=r"cannot write mem://b/a: connection lost.*; check"):
        io.write_bytes("mem://b/a", b"abc")
    assert dict(memory_store.OBJECTS) == before
    assert io.write_bytes("mem://b/a", b"abc").sha256 == ABC


def test_an_unknown_scheme_is_one_line() -> None:
    with pytest.raises(HashbeamError, match="cannot read nosuch://b/a: ") as caught:
        io.read_bytes("nosuch://b/a")
    assert "\n" not in str(caught.value)


def test_local_copies(root: str) -> None:
    path = io.join(root, "a.mp3")
    io.write_bytes(path, b"abc")
    with io.local_copy(path) as copy:
        assert copy.endswith(".mp3")
        assert Path(copy).read_bytes() == b"abc"
        remote = copy != path
    assert os.path.exists(copy) != remote == io.is_remote(root)
    if remote:
        copy_of_two = io.local_copy(path, max_bytes=2)
        with (
            pytest.raises(HashbeamError, match=r"a\.mp3 has 3 bytes or more, and 2 at"),
            copy_of_two,
        ):
            raise AssertionError("not reached")


def test_a_file_url_is_a_local_path(tmp_path: Path) -> None:
    io.write_bytes(f"file://{tmp_path}/a", b"abc")
    assert io.list_files(f"file://{tmp_path}") == {"a": 3}
    assert (tmp_path / "a").read_bytes() == b"abc"


CODES = pa.table(
    {
        "track_id": ["a", "a", "b"],
        "snippet": pa.array([0, 1, 0], pa.int32()),
        "code": pa.array([b"\x01\x02", b"\x03\x04", b"\x05\x06"], pa.binary(2)),
    }
)


def test_tables_come_back_with_their_metadata(root: str) -> None:
    path = io.join(root, "part.parquet")
    info = parquet.write_table(
        path,
        CODES,
        metadata={"hasher_digest": "abc"},
        row_group_size=2,
        compression={"code": "none", "track_id": "zstd", "snippet": "zstd"},
        use_dictionary=["track_id"],
    )
    assert (info.rows, info.bytes, info.sha256) == (3, io.file_size(path), io.sha256_file(path))
    assert parquet.read_table(path).equals(CODES)
    assert parquet.read_table(path, ["snippet"]).column_names == ["snippet"]
    assert parquet.read_table(path, ["track_id"], row_groups=[1]).to_pydict() == {"track_id": ["b"]}
    assert parquet.read_metadata(path)["hasher_digest"] == "abc"
    with pytest.raises(IndexFormatError, match="has no column nosuch; run `hashbeam verify`"):
        parquet.read_table(path, ["nosuch"])
    with pytest.raises(IndexFormatError, match="not a whole Parquet file"):
        parquet.read_table(path, row_groups=[2])


@pytest.mark.parametrize("keep", [0, 1, 4, 100, -1, -8])
def test_a_cut_table_is_named(root: str, keep: int) -> None:
    path = io.join(root, "part.parquet")
    parquet.write_table(path, CODES)
    io.write_bytes(path, io.read_bytes(path)[:keep])
    for read in (parquet.read_table, parquet.read_metadata):
        with pytest.raises(IndexFormatError, match=r"part\.parquet is not a whole Parquet") as e:
            read(path)
        assert "\n" not in str(e.value)


def test_a_table_with_a_flipped_byte_never_crashes(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    parquet.write_table(str(path), CODES)
    data = path.read_bytes()
    refused = 0
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
        try:
            parquet.read_table(str(path))
        except IndexFormatError:
            refused += 1
    assert refused > len(data) / 4  # the rest is for the checksums of the manifest to find


def test_local_files_need_no_beam(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pipelines import io\n"
        "io.write_bytes(sys.argv[1], b'abc')\n"
        "assert io.read_bytes(sys.argv[1]) == b'abc'\n"
        "slow = {'apache_beam', 'pyarrow', 'numpy', 'tempfile'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a")],
        env={**os.environ, "PYTHONPATH": str(Path(io.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
