"""From catalogues to an artist model, on a few seconds of made-up artists."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hashing.artists.encoder import ArtistEncoder
from hashing.artists.features import ArtistFeatures
from hashing.audio import encode
from hashing.errors import HashbeamError
from hashing.generated import write_catalogue
from hashing.training.artists.heard import hear_catalogue
from hashing.training.artists.recipe import ArtistRecipe, draw_names, train_artist
from pipelines.cli import main

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artists")
    write_catalogue(folder, 6, 1, 3, 4.0, 5, codec="wav", show=False)
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    found = write_catalogue(folder, 6, 1, 3, 4.0, 5, codec="wav", show=False)
    return [{**row, "uri": str(folder / row["uri"])} for row in found]


RECIPE = ArtistRecipe([], labels="artist_id", components=4, folds=2, deals=1, names=4, workers=1)


def test_a_model_that_tells_what_it_is(rows: Rows, tmp_path: Path) -> None:
    lines: list[str] = []
    recipe = dataclasses.replace(RECIPE, catalogues=[rows, rows[:6]], command="the command")
    model = train_artist(recipe, tmp_path / "m", tmp_path / "work", lines.append)
    encoder = ArtistEncoder.load(str(tmp_path / "m"))
    assert encoder.digest == model.digest
    assert encoder.cut == model.config["cut"] > 0
    figures = model.config["figures"]
    assert figures["artists"] == 6
    assert figures["margin"] == pytest.approx(figures["ari"] - figures["ari_mfcc"], abs=1e-4)
    assert -1 <= figures["ari"] <= 1
    assert 0 <= figures["whole"] <= 1
    assert model.config["training"]["trained_on"] == sorted(row["track_id"] for row in rows)
    card = (tmp_path / "m/README.md").read_text()
    assert "`the command`" in card
    assert "18 + 6 tracks of 2 catalogues" in card
    found = encoder.embed_file(rows[0]["uri"])
    assert found.embedding.shape == (4,)
    assert np.linalg.norm(found.embedding) == pytest.approx(1.0, abs=1e-5)
    # What was heard is kept, and the same run gives the same model.
    again: list[str] = []
    same = train_artist(recipe, tmp_path / "same", tmp_path / "work", again.append)
    assert same.digest == model.digest
    assert same.config["figures"] == figures
    assert not any(line.startswith("heard") for line in again)
    assert any(line.startswith("heard") for line in lines)


def test_tracks_that_fail_are_told_and_left_out(rows: Rows, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF of nothing")
    silent = tmp_path / "silent.wav"
    encode(np.zeros(4 * 22050, np.float32), 22050, str(silent), codec="wav")
    lines: list[str] = []
    mixed = [
        {"track_id": "broken", "uri": str(broken)},
        rows[0],
        {"track_id": "silent", "uri": str(silent)},
    ]
    heard = hear_catalogue(mixed, ArtistFeatures(), tmp_path, 1, lines.append)
    assert heard.rows == [1]
    assert len(heard.tracks[0]) == 1
    told = [line for line in lines if line.startswith("left out of training: ")]
    assert [line.split(": ")[1] for line in told] == ["broken", "silent"]
    with pytest.raises(HashbeamError, match="no track of the training catalogue"):
        hear_catalogue(mixed[:1], ArtistFeatures(), tmp_path, 1, lines.append)


def test_too_few_artists_are_refused(rows: Rows, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, catalogues=[rows[:9]])
    with pytest.raises(HashbeamError, match="3 artists of the first catalogue have 3 tracks"):
        train_artist(recipe, tmp_path / "m", tmp_path / "work", lambda line: None)
    assert not (tmp_path / "m").exists()


def test_names_are_of_two_to_four_artists() -> None:
    artists = {f"a{i}": np.arange(3) + 3 * i for i in range(9)}
    names = draw_names(artists, 3000, np.random.default_rng(1))
    sizes = np.bincount([len(name) for name in names], minlength=5) / 3000
    assert sizes[:2].tolist() == [0, 0]
    np.testing.assert_allclose(sizes[2:], np.array([102, 17, 3]) / 122, atol=0.03)
    for name in names[:50]:
        assert len({int(rows[0]) for rows in name}) == len(name)


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "artist", "--catalog", str(folder / "catalog.csv"), "--out"]
    assert main([*command, str(tmp_path / "m"), "--labels", "genre"]) == 2
    assert "no column genre" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "m"), "--noise", str(tmp_path)]) == 2
    assert "--noise: is not for artist" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "m"), "--seed", "many", "--steps", "5"]) == 2
    told = capsys.readouterr().err
    assert "--seed" in told
    assert "--steps: is for" in told
    # Six artists are too few for four folds.
    assert main([*command, str(tmp_path / "m")]) == 1
    assert "6 artists of the first catalogue" in capsys.readouterr().err
    assert main(["train", "itq", *command[2:], str(tmp_path / "m"), "--labels", "artist_id"]) == 2
    assert "--labels: is for artist, not for itq" in capsys.readouterr().err
