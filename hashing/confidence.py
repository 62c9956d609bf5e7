"""A calibrated score: the share of such matches that are right.

The inputs mean the same in a small and in a huge catalogue, and for a short and a long query (see
`hashing.voting.surprise`); their weights are fitted for each model on queries of training music,
some of whose tracks are not in the index, and stand in the model's ``config.json``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import ModelError

Values = npt.NDArray[np.float64]

# Nats at which the inputs turn from linear to logarithmic: a few nats are the difference between
# chance and certainty, hundreds are all the same certainty but must still differ.
SCALE = 5.0

NAMES = ("intercept", "surprise", "margin", "share", "snippets")


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What speaks for matches, one value a match; arrays of any one shape.

    Attributes:
      surprise: nats beyond chance (`hashing.voting.surprise`).
      margin: surprise less that of the best other track for the same part of the query, nats.
      share: votes over look-ups in the part of the query that the match explains.
      snippets: snippets of the query in that part.
    """

    surprise: Values
    margin: Values
    share: Values
    snippets: Values

    def inputs(self) -> Values:
        """The inputs of the logistic, [..., 5], the first all ones.

        >>> one = np.ones(1)
        >>> Evidence(5 * one, 0 * one, one, one).inputs().round(2).tolist()
        [[1.0, 0.88, 0.0, 1.0, 0.0]]
        """
        return np.stack(
            [
                np.ones_like(self.surprise),
                np.arcsinh(self.surprise / SCALE),
                np.arcsinh(self.margin / SCALE),
                np.sqrt(np.maximum(self.share, 0.0)),
                np.log(np.maximum(self.snippets, 1.0)),
            ],
            axis=-1,
        )


@dataclasses.dataclass(frozen=True)
class Confidence:
    """Logistic regression on `Evidence`.

    The default weights are no calibration: they order matches by surprise and margin, for a model
    that has none.

    >>> one = np.ones(1)
    >>> score = Confidence().score(Evidence(50 * one, 50 * one, one, 9 * one))
    >>> bool(0.9 < score[0] < 1.0)
    True
    """

    weights: tuple[float, ...] = (-3.0, 1.0, 2.0, 0.0, 0.0)

    @classmethod
    def from_json(cls, calibration: Mapping[str, Any]) -> Confidence:
        """The calibration of a model's ``config.json``; raises `ModelError` for a damaged one."""
        if not calibration:
            return cls()
        weights = calibration.get("weights") if isinstance(calibration, Mapping) else None
        if not isinstance(weights, Mapping) or set(weights) != set(NAMES):
            raise ModelError(f"the model's calibration must give the weights {', '.join(NAMES)}")
        values = tuple(weights[name] for name in NAMES)
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
            raise ModelError("the model's calibration has weights that are not finite numbers")
        return cls(tuple(float(value) for value in values))

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"weights": dict(zip(NAMES, self.weights, strict=True))}

    def score(self, evidence: Evidence) -> Values:
        """Probability that each match is right, 0 to 1, never rounded."""
        logit = evidence.inputs() @ np.asarray(self.weights)
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -700.0, 700.0))))
