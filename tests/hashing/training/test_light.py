from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from training_fixture import FEATURES, TINY_ENCODER, Log, assert_same_state, encoder_pairs

from hashing.errors import HashbeamError
from hashing.track_fronts import Reach
from hashing.training import encoder, light
from hashing.training.encoder import State, encode, train
from hashing.training.light import LightTraining, train_light
from hashing.training.networks import ConvEncoder, TrackEncoder
from hashing.training.pairs import EncoderTraining, Pairs
from hashing.training.pool import SnippetPool

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


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_a_smaller_network_learns_to_answer_as_its_teacher(
    pairs: Pairs, unheard: Pairs, teacher: ConvEncoder, tmp_path: Path
) -> None:
    before = weights(teacher)
    log = Log()
    settings = LightTraining(channels=(8, 12), steps=120)
    state, figures = train_light(pairs, unheard, teacher, settings, tmp_path, log)
    assert isinstance(state.network, TrackEncoder)
    unlike = log.figures("unlike")
    assert unlike[-1] < 0.5 * unlike[0]
    # On other music than it was taught with: before the first step cosines are those of chance.
    start = State.start(SETTINGS, TrackEncoder(16, 14, (8, 12), SETTINGS.dimensions))
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
    reach = state.network.reach
    around, clean, heard = unheard.draw_in_track(SETTINGS.seeds(stage=3), 64, reach)
    with torch.no_grad():
        answers = np.stack([state.trained(one[None])[0] for one in torch.from_numpy(around)])
    full, _ = encode(teacher, clean, state.device)
    queries, _ = encode(teacher, heard, state.device)
    cosines = [float(a @ b) for a, b in zip(answers, full, strict=True)]
    nearest = [np.argmin(np.linalg.norm(answers - query, axis=1)) for query in queries]
    assert figures["likeness"] == pytest.approx(np.mean(cosines), abs=1e-5)
    assert figures["recall_light"] == np.mean(np.array(nearest) == np.arange(64))


@pytest.mark.parametrize(("channels", "layers"), [((4, 6, 8), 3), ((4, 7), 1), ((5, 6), 0)])
def test_it_begins_as_its_teacher(
    pairs: Pairs,
    unheard: Pairs,
    teacher: ConvEncoder,
    tmp_path: Path,
    channels: tuple[int, ...],
    layers: int,
) -> None:
    settings = LightTraining(channels=channels, steps=0)
    state, figures = train_light(pairs, unheard, teacher, settings, tmp_path, Log())
    assert set(figures) == {"likeness", "recall_light"}
    own, other = state.trained.state_dict(), teacher.state_dict()
    for name in own:
        if name.startswith("trunk"):
            same = own[name].shape == other[name].shape and torch.equal(own[name], other[name])
            assert same == (int(name.split(".")[1]) < 3 * layers)
    # The projection is drawn by the seed.
    again, _ = train_light(pairs, unheard, teacher, settings, tmp_path / "again", Log())
    assert torch.equal(again.network.project.weight, state.network.project.weight)


class Told(torch.nn.Module):
    """A network that answers what it is told, and remembers what it was asked."""

    def __init__(self, embedding: torch.Tensor) -> None:
        super().__init__()
        self.embedding = torch.nn.Parameter(embedding)
        self.asked: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert len(x) == len(self.embedding)
        self.asked.append(x)
        return self.embedding * 1  # a product: gradients are asked for or not where it is made


class ToldTeacher(Told):
    """The same with bits, which are not asked for."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return super().forward(x), None


def test_a_loss_by_hand() -> None:
    # In the plane: two clean snippets at 0° and 90°, in noise at 30° and 90°; the pupil says 60°
    # and 90°. Its answers are 60° and 0° off what it was taught, on average a quarter short of one.
    degrees = torch.deg2rad(torch.tensor([0.0, 90.0, 30.0, 90.0, 60.0, 90.0]))
    plane = torch.stack((torch.cos(degrees), torch.sin(degrees)), dim=1)
    teacher, pupil = ToldTeacher(plane[:4]), Told(plane[4:])
    around, clean, heard = torch.randn(2, 16, 32), torch.randn(2, 16, 14), torch.randn(2, 16, 14)
    settings = dataclasses.replace(SETTINGS, temperature=1.0)
    loss, parts = light._loss(pupil, teacher, (around, clean, heard), settings, 4.0)  # type: ignore[arg-type]
    assert torch.equal(pupil.asked[0], around)
    assert torch.equal(teacher.asked[0], torch.cat((clean, heard)))
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


def test_a_run_killed_between_checkpoints_goes_on_from_the_last(
    pairs: Pairs,
    unheard: Pairs,
    teacher: ConvEncoder,
    undisturbed: State,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw, steps = Pairs.draw_in_track, []

    def killed(self: Pairs, rng: np.random.Generator, n: int, reach: Reach) -> object:
        steps.append(n)
        # The figures after four steps draw as well.
        if len(steps) == 4 + 1 + 2:
            raise KeyboardInterrupt
        return draw(self, rng, n, reach)

    with monkeypatch.context() as patch:
        patch.setattr(Pairs, "draw_in_track", killed)
        with pytest.raises(KeyboardInterrupt):
            train_light(pairs, unheard, teacher, SHORT, tmp_path, Log())
    log = Log()
    state, figures = train_light(pairs, unheard, teacher, SHORT, tmp_path, log)
    assert log.lines[0] == "light encoder: resuming at step 4 of 12"
    assert_same_state(state, undisturbed)
    assert figures == light._figures(undisturbed, teacher, unheard)


def test_tiles_that_are_too_short_are_refused_before_the_first_step(
    pairs: Pairs, unheard: Pairs, teacher: ConvEncoder, tmp_path: Path
) -> None:
    short = SnippetPool(pairs.pool.spectra[:, :, :31], FEATURES)
    with pytest.raises(HashbeamError, match="a tile of 31 frames is too short"):
        train_light(
            dataclasses.replace(pairs, pool=short),
            unheard,
            teacher,
            LightTraining(channels=(4, 6, 8), steps=4),
            tmp_path,
            Log(),
        )
    assert not (tmp_path / "light.pt").exists()


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
