"""A small catalogue of wavs for tests of jobs: seconds of sines that glide, quick to make."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000  # Hz: the hasher's own, so that tests need no resampling


def tune(seed: int, seconds: float) -> np.ndarray:
    """Six gliding sines and some noise, float32; another tune for each seed."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    out = 0.01 * rng.standard_normal(t.size)
    for start, speed in zip(rng.uniform(200, 1800, 6), rng.uniform(-90, 90, 6), strict=True):
        out += 0.1 * np.sin(2 * np.pi * (start + speed * t) * t)
    return out.astype(np.float32)


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    """A catalogue with these rows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def tiny_catalog(folder: Path, n: int, *, seconds: float = 3.0, files: int | None = None) -> Path:
    """A catalogue of `n` tracks t00, t01, …; with `files`, that many files named in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    files = min(n, files or n)
    for number in range(files):
        soundfile.write(folder / f"{number}.wav", tune(number, seconds), RATE, subtype="FLOAT")
    rows = [
        {"track_id": f"t{i:02d}", "uri": f"{i % files}.wav", "title": f"Title {i}"}
        for i in range(n)
    ]
    return write_rows(folder / "catalog.csv", rows)
