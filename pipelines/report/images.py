"""Spectrograms as small PNG images inside a page."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import numpy.typing as npt

from hashing.audio import decode
from hashing.features import FeatureConfig, spectrogram

# Colours of rising loudness, RGB at equal distances: dark blue, violet, red, orange, cream. Their
# lightness rises as well, so that the image can be read without seeing colours.
_COLOURS = ((10, 12, 30), (66, 30, 112), (178, 52, 108), (246, 132, 72), (253, 242, 196))
_LEVELS = 128  # more are not told apart, and compress worse


def spectrogram_png(path: str, config: FeatureConfig | None = None) -> bytes:
    """The spectrogram of a recording as a hasher hears it, as a PNG file.

    A pixel is a frame (across) and a band (upwards); colours span ``config.dynamic_range_db``
    below the loudest cell. Raises `AudioError` for what cannot be decoded, or is shorter than a
    frame.
    """
    config = config or FeatureConfig()
    levels_db = spectrogram([decode(path, config.sample_rate)], config)
    loudness = 1.0 + (levels_db - levels_db.max(initial=-300.0)) / config.dynamic_range_db
    return png(np.clip(loudness, 0.0, 1.0).T[::-1])


def png(values: npt.NDArray[np.float32]) -> bytes:
    """An image of `values` [height, width] from 0 to 1 (PNG, W3C 2003: 8 bits, with a palette).

    >>> image = png(np.zeros((2, 3), np.float32))
    >>> image[:8], struct.unpack(">II", image[16:24])
    (b'\\x89PNG\\r\\n\\x1a\\n', (3, 2))
    """
    height, width = values.shape
    at = np.linspace(0.0, len(_COLOURS) - 1.0, _LEVELS)
    channels = np.array(_COLOURS, np.float64).T
    palette = np.stack([np.interp(at, range(len(_COLOURS)), one) for one in channels], axis=1)
    rows = np.zeros((height, 1 + width), np.uint8)  # each begins with its filter, 0 for none
    rows[:, 1:] = np.round(values * (_LEVELS - 1))
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        + _chunk(b"PLTE", palette.round().astype(np.uint8).tobytes())
        + _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + _chunk(b"IEND", b"")
    )


def data_uri(image: bytes) -> str:
    """A PNG file as an address that holds all of it.

    >>> data_uri(b"PNG")
    'data:image/png;base64,UE5H'
    """
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
