"""Parts of a file are what stands there in the whole file, in every format."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hashing import audio, excerpts
from hashing.errors import AudioError
from hashing.synthesis import render_track

RATE = 22050
SECONDS = 30.0


def some(duration_s: float) -> list[tuple[float, float]]:
    return [(0.0, 1.0), (7.3, 2.0), (duration_s - 1.5, 1.5)]


Encoded = Callable[[str], str]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    """By codec: a file of music that is encoded once; not to be changed."""
    mono = render_track(1, SECONDS, 44100)
    music = np.stack([mono, np.roll(mono, 300) * 0.5], axis=1)
    folder = tmp_path_factory.mktemp("encoded")

    @functools.cache
    def encode(codec: str) -> str:
        path = str(folder / f"a.{codec}")
        audio.encode(music, 44100, path, codec=codec)
        return path

    return encode


@pytest.mark.parametrize("codec", ["wav", "flac", "ogg", "opus", "m4a", "mp3"])
def test_parts_are_those_of_the_whole(encoded: Encoded, codec: str) -> None:
    path = encoded(codec)
    whole = audio.decode(path, RATE)
    found = excerpts.decode_excerpts(path, RATE, some)
    assert found.duration_s == pytest.approx(whole.size / RATE, abs=0.05)
    assert [part.size for part in found.parts] == [RATE, 2 * RATE, round(1.5 * RATE)]
    for part, (start, _) in zip(found.parts, some(found.duration_s), strict=True):
        first = round(start * RATE)
        there = whole[first : first + part.size]
        error = np.abs(part[: there.size] - there)[50:-50]
        assert error.max() < 0.01 * np.abs(there).max()


@pytest.mark.parametrize("codec", ["wav", "flac", "ogg", "opus"])
def test_what_is_not_wanted_is_not_decoded(
    encoded: Encoded, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encoded(codec)
    decoded: list[float] = []
    real = audio.decode

    def watched(name: str, rate: int, **options: float) -> np.ndarray:
        decoded.append(options.get("duration_s", SECONDS))
        return real(name, rate, **options)

    monkeypatch.setattr(audio, "decode", watched)
    excerpts.decode_excerpts(path, RATE, some)
    assert sum(decoded) <= 4.5


def test_where_most_is_wanted_all_is_decoded(encoded: Encoded) -> None:
    path = encoded("ogg")
    whole = audio.decode(path, RATE)
    found = excerpts.decode_excerpts(path, RATE, lambda s: [(0.0, 14.0), (15.0, 14.0)])
    np.testing.assert_array_equal(found.parts[1], whole[15 * RATE : 29 * RATE])


@pytest.mark.parametrize("codec", ["ogg", "mp3", "wav"])
def test_broken_files_are_told_as_when_decoded_whole(
    tmp_path: Path, encoded: Encoded, codec: str
) -> None:
    path, data = tmp_path / f"a.{codec}", Path(encoded(codec)).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError) as whole:
        audio.decode(str(path), RATE)
    with pytest.raises(AudioError) as parts:
        excerpts.decode_excerpts(str(path), RATE, some)
    assert parts.value.kind == whole.value.kind == "truncated"


@pytest.mark.parametrize(
    ("content", "kind"), [(None, "missing"), (b"", "empty"), (b"<html>" * 900, "not-audio")]
)
def test_what_is_no_audio_is_told(tmp_path: Path, content: bytes | None, kind: str) -> None:
    path = tmp_path / "a.ogg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError) as caught:
        excerpts.decode_excerpts(str(path), RATE, some)
    assert caught.value.kind == kind


def test_a_track_longer_than_allowed_is_refused(encoded: Encoded) -> None:
    path = encoded("ogg")
    with pytest.raises(AudioError) as caught:
        excerpts.decode_excerpts(path, RATE, some, max_seconds=20.0)
    assert caught.value.kind == "too-long"
