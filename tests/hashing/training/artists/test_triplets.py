from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hashing.training.artists.tags import Tags
from hashing.training.artists.triplets import (
    COLLAPSED,
    MARGIN,
    SideInformation,
    anchor_pairs,
    contrastive_loss,
    draw_triplets,
    spread,
    triplet_loss,
)


@given(n=st.integers(2, 6), samples=st.integers(2, 5), seed=st.integers(0, 99))
def test_all_pairs_of_an_artist_are_there_once(n: int, samples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    artists = rng.permutation(np.repeat(np.arange(n), samples))
    triplets = draw_triplets(artists, rng)
    assert len(triplets) == n * samples * (samples - 1) // 2
    assert len({frozenset(pair) for pair in triplets[:, :2].tolist()}) == len(triplets)
    of = artists[triplets]
    assert np.all(of[:, 0] == of[:, 1])
    assert np.all(of[:, 0] != of[:, 2])
    assert np.array_equal(triplets[:, :2], anchor_pairs(artists))


def test_every_negative_is_as_likely() -> None:
    artists = np.array([0, 0, 1, 2, 2, 2])
    rng = np.random.default_rng(0)
    first = [draw_triplets(artists, rng)[0, 2] for _ in range(4000)]
    counts = np.bincount(first, minlength=6)
    assert counts[:2].sum() == 0
    assert np.all(np.abs(counts[2:] - 1000) < 150)


@pytest.mark.parametrize("artists", [[0, 0, 0], [0, 1, 2]])
def test_a_batch_without_triplets_is_refused(artists: list[int]) -> None:
    with pytest.raises(ValueError, match="two segments of one artist"):
        draw_triplets(np.array(artists), np.random.default_rng(0))


# Which triplets are learned from.


def on_a_line(near: float, far: float) -> torch.Tensor:
    """Anchor, positive and negative at such squared distances from the anchor."""
    return torch.tensor([[0.0], [math.sqrt(near)], [-math.sqrt(far)]], requires_grad=True)


@pytest.mark.parametrize(
    ("near", "far", "loss", "hard"),
    [
        (1.0, 0.5, 0.7, 1.0),  # the negative is nearer
        (1.0, 1.1, 0.1, 0.0),  # semi-hard: farther, but within the margin
        (1.0, 1.3, 0.0, 0.0),  # easy
    ],
)
def test_hard_and_semi_hard_triplets_are_kept(
    near: float, far: float, loss: float, hard: float
) -> None:
    points = on_a_line(near, far)
    found, parts = triplet_loss(points, torch.tensor([[0, 1, 2]]))
    found.backward()
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert parts["active"] == (1.0 if loss else 0.0)
    assert parts["hard"] == hard
    # Only what is kept moves anything: the positive comes nearer, the negative goes away.
    assert points.grad is not None
    assert (points.grad[1, 0] > 0) == (loss > 0)
    assert (points.grad[2, 0] > 0) == (loss > 0)


def test_the_mean_is_over_what_is_kept() -> None:
    # An easy triplet beside a hard one neither dilutes nor adds.
    points = torch.tensor([[0.0], [1.0], [0.5], [9.0]])
    hard, _ = triplet_loss(points, torch.tensor([[0, 1, 2]]))
    both, parts = triplet_loss(points, torch.tensor([[0, 1, 2], [0, 1, 3]]))
    assert both.item() == hard.item() == pytest.approx(1.0 - 0.25 + MARGIN)
    assert parts["active"] == 0.5


# Side information.


def shares(probability: float, genres: list[str], artists: list[int], kind: str = "genre") -> float:
    """Share of triplets whose negative shares a tag with the anchor."""
    rows = [{"genres": g, "mood": g, "release_date": g} for g in genres]
    alike = Tags.of(rows).alike(kind, np.arange(len(rows)))  # type: ignore[arg-type]
    rng, side = np.random.default_rng(1), SideInformation(probability, (alike,))
    found = [
        alike[triplet[0], triplet[2]]
        for _ in range(1500)
        for triplet in draw_triplets(np.array(artists), rng, side)
    ]
    return float(np.mean(found))


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_negatives_share_the_genre_as_often_as_asked(probability: float) -> None:
    # One row of another artist in four is of the anchor's genre: so often it comes by chance.
    found = shares(probability, ["rock", "rock", "rock", "a", "b", "c"], [0, 0, 1, 2, 3, 4])
    assert found == pytest.approx(probability + (1 - probability) / 4, abs=0.04)


def test_where_no_negative_shares_the_genre_any_is_taken() -> None:
    assert shares(1.0, ["rock", "rock", "folk", "folk"], [0, 0, 1, 2]) == 0.0
    # Rows of the anchor's own artist share its genre, and are no negatives.
    assert shares(1.0, ["", "", "folk", "folk"], [0, 0, 1, 2]) == 0.0


def test_dates_and_moods_are_side_information_as_well() -> None:
    artists = [0, 0, 1, 2, 3, 4]
    years = ["1990-05-01", "1991", "1993-01-01", "2001", "", "1950"]
    assert shares(1.0, years, artists, "date") == 1.0
    assert shares(1.0, ["sad", "sad", "sad", "gay", "", ""], artists, "mood") == 1.0


def test_tags_are_alike_where_they_are_known() -> None:
    rows = [
        {"genres": "rock;pop", "release_date": "1990-02-03"},
        {"genres": "pop", "release_date": "1994"},
        {"genres": "", "release_date": "1993"},
    ]
    tags = Tags.of(rows)
    genre = tags.alike("genre", np.array([0, 1, 2, 1]))
    assert genre[0].tolist() == [True, True, False, True]
    assert genre[2].tolist() == [False] * 4
    assert tags.alike("date", np.arange(3)).tolist() == [
        [True, False, True],
        [False, True, True],
        [True, True, True],
    ]


def test_kinds_of_tags_take_turns() -> None:
    # Row 2 shares the first kind with the anchors, row 3 the second.
    artists = np.array([0, 0, 1, 2, 3])
    first, second = np.zeros((2, 5, 5), dtype=bool)
    first[:2, 2] = second[:2, 3] = True
    rng, side = np.random.default_rng(0), SideInformation(1.0, (first, second))
    negatives = [draw_triplets(artists, rng, side)[0, 2] for _ in range(1000)]
    counts = np.bincount(negatives, minlength=5)
    assert counts[4] == 0
    assert abs(counts[2] - 500) < 80


# Collapse, and the other loss.


def test_a_collapsed_batch_shows() -> None:
    same = torch.nn.functional.normalize(torch.ones(6, 4), dim=1)
    loss, parts = triplet_loss(same, torch.tensor([[0, 1, 2], [3, 4, 5]]))
    # Everybody pays the margin, and nobody has anywhere to go.
    assert loss.item() == pytest.approx(MARGIN)
    assert parts["active"] == 1.0
    assert parts["batch_spread"] < COLLAPSED
    everywhere = torch.nn.functional.normalize(torch.randn(2000, 8), dim=1)
    assert spread(everywhere) == pytest.approx(1.0, abs=0.02)


def test_contrastive_loss_is_that_of_its_formula() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(7, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    artists = np.array([0, 1, 0, 1, 1, 2, 2])
    logits, losses = points @ points.T / 0.3, []
    for i in range(7):
        others = [j for j in range(7) if j != i]
        below = math.log(sum(math.exp(logits[i, j]) for j in others))
        own = [j for j in others if artists[j] == artists[i]]
        losses.append(-np.mean([logits[i, j] - below for j in own]))
    given_points = torch.tensor(points, requires_grad=True)
    loss, _ = contrastive_loss(given_points, torch.tensor(artists), 0.3)
    loss.backward()
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-6)
    assert given_points.grad is not None
    assert torch.isfinite(given_points.grad).all()
