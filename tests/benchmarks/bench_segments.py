"""Look-up through ten segments against look-up through one that holds the same tracks.

An index of made-up codes is written with the functions that the index job uses: as one segment, as
a large one and nine nightly ones of 1 % each (also with removals, against one segment of the tracks
that are left), and as ten equal ones. Then the same queries,
noisy stretches of stored codes, are looked up in two of them in turns, one at a time and in
batches, and their CPU times are compared, of a process that has been serving for a while
(`warm_up_ratio` is of that while, in which pages are mapped and small segments merged).

    python tests/benchmarks/bench_segments.py --tracks 20000
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.encoders import Hasher, QueryCodes, TrackCodes
from hashing.models import DEFAULT_MODEL
from pipelines import io, parquet, parts
from pipelines.opened import open_index
from pipelines.parts import HashJob, count_parts, hash_part, write_parts
from pipelines.publication import publish
from pipelines.reindexing.removals import REMOVALS
from pipelines.runs import Plan, Run
from pipelines.segment_codes import SegmentCodes
from pipelines.tables import build_table, plan_shards
from pipelines.versions import FIRST_VERSION, FileEntry, Files, Manifest, Segment, utc_now

NIGHTLY = 0.01  # of the tracks in each of the nine small segments
REMOVED = 0.01  # of all tracks, from the older segments
SEGMENTS = 10
MIN_KEY_BITS = 12
PART_TRACKS = 100  # of a part, as a catalogue of 400,000 tracks has
SILENCE_S = 1e9


class MadeUpDecoder:
    """Stands where `hashing.decoder.Decoder` does: codes by track number instead of sound."""

    pid = os.getpid()

    def __init__(self, code_bytes: int, snippets: int, seed: int) -> None:
        self._code_bytes, self._snippets, self._seed = code_bytes, snippets, seed

    def codes(self, track: int) -> np.ndarray:
        """Codes [snippets, code_bytes] of a track."""
        rng = np.random.default_rng([self._seed, track])
        shape = (self._snippets, self._code_bytes)
        return rng.integers(256, size=shape, dtype=np.uint8)

    def hash_track(self, path: str, hasher: Hasher, **limits: Any) -> TrackCodes:
        """What a decoder gives for the file of a track."""
        del limits
        snippet = np.arange(self._snippets, dtype=np.int32)
        seconds = self._snippets * hasher.features.snippet_hop_s
        return TrackCodes(self.codes(int(Path(path).name)), snippet, seconds)


@dataclasses.dataclass(frozen=True)
class Shape:
    """How tracks 0 to n - 1 are spread: those of each segment, and which of them are removed."""

    name: str
    segments: list[np.ndarray]
    removed: np.ndarray

    @property
    def places(self) -> dict[tuple[int, int], int]:
        """Track by segment and ordinal."""
        return {
            (segment, ordinal): int(track)
            for segment, tracks in enumerate(self.segments)
            for ordinal, track in enumerate(tracks)
        }


def shapes(n_tracks: int) -> list[Shape]:
    """One segment, nine small ones beside a large one, ten equal ones; all with removals, too."""
    rng = np.random.default_rng(7)
    order = rng.permutation(n_tracks)
    small = max(1, int(NIGHTLY * n_tracks))
    nights = [n_tracks - k * small for k in range(SEGMENTS - 1, -1, -1)]
    spread = {
        "nightly": np.split(order, nights[:-1]),
        "equal": np.array_split(order, SEGMENTS),
    }
    every = np.arange(n_tracks)
    splits = {name: [np.sort(part) for part in split] for name, split in spread.items()}
    # All but the latest segment have lost some of their tracks since.
    older = np.setdiff1d(every, np.concatenate([split[-1] for split in splits.values()]))
    removed = np.sort(rng.choice(older, int(REMOVED * n_tracks), replace=False))
    return [
        Shape("one", [every], every[:0]),
        *(Shape(name, split, every[:0]) for name, split in splits.items()),
        Shape("one_left", [np.setdiff1d(every, removed)], removed),
        Shape("nightly_removed", splits["nightly"], removed),
    ]


def write_index(
    index: str, shape: Shape, hasher: Hasher, decoder: MadeUpDecoder, key_bits: int
) -> None:
    """Write and publish an index."""
    files, segments = list[FileEntry](), list[Segment]()
    for number, tracks in enumerate(shape.segments):
        catalog = pa.table({name: [f"{track:08d}" for track in tracks] for name in COLUMNS})
        n_parts = count_parts(len(tracks))
        plan = Plan(
            version=f"{number + 1:06d}",
            catalog_digest="",
            model_digest=hasher.digest,
            model_name=hasher.model.name,
            options={},
            n_tracks=len(tracks),
            n_parts=n_parts,
            created=utc_now(),
        )
        run = Run(index, plan)
        write_parts(run, catalog)
        job = HashJob(run, SILENCE_S, SILENCE_S)
        done = [hash_part(job, part, hasher, decoder) for part in range(n_parts)]  # type: ignore[arg-type]
        entries = [dataclasses.replace(e, segment=number) for one in done for e in one.files]
        by_kind = {k: [e for e in entries if e.kind == k] for k in ("codes", "tracks")}
        gids = [int(part.counters["gids"]) for part in done]
        segment = SegmentCodes(
            number,
            range(n_parts),
            *([io.join(index, e.path) for e in by_kind[kind]] for kind in by_kind),
            [e.rows for e in by_kind["codes"]],
            np.concatenate(([0], np.cumsum(gids)))[:-1].tolist(),
            f"{index} {number}",
        )
        files += entries
        for task in plan_shards(segment, hasher.quantizer, key_bits):
            files += build_table(run, segment, task, hasher.quantizer).files
        counts = [int(part.counters["tracks_hashed"]) for part in done]
        gone = np.flatnonzero(np.isin(tracks, shape.removed))
        removals = write_removals(run, by_kind["tracks"], gone)
        total = sum(gids)
        segments.append(Segment(number, 0, n_parts, len(tracks), total, gids, counts, removals))
    publish(index, make_manifest(hasher, key_bits, segments, files))


COLUMNS = ("track_id", "uri")


def write_removals(run: Run, tracks: Sequence[FileEntry], ordinals: np.ndarray) -> FileEntry | None:
    """The file of what is gone from a segment with these files of tracks; None for nothing."""
    if not ordinals.size:
        return None
    paths = [io.join(run.index, entry.path) for entry in tracks]
    rows = pa.concat_tables([parquet.read_table(path, ["gids", "snippets"]) for path in paths])
    gids, snippets = (column.to_numpy().astype(np.int64)[ordinals] for column in rows.columns)
    ends = np.cumsum(rows["gids"].to_numpy().astype(np.int64))[ordinals]
    columns = (ordinals, ends - gids, ends, snippets)
    table = pa.table(dict(zip(REMOVALS.names, columns, strict=True))).cast(REMOVALS)
    # As a later version would: publication clears its own folder of what the manifest lacks.
    later = dataclasses.replace(run, plan=dataclasses.replace(run.plan, version="000999"))
    path = later.path("removals", f"{run.version}.parquet")
    return later.entry("removals", parquet.write_table(path, table))


def make_manifest(
    hasher: Hasher, key_bits: int, segments: Sequence[Segment], files: Sequence[FileEntry]
) -> Manifest:
    """The manifest of an index of these segments."""
    return Manifest(
        version=FIRST_VERSION,
        parent=None,
        model={"name": hasher.model.name, "digest": hasher.digest},
        catalog_digest="",
        key_bits=key_bits,
        n_tables=hasher.quantizer.n_tables,
        snippet_hop_s=hasher.features.snippet_hop_s,
        replication=hasher.quantizer.replication,
        compared="codes",
        segments=list(segments),
        files=Files.of(files),
        counters={},
        created=utc_now(),
    )


def make_queries(
    hasher: Hasher,
    decoder: MadeUpDecoder,
    tracks: np.ndarray,
    seconds: float,
    n: int,
    seed: int,
) -> tuple[list[QueryCodes], np.ndarray]:
    """Stretches of stored codes, decoded and buried in noise, and the track of each."""
    rng = np.random.default_rng([seed, int(10 * seconds)])
    config, quantizer = hasher.features, hasher.quantizer
    frames = int((seconds * config.sample_rate - config.n_fft) / config.hop_length) + 1
    margin = config.query_margin
    starts = np.arange(-margin, frames - config.snippet_frames + margin + 1, config.query_hop)
    chosen, queries = rng.choice(tracks, n), []
    hop = config.snippet_hop
    for track in chosen.tolist():
        stored = decoder.codes(track)
        vectors = quantizer.decode(stored)  # type: ignore[attr-defined]
        needed = int(starts[-1] - starts[0]) // hop + 2
        first = int(rng.integers(len(stored) - needed))
        at, within = np.divmod(starts - starts[0], hop)
        share = (within / hop)[:, None]
        # Between two snippets of the index, what is heard is something of both.
        clean = (1 - share) * vectors[first + at] + share * vectors[first + at + 1]
        clean /= np.linalg.norm(clean, axis=1, keepdims=True)
        noise = rng.standard_normal(clean.shape)
        noise *= NOISE / np.sqrt(clean.shape[1])
        heard = (clean + noise).astype(np.float32)
        heard /= np.linalg.norm(heard, axis=1, keepdims=True)
        queries.append(QueryCodes(heard, starts.astype(np.int32), seconds))
    return queries, chosen


NOISE = 0.7  # length of the noise beside a vector of length one


def time_open(index: str, query: QueryCodes, rounds: int) -> tuple[float, float]:
    """Median CPU ms to open an index, and to open it and look one query up."""
    opens, firsts = [], []
    for _ in range(rounds):
        begin = time.process_time()
        searcher, *_ = open_index(index)
        opened = time.process_time()
        searcher.search([query])
        opens.append(opened - begin)
        firsts.append(time.process_time() - begin)
    return 1e3 * statistics.median(opens), 1e3 * statistics.median(firsts)


def measure(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """All figures."""
    hasher = Hasher.load(args.model)
    decoder = MadeUpDecoder(hasher.quantizer.code_bytes, args.snippets, args.seed)
    made = {shape.name: shape for shape in shapes(args.tracks)}
    bits = int(np.ceil(np.log2(args.tracks * args.snippets))) - 2
    key_bits = min(max(bits, MIN_KEY_BITS), hasher.quantizer.key_bits_max)
    parts.MIN_TRACKS = PART_TRACKS
    os.fsync = lambda file: None  # type: ignore[assignment]  # nothing need survive a power cut
    figures: dict[str, float] = {"snippets": args.tracks * args.snippets, "key_bits": key_bits}
    for name, shape in made.items():
        if not (folder / name / "CURRENT").exists():
            write_index(str(folder / name), shape, hasher, decoder, key_bits)
    gone = np.unique(np.concatenate([shape.removed for shape in made.values()]))
    live = np.setdiff1d(np.arange(args.tracks), gone)
    pairs = [("one", "nightly"), ("one", "equal")]
    pairs += [("one_left", "nightly_removed")]
    for one, several in pairs:
        for seconds in args.seconds:
            queries, truth = make_queries(hasher, decoder, live, seconds, args.queries, args.seed)
            found = compare(folder, (made[one], made[several]), queries, truth, args)
            figures |= {f"{several}_{seconds:g}_s_{k}": v for k, v in found.items()}
        for name in (one, several):
            opened, first = time_open(str(folder / name), queries[0], args.rounds)
            figures |= {f"{name}_open_ms": opened, f"{name}_open_and_first_ms": first}
    return figures


def compare(
    folder: Path,
    pair: tuple[Shape, Shape],
    queries: Sequence[QueryCodes],
    truth: np.ndarray,
    args: argparse.Namespace,
) -> dict[str, float]:
    """CPU ms of the same queries in two indexes, in turns."""
    opened = [open_index(str(folder / shape.name))[0] for shape in pair]
    found: dict[str, float] = {}
    places = [shape.places for shape in pair]
    right, same = [0, 0], 0
    begin = [time.process_time()]
    for searcher in opened:
        for _ in range(args.warm):
            searcher.search(queries, top=3)
        begin.append(time.process_time())
    first_s = np.diff(begin)
    found["warm_up_ratio"] = float(first_s[1] / first_s[0])
    for query, track in zip(queries, truth.tolist(), strict=True):
        firsts = []
        for at, searcher in enumerate(opened):
            (matches,) = searcher.search([query], top=3)
            best = [(places[at][m.segment, m.ordinal], m.score) for m in matches]
            right[at] += bool(best) and best[0][0] == track
            firsts.append(best[0] if best else None)
        same += np.allclose(*(first or (-1, 0.0) for first in firsts), rtol=0, atol=1e-6)
    found |= {"right_one": right[0] / len(queries), "right": right[1] / len(queries)}
    found["same_first"] = same / len(queries)
    for batch in (1, args.batch):
        times = np.empty((args.rounds, 2, len(queries) // batch))
        for number in range(args.rounds):
            for at in (0, 1) if number % 2 else (1, 0):
                for k in range(times.shape[2]):
                    part = queries[batch * k : batch * (k + 1)]
                    begin = time.process_time()
                    opened[at].search(part, top=3)
                    times[number, at, k] = time.process_time() - begin
        means = times.mean(axis=2) * 1e3 / batch
        ratios = means[:, 1] / means[:, 0]
        found |= {
            f"batch{batch}_one_ms": float(np.median(means[:, 0])),
            f"batch{batch}_ms": float(np.median(means[:, 1])),
            f"batch{batch}_ratio": float(np.median(ratios)),
            f"batch{batch}_ratio_low": float(ratios.min()),
            f"batch{batch}_ratio_high": float(ratios.max()),
        }
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=20_000)
    parser.add_argument("--snippets", type=int, default=48, help="of a track")
    parser.add_argument("--queries", type=int, default=64, help="of each length")
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 5.0], help="lengths")
    parser.add_argument("--batch", type=int, default=16, help="queries looked up together")
    parser.add_argument("--warm", type=int, default=8, help="turns before it is measured")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each index")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work-dir", type=Path, help="keep the indexes here for the next run")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(args, args.work_dir or Path(scratch))
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:44s}{value:>12,.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
