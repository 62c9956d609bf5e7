"""A model folder becomes a function from audio to codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import codes
from hashing.errors import AudioError, ModelError
from hashing.features import FeatureConfig, snippets, spectrogram, standardise
from hashing.models import DEFAULT_MODEL, Model, load_model

Floats = npt.NDArray[np.float32]

# Snippets hashed at once. From 64 on the matrix products are as fast as they get; 512 snippets of
# 1,792 inputs and 1,914 hidden units are 8 MB, which bounds memory for a track of any length.
BATCH = 512


@dataclasses.dataclass(frozen=True)
class TrackCodes:
    """The codes of a track.

    Attributes:
      codes: packed bits, uint8 [n, ceil(bits / 8)].
      snippet: number of each snippet, int32 [n], counted from the start of the track in steps of
        the snippet hop; numbers of silent snippets are missing.
      duration_s: length of the decoded audio, seconds, to the frame.
    """

    codes: npt.NDArray[np.uint8]
    snippet: npt.NDArray[np.int32]
    duration_s: float


@dataclasses.dataclass(frozen=True)
class QueryCodes:
    """A query before look-up.

    Attributes:
      margins: response minus threshold in units of each bit's spread, float32 [n, bits].
      start_frame: first frame of each snippet, int32 [n].
      duration_s: length of the query, seconds.
    """

    margins: Floats
    start_frame: npt.NDArray[np.int32]
    duration_s: float


class Hasher:
    """A trained hasher, ready to run: spectrogram → snippets → ONNX → bits.

    >>> hasher = Hasher.load()
    >>> tone = np.sin(np.arange(24000, dtype=np.float32) * np.float32(0.6))
    >>> track = hasher.hash_track([tone])
    >>> track.codes.shape[0] == track.snippet.size, track.codes.dtype
    (True, dtype('uint8'))
    """

    def __init__(self, model: Model) -> None:
        config = model.config
        try:
            self.features = FeatureConfig.from_json(config["features"])
            self.bits = int(config["bits"])
            self._thresholds = np.asarray(model.arrays["thresholds"], dtype=np.float32)
            self._spreads = np.asarray(model.arrays["spreads"], dtype=np.float32)
            self._tables = np.asarray(model.arrays["tables"], dtype=np.int16)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"model {model.path} lacks {error}: copy it anew") from None
        shapes_fit = self._thresholds.shape == self._spreads.shape == (self.bits,)
        if not (shapes_fit and self._tables.ndim == 2 and self._tables.size):
            raise ModelError(f"model {model.path}: arrays do not fit {self.bits} bits")
        if self._tables.min() < 0 or self._tables.max() >= self.bits:
            raise ModelError(f"model {model.path}: tables name bits outside 0 to {self.bits - 1}")
        self.model = model
        self.digest = model.digest
        self.n_tables, self.key_bits_max = self._tables.shape
        self._session = _session(model, self.features, self.bits)

    @classmethod
    def load(cls, name_or_folder: str = DEFAULT_MODEL) -> Hasher:
        """A shipped model by name, or a model folder; raises `ModelError`."""
        return cls(load_model(name_or_folder))

    @property
    def config(self) -> Mapping[str, Any]:
        """The model's ``config.json``."""
        return self.model.config

    @property
    def code_bytes(self) -> int:
        """Bytes of a packed code."""
        return -(-self.bits // 8)

    def warm_up(self) -> None:
        """Load what the first track would load: libraries that are imported late."""
        rng = np.random.default_rng(0)
        samples = 2 * self.features.snippet_samples
        self.hash_track([rng.standard_normal(samples).astype(np.float32)])

    def table_bits(self, key_bits: int) -> npt.NDArray[np.int16]:
        """Positions of the bits of each table's key, [n_tables, key_bits].

        Raises `ModelError` where the model has no keys that long.
        """
        if not 1 <= key_bits <= self.key_bits_max:
            raise ModelError(
                f"model {self.model.name} has keys of 1 to {self.key_bits_max} bits, not {key_bits}"
            )
        return self._tables[:, :key_bits]

    def margins(self, cut: Floats) -> Floats:
        """How far each bit of each snippet is above its threshold, in units of the bit's spread.

        Args:
          cut: snippets [n, n_bands, snippet_frames] in dB.

        Returns:
          float32 [n, bits].
        """
        out = np.empty((cut.shape[0], self.bits), dtype=np.float32)
        for batch, responses in self._responses(cut):
            np.subtract(responses, self._thresholds, out=out[batch])
        out /= self._spreads
        return out

    def encode(self, cut: Floats) -> npt.NDArray[np.uint8]:
        """Packed codes [n, code_bytes] of snippets [n, n_bands, snippet_frames] in dB."""
        packed = np.empty((cut.shape[0], self.code_bytes), dtype=np.uint8)
        for batch, responses in self._responses(cut):
            packed[batch] = codes.pack(responses > self._thresholds)
        return packed

    def _responses(self, cut: Floats) -> Iterator[tuple[slice, Floats]]:
        """Responses [batch, bits] of the networks, with the snippets that they are to."""
        for first in range(0, cut.shape[0], BATCH):
            batch = slice(first, first + BATCH)
            inputs = standardise(cut[batch], self.features)
            (responses,) = self._session.run(None, {"snippets": inputs})
            yield batch, responses

    def hash_track(self, blocks: Iterable[Floats]) -> TrackCodes:
        """Codes of a whole track.

        Args:
          blocks: mono float32 samples at ``features.sample_rate``, in pieces of any length.

        Raises:
          AudioError: ``too-short`` for less than one snippet, ``silent`` where no snippet is heard.
        """
        spec = spectrogram(blocks, self.features)
        cut, starts = self._cut(spec, self.features.snippet_hop, "track")
        return TrackCodes(
            self.encode(cut), starts // np.int32(self.features.snippet_hop), self._duration_s(spec)
        )

    def hash_query(self, blocks: Iterable[Floats]) -> QueryCodes:
        """A query's snippets, `features.query_hop` apart; errors as in `hash_track`."""
        spec = spectrogram(blocks, self.features)
        cut, starts = self._cut(spec, self.features.query_hop, "query")
        return QueryCodes(self.margins(cut), starts, self._duration_s(spec))

    def _cut(self, spec: Floats, hop: int, what: str) -> tuple[Floats, npt.NDArray[np.int32]]:
        config = self.features
        needed_s = config.snippet_samples / config.sample_rate
        if spec.shape[0] < config.snippet_frames:
            held_s = self._duration_s(spec)
            raise AudioError(
                "too-short",
                f"{what} of {held_s:.2f} s is shorter than a snippet ({needed_s:.2f} s)",
            )
        cut, starts = snippets(spec, config, hop)
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


# A folder that cannot exist, for the session to look for tensors outside of the graph.
NOWHERE = "/dev/null"


def _session(model: Model, features: FeatureConfig, bits: int) -> Any:
    # onnxruntime is imported late: it costs 0.3 s, which `--help` and `info` need not pay.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread a worker, without spinning: the job runs a process on every core already.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # Weights in a file beside the graph would be looked for in the current folder, and are no part
    # of the digest.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", NOWHERE
    )
    try:
        session = onnxruntime.InferenceSession(
            model.graph("model"), options, providers=["CPUExecutionProvider"]
        )
    except ModelError:
        raise
    except Exception as error:  # onnxruntime raises classes of its own that it does not export
        reason = str(error).splitlines()[0][:200]
        raise ModelError(f"model {model.path}: model.onnx cannot be run ({reason})") from None
    ends = [
        [(end.name, end.type, end.shape[1:]) for end in side]
        for side in (session.get_inputs(), session.get_outputs())
    ]
    width = features.n_bands * features.snippet_frames
    if ends[0] != [("snippets", "tensor(float)", [width])] or (
        [end[1:] for end in ends[1]] != [("tensor(float)", [bits])]
    ):
        raise ModelError(
            f"model {model.path}: model.onnx does not turn snippets of {width} values into "
            f"{bits} responses: copy the model anew"
        )
    return session
