"""``hashbeam train artist`` from the command line: labels, folds, and evaluation by folds."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from disambiguation_music import PitchEncoder, write_tones
from index_helpers import error_line

from hashing.artists.features import ArtistFeatures, n_statistics
from hashing.models import Model, load_model
from hashing.training.artists import music as artist_music
from hashing.training.artists import recipe as artist_recipe
from hashing.training.artists.heard import Heard
from hashing.training.artists.training import ArtistTraining
from pipelines.cli import main
from pipelines.disambiguation import embed

Shown = pytest.CaptureFixture[str]
Rows = list[dict[str, Any]]


def rows_of(artists: int = 8, tracks: int = 3) -> Rows:
    return [
        {
            "track_id": f"a{artist}t{track}",
            "artist_id": f"id{artist}",
            "artist_name": f"Artist {artist}",
            "package": f"p{artist // 2}",
            "half": f"h{artist % 2}",
            "pitch": 150 + 120 * artist + 7 * track,
        }
        for artist in range(artists)
        for track in range(tracks)
    ]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is heard; statistics are made of track ids, and few names are drawn."""

    def hear(rows: Rows, features: ArtistFeatures, *_: object) -> Heard:
        tracks = []
        for row in rows:
            centre = np.random.default_rng(list(row["track_id"].partition("t")[0].encode()))
            noise = np.random.default_rng(list(row["track_id"].encode()))
            width = (1, n_statistics(features))
            tracks.append(3 * centre.standard_normal(width) + noise.standard_normal(width))
        return Heard([track.astype(np.float32) for track in tracks], list(range(len(rows))))

    def recipe(*given: Any, **named: Any) -> artist_recipe.ArtistRecipe:
        return full(*given, **{**named, "names": 4, "deals": 1})

    full = artist_recipe.ArtistRecipe
    monkeypatch.setattr(artist_music, "hear_catalogue", hear)
    monkeypatch.setattr(artist_recipe, "ArtistRecipe", recipe)


def train(catalog: Path, out: Path, *flags: str) -> int:
    return main(["train", "artist", "--catalog", str(catalog), "--out", str(out), *flags])


def folds_of(out: Path) -> dict[str, str]:
    with (out / "folds.csv").open(newline="") as lines:
        return {row["track_id"]: row["fold"] for row in csv.DictReader(lines)}


def test_labels_are_cleaned_and_it_is_told(tmp_path: Path, capsys: Shown) -> None:
    rows = rows_of(12)
    for row in rows[:3]:
        row["artist_name"] = "Artist 9"  # now a name of two ids
    rows[3]["artist_id"], rows[6]["artist_name"] = "", "Somebody Else"
    catalog = write_tones(tmp_path, rows)
    assert train(catalog, tmp_path / "m") == 0
    said = capsys.readouterr().out
    assert "6 tracks without a label: name of several ids" in said
    assert "not learned from: names of several ids: artist9" in said
    assert "not learned from: ids of several names: id2" in said
    story = load_model(str(tmp_path / "m")).config["training"]
    assert story["labels"] == "artist_id"
    assert story["artists"] == 8  # of twelve: 0 and 9, 2, and 1 with two tracks are gone
    assert story["cleaned"]["tracks_without_label"] == 1
    card = (tmp_path / "m/README.md").read_text()
    assert "1 without label, 6 name of several ids, 3 id of several names" in card


def test_dealt_folds_are_those_that_evaluation_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    catalog = write_tones(tmp_path / "music", rows_of())
    assert train(catalog, tmp_path / "cv", "--folds", "2", "--group", "package") == 0
    assert f"--model '{tmp_path}/cv/{{fold}}'" in capsys.readouterr().out
    folds = folds_of(tmp_path / "cv")
    assert sorted(folds) == sorted(row["track_id"] for row in rows_of())
    for row in rows_of():  # of one package, and so in one fold
        assert folds[row["track_id"]] == folds[f"a{int(row['package'][1:]) * 2}t0"]
    encoders = {"0": PitchEncoder(), "1": PitchEncoder()}
    for fold, encoder in encoders.items():
        story = load_model(str(tmp_path / "cv" / fold)).config["training"]
        assert set(story["trained_on"]) == {one for one in folds if folds[one] != fold}
        assert story["held_out"]["tracks"] == [12]
        encoder.digest = fold * 64
    monkeypatch.setattr(embed, "load_encoder", lambda model: encoders[Path(model).name])
    monkeypatch.setattr(embed, "open_ear", lambda encoder, job: _Ear(encoder))
    flags = ["--groups", "4", "--seeds", "1", "--comparators", "one", "--quiet", "--workers", "1"]
    named = ["--catalog", str(catalog), "--out", str(tmp_path / "out")]
    model = ["--model", str(tmp_path / "cv/{fold}")]
    assert main(["evaluate", "artists", *named, *model, *flags]) == 0
    for fold, encoder in encoders.items():
        assert set(encoder.heard) == {one for one in folds if folds[one] == fold}
    figures = json.loads((tmp_path / "out/figures.json").read_text())
    assert (figures["folds"], figures["folds_by"]) == (2, "folds.csv")
    assert figures["systems"][0]["known_artists"] == []
    groups = pq.read_table(tmp_path / "out/groups.parquet").to_pylist()
    for group in groups:
        first = {folds[f"a{one.split()[1]}t0"] for one in group["artists"]}
        assert first == {str(group["fold"])}


class _Ear:
    """A stand-in as a context."""

    def __init__(self, encoder: PitchEncoder) -> None:
        self._encoder = encoder

    def __enter__(self) -> Any:
        return self._encoder.embed_file

    def __exit__(self, *_: object) -> None:
        pass


def test_folds_of_a_column_or_of_a_file(tmp_path: Path) -> None:
    catalog = write_tones(tmp_path, rows_of())
    for name, by in (("a", "half"), ("b", str(tmp_path / "a/folds.csv"))):
        assert train(catalog, tmp_path / name, "--fold-by", by, "--labels", "artist_name") == 0
    found = folds_of(tmp_path / "a")
    assert found == {row["track_id"]: row["half"] for row in rows_of()} == folds_of(tmp_path / "b")
    one, other = (load_model(str(tmp_path / name / "h1")) for name in "ab")
    assert one.digest == other.digest
    assert "--fold-by half`" in (tmp_path / "a/h1/README.md").read_text()
    assert str(tmp_path) not in (tmp_path / "b/h1/README.md").read_text()
    assert one.config["training"]["held_out"]["artists"] == [f"artist{n}" for n in (1, 3, 5, 7)]


def test_a_map_is_learned_in_as_many_steps_as_asked_for(tmp_path: Path) -> None:
    catalog = write_tones(tmp_path, rows_of(12))
    projections = []
    for name, flags, steps, told in (
        ("usual", (), 120, "learned in 120 steps"),
        ("few", ("--map-steps", "7"), 7, "learned in 7 steps"),
        ("none", ("--map-steps", "0"), 0, "No map of artists is learned: none was asked for."),
    ):
        assert train(catalog, tmp_path / name, "--components", "8", *flags) == 0
        model = load_model(str(tmp_path / name))
        story, card = model.config["training"], (tmp_path / name / "README.md").read_text()
        assert story["fit"]["steps"] == steps
        assert bool(story["map"]["artists"]) == bool(steps)
        assert told in card
        assert " ".join(flags) in card
        assert ("--map-steps" in card) == bool(flags)
        # Figures say how many fits had a map only where one was asked for.
        assert ("mapped" in model.config["figures"]) == bool(steps)
        projections.append(model.arrays["statistics.projection"])
    assert not np.allclose(projections[0], projections[1])
    assert not np.allclose(projections[1], projections[2])


def test_mistakes_are_one_line(tmp_path: Path, capsys: Shown) -> None:
    rows = rows_of()
    catalog = write_tones(tmp_path, rows)
    split = write_tones(
        tmp_path / "split", [{**row, "half": f"h{n % 2}"} for n, row in enumerate(rows)]
    )
    slash = write_tones(tmp_path / "slash", [{**row, "half": f"a/{row['half']}"} for row in rows])
    (tmp_path / "no.csv").write_text("track,part\nx,1\n")
    (tmp_path / "strange.csv").write_text("track_id,fold\nx,1\n")
    for source, flags, expected in (
        (catalog, ("--labels", "genre"), "--labels: column genre is missing"),
        (catalog, ("--same", "take"), "--same: column take is missing"),
        (catalog, ("--group", "take"), "no column take to group by"),
        (catalog, ("--noise", str(tmp_path)), "--noise: is not for artist"),
        (catalog, ("--seed", "many", "--steps", "5"), "--steps: is for"),
        (catalog, ("--map-steps", "-1"), "--map-steps: must be from 0 to"),
        (catalog, ("--folds", "1"), "--folds: must be from 2 to 1000"),
        (catalog, ("--folds", "2", "--fold-by", "half"), "--folds: leave it out, or --fold-by"),
        (catalog, ("--fold-by", "part"), "no column 'part' (--fold-by), and there is no file"),
        (catalog, ("--fold-by", str(tmp_path / "no.csv")), "no.csv is no CSV file with the col"),
        (catalog, ("--fold-by", str(tmp_path / "strange.csv")), "strange.csv has no track of"),
        (catalog, ("--fold-by", "artist_id"), "must deal the artists into two folds or more of 2"),
        (split, ("--fold-by", "half"), "is in several folds of half: an artist must be in one"),
        (slash, ("--fold-by", "half"), "'a/h0' of half cannot be the name of a folder"),
    ):
        assert train(source, tmp_path / "m", *flags) == 2, flags
        assert expected in error_line(capsys, "train"), flags
    few = write_tones(tmp_path / "few", rows_of(6))
    assert train(few, tmp_path / "m") == 1
    assert "6 artists of the first catalogue have 3 tracks or more: 8" in error_line(
        capsys, "train"
    )
    assert main(["train", "itq", "--catalog", "c", "--out", "m", "--folds", "2"]) == 2
    assert "--folds: is for artist, not for itq" in capsys.readouterr().err
    assert main(["train", "itq", "--catalog", "c", "--out", "m", "--map-steps", "2"]) == 2
    assert "--map-steps: is for artist, not for itq" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_network_gets_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    from hashing.training.artists import network_recipe

    asked = []

    def training(recipe: network_recipe.NetworkRecipe, *_: object) -> Model:
        asked.append(recipe)
        return Model(tmp_path, {"figures": {"eer": 0.25}}, {}, "ab" * 32)

    monkeypatch.setattr(network_recipe, "train_network", training)
    rows = [{**row, "genres": "rock;pop", "mood": "sad"} for row in rows_of(4)]
    catalog, more = (write_tones(tmp_path / name, rows) for name in ("one", "two"))
    flags = ["--system", "metric", "--steps", "7", "--same-tag", ".5", "--tags", "genre", "mood"]
    flags += ["--segments", "3s", "--batch-artists", "5", "--components", "256", "--seed", "9"]
    assert train(catalog, tmp_path / "m", "--more", str(more), *flags) == 0
    assert "equal error rate 0.250" in capsys.readouterr().out
    (recipe,) = asked
    expected = ArtistTraining(
        steps=7, probability=0.5, tags=("genre", "mood"), artists=5, dimensions=256, seed=9
    )
    assert recipe.training == expected
    assert recipe.segments == "3s"
    assert [set(one.artist) for one in recipe.listings] == [{f"id{i}" for i in range(4)}] * 2
    row = recipe.listings[1].rows[0]
    assert (row["genres"], row["mood"], row["release_date"]) == ("rock; pop", "sad", "")
    assert "--system metric --segments 3s --components 256 --steps 7" in recipe.command


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "5"], "--steps: is for networks; name one with --system"),
        (["--system", "magic"], "--system: must be one of statistics, metric, contrastive"),
        (["--system", "metric", "--segments", "5s"], "--segments: must be one of 3s, 9s"),
        (["--system", "metric", "--same-tag", "2"], "--same-tag: must be from 0 to 1"),
        (["--system", "metric", "--tags", "key"], "--tags: key is none of genre, mood, date"),
        (["--system", "classifier", "--same-tag", ".5"], "--same-tag: is for --system metric"),
        (["--system", "classifier", "--components", "9"], "a classifier always has 256"),
        (["--system", "metric", "--map-steps", "9"], "--map-steps: is for --system statistics"),
    ],
)
def test_settings_of_networks_that_make_no_sense(
    flags: list[str], message: str, tmp_path: Path, capsys: Shown
) -> None:
    catalog = write_tones(tmp_path, rows_of(2))
    assert train(catalog, tmp_path / "m", *flags) == 2
    assert message in error_line(capsys, "train")
