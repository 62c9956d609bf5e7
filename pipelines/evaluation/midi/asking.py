"""Each MIDI file asks for its recording: by all stages, and by those of the baselines."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.cascade import CascadeSettings
from hashing.midi_figures import (
    Asked,
    Decision,
    Found,
    baseline_stages,
    decide,
    lay_at_two_scales,
    lay_frames,
    learned_stages,
    search,
)
from hashing.sequences import SequenceFeatures, TrackSequence

Means = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

# Cascades: name, what finds candidates, what decides.
OWN, PUBLISHED, BASELINE = "own", "published", "baseline"
CASCADES = {OWN: ("own", lay_at_two_scales), PUBLISHED: ("own", lay_frames)}
CASCADES[BASELINE] = ("baseline", lay_frames)


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What all say of one score.

    Attributes:
      found: by what finds candidates, "own" and "baseline".
      decisions: by cascade, `CASCADES`.
    """

    found: dict[str, Found]
    decisions: dict[str, Decision]


class Asker:
    """Asks among recordings, in a process of its own perhaps.

    Args:
      recordings: all of them.
      means: of the frames of audio and of scores in training, [bins] each.
    """

    def __init__(
        self,
        recordings: Sequence[TrackSequence],
        features: SequenceFeatures,
        means: Means,
        settings: CascadeSettings,
    ) -> None:
        self._recordings, self._features, self._settings = recordings, features, settings
        self._stages = {
            "own": learned_stages(recordings),
            "baseline": baseline_stages(recordings, features, *means),
        }
        self._warm_up()

    def __call__(self, asked: Asked) -> Answer:
        """One score."""
        found = {
            name: search(asked, stages, self._settings) for name, stages in self._stages.items()
        }
        decisions = {}
        for name, (by, lay) in CASCADES.items():

            def laid(number: int, lay: Callable[..., Any] = lay) -> Any:
                return lay(asked.heard, self._recordings[number], self._features)

            decisions[name] = decide(asked, found[by], laid)
        return Answer(found, decisions)

    def _warm_up(self) -> None:
        """Loops are compiled before any time is taken."""
        times_s = np.array([0.0, 1.0])
        few = Asked(self._recordings[0], 0, times_s, times_s)
        for stages in self._stages.values():
            search(few, stages, self._settings)
        for _, lay in CASCADES.values():
            lay(few.heard, few.heard, self._features)


def asker(
    recordings: Sequence[TrackSequence],
    features: SequenceFeatures,
    means: Means,
    settings: CascadeSettings,
) -> Callable[[], Asker]:
    """What makes an `Asker` in another process."""
    return functools.partial(Asker, recordings, features, means, settings)
