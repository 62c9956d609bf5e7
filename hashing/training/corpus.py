"""Music for training: decoded once, kept at one rate, split so that the hold-out is unheard."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing.audio import decode
from hashing.errors import AudioError, HashbeamError

Floats = npt.NDArray[np.float32]

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Decoded tracks, float16 in one memory-mapped array, cut by `starts` (samples).

    float16 keeps 66 dB under full scale, more than any snippet's dynamic range of 60 dB, in half
    the memory of float32.
    """

    samples: npt.NDArray[np.float16]
    starts: npt.NDArray[np.int64]
    track_ids: list[str]
    sample_rate: int

    def __len__(self) -> int:
        return len(self.track_ids)

    def track(self, i: int) -> Floats:
        """Samples of track `i`, float32."""
        return np.asarray(self.samples[self.starts[i] : self.starts[i + 1]], dtype=np.float32)

    def excerpt(self, i: int, first: int, n: int) -> Floats:
        """`n` samples of track `i` from sample `first` on; what lies outside the track is zero."""
        begin, end = int(self.starts[i]), int(self.starts[i + 1])
        out = np.zeros(n, dtype=np.float32)
        low, high = max(begin, begin + first), min(end, begin + first + n)
        if high > low:
            out[low - begin - first : high - begin - first] = self.samples[low:high]
        return out

    def seconds(self, i: int) -> float:
        """Length of track `i`."""
        return float(self.starts[i + 1] - self.starts[i]) / self.sample_rate


def load(rows: Sequence[Mapping[str, str]], sample_rate: int, cache: Path) -> Corpus:
    """Decode the tracks of a catalogue, or take them from `cache` where the same were decoded.

    Args:
      rows: with ``track_id`` and an absolute local ``uri``.
      sample_rate: Hz.
      cache: a folder for the decoded samples; made when missing.

    Raises:
      HashbeamError: no track could be decoded. Tracks that fail are printed and left out.
    """

    def samples(row: Mapping[str, str]) -> Floats:
        return np.asarray(np.clip(decode(row["uri"], sample_rate), -2.0, 2.0))

    mapped, starts, kept = cached(rows, samples, str(sample_rate), cache)
    return Corpus(mapped, starts, kept, sample_rate)


def cached(
    rows: Sequence[Mapping[str, str]],
    make: Callable[[Mapping[str, str]], Floats],
    kind: str,
    cache: Path,
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int64], list[str]]:
    """What `make` makes of each track, one after another on disk; made where it is not there.

    Args:
      rows: with ``track_id`` and an absolute local ``uri``.
      make: an array of one track; tracks for which it raises `AudioError` are printed and left out.
      kind: of what is made, with all its settings: others have a file of their own.
      cache: a folder; made when missing.

    Returns:
      All values, memory-mapped float16; where each track's begin, [n + 1]; ``track_id`` of each.

    Raises:
      HashbeamError: nothing was made of any track.
    """
    names = "\n".join(f"{row['track_id']}\t{row['uri']}" for row in rows)
    digest = hashlib.sha256(f"{FORMAT_VERSION}\n{kind}\n{names}".encode()).hexdigest()[:16]
    values_path, index_path = cache / f"{digest}.f16", cache / f"{digest}.json"
    if not index_path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        starts, kept = [0], []
        with values_path.open("wb") as sink:
            for row in rows:
                try:
                    values = make(row)
                except AudioError as error:
                    print(f"left out of training: {row['track_id']}: {error}", flush=True)
                    continue
                sink.write(values.astype("<f2").tobytes())
                starts.append(starts[-1] + values.size)
                kept.append(row["track_id"])
        if not kept:
            raise HashbeamError("no track of the training catalogue could be decoded")
        index_path.write_text(json.dumps({"starts": starts, "track_ids": kept}))
    index = json.loads(index_path.read_text())
    mapped = np.memmap(values_path, dtype="<f2", mode="r")
    return np.asarray(mapped), np.asarray(index["starts"]), index["track_ids"]


def split(
    rows: Sequence[Mapping[str, str]], columns: Sequence[str], seed: int, share: float
) -> tuple[list[int], list[int]]:
    """Indices of the rows to train on and of those to hold out, whole groups apart.

    Rows that share a value in any of `columns` (an artist, a package) stand on one side, also
    through others: groups are the connected components. About `share` of the rows are held
    out; a group larger than half of that is always trained on, because it alone would be the test.

    >>> rows = [{"artist": "a"}, {"artist": "a"}, {"artist": ""}]
    >>> train, held_out = split(rows, ["artist"], 1, 0.5)
    >>> sorted(train + held_out)
    [0, 1, 2]
    """
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, row in enumerate(rows):
        for column in columns:
            if value := row.get(column, ""):
                parent[root(i)] = root(first.setdefault((column, value), i))
    groups: dict[int, list[int]] = {}
    for i in range(len(rows)):
        groups.setdefault(root(i), []).append(i)
    wanted = share * len(rows)
    order = sorted(groups.values())
    np.random.default_rng(seed).shuffle(order)
    held_out: list[int] = []
    for group in order:
        if len(group) <= wanted / 2 and len(held_out) + len(group) <= wanted:
            held_out += group
    held = set(held_out)
    return [i for i in range(len(rows)) if i not in held], sorted(held_out)
