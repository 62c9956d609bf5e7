"""Two rates from one decoding: neither changes the other."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from hashing import audio
from hashing.artists.decoder import HeardTrack, pack_both, unpack_both
from hashing.artists.encoder import TrackEmbedding
from hashing.artists.measures import MEASURES
from hashing.decoder_frames import pack_codes
from hashing.encoders import TrackCodes
from hashing.errors import AudioError
from hashing.excerpts import Overheard, decode_excerpts
from hashing.synthesis import render_track

SECONDS = 8.0
MAIN, BESIDE = 8000, 22050  # Hz


def some(duration_s: float) -> list[tuple[float, float]]:
    return [(0.0, 1.0), (2.3, 2.0), (duration_s - 1.5, 1.5)]


def write(folder: Path, codec: str, rate: int) -> str:
    mono = render_track(1, SECONDS, rate)
    path = str(folder / f"a.{codec}")
    audio.encode(np.stack([mono, np.roll(mono, 300) * 0.5], axis=1), rate, path, codec=codec)
    return path


# libsndfile and FFmpeg, each with neighbours averaged for the lower rate and not.
@pytest.mark.parametrize(
    ("codec", "rate"), [("wav", 44100), ("flac", 32000), ("opus", 48000), ("m4a", 32000)]
)
def test_both_are_what_each_would_be_alone(tmp_path: Path, codec: str, rate: int) -> None:
    path = write(tmp_path, codec, rate)
    overheard = Overheard(BESIDE)
    samples = audio.decode(path, MAIN, listener=overheard.hear)
    np.testing.assert_array_equal(samples, audio.decode(path, MAIN))
    found, whole = overheard.excerpts(some), audio.decode(path, BESIDE)
    assert found.duration_s == whole.size / BESIDE
    for part, (start_s, length_s) in zip(found.parts, some(found.duration_s), strict=True):
        first = round(start_s * BESIDE)
        np.testing.assert_array_equal(part, whole[first : first + round(length_s * BESIDE)])
    alone = decode_excerpts(path, BESIDE, some)
    for part, other in zip(found.parts, alone.parts, strict=True):
        np.testing.assert_allclose(part, other, atol=2e-3)


def test_a_file_at_the_wanted_rate_is_kept_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, "wav", BESIDE)
    overheard = Overheard(BESIDE)
    list(audio.decode_blocks(path, MAIN, listener=overheard.hear))
    (part,) = overheard.excerpts(lambda duration_s: [(0.0, duration_s)]).parts
    np.testing.assert_array_equal(part, audio.decode(path, BESIDE))


def test_nothing_overheard_is_told() -> None:
    with pytest.raises(AudioError) as caught:
        Overheard(BESIDE).excerpts(some)
    assert caught.value.kind == "no-samples"


CODES = TrackCodes(np.arange(6, dtype=np.uint8).reshape(2, 3), np.array([0, 2], np.int32), 1.5)
HEARD = HeardTrack(
    TrackEmbedding(np.array([0.6, 0.8], np.float32), 2, 1.25), np.zeros(len(MEASURES), np.float32)
)


def packed(heard: HeardTrack | AudioError) -> bytearray:
    return bytearray(b"".join(bytes(part) for part in pack_both(pack_codes(CODES), heard)))


def test_an_answer_of_both_is_packed_and_unpacked() -> None:
    codes, heard = unpack_both(packed(HEARD), 3)
    np.testing.assert_array_equal(codes.codes, CODES.codes)
    assert isinstance(heard, HeardTrack)
    np.testing.assert_array_equal(heard.track.embedding, HEARD.track.embedding)
    assert (heard.track.n_segments, heard.track.duration_s) == (2, 1.25)
    _, told = unpack_both(packed(AudioError("silent", "nothing is heard")), 3)
    assert isinstance(told, AudioError)
    assert (told.kind, str(told)) == ("silent", "nothing is heard")


@pytest.mark.parametrize("heard", [HEARD, AudioError("silent", "nothing is heard")])
def test_an_answer_cut_short_is_nonsense(heard: HeardTrack | AudioError) -> None:
    whole = packed(heard)
    # A few values fewer of an embedding cannot be told from a shorter one.
    for size in range(len(whole) - (4 if heard is HEARD else 0)):
        if size <= len(whole) - 4 * 2:
            with pytest.raises((ValueError, struct.error)):
                unpack_both(whole[:size], 3)
