"""Hash sequences for the indexes of `quick_index`: of a file's bytes, without any sound."""

from __future__ import annotations

import hashlib

import numpy as np

from hashing.sequences import TrackSequence


def sequence_of(data: bytes) -> TrackSequence:
    """The hash sequence that a file's bytes stand for."""
    seed = hashlib.blake2b(b"sequence " + data, digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(seed, "little"))
    n = int(rng.integers(1, 9))
    return TrackSequence(
        rng.integers(0, 1 << 32, n, np.uint32),
        rng.standard_normal((2, 4)).astype(np.float16).astype(np.float32),
        rng.integers(0, 256, (8 * n, 24), np.uint8),
    )


def as_bytes(sequence: TrackSequence) -> tuple[bytes, bytes, bytes]:
    """Codes, embeddings and levels."""
    return sequence.codes.tobytes(), sequence.embeddings.tobytes(), sequence.levels.tobytes()
