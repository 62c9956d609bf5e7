"""The model folder: what a trained hasher is on disk.

A folder holds ``config.json`` (kind, format version, feature settings, training data, figures,
calibration), one or more ``*.onnx``, ``arrays.safetensors`` (thresholds, bit choices) and
``README.md`` (the model card). No file of it can run code: no pickle, no custom operator, no
external data.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import ModelError

FORMAT_VERSION = 1

# The model that is used where none is named.
DEFAULT_MODEL = "contrastive"

# The same of models that tell artists apart, and what config.json calls these.
DEFAULT_ARTIST_MODEL = "artist"
ARTIST_KIND = "artist"

# And of models that match scores with recordings.
DEFAULT_SEQUENCE_MODEL = "sequence"
SEQUENCE_KIND = "sequence"

# And of models that make codes of clips of sound, by what is heard in them.
DEFAULT_EVENTS_MODEL = "events"
EVENTS_KIND = "events"

# And of models that embed clips of sound.
DEFAULT_CLIP_MODEL = "sound"
CLIP_KIND = "clips"

# What is no hasher of music.
_BESIDE = (ARTIST_KIND, SEQUENCE_KIND, EVENTS_KIND, CLIP_KIND)

PRETRAINED = Path(__file__).parent / "pretrained"

# Settings in config.json that change a code, beside the graphs and the arrays. What is not named
# here (figures, calibration, the story of the training) may be mended without a new identity.
CODE_SETTINGS = ("kind", "format_version", "features", "bits")

# A graph or an array file above this is not one of ours: a model that runs over a catalogue is a
# few megabytes. The bound keeps a hostile folder from filling the memory of every worker.
MAX_FILE_BYTES = 512 * 1024 * 1024

Arrays = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Model:
    """A model folder, read and checked.

    `digest` is the hasher's identity: two models with one digest give the same codes.
    """

    path: Path
    config: Mapping[str, Any]
    arrays: Arrays
    digest: str

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def reference(self) -> str:
        """What `load_model` finds it by on another machine, which may have this package elsewhere.

        The name of a shipped model; otherwise the folder, which has to be there as well.
        """
        return self.name if self.path.parent == PRETRAINED else str(self.path.absolute())

    @property
    def graphs(self) -> list[str]:
        """Names of the graphs."""
        return sorted(path.stem for path in self.path.glob("*.onnx"))

    def graph(self, name: str) -> bytes:
        """The bytes of ``name.onnx``."""
        return _read(self.path / f"{name}.onnx")


def save_model(
    folder: Path,
    config: Mapping[str, Any],
    graphs: Mapping[str, bytes],
    arrays: Mapping[str, npt.NDArray[Any]],
    card: str,
) -> Model:
    """Write a model folder, and give it back as it is read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     config = {"kind": "example", "features": {}, "bits": 8}
    ...     model = save_model(Path(folder) / "m", config, {}, {"a": np.zeros(2)}, "# Example")
    >>> model.config["format_version"], sorted(model.arrays)
    (1, ['a'])
    """
    import safetensors.numpy

    folder.mkdir(parents=True, exist_ok=True)
    for name, graph in graphs.items():
        (folder / f"{name}.onnx").write_bytes(graph)
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    (folder / "arrays.safetensors").write_bytes(safetensors.numpy.save(tensors))
    (folder / "README.md").write_text(card.rstrip() + "\n", encoding="utf-8")
    text = json.dumps({**config, "format_version": FORMAT_VERSION}, indent=1, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    return load_model(str(folder))


def load_model(name_or_folder: str) -> Model:
    """A model by the name of a shipped one, or by its folder.

    Raises:
      ModelError: nothing of that name, a file that is missing or damaged, or another format
        version; the message names the file and what to do.
    """
    folder = _resolve(name_or_folder)
    config_bytes = _read(folder / "config.json")
    try:
        config = json.loads(config_bytes)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{folder / 'config.json'} is not JSON ({error}): copy it anew") from None
    if not isinstance(config, dict) or not isinstance(config.get("kind"), str):
        raise ModelError(f"{folder / 'config.json'} names no kind of model: is it a model folder?")
    if config.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"model {folder} has format version {config.get('format_version')!r}, this hashbeam "
            f"reads {FORMAT_VERSION}: use the hashbeam that made it, or train it again"
        )
    import safetensors
    import safetensors.numpy

    arrays_bytes = _read(folder / "arrays.safetensors")
    try:
        arrays = safetensors.numpy.load(arrays_bytes)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder / 'arrays.safetensors'} is damaged ({error}): copy the model anew"
        ) from None
    return Model(folder, config, arrays, _digest(folder, config, arrays_bytes))


def list_models(kind: str | None = None) -> list[str]:
    """Names of the shipped models of a kind, or of the shipped hashers.

    Args:
      kind: as `ARTIST_KIND` and the other kinds above; None for all that are of none of these,
        which are hashers of music.

    >>> DEFAULT_MODEL in list_models(), DEFAULT_ARTIST_MODEL in list_models(ARTIST_KIND)
    (True, True)
    """
    kinds = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))["kind"]
        for path in PRETRAINED.glob("*/config.json")
    }
    return sorted(
        name
        for name, found in kinds.items()
        if (found == kind if kind is not None else found not in _BESIDE)
    )


def _resolve(name_or_folder: str) -> Path:
    # A name is looked up among the shipped models only; a folder must look like a path or exist.
    if re.fullmatch(r"[a-z0-9][a-z0-9-]*", name_or_folder):
        shipped = PRETRAINED / name_or_folder
        if (shipped / "config.json").is_file():
            return shipped
    folder = Path(name_or_folder)
    if not folder.is_dir():
        raise ModelError(
            f"no model {name_or_folder!r}: name a model folder, or one of the shipped models "
            f"({', '.join(_all_models()) or 'none'})"
        )
    return folder


def _all_models() -> list[str]:
    return [name for kind in (None, *_BESIDE) for name in list_models(kind)]


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(f"{path} is larger than {MAX_FILE_BYTES} bytes: not a hasher's file")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}): copy the whole model folder anew"
        ) from None


def _digest(folder: Path, config: Mapping[str, Any], arrays: bytes) -> str:
    settings = {name: config.get(name) for name in CODE_SETTINGS}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(hashlib.sha256(arrays).digest())
    for graph in sorted(folder.glob("*.onnx")):
        digest.update(graph.name.encode() + b"\0" + hashlib.sha256(_read(graph)).digest())
    return digest.hexdigest()
