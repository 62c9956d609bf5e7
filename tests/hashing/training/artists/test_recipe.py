"""From catalogues to artist models, on made-up statistics and a few seconds of music."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from hashing.artists.cuts import tune_cut
from hashing.artists.encoder import ArtistEncoder, unit
from hashing.artists.features import ArtistFeatures, n_statistics
from hashing.artists.homonyms import Group
from hashing.audio import encode
from hashing.errors import HashbeamError
from hashing.models import Model, load_model
from hashing.synthesis import render_track
from hashing.training.artists import heard as artist_heard
from hashing.training.artists import music as artist_music
from hashing.training.artists import recipe as artist_recipe
from hashing.training.artists.contrast import Catalogue
from hashing.training.artists.folds import Listing, hold_out
from hashing.training.artists.heard import Heard, hear_catalogue
from hashing.training.artists.music import Music, fit
from hashing.training.artists.recipe import ArtistRecipe, train_artist, train_folds
from hashing.training.artists.statistics import FitSettings

ARTISTS, TRACKS = 8, 4
# Fewer statistics than the shipped settings have: what is tested does not depend on them.
FEATURES = dataclasses.replace(
    ArtistFeatures(), n_bands=32, n_mfcc=8, n_fft=512, long_n_fft=1024, n_segments=2
)


def listing(artists: int = ARTISTS, start: int = 0) -> Listing:
    """Artists a0, a1 …, and a last row that is nobody's."""
    artist = [f"a{start + n // TRACKS}" for n in range(artists * TRACKS)] + [""]
    rows = [{"track_id": f"{start}-{n:02d}", "uri": f"{n}"} for n in range(len(artist))]
    kin = [frozenset({f"name {one}"} if one else ()) for one in artist]
    return Listing(rows, artist, kin)


def statistics(listings: list[Listing], seed: int = 0) -> list[Heard]:
    """Two segments a track, around each artist's own point."""
    rng = np.random.default_rng(seed)
    centres: dict[str, np.ndarray] = {}
    heard = []
    for one in listings:
        tracks = []
        for artist in one.artist:
            centre = centres.setdefault(artist, rng.standard_normal(n_statistics(FEATURES)))
            noise = rng.standard_normal((2, n_statistics(FEATURES)))
            tracks.append((2 * centre + noise).astype(np.float32))
        heard.append(Heard(tracks, list(range(len(tracks)))))
    return heard


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is heard is made up."""

    def hear(listings: list[Listing], *_: object) -> Music:
        return Music(listings, statistics(listings), FEATURES)

    monkeypatch.setattr(artist_recipe.Music, "hear", hear)


RECIPE = ArtistRecipe(
    [], "artist_id", {"tracks_copy": 3}, components=8, steps=9, folds=2, deals=1, names=6, workers=1
)


def train(listings: list[Listing], out: Path, command: str = "") -> Model:
    recipe = dataclasses.replace(RECIPE, listings=listings, command=command)
    return train_artist(recipe, out, out, lambda line: None)


@pytest.mark.usefixtures("heard")
def test_a_model_that_tells_what_it_is(tmp_path: Path) -> None:
    listings = [listing(), listing(2, 50)]
    model = train(listings, tmp_path / "m", "the command")
    figures = model.config["figures"]
    assert figures["artists"] == ARTISTS
    assert figures["ari"] > 0.5  # the artists are far apart
    assert 0 <= figures["whole"] <= 1
    assert figures["margin"] == pytest.approx(figures["ari"] - figures["ari_mfcc"], abs=1e-4)
    story = model.config["training"]
    assert story["trained_on"] == [row["track_id"] for row in listings[0].rows]
    assert story["cleaned"] == {"tracks_copy": 3}
    card = (tmp_path / "m/README.md").read_text()
    for told in ("`the command`", "33 + 9 tracks of 2 catalogues", "count for no artist: 3 copy"):
        assert told in card
    assert "dealt to folds 1 times" in card
    # Half of the artists are too few to learn a map, all are not.
    assert figures["mapped"] == 0
    assert story["map"] == {"artists": [ARTISTS, 2], "none": ""}
    assert "learned in 9 steps" in card
    assert "who have two tracks or more (8 + 2)" in card
    assert "each heard with a map that has not met them" in card
    same = train(listings, tmp_path / "same")
    assert same.digest == model.digest
    assert same.config["figures"] == figures


@pytest.mark.usefixtures("heard")
def test_a_fold_is_left_out_of_fit_and_cut(tmp_path: Path) -> None:
    """The model of a fold is the one of catalogues that never had the fold's artists."""
    other = listing(3, 6)  # has the artists a6 and a7 of the first as well
    listings = [listing(), other]
    folds = ["x" if one in ("a6", "a7") else "y" if one else "" for one in listings[0].artist]
    lines: list[str] = []
    recipe = dataclasses.replace(RECIPE, listings=listings)
    models = train_folds(recipe, folds, tmp_path, tmp_path, lines.append)
    assert sorted(models) == ["x", "y"]
    model = models["x"]
    assert load_model(str(tmp_path / "x")).digest == model.digest
    story = model.config["training"]
    assert story["held_out"] == {"fold": "x", "artists": ["a6", "a7"], "tracks": [8, 8]}
    assert not {f"0-{n}" for n in range(24, 32)} & set(story["trained_on"])
    assert "0-32" in story["trained_on"]  # nobody's
    assert "without fold x" in (tmp_path / "x/README.md").read_text()
    told = {line[5:7].strip(": "): line for line in lines if line.startswith("fold ")}
    assert told["x"].startswith("fold x: 2 artists left out, ARI ")
    assert told["x"].endswith("; a map is learned from 6 artists")
    assert told["y"].endswith("; no map is learned: too few artists for 3 folds to tune the cut on")
    assert models["y"].config["training"]["map"]["artists"] == []
    assert "No map of artists is learned: too few" in (tmp_path / "y/README.md").read_text()

    music = Music(listings, statistics(listings), FEATURES)
    kept = hold_out(listings, ["a6", "a7"])
    assert [int(flags.sum()) for flags in kept] == [25, 5]
    short = [
        Listing(*([one for one, flag in zip(column, flags, strict=True) if flag]
                  for column in (old.rows, old.artist, old.kin)))
        for old, flags in zip(listings, kept, strict=True)
    ]  # fmt: skip
    left = [
        Heard([track for track, flag in zip(own.tracks, flags, strict=True) if flag],
              list(range(int(flags.sum()))))
        for own, flags in zip(music.heard, kept, strict=True)
    ]  # fmt: skip
    never = Music(short, left, FEATURES)
    drawn = artist_recipe.seed_of(RECIPE.seed, 0)
    settings = RECIPE.settings()
    assert settings == FitSettings(8, steps=9)
    alone = fit(never, never.everything(), settings, RECIPE.names, RECIPE.whole_share, drawn)
    encoder = ArtistEncoder.load(str(tmp_path / "x"))
    assert encoder.cut == pytest.approx(alone.cut, rel=1e-5)
    np.testing.assert_array_equal(model.arrays["statistics.mean"], alone.statistics.mean)
    # Some processors add up arrays in an order that depends on where these lie in memory.
    np.testing.assert_allclose(
        model.arrays["statistics.projection"], alone.statistics.projection, rtol=1e-5, atol=1e-9
    )
    # And it can differ: all artists together give another.
    assert train(listings, tmp_path / "all").digest != model.digest


@pytest.mark.parametrize("artists", [3, 6])
def test_all_tracks_at_once_are_embedded_as_each_alone(artists: int) -> None:
    listings = [listing(artists)]
    music = Music(listings, statistics(listings), FEATURES)
    fitted = fit(music, music.everything(), FitSettings(4, steps=5), 4, 0.8, 1)
    assert (fitted.learned == [6]) == (artists == 6)
    alone = [fitted.statistics.project(track) for track in music.heard[0].tracks]
    np.testing.assert_allclose(fitted.embeddings, unit(np.stack(alone)), atol=1e-6)


def test_who_is_tested_is_in_no_map_and_the_cut_meets_artists_that_its_map_has_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listings = [listing(10), listing(4, 8)]  # a8 and a9 are in both
    music = Music(listings, statistics(listings), FEATURES)
    maps: list[list[set[str]]] = []
    lengths: list[float] = []
    tuned: list[Group] = []

    def learn(catalogues: list[Catalogue], steps: int, seed: int) -> np.ndarray:
        who = [
            {listings[number].artist[place] for own in one.artists for place in own}
            for number, one in enumerate(catalogues)
        ]
        maps.append(who)
        points = np.concatenate([one.tracks.means() for one in catalogues])
        lengths.append(float(np.sqrt((points**2).sum(axis=1).mean())))
        return np.eye(4)

    def tune(embeddings: np.ndarray, groups: list[Group], least_whole: float) -> float:
        assert least_whole == 0.8
        tuned.extend(groups)
        return tune_cut(embeddings, groups, least_whole)

    monkeypatch.setattr(artist_music, "learn_map", learn)
    monkeypatch.setattr(artist_music, "tune_cut", tune)
    fit(music, hold_out(listings, ["a1", "a8"]), FitSettings(4), 9, 0.8, 1)
    np.testing.assert_allclose(lengths, 1.0, atol=0.2)
    everybody = {f"a{n}" for n in range(10)} - {"a1", "a8"}
    assert maps[3] == [everybody, {"a9", "a10", "a11"}]
    tested = [
        {listings[0].artist[row % 41] for group in tuned for row in group.rows if row // 41 == fold}
        for fold in range(3)
    ]
    assert [len(one) for one in tested] in ([3, 3, 2], [3, 2, 3], [2, 3, 3])
    assert set.union(*tested) == everybody
    for inner, others in zip(maps[:3], tested, strict=True):
        assert inner == [everybody - others, {"a9", "a10", "a11"} - others]
    several = [group for group in tuned if len(group.artists) > 1]
    assert len(several) == 9
    assert len(tuned) - len(several) == len(everybody)


def test_without_steps_it_is_the_projection_alone() -> None:
    listings = [listing(6)]
    music = Music(listings, statistics(listings), FEATURES)
    plain, mapped = (
        fit(music, music.everything(), FitSettings(4, steps=steps), 4, 0.8, 1) for steps in (0, 20)
    )
    assert plain.plain == "none was asked for"
    assert mapped.plain == ""
    # The same directions, turned and stretched a little.
    found, *_ = np.linalg.lstsq(plain.statistics.projection, mapped.statistics.projection)
    np.testing.assert_allclose(
        plain.statistics.projection @ found, mapped.statistics.projection, atol=1e-4
    )
    assert 0.01 < np.abs(found - np.eye(4)).max() < 0.1
    with pytest.raises(ValueError, match="out of bounds"):
        FitSettings(4, steps=-1)


def test_a_catalogue_of_which_all_is_held_out_does_no_harm() -> None:
    listings = [listing(7), Listing([{}], ["a0"], [frozenset({"name a0"})])]
    music = Music(listings, statistics(listings), FEATURES)
    fitted = fit(music, hold_out(listings, ["a0"]), FitSettings(4, steps=5), 4, 0.8, 1)
    assert fitted.learned == [6]


@pytest.mark.usefixtures("heard")
def test_too_few_artists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HashbeamError, match="3 artists of the first catalogue have 3 tracks"):
        train([listing(3)], tmp_path / "m")
    assert not (tmp_path / "m").exists()
    recipe = dataclasses.replace(RECIPE, listings=[listing(4)])
    folds = ["x" if one != "a0" else "y" for one in recipe.listings[0].artist]
    with pytest.raises(HashbeamError, match="1 artists of 3 tracks or more are left to tune"):
        train_folds(recipe, folds, tmp_path, tmp_path, lambda line: None)


# Music.


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """One track in two files."""
    folder = tmp_path_factory.mktemp("songs")
    encode(render_track(1, 3.1, 22050), 22050, str(folder / "00.wav"), codec="wav")
    shutil.copy(folder / "00.wav", folder / "01.wav")
    return [
        {"track_id": f"t{number}", "uri": str(folder / f"{number:02d}.wav")} for number in range(2)
    ]


def test_tracks_that_fail_are_told_and_what_was_heard_is_kept(
    songs: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artist_heard, "TRACKS_A_FILE", 3)
    broken, silent = tmp_path / "broken.wav", tmp_path / "silent.wav"
    broken.write_bytes(b"RIFF of nothing")
    encode(np.zeros(22050, np.float32), 22050, str(silent), codec="wav")
    mixed = [
        {"track_id": "broken", "uri": str(broken)},
        *songs,
        {"track_id": "silent", "uri": str(silent)},
    ]
    lines: list[str] = []
    heard = hear_catalogue(mixed, ArtistFeatures(), tmp_path, 1, lines.append)
    assert heard.rows == [1, 2]
    assert {track.shape for track in heard.tracks} == {(1, n_statistics(ArtistFeatures()))}
    told = [line.split(": ")[1] for line in lines if line.startswith("left out of training: ")]
    assert told == ["broken", "silent"]
    assert any(line.startswith("heard 4 of 4") for line in lines)
    again: list[str] = []
    same = hear_catalogue(mixed, ArtistFeatures(), tmp_path, 1, again.append)
    np.testing.assert_array_equal(same.tracks, heard.tracks)
    assert not any(line.startswith("heard") for line in again)
    with pytest.raises(HashbeamError, match="no track of the training catalogue"):
        hear_catalogue(mixed[:1], ArtistFeatures(), tmp_path, 1, lines.append)
