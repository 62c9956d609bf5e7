"""How well aligners tell whether a recording is of a score, pair by pair: what midi-pairs asks.

    python -m tests.benchmarks.bench_pairs --frames WORK/frames

`WORK` is that of ``hashbeam train sequence``. Scores of songs that no model has heard meet one of
their own performances, and performances of three other songs. Prints one line of JSON an aligner:
`auc`, the share of right and wrong pairs in the right order; the shares of both with a confidence
of 0.5 and more; the share of right ones above all but 1 % of the wrong; and CPU time a pair.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hashing.alignment import align
from hashing.cascade import confidences
from hashing.matched import match
from hashing.models import DEFAULT_SEQUENCE_MODEL
from hashing.sequences import SequenceEncoder, TrackSequence
from hashing.training.sequences.corpus import EXAM, load_songs
from hashing.training.sequences.features import SCORE_FONTS

OTHERS = (1, 7, 31)  # songs further on in the list
SURE = 0.5


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--model", default=DEFAULT_SEQUENCE_MODEL)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    encoder, rng = SequenceEncoder.load(args.model), np.random.default_rng(args.seed)
    features = encoder.features
    songs = [song for song in load_songs(args.frames, lambda _: None) if song.role == EXAM]
    scores, recordings = [], []
    for song in songs:
        played = song.played[rng.integers(len(song.played))]
        levels = song.scores[SCORE_FONTS[0]].astype(np.float32)
        scores.append(encoder.hear_levels(levels, "score"))
        recordings.append(encoder.hear_levels(played.magnitudes.astype(np.float32), "audio"))

    def published(score: TrackSequence, recording: TrackSequence) -> float:
        frames = (one.frames(features.cqt) for one in (score, recording))
        return align(*frames, penalty="mean").confidence

    def at_two_scales(score: TrackSequence, recording: TrackSequence) -> float:
        return confidences([match(score, recording, features).coarse.score])[0]

    aligners: dict[str, Callable[[TrackSequence, TrackSequence], float]] = {
        "published": published,
        "at two scales": at_two_scales,
    }
    for name, confidence in aligners.items():
        confidence(scores[0], recordings[0])  # compiles loops
        began, n = time.process_time(), len(songs)
        right = np.array([confidence(scores[i], recordings[i]) for i in range(n)])
        wrong = np.array(
            [confidence(scores[i], recordings[(i + by) % n]) for by in OTHERS for i in range(n)]
        )
        spent = time.process_time() - began
        order = (right[:, None] > wrong).mean() + (right[:, None] == wrong).mean() / 2
        told = {
            "aligner": name,
            "right": len(right),
            "wrong": len(wrong),
            "auc": round(float(order), 4),
            "right_sure": round(float((right >= SURE).mean()), 4),
            "wrong_sure": round(float((wrong >= SURE).mean()), 4),
            "right_above_99": round(float((right > np.quantile(wrong, 0.99)).mean()), 4),
            "cpu_ms_a_pair": round(1000 * spent / (len(right) + len(wrong)), 1),
        }
        print(json.dumps(told), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
