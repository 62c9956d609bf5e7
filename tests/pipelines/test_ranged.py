"""A file behind byte ranges reads like any file, in few requests."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import ranged
from pipelines.ranged import RangedFile

DATA = bytes(range(256)) * 40


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("seek"), st.integers(0, len(DATA) + 9)),
            st.tuples(st.just("read"), st.integers(-1, 3_000)),
            st.tuples(st.just("into"), st.integers(0, 3_000)),
        )
    ),
    size=st.sampled_from([0, 1, 1_000, len(DATA)]),
)
def test_it_reads_as_a_file_in_memory(steps: list[tuple[str, int]], size: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranged, "LEAST_BYTES", 100)
        patched.setattr(ranged, "MOST_BYTES", 700)
        one, other = RangedFile(size, lambda start, end: DATA[start:end]), io.BytesIO(DATA[:size])
        for what, number in steps:
            if what == "seek":
                assert one.seek(number) == other.seek(number)
            elif what == "read":
                assert one.read(number) == other.read(number)
            else:
                found, expected = bytearray(number), bytearray(number)
                assert one.readinto(found) == other.readinto(expected)
                assert found == expected
            assert one.tell() == other.tell()


def test_who_reads_on_is_given_more_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged, "LEAST_BYTES", 10)
    monkeypatch.setattr(ranged, "MOST_BYTES", 80)
    asked: list[tuple[int, int]] = []

    def fetch(start: int, end: int) -> bytes:
        asked.append((start, end))
        return DATA[start:end]

    file = RangedFile(1000, fetch)
    while file.read(5):
        pass
    sizes = [end - start for start, end in asked]
    assert sizes[:5] == [10, 20, 40, 80, 80]
    assert sum(sizes) == 1000
    asked.clear()
    file.seek(500)
    file.read(1)
    assert asked == [(500, 510)]


def test_what_comes_short_is_an_error() -> None:
    with pytest.raises(OSError, match="2 bytes came instead of 3"):
        RangedFile(3, lambda start, end: b"ab").read()
    with pytest.raises(ValueError, match="cannot seek to byte -1"):
        RangedFile(3, lambda start, end: b"abc").seek(-1)
