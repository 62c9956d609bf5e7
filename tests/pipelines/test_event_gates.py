"""Which quality gates an index of labelled clips is asked, whatever verb makes its version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from event_hums import index_clips
from events_model import events_model, hum, write_hum
from tiny_catalog import write_rows

from pipelines.cli import main
from pipelines.gates import UNASKED

pytestmark = pytest.mark.usefixtures("one_index_decoder")


def not_asked(index: Path, version: str) -> dict[str, str]:
    told = json.loads((index / "versions" / version / "run.json").read_text())
    return {
        gate["name"]: gate["message"]
        for gate in told["gates"]
        if gate["message"].startswith("not asked")
    }


def test_new_and_changed_indexes_are_asked_the_same(tmp_path: Path) -> None:
    rows = []
    for number, kind in enumerate(("low", "high", "low")):
        write_hum(tmp_path / f"{number}.wav", hum(kind, number))
        rows.append({"track_id": f"t{number}", "uri": f"{number}.wav", "label": kind})
    events_model(tmp_path / "model", n_bytes=1, words=False)
    index = tmp_path / "index"
    catalog = write_rows(tmp_path / "c.csv", rows[:2])
    assert index_clips(catalog, index, tmp_path / "model", "--no-gates", "removed") == 0
    write_rows(catalog, rows)
    words = ["--catalog", catalog, "--index", index, "--model", tmp_path / "model"]
    assert main(["reindex", *map(str, words), "--workers", "1", "--quiet"]) == 0
    never = dict.fromkeys(UNASKED["events"], "not asked of models of kind 'events'")
    assert not_asked(index, "000001") == {**never, "removed": "not asked: --no-gates"}
    assert not_asked(index, "000002") == never
