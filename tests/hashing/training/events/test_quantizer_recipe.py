"""A whole run from labelled files of tones to a model of codes, which a hasher opens."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_sounds import CLIP, PITCHES, any_encoder, tone, write_tones
from training_fixture import Log

from hashing.average_precision import mean_average_precision
from hashing.codebooks import Codebooks
from hashing.encoders import Hasher
from hashing.errors import HashbeamError, ModelError
from hashing.events.encoder import ClipEmbedder
from hashing.events.spectra import hear
from hashing.events.words import WordVectors
from hashing.features import FeatureConfig, spectrogram
from hashing.fronts import session_of
from hashing.models import EVENTS_KIND, Model
from hashing.snippets import snippets, standardise
from hashing.taxonomy import Taxonomy
from hashing.training.events import quantizer_recipe
from hashing.training.events.quantization import Quantized, QuantizerTraining, train_quantizer
from hashing.training.events.quantizer_recipe import QuantizerRecipe, train_events
from hashing.training.events.self_training import Guesses
from hashing.training.events.sources import Source

TREE = Taxonomy({"noise": None, "hiss": "noise", "tone": None, "hum": "tone", "whistle": "tone"})
TINY = QuantizerTraining(
    code_bytes=4,
    hidden=32,
    bottleneck=24,
    words=0.3,
    steps=150,
    batch=64,
    learning_rate=6e-3,
    codebook_steps=40,
    seed=5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything is."""
    return tmp_path_factory.mktemp("events")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Model:
    """An untrained encoder."""
    return any_encoder(folder / "encoder")


@pytest.fixture(scope="module")
def tones(folder: Path) -> Source:
    """Files of 29 windows, three of each kind to learn from and one not; another has no label."""
    found = write_tones(folder / "tones", 3, 1, 60.5)
    spare = write_tones(folder / "spare", 1, 0, 4.0, "spare-")
    ids, paths = [*found.ids, spare.ids[0]], [*found.paths, spare.paths[0]]
    return Source("tones", ids, paths, [*found.labels, ()])


@pytest.fixture(scope="module")
def made(tones: Source, encoder: Model) -> QuantizerRecipe:
    """What the model is made of."""
    return QuantizerRecipe(
        [tones], TREE, TINY, str(encoder.path), command="hashbeam train events --catalog tones.csv"
    )


@pytest.fixture(scope="module", autouse=True)
def _few() -> Iterator[None]:
    """Two versions of each window, for three there is no room."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(quantizer_recipe, "MOST_EMBEDDED", 3 * 9 * 29 - 1)
        yield


@pytest.fixture(scope="module")
def model(made: QuantizerRecipe, folder: Path) -> Model:
    """The model."""
    return train_events(made, folder / "model", folder / "work", Log())


def changed(made: QuantizerRecipe, **values: Any) -> QuantizerRecipe:
    return dataclasses.replace(made, training=dataclasses.replace(TINY, steps=3, **values))


def test_the_folder_tells_what_it_is(model: Model, encoder: Model) -> None:
    config = model.config
    assert (config["kind"], config["bits"], config["dimensions"]) == (EVENTS_KIND, 32, 16)
    assert config["labels"] == sorted(PITCHES)
    assert FeatureConfig.from_json(config["features"]) == CLIP
    assert Taxonomy.from_json(config["taxonomy"]).ancestors("hum") == ("tone",)
    assert config["words"] == ["hiss", "hum", "noise", "tone", "whistle"]
    story = config["training"]
    assert story["encoder"] == {"name": "encoder", "digest": encoder.digest, "wide": False}
    # Three files of each kind; the one without a label is not learned from.
    assert (story["clips"], story["versions"]) == (9 * 29, 2)
    assert model.arrays["codebooks"].shape == (4, 256, 6)
    assert model.arrays["word_vectors"].shape == (5, 24)
    card = (model.path / "README.md").read_text()
    for told in (
        "dqn, 32 bits",
        "`hashbeam train events --catalog tones.csv`",
        "261 labelled windows in 2 versions each",
        "3 labels\n(with a taxonomy)",
        "5 words of labels",
        f"| map | {config['figures']['map']:.3f} |",
    ):
        assert told in card


def test_its_codes_are_those_of_its_graph(model: Model) -> None:
    hasher = Hasher.load(str(model.path))
    samples = tone("whistle", 77, 9.0)
    found = hasher.hash_track([samples], embeddings=True)
    cut, _ = snippets(spectrogram([samples], CLIP), CLIP)
    assert len(cut) == 3
    flat = standardise(cut, CLIP).reshape(len(cut), -1)
    outputs = ["responses", "embedding"]
    responses, embedding = session_of(model.graph("model")).run(outputs, {"snippets": flat})
    assert found.embeddings is not None
    np.testing.assert_allclose(found.embeddings, embedding, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(responses, axis=1), 1, atol=1e-5)
    parts = responses.reshape(len(cut), 4, 1, 6)
    nearest = ((parts - model.arrays["codebooks"][None]) ** 2).sum(axis=3).argmin(axis=2)
    assert (found.codes == nearest).mean() > 0.9  # by embeddings in half precision
    np.testing.assert_array_equal(hasher.hash_track([samples]).codes, nearest)


def test_its_embedding_is_that_of_the_encoder(
    model: Model, encoder: Model, tones: Source, folder: Path
) -> None:
    spectra = hear(tones.paths, folder / "work" / "spectra", CLIP)
    cut = spectra.cut(np.arange(0, 300, 30))
    expected = ClipEmbedder(encoder).embed(cut)
    found = Hasher.load(str(model.path)).respond(cut)
    assert found.embeddings is not None
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-3)


def test_its_responses_and_figures_are_those_of_what_was_trained(
    made: QuantizerRecipe, tones: Source, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Quantized] = []

    def told(*args: Any, **more: Any) -> Quantized:
        kept.append(train_quantizer(*args, **more))
        return kept[0]

    monkeypatch.setattr(quantizer_recipe, "train_quantizer", told)
    model = train_events(changed(made), folder / "brief", folder / "work", Log())
    spectra = hear(tones.paths, folder / "work" / "spectra", CLIP)
    found = Hasher.load(str(model.path)).respond(spectra.cut(np.arange(len(spectra.file))))
    assert found.embeddings is not None
    expected = kept[0].respond(found.embeddings)
    np.testing.assert_allclose(found.responses, expected, atol=1e-2)  # in half precision
    # Windows that are held out ask among those that were learned from.
    held, names = tones.held_out()[spectra.file], [tones.labels[at] for at in spectra.file]
    stored = [row for row, name in enumerate(names) if name and not held[row]]
    asking = [row for row, name in enumerate(names) if name and held[row]]
    assert (len(stored), len(asking)) == (9 * 29, 3 * 29)
    relevant = np.array([[names[row] == names[other] for other in stored] for row in asking])
    books = Codebooks(model.arrays["codebooks"])
    decoded = books.decode(books.encode(expected[stored]))
    apart = ((expected[asking][:, None] - decoded[None]) ** 2).sum(axis=2)
    vectors = found.embeddings
    for name, distances in {
        "map": apart,
        "map_real": -expected[asking] @ expected[stored].T,
        "map_embedding": -vectors[asking] @ vectors[stored].T,
    }.items():
        figure = mean_average_precision(distances, relevant)
        assert model.config["figures"][name] == pytest.approx(figure, abs=2e-3)
        assert figure < 1
    best = mean_average_precision(apart, relevant, 10)
    assert model.config["figures"]["map_at_10"] == pytest.approx(best, abs=1e-2)


def test_words_and_codes_find_sounds_of_a_kind(model: Model) -> None:
    figures = model.config["figures"]
    assert set(figures) == {"map", "map_at_10", "map_real", "map_embedding"}
    assert figures["map"] > 0.9
    assert figures["map_real"] > 0.9
    assert figures["map"] > figures["map_embedding"]
    hasher, words = Hasher.load(str(model.path)), WordVectors.from_model(model)
    assert words is not None
    heard = {
        kind: hasher.hash_query([tone(kind, 90 + seed, 4.0)]).responses[0]
        for seed, kind in enumerate(PITCHES)
    }

    def nearest(text: str) -> list[str]:
        vector, _ = words.embed(text)
        return sorted(heard, key=lambda kind: -float(heard[kind] @ vector))

    for kind in PITCHES:
        assert nearest(kind)[0] == kind
    assert set(nearest("tones")[:2]) == {"hum", "whistle"}
    assert nearest("noise")[0] == "hiss"


def test_the_same_seed_writes_the_same_model(
    made: QuantizerRecipe, model: Model, folder: Path, tmp_path: Path
) -> None:
    assert train_events(made, tmp_path / "again", folder / "work", Log()).digest == model.digest


def test_a_model_of_the_wide_embedding_without_words_or_taxonomy(
    made: QuantizerRecipe, folder: Path, tmp_path: Path
) -> None:
    recipe = changed(made, words=0.0, code_bytes=1)
    recipe = dataclasses.replace(recipe, wide=True, taxonomy=None)
    model = train_events(recipe, tmp_path / "wide", folder / "work", Log())
    assert model.config["dimensions"] == 1024
    assert (model.config["words"], model.config["taxonomy"]) == ([], None)
    assert "word_vectors" not in model.arrays
    assert "(without a taxonomy)" in (model.path / "README.md").read_text()
    track = Hasher.load(str(model.path)).hash_track([tone("hum", 5, 6.0)], embeddings=True)
    assert track.codes.shape == (2, 1)
    assert track.embeddings is not None
    assert track.embeddings.shape == (2, 1024)


def test_clips_without_labels_are_guessed_where_that_is_asked(
    made: QuantizerRecipe, tones: Source, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []

    def noted(views: Any, sets: Any, *rest: Any, **more: Any) -> Guesses:
        for values, unlabelled in views:
            asked.append((len(values), len(sets.of), *unlabelled.shape))
        return Guesses(np.arange(3), np.zeros(3, np.int64))

    monkeypatch.setattr(quantizer_recipe, "guess_labels", noted)
    spare = dataclasses.replace(tones, name="spare", ids=["s"], paths=[tones.paths[0]], labels=[()])
    recipe = changed(dataclasses.replace(made, sources=[tones, spare]))
    plain = train_events(recipe, folder / "plain", folder / "work", Log())
    assert not asked
    model = train_events(
        dataclasses.replace(recipe, guesses=True), folder / "guessed", folder / "work", Log()
    )
    # The file without labels, and one of 29 windows.
    clips = plain.config["training"]["clips"]
    wide = ClipEmbedder.load(str(made.encoder), True).dimensions
    assert asked == [(clips, clips, 30, 2, 16), (clips, clips, 30, 2, wide)]
    assert model.config["training"]["clips_guessed"] == 30
    assert "30 others whose labels were guessed" in (model.path / "README.md").read_text()
    assert "guessed" not in (plain.path / "README.md").read_text()


def test_codes_of_signs_are_no_model_of_clips(made: QuantizerRecipe) -> None:
    with pytest.raises(ValueError, match="orthohash has no codebooks"):
        changed(made, system="orthohash")


def test_without_clips_that_are_held_out_there_are_no_figures(
    made: QuantizerRecipe, tones: Source, folder: Path, tmp_path: Path
) -> None:
    held = tones.held_out()
    labels = [() if out else one for one, out in zip(tones.labels, held, strict=True)]
    recipe = dataclasses.replace(changed(made), sources=[dataclasses.replace(tones, labels=labels)])
    model = train_events(recipe, tmp_path / "m", folder / "work", Log())
    assert model.config["figures"] == {}


def test_what_cannot_be_trained(
    made: QuantizerRecipe, tones: Source, folder: Path, tmp_path: Path
) -> None:
    few = dataclasses.replace(
        tones, labels=[one if one == ("hum",) else () for one in tones.labels]
    )
    with pytest.raises(HashbeamError, match="87 labelled clips are too few for codebooks: 256"):
        train_events(dataclasses.replace(made, sources=[few]), tmp_path, folder / "work", Log())
    with pytest.raises(ModelError, match="name one of the kind 'clips'"):
        train_events(
            dataclasses.replace(made, encoder="contrastive"), tmp_path, folder / "work", Log()
        )
    assert not (tmp_path / "config.json").exists()
