from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_encoder import encoder, node, projection, written
from onnx import TensorProto, helper, numpy_helper

from hashing import models
from hashing.errors import HashbeamError, ModelError, UsageError
from hashing.training import foreign
from hashing.training.foreign import choose_output, inputs_of, needed_nodes, read_source


def complaint(path: Path) -> str:
    with pytest.raises(ModelError) as raised:
        read_source(path)
    text = str(raised.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_a_file_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "enc.onnx")
    source = read_source(path)
    content = path.read_bytes()
    assert (source.name, source.size, source.opset) == ("enc.onnx", len(content), 15)
    assert source.sha256 == hashlib.sha256(content).hexdigest()


def test_names_are_printable(tmp_path: Path) -> None:
    assert read_source(written(tmp_path / "a\nb.onnx")).name == r"'a\nb.onnx'"


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "No such file" in complaint(tmp_path / "none.onnx")
    assert "is a folder: name the encoder's .onnx file" in complaint(tmp_path)
    whole = encoder().SerializeToString()
    for name, content in (
        ("empty", b""),
        ("text", b"# not a model at all\n"),
        ("zip", b"PK\x03\x04" + bytes(100)),
        ("cut", whole[: len(whole) // 2]),
        ("random", np.random.default_rng(1).bytes(500)),
    ):
        (tmp_path / name).write_bytes(content)
        assert "is no ONNX model: export one" in complaint(tmp_path / name), name


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "enc.onnx")
    monkeypatch.setattr(foreign, "MAX_FILE_BYTES", path.stat().st_size - 1)
    assert f"has {path.stat().st_size:,} bytes, an encoder may have" in complaint(path)
    assert foreign.MAX_FILE_BYTES < models.MAX_FILE_BYTES


def test_weights_in_another_file(tmp_path: Path) -> None:
    model = encoder()
    path = tmp_path / "enc.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    text = complaint(path)
    assert "keeps weights in another file (weights)" in text
    assert "external_data=False" in text
    # The remedy of the message.
    onnx.save(onnx.load(path), tmp_path / "whole.onnx")
    read_source(tmp_path / "whole.onnx")


def hidden_external(where: str) -> onnx.ModelProto:
    """A model with a tensor in another file inside of a node, or of a branch of one."""
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "far")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    constant = helper.make_node("Constant", [], ["far"], value=tensor)
    if where == "node":
        return encoder(after=[constant, node("Add", ["product", "far"], "out")])
    end = helper.make_tensor_value_info("far", TensorProto.FLOAT, [1])
    branch = helper.make_graph([constant], "branch", [], [end])
    chosen = helper.make_node("If", ["yes"], ["far"], then_branch=branch, else_branch=branch)
    return encoder(
        after=[chosen, node("Add", ["product", "far"], "out")], values={"yes": np.array(True)}
    )


@pytest.mark.parametrize("where", ["node", "branch"])
def test_weights_in_another_file_are_found_anywhere(where: str, tmp_path: Path) -> None:
    path = written(tmp_path / "enc.onnx", hidden_external(where))
    assert "keeps weights in another file (far)" in complaint(path)


@pytest.mark.parametrize("opset", [6, 22])
def test_opsets_that_are_not_run(opset: int, tmp_path: Path) -> None:
    path = written(tmp_path / "enc.onnx", encoder(opset=opset))
    assert f"has opset {opset}, hashbeam runs 7 to 21: export it with opset 17" in complaint(path)


def test_operators_of_others(tmp_path: Path) -> None:
    model = encoder(
        after=[node("Magic", ["product"], "out", domain="com.example")],
        opsets=[("com.example", 1)],
    )
    text = complaint(written(tmp_path / "enc.onnx", model))
    assert "uses operators of com.example (Magic)" in text
    assert "standard operators only" in text


def test_operators_of_others_inside_of_a_branch(tmp_path: Path) -> None:
    end = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    magic = node("FusedConv", ["product"], "b", domain="com.microsoft")
    branch = helper.make_graph([magic], "branch", [], [end])
    chosen = helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch)
    model = encoder(after=[chosen], values={"yes": np.array(True)}, opsets=[("com.microsoft", 1)])
    path = written(tmp_path / "enc.onnx", model)
    assert "uses operators of com.microsoft (FusedConv)" in complaint(path)


def test_a_domain_that_is_only_named_does_no_harm(tmp_path: Path) -> None:
    read_source(written(tmp_path / "enc.onnx", encoder(opsets=[("com.example", 1)])))


def test_functions_are_resolved(tmp_path: Path) -> None:
    double = helper.make_function(
        "theirs", "Double", ["a"], ["b"], [node("Add", ["a", "a"], "b")],
        [helper.make_opsetid("", 15)],
    )  # fmt: skip
    model = encoder(
        after=[node("Double", ["product"], "out", domain="theirs")],
        opsets=[("theirs", 1)],
        functions=[double],
    )
    source = read_source(written(tmp_path / "enc.onnx", model))
    assert [n.op_type for n in source.model.graph.node][-1] == "Add"


def test_a_graph_that_is_no_graph(tmp_path: Path) -> None:
    model = encoder(after=[node("Relu", ["nowhere"], "out")])
    text = complaint(written(tmp_path / "enc.onnx", model))
    assert "is no valid ONNX model (" in text
    assert "nowhere" in text


def test_without_onnx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(HashbeamError, match="needs onnx, which is not installed: pip install onnx"):
        read_source(tmp_path / "enc.onnx")


TWO = encoder(
    before=[node("Add", ["mel", "bias"], "heard")],
    after=[node("Tanh", ["product"], "inner"), node("Add", ["inner", "extra"], "scores")],
    values={"bias": np.zeros(1, np.float32)},
    outputs=[("product", ["n", 16]), ("scores", ["n", 16])],
    more_inputs=["extra"],
)


def test_outputs(tmp_path: Path) -> None:
    two, one = (
        read_source(written(tmp_path / name, model))
        for name, model in (("two.onnx", TWO), ("one.onnx", encoder()))
    )
    assert choose_output(one, "") == "product"
    assert choose_output(two, "scores") == "scores"
    assert choose_output(two, "inner") == "inner"  # not an output: the layer in front of one
    with pytest.raises(UsageError, match="has 2 outputs: name the embedding with --output, one of"):
        choose_output(two, "")
    with pytest.raises(UsageError, match="no such tensor; its outputs are product, scores"):
        choose_output(two, "logits")
    with pytest.raises(UsageError, match="no such tensor"):
        choose_output(two, "mel")  # an input is no answer


def test_inputs_are_those_that_the_output_needs(tmp_path: Path) -> None:
    source = read_source(written(tmp_path / "enc.onnx", TWO))
    assert inputs_of(source, "product") == ["mel"]
    assert inputs_of(source, "scores") == ["mel", "extra"]
    kinds = [n.op_type for n in needed_nodes(source, "inner")[0]]
    assert kinds == ["Add", "Flatten", "MatMul", "Tanh"]


def test_weights_that_are_inputs_as_well(tmp_path: Path) -> None:
    model = encoder(weights=projection())
    end = helper.make_tensor_value_info("weights", TensorProto.FLOAT, [224, 16])
    model.graph.input.append(end)
    model.ir_version = 3
    assert inputs_of(read_source(written(tmp_path / "e.onnx", model)), "product") == ["mel"]
