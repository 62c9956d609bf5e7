"""What the launcher says of its workers: failed tracks once each, by the receipts they leave."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import parquet
from pipelines.run_log import MAX_LINES, RunLog, follow_run
from pipelines.runs import Plan, Receipt, Run
from pipelines.versions import utc_now

NAME = "hashbeam index"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    plan = Plan("000001", "c", "d", "m", {}, 100, 10, utc_now())
    return Run(str(tmp_path / "index"), plan)


def finish(run: Run, part: int, failed: int, **row: str) -> None:
    """A part with so many failed tracks leaves its file and its receipt."""
    files = []
    if failed:
        rows = [
            {"track_id": f"t{part}-{n}", "uri": f"/m/{n}.mp3", "error": "missing", **row}
            for n in range(failed)
        ]
        path = run.attempt_path("failures", f"part-{part:05d}", "a", ".parquet")
        info = parquet.write_table(path, pa.Table.from_pylist(rows))
        files.append(run.entry("failures", info, part=part))
    run.write_receipt(Receipt(f"part-{part:05d}", "a", files, {"tracks_failed": failed}, 1.0, 2.0))


def test_a_failed_track_is_told_of_once(run: Run) -> None:
    log = RunLog(run, NAME, len)
    assert (log.finished(), log.news(False), log.said()) == (0, [], "")
    finish(run, 0, 2)
    finish(run, 1, 0)
    assert log.finished() == 2
    assert log.news(False) == [
        "hashbeam index: track t0-0 failed: missing, /m/0.mp3",
        "hashbeam index: track t0-1 failed: missing, /m/1.mp3",
    ]
    assert log.news(False) == []
    assert log.said() == "2 tracks failed"
    finish(run, 2, 1)
    assert len(log.news(True)) == 1
    assert log.said() == "3 tracks failed"


def test_what_an_earlier_start_had_told_is_only_counted(run: Run) -> None:
    finish(run, 0, 1)
    log = RunLog(run, NAME, len)
    assert log.said() == "1 track failed"
    assert log.news(True) == []


def test_of_thousands_some_are_told(run: Run) -> None:
    log = RunLog(run, NAME, len)
    for part in range(5):
        finish(run, part, 7)
    lines = log.news(False)
    assert len(lines) == MAX_LINES
    finish(run, 5, 7)
    assert log.news(False) == []
    assert log.news(True) == [
        f"hashbeam index: …and {6 * 7 - MAX_LINES} more tracks failed, see {run.path('failures')}"
    ]
    assert log.said() == "42 tracks failed"


def test_what_is_damaged_or_gone_stops_nothing(run: Run) -> None:
    log = RunLog(run, NAME, len)
    finish(run, 0, 1)
    finish(run, 1, 1)
    Path(run.receipt_path("part-00000")).write_bytes(b"{")
    for path in Path(run.path("failures")).glob("part-00001*"):
        path.unlink()
    assert log.news(False) == []
    assert log.failed == 1
    assert [line.split(": ")[1][:6] for line in log.news(True)] == ["…and 1"]


def test_no_terminal_obeys_a_track(run: Run) -> None:
    log = RunLog(run, NAME, len)
    finish(run, 0, 1, track_id="a\x1b[31m\nhashbeam index: error", uri="b\tc")
    (line,) = log.news(False)
    assert re.search(r"[\x00-\x1f\x7f]", line) is None


def test_a_run_in_a_log_tells_its_failures_when_it_ends(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with follow_run(run, len, "reindex", quiet=False, asked=False):
        finish(run, 0, 1)
    assert capsys.readouterr().err == "hashbeam reindex: track t0-0 failed: missing, /m/0.mp3\n"
    with follow_run(run, len, "reindex", quiet=True, asked=True):
        finish(run, 1, 1)
    assert capsys.readouterr().err == ""


def test_the_number_of_pieces_is_asked_for_when_parts_come(run: Run) -> None:
    asked = list[int]()

    def count(parts: dict[str, Receipt]) -> int:
        asked.append(len(parts))
        return 10 + len(parts)

    log = RunLog(run, NAME, count)
    assert (log.total(), log.total()) == (10, 10)
    finish(run, 0, 0)
    log.news(False)
    assert (log.total(), log.total()) == (11, 11)
    run.write_receipt(Receipt("s000-t00-k0000", "a", [], {}, 1.0, 2.0))
    log.news(False)
    assert log.total() == 11
    assert asked == [0, 1]
