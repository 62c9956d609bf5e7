from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from training_fixture import (
    FEATURES,
    RATE,
    TINY_ENCODER,
    Log,
    assert_same_state,
    encoder_pairs,
)

from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from hashing.learned import LearnedQuantizer
from hashing.memory_index import memory_searcher
from hashing.snippets import standardise
from hashing.synthesis import render_track
from hashing.training import encoder
from hashing.training import pairs as pairs_module
from hashing.training.encoder import (
    State,
    contrast,
    encode,
    export,
    loss_of,
    recall,
    run_graph,
    train,
)
from hashing.training.networks import ConvEncoder
from hashing.training.pairs import EncoderTraining, Pairs
from hashing.training.pool import SnippetPool


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "STEPS_PER_REPORT", 4)
    monkeypatch.setattr(encoder, "STATISTICS_SNIPPETS", 4096)


def changed(**values: object) -> EncoderTraining:
    return dataclasses.replace(TINY_ENCODER, **values)  # type: ignore[arg-type]


# The learning rate.


def test_the_learning_rate_rises_stays_and_falls() -> None:
    settings = changed(steps=100, warm_up=10, decay_share=0.4, learning_rate=2.0)
    rates = [settings.learning_rate_at(step) for step in range(100)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert rates[9:60] == [2.0] * 51
    # A quarter, a half and three quarters of the way down: 1 + cos of 45°, 90° and 135°.
    assert rates[70] == pytest.approx(1.0 + math.sqrt(0.5))
    assert rates[80] == pytest.approx(1.0)
    assert rates[90] == pytest.approx(1.0 - math.sqrt(0.5))
    assert np.all(np.diff(rates[60:]) < 0)
    assert 0 < rates[99] < 0.01


@given(steps=st.integers(1, 400), warm_up=st.integers(0, 50), share=st.floats(0, 1))
def test_the_learning_rate_is_never_above_its_height(
    steps: int, warm_up: int, share: float
) -> None:
    settings = changed(steps=steps, warm_up=warm_up, decay_share=share, learning_rate=1.0)
    rates = [settings.learning_rate_at(step) for step in range(steps)]
    assert all(0.0 < rate <= 1.0 for rate in rates)


def test_draws_differ_by_seed_stage_and_step() -> None:
    def first(seed: int, stage: int, step: int) -> float:
        return float(changed(seed=seed).seeds(stage, step).random())

    assert first(1, 2, 3) == first(1, 2, 3)
    assert len({first(1, 2, 3), first(2, 2, 3), first(1, 3, 3), first(1, 2, 4)}) == 4


# Pairs.


def coded_pool(tiles: int = 12, versions: int = 3, frames: int = 46) -> SnippetPool:
    """Cells that tell where they are: band 0 the tile, band 1 the version, others the frame."""
    spectra = np.empty((tiles, versions, frames, FEATURES.n_bands), dtype=np.float16)
    spectra[..., 0] = np.arange(tiles)[:, None, None]
    spectra[..., 1] = np.arange(versions)[:, None]
    spectra[..., 2:] = np.arange(frames)[:, None]
    return SnippetPool(spectra, FEATURES)


def coded_pairs(monkeypatch: pytest.MonkeyPatch, pool: SnippetPool, **values: object) -> Pairs:
    """Pairs of a coded pool, given as they are cut: standardising would hide the numbers."""
    monkeypatch.setattr(pairs_module, "_standard", lambda cut, config: cut)
    quiet = {
        "noise_chance": 0.0,
        "equaliser_chance": 0.0,
        "shifted_steps": 10,
        "jitter": 3,
    }
    return Pairs(pool, np.empty((0, 16), np.float16), changed(**{**quiet, **values}))


def test_pairs_at_first_are_of_one_moment_up_to_half_a_hop_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = coded_pairs(monkeypatch, coded_pool())
    late, versions, first = [], [], []
    for step in range(80):
        clean, heard = pairs.draw(np.random.default_rng(step), 10, 9)
        assert clean.shape == heard.shape == (10, 16, 14)
        # Tiles of a batch differ, and are the same on both sides.
        tile = clean[:, 0, 0]
        assert len(set(tile)) == 10
        np.testing.assert_array_equal(heard[:, 0], np.repeat(tile[:, None], 14, axis=1))
        assert np.all(clean[:, 1] == 0)
        for side in (clean, heard):
            np.testing.assert_array_equal(np.diff(side[:, 2], axis=1), 1.0)
        late += (heard[:, 2, 0] - clean[:, 2, 0]).tolist()
        versions += heard[:, 1, 0].tolist()
        first += clean[:, 2, 0].tolist()
    assert sorted(set(late)) == list(range(-8, 9))
    assert abs(np.mean(late)) < 4 * math.sqrt((17**2 - 1) / 12 / 800)
    assert sorted(set(versions)) == [1, 2]
    # 33 places for a snippet in 46 frames, 8 of them at each end for a late or an early one.
    assert sorted(set(first)) == list(range(8, 25))


def test_pairs_later_are_at_their_place_and_lack_an_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = coded_pairs(monkeypatch, coded_pool(), masked_chance=0.6)
    late, lost = [], []
    for step in range(60):
        clean, heard = pairs.draw(np.random.default_rng(step), 12, 10)
        np.testing.assert_array_equal(np.diff(clean[:, 2], axis=1), 1.0)
        for one, frames in zip(clean[:, 2], heard[:, 2], strict=True):
            same = np.diff(frames) == 0
            begin = int(np.argmin(same)) + 1 if same[0] else int(frames[1] - frames[0] != 1)
            end = int(np.argmin(same[::-1])) + 1 if same[-1] else int(frames[-1] - frames[-2] != 1)
            assert not (begin and end)
            kept = frames[begin : 14 - end]
            np.testing.assert_array_equal(np.diff(kept), 1.0)
            # What was not heard is the mean of what was.
            np.testing.assert_allclose(np.delete(frames, range(begin, 14 - end)), kept.mean())
            late.append(kept[0] - begin - one[0])
            lost.append(begin - end)
    assert sorted(set(late)) == list(range(-3, 4))
    # A hop of 16 frames, queries every four of them, half a snippet at most: four frames.
    assert FEATURES.query_margin == 4
    assert sorted(set(lost)) == list(range(-4, 5))
    assert abs(np.mean(np.array(lost) != 0) - 0.6) < 4 * math.sqrt(0.24 / 720)


def test_a_batch_larger_than_the_pool_draws_tiles_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = coded_pairs(monkeypatch, coded_pool(tiles=3))
    clean, _ = pairs.draw(np.random.default_rng(1), 40, 0)
    assert sorted(set(clean[:, 0, 0])) == [0, 1, 2]
    alone = coded_pairs(monkeypatch, coded_pool(versions=1))
    assert np.all(alone.draw(np.random.default_rng(1), 8, 0)[1][:, 1] == 0)


def test_noise_is_added_at_the_ratio_that_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = coded_pairs(monkeypatch, coded_pool(), noise_chance=1.0, noise_snr_db=(5.0, 5.0))
    noise = np.random.default_rng(1).normal(-30.0, 8.0, (200, 16)).astype(np.float16)
    cut = np.random.default_rng(2).normal(-20.0, 6.0, (6, 16, 14)).astype(np.float32)
    before = 10.0 ** (cut.astype(np.float64) / 10.0)
    noisy = dataclasses.replace(pairs, noise=noise)._degrade(cut, np.random.default_rng(3))
    added = 10.0 ** (noisy.astype(np.float64) / 10.0) - before
    ratio = 10.0 * np.log10(before.mean(axis=(1, 2)) / added.mean(axis=(1, 2)))
    np.testing.assert_allclose(ratio, 5.0, atol=0.01)
    # It has the shape of a piece of the noise.
    windows = np.lib.stride_tricks.sliding_window_view(noise.astype(np.float64), 14, axis=0)
    shape = 10.0 * np.log10(added[0])
    levels = [(shape - window).std() for window in windows]
    assert min(levels) < 0.01


def test_the_equaliser_tilts_bands_and_no_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = coded_pairs(monkeypatch, coded_pool(), equaliser_chance=0.5)
    gains = pairs._degrade(np.zeros((2000, 16, 14), np.float32), np.random.default_rng(1))
    assert np.all(gains == gains[:, :, :1])
    touched = gains[:, :, 0].any(axis=1)
    assert abs(touched.mean() - 0.5) < 4 * math.sqrt(0.25 / 2000)
    # Six knots over 16 bands: at the ends a knot alone, in between a line, so that three bands
    # from one knot to the next differ by equal steps.
    moved = gains[touched, :, 0]
    assert moved[:, [0, 15]].std() == pytest.approx(pairs_module.EQUALISER_DB, rel=0.06)
    np.testing.assert_allclose(np.diff(moved[:, :4], n=2, axis=1), 0.0, atol=1e-4)


def test_what_is_drawn_is_standardised_and_decided_by_the_generator() -> None:
    pairs = encoder_pairs()
    drawn = [pairs.draw(TINY_ENCODER.seeds(1, step), 16, 0) for step in (5, 5, 6)]
    for side in drawn[0]:
        np.testing.assert_allclose(side.mean(axis=(1, 2)), 0.0, atol=1e-4)
        np.testing.assert_allclose(side.std(axis=(1, 2)), 1.0, atol=1e-3)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


# The loss.


def test_contrast_by_hand() -> None:
    # Rows: -ln(e²/(e²+1)), -ln(e³/(e+e³)); columns: -ln(e²/(e²+e)), -ln(e³/(1+e³)).
    rows = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-2))) / 2
    columns = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-3))) / 2
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    assert contrast(logits).item() == pytest.approx((rows + columns) / 2, rel=1e-6)
    # Who knows nothing pays ln n; who is sure pays nothing.
    assert contrast(torch.zeros(8, 8)).item() == pytest.approx(math.log(8))
    assert contrast(100.0 * torch.eye(8)).item() == pytest.approx(0.0, abs=1e-6)


def reference(logits: np.ndarray) -> float:
    own = np.diag(logits)
    rows, columns = (logsumexp(logits, axis=axis) - own for axis in (1, 0))
    return float((rows.mean() + columns.mean()) / 2)


class Told(torch.nn.Module):
    """A network that answers what it is told."""

    def __init__(self, embedding: np.ndarray, logits: np.ndarray) -> None:
        super().__init__()
        self.embedding = torch.nn.Parameter(torch.from_numpy(embedding))
        self.logits = torch.nn.Parameter(torch.from_numpy(logits))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert len(x) == len(self.embedding)
        return self.embedding, self.logits


def told(n: int = 6) -> Told:
    rng = np.random.default_rng(4)
    embedding = rng.standard_normal((2 * n, 5)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    return Told(embedding, rng.standard_normal((2 * n, 12)).astype(np.float32))


def test_the_loss_is_that_of_embeddings_and_that_of_signs() -> None:
    network, settings = told(), changed(temperature=0.1)
    side = torch.zeros(6, 16, 14)
    loss, parts = loss_of(network, side, side, settings)  # type: ignore[arg-type]
    embedding, logits = (value.detach().numpy() for value in (network.embedding, network.logits))
    real = reference(embedding[6:] @ embedding[:6].T / 0.1)
    asked = logits[6:] / np.linalg.norm(logits[6:], axis=1, keepdims=True)
    signs = np.where(logits[:6] > 0, 1.0, -1.0) / np.sqrt(12)
    binary = reference(asked @ signs.T / 0.1)
    assert loss.item() == pytest.approx(real + binary, rel=1e-5)
    assert parts == pytest.approx({"loss": real, "loss_binary": binary}, rel=1e-5)


def test_the_gradient_passes_a_sign_that_is_not_settled() -> None:
    network, settings = told(), changed(temperature=0.1)
    side = torch.zeros(6, 16, 14)
    loss_of(network, side, side, settings)[0].backward()  # type: ignore[arg-type, no-untyped-call]
    logits = network.logits.detach()
    signs = torch.where(logits[:6] > 0, 1.0, -1.0).requires_grad_()
    asked = torch.nn.functional.normalize(logits[6:], dim=1)
    contrast(asked @ signs.T / math.sqrt(12) / 0.1).backward()  # type: ignore[no-untyped-call]
    assert network.logits.grad is not None
    assert signs.grad is not None
    settled = logits[:6].abs() > 1.5
    assert settled.any()
    assert (~settled).any()
    expected = torch.where(settled, 0.0, signs.grad)
    torch.testing.assert_close(network.logits.grad[:6], expected)


# Runs.


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> State:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "STEPS_PER_REPORT", 4)
        return run(tmp_path_factory.mktemp("undisturbed"))


def run(work: Path, settings: EncoderTraining = TINY_ENCODER, log: Log | None = None) -> State:
    pairs, unheard = encoder_pairs(settings), encoder_pairs(settings, seed=2)
    return train(pairs, unheard, work, log or Log())[0]


def test_the_same_seed_gives_the_same_encoder(undisturbed: State, tmp_path: Path) -> None:
    assert undisturbed.step == 12
    assert_same_state(run(tmp_path / "again"), undisturbed)
    other = run(tmp_path / "other", changed(seed=4))
    assert not torch.equal(other.network.project.weight, undisturbed.network.project.weight)


@pytest.mark.parametrize(("stop_at", "resumed_at"), [(4, 4), (8, 8), (12, 12)])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    undisturbed: State, tmp_path: Path, stop_at: int, resumed_at: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, log=Log(f"step {stop_at:6d} "))
    log = Log()
    assert_same_state(run(tmp_path, log=log), undisturbed)
    assert log.lines[0] == f"resuming at step {resumed_at} of 12"
    log = Log()
    assert_same_state(run(tmp_path, log=log), undisturbed)
    assert log.lines == ["resuming at step 12 of 12"]


def test_a_run_killed_between_checkpoints_or_while_writing_goes_on_from_the_last(
    undisturbed: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, save = Pairs.draw, torch.save

    def killed(self: Pairs, rng: np.random.Generator, n: int, step: int) -> object:
        if step == 6:
            raise KeyboardInterrupt
        return draw(self, rng, n, step)

    def half_saved(parts: dict[str, object], path: Path) -> None:
        if parts["step"] == 8:
            Path(path).write_bytes(b"PK half of it")
            raise KeyboardInterrupt
        save(parts, path)

    for target, name, stop in ((Pairs, "draw", killed), (torch, "save", half_saved)):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, stop)
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path)
    log = Log()
    assert_same_state(run(tmp_path, log=log), undisturbed)
    assert log.lines[0] == "resuming at step 4 of 12"


def test_a_longer_run_goes_on_and_a_shorter_one_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    log = Log()
    assert run(tmp_path, changed(steps=16), log).step == 16
    assert log.lines[0] == "resuming at step 12 of 16"
    with pytest.raises(HashbeamError, match=r"has learned for 16 steps.* more than 12: .*--work"):
        run(tmp_path)
    # How bits are dealt out to tables comes after the steps.
    log = Log()
    run(tmp_path, changed(steps=16, n_tables=2, key_bits=8), log)
    assert log.lines == ["resuming at step 16 of 16"]


def test_other_settings_or_music_start_anew(undisturbed: State, tmp_path: Path) -> None:
    run(tmp_path)
    pairs = encoder_pairs()
    reversed_music = SnippetPool(pairs.pool.spectra[::-1].copy(), FEATURES)
    for other in (
        dataclasses.replace(pairs, pool=reversed_music),
        encoder_pairs(changed(temperature=0.1)),
        encoder_pairs(changed(channels=(4, 6))),
        pairs,
    ):
        log = Log()
        train(other, pairs, tmp_path, log)
        assert not any(line.startswith("resuming") for line in log.lines)
        assert (tmp_path / "settings.json").exists()
    assert_same_state(run(tmp_path), undisturbed)


def test_half_precision_is_reproducible_as_well(tmp_path: Path) -> None:
    settings = changed(half_precision=True, steps=4)
    assert_same_state(run(tmp_path / "a", settings), run(tmp_path / "b", settings))


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[State, Pairs, Log]:
    """An encoder that knows a little."""
    settings = changed(
        channels=(16, 24, 32),
        batch=32,
        learning_rate=4e-3,
        averaging=0.95,
        steps=160,
        shifted_steps=60,
    )
    log = Log()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "STEPS_PER_REPORT", 20)
        state = run(tmp_path_factory.mktemp("learned"), settings, log)
    return state, encoder_pairs(settings), log


def test_what_was_never_heard_is_found_in_noise(learned: tuple[State, Pairs, Log]) -> None:
    _, _, log = learned
    losses = log.figures("loss")
    assert losses[0] > 1.5  # who knows nothing pays ln 32, which is 3.5
    assert losses[-1] < 0.5 * losses[0]
    # One of 64 is found by chance.
    assert log.figures("recall")[-1] > 8 / 64
    assert log.figures("recall_binary")[-1] > 8 / 64


def test_recall_by_counting(learned: tuple[State, Pairs, Log]) -> None:
    state, pairs, _ = learned
    figures = recall(state, pairs, 20)
    clean, heard = pairs.draw(pairs.settings.seeds(stage=3), 20, pairs.settings.steps)
    embedding, logits = encode(state.trained, np.concatenate((clean, heard)), state.device, 7)
    nearest, nearest_binary = [], []
    for i in range(20):
        distances = np.linalg.norm(embedding[20 + i] - embedding[:20], axis=1)
        nearest.append(distances.argmin() == i)
        right = [logits[20 + i] @ np.sign(logits[j]) for j in range(20)]
        nearest_binary.append(np.argmax(right) == i)
    assert figures == {"recall": np.mean(nearest), "recall_binary": np.mean(nearest_binary)}


# The model.


@pytest.mark.parametrize("with_light", [False, True])
def test_the_exported_model_finds_an_excerpt(
    learned: tuple[State, Pairs, Log], tmp_path: Path, with_light: bool
) -> None:
    state, pairs, _ = learned
    # Any other encoder will do to tell the two apart: here the one before the running mean.
    light = state.network if with_light else None
    assert isinstance(light, ConvEncoder | None)
    model = export(tmp_path / "m", state, pairs, light, {"heard": 7}, "# Card")
    hasher = Hasher(model)
    assert model.graphs == (["model", "query"] if with_light else ["model"])
    quantizer = hasher.quantizer
    assert isinstance(quantizer, LearnedQuantizer)
    assert (quantizer.code_bytes, quantizer.n_tables, quantizer.key_bits_max) == (8, 4, 12)
    assert model.config["training"]["heard"] == 7
    assert model.config["training"]["seed"] == 3
    # Both graphs say what the networks say; queries go to the one that was trained longest.
    cut = pairs.pool.snippets(np.arange(32), np.zeros(32, np.int64), np.full(32, 9))
    inputs = standardise(cut, FEATURES).reshape(32, 16, 14)
    for front, network in ((hasher.front, light or state.trained), (hasher.query_front, None)):
        expected, _ = encode((network or state.trained).eval(), inputs, state.device)
        answer = hasher.respond(cut, front)
        assert answer.embeddings is not None
        np.testing.assert_allclose(answer.embeddings, expected, atol=2e-3)
        # Responses are turned as the product quantizer asks, which keeps all cosines.
        turned = answer.responses @ answer.responses.T
        np.testing.assert_allclose(turned, expected @ expected.T, atol=5e-3)
    songs = [render_track(400 + i, 8.0, RATE) for i in range(10)]
    searcher = memory_searcher(hasher, [hasher.hash_track([song]) for song in songs], 10)
    for song, first_s in ((2, 1.0), (7, 3.3)):
        excerpt = songs[song][int(first_s * RATE) : int((first_s + 3.0) * RATE)]
        best = searcher.search([hasher.hash_query([excerpt])])[0][0]
        assert best.ordinal == song
        assert abs(best.offset_s - first_s) <= 0.25  # half a hop


def test_statistics_are_those_of_clean_snippets(
    learned: tuple[State, Pairs, Log], tmp_path: Path
) -> None:
    state, pairs, _ = learned
    model = export(tmp_path / "m", state, pairs, None, {}, "# Card")
    quantizer = LearnedQuantizer.from_model(model)
    tile, offset = (part.ravel() for part in np.mgrid[:32, :29])  # every snippet
    clean = pairs.pool.snippets(tile, np.zeros_like(tile), offset)
    inputs = standardise(clean, FEATURES)
    embeddings = run_graph(model.graph("model"), inputs)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-4)
    responses = run_graph(model.graph("model"), inputs, "responses")
    margins = quantizer.head.margins(responses)
    # Half of all bits are one, and half of all margins are within a spread.
    np.testing.assert_allclose((margins > 0).mean(axis=0), 0.5, atol=0.04)
    assert abs((np.abs(margins) < 1).mean() - 0.5) < 0.05
    # A byte for two numbers keeps nearly all of them.
    kept = quantizer.decode(quantizer.encode(responses))
    assert np.mean((kept - responses) ** 2) < 0.05 * np.mean(responses.var(axis=0))


def test_the_same_state_gives_the_same_model(
    learned: tuple[State, Pairs, Log], tmp_path: Path
) -> None:
    state, pairs, _ = learned
    first, again = (export(tmp_path / n, state, pairs, None, {}, "# Card") for n in ("a", "b"))
    assert first.digest == again.digest
