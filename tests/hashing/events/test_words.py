"""Words as queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.errors import ModelError, UsageError
from hashing.events.words import WordVectors, words_of
from hashing.models import Model

WORDS = WordVectors(
    ["dog", "church_bells", "glass", "snare drum", "drum"],
    np.array([[2, 0, 0], [0, 1, 0], [0, 0, 1], [0, 3, 4], [0, 0, -1]], np.float32),
)


@pytest.mark.parametrize(
    ("text", "vector", "unknown"),
    [
        ("dog", [1, 0, 0], []),
        ("DOGS!", [1, 0, 0], []),
        ("dog, dogs", [1, 0, 0], []),
        ("a church bell", [0, 1, 0], ["a"]),
        ("glass", [0, 0, 1], []),
        ("drum", [0, 0, -1], []),
        ("snare", [0, 0.6, 0.8], []),
        ("dog church", [2 / 5**0.5, 1 / 5**0.5, 0], []),
        ("dog dogma 12", [1, 0, 0], ["dogma", "12"]),
    ],
)
def test_a_text_is_the_mean_of_its_words(
    text: str, vector: list[float], unknown: list[str]
) -> None:
    found, missing = WORDS.embed(text)
    np.testing.assert_allclose(found, vector, atol=1e-6)
    assert missing == unknown


@pytest.mark.parametrize("text", ["cat", "", "—", "drum glass"])
def test_nothing_to_go_by_names_some_words(text: str) -> None:
    with pytest.raises(UsageError, match="it knows church_bells, dog, drum, glass, snare drum"):
        WORDS.embed(text)


def test_only_some_of_many_words_are_named() -> None:
    many = WordVectors([f"w{n:02d}" for n in range(30)], np.ones((30, 2)))
    with pytest.raises(UsageError, match=r"w00, .*w11 and 18 more$"):
        many.embed("x")


@given(st.lists(st.sampled_from(["dog", "church", "glass", "mouse"]), min_size=1, max_size=6))
def test_any_order_and_number_of_words_is_a_vector_of_length_one(spoken: list[str]) -> None:
    if set(spoken) == {"mouse"}:
        return
    vector, unknown = WORDS.embed(" ".join(spoken))
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert unknown == ["mouse"] * ("mouse" in spoken)
    again, _ = WORDS.embed("-".join(sorted(set(spoken))))
    np.testing.assert_allclose(vector, again, atol=1e-6)


def test_letters_of_every_script_make_words() -> None:
    assert words_of("Türglocke, 鐘 x_y") == ["türglocke", "鐘", "x", "y"]


def test_a_model_folder_brings_them() -> None:
    config = {"words": ["a", "b"]}
    vectors = np.eye(2, dtype=np.float32)
    model = Model(Path("m"), config, {"word_vectors": vectors}, "")
    words = WordVectors.from_model(model)
    assert words is not None
    assert words.words == ("a", "b")
    assert WordVectors.from_model(Model(Path("m"), config, {}, "")) is None
    assert WordVectors.from_model(Model(Path("m"), {}, {"word_vectors": vectors}, "")) is None
    for wrong in ({"words": ["a"]}, {"words": "ab"}):
        with pytest.raises(ModelError, match=r"m: .*copy it anew"):
            WordVectors.from_model(Model(Path("m"), wrong, {"word_vectors": vectors}, ""))
