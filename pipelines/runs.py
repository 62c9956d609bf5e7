"""An unfinished run: its plan, the receipts of the pieces of work that are done, and resuming.

A piece of work (a part of the catalogue, a table shard) writes its files under names of its own
attempt and then one receipt. The first receipt of a name counts; a late or repeated attempt
overwrites nothing. A run that was killed is continued by preparing it again: whatever has a
receipt, and the files that the receipt promises, is not repeated.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from hashing.errors import HashbeamError, IndexFormatError
from pipelines import io
from pipelines.io import FileInfo
from pipelines.job_folder import FinishedError
from pipelines.publication import finish_publication
from pipelines.records import Record
from pipelines.versions import (
    FIRST_VERSION,
    FORMAT_VERSION,
    FileEntry,
    current_version,
    dump_json,
    is_temporary,
    load_json,
    open_manifest,
    utc_now,
    version_path,
)


class AlreadyPublishedError(FinishedError):
    """The run was killed after it had published: nothing is left to do."""


@dataclasses.dataclass(frozen=True)
class Plan(Record):
    """What a run makes of what. Two runs with equal digests and options give the same index.

    `options` holds only what changes the result (not the number of workers). `parent` is the
    version that the run starts from; `n_tracks` counts those that the run itself goes through,
    and its parts and segments are numbered from `first_part` and `first_segment` on; `n_edits`
    are pieces of work on rows whose codes stay. `token` tells it from a run of the same version
    that was given up before, whose workers may be at work still.
    """

    version: str
    catalog_digest: str
    model_digest: str
    model_name: str
    options: dict[str, Any]
    n_tracks: int
    n_parts: int
    created: str
    format_version: int = FORMAT_VERSION
    parent: str | None = None
    n_edits: int = 0
    first_part: int = 0
    first_segment: int = 0
    token: str = ""

    @property
    def parts(self) -> range:
        """The numbers of the run's parts."""
        return range(self.first_part, self.first_part + self.n_parts)


@dataclasses.dataclass(frozen=True)
class Receipt(Record):
    """A finished piece of work: the attempt that counts and its files; times in Unix seconds.

    `inputs` may hold a digest of what the work was made from, for the caller to compare; `run` is
    the token of the plan.
    """

    name: str
    attempt: str
    files: list[FileEntry]
    counters: dict[str, int | float]
    started: float
    finished: float
    inputs: str = ""
    run: str = ""
    format_version: int = FORMAT_VERSION


def new_attempt() -> str:
    """A name for one attempt at a piece of work; random, as two workers may try the same piece.

    Likewise for a run (`Plan.token`).
    """
    return os.urandom(6).hex()


@dataclasses.dataclass(frozen=True)
class Run:
    """A run in progress on an index; small, and sent to every worker."""

    index: str
    plan: Plan

    @property
    def version(self) -> str:
        """The version that the run will publish."""
        return self.plan.version

    @property
    def work(self) -> str:
        """The folder for what only the run itself needs; deleted when it is published."""
        return self.path("work")

    def path(self, *parts: str) -> str:
        """Something in the folder of the run's version."""
        return version_path(self.index, self.version, *parts)

    def attempt_path(self, kind: str, name: str, attempt: str, suffix: str) -> str:
        """Where an attempt writes a file: ``…/codes/part-00012-ATTEMPT.parquet``."""
        return self.path(kind, f"{name}-{attempt}{suffix}")

    def entry(
        self, kind: str, info: FileInfo, *, rows: int | None = None, **place: int
    ) -> FileEntry:
        """The entry of a file that was written; `place` is segment, part, table, key_lo, key_hi."""
        path = info.path.removeprefix(io.join(self.index, ""))
        rows = info.rows if rows is None else rows
        return FileEntry(path, kind, rows, info.bytes, info.sha256, **place)

    def receipt_path(self, name: str) -> str:
        """Where the receipt of a piece of work stands."""
        return io.join(self.work, "receipts", f"{name}.json")

    def write_receipt(self, receipt: Receipt) -> Receipt:
        """Makes an attempt count, unless another has: returns the receipt that counts.

        Raises: HashbeamError where another run is under way in place of this one.
        """
        receipt = dataclasses.replace(receipt, run=self.plan.token)
        path = self.receipt_path(receipt.name)
        if io.create_exclusive(path, dump_json(receipt)):
            return receipt
        earlier = _load_receipt(io.read_if_exists(path), path)
        if earlier is not None and earlier.run != self.plan.token:
            self._check_current()
        elif earlier is not None and self._has_files(earlier):
            return earlier
        io.write_bytes(path, dump_json(receipt))
        return receipt

    def finished(self, name: str) -> Receipt | None:
        """The receipt of a piece of work whose files are all there; None where it is to be done.

        A runner that begins a job anew, as where a machine was lost, gives out what was done, too.
        """
        path = self.receipt_path(name)
        receipt = _load_receipt(io.read_if_exists(path), path)
        if receipt is None or receipt.run != self.plan.token or not self._has_files(receipt):
            return None
        return receipt

    def receipts(self, prefix: str = "") -> dict[str, Receipt]:
        """Name → receipt of every piece of work whose files are all there in full size.

        Args:
            prefix: only of names that begin so: of all others nothing but the name is read.
        """
        sizes = io.list_files(self.path())
        own = f"{version_path('', self.version)}/"
        paths = [
            self.path(name)
            for name in sorted(sizes)
            if name.startswith(f"work/receipts/{prefix}") and name.endswith(".json")
        ]
        found = {}
        for path, data in zip(paths, io.read_all(paths), strict=True):
            receipt = _load_receipt(data, path)
            if receipt is None or receipt.run != self.plan.token:
                continue
            if all(sizes.get(file.path.removeprefix(own)) == file.bytes for file in receipt.files):
                found[receipt.name] = receipt
        return found

    def _has_files(self, receipt: Receipt) -> bool:
        return all(
            io.file_size(io.join(self.index, file.path)) == file.bytes for file in receipt.files
        )

    def _check_current(self) -> None:
        plan = load_plan(io.join(self.work, "plan.json"))
        if plan is None or plan.token != self.plan.token:
            raise HashbeamError(
                f"{self.index}: this run of version {self.version} was given up; "
                "what its workers still do does not count"
            )

    def discard(self, name: str) -> None:
        """Forgets a receipt, so that its piece of work is done again."""
        io.remove(self.receipt_path(name))


def prepare_run(
    index: str,
    *,
    catalog_digest: str,
    model_digest: str,
    model_name: str,
    options: Mapping[str, Any],
    n_tracks: int,
    n_parts: int,
) -> Run:
    """Starts the first run of an index, or continues the one that was left unfinished there.

    The caller holds the lock. A continued run keeps its own plan: read `Run.plan`.

    Raises: HashbeamError where the folder holds a published index, an unfinished run of another
        catalogue, model or options, or anything else; AlreadyPublishedError where this very run had
        been killed when only its leftovers remained to be deleted.
    """
    plan = Plan(
        version=FIRST_VERSION,
        catalog_digest=catalog_digest,
        model_digest=model_digest,
        model_name=model_name,
        options=json.loads(json.dumps(dict(options))),
        n_tracks=n_tracks,
        n_parts=n_parts,
        created=utc_now(),
        token=new_attempt(),
    )
    published = current_version(index)
    if published is not None:
        _refuse_published(index, published, plan)
    if io.exists(index) and not io.is_dir(index):
        raise HashbeamError(f"{index} is a file; name a folder for the index, or remove the file")
    path = version_path(index, FIRST_VERSION, "work", "plan.json")
    earlier, files = load_plan(path), io.list_files(index)
    foreign = [name for name in io.list_dir(index) if name != "versions" and not _passing(name)]
    if earlier is None:
        foreign += [name for name in files if not _passing(name)]
    if foreign:
        raise HashbeamError(
            f"{index} is not empty (it holds {min(foreign)}) and is no index; "
            "name another folder, or empty this one"
        )
    if earlier is not None:
        _refuse_another(index, earlier, plan)
    for name in filter(is_temporary, files):
        io.remove(io.join(index, name))
    if earlier is None:
        io.write_bytes(path, dump_json(plan))
    return Run(index, earlier or plan)


def _passing(name: str) -> bool:
    """Whether a name belongs to the lock or to a killed writer, and so makes no folder full."""
    return name == "LOCK" or name.startswith(".LOCK.") or is_temporary(name)


def _refuse_published(index: str, published: str, plan: Plan) -> None:
    work = version_path(index, published, "work")
    if io.is_dir(work):
        earlier = load_plan(io.join(work, "plan.json"))
        finish_publication(index, open_manifest(index, published))
        if earlier is not None and not plan_differences(earlier, plan):
            raise AlreadyPublishedError(
                f"{index} is finished: this run had published version {published} already"
            )
    manifest = open_manifest(index, published)
    same = manifest.catalog_digest == plan.catalog_digest
    same = same and manifest.model["digest"] == plan.model_digest
    raise (FinishedError if same else HashbeamError)(
        f"{index} holds a published index (version {published}); bring it up to date with "
        f"`hashbeam reindex --index {index}`, or name another folder"
    )


def _refuse_another(index: str, earlier: Plan, plan: Plan) -> None:
    differences = plan_differences(earlier, plan)
    if differences:
        raise HashbeamError(
            f"{index} holds an unfinished run with {' and '.join(differences)}; finish it with "
            f"the command that started it on {earlier.created}, or remove {index}, "
            "or name another folder"
        )


def plan_differences(earlier: Plan, plan: Plan) -> list[str]:
    """In what one run differs from another, in words; nothing where the one is the other."""
    found = []
    if earlier.catalog_digest != plan.catalog_digest:
        found.append(
            f"another catalogue ({earlier.n_tracks} tracks, digest {earlier.catalog_digest[:12]}, "
            f"not {plan.n_tracks} tracks, {plan.catalog_digest[:12]})"
        )
    if earlier.model_digest != plan.model_digest:
        found.append(
            f"another model ({earlier.model_name}, digest {earlier.model_digest[:12]}, "
            f"not {plan.model_name}, {plan.model_digest[:12]})"
        )
    changed = sorted(
        name
        for name in earlier.options.keys() | plan.options.keys()
        if earlier.options.get(name) != plan.options.get(name)
    )
    if changed:
        was = ", ".join(f"{name}={earlier.options.get(name)}" for name in changed)
        now = ", ".join(f"{name}={plan.options.get(name)}" for name in changed)
        found.append(f"other options ({was}, not {now})")
    return found


def load_plan(path: str) -> Plan | None:
    """The plan of an unfinished run; None where there is none.

    Raises: IndexFormatError where it is damaged or of another format version.
    """
    data = io.read_if_exists(path)
    return None if data is None else Plan.from_json(load_json(data, path), path)


def _load_receipt(data: bytes | None, path: str) -> Receipt | None:
    """A receipt, or None where it is not whole: then its piece of work is simply done again."""
    if data is None:
        return None
    try:
        return Receipt.from_json(load_json(data, path), path)
    except IndexFormatError:
        return None
