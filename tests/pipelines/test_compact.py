"""``hashbeam compact``, ``merge`` and ``remove`` end to end on rendered audio, with Beam."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from index_decoder import Heard
from index_helpers import error_line, run_index
from model_fixture import learned_model
from quick_index import contents
from tiny_catalog import RATE, tune, write_rows

from pipelines import parquet
from pipelines.cli import main
from pipelines.versions import open_manifest

pytestmark = pytest.mark.usefixtures("one_decoder")

SECONDS = 4.0
KEPT = ("--keep-embeddings", "--also", "artist,sequence", "--max-failures", "0.5", "--quiet")
Shown = pytest.CaptureFixture[str]


class Shop:
    """Music, the catalogues of it, and their indexes; tests follow one another."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, folder / "model"

    def catalog(self, name: str, *numbers: int) -> Path:
        for number in numbers:
            path = self.folder / f"{number}.wav"
            if not path.exists():
                soundfile.write(path, tune(number, SECONDS), RATE, subtype="FLOAT")
        rows = [
            {
                "track_id": f"t{number % 7}{number:02d}",
                "uri": f"{number}.wav",
                "title": f"T{number}",
            }
            for number in numbers
        ]
        return write_rows(self.folder / f"{name}.csv", rows)

    def do(self, verb: str, *words: object, job: bool = True) -> int:
        flags = ("--workers", "1", "--quiet") if job else ()
        return main([verb, *map(str, words), *flags])

    def ask(self, index: Path, capsys: Shown, *numbers: int) -> list[Any]:
        """What look-up says to a part of each of these tunes."""
        files = []
        for number in numbers:
            files.append(self.folder / f"query{number}.wav")
            samples = tune(number, SECONDS)[round(1.25 * RATE) : round(3.5 * RATE)]
            soundfile.write(files[-1], samples, RATE, subtype="FLOAT")
        capsys.readouterr()
        assert main(["lookup", "--index", str(index), "--json", *map(str, files)]) == 0
        lines = capsys.readouterr().out.splitlines()
        return [json.loads(line)["matches"] for line in lines]


@pytest.fixture(scope="module")
def shop(one_index_decoder: Heard, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """An index of two segments, some of which has gone; 5 cannot be read."""
    folder = tmp_path_factory.mktemp("shop")
    learned_model(folder / "model", dimensions=16)
    shop = Shop(folder)
    (folder / "5.wav").write_bytes(b"no audio")
    index = folder / "index"
    assert run_index(shop.catalog("all", *range(10)), index, shop.model, *KEPT) == 0
    catalog = shop.catalog("all", *range(2, 14))
    more = ("--no-gates", "live-tracks,failures")
    assert shop.do("reindex", "--catalog", catalog, "--index", index, *more) == 0
    assert [one.live for one in open_manifest(str(index)).segments] == [7, 4]
    return shop


def best(answers: list[Any]) -> list[str]:
    return [matches[0]["track_id"] for matches in answers]


def vectors(index: Path) -> dict[tuple[str, int], list[float]]:
    """Embeddings of snippets, of tracks that have gone as well."""
    files = open_manifest(str(index)).files.tuples("path", kind="embeddings")
    rows = (row for (path,) in files for row in parquet.read_table(str(index / path)).to_pylist())
    return {(row["track_id"], row["snippet"]): row["embedding"] for row in rows}


def test_a_merged_index_answers_as_before(shop: Shop, capsys: Shown) -> None:
    index, asked = shop.folder / "index", (0, 3, 7, 11, 13)
    before, answers, embeddings = contents(index), shop.ask(index, capsys, *asked), vectors(index)
    assert best(answers[1:]) == ["t303", "t007", "t411", "t613"]
    assert "t000" not in {match["track_id"] for match in answers[0]}  # it has gone
    assert shop.do("compact", "--all", "--runner", "DirectRunner", index, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["tracks_indexed"], told["tracks_failed"]) == ("000003", 11, 1)
    assert told["times_real_time"] == 0
    assert contents(index) == before
    assert shop.ask(index, capsys, *asked) == answers
    live = {key: vector for key, vector in embeddings.items() if key[0] in before.rows}
    assert len(live) < len(embeddings)
    assert vectors(index) == live
    assert shop.do("verify", index, job=False) == 0
    capsys.readouterr()
    assert shop.do("reindex", "--catalog", shop.folder / "all.csv", "--index", index) == 0
    assert "nothing has changed" in capsys.readouterr().out
    flags = ("--index", index, "--keep", 1, "--dry-run")
    assert shop.do("compact", *flags) == 0
    merging, deleting, kept = capsys.readouterr().out.splitlines()
    assert "nothing to merge: segments: 1, tracks in them that have gone: 0" in merging
    assert "would delete " in deleting
    assert kept == "kept: 000003"
    assert shop.do("compact", *flags, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["merge"], told["gc"]["dry_run"]) == ("000003", None, True)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "INDEX: is needed, or --index"),
        (["a", "--index", "b"], "--index: is INDEX as a flag; give one of them"),
        (["a", "--keep", "0"], "--keep: must be 1 or more, got 0"),
    ],
)
def test_mistakes_are_told(words: list[str], line: str, capsys: Shown) -> None:
    assert main(["compact", *words]) == 2
    assert line in error_line(capsys, "compact")


def test_two_indexes_become_one_and_a_track_goes(shop: Shop, capsys: Shown) -> None:
    index, other, out = (shop.folder / name for name in ("index", "other", "out"))
    assert run_index(shop.catalog("more", 20, 21, 22), other, shop.model, *KEPT) == 0
    assert shop.do("merge", "--runner", "DirectRunner", index, other, "--out", out) == 0
    assert contents(out).codes == contents(index).codes | contents(other).codes
    assert contents(out).artists == contents(index).artists | contents(other).artists
    assert contents(out).sequences == contents(index).sequences | contents(other).sequences
    assert contents(out).failures == contents(index).failures
    assert vectors(out) == vectors(index) | vectors(other)
    assert shop.do("remove", out, "--id", "t303", job=False) == 0
    answers = shop.ask(out, capsys, 3, 7, 21)
    assert best(answers[1:]) == ["t007", "t021"]
    assert "t303" not in {match["track_id"] for match in answers[0]}
    assert shop.do("verify", out, job=False) == 0


def test_the_model_may_have_moved(shop: Shop, capsys: Shown) -> None:
    out = shop.folder / "out"
    model = shop.model.rename(shop.folder / "elsewhere")
    capsys.readouterr()
    assert shop.do("compact", out, "--all") == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert str(shop.model) in told
    assert not (out / "versions/000003").exists()
    assert shop.do("compact", out, "--all", "--model", model, "--dry-run") == 0
    assert "would merge 1 of 1 segments (as asked)" in capsys.readouterr().out
