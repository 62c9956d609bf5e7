"""The DAGs as Airflow's parser loads them: schedules, retries, forms, and no work while parsing."""

from __future__ import annotations

import ast
import json
import re
import shutil
import socket
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import hashbeam_jobs
import pytest
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.providers.apache.beam.operators.beam import BeamRunPythonPipelineOperator
from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.sdk import DAG, BaseHook, BaseSensorOperator, Variable
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "deploy" / "airflow"
TASKS = {"hashbeam_reindex": ["reindex", "compact"], "hashbeam_disambiguate": ["disambiguate"]}
IDS = set(TASKS)
ENGINES = {
    "dataflow": DataflowStartFlexTemplateOperator,
    "beam": BeamRunPythonPipelineOperator,
}
RIGHT = {"out": "o", "name": ["The Owls"], "min_tracks": 3, "min_confidence": 0.6}
# Seconds by which clocks of two machines may differ.
CLOCKS_S = 60


def lease_s() -> float:
    """`pipelines.lock.LEASE_S`; hashbeam is not installed in this environment."""
    tree = ast.parse((ROOT / "pipelines" / "lock.py").read_text(encoding="utf-8"))
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LEASE_S"
    )
    return float(ast.literal_eval(value))


def load(folder: Path = DAGS) -> BundleDagBag:
    return BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="test")


def example(**changes: Any) -> dict[str, Any]:
    settings = json.loads((DAGS / "hashbeam.example.json").read_text(encoding="utf-8"))
    return {**settings, **changes}


def beam_settings() -> dict[str, Any]:
    settings = example(engine="beam", catalog="/data/catalog.csv", index="/data/music.index")
    del settings["dataflow"]
    options = {"job_endpoint": "localhost:8099"}
    runner = {"python": "/opt/hashbeam/bin/python", "runner": "PortableRunner", "options": options}
    return {**settings, "beam": runner}


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Settings of a test's own."""

    def use_settings(settings: dict[str, Any]) -> Path:
        path = tmp_path / "hashbeam.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        monkeypatch.setenv("HASHBEAM_AIRFLOW_SETTINGS", str(path))
        return path

    return use_settings


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, use) -> str:
    use(beam_settings() if request.param == "beam" else example())
    return request.param


def dags() -> dict[str, DAG]:
    bag = load()
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_the_parser_finds_both_dags_and_nothing_else(engine: str):
    bag = load()
    assert bag.import_errors == {}
    assert set(bag.dag_ids) == IDS
    for dag in bag.dags.values():
        # The scheduler sees a DAG only as it was written into the database.
        stored = DagSerialization.serialize_dag(dag)
        assert DagSerialization.deserialize_dag(stored).dag_id == dag.dag_id
        assert DagSerialization.serialize_dag(load().dags[dag.dag_id]) == stored


def test_when_they_run(engine: str):
    loaded = dags()
    nightly, one_off = loaded["hashbeam_reindex"], loaded["hashbeam_disambiguate"]
    assert nightly.schedule == "0 3 * * *"
    assert one_off.schedule is None
    for dag in loaded.values():
        assert dag.catchup is False
        assert dag.max_active_runs == 1
        assert dag.tags == {"hashbeam"}
        assert dag.doc_md
        assert dag.dagrun_timeout is not None


def test_tasks_of_the_engine_that_defer_one_after_another_and_no_sensor(engine: str):
    for name, dag in dags().items():
        before = set[str]()
        for task in dag.topological_sort():
            assert task.upstream_task_ids == before
            assert isinstance(task, ENGINES[engine])
            assert task.deferrable is True
            assert not isinstance(task, BaseSensorOperator)
            assert task.owner == "catalogue-team"
            assert task.on_failure_callback == []
            before = {task.task_id}
        assert [task.task_id for task in dag.topological_sort()] == TASKS[name]


def test_a_retry_waits_until_the_lock_of_a_dead_launcher_has_lapsed(engine: str):
    for dag in dags().values():
        longest = timedelta()
        for task in dag.tasks:
            assert task.retries >= 2
            assert task.retry_delay.total_seconds() > lease_s() + CLOCKS_S
            assert task.retry_exponential_backoff > 1
            assert task.retry_delay < task.max_retry_delay
            assert task.execution_timeout == timedelta(hours=20)
            longest += task.execution_timeout + task.retries * task.max_retry_delay
        # Of each task a try of full length and all pauses fit into a run.
        assert longest <= dag.dagrun_timeout


def test_the_lease_is_what_the_comment_says():
    text = Path(hashbeam_jobs.__file__).read_text(encoding="utf-8")
    assert re.findall(r"(\d+) s after the last renewal", text) == [f"{lease_s():.0f}"]


def test_reindex_tells_that_the_index_is_new(engine: str):
    loaded = dags()
    (asset,) = loaded["hashbeam_reindex"].get_task("reindex").outlets
    wanted = {"dataflow": "gs://my-bucket/music.index", "beam": "/data/music.index"}
    assert asset.uri == wanted[engine]
    assert loaded["hashbeam_reindex"].get_task("compact").outlets == []  # it says nothing new
    assert loaded["hashbeam_disambiguate"].get_task("disambiguate").outlets == []


def test_forms_describe_every_parameter(engine: str):
    loaded = dags()
    for dag in loaded.values():
        params = {name: dag.params.get_param(name) for name in dag.params}
        assert [name for name, one in params.items() if not one.description] == []
        assert [name for name, one in params.items() if "type" not in one.schema] == []
    # The nightly run is started with nothing filled in.
    nightly = loaded["hashbeam_reindex"].params.validate()
    assert nightly["max_shrink"] == 0.1
    assert nightly["keep"] == 14


@pytest.mark.parametrize(
    "wrong",
    [
        {},  # no folder for the results
        {"out": ""},
        {"out": "o", "min_tracks": 0},
        {"out": "o", "min_confidence": 1.5},
        {"out": "o", "name": "The Owls"},
        {"out": "o", "name": [""]},
    ],
)
def test_forms_refuse_what_is_wrong(wrong: dict[str, Any]):
    form = dags()["hashbeam_disambiguate"].params

    def fill_in(values: dict[str, Any]) -> dict[str, Any]:
        for name, value in values.items():
            form[name] = value
        return form.validate()

    with pytest.raises(ParamValidationError):
        fill_in(wrong)
    assert fill_in(RIGHT)["min_tracks"] == 3


def test_defaults_of_a_place(use):
    use(example(defaults={"reindex": {"max_failures": 0.08}}, schedule=None, max_hours=2))
    dag = dags()["hashbeam_reindex"]
    assert dag.params["max_failures"] == 0.08
    assert dag.schedule is None
    assert dag.tasks[0].execution_timeout == timedelta(hours=2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"index": "/data/music.index"}, "index: '/data/music.index' does not match '^gs://'"),
        ({"engine": "spark"}, "engine: 'spark' is not one of ['dataflow', 'beam']"),
        ({"engine": "beam"}, "file: 'beam' is a required property"),
        ({"shedule": "@daily"}, "'shedule' was unexpected"),
        ({"dataflow": {"project": "p"}}, "dataflow: 'region' is a required property"),
        ({"defaults": {"reindex": {"max_shrinc": 1}}}, "no parameter 'max_shrinc', use one of"),
        ({"defaults": {"reindex": {"max_shrink": 7}}}, "7 is greater than the maximum of 1"),
        ({"schedule": "at night"}, "AirflowTimetableInvalid"),
    ],
)
def test_a_mistake_in_the_settings_is_an_import_error(use, changes: dict[str, Any], told: str):
    use(example(**changes))
    errors = load().import_errors
    assert errors
    assert any(told in error for error in errors.values()), errors


def test_missing_settings_name_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HASHBEAM_AIRFLOW_SETTINGS", str(tmp_path / "none.json"))
    errors = load().import_errors
    assert set(errors) == {"hashbeam_reindex.py", "hashbeam_disambiguate.py"}
    for error in errors.values():
        assert "none.json is missing: copy hashbeam.example.json" in error


def test_what_the_page_for_operators_shows_is_right(use):
    page = (DAGS / "README.md").read_text(encoding="utf-8")
    (settings,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    use(json.loads(settings))
    assert set(dags()) == IDS
    use(example())
    runs = re.findall(r"airflow dags trigger (\w+) --conf '(.*)'", page)
    assert {name for name, _ in runs} == IDS
    for name, conf in runs:
        form = dags()[name].params
        form.update(json.loads(conf))
        assert form.validate().items() >= json.loads(conf).items()


@pytest.mark.parametrize(
    "mistake",
    ["import airflow.no_such_module", "max_active_run=1", "1 +"],
)
def test_a_mistake_in_a_dag_is_told(tmp_path: Path, mistake: str):
    folder = shutil.copytree(DAGS, tmp_path / "dags")
    path = folder / "hashbeam_reindex.py"
    text = path.read_text(encoding="utf-8")
    if "=" in mistake:
        text = text.replace("max_active_runs=1", mistake)
    else:
        text += f"\n{mistake}\n"
    path.write_text(text, encoding="utf-8")
    bag = load(folder)
    assert set(bag.import_errors) == {"hashbeam_reindex.py"}
    assert set(bag.dag_ids) == {"hashbeam_disambiguate"}


def test_nothing_is_asked_of_airflow_or_the_network_while_parsing(
    engine: str, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked while parsing")

    # Modules beside the DAGs are parsed anew, too.
    for name in [name for name in sys.modules if name.startswith("hashbeam_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(Variable, "get", refuse)
    monkeypatch.setattr(BaseHook, "get_connection", refuse)
    assert load().import_errors == {}


@pytest.mark.usefixtures("database")
def test_airflows_own_command_tells_import_errors(airflow, tmp_path: Path):
    """First of a folder with a mistake, so that the silence about ours means something."""
    broken = shutil.copytree(DAGS, tmp_path / "dags")
    path = broken / "hashbeam_reindex.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n1 +\n", encoding="utf-8")

    def told(folder: Path) -> str:
        where = {"AIRFLOW__CORE__DAGS_FOLDER": str(folder)}
        assert airflow("dags", "reserialize", **where).returncode == 0
        return airflow("dags", "list-import-errors", **where).stdout

    assert "hashbeam_reindex.py" in told(broken)
    assert told(DAGS).splitlines()[-1] == "No data found"
