"""A calibrated score: the share of such matches that are right.

The inputs mean the same in a small and in a huge catalogue, and for a short and a long query; their
weights are fitted for each model on queries of training music, some of whose tracks are not in the
index, and stand in the model's ``config.json``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import ModelError
from hashing.ranking import CHANCE_SIMILARITY

Values = npt.NDArray[np.float64]

# Of a query for which nothing else was found: the strength of a rival, and the mean and deviation
# of chance, a snippet.
NO_RIVAL, NO_MEAN, NO_DEVIATION = 0.0, 0.0, 0.05

NAMES = (
    "intercept",
    "similarity",
    "margin",
    "ratio",
    "distance",
    "snippets",
    "similarity_snippets",
    "margin_snippets",
    "distance_snippets",
    "contrast",
    "norm",
    "contrast_snippets",
    "norm_snippets",
    "similarity_contrast",
    "similarity_norm",
)


# Contrast of a query, dB, beyond which it says no more of noise: 95 % of degraded music has less.
MOST_CONTRAST = 12.0


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What speaks for matches, one value a match; arrays of any one shape.

    Attributes:
      strength: similarity beyond chance, summed over the part (`hashing.ranking`).
      similarity: mean over the snippets of the part.
      rival: strength of the best other track for the same part; NaN where there is none.
      mean, deviation: of the strengths of tracks far down the list, which are chance; NaN where
        the list is short.
      snippets: of the index in the part.
      contrast: of the query's snippets, dB: how much of them noise has left.
      norm: of the query's embeddings, before they were made one.
    """

    strength: Values
    similarity: Values
    rival: Values
    mean: Values
    deviation: Values
    snippets: Values
    contrast: Values
    norm: Values

    def take(self, chosen: Any) -> Evidence:
        """Some of the matches."""
        fields = [field.name for field in dataclasses.fields(self)]
        return Evidence(**{name: np.asarray(getattr(self, name)[chosen]) for name in fields})

    def inputs(self) -> Values:
        """The inputs of the logistic, [..., len(NAMES)], the first all ones.

        >>> one = np.ones(1)
        >>> Evidence(one, one, 0 * one, 0 * one, 0.05 * one, one, one, one).inputs().shape
        (1, 15)
        """
        n = np.maximum(self.snippets, 1.0)
        strength = self.strength / n
        rival = np.where(np.isnan(self.rival), NO_RIVAL, self.rival) / n
        mean = np.where(np.isnan(self.mean), NO_MEAN, self.mean / n)
        deviation = np.where(np.isnan(self.deviation), NO_DEVIATION, self.deviation / n) + 0.01
        margin = strength - rival
        ratio = margin / np.maximum(0.9 - rival, 0.05)
        distance = np.arcsinh((strength - mean) / deviation / 4.0)
        length = np.log(n)
        contrast = np.minimum(self.contrast, MOST_CONTRAST) / 10.0
        norm = np.log(np.maximum(self.norm, 1e-3))
        return np.stack(
            [
                np.ones_like(strength),
                self.similarity,
                margin,
                ratio,
                distance,
                length,
                self.similarity * length,
                margin * length,
                distance * length,
                contrast,
                norm,
                contrast * length,
                norm * length,
                # Noise lowers what the right answer reaches, and hardly what chance does.
                self.similarity * contrast,
                self.similarity * norm,
            ],
            axis=-1,
        )


@dataclasses.dataclass(frozen=True)
class Confidence:
    """Logistic regression on `Evidence`.

    The default weights are no calibration: they order matches by margin and similarity, for a model
    that has none.

    Attributes:
      weights: of the inputs.
      chance: similarity that counts for nothing, of the model that the weights are for.

    >>> one = np.ones(1)
    >>> evidence = Evidence(0.7 * one, 0.8 * one, 0.1 * one, 0.1 * one, 0.05 * one, one, one, one)
    >>> bool(0.9 < Confidence().score(evidence)[0] < 1.0)
    True
    """

    weights: tuple[float, ...] = (-6.0, 3.0, 16.0, 0.0, 1.0, 0.0, 2.0, 4.0, 0.5, *(0.0,) * 6)
    chance: float = CHANCE_SIMILARITY

    @classmethod
    def from_json(cls, calibration: Mapping[str, Any]) -> Confidence:
        """The calibration of a model's ``config.json``; raises `ModelError` for a damaged one."""
        if not calibration:
            return cls()
        weights = calibration.get("weights") if isinstance(calibration, Mapping) else None
        if not isinstance(weights, Mapping) or set(weights) != set(NAMES):
            raise ModelError(f"the model's calibration must give the weights {', '.join(NAMES)}")
        values = [weights[name] for name in NAMES] + [calibration.get("chance")]
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
            raise ModelError("the model's calibration has values that are not finite numbers")
        *fitted, chance = (float(value) for value in values)
        return cls(tuple(fitted), chance)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"weights": dict(zip(NAMES, self.weights, strict=True)), "chance": self.chance}

    def score(self, evidence: Evidence) -> Values:
        """Probability that each match is right, 0 to 1, never rounded."""
        logit = evidence.inputs() @ np.asarray(self.weights)
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -700.0, 700.0))))
