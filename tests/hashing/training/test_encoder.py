from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
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
from hashing.features import spectrogram
from hashing.fronts import Answer
from hashing.learned import LearnedQuantizer
from hashing.memory_index import memory_searcher
from hashing.snippets import standardise, standardise_frames
from hashing.synthesis import render_track
from hashing.track_fronts import Reach, SeparateSnippets, SharedLayers
from hashing.training import encoder
from hashing.training.encoder import (
    State,
    clean_music,
    contrast,
    encode,
    export,
    loss_of,
    recall,
    train,
)
from hashing.training.export import encoder_graph, track_graph
from hashing.training.light import LightTraining, train_light
from hashing.training.networks import TrackEncoder
from hashing.training.pairs import EncoderTraining, Pairs
from hashing.training.pool import SnippetPool


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "STEPS_PER_REPORT", 4)
    monkeypatch.setattr(encoder, "STATISTICS_SNIPPETS", 4096)


def changed(**values: object) -> EncoderTraining:
    return dataclasses.replace(TINY_ENCODER, **values)  # type: ignore[arg-type]


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


@pytest.fixture(scope="module")
def pupil(
    learned: tuple[State, Pairs, Log], tmp_path_factory: pytest.TempPathFactory
) -> TrackEncoder:
    """A light encoder that answers much as the other does."""
    state, pairs, _ = learned
    settings = LightTraining(channels=(16, 24, 32), steps=120, learning_rate=4e-3)
    unheard = encoder_pairs(pairs.settings, seed=2)
    work = tmp_path_factory.mktemp("pupil")
    return train_light(pairs, unheard, state.trained, settings, work, Log())[0].trained


def windows_of(spec: np.ndarray, starts: np.ndarray, reach: Reach) -> torch.Tensor:
    """Snippets of a spectrogram in dB with what is around them, as a `TrackEncoder` takes them."""
    ends = ((reach.before, reach.after), (0, 0))
    padded = np.pad(standardise_frames(spec, FEATURES), ends)
    width = reach.frames(1, FEATURES)
    return torch.from_numpy(np.stack([padded[start : start + width].T for start in starts]))


@pytest.mark.parametrize("with_light", [False, True])
def test_the_exported_model_finds_an_excerpt(
    learned: tuple[State, Pairs, Log], pupil: TrackEncoder, tmp_path: Path, with_light: bool
) -> None:
    state, pairs, _ = learned
    light = pupil if with_light else None
    model = export(tmp_path / "m", state, pairs, light, {"heard": 7}, "# Card")
    assert model.graphs == (["model", "query"] if with_light else ["model"])
    assert model.config["training"]["heard"] == 7
    assert model.config["training"]["seed"] == 3
    hasher = Hasher.load(str(tmp_path / "m"))
    assert hasher.digest == model.digest
    assert isinstance(hasher.track_front, SharedLayers if with_light else SeparateSnippets)
    quantizer = hasher.quantizer
    assert isinstance(quantizer, LearnedQuantizer)
    assert (quantizer.code_bytes, quantizer.n_tables, quantizer.key_bits_max) == (8, 4, 12)
    # Both graphs say what the networks say; queries go to the full one.
    spec = pairs.pool.spectra[5, 0].astype(np.float32)
    starts = np.arange(0, 29, 3)
    cut = pairs.pool.snippets(np.full_like(starts, 5), np.zeros_like(starts), starts)
    inputs = standardise(cut, FEATURES).reshape(cut.shape)
    full, _ = encode(state.trained, inputs, state.device)
    in_track = full
    if with_light:
        with torch.no_grad():
            in_track = pupil(windows_of(spec, starts, pupil.reach)).numpy()
        assert np.abs(in_track - full).max() > 0.1
    heard = hasher.respond(cut), full
    for answer, expected in (heard, (hasher.respond_in_track(spec, starts), in_track)):
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


def test_a_track_is_hashed_by_the_light_encoder(
    learned: tuple[State, Pairs, Log], pupil: TrackEncoder, tmp_path: Path
) -> None:
    state, pairs, _ = learned
    hasher = Hasher(export(tmp_path / "m", state, pairs, pupil, {}, "# Card"))
    song = render_track(410, 8.0, RATE)
    hashed = hasher.hash_track([song], embeddings=True)
    spec = spectrogram([song], FEATURES)
    starts = np.arange(0, len(spec) - 14 + 1, FEATURES.snippet_hop)
    np.testing.assert_array_equal(hashed.snippet, np.arange(len(starts)))
    with torch.no_grad():
        expected = pupil(windows_of(spec, starts, pupil.reach)).numpy()
    assert hashed.embeddings is not None
    np.testing.assert_allclose(hashed.embeddings, expected, atol=3e-3)
    # Codes are those of the same answers.
    responses = hasher.respond_in_track(spec, starts).responses
    np.testing.assert_array_equal(hashed.codes, hasher.quantizer.encode(responses))


def every_answer(state: State, pupil: TrackEncoder | None, pairs: Pairs) -> np.ndarray:
    """Embeddings [tiles, offsets, d] of all clean snippets of a pool, by the networks of torch."""
    pool = pairs.pool
    tiles, offsets = len(pool.spectra), np.arange(pool.offsets)
    if pupil is None:
        tile, offset = (part.ravel() for part in np.mgrid[:tiles, : pool.offsets])
        cut = pool.snippets(tile, np.zeros_like(tile), offset)
        inputs = standardise(cut, FEATURES).reshape(cut.shape)
        return encode(state.trained, inputs, state.device)[0].reshape(tiles, pool.offsets, -1)
    clean = pool.spectra[:, 0].astype(np.float32)
    with torch.no_grad():
        found = [pupil(windows_of(spec, offsets, pupil.reach)).numpy() for spec in clean]
    return np.stack(found)


@pytest.mark.parametrize("with_light", [False, True])
def test_clean_music_is_snippets_from_anywhere_in_tiles(
    learned: tuple[State, Pairs, Log],
    pupil: TrackEncoder,
    monkeypatch: pytest.MonkeyPatch,
    with_light: bool,
) -> None:
    monkeypatch.setattr(encoder, "STATISTICS_SNIPPETS", 403)
    state, pairs, _ = learned
    if with_light:
        graph = track_graph(16, *pupil.folded(), pupil.reach)
        reach, every = pupil.reach, every_answer(state, pupil, pairs)
    else:
        layers, project, _ = state.trained.folded()
        graph = encoder_graph(16, 14, layers, project)
        reach, every = None, every_answer(state, None, pairs)
    found = clean_music(graph, reach, pairs)
    assert found.dtype == np.float32
    assert found.shape == (400, 16)  # four of each of a hundred tiles
    places = []
    for four in found.reshape(100, 4, 16):
        off = np.abs(every[:, :, None] - four).max(axis=-1)
        tile = int(off.min(axis=1).max(axis=-1).argmin())
        offset = off[tile].argmin(axis=0)
        assert off[tile].min(axis=0).max() < 2e-3
        assert len(set(offset)) == 4
        places += [(tile, int(one)) for one in offset]
    tiles, offsets = (np.array(part) for part in zip(*places, strict=True))
    assert np.all(np.diff(tiles) >= 0)
    # A hundred draws of 32 miss one of them with a chance of 4 %, and 400 no one of 29 places.
    assert len(set(tiles)) > 25
    assert sorted(set(offsets)) == list(range(29))
    np.testing.assert_array_equal(found, clean_music(graph, reach, pairs))
    reseeded = dataclasses.replace(pairs, settings=changed(seed=9))
    assert not np.array_equal(found, clean_music(graph, reach, reseeded))


@pytest.mark.parametrize("with_light", [False, True])
def test_statistics_are_those_of_clean_snippets(
    learned: tuple[State, Pairs, Log], pupil: TrackEncoder, tmp_path: Path, with_light: bool
) -> None:
    state, pairs, _ = learned
    light = pupil if with_light else None
    hasher = Hasher(export(tmp_path / "m", state, pairs, light, {}, "# Card"))
    quantizer = hasher.quantizer
    assert isinstance(quantizer, LearnedQuantizer)
    clean, starts = pairs.pool.spectra[:, 0].astype(np.float32), np.arange(29)  # every snippet
    answer = Answer.join([hasher.respond_in_track(spec, starts) for spec in clean])
    assert answer.embeddings is not None
    np.testing.assert_allclose(np.linalg.norm(answer.embeddings, axis=1), 1.0, atol=1e-4)
    margins = quantizer.head.margins(answer.responses)
    # Half of all bits are one, and half of all margins are within a spread.
    np.testing.assert_allclose((margins > 0).mean(axis=0), 0.5, atol=0.04)
    assert abs((np.abs(margins) < 1).mean() - 0.5) < 0.05
    # A byte for two numbers keeps nearly all of them.
    kept = quantizer.decode(quantizer.encode(answer.responses))
    lost = np.mean((kept - answer.responses) ** 2)
    assert lost < 0.05 * np.mean(answer.responses.var(axis=0))


@pytest.mark.parametrize("with_light", [False, True])
def test_the_same_state_gives_the_same_model(
    learned: tuple[State, Pairs, Log], pupil: TrackEncoder, tmp_path: Path, with_light: bool
) -> None:
    state, pairs, _ = learned
    light = pupil if with_light else None
    first, again = (export(tmp_path / n, state, pairs, light, {}, "# Card") for n in ("a", "b"))
    assert first.digest == again.digest
