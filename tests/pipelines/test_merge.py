"""Indexes of several catalogues made into one: what it holds, what is refused, and what is left."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from quick_index import (
    Asker,
    Contents,
    Killed,
    QuickJobs,
    broken,
    build,
    contents,
    quick_jobs,
    quick_model,
    song,
    update,
    write_catalog,
)

from pipelines import merge as verb
from pipelines import parquet, remove
from pipelines.also import ALSO
from pipelines.cli import main
from pipelines.live import live_tracks
from pipelines.verify import verify_files
from pipelines.versions import dump_json, open_manifest, version_path

assert verb, remove  # what they use is replaced, too, within `quick_jobs`

Shown = pytest.CaptureFixture[str]
NAMES = ("pop", "jazz", "rock")


class Shop:
    """Indexes of one model in one folder, and the catalogues that they were made of."""

    def __init__(self, folder: Path, jobs: QuickJobs, model: Path) -> None:
        self.folder, self.jobs, self.model = folder, jobs, model

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    def catalog(self, *names: str) -> Path:
        """The catalogue of several indexes: of a track that several have, what is indexed."""
        found = self.whole(*names)
        uris = {key: row["uri"] for key, row in found.rows.items()}
        uris |= {key: uri for (key, stage), (uri, _) in found.failures.items() if not stage}
        rows = dict[str, dict[str, str]]()
        for name in names:
            for key, row in json.loads((self.folder / f"{name}.json").read_text()).items():
                if Path(row["uri"]).name == Path(uris[key]).name:
                    rows[key] = row
        return write_catalog(self.folder / "all.csv", list(rows.values()))

    def write(self, name: str, rows: dict[str, bytes], **columns: str) -> Path:
        """A catalogue of songs, by track_id."""
        made = {}
        for track_id, data in rows.items():
            # A track that failed in one catalogue may be another file in the next.
            path = self.folder / f"{track_id}-{name}.song"
            if not path.exists() or path.read_bytes() != data:
                path.write_bytes(data)
            made[track_id] = {"track_id": track_id, "uri": path.name, "label": name, **columns}
        (self.folder / f"{name}.json").write_text(json.dumps(made))
        return write_catalog(self.folder / f"{name}.csv", list(made.values()))

    def merge(self, *names: str, out: str = "out", flags: tuple[str, ...] = ("--quiet",)) -> int:
        words = [str(self.folder / name) for name in names]
        words += ["--out", str(self.folder / out), "--workers", "1"]
        if "jazz" in names[:2]:  # to look up takes longer than all the rest
            words += ["--no-gates", "self-recall"]
        return main(["merge", *words, *flags])

    def whole(self, *names: str) -> Contents:
        """What the indexes hold together, the first of them first."""
        found = Contents({}, {}, {}, {}, {})
        for name in names:
            one = contents(self[name])
            found.rows.update(one.rows)
            found.codes.update(one.codes)
            found.artists.update(one.artists)
            found.sequences.update(one.sequences)
            found.failures.update(
                {k: v for k, v in one.failures.items() if k not in found.failures}
            )
        for key in [one for one in found.failures if not one[1] and one[0] in found.rows]:
            del found.failures[key]
        return found


def songs(letter: str, count: int, **others: bytes) -> dict[str, bytes]:
    """So many songs; no two letters have one in common."""
    number = ord(letter) * 100
    return {f"{n:02d}{letter}": song(n % 3, number + n) for n in range(count)} | others


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Three indexes, the first of several segments; not to be changed.

    In ``pop`` and ``jazz`` fails ``both``; ``later`` fails in ``pop`` and is a song in ``jazz``;
    ``mute`` has nothing but codes.
    """
    folder = tmp_path_factory.mktemp("shop")
    model = quick_model(folder / "model")
    with quick_jobs(model) as jobs:
        shop = Shop(folder, jobs, model)
        pop = songs("p", 20, both=broken(1), later=broken(2), mute=song(0, 5, mute=True))
        build(shop.write("pop", pop), shop["pop"], model, also=tuple(ALSO))
        pop |= songs("q", 5, **{"01p": song(1, 77)})
        del pop["03p"]
        update(shop.write("pop", pop, mood="calm"), shop["pop"])
        jazz = songs("j", 12, both=broken(3), later=song(2, 8), worse=broken(4))
        build(shop.write("jazz", jazz), shop["jazz"], model, also=tuple(ALSO))
        build(shop.write("rock", songs("r", 3)), shop["rock"], model, also=tuple(ALSO))
        assert len(open_manifest(str(shop["pop"])).segments) == 2
        yield shop


@pytest.fixture
def shop(made: Shop, tmp_path: Path) -> Shop:
    """A copy of them, to be changed; songs are where they were."""
    for name in NAMES:
        shutil.copytree(made[name], tmp_path / name)
        rows = json.loads(made[f"{name}.json"].read_text())
        rows = {key: {**row, "uri": str(made.folder / row["uri"])} for key, row in rows.items()}
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    made.jobs.before = lambda name: None
    return Shop(tmp_path, made.jobs, made.model)


def files_of(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("names", [("jazz", "pop"), ("rock", "pop", "jazz")])
def test_a_merged_index_has_what_they_have(shop: Shop, names: tuple[str, ...]) -> None:
    before = files_of(shop.folder)
    expected = shop.whole(*names)
    assert shop.merge(*names) == 0
    index = shop["out"]
    assert {path: time for path, time in files_of(shop.folder).items() if path in before} == before
    assert contents(index) == expected
    lost = {("both", ""), ("worse", ""), ("mute", "embed"), ("mute", "sequence")}
    assert expected.failures.keys() == lost
    manifest = open_manifest(str(index))
    assert verify_files(str(index), manifest) == []
    assert (manifest.version, manifest.parent, len(manifest.segments)) == ("000001", None, 1)
    assert manifest.counters == {
        "tracks": len(expected.rows) + 2, "tracks_hashed": len(expected.rows), "tracks_failed": 2,
        "tracks_embedded": len(expected.artists), "tracks_sequenced": len(expected.sequences),
        "snippets": sum(map(len, expected.codes.values())),
        "audio_s": pytest.approx(sum(row["duration_s"] for row in expected.rows.values())),
    }  # fmt: skip
    ids = pa.concat_tables(live_tracks(str(index), manifest), promote_options="permissive")
    assert ids["track_id"].to_pylist() == sorted(expected.rows)
    assert ids["ordinal"].to_pylist() == list(range(len(expected.rows)))
    # Nothing of it has changed since, and it answers like an index that is built of all.
    catalog, heard = shop.catalog(*names), len(shop.jobs.decoder.heard)
    assert update(catalog, index).summary is None
    assert len(shop.jobs.decoder.heard) == heard
    build(catalog, shop["fresh"], shop.model, also=tuple(ALSO))
    assert contents(shop["fresh"]) == expected
    stretches = [dict(list(codes.items())[1:5]) for codes in expected.codes.values()]
    asked = (Asker(one, shop.jobs).ask(stretches) for one in (index, shop["fresh"]))
    assert next(asked) == next(asked)


def test_an_index_is_merged_on_and_on(shop: Shop) -> None:
    assert shop.merge("pop", "rock", out="two") == 0
    assert shop.merge("two", "jazz", out="three") == 0
    assert shop.merge("pop", "jazz", "rock", out="at once") == 0
    assert contents(shop["three"]) == contents(shop["at once"])


@pytest.mark.parametrize("also", [(), *((name,) for name in ALSO)])
def test_what_is_beside_codes_is_kept_where_all_have_it(shop: Shop, also: tuple[str, ...]) -> None:
    """What failed only in having it is no failure of an index that has none."""
    build(shop.write("silent", songs("s", 4)), shop["silent"], shop.model, also=also)
    assert shop.merge("pop", "silent") == 0
    manifest, found = open_manifest(str(shop["out"])), contents(shop["out"])
    expected = shop.whole("pop", "silent")
    assert tuple(manifest.also) == also
    for name, one in ALSO.items():
        assert (one.made in manifest.counters) == (name in also)
    assert found.artists == (expected.artists if "artist" in also else {})
    assert found.sequences == (expected.sequences if "sequence" in also else {})
    assert found.codes == expected.codes
    beside = {("mute", ALSO[name].stage) for name in also}
    assert found.failures.keys() == {("both", ""), ("later", "")} | beside


def one_line(capsys: Shown) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("hashbeam merge: error: ")
    return error


def test_a_track_of_two_indexes_is_refused_until_it_is_taken_out(shop: Shop, capsys: Shown) -> None:
    """Nothing is left of the attempt, and the same command works then."""
    twice = songs("t", 3, **{"00p": song(0, 1), "02p": song(0, 2)})
    build(shop.write("twice", twice), shop["twice"], shop.model)
    assert shop.merge("rock", "pop", "twice") == 1
    told = one_line(capsys)
    assert f"{shop['pop']} and {shop['twice']} both have track_ids such as 00p, 02p, and" in told
    assert "`hashbeam remove`" in told
    assert files_of(shop["out"]) == {}
    assert main(["remove", str(shop["twice"]), "--id", "00p", "--id", "02p"]) == 0
    assert shop.merge("rock", "pop", "twice") == 0
    assert contents(shop["out"]).rows.keys() == shop.whole("rock", "pop", "twice").rows.keys()


@pytest.mark.parametrize("pieces", [2, 6])
def test_a_killed_one_goes_on(shop: Shop, capsys: Shown, pieces: int) -> None:
    with shop.jobs.killed_after(pieces), pytest.raises(Killed):
        shop.merge("pop", "jazz")
    # Another command is refused, and leaves what was done.
    assert shop.merge("pop", "rock") == 1
    told = one_line(capsys)
    assert "holds an unfinished run with another catalogue" in told
    assert shop.merge("jazz", "pop") == 1
    assert "remove" in one_line(capsys)
    done = list[str]()
    shop.jobs.before = done.append
    assert shop.merge("pop", "jazz") == 0
    assert len(done) == 7 - pieces  # five parts, two tables
    assert contents(shop["out"]) == shop.whole("pop", "jazz")


def test_one_that_was_killed_after_publication_is_finished(shop: Shop, capsys: Shown) -> None:
    stopped = dict[str, bytes]()

    def stop(name: str) -> None:
        place = Path(version_path(str(shop["out"]), "000001", "work", "plan.json"))
        stopped["plan"] = place.read_bytes()

    shop.jobs.before = stop
    assert shop.merge("pop", "jazz") == 0
    # The plan is what is deleted last.
    work = Path(version_path(str(shop["out"]), "000001", "work"))
    work.mkdir()
    (work / "plan.json").write_bytes(stopped["plan"])
    capsys.readouterr()
    assert shop.merge("pop", "jazz", flags=("--json",)) == 0
    shown = capsys.readouterr()
    assert "this run had published version 000001 already" in shown.err
    assert json.loads(shown.out)["tracks_indexed"] == len(contents(shop["out"]).rows)
    assert not work.exists()


def rewritten(shop: Shop, name: str, **fields: Any) -> None:
    """An index whose manifest says something else."""
    manifest = dataclasses.replace(open_manifest(str(shop[name])), **fields)
    Path(version_path(str(shop[name]), manifest.version, "manifest.json")).write_bytes(
        dump_json(manifest)
    )


@pytest.mark.parametrize(
    ("names", "status", "told"),
    [
        (["pop"], 2, "INDEX: two or more are needed, each once"),
        (["pop", "pop"], 2, "INDEX: two or more are needed, each once"),
        (["pop", "jazz", "./pop/"], 2, "INDEX: two or more are needed, each once"),
        (["pop", "jazz", "--out", "jazz/"], 2, "--out: must be none of the indexes"),
        (["pop", "--out", ""], 2, "--out: is needed; INDEX: two or more are needed, each once"),
        (["pop", "nowhere"], 1, "nowhere: there is no such index"),
        (["pop", "jazz", "--out", "rock"], 1, "rock holds a published index (version 000001)"),
        (["pop", "jazz", "--out", "songs"], 1, "songs is not empty (it holds a.song) and is no in"),
        (["pop", "jazz", "--out", "pop.json"], 1, "pop.json"),
        (["pop", "other"], 2, "other was made by model m with digest dddddddddddd, "),
        (["pop", "kept"], 2, "kept compares queries with embeddings, "),
        (["pop", "jazz", "--no-gates", "x", "--workers", "y"], 2, "--no-gates: must be of"),
        (["pop", "jazz", "--al", "artist"], 2, "unknown flag --al"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(
    shop: Shop, capsys: Shown, names: list[str], status: int, told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(shop.folder)
    (shop.folder / "songs").mkdir()
    (shop.folder / "songs/a.song").write_bytes(b"")
    for name in ("other", "kept"):
        shutil.copytree(shop["rock"], shop[name])
    rewritten(shop, "other", model={"name": "m", "digest": "d" * 64})
    rewritten(shop, "kept", compared="embeddings")
    before = files_of(shop.folder)
    out = [] if "--out" in names else ["--out", "out"]
    assert main(["merge", *names, *out]) == status
    assert told in one_line(capsys)
    assert files_of(shop.folder) == before
    assert not Path("nowhere").exists()


def test_an_index_of_nothing_is_merged_as_well(shop: Shop) -> None:
    ids = [flag for track_id in contents(shop["rock"]).rows for flag in ("--id", track_id)]
    assert main(["remove", str(shop["rock"]), *ids]) == 0
    assert shop.merge("rock", "jazz") == 0
    assert contents(shop["out"]) == contents(shop["jazz"])


def test_columns_of_different_types(shop: Shop) -> None:
    for name, letter, year in (("old", "o", pa.array([1990])), ("new", "n", pa.array(["1991"]))):
        (shop.folder / f"{letter}.song").write_bytes(song(1, ord(letter)))
        rows = {"track_id": [letter], "uri": [f"{letter}.song"], "year": year, name: [True]}
        parquet.write_table(str(shop[f"{name}.parquet"]), pa.table(rows))
        build(shop[f"{name}.parquet"], shop[name], shop.model)
    assert shop.merge("old", "new") == 0
    rows = contents(shop["out"]).rows
    assert [(rows[letter]["year"], rows[letter].get("old")) for letter in "no"] == [
        ("1991", None), ("1990", True)
    ]  # fmt: skip
