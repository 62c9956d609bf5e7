"""A file of any format, rate and channel count becomes mono float32 at one rate, and back.

Every way in which a file can be broken is one exception type, `AudioError`, with a `kind` to count
by. Decoding goes in blocks, so memory does not grow with the length of the track.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

from hashing import containers, readers
from hashing.errors import AudioError

# Against soundfile.read alone (mp3 44.1 kHz stereo, CPU time) everything costs 1.10 at HQ, 1.09 at
# MQ, and 0.98 at QQ, which aliases. At MQ (16 bits) 0.05 % of the bits of codes differ from HQ, and
# 0.03 % of those of HQ from VHQ: what HQ costs buys nothing.
QUALITY = "MQ"

# A track that lost more than this is not the recording that the catalogue names; below, silence
# stands where the damage is, and the snippets around it still vote.
MAX_LOST_SHARE = 0.05
SLACK_S = 0.1  # headers and decoders differ by encoder delay and padding, some 1,000 samples
MAX_LEVEL = 1e6  # float files 120 dB above full scale hold no audio; squares must stay finite
WARM_UP_S = 0.1  # longer than the resampler's filter: a seek must not show in the samples

# What a second of sound takes at most, bytes: eight channels of 32 bits at 192 kHz. A file of more
# than all of its seconds can take, and of pictures beside them, is no track, whatever is in it.
MAX_BYTES_PER_S = 8 * 4 * 192_000
BESIDE_BYTES = 1 << 30  # a concert's video, or pictures of a booklet

# libsndfile reads these fastest. Ogg goes to FFmpeg: Vorbis costs 0.6 of the time there, and
# libsndfile 1.2.2 gives up half-way in two of five Opus files.
_SOUNDFILE = ("mp3", "wav", "flac", "aiff")
_SEEKABLE = ("wav", "flac", "aiff")  # exact to the sample, and cheap


def decode_blocks(
    path: str,
    sample_rate: int,
    *,
    max_seconds: float = 7200.0,
    start_s: float = 0.0,
    duration_s: float | None = None,
    listener: Callable[[np.ndarray, int], None] | None = None,
) -> Iterator[np.ndarray]:
    """Yield the first audio stream of `path` as mono float32 blocks [n] at `sample_rate` Hz.

    Channels are averaged. `start_s` and `duration_s` (seconds) cut a part out, equal to that
    slice of the whole. A `listener` is given what is decoded at the file's own rate as well: mono
    blocks [n], not to be kept or changed, and that rate (Hz). Damage below five per cent is left
    out, or replaced by silence where its place is known. Raises `AudioError` of the kinds
    ``missing``, ``not-a-file``, ``empty``, ``not-audio``, ``truncated``, ``no-samples``,
    ``too-long`` (more than `max_seconds` would have to be decoded), ``too-large`` (more bytes than
    so much sound can take) and ``unreadable``; some only after blocks have been yielded.

    >>> next(decode_blocks("no such file.mp3", 8000))
    Traceback (most recent call last):
    hashing.errors.AudioError: no such file.mp3 does not exist
    """
    if sample_rate < 1 or not start_s >= 0 or not (duration_s is None or duration_s > 0):
        raise ValueError(f"{sample_rate=} {start_s=} {duration_s=}: a rate and a span are needed")
    name = path if path.isprintable() else ascii(path)
    with _opened(path, name) as (fd, size):
        if duration_s is None:
            _check_size(name, size, max_seconds)
        facts = containers.inspect(fd, size)
        if facts.cut:
            raise AudioError("truncated", f"{name} is truncated: {facts.cut}; fetch it again")
        tally = readers.Tally(declared_s=facts.declared_s, listener=listener)
        end_s = math.inf if duration_s is None else start_s + duration_s
        _check_length(name, tally, end_s, max_seconds)
        native = _native_blocks(fd, facts.name, name, tally, start_s, sample_rate)
        wanted = None if duration_s is None else round(duration_s * sample_rate)
        yielded = 0
        for block in _resampled(native, tally, sample_rate, round(start_s * sample_rate)):
            _check_length(name, tally, end_s, max_seconds)
            # "not <=" because NaN compares false
            if not np.abs(block).max(initial=0.0) <= MAX_LEVEL:
                raise AudioError("unreadable", f"{name} is damaged: some samples are no numbers")
            if wanted is not None:
                block = block[: wanted - yielded]
            yielded += len(block)
            if len(block):
                yield block
            if yielded == wanted:
                return
        _judge(name, facts.name, tally)
        if not yielded:
            raise AudioError("no-samples", f"{name} ends before {start_s:g} s, where to start")


def decode(path: str, sample_rate: int, **options: Any) -> np.ndarray:
    """Return all blocks of `decode_blocks` (same arguments and errors) as one array [n].

    >>> decode(".", 8000)
    Traceback (most recent call last):
    hashing.errors.AudioError: . is not a file
    """
    return np.concatenate(list(decode_blocks(path, sample_rate, **options)))


@contextlib.contextmanager
def _opened(path: str, name: str) -> Iterator[tuple[int, int]]:
    """Open once, for all readers; yields the descriptor and the size in bytes."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise AudioError("not-a-file", f"{name} is not a file")
        if status.st_size == 0:
            raise AudioError("empty", f"{name} is empty: it holds no bytes")
        fd = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError("missing", f"{name} does not exist") from None
    except (OSError, ValueError) as error:
        raise AudioError("unreadable", f"{name} cannot be opened: {error}") from None
    try:
        yield fd, status.st_size
    except OSError as error:
        raise AudioError("unreadable", f"{name} cannot be read: {error}") from None
    finally:
        os.close(fd)


def _native_blocks(
    fd: int, container: str, name: str, tally: readers.Tally, start_s: float, sample_rate: int
) -> Iterator[np.ndarray]:
    """Yield mono blocks as `readers` has them; what libsndfile does not bring, FFmpeg must try."""
    if container in _SOUNDFILE:
        seek_s = max(0.0, start_s - WARM_UP_S) if container in _SEEKABLE else 0.0
        yield from readers.soundfile_blocks(fd, name, tally, seek_s, sample_rate)
        missing = (tally.declared_s or 0.0) - tally.seconds
        # Lossless formats count exactly; mp3 headers count frames that encoders add.
        allowed = MAX_LOST_SHARE * tally.seconds + SLACK_S if container == "mp3" else 0.0
        if tally.samples and not tally.errors and missing <= allowed:
            return
    yield from readers.av_blocks(fd, name, tally, sample_rate, known=bool(container))


def _resampled(
    blocks: Iterator[np.ndarray], tally: readers.Tally, sample_rate: int, skip: int
) -> Iterator[np.ndarray]:
    """Resample blocks to `sample_rate` and drop the first `skip` samples; yields own memory."""
    import soxr

    stream, rate = None, 0
    for block in blocks:
        if not rate:
            rate = tally.sample_rate // tally.averaged
            skip -= tally.start * sample_rate // tally.sample_rate
            if rate != sample_rate:
                stream = soxr.ResampleStream(rate, sample_rate, 1, quality=QUALITY)
        out = block.copy() if stream is None else stream.resample_chunk(block)
        dropped = min(skip, len(out))
        skip -= dropped
        if len(out) > dropped:
            yield out[dropped:]
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)[skip:]


def _check_size(name: str, size: int, max_seconds: float) -> None:
    most = int(max_seconds * MAX_BYTES_PER_S) + BESIDE_BYTES
    if size > most:
        raise AudioError(
            "too-large",
            f"{name} has {size / 1e9:.1f} GB, and {max_seconds / 3600:.3g} h of sound take "
            f"{most / 1e9:.1f} GB at most; cut it into tracks, or raise --max-track-hours",
        )


def _check_length(name: str, tally: readers.Tally, end_s: float, max_seconds: float) -> None:
    if min(max(tally.declared_s or 0.0, tally.seconds), end_s) > max_seconds:
        hours = f"{max_seconds / 3600:.3g} h"
        raise AudioError("too-long", f"{name} lasts more than {hours}; --max-track-hours allows it")


def _judge(name: str, container: str, tally: readers.Tally) -> None:
    """Raise unless what was decoded, to the end, is the track that the header declares."""
    seconds, declared = tally.seconds, tally.declared_s or 0.0
    allowed = SLACK_S + MAX_LOST_SHARE * max(declared, seconds)
    missing = declared - seconds
    # FLAC and foreign containers show only here that their end is cut; FLAC counts exactly, and
    # what is lost before the end has been made up with silence.
    if (container == "flac" and missing > 0) or (not container and missing > allowed):
        raise AudioError(
            "truncated",
            f"{name} is truncated: it declares {declared:.2f} s and {seconds:.2f} s are there;"
            " fetch it again",
        )
    if not tally.samples:
        if tally.errors or declared > SLACK_S:
            raise AudioError("unreadable", f"{name} is damaged: nothing in it can be decoded")
        raise AudioError("no-samples", f"{name} holds no samples")
    lost = tally.lost_s + max(0.0, missing)
    if lost > allowed:
        raise AudioError(
            "unreadable",
            f"{name} is damaged: {lost:.1f} of {max(declared, seconds):.1f} s cannot be decoded",
        )


# What each codec's encoder takes, so that `encode` resamples to the next rate at or above.
_RATES = {
    "mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    "m4a": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
    "opus": (48000,),
}
_FFMPEG = {"mp3": ("mp3", "libmp3lame"), "m4a": ("mp4", "aac"), "opus": ("ogg", "libopus")}
_LIBSNDFILE = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS"}
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def encode(
    samples: np.ndarray,
    sample_rate: int,
    path: str | IO[bytes],
    *,
    codec: str,
    bit_rate: int | None = None,
) -> None:
    """Write `samples` [n] or [n, channels] to `path` as wav, flac (16 bits), ogg, mp3, opus or m4a.

    `bit_rate` in bits/s is for the last three. mp3 takes two channels, opus and m4a also six.
    A rate that the codec lacks is resampled to the next above.

    >>> encode(np.zeros(8000, np.float32), 8000, "a.xyz", codec="xyz")
    Traceback (most recent call last):
    ValueError: codec 'xyz' is none of flac, m4a, mp3, ogg, opus, wav
    """
    data = np.asarray(samples, np.float32)
    data = data[:, None] if data.ndim == 1 else data
    if codec in _LIBSNDFILE:
        import soundfile

        layout = (sample_rate, data.shape[1], _LIBSNDFILE[codec])
        with soundfile.SoundFile(path, "w", *layout, format=codec.upper()) as file:
            # libsndfile's Vorbis encoder overflows its stack on large blocks
            for at in range(0, len(data), readers.BLOCK_SAMPLES):
                file.write(data[at : at + readers.BLOCK_SAMPLES])
    elif codec in _FFMPEG:
        rate = next((rate for rate in _RATES[codec] if rate >= sample_rate), _RATES[codec][-1])
        if rate != sample_rate:
            import soxr

            data = soxr.resample(data, sample_rate, rate, quality=QUALITY)
        _encode_ffmpeg(data, rate, path, codec, bit_rate)
    else:
        known = ", ".join(sorted([*_LIBSNDFILE, *_FFMPEG]))
        raise ValueError(f"codec {codec!r} is none of {known}")


def _encode_ffmpeg(
    data: np.ndarray, rate: int, target: str | IO[bytes], codec: str, bit_rate: int | None
) -> None:
    import av

    container_format, encoder = _FFMPEG[codec]
    layout = _LAYOUTS[data.shape[1]]
    sample_format = "flt" if codec == "opus" else "fltp"
    with av.open(target, "w", format=container_format) as container:
        stream: Any = container.add_stream(encoder, rate=rate, layout=layout)
        stream.format = sample_format
        if bit_rate:
            stream.bit_rate = bit_rate
        for at in range(0, len(data), readers.BLOCK_SAMPLES):
            block = data[at : at + readers.BLOCK_SAMPLES]
            array = np.ascontiguousarray(block.reshape(1, -1) if codec == "opus" else block.T)
            frame = av.AudioFrame.from_ndarray(array, format=sample_format, layout=layout)
            frame.sample_rate, frame.pts = rate, at
            container.mux(stream.encode(frame))
        container.start_encoding()  # so that no samples make a file, too
        container.mux(stream.encode(None))


def recode(
    samples: np.ndarray, sample_rate: int, codec: str = "mp3", bit_rate: int = 64000
) -> np.ndarray:
    """Send mono samples [n] through a lossy codec (mp3, opus or m4a) in memory and back.

    Same length and rate; the encoder's delay is taken out, so sample 0 stays sample 0. A codec
    at 8 kHz spends its bits on half a telephone band: give it the rate of the original.

    >>> tone = np.sin(np.arange(22050) * 0.1).astype(np.float32)
    >>> float(np.corrcoef(tone, recode(tone, 22050))[0, 1]) > 0.99
    True
    """
    import av

    file = io.BytesIO()
    encode(samples, sample_rate, file, codec=codec, bit_rate=bit_rate)
    file.seek(0)
    tally = readers.Tally()
    with av.open(file) as container:
        native = readers.stream_blocks(container, container.streams.audio[0], codec, tally)
        blocks = list(_resampled(native, tally, sample_rate, 0))
    out = np.zeros(len(samples), np.float32)
    coded = np.concatenate(blocks)[: len(out)]
    out[: len(coded)] = coded
    return out
