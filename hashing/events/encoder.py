"""The clip encoder as it is shipped: windows of sound → embeddings.

A model folder of the kind ``clips`` has two graphs: ``model`` answers with the narrow embedding,
``wide`` with that below it. Both hear standardised log-mel windows (`hashing.events.features`).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hashing.errors import ModelError
from hashing.events.spectra import Spectra
from hashing.features import FeatureConfig
from hashing.fronts import open_session, runner
from hashing.models import CLIP_KIND, DEFAULT_CLIP_MODEL, Model, load_model
from hashing.snippets import standardise

Floats = npt.NDArray[np.float32]

NARROW, WIDE = "model", "wide"

# Windows embedded at once: from 32 on the matrix products are as fast as they get.
BATCH = 64


class ClipEmbedder:
    """A clip encoder, ready to run.

    Args:
      model: of the kind ``clips``.
      wide: answer with the wide embedding.

    Attributes:
      features: what a window is.
      dimensions: of an embedding.

    Raises:
      ModelError: a model of another kind, or a damaged one.
    """

    def __init__(self, model: Model, wide: bool = False) -> None:
        if model.config["kind"] != CLIP_KIND:
            raise ModelError(
                f"model {model.path} is of the kind {model.config['kind']!r}: name one of the kind "
                f"{CLIP_KIND!r}"
            )
        try:
            self.features = FeatureConfig.from_json(model.config["features"])
        except (KeyError, TypeError) as error:
            raise ModelError(f"model {model.path} lacks {error}: copy it anew") from None
        self.model = model
        self.digest = model.digest
        graph = WIDE if wide else NARROW
        size = self.features.n_bands * self.features.snippet_frames
        run = runner(open_session(model, graph), "snippets", (size,))
        try:
            found = None if run is None else run(np.zeros((1, size), np.float32)).embeddings
        except Exception as error:  # onnxruntime raises classes of its own that it does not export
            reason = str(error).splitlines()[0][:200]
            raise ModelError(
                f"model {model.path}: {graph}.onnx cannot be run ({reason}): copy it anew"
            ) from None
        if run is None or found is None:
            raise ModelError(f"model {model.path}: {graph}.onnx makes no embeddings: copy it anew")
        self._run, self.dimensions = run, int(found.shape[1])

    @classmethod
    def load(cls, name_or_folder: str = DEFAULT_CLIP_MODEL, wide: bool = False) -> ClipEmbedder:
        """A shipped encoder by name, or a model folder; raises `ModelError`."""
        return cls(load_model(name_or_folder), wide)

    def embed(self, cut: Floats) -> Floats:
        """Embeddings [n, dimensions], of length one, of windows [n, bands, frames] in dB."""
        return self.embed_standardised(standardise(cut, self.features))

    def embed_standardised(self, values: Floats) -> Floats:
        """The same of windows that `hashing.snippets.standardise` has been at."""
        flat = np.ascontiguousarray(values.reshape(len(values), math.prod(values.shape[1:])))
        found = [np.empty((0, self.dimensions), np.float32)]
        for first in range(0, len(flat), BATCH):
            answer = self._run(flat[first : first + BATCH]).embeddings
            assert answer is not None
            found.append(answer)
        return np.concatenate(found)

    def embed_files(self, spectra: Spectra, n_files: int) -> Floats:
        """Embeddings of files: of length one, means of their windows; zeros where nothing is heard.

        Args:
          spectra: of the files, as `hashing.events.spectra.hear` gives them.
        """
        sums = np.zeros((n_files, self.dimensions), np.float32)
        for first in range(0, len(spectra.file), 1024):
            rows = np.arange(first, min(first + 1024, len(spectra.file)))
            np.add.at(sums, spectra.file[rows], self.embed(spectra.cut(rows)))
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        return np.asarray(sums / np.maximum(lengths, 1e-12), np.float32)
