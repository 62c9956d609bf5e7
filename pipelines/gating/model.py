"""The gate of a model that is to take over: it must not find less than the one before.

Both are asked the same queries. Of 200, models that disagree on a tenth of them differ by 2.2
hundredths by chance (one standard error). So a difference counts as worse where it is beyond chance
and more than `MARGIN`, or more than `FAR` whatever the interval says: of few tracks it is too wide
to say anything. By that, an equal model is refused once in 40 times, one that is 5 hundredths
worse three times in five, one that is 8 worse 19 times in 20.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.gating.bounds import Bounds, Gate

MARGIN = 0.02
FAR = 0.05


def gate_model(figures: Mapping[str, Any], bounds: Bounds) -> Gate:
    """Whether a new model finds what the published one does.

    Args:
      figures: as `pipelines.reindexing.rivals.compare` gives them.

    >>> figures = {"queries": 200, "tracks": 200, "published": 0.9, "new": 0.84,
    ...     "difference": -0.06, "low": -0.1, "high": -0.02}
    >>> gate_model(figures, Bounds()).passed
    False
    >>> gate_model({**figures, "difference": -0.04, "high": 0.01}, Bounds()).passed
    True
    """
    asked, tracks = figures["queries"], figures["tracks"]
    if not asked:
        message = "no query could be cut from tracks that both versions hold"
        return Gate("model", None, -MARGIN, False, message)
    value, low, high = (float(figures[name]) for name in ("difference", "low", "high"))
    worse = value < -FAR or (value < -MARGIN and high < 0)
    message = (
        f"of {asked} queries from {tracks} tracks the new model finds {figures['new']:.1%}, the "
        f"published one {figures['published']:.1%}: {100 * value:+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f})"
    )
    return Gate("model", value, -MARGIN, not worse, message)
