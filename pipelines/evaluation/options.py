"""What ``hashbeam evaluate lookup`` can be asked to do."""

from __future__ import annotations

import dataclasses

from hashing.conditions import Condition


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What ``hashbeam evaluate lookup`` was asked to do."""

    catalog: str
    out: str
    models: tuple[str, ...]
    indexes: tuple[str, ...]
    durations: tuple[float, ...]
    conditions: tuple[Condition, ...]
    queries: int
    negatives: int
    left_out: float
    left_out_by: str
    same: str
    as_listed: bool
    noise: tuple[str, ...]
    rooms: tuple[str, ...]
    seed: int
    probes: tuple[int, ...]
    key_bits: int | None
    keep_embeddings: bool
    workers: int
    only: str
    json: bool
    quiet: bool
    progress: bool
