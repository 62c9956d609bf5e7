"""Artist embeddings: tracks of one artist are near each other, whatever they are.

A track is heard in segments. Each part of a model makes an embedding of them; the parts are joined,
each of length one times its weight, and the whole has length one. The one that stands on classic
statistics (`hashing.artists.features`) projects their ranks to directions in which tracks differ,
the strong ones held back; another may be a network (`hashing.artists.network`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hashing.artists.features import MIN_SEGMENT_S, ArtistFeatures, n_statistics, segment_statistics
from hashing.artists.network import open_network
from hashing.errors import AudioError, ModelError
from hashing.excerpts import decode_excerpts
from hashing.models import ARTIST_KIND, DEFAULT_ARTIST_MODEL, Model, load_model

Floats = npt.NDArray[np.float32]

KIND = ARTIST_KIND

# dB re full scale, mean power of a segment: quieter ones are left out.
SILENCE_DB = -60.0

# Normal scores that ranks become, at most: the first and last half per cent of what is known.
# What lies beyond is as extreme, and not more.
SCORE_MAX = 2.6


@dataclasses.dataclass(frozen=True)
class TrackEmbedding:
    """A track heard.

    Attributes:
      embedding: float32 [d], of length one.
      n_segments: segments that were heard; silent ones are not.
      duration_s: of the whole track, seconds.
    """

    embedding: Floats
    n_segments: int
    duration_s: float


class Part(Protocol):
    """One of the embeddings that are joined."""

    def embed(self, segments: Sequence[Floats]) -> Floats:
        """Segments of a track, none silent, mono at the model's rate → [d], of any length."""
        ...


@dataclasses.dataclass(frozen=True)
class Statistics:
    """The part made of classic statistics.

    Attributes:
      features: the settings.
      quantiles: of every statistic, rising, [q, F], at normal scores equally spaced from
        ``-SCORE_MAX`` to ``SCORE_MAX``.
      mean: of the tracks' mean scores, [F].
      projection: [F, d].
    """

    features: ArtistFeatures
    quantiles: Floats
    mean: Floats
    projection: Floats

    def __post_init__(self) -> None:
        width = n_statistics(self.features)
        shapes = (self.quantiles.shape[1:], self.mean.shape, self.projection.shape[:1])
        fit = all(shape == (width,) for shape in shapes)
        if not fit or self.projection.ndim != 2 or len(self.quantiles) < 2:
            raise ValueError(
                f"quantiles {list(self.quantiles.shape)}, mean {list(self.mean.shape)} and "
                f"projection {list(self.projection.shape)} do not fit {width} statistics"
            )
        for values in (self.quantiles, self.mean, self.projection):
            if not np.isfinite(values).all():
                raise ValueError("quantiles, mean and projection must be finite")

    def embed(self, segments: Sequence[Floats]) -> Floats:
        """See `Part`."""
        return self.project(np.stack([segment_statistics(s, self.features) for s in segments]))

    def project(self, statistics: Floats) -> Floats:
        """Embedding [d] of the statistics [n, F] of a track's segments; not yet of length one."""
        scores = normal_scores(statistics, self.quantiles)
        return np.asarray((scores.mean(axis=0) - self.mean) @ self.projection)


def normal_scores(statistics: Floats, quantiles: Floats) -> Floats:
    """Statistics [n, F] as the normal scores of their ranks, by a table of quantiles [q, F].

    Ranks are what is left of a statistic when any stretching of its scale is taken out, and an
    outlier is no more than the highest rank.

    >>> table = np.array([[0.0], [1.0], [100.0]], np.float32)
    >>> normal_scores(np.array([[1.0], [1e6]], np.float32), table).tolist()
    [[0.0], [2.5999999046325684]]
    """
    scores = np.linspace(-SCORE_MAX, SCORE_MAX, len(quantiles))
    columns = [np.interp(x, q, scores) for x, q in zip(statistics.T, quantiles.T, strict=True)]
    return np.stack(columns, axis=1).astype(np.float32)


def unit(vectors: Floats) -> Floats:
    """Vectors [..., d] of length one; zero stays zero.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-12)), dtype=np.float32)


class ArtistEncoder:
    """An artist model, ready to run: segments of a track → an embedding.

    Attributes:
      features: which segments, at which rate.
      cut: Ward distance up to which tracks are of one artist, tuned on artists kept for that.
      digest: the model's identity: equal digests give equal embeddings.
    """

    def __init__(self, model: Model) -> None:
        if model.config["kind"] != KIND:
            raise ModelError(
                f"model {model.path} is of the kind {model.config['kind']!r}: name one of the kind "
                f"{KIND!r}"
            )
        try:
            self.features = ArtistFeatures.from_json(model.config["features"])
            self.cut = float(model.config["cut"])
            self._parts = _open_parts(model, self.features)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"model {model.path} is damaged ({error}): copy it anew") from None
        if not (math.isfinite(self.cut) and self.cut > 0):
            raise ModelError(f"model {model.path}: its cut must be above 0, not {self.cut}")
        self.model = model
        self.digest = model.digest

    @classmethod
    def load(cls, name_or_folder: str = DEFAULT_ARTIST_MODEL) -> ArtistEncoder:
        """A shipped model by name, or a model folder; raises `ModelError`."""
        return cls(load_model(name_or_folder))

    def embed(self, segments: Iterable[Floats]) -> Floats:
        """Embedding of a track, float32 [d], of length one.

        Args:
          segments: of one track, mono float32 [n] each, at ``features.sample_rate``.

        Raises:
          AudioError: ``no-samples`` without segments, ``too-short`` for segments of less than
            `hashing.artists.features.MIN_SEGMENT_S`, ``silent`` where none is above `SILENCE_DB`,
            ``unreadable`` for samples that are no numbers.
        """
        return self._join(heard_segments(segments, self.features))

    def embed_file(self, path: str, *, max_seconds: float = 7200.0) -> TrackEmbedding:
        """Embedding of the segments of a file that the features name.

        Raises:
          AudioError: as `hashing.excerpts.decode_excerpts` and `embed`.
        """
        found = decode_excerpts(
            path, self.features.sample_rate, self.features.segments_of, max_seconds=max_seconds
        )
        heard = heard_segments(found.parts, self.features)
        return TrackEmbedding(self._join(heard), len(heard), found.duration_s)

    def _join(self, heard: Sequence[Floats]) -> Floats:
        joined = [math.sqrt(weight) * unit(part.embed(heard)) for weight, part in self._parts]
        return unit(np.concatenate(joined).astype(np.float32))


def heard_segments(segments: Iterable[Floats], features: ArtistFeatures) -> list[Floats]:
    """The segments that are not silent, at least one."""
    heard, given = list[Floats](), False
    for segment in segments:
        given = True
        samples = np.ascontiguousarray(segment, dtype=np.float32)
        if samples.size < MIN_SEGMENT_S * features.sample_rate:
            raise AudioError(
                "too-short",
                f"track of {samples.size / features.sample_rate:.2f} s is shorter than "
                f"{MIN_SEGMENT_S:g} s",
            )
        power = float(np.einsum("i,i->", samples, samples, dtype=np.float64)) / samples.size
        if not math.isfinite(power):
            raise AudioError("unreadable", "track is damaged: some samples are no numbers")
        if power > 10.0 ** (SILENCE_DB / 10.0):
            heard.append(samples)
    if not given:
        raise AudioError("no-samples", "track has no segments")
    if not heard:
        raise AudioError("silent", f"track is silent: nothing above {SILENCE_DB:.0f} dB")
    return heard


def _open_parts(model: Model, features: ArtistFeatures) -> list[tuple[float, Part]]:
    """The parts of a model with their weights: ``statistics.weight`` belongs to `Statistics`."""
    makers: dict[str, Callable[[], Part]] = {
        "network": lambda: open_network(model, features.sample_rate),
        "statistics": lambda: _open_statistics(model, features),
    }
    names = sorted(name.removesuffix(".weight") for name in model.arrays if ".weight" in name)
    if unknown := sorted(set(names) - set(makers)):
        raise ModelError(f"model {model.path} has parts {unknown}: it is of a later version")
    if not names:
        raise ValueError("it has no parts")
    parts = list[tuple[float, Part]]()
    for name in names:
        weight = _array(model, f"{name}.weight").item()
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"the weight of its part {name} must be above 0, not {weight}")
        parts.append((weight, makers[name]()))
    return parts


def _open_statistics(model: Model, features: ArtistFeatures) -> Statistics:
    arrays = (_array(model, f"statistics.{name}") for name in ("quantiles", "mean", "projection"))
    return Statistics(features, *arrays)


def _array(model: Model, name: str) -> Floats:
    if name not in model.arrays:
        raise ValueError(f"it lacks the array {name}")
    return np.asarray(model.arrays[name], dtype=np.float32)
