"""Two rates from one decoding: neither changes the other."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from hashing import audio
from hashing.artists.decoder import HeardTrack
from hashing.artists.encoder import TrackEmbedding
from hashing.artists.measures import MEASURES
from hashing.decoder_frames import pack_codes
from hashing.encoders import TrackCodes
from hashing.errors import AudioError
from hashing.excerpts import Overheard, decode_excerpts
from hashing.listening import Listeners, pack_all, unpack_all
from hashing.sequences import TrackSequence
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


SEQUENCE = TrackSequence(
    np.array([7, 1 << 31, 2], np.uint32),
    np.array([[0.6, 0.8], [1.0, 0.0]], np.float32),
    np.arange(48, dtype=np.uint8).reshape(2, 24),
)
SILENT = AudioError("silent", "nothing is heard")


def test_all_of_a_track_can_be_heard_at_several_rates(tmp_path: Path) -> None:
    path = write(tmp_path, "flac", 32000)
    rates = (2760, BESIDE, 32000)
    heard = [Overheard(rate) for rate in rates]

    def hear(block: np.ndarray, rate: int) -> None:
        for one in heard:
            one.hear(block, rate)

    np.testing.assert_array_equal(audio.decode(path, MAIN, listener=hear), audio.decode(path, MAIN))
    for one, rate in zip(heard, rates, strict=True):
        # One rate alone has neighbours averaged before, which leaves some of what is above.
        np.testing.assert_allclose(one.samples(), audio.decode(path, rate), atol=0.03)


class Encoder:
    """Of a kind that wants as many samples a second as it says, and says how many there were."""

    def __init__(self, rate: int) -> None:
        self.features = self
        self.cqt = self
        self.sample_rate = rate

    def hear(self, samples: np.ndarray) -> int:
        if samples.size < 100:
            raise AudioError("too-short", "too few of them")
        return samples.size


def test_what_one_cannot_hear_another_may() -> None:
    block = np.ones(1000, np.float32)
    listeners = Listeners({"sequence": Encoder(1000)})
    listeners.hear(block, 1000)
    assert listeners.make("sequence") == 1000
    listeners = Listeners({"sequence": Encoder(1000)})
    listeners.hear(block[:99], 1000)
    assert listeners.make("sequence").kind == "too-short"
    assert Listeners({"sequence": Encoder(1000)}).make("sequence").kind == "no-samples"


def packed(**beside: object) -> bytearray:
    return bytearray(b"".join(bytes(part) for part in pack_all(pack_codes(CODES), beside)))


def test_an_answer_of_all_is_packed_and_unpacked() -> None:
    whole = packed(artist=HEARD, sequence=SEQUENCE)
    codes, beside = unpack_all(whole, 3, ["artist", "sequence"])
    np.testing.assert_array_equal(codes.codes, CODES.codes)
    heard = beside["artist"]
    np.testing.assert_array_equal(heard.track.embedding, HEARD.track.embedding)
    assert (heard.track.n_segments, heard.track.duration_s) == (2, 1.25)
    for name in ("codes", "embeddings", "levels"):
        found, made = getattr(beside["sequence"], name), getattr(SEQUENCE, name)
        assert found.dtype == made.dtype
        np.testing.assert_array_equal(found, made)
    _, beside = unpack_all(packed(artist=SILENT, sequence=SEQUENCE), 3, ["artist", "sequence"])
    assert (beside["artist"].kind, str(beside["artist"])) == ("silent", "nothing is heard")
    assert beside["sequence"].codes.tolist() == SEQUENCE.codes.tolist()


@pytest.mark.parametrize(
    "beside",
    [
        {"artist": HEARD},
        {"sequence": SEQUENCE},
        {"artist": SILENT, "sequence": SEQUENCE},
        {"artist": HEARD, "sequence": SILENT},
    ],
)
def test_an_answer_cut_short_is_nonsense(beside: dict[str, object]) -> None:
    whole = packed(**beside)
    unpack_all(whole, 3, beside)
    for size in range(len(whole)):
        with pytest.raises((ValueError, struct.error)):
            unpack_all(whole[:size], 3, beside)
    with pytest.raises(ValueError, match="pieces"):
        unpack_all(whole, 3, [*beside, "artist"])
