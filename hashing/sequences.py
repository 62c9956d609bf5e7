"""Sequences of hashes and embeddings of windows: what a MIDI file finds its recording by.

A track becomes constant-Q frames (`hashing.cqt`); a trunk of convolutions makes a 32-bit code of
every eight of them, and a second graph, with attention, an embedding of each window of codes. Audio
and rendered scores go through the same trunk, each standardised by its own statistics, and come out
as the same codes where they are the same music.

Source: Raffel, "Learning-based methods for comparing sequences, with applications to audio-to-MIDI
alignment and matching" (2016), chapters 5 and 6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hashing import cqt
from hashing.cqt import CqtConfig
from hashing.errors import AudioError, ModelError
from hashing.fronts import open_session
from hashing.models import DEFAULT_SEQUENCE_MODEL, SEQUENCE_KIND, Model, load_model

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint32]
Packed = npt.NDArray[np.uint8]
Side = Literal["audio", "score"]

SIDES: tuple[Side, ...] = ("audio", "score")
SCORES = ("rendered", "roll")
BITS = 32  # of a code: a word, so that a distance is one XOR and one population count
FIRST_CODES = 2  # that a model must make before it is used


@dataclasses.dataclass(frozen=True)
class SequenceFeatures:
    """What a sequence is made of.

    Attributes:
      cqt: the frames.
      downsampling: frames of a code.
      window, hop: codes of a window that becomes an embedding, and from one to the next.
      dimensions: of an embedding.
      score: what is heard of a score: ``rendered`` (its constant-Q frames) or ``roll`` (its piano
        roll, `hashing.piano_rolls`).
    """

    cqt: CqtConfig = dataclasses.field(default_factory=CqtConfig)
    downsampling: int = 8
    window: int = 80  # 30 s
    hop: int = 40
    dimensions: int = 128
    score: str = "rendered"

    def __post_init__(self) -> None:
        for name, high in (("downsampling", 64), ("window", 1 << 16), ("hop", 1 << 16)):
            value = getattr(self, name)
            if not (type(value) is int and 1 <= value <= high):
                raise ModelError(f"sequence setting {name}={value!r} is not a count up to {high}")
        if self.score not in SCORES:
            raise ModelError(f"sequence setting score={self.score!r} is none of {SCORES}")
        if self.hop > self.window:
            raise ModelError(f"sequence settings: hop={self.hop} leaves gaps between windows")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SequenceFeatures:
        """Settings as ``config.json`` holds them; raises `ModelError` for one that is unknown."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ModelError(f"unknown feature settings {unknown}: the model is of a later version")
        return cls(**{**values, "cqt": CqtConfig(**values["cqt"])})

    @property
    def code_s(self) -> float:
        """From one code to the next, s."""
        return self.downsampling * self.cqt.frame_s

    def windows(self, codes: int) -> list[slice]:
        """Where the windows of so many codes lie; the last ends with them.

        >>> SequenceFeatures().windows(100), SequenceFeatures().windows(10)
        ([slice(0, 80, None), slice(20, 100, None)], [slice(0, 10, None)])
        """
        last = max(codes - self.window, 0)
        firsts = [*range(0, last, self.hop), last]
        return [slice(first, min(first + self.window, codes)) for first in firsts]


@dataclasses.dataclass(frozen=True)
class TrackSequence:
    """A track, or a score, heard.

    Attributes:
      codes: uint32 [n], one every `SequenceFeatures.code_s` seconds from the beginning on.
      embeddings: float32 [w, d] of length one, of the windows `SequenceFeatures.windows`.
      levels: uint8 [t, 24], the frames as `hashing.cqt.pack_levels` packs them, for alignment.
    """

    codes: Codes
    embeddings: Floats
    levels: Packed

    def frames(self, config: CqtConfig) -> Floats:
        """The frames that an alignment compares, float32 [t, n_bins] of length one."""
        return cqt.heard_frames(cqt.unpack_levels(self.levels, config), config)


class SequenceEncoder:
    """A sequence model, ready to run: samples of a track → codes, embeddings and frames.

    Attributes:
      features: what they are made of.
      digest: the model's identity: equal digests give equal codes.
    """

    def __init__(self, model: Model) -> None:
        if model.config["kind"] != SEQUENCE_KIND:
            raise ModelError(
                f"model {model.path} is of the kind {model.config['kind']!r}: name one of the kind "
                f"{SEQUENCE_KIND!r}"
            )
        try:
            self.features = SequenceFeatures.from_json(model.config["features"])
            self._sides = {side: _open_side(model, side, self.features) for side in SIDES}
        except (LookupError, TypeError, ValueError) as error:
            raise ModelError(f"model {model.path} is damaged ({error}): copy it anew") from None
        self.model = model
        self.digest = model.digest

    @classmethod
    def load(cls, name_or_folder: str = DEFAULT_SEQUENCE_MODEL) -> SequenceEncoder:
        """A shipped model by name, or a model folder; raises `ModelError`."""
        return cls(load_model(name_or_folder))

    def hear(self, samples: Floats, side: Side = "audio") -> TrackSequence:
        """What becomes of a track's samples, mono [n] at ``features.cqt.sample_rate``.

        Raises:
          AudioError: ``too-short`` for less than a code, ``silent`` where nothing is to be heard,
            ``unreadable`` for samples that are no numbers.
        """
        config = self.features.cqt
        if samples.size and not np.isfinite(samples).all():
            raise AudioError("unreadable", "track is damaged: some samples are no numbers")
        self._check_length(len(samples) // config.hop_length + 1)
        levels = cqt.decibels(cqt.magnitudes(samples, config))
        if not (levels > -config.dynamic_range_db).any():
            raise AudioError("silent", "track is silent: no note of it can be heard")
        return self.hear_levels(levels, side)

    def hear_levels(self, levels: Floats, side: Side = "audio") -> TrackSequence:
        """The same of levels [t, n_bins] in dB below the loudest (`hashing.cqt.decibels`).

        Raises: AudioError: ``too-short`` for less than a code.
        """
        self._check_length(len(levels))
        heard = self._sides[side]
        frames = (cqt.heard_frames(levels, self.features.cqt) - heard.mean) / heard.deviation
        *features, responses = _run(heard.hashes, frames)
        # Embeddings are made of what the hashes stand on, or else of the frames themselves.
        steps, each = (features[0], 1) if features else (frames, self.features.downsampling)
        found = [
            _run(heard.embeddings, steps[part.start * each : part.stop * each])[0]
            for part in self.features.windows(len(responses))
        ]
        return TrackSequence(
            pack_codes(responses),
            np.concatenate(found),
            cqt.pack_levels(levels, self.features.cqt),
        )

    def _check_length(self, frames: int) -> None:
        if frames < self.features.downsampling:
            seconds = frames * self.features.cqt.frame_s
            raise AudioError(
                "too-short",
                f"track of {seconds:.2f} s is shorter than a code of {self.features.code_s:.2f} s",
            )


@dataclasses.dataclass(frozen=True)
class _Heard:
    """One side: statistics [bins] of its frames, and sessions of its two graphs."""

    mean: Floats
    deviation: Floats
    hashes: Any
    embeddings: Any


def _open_side(model: Model, side: str, features: SequenceFeatures) -> _Heard:
    """A side's own graphs, or those that both sides share."""
    bins = features.cqt.n_bins
    mean, deviation = _statistics(model, side, bins)
    names = model.graphs
    hashes = open_session(model, "trunk" if "trunk" in names else side)
    embeddings = open_session(model, "embedding" if "trunk" in names else f"{side}_embedding")
    ends = [[*one.get_inputs(), *one.get_outputs()] for one in (hashes, embeddings)]
    (heard, *made, bits), (steps, size) = ([end.shape[-1] for end in part] for part in ends)
    fits = len(made) < 2 and steps == (*made, bins)[0]
    if not fits or [heard, bits, size] != [bins, BITS, features.dimensions]:
        raise ValueError(
            f"its graphs do not make {BITS} bits of frames of {bins} bins, and embeddings of "
            f"{features.dimensions}"
        )
    # Whatever else does not fit shows on the first frames, before a catalogue is decoded.
    frames = np.zeros((FIRST_CODES * features.downsampling, bins), np.float32)
    try:
        *found, responses = _run(hashes, frames)
        (one,) = _run(embeddings, found[0] if found else frames)
    except Exception as error:  # onnxruntime raises classes of its own that it does not export
        raise ValueError(f"its graphs cannot be run: {str(error).splitlines()[0][:200]}") from None
    shapes = [responses.shape, one.shape, *(array.shape[:1] for array in found)]
    wanted = [(FIRST_CODES, BITS), (1, features.dimensions), *[(FIRST_CODES,)] * len(made)]
    if shapes != wanted or not (np.isfinite(responses).all() and np.isfinite(one).all()):
        raise ValueError(f"its graphs do not make a code of {features.downsampling} frames")
    return _Heard(mean, deviation, hashes, embeddings)


def _run(session: Any, values: Floats) -> list[Floats]:
    name = session.get_inputs()[0].name
    found: list[Floats] = session.run(None, {name: np.ascontiguousarray(values, np.float32)})
    return found


def pack_codes(responses: npt.NDArray[np.floating[Any]]) -> Codes:
    """Responses [n, 32] → codes [n]: bit i is set where response i is above 0.

    >>> pack_codes(np.array([[1.0, -1.0, 1.0] + [-1.0] * 29])).tolist()
    [5]
    """
    bits = np.packbits(responses > 0, axis=-1, bitorder="little")
    return np.ascontiguousarray(bits).view("<u4")[..., 0].astype(np.uint32)


def _statistics(model: Model, side: str, bins: int) -> tuple[Floats, Floats]:
    """Mean and deviation [bins] of a side."""
    found = []
    for name in (f"{side}.mean", f"{side}.deviation"):
        values = np.asarray(model.arrays[name], dtype=np.float32)
        if values.shape != (bins,) or not np.isfinite(values).all():
            raise ValueError(f"{name} is not {bins} numbers")
        found.append(values)
    if not (found[1] > 0).all():
        raise ValueError(f"{side}.deviation must be above 0")
    return found[0], found[1]
