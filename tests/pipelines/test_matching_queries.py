"""What is heard of a MIDI file is what the model learned from: its sound, or its piano roll."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from midi_files import made_up_song

from hashing import cqt
from hashing.cascade import CascadeSettings
from hashing.midi import parse_song
from hashing.midi_writing import midi_bytes
from hashing.piano_rolls import piano_roll
from hashing.scores import PLAIN, ScoreError, score_levels
from hashing.sequences import SequenceFeatures
from pipelines.matching.queries import _hear


class Ear:
    """Tells which levels it is given, and of which side."""

    def __init__(self, score: str) -> None:
        self.features = SequenceFeatures(score=score)

    def hear_levels(self, levels: np.ndarray, side: str) -> tuple[np.ndarray, str]:
        return levels, side


def heard(score: str, folder: Path, name: str) -> Any:
    job: Any = SimpleNamespace(
        options=SimpleNamespace(midi=str(folder), soundfont=PLAIN),
        settings=CascadeSettings(shortest=10),
    )
    ear: Any = Ear(score)
    return _hear(job, name, ear)


def test_a_score_is_heard_as_the_model_has_learned(tmp_path: Path) -> None:
    data = midi_bytes(made_up_song(1, 12.0))
    (tmp_path / "a.mid").write_bytes(data)
    (tmp_path / "b.mid").write_bytes(midi_bytes(made_up_song(1, 3.0)))
    song, config = parse_song(data), SequenceFeatures().cqt
    levels, side = heard("roll", tmp_path, "a.mid")
    assert side == "score"
    assert np.array_equal(levels, cqt.decibels(piano_roll(song, config)))
    levels, side = heard("rendered", tmp_path, "a.mid")
    assert side == "score"
    assert np.array_equal(levels, score_levels(song, config, PLAIN))
    for score in ("roll", "rendered"):
        with pytest.raises(ScoreError, match="less than the") as caught:
            heard(score, tmp_path, "b.mid")
        assert caught.value.kind == "too-short"
