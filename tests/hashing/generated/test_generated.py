"""Generated artists: reproducible, alike within an artist, and written as a catalogue says."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hashing import audio
from hashing.errors import UsageError
from hashing.generated import GENRES, Artist, Song, write_catalogue
from hashing.generated.catalogue import COLUMNS, COMPILATION, plan

RATE = 11025  # half the usual rate: half the time


def songs(artist: Artist, n: int, seconds: float = 6.0) -> list[Song]:
    return [artist.song(k // 2, k, seconds=seconds, sample_rate=RATE) for k in range(n)]


def timbre(song: Song) -> np.ndarray:
    """Mean level in 24 bands, an equal step of pitch apart, in dB."""
    blocks = song.samples[: len(song.samples) // 1024 * 1024].reshape(-1, 1024)
    power = np.abs(np.fft.rfft(blocks * np.hanning(1024)))[:, 4:] ** 2
    edges = np.unique(np.geomspace(1, power.shape[1], 25).astype(int))
    bands = np.add.reduceat(power.mean(0), edges[:-1] - 1)
    level: np.ndarray = 10 * np.log10(bands + 1e-9)
    return level - level.mean()


def test_a_seed_is_an_artist_and_its_songs() -> None:
    first, again = Artist.draw(5), Artist.draw(5)
    song, same = (a.song(1, 2, seconds=3.0, sample_rate=RATE) for a in (first, again))
    np.testing.assert_array_equal(song.samples, same.samples)
    assert (song.title, song.album, song.release_date) == (
        same.title,
        same.album,
        same.release_date,
    )
    other = first.song(1, 3, seconds=3.0, sample_rate=RATE)
    assert not np.array_equal(song.samples, other.samples)
    assert song.album == other.album


@pytest.mark.parametrize("genre", GENRES)
def test_every_genre_renders_clean_audio_and_facts_that_fit(genre: str) -> None:
    artist = Artist.draw(11, genre)
    song = artist.song(0, 0, seconds=2.5)
    assert song.samples.shape == (55125,)
    assert song.samples.dtype == np.float32
    assert np.isfinite(song.samples).all()
    assert 0.01 < np.abs(song.samples).max() <= 0.98
    assert song.genres[0] == genre
    assert song.mood in GENRES[genre].moods.split()
    assert GENRES[genre].years[0] <= song.year <= GENRES[genre].years[1]


def test_albums_follow_one_another() -> None:
    for seed in range(20):
        artist = Artist.draw(seed)
        dates = [artist.facts(album, 0).release_date for album in range(3)]
        years = [int(date[:4]) for date in dates]
        assert years == sorted(years)
        assert len({artist.facts(album, 0).album for album in range(3)}) > 1
        assert {artist.facts(1, k).release_date for k in range(4)} == {dates[1]}


def test_an_artist_is_more_like_itself_than_like_others_but_not_always() -> None:
    seeds = [3, 4, 5, 6, 7, 8]
    shapes = np.array([[timbre(s) for s in songs(Artist.draw(seed), 4)] for seed in seeds])
    flat = shapes.reshape(24, -1)
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    owner = np.repeat(np.arange(6), 4)
    same = owner[:, None] == owner[None]
    own, other = distances[same & (distances > 0)], distances[~same]
    assert own.mean() < 0.85 * other.mean()
    # Hard, as music is: some songs are nearer to another artist's than to their own.
    assert own.max() > np.quantile(other, 0.1)


def test_moods_tempos_and_scales_differ_within_an_artist() -> None:
    artist = Artist.draw(2, "pop")
    made = [artist.song(0, k, seconds=0.5, sample_rate=8000) for k in range(12)]
    assert len({round(song.tempo) for song in made}) > 6
    assert max(song.tempo for song in made) / min(song.tempo for song in made) < 2
    assert len({song.title for song in made}) > 8


@pytest.mark.parametrize("bad", [{"seconds": 0.1}, {"seconds": 1e9}, {"sample_rate": 100}])
def test_impossible_songs_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="nothing to render"):
        Artist.draw(1).song(0, 0, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="genre 'polka' is none of rock, "):
        Artist.draw(1, "polka")


def test_a_guest_sings_and_is_named() -> None:
    host, guest = Artist.draw(21, "pop"), Artist.draw(22, "rock")
    alone = host.song(0, 0, seconds=8.0, sample_rate=RATE)
    duet = host.song(0, 0, seconds=8.0, sample_rate=RATE, guest=guest)
    assert duet.artist_name == f"{host.name}; {guest.name}"
    assert alone.artist_name == host.name
    assert not np.array_equal(alone.samples, duet.samples)


def test_rendering_is_quick() -> None:
    artist = Artist.draw(9, "rock")
    artist.song(0, 0, seconds=2.0)
    begin = time.process_time()
    for number in range(3):
        artist.song(0, number, seconds=30.0)
    # 230 times real time on one core of a 2.1 GHz server; a slow or busy machine reaches a third.
    assert time.process_time() - begin < 90 / 70


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "catalog.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_catalogue_is_complete_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "music"
    rows = write_catalogue(folder, 3, 2, 2, 1.0, seed=4, codec="flac", show=False)
    assert rows == rows_of(folder)
    assert tuple(rows[0]) == COLUMNS
    assert len({row["track_id"] for row in rows}) == 6
    assert len({row["artist_name"] for row in rows}) == 3
    for row in rows:
        assert len(audio.decode(str(folder / row["uri"]), 22050)) == 22050
    lost, kept = folder / rows[4]["uri"], folder / rows[0]["uri"]
    before, stamp = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    write_catalogue(folder, 3, 2, 2, 1.0, seed=4, codec="flac", show=False)
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == stamp
    assert not list(folder.rglob("*.part"))


def test_workers_write_the_same(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    rows = write_catalogue(one, 2, 1, 1, 1.0, seed=4, codec="flac", show=False)
    write_catalogue(two, 2, 1, 1, 1.0, seed=4, codec="flac", workers=2, show=False)
    for row in rows:
        assert (one / row["uri"]).read_bytes() == (two / row["uri"]).read_bytes()


def test_other_folders_are_refused(tmp_path: Path) -> None:
    write_catalogue(tmp_path / "a", 1, 1, 1, 0.5, seed=1, codec="flac", show=False)
    with pytest.raises(UsageError, match="other settings"):
        write_catalogue(tmp_path / "a", 1, 1, 1, 0.5, seed=2, codec="flac", show=False)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write_catalogue(tmp_path / "b", 1, 1, 1, 0.5, seed=1, show=False)
    with pytest.raises(UsageError, match=r"no \.mid files"):
        write_catalogue(tmp_path / "c", 1, 1, 1, 0.5, seed=1, midi=tmp_path / "b", show=False)
    with pytest.raises(ValueError, match="too few"):
        write_catalogue(tmp_path / "c", 3, 1, 1, 0.5, seed=1, homonyms=2)
    (tmp_path / "a" / "generated.json").write_text(json.dumps([])[:1])
    with pytest.raises(UsageError, match="other settings"):
        write_catalogue(tmp_path / "a", 1, 1, 1, 0.5, seed=1, codec="flac", show=False)


def test_genres_take_turns_and_names_are_told_apart() -> None:
    jobs = plan(240, 2, 2, 3, "ogg")
    genre = {job.row["artist_id"]: job.row["genres"].split(";")[0] for job in jobs}
    assert set(Counter(genre.values()).values()) == {20}
    assert len({job.row["artist_name"] for job in jobs}) == 240
    assert all(job.row["uri"].startswith(job.row["artist_id"] + "/") for job in jobs)


def test_homonyms_aliases_duets_and_a_compilation() -> None:
    jobs = plan(30, 2, 4, 3, "ogg", homonyms=2, aliases=3, duets=4, compilation=5)
    rows = [job.row for job in jobs]
    assert len(rows) == 30 * 4 + 4 + 5
    solo = [row for row in rows if ";" not in row["artist_id"]]
    ids: dict[str, set[str]] = {}
    names: dict[str, set[str]] = {}
    for row in solo:
        ids.setdefault(row["artist_name"], set()).add(row["artist_id"])
        names.setdefault(row["artist_id"], set()).add(row["artist_name"])
    assert Counter(len(found) for found in ids.values()) == {1: 26 + 3, 2: 2}
    assert Counter(len(found) for found in names.values()) == {1: 27, 2: 3}
    duets = [row for row in rows if ";" in row["artist_id"]]
    assert len(duets) == 4
    for row, job in zip(duets, (job for job in jobs if job.guest), strict=True):
        first, second = row["artist_id"].split("; ")
        assert row["artist_name"].count("; ") == 1
        assert first != second
        assert job.guest is not None
    various = [row for row in rows if row["album"] == COMPILATION]
    assert len(various) == len({row["artist_name"] for row in various}) == 5
