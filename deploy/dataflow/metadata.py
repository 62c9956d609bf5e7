"""Writes ``metadata.json`` of each Flex Template from the flags of its verb.

    python deploy/dataflow/metadata.py

Dataflow checks parameters against these files before anything is started, and its console asks for
them. A flag that nothing here knows how to ask for is an error, and never left out by itself.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from launcher import ALWAYS, VERB, VERBS, flags_of, parameter_name, takes_several

from pipelines import cli

HERE = Path(__file__).parent

# Flags that are no parameters, and why.
LEFT_OUT = {
    "--workers": "processes of the local engine; workers of Dataflow are options of Beam",
    "--progress": "the launcher is gone before the job begins; the job's page shows progress",
    "--json": "there is no terminal to print to; run.json has the result",
    "--quiet": "there is no terminal to print to",
    "--metrics": "the file would be on the launcher, which is gone before the job ends",
    "--dry-run": "starts no job, and a template that starts none has failed",
    **dict.fromkeys(ALWAYS, "the launcher always gives it"),
}

REQUIRED = {
    "index": ("--catalog", "--out"),
    "reindex": ("--catalog", "--index"),
    "compact": ("--index",),
    "lookup": ("--index", "--queries", "--out"),
    "disambiguate": ("--catalog", "--out"),
}

# Names of `google.dataflow.v1beta3.ParameterType`.
READ_FILE, READ_FOLDER, WRITE_FOLDER = "GCS_READ_FILE", "GCS_READ_FOLDER", "GCS_WRITE_FOLDER"
PATHS = {
    **dict.fromkeys(("--catalog", "--queries", "--review", "--opt-out-file"), READ_FILE),
    **dict.fromkeys(("--index", "--previous", "--duplicates"), READ_FOLDER),
    "--out": WRITE_FOLDER,
}
PATHS_OF = {("reindex", "--index"): WRITE_FOLDER, ("compact", "--index"): WRITE_FOLDER}

# By what stands for the value in ``--help``.
WHOLE, DECIMAL = ("N", "K"), ("SHARE", "H", "S", "P", "D")
TEXT = ("M", "WHAT", "NAMES", "NAME", "RULE", "COLUMN", "PREFIX")

ANY_PATH = r"^gs://[^\n\r]+$"
ANY_WHOLE = r"^[0-9]+$"
ANY_DECIMAL = r"^[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?$"
ANY_SWITCH = r"^(true|false)$"

# Options of Beam that the service takes from nobody else, or that a job cannot do without.
OF_BEAM: list[dict[str, Any]] = [
    {
        "name": "sdk_container_image",
        "label": "Worker image",
        "helpText": "The image of deploy/Dockerfile: region-docker.pkg.dev/project/repository/"
        "hashbeam-worker:tag.",
        "isOptional": False,
        "paramType": "TEXT",
        "regexes": [r"^[^\s]+[:@][^\s]+$"],
        "groupName": "Workers",
    },
    {
        "name": "disk_size_gb",
        "label": "Disk of a worker",
        "helpText": "GB; what hashbeam plan --dataflow says.",
        "isOptional": True,
        "paramType": "NUMBER",
        "regexes": [ANY_WHOLE],
        "groupName": "Workers",
    },
    {
        "name": "number_of_worker_harness_threads",
        "label": "Threads of a worker process",
        "helpText": "1: a process has one core, and memory is planned for one piece of work.",
        "isOptional": True,
        "paramType": "NUMBER",
        "regexes": [ANY_WHOLE],
        "groupName": "Workers",
    },
]


def metadata(verb: str) -> dict[str, Any]:
    """What Dataflow is to know about the template of a verb."""
    module, parser = cli.make_parser(verb)
    groups = {
        action.dest: group.title
        for group in parser._action_groups[2:]  # the first two are argparse's own
        for action in group._group_actions
    }
    parameters = [
        {
            "name": VERB,
            "label": "Verb",
            "helpText": f"Always {verb}: one image serves all templates, and this tells it which.",
            "isOptional": False,
            "paramType": "TEXT",
            "regexes": [f"^{verb}$"],
            "defaultValue": verb,
        }
    ]
    for flag, action in flags_of(parser).items():
        if flag not in LEFT_OUT:
            group = groups.get(action.dest)
            parameters.append(_parameter(verb, flag, action, group))
    first, _, _ = module.DESCRIPTION.partition("\n\n")
    return {
        "name": f"hashbeam {verb}",
        "description": " ".join(first.split()),
        "parameters": [*parameters, *OF_BEAM],
    }


def _parameter(verb: str, flag: str, action: argparse.Action, group: str | None) -> dict[str, Any]:
    name = parameter_name(flag)
    help_text = argparse.HelpFormatter("")._expand_help(action)
    if takes_several(action):
        help_text += '; several as a list in JSON: ["a", "b"]'
    kind, pattern = _kind(verb, flag, action)
    return {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "helpText": f"{help_text[:1].upper()}{help_text[1:]}.",
        "isOptional": flag not in REQUIRED[verb],
        "paramType": kind,
        **({"regexes": [pattern]} if pattern else {}),
        **({"groupName": group.capitalize()} if group else {}),
    }


def _kind(verb: str, flag: str, action: argparse.Action) -> tuple[str, str]:
    """The type of a parameter, and a pattern of its values or ""."""
    path = PATHS_OF.get((verb, flag)) or PATHS.get(flag)
    if action.nargs == 0:
        return "BOOLEAN", ANY_SWITCH
    if path:
        return path, ANY_PATH
    if action.metavar in WHOLE:
        return ("TEXT", r"^(auto|[0-9]+)$") if action.default == "auto" else ("NUMBER", ANY_WHOLE)
    if action.metavar in DECIMAL:
        return "NUMBER", ANY_DECIMAL
    if action.metavar in TEXT:
        return "TEXT", ""
    raise SystemExit(
        f"metadata.py: {flag} of {verb} is new: say how it is asked for, or add it to LEFT_OUT"
    )


def text(verb: str) -> str:
    """The file of a template."""
    return json.dumps(metadata(verb), indent=2, ensure_ascii=False) + "\n"


def path(verb: str, folder: Path = HERE) -> Path:
    """Where it stands."""
    return folder / verb / "metadata.json"


if __name__ == "__main__":
    for one in VERBS:
        path(one).parent.mkdir(exist_ok=True)
        path(one).write_text(text(one), encoding="utf-8")
