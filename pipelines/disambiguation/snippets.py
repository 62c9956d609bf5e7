"""Seconds of the most typical tracks to listen to, as small files that the report takes in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO

import numpy as np

from hashing.audio import encode
from hashing.decoder import Decoder
from hashing.errors import AudioError, HashbeamError
from pipelines import io
from pipelines.allowed import allowed_now

FOLDER = "snippets"
LENGTH_S = 6.0  # s: a singer is known in less
RATE = 22050  # Hz: keeps what tells voices and instruments apart
BIT_RATE = 32000  # bits/s: 24 kB a snippet, and every browser plays mp3
PEAK = 0.9  # of full scale: snippets are heard side by side, whatever their loudness was


def cut_snippets(
    folder: str,
    tracks: Iterable[tuple[str, str, float]],
    decoder: Decoder,
    *,
    timeout_s: float,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Track id → path of its snippet, cut from the middle; tracks that cannot be cut are left out.

    Args:
        folder: of the results.
        tracks: id, uri and duration (s) of each.
        timeout_s: without a decoded block.
    """
    found: dict[str, str] = {}
    for track_id, uri, duration_s in tracks:
        state = f"{track_id}\0{uri}\0{duration_s:.3f}"
        name = hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()[:20]
        path = io.join(folder, FOLDER, f"{name}.mp3")
        # One that cannot be cut has no snippet, which the page can do without.
        if io.exists(path) or _cut(path, uri, duration_s, decoder, timeout_s):
            found[track_id] = path
        progress()
    return found


def as_address(path: str) -> str:
    """A snippet as an address that holds its bytes, so that a page needs no other file."""
    return f"data:audio/mpeg;base64,{base64.b64encode(io.read_bytes(path)).decode('ascii')}"


def forget_others(folder: str, kept: Iterable[str]) -> None:
    """Deletes the snippets that no page needs any more."""
    names = set(kept)
    for name in io.list_dir(io.join(folder, FOLDER)):
        path = io.join(folder, FOLDER, name)
        if path not in names:
            io.remove(path)


def _cut(path: str, uri: str, duration_s: float, decoder: Decoder, timeout_s: float) -> bool:
    start_s = max(0.0, (duration_s - LENGTH_S) / 2)
    try:
        with allowed_now().local_copy(uri) as local:
            blocks = decoder.blocks(
                local, RATE, start_s=start_s, duration_s=LENGTH_S, timeout_s=timeout_s
            )
            samples = _evened(list(blocks))
    except (AudioError, HashbeamError):
        return False
    if not samples.size:
        return False
    file = BytesIO()
    encode(samples, RATE, file, codec="mp3", bit_rate=BIT_RATE)
    io.write_bytes(path, file.getvalue())
    return True


def _evened(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """At one peak, and without clicks at the ends.

    >>> _evened([np.full(4, 0.5, np.float32)]).max().round(3)
    np.float32(0.9)
    """
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    peak = float(np.abs(samples).max(initial=0.0))
    samples = samples * np.float32(PEAK / peak) if peak else samples
    fade = min(RATE // 50, samples.size // 2)
    if samples.size > RATE:
        ramp = np.linspace(0, 1, fade, dtype=np.float32)
        samples[:fade] *= ramp
        samples[samples.size - fade :] *= ramp[::-1]
    return np.asarray(samples, np.float32)
