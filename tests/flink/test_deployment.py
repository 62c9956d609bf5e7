"""The FlinkDeployment against the operator's own schema, as a cluster would check it."""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from flink_jobs import downloads

from deploy.flink.cluster import HERE

CRD = "META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The schema of a FlinkDeployment; what it does not know is refused."""
    (jar,) = Path(downloads(), "operator").glob("flink-kubernetes-operator-api-*.jar")
    with zipfile.ZipFile(jar) as archive:
        definition = yaml.safe_load(archive.read(CRD))
    (version,) = definition["spec"]["versions"]
    assert f"{definition['spec']['group']}/{version['name']}" == deployment()["apiVersion"]
    found = version["schema"]["openAPIV3Schema"]
    strict(found)
    return found


def strict(schema: Any) -> None:
    """Fields that a schema does not name are an error; Kubernetes would drop them silently."""
    if isinstance(schema, dict):
        names = schema.get("properties")
        if names and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
            if "spec" in names:  # and what Kubernetes itself adds
                names.update({name: {"type": "string"} for name in ("apiVersion", "kind")})
                names["metadata"] = {"type": "object"}
        for value in schema.values():
            strict(value)


def deployment() -> dict[str, Any]:
    """What is deployed."""
    return yaml.safe_load((HERE / "deployment.yaml").read_text("utf-8"))


def broken() -> Iterator[tuple[str, dict[str, Any]]]:
    """Deployments with one mistake each."""
    for place, value in (
        (("spec", "flinkVersion"), "v9_99"),
        (("spec", "taskManager", "replicas"), "five"),
        (("spec", "taskmanager"), {}),
        (("spec", "flinkConfiguration", "restart-strategy"), {"type": "fixed-delay"}),
        (("spec", "taskManager", "podTemplate", "spec", "containers"), {"name": "worker"}),
        (("spec", "jobManager", "resource", "memory"), 1600),
    ):
        wrong = copy.deepcopy(deployment())
        inner = wrong
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = value
        yield ".".join(place), wrong


def test_the_operator_would_take_it(schema: dict[str, Any]) -> None:
    jsonschema.validate(deployment(), schema)


@pytest.mark.parametrize(("place", "wrong"), list(broken()))
def test_the_operator_would_refuse_a_mistake(
    schema: dict[str, Any], place: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)
