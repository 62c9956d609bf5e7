"""Fronts of whole tracks: the snippets of a spectrogram → responses, one after another or at once.

A snippet shares most of its frames with the next one. A convolutional encoder that is given the
whole spectrogram computes its layers once for all the snippets that overlap there: with four
snippets a second, a quarter of the work that the same layers take snippet by snippet. What it hears
of a snippet then reaches a little beyond its edges, and is normalised frame by frame.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hashing.errors import ModelError
from hashing.features import FeatureConfig
from hashing.fronts import (
    Answer,
    Front,
    check_first,
    front_of,
    open_front,
    open_session,
    runner,
)
from hashing.models import Model
from hashing.quantizers import Quantizer
from hashing.snippets import standardise, standardise_frames, windows

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.integer]

# Snippets hashed at once. From 64 on the matrix products are as fast as they get; 512 snippets of
# 1,792 inputs and 1,914 hidden units are 8 MB, beside the 30 MB that an hour's spectrogram takes.
BATCH = 512

# Snippets that share their layers in one run: half a minute at four a second, of which less than a
# second is computed twice. The widest layer, of 32 channels, is then 1.1 MB.
SHARED_BATCH = 128


class TrackFront(Protocol):
    """Answers to the snippets of a spectrogram [frames, n_bands] in dB that begin at `starts`.

    They come in the order of `starts`, which rise, some at a time; once where there are none.
    """

    def __call__(self, spec: Floats, starts: Ints) -> Iterator[Answer]: ...


def answers(front: Front, cut: Floats, rows: Ints, features: FeatureConfig) -> Iterator[Answer]:
    """Answers to some rows of snippets [n, n_bands, snippet_frames] in dB, a batch at a time."""
    for first in range(0, max(1, len(rows)), BATCH):
        yield front(standardise(cut[rows[first : first + BATCH]], features))


@dataclasses.dataclass(frozen=True)
class SeparateSnippets:
    """A `TrackFront` that hears every snippet on its own."""

    front: Front
    features: FeatureConfig

    def __call__(self, spec: Floats, starts: Ints) -> Iterator[Answer]:
        """See `TrackFront`."""
        return answers(self.front, windows(spec, self.features), starts, self.features)


@dataclasses.dataclass(frozen=True)
class Reach:
    """Where the answers of a graph lie that hears a spectrogram; its metadata, as whole numbers.

    Attributes:
      stride: frames from one answer to the next.
      before, after: frames that it takes in before its first snippet and after its last.
    """

    stride: int
    before: int
    after: int

    def frames(self, snippets: int, features: FeatureConfig) -> int:
        """Frames that so many answers need."""
        whole = (snippets - 1) * self.stride + features.snippet_frames
        return self.before + whole + self.after


@dataclasses.dataclass(frozen=True)
class SharedLayers:
    """A `TrackFront` of snippets that share the layers of an encoder.

    Attributes:
      run: standardised spectrogram [frames, n_bands] → answers, ``reach.stride`` frames apart.
    """

    run: Callable[[Floats], Answer]
    reach: Reach
    features: FeatureConfig

    def __call__(self, spec: Floats, starts: Ints) -> Iterator[Answer]:
        """See `TrackFront`."""
        reach = self.reach
        # Beyond its ends a track is at its mean level.
        ends = (reach.before, reach.after)
        padded = np.pad(standardise_frames(spec, self.features), (ends, (0, 0)))
        if not starts.size:
            nothing = np.zeros((reach.frames(1, self.features), spec.shape[1]), np.float32)
            return iter([self.run(nothing).take(np.empty(0, np.int64))])
        phases = np.unique(starts % reach.stride)
        if len(phases) <= 1:
            return self._in_phase(padded, starts)
        # Snippets denser than the answers: the spectrogram is heard once for every phase.
        chosen = [np.flatnonzero(starts % reach.stride == phase) for phase in phases]
        found = [part for rows in chosen for part in self._in_phase(padded, starts[rows])]
        return iter([Answer.join(found).take(np.argsort(np.concatenate(chosen)))])

    def _in_phase(self, padded: Floats, starts: Ints) -> Iterator[Answer]:
        """Answers to snippets a whole number of strides apart, counted from the track's start."""
        rows, phase = np.divmod(starts, self.reach.stride)
        last = int(rows[-1])
        for first in range(0, last + 1, SHARED_BATCH):
            end = min(first + SHARED_BATCH, last + 1)
            mine = rows[(rows >= first) & (rows < end)]
            if mine.size:
                begin = int(phase[0]) + first * self.reach.stride
                needed = self.reach.frames(end - first, self.features)
                answer = self.run(padded[begin : begin + needed])
                if len(answer.responses) != end - first:
                    raise ModelError(
                        f"model.onnx gives {len(answer.responses)} answers to {end - first} "
                        "snippets: copy the model anew"
                    )
                yield answer.take(mine - first)


def open_fronts(
    model: Model, features: FeatureConfig, quantizer: Quantizer
) -> tuple[TrackFront, Front]:
    """The fronts of a model for tracks and for the snippets of queries.

    A model with a graph ``query`` beside ``model`` listens to queries with more effort; ``model``
    may then be one that hears spectrograms.

    Raises `ModelError` where a graph cannot be run or has other ends.
    """
    own: Callable[[Floats], Floats] | None = getattr(quantizer, "responses", None)
    has_query = "query" in model.graphs
    if own is not None:
        respond = own
        front: Front = lambda inputs: Answer(respond(inputs))  # noqa: E731
        return SeparateSnippets(front, features), front
    session = open_session(model)
    shared = _shared_of(session, model, features, quantizer)
    if shared is None:
        front = front_of(session, model, features, quantizer, "model")
        query = open_front(model, features, quantizer, "query") if has_query else front
        return SeparateSnippets(front, features), query
    if not has_query:
        raise ModelError(f"model {model.path} lacks query.onnx: copy the model anew")
    return shared, open_front(model, features, quantizer, "query")


def _shared_of(
    session: Any, model: Model, features: FeatureConfig, quantizer: Quantizer
) -> SharedLayers | None:
    """The front of a graph that hears spectrograms; None where it does not hear such."""
    run = runner(session, "spectrogram", (features.n_bands,))
    if run is None:
        return None
    told = session.get_modelmeta().custom_metadata_map
    fields = [field.name for field in dataclasses.fields(Reach)]
    # Digits only: what a stranger's file says becomes sizes of arrays.
    if not all(re.fullmatch(r"[0-9]{1,4}", told.get(name, "")) for name in fields):
        raise ModelError(f"model {model.path}: model.onnx tells no reach: copy the model anew")
    reach = Reach(*(int(told[name]) for name in fields))
    for n in (1, 3):
        values = np.zeros((reach.frames(n, features), features.n_bands), np.float32)
        if len(check_first(run, values, model, "model", quantizer).responses) != n:
            raise ModelError(
                f"model {model.path}: model.onnx does not answer every {reach.stride} frames: "
                "copy the model anew"
            )
    return SharedLayers(run, reach, features)
