"""Snippets of whole tracks, heard one by one or by an encoder whose layers they share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_fixture import learned_model, random_model, track_model, track_network

from hashing import track_fronts
from hashing.errors import ModelError
from hashing.features import FeatureConfig, spectrogram
from hashing.fronts import Answer, open_front
from hashing.models import Model, save_model
from hashing.quantizers import open_quantizer
from hashing.snippets import audible, standardise, standardise_frames, windows
from hashing.synthesis import render_track
from hashing.track_fronts import Reach, SeparateSnippets, SharedLayers, open_fronts
from hashing.training.export import append_linear, track_graph
from hashing.training.networks import TrackEncoder

CONFIG = FeatureConfig()

# Weights of graphs are stored in half precision.
HALF = 3e-3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return track_model(tmp_path_factory.mktemp("m") / "tracks")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return learned_model(tmp_path_factory.mktemp("m") / "learned")


@pytest.fixture(scope="module")
def shared(model: Model) -> SharedLayers:
    front, _ = open_fronts(model, CONFIG, open_quantizer(model))
    assert isinstance(front, SharedLayers)
    return front


@pytest.fixture(scope="module")
def spec() -> np.ndarray:
    return spectrogram([render_track(1, 12.0, CONFIG.sample_rate)], CONFIG)


def joined(parts: Iterator[Answer]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Responses, embeddings and norms."""
    answer = Answer.join(list(parts))
    assert answer.embeddings is not None
    assert answer.norms is not None
    return answer.responses, answer.embeddings, answer.norms


def one_by_one(spec: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and norms by the network itself, every snippet cut out with its surroundings."""
    network = track_network()
    # 8 frames before a snippet of 28, and 12 after it; zeros beyond the ends of the track.
    padded = np.zeros((8 + len(spec) + 12, 64), np.float32)
    padded[8 : 8 + len(spec)] = standardise_frames(spec, CONFIG)
    around = np.stack([padded[start : start + 8 + 28 + 12].T for start in starts])
    with torch.no_grad():
        image = torch.from_numpy(around)
        columns = network.trunk(image[:, None])[:, :, :, 1 : 1 + network.columns]
        norms = network.project(columns.flatten(1)).norm(dim=1)
        return network(image).numpy(), norms.numpy()


# --- an encoder that hears the whole spectrogram


def test_how_many_frames_answers_need(shared: SharedLayers) -> None:
    assert shared.reach == Reach(stride=8, before=8, after=12)
    assert [shared.reach.frames(n, CONFIG) for n in (1, 2, 3)] == [48, 56, 64]


@pytest.mark.parametrize("hop", [16, 8])
def test_shared_layers_answer_as_the_network_does(
    shared: SharedLayers, spec: np.ndarray, hop: int
) -> None:
    starts = np.arange(0, len(spec) - 27, hop)
    responses, embeddings, norms = joined(shared(spec, starts))
    expected, lengths = one_by_one(spec, starts)
    np.testing.assert_allclose(embeddings, expected, atol=HALF)
    np.testing.assert_allclose(norms, lengths, rtol=HALF)
    # Responses are the embedding turned.
    np.testing.assert_allclose(responses @ responses.T, embeddings @ embeddings.T, atol=1e-4)
    # A frame earlier or later is something else.
    for off in (-1, 1):
        other, _ = one_by_one(spec, starts[1:-1] + off)
        assert np.abs(other - expected[1:-1]).max(axis=1).min() > 10 * HALF


def test_a_snippet_is_heard_with_what_is_around_it(shared: SharedLayers, spec: np.ndarray) -> None:
    starts = np.array([160])
    _, whole, _ = joined(shared(spec, starts))
    for change, moves in (([160 - 8], True), ([187 + 12], True), ([160 + 5], True), ([230], False)):
        changed = spec.copy()
        changed[change] -= 20.0
        _, other, _ = joined(shared(changed, starts))
        assert (np.abs(other - whole).max() > 1e-3) == moves


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_how_many_snippets_share_a_run_does_not_matter(
    shared: SharedLayers, spec: np.ndarray, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = np.arange(0, len(spec) - 27, 8)
    whole = list(shared(spec, starts))
    monkeypatch.setattr(track_fronts, "SHARED_BATCH", batch)
    parts = list(shared(spec, starts))
    assert len(whole) == 1
    sizes = [len(part.responses) for part in parts]
    assert sizes[:-1] == [batch] * (len(sizes) - 1)
    for one, other in zip(joined(iter(parts)), joined(iter(whole)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_snippets_between_the_answers_of_a_graph(shared: SharedLayers, spec: np.ndarray) -> None:
    """Denser ones than a stride: four phases, which come out in the order of the snippets."""
    starts = np.arange(0, len(spec) - 27, 2)
    _, embeddings, norms = joined(shared(spec, starts))
    expected, lengths = one_by_one(spec, starts)
    np.testing.assert_allclose(embeddings, expected, atol=HALF)
    np.testing.assert_allclose(norms, lengths, rtol=HALF)


def test_a_track_of_exactly_one_snippet(shared: SharedLayers, spec: np.ndarray) -> None:
    short, starts = spec[:28], np.array([0])
    _, embeddings, _ = joined(shared(short, starts))
    expected, _ = one_by_one(short, starts)
    np.testing.assert_allclose(embeddings, expected, atol=HALF)
    # It is not what the same music is in the middle of a track.
    assert np.abs(expected - one_by_one(spec, starts)[0]).max() > 10 * HALF


def test_no_snippets_have_no_answers(
    shared: SharedLayers, learned: Model, model: Model, spec: np.ndarray
) -> None:
    none = np.empty(0, np.int32)
    separate, _ = open_fronts(learned, CONFIG, open_quantizer(learned))
    for front in (shared, separate):
        for music in (spec, spec[:28], spec[:5]):
            responses, embeddings, norms = joined(front(music, none))
            assert responses.shape == embeddings.shape == (0, 64)
            assert norms.shape == (0,)
            assert open_quantizer(model).encode(responses).shape == (0, 32)


def mirror(reach: Reach, features: FeatureConfig, heard: list[int]) -> SharedLayers:
    """A front whose answers are what it was given of each snippet."""
    width = reach.frames(1, features)

    def run(values: np.ndarray) -> Answer:
        n, left = divmod(len(values) - width, reach.stride)
        assert left == 0  # no frame is computed that nobody needs
        heard.append(n + 1)
        at = np.arange(n + 1) * reach.stride
        return Answer(np.stack([values[start : start + width].ravel() for start in at]))

    return SharedLayers(run, reach, features)


@given(
    frames=st.integers(5, 60),
    reach=st.builds(
        Reach, stride=st.integers(1, 9), before=st.integers(0, 7), after=st.integers(0, 7)
    ),
    batch=st.integers(1, 6),
    chosen=st.sets(st.integers(0, 55)),
)
def test_every_snippet_is_where_it_starts(
    frames: int, reach: Reach, batch: int, chosen: set[int]
) -> None:
    """Whatever is left out, whatever the phases, and however many share a run."""
    features = FeatureConfig(n_bands=2, snippet_frames=5, snippet_hop=3)
    spec = np.random.default_rng(frames).uniform(-50, 0, (frames, 2)).astype(np.float32)
    starts = np.array(sorted(start for start in chosen if start + 5 <= frames), np.int32)
    heard: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(track_fronts, "SHARED_BATCH", batch)
        found = Answer.join(list(mirror(reach, features, heard)(spec, starts))).responses
    standard = standardise_frames(spec, features)
    assert len(found) == len(starts)
    for row, start in zip(found, starts.tolist(), strict=True):
        expected = [
            standard[frame] if 0 <= frame < frames else np.zeros(2)
            for frame in range(start - reach.before, start + 5 + reach.after)
        ]
        np.testing.assert_array_equal(row.reshape(-1, 2), expected)
    assert max(heard, default=0) <= batch


def test_nothing_is_computed_where_all_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track_fronts, "SHARED_BATCH", 4)
    heard: list[int] = []
    front = mirror(Reach(8, 8, 12), CONFIG, heard)
    spec = np.full((28 + 8 * 199, 64), -80.0, np.float32)
    spec[800:828, 3] = -10.0
    starts = audible(spec, CONFIG, 8)
    assert starts.tolist() == list(range(776, 825, 8))  # numbers 97 to 103
    sizes = [len(answer.responses) for answer in front(spec, starts)]
    # Runs of four from the start of the track: those that begin at 96 and at 100.
    assert (sizes, heard) == ([3, 4], [4, 4])


# --- snippets that are heard one by one


def test_separate_snippets_are_standardised_alone(learned: Model, spec: np.ndarray) -> None:
    front, query_front = open_fronts(learned, CONFIG, open_quantizer(learned))
    starts = np.array([0, 3, 16, 100, len(spec) - 28])
    expected = query_front(standardise(windows(spec, CONFIG)[starts], CONFIG))
    np.testing.assert_allclose(
        Answer.join(list(front(spec, starts))).responses, expected.responses, atol=1e-5
    )


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_separate_snippets_come_in_batches(
    spec: np.ndarray, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track_fronts, "BATCH", batch)
    starts = np.arange(0, 5 * 40, 5)
    parts = list(SeparateSnippets(Answer, CONFIG)(spec, starts))
    assert [len(part.responses) for part in parts] == [
        min(batch, 40 - done) for done in range(0, 40, batch)
    ]
    expected = standardise(windows(spec, CONFIG)[starts], CONFIG)
    np.testing.assert_array_equal(Answer.join(parts).responses, expected)


# --- models that do not fit


def test_queries_have_the_graph_of_snippets(model: Model, learned: Model) -> None:
    """Where the index graph hears spectrograms, and where it does not."""
    inputs = np.random.default_rng(1).standard_normal((3, 64 * 28)).astype(np.float32)
    quantizer = open_quantizer(model)
    _, query = open_fronts(model, CONFIG, quantizer)
    expected = open_front(model, CONFIG, quantizer, "query")(inputs)
    np.testing.assert_array_equal(query(inputs).responses, expected.responses)
    separate, query = open_fronts(learned, CONFIG, open_quantizer(learned))
    assert isinstance(separate, SeparateSnippets)
    assert separate.front is query


def refused(model: Model) -> str:
    with pytest.raises(ModelError) as caught:
        open_fronts(model, CONFIG, open_quantizer(model))
    message = str(caught.value)
    assert "\n" not in message
    assert str(model.path) in message
    return message


def with_graphs(model: Model, folder: Path, graphs: dict[str, bytes]) -> Model:
    return save_model(folder, model.config, graphs, model.arrays, "#")


def told(graph: bytes, **changes: str | None) -> bytes:
    """A graph that tells something else of its reach, or nothing."""
    proto = onnx.load_from_string(graph)
    facts = {entry.key: entry.value for entry in proto.metadata_props} | changes
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {k: v for k, v in facts.items() if v is not None})
    return bytes(proto.SerializeToString())


def test_a_spectrogram_graph_needs_one_for_queries(model: Model, tmp_path: Path) -> None:
    alone = with_graphs(model, tmp_path / "m", {"model": model.graph("model")})
    assert "lacks query.onnx: copy the model anew" in refused(alone)
    both = dict.fromkeys(("model", "query"), model.graph("model"))
    assert "query.onnx does not turn snippets of 1792 values into responses" in refused(
        with_graphs(model, tmp_path / "both", both)
    )


@pytest.mark.parametrize("name", ["stride", "before", "after"])
@pytest.mark.parametrize(
    "value", [None, "", "-8", "+8", "8.0", " 8", "8\n", "eight", "1e1", "99999", "٨"]
)
def test_a_graph_has_to_tell_its_reach(
    model: Model, tmp_path: Path, name: str, value: str | None
) -> None:
    graph = told(model.graph("model"), **{name: value})
    changed = {"model": graph, "query": model.graph("query")}
    message = refused(with_graphs(model, tmp_path / "m", changed))
    assert "model.onnx tells no reach: copy the model anew" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": "0"}, "does not answer every 0 frames"),
        ({"stride": "4"}, "does not answer every 4 frames"),
        ({"stride": "16"}, "does not answer every 16 frames"),
        ({"before": "16"}, "does not answer every 8 frames"),
        ({"after": "20"}, "does not answer every 8 frames"),
        # Too little to hear for one snippet: nothing comes out, or the graph cannot be run at all.
        ({"before": "0"}, "does not answer every 8 frames"),
        ({"before": "0", "after": "0"}, "model.onnx"),
    ],
)
def test_a_graph_has_to_answer_as_often_as_it_tells(
    model: Model,
    tmp_path: Path,
    changes: dict[str, str],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    graphs = {"model": told(model.graph("model"), **changes), "query": model.graph("query")}
    assert message in refused(with_graphs(model, tmp_path / "m", graphs))
    capfd.readouterr()  # ONNX Runtime says so too


def small_graph(bands: int, dimensions: int) -> bytes:
    """A graph for spectrograms of other bands, or with other embeddings."""
    torch.manual_seed(1)
    network = TrackEncoder(bands, CONFIG.snippet_frames, (2, 3), dimensions).eval()
    return track_graph(bands, *network.folded(), network.reach)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (lambda: small_graph(32, 64), "does not turn snippets of 1792 values into responses"),
        (lambda: small_graph(64, 63), "gives responses that its arrays do not fit"),
        (
            lambda: append_linear(
                small_graph(64, 64), np.zeros((64, 3), np.float32), np.zeros(3, np.float32)
            ),
            "gives responses that its arrays do not fit",
        ),
    ],
)
def test_spectrogram_graphs_of_another_width_are_refused(
    model: Model, tmp_path: Path, graph: Callable[[], bytes], message: str
) -> None:
    graphs = {"model": graph(), "query": model.graph("query")}
    assert message in refused(with_graphs(model, tmp_path / "m", graphs))


def test_another_encoder_of_fitting_width_is_taken(
    model: Model, tmp_path: Path, spec: np.ndarray
) -> None:
    """Two layers, embeddings for responses, every fourth frame: what a graph tells is believed."""
    graphs = {"model": small_graph(64, 64), "query": model.graph("query")}
    other = with_graphs(model, tmp_path / "m", graphs)
    front, _ = open_fronts(other, CONFIG, open_quantizer(other))
    assert isinstance(front, SharedLayers)
    assert front.reach.stride == 4
    starts = np.arange(0, len(spec) - 27, 12)
    responses, embeddings, _ = joined(front(spec, starts))
    np.testing.assert_array_equal(responses, embeddings)
    alone = [joined(front(spec, starts[i : i + 1]))[0] for i in range(len(starts))]
    np.testing.assert_allclose(responses, np.concatenate(alone), atol=1e-5)


def test_a_graph_of_snippets_may_not_be_one_of_spectrograms(tmp_path: Path, model: Model) -> None:
    """Other kinds of codes are checked as well."""
    plain = random_model(tmp_path / "plain")
    graphs = {"model": model.graph("model"), "query": plain.graph("model")}
    message = refused(with_graphs(plain, tmp_path / "m", graphs))
    assert "64 responses for 464 bits" in message


def test_a_reach_is_told_as_whole_numbers(model: Model) -> None:
    proto = onnx.load_from_string(model.graph("model"))
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    assert facts == {k: str(v) for k, v in dataclasses.asdict(track_network().reach).items()}


def test_a_graph_that_leaves_answers_out_is_refused() -> None:
    def few(values: np.ndarray) -> Answer:
        return Answer(np.zeros((2, 4), np.float32))

    config = FeatureConfig(n_bands=8, snippet_frames=6, snippet_hop=4)
    front = SharedLayers(few, Reach(4, 4, 4), config)
    spec = np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)
    assert len(next(iter(front(spec, np.array([0, 4])))).responses) == 2
    with pytest.raises(ModelError, match="2 answers to 3 snippets"):
        list(front(spec, np.array([0, 4, 8])))
