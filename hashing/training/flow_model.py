"""A trained balanced flow hash as a model folder, with its card."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hashing.encoders import Hasher
from hashing.flow import FlowQuantizer
from hashing.models import Model, save_model
from hashing.training.flow import FlowTraining
from hashing.training.flow_export import FlowWeights, append_flow


def export(
    out: Path,
    encoder: Hasher,
    weights: FlowWeights,
    quantizer: FlowQuantizer,
    settings: FlowTraining,
    story: Mapping[str, Any],
) -> Model:
    """A model folder of a flow behind all graphs of an encoder; without calibration and card."""
    model = encoder.model
    graphs = {name: append_flow(model.graph(name), weights) for name in model.graphs}
    told = dataclasses.asdict(settings)
    if math.isinf(settings.query_radius):
        told["query_radius"] = None  # JSON has no infinity
    config = {
        "kind": "flow",
        "bits": settings.bits,
        "dimensions": len(weights.projection[0]),
        "features": model.config["features"],
        "training": {**told, **story, "encoder": {"name": model.name, "digest": model.digest}},
        "calibration": {},
    }
    return save_model(out, config, graphs, quantizer.arrays(), "# Draft")


def flow_card(
    command: str,
    settings: FlowTraining,
    encoder: str,
    story: Mapping[str, Any],
    figures: Mapping[str, float],
    fitted: Mapping[str, Any],
    seconds: float,
) -> str:
    """The card of a flow hash."""
    bits = settings.bits
    return f"""# Balanced flow hash of {bits} bits on the embeddings of `{encoder}`

{bits} projections of an embedding, sent by {settings.couplings} couplings of a normalizing flow to
coordinates that are independent and bimodal; their signs are the key of one hash table (Singh,
Demuynck & Arora, "FlowHash", 2023). A key alone tells little of a snippet: keep embeddings in the
index, and look into many buckets.

```
hashbeam index --model MODEL --key-bits {bits} --keep-embeddings --catalog CATALOG --out INDEX
hashbeam lookup --model MODEL --index INDEX --probes 64 QUERY
```

* **Command**: `{command}`
* **Data**: {story["tracks_trained"]} tracks to train, {story["tracks_calibrated"]} others to
  calibrate the score, {len(story["tracks_held_out"])} held out (listed in `config.json`), among
  them all that the encoder was not trained on.
* **Seed**: {settings.seed}. **Time**: {seconds / 60:.0f} minutes, torch {story["torch"]}.
* **Score**: logistic regression on {fitted["matches"]} matches in indexes that keep embeddings;
  expected calibration error {fitted["expected_calibration_error"]}, Brier score
  {fitted["brier_score"]} on the matches that it was fitted to.

Balance of the 2^{bits} buckets, by clean snippets a quarter of the index's hop apart:

{_balance(figures)}

`perfect` is what as many independent items would have in a perfect hash. Snippets of a track are
not independent: `clumped` is what a perfect hash has that must put those together which share
track and key. `collision` is minus log2 of the chance that snippets of two tracks share a bucket,
{bits} for a perfect hash however many items there are. The music that was fitted is without the
last part of each track, which is the other music of the same tracks; unheard music is that of the
tracks that the score is calibrated with.

Of the bits of unheard music, {100 * figures["unheard_flipped"]:.1f} % differ between a clean and a
degraded hearing of a moment, up to {story["late_s"]:.3f} s later.
{figures["replication"]:.2f} postings an item.
"""


def _balance(figures: Mapping[str, float]) -> str:
    lines = [
        "| music | snippets | entropy | perfect | of perfect | of clumped | collision |",
        "|---|---|---|---|---|---|---|",
    ]
    parts = {"train": "fitted", "kept": "same tracks, other moments", "unheard": "unheard"}
    for part, name in parts.items():
        if f"{part}_entropy" not in figures:
            continue
        entropy, perfect, clumped, collision = (
            figures.get(f"{part}_{figure}", np.nan)
            for figure in ("entropy", "perfect_entropy", "clumped_entropy", "collision_entropy")
        )
        lines.append(
            f"| {name} | {figures[f'{part}_items']:.0f} | {entropy:.3f} | {perfect:.3f} | "
            f"{entropy / perfect:.4f} | {entropy / clumped:.4f} | {collision:.2f} |"
        )
    return "\n".join(lines)
