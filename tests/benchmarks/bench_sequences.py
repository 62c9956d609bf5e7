"""Systems of hash sequences side by side: what each learns in the same number of steps.

    python -m tests.benchmarks.bench_sequences --frames WORK/frames --work DIR

`WORK` is that of ``hashbeam train sequence``. Songs are examined that are neither learned nor
chosen from, among performances of all songs. Prints one line of JSON a system.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from hashing.training.sequences.checking import Check
from hashing.training.sequences.corpus import EXAM, load_songs
from hashing.training.sequences.features import ROLL
from hashing.training.sequences.settings import SequenceTraining, training_of
from hashing.training.sequences.training import train_embeddings, train_hashes

# The published networks at an eighth of their widths: at full width a step takes ten seconds here.
NARROW = 0.125

SYSTEMS = ("contrast", "margin", "published", "roll", "unweighted")


def settings_of(system: str, steps: int, embedding_steps: int) -> SequenceTraining:
    """The settings of a system by its name."""
    counts = {"steps": steps, "embed_steps": embedding_steps}
    if system == "roll":
        return training_of("contrast", ROLL, **counts)
    if system == "unweighted":
        return training_of("contrast", "rendered", attention=False, **counts)
    if system == "published":
        return training_of("published", "rendered", narrow=NARROW, **counts)
    assert system in ("contrast", "margin")
    return training_of(system, "rendered", **counts)  # type: ignore[arg-type]


def main(arguments: Sequence[str]) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--embedding-steps", type=int, default=500)
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    songs = load_songs(options.frames, lambda line: None)
    for system in options.systems:
        settings = settings_of(system, options.steps, options.embedding_steps)
        work, started = options.work / system, time.process_time()
        network, _ = train_hashes(songs, settings, work, lambda line: None)
        head, _ = train_embeddings(network, songs, settings, work, lambda line: None)
        spent = time.process_time() - started
        check = Check.of(songs, settings, EXAM, len(songs))
        row = {
            "system": system,
            "steps": settings.steps,
            "cpu_s": round(spent),
            "queries": len(check.scores),
            "recordings": len(check.played),
            **{name: round(value, 3) for name, value in check.figures(network).items()},
            **{
                f"embedding_{name}": round(value, 3)
                for name, value in check.embedding_figures(network, head).items()
            },
        }
        print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
