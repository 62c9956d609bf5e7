"""A model folder becomes a function from audio to codes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import AudioError, ModelError
from hashing.features import FeatureConfig, spectrogram
from hashing.fronts import Answer, session_of
from hashing.halves import EMBEDDING, RESPONSES, Halves, cut_at_embedding
from hashing.models import DEFAULT_MODEL, Model, load_model
from hashing.quantizers import open_quantizer
from hashing.snippets import audible, filled, query_snippets
from hashing.track_fronts import answers, open_fronts

Floats = npt.NDArray[np.float32]

# Embeddings of which codes are made at once: 4 MB of 256 numbers each. Always so many, from the
# start of a track on, as the last bit of a sum may depend on how many there are.
CHUNK_ROWS = 4096


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
        self.track_front, self.query_front = open_fronts(model, self.features, self.quantizer)

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

    def respond(self, cut: Floats) -> Answer:
        """What the model says about snippets [n, n_bands, snippet_frames] in dB of queries."""
        rows = np.arange(len(cut))
        return Answer.join(list(answers(self.query_front, cut, rows, self.features)))

    def respond_in_track(self, spec: Floats, starts: npt.NDArray[np.integer]) -> Answer:
        """What it says about the snippets of a track that begin at the frames `starts`, rising.

        Args:
          spec: [frames, n_bands] in dB, of the whole track or of enough around the snippets.
        """
        return Answer.join(list(self.track_front(spec, starts)))

    def hash_track(self, blocks: Iterable[Floats], embeddings: bool = False) -> TrackCodes:
        """Codes of a whole track.

        Args:
          blocks: mono float32 samples at ``features.sample_rate``, in pieces of any length.
          embeddings: keep the embeddings as well, and make the codes of them as they are kept, so
            that `codes_of` gives the same: in half precision some codes in a hundred are others.

        Raises:
          AudioError: ``too-short`` for less than one snippet, or than one frame where the model
            repeats what is short; ``silent`` where no snippet is heard.
        """
        config = self.features
        whole = spectrogram(blocks, config)
        spec = self._filled(whole, "track")
        starts = audible(spec, config)
        self._check_heard(starts, "track")
        snippet = starts // np.int32(config.snippet_hop)
        codes, kept = list[npt.NDArray[np.uint8]](), list[npt.NDArray[np.float16]]()
        again = embeddings and self.encoder_digest is not None
        for answer in self.track_front(spec, starts):
            if not again:
                codes.append(self.quantizer.encode(answer.responses))
            if embeddings:
                if answer.embeddings is None:
                    raise ModelError(
                        f"model {self.model.name} has no embeddings: name one that has"
                    )
                kept.append(answer.embeddings.astype(np.float16))
        vectors = np.concatenate(kept) if embeddings else None
        return TrackCodes(
            self.codes_of(vectors) if again and vectors is not None else np.concatenate(codes),
            snippet,
            self._duration_s(whole),
            vectors,
        )

    @property
    def encoder_digest(self) -> str | None:
        """What embeddings are made with: the features and the encoder within the index's graph.

        Models that have it in common give the snippets of a track the same embeddings, bit by bit.
        None where the model has none, or more than the embedding goes into a response: then codes
        cannot be made of embeddings.
        """
        if self._halves is None:
            return None
        settings = json.dumps(self.features.to_json(), sort_keys=True)
        return hashlib.sha256(f"{settings} {self._halves.encoder}".encode()).hexdigest()

    def codes_of(self, embeddings: npt.NDArray[np.float16]) -> npt.NDArray[np.uint8]:
        """Codes [n, code_bytes] of the embeddings [n, d] of a whole track, as they were kept.

        Raises: ModelError where the model cannot tell codes by embeddings (`encoder_digest`).
        """
        if self._halves is None:
            raise ModelError(
                f"model {self.model.name} makes no codes of embeddings: hash the audio"
            )
        codes = [
            self.quantizer.encode(self._respond_to(chunk.astype(np.float32)))
            for chunk in np.split(embeddings, range(CHUNK_ROWS, len(embeddings), CHUNK_ROWS))
        ]
        return np.concatenate(codes)

    @functools.cached_property
    def _halves(self) -> Halves | None:
        return cut_at_embedding(self.model.graph("model")) if "model" in self.model.graphs else None

    @functools.cached_property
    def _head(self) -> Any:
        """The session of the head; None where embeddings are responses."""
        head = None if self._halves is None else self._halves.head
        return None if head is None else session_of(head)

    def _respond_to(self, embeddings: Floats) -> Floats:
        if self._head is None:
            return embeddings
        (responses,) = self._head.run([RESPONSES], {EMBEDDING: embeddings})
        return np.asarray(responses, dtype=np.float32)

    def hash_query(self, blocks: Iterable[Floats]) -> QueryCodes:
        """A query's snippets, `features.query_hop` apart; errors as in `hash_track`."""
        whole = spectrogram(blocks, self.features)
        spec = self._filled(whole, "query")
        cut, starts = query_snippets(spec, self.features)
        self._check_heard(starts, "query")
        answer = self.respond(cut)
        return QueryCodes(
            answer.responses,
            starts,
            self._duration_s(whole),
            answer.embeddings,
            answer.norms,
            cut.reshape(len(cut), -1).std(axis=1),
        )

    def _filled(self, whole: Floats, what: str) -> Floats:
        """A spectrogram that holds a snippet; raises `AudioError` where this one cannot."""
        config = self.features
        spec = filled(whole, config)
        if spec.shape[0] < config.snippet_frames:
            piece, samples = "snippet", config.snippet_samples
            if config.repeats_short:
                piece, samples = "frame", config.n_fft
            needed_s = samples / config.sample_rate
            held_s = self._duration_s(whole)
            raise AudioError(
                "too-short",
                f"{what} of {held_s:.2f} s is shorter than a {piece} ({needed_s:.2f} s)",
            )
        return spec

    def _check_heard(self, starts: npt.NDArray[np.int32], what: str) -> None:
        if not starts.size:
            level = f"{self.features.silence_db:.0f} dB"
            raise AudioError("silent", f"{what} is silent: nothing above {level}")

    def _duration_s(self, spec: Floats) -> float:
        config = self.features
        if not spec.shape[0]:
            return 0.0
        samples = (spec.shape[0] - 1) * config.hop_length + config.n_fft
        return float(samples / config.sample_rate)
