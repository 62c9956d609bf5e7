from __future__ import annotations

import math

import numpy as np
import pytest
from training_fixture import FEATURES, RATE, corpus_of, music, small_pool

from hashing import conditions
from hashing.conditions import Surroundings
from hashing.features import spectrogram
from hashing.snippets import standardise
from hashing.synthesis import render_track
from hashing.training import augment
from hashing.training.augment import degrade
from hashing.training.discriminant import fit_discriminant
from hashing.training.pool import SnippetPool, build_pool


def test_a_snippet_is_a_slice_of_a_spectrogram() -> None:
    spectra = np.arange(3 * 2 * 18 * 16, dtype=np.float16).reshape(3, 2, 18, 16)
    made = SnippetPool(spectra, FEATURES)
    assert made.offsets == 5
    excerpt, version, offset = np.array([2, 0]), np.array([1, 0]), np.array([4, 0])
    found = made.snippets(excerpt, version, offset)
    assert found.shape == (2, 16, 14)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], spectra[2, 1, 4:18].T)
    np.testing.assert_array_equal(found[1], spectra[0, 0, :14].T)


def test_a_pool_is_decided_by_its_seed() -> None:
    first, again, other = (small_pool(6, seed=seed, tracks=4) for seed in (1, 1, 2))
    assert first.spectra.shape == (6, 4, 18, 16)
    assert first.spectra.dtype == np.float16
    np.testing.assert_array_equal(first.spectra, again.spectra)
    assert not np.array_equal(first.spectra, other.spectra)


def test_the_first_version_is_clean_and_the_others_are_of_the_same_moment() -> None:
    made = small_pool(40, versions=5)
    clean = made.spectra[:, 0].astype(np.float64)
    assert np.isfinite(clean).all()

    def likeness(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])

    same = [likeness(clean[e], made.spectra[e, v]) for e in range(40) for v in range(1, 5)]
    unlike = [likeness(clean[e], clean[(e + 7) % 40]) for e in range(40)]
    assert np.mean(same) > np.mean(unlike) + 0.1
    # Noise fills the gaps: degraded versions have less contrast.
    assert made.spectra[:, 1:].astype(float).std() < clean.std()


def test_the_clean_version_is_found_in_its_track() -> None:
    track = render_track(7, 4.0, RATE)
    made = build_pool(corpus_of([track]), [0], 3, 2, 5, FEATURES, Surroundings(RATE), 1)
    frames = made.spectra.shape[2]
    needed = (frames - 1) * FEATURES.hop_length + FEATURES.n_fft
    whole = track.astype(np.float16).astype(np.float32)
    rng = np.random.default_rng(1)
    rng.permutation([0])
    first = int(rng.integers(track.size - needed - FEATURES.hop_length))
    expected = spectrogram([whole[first : first + needed]], FEATURES)
    np.testing.assert_allclose(made.spectra[0, 0], expected, atol=0.1)


def test_tracks_take_turns() -> None:
    # Each track is a tone of its own, so that an excerpt tells where it is from.
    tones = [np.sin(2 * np.pi * f * np.arange(4 * RATE) / RATE) for f in (300, 700, 1500, 3000)]
    music = corpus_of([tone.astype(np.float32) for tone in tones])
    made = build_pool(music, [0, 1, 3], 9, 1, 5, FEATURES, Surroundings(RATE), 1)
    loudest = made.spectra[:, 0].mean(axis=1).argmax(axis=1)
    counts = np.unique(loudest, return_counts=True)[1]
    assert counts.tolist() == [3, 3, 3]


def test_silence_is_passed_over() -> None:
    track = render_track(1, 12.0, RATE)
    track[: 9 * RATE] = 0.0
    made = build_pool(corpus_of([track]), [0], 20, 1, 5, FEATURES, Surroundings(RATE), 1)
    levels = made.spectra[:, 0].astype(float).max(axis=(1, 2))
    assert np.mean(levels > -40.0) > 0.9


def test_a_track_shorter_than_an_excerpt_is_filled_up_with_silence() -> None:
    made = build_pool(music(1, 0.3), [0], 2, 2, 5, FEATURES, Surroundings(RATE), 1)
    clean = made.spectra[:, 0].astype(float)
    assert np.all(clean[:, 0].max(axis=1) > -60.0)
    np.testing.assert_array_equal(clean[:, -1], -100.0)


def test_degradations_happen_as_often_as_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = dict.fromkeys(("equalise", "clip", "reverberate", "add_noise", "recode"), 0)
    ratios: list[float] = []
    codecs: list[tuple[object, ...]] = []

    def counted(name: str):  # type: ignore[no-untyped-def]
        def call(samples: np.ndarray, *args: float) -> np.ndarray:
            counts[name] += 1
            if name == "add_noise":
                ratios.append(args[1])
            if name == "recode":
                codecs.append(args)
            return samples

        return call

    for name in ("equalise", "clip", "reverberate", "add_noise"):
        monkeypatch.setattr(conditions, name, counted(name))
    monkeypatch.setattr(augment, "recode", counted("recode"))
    rng = np.random.default_rng(1)
    samples, n = np.ones(64, np.float32), 4000
    for _ in range(n):
        degrade(samples, Surroundings(RATE), rng)
    changed = 1 - augment.CLEAN_CHANCE
    for name, chance in (
        ("equalise", augment.EQUALISER_CHANCE),
        ("clip", augment.CLIP_CHANCE),
        ("reverberate", augment.ROOM_CHANCE),
        ("add_noise", augment.NOISE_CHANCE),
        ("recode", augment.CODEC_CHANCE),
    ):
        deviation = math.sqrt(changed * chance / n)
        assert abs(counts[name] / n - changed * chance) < 4 * deviation
    # Below the 0 dB that look-up is measured at, and above what nobody notices.
    assert -5.0 <= min(ratios) < -4.5
    assert 14.5 < max(ratios) <= 15.0
    assert set(codecs) == {(RATE, "mp3", 64_000), (RATE, "opus", 24_000)}


def test_rooms_are_statistical_or_of_the_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    own = np.array([1.0, 0.5], np.float32)
    heard: list[bool] = []

    def kept(samples: np.ndarray, room: np.ndarray) -> np.ndarray:
        heard.append(room is own)
        return samples

    monkeypatch.setattr(conditions, "reverberate", kept)
    monkeypatch.setattr(augment, "CODEC_CHANCE", 0.0)
    monkeypatch.setattr(augment, "NOISE_CHANCE", 0.0)
    rng, n = np.random.default_rng(6), 2000
    for _ in range(n):
        degrade(np.ones(64, np.float32), Surroundings(RATE, (), [own]), rng)
    share = 1.0 - augment.STATISTICAL_ROOM_CHANCE
    assert abs(np.mean(heard) - share) < 4 * math.sqrt(share * (1 - share) / len(heard))


def test_a_codec_comes_last_and_takes_what_it_always_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("EQUALISER_CHANCE", "CLIP_CHANCE", "ROOM_CHANCE", "NOISE_CHANCE", "CLEAN_CHANCE"):
        monkeypatch.setattr(augment, name, 0.0)
    monkeypatch.setattr(augment, "CODEC_CHANCE", 1.0)
    samples = render_track(3, 1.5, RATE)
    versions = [degrade(samples, Surroundings(RATE), np.random.default_rng(s)) for s in range(6)]
    # The same moment in one of two codecs, a little changed.
    assert len({version.tobytes() for version in versions}) == 2
    for version in versions:
        assert version.shape == samples.shape
        assert version.dtype == np.float32
        assert 0.95 < np.corrcoef(version, samples)[0, 1] < 1.0


def test_degraded_music_keeps_its_length_and_its_source() -> None:
    rng = np.random.default_rng(2)
    samples = render_track(3, 1.5, RATE)
    before = samples.copy()
    versions = [degrade(samples, Surroundings(RATE), rng) for _ in range(40)]
    assert all(version.shape == samples.shape for version in versions)
    assert all(version.dtype == np.float32 for version in versions)
    assert all(np.isfinite(version).all() for version in versions)
    np.testing.assert_array_equal(samples, before)
    same = sum(np.array_equal(version, samples) for version in versions)
    assert 1 <= same <= 15
    again = [degrade(samples, Surroundings(RATE), np.random.default_rng(3)) for _ in range(2)]
    np.testing.assert_array_equal(again[0], again[1])


def test_recorded_ambiences_are_heard() -> None:
    # Silent music is left alone, so the music is faint and the ambience a tone.
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    rng = np.random.default_rng(4)
    quiet = (1e-3 * rng.standard_normal(RATE)).astype(np.float32)
    found = 0
    for _ in range(60):
        out = degrade(quiet, Surroundings(RATE, [tone]), rng)
        spectrum = np.abs(np.fft.rfft(out)) ** 2
        found += spectrum[1000] > 20 * np.median(spectrum)
    assert found >= 20  # 0.92 * 0.8 * 0.7 of 60, most of them loud enough, is 31


def patterned_pool(seed: int) -> SnippetPool:
    """Excerpts that differ in two patterns, versions that differ in two others."""
    rng = np.random.default_rng(seed)
    patterns = rng.standard_normal((4, 16, 14))
    spectra = rng.normal(-20, 1.0, (150, 6, 14, 16))
    own = rng.normal(0, 4.0, (150, 1, 2)) * np.ones((1, 6, 1))
    heard = rng.normal(0, 12.0, (150, 6, 2))
    weights = np.concatenate((own, heard), axis=2)
    spectra += np.einsum("evp,pbf->evfb", weights, patterns)
    return SnippetPool(spectra.astype(np.float16), FEATURES)


def test_the_front_keeps_what_tells_excerpts_apart() -> None:
    made = patterned_pool(1)
    front = fit_discriminant(made, 2, seed=1)
    assert front.shape == (16 * 14, 2)
    assert front.dtype == np.float32
    rng = np.random.default_rng(9)

    def ratio(projected: np.ndarray) -> np.ndarray:
        by_excerpt = projected.reshape(150, 6, -1)
        return by_excerpt.mean(axis=1).var(axis=0) / by_excerpt.var(axis=1).mean(axis=0)

    excerpt, version = (part.ravel() for part in np.mgrid[:150, :6])
    cut = standardise(made.snippets(excerpt, version, np.zeros(900, np.int64)), FEATURES)
    kept = ratio(cut @ front)
    random = ratio(cut @ rng.standard_normal((224, 50)))
    assert kept.min() > 10 * random.mean()


def test_columns_of_the_front_shrink_with_what_noise_drowns() -> None:
    made = patterned_pool(2)
    front = fit_discriminant(made, 12, seed=1)
    excerpt, version = (part.ravel() for part in np.mgrid[:150, :6])
    cut = standardise(made.snippets(excerpt, version, np.zeros(900, np.int64)), FEATURES)
    scale = (cut @ front).std(axis=0)
    # Two patterns tell excerpts apart; all further columns are noise, and come out small.
    assert scale[:2].min() > 1.2 * scale[3:].max()
    # The mean square of all columns together is about one, whatever their number.
    few = (cut @ fit_discriminant(made, 2, seed=1)).std(axis=0)
    assert 0.5 < np.sqrt(np.mean(few**2)) < 2.0
    np.testing.assert_array_equal(front, fit_discriminant(made, 12, seed=1))
