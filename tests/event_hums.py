"""An index of hums, for tests of ``hashbeam events``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from events_model import PITCHES, events_model, hum, responses_to, write_hum
from tiny_catalog import write_rows

from hashing.encoders import Hasher
from pipelines.cli import main


@dataclasses.dataclass(frozen=True)
class Hums:
    """An index of hums.

    Attributes:
      folder: where they are: ``low0.wav`` to ``high3.wav``; ``long.wav``, 3 s low, then 3 s high;
        ``short.wav``, 0.3 s; ``nameless.wav`` without a label.
      rows: of the catalogue.
      sounds: samples by track.
    """

    folder: Path
    model: Path
    index: Path
    rows: list[dict[str, str]]
    sounds: dict[str, np.ndarray]

    def expected(self, track: str) -> float:
        """The squared distance of a hum to its own code."""
        responses = responses_to(self.sounds[track])
        quantizer = Hasher.load(str(self.model)).quantizer
        decoded = quantizer.decode(quantizer.encode(responses.astype(np.float32)))  # type: ignore[attr-defined]
        return float(((responses - decoded) ** 2).sum(axis=1).min())


def index_clips(catalog: Path, index: Path, model: Path, *flags: str) -> int:
    names = ["--catalog", str(catalog), "--out", str(index), "--model", str(model)]
    return main(["events", "index", *names, "--workers", "1", "--quiet", *flags])


def index_hums(folder: Path) -> Hums:
    """Fourteen hums in an index, by the model of `events_model`."""
    sounds = {
        f"{kind}{n}": hum(kind, 10 * number + n)
        for number, kind in enumerate(PITCHES)
        for n in range(4)
    }
    sounds["long"] = np.concatenate([hum("low", 90, 3.0), hum("high", 91, 3.0)])
    sounds["short"] = hum("middle", 92, 0.3)
    sounds["nameless"] = hum("low", 93)
    rows = []
    for track, samples in sounds.items():
        write_hum(folder / f"{track}.wav", samples)
        labels = {"long": "low; high", "short": "middle", "nameless": ""}
        label = labels.get(track, track[:-1])
        rows.append({"track_id": track, "uri": f"{track}.wav", "label": label, "mood": "calm"})
    model = events_model(folder / "model").path
    index = folder / "index"
    assert index_clips(write_rows(folder / "c.csv", rows), index, model) == 0
    return Hums(folder, model, index, rows, sounds)
