"""One writer an index: a lock with host, process and lease.

INDEX/LOCK says who writes. A writer that has died on this machine loses the lock at once: its
process is gone, or the process of its number started at another time. Of another machine only
the lease is known: its holder renews it while it lives, and it lapses `LEASE_S` after the last
renewal. Readers need no lock.

The file is only ever written and removed on the condition that it is still the one that was read
(`io.replace_if`): on ``gs://`` and on one machine's disk two writers cannot both have it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import threading
import time
from types import TracebackType
from typing import Self

from hashing.errors import HashbeamError, IndexFormatError
from pipelines import io
from pipelines.records import Record
from pipelines.stores import alone, is_remote, local, make_folder, writing
from pipelines.versions import FORMAT_VERSION, load_json, utc_now

# Seconds. Longer than a renewal delayed by a loaded machine or by clocks that differ by a minute;
# short enough that a scheduled job whose machine was lost goes on within its retries.
LEASE_S = 120.0


@dataclasses.dataclass(frozen=True)
class LockHolder(Record):
    """Who holds the lock.

    `machine` tells boots, containers and machines of one host name apart; `process_start` tells
    processes of one number apart; `lease_end` is in Unix seconds, `since` in UTC.
    """

    host: str
    machine: str
    pid: int
    process_start: str
    since: str
    lease_end: float
    token: str
    format_version: int = FORMAT_VERSION


class LockedError(HashbeamError):
    """Another writer holds the lock."""


class IndexLock:
    """Holds the lock of an index while the block runs, and renews its lease from a thread.

    Raises: LockedError on entering where another writer holds it, naming host, process and
        since when.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as index, IndexLock(index) as lock:
    ...     lock.check()
    ...     os.listdir(index)
    ['LOCK']
    """

    def __init__(self, index: str, *, lease_s: float = LEASE_S) -> None:
        self._index, self._lease_s = index, lease_s
        self._path = io.join(index, "LOCK")
        self._token = os.urandom(8).hex()  # not seeded: no two holders may be confused
        self._since = ""
        self._stamp: str | None = None  # of the lock as this holder wrote it last
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        with writing(self._index):
            make_folder(self._index)
        self._since = utc_now()
        self._stamp = self._take()
        self._remove_leftovers()
        # Where the file system cannot keep two writers apart, the last one to write has it.
        self.check()
        self._thread = threading.Thread(target=self._renew, name="hashbeam-lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        # What cannot be removed lapses by itself, and must not hide the error of the block.
        with contextlib.suppress(HashbeamError):
            if self._stamp is not None:
                io.remove_if(self._path, self._stamp)

    def check(self) -> None:
        """Makes sure that the lock is still held; to be called before something is published.

        Raises: HashbeamError where another writer has taken it, as after a long suspension.
        """
        holder, _ = self._read()
        if holder is None or holder.token != self._token:
            taker = "removed" if holder is None else f"taken by {_name(holder)}"
            raise HashbeamError(
                f"the lock of {self._index} was {taker}; nothing was published, "
                "run the same command again"
            )

    def _take(self) -> str:
        holder, stamp = self._read()
        while holder is None or _is_stale(holder):
            taken = self._write(stamp)
            if taken is not None:
                return taken
            holder, stamp = self._read()  # another one was quicker
        raise LockedError(self._refusal(holder))

    def _renew(self) -> None:
        while not self._stop.wait(self._lease_s / 3):  # two renewals may fail before it lapses
            # A full disk is reported by the work itself; on this machine the process counts.
            with contextlib.suppress(HashbeamError):
                # Once another one has written it the lock is lost for good.
                if self._stamp is not None:
                    self._stamp = self._write(self._stamp)

    def _write(self, stamp: str | None) -> str | None:
        """Writes the lock if it has this stamp; the new one, or None."""
        holder = LockHolder(
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            process_start=_process_start(os.getpid()) or "",
            since=self._since,
            lease_end=time.time() + self._lease_s,
            token=self._token,
        )
        return io.replace_if(self._path, json.dumps(holder.to_json()).encode() + b"\n", stamp)

    def _read(self) -> tuple[LockHolder | None, str | None]:
        """Who holds the lock, and its stamp."""
        found = io.read_stamped(self._path)
        if found is None:
            return None, None
        try:
            values = load_json(found.data, self._path)
            return LockHolder.from_json(values, self._path), found.stamp
        except IndexFormatError as error:
            raise HashbeamError(
                f"{self._path} cannot be read as a lock; "
                "make sure that nothing writes this index, then remove that file"
            ) from error

    def _refusal(self, holder: LockHolder) -> str:
        wait = max(0, round(holder.lease_end - time.time()))
        remedy = (
            "wait until it has finished, or stop it"
            if _is_here(holder)
            else f"wait until it has finished; if it is dead, its lease lapses in {wait} s"
        )
        return f"{self._index} is being written by {_name(holder)}; {remedy}"

    def _remove_leftovers(self) -> None:
        """Deletes what a killed writer of the lock left on a disk."""
        if is_remote(self._index):
            return
        with alone(local(self._index)):  # else another one may be writing
            for name in io.list_dir(self._index):
                if name.startswith(".LOCK."):
                    io.remove(io.join(self._index, name))


def _name(holder: LockHolder) -> str:
    return f"process {holder.pid} of host {holder.host} since {holder.since}"


def _is_here(holder: LockHolder) -> bool:
    return holder.host == socket.gethostname() and holder.machine == _machine()


def _is_stale(holder: LockHolder) -> bool:
    if _is_here(holder):
        return _process_start(holder.pid) != holder.process_start
    return holder.lease_end < time.time()


def _machine() -> str:
    """The boot and the process number space of this process: where its pid means something."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""  # no Linux


def _process_start(pid: int) -> str | None:
    """When a process started, in clock ticks since the boot; None where there is no such process.

    A process that has ended and waits to be reaped is gone. Without /proc the start is unknown:
    "" for any process that is there.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # the name may hold anything
        return None if fields[0] in "ZX" else fields[19]  # field 22 of proc(5)
    except ProcessLookupError:
        return None
    except OSError:
        if os.path.exists("/proc/self/stat"):
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""
