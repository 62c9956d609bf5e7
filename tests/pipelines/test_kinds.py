"""Every kind of hasher through the whole pipeline: index, verification, look-up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from index_helpers import codes_of, numbers_of, paths, run_index
from model_fixture import learned_model, random_model
from published_index import wav
from tiny_catalog import RATE, write_rows

from hashing.encoders import Hasher
from hashing.models import Model, save_model
from hashing.shards import Shard
from hashing.synthesis import render_track
from pipelines.cli import main
from pipelines.opened import open_index
from pipelines.versions import open_manifest

pytestmark = pytest.mark.usefixtures("one_index_decoder")

TRACKS, SECONDS = 9, 8.0  # two parts

Shown = pytest.CaptureFixture[str]


def signs(folder: Path) -> Model:
    """Random projections of the snippet."""
    model = random_model(folder)
    config = {**model.config, "kind": "signs"}
    return save_model(folder, config, {"model": model.graph("model")}, model.arrays, "# Signs")


KINDS: dict[str, tuple[Callable[[Path], Model], int]] = {
    # Kind: how a model of it is made, and bytes of its codes.
    "signs": (signs, 58),
    "learned": (learned_model, 32),
}


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """A catalogue of rendered music, and the samples; the fifth track is silent in the middle."""
    folder = tmp_path_factory.mktemp("songs")
    songs = [render_track(number, SECONDS, RATE) for number in range(TRACKS)]
    songs[4][3 * RATE : 5 * RATE] = 0.0
    rows = []
    for number, samples in enumerate(songs):
        wav(folder / f"{number}.wav", samples)
        rows.append({"track_id": f"t{number}", "uri": f"{number}.wav"})
    return write_rows(folder / "catalog.csv", rows), songs


@pytest.fixture(scope="module", params=KINDS)
def index(
    request: pytest.FixtureRequest,
    songs: tuple[Path, list[np.ndarray]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str]:
    """A published index by a model of each kind in turn, and the kind; not to be changed."""
    folder = tmp_path_factory.mktemp(request.param)
    make, _ = KINDS[request.param]
    make(folder / "model")
    assert run_index(songs[0], folder / "index", folder / "model") == 0
    return folder / "index", request.param


def test_codes_and_matrices_are_what_the_hasher_makes(
    index: tuple[Path, str], songs: tuple[Path, list[np.ndarray]]
) -> None:
    folder, kind = index
    hasher, manifest = Hasher.load(str(folder.parent / "model")), open_manifest(str(folder))
    expected = [hasher.hash_track([samples]) for samples in songs[1]]
    ids, snippet, codes = codes_of(folder, manifest)
    assert codes.shape[1] == hasher.quantizer.code_bytes == KINDS[kind][1]
    np.testing.assert_array_equal(codes, np.concatenate([one.codes for one in expected]))
    np.testing.assert_array_equal(snippet, np.concatenate([one.snippet for one in expected]))
    searcher, _, _ = open_index(str(folder))
    rows, present = searcher.codes.rows(0, numbers_of(ids, snippet))
    assert present.all()
    np.testing.assert_array_equal(rows, codes)
    for path in paths(folder, manifest, "codes"):
        assert pq.read_schema(path).field("code").type.byte_width == codes.shape[1]


def test_postings_are_those_of_the_quantizer(index: tuple[Path, str]) -> None:
    folder, _ = index
    quantizer = Hasher.load(str(folder.parent / "model")).quantizer
    manifest = open_manifest(str(folder))
    ids, snippet, codes = codes_of(folder, manifest)
    numbers = numbers_of(ids, snippet)
    assert manifest.replication == quantizer.replication
    assert manifest.n_tables == quantizer.n_tables
    material = quantizer.key_material(codes)
    for entry in manifest.files.select(kind="tables"):
        rows, keys = quantizer.postings(material, entry.table, manifest.key_bits)
        gids = numbers if rows is None else numbers[rows]
        shard = Shard.open(str(folder / entry.path))
        for key in np.unique(keys):
            (first,), (size,) = shard.find(np.array([key], np.uint32))
            found = shard.postings[first : first + size]
            np.testing.assert_array_equal(found, np.sort(gids[keys == key]))
        assert shard.header.postings == keys.size == entry.rows


def test_an_index_is_whole_and_tells_its_model(index: tuple[Path, str], capsys: Shown) -> None:
    folder, _ = index
    assert main(["verify", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
    assert main(["info", str(folder), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["model"]["path"] == str(folder.parent / "model")
    assert (facts["tracks"], facts["compared"]) == (TRACKS, "codes")


@pytest.mark.usefixtures("one_decoder")
def test_excerpts_are_found_in_their_place(
    index: tuple[Path, str], songs: tuple[Path, list[np.ndarray]], tmp_path: Path, capsys: Shown
) -> None:
    """In a little noise; of the track with silence, what comes before and after it."""
    folder, _ = index
    rng = np.random.default_rng(1)
    asked = [(0, 2.3), (4, 0.4), (4, 5.1), (7, 3.0), (8, 4.77)]
    queries = []
    for track, start_s in asked:
        first = round(start_s * RATE)
        heard = songs[1][track][first : first + round(2.5 * RATE)]
        noise = rng.standard_normal(heard.size) * np.sqrt(np.mean(heard**2)) / 10  # 20 dB below
        path = tmp_path / f"{track}-{start_s}.wav"
        queries.append(wav(path, (heard + noise).astype(np.float32)))
    flags = ["--index", str(folder), "--min-score", "0", "--json"]
    assert main(["lookup", *flags, *map(str, queries)]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for (track, start_s), answer in zip(asked, answers, strict=True):
        best = answer["matches"][0]
        assert best["track_id"] == f"t{track}"
        assert abs(best["offset_s"] - start_s) <= 0.25
