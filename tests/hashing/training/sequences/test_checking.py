"""Figures on the way: of networks that know everything, and of such that know nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from sequence_songs import BINS, TINY, any_statistics, tiny_songs

from hashing import cqt
from hashing.training.sequences.checking import Check, embed, outputs
from hashing.training.sequences.corpus import CHOOSE, LEARN
from hashing.training.sequences.features import TRAINING_FONTS
from hashing.training.sequences.trunk import TrunkSize


class Told(torch.nn.Module):
    """Answers to each sequence of frames as it is told, by the frames' own bytes."""

    def __init__(self, size: TrunkSize) -> None:
        super().__init__()
        self.size = size
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.answers: dict[bytes, torch.Tensor] = {}

    def forward(self, frames: torch.Tensor, side: str) -> tuple[torch.Tensor, torch.Tensor]:
        del side
        found = self.answers[frames[0].numpy().tobytes()][None]
        return found, found


def told(check: Check, of_audio: Any, of_score: Any) -> Any:
    network = Told(TINY.size)
    for parts, answer in ((check.played, of_audio), (check.scores, of_score)):
        for number, frames in enumerate(parts):
            network.answers[frames.tobytes()] = answer(number, len(frames) // 8)
    return network


def random_steps(seed: int, steps: int) -> torch.Tensor:
    return torch.randn(steps, 32, generator=torch.Generator().manual_seed(seed))


def test_queries_are_scores_of_songs_that_choose() -> None:
    songs = tiny_songs()
    check = Check.of(songs, TINY)
    asked = [song for song in songs if song.role == CHOOSE]
    assert len(check.scores) == len(check.steps) == len(asked) == 4
    assert len(check.played) == 4 + sum(song.role == LEARN for song in songs)
    for number, frames in enumerate(check.played[:4]):
        fonts = [one for one in asked[number].played if one.font in TRAINING_FONTS]
        heard = [cqt.heard_frames(one.magnitudes.astype(np.float32)) for one in fonts]
        assert any(np.array_equal(frames, one) for one in heard)
    # The same every time, and no more than are asked for.
    again = Check.of(songs, TINY)
    assert all(map(np.array_equal, check.played, again.played))
    assert len(Check.of(songs, TINY, database=10).played) == 10
    few = Check.of(songs, TINY, database=3)
    assert (len(few.scores), len(few.played)) == (3, 3)


def test_steps_of_a_check_are_those_of_the_true_map() -> None:
    check = Check.of(tiny_songs(), TINY)
    for song, steps in zip((s for s in tiny_songs() if s.role == CHOOSE), check.steps, strict=True):
        fitting = []
        for one in song.played:
            where = one.score_frame.astype(np.float64)
            middles = np.array(
                [where[t * 8 + 3 : t * 8 + 5].mean() for t in range(len(where) // 8)]
            )
            if len(middles) == len(steps):
                known = steps >= 0
                off = np.abs(steps[known] * 8 + 3.5 - middles[known])
                fitting.append(bool(known.sum() > 25 and off.max() <= 4.6))
        assert any(fitting)


def test_figures_of_who_knows_everything_and_of_who_knows_nothing() -> None:
    check = Check.of(tiny_songs(), TINY)

    def spoken(number: int, steps: int) -> torch.Tensor:
        """One code for each step of the score; the audio says that of the step it plays."""
        found = random_steps(number, 40)
        at = check.steps[number] if number < 4 else np.arange(steps)
        return found[np.maximum(at[:steps], 0)]

    knows = told(check, spoken, lambda number, steps: random_steps(number, 40)[:steps])
    found = check.figures(knows)
    assert found["mrr"] == found["first"] == 1.0
    assert found["same"] == 0.0
    assert found["foreign"] == pytest.approx(16, abs=1.0)
    assert found["bc"] < 0.1
    nothing = told(
        check,
        lambda number, steps: random_steps(100 + number, steps),
        lambda number, steps: random_steps(200 + number, steps),
    )
    found = check.figures(nothing)
    assert found["mrr"] < 0.7
    assert found["same"] == pytest.approx(16, abs=1.0)
    assert found["bc"] > 0.95


def test_embedding_figures() -> None:
    check = Check.of(tiny_songs(), TINY)

    def mine(number: int, steps: int) -> torch.Tensor:
        return torch.eye(32)[number].expand(steps, 32)

    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, steps: torch.Tensor, side: str) -> torch.Tensor:
            del side
            return steps.mean(dim=1)

    head: Any = Mean()
    found = check.embedding_figures(told(check, mine, mine), head)
    assert found == {"mrr": 1.0, "p97": pytest.approx(1 / 24), "kept10": 1.0}
    wrong = told(check, mine, lambda number, steps: mine(number + 1, steps))
    found = check.embedding_figures(wrong, head)
    # The right one lies among all that are nothing like the query, but for the first.
    assert found["mrr"] <= 0.5


@pytest.mark.parametrize("values", [{}, {"system": "published", "narrow": 0.03}])
@pytest.mark.parametrize("frames", [8, 15, 63, 650])
def test_embeddings_of_windows_are_those_of_their_frames(
    values: dict[str, Any], frames: int
) -> None:
    settings = dataclasses.replace(TINY, **values)
    torch.manual_seed(0)
    network = settings.network(any_statistics(1), any_statistics(2)).eval()
    head = settings.head().eval()
    heard = np.random.default_rng(frames).random((frames, BINS)).astype(np.float32)
    found = embed(network, head, heard, "audio")
    features, codes = outputs(network, heard, "audio")
    assert len(codes) == frames // 8
    assert len(found) == (1 if frames // 8 <= 80 else 2)
    end = 80 if values == {} else 640
    end = min(end, frames // 8 if values == {} else frames // 8 * 8)
    with torch.no_grad():
        wanted = head(torch.from_numpy(features[None, :end]), "audio")
    wanted = torch.nn.functional.normalize(wanted, dim=1)
    assert found[0] == pytest.approx(wanted[0].numpy(), abs=1e-5)
