"""What the DAGs ask the verbs of hashbeam for, as plain data. Imports nothing of Airflow.

A parameter is named as the verb's flag, with underscores, and described by JSON Schema: Airflow
makes the form of a run of it and checks what is filled in. Defaults are the verb's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SHARE = {"type": "number", "minimum": 0, "maximum": 1}
# A form gives null where a field was left empty.
OPTIONAL = {"type": ["null", "string"], "default": None}

# The folder that a verb writes: no two runs may write one at once.
WRITES = {"reindex": "index", "compact": "index", "disambiguate": "out"}

# What a run may be asked for. Where the catalogue and the index of the nightly run are is set.
PARAMS: dict[str, dict[str, dict[str, Any]]] = {
    "reindex": {
        "retry_failed": {
            "type": "boolean",
            "default": False,
            "description": "Try again what failed, changed or not.",
        },
        "force": {
            "type": "boolean",
            "default": False,
            "description": "Take every track to have changed: everything is decoded.",
        },
        "model": {
            **OPTIONAL,
            "description": "Make all anew by this model, if it is no worse.",
        },
        "max_failures": {
            **SHARE,
            "default": 0.05,
            "description": "Share of the tracks that may fail.",
        },
        "max_shrink": {
            **SHARE,
            "default": 0.1,
            "description": "Share of the live tracks that may go at once. Raise it for one run "
            "after a large removal that was meant.",
        },
        "no_gates": {
            **OPTIONAL,
            "description": "Publish without asking these gates: names with commas between them, "
            "as the failed run told them.",
        },
    },
    "compact": {
        "keep": {
            "type": ["null", "integer"],
            "minimum": 1,
            "default": None,
            "description": "Delete all but so many published versions; none where it is empty.",
        },
    },
    "disambiguate": {
        "catalog": {
            "type": "string",
            "minLength": 1,
            "description": "Catalogue with track_id, uri and artist_name.",
        },
        "out": {
            "type": "string",
            "minLength": 1,
            "description": "Folder of the results: a new one, or that of an earlier run, which is "
            "brought up to date.",
        },
        "name": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "default": [],
            "description": "Only these artist names, one a line; all names where it is empty.",
        },
        "index": {
            **OPTIONAL,
            "description": "Index made with --also artist, whose embeddings are reused.",
        },
        "review": {
            **OPTIONAL,
            "description": "Decisions that the report exported, JSON or CSV.",
        },
        "min_tracks": {
            "type": "integer",
            "minimum": 1,
            "default": 3,
            "description": "Names with fewer tracks are left alone.",
        },
        "min_confidence": {
            **SHARE,
            "default": 0.6,
            "description": "Names whose clusters are less certain are left alone.",
        },
        "max_failures": {
            **SHARE,
            "default": 0.5,
            "description": "Share of the tracks that may fail.",
        },
        "keep_albums": {
            "type": "boolean",
            "default": False,
            "description": "Tracks of one album stay together.",
        },
        "recluster": {
            "type": "boolean",
            "default": False,
            "description": "Cluster afresh what no editor has decided.",
        },
    },
}


def template_parameters(flags: Mapping[str, Any]) -> dict[str, str]:
    """Flags as parameters of a Flex Template: strings, without what is not set; lists as JSON.

    >>> template_parameters({"out": "gs://b/o", "name": ["A", "B"], "index": None, "force": False})
    {'out': 'gs://b/o', 'name': '["A", "B"]'}
    """
    return {name: _text(value) for name, value in flags.items() if _is_set(value)}


def command_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Flags as a command line spells them, for Airflow's Beam operator, without what is not set.

    >>> command_flags({"out": "o", "name": ["A", "B"], "index": None, "keep_albums": True})
    {'out': 'o', 'name': ['A', 'B'], 'keep-albums': True}
    """
    return {name.replace("_", "-"): value for name, value in flags.items() if _is_set(value)}


def job_name(verb: str, folder: str) -> str:
    """One name for all jobs of a verb that write one folder.

    Dataflow refuses a job while another one of its name is active. So a retry whose first job was
    started after all, or lives on where Airflow has lost it, is refused too, and tries again later.

    >>> job_name("reindex", "gs://b/music.index/") == job_name("reindex", "gs://b/music.index")
    True
    """
    digest = hashlib.sha256(folder.rstrip("/").encode()).hexdigest()
    return f"hashbeam-{verb}-{digest[:8]}"


def _is_set(value: object) -> bool:
    # A zero is a value, and equal to False.
    return value is not None and value is not False and value not in ("", [])


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # A name may hold any sign.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
