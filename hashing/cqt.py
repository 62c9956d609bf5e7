"""Constant-Q spectra of a whole track: what a hash sequence and an alignment are computed from.

Forty-eight semitones from C2 to B5, 21.6 frames a second, as log magnitudes: the features that
Raffel matched MIDI files to recordings with ("Learning-Based Methods for Comparing Sequences",
2016, chapter 4). At 2,760 Hz the longest window is 710 samples, so that all bins of a frame are one
product of real matrices; above B5 nothing is heard, and nothing need be sampled.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import ModelError

Floats = npt.NDArray[np.float32]
Packed = npt.NDArray[np.uint8]

A4_HZ, A4 = 440.0, 69  # the pitch that tuning starts from, and its number in MIDI
LONGEST = 1 << 16  # samples of a window: what a strange model asks for must fit into memory
FLOOR = 1e-5  # amplitude below which a bin counts as silent: -100 dB re full scale

STEPS = 15  # the highest level of four bits: levels are kept in 4 dB

# Frames transformed at once: with 710 samples each they are 1.4 MB, and stay in the L2 cache.
FRAMES_PER_BLOCK = 512


@dataclasses.dataclass(frozen=True)
class CqtConfig:
    """What a frame is. The defaults are those of the published system, but for the sample rate.

    >>> config = CqtConfig()
    >>> round(config.frame_s, 4), config.longest
    (0.0464, 710)
    """

    sample_rate: int = 2760  # Hz; the highest band ends at 1,018 Hz, well below half of it
    hop_length: int = 128  # samples, 46.4 ms
    lowest: int = 36  # MIDI number of the lowest bin: C2, 65.4 Hz
    n_bins: int = 48  # four octaves of semitones
    dynamic_range_db: float = 60.0  # dB below the loudest cell of a track that still count

    def __post_init__(self) -> None:
        for name, high in (("sample_rate", 1 << 20), ("hop_length", 1 << 16), ("n_bins", 128)):
            value = getattr(self, name)
            if not (type(value) is int and 1 <= value <= high):
                raise ModelError(f"CQT setting {name}={value!r} is not a count up to {high}")
        if not (type(self.lowest) is int and 12 <= self.lowest <= 127):
            raise ModelError(f"CQT setting lowest={self.lowest!r} is no MIDI pitch from 12 to 127")
        if not 1.0 <= float(self.dynamic_range_db) <= 120.0:
            raise ModelError("CQT setting dynamic_range_db must be from 1 to 120")
        highest = self.frequencies[-1] * (1 + 1 / self.q)
        if highest > self.sample_rate / 2:
            raise ModelError(
                f"CQT settings: the highest band ends at {highest:.0f} Hz, above half of "
                f"sample_rate={self.sample_rate}"
            )
        if self.longest > LONGEST:
            raise ModelError(
                f"CQT settings: windows of {self.longest} samples are longer than {LONGEST}"
            )

    @property
    def q(self) -> float:
        """Centre frequency by bandwidth: that of neighbouring semitones."""
        return float(1 / (2 ** (1 / 12) - 1))

    @property
    def pitches(self) -> npt.NDArray[np.int64]:
        """MIDI numbers [n_bins] of the bins."""
        return np.arange(self.lowest, self.lowest + self.n_bins)

    @property
    def frequencies(self) -> npt.NDArray[np.float64]:
        """Centre frequencies [n_bins] of the bins, Hz."""
        hz: npt.NDArray[np.float64] = A4_HZ * 2.0 ** ((self.pitches - A4) / 12)
        return hz

    @property
    def longest(self) -> int:
        """Samples of the longest window, that of the lowest bin."""
        return int(np.ceil(self.q * self.sample_rate / self.frequencies[0]))

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame that is packed (`pack_levels`)."""
        return -(-self.n_bins // 2)

    @property
    def frame_s(self) -> float:
        """From one frame to the next, s."""
        return self.hop_length / self.sample_rate


def magnitudes(samples: Floats, config: CqtConfig | None = None) -> Floats:
    """Amplitudes [frames, n_bins] of mono `samples` at `config.sample_rate`.

    Frame t is centred on sample t · hop_length; a sine of amplitude a at the centre of a bin has
    a there. Before the first sample and after the last one there is silence.

    Returns:
      1 + len(samples) // hop_length frames.

    >>> config = CqtConfig()
    >>> time = np.arange(config.sample_rate) / config.sample_rate
    >>> tone = 0.5 * np.sin(2 * np.pi * 440 * time).astype(np.float32)
    >>> found = magnitudes(tone)[10]
    >>> int(found.argmax()) + config.lowest, round(float(found.max()), 2)
    (69, 0.5)
    """
    config = config or CqtConfig()
    kernels = _kernels(config)
    length = kernels.shape[0]
    hop, frames = config.hop_length, 1 + len(samples) // config.hop_length
    padded = np.zeros((frames - 1) * hop + length, np.float32)
    room = padded[length // 2 : length // 2 + len(samples)]
    room[:] = samples[: len(room)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]
    out = np.empty((frames, config.n_bins), np.float32)
    for first in range(0, frames, FRAMES_PER_BLOCK):
        parts = windows[first : first + FRAMES_PER_BLOCK] @ kernels
        cosines, sines = parts[:, : config.n_bins], parts[:, config.n_bins :]
        np.hypot(cosines, sines, out=out[first : first + FRAMES_PER_BLOCK])
    return out


def decibels(amplitudes: Floats) -> Floats:
    """Levels [frames, n_bins] in dB below the loudest cell, none below that of `FLOOR`.

    Where nothing is louder than `FLOOR`, all is at -100 dB.

    >>> decibels(np.array([[1.0, 0.1], [0.0, 0.5]], np.float32)).round(1).tolist()
    [[0.0, -20.0], [-100.0, -6.0]]
    """
    loudest = float(amplitudes.max(initial=0.0))
    if loudest < FLOOR:
        return np.full_like(amplitudes, 20 * np.log10(FLOOR))
    levels = np.maximum(amplitudes / np.float32(loudest), np.float32(FLOOR))
    return np.asarray(20 * np.log10(levels), np.float32)


def heard_frames(levels: Floats, config: CqtConfig | None = None) -> Floats:
    """Levels [..., n_bins] above what is silent beside the loudest, each frame of length one.

    Each cell is the dB by which it stands above `dynamic_range_db` below 0 dB, and 0 where it does
    not; each frame is divided by its Euclidean norm. A silent frame is 0.

    >>> heard_frames(np.array([[-60.0, -20.0], [-90.0, -60.0]], np.float32)).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    config = config or CqtConfig()
    return unit_frames(np.maximum(levels + np.float32(config.dynamic_range_db), 0))


def log_frames(amplitudes: Floats, config: CqtConfig | None = None) -> Floats:
    """What is heard of the amplitudes [frames, n_bins] of a track, as `heard_frames`.

    >>> log_frames(np.array([[1.0, 0.1], [0.0, 0.0]], np.float32)).round(1).tolist()[1]
    [0.0, 0.0]
    """
    return heard_frames(decibels(amplitudes), config)


def pack_levels(levels: Floats, config: CqtConfig | None = None) -> Packed:
    """Levels [frames, n_bins] in dB as four bits each, two a byte: [frames, ceil(n_bins / 2)].

    Sixteen steps over the dynamic range, 4 dB each: an alignment by these frames is as good as by
    the whole numbers (`tests/benchmarks/bench_sequences.py`), at a sixteenth of the bytes.

    >>> pack_levels(np.array([[-60.0, 0.0, -28.0]], np.float32)).tolist()
    [[240, 8]]
    """
    config = config or CqtConfig()
    step_db = config.dynamic_range_db / STEPS
    steps = np.clip(np.round(levels / np.float32(step_db)) + STEPS, 0, STEPS).astype(np.uint8)
    if steps.shape[1] % 2:
        steps = np.pad(steps, ((0, 0), (0, 1)))
    return np.ascontiguousarray(steps[:, ::2] | steps[:, 1::2] << 4)


def unpack_levels(packed: Packed, config: CqtConfig | None = None) -> Floats:
    """What `pack_levels` has packed, as levels [frames, n_bins] in dB.

    >>> unpack_levels(np.array([[240, 8]], np.uint8), CqtConfig(n_bins=3)).tolist()
    [[-60.0, 0.0, -28.0]]
    """
    config = config or CqtConfig()
    steps = np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), 2 * packed.shape[1])
    step_db = np.float32(config.dynamic_range_db / STEPS)
    return np.asarray((steps[:, : config.n_bins].astype(np.float32) - STEPS) * step_db)


def unit_frames(frames: Floats) -> Floats:
    """Frames [..., d] divided by their Euclidean norms; those of zeros stay so."""
    norms = np.linalg.norm(frames, axis=-1, keepdims=True)
    unit: Floats = np.divide(frames, norms, out=np.zeros_like(frames), where=norms > 0)
    return unit


@functools.cache
def _kernels(config: CqtConfig) -> Any:
    """Windowed cosines and sines [longest, 2 · n_bins], float32, centred in their columns."""
    length = config.longest + config.longest % 2
    out = np.zeros((length, 2 * config.n_bins))
    for column, hz in enumerate(config.frequencies):
        size = config.q * config.sample_rate / hz  # samples, not whole
        time = np.arange(length) - length // 2
        inside = np.abs(time) < size / 2
        window = np.where(inside, 0.5 + 0.5 * np.cos(2 * np.pi * time / size), 0.0)
        phase = 2 * np.pi * hz / config.sample_rate * time
        scale = 2 / window.sum()
        out[:, column] = window * np.cos(phase) * scale
        out[:, config.n_bins + column] = -window * np.sin(phase) * scale
    return np.ascontiguousarray(out, np.float32)
