"""The front of a hasher: standardised snippets → responses, and embeddings where there are some.

Mostly an ONNX graph; a hasher that learns nothing (Min-Hash) brings a function of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import ModelError
from hashing.features import FeatureConfig
from hashing.models import Model
from hashing.quantizers import Quantizer

Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a front says about snippets.

    Attributes:
      responses: [n, r]; a quantizer makes codes of them.
      embeddings: [n, d] of length one, where the model stands on an encoder.
      norms: [n], lengths of the embeddings before they were made one: how much the encoder found
        in a snippet; where the model tells them.
    """

    responses: Floats
    embeddings: Floats | None = None
    norms: Floats | None = None

    @classmethod
    def join(cls, parts: Sequence[Answer]) -> Answer:
        """Answers to snippets one after another; at least one part."""

        def joined(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return None if values[0] is None else np.concatenate(values)

        return cls(*(joined(field.name) for field in dataclasses.fields(cls)))


Front = Callable[[Floats], Answer]

# Names of the outputs of a graph; an encoder alone answers with its embedding.
OUTPUTS = ("responses", "embedding", "norm")

# A folder that cannot exist, for the session to look for tensors outside of the graph.
NOWHERE = "/dev/null"


def open_fronts(model: Model, features: FeatureConfig, quantizer: Quantizer) -> tuple[Front, Front]:
    """The fronts of a model for the snippets of tracks and of queries, mostly the same one.

    A model with a graph ``query`` beside ``model`` listens to queries with more effort.

    Raises `ModelError` where a graph cannot be run or has other ends.
    """
    own: Callable[[Floats], Floats] | None = getattr(quantizer, "responses", None)
    if own is not None:
        respond = own
        front: Front = lambda inputs: Answer(respond(inputs))  # noqa: E731
        return front, front
    track = open_front(model, features, quantizer)
    if "query" not in model.graphs:
        return track, track
    return track, open_front(model, features, quantizer, "query")


def open_front(
    model: Model, features: FeatureConfig, quantizer: Quantizer, graph: str = "model"
) -> Front:
    """The front that a graph makes, for standardised snippets [n, n_bands * snippet_frames].

    Raises `ModelError` where its graph cannot be run or has other ends.
    """
    session = open_session(model, graph)
    inputs = {end.name: (end.type, end.shape[1:]) for end in session.get_inputs()}
    outputs = {end.name: (end.type, end.shape[1:]) for end in session.get_outputs()}
    width = features.n_bands * features.snippet_frames
    float_outputs = all(kind == "tensor(float)" and len(s) == 1 for kind, s in outputs.values())
    if (
        inputs != {"snippets": ("tensor(float)", [width])}
        or not float_outputs
        or not {"responses", "embedding"} & set(outputs)
        or not set(outputs) <= set(OUTPUTS)
    ):
        raise ModelError(
            f"model {model.path}: {graph}.onnx does not turn snippets of {width} values into "
            "responses: copy the model anew"
        )
    names = [name for name in OUTPUTS if name in outputs]

    def run(values: Floats) -> Answer:
        found = dict(zip(names, session.run(names, {"snippets": values}), strict=True))
        embeddings, norms = found.get("embedding"), found.get("norm")
        return Answer(
            found["responses"] if "responses" in found else found["embedding"],
            embeddings,
            None if norms is None else norms[:, 0],
        )

    # Whatever does not fit shows on the first snippet, before a catalogue is decoded.
    try:
        first = run(np.zeros((1, width), dtype=np.float32))
    except Exception as error:  # onnxruntime raises classes of its own that it does not export
        raise _cannot_run(model, graph, error) from None
    try:
        quantizer.encode(first.responses)
    except (ValueError, IndexError) as error:
        raise ModelError(
            f"model {model.path}: {graph}.onnx gives responses that its arrays do not fit "
            f"({error}): copy the model anew"
        ) from None
    return run


def open_session(model: Model, graph: str = "model") -> Any:
    """An ONNX Runtime session of a model's graph on one thread; raises `ModelError`."""
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
        return onnxruntime.InferenceSession(
            model.graph(graph), options, providers=["CPUExecutionProvider"]
        )
    except ModelError:
        raise
    except Exception as error:  # onnxruntime raises classes of its own that it does not export
        raise _cannot_run(model, graph, error) from None


def _cannot_run(model: Model, graph: str, error: Exception) -> ModelError:
    reason = str(error).splitlines()[0][:200]
    return ModelError(f"model {model.path}: {graph}.onnx cannot be run ({reason})")
