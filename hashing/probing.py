"""Which buckets a query looks into: its own, then those that differ in the bits most in doubt.

A real-valued response tells how sure each bit is; keys with the least certain bits flipped are
looked up as well (multi-probe: Lv et al., "Multi-Probe LSH", VLDB 2007).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import codes
from hashing.errors import ModelError

Floats = npt.NDArray[np.float32]


def check_tables(tables: npt.NDArray[Any], bits: int) -> npt.NDArray[np.int16]:
    """`tables` [n_tables, key_bits], which name bits 0 to `bits` - 1; else `ModelError`."""
    found = np.asarray(tables)
    if found.ndim != 2 or not found.size or not np.issubdtype(found.dtype, np.integer):
        raise ModelError("tables must be whole numbers [n_tables, key_bits]")
    if found.min() < 0 or found.max() >= bits:
        raise ModelError(f"tables name bits outside 0 to {bits - 1}")
    if found.shape[1] > codes.MAX_KEY_BITS:
        raise ModelError(f"tables have keys of more than {codes.MAX_KEY_BITS} bits")
    return found.astype(np.int16)


def probe_keys(
    margins: Floats, positions: npt.NDArray[np.int16], probes: int
) -> npt.NDArray[np.uint32]:
    """Keys to look a snippet up with, the likeliest first.

    Args:
      margins: response minus threshold over the spread of each bit, [n, bits]; a bit is 1 where its
        margin is above 0, and in doubt where it is near 0.
      positions: numbers of each table's bits, [n_tables, key_bits].
      probes: keys a table; the first is the snippet's own, the following have the bits flipped
        whose margins have the smallest sum of squares, one bit or two.

    Returns:
      [n, probes, n_tables] uint32.

    >>> probe_keys(np.array([[0.1, -2.0]], np.float32), np.array([[0, 1]], np.int16), 2).tolist()
    [[[2], [0]]]
    """
    key_bits = positions.shape[1]
    own = codes.keys(codes.pack(margins > 0.0), positions)
    if probes <= 1:
        return own[:, None, :]
    # With the d least certain bits, all single flips and all pairs of flips are candidates.
    d = min(key_bits, max(2, probes))
    doubt = np.square(margins[:, positions])
    uncertain = np.argpartition(doubt, d - 1, axis=2)[:, :, :d]
    costs = np.take_along_axis(doubt, uncertain, axis=2)
    flips = (np.uint32(1) << (key_bits - 1 - uncertain).astype(np.uint32)).astype(np.uint32)
    first, second = np.triu_indices(d, k=1)
    all_costs = np.concatenate((costs, costs[:, :, first] + costs[:, :, second]), axis=2)
    all_flips = np.concatenate((flips, flips[:, :, first] | flips[:, :, second]), axis=2)
    wanted = min(probes - 1, all_costs.shape[2])
    best = np.argsort(all_costs, axis=2, kind="stable")[:, :, :wanted]
    masks = np.take_along_axis(all_flips, best, axis=2)
    flipped = own[:, :, None] ^ masks
    return np.concatenate((own[:, None, :], flipped.transpose(0, 2, 1)), axis=1)
