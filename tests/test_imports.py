"""Who may import what: the borders between library, pipelines, training and start-up."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRAINING = "hashing.training"

# Installed by the extras only, and so absent where the run time alone is installed.
NOT_RUN_TIME = (
    *("torch", "onnx", "matplotlib", "librosa", "faiss", "sklearn", "psutil"),
    *("pytest", "hypothesis"),
)

# Each takes 0.8 to 5 s to import, more than an answer may take.
SLOW = ("apache_beam", "torch", "librosa", "numba", "scipy.signal", "sklearn", "faiss")

# Reading what these wrote can run what a stranger put into it.
UNSAFE_MODULES = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")

IMPORT_ALL = """
import importlib, json, sys, traceback

blocked, names = json.loads(sys.argv[1])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not in the run-time installation", name=name)

sys.meta_path.insert(0, Blocker())
failed = {}
for name in names:
    try:
        importlib.import_module(name)
    except BaseException as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        failed[name] = f"{error!r} at {at.filename}:{at.lineno}"
json.dump({"failed": failed, "loaded": sorted(sys.modules)}, sys.__stdout__)
"""


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_in_fresh_process(names: list[str], blocked: tuple[str, ...] = ()) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps([blocked, names])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """Everything in a file, parsed once for all tests; first the module."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))))


@pytest.fixture(autouse=True, scope="module")
def _forget_sources() -> Iterator[None]:
    """A million nodes would slow down the garbage collector of all later tests."""
    yield
    nodes.cache_clear()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that a file imports, inside functions too."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in nodes(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *([node.module] if node.module else [])]
            for alias in node.names:
                yield node.lineno, ".".join([*base, alias.name])


def forbidden_imports(paths: list[Path], names: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in paths
        for line, name in imports(path)
        if any(name == taboo or name.startswith(f"{taboo}.") for taboo in names)
    ]


def test_run_time_modules_import_without_the_extras():
    names = [module_name(path) for package in ("hashing", "pipelines") for path in sources(package)]
    names = [name for name in names if not f"{name}.".startswith(f"{TRAINING}.")]
    assert {"hashing.audio", "hashing.encoders", "pipelines.index"} <= set(names)
    assert import_in_fresh_process(names, NOT_RUN_TIME)["failed"] == {}


def test_the_blocker_blocks():
    failed = import_in_fresh_process(["torch", "hashing.errors"], ("torch",))["failed"]
    assert list(failed) == ["torch"]
    assert "not in the run-time installation" in failed["torch"]


@pytest.mark.parametrize("name", ["pipelines.cli", "pipelines.search"])
def test_start_up_loads_nothing_slow(name: str):
    answer = import_in_fresh_process([name])
    assert answer["failed"] == {}
    assert sorted(set(SLOW) & set(answer["loaded"])) == []


def test_hashing_knows_neither_beam_nor_pipelines():
    assert forbidden_imports(sources("hashing"), ("apache_beam", "pipelines")) == []


def test_torch_is_imported_in_training_only():
    outside = [
        path
        for package in ("hashing", "pipelines")
        for path in sources(package)
        if ROOT / "hashing" / "training" not in path.parents
    ]
    assert forbidden_imports(outside, ("torch", "onnx")) == []


def test_nothing_but_training_imports_training_when_it_is_imported():
    """A verb may load training once it runs; at module level it would need torch to start."""
    found = []
    for package in ("hashing", "pipelines"):
        for path in sources(package):
            if ROOT / "hashing" / "training" in path.parents:
                continue
            module = nodes(path)[0]
            assert isinstance(module, ast.Module)
            lines = {node.lineno for node in module.body}
            found += [
                f"{path.relative_to(ROOT)}:{line}"
                for line, name in imports(path)
                if line in lines and f"{name}.".startswith(f"{TRAINING}.")
            ]
    assert found == []


def test_nothing_unpickles_or_evaluates():
    paths = [*sources("hashing"), *sources("pipelines")]
    found = forbidden_imports(paths, UNSAFE_MODULES)
    for path in paths:
        for node in nodes(path):
            if isinstance(node, ast.Call):
                found += [
                    f"{path.relative_to(ROOT)}:{node.lineno} {what}" for what in unsafe_call(node)
                ]
    assert found == []


def unsafe_call(call: ast.Call) -> Iterator[str]:
    true = {
        keyword.arg
        for keyword in call.keywords
        if isinstance(keyword.value, ast.Constant) and keyword.value.value is True
    }
    if isinstance(call.func, ast.Name) and call.func.id in {"eval", "exec"}:
        yield f"calls {call.func.id}"
    loads = isinstance(call.func, ast.Attribute) and call.func.attr == "load"
    if loads and ast.unparse(call.func) == "torch.load" and "weights_only" not in true:
        yield "calls torch.load without weights_only=True"
    for keyword in ("allow_pickle", "shell"):
        if keyword in true:
            yield f"passes {keyword}=True"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("eval('1')", ["calls eval"]),
        ("model.eval()", []),
        ("torch.load(p)", ["calls torch.load without weights_only=True"]),
        ("torch.load(p, weights_only=True)", []),
        ("np.load(p, allow_pickle=True)", ["passes allow_pickle=True"]),
        ("run(c, shell=True)", ["passes shell=True"]),
        ("run(c, shell=False)", []),
    ],
)
def test_unsafe_calls_are_recognised(code: str, expected: list[str]):
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert list(unsafe_call(call)) == expected
