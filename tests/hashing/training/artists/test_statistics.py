"""Fitting artist models: on tracks whose artists differ in ways that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.covariance import shrunk_covariance
from sklearn.metrics import adjusted_rand_score

from hashing.artists.encoder import Statistics, normal_scores, unit
from hashing.artists.features import ArtistFeatures, blocks, n_statistics
from hashing.training.artists.statistics import (
    FitSettings,
    fit_statistics,
    inverse_root,
    rank_table,
    track_means,
    within_covariance,
)

FEATURES = ArtistFeatures()
WIDTH = n_statistics(FEATURES)


def catalogue(
    artists: int = 12, tracks: int = 6, segments: int = 4, seed: int = 0
) -> tuple[list[np.ndarray], np.ndarray]:
    """Statistics of tracks, and their artists: artists differ in 20 directions, tracks in others.

    Each statistic has a scale of its own, and a few loud directions say nothing of artists.
    """
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(0, 2, WIDTH))
    of_artists, of_tracks = rng.standard_normal((20, WIDTH)), rng.standard_normal((4, WIDTH))
    out, who = [], []
    for artist in range(artists):
        centre = rng.standard_normal(20) @ of_artists
        for _ in range(tracks):
            track = centre + 3.0 * rng.standard_normal(4) @ of_tracks
            noise = 3.0 * rng.standard_normal((segments, WIDTH))
            out.append(((track + noise) * scale).astype(np.float32))
            who.append(artist)
    return out, np.array(who)


def embedded(part: Statistics, tracks: list[np.ndarray]) -> np.ndarray:
    return unit(np.stack([part.project(track) for track in tracks]))


def apart(embeddings: np.ndarray, who: np.ndarray) -> float:
    """ARI of as many clusters as there are artists."""
    labels = fcluster(linkage(embeddings, "ward"), len(set(who.tolist())), "maxclust")
    return float(adjusted_rand_score(who, labels))


def test_loud_directions_are_held_back() -> None:
    tracks, who = catalogue()
    plain = apart(embedded(fit_statistics(tracks, FEATURES, FitSettings(power=1.0)), tracks), who)
    half = apart(embedded(fit_statistics(tracks, FEATURES, FitSettings(power=0.4)), tracks), who)
    assert half > plain + 0.1
    assert half > 0.6


def test_whitening_within_artists_finds_what_is_theirs() -> None:
    tracks, who = catalogue()
    none = apart(embedded(fit_statistics(tracks, FEATURES, FitSettings(power=1.0)), tracks), who)
    settings = FitSettings(power=1.0, within="artist", shrinkage=0.05)
    known = fit_statistics(tracks, FEATURES, settings, who.tolist())
    assert apart(embedded(known, tracks), who) > none + 0.2


def test_whitening_within_tracks_takes_the_noise_of_segments() -> None:
    rng = np.random.default_rng(1)
    tracks, who = catalogue()
    loud = rng.standard_normal((2, WIDTH)) * np.concatenate(tracks).std(axis=0)
    noisy = [
        (track + 4 * rng.standard_normal((len(track), 2)) @ loud).astype(np.float32)
        for track in tracks
    ]
    settings = FitSettings(power=1.0, within="track", shrinkage=0.05)
    white = apart(embedded(fit_statistics(noisy, FEATURES, settings), noisy), who)
    plain = apart(embedded(fit_statistics(noisy, FEATURES, FitSettings(power=1.0)), noisy), who)
    assert white > plain


def test_power_sets_the_deviations_of_directions() -> None:
    tracks, _ = catalogue()
    raw, half = (
        np.stack([part.project(track) for track in tracks])
        for part in (fit_statistics(tracks, FEATURES, FitSettings(10, p)) for p in (1.0, 0.5))
    )
    np.testing.assert_allclose(half.std(axis=0) ** 2, raw.std(axis=0), rtol=1e-3)
    np.testing.assert_allclose(raw.mean(axis=0), 0.0, atol=1e-3)


def test_blocks_weigh_alike() -> None:
    tracks, _ = catalogue()
    # A block as loud as all others together is none the louder.
    place = blocks(FEATURES)["mfcc correlation"]
    part = fit_statistics(tracks, FEATURES, FitSettings(components=10_000, power=1.0))
    points = np.stack([part.project(track) for track in tracks])
    assert (points**2).sum(axis=1).mean() == pytest.approx(len(blocks(FEATURES)), rel=0.01)
    wide = np.linalg.norm(part.projection[place], axis=1).mean()
    narrow = np.linalg.norm(part.projection[blocks(FEATURES)["key"]], axis=1).mean()
    assert narrow > 5 * wide  # of 3 statistics each weighs more than of 190


def test_a_weight_of_two_is_a_track_twice() -> None:
    tracks, _ = catalogue(4, 3)
    weights = np.ones(len(tracks))
    weights[:3] = 2.0
    # The ranks are of the tracks as they are, so those are given alike.
    weighted = fit_statistics(tracks, FEATURES, FitSettings(5), weights=weights)
    assert not np.allclose(weighted.mean, fit_statistics(tracks, FEATURES, FitSettings(5)).mean)
    counts = np.array([len(track) for track in tracks])
    means = track_means(
        normal_scores(np.concatenate(tracks), weighted.quantiles).astype(np.float64), counts
    )
    np.testing.assert_allclose(
        weighted.mean, np.concatenate([means, means[:3]]).mean(axis=0), atol=1e-5
    )


def test_what_cannot_be_fitted_is_told() -> None:
    tracks, _ = catalogue(2, 1)
    with pytest.raises(ValueError, match="too few"):
        fit_statistics(tracks[:1], FEATURES)
    with pytest.raises(ValueError, match="no segment"):
        fit_statistics([tracks[0], tracks[1][:0]], FEATURES)
    with pytest.raises(ValueError, match="no artist has two tracks"):
        fit_statistics(tracks, FEATURES, FitSettings(within="artist"), [None, "x"])
    with pytest.raises(ValueError, match="none of none, track, artist"):
        FitSettings(within="album")
    with pytest.raises(ValueError, match="out of bounds"):
        FitSettings(power=2.0)


@given(st.integers(0, 10_000))
def test_ranks_do_not_change_with_the_scale(seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((200, 2)).astype(np.float32)
    stretched = np.exp(3.0 * values)
    one = normal_scores(values, rank_table(values))
    other = normal_scores(stretched, rank_table(stretched))
    # Between two entries of the table the scale still shows.
    assert np.abs(one - other).max() < 0.25
    order = np.argsort(values[:, 0])
    assert (np.diff(other[order, 0]) >= 0).all()


def test_covariance_within_groups_is_the_pooled_one() -> None:
    rng = np.random.default_rng(2)
    groups = [rng.standard_normal((n, 3)) @ np.diag([1.0, 2.0, 3.0]) + n for n in (5, 2, 1, 9)]
    counts = np.array([len(group) for group in groups])
    pooled = sum((len(g) - 1) * np.cov(g.T) for g in groups if len(g) > 1) / (counts - 1).sum()
    found = within_covariance(np.concatenate(groups), np.ones(counts.sum()), counts)
    np.testing.assert_allclose(found, pooled, rtol=1e-9)


def test_the_inverse_root_whitens_the_shrunk_covariance() -> None:
    rng = np.random.default_rng(3)
    covariance = np.cov(rng.standard_normal((5, 50)) * np.arange(1, 6)[:, None])
    root = inverse_root(covariance, 0.3)
    shrunk = shrunk_covariance(covariance / np.trace(covariance) * 5, 0.3)
    np.testing.assert_allclose(root @ shrunk @ root, np.eye(5), atol=1e-9)
