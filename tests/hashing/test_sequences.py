"""What a sequence is made of: settings, windows and codes. Models: `training/sequences`."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing import cqt
from hashing.cqt import CqtConfig
from hashing.errors import ModelError
from hashing.scores import RENDERED, ROLL
from hashing.sequences import BITS, SCORES, SequenceFeatures, TrackSequence, pack_codes


@given(st.integers(1, 2000), st.integers(1, 90), st.data())
def test_windows_cover_everything(codes: int, window: int, data: st.DataObject) -> None:
    hop = data.draw(st.integers(1, window))
    found = SequenceFeatures(window=window, hop=hop).windows(codes)
    firsts, ends = [part.start for part in found], [part.stop for part in found]
    assert firsts[0] == 0
    assert ends[-1] == codes
    assert all(part.stop - part.start == min(window, codes) for part in found)
    # One after another, without gaps, and none twice.
    assert all(0 < later - first <= hop for first, later in itertools.pairwise(firsts))


@given(st.integers(0, 2**32 - 1))
def test_a_bit_of_a_code_is_the_sign_of_its_response(seed: int) -> None:
    rng = np.random.default_rng(seed)
    responses = rng.choice([-1.5, -1e-30, 0.0, 1e-30, 2.0], (5, BITS)).astype(np.float32)
    wanted = [sum(1 << bit for bit in range(BITS) if row[bit] > 0) for row in responses]
    found = pack_codes(responses)
    assert found.dtype == np.uint32
    assert found.tolist() == wanted


def test_settings_survive_a_file() -> None:
    made = SequenceFeatures(CqtConfig(n_bins=47), 4, 60, 20, 96, "roll")
    assert SequenceFeatures.from_json(json.loads(json.dumps(dataclasses.asdict(made)))) == made
    assert made.code_s == pytest.approx(4 * 128 / 2760)
    assert SCORES == (RENDERED, ROLL)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"downsampling": 0}, "downsampling=0 is not a count up to 64"),
        ({"downsampling": 8.0}, "downsampling=8.0"),
        ({"window": True}, "window=True"),
        ({"hop": 1 << 20}, "hop=1048576"),
        ({"hop": 81}, "hop=81 leaves gaps"),
        ({"score": "sung"}, "score='sung' is none of"),
        ({"score": []}, "score="),
        ({"colour": 1}, r"unknown feature settings \['colour'\]"),
        ({"cqt": {"n_bins": 0}}, "n_bins=0"),
        ({"cqt": {"sample_rate": 1 << 20, "lowest": 12}}, "samples are longer than 65536"),
        ({"cqt": {"dynamic_range_db": float("nan")}}, "dynamic_range_db"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        SequenceFeatures.from_json({"cqt": {}, **values})


def test_frames_of_a_track_are_those_that_were_packed() -> None:
    config = CqtConfig()
    levels = np.random.default_rng(1).uniform(-100, 0, (30, 48)).astype(np.float32)
    codes, embeddings = np.zeros(3, np.uint32), np.zeros((1, 4), np.float32)
    track = TrackSequence(codes, embeddings, cqt.pack_levels(levels, config))
    whole = cqt.heard_frames(levels, config)
    likeness = np.einsum("tb,tb->t", track.frames(config), whole)
    assert likeness.min() > 0.995
