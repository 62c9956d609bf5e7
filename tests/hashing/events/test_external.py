"""Embeddings that others made: tables, and networks with every kind of end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from hashing.errors import AudioError, CatalogError, ModelError
from hashing.events.external import OnnxEncoder, read_embeddings
from hashing.features import FeatureConfig, spectrogram

RATE = 1000
FEATURES = FeatureConfig(
    sample_rate=RATE, n_fft=64, hop_length=32, n_bands=8, fmin=20.0, fmax=480.0, snippet_frames=10
)
RAMP = np.arange(4000, dtype=np.float32) / 4000


def table(path: Path, ids: Sequence[Any], embeddings: Any, key: str = "track_id") -> Path:
    pq.write_table(pa.table({key: ids, "embedding": embeddings}), path)
    return path


def test_rows_of_one_clip_are_averaged(tmp_path: Path) -> None:
    path = table(tmp_path / "e.parquet", ["b", "a", "b", "b"], [[3, 0], [1, 1], [6, 0], [0, 9.0]])
    ids, values = read_embeddings(path)
    assert ids == ["b", "a"]
    assert values.dtype == np.float32
    assert values.tolist() == [[3, 3], [1, 1]]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float16()), pa.list_(pa.float64(), 2), pa.large_list(pa.float32())]
)
def test_lists_of_every_kind(tmp_path: Path, kind: pa.DataType) -> None:
    rows = pa.array([np.array([1, 0.5], np.float16), np.array([-2, 0], np.float16)], kind)
    ids, values = read_embeddings(table(tmp_path / "e.parquet", ["x", "y"], rows, "clip_id"))
    assert (ids, values.tolist()) == (["x", "y"], [[1, 0.5], [-2, 0]])


@pytest.mark.parametrize(
    ("ids", "embeddings", "told"),
    [
        (["a", "b"], [[1.0, 2.0], [1.0]], ["row 2", "embedding", "1 numbers", "row 1 has 2"]),
        (["a", "a"], [[1.0], [1.0, 2.0]], ["row 2", "embedding", "2 numbers"]),
        (["a", "b"], [[1.0], [float("nan")]], ["row 2", "embedding", "finite"]),
        (["a", "b", "c"], [[1.0], [2.0], None], ["row 3", "embedding", "empty"]),
        (["a", "b"], [[1.0, None], [2.0, 3.0]], ["row 1", "embedding", "finite"]),
        (["a"], pa.array([[]], pa.list_(pa.float32())), ["row 1", "empty"]),
        (["a", " "], [[1.0], [2.0]], ["row 2", "track_id", "empty"]),
        ([1, 2], [[1.0], [2.0]], ["track_id", "text"]),
        (["a"], ["text"], ["embedding", "lists of numbers"]),
        (pa.array([], pa.string()), pa.array([], pa.list_(pa.float32())), ["no rows"]),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, ids: Any, embeddings: Any, told: list[str]) -> None:
    path = table(tmp_path / "e.parquet", ids, embeddings)
    with pytest.raises(CatalogError) as caught:
        read_embeddings(path)
    assert all(word in str(caught.value) for word in [str(path), *told]), caught.value
    assert "\n" not in str(caught.value)


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="does not exist"):
        read_embeddings(tmp_path / "none.parquet")
    (tmp_path / "text").write_text("ids, embeddings")
    with pytest.raises(CatalogError, match="no whole Parquet"):
        read_embeddings(tmp_path / "text")
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "other")
    with pytest.raises(CatalogError, match="track_id or clip_id and embedding missing, found name"):
        read_embeddings(tmp_path / "other")


def network(
    path: Path,
    shape: Sequence[int | str],
    axes: Sequence[int],
    *,
    keep: bool = False,
    outputs: Sequence[str] = ("embedding",),
    number: int = TensorProto.FLOAT,
) -> Path:
    """Averages its input over `axes`."""
    nodes = [
        helper.make_node(
            "ReduceMean", ["heard"], [name], axes=list(axes), keepdims=int(keep), name=name
        )
        for name in outputs
    ]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("heard", number, list(shape))],
        [helper.make_tensor_value_info(name, number, None) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("shape", [["n", "t"], [1, "t"], [3, "t"], ["n", 1500], [2, 1500]])
def test_samples_in_batches(tmp_path: Path, shape: list[int | str]) -> None:
    """Windows of 1,500 of 4,000 samples: the last one ends where the clip does."""
    encoder = OnnxEncoder(network(tmp_path / "e.onnx", shape, [1], keep=True), RATE)
    starts, length = ([0, 1500, 2500], 1500) if shape[1] == 1500 else ([0], 4000)
    wanted = np.mean([RAMP[first : first + length].mean() for first in starts])
    found = encoder.embed(RAMP)
    assert (found.shape, encoder.dimensions, found.dtype) == ((1,), 1, np.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("shape", [["t"], [1500]])
def test_samples_alone(tmp_path: Path, shape: list[int | str]) -> None:
    encoder = OnnxEncoder(network(tmp_path / "e.onnx", shape, [0], keep=True), RATE)
    wanted = RAMP.mean() if shape == ["t"] else np.mean([749.5, 2249.5, 3249.5]) / 4000
    np.testing.assert_allclose(encoder.embed(RAMP), [wanted], rtol=1e-5)


def test_a_short_clip_is_repeated(tmp_path: Path) -> None:
    """Of 1, 2 and 3 a window of 1,500 samples has as many each; a free length is a second."""
    for shape in (["n", 1500], ["n", "t"]):
        encoder = OnnxEncoder(network(tmp_path / "e.onnx", shape, [1], keep=True), RATE)
        assert encoder.embed(np.array([1, 2, 3], np.float32))[0] == pytest.approx(2, abs=0.002)
        with pytest.raises(AudioError, match="too short"):
            encoder.embed(np.empty(0, np.float32))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        (["n", "t", 8], [1]),
        (["n", 8, "t"], [2]),
        (["n", 1, "t", 8], [1, 2]),
        ([2, 1, 8, "t"], [1, 3]),
        (["n", "t", "b"], [1]),
    ],
)
def test_spectrograms_whichever_way_they_lie(
    tmp_path: Path, shape: list[int | str], axes: list[int]
) -> None:
    path = network(tmp_path / "e.onnx", shape, axes)
    encoder = OnnxEncoder(path, features=FEATURES, scale=0.5, offset=1.0)
    wanted = 0.5 * spectrogram([RAMP], FEATURES).mean(axis=0) + 1.0
    np.testing.assert_allclose(encoder.embed(RAMP), wanted, rtol=1e-4)
    assert encoder.sample_rate == RATE
    with pytest.raises(AudioError, match="too short"):
        encoder.embed(RAMP[:50])


def test_bands_may_be_said_to_come_first(tmp_path: Path) -> None:
    path = network(tmp_path / "e.onnx", ["n", "a", "b"], [2])
    encoder = OnnxEncoder(path, features=FEATURES, bands_first=True)
    np.testing.assert_allclose(
        encoder.embed(RAMP), spectrogram([RAMP], FEATURES).mean(axis=0), rtol=1e-4
    )


def test_the_named_output_is_taken(tmp_path: Path) -> None:
    path = network(tmp_path / "e.onnx", ["n", "t"], [1], keep=True, outputs=("one", "two"))
    assert OnnxEncoder(path, RATE, output="two").dimensions == 1
    for output, told in (("", "has 2 outputs: name one of one, two"), ("x", "has no output x")):
        with pytest.raises(ModelError, match=told):
            OnnxEncoder(path, RATE, output=output)


@pytest.mark.parametrize(
    ("shape", "axes", "arguments", "told"),
    [
        (["n", "t"], [1], {}, "tell its sample rate"),
        (["n", "t", 8], [1], {"sample_rate": RATE}, "tell the settings of their features"),
        (["n", "t", 8], [1], {"features": FEATURES, "sample_rate": 5}, "at 1000 Hz, not 5 Hz"),
        (["n", "t", 9], [1], {"features": FEATURES}, "8 bands"),
        (["n", 3, "t", 8], [1, 2], {"features": FEATURES}, "8 bands"),
        (["n", 1, 1, "t", 8], [1, 2], {"features": FEATURES}, "must have one input of float32"),
        (["n", "t", 8], [0, 1, 2], {"features": FEATURES}, "name the output that is one"),
        (["n", "t"], [0], {"sample_rate": RATE}, None),
    ],
)
def test_wrong_ends_are_told(
    tmp_path: Path, shape: list[int | str], axes: list[int], arguments: Any, told: str | None
) -> None:
    path = network(tmp_path / "e.onnx", shape, axes)
    if told is None:  # one window gives its samples: an embedding, for all that can be seen
        assert OnnxEncoder(path, **arguments).dimensions == 4 * RATE
        return
    with pytest.raises(ModelError, match=told) as caught:
        OnnxEncoder(path, **arguments)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = network(tmp_path / "e.onnx", ["n", "t"], [1], keep=True, number=TensorProto.DOUBLE)
    with pytest.raises(ModelError, match="one input of float32"):
        OnnxEncoder(path, RATE)


def test_what_is_not_finite_is_refused(tmp_path: Path) -> None:
    encoder = OnnxEncoder(network(tmp_path / "e.onnx", ["n", "t"], [1], keep=True), RATE)
    with pytest.raises(ModelError, match="not finite"):
        encoder.embed(np.full(2000, np.inf, np.float32))


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    for name, told in (("text.onnx", "cannot be run"), ("none.onnx", "cannot be read")):
        with pytest.raises(ModelError, match=told) as caught:
            OnnxEncoder(tmp_path / name, RATE)
        assert "\n" not in str(caught.value)


def test_weights_beside_the_file_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = numpy_helper.from_array(np.ones((4, 4), np.float32), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["heard", "weights"], ["embedding"])],
        "theirs",
        [helper.make_tensor_value_info("heard", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 4])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "e.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="cannot be run"):
        OnnxEncoder(path, RATE)
