"""The front of a hasher: standardised snippets → responses, and embeddings where there are some.

Mostly an ONNX graph; a hasher that learns nothing (Min-Hash) brings a function of its own. The
snippets of a track may come to it otherwise (`hashing.track_fronts`).
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

    def take(self, rows: npt.NDArray[np.integer]) -> Answer:
        """The answers to some of the snippets."""
        return Answer(
            self.responses[rows],
            None if self.embeddings is None else self.embeddings[rows],
            None if self.norms is None else self.norms[rows],
        )


Front = Callable[[Floats], Answer]

# Names of the outputs of a graph; an encoder alone answers with its embedding.
OUTPUTS = ("responses", "embedding", "norm")

# A folder that cannot exist, for the session to look for tensors outside of the graph.
NOWHERE = "/dev/null"


def open_front(
    model: Model, features: FeatureConfig, quantizer: Quantizer, graph: str = "model"
) -> Front:
    """The front that a graph makes, for standardised snippets [n, n_bands * snippet_frames].

    Raises `ModelError` where its graph cannot be run or has other ends.
    """
    return front_of(open_session(model, graph), model, features, quantizer, graph)


def front_of(
    session: Any, model: Model, features: FeatureConfig, quantizer: Quantizer, graph: str
) -> Front:
    """`open_front` of a graph that is open."""
    width = features.n_bands * features.snippet_frames
    run = runner(session, "snippets", (width,))
    if run is None:
        raise ModelError(
            f"model {model.path}: {graph}.onnx does not turn snippets of {width} values into "
            "responses: copy the model anew"
        )
    # Whatever does not fit shows on the first snippet, before a catalogue is decoded.
    check_first(run, np.zeros((1, width), dtype=np.float32), model, graph, quantizer)
    return run


def runner(session: Any, name: str, shape: tuple[int, ...]) -> Front | None:
    """What runs a graph of one input [n, *shape]; None where it has other ends."""
    inputs = {end.name: (end.type, tuple(end.shape[1:])) for end in session.get_inputs()}
    outputs = {end.name: (end.type, end.shape[1:]) for end in session.get_outputs()}
    floats = all(kind == "tensor(float)" and len(s) == 1 for kind, s in outputs.values())
    known = {"responses", "embedding"} & set(outputs) and set(outputs) <= set(OUTPUTS)
    if inputs != {name: ("tensor(float)", shape)} or not floats or not known:
        return None
    names = [output for output in OUTPUTS if output in outputs]

    def run(values: Floats) -> Answer:
        found = dict(zip(names, session.run(names, {name: values}), strict=True))
        embeddings, norms = found.get("embedding"), found.get("norm")
        return Answer(
            found["responses"] if "responses" in found else found["embedding"],
            embeddings,
            None if norms is None else norms[:, 0],
        )

    return run


def check_first(
    run: Front, values: Floats, model: Model, graph: str, quantizer: Quantizer
) -> Answer:
    """The answer of a graph to `values`; raises `ModelError` where it or its codes cannot be."""
    try:
        first = run(values)
    except Exception as error:  # onnxruntime raises classes of its own that it does not export
        raise _cannot_run(model, graph, error) from None
    try:
        quantizer.encode(first.responses)
    except (ValueError, IndexError) as error:
        raise ModelError(
            f"model {model.path}: {graph}.onnx gives responses that its arrays do not fit "
            f"({error}): copy the model anew"
        ) from None
    return first


def open_session(model: Model, graph: str = "model") -> Any:
    """An ONNX Runtime session of a model's graph; raises `ModelError`."""
    try:
        return session_of(model.graph(graph))
    except ModelError:
        raise
    except Exception as error:  # onnxruntime raises classes of its own that it does not export
        raise _cannot_run(model, graph, error) from None


def session_of(graph: bytes) -> Any:
    """An ONNX Runtime session of a graph, on one thread; raises what ONNX Runtime raises."""
    # onnxruntime is imported late: it costs 0.3 s, which `--help` and `info` need not pay.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread a worker, without spinning: the job runs a process on every core already.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised, and told in one line
    # Weights in a file beside the graph would be looked for in the current folder, and are no part
    # of the digest.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", NOWHERE
    )
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _cannot_run(model: Model, graph: str, error: Exception) -> ModelError:
    reason = str(error).splitlines()[0][:200]
    return ModelError(f"model {model.path}: {graph}.onnx cannot be run ({reason})")
