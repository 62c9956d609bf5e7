"""A model folder becomes a function from audio to codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import AudioError, ModelError
from hashing.features import FeatureConfig, spectrogram
from hashing.fronts import Answer, Front, open_fronts
from hashing.models import DEFAULT_MODEL, Model, load_model
from hashing.quantizers import open_quantizer
from hashing.snippets import query_snippets, snippets, standardise

Floats = npt.NDArray[np.float32]

# Snippets hashed at once. From 64 on the matrix products are as fast as they get; 512 snippets of
# 1,792 inputs and 1,914 hidden units are 8 MB, which bounds memory for a track of any length.
BATCH = 512


@dataclasses.dataclass(frozen=True)
class TrackCodes:
    """The codes of a track.

    Attributes:
      codes: uint8 [n, code_bytes] as the model's quantizer makes them.
      snippet: number of each snippet, int32 [n], counted from the start of the track in steps of
        the snippet hop; numbers of silent snippets are missing.
      duration_s: length of the decoded audio, seconds, to the frame.
      embeddings: float16 [n, d], of length one before rounding; None unless asked for.
    """

    codes: npt.NDArray[np.uint8]
    snippet: npt.NDArray[np.int32]
    duration_s: float
    embeddings: npt.NDArray[np.float16] | None = None


@dataclasses.dataclass(frozen=True)
class QueryCodes:
    """A query before look-up.

    Attributes:
      responses: of the model to each snippet, float32 [n, r]; `Hasher.quantizer` makes keys and
        similarities of them.
      start_frame: first frame of each snippet, int32 [n], negative where it begins before the
        query does (`hashing.snippets.query_snippets`).
      duration_s: length of the query, seconds.
      embeddings: [n, d] of length one, where the model stands on an encoder.
      norms: [n], see `hashing.fronts.Answer`.
      contrast: deviation of each snippet's cells, dB, [n]; noise takes it away.
    """

    responses: Floats
    start_frame: npt.NDArray[np.int32]
    duration_s: float
    embeddings: Floats | None = None
    norms: Floats | None = None
    contrast: Floats | None = None


class Hasher:
    """A trained hasher, ready to run: spectrogram → snippets → responses → codes.

    >>> hasher = Hasher.load()
    >>> tone = np.sin(np.arange(24000, dtype=np.float32) * np.float32(0.6))
    >>> track = hasher.hash_track([tone])
    >>> track.codes.shape[0] == track.snippet.size, track.codes.dtype
    (True, dtype('uint8'))
    """

    def __init__(self, model: Model) -> None:
        try:
            self.features = FeatureConfig.from_json(model.config["features"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"model {model.path} lacks {error}: copy it anew") from None
        self.quantizer = open_quantizer(model)
        self.model = model
        self.digest = model.digest
        self.front, self.query_front = open_fronts(model, self.features, self.quantizer)

    @classmethod
    def load(cls, name_or_folder: str = DEFAULT_MODEL) -> Hasher:
        """A shipped model by name, or a model folder; raises `ModelError`."""
        return cls(load_model(name_or_folder))

    @property
    def config(self) -> Mapping[str, Any]:
        """The model's ``config.json``."""
        return self.model.config

    def warm_up(self) -> None:
        """Load what the first track would load: libraries that are imported late."""
        rng = np.random.default_rng(0)
        samples = 2 * self.features.snippet_samples
        self.hash_track([rng.standard_normal(samples).astype(np.float32)])

    def check_key_bits(self, key_bits: int) -> int:
        """`key_bits`; raises `ModelError` where the model has no keys that long."""
        longest = self.quantizer.key_bits_max
        if not 1 <= key_bits <= longest:
            raise ModelError(
                f"model {self.model.name} has keys of 1 to {longest} bits, not {key_bits}"
            )
        return key_bits

    def respond(self, cut: Floats, front: Front | None = None) -> Answer:
        """What the model says about snippets [n, n_bands, snippet_frames] in dB.

        Those of a track, unless `front` is `query_front`.
        """
        return Answer.join(list(self._batches(cut, front or self.front)))

    def encode(self, cut: Floats) -> npt.NDArray[np.uint8]:
        """Codes [n, code_bytes] of snippets [n, n_bands, snippet_frames] in dB."""
        return np.concatenate(
            [self.quantizer.encode(answer.responses) for answer in self._batches(cut, self.front)]
        )

    def _batches(self, cut: Floats, front: Front) -> Iterator[Answer]:
        for first in range(0, max(1, cut.shape[0]), BATCH):
            yield front(standardise(cut[first : first + BATCH], self.features))

    def hash_track(self, blocks: Iterable[Floats], embeddings: bool = False) -> TrackCodes:
        """Codes of a whole track.

        Args:
          blocks: mono float32 samples at ``features.sample_rate``, in pieces of any length.
          embeddings: keep the embeddings as well.

        Raises:
          AudioError: ``too-short`` for less than one snippet, ``silent`` where no snippet is heard.
        """
        spec = spectrogram(blocks, self.features)
        cut, starts = self._cut(spec, self.features.snippet_hop, "track")
        snippet = starts // np.int32(self.features.snippet_hop)
        if not embeddings:
            return TrackCodes(self.encode(cut), snippet, self._duration_s(spec))
        answer = self.respond(cut)
        if answer.embeddings is None:
            raise ModelError(f"model {self.model.name} has no embeddings: name one that has")
        codes = self.quantizer.encode(answer.responses)
        kept = answer.embeddings.astype(np.float16)
        return TrackCodes(codes, snippet, self._duration_s(spec), kept)

    def hash_query(self, blocks: Iterable[Floats]) -> QueryCodes:
        """A query's snippets, `features.query_hop` apart; errors as in `hash_track`."""
        spec = spectrogram(blocks, self.features)
        cut, starts = self._cut(spec, None, "query")
        answer = self.respond(cut, self.query_front)
        return QueryCodes(
            answer.responses,
            starts,
            self._duration_s(spec),
            answer.embeddings,
            answer.norms,
            cut.reshape(len(cut), -1).std(axis=1),
        )

    def _cut(
        self, spec: Floats, hop: int | None, what: str
    ) -> tuple[Floats, npt.NDArray[np.int32]]:
        """Snippets of a track, `hop` frames apart, or those of a query."""
        config = self.features
        needed_s = config.snippet_samples / config.sample_rate
        if spec.shape[0] < config.snippet_frames:
            held_s = self._duration_s(spec)
            raise AudioError(
                "too-short",
                f"{what} of {held_s:.2f} s is shorter than a snippet ({needed_s:.2f} s)",
            )
        cut, starts = snippets(spec, config, hop) if hop else query_snippets(spec, config)
        if not starts.size:
            raise AudioError(
                "silent", f"{what} is silent: nothing above {config.silence_db:.0f} dB"
            )
        return cut, starts

    def _duration_s(self, spec: Floats) -> float:
        config = self.features
        if not spec.shape[0]:
            return 0.0
        samples = (spec.shape[0] - 1) * config.hop_length + config.n_fft
        return float(samples / config.sample_rate)
