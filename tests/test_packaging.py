"""What is installed, and from which pins; all without a network."""

from __future__ import annotations

import email
import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from dockerfiles import pins, read_stages
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hashing", "pipelines")
EXTRAS = ("train", "gcp", "dev")


def shipped_files() -> set[str]:
    """Everything in the packages but what running them leaves there."""
    return {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the tree, built in a process of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "tree"
    left = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=left)
    code = "import sys; from setuptools import build_meta as b; b.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def dist_info(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = (n for n in wheel.namelist() if n.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


@pytest.fixture(scope="module")
def requirements(wheel: zipfile.ZipFile) -> list[Requirement]:
    headers = email.message_from_string(dist_info(wheel, "METADATA"))
    return [Requirement(line) for line in headers.get_all("Requires-Dist")]


def test_wheel_holds_the_two_packages_and_nothing_else(wheel: zipfile.ZipFile):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == shipped_files()


def test_wheel_holds_the_pretrained_models(wheel: zipfile.ZipFile):
    folders = {name.split("/")[2] for name in wheel.namelist() if "/pretrained/" in name}
    assert folders
    for folder in folders:
        for file in ("config.json", "arrays.safetensors", "README.md"):
            assert f"hashing/pretrained/{folder}/{file}" in wheel.namelist()


def test_wheel_metadata(wheel: zipfile.ZipFile):
    headers = email.message_from_string(dist_info(wheel, "METADATA"))
    assert headers["Name"] == "hashbeam"
    assert headers["Requires-Python"] == ">=3.11"
    assert headers["License"] == "Apache-2.0"
    assert sorted(headers.get_all("Provides-Extra")) == sorted(EXTRAS)
    assert dist_info(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()


def test_console_script_names_a_function(wheel: zipfile.ZipFile):
    assert "hashbeam = pipelines.cli:main" in dist_info(wheel, "entry_points.txt").splitlines()
    assert callable(importlib.import_module("pipelines.cli").main)


def test_run_time_requirements_have_ranges(requirements: list[Requirement]):
    run_time = [r for r in requirements if r.marker is None]
    assert len(run_time) >= 10
    assert [str(r) for r in run_time if not r.specifier or "==" in str(r.specifier)] == []


def test_run_time_needs_nothing_heavy(requirements: list[Requirement]):
    """Everything that the run-time requirements draw in, followed through what is installed."""
    waiting = [r for r in requirements if r.marker is None]
    seen: set[str] = set()
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name in seen:
            continue
        seen.add(name)
        needed = [Requirement(line) for line in metadata.requires(name) or []]
        waiting += [r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    heavy = {"torch", "triton", "librosa", "faiss-cpu", "scikit-learn", "matplotlib"}
    assert {"apache-beam", "numpy", "grpcio"} <= seen
    assert sorted(n for n in seen if n in heavy or n.startswith("nvidia-")) == []


def test_lock_pins_every_requirement(requirements: list[Requirement]):
    locked = pins()
    bad = [
        f"{r} but the lock has {locked.get(canonicalize_name(r.name))}"
        for r in requirements
        if not r.specifier.contains(locked.get(canonicalize_name(r.name), "0"))
    ]
    assert bad == []


def test_lock_is_plain_pins():
    """Usable as constraints anywhere: no index, host, path, option or marker."""
    pin = re.compile(r"[a-z0-9][a-z0-9._-]*==[0-9][0-9A-Za-z.+!]*")
    comment = re.compile(r" *#(?!.*(://|-c |-r |/(tmp|home|root|opt|work)\b)).*")
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [n for n in lines if not (pin.fullmatch(n) or comment.fullmatch(n))] == []
    assert {"apache-beam", "torch", "google-cloud-storage", "pytest"} <= set(pins())


def test_worker_image_tries_what_workers_need(wheel: zipfile.ZipFile, tmp_path: Path):
    """The modules that it imports, and the models that it loads, are in the wheel."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    commands = read_stages(text)[-1].commands
    torch, imports, loads = (words[-1] for words in commands if words[:2] == ["python", "-c"])
    assert "find_spec('torch')" in torch
    modules = [name for name in imports.removeprefix("import ").split(", ") if "google" not in name]
    assert {"pipelines.index", "pipelines.disambiguate"} <= set(modules)
    assert {f"{name.replace('.', '/')}.py" for name in modules} <= set(wheel.namelist())
    assert {"encoders.Hasher.load()", "encoder.ArtistEncoder.load()"} <= set(loads.split("; "))
    assert "sequences.SequenceEncoder.load()" in loads.split("; ")
    wheel.extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", f"{loads}; print(encoders.__file__)"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == str(tmp_path / "hashing" / "encoders.py"), done.stderr


# The Makefile: what is installed when. `make --dry-run` prints commands and runs none.


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("Makefile", "setup.py", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # An outer make, or the folder of its music test, must not reach the inner one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "HASHBEAM"))}
    command = ["make", "--no-print-directory", f"PYTHON={sys.executable}", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def install_pretended(folder: Path, target: str) -> str:
    """Touch the stamps that an install would; the commands that it would have run."""
    commands = make(folder, "--dry-run", target).stdout
    for stamp in re.findall(r"touch (\S+)", commands):
        (folder / stamp).parent.mkdir(parents=True, exist_ok=True)
        (folder / stamp).touch()
    return commands


def test_demo_installs_the_run_time_and_test_everything(project: Path):
    demo = make(project, "--dry-run", "demo").stdout
    assert "-m venv .venv" in demo
    assert re.search(r"uv pip install .*--constraints requirements.txt --editable \.$", demo, re.M)
    test = make(project, "--dry-run", "test").stdout
    assert "--editable '.[train,gcp,dev]'" in test
    for command in ("ruff check", "ruff format --check", "mypy", "pytest"):
        assert f"-m {command}" in test


def test_nothing_is_installed_twice(project: Path):
    assert "uv pip install" in install_pretended(project, "install-run-time")
    assert "uv pip install" not in make(project, "--dry-run", "demo").stdout
    assert "uv pip install" in install_pretended(project, "install")
    assert "uv pip install" not in make(project, "--dry-run", "test").stdout


def test_a_full_install_serves_the_demo(project: Path):
    install_pretended(project, "install")
    assert "uv pip install" not in make(project, "--dry-run", "demo").stdout


@pytest.mark.parametrize("name", ["setup.py", "requirements.txt"])
def test_a_changed_pin_installs_again(project: Path, name: str):
    install_pretended(project, "install")
    with (project / name).open("a") as file:
        file.write("# another pin\n")
    assert "uv pip install" in make(project, "--dry-run", "demo").stdout
    assert "uv pip install" in make(project, "--dry-run", "test").stdout


def test_a_moved_folder_installs_again(project: Path, tmp_path_factory: pytest.TempPathFactory):
    install_pretended(project, "install")
    moved = tmp_path_factory.mktemp("moved") / "tree"
    shutil.copytree(project, moved)
    assert "uv pip install" in make(moved, "--dry-run", "demo").stdout


@pytest.mark.parametrize(
    ("argument", "message"),
    [("", "HASHBEAM_MUSIC is not set"), ("HASHBEAM_MUSIC=missing", "missing is not a folder")],
)
def test_music_target_says_what_it_lacks(project: Path, argument: str, message: str):
    done = make(project, "test-music", *filter(None, [argument]))
    assert done.returncode == 2
    assert message in done.stderr
    assert not (project / ".venv").exists()


def test_an_old_python_is_refused(project: Path):
    done = make(project, "install-run-time", "PYTHON=false")
    assert done.returncode == 2
    assert "hashbeam needs Python 3.11 or newer" in done.stderr


def test_readme_names_targets_that_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", readme, re.M))
    assert {"demo", "test"} <= named
    listed = set(re.findall(r"^  make (\S+)", make(ROOT, "help").stdout, re.M))
    assert named <= listed


def test_ci_calls_targets_that_exist():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    called = re.findall(r"make --no-print-directory ([a-z-]+)", script.read_text(encoding="utf-8"))
    assert called[:5] == ["clean", "test", "demo", "test-music", "test-gcs"]
    assert called[5:] == ["test-airflow", "flink-test"]
    assert make(ROOT, "--dry-run", *called[:-3]).returncode == 0
