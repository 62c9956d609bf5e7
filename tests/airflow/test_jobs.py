"""What the tasks start: the request to Dataflow, the command line, and runs from end to end."""

from __future__ import annotations

import json
import os
import random
import stat
import struct
import subprocess
import wave
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import httplib2
import pytest
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.models.asset import AssetEvent
from airflow.providers.google.cloud.hooks.dataflow import AsyncDataflowHook, DataflowHook
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred
from airflow.utils.session import create_session
from google.cloud.dataflow_v1beta3 import JobState
from googleapiclient import discovery, discovery_cache
from googleapiclient.errors import HttpError
from hashbeam_verbs import job_name

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "deploy" / "airflow"
RUNS = Path(discovery_cache.__file__).parent / "documents" / "dataflow.v1b3.json"
HASHBEAM = Path(os.environ.get("HASHBEAM_PYTHON") or ROOT / ".venv" / "bin" / "python")

IMAGE = "europe-west1-docker.pkg.dev/my-project/images/hashbeam-worker:0.1.0"
ENVIRONMENT = {
    "serviceAccountEmail": "hashbeam-worker@my-project.iam.gserviceaccount.com",
    "tempLocation": "gs://my-bucket/temp",
    "machineType": "n2-standard-4",
    "maxWorkers": 20,
}
OWLS = {"out": "gs://my-bucket/artists", "name": ["The Owls", "{{ ds }}", "1975"]}


def load(dag_id: str) -> DAG:
    bag = BundleDagBag(dag_folder=DAGS, bundle_path=DAGS, bundle_name="test")
    assert bag.import_errors == {}
    return bag.dags[dag_id]


def rendered(dag_id: str, verb: str = "", /, **asked: Any) -> Any:
    """A task of a DAG, the first, with its templates filled in for a run that asks for this."""
    dag = load(dag_id)
    task = dag.get_task(verb) if verb else dag.roots[0]
    params = {key: dag.params.get_param(key).value for key in dag.params} | asked
    task.render_template_fields({"params": params})
    return task


@pytest.fixture
def beam_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Settings for the Beam operator, with this Python, runner and folder."""

    def use(python: Path, runner: str, **options: Any) -> Path:
        settings = {
            "engine": "beam",
            "catalog": f"{tmp_path}/catalog.csv",
            "index": f"{tmp_path}/music.index",
            "beam": {"python": str(python), "runner": runner, "options": options},
        }
        path = tmp_path / "hashbeam.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        monkeypatch.setenv("HASHBEAM_AIRFLOW_SETTINGS", str(path))
        return tmp_path

    return use


# What is sent.


def test_the_request_of_a_nightly_run():
    task = rendered("hashbeam_reindex")
    assert task.body == {
        "launchParameter": {
            "jobName": "hashbeam-reindex-30f2aeb0",
            "containerSpecGcsPath": "gs://my-bucket/templates/hashbeam-reindex.json",
            "parameters": {
                "verb": "reindex",
                "sdk_container_image": IMAGE,
                "catalog": "gs://my-bucket/catalog.parquet",
                "index": "gs://my-bucket/music.index",
                "max_failures": "0.05",
                "max_shrink": "0.1",
            },
            "environment": ENVIRONMENT,
        }
    }
    assert (task.project_id, task.location) == ("my-project", "europe-west1")


def test_the_request_that_keeps_the_index_tidy():
    launch = rendered("hashbeam_reindex", "compact", max_shrink=0.5).body["launchParameter"]
    assert launch["jobName"] == "hashbeam-compact-30f2aeb0"
    assert launch["containerSpecGcsPath"] == "gs://my-bucket/templates/hashbeam-compact.json"
    own = {"index": "gs://my-bucket/music.index", "keep": "14"}
    assert launch["parameters"] == {"verb": "compact", "sdk_container_image": IMAGE, **own}
    all_stay = rendered("hashbeam_reindex", "compact", keep=None).body["launchParameter"]
    assert "keep" not in all_stay["parameters"]


def test_the_request_of_a_disambiguation():
    task = rendered("hashbeam_disambiguate", **OWLS, keep_albums=True, min_confidence=0)
    launch = task.body["launchParameter"]
    assert launch["containerSpecGcsPath"] == "gs://my-bucket/templates/hashbeam-disambiguate.json"
    assert launch["parameters"] == {
        "verb": "disambiguate",
        "sdk_container_image": IMAGE,
        "catalog": "gs://my-bucket/catalog.parquet",
        "out": "gs://my-bucket/artists",
        "name": '["The Owls", "{{ ds }}", "1975"]',
        "min_tracks": "3",
        "min_confidence": "0",
        "max_failures": "0.5",
        "keep_albums": "true",
    }


def test_jobs_that_write_one_folder_have_one_name():
    def name_of(out: str) -> str:
        body = rendered("hashbeam_disambiguate", out=out).body
        return body["launchParameter"]["jobName"]

    assert name_of("gs://b/one") == name_of("gs://b/one/") != name_of("gs://b/two")


def test_the_api_knows_every_field():
    """Against Google's description of the API, which its client brings along."""
    schemas = json.loads(RUNS.read_text(encoding="utf-8"))["schemas"]
    types = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}

    def check(value: dict[str, Any], schema: str) -> None:
        known = schemas[schema]["properties"]
        assert set(value) <= set(known)
        for key, one in value.items():
            if "$ref" in known[key]:
                check(one, known[key]["$ref"])
            else:
                assert isinstance(one, types[known[key]["type"]]), key

    compact = rendered("hashbeam_reindex", "compact")
    for task in (rendered("hashbeam_reindex"), compact, rendered("hashbeam_disambiguate", **OWLS)):
        check(task.body, "LaunchFlexTemplateRequest")
        assert all(
            isinstance(one, str) for one in task.body["launchParameter"]["parameters"].values()
        )
    settings = json.loads((DAGS / "hashbeam.schema.json").read_text(encoding="utf-8"))
    offered = settings["properties"]["dataflow"]["properties"]["environment"]["properties"]
    known = schemas["FlexTemplateRuntimeEnvironment"]["properties"]
    assert set(offered) <= set(known)
    typed = {name: one["type"] for name, one in offered.items() if "type" in one}
    assert typed == {name: known[name]["type"] for name in typed}
    for name in ("ipConfiguration", "flexrsGoal"):
        assert set(offered[name]["enum"]) <= set(known[name]["enum"])


# Runs from end to end: Airflow's own loop, with a Dataflow that answers what a test says.


class Dataflow(httplib2.Http):
    """Dataflow's answers, by the method and the end of the path; keeps what it was asked."""

    def __init__(self, launch_status: int) -> None:
        super().__init__()
        self.launch_status = launch_status
        self.asked: list[tuple[str, str, Any]] = []

    def request(self, uri: str, method: str = "GET", body: Any = None, **_: Any) -> Any:
        path = uri.split("?")[0]
        self.asked.append((method, path, json.loads(body) if body else None))
        job = {"id": "job-1", "projectId": "my-project", "location": "europe-west1"}
        answer: dict[str, Any] = job
        status = 200
        if path.endswith("flexTemplates:launch"):
            answer, status = {"job": job}, self.launch_status
        if status != 200:
            answer = {"error": {"code": status, "message": "There is already an active job"}}
        headers = {"status": str(status), "content-type": "application/json"}
        return httplib2.Response(headers), json.dumps(answer).encode()


@pytest.fixture
def dataflow(monkeypatch: pytest.MonkeyPatch):
    """Puts a `Dataflow` in the place of Google's; the last state is that of all later jobs."""

    def use(launch_status: int = 200, states: tuple[str, ...] = ("DONE",)) -> Dataflow:
        service, left = Dataflow(launch_status), list(states)

        async def status(self: AsyncDataflowHook, **asked: Any) -> JobState:
            assert asked["job_id"] == "job-1"
            return JobState[f"JOB_STATE_{left.pop(0) if len(left) > 1 else left[0]}"]

        monkeypatch.setattr(
            DataflowHook,
            "get_conn",
            lambda _: discovery.build("dataflow", "v1b3", http=service, static_discovery=True),
        )
        monkeypatch.setattr(AsyncDataflowHook, "get_job_status", status)
        monkeypatch.setattr("hashbeam_jobs.POLL_S", 0)
        return service

    return use


def run(dag_id: str, /, **asked: Any) -> tuple[str, Any]:
    """State of a run of the DAG, and its first task's; a failed try is not tried again."""
    dag = load(dag_id)
    for task in dag.tasks:
        task.retries = 0
    dag_run = dag.test(run_conf=asked)
    return str(dag_run.state), dag_run.get_task_instance(dag.roots[0].task_id)


def events(uri: str) -> int:
    with create_session() as session:
        return sum(one.uri == uri for one in session.query(AssetEvent))


@pytest.mark.usefixtures("database")
def test_a_run_succeeds_when_the_job_has(dataflow):
    service = dataflow(states=("QUEUED", "RUNNING", "DONE"))
    before = events("gs://my-bucket/music.index")
    state, instance = run("hashbeam_reindex", max_shrink=0.5)
    assert (state, str(instance.state)) == ("success", "success")
    launch, tidy = [one for one in service.asked if one[0] == "POST"]
    assert tidy[2]["launchParameter"]["parameters"]["verb"] == "compact"
    assert launch[1].endswith(
        "/v1b3/projects/my-project/locations/europe-west1/flexTemplates:launch"
    )
    assert launch[2]["launchParameter"]["jobName"] == "hashbeam-reindex-30f2aeb0"
    assert launch[2]["launchParameter"]["parameters"]["max_shrink"] == "0.5"
    assert events("gs://my-bucket/music.index") == before + 1


@pytest.mark.usefixtures("database")
def test_a_run_fails_when_the_job_does(dataflow):
    service = dataflow(states=("RUNNING", "FAILED"))
    before = events("gs://my-bucket/music.index")
    state, _ = run("hashbeam_reindex")
    assert state == "failed"
    assert sum(one[0] == "POST" for one in service.asked) == 1  # nothing is tidied then
    assert events("gs://my-bucket/music.index") == before


@pytest.mark.usefixtures("database")
def test_a_job_beside_an_active_one_is_refused_and_not_renamed(dataflow):
    service = dataflow(launch_status=409)
    state, _ = run("hashbeam_disambiguate", **OWLS)
    assert state == "failed"
    (launch,) = service.asked
    assert launch[2]["launchParameter"]["jobName"] == job_name("disambiguate", OWLS["out"])


@pytest.mark.parametrize("dag_id", ["hashbeam_reindex", "hashbeam_disambiguate"])
@pytest.mark.parametrize("engine", ["dataflow", "beam"])
def test_a_deferred_task_is_given_up_in_time(engine: str, dag_id: str, dataflow, beam_settings):
    dataflow()
    if engine == "beam":
        beam_settings(Path("python3"), "FlinkRunner")
    task = rendered(dag_id, **(OWLS if dag_id == "hashbeam_disambiguate" else {}))
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({"ti": mock.Mock(), "task_instance": mock.Mock(), "task": task})
    assert deferred.value.timeout == timedelta(hours=20)


def test_the_refusal_is_an_error_of_the_try(dataflow):
    dataflow(launch_status=409)
    with pytest.raises(HttpError, match="already an active job"):
        rendered("hashbeam_reindex").execute({})


@pytest.mark.usefixtures("database")
def test_when_airflow_tries_again(dataflow):
    """Airflow's own arithmetic, with what the DAG asks of it."""
    dataflow()
    _, instance = run("hashbeam_reindex")
    instance.task = load("hashbeam_reindex").roots[0]
    pauses = []
    for number in range(1, instance.task.retries + 1):
        instance.try_number = number
        pauses.append(instance.next_retry_datetime() - instance.end_date)
    assert timedelta(minutes=5) <= pauses[0] <= timedelta(minutes=10)
    assert pauses == sorted(pauses)
    assert pauses[-1] <= timedelta(minutes=30)


# The other engine.


@pytest.mark.usefixtures("database")
def test_the_command_line_of_the_beam_operator(beam_settings, tmp_path: Path):
    """An interpreter that writes down what it is called with."""
    python = tmp_path / "python"
    called = tmp_path / "called"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && {{ echo 2.77.0; exit 0; }}\nprintf "%s\\n" "$@" > {called}\n',
        encoding="utf-8",
    )
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    beam_settings(python, "PortableRunner", job_endpoint="localhost:8099", parallelism=4)
    asked = {"out": f"{tmp_path}/out", "name": ["The Owls", "$(A) & B"], "keep_albums": True}
    state, _ = run("hashbeam_disambiguate", **asked)
    assert state == "success"
    words = called.read_text(encoding="utf-8").splitlines()
    assert words[:3] == ["-m", "pipelines.disambiguate", "--runner=PortableRunner"]
    own = {word for word in words[3:] if not word.startswith(("--labels", "--job_name"))}
    assert own == {
        f"--catalog={tmp_path}/catalog.csv",
        f"--out={tmp_path}/out",
        "--name=The Owls",
        "--name=$(A) & B",
        "--min-tracks=3",
        "--min-confidence=0.6",
        "--max-failures=0.5",
        "--keep-albums",
        "--job_endpoint=localhost:8099",
        "--parallelism=4",
    }


def write_tune(path: Path, seed: int) -> None:
    """Three seconds of noise with a pitch, as a wav file."""
    source = random.Random(seed)
    level, samples = 0.0, []
    for _ in range(3 * 8000):
        level = 0.9 * level + source.uniform(-3000, 3000)
        samples.append(max(-32768, min(32767, int(level))))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


def write_catalog(folder: Path, n: int) -> None:
    for number in range(n):
        if not (folder / f"{number}.wav").exists():
            write_tune(folder / f"{number}.wav", number)
    rows = "".join(f"t{number},{number}.wav\n" for number in range(n))
    (folder / "catalog.csv").write_text(f"track_id,uri\n{rows}", encoding="utf-8")


@pytest.mark.usefixtures("database")
@pytest.mark.skipif(not HASHBEAM.exists(), reason="hashbeam is not installed in .venv")
def test_a_nightly_run_publishes(beam_settings, monkeypatch: pytest.MonkeyPatch):
    """The whole way: Airflow, the Beam operator, hashbeam with Beam's local engine, an index."""
    folder = beam_settings(HASHBEAM, "DirectRunner", workers=1)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def hashbeam(*words: str) -> str:
        command = [str(HASHBEAM), "-m", "pipelines", *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=300
        ).stdout

    def published() -> tuple[int, int]:
        told = json.loads(hashbeam("info", str(folder / "music.index"), "--json"))
        return told["version"], told["tracks"]

    write_catalog(folder, 6)
    where = ("--catalog", f"{folder}/catalog.csv", "--out", f"{folder}/music.index")
    hashbeam("index", *where, "--workers", "1")
    first = published()
    write_catalog(folder, 8)
    assert run("hashbeam_reindex")[0] == "success"
    second = published()
    assert second[0] != first[0]
    assert (first[1], second[1]) == (6, 8)
    # Nothing has changed: nothing is published, and the run has succeeded.
    assert run("hashbeam_reindex")[0] == "success"
    assert published() == second
    # A gate refuses, the run fails, and the published version stays.
    write_catalog(folder, 3)
    assert run("hashbeam_reindex")[0] == "failed"
    assert published() == second
    # The remedy that it told, by hand, days later.
    for path in (folder / "music.index").rglob("*"):
        os.utime(path, (1e9, 1e9))
    assert run("hashbeam_reindex", max_shrink=0.9, keep=2)[0] == "success"
    assert published()[1] == 3
    # As so many tracks had gone, codes were copied without them; and of all versions two stay.
    told = json.loads(hashbeam("versions", str(folder / "music.index"), "--json"))
    assert [(one["state"], one["tracks"]) for one in told] == [("earlier", 3), ("published", 3)]
    assert told[1]["own_bytes"] == told[1]["bytes"] < told[0]["bytes"]
