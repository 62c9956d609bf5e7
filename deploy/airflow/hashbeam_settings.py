"""The settings of the DAGs: hashbeam.json beside them, or the file that a variable names.

A file and no Airflow Variable: schedule, asset and engine must be known where the DAGs are parsed,
and a Variable read there is a query of the database at every parse.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

FOLDER = Path(__file__).parent
VARIABLE = "HASHBEAM_AIRFLOW_SETTINGS"


class SettingsError(ValueError):
    """The settings are missing or wrong; Airflow shows it among the import errors."""


def read_settings() -> dict[str, Any]:
    """The settings, with defaults for what is not set.

    Raises: SettingsError that names the file and everything that is wrong in it.
    """
    path = Path(os.environ.get(VARIABLE) or FOLDER / "hashbeam.json")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"{path} is missing: copy hashbeam.example.json there and fill it in, or name another "
            f"file in {VARIABLE}"
        ) from None
    except ValueError as error:
        raise SettingsError(f"{path} is no JSON: {error}") from None
    schema = json.loads((FOLDER / "hashbeam.schema.json").read_text(encoding="utf-8"))
    found = jsonschema.Draft202012Validator(schema).iter_errors(settings)
    problems = sorted(f"{'.'.join(map(str, one.path)) or 'file'}: {one.message}" for one in found)
    if problems:
        raise SettingsError(f"{path}: {'; '.join(problems)}")
    return with_defaults(settings, schema)


def with_defaults(settings: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the schema's defaults for what is not set, in every section that is there."""
    properties = schema.get("properties", {})
    full = {name: one["default"] for name, one in properties.items() if "default" in one}
    for name, value in settings.items():
        section = isinstance(value, dict)
        full[name] = with_defaults(value, properties.get(name, {})) if section else value
    return full
