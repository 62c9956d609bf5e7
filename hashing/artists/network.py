"""The part of an artist embedding that a network makes of mel spectrograms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.artists.mel_segments import cut_segments
from hashing.errors import ModelError
from hashing.features import FeatureConfig, spectrogram
from hashing.fronts import open_session
from hashing.models import Model

Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Network:
    """The part made by a network (Royo-Letelier et al., or Park et al., both ISMIR 2018).

    What it makes of a track is the mean over the track's segments, not yet of length one.

    Attributes:
      config: what the network hears: ``snippet_frames`` frames of ``n_bands`` levels in dB.
      session: of its graph, segments [n, n_bands * snippet_frames] → embedding [n, d] of length
        one (`hashing.training.artists.export`).
    """

    config: FeatureConfig
    session: Any

    def __post_init__(self) -> None:
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        width = self.config.n_bands * self.config.snippet_frames
        fit = len(inputs) == 1 and list(inputs[0].shape[1:]) == [width]
        if not fit or len(outputs) != 1 or len(outputs[0].shape) != 2:
            raise ValueError(
                f"its network takes {[one.shape for one in inputs]} and gives "
                f"{[one.shape for one in outputs]}, not segments of {width} levels and embeddings"
            )

    def embed(self, segments: Sequence[Floats]) -> Floats:
        """Segments of a track, mono at ``config.sample_rate``, → [d].

        A segment that is longer than what the network hears is heard in as many pieces as fit; one
        that is shorter is heard again from its beginning.
        """
        pieces = []
        for samples in segments:
            levels = spectrogram([samples], self.config)
            count = max(1, len(levels) // self.config.snippet_frames)
            starts = np.arange(count, dtype=np.int64) * self.config.snippet_frames
            pieces.append(cut_segments(levels, starts, self.config))
        heard = np.concatenate(pieces)
        name = self.session.get_inputs()[0].name
        (found,) = self.session.run(None, {name: heard.reshape(len(heard), -1)})
        return np.asarray(found.mean(axis=0), dtype=np.float32)


def open_network(model: Model, sample_rate: int) -> Network:
    """The network of a model whose segments come at `sample_rate`.

    Raises:
      ModelError: the graph cannot be run.
      KeyError, TypeError, ValueError: the model's settings do not fit the graph or the rate.
    """
    config = FeatureConfig.from_json(model.config["network"])
    if config.sample_rate != sample_rate:
        raise ModelError(
            f"model {model.path}: its network hears {config.sample_rate} Hz, "
            f"its segments have {sample_rate} Hz"
        )
    return Network(config, open_session(model, "network"))
