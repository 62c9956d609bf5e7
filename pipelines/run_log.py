"""What the launcher of a run says while its workers work: how far they are, and what has failed.

Workers are other processes, perhaps on other machines, and what they log stays there. Receipts are
on the store, and name the files of failures: so the launcher tells of every part once, whatever the
runner, when its receipt appears.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from hashing.errors import HashbeamError
from pipelines import io, parquet
from pipelines.listing import shown
from pipelines.part_files import part_name
from pipelines.progress import Progress, shows_progress
from pipelines.runs import Receipt, Run
from pipelines.versions import load_json

Parts = dict[str, Receipt]

MAX_LINES = 20  # failed tracks told of one by one: thousands of lines would hide all others


class RunLog:
    """The receipts of a run, as they appear.

    Args:
        run: whose receipts; those that are there already are counted, and not told again.
        name: of the job, with which every line begins.
        count: pieces of work of the run, by the receipts of the parts that are done.

    Attributes:
        failed: tracks that failed so far, in what was finished before as well.
    """

    def __init__(self, run: Run, name: str, count: Callable[[Parts], int]) -> None:
        self._run, self._name, self._pieces = run, name, count
        self._parts: Parts = {}
        self._total: int | None = None
        self._folder = io.join(run.work, "receipts")
        self._named = {part_name(part) for part in run.plan.parts}
        self._seen, self._told, self.failed = set[str](), 0, 0
        self._left = 0  # failed tracks that were not told of
        with contextlib.suppress(HashbeamError):
            for receipt in self._new():
                self.failed += sum(rows for _, rows in _failures(receipt))

    def finished(self) -> int:
        """How many parts and shards have a receipt."""
        return len(io.list_dir(self._folder))

    def total(self) -> int:
        """How many pieces of work there are, as far as the parts that are done tell."""
        if self._total is None:
            self._total = self._pieces(self._parts)
        return self._total

    def news(self, ended: bool) -> list[str]:
        """A line for each track that failed since the last time, `MAX_LINES` of them in all.

        At the end of the run one more says how many others there were.
        """
        lines = []
        for receipt in self._new():
            for path, rows in _failures(receipt):
                self.failed += rows
                self._left += rows
                if self._told < MAX_LINES:
                    lines += self._tell(path)
        if ended and self._left:
            where = self._run.path("failures")
            lines.append(f"{self._name}: …and {self._left} more tracks failed, see {where}")
        return lines

    def said(self) -> str:
        """For the end of a line of progress."""
        if not self.failed:
            return ""
        return f"{self.failed} track{'' if self.failed == 1 else 's'} failed"

    def _new(self) -> list[Receipt]:
        names = [name for name in io.list_dir(self._folder) if name.endswith(".json")]
        names = [name for name in names if name not in self._seen]
        paths = [io.join(self._folder, name) for name in names]
        found = []
        for name, path, data in zip(names, paths, io.read_all(paths), strict=True):
            if data is None:  # discarded since it was listed
                continue
            self._seen.add(name)
            with contextlib.suppress(HashbeamError):  # one that is not whole is made again
                found.append(Receipt.from_json(load_json(data, path), path))
        own = [receipt for receipt in found if receipt.run == self._run.plan.token]
        new = {one.name: one for one in own if one.name in self._named}
        if new:
            self._parts |= new
            self._total = None
        return own

    def _tell(self, path: str) -> list[str]:
        with contextlib.suppress(HashbeamError):  # the summary counts them
            columns = ["track_id", "uri", "error"]
            table = parquet.read_table(io.join(self._run.index, path), columns, small=True)
            rows = table.slice(0, MAX_LINES - self._told).to_pylist()
            self._told += len(rows)
            self._left -= len(rows)
            return [
                f"{self._name}: track {shown(row['track_id'])} failed: {shown(row['error'])}, "
                f"{shown(row['uri'])}"
                for row in rows
            ]
        return []


def _failures(receipt: Receipt) -> list[tuple[str, int]]:
    """Path and rows of the files of failures of a part."""
    return [(file.path, file.rows) for file in receipt.files if file.kind == "failures"]


def follow_run(
    run: Run, count: Callable[[Parts], int], verb: str, *, quiet: bool, asked: bool
) -> Progress:
    """What `run` shows while it runs, as a context: a bar, or a line a minute, and its failures.

    Args:
        count: pieces of work of the run, by the receipts of the parts that are done.
        quiet: nothing at all.
        asked: a bar even where stderr is no terminal.
    """
    name = f"hashbeam {verb}"
    if quiet:
        return Progress(0, lambda: 0, unit="part", show=False)
    log = RunLog(run, name, count)
    return Progress(
        log.total,
        log.finished,
        unit="part",
        show=shows_progress(quiet=quiet, asked=asked),
        name=name,
        news=log.news,
        said=log.said,
    )
