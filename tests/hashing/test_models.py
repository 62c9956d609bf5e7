from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from model_fixture import random_model
from onnx import TensorProto, helper

from hashing import models
from hashing.encoders import Hasher
from hashing.errors import ModelError
from hashing.models import (
    ARTIST_KIND,
    CLIP_KIND,
    EVENTS_KIND,
    SEQUENCE_KIND,
    list_models,
    load_model,
    save_model,
)

INPUTS, BITS = 64 * 28, 464


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model that may be damaged."""
    return Path(shutil.copytree(model_folder, tmp_path / "mine"))


def message(folder: Path | str) -> str:
    """What opening the model says, which must be one line."""
    with pytest.raises(ModelError) as caught:
        Hasher.load(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def graph_of(
    nodes: list[onnx.NodeProto],
    *,
    inputs: int = INPUTS,
    outputs: int = BITS,
    name: str = "snippets",
    domains: tuple[str, ...] = (),
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """A graph of one input and one output, not checked."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, ["n", inputs])],
        [helper.make_tensor_value_info("responses", kind, ["n", outputs])],
    )
    opsets = [helper.make_opsetid("", 15), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays = {
        "thresholds": rng.standard_normal(7).astype(np.float32),
        "tables": rng.integers(0, 7, (3, 4)).astype(np.int16),
        "transposed": rng.standard_normal((3, 2)).T,  # stored as it looks, not as it lies
    }
    config = {"kind": "example", "bits": 7, "features": {}, "nested": {"a": [1, None, "ü"]}}
    saved = save_model(tmp_path / "m", config, {"model": b"not a graph"}, arrays, "# Card ü\n\n")
    loaded = load_model(str(tmp_path / "m"))
    assert loaded.config == saved.config == {**config, "format_version": 1}
    assert loaded.digest == saved.digest
    assert loaded.name == "m"
    assert loaded.graph("model") == b"not a graph"
    assert (tmp_path / "m/README.md").read_text(encoding="utf-8") == "# Card ü\n"
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], array)
        assert loaded.arrays[name].dtype == array.dtype


def test_the_folders_place_and_name_are_no_part_of_the_digest(
    model_folder: Path, folder: Path
) -> None:
    assert load_model(str(folder)).digest == load_model(str(model_folder)).digest


def test_digest_of_the_same_weights_is_the_same(model_folder: Path, tmp_path: Path) -> None:
    assert random_model(tmp_path / "same", seed=1).digest == load_model(str(model_folder)).digest
    assert random_model(tmp_path / "other", seed=2).digest != load_model(str(model_folder)).digest


def change_array(folder: Path) -> None:
    model = load_model(str(folder))
    model.arrays["thresholds"][3] += 1.0
    save_model(folder, model.config, {"model": model.graph("model")}, model.arrays, "#")


def change_graph(folder: Path) -> None:
    path = folder / "model.onnx"
    graph = onnx.load(str(path))
    graph.graph.doc_string = "another"
    onnx.save(graph, str(path))


def add_graph(folder: Path) -> None:
    (folder / "second.onnx").write_bytes(b"")


def change_features(folder: Path) -> None:
    features = load_model(str(folder)).config["features"]
    edit_config(folder, features={**features, "silence_db": -61.0})


@pytest.mark.parametrize("change", [change_array, change_graph, add_graph, change_features])
def test_what_changes_a_code_changes_the_digest(
    folder: Path, change: Callable[[Path], None]
) -> None:
    before = load_model(str(folder)).digest
    change(folder)
    assert load_model(str(folder)).digest != before


def test_the_story_of_a_model_is_no_part_of_its_digest(folder: Path) -> None:
    before = load_model(str(folder)).digest
    (folder / "README.md").write_text("# Another card")
    edit_config(folder, figures={"nearest": 1.0}, calibration={"weights": {}}, training={"seed": 9})
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(json.dumps(json.loads(text), indent=8))
    assert load_model(str(folder)).digest == before


@pytest.mark.parametrize("name", ["config.json", "arrays.safetensors", "model.onnx"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert f"{folder / name} cannot be read (No such file" in message(folder)


@pytest.mark.parametrize("name", ["config.json", "arrays.safetensors", "model.onnx"])
def test_a_folder_in_place_of_a_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    assert f"{folder / name} cannot be read (Is a directory)" in message(folder)


@pytest.mark.parametrize("name", ["config.json", "arrays.safetensors", "model.onnx"])
def test_an_empty_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    said = message(folder)
    assert str(folder) in said
    assert name in said


@pytest.mark.parametrize("name", ["config.json", "arrays.safetensors", "model.onnx"])
def test_a_file_larger_than_any_model_is_not_read(folder: Path, name: str) -> None:
    os.truncate(folder / name, models.MAX_FILE_BYTES + 1)  # sparse: takes no room
    assert f"{folder / name} is larger than 536870912 bytes" in message(folder)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\xff".encode("latin-1"), "{'kind': 1}"])
def test_config_that_is_no_json(folder: Path, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "config.json").write_bytes(data)
    assert f"{folder / 'config.json'} is not JSON" in message(folder)


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '{"kind": 7}'])
def test_config_that_is_no_models(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert f"{folder / 'config.json'} names no kind of model" in message(folder)


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_format_version_is_refused(folder: Path, version: object) -> None:
    edit_config(folder, format_version=version)
    said = message(folder)
    assert f"model {folder} has format version {version!r}, this hashbeam reads 1" in said
    assert "train it again" in said


@pytest.mark.parametrize("keep", [4, 8, 100, -1])
def test_truncated_arrays(folder: Path, keep: int) -> None:
    path = folder / "arrays.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path} is damaged" in message(folder)


def test_arrays_with_a_damaged_header(folder: Path) -> None:
    path = folder / "arrays.safetensors"
    data = bytearray(path.read_bytes())
    data[12] ^= 0xFF
    path.write_bytes(bytes(data))
    assert f"{path} is damaged" in message(folder)


def test_arrays_of_a_type_that_numpy_lacks(folder: Path) -> None:
    header = json.dumps({"thresholds": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}})
    path = folder / "arrays.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"\0" * 4)
    assert str(folder) in message(folder)


@pytest.mark.parametrize("name", ["thresholds", "spreads", "tables"])
def test_an_array_that_is_missing_is_named(folder: Path, name: str) -> None:
    model = load_model(str(folder))
    arrays = {key: value for key, value in model.arrays.items() if key != name}
    save_model(folder, model.config, {"model": model.graph("model")}, arrays, "#")
    assert f"model {folder} lacks the array '{name}': copy it anew" in message(folder)


@pytest.mark.parametrize(("name", "bits"), [("thresholds", 463), ("spreads", 464)])
def test_an_array_of_another_length(folder: Path, name: str, bits: int) -> None:
    model = load_model(str(folder))
    arrays = {**model.arrays, name: model.arrays[name][:-1]}
    save_model(folder, model.config, {"model": model.graph("model")}, arrays, "#")
    said = message(folder)
    assert f"model {folder} thresholds and spreads do not fit {bits} bits: copy it anew" in said


@pytest.mark.parametrize("bit", [-1, 464])
def test_a_table_of_bits_that_do_not_exist(folder: Path, bit: int) -> None:
    model = load_model(str(folder))
    model.arrays["tables"][2, 3] = bit
    save_model(folder, model.config, {"model": model.graph("model")}, model.arrays, "#")
    assert f"model {folder} tables name bits outside 0 to 463: copy it anew" in message(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bits": 8}, "has 464 thresholds for 8 bits"),
        ({"bits": "many"}, "has 464 thresholds for many bits"),
        ({"bits": None}, "has 464 thresholds for None bits"),
        ({"kind": "oracle"}, "is of kind 'oracle', which this hashbeam does not know"),
        ({"features": None}, "lacks"),
        ({"features": {"bands": 3}}, "unknown feature settings"),
        ({"features": {"n_bands": 32}}, "does not turn snippets of 896 values into responses"),
    ],
)
def test_settings_that_do_not_fit(folder: Path, changes: dict[str, object], words: str) -> None:
    edit_config(folder, **changes)
    assert words in message(folder)


def test_no_such_model(tmp_path: Path) -> None:
    said = message("no-such-model")
    assert "no model 'no-such-model'" in said
    assert "forgiving" in said
    assert str(tmp_path / "nothing") in message(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty" / "config.json") in message(tmp_path / "empty")


def test_a_name_cannot_leave_the_shipped_models(tmp_path: Path) -> None:
    for name in ("../pretrained/forgiving", "forgiving/../forgiving", "", "FORGIVING\0"):
        with pytest.raises(ModelError):
            load_model(name)


def test_every_shipped_model_is_listed_and_loads() -> None:
    assert list_models()
    for name in list_models():
        assert load_model(name).name == name


def test_hashers_are_listed_without_the_models_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"one": "learned", "two": ARTIST_KIND, "three": SEQUENCE_KIND}
    kinds |= {"four": EVENTS_KIND, "five": CLIP_KIND}
    for name, kind in kinds.items():
        save_model(tmp_path / name, {"kind": kind, "features": {}}, {}, {"a": np.zeros(1)}, "#")
    monkeypatch.setattr("hashing.models.PRETRAINED", tmp_path)
    assert list_models() == ["one"]
    assert (list_models(EVENTS_KIND), list_models(CLIP_KIND)) == (["four"], ["five"])
    with pytest.raises(ModelError, match=r"\(one, two, three, four, five\)"):
        load_model("six")


def test_a_graph_that_is_no_onnx(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"import os; os.system('true')\n" * 50)
    assert f"model {folder}: model.onnx cannot be run" in message(folder)


def test_a_truncated_graph(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1000])
    assert f"model {folder}: model.onnx cannot be run" in message(folder)


def test_a_custom_operator_is_refused(folder: Path) -> None:
    node = helper.make_node("Run", ["snippets"], ["responses"], domain="com.example")
    (folder / "model.onnx").write_bytes(graph_of([node], domains=("com.example",)))
    assert f"model {folder}: model.onnx cannot be run" in message(folder)


@pytest.mark.parametrize("threshold", [10, 1000])  # bytes from which on a tensor is put outside
def test_external_data_is_refused_wherever_it_lies(
    folder: Path, threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "model.onnx"
    onnx.save_model(
        onnx.load(str(path)),
        str(path),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=threshold,
    )
    assert (folder / "weights.bin").stat().st_size > 100_000
    # ONNX Runtime would take the file from the current folder.
    for place in (folder, folder.parent, Path("/")):
        monkeypatch.chdir(place)
        assert f"model {folder}: model.onnx cannot be run" in message(folder)


def test_a_graph_of_another_hasher_is_refused(folder: Path) -> None:
    identity = helper.make_node("Identity", ["snippets"], ["responses"])
    ends = f"model {folder}: model.onnx does not turn snippets of 1792 values into responses"
    width = f"model {folder}: model.onnx gives responses that its arrays do not fit"
    other = helper.make_node("Identity", ["x"], ["responses"])
    for graph, said in (
        (graph_of([identity], outputs=INPUTS), width),  # as many responses as values
        (graph_of([identity], inputs=BITS, outputs=BITS), ends),
        (graph_of([other], name="x", outputs=INPUTS), ends),
        (graph_of([identity], outputs=INPUTS, kind=TensorProto.DOUBLE), ends),
    ):
        (folder / "model.onnx").write_bytes(graph)
        assert said in message(folder)


def test_graphs_are_listed_by_name(folder: Path) -> None:
    assert load_model(str(folder)).graphs == ["model"]
    add_graph(folder)
    assert load_model(str(folder)).graphs == ["model", "second"]
