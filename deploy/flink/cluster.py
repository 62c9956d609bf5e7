"""A Flink cluster of processes on this machine, with Beam's job server: to try hashbeam on Flink.

    make flink
    .venv/bin/python deploy/flink/cluster.py --task-managers 3

prints the flags that send a job there, and ends with Ctrl-C. Each task manager starts Python
workers of its own (`worker.sh`). `make flink-test` starts one for its tests.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DOWNLOADS = ROOT / ".venv" / "flink"  # what `make flink` brings

LOOPBACK = "127.0.0.1"
START_S = 90.0  # s; four Java processes at once on two busy cores take 20
STOP_S = 10.0  # s; then it is killed
JOB_SERVER_HEAP = "-Xmx512m"  # it translates graphs, and passes jars on

# A worker waits so long for the next stage of its job, ms; else each stage starts Python anew.
WORKER_KEPT_MS = 60_000

_JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_JOB_SERVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
_UNITS = {"k": 10, "m": 20, "g": 30}
# To Flink's processes on the console, which is a file.
_LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %-40.40c{1} %m%n
"""


class ClusterError(Exception):
    """A process of the cluster did not start, or ended."""


class Cluster:
    """A job manager, task managers and a job server, while the block runs.

    Args:
        folder: for settings, logs and temporary files; theirs alone.
        task_managers: processes, each with one slot: one piece of work at a time.
        downloads: what `make flink` brought.

    Raises: ClusterError on entering where something is missing or does not start; it names the log.
    """

    def __init__(
        self, folder: str | Path, *, task_managers: int = 3, downloads: str | Path = DOWNLOADS
    ) -> None:
        self.folder, self._wanted = Path(folder).resolve(), task_managers
        self._downloads = Path(downloads).resolve()
        self._flink = self._downloads / "cluster" / "pyflink" / "lib"
        self._beam = self._downloads / "job-server"
        self._settings = yaml.safe_load((HERE / "config.yaml").read_text("utf-8"))
        self._rest, self._rpc, self._jobs, self._artifacts = _free_ports(4)
        self._processes = dict[str, subprocess.Popen[bytes]]()
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        for place in (self._flink, self._beam, self._downloads / "bin" / "boot"):
            if not place.exists():
                raise ClusterError(f"{place} is missing: run `make flink`")
        try:
            self._start_all()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def rest_address(self) -> str:
        """Of Flink's REST interface and page."""
        return f"http://{LOOPBACK}:{self._rest}"

    @property
    def job_endpoint(self) -> str:
        """Of Beam's job server."""
        return f"{LOOPBACK}:{self._jobs}"

    def beam_args(self, parallelism: int) -> list[str]:
        """The flags that run a job of hashbeam here, on so many workers."""
        environment = {
            "command": str(HERE / "worker.sh"),
            "env": {
                "HASHBEAM_BOOT": str(self._downloads / "bin" / "boot"),
                # The first `python` of it is the one that workers run.
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
                "PYTHONPATH": str(ROOT),
                "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1",
                # A worker has one core.
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
        }
        return [
            "--runner=PortableRunner",
            f"--job_endpoint={self.job_endpoint}",
            "--environment_type=PROCESS",
            f"--environment_config={json.dumps(environment, separators=(',', ':'))}",
            f"--parallelism={parallelism}",
            f"--environment_cache_millis={WORKER_KEPT_MS}",
        ]

    def kill_task_manager(self, number: int) -> None:
        """Kills a task manager without warning; its workers notice by themselves."""
        process = self._processes.pop(f"task-manager-{number}")
        process.kill()
        process.wait()

    def start_task_manager(self) -> None:
        """Starts one more, and waits for it.

        Raises: ClusterError where it does not start.
        """
        self._start_task_manager()
        self._wait()

    def rest(self, path: str) -> Any:
        """What Flink's REST interface says.

        Raises: OSError where it does not answer.
        """
        with urllib.request.urlopen(f"{self.rest_address}{path}", timeout=5) as answer:
            return json.load(answer)

    @property
    def task_managers(self) -> int:
        """How many there are."""
        return sum(name.startswith("task-manager-") for name in self._processes)

    def pids(self) -> list[int]:
        """Process numbers of Flink and of the job server."""
        return [process.pid for process in self._processes.values()]

    def restarts(self) -> int:
        """How often a job was begun anew, of all jobs so far."""
        return self.log("job-manager").count("switched from state RESTARTING to RUNNING")

    def busy_task_managers(self) -> list[int]:
        """Numbers of the task managers whose slot is taken by a job."""
        return sorted(
            int(one["id"].rpartition("-")[2])
            for one in self.rest("/taskmanagers")["taskmanagers"]
            if one["freeSlots"] < one["slotsNumber"]
        )

    def stop(self) -> None:
        """Ends all processes and their workers."""
        for process in reversed(self._processes.values()):
            if process.poll() is None:
                # Whole groups: workers are children of a task manager.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def logs(self) -> list[str]:
        """The names of all logs."""
        return sorted(path.stem for path in self.folder.glob("*.log"))

    def log(self, name: str) -> str:
        """The log of a process so far."""
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def _start_all(self) -> None:
        settings = self._settings
        settings["jobmanager"]["rpc"] = {"address": LOOPBACK, "port": self._rpc}
        settings["jobmanager"]["bind-host"] = LOOPBACK
        settings["rest"] = {"address": LOOPBACK, "bind-address": LOOPBACK, "port": self._rest}
        settings["taskmanager"] |= {"host": LOOPBACK, "bind-host": LOOPBACK}
        settings["io"] = {"tmp": {"dirs": str(self.folder / "tmp")}}
        settings["blob"] = {"storage": {"directory": str(self.folder / "tmp")}}
        self.folder.joinpath("tmp").mkdir(parents=True, exist_ok=True)
        (self.folder / "config.yaml").write_text(yaml.safe_dump(settings), "utf-8")
        (self.folder / "log4j.properties").write_text(_LOG4J, "utf-8")
        manager = settings["jobmanager"]["memory"]
        self._start(
            "job-manager",
            _JOB_MANAGER,
            [f"-Xmx{manager['heap']['size']}", *self._limits(manager, [manager["off-heap"]])],
        )
        for _ in range(self._wanted):
            self._start_task_manager()
        self._start_job_server()
        self._wait()

    def _start_task_manager(self) -> None:
        memory = self._settings["taskmanager"]["memory"]
        heap = sum(_bytes(memory[kind]["heap"]["size"]) for kind in ("framework", "task"))
        off_heap = [memory["framework"]["off-heap"], memory["task"]["off-heap"]]
        off_heap.append({"size": memory["network"]["max"]})
        name = f"task-manager-{next(self._numbers)}"
        flags = [f"-Xms{heap}", f"-Xmx{heap}", *self._limits(memory, off_heap)]
        self._start(name, _TASK_MANAGER, flags, [f"-Dtaskmanager.resource-id={name}"])

    def _start_job_server(self) -> None:
        arguments = [
            f"--flink-master={LOOPBACK}:{self._rest}",
            f"--job-host={LOOPBACK}",
            f"--job-port={self._jobs}",
            f"--artifact-port={self._artifacts}",
            "--expansion-port=0",
            f"--artifacts-dir={self.folder / 'artifacts'}",
            f"--flink-conf-dir={self.folder}",
        ]
        # Its own jars bring no logger.
        loggers = sorted(self._flink.glob("log4j-*.jar"))
        java = self._java(self._beam / "*", *loggers)
        self._run("job-server", [*java, *self._logged(), JOB_SERVER_HEAP, _JOB_SERVER, *arguments])

    def _start(
        self, name: str, main: str, flags: Sequence[str], arguments: Sequence[str] = ()
    ) -> None:
        beam = [
            jar
            for jar in sorted(self._beam.glob("*.jar"))
            if not jar.name.startswith("flink-")  # the cluster has its own
        ]
        java = self._java(self._flink / "*", *beam)
        settings = ["--configDir", str(self.folder)]
        self._run(name, [*java, *self._logged(), *flags, main, *settings, *arguments])

    def _logged(self) -> list[str]:
        return [f"-Dlog4j.configurationFile={self.folder / 'log4j.properties'}"]

    def _java(self, *jars: Path) -> list[str]:
        opened = self._settings["env"]["java"]["opts"]["all"].split()
        home = os.environ.get("JAVA_HOME", "")
        java = str(Path(home, "bin", "java")) if home else shutil.which("java")
        if java is None:
            raise ClusterError("there is no java: install a Java 17 runtime, or set JAVA_HOME")
        return [java, *opened, "-cp", os.pathsep.join(map(str, jars))]

    def _limits(self, memory: dict[str, Any], off_heap: Sequence[dict[str, str]]) -> list[str]:
        direct = sum(_bytes(one["size"]) for one in off_heap)
        metaspace = memory["jvm-metaspace"]["size"]
        return [f"-XX:MaxDirectMemorySize={direct}", f"-XX:MaxMetaspaceSize={metaspace}"]

    def _run(self, name: str, command: Sequence[str]) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                cwd=self.folder,  # where workers leave their options
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "TMPDIR": str(self.folder / "tmp")},
                # A group of its own: a signal to the shell that started us is not one to it.
                start_new_session=True,
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while not self._is_up():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    log = self.folder / f"{name}.log"
                    raise ClusterError(f"{name} ended with {process.returncode}; see {log}")
            if time.monotonic() > deadline:
                raise ClusterError(f"the cluster is not up after {START_S:g} s; see {self.folder}")
            time.sleep(0.25)

    def _is_up(self) -> bool:
        try:
            there = {one["id"] for one in self.rest("/taskmanagers")["taskmanagers"]}
            with socket.create_connection((LOOPBACK, self._jobs), timeout=1):
                return there >= {name for name in self._processes if name.startswith("task-")}
        except OSError:
            return False


def _bytes(size: str) -> int:
    """Of Flink's sizes: ``128m``."""
    return int(size[:-1]) << _UNITS[size[-1]]


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all of them different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def main(argv: Sequence[str] | None = None) -> int:
    """Starts a cluster, says how to use it, and waits for Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task-managers", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--folder", help="for logs and settings (a temporary one)")
    parser.add_argument("--downloads", default=DOWNLOADS, help="what `make flink` brought")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        folder = args.folder or stack.enter_context(
            tempfile.TemporaryDirectory(prefix="hashbeam-flink-")
        )
        try:
            cluster = Cluster(folder, task_managers=args.task_managers, downloads=args.downloads)
            stack.enter_context(cluster)
        except ClusterError as error:
            print(f"cluster.py: {error}", file=sys.stderr)
            return 1
        # One slot is spare: it takes over when a task manager is lost.
        flags = cluster.beam_args(max(1, args.task_managers - 1))
        print(f"Flink: {cluster.rest_address}, logs: {cluster.folder}. Run jobs with\n")
        print(" \\\n  ".join(f"'{flag}'" for flag in flags), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
