from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from training_fixture import TINY_ENCODER, Log, assert_same_state, encoder_pairs

from hashing.training import encoder, light
from hashing.training.encoder import State, encode, train
from hashing.training.light import LightTraining, train_light
from hashing.training.networks import ConvEncoder
from hashing.training.pairs import EncoderTraining, Pairs

SETTINGS: EncoderTraining = dataclasses.replace(
    TINY_ENCODER, batch=32, steps=60, learning_rate=4e-3, averaging=0.9
)
SHORT = LightTraining(channels=(4, 6), steps=12)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "STEPS_PER_REPORT", 4)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return encoder_pairs(SETTINGS)


@pytest.fixture(scope="module")
def unheard() -> Pairs:
    return encoder_pairs(SETTINGS, seed=2)


@pytest.fixture(scope="module")
def teacher(pairs: Pairs, unheard: Pairs, tmp_path_factory: pytest.TempPathFactory) -> ConvEncoder:
    return train(pairs, unheard, tmp_path_factory.mktemp("teacher"), Log())[0].trained


def weights(network: ConvEncoder) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_a_smaller_network_learns_to_answer_as_its_teacher(
    pairs: Pairs, unheard: Pairs, teacher: ConvEncoder, tmp_path: Path
) -> None:
    before = weights(teacher)
    log = Log()
    settings = LightTraining(channels=(8, 12), steps=120)
    state, figures = train_light(pairs, unheard, teacher, settings, tmp_path, log)
    assert state.network.depth == 2
    unlike = log.figures("unlike")
    assert unlike[-1] < 0.5 * unlike[0]
    # On other music than it was taught with: before the first step cosines are those of chance.
    start = State.start(dataclasses.replace(SETTINGS, channels=(8, 12)), pairs.pool.config)
    untaught = light._figures(start, teacher, unheard)
    assert untaught["likeness"] < 0.3
    assert figures["likeness"] > 0.6
    assert figures["recall_light"] > 4 / 64  # one of 64 by chance
    # The teacher is left as it was, what it counts of batches included.
    assert all(torch.equal(before[name], value) for name, value in weights(teacher).items())


def test_the_figures_by_counting(
    pairs: Pairs, unheard: Pairs, teacher: ConvEncoder, tmp_path: Path
) -> None:
    state, figures = train_light(pairs, unheard, teacher, SHORT, tmp_path, Log())
    clean, heard = unheard.draw(SETTINGS.seeds(stage=3), 64, SETTINGS.steps)
    answers, _ = encode(state.trained, clean, state.device)
    full, _ = encode(teacher, clean, state.device)
    queries, _ = encode(teacher, heard, state.device)
    cosines = [float(a @ b) for a, b in zip(answers, full, strict=True)]
    nearest = [np.argmin(np.linalg.norm(answers - query, axis=1)) for query in queries]
    assert figures["likeness"] == pytest.approx(np.mean(cosines), abs=1e-5)
    assert figures["recall_light"] == np.mean(np.array(nearest) == np.arange(64))


class Told(torch.nn.Module):
    """A network that answers what it is told."""

    def __init__(self, embedding: torch.Tensor) -> None:
        super().__init__()
        self.embedding = torch.nn.Parameter(embedding)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        assert len(x) == len(self.embedding)
        return (
            self.embedding * 1,
            None,
        )  # a product: gradients are asked for or not where it is made


def test_a_loss_by_hand() -> None:
    # In the plane: two clean snippets at 0° and 90°, in noise at 30° and 90°; the pupil says 60°
    # and 90°. Its answers are 60° and 0° off what it was taught, on average a quarter short of one.
    degrees = torch.deg2rad(torch.tensor([0.0, 90.0, 30.0, 90.0, 60.0, 90.0]))
    plane = torch.stack((torch.cos(degrees), torch.sin(degrees)), dim=1)
    teacher, pupil = Told(plane[:4]), Told(plane[4:])
    side = torch.zeros(2, 16, 14)
    settings = dataclasses.replace(SETTINGS, temperature=1.0)
    loss, parts = light._loss(pupil, teacher, side, side, settings, 4.0)  # type: ignore[arg-type]
    assert parts["unlike"] == pytest.approx(0.25)
    # Cosines of the heard (rows) to the pupil's: of 30° and 60°, of 30° and 0°.
    c, d = math.cos(math.radians(30)), math.cos(math.radians(60))
    rows = math.log1p(math.exp(d - c)) + math.log1p(math.exp(c - 1))
    columns = math.log1p(math.exp(c - c)) + math.log1p(math.exp(d - 1))
    assert parts["nearest"] == pytest.approx((rows + columns) / 4)
    assert loss.item() == pytest.approx((rows + columns) / 4 + 4 * 0.25)
    loss.backward()  # type: ignore[no-untyped-call]
    assert teacher.embedding.grad is None
    assert pupil.embedding.grad is not None


@pytest.fixture(scope="module")
def undisturbed(
    pairs: Pairs, unheard: Pairs, teacher: ConvEncoder, tmp_path_factory: pytest.TempPathFactory
) -> State:
    return train_light(
        pairs, unheard, teacher, SHORT, tmp_path_factory.mktemp("undisturbed"), Log()
    )[0]


@pytest.mark.parametrize("stop_at", [4, 8])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    pairs: Pairs,
    unheard: Pairs,
    teacher: ConvEncoder,
    undisturbed: State,
    tmp_path: Path,
    stop_at: int,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_light(pairs, unheard, teacher, SHORT, tmp_path, Log(f"light step {stop_at:6d} "))
    log = Log()
    state, _ = train_light(pairs, unheard, teacher, SHORT, tmp_path, log)
    assert log.lines[0] == f"light encoder: resuming at step {stop_at} of 12"
    assert_same_state(state, undisturbed)


def test_a_longer_run_goes_on(
    pairs: Pairs, unheard: Pairs, teacher: ConvEncoder, tmp_path: Path
) -> None:
    train_light(pairs, unheard, teacher, SHORT, tmp_path, Log())
    log = Log()
    longer = dataclasses.replace(SHORT, steps=16)
    assert train_light(pairs, unheard, teacher, longer, tmp_path, log)[0].step == 16
    assert log.lines[0] == "light encoder: resuming at step 12 of 16"


def test_another_teacher_or_other_settings_start_anew(
    pairs: Pairs, unheard: Pairs, teacher: ConvEncoder, undisturbed: State, tmp_path: Path
) -> None:
    # A full encoder that was trained for more steps is another teacher of the same settings.
    train_light(pairs, unheard, teacher, SHORT, tmp_path, Log())
    other = ConvEncoder(16, 14, SETTINGS.channels, SETTINGS.dimensions, SETTINGS.bits)
    for taught_by, settings in (
        (other, SHORT),
        (teacher, dataclasses.replace(SHORT, channels=(4, 8))),
        (teacher, dataclasses.replace(SHORT, likeness=1.0)),
        (teacher, SHORT),
    ):
        log = Log()
        state, _ = train_light(pairs, unheard, taught_by, settings, tmp_path, log)
        assert not any("resuming" in line for line in log.lines)
    assert_same_state(state, undisturbed)
