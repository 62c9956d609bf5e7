from __future__ import annotations

import numpy as np
import pyroomacoustics
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.conditions import power, reverberate
from hashing.training import rooms
from hashing.training.rooms import NEAREST_M, SIDES_M, simulated_rooms

RATE = 8000
SOUND_M_S = 343.0

# Taps of pyroomacoustics' filter for a fraction of a sample, half of which come before its peak.
HALF_FILTER = 40


class Shoebox(pyroomacoustics.ShoeBox):  # type: ignore[misc]
    """Remembers where things stand, which a response alone does not tell."""

    made: list[Shoebox]

    def __init__(self, sides: np.ndarray, **settings: object) -> None:
        super().__init__(sides, **settings)
        self.sides = np.asarray(sides)
        Shoebox.made.append(self)

    def add_source(self, position: np.ndarray) -> object:
        self.loudspeaker = np.array(position)
        return super().add_source(position)

    def add_microphone(self, position: np.ndarray) -> object:
        self.microphone = np.array(position)
        return super().add_microphone(position)


@pytest.fixture(scope="module")
def made() -> tuple[list[np.ndarray], list[Shoebox]]:
    """Twelve responses and their rooms."""
    Shoebox.made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyroomacoustics, "ShoeBox", Shoebox)
        return simulated_rooms(12, RATE, seed=1), Shoebox.made


def test_responses_are_ready_to_be_used(made: tuple[list[np.ndarray], list[Shoebox]]) -> None:
    responses, _ = made
    assert len(responses) == 12
    for response in responses:
        assert response.dtype == np.float32
        assert response.ndim == 1
        assert np.isfinite(response).all()
        assert np.abs(response).max() == pytest.approx(1.0)
    assert len({response.size for response in responses}) > 6


def test_loudspeaker_and_microphone_stand_in_the_room(
    made: tuple[list[np.ndarray], list[Shoebox]],
) -> None:
    for room in made[1]:
        low, high = np.array(SIDES_M).T
        assert np.all((low <= room.sides) & (room.sides <= high))
        for place in (room.loudspeaker, room.microphone):
            assert np.all((place >= NEAREST_M) & (place <= room.sides - NEAREST_M))


def test_sounds_arrive_when_their_paths_say(
    made: tuple[list[np.ndarray], list[Shoebox]],
) -> None:
    for response, room in zip(*made, strict=True):
        # The first sound takes the straight way: nothing is heard before.
        straight = float(np.linalg.norm(room.loudspeaker - room.microphone))
        arrival = HALF_FILTER + straight / SOUND_M_S * RATE
        assert np.abs(response[: int(arrival) - 2]).max(initial=0.0) < 0.25
        direct = np.abs(response[int(arrival) - 1 : int(arrival) + 3]).max()
        assert direct > 0.25
        # The first mirror image: the floor, under the straight way. A path that is not crowded by
        # others is as loud as it is short.
        image = room.loudspeaker * [1, 1, -1]
        longer = float(np.linalg.norm(image - room.microphone))
        assert longer > straight
        echo = int(HALF_FILTER + longer / SOUND_M_S * RATE)
        assert np.abs(response[echo - 1 : echo + 3]).max() > 0.05 * direct


def test_sound_dies_away(made: tuple[list[np.ndarray], list[Shoebox]]) -> None:
    for response, _ in zip(*made, strict=True):
        # Schroeder's backward integration (1965): the energy that is still to come.
        left = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
        level = 10.0 * np.log10(left / left[0])
        assert level[-response.size // 10] < -25.0
        late, early = level[response.size // 2], level[response.size // 4]
        assert late < early < -1.0


def test_a_seed_decides_its_rooms() -> None:
    first, again, other = (simulated_rooms(2, RATE, seed) for seed in (3, 3, 4))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert first[0].size != other[0].size or not np.array_equal(first[0], other[0])
    # More rooms begin with the same ones.
    np.testing.assert_array_equal(simulated_rooms(1, RATE, 3)[0], first[0])
    assert simulated_rooms(0, RATE, 3) == []


def test_a_response_lasts_as_long_at_any_rate() -> None:
    [low], [high] = (simulated_rooms(1, rate, seed=5) for rate in (RATE, 2 * RATE))
    assert high.size == pytest.approx(2 * low.size, rel=0.05)


def test_rooms_that_cannot_be_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = []

    def sabine(rt60_s: float, sides: np.ndarray) -> tuple[float, int]:
        if len(refused) < 3:
            refused.append(rt60_s)
            raise ValueError("no such absorption")
        return 0.5, 3

    monkeypatch.setattr(pyroomacoustics, "inverse_sabine", sabine)
    monkeypatch.setattr(rooms, "MAX_ORDER", 2)
    assert len(simulated_rooms(2, RATE, seed=1)) == 2
    assert len(refused) == 3


@given(at=st.integers(0, 7999), room=st.integers(0, 11))
def test_music_keeps_its_place_and_power_in_a_room(
    made: tuple[list[np.ndarray], list[Shoebox]], at: int, room: int
) -> None:
    click = np.zeros(8000, np.float32)
    click[at] = 1.0
    wet = reverberate(click, made[0][room])
    assert int(np.abs(wet).argmax()) == at
    assert power(wet) == pytest.approx(power(click), rel=1e-3)
