"""A catalogue of labelled clips whose embeddings tell the label where one looks, and no sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tiny_catalog import write_rows

FAMILIES = {
    "small dog": "animal",
    "cat": "animal",
    "cow": "animal",
    "rain": "water",
    "river": "water",
    "siren": "",
}
LABELS = tuple(FAMILIES)
TELLING = len(LABELS)  # dimensions that tell labels
NOISE = 42  # dimensions that do not, in which clips differ by far more
ROLES = {"training": 300, "database": 280, "queries": 30}


def rows_of(counts: dict[str, int] | None = None) -> list[dict[str, str]]:
    """Clips in roles, the labels in turns; every tenth has two."""
    rows = []
    for share, count in (counts or ROLES).items():
        for number in range(count):
            label = LABELS[number % len(LABELS)]
            if number % 10 == 9:
                label += f"; {LABELS[(number + 1) % len(LABELS)]}"
            name = f"{share}{number:03d}"
            rows.append({"clip_id": name, "uri": f"{name}.wav", "label": label, "share": share})
    return rows


def vectors_of(rows: list[dict[str, str]], seed: int = 1) -> np.ndarray:
    """Embeddings [n, TELLING + NOISE]: the first dimensions are the labels, the others are loud."""
    rng = np.random.default_rng(seed)
    told = np.array([[label in row["label"].split("; ") for label in LABELS] for row in rows])
    telling = told + 0.1 * rng.standard_normal(told.shape)
    return np.hstack([telling, 0.7 * rng.standard_normal((len(rows), NOISE))]).astype(np.float32)


def write_vectors(path: Path, rows: list[dict[str, str]], seed: int = 1) -> Path:
    """The embeddings as a Parquet file."""
    columns = {
        "clip_id": [row["clip_id"] for row in rows],
        "embedding": vectors_of(rows, seed).tolist(),
    }
    pq.write_table(pa.table(columns), path)
    return path


def write_labelled(folder: Path, rows: list[dict[str, str]] | None = None) -> Path:
    """``labels.csv``, ``taxonomy.csv`` beside it and ``vectors.parquet``; the path of the first."""
    rows = rows_of() if rows is None else rows
    write_vectors(folder / "vectors.parquet", rows)
    lines = [f"{label},{parent}" for label, parent in FAMILIES.items()]
    tree = ["label,parent", "animal,", "water,", *lines]
    (folder / "taxonomy.csv").write_text("\n".join(tree) + "\n")
    return write_rows(folder / "labels.csv", rows)
