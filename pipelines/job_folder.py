"""The folder of results of a job: stopped, the job goes on there; finished, it is left alone.

::

    OUT/plan.json   which job it is: no other one goes on there
    OUT/run.json    counters; written last
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hashing.errors import HashbeamError
from pipelines import io
from pipelines.stores import is_remote
from pipelines.versions import is_temporary

_PLAN, _RUN = "plan.json", "run.json"


class FinishedError(HashbeamError):
    """What a command was to make is there already, and whole."""


def claim(
    out: str, format_version: int, identity: Sequence[Any], *, results: str, others: str
) -> None:
    """Makes a folder that of a job: a new one, or one with an unfinished run of the same job.

    Args:
        identity: names what goes in and all that changes the result.
        results: what a finished run holds all of.
        others: what a run of another job holds.

    Raises: HashbeamError where the folder holds anything else, or is finished.
    """
    digest = hashlib.sha256(json.dumps([format_version, *identity]).encode()).hexdigest()
    wanted = json.dumps({"format_version": format_version, "digest": digest}).encode()
    plan = io.read_if_exists(io.join(out, _PLAN))
    if plan is None:
        if not is_remote(out) and io.exists(out) and not io.is_dir(out):
            raise HashbeamError(f"{out} is a file: name a new folder with --out")
        if not all(map(is_temporary, io.list_dir(out))):
            raise HashbeamError(f"{out} is not empty: name a new folder with --out")
        io.write_bytes(io.join(out, _PLAN), wanted)
    elif plan != wanted:
        raise HashbeamError(f"{out} holds {others}: name a new folder with --out")
    if io.exists(io.join(out, _RUN)):
        raise FinishedError(f"{out} holds all {results} already: name a new folder with --out")


def finish(out: str, summary: Mapping[str, Any]) -> None:
    """Writes ``run.json``: the job is done."""
    io.write_bytes(io.join(out, _RUN), json.dumps(summary, indent=1).encode() + b"\n")


def remove_temporary(out: str) -> None:
    """Removes what killed workers have left; no other may write there."""
    for name in filter(is_temporary, io.list_files(out)):
        io.remove(io.join(out, name))
