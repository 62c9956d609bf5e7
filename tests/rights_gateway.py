"""Google Cloud Storage as an account with few rights sees it: a proxy before the emulator.

The emulator lets everybody do everything. Here each request is held against the grants of one
account, as IAM does: the permissions of the JSON API's methods, asked of an object, or of its
bucket where a method names none. What is not granted is answered with 403, and not passed on.
"""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml
from faulty_proxy import FaultyProxy

ROLES = Path(__file__).parent.parent / "deploy" / "roles"
_OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o/(.+)")
_OBJECTS = re.compile(r"(?:/upload|/resumable/upload)?/storage/v1/b/([^/]+)/o")
_BUCKET = re.compile(r"/storage/v1/b(?:/([^/]+))?")


def role(name: str) -> frozenset[str]:
    """The permissions of a role that this repository ships."""
    told = yaml.safe_load((ROLES / f"{name}.yaml").read_text(encoding="utf-8"))
    return frozenset(told["includedPermissions"])


@dataclasses.dataclass(frozen=True)
class Grant:
    """A role that an account has on a bucket, on the condition that RIGHTS.md writes down.

    Attributes:
        permissions: of the role.
        bucket: its name.
        prefix: names of objects begin so; the bucket itself is meant as well, for listings.
    """

    permissions: frozenset[str]
    bucket: str
    prefix: str = ""

    def allows(self, permission: str, bucket: str, name: str | None) -> bool:
        """Whether it grants that on an object, or (None) on the bucket."""
        meant = name is None or f"{name}/".startswith(self.prefix)
        return permission in self.permissions and bucket == self.bucket and meant


class RightsGateway(FaultyProxy):
    """Passes on what an account may do.

    Attributes:
        grants: of the account.
        used: permission, bucket and object ("" for the bucket) of all that was asked for.
        denied: of what was refused, each with the request.
    """

    def __init__(self, target: str, grants: Sequence[Grant]) -> None:
        super().__init__(target)
        self.grants = list(grants)
        self.used = set[tuple[str, str, str]]()
        self.denied = list[str]()
        self._rights = threading.Lock()

    @property
    def permissions(self) -> frozenset[str]:
        """What was asked for, wherever."""
        return frozenset(permission for permission, _, _ in self.used)

    def refuses(self, method: str, path: str, body: bytes) -> str | None:
        """See `FaultyProxy`."""
        needed, bucket, name = self._needed(method, path, body)
        with self._rights:
            self.used |= {(one, bucket, name or "") for one in needed}
            for one in needed:
                if not any(grant.allows(one, bucket, name) for grant in self.grants):
                    self.denied.append(f"{one} on {bucket}/{name or ''}: {method} {path}")
                    return f"{one} denied on {bucket}/{name or ''}"
        return None

    def _needed(self, method: str, path: str, body: bytes) -> tuple[list[str], str, str | None]:
        """Permissions that a request needs, its bucket, and its object where it names one."""
        url = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if found := _OBJECT.fullmatch(url.path):
            bucket, name = unquote(found[1]), unquote(found[2])
            verbs = {"GET": "get", "DELETE": "delete", "PATCH": "update", "PUT": "update"}
            return [f"storage.objects.{verbs[method]}"], bucket, name
        if found := _OBJECTS.fullmatch(url.path):
            bucket = unquote(found[1])
            if method == "GET":
                return ["storage.objects.list"], bucket, None
            if "upload_id" in query:  # a piece of an upload that was judged when it began
                return [], bucket, None
            name = query.get("name") or _named(body)
            needed = ["storage.objects.create"]
            # Who asks for a new object replaces nothing: it is refused where there is one.
            if query.get("ifGenerationMatch") != "0" and self._exists(bucket, name):
                needed.append("storage.objects.delete")
            return needed, bucket, name
        found = _BUCKET.fullmatch(url.path)
        assert found is not None, f"what does {method} {path} need?"
        verbs = {"GET": "get" if found[1] else "list", "POST": "create", "DELETE": "delete"}
        return [f"storage.buckets.{verbs.get(method, 'update')}"], found[1] or "", None

    def _exists(self, bucket: str, name: str) -> bool:
        url = f"http://{self.target}/storage/v1/b/{quote(bucket)}/o/{quote(name, safe='')}"
        try:
            with urllib.request.urlopen(url, timeout=20):
                return True
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return False


def _named(body: bytes) -> str:
    """The object that an upload names in its JSON, alone or as the first of two parts."""
    first = re.search(rb"\{.*?\}(?=\s*(?:--|$))", body, re.DOTALL)
    assert first is not None, body[:200]
    return str(json.loads(first[0])["name"])
