"""Artist models: saved, loaded, applied, and refused where they are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hashing import audio
from hashing.artists.encoder import ArtistEncoder, Statistics, normal_scores, unit
from hashing.artists.features import ArtistFeatures, n_statistics, segment_statistics
from hashing.errors import AudioError, ModelError
from hashing.models import load_model, save_model
from hashing.synthesis import render_track
from hashing.training.artists.statistics import rank_table, save_artist_model

FEATURES = ArtistFeatures(segment_s=4.0, n_segments=3)
RATE = FEATURES.sample_rate


@pytest.fixture(scope="module")
def tracks() -> list[np.ndarray]:
    return [render_track(seed, 12.0, RATE) for seed in range(4)]


def segments(track: np.ndarray) -> list[np.ndarray]:
    return [track[at : at + 4 * RATE] for at in range(0, len(track) - 4 * RATE + 1, 4 * RATE)]


@pytest.fixture(scope="module")
def part(tracks: list[np.ndarray]) -> Statistics:
    rows = np.stack([segment_statistics(s, FEATURES) for t in tracks for s in segments(t)])
    rng = np.random.default_rng(0)
    width = n_statistics(FEATURES)
    projection = rng.standard_normal((width, 6)).astype(np.float32)
    return Statistics(FEATURES, rank_table(rows), np.zeros(width, np.float32), projection)


@pytest.fixture
def folder(tmp_path: Path, part: Statistics) -> Path:
    save_artist_model(tmp_path / "m", part, 1.5, {"figures": {}}, "# A model")
    return tmp_path / "m"


def test_a_track_is_the_mean_of_its_segments(
    folder: Path, part: Statistics, tracks: list[np.ndarray]
) -> None:
    encoder = ArtistEncoder.load(str(folder))
    assert encoder.cut == 1.5
    assert encoder.features == FEATURES
    found = encoder.embed(segments(tracks[0]))
    assert found.dtype == np.float32
    assert np.linalg.norm(found) == pytest.approx(1.0, abs=1e-6)
    one_by_one = [
        normal_scores(segment_statistics(s, FEATURES)[None], part.quantiles)[0] @ part.projection
        for s in segments(tracks[0])
    ]
    np.testing.assert_allclose(found, unit(np.mean(one_by_one, axis=0)), atol=1e-4)


def test_the_order_of_segments_and_silence_do_not_matter(
    folder: Path, tracks: list[np.ndarray]
) -> None:
    encoder = ArtistEncoder.load(str(folder))
    silence = np.zeros(4 * RATE, np.float32)
    found = encoder.embed(segments(tracks[1]))
    again = encoder.embed([silence, *reversed(segments(tracks[1]))])
    np.testing.assert_allclose(found, again, atol=1e-5)


def test_a_file_is_its_segments(folder: Path, tmp_path: Path, tracks: list[np.ndarray]) -> None:
    encoder = ArtistEncoder.load(str(folder))
    path = str(tmp_path / "a.wav")
    audio.encode(tracks[2], RATE, path, codec="wav")
    found = encoder.embed_file(path)
    assert (found.n_segments, found.duration_s) == (3, 12.0)
    np.testing.assert_allclose(
        found.embedding, encoder.embed(segments(audio.decode(path, RATE))), atol=1e-5
    )


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ([], "no-samples"),
        ([np.zeros(4 * RATE)], "silent"),
        ([np.ones(RATE)], "too-short"),
        ([np.full(4 * RATE, np.nan)], "unreadable"),
    ],
)
def test_tracks_that_cannot_be_heard_are_told(
    folder: Path, given: list[np.ndarray], kind: str
) -> None:
    with pytest.raises(AudioError) as caught:
        ArtistEncoder.load(str(folder)).embed(given)
    assert caught.value.kind == kind


def test_the_digest_tells_what_changes_an_embedding(
    folder: Path, tmp_path: Path, part: Statistics
) -> None:
    digest = ArtistEncoder.load(str(folder)).digest
    same = save_artist_model(tmp_path / "b", part, 1.9, {"figures": {"ARI": 1}}, "# Another card")
    assert same.digest == digest  # the cut draws clusters; embeddings can be used again
    other = Statistics(part.features, part.quantiles, part.mean, part.projection * 1.01)
    assert save_artist_model(tmp_path / "c", other, 1.5, {}, "# C").digest != digest


def damaged(folder: Path, config: dict[str, object], arrays: dict[str, object]) -> str:
    model = load_model(str(folder))
    changed = {k: v for k, v in {**model.arrays, **arrays}.items() if v is not None}
    save_model(folder, {**model.config, **config}, {}, changed, "# D")
    return str(folder)


@pytest.mark.parametrize(
    ("config", "arrays", "message"),
    [
        ({"kind": "signs"}, {}, "of the kind 'signs'"),
        ({"cut": 0.0}, {}, "cut must be above 0"),
        ({"cut": None}, {}, "is damaged"),
        ({"features": {"wavelets": 1}}, {}, "later version"),
        ({}, {"statistics.mean": None}, "lacks the array statistics.mean"),
        ({}, {"statistics.mean": np.zeros(3, np.float32)}, "do not fit"),
        ({}, {"statistics.weight": None}, "no parts"),
        ({}, {"statistics.weight": np.array([-1.0])}, "must be above 0"),
        ({}, {"dreams.weight": np.array([1.0])}, "parts .'dreams'.*later version"),
    ],
)
def test_damaged_models_are_refused(
    folder: Path, config: dict[str, object], arrays: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        ArtistEncoder.load(damaged(folder, config, arrays))


def test_numbers_that_are_none_are_refused(folder: Path, part: Statistics) -> None:
    broken = part.projection.copy()
    broken[0, 0] = np.nan
    with pytest.raises(ModelError, match="must be finite"):
        ArtistEncoder.load(damaged(folder, {}, {"statistics.projection": broken}))


def test_config_is_plain_json(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert (config["kind"], config["cut"]) == ("artist", 1.5)
    assert config["features"]["segment_s"] == 4.0
