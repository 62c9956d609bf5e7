from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign_encoder import CELLS, DIMENSIONS, FEATURES, encoder, node, projection, unit, written
from published_index import wav
from tiny_catalog import RATE

from hashing.encoders import Hasher
from hashing.errors import HashbeamError, ModelError
from hashing.models import Model, load_model
from hashing.snippets import standardise
from hashing.synthesis import render_track
from hashing.training import adopt as adoption_module
from hashing.training import corpus
from hashing.training.adopt import Adoption, adopt, recordings
from hashing.training.embeddings import clean_embeddings
from hashing.training.heads import HeadTraining, fit_head

TRACKS = 8

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """Eight short tracks by as many artists."""
    folder = tmp_path_factory.mktemp("music")
    return [
        {
            "track_id": f"t{i}",
            "uri": str(wav(folder / f"{i}.wav", render_track(i, 5.0, RATE))),
            "artist_name": f"artist {i}",
        }
        for i in range(TRACKS)
    ]


def made(
    folder: Path, rows: Rows, model: onnx.ModelProto | None = None, **settings: Any
) -> tuple[Model, list[str]]:
    """A model folder and what was said about it."""
    few = {
        "snippets": 300,
        "pairs": 8,
        "bits": 32,
        "n_tables": 4,
        "calibrated": False,
        "catalog": "c.csv",
    }
    adoption = Adoption(rows, FEATURES, **{**few, **settings})
    said: list[str] = []
    path = written(folder / "enc.onnx", model)
    return adopt(path, adoption, folder / "model", folder / "work", said.append), said


@pytest.fixture(scope="module")
def imported(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that nobody changes."""
    return made(tmp_path_factory.mktemp("imported"), rows)[0]


def complaint(
    folder: Path, rows: Rows, model: onnx.ModelProto | None = None, **settings: Any
) -> str:
    with pytest.raises(HashbeamError) as raised:
        made(folder, rows, model, **settings)
    assert not (folder / "model").exists()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_model_like_any_other(tmp_path: Path, rows: Rows) -> None:
    model, said = made(tmp_path, rows)
    assert said[0] == "enc.onnx: 16 numbers a snippet of 0.53 s, taken as bands-frames"
    hasher = Hasher(load_model(str(model.path)))
    assert (hasher.quantizer.code_bytes, hasher.quantizer.n_tables) == (DIMENSIONS // 4, 4)
    assert hasher.quantizer.key_bits_max == 32
    assert hasher.config["kind"] == "learned"
    track = hasher.hash_track([render_track(3, 4.0, RATE)], embeddings=True)
    assert track.embeddings is not None
    assert track.embeddings.shape == (len(track.codes), DIMENSIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["enc.onnx", "model", "work"]
    assert not (tmp_path / "work" / "draft").exists()


def test_embeddings_are_what_the_encoder_says_less_what_is_common(
    tmp_path: Path, rows: Rows
) -> None:
    """By the formula: made one, the mean of clean music off, made one again."""
    shifted = encoder(
        after=[node("Add", ["product", "all"], "out")],
        values={"all": np.full(DIMENSIONS, 0.4, np.float32)},
    )
    model, _ = made(tmp_path, rows, shifted)
    hasher = Hasher(model)
    cut = np.random.default_rng(5).normal(-30.0, 9.0, (40, 16, 14)).astype(np.float32)
    raw = standardise(cut, FEATURES) @ projection() + 0.4
    weights = {t.name: t for t in onnx.load_from_string(model.graph("model")).graph.initializer}
    mean = onnx.numpy_helper.to_array(weights["mean"])
    assert np.linalg.norm(mean) > 0.2
    answer = hasher.respond(cut)
    assert answer.embeddings is not None
    np.testing.assert_allclose(answer.embeddings, unit(unit(raw) - mean), atol=1e-5)
    assert answer.norms is not None
    np.testing.assert_allclose(answer.norms, np.linalg.norm(raw, axis=1), rtol=1e-5)
    # Of music that it was fitted to, moments have nothing in common on average.
    music = corpus.load(rows, RATE, tmp_path / "work")
    found = clean_embeddings(hasher.respond, FEATURES, music, range(TRACKS), 400, seed=9)
    assert np.linalg.norm(found.embeddings.mean(axis=0)) < 0.15
    assert model.config["figures"]["alike"] > 0.15


def test_codes_find_degraded_snippets(tmp_path: Path, rows: Rows) -> None:
    model, _ = made(tmp_path, rows, encoder(weights=projection(CELLS, 64)), pairs=200)
    figures = model.config["figures"]
    assert figures["varying"] == 64
    # Eight tracks of five seconds, 80 moments: neighbours are nearly the same.
    assert figures["recall"] > 10 / 80
    assert figures["recall_rounded"] > 0.7 * figures["recall"]
    assert figures["met_by_keys"] > 3 * figures["met_by_chance"]


def test_the_same_seed_gives_the_same_model(tmp_path: Path, rows: Rows) -> None:
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        digests.append(made(tmp_path / name, rows, seed=seed)[0].digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_card_and_the_story(tmp_path: Path, rows: Rows) -> None:
    model, _ = made(tmp_path, rows, command="hashbeam import-model enc.onnx")
    content = (tmp_path / "enc.onnx").read_bytes()
    story = model.config["training"]
    assert story["encoder"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert (story["encoder"]["input"], story["encoder"]["output"]) == ("mel", "product")
    assert (story["tracks_fitted"], story["tracks_calibrated"]) == (TRACKS, [])
    assert story["snippets"] == 300
    assert story["code_bytes"] == 4
    card = (model.path / "README.md").read_text()
    for words in (
        "# Imported encoder enc.onnx, snippets of 0.53 s",
        story["encoder"]["sha256"],
        f"{len(content):,} bytes, opset 15",
        "`hashbeam import-model enc.onnx`",
        "300 snippets of 8 tracks",
        "`c.csv`",
        "an index keeps 4 bytes of them",
        "not fitted (`--no-calibration`)",
        f"| recall | {model.config['figures']['recall']:.4g} |",
    ):
        assert words in card
    for text in (card, (model.path / "config.json").read_text()):
        assert str(tmp_path) not in text


def test_short_snippets_are_warned_of(tmp_path: Path, rows: Rows) -> None:
    longer = encoder((16, 20), projection(16 * 20, 9))
    model, said = made(tmp_path, rows, longer)
    warnings = [line for line in said if line.startswith("warning: ")]
    assert warnings == [
        "warning: snippets of 14 frames are shorter than the 20 that enc.onnx expects: the last 6 "
        "are filled with the mean; --snippet-frames 20 gives it what it was trained with",
    ]
    # Nine numbers are cut into three parts, of three numbers each.
    assert Hasher(model).quantizer.code_bytes == 3
    assert (
        "The encoder takes 20 frames; the last 6 are filled"
        in (model.path / "README.md").read_text()
    )


def test_answers_that_never_vary(tmp_path: Path, rows: Rows) -> None:
    same = encoder(
        after=[node("Mul", ["product", "zero"], "none"), node("Add", ["none", "one"], "out")],
        values={"zero": np.zeros(1, np.float32), "one": np.ones(DIMENSIONS, np.float32)},
    )
    text = complaint(tmp_path, rows, same)
    assert "enc.onnx answers every snippet with the same embedding: is out the right" in text


def test_answers_that_are_always_zero(tmp_path: Path, rows: Rows) -> None:
    zero = encoder(weights=np.zeros((CELLS, DIMENSIONS)))
    assert "the same embedding" in complaint(tmp_path, rows, zero)


def test_answers_that_hardly_vary_are_warned_of(tmp_path: Path, rows: Rows) -> None:
    nearly = encoder(
        after=[node("Add", ["product", "much"], "out")],
        values={"much": np.full(DIMENSIONS, 30.0, np.float32)},
    )
    _, said = made(tmp_path, rows, nearly)
    assert any("answers different snippets almost alike (mean cosine 0.9" in line for line in said)


def test_numbers_that_never_vary_are_warned_of(tmp_path: Path, rows: Rows) -> None:
    dead = projection()
    dead[:, 6:] = 0.0
    model, said = made(tmp_path, rows, encoder(weights=dead))
    assert "warning: only 6 of the 16 numbers of enc.onnx ever vary" in said
    assert model.config["figures"]["varying"] == 6


def test_no_numbers_for_some_of_the_music(
    tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root of what is negative now and then, and never in the snippets that were tried first."""
    from hashing.training import wrapping

    monkeypatch.setattr(wrapping, "_trial", lambda cells: np.zeros((3, cells), np.float32))
    rooted = encoder(
        after=[node("Add", ["product", "some"], "more"), node("Sqrt", ["more"], "out")],
        values={"some": np.full(1, 0.5, np.float32)},
    )
    with pytest.raises(ModelError, match=r"answers \d+\.\d% of the snippets with what is no num"):
        made(tmp_path, rows, rooted)


def test_folders_that_are_not_empty(tmp_path: Path, rows: Rows) -> None:
    (tmp_path / "model").mkdir()
    model, _ = made(tmp_path, rows)  # an empty one is taken
    with pytest.raises(HashbeamError, match="model exists already: name another folder"):
        made(tmp_path, rows)
    assert load_model(str(model.path)).digest == model.digest


def test_too_little_music_for_the_score_is_told_before_it_is_decoded(
    tmp_path: Path, rows: Rows
) -> None:
    text = complaint(tmp_path, rows[:5], calibrated=True)
    assert "5 tracks are too few to calibrate the score on with no album or artist_name on" in text
    assert "--no-calibration" in text
    one = [{**row, "artist_name": "one"} for row in rows]
    assert "8 tracks are too few" in complaint(tmp_path, one, calibrated=True)
    assert not (tmp_path / "work").exists()


def test_snippets_too_long_for_the_score(tmp_path: Path, rows: Rows) -> None:
    slow = dataclasses.replace(FEATURES, n_fft=8000, hop_length=4000)  # 13 hops and a window: 7.5 s
    path = written(tmp_path / "enc.onnx")
    adoption = Adoption(rows, slow)
    with pytest.raises(HashbeamError, match=r"snippets of 7\.50 s are too long for the calibra"):
        adopt(path, adoption, tmp_path / "model", tmp_path / "work", print)


def test_large_catalogues_are_sampled(
    tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption_module, "MOST_TRACKS", 7)
    model, said = made(tmp_path, rows)
    assert "listening to 7 of 8 tracks" in said
    assert model.config["training"]["tracks_fitted"] == 7


def test_too_little_music(tmp_path: Path, rows: Rows) -> None:
    text = complaint(tmp_path, rows[:2])
    assert "no more than 80 snippets that are heard, fitting needs 256: add music" in text


def test_recordings(tmp_path: Path) -> None:
    folder = tmp_path / "noise"
    folder.mkdir()
    with pytest.raises(HashbeamError, match="noise holds no recording"):
        recordings([folder], RATE)
    with pytest.raises(HashbeamError, match="none is not a folder"):
        recordings([tmp_path / "none"], RATE)
    (folder / "LICENCE.txt").write_text("free")
    wav(folder / "b.wav", np.full(RATE, 0.5, np.float32))
    wav(folder / "a.wav", np.full(RATE // 2, 0.25, np.float32))
    assert [one.size for one in recordings([folder], RATE)] == [RATE // 2, RATE]
    assert recordings([], RATE) == []


@pytest.mark.parametrize("kind", ["lsh", "pca", "itq", "opq"])
def test_hashes_are_fitted_to_its_embeddings(kind: str, imported: Model, rows: Rows) -> None:
    """Nothing in a hash of embeddings knows where the encoder came from."""
    hasher = Hasher(imported)
    music = corpus.load(rows, RATE, imported.path.parent / "work")
    clean = clean_embeddings(hasher.respond, FEATURES, music, range(TRACKS), 300, seed=1)
    settings = HeadTraining(kind, bits=16, n_tables=2)
    out = imported.path.parent / kind
    head = Hasher(fit_head(imported, clean.embeddings, settings, {}, out))
    cut = np.random.default_rng(5).normal(-30.0, 9.0, (50, 16, 14)).astype(np.float32)
    answer, below = head.respond(cut), hasher.respond(cut)
    assert answer.embeddings is not None
    np.testing.assert_allclose(answer.embeddings, below.embeddings, atol=1e-6)
    codes = head.quantizer.encode(answer.responses)
    assert codes.shape == (50, 2)
    assert len(np.unique(codes, axis=0)) > 25
