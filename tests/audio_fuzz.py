"""Mutated audio files: bit flips, cuts, swapped containers, fuzzed headers; the same for a seed."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import numpy as np

from hashing.audio import encode
from hashing.synthesis import render_track

CONTAINERS = ("wav", "flac", "ogg", "mp3", "opus", "m4a")
SECONDS = 3.0  # long enough to be hashed, short enough that a thousand take minutes
RATE = 22050  # Hz
BIT_RATES = {"mp3": 64_000, "opus": 64_000, "m4a": 64_000}

# Bytes at the start and the end where containers say what they hold: ID3 and RIFF headers, the
# STREAMINFO of FLAC, the first Ogg pages; MP4 has its boxes at the end.
HEADER_BYTES = 512

# What headers are fuzzed with: the limits of counts, lengths and rates of 8 to 64 bits.
EXTREMES = tuple(
    value.to_bytes(width, order)
    for width in (1, 2, 4, 8)
    for value in (0, 1, (1 << (8 * width - 1)) - 1, 1 << (8 * width - 1), (1 << (8 * width)) - 1)
    for order in ("little", "big")
)


@functools.cache
def whole_file(container: str) -> bytes:
    """A sound file of `SECONDS` of music, stereo."""
    left = render_track(11, SECONDS, RATE)
    samples = np.stack([left, 0.8 * np.roll(left, 7)], axis=1)
    file = io.BytesIO()
    encode(samples, RATE, file, codec=container, bit_rate=BIT_RATES.get(container))
    return file.getvalue()


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """From one bit to one in a hundred bytes, anywhere."""
    out = np.frombuffer(data, np.uint8).copy()
    count = int(np.exp(rng.uniform(0, np.log(max(2, out.size // 100)))))
    places = rng.integers(0, out.size, count)
    out[places] ^= np.uint8(1) << rng.integers(0, 8, count).astype(np.uint8)
    return out.tobytes()


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    """The end is gone, the beginning, or a hole is torn."""
    low, high = np.sort(rng.integers(0, len(data) + 1, 2)).tolist()
    return (data[:low], data[high:], data[:low] + data[high:])[int(rng.integers(3))]


def swap_container(data: bytes, rng: np.random.Generator) -> bytes:
    """The head of another container's file, or pieces of both, one after the other."""
    other = whole_file(CONTAINERS[int(rng.integers(len(CONTAINERS)))])
    cut = int(rng.integers(4, HEADER_BYTES))
    place = int(rng.integers(len(data)))
    whole = (other[:cut] + data[cut:], other[:cut] + data, data[:place] + other)
    return whole[int(rng.integers(3))]


def fuzz_header(data: bytes, rng: np.random.Generator) -> bytes:
    """Extreme numbers at places of the first or the last bytes."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        value = EXTREMES[int(rng.integers(len(EXTREMES)))]
        within = int(rng.integers(min(HEADER_BYTES, len(out)) - len(value)))
        place = within if rng.random() < 0.75 else len(out) - HEADER_BYTES + within
        out[place : place + len(value)] = value
    return bytes(out)


def noise_block(data: bytes, rng: np.random.Generator) -> bytes:
    """A run of bytes is random, doubled, or zero: a lost sector."""
    out = bytearray(data)
    size = int(rng.integers(1, 4096))
    place = int(rng.integers(len(out)))
    part = bytes(out[place : place + size])
    kinds = (rng.bytes(len(part)), part + part, bytes(len(part)))
    out[place : place + size] = kinds[int(rng.integers(3))]
    return bytes(out)


MUTATIONS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "flip": flip_bits,
    "cut": truncate,
    "swap": swap_container,
    "header": fuzz_header,
    "sector": noise_block,
}


def mutant(number: int, seed: int = 0) -> tuple[str, bytes]:
    """The name and the bytes of mutated file `number`: containers and mutations take turns.

    Its extension is that of its origin; every fifth file is mutated in two ways.
    """
    rng = np.random.default_rng([seed, number])
    container = CONTAINERS[number % len(CONTAINERS)]
    kinds = list(MUTATIONS)
    kind = kinds[number // len(CONTAINERS) % len(kinds)]
    data = MUTATIONS[kind](whole_file(container), rng)
    if number % 5 == 4 and len(data) > 2 * HEADER_BYTES:
        kind += "+flip"
        data = flip_bits(data, rng)
    return f"{number:04d}-{kind}.{container}", data
