"""What decodes, decodes right; what does not is refused for the right reason."""

from __future__ import annotations

import functools
import os
import struct
import tempfile
import tracemalloc
from pathlib import Path

import av
import mutagen.id3
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.audio import QUALITY, decode, decode_blocks, encode, recode
from hashing.errors import AudioError
from hashing.readers import averages
from hashing.synthesis import render_track

CODECS = ("wav", "flac", "ogg", "mp3", "opus", "m4a")
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
MP3_RATES = RATES[:-1]
BIT_RATES = {"mp3": 128_000, "opus": 128_000, "m4a": 128_000}


def tone(seconds: float, rate: int, channels: int = 1, frequency: float = 440.0) -> np.ndarray:
    """A sine [n, channels] of amplitude 0.5 at `frequency` Hz."""
    t = np.arange(round(seconds * rate)) / rate
    return np.repeat(0.5 * np.sin(2 * np.pi * frequency * t)[:, None], channels, axis=1)


@functools.cache
def music(seconds: float = 6.0, rate: int = 44100) -> np.ndarray:
    """Stereo music [n, 2] whose channels differ; not to be changed."""
    left = render_track(3, seconds, rate)
    return np.stack([left, 0.8 * np.roll(left, 9)], axis=1)


@functools.cache
def encoded_music(codec: str, seconds: float = 6.0) -> bytes:
    """A file of it: encoding takes longer than what is tested."""
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder), codec, music(seconds)).read_bytes()


def write_music(folder: Path, codec: str, seconds: float = 6.0) -> Path:
    path = folder / f"sound.{codec}"
    path.write_bytes(encoded_music(codec, seconds))
    return path


def write(folder: Path, codec: str, samples: np.ndarray, rate: int = 44100) -> Path:
    path = folder / f"sound.{codec}"
    encode(samples, rate, str(path), codec=codec, bit_rate=BIT_RATES.get(codec))
    return path


def kind_of(path: Path | str, **options: float) -> str:
    with pytest.raises(AudioError) as caught:
        decode(str(path), 8000, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message or not str(path).isprintable()
    return caught.value.kind


def measure(samples: np.ndarray, rate: int) -> tuple[float, float]:
    """Frequency (Hz) and amplitude of the sine in the middle of `samples`."""
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 8 * len(middle)))
    frequency = spectrum.argmax() * rate / (8 * len(middle))
    t = np.arange(len(middle)) / rate
    basis = np.stack([np.sin(2 * np.pi * frequency * t), np.cos(2 * np.pi * frequency * t)], 1)
    return frequency, float(np.linalg.norm(np.linalg.lstsq(basis, middle, rcond=None)[0]))


def lag_of(samples: np.ndarray, reference: np.ndarray) -> int:
    """By how many samples `samples` comes after `reference`: the peak of the correlation."""
    n = len(reference) + len(samples)
    cross = np.fft.irfft(np.fft.rfft(samples, n) * np.fft.rfft(reference, n).conj(), n)
    lag = int(cross.argmax())
    return lag - n if lag > n // 2 else lag


class TestFormats:
    @pytest.mark.parametrize("codec", CODECS)
    def test_any_rate_and_channel_count(self, tmp_path: Path, codec: str) -> None:
        for rate in MP3_RATES if codec == "mp3" else RATES:
            for channels in (1, 2) if codec == "mp3" else (1, 2, 6):
                path = write(tmp_path, codec, tone(1.0, rate, channels), rate)
                wanted = 22050 if channels == 2 else 8000
                samples = decode(str(path), wanted)
                assert samples.dtype == np.float32
                assert samples.ndim == 1
                assert abs(len(samples) / wanted - 1.0) < 0.05, (rate, channels)
                frequency, amplitude = measure(samples, wanted)
                assert abs(frequency - 440.0) < 0.5, (rate, channels)
                # LAME turns everything down by 5 %; in 5.1 lossy codecs cut the tone from
                # the bass channel, and have few bits for the others.
                low, high = (0.7, 1.1) if channels == 6 else (0.94, 1.02)
                assert low < amplitude / 0.5 < high, (rate, channels, amplitude)

    @pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
    def test_wav_sample_formats(self, tmp_path: Path, subtype: str) -> None:
        path = tmp_path / "a.wav"
        soundfile.write(path, tone(1.0, 8000), 8000, subtype)
        assert np.abs(decode(str(path), 8000) - tone(1.0, 8000)[:, 0]).max() < 0.02

    def test_channels_are_averaged(self, tmp_path: Path) -> None:
        constant = np.tile([0.5, -0.25, 0.125], (4000, 1))
        path = write(tmp_path, "wav", constant, 8000)
        np.testing.assert_array_equal(decode(str(path), 8000), np.float32(0.125))

    @pytest.mark.parametrize("codec", ["mp3", "flac", "ogg"])
    def test_equals_an_independent_reader(self, tmp_path: Path, codec: str) -> None:
        path = write_music(tmp_path, codec)
        whole, rate = soundfile.read(path, dtype="float32")
        mono = whole.mean(axis=1)
        halved = mono.reshape(-1, 2).mean(axis=1)
        expected = soxr.resample(halved, rate / 2, 8000, quality=QUALITY)
        samples = decode(str(path), 8000)
        assert len(samples) == len(expected) == 48000
        np.testing.assert_allclose(samples, expected, atol=2e-4)
        # Nothing is averaged on the way to a rate that is nearer.
        expected = soxr.resample(mono, rate, 16_000, quality=QUALITY)
        np.testing.assert_allclose(decode(str(path), 16_000), expected, atol=2e-4)

    @pytest.mark.parametrize(
        ("frequency", "least_db", "most_db"),
        [(1000, -0.1, 0.1), (3000, -0.3, 0.1), (3700, -0.4, 0.1), (18_300, -99.0, -11.0)],
    )
    @pytest.mark.parametrize("samples", [44_100, 44_101])
    def test_what_averaging_costs(
        self, tmp_path: Path, frequency: float, least_db: float, most_db: float, samples: int
    ) -> None:
        wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(samples) / 44_100)
        path = write(tmp_path, "wav", wave[:, None], 44_100)
        heard = decode(str(path), 8000)
        assert len(heard) == 8000
        level_db = 20 * np.log10(np.sqrt(np.mean(heard[400:-400] ** 2)) / (0.5 / np.sqrt(2)))
        assert least_db < level_db < most_db

    def test_blocks_of_odd_lengths_are_averaged_as_one(self) -> None:
        values = np.arange(11, dtype=np.float32)
        blocks = [values[:3], values[3:4], values[4:9], values[9:]]
        found = np.concatenate(list(averages(iter(blocks))))
        assert found.tolist() == [0.5, 2.5, 4.5, 6.5, 8.5, 10.0]

    @pytest.mark.parametrize("codec", CODECS)
    def test_the_extension_may_lie(self, tmp_path: Path, codec: str) -> None:
        path = write(tmp_path, codec, tone(1.0, 44100))
        expected = decode(str(path), 8000)
        for extension in ("mp3", "wav", "raw", "txt", "jpg", "m3u8"):
            path = path.rename(tmp_path / f"lie.{extension}")
            np.testing.assert_array_equal(decode(str(path), 8000), expected)

    def test_what_libsndfile_refuses_goes_to_ffmpeg(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        with av.open(str(path), "w", format="wav") as container:
            stream = container.add_stream("adpcm_yamaha", rate=44100, layout="mono")
            data = (tone(2.0, 44100).T * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
            frame.sample_rate = 44100
            container.mux([*stream.encode(frame), *stream.encode(None)])
        with pytest.raises(soundfile.LibsndfileError):
            soundfile.SoundFile(path)
        samples = decode(str(path), 8000)
        assert abs(len(samples) / 8000 - 2.0) < 0.1
        assert abs(measure(samples, 8000)[0] - 440) < 0.5

    @pytest.mark.parametrize("container_format", ["mp4", "matroska", "mpegts"])
    def test_the_audio_of_a_video(self, tmp_path: Path, container_format: str) -> None:
        path = tmp_path / "film"
        with av.open(str(path), "w", format=container_format) as container:
            video = container.add_stream("mpeg4", rate=10)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            audio = container.add_stream("aac", rate=44100, layout="mono")
            data = tone(2.0, 44100).T.astype(np.float32)
            frame = av.AudioFrame.from_ndarray(data, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, 0
            for _ in range(20):
                picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
                container.mux(video.encode(picture))
            container.mux([*video.encode(None), *audio.encode(frame), *audio.encode(None)])
        samples = decode(str(path), 8000)
        assert abs(len(samples) / 8000 - 2.0) < 0.05
        assert abs(measure(samples, 8000)[0] - 440) < 0.5

    def test_cover_art_is_not_audio(self, tmp_path: Path) -> None:
        path = write(tmp_path, "mp3", tone(1.0, 44100))
        expected = decode(str(path), 8000)
        tags = mutagen.id3.ID3()
        picture = b"\xff\xd8\xff" + bytes(range(256)) * 400
        tags.add(mutagen.id3.APIC(mime="image/jpeg", type=3, data=picture))
        tags.save(path, v1=2)
        np.testing.assert_array_equal(decode(str(path), 8000), expected)

    def test_a_wav_of_unknown_length_is_whole(self, tmp_path: Path) -> None:
        path = write(tmp_path, "wav", tone(1.0, 8000), 8000)
        data = bytearray(path.read_bytes())
        for unknown in (0, 0xFFFFFFFF):  # what encoders write that cannot seek back
            struct.pack_into("<I", data, 40, unknown)
            path.write_bytes(data)
            assert len(decode(str(path), 8000)) == 8000


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, np.ndarray]]:
    """By codec: a file of 4 s, and all of it decoded at 8 kHz."""
    made = {}
    for codec in CODECS:
        path = write(tmp_path_factory.mktemp("pieces"), codec, music(4.0))
        made[codec] = str(path), decode(str(path), 8000)
    return made


class TestBlocks:
    @pytest.mark.parametrize("codec", CODECS)
    def test_join_to_the_whole(self, tmp_path: Path, codec: str) -> None:
        path = str(write_music(tmp_path, codec))
        blocks = list(decode_blocks(path, 8000))
        assert len(blocks) > 2
        assert all(len(block) for block in blocks)
        # Blocks own their memory: an array that is reused would have changed by now.
        np.testing.assert_array_equal(np.concatenate(blocks), decode(path, 8000))
        assert abs(sum(map(len, blocks)) - 48000) < 400

    def test_memory_does_not_grow_with_length(self, tmp_path: Path) -> None:
        peaks = []
        for seconds in (60, 600):
            path = str(write(tmp_path, "flac", np.zeros((seconds * 16000, 2), np.int16), 16000))
            next(decode_blocks(path, 8000))  # imports
            tracemalloc.start()
            for _ in decode_blocks(path, 8000):
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 1.2 * peaks[0]
        assert peaks[1] < 4e6

    @pytest.mark.parametrize("codec", CODECS)
    @settings(max_examples=12)
    @given(start_s=st.floats(0, 3.9), duration_s=st.floats(0.01, 6))
    def test_a_part_is_that_slice_of_the_whole(
        self,
        pieces: dict[str, tuple[str, np.ndarray]],
        codec: str,
        start_s: float,
        duration_s: float,
    ) -> None:
        path, whole = pieces[codec]
        part = decode(path, 8000, start_s=start_s, duration_s=duration_s)
        first = round(start_s * 8000)
        expected = whole[first : first + round(duration_s * 8000)]
        assert len(part) == len(expected)
        np.testing.assert_allclose(part, expected, atol=1e-4)


class TestBroken:
    def test_missing(self, tmp_path: Path) -> None:
        assert kind_of(tmp_path / "none.mp3") == "missing"
        (tmp_path / "file").touch()
        assert kind_of(tmp_path / "file" / "none.mp3") == "missing"

    def test_not_a_file(self, tmp_path: Path) -> None:
        assert kind_of(tmp_path) == "not-a-file"
        os.mkfifo(tmp_path / "pipe.mp3")  # opening it would wait for ever
        assert kind_of(tmp_path / "pipe.mp3") == "not-a-file"

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp3").touch()
        assert kind_of(tmp_path / "a.mp3") == "empty"

    @pytest.mark.parametrize("extension", ["mp3", "wav", "ogg", "flac", "m4a", "opus", ""])
    def test_not_audio(self, tmp_path: Path, extension: str) -> None:
        path = tmp_path / f"a.{extension}"
        noise = np.random.default_rng(1).bytes(100_000)
        page = b"<html>" + b"words " * 1000
        for content in (b"Hello, this is text.\n" * 500, b"x", bytes(5000), noise, page):
            path.write_bytes(content)
            assert kind_of(path) == "not-audio"

    def test_a_playlist_opens_nothing_else(self, tmp_path: Path) -> None:
        write(tmp_path, "mp3", tone(1.0, 44100))
        for name, content in {
            "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsound.mp3\n#EXT-X-ENDLIST\n",
            "a.txt": "ffconcat version 1.0\nfile sound.mp3\n",
        }.items():
            (tmp_path / name).write_text(content)
            assert kind_of(tmp_path / name) == "not-audio"

    def test_an_address_is_not_opened(self) -> None:
        assert kind_of("http://localhost/a.mp3") == "missing"

    @pytest.mark.parametrize("codec", CODECS)
    def test_truncated(self, tmp_path: Path, codec: str) -> None:
        path = write_music(tmp_path, codec)
        whole = path.read_bytes()
        for share in (0.02, 0.5, 0.99):
            path.write_bytes(whole[: int(share * len(whole))])
            assert kind_of(path) == "truncated", share

    @pytest.mark.parametrize("codec", ["wav", "ogg", "opus", "mp3"])
    def test_no_samples(self, tmp_path: Path, codec: str) -> None:
        path = write(tmp_path, codec, np.zeros((0, 2)))
        assert path.stat().st_size > 40
        assert kind_of(path) == "no-samples"

    def test_start_behind_the_end(self, tmp_path: Path) -> None:
        for codec in CODECS:
            path = write(tmp_path, codec, tone(1.0, 44100))
            assert kind_of(path, start_s=5.0) == "no-samples"

    def test_too_long(self, tmp_path: Path) -> None:
        for codec in CODECS:
            path = write_music(tmp_path, codec, 3.0)
            assert kind_of(path, max_seconds=2.5) == "too-long"
            assert len(decode(str(path), 8000, max_seconds=2.5, duration_s=2.0)) == 16000
            assert kind_of(path, max_seconds=2.5, start_s=2.0, duration_s=0.9) == "too-long"
            assert len(decode(str(path), 8000, max_seconds=3.1)) >= 24000

    def test_too_long_without_a_declared_length(self, tmp_path: Path) -> None:
        path = write_music(tmp_path, "mp3", 3.0)
        data = path.read_bytes()
        at = data.index(b"Info")
        path.write_bytes(data[:at] + b"none" + data[at + 4 :])
        assert kind_of(path, max_seconds=2.5) == "too-long"

    @pytest.mark.parametrize("rate", [1, 10_000_000])
    def test_absurd_rate(self, tmp_path: Path, rate: int) -> None:
        path = write(tmp_path, "wav", tone(1.0, 8000), 8000)
        data = bytearray(path.read_bytes())
        struct.pack_into("<II", data, 24, rate, 2 * rate)
        path.write_bytes(data)
        assert kind_of(path, max_seconds=1e6) == "unreadable"

    def test_no_channels(self, tmp_path: Path) -> None:
        path = write(tmp_path, "wav", tone(1.0, 8000), 8000)
        data = bytearray(path.read_bytes())
        struct.pack_into("<H", data, 22, 0)
        path.write_bytes(data)
        assert kind_of(path) == "unreadable"

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
    def test_samples_that_are_no_numbers(self, tmp_path: Path, value: float) -> None:
        samples = tone(1.0, 8000)
        samples[4000] = value
        soundfile.write(tmp_path / "a.wav", samples, 8000, "FLOAT")
        assert kind_of(tmp_path / "a.wav") == "unreadable"

    @pytest.mark.parametrize("codec", ["mp3", "ogg", "flac", "m4a"])
    def test_damage_in_the_middle(self, tmp_path: Path, codec: str) -> None:
        path = write(tmp_path, codec, music(15.0))
        expected = decode(str(path), 8000)
        whole = path.read_bytes()
        at = int(0.4 * len(whole))

        def overwrite(share: float) -> None:
            garbage = np.random.default_rng(5).bytes(int(share * len(whole)))
            path.write_bytes(whole[:at] + garbage + whole[at + len(garbage) :])

        overwrite(0.004)
        samples = decode(str(path), 8000)
        assert abs(len(samples) - len(expected)) < 0.3 * 8000
        np.testing.assert_allclose(samples[:24000], expected[:24000], atol=1e-4)
        if codec != "mp3":  # whose frames carry no time
            np.testing.assert_allclose(samples[64000:110000], expected[64000:110000], atol=1e-3)
        overwrite(0.4)
        assert kind_of(path) == "unreadable"

    def test_a_name_that_is_not_printable_gives_one_line(self, tmp_path: Path) -> None:
        assert kind_of(tmp_path / "a\nb\x1b[31m.mp3") == "missing"
        assert kind_of("a\0b.mp3") == "unreadable"

    def test_arguments(self) -> None:
        for wrong in ({"start_s": -1.0}, {"duration_s": 0.0}, {"start_s": float("nan")}):
            with pytest.raises(ValueError, match="_s="):
                decode("a.mp3", 8000, **wrong)


class TestRecode:
    @pytest.mark.parametrize("codec", ["mp3", "opus", "m4a"])
    @pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
    def test_stays_in_place(self, codec: str, rate: int) -> None:
        samples = render_track(7, 5.0, rate)
        coded = recode(samples, rate, codec)
        assert coded.shape == samples.shape
        assert coded.dtype == np.float32
        assert abs(lag_of(coded, samples)) <= rate / 1000
        assert np.corrcoef(coded, samples)[0, 1] > 0.9
        assert np.abs(coded - samples).max() > 1e-3

    def test_fewer_bits_are_worse(self) -> None:
        samples = render_track(7, 5.0, 44100)
        errors = [
            np.square(recode(samples, 44100, "mp3", b) - samples).mean() for b in (32_000, 128_000)
        ]
        assert errors[0] > 3 * errors[1]

    def test_a_very_short_piece(self) -> None:
        for codec in ("mp3", "opus", "m4a"):
            assert recode(np.full(100, 0.1, np.float32), 8000, codec).shape == (100,)
