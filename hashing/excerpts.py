"""Some parts of a file, decoded without what lies between them where the format can seek.

Where that fails in any way, all of the file is decoded, by `hashing.audio`, which also judges what
is wrong with it. Where a file is decoded for another purpose, its parts are had from that.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import audio, containers, readers
from hashing.errors import AudioError

Floats = npt.NDArray[np.float32]
Spans = Sequence[tuple[float, float]]

# Seconds decoded before a part and thrown away: decoders of lossy codecs need some packets to find
# their state (Opus 80 ms, RFC 7845), and so does the resampler's filter.
WARM_UP_S = 0.2

# Seeking pays where less than this share of a file is wanted.
SEEK_BELOW = 0.7

# Formats whose places are exact, and found by `hashing.audio` or by FFmpeg. In mp3 of varying bit
# rate FFmpeg guesses them, and in m4a they are off by what the encoder put first: those are decoded
# whole, at some 600 times real time.
_EXACT = ("wav", "flac")
_BY_FFMPEG = ("ogg",)


@dataclasses.dataclass(frozen=True)
class Excerpts:
    """Parts of a track: mono samples [n] each, and the duration of the whole track, seconds."""

    parts: list[Floats]
    duration_s: float


def decode_excerpts(
    path: str,
    sample_rate: int,
    spans_of: Callable[[float], Spans],
    *,
    max_seconds: float = 7200.0,
) -> Excerpts:
    """Decode the parts of a file that `spans_of` names when it is told the duration, seconds.

    Args:
      path: of the file.
      sample_rate: Hz, of the samples returned.
      spans_of: duration → (start, duration) of each part, seconds.
      max_seconds: longer tracks are refused.

    Raises:
      AudioError: as `hashing.audio.decode_blocks`. Damage outside of the parts goes unseen where
        the format can seek.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     audio.encode(np.zeros(48000, np.float32), 8000, f"{folder}/a.wav", codec="wav")
    ...     found = decode_excerpts(f"{folder}/a.wav", 8000, lambda s: [(0.0, 1.0), (s - 1, 1.0)])
    >>> [part.size for part in found.parts], found.duration_s
    ([8000, 8000], 6.0)
    """
    found = _seek(path, sample_rate, spans_of, max_seconds)
    if found is not None:
        return found
    samples = audio.decode(path, sample_rate, max_seconds=max_seconds)
    duration_s = samples.size / sample_rate
    return Excerpts(
        [_slice(samples, sample_rate, start, length) for start, length in spans_of(duration_s)],
        duration_s,
    )


class Overheard:
    """Parts of a file that is being decoded at another rate: its `hear` is the listener.

    All of the track stays in memory at `sample_rate` (Hz), since nobody knows how long it will be.

    >>> import tempfile
    >>> overheard = Overheard(4000)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     audio.encode(np.zeros(48000, np.float32), 8000, f"{folder}/a.wav", codec="wav")
    ...     samples = audio.decode(f"{folder}/a.wav", 2000, listener=overheard.hear)
    >>> found = overheard.excerpts(lambda duration_s: [(0.0, 1.0), (duration_s - 1, 1.0)])
    >>> samples.size, [part.size for part in found.parts], found.duration_s
    (12000, [4000, 4000], 6.0)
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._pieces: list[Floats] = []
        self._stream: Any = None

    def hear(self, block: Floats, rate: int) -> None:
        """Takes in the next mono block [n] at `rate` Hz, the same for all blocks."""
        import soxr

        if rate == self.sample_rate:
            self._pieces.append(block.copy())
            return
        if self._stream is None:
            self._stream = soxr.ResampleStream(rate, self.sample_rate, 1, quality=audio.QUALITY)
        self._pieces.append(self._stream.resample_chunk(block))

    def excerpts(self, spans_of: Callable[[float], Spans]) -> Excerpts:
        """The parts that `spans_of` names, as in `decode_excerpts`; after the last block.

        Raises:
          AudioError: ``no-samples``.
        """
        if self._stream is not None:
            self._pieces.append(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
            self._stream = None
        ends = np.cumsum([piece.size for piece in self._pieces])
        if not ends.size or not ends[-1]:
            raise AudioError("no-samples", "track has no samples")
        duration_s = int(ends[-1]) / self.sample_rate
        parts = []
        for start_s, length_s in spans_of(duration_s):
            # Of the pieces only those that the part touches are joined.
            start, size = (round(s * self.sample_rate) for s in (start_s, length_s))
            first, last = np.searchsorted(ends, [start, start + size])
            ahead = start - (int(ends[first - 1]) if first else 0)
            joined = np.concatenate(self._pieces[first : last + 1])
            parts.append(joined[ahead : ahead + size])
        return Excerpts(parts, duration_s)

    def samples(self) -> Floats:
        """All of the track, mono [n] at `sample_rate`; after the last block.

        Raises:
          AudioError: ``no-samples``.
        """
        return self.excerpts(lambda duration_s: [(0.0, duration_s)]).parts[0]


def _slice(samples: Floats, sample_rate: int, start_s: float, length_s: float) -> Floats:
    first = round(start_s * sample_rate)
    return samples[first : first + round(length_s * sample_rate)]


def _seek(
    path: str, sample_rate: int, spans_of: Callable[[float], Spans], max_seconds: float
) -> Excerpts | None:
    """The parts, where seeking pays and everything is as the file says; else None."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except (OSError, ValueError):
        return None
    try:
        facts = containers.inspect(fd, os.fstat(fd).st_size)
        if facts.cut:
            return None
        if facts.name in _EXACT:
            duration_s = facts.declared_s or 0.0
            spans = _worth_it(duration_s, spans_of, max_seconds)
            parts = [
                audio.decode(path, sample_rate, start_s=start, duration_s=length)
                for start, length in spans
            ]
        elif facts.name in _BY_FFMPEG:
            duration_s, spans, parts = _by_ffmpeg(
                fd, facts.declared_s, sample_rate, spans_of, max_seconds
            )
        else:
            return None
    except (AudioError, OSError, ValueError):
        return None
    finally:
        os.close(fd)
    whole = all(
        part.size == round(length * sample_rate)
        for part, (_, length) in zip(parts, spans, strict=True)
    )
    return Excerpts(parts, duration_s) if parts and whole else None


def _worth_it(duration_s: float, spans_of: Callable[[float], Spans], max_seconds: float) -> Spans:
    """The parts; none where all of the file had better be decoded."""
    if not 0.0 < duration_s <= max_seconds:
        return []
    spans = spans_of(duration_s)
    return spans if sum(length for _, length in spans) <= SEEK_BELOW * duration_s else []


def _by_ffmpeg(
    fd: int,
    declared_s: float | None,
    sample_rate: int,
    spans_of: Callable[[float], Spans],
    max_seconds: float,
) -> tuple[float, Spans, list[Floats]]:
    """Duration, spans and parts of an open file; raises what FFmpeg raises, too, as AudioError."""
    import av

    try:
        with readers.open_container(fd) as container:
            if not container.streams.audio:
                return 0.0, [], []
            stream = container.streams.audio[0]
            duration_s = declared_s or 0.0
            spans = _worth_it(duration_s, spans_of, max_seconds)
            parts = [_part(container, stream, span, sample_rate) for span in spans]
            return duration_s, spans, parts
    except av.FFmpegError as error:
        raise AudioError("unreadable", f"it cannot be searched: {error}") from None


def _part(container: Any, stream: Any, span: tuple[float, float], sample_rate: int) -> Floats:
    """Samples of one part; fewer where the file does not hold them."""
    import soxr

    start_s, length_s = span
    origin_s = float((stream.start_time or 0) * stream.time_base)
    before_s = origin_s + max(0.0, start_s - WARM_UP_S)
    container.seek(int(before_s / stream.time_base), stream=stream)
    blocks: list[Floats] = []
    first_s = math.inf
    rate = stream.codec_context.sample_rate
    for frame in container.decode(stream):
        # What lossy codecs decode to; of any other, and of damage, `hashing.audio` knows more.
        if frame.format.name != "fltp" or frame.pts is None or frame.sample_rate != rate:
            raise AudioError("unreadable", "it cannot be decoded in parts")
        at_s = float(frame.pts * frame.time_base) - origin_s
        if at_s + frame.samples / rate < before_s - origin_s:
            continue
        first_s = min(first_s, at_s)
        blocks.append(frame.to_ndarray().mean(axis=0))
        if at_s > start_s + length_s + WARM_UP_S:
            break
    if not blocks or first_s > start_s:
        raise AudioError("unreadable", f"it has nothing at {start_s:g} s")
    native = np.concatenate(blocks)
    # The first sample that is also one at the rate that is wanted.
    first = round(first_s * rate)
    ahead = -first % (rate // math.gcd(rate, sample_rate))
    native = native[ahead:]
    samples = native if rate == sample_rate else soxr.resample(native, rate, sample_rate, "MQ")
    skip = round(start_s * sample_rate) - (first + ahead) * sample_rate // rate
    if skip < 0:
        raise AudioError("unreadable", f"it has nothing at {start_s:g} s")
    return np.asarray(samples[skip : skip + round(length_s * sample_rate)], dtype=np.float32)
