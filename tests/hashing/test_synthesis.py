"""Rendered music is reproducible, varied, and tagged as its catalogue says."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import mutagen
import numpy as np
import pytest

from hashing.audio import decode
from hashing.synthesis import render_catalogue, render_track


def spectrum(samples: np.ndarray) -> np.ndarray:
    """Mean magnitude in 200 bands up to 4 kHz, of unit norm."""
    magnitude = np.abs(np.fft.rfft(samples[: 22050 * 20]))[: 4000 * 20]
    bands = np.log1p(magnitude.reshape(200, -1).mean(axis=1))
    bands = bands - bands.mean()
    return bands / np.linalg.norm(bands)


def test_a_seed_is_a_track() -> None:
    first = render_track(4, 10.0)
    assert first.dtype == np.float32
    assert first.shape == (220_500,)
    np.testing.assert_array_equal(first, render_track(4, 10.0))
    assert not np.array_equal(first, render_track(5, 10.0))


@pytest.mark.parametrize(("duration_s", "rate"), [(0.01, 8000), (1.5, 22050), (3.0, 48000)])
def test_length_and_level(duration_s: float, rate: int) -> None:
    for seed in range(4):
        samples = render_track(seed, duration_s, rate)
        assert len(samples) == round(duration_s * rate)
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() == pytest.approx(0.8, abs=1e-4)


def test_no_second_is_silent() -> None:
    for seed in range(10):
        seconds = render_track(seed, 20.0).reshape(20, -1)
        assert np.sqrt(np.square(seconds).mean(axis=1)).min() > 0.01


def test_tracks_differ_more_than_parts_of_one() -> None:
    tracks = [render_track(seed, 40.0) for seed in range(8)]
    halves = [(spectrum(t[: len(t) // 2]), spectrum(t[len(t) // 2 :])) for t in tracks]
    own = [float(a @ b) for a, b in halves]
    other = [
        float(a @ b) for i, (a, _) in enumerate(halves) for j, (_, b) in enumerate(halves) if i != j
    ]
    assert np.median(own) > np.percentile(other, 90)


def test_no_second_repeats_another() -> None:
    seconds = render_track(2, 60.0).reshape(60, -1)
    seconds = seconds / np.linalg.norm(seconds, axis=1, keepdims=True)
    alike = seconds @ seconds.T
    assert alike[~np.eye(60, dtype=bool)].max() < 0.99


def test_is_fast() -> None:
    render_track(0, 1.0)
    begun = time.process_time()
    render_track(1, 60.0)
    assert 60.0 / (time.process_time() - begun) > 100


def test_refuses_what_it_cannot_render() -> None:
    for wrong in ((-1, 1.0, 8000), (1, 0.0, 8000), (1, 1.0, 100)):
        with pytest.raises(ValueError, match="nothing to render"):
            render_track(*wrong)


@pytest.mark.parametrize("codec", ["ogg", "mp3", "flac", "opus", "m4a", "wav"])
def test_catalogue(tmp_path: Path, codec: str) -> None:
    rows = render_catalogue(tmp_path / "new" / "music", 4, 2.0, seed=9, codec=codec)
    with (tmp_path / "new" / "music" / "catalog.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == rows
    assert len({row["track_id"] for row in rows}) == len({row["title"] for row in rows}) == 4
    assert [row["artist_name"] == rows[0]["artist_name"] for row in rows] == [True] * 3 + [False]
    for number, row in enumerate(rows):
        path = tmp_path / "new" / "music" / row["uri"]
        samples = decode(str(path), 22050)[:44100]
        original = render_track(9 + number, 2.0)[: len(samples)]
        assert np.corrcoef(samples, original[: len(samples)])[0, 1] > 0.9
        tags = mutagen.File(path, easy=True)
        if codec != "wav":
            assert tags["title"] == [row["title"]]
            assert tags["artist"] == [row["artist_name"]]
            assert tags["album"] == [row["album"]]


def test_a_catalogue_is_reproducible(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        render_catalogue(tmp_path / folder, 2, 1.0, seed=1, codec="wav")
    for name in ("catalog.csv", "track-0000.wav", "track-0001.wav"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_titles_stay_apart_in_a_large_catalogue(tmp_path: Path) -> None:
    rows = render_catalogue(tmp_path, 120, 0.05, seed=1, codec="wav")
    assert len({row["title"] for row in rows}) == 120
