"""Binary codes: bits to packed bytes, bytes to integer keys of hash tables, Hamming distance.

Bit `k` of a code is bit ``k % 8`` of byte ``k // 8``, the least significant bit being bit 0; the
last byte is padded with zeros. A *key* is made of chosen bits of a code, the first chosen bit being
the most significant: a shorter key is then a prefix of a longer one, and ranges of keys nest.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

MAX_KEY_BITS = 32  # a key is a uint32; a posting is packed as key << 32 | snippet in a uint64

# Rows handled at once by `keys`: 16,384 rows of 58 bytes and the scratch columns stay in a 2 MiB
# L2 cache (measured: 45 M rows/s at 22 bits; 24 M at 2,048 rows, 36 M at 32,768).
_CHUNK_ROWS = 16_384
# Below this many rows, unpacking all bits once for all tables beats a pass for each table.
_FEW_ROWS = 4_096
_LOW_BITS = 0x0101_0101_0101_0101  # bit 0 of each byte of a 64-bit word
# Column `i` of eight rows is one word: byte `d` of a uint32 key in memory is fixed by byte order.
_KEY_BYTES = range(4) if sys.byteorder == "little" else range(3, -1, -1)


def pack(bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack truth values ``[n, bits]`` into bytes ``[n, ceil(bits / 8)]``.

    >>> pack(np.array([[True, False, False, False, False, False, False, False, True]]))
    array([[1, 1]], dtype=uint8)
    """
    values = np.asarray(bits)
    if values.ndim != 2:
        raise ValueError(f"bits must be [n, bits], got shape={values.shape}")
    return np.packbits(values.astype(np.bool_, copy=False), axis=1, bitorder="little")


def unpack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.bool_]:
    """The first `bits` bits of each packed code ``[n, width]`` as truth values ``[n, bits]``.

    >>> unpack(np.array([[5]], np.uint8), 3)
    array([[ True, False,  True]])
    """
    codes = _as_codes(codes)
    if not 0 <= bits <= 8 * codes.shape[1]:
        raise ValueError(f"bits={bits} do not fit codes of {codes.shape[1]} bytes")
    return np.unpackbits(codes, axis=1, count=bits, bitorder="little").view(np.bool_)


def keys(codes: NDArray[np.uint8], positions: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Keys made of the chosen bits of each code.

    Args:
        codes: uint8 ``[n, width]``.
        positions: numbers of the bits, most significant first: ``[key_bits]`` for one table, or
            ``[n_tables, key_bits]`` for several at once; 1 to 32 bits a key.

    Returns:
        uint32 ``[n]``, or ``[n, n_tables]``.

    Raises:
        ValueError: shapes, or a position outside the codes.

    >>> codes = np.array([[0b0000_0001, 0b1000_0000]], np.uint8)
    >>> keys(codes, np.array([0, 1, 15]))
    array([5], dtype=uint32)
    >>> keys(codes, np.array([[0, 1], [15, 0]]))
    array([[2, 3]], dtype=uint32)
    """
    codes = _as_codes(codes)
    chosen = np.asarray(positions)
    if chosen.ndim not in (1, 2) or not 1 <= chosen.shape[-1] <= MAX_KEY_BITS:
        raise ValueError(
            f"positions must be [key_bits] or [n_tables, key_bits] with 1 to {MAX_KEY_BITS} bits, "
            f"got shape={chosen.shape}"
        )
    lowest, highest = int(chosen.min(initial=0)), int(chosen.max(initial=0))
    bits = 8 * codes.shape[1]
    if lowest < 0 or (highest >= bits and chosen.size):
        raise ValueError(f"positions {lowest}…{highest} reach outside codes of {bits} bits")
    if len(codes) < _FEW_ROWS:
        return _keys_of_few(codes, chosen)
    if chosen.ndim == 1:
        return _keys_of_many(codes, chosen)
    out = np.empty((len(codes), len(chosen)), np.uint32)
    for table, one in enumerate(chosen):
        out[:, table] = _keys_of_many(codes, one)
    return out


def hamming(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Number of differing bits of packed codes ``[..., width]``; the shapes are broadcast.

    >>> hamming(np.array([[0], [7]], np.uint8), np.array([1], np.uint8))
    array([1, 2], dtype=int32)
    """
    differing = np.bitwise_count(np.bitwise_xor(a, b))
    # einsum sums short rows twice as fast as sum(axis=-1).
    return np.asarray(np.einsum("...j->...", differing, dtype=np.int32, casting="unsafe"))


def likeness(a: NDArray[np.uint8], b: NDArray[np.uint8], bits: int) -> NDArray[np.float32]:
    """Cosine of packed codes ``[..., width]`` of `bits` bits, taken as ±1.

    >>> likeness(np.array([[0], [7]], np.uint8), np.array([1], np.uint8), 4).tolist()
    [0.5, 0.0]
    """
    return np.asarray(1.0 - hamming(a, b) * np.float32(2.0 / bits), dtype=np.float32)


def sign_scores(weights: NDArray[np.floating], bits: int) -> NDArray[np.float32]:
    """Cosine of each row of weights ``[n, bits]`` and codes of bits as ±1, by byte of the code.

    Returns:
        float32 ``[n, ceil(bits / 8), 256]``: the cosine is the sum over a code's bytes.

    >>> scores = sign_scores(np.array([[3.0, -3.0]]), 2)
    >>> scores[0, 0, [0b01, 0b11, 0b10]].round(3).tolist()
    [1.0, 0.0, -1.0]
    """
    width = -(-bits // 8)
    # Weights of all zeros have no direction: they score nothing.
    weights = weights / (np.linalg.norm(weights, axis=1, keepdims=True) + 1e-9)
    padded = np.zeros((len(weights), 8 * width), dtype=np.float32)
    padded[:, :bits] = weights / np.asarray(np.sqrt(bits), dtype=weights.dtype)
    scores = padded.reshape(-1, 8) @ _SIGNS
    return np.asarray(scores, dtype=np.float32).reshape(len(weights), width, 256)


# Bit k of each byte as ±1, [8, 256].
_SIGNS = np.where(np.arange(256)[None, :] >> np.arange(8)[:, None] & 1, 1.0, -1.0).astype(
    np.float32
)


def _as_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.dtype != np.uint8:
        raise ValueError(f"codes must be uint8 [n, width], got {codes.dtype} {codes.shape}")
    return codes


def _keys_of_few(codes: NDArray[np.uint8], positions: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Gather all the bits, then weigh them with powers of two in one product."""
    key_bits = positions.shape[-1]
    bits = np.unpackbits(codes, axis=1, bitorder="little")
    # Sums of distinct powers of two are exact in float32 up to 24 bits, in float64 up to 53.
    exact = np.dtype(np.float32 if key_bits <= 24 else np.float64)
    weights = np.exp2(np.arange(key_bits - 1, -1, -1)).astype(exact)
    gathered = np.take(bits, positions.ravel(), axis=1).reshape(-1, key_bits).astype(exact)
    # Not `@`: BLAS would start its threads for a product that takes microseconds.
    summed: NDArray[np.floating] = np.einsum("ij,j->i", gathered, weights)
    return summed.astype(np.uint32).reshape(len(codes), *positions.shape[:-1])


def _keys_of_many(codes: NDArray[np.uint8], positions: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Transpose the bytes that matter, then move each bit in 64-bit words of eight rows."""
    key_bits = len(positions)
    sources = np.unique(positions // 8)
    moves: list[tuple[int, np.uint64, int, int]] = []  # column, mask, key byte, shift to the left
    for j, position in enumerate(positions.tolist()):
        target = key_bits - 1 - j
        column = int(np.searchsorted(sources, position // 8))
        mask = np.uint64(_LOW_BITS << (position % 8))
        moves.append((column, mask, target // 8, target % 8 - position % 8))

    out = np.empty(len(codes), np.uint32)
    out_bytes = out.view(np.uint8).reshape(-1, 4)
    columns = np.zeros((len(sources), _CHUNK_ROWS), np.uint8)
    key_bytes = np.zeros((4, _CHUNK_ROWS), np.uint8)
    column_words, key_words = columns.view(np.uint64), key_bytes.view(np.uint64)
    moved = np.empty(_CHUNK_ROWS // 8, np.uint64)
    for start in range(0, len(codes), _CHUNK_ROWS):
        chunk = codes[start : start + _CHUNK_ROWS]
        rows = len(chunk)
        for column, source in enumerate(sources.tolist()):
            columns[column, :rows] = chunk[:, source]
        key_words[:] = 0
        for column, mask, target_byte, shift in moves:
            np.bitwise_and(column_words[column], mask, out=moved)
            # One bit a byte is left after the mask, so that no shift reaches the next byte.
            if shift > 0:
                np.left_shift(moved, np.uint64(shift), out=moved)
            elif shift < 0:
                np.right_shift(moved, np.uint64(-shift), out=moved)
            np.bitwise_or(key_words[target_byte], moved, out=key_words[target_byte])
        for byte, place in enumerate(_KEY_BYTES):
            out_bytes[start : start + rows, place] = key_bytes[byte, :rows]
    return out
