"""The two decoders behind `hashing.audio`: libsndfile and FFmpeg (PyAV), in blocks, mixed to mono.

Both read an open descriptor and never see the file's name: its extension does not choose the
decoder, and it cannot be an address.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hashing.errors import AudioError

# Blocks of 2^15 stereo frames stay in the second-level cache: reading mp3 44.1 kHz stereo and
# resampling to 8 kHz costs 1.10 of soundfile.read alone, with 2^17 frames 1.18.
BLOCK_SAMPLES = 1 << 16  # over all channels

# Rates of telephone and of studio lie inside; what lies outside is a damaged header.
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000

# Time stamps of most containers are rounded to ms or jitter by a packet: less is no hole. FLAC
# frames carry their sample number.
JITTER_S = 0.1
MAX_HOLE_S = 60.0  # longer ones are a clock that was set, not audio that can be filled in
MAX_BROKEN_READS = 1000  # a container whose reader fails so often makes no progress

# What FFmpeg may open: containers of audio and video. Playlists, subtitles, pictures, devices and
# network addresses are left out: a catalogue's file must not make a worker open another one.
_DEMUXERS = (
    "3g2,3gp,aa,aac,ac3,aiff,amr,ape,asf,ast,au,avi,avr,caf,dsf,dts,dtshd,eac3,flac,flv,iff,ircam,"
    "loas,m4a,matroska,mj2,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,nistsphere,nsv,nut,oga,ogg,oma,"
    "paf,pvf,qcp,rm,rso,shn,sox,tak,truehd,tta,voc,w64,wav,webm,wsd,wv,xwma"
)
# Their durations are stated, not guessed from the bit rate.
_STATED_DURATION = {"mov", "matroska", "asf", "avi", "flac", "wav", "aiff", "caf", "ape", "wv"}


# From so many times the wanted rate on, neighbouring samples are averaged while channels are: the
# resampler then takes 0.6 of the time. At 44.1 kHz for 8 kHz what is kept loses 0.4 dB at most, and
# what folds onto it comes from above 18 kHz, where music has little, and loses 11 dB at least.
AVERAGED_FROM = 5


@dataclasses.dataclass
class Tally:
    """What came of a file: samples at its own rate, and what is known to be missing."""

    samples: int = 0  # where the reader stands
    start: int = 0  # where a seek let it begin
    sample_rate: int = 0
    averaged: int = 1  # neighbouring samples, 1 or 2, that each sample of a block is the mean of
    lost_s: float = 0.0
    declared_s: float | None = None
    errors: int = 0
    # Is given each mono block at the file's own rate, and that rate, Hz; must not keep the block.
    listener: Callable[[np.ndarray, int], None] | None = None

    def open(self, sample_rate: int, wanted: int) -> None:
        """Note the rate of a file, Hz, and whether samples are averaged on the way to `wanted`."""
        self.sample_rate = sample_rate
        even = sample_rate % 2 == 0
        self.averaged = 2 if even and sample_rate >= AVERAGED_FROM * wanted else 1

    @property
    def seconds(self) -> float:
        """Duration of what was decoded."""
        return self.samples / self.sample_rate if self.sample_rate else 0.0


def _check_format(name: str, sample_rate: int, channels: int) -> None:
    if not MIN_RATE_HZ <= sample_rate <= MAX_RATE_HZ or channels < 1:
        raise AudioError(
            "unreadable", f"{name} is damaged: {channels} channels at {sample_rate} Hz"
        )


def soundfile_blocks(
    fd: int, name: str, tally: Tally, start_s: float, sample_rate: int
) -> Iterator[np.ndarray]:
    """Yield mono blocks [n], each valid until the next, until the end or the first error.

    Their rate is that of the file by ``tally.averaged``. `start_s` seeks (only for formats where
    that is exact) to the last sample before it that is also one at `sample_rate`. A file that
    libsndfile refuses yields nothing.
    """
    import soundfile

    class Stream(soundfile.SoundFile):  # type: ignore[misc]
        # SoundFile.read seeks to where it already is after every block, and a seek decodes
        # again what lies before: 6 % of the time in mp3. A stream that cannot seek is spared.
        def seekable(self) -> bool:
            return False

    try:
        with Stream(fd, closefd=False) as file:
            rate, channels = file.samplerate, file.channels
            _check_format(name, rate, channels)
            tally.open(rate, sample_rate)
            if start_s:
                # An even one: neighbours that are averaged stay neighbours.
                grid = math.lcm(rate // math.gcd(rate, sample_rate), 2)
                tally.start = min(int(start_s * rate), file.frames) // grid * grid
                tally.samples = tally.start
                file.seek(tally.start)
            frames = max(1, BLOCK_SAMPLES // channels // 2) * 2
            buffer = np.empty((frames, channels), np.float32)
            mono = np.empty(frames, np.float32)
            columns = [buffer[:, i] for i in range(channels)]
            # Both means at once: a product with equal weights takes half the time of two sums.
            neighbours = buffer.reshape(-1, 2 * channels)
            weights = np.full(2 * channels, 1 / (2 * channels), np.float32)
            while samples := file.buffer_read_into(buffer, "float32"):
                tally.samples += samples
                if tally.averaged == 1 or tally.listener:
                    mixed = _mix([column[:samples] for column in columns], mono[:samples])
                    if tally.listener:
                        tally.listener(mixed, rate)
                    if tally.averaged == 1:
                        yield mixed
                        continue
                if samples % 2:  # at the end: a last sample without a neighbour
                    buffer[samples] = buffer[samples - 1]
                yield neighbours[: (samples + 1) // 2] @ weights
    except soundfile.SoundFileError:
        tally.errors += 1


def _mix(channels: list[np.ndarray], out: np.ndarray) -> np.ndarray:
    """Average channels [n] into `out` [n]. Added one by one: mean(axis=1) is ten times dearer."""
    if len(channels) == 1:
        out[:] = channels[0]
        return out
    np.add(channels[0], channels[1], out=out)
    for channel in channels[2:]:
        out += channel
    out *= np.float32(1 / len(channels))
    return out


def averages(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Means of samples 0 and 1, 2 and 3, and so on; a last one without a neighbour stays.

    >>> [block.tolist() for block in averages(iter([np.arange(3.0), np.arange(3.0, 5.0)]))]
    [[0.5], [2.5], [4.0]]
    """
    odd = np.empty(0, np.float32)
    for block in blocks:
        if odd.size:
            block = np.concatenate((odd, block))
        even = len(block) // 2 * 2
        odd = block[even:].copy()
        yield (block[:even:2] + block[1:even:2]) * np.float32(0.5)
    if odd.size:
        yield odd


def av_blocks(
    fd: int, name: str, tally: Tally, sample_rate: int, known: bool
) -> Iterator[np.ndarray]:
    """Yield mono blocks [n] of the first audio stream, from the sample that `tally` stands at.

    Their rate is that of the file by ``tally.averaged``.

    Packets that cannot be decoded, and holes in the time stamps, become silence and count as
    lost. `known` tells whether the container was recognised (for the error's kind).
    """
    import av

    os.lseek(fd, 0, os.SEEK_SET)
    tally.errors = 0
    try:
        container = open_container(fd)
    except (av.FFmpegError, ValueError):
        if tally.samples:
            return
        if tally.declared_s == 0:
            raise AudioError("no-samples", f"{name} holds no samples") from None
        if known:
            raise AudioError("unreadable", f"{name} is damaged: no decoder opens it") from None
        raise AudioError("not-audio", f"{name} is not audio that hashbeam can read") from None
    with container:
        if not container.streams.audio:
            raise AudioError("not-audio", f"{name} holds no audio stream")
        stream = container.streams.audio[0]
        skip = tally.samples
        blocks = _after(stream_blocks(container, stream, name, tally), skip)
        first = next(blocks, None)
        if first is None:
            return
        tally.open(tally.sample_rate, sample_rate)
        blocks = _listened(itertools.chain([first], blocks), tally)
        yield from blocks if tally.averaged == 1 else averages(blocks)


def open_container(fd: int) -> Any:
    """An open file as FFmpeg reads it: a container of sound, and nothing that names other files.

    Raises what PyAV raises.
    """
    import av

    return av.open(
        "fd:",
        options={"fd": str(fd), "format_whitelist": _DEMUXERS, "protocol_whitelist": "fd"},
    )


def _listened(blocks: Iterator[np.ndarray], tally: Tally) -> Iterator[np.ndarray]:
    """Blocks that the listener of a tally, where it has one, is given first."""
    for block in blocks:
        if tally.listener:
            tally.listener(block, tally.sample_rate)
        yield block


def _after(blocks: Iterator[np.ndarray], skip: int) -> Iterator[np.ndarray]:
    """Blocks without their first samples."""
    for block in blocks:
        if skip >= len(block):
            skip -= len(block)
            continue
        yield block[skip:]
        skip = 0


def stream_blocks(container: Any, stream: Any, name: str, tally: Tally) -> Iterator[np.ndarray]:
    """Join the frames of a stream into blocks and fill its holes, from its first sample on."""
    stream.thread_count = 1  # audio decoders gain nothing from a pool of threads a file
    if _STATED_DURATION & set(container.format.name.split(",")):
        if stream.duration:
            tally.declared_s = float(stream.duration * stream.time_base)
        elif container.duration and not container.streams.video:  # which may last longer
            tally.declared_s = container.duration / 1e6
    context = stream.codec_context
    if context is None:
        raise AudioError("unreadable", f"{name} holds audio that no decoder knows")
    rate, channels = context.sample_rate, context.layout.nb_channels
    _check_format(name, rate, channels)
    tally.sample_rate = rate
    jitter = 0.0 if container.format.name == "flac" else JITTER_S * rate
    buffer = np.empty(BLOCK_SAMPLES, np.float32)
    filled, clock, damaged = 0, 0, False
    origin: float | None = None  # time stamp of sample 0
    for frame in _frames(container, stream):
        # Damaged packets can turn stereo into 53 channels, some of them without memory behind
        # them, and the decoder stays so; whatever is not as the header says is damage.
        if frame is None or (frame.sample_rate, frame.layout.nb_channels) != (rate, channels):
            tally.errors += 1
            damaged = True
            continue
        samples = frame.samples
        if frame.pts is not None:
            stamp = float(frame.pts * frame.time_base)
            origin = stamp if origin is None else origin
            hole = round((stamp - origin) * rate) - clock
            if hole < -rate or hole > MAX_HOLE_S * rate:  # another time line begins
                tally.lost_s += max(0, hole) / rate
                origin = stamp - clock / rate
            elif hole > (0 if damaged else jitter):
                tally.lost_s += hole / rate
                clock += hole
                tally.samples = max(tally.samples, clock)
                if filled:
                    yield buffer[:filled]
                yield np.zeros(hole, np.float32)
                filled = 0
        damaged = False
        if filled + samples > len(buffer) and filled:
            yield buffer[:filled]
            filled = 0
        clock += samples
        tally.samples = max(tally.samples, clock)
        if samples > len(buffer):
            yield _mix(_channels(frame), np.empty(samples, np.float32))
        else:
            _mix(_channels(frame), buffer[filled : filled + samples])
            filled += samples
    if filled:
        yield buffer[:filled]


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the decoded frames of a stream, and None wherever something could not be decoded."""
    import av

    for _ in range(MAX_BROKEN_READS):
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    frames = [None]
                yield from frames
            return
        except av.FFmpegError:  # the reader; it may find its way behind the damage
            yield None


def _channels(frame: Any) -> list[np.ndarray]:
    """Return the channels of a frame as float32 arrays [n] of full scale 1."""
    if frame.format.name == "fltp":  # nearly every lossy codec; to_ndarray would copy
        planes = frame.planes[: frame.layout.nb_channels]
        return [np.frombuffer(plane, np.float32, frame.samples) for plane in planes]
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(frame.samples, -1).T
    if array.dtype.kind == "u":
        return [(row.astype(np.float32) - 128) / 128 for row in array]
    scale = 1.0 if array.dtype.kind == "f" else -1.0 / float(np.iinfo(array.dtype).min)
    return [row.astype(np.float32) * np.float32(scale) for row in array]
