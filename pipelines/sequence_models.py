"""The sequence model of a job, opened where a worker runs."""

from __future__ import annotations

from hashing.errors import ModelError
from hashing.sequences import SequenceEncoder


def open_encoder(model: str, digest: str) -> SequenceEncoder:
    """The encoder of a job.

    Args:
        model: name or folder.
        digest: of the model, where the job was started.

    Raises: ModelError where there is no such model, or this machine has another one by that name.
    """
    encoder = SequenceEncoder.load(model)
    if encoder.digest != digest:
        raise ModelError(
            f"model {model} has digest {encoder.digest[:16]} where a worker runs, and "
            f"{digest[:16]} where the job was started: give all machines the same one"
        )
    return encoder
