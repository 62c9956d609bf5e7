"""Kills at moments of a real reindex with two workers: ``make soak``, and a few in the tests.

    PYTHONPATH=.:tests python tests/crash/black_box.py --folder build/soak --kills 1000

Each trial starts from a fresh copy of an index, kills ``hashbeam reindex`` (the whole process
group, or one of its workers), looks at what is published, and lets the same command finish. What
must be there is computed from the audio and kept beside the index. Trials have numbers, from which
all their choices follow; each leaves a line in ``trials.jsonl``, and a soak that was stopped goes
on with the next number. An index that was found wrong is kept.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import fcntl
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from crash.story import digest, failed_of, leftovers, tracks_of
from model_fixture import random_model
from tiny_catalog import RATE, tune, write_rows

from hashing.encoders import Hasher, QueryCodes
from pipelines import cli
from pipelines.opened import open_index
from pipelines.verify import verify_files
from pipelines.versions import Manifest, current_version, open_manifest

ROOT = Path(cli.__file__).parent.parent
SECONDS = 3.0  # of audio in a file
BROKEN = "t30"
HANGS_S = 300.0  # a command takes six seconds, and ten times as long on a busy machine
POLL_S = 0.002  # s
# What a trial waits for before the kill, and its share of the trials: a moment of the whole time,
# which a busy machine shifts; so many files, which it does not; the summary of the run, right after
# which is publication.
WAITS = {"time": 0.45, "files": 0.4, "publication": 0.15}
PUBLICATION_S = 0.05
RECENT = 5  # trials that tell how long the command takes
WORKER = 0.15  # share of the trials in which one process of the job is killed, not all
AGAIN = 0.25  # share of the trials in which the command that goes on is killed, too
GOLDEN = 0.6180339887498949  # multiples of it, modulo one, are spread evenly however many they are


class Soak:
    """The music, the index that trials start from, and what is expected.

    Args:
        folder: for all of it; taken over from an earlier soak where that had set it up.
        side: which one of those that work side by side.
    """

    def __init__(self, folder: Path, side: int = 0) -> None:
        self.folder, self.index = folder, folder / f"index-{side}"
        self._music, self._base, self._model = folder / "music", folder / "base", folder / "model"
        self._next = self.index / "versions" / "000002"
        self._said, self._group, self._stopped = folder / f"said-{side}", 0, False
        self._log, facts = folder / "trials.jsonl", folder / "facts.json"
        if not facts.exists():
            facts.write_text(json.dumps(self._set_up()))
        self._hasher = Hasher.load(str(self._model))
        self._facts: dict[str, float] = json.loads(facts.read_text())
        self._codes = {seed: self._hash(seed) for seed in {*_OLD.values(), *_NEW.values()}}
        self._queries = {seed: self._query(seed) for seed in self._codes}
        self._contents = {"before": self._expected(_OLD), "after": self._expected(_NEW)}

    def trials(self) -> list[dict[str, Any]]:
        """What has been done so far."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [json.loads(line) for line in lines]

    def run(self, number: int) -> dict[str, Any]:
        """One trial; what came of it is noted, and returned. An empty dict where it was stopped."""
        if self._stopped:
            return {}
        rng, began = random.Random(number), time.monotonic()
        shutil.rmtree(self.index, ignore_errors=True)
        shutil.copytree(self._base, self.index)
        told: dict[str, Any] = {"trial": number, "kills": []}
        moment, alone = number * GOLDEN % 1.0, rng.random() < WORKER
        try:
            for _ in range(2 if rng.random() < AGAIN else 1):
                told["kills"].append(self._kill(moment, alone, rng))
                told["found"] = self._check("before", "after")
                moment, alone = rng.random(), False
            again = time.monotonic()
            self._done(self._start())
            told["finish_s"] = round(time.monotonic() - again, 2)
            self._check("after")
            assert leftovers(self.index) == set()
            told["problem"] = None
        except Exception as error:
            if self._stopped:
                return {}
            told["problem"] = f"{type(error).__name__}: {error}"[:2000]
            shutil.copytree(self.index, self.folder / f"wrong-{number:05d}", dirs_exist_ok=True)
        except BaseException:  # who stops a soak wants nothing to go on
            self._kill_all()
            raise
        told["seconds"] = round(time.monotonic() - began, 2)
        with self._log.open("a") as file:
            file.write(json.dumps(told) + "\n")
        return told

    def stop(self) -> None:
        """Ends the trial that is under way, uncounted."""
        self._stopped = True
        self._kill_all()

    def _kill(self, moment: float, alone: bool, rng: random.Random) -> dict[str, Any]:
        """Starts the command and kills it, or a process of it; `moment` is from 0 to 1."""
        (wait,) = rng.choices(list(WAITS), list(WAITS.values()))
        job, began = self._start(), time.monotonic()
        due = began
        if wait == "time":
            due += moment * self._seconds()
        elif wait == "files":
            files = round(moment * self._facts["files"])
            self._wait(job, lambda: self._count_files() >= files)
        else:
            self._wait(job, lambda: (self._next / "run.json").exists())
            due = time.monotonic() + moment * PUBLICATION_S
        self._wait(job, lambda: time.monotonic() >= due)
        killed, others = "all", _descendants(job.pid) if alone else {}
        if others:
            chosen = rng.choice(sorted(others))
            killed = others[chosen]
            with contextlib.suppress(ProcessLookupError):
                os.kill(chosen, signal.SIGKILL)
            self._end(job)  # it fails, or goes on without; it does not hang
        self._kill_all()
        self._end(job)
        return {
            "what": killed,
            "wait": wait,
            "moment": round(moment, 4),
            "after_s": round(time.monotonic() - began, 3),
            "status": job.returncode,
            "said": self._said.read_text()[:200],
            "phase": self._phase(),
        }

    def _seconds(self) -> float:
        """What the command takes these days: machines are busy now and idle then."""
        last = [trial["finish_s"] for trial in self.trials()[-RECENT:] if "finish_s" in trial]
        return statistics.median(last) if last else self._facts["seconds"]

    def _count_files(self) -> int:
        """Of the new version, whether it counts them or not."""
        return sum(len(names) for _, _, names in os.walk(self._next))

    def _start(self) -> subprocess.Popen[bytes]:
        return self._popen(_reindex(self._music / "new.csv", self.index, self._model))

    def _popen(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._said.open("wb") as said:
            job = subprocess.Popen(
                [sys.executable, "-m", "pipelines", *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._group = job.pid
        return job

    def _kill_all(self) -> None:
        """Kills what is left of the last command and of what it has started."""
        if self._group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)

    def _end(self, job: subprocess.Popen[bytes]) -> None:
        try:
            job.wait(HANGS_S)
        except subprocess.TimeoutExpired as error:
            self._kill_all()
            job.wait()
            raise AssertionError(f"hangs: {self._said.read_text()}") from error

    def _done(self, job: subprocess.Popen[bytes]) -> None:
        self._end(job)
        assert job.returncode == 0, self._said.read_text()

    def _wait(self, job: subprocess.Popen[bytes], until: Callable[[], bool]) -> None:
        while job.poll() is None and not until():
            time.sleep(POLL_S)

    def _phase(self) -> str:
        """How far the run had got, by what it has left."""
        work = self._next / "work"
        if (self.index / "CURRENT").read_text() != "000001\n":
            return "published, not tidy" if work.exists() else "over"
        if (self._next / "run.json").exists():
            return "publication"
        if not (work / "plan.json").exists():
            return "start" if not self._next.exists() else "planning"
        receipts = [path.name for path in work.glob("receipts/*.json")]
        if any(name.startswith("s") for name in receipts):
            return "tables"
        return "parts" if receipts else "planned"

    def _check(self, *allowed: str) -> str:
        """The published version is whole, and which of the two it is."""
        index = str(self.index)
        assert current_version(index) is not None
        manifest = open_manifest(index)
        problems = verify_files(index, manifest)
        assert problems == [], problems
        tracks, failed = tracks_of(self.index, manifest), failed_of(self.index, manifest)
        found = [name for name in allowed if (tracks, failed) == self._contents[name]]
        assert found, f"neither of {allowed}: {sorted(tracks)}, {sorted(failed)}"
        catalog, answers = _OLD if found[0] == "before" else _NEW, self._answers(manifest)
        wrong = {seed: got for seed, got in answers.items() if got != _owner(catalog, seed)}
        assert not wrong, f"wrong answers: {wrong}"
        return found[0]

    def _answers(self, manifest: Manifest) -> dict[int, str | None]:
        searcher, tracks, _ = open_index(str(self.index), manifest=manifest, hasher=self._hasher)
        found: dict[int, str | None] = {}
        for seed, matches in zip(
            self._queries, searcher.search(list(self._queries.values()), 1), strict=True
        ):
            true = [one for one in matches if one.evidence.similarity > SIMILAR]
            row = tracks.row(true[0].segment, true[0].ordinal) if true else {}
            found[seed] = row.get("track_id")
        return found

    def _expected(self, catalog: dict[str, int]) -> tuple[dict[str, Any], frozenset[str]]:
        tracks = {
            track_id: (f"{track_id}.wav", f"Title {track_id}", self._codes[seed])
            for track_id, seed in catalog.items()
        }
        return tracks, frozenset([BROKEN])

    def _hash(self, seed: int) -> str:
        made = self._hasher.hash_track([tune(seed, SECONDS)])
        return digest(made.snippet, made.codes)

    def _query(self, seed: int) -> QueryCodes:
        return self._hasher.hash_query([tune(seed, SECONDS)])

    def _set_up(self) -> dict[str, float]:
        """Music of two nights, and the index of the first; what the second one takes."""
        import soundfile

        shutil.rmtree(self.folder, ignore_errors=True)
        self._music.mkdir(parents=True)
        random_model(self._model, bits=64, n_tables=4)
        (self._music / f"{BROKEN}.wav").write_bytes(b"no audio")

        def write(name: str, catalog: dict[str, int]) -> Path:
            for track_id, seed in catalog.items():
                path = self._music / f"{track_id}.wav"
                soundfile.write(path, tune(seed, SECONDS), RATE, subtype="FLOAT")
            return write_rows(self._music / f"{name}.csv", list(_rows(catalog).values()))

        shared = ["--workers", "2", "--quiet", "--model", str(self._model)]
        shared += ["--max-failures", "0.5"]
        first = write("old", _OLD)
        self._done(
            self._popen(["index", "--catalog", str(first), "--out", str(self._base), *shared])
        )
        write("new", _NEW)
        shutil.copytree(self._base, self.index)
        began, most, job = time.monotonic(), 0, self._start()
        while job.poll() is None:
            most = max(most, self._count_files())
            time.sleep(POLL_S)
        self._done(job)
        return {"seconds": time.monotonic() - began, "files": most}


# track_id → seed of its tune, of the two nights.
_OLD = {f"t{n:02d}": n for n in range(12)}
_NEW = {**{f"t{n:02d}": n for n in range(30) if n != 5}, "t01": 101}
SIMILAR = 0.68  # a track's own audio has 0.77 or more, of others the likest 0.58


def _owner(catalog: dict[str, int], seed: int) -> str | None:
    return next((track_id for track_id, own in catalog.items() if own == seed), None)


def _rows(catalog: dict[str, int]) -> dict[str, dict[str, str]]:
    return {
        name: {"track_id": name, "uri": f"{name}.wav", "title": f"Title {name}"}
        for name in (*catalog, BROKEN)
    }


def _reindex(catalog: Path, index: Path, model: Path) -> list[str]:
    flags = ["--workers", "2", "--quiet", "--model", str(model)]
    return ["reindex", "--catalog", str(catalog), "--index", str(index), *flags]


def _descendants(process: int) -> dict[int, str]:
    """Processes that a process has started, directly or not → what they are."""
    parents = dict[int, int]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = dict[int, str]()
    for child in parents:
        above = child
        while above in parents and above != process:
            above = parents[above]
        if above == process and child != process:
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{child}/cmdline").read_text().split("\0")
                modules = [word for word in command if "." in word and "/" not in word]
                found[child] = modules[-1] if modules else command[0]
    return found


def summarise(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the trials of a soak have found."""
    kills = [kill for trial in trials for kill in trial["kills"]]
    return {
        "trials": len(trials),
        "kills": len(kills),
        "wrong": [trial["trial"] for trial in trials if trial["problem"]],
        "problems": [trial["problem"] for trial in trials if trial["problem"]],
        **{name: _counted(kill[name] for kill in kills) for name in ("what", "wait", "phase")},
        "found": _counted(trial.get("found") for trial in trials),
        "seconds": round(sum(trial["seconds"] for trial in trials), 1),
    }


def _counted(values: Iterable[Any]) -> dict[str, int]:
    return dict(collections.Counter(values).most_common())


def main(arguments: Sequence[str]) -> int:
    """Does the trials that are missing; status 1 where one found something wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for all that is written")
    parser.add_argument("--kills", type=int, default=1000, help="trials in all (%(default)s)")
    # A command starts in one process and goes on in three: two of them keep two cores busy.
    parser.add_argument("--side-by-side", type=int, default=2, help="at once (%(default)s)")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    with (options.folder.parent / f"{options.folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            parser.error(f"another soak is at work in {options.folder}: let it end, or stop it")
        return _soak(options.folder.resolve(), options.kills, options.side_by_side)


def _soak(folder: Path, trials: int, side_by_side: int) -> int:
    soaks = [Soak(folder, side) for side in range(side_by_side)]
    done = {trial["trial"] for trial in soaks[0].trials()}
    left = iter([number for number in range(trials) if number not in done])
    began, here = time.monotonic(), itertools.count(1)

    def work(soak: Soak) -> None:
        for number in left:  # the next one of an iterator of a list is taken by one thread only
            told = soak.run(number)
            if not told:
                return
            count = next(here)
            togo = trials - len(done) - count
            minutes = (time.monotonic() - began) / count * togo / 60
            kills = ", then ".join(f"{kill['what']} in {kill['phase']}" for kill in told["kills"])
            print(
                f"{number}: killed {kills}: {told['problem'] or 'all well'} "
                f"({told['seconds']:.0f} s; {togo} trials, {minutes:.0f} minutes left)",
                flush=True,
            )

    with ThreadPoolExecutor(side_by_side) as pool:
        try:
            list(pool.map(work, soaks))
        except BaseException:  # who stops a soak wants nothing to go on
            for soak in soaks:
                soak.stop()
            raise
    summary = summarise(soaks[0].trials())
    text = json.dumps(summary, indent=1)
    (folder / "summary.json").write_text(text + "\n")
    print(text)
    return 1 if summary["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
