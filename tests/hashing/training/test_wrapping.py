from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from foreign_encoder import (
    BANDS,
    CELLS,
    DIMENSIONS,
    FEATURES,
    FRAMES,
    encoder,
    node,
    projection,
    unit,
    written,
)
from onnx import TensorProto, helper

from hashing.errors import ModelError, UsageError
from hashing.training.foreign import read_source
from hashing.training.wrapping import Wrapped, open_encoder, wrap

RNG = np.random.default_rng(7)
SNIPPETS = RNG.standard_normal((5, CELLS)).astype(np.float32)
PLANES = SNIPPETS.reshape(-1, BANDS, FRAMES)


def wrapped(tmp_path: Path, model: onnx.ModelProto, **names: str) -> Wrapped:
    return wrap(read_source(written(tmp_path / "enc.onnx", model)), FEATURES, **names)


def answers(one: Wrapped, mean: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    answer = open_encoder(one.graph(mean), "enc.onnx")(SNIPPETS)
    assert answer.norms is not None
    return answer.responses, answer.norms


def complaint(tmp_path: Path, model: onnx.ModelProto, **names: str) -> str:
    with pytest.raises(ModelError) as raised:
        wrapped(tmp_path, model, **names)
    text = str(raised.value)
    assert text.startswith("enc.onnx")
    assert "\n" not in text
    return text


# Shape of the input, and the same snippets as it takes them, flattened.
TURNED = PLANES.transpose(0, 2, 1).reshape(-1, CELLS)
SHAPES = [
    ((CELLS,), "", SNIPPETS),
    ((CELLS,), "frames-bands", TURNED),
    (("width",), "flat", SNIPPETS),
    ((BANDS, FRAMES), "", SNIPPETS),
    ((FRAMES, BANDS), "", TURNED),
    (("b", "t"), "bands-frames", SNIPPETS),
    (("t", "b"), "frames-bands", TURNED),
    ((1, BANDS, FRAMES), "", SNIPPETS),
    ((1, FRAMES, BANDS), "", TURNED),
    ((BANDS, FRAMES, 1), "", SNIPPETS),
    ((FRAMES, BANDS, 1), "", TURNED),
]


@pytest.mark.parametrize(("shape", "layout", "laid_out"), SHAPES)
def test_layouts(
    shape: tuple[int | str, ...], layout: str, laid_out: np.ndarray, tmp_path: Path
) -> None:
    one = wrapped(tmp_path, encoder(shape), layout=layout)
    expected = laid_out @ projection()
    embedding, norm = answers(one)
    np.testing.assert_allclose(embedding, unit(expected), atol=1e-5)
    np.testing.assert_allclose(norm, np.linalg.norm(expected, axis=1), rtol=1e-5)


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21])
def test_opsets(opset: int, tmp_path: Path) -> None:
    # Every node that wrapping may add: turned, longer, centred.
    longer = projection((FRAMES + 3) * BANDS, 9)
    one = wrapped(tmp_path, encoder((FRAMES + 3, BANDS), longer, opset=opset))
    filled = np.concatenate([PLANES, np.zeros((5, BANDS, 3), np.float32)], axis=2)
    expected = unit(filled.transpose(0, 2, 1).reshape(5, -1) @ longer)
    assert (one.dimensions, one.arrangement.missing) == (9, 3)
    mean = np.linspace(-0.2, 0.2, 9).astype(np.float32)
    embedding, _ = answers(one, mean)
    np.testing.assert_allclose(embedding, unit(expected - mean), atol=1e-5)
    assert onnx.load_from_string(one.graph(mean)).opset_import[0].version == opset


@pytest.mark.parametrize("number", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_floating_point_numbers(number: int, tmp_path: Path) -> None:
    embedding, _ = answers(wrapped(tmp_path, encoder(number=number)))
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, unit(SNIPPETS @ projection()), atol=5e-3)


def test_the_ends_are_those_of_every_encoder(tmp_path: Path) -> None:
    one = wrapped(tmp_path, encoder())
    session = onnxruntime.InferenceSession(one.graph(np.zeros(DIMENSIONS, np.float32)))
    assert [(e.name, e.shape) for e in session.get_inputs()] == [("snippets", ["n", CELLS])]
    found = [(e.name, e.shape) for e in session.get_outputs()]
    assert found == [("embedding", ["n", DIMENSIONS]), ("norm", ["n", 1])]


def test_an_answer_of_nothing_has_no_direction(tmp_path: Path) -> None:
    model = encoder(after=[node("Mul", ["product", "zero"], "out")], values={"zero": np.float32(0)})
    embedding, norm = answers(wrapped(tmp_path, model))
    assert not embedding.any()
    assert norm.max() < 1e-9


def test_answers_of_any_shape_with_one_axis(tmp_path: Path) -> None:
    axes = np.array([-1, 1, DIMENSIONS, 1], np.int64)
    model = encoder(
        after=[node("Reshape", ["product", "axes"], "out")],
        values={"axes": axes},
        outputs=[("out", ["n", 1, DIMENSIONS, 1])],
    )
    embedding, _ = answers(wrapped(tmp_path, model))
    np.testing.assert_allclose(embedding, unit(SNIPPETS @ projection()), atol=1e-5)


def test_a_tensor_inside_of_the_graph(tmp_path: Path) -> None:
    model = encoder(
        after=[node("Tanh", ["product"], "inner"), node("MatMul", ["inner", "classes"], "scores")],
        values={"classes": np.ones((DIMENSIONS, 3), np.float32)},
        outputs=[("scores", ["n", 3])],
    )
    one = wrapped(tmp_path, model, output="inner")
    embedding, _ = answers(one)
    np.testing.assert_allclose(embedding, unit(np.tanh(SNIPPETS @ projection())), atol=1e-5)
    # What it does not need is not carried along.
    names = {tensor.name for tensor in onnx.load_from_string(one.graph()).graph.initializer}
    assert "encoder/weights" in names
    assert "encoder/classes" not in names


def test_names_that_meet_ours(tmp_path: Path) -> None:
    model = encoder(
        before=[node("Abs", ["mel"], "snippets"), node("Neg", ["snippets"], "heard")],
        after=[
            node("Tanh", ["product"], "norm"),
            node("Add", ["norm", "raw"], "plane"),
            node("Neg", ["plane"], "embedding"),
        ],
        values={"raw": np.full(DIMENSIONS, 0.5, np.float32)},
    )
    embedding, norm = answers(wrapped(tmp_path, model))
    expected = -(np.tanh(-np.abs(SNIPPETS) @ projection()) + 0.5)
    np.testing.assert_allclose(embedding, unit(expected), atol=1e-5)
    np.testing.assert_allclose(norm, np.linalg.norm(expected, axis=1), rtol=1e-5)


def test_branches_keep_what_they_read(tmp_path: Path) -> None:
    """A branch reads a weight and a tensor of the graph around it, and a constant of its own."""
    end = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    own = helper.make_tensor("own", TensorProto.FLOAT, [1], [3.0])
    branches = [
        helper.make_graph(
            [node(kind, ["product", "outer"], "a"), node("Mul", ["a", "own"], "b")],
            name, [], [end], [own],
        )
        for name, kind in (("yes", "Add"), ("no", "Sub"))
    ]  # fmt: skip
    chosen = helper.make_node(
        "If", ["which"], ["out"], then_branch=branches[0], else_branch=branches[1]
    )
    model = encoder(
        after=[chosen],
        values={"which": np.array(False), "outer": np.full(DIMENSIONS, 0.25, np.float32)},
    )
    embedding, _ = answers(wrapped(tmp_path, model))
    np.testing.assert_allclose(embedding, unit(SNIPPETS @ projection() - 0.25), atol=1e-5)


def test_comments_of_exporters_are_left_out(tmp_path: Path) -> None:
    model = encoder()
    place = "/home/ann/secret/train.py(12): forward"
    model.doc_string = model.graph.doc_string = model.graph.node[1].doc_string = place
    model.graph.initializer[0].doc_string = place
    model.metadata_props.add(key="path", value=place)
    assert b"/home/ann" in model.SerializeToString()
    assert b"/home/ann" not in wrapped(tmp_path, model).graph()


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    assert wrapped(tmp_path, encoder()).graph() == wrapped(tmp_path, encoder()).graph()


def test_inputs(tmp_path: Path) -> None:
    model = encoder(
        after=[node("Add", ["product", "extra"], "scores")],
        outputs=[("product", ["n", DIMENSIONS]), ("scores", ["n", DIMENSIONS])],
        more_inputs=["extra"],
    )
    text = complaint(tmp_path, model, output="scores")
    assert "makes scores of 2 inputs (mel, extra)" in text
    assert "name another tensor with --output" in text
    assert wrapped(tmp_path, model, output="product", input="mel").input == "mel"
    with pytest.raises(UsageError, match=r"--input sound: enc\.onnx makes product of mel; its in"):
        wrapped(tmp_path, model, output="product", input="sound")


def test_an_input_of_no_floating_point_numbers(tmp_path: Path) -> None:
    model = encoder(before=[node("Cast", ["mel"], "heard", to=TensorProto.FLOAT)])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    assert "input mel takes int64, snippets are floating-point" in complaint(tmp_path, model)


def test_an_input_without_a_shape(tmp_path: Path) -> None:
    model = encoder()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError, match="shape"):
        wrapped(tmp_path, model)


@pytest.mark.parametrize("d", [1, 2, 7, 4097])
def test_too_few_numbers_or_too_many(d: int, tmp_path: Path) -> None:
    model = encoder(weights=projection(CELLS, d))
    assert f"with {d} numbers, embeddings have 8 to 4096" in complaint(tmp_path, model)


def test_answers_for_every_frame(tmp_path: Path) -> None:
    model = encoder(
        after=[node("MatMul", ["mel", "mix"], "out")],
        values={"mix": np.ones((FRAMES, 8), np.float32)},
        outputs=[("out", ["n", BANDS, 8])],
    )
    text = complaint(tmp_path, model)
    assert f"answers 3 snippets with out of 3×{BANDS}×8 numbers" in text
    assert "pool over time" in text


def test_one_answer_for_all(tmp_path: Path) -> None:
    model = encoder(
        after=[node("ReduceMean", ["product"], "out", axes=[0], keepdims=1)],
        outputs=[("out", [1, DIMENSIONS])],
    )
    assert "answers 3 snippets with out of 1×" in complaint(tmp_path, model)


def baked(batch: int) -> onnx.ModelProto:
    """An encoder whose graph holds the size of the batch that it was exported with."""
    return encoder(
        before=[node("Reshape", ["mel", "baked"], "heard")],
        values={"baked": np.array([batch, CELLS], np.int64)},
        batch=batch,
    )


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_batch_of_one_size_only(batch: int, tmp_path: Path) -> None:
    text = complaint(tmp_path, baked(batch))
    assert f"takes batches of {batch} only: export it with a free first dimension" in text
    assert "dynamic_axes={'mel': {0: 'n'}}" in text


def test_a_fixed_batch_that_only_the_input_names(tmp_path: Path) -> None:
    embedding, _ = answers(wrapped(tmp_path, encoder(batch=1)))
    np.testing.assert_allclose(embedding, unit(SNIPPETS @ projection()), atol=1e-5)


def test_snippets_that_are_too_small_for_its_layers(tmp_path: Path) -> None:
    kernel = np.ones((1, 1, BANDS, FRAMES + 1), np.float32)
    model = encoder(
        (1, "b", "t"),
        before=[node("Conv", ["mel", "kernel"], "heard")],
        values={"kernel": kernel},
    )
    text = complaint(tmp_path, model, layout="bands-frames")
    assert "cannot be run on such snippets (Node" in text
    assert "give the features that it was trained with" in text


def test_what_onnx_runtime_does_not_take(tmp_path: Path) -> None:
    model = encoder(after=[node("MatMul", ["product", "wrong"], "out")])
    model.graph.initializer.append(
        helper.make_tensor("wrong", TensorProto.FLOAT, [3, 8], [0.0] * 24)
    )
    assert "cannot be run on such snippets (" in complaint(tmp_path, model)


def test_no_numbers(tmp_path: Path) -> None:
    model = encoder(after=[node("Log", ["product"], "out")])
    assert "answers a snippet of noise with what is no number" in complaint(tmp_path, model)


def test_no_numbers_for_nothing(tmp_path: Path) -> None:
    model = encoder(
        before=[
            node("ReduceMax", ["mel"], "highest", axes=[1, 2], keepdims=1),
            node("Div", ["mel", "highest"], "heard"),
        ]
    )
    assert "snippet of nothing (all zeros) with what is no number" in complaint(tmp_path, model)


def test_answers_that_depend_on_the_others(tmp_path: Path) -> None:
    model = encoder(
        before=[
            node("ReduceMean", ["mel"], "mean", axes=[0], keepdims=1),
            node("Sub", ["mel", "mean"], "less"),
            node("Add", ["less", "one"], "heard"),
        ],
        values={"one": np.linspace(0, 1, FRAMES).astype(np.float32)},
    )
    assert "differently when others are beside it" in complaint(tmp_path, model)


def test_answers_that_depend_on_chance(tmp_path: Path) -> None:
    model = encoder(
        before=[node("RandomNormalLike", ["mel"], "noise"), node("Add", ["mel", "noise"], "heard")]
    )
    text = complaint(tmp_path, model)
    assert "model.eval()" in text
