"""Steps of a job that make keys of codes, and how their quantizer gets to the workers."""

from __future__ import annotations

import functools
from typing import Any

from hashing.errors import ModelError
from hashing.models import load_model
from hashing.quantizers import Quantizer, open_quantizer
from pipelines.runs import Run


class QuantizerByName:
    """Base of a transform with a `quantizer`, which is sent as the name of its `model`.

    Beam pickles a transform with each of its steps, several times, and unpacks all of them in each
    worker: a megabyte of codebooks is read from the model's folder, once a process, instead.
    """

    model: str
    quantizer: Quantizer

    @property
    def made_for(self) -> Run:
        """The run, whose plan knows which model it is."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "quantizer": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        digest, self.quantizer = _opened(self.model)
        check_digest(self.model, digest, self.made_for.plan.model_digest)


@functools.lru_cache(maxsize=2)
def _opened(model: str) -> tuple[str, Quantizer]:
    found = load_model(model)
    return found.digest, open_quantizer(found)


def check_digest(model: str, found: str, expected: str) -> None:
    """Raises: ModelError where a worker has another model than the one that started the run."""
    if found != expected:
        raise ModelError(
            f"model {model} has digest {found[:12]} on the worker and {expected[:12]} where the "
            "run was started; install the same model on both"
        )
