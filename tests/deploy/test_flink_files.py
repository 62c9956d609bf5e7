"""The files of deploy/flink agree with each other, and with the pins of the rest."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # of a file of our own
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.flink.cluster import HERE, ROOT, Cluster, ClusterError
from pipelines.cli import parse
from pipelines.lock import LEASE_S

POM = {"m": "http://maven.apache.org/POM/4.0.0"}


def text(name: str) -> str:
    """A file of deploy/flink."""
    return (HERE / name).read_text("utf-8")


def documents(name: str) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(text(name)))


def properties() -> dict[str, str]:
    """The versions that pom.xml names."""
    found = ET.fromstring(text("pom.xml")).find("m:properties", POM)
    assert found is not None
    return {one.tag.rpartition("}")[2]: one.text or "" for one in found}


def flat(settings: Any, name: str = "") -> dict[str, str]:
    """Nested settings as Flink's dotted names."""
    if not isinstance(settings, dict):
        text = str(settings).lower() if isinstance(settings, bool) else str(settings)
        return {name: text}
    found: dict[str, str] = {}
    for key, value in settings.items():
        found |= flat(value, f"{name}.{key}" if name else key)
    return found


def flink_version() -> str:
    """Of the cluster."""
    found = re.search(r"^apache-flink-libraries==(\S+)$", text("requirements.txt"), re.MULTILINE)
    assert found is not None
    return found[1]


def test_versions_agree() -> None:
    minor = properties()["flink.minor"]
    assert flink_version().startswith(f"{minor}.")
    docker = text("Dockerfile")
    assert f"ARG FLINK={flink_version()}\n" in docker
    assert f"ARG BEAM_JAVA={properties()['beam.version']}\n" in docker
    (deployment,) = documents("deployment.yaml")
    assert deployment["spec"]["flinkVersion"] == f"v{minor.replace('.', '_')}"
    assert deployment["spec"]["image"].endswith(f":{flink_version()}")


def test_kubernetes_has_the_settings_of_the_cluster_that_is_tested() -> None:
    tested = flat(yaml.safe_load(text("config.yaml")))
    deployed = documents("deployment.yaml")[0]["spec"]["flinkConfiguration"]
    assert all(isinstance(value, str) for value in deployed.values()), "Flink takes strings"
    assert {name: tested.get(name) for name in deployed} == deployed
    spoken = {"restart-strategy", "heartbeat", "classloader"}
    assert {name for name in tested if name.split(".")[0] in spoken} <= set(deployed)


def test_one_task_manager_is_spare_and_has_a_pool_of_its_own() -> None:
    (deployment,) = documents("deployment.yaml")
    manager = deployment["spec"]["taskManager"]
    args = nightly()["args"]
    assert f"--parallelism={manager['replicas'] - 1}" in args
    containers = {one["name"]: one for one in manager["podTemplate"]["spec"]["containers"]}
    assert set(containers) == {"flink-main-container", "hashbeam-worker"}
    (port,) = containers["hashbeam-worker"]["ports"]
    assert f"--environment_config=localhost:{port['containerPort']}" in args
    assert "--environment_type=EXTERNAL" in args


def nightly() -> dict[str, Any]:
    """The container of the nightly job."""
    cron = next(one for one in documents("job-server.yaml") if one["kind"] == "CronJob")
    (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return container


def test_the_nightly_job_is_a_command_that_hashbeam_takes() -> None:
    container = nightly()
    assert container["command"][0] == "hashbeam"
    _, args, beam_args = parse(container["command"][1], container["args"])
    assert args.index == "gs://BUCKET/music.index"
    assert "--runner=PortableRunner" in beam_args


def test_the_nightly_job_tries_again_after_the_lease_of_a_lost_launcher() -> None:
    cron = next(one for one in documents("job-server.yaml") if one["kind"] == "CronJob")
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    tries = cron["spec"]["jobTemplate"]["spec"]["backoffLimit"]
    pauses = [10 * 2**number for number in range(tries)]  # s, as Kubernetes does it
    assert sum(pauses) > LEASE_S + 60


def test_the_job_server_is_where_the_job_looks_for_it() -> None:
    found = {one["kind"]: one for one in documents("job-server.yaml")}
    service = found["Service"]
    ports = {one["name"]: one["port"] for one in service["spec"]["ports"]}
    (server,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert f"--job-port={ports['jobs']}" in server["args"]
    assert f"--artifact-port={ports['artifacts']}" in server["args"]
    assert f"--job_endpoint={service['metadata']['name']}:{ports['jobs']}" in nightly()["args"]
    (deployment,) = documents("deployment.yaml")
    assert f"--flink-master={deployment['metadata']['name']}-rest:8081" in server["args"]
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels


def test_a_cluster_without_its_downloads_says_what_brings_them(tmp_path: Path) -> None:
    with (
        pytest.raises(ClusterError, match="is missing: run `make flink`"),
        Cluster(tmp_path / "c", downloads=tmp_path / "nothing"),
    ):
        pass


def test_flags_of_a_cluster_are_known_to_beam_and_hold_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "s3cret")
    flags = Cluster(tmp_path / "c", downloads=tmp_path).beam_args(2)
    assert "s3cret" not in " ".join(flags)
    _, args, beam_args = parse("lookup", ["--index", "i", "--queries", "q", "--out", "o", *flags])
    assert beam_args == flags
    assert args.files == []
    assert args.index == str(Path.cwd() / "i")
    assert (ROOT / "deploy" / "flink" / "worker.sh").stat().st_mode & 0o111
