"""Pairs a second of Hamming DTW: the kernel, its bound, and librosa, side by side in one run.

Code sequences are made up: a smooth random walk of a few hidden values decides each bit, and each
song has an offset of its own. Bits of unrelated songs then differ in about 13 of 32 on average, as
the published codes do, and neighbouring codes in about 5. One song in a hundred is a noisy, slower,
cropped copy of the query.

    python tests/benchmarks/bench_alignment.py

CPU time of one thread; medians over --rounds, in which all systems take turns.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

from hashing.alignment import align, hash_score, hash_scores

HIDDEN = 12  # values that 32 bits hang on
SMOOTH = np.exp(-1 / 4)  # of a hidden value with itself one code later
OWN = 0.5  # deviation of songs from one another, beside 1 within a song
BIAS = 0.75  # deviation of the thresholds: bits are not all fair
FLIPPED = 0.2  # of the bits of a copy


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codes", type=int, default=480, help="in a sequence")
    parser.add_argument("--songs", type=int, default=1000)
    parser.add_argument("--librosa", type=int, default=10, help="songs that librosa compares")
    parser.add_argument("--frames", type=int, default=4000, help="of the float aligner")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    songs = made_up(args.songs, args.codes, rng)
    query, right = songs[0].copy(), np.arange(0, args.songs, 100)
    for place in right:
        songs[place] = copy_of(query, rng)
    flat, offsets = songs.ravel(), np.arange(args.songs + 1) * args.codes

    began = time.process_time()
    hash_score(query, songs[0])
    print(f"first call, numba and compiling (or loading) included: {cpu(began):.1f} CPU s")
    scores = hash_scores(query, flat, offsets)
    wrong = np.delete(scores, right)
    distance = np.mean([np.bitwise_count(query[:, None] ^ song).mean() for song in songs[1:50]])
    walk = np.bitwise_count(songs[:, 1:] ^ songs[:, :-1]).mean()
    print(
        f"{args.songs} songs of {args.codes} codes: {distance:.1f} bits between unrelated codes, "
        f"{walk:.1f} between neighbours\n"
        f"scores: {scores[right].min():.2f} to {scores[right].max():.2f} of copies, "
        f"{wrong.min():.2f} to {wrong.max():.2f} of others (median {np.median(wrong):.2f})"
    )
    limits = {
        "limit at the worst copy": {"limit": float(scores[right].max()) + 1e-6},
        "limit in the middle of both": {"limit": float(scores[right].max() + wrong.min()) / 2},
        "best 10": {"best": 10},
        "best 250": {"best": 250},
    }
    systems: dict[str, tuple[int, Callable[[], object]]] = {
        "librosa, distances included": (args.librosa, lambda: by_librosa(query, songs, args)),
        "one call a pair": (args.songs, lambda: [hash_score(query, song) for song in songs]),
        "one call for all": (args.songs, lambda: hash_scores(query, flat, offsets)),
    }
    for name, limit in limits.items():
        for prune in (False, True):
            expected = hash_scores(query, flat, offsets, **limit, prune=False)
            assert np.array_equal(hash_scores(query, flat, offsets, **limit), expected)
            systems[f"{name}, {'pruned' if prune else 'every one computed'}"] = (
                args.songs,
                lambda limit=limit, prune=prune: hash_scores(
                    query, flat, offsets, **limit, prune=prune
                ),
            )
    by_librosa(query, songs[:1], args)  # compiles as well
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    before = peak_mb()
    for _ in range(args.rounds):
        for name, (_, run) in systems.items():
            began = time.process_time()
            run()
            seconds[name].append(cpu(began))
    for name, (count, _) in systems.items():
        taken = statistics.median(seconds[name]) / count
        print(f"{name:50s} {1 / taken:9.0f} pairs/s {taken * 1e6:9.1f} us a pair")
    print(f"memory: {before:.0f} MB before, {peak_mb():.0f} MB at the end (peaks)")

    frames = rng.standard_normal((args.frames, 48)).astype(np.float32)
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    align(frames[:10], frames[:10])
    for penalty in ("median", "mean"):
        began = time.process_time()
        align(frames, frames[::-1], penalty=penalty)
        print(f"align, {args.frames} x {args.frames} frames, {penalty}: {cpu(began):.2f} CPU s")
    print(f"memory: {peak_mb():.0f} MB at the end (peak)")
    return 0


def cpu(began: float) -> float:
    """CPU seconds since then."""
    return time.process_time() - began


def peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def made_up(songs: int, codes: int, rng: np.random.Generator) -> np.ndarray:
    """Code sequences, uint32, [songs, codes]."""
    planes = rng.standard_normal((HIDDEN, 32)) / np.sqrt(HIDDEN)
    bias = BIAS * rng.standard_normal(32)
    state = rng.standard_normal((songs, HIDDEN))
    own = OWN * rng.standard_normal((songs, HIDDEN))
    rows = np.empty((songs, codes), np.uint32)
    for i in range(codes):
        state = SMOOTH * state + np.sqrt(1 - SMOOTH**2) * rng.standard_normal((songs, HIDDEN))
        rows[:, i] = packed((state + own) @ planes + bias > 0)
    return rows


def packed(bits: np.ndarray) -> np.ndarray:
    """[n, 32] bits as uint32, [n]."""
    return (bits * (1 << np.arange(32))).sum(axis=1).astype(np.uint32)


def copy_of(query: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The query at up to a tenth another tempo, repeated at its end, with bits flipped."""
    places = (np.arange(query.size) * rng.uniform(0.95, 1.05)).astype(int)
    flips = packed(rng.random((query.size, 32)) < FLIPPED)
    return query[np.minimum(places, query.size - 1)] ^ flips


def by_librosa(query: np.ndarray, songs: np.ndarray, args: argparse.Namespace) -> None:
    """The same recurrence, with a free start on one edge, and its path."""
    from librosa.sequence import dtw

    for song in songs[: args.librosa]:
        dtw(
            C=np.bitwise_count(query[:, None] ^ song).astype(np.float32),
            step_sizes_sigma=np.array([[1, 1], [1, 0], [0, 1]]),
            weights_add=np.array([0.0, 15.0, 15.0]),
            weights_mul=np.ones(3),
            subseq=True,
        )


if __name__ == "__main__":
    raise SystemExit(main())
