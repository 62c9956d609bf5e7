"""A folder of music with copies of some of its tracks, and the truth about what shares what.

A copy is described by its pieces: which part of which track stands where in it. What two files
share follows from that: the longest stretch that both take from one track at one shift.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hashing.audio import decode, encode
from hashing.conditions import add_noise

RATE = 24_000  # Hz, of the files of the music folder and of the copies
LEAST_S = 50.0  # tracks that are copied: a sample of 10 s is then a fifth of the track at most
TRIMMED_S = 3.0  # and up to a hop more, so that grids of snippets do not meet
SAMPLE_S = 10.0
NOISE_DB = 10.0
GAIN_DB = -9.0
MP3_BIT_RATE = 64_000

KINDS = ("mp3", "gain", "trim", "noise", "half", "sample")


@dataclasses.dataclass(frozen=True)
class Piece:
    """`seconds` of `source` from `source_s` on, which stand in a file from `at_s` on."""

    source: str
    source_s: float
    at_s: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Item:
    """A file: its id, package, length in seconds, how it was made ("" for an original), pieces."""

    track_id: str
    package: str
    seconds: float
    kind: str
    pieces: tuple[Piece, ...]


@dataclasses.dataclass(frozen=True)
class Shared:
    """What two files share: seconds at one shift, and where it begins in each."""

    seconds: float
    one_s: float
    other_s: float


def shared(one: Item, other: Item) -> Shared:
    """The longest stretch that two files take from one track at one shift, holes included.

    >>> song = Item("a", "p", 60.0, "", (Piece("a", 0.0, 0.0, 60.0),))
    >>> half = Item("b", "p", 30.0, "half", (Piece("a", 30.0, 0.0, 30.0),))
    >>> shared(song, half)
    Shared(seconds=30.0, one_s=30.0, other_s=0.0)
    """
    spans: dict[tuple[str, float], tuple[float, float, float]] = {}
    for a, b in itertools.product(one.pieces, other.pieces):
        low = max(a.source_s, b.source_s)
        high = min(a.source_s + a.seconds, b.source_s + b.seconds)
        if a.source != b.source or high <= low:
            continue
        start, start_other = a.at_s + low - a.source_s, b.at_s + low - b.source_s
        place = (a.source, round(start - start_other, 3))
        first, first_other, end = spans.get(place, (start, start_other, start + high - low))
        spans[place] = (
            min(first, start),
            min(first_other, start_other),
            max(end, start + high - low),
        )
    found = [Shared(end - first, first, second) for first, second, end in spans.values()]
    return max(found, key=lambda span: span.seconds, default=Shared(0.0, 0.0, 0.0))


def halves(packages: Sequence[str]) -> dict[str, int]:
    """0 or 1 for each package: two halves of about as many tracks, the larger packages in turns.

    >>> halves(["a", "b", "b", "c", "c", "c"])
    {'c': 0, 'b': 1, 'a': 1}
    """
    counts = {name: packages.count(name) for name in set(packages)}
    held, out = [0, 0], {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        out[name] = int(held[1] < held[0])
        held[out[name]] += counts[name]
    return out


def make_copies(music: Path, noise: Path, out: Path, per_half: int, seed: int = 1) -> list[Item]:
    """Write copies of tracks of `music`, and ``catalog.csv`` of all; returns what every file is.

    Args:
        music: a folder with ``catalog.csv`` (track_id, uri, source_package).
        noise: a folder of recordings that are mixed in.
        per_half: copies of each kind, from each half of the packages.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (music / "catalog.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    half_of = halves([row["source_package"] for row in rows])
    rng = np.random.default_rng(seed)
    lengths = {row["track_id"]: _seconds(music / row["uri"]) for row in rows}
    package = {row["track_id"]: row["source_package"] for row in rows}
    items = [_original(row["track_id"], package, lengths) for row in rows]
    lines = [(row["track_id"], str((music / row["uri"]).resolve())) for row in rows]
    noises = sorted(noise.glob("*.opus"))
    for half, kind in itertools.product((0, 1), KINDS):
        names = [
            name for name, s in lengths.items() if s >= LEAST_S and half_of[package[name]] == half
        ]
        chosen = rng.choice(names, 2 * per_half, replace=False).tolist()
        for number in range(per_half):
            name, guest = chosen[number], chosen[per_half + number]
            track_id = f"copy-{kind}-{half}{number:02d}"
            samples = decode(str(music / f"{name}.opus"), RATE)
            inner = decode(str(music / f"{guest}.opus"), RATE) if kind == "sample" else samples
            loud = decode(str(noises[int(rng.integers(len(noises)))]), RATE)
            made, pieces = _degrade(kind, name, samples, guest, inner, loud, rng)
            suffix = "mp3" if kind == "mp3" else "flac"
            path = out / f"{track_id}.{suffix}"
            encode(made, RATE, str(path), codec=suffix, bit_rate=MP3_BIT_RATE)
            items.append(Item(track_id, package[name], made.size / RATE, kind, pieces))
            lines.append((track_id, str(path.resolve())))
    with (out / "catalog.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("track_id", "uri"), *lines])
    return items


def _original(name: str, package: dict[str, str], lengths: dict[str, float]) -> Item:
    return Item(name, package[name], lengths[name], "", (Piece(name, 0.0, 0.0, lengths[name]),))


def _seconds(path: Path) -> float:
    import av

    with av.open(str(path)) as container:
        return float(container.duration or 0) / 1e6


def _degrade(
    kind: str,
    name: str,
    samples: np.ndarray,
    guest: str,
    inner: np.ndarray,
    loud: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, tuple[Piece, ...]]:
    """Samples of a copy, and its pieces."""
    seconds = samples.size / RATE
    whole = (Piece(name, 0.0, 0.0, seconds),)
    if kind == "gain":
        return samples * 10 ** (GAIN_DB / 20), whole
    if kind == "trim":
        first = int((TRIMMED_S + rng.uniform(0.0, 0.25)) * RATE)
        return samples[first:], (Piece(name, first / RATE, 0.0, seconds - first / RATE),)
    if kind == "noise":
        return add_noise(samples, np.resize(loud, samples.size), NOISE_DB), whole
    if kind == "half":
        first = int(rng.uniform(0.0, seconds / 2) * RATE)
        kept = samples[first : first + samples.size // 2]
        return kept, (Piece(name, first / RATE, 0.0, kept.size / RATE),)
    if kind == "sample":
        at, start = (
            rng.uniform(0.0, seconds - SAMPLE_S),
            rng.uniform(0.0, inner.size / RATE - SAMPLE_S),
        )
        first, n = int(at * RATE), int(SAMPLE_S * RATE)
        made = samples.copy()
        made[first : first + n] = inner[int(start * RATE) :][:n]
        after = at + SAMPLE_S
        return made, (
            Piece(name, 0.0, 0.0, at),
            Piece(guest, start, at, SAMPLE_S),
            Piece(name, after, after, seconds - after),
        )
    return samples, whole
