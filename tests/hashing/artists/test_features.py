"""Statistics of segments: what they are made of, where they stand, and which segments are heard."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.artists.features import (
    MIN_SEGMENT_S,
    ArtistFeatures,
    blocks,
    n_statistics,
    segment_blocks,
    segment_statistics,
)
from hashing.errors import AudioError, ModelError
from hashing.synthesis import render_track

SETTINGS = ArtistFeatures()


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    return render_track(3, 12.0, SETTINGS.sample_rate)


def test_blocks_stand_one_after_another(music: np.ndarray) -> None:
    vector = segment_statistics(music, SETTINGS)
    assert vector.shape == (n_statistics(SETTINGS),)
    assert vector.dtype == np.float32
    found, at = segment_blocks(music, SETTINGS), 0
    for name, place in blocks(SETTINGS).items():
        assert place.start == at
        np.testing.assert_array_equal(vector[place], found[name].ravel())
        at = place.stop
    assert at == len(vector)


@pytest.mark.parametrize("seconds", [3.0, 4.7, 10.0, 31.0])
@pytest.mark.parametrize("what", ["silence", "constant", "square", "click", "tiny"])
def test_anything_has_finite_statistics(seconds: float, what: str) -> None:
    n = int(seconds * SETTINGS.sample_rate)
    samples = {
        "silence": np.zeros(n),
        "constant": np.ones(n),
        "square": np.sign(np.sin(np.arange(n) * 0.02)),
        "click": np.eye(1, n, n // 2)[0],
        "tiny": np.full(n, 1e-30),
    }[what]
    vector = segment_statistics(samples.astype(np.float32), SETTINGS)
    assert np.isfinite(vector).all()
    assert np.abs(vector).max() < 1e4


def test_a_segment_that_is_too_short_is_told() -> None:
    with pytest.raises(AudioError, match=r"2\.90 s is shorter than 3 s") as caught:
        segment_statistics(np.zeros(int(2.9 * 22050), np.float32), SETTINGS)
    assert caught.value.kind == "too-short"


def test_volume_changes_the_level_alone(music: np.ndarray) -> None:
    # Some noise, so that no band is as quiet as the floor, which is absolute.
    noise = np.random.default_rng(0).standard_normal(music.size).astype(np.float32) * 0.01
    one = segment_blocks(music + noise, SETTINGS)
    half = segment_blocks((music + noise) * 0.5, SETTINGS)
    assert one["level"][0] - half["level"][0] == pytest.approx(6.02, abs=0.01)
    for name in ("mfcc mean", "band mean", "chroma mean", "tempogram", "modulation", "dynamics"):
        np.testing.assert_allclose(one[name], half[name], atol=0.05, err_msg=name)


def test_two_pieces_differ_more_than_two_parts_of_one() -> None:
    def heard(seed: int) -> np.ndarray:
        whole = render_track(seed, 20.0, SETTINGS.sample_rate)
        half = len(whole) // 2
        return np.stack(
            [segment_statistics(part, SETTINGS) for part in (whole[:half], whole[half:])]
        )

    tracks = np.stack([heard(seed) for seed in range(5)])  # [5, 2, F]
    scaled = tracks / (tracks.reshape(10, -1).std(axis=0) + 1e-6)
    within = np.linalg.norm(scaled[:, 0] - scaled[:, 1], axis=1).mean()
    between = np.linalg.norm(scaled[:, None, 0] - scaled[None, :, 0], axis=2).sum() / 20
    assert within < 0.8 * between


@given(st.floats(0.1, 4000.0), st.integers(1, 30), st.floats(MIN_SEGMENT_S, 60.0))
def test_segments_lie_within_the_track(duration: float, count: int, length: float) -> None:
    found = ArtistFeatures(n_segments=count, segment_s=length).segments_of(duration)
    assert 1 <= len(found) <= count
    starts = np.array([start for start, _ in found])
    ends = np.array([start + seconds for start, seconds in found])
    assert starts[0] >= 0
    assert ends[-1] <= duration + 1e-6
    assert (starts[1:] >= ends[:-1] - 1e-6).all()  # none is heard twice
    if len(found) > 2:
        np.testing.assert_allclose(np.diff(starts), starts[1] - starts[0], atol=1e-6)


def test_one_segment_is_the_middle_of_the_track() -> None:
    assert ArtistFeatures(n_segments=1).segments_of(30.0) == [(10.0, 10.0)]


def test_settings_survive_json_and_mistakes_are_told() -> None:
    text = json.dumps(dataclasses.asdict(SETTINGS))
    assert ArtistFeatures.from_json(json.loads(text)) == SETTINGS
    with pytest.raises(ModelError, match="later version"):
        ArtistFeatures.from_json({"wavelets": 3})
    for wrong, message in (
        ({"segment_s": 1.0}, "below 3"),
        ({"fmax": 20000.0}, "must rise within"),
        ({"n_bands": 60}, "multiple of 8"),
        ({"n_fft": 10.5}, "not a whole number"),
        ({"hop_length": 0}, "not within"),
        ({"n_fft": "x"}, "not a number"),
    ):
        with pytest.raises(ModelError, match=message):
            ArtistFeatures(**wrong)
