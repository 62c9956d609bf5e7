"""How well `hashbeam duplicates` tells copies of recordings, on real music and copies of it.

Makes copies of tracks (`duplicate_copies`): mp3 at 64 kb/s, 9 dB less, the first three seconds cut
off, mixed with noise at 10 dB, half of the track, and ten seconds of another track put into it.
Indexes all, joins the index with itself, and compares what is found with what was made.

Packages are two halves. The weights of the score are fitted on the first, and on pairs across both
(`--fit` prints them); all figures are those of pairs within the second. What is found between two
originals is judged by their samples: at a correlation of 0.5 or more they share audio, below 0.3
they do not.

    python tests/benchmarks/bench_duplicates.py --music MUSIC --noise NOISE --work-dir FOLDER
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from duplicate_copies import Item, Piece, Shared, halves, make_copies, shared

from hashing.audio import decode
from hashing.duplicates import correlation_at
from hashing.overlaps import PART, PART_COVER, SAME, SAME_COVER, SHARED
from pipelines.cli import main as hashbeam

RATE = 8000  # Hz, at which samples are compared
EXCERPT_S = 5.0
RIGHT, WRONG = 0.5, 0.3  # correlations; between them nobody can tell
RIDGE = 0.3  # of the fit, on inputs of deviation one
LAG_S = 0.6  # a grid of snippets is half a hop off, and a codec delays


@dataclasses.dataclass(frozen=True)
class Found:
    """A row of duplicates.parquet, what was made (None between originals), and the halves."""

    row: dict[str, Any]
    truth: Shared | None
    relation: str
    half: int
    right: float  # 1, 0, or not-a-number where nobody can tell


def main() -> int:
    """Make, index, join, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--music", type=Path, required=True, help="a folder with catalog.csv")
    parser.add_argument("--noise", type=Path, required=True, help="a folder of recordings")
    parser.add_argument("--per-half", type=int, default=8, help="copies of a kind and half")
    parser.add_argument(
        "--key-bits", default="auto", help="of the index: 31 for ten million tracks"
    )
    parser.add_argument("--work-dir", type=Path, help="keep copies and index here")
    parser.add_argument("--fit", action="store_true", help="print weights fitted on the first half")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.work_dir or Path(scratch)
        items = _copies(args, folder)
        rows, summary = _join(folder, str(args.key_bits), Path(scratch))
        found = _judge(items, rows, folder / "copies" / "catalog.csv")
    figures = {**_cost(summary), **_figures(items, found)}
    figures["groups_with_members_not_made"] = _mixed(items, summary["members"])
    if args.fit:
        figures["weights"] = _fit([one for one in found if one.half != 1])
    if args.json:
        print(json.dumps(figures, indent=1))
    else:
        for name, value in figures.items():
            print(f"{name:36s} {value}")
    return 0


def _copies(args: argparse.Namespace, folder: Path) -> dict[str, Item]:
    told = folder / "items.json"
    if not told.exists():
        items = make_copies(args.music, args.noise, folder / "copies", args.per_half)
        told.write_text(json.dumps([dataclasses.asdict(item) for item in items]))
    items = [
        Item(**{**item, "pieces": tuple(Piece(**piece) for piece in item["pieces"])})
        for item in json.loads(told.read_text())
    ]
    return {item.track_id: item for item in items}


def _join(
    folder: Path, key_bits: str, scratch: Path
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    index, out = folder / f"index-{key_bits}", scratch / "duplicates"
    if not (index / "CURRENT").exists():
        names = ["--catalog", str(folder / "copies" / "catalog.csv"), "--out", str(index)]
        assert hashbeam(["index", *names, "--key-bits", key_bits, "--quiet"]) == 0
    flags = ["--out", str(out), "--min-score", "0", "--workers", "1", "--quiet"]
    assert hashbeam(["duplicates", str(index), *flags]) == 0
    rows = pq.read_table(out / "duplicates.parquet").to_pylist()
    groups = pq.read_table(out / "groups.parquet").to_pylist()
    summary = json.loads((out / "run.json").read_text())
    return rows, {**summary, "members": [(row["group"], row["track_id"]) for row in groups]}


def _judge(items: dict[str, Item], rows: list[dict[str, Any]], catalog: Path) -> list[Found]:
    with catalog.open(encoding="utf-8", newline="") as file:
        paths = {row["track_id"]: row["uri"] for row in csv.DictReader(file)}
    half_of = halves([item.package for item in items.values() if not item.kind])
    audio: dict[str, np.ndarray] = {}
    out = []
    for row in rows:
        one, other = items[row["track_id"]], items[row["other_track_id"]]
        half = half_of[one.package] if half_of[one.package] == half_of[other.package] else -1
        truth = shared(one, other)
        made = truth.seconds > 0.0
        relation = true_relation(one, other, truth) if made else ""
        right = math.nan
        if made:
            lag = row["start_s"] - row["other_start_s"] - (truth.one_s - truth.other_s)
            # A loop is alike at other places, too: that is neither right nor wrong.
            right = 1.0 if abs(lag) <= LAG_S else math.nan
        elif row["score"] >= 0.02:  # what is less is chance, and would take hours to decode
            for name in (one.track_id, other.track_id):
                if name not in audio:
                    audio[name] = decode(paths[name], RATE)
            highest = _correlation(row, audio[one.track_id], audio[other.track_id])
            row["correlation"] = highest
            right = 1.0 if highest >= RIGHT else 0.0 if highest < WRONG else math.nan
        else:
            right = 0.0
        out.append(Found(row, truth if made else None, relation, half, right))
    return out


def true_relation(one: Item, other: Item, truth: Shared) -> str:
    """What two files are that share so many seconds."""
    if truth.seconds >= SAME_COVER * max(one.seconds, other.seconds):
        return SAME
    return PART if truth.seconds >= PART_COVER * min(one.seconds, other.seconds) else SHARED


def _correlation(row: dict[str, Any], one: np.ndarray, other: np.ndarray) -> float:
    lag = row["other_start_s"] - row["start_s"]
    starts = row["start_s"] + np.linspace(0.0, max(0.0, row["overlap_s"] - EXCERPT_S), 4)
    found = [0.0]
    for start in starts.tolist():
        excerpt = one[int(start * RATE) :][: int(EXCERPT_S * RATE)]
        if excerpt.size >= RATE:
            found.append(correlation_at(excerpt, other, start + lag, RATE))
    return max(found)


def _cost(summary: dict[str, Any]) -> dict[str, Any]:
    tracks = summary["tracks"]
    cpu_s = summary["join_cpu_s"] + summary["compare_cpu_s"]
    postings = summary["postings_joined"]
    return {
        "tracks": tracks,
        "join_cpu_ms_per_track": round(1000 * summary["join_cpu_s"] / tracks, 3),
        "compare_cpu_ms_per_track": round(1000 * summary["compare_cpu_s"] / tracks, 3),
        "cpu_s_per_track": round(cpu_s / tracks, 5),
        "snippet_pairs_per_posting": round(summary["snippet_pairs"] / postings, 3),
        "pairs_compared_per_track": round(summary["pairs_compared"] / tracks, 3),
        "long_buckets": summary["long_buckets"],
        "groups": summary["groups"],
        "tracks_split_from_groups": summary["tracks_split_from_groups"],
    }


def _mixed(items: dict[str, Item], members: list[tuple[int, str]]) -> list[str]:
    """Groups of which some two members were not made of one track, in both halves."""
    groups: dict[int, list[str]] = {}
    for group, track in members:
        groups.setdefault(group, []).append(track)
    return [
        ", ".join(tracks)
        for tracks in groups.values()
        if not all(shared(items[a], items[b]).seconds for a, b in itertools.combinations(tracks, 2))
    ]


def _figures(items: dict[str, Item], found: list[Found]) -> dict[str, Any]:
    """Figures of the second half."""
    half_of = halves([item.package for item in items.values() if not item.kind])
    mine = [item for item in items.values() if half_of[item.package] == 1]
    by_pair = {
        frozenset((one.row["track_id"], one.row["other_track_id"])): one
        for one in found
        if one.row["score"] >= 0.5
    }
    hits: dict[str, list[bool]] = {}
    confusion: dict[str, int] = {}
    overlap_error, start_error = [], []
    for one, other in itertools.combinations(mine, 2):
        truth = shared(one, other)
        if not (one.kind or other.kind) or truth.seconds <= 1.0:
            continue
        wanted = true_relation(one, other, truth)
        got = by_pair.get(frozenset((one.track_id, other.track_id)))
        name = got.row["relation"] if got else "not found"
        confusion[f"{wanted} as {name}"] = confusion.get(f"{wanted} as {name}", 0) + 1
        kinds = " and ".join(filter(None, (one.kind, other.kind)))
        hits.setdefault(f"{wanted}: {kinds}", []).append(name == wanted)
        if got and got.right == 1.0 and name == wanted:
            overlap_error.append(abs(got.row["overlap_s"] - truth.seconds))
            starts = truth.one_s, truth.other_s
            if got.row["track_id"] != one.track_id:
                starts = starts[::-1]
            start_error.append(abs(got.row["start_s"] - starts[0]))
            start_error.append(abs(got.row["other_start_s"] - starts[1]))
    same = [one for one in by_pair.values() if one.half == 1 and one.row["relation"] == SAME]
    of_copies = [one for one in same if one.truth]
    originals = [one for one in same if not one.truth]
    agreed = sum(one.relation == SAME for one in of_copies)
    scored = [one for one in found if one.half == 1 and not math.isnan(one.right)]
    errors = [(one.row["score"] - one.right) ** 2 for one in scored]
    return {
        "recall": {k: f"{sum(v)}/{len(v)}" for k, v in sorted(hits.items())},
        "confusion": dict(sorted(confusion.items())),
        "same_found_of_copies_right": f"{agreed}/{len(of_copies)}",
        "same_found_of_originals": [_told(one) for one in originals],
        "others_found_of_originals": [
            _told(one)
            for one in by_pair.values()
            if one.half == 1 and not one.truth and one.row["relation"] != SAME
        ],
        "found_across_halves": [_told(one) for one in by_pair.values() if one.half < 0],
        "overlap_error_s": _quantiles(overlap_error),
        "start_error_s": _quantiles(start_error),
        "brier_score": round(float(np.mean(errors)), 5),
        "reliability": _reliability(scored),
    }


def _told(found: Found) -> str:
    row = found.row
    return (
        f"{row['track_id']} {row['other_track_id']} {row['relation']} {row['overlap_s']:.0f} s "
        f"score {row['score']:.2f} likeness {row['likeness']:.2f} "
        f"correlation {row.get('correlation', math.nan):.2f}"
    )


def _quantiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {f"{q:.0%}": round(float(np.quantile(values, q)), 3) for q in (0.5, 0.95, 1.0)}


def _reliability(scored: list[Found]) -> list[str]:
    edges, out = (0.0, 0.02, 0.2, 0.5, 0.8, 0.98, 1.01), []
    for low, high in itertools.pairwise(edges):
        bin_ = [one for one in scored if low <= one.row["score"] < high]
        if bin_:
            said = np.mean([one.row["score"] for one in bin_])
            out.append(
                f"{low:g} to {min(high, 1.0):g}: {len(bin_)} pairs, mean score {said:.3f}, "
                f"right {np.mean([one.right for one in bin_]):.3f}"
            )
    return out


def _fit(found: list[Found]) -> list[float]:
    """Intercept, weight of the likeness, weight of the logarithm of the snippets.

    Of copies that were made, and of what shares no audio. Originals that do are left out: games
    have layers of one piece, and whether these are one recording is a matter of taste.
    """
    used = [one for one in found if one.right == 0.0 or (one.truth and one.right == 1.0)]
    inputs = np.array([[one.row["likeness"], math.log(one.row["snippets"])] for one in used])
    right = np.array([one.right for one in used])
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0)
    scaled = np.column_stack((np.ones(len(used)), (inputs - mean) / deviation))
    weights, ridge = np.zeros(3), np.diag([0.0, RIDGE, RIDGE])
    for _ in range(100):  # Newton's method; the ridge makes it converge where classes are apart
        chance = 1.0 / (1.0 + np.exp(-scaled @ weights))
        slope = scaled.T @ (chance - right) + ridge @ weights
        curve = (scaled.T * (chance * (1 - chance))) @ scaled + ridge
        weights -= np.linalg.solve(curve + 1e-9 * np.eye(3), slope)
    plain = weights[1:] / deviation
    return [round(float(value), 2) for value in (weights[0] - plain @ mean, *plain)]


if __name__ == "__main__":
    sys.exit(main())
