"""How learning rates fall."""

from __future__ import annotations

import math


def cosine(progress: float) -> float:
    """From 1 to 0 along half a cosine, while progress goes from 0 to 1.

    Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts" (ICLR 2017), without
    restarts.

    >>> [round(cosine(progress), 3) for progress in (0.0, 0.25, 0.5, 1.0, 2.0)]
    [1.0, 0.854, 0.5, 0.0, 0.0]
    """
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
