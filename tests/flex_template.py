"""The two programs of deploy/dataflow, which stand in no package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from dockerfiles import ROOT

FOLDER = ROOT / "deploy" / "dataflow"


def load(name: str) -> ModuleType:
    """A program of that folder under its own name, as `python deploy/dataflow/…` would find it."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


launcher = load("launcher")
metadata = load("metadata")
VERBS: tuple[str, ...] = launcher.VERBS
