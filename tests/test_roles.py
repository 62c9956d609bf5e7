"""The files of the roles: what `gcloud iam roles create --file` takes, and no other rights.

That they are enough, and that none of it is too much, is shown by runs (`gcs/test_gcs_rights.py`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parent.parent / "deploy"
ROLES = {path.stem: path for path in (DEPLOY / "roles").glob("*.yaml")}


def permissions(name: str) -> list[str]:
    found: list[str] = yaml.safe_load(ROLES[name].read_text("utf-8"))["includedPermissions"]
    return found


def test_the_roles_that_there_are() -> None:
    assert set(ROLES) == {"reader", "writer", "launcher", "stager"}
    told = (DEPLOY / "RIGHTS.md").read_text("utf-8")
    assert [name for name in ROLES if f"deploy/roles/{name}.yaml" not in told] == []
    assert set(permissions("reader")) < set(permissions("writer"))
    # On a project a right of Cloud Storage would be one on all of its buckets.
    assert [name for name in permissions("launcher") if not name.startswith("dataflow.")] == []
    for name in ("reader", "writer"):
        assert [one for one in permissions(name) if not one.startswith("storage.objects.")] == []
    assert "storage.objects.delete" not in permissions("stager")


@pytest.mark.parametrize("name", ROLES)
def test_a_role_is_what_gcloud_takes(name: str) -> None:
    role = yaml.safe_load(ROLES[name].read_text("utf-8"))
    assert set(role) == {"title", "description", "stage", "includedPermissions"}
    assert role["stage"] == "GA"
    assert len(role["title"]) <= 100
    assert len(role["description"]) <= 256
    listed = role["includedPermissions"]
    assert listed == sorted(set(listed))
    assert all(one.count(".") == 2 and "*" not in one for one in listed)
