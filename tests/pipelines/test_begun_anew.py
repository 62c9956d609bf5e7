"""A runner that begins a job anew gives out all pieces of it: those that are done stay done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from tiny_catalog import tiny_catalog, write_rows

from hashing.errors import AudioError
from pipelines import execution, index_job, query_parts
from pipelines.cli import main
from pipelines.disambiguation import embed, hear
from pipelines.disambiguation.embed import EmbedJob, EmbedParts

pytestmark = pytest.mark.usefixtures("one_index_decoder", "one_decoder")

TRACKS = 20  # three parts


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Twenty tracks of four files."""
    return tiny_catalog(tmp_path / "music", TRACKS, files=4)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[Any]]:
    """How often each piece is done; every job is begun twice, all of it."""
    done: Counter[Any] = Counter()

    def count(module: Any, name: str) -> None:
        do = getattr(module, name)

        def counting(job: Any, piece: int, *others: Any) -> Any:
            done[name, piece] += 1
            return do(job, piece, *others)

        monkeypatch.setattr(module, name, counting)

    def twice(build: Callable[[beam.Pipeline], Any], _: Any) -> None:
        pipeline = beam.Pipeline(runner=FnApiRunner())
        build(pipeline)  # what is to be done is known from here on
        for _ in range(2):
            pipeline.run().wait_until_finish()

    for module in (execution, query_parts, hear):
        monkeypatch.setattr(module, "run_pipeline", twice)
    count(index_job, "hash_part")
    count(index_job, "edit_rows")
    count(query_parts, "answer_part")
    count(embed, "embed_part")
    yield done
    assert done
    assert set(done.values()) == {1}


def deaf(path: str) -> Any:
    raise AudioError("silent", f"{path} is silent")


def give(*arguments: object) -> None:
    assert main([*map(str, arguments), "--workers", "1", "--quiet"]) == 0


def test_index_reindex_and_lookup(tmp_path: Path, catalog: Path, counted: Counter[Any]) -> None:
    index = tmp_path / "index"
    give("index", "--catalog", catalog, "--out", index, "--no-gates", "all")
    assert {name for name, _ in counted} == {"hash_part"}
    assert len(counted) == 3
    catalog.write_text(catalog.read_text().replace("Title 7", "Another"))
    give("reindex", "--catalog", catalog, "--index", index, "--no-gates", "all")
    assert counted["edit_rows", 0] == 1
    rows = [{"query_id": "q", "uri": str(catalog.parent / "0.wav")}]
    queries = write_rows(tmp_path / "q.csv", rows)
    give("lookup", "--index", index, "--queries", queries, "--out", tmp_path / "answers")
    assert counted["answer_part", 0] == 1


def test_tracks_are_heard_once(tmp_path: Path, counted: Counter[Any]) -> None:
    (tmp_path / "work").mkdir()
    job = EmbedJob(str(tmp_path), str(tmp_path / "work"), "artist", "", 60.0, 60.0)
    tracks = pa.table({"track_id": ["a"], "uri": [str(tmp_path / "missing.wav")]})
    assert embed.write_todo(job, tracks) == 1

    class Heard(EmbedParts):
        def setup(self) -> None:
            self._ear = deaf

        def teardown(self) -> None:
            pass

    listener = Heard(job)
    for _ in range(2):
        listener.setup()
        assert list(listener.process(0)) == [0]
    assert embed.read_failures(job)["track_id"].to_pylist() == ["a"]
