"""The job with a true encoder: files are decoded and heard in a child, by several workers."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from disambiguation_music import facts, failures, numbers
from tiny_catalog import write_rows

from hashing.artists.decoder import ArtistDecoder
from hashing.artists.encoder import ArtistEncoder
from hashing.artists.features import ArtistFeatures, segment_statistics
from hashing.artists.measures import MEASURES
from hashing.errors import AudioError
from hashing.models import save_model
from pipelines.cli import main

RATE = 22050  # Hz
FEATURES = ArtistFeatures(segment_s=3.0, n_segments=2)


def voice(seed: int, bright: float, seconds: float = 7.0) -> np.ndarray:
    """Notes of random pitch with overtones that fall the slower the brighter the voice is."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(0.5 * RATE)) / RATE
    notes = []
    for pitch in rng.uniform(110, 330, int(seconds * 2)):
        tones = [bright**k * np.sin(2 * np.pi * pitch * (k + 1) * t) for k in range(12)]
        notes.append(np.sum(tones, axis=0) * np.exp(-4 * t))
    out = np.concatenate(notes) + 1e-3 * rng.standard_normal(t.size * len(notes))
    return (0.5 * out / np.abs(out).max()).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artist model that knows nothing: ranks among a few voices, at random projected."""
    folder = tmp_path_factory.mktemp("models") / "artist"
    known = [voice(seed, 0.2 + 0.06 * seed, 3.5)[: 3 * RATE] for seed in range(10)]
    quantiles = np.sort([segment_statistics(samples, FEATURES) for samples in known], axis=0)
    rng = np.random.default_rng(1)
    arrays = {
        "statistics.weight": np.ones((), np.float32),
        "statistics.quantiles": quantiles.astype(np.float32),
        "statistics.mean": np.zeros(quantiles.shape[1], np.float32),
        "statistics.projection": rng.standard_normal((quantiles.shape[1], 16)).astype(np.float32),
    }
    config = {
        "kind": "artist",
        "features": dataclasses.asdict(FEATURES),
        "cut": 1.0,
    }
    save_model(folder, config, {}, arrays, "# A model for tests")
    return folder


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tracks of a dull voice, four of a bright one, and three that cannot be heard."""
    folder = tmp_path_factory.mktemp("voices")
    rows = []
    for seed in range(8):
        soundfile.write(folder / f"{seed}.wav", voice(seed, 0.2 if seed < 4 else 0.8), RATE)
        rows.append({"track_id": f"t{seed}", "uri": f"{seed}.wav", "artist_name": "Nina"})
    soundfile.write(folder / "silent.wav", np.zeros(5 * RATE, np.float32), RATE)
    soundfile.write(folder / "short.wav", voice(0, 0.5)[: 2 * RATE], RATE)
    samples = voice(1, 0.5)
    samples[RATE : 2 * RATE] = np.nan
    soundfile.write(folder / "nan.wav", samples, RATE, subtype="FLOAT")
    for name in ("silent", "short", "nan"):
        rows.append({"track_id": name, "uri": f"{name}.wav", "artist_name": "Nina"})
    return write_rows(folder / "catalog.csv", rows)


def run(catalog: Path, out: Path, model: Path, workers: int) -> int:
    names = ["--catalog", str(catalog), "--out", str(out), "--model", str(model)]
    return main(["disambiguate", *names, "--workers", str(workers), "--snippets", "2"])


def test_voices_are_told_apart_and_broken_files_do_no_harm(
    catalog: Path, model: Path, tmp_path: Path
) -> None:
    assert run(catalog, tmp_path / "out", model, 1) == 0
    found = numbers(tmp_path / "out")
    assert [found[f"t{seed}"] for seed in range(8)] == [1] * 4 + [2] * 4
    assert failures(tmp_path / "out") == {
        "silent": ("embed", "silent"),
        "short": ("embed", "too-short"),
        "nan": ("decode", "unreadable"),
    }
    (path,) = (tmp_path / "out" / "embeddings").glob("*.parquet")
    rows = pq.read_table(path).to_pylist()
    assert all(row["segments"] == 2 for row in rows)
    bright = {row["track_id"]: row["brightness Hz"] for row in rows}
    assert max(bright[f"t{seed}"] for seed in range(4)) < min(
        bright[f"t{seed}"] for seed in range(4, 8)
    )
    assert "brightness" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_several_workers_hear_the_same(catalog: Path, model: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        # Written by the launcher, so that it need not be known to the workers.
        patched.setattr("pipelines.disambiguation.embed.TRACKS_PER_PART", 4)
        assert run(catalog, tmp_path / "two", model, 2) == 0
    assert run(catalog, tmp_path / "one", model, 1) == 0
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
    assert facts(tmp_path / "two")["run_id"] == facts(tmp_path / "one")["run_id"]
    assert len(list((tmp_path / "two" / "embeddings").iterdir())) == 3


def test_the_child_hears_what_the_encoder_hears(catalog: Path, model: Path) -> None:
    encoder = ArtistEncoder.load(str(model))
    path = str(catalog.parent / "0.wav")
    decoder = ArtistDecoder()
    with decoder:
        decoder.prepare_artist(encoder)
        heard = decoder.embed_file(path, encoder)
        expected = encoder.embed_file(path)
        np.testing.assert_allclose(heard.track.embedding, expected.embedding, atol=1e-6)
        assert heard.track.duration_s == expected.duration_s == 7.0
        assert heard.measures.shape == (len(MEASURES),)
        # A child that dies takes one track with it.
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGKILL)
        while decoder.pid is not None:
            time.sleep(0.01)
        again = decoder.embed_file(path, encoder)
        np.testing.assert_allclose(again.track.embedding, expected.embedding, atol=1e-6)
        for name, kind in (("silent", "silent"), ("none", "missing")):
            with pytest.raises(AudioError) as caught:
                decoder.embed_file(str(catalog.parent / f"{name}.wav"), encoder)
            assert caught.value.kind == kind
        # A child that stands still, however busy the machine is.
        os.kill(decoder.pid, signal.SIGSTOP)
        with pytest.raises(AudioError, match="hangs the decoder"):
            decoder.embed_file(path, encoder, timeout_s=0.1)
