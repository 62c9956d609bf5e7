"""All hashers against each other and against known indexes, at equal embeddings.

The database is the whole catalogue by one encoder, queries are degraded excerpts of the tracks that
it has not heard. Every system answers the same queries at every position of its dial. Printed for
each: bytes of an item (replication counted), balance of its buckets, and how much of the database
it examines, in how many CPU milliseconds, where it is right as often as a share of what the exact
search is; then how many times as much each examines as sign-LSH with as many bits.

    python tests/benchmarks/bench_hashers.py --music music --noise noise events --rooms rir

Hashes are fitted to the music that the encoder was trained on. A flow hash is named by its model
folder (`hashbeam train flow`), and must stand on the same encoder. Systems:

lsh-K, lsh-median-K, pca-K, itq-K, transport-K, flow-K
    one table of K bits; flow-K soft: items with bits in doubt stand in several buckets
transport-256, opq-256
    16 tables of 16 bits, candidates ranked by codes of 32 bytes
names of models
    as they are shipped or trained: many tables, candidates ranked by codes
others
    faiss; dials are lists looked into, length of the open list, bits flipped

Milliseconds are of one thread from the embedding on, the search alone. They are comparable within
single tables and faiss, all of which run in faiss; the tables of many are walked in Python.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from goal_conditions import CONDITIONS
from hasher_figures import LEVELS, Comparison, Point, curve
from hasher_music import STEP, Bench, Truth
from hasher_systems import Buckets, ExactProbes, Faiss, System, Tables, codes_of, head_of

from hashing import binary, neighbours
from hashing.balance import measure_balance
from hashing.codebooks import fit_opq, fit_pq
from hashing.encoders import Hasher
from hashing.flow import FlowQuantizer
from hashing.forgiving import group_bits
from hashing.minhash import MinHash
from hashing.models import DEFAULT_MODEL, list_models
from hashing.quantization import ProductQuantizer
from hashing.quantizers import SignQuantizer
from pipelines.catalog import read_catalog

# Snippets whose starts are half a second apart, by the seconds that they cover.
SECONDS = {1: 1, 2: 3, 3: 5, 5: 9}

# Probes of a table of many, and lengths of Min-Hash's keys, which cannot be probed.
TABLE_PROBES = (1, 4, 16)
MINHASH_BITS = (32, 24, 20, 16)

# Coordinates of a flow nearer to zero than this are in doubt, in the index: some 40 % of items
# stand in several buckets.
SOFT_RADIUS = 0.25


def main() -> int:
    """Measure, print, and write everything into --out."""
    args = arguments()
    started = time.process_time()
    hasher = Hasher.load(args.encoder)
    rows = [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in read_catalog(str(args.music / "catalog.csv")).to_pylist()
    ]
    bench = Bench(rows, hasher, args.work, args.hop, args.same)
    steps = [SECONDS[seconds] for seconds in args.seconds]
    queries = bench.queries(args.queries, max(steps), args.noise, args.rooms, args.seed)
    music = bench.music
    truth = Truth(music, queries, hasher.features.frame_s)
    print(
        f"{len(music.track)} items of {music.recording.max() + 1} recordings, "
        f"{len(queries.track)} queries of {np.unique(queries.track).size} unheard tracks",
        flush=True,
    )
    curves: dict[str, dict[int, list[Point]]] = {}
    facts: dict[str, dict[str, Any]] = {}
    exact = curve(
        Faiss(neighbours.Exact(), music.embeddings),
        queries.embeddings,
        music,
        queries,
        truth,
        steps,
    )
    for system, snippets in systems(bench, queries, args):
        if args.only and not any(part in system.name for part in args.only):
            continue
        curves[system.name] = curve(system, snippets, music, queries, truth, steps)
        facts[system.name] = facts_of(system, bench)
        print(f"{system.name:22s} {time.process_time() - started:6.0f} CPU s", flush=True)
    groups = music.recording[queries.track]
    figures: dict[str, Any] = {"systems": facts, "seconds": {}}
    for seconds, count in zip(args.seconds, steps, strict=True):
        points = {name: by_length[count] for name, by_length in curves.items()}
        comparison = Comparison(points, exact[count][0].right, groups, len(music.track), args.seed)
        by_condition = {
            name: round(float(exact[count][0].right[queries.condition == i].mean()), 4)
            for i, name in enumerate(CONDITIONS)
        }
        found = figures["seconds"][seconds] = compare(comparison, points, facts)
        found["exact"] = {
            "recall": float(comparison.exact[0]),
            "milliseconds": exact[count][0].milliseconds,
            "by_condition": by_condition,
        }
        show(seconds, found, facts)
    figures["setting"] = {
        "encoder": {"name": hasher.model.name, "digest": hasher.digest},
        "items": len(music.track),
        "hop_s": args.hop * hasher.features.frame_s,
        "queries": len(queries.track),
        "conditions": CONDITIONS,
        "seed": args.seed,
        "cpu_seconds": round(time.process_time() - started),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=1, default=float)
    (args.out / "hashers.json").write_text(text + "\n", encoding="utf-8")
    print(f"\n{figures['setting']['cpu_seconds']} CPU s; figures in {args.out / 'hashers.json'}")
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--music",
        type=Path,
        default=os.environ.get("HASHBEAM_MUSIC"),
        help="a folder with catalog.csv (default: HASHBEAM_MUSIC)",
    )
    parser.add_argument("--noise", type=Path, nargs="*", default=[], help="folders of ambiences")
    parser.add_argument("--rooms", type=Path, nargs="*", default=[], help="folders of responses")
    parser.add_argument("--encoder", default=DEFAULT_MODEL)
    parser.add_argument("--flow", nargs="*", default=None, help="model folders (default: shipped)")
    parser.add_argument("--models", nargs="*", default=["forgiving"], help="other models")
    parser.add_argument("--bits", type=int, nargs="+", default=[12, 16], help="of single tables")
    parser.add_argument("--seconds", type=int, nargs="+", default=[1], choices=SECONDS)
    parser.add_argument("--queries", type=int, default=800)
    parser.add_argument("--hop", type=int, default=8, help="frames between items, a part of 16")
    parser.add_argument("--same", default="variant_group", help="column: equal is one recording")
    parser.add_argument("--only", nargs="*", default=[], help="parts of names of systems")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("build/hashers"), help="decoded music")
    parser.add_argument("--out", type=Path, default=Path("build/hashers"))
    args = parser.parse_args()
    if not args.music:
        parser.error("there is no music to measure on: give --music, or set HASHBEAM_MUSIC")
    if STEP % args.hop:
        parser.error(f"--hop: must divide {STEP}")
    if args.flow is None:
        args.flow = [name for name in list_models() if name.startswith("flow")]
    return args


def systems(bench: Bench, queries: Any, args: argparse.Namespace) -> Iterator[tuple[System, Any]]:
    """Each system, and what it is asked with, [Q, steps, ...]."""
    items, fitted = bench.music.embeddings, bench.training()
    asked = queries.embeddings
    for bits in args.bits:
        for name, linear in linear_hashes(fitted, bits, args.seed):
            yield one_table(name, linear, bits, items), asked
    for folder in args.flow:
        yield from ((flow, asked) for flow in flows(folder, bench))
    yield Faiss(neighbours.Ivf(), items), asked
    yield Faiss(neighbours.IvfPq(16), items), asked
    yield Faiss(neighbours.IvfPq(32), items), asked
    yield Faiss(neighbours.Hnsw(), items), asked
    yield Faiss(neighbours.PqScan(16), items), asked
    yield Faiss(neighbours.OpqScan(16), items), asked
    yield Faiss(neighbours.OpqScan(32), items), asked
    wide = binary.optimal_transport(fitted, 256, seed=args.seed)
    yield Faiss(neighbours.BinaryMultiIndex(wide), items), asked
    tables = group_bits(wide.responses(fitted) > wide.thresholds, 16, 16)
    quantizer = SignQuantizer(wide.thresholds, wide.spreads, tables)
    efforts = [(16, probes) for probes in TABLE_PROBES]
    codes = quantizer.encode(wide.responses(items))
    yield Tables("transport-256", quantizer, codes, efforts), apply(wide.responses, asked)
    for name, fit in (("pq-256", fit_pq), ("opq-256", fit_opq)):
        product = fit(fitted, 32, args.seed)
        of_parts = ProductQuantizer(product.codebooks)
        codes = of_parts.encode(items @ product.rotation)
        yield Tables(name, of_parts, codes, efforts), asked @ product.rotation
    own, respond = bench.hasher.quantizer, head_of(bench.hasher.model)
    efforts = [(min(14, own.key_bits_max), probes) for probes in TABLE_PROBES]
    yield Tables(args.encoder, own, own.encode(respond(items)), efforts), apply(respond, asked)
    for name in args.models:
        hasher = Hasher.load(name)
        cuts = queries.cuts.reshape(-1, *queries.cuts.shape[2:])
        answer = hasher.respond(cuts)
        responses = answer.responses.reshape(*queries.cuts.shape[:2], -1)
        yield Tables(name, hasher.quantizer, codes_of(hasher, bench.cuts()), efforts), responses
    yield from minhash(bench, queries, args.seed)


def linear_hashes(
    fitted: np.ndarray, bits: int, seed: int
) -> Iterator[tuple[str, binary.LinearHash]]:
    """Single tables to compare a flow of as many bits with."""
    drawn = binary.random_projection(fitted, bits, seed)
    # As Charikar has it, and as FlowHash was compared with: planes through the origin.
    yield "lsh", binary.LinearHash(drawn.weights, np.zeros_like(drawn.thresholds), drawn.spreads)
    yield "lsh-median", drawn
    yield "pca", binary.pca(fitted, bits)
    yield "itq", binary.itq(fitted, bits, seed)
    yield "transport", binary.optimal_transport(fitted, bits, key_bits=bits, seed=seed)


def one_table(name: str, linear: binary.LinearHash, bits: int, items: np.ndarray) -> Buckets:
    """A linear hash whose bits are one key."""
    quantizer = ExactProbes(linear.thresholds, linear.spreads, np.arange(bits)[None])
    return Buckets(f"{name}-{bits}", linear.responses, quantizer, bits, items)


def flows(folder: str, bench: Bench) -> Iterator[Buckets]:
    """A trained flow: with hard buckets, and with items in several."""
    hasher = Hasher.load(folder)
    own = hasher.respond_in_track(*bench.first_track()).embeddings
    if own is None or not np.allclose(own, bench.music.embeddings[: len(own)], atol=2e-3):
        raise SystemExit(f"{folder} stands on another encoder than {bench.hasher.model.path}")
    quantizer, respond = hasher.quantizer, head_of(hasher.model)
    assert isinstance(quantizer, FlowQuantizer)
    for name, radius in ((f"flow-{quantizer.bits}", 0.0), ("soft", SOFT_RADIUS)):
        label = name if not radius else f"flow-{quantizer.bits} {name}"
        assigned = FlowQuantizer(quantizer.spreads, radius, replication=1.0)
        yield Buckets(label, respond, assigned, quantizer.bits, bench.music.embeddings)


def minhash(bench: Bench, queries: Any, seed: int) -> Iterator[tuple[System, Any]]:
    """Min-Hash over wavelets of the spectrogram, which is no hash of embeddings."""
    hasher = MinHash.draw(bench.features, seed)
    from hashing.snippets import standardise

    codes = np.concatenate(
        [hasher.encode(hasher.responses(standardise(cut, bench.features))) for cut in bench.cuts()]
    )
    cuts = queries.cuts.reshape(-1, *queries.cuts.shape[2:])
    responses = hasher.responses(standardise(cuts, bench.features))
    asked = responses.reshape(*queries.cuts.shape[:2], -1)
    yield Tables("minhash", hasher, codes, [(bits, 1) for bits in MINHASH_BITS]), asked


def apply(respond: Any, asked: np.ndarray) -> np.ndarray:
    """Responses [Q, steps, r] to embeddings [Q, steps, d]."""
    return respond(asked.reshape(-1, asked.shape[2])).reshape(*asked.shape[:2], -1)


def facts_of(system: System, bench: Bench) -> dict[str, Any]:
    """Bytes and replication of a system, and the balance of a single table."""
    facts: dict[str, Any] = {
        "table_bytes": system.table_bytes,
        "vector_bytes": system.vector_bytes,
        "replication": system.replication,
    }
    if isinstance(system, Buckets):
        music = bench.music
        unheard = music.unheard[music.track]
        for part, chosen in (("trained", ~unheard), ("unheard", unheard)):
            for name, hop in (("dense", music.hop), ("indexed", bench.features.snippet_hop)):
                rows = chosen & (music.frame % hop == 0)
                balance = measure_balance(system.primary[rows], system.key_bits, music.track[rows])
                facts[f"{part}_{name}"] = {
                    "items": balance.items,
                    "entropy": balance.entropy,
                    "of_perfect": balance.entropy_share,
                    "of_clumped": balance.entropy / (balance.clumped_entropy or 1.0),
                    "collision_entropy": balance.collision_entropy,
                    "cv": balance.cv,
                    "perfect_cv": balance.perfect_cv,
                    "largest": balance.largest,
                }
    return facts


def compare(
    comparison: Comparison, points: dict[str, list[Point]], facts: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Curves, figures at equal recall, and ratios to sign-LSH and to the flow of as many bits."""
    found: dict[str, Any] = {"curves": {}, "at": {}, "ratios": {}}
    for name, of_system in points.items():
        found["curves"][name] = [
            {
                "effort": point.effort,
                "recall": float(point.right.mean()),
                "share": float(comparison.share[name][0, i]),
                "milliseconds": point.milliseconds,
            }
            for i, point in enumerate(of_system)
        ]
        found["at"][name] = {
            level: {
                "share": float(comparison.share_at(name, level)[0]),
                "milliseconds": comparison.milliseconds_at(name, level),
            }
            for level in LEVELS
        }
    for name in points:
        bits = name.partition(" ")[0].rpartition("-")[2]
        for against in (f"lsh-{bits}", f"flow-{bits}"):
            if "table_bytes" in facts[name] and against in points and against != name:
                pair = found["ratios"][f"{against} / {name}"] = {
                    str(level): comparison.ratio(against, name, level) for level in LEVELS
                }
                for level in LEVELS:
                    pair[str(level)]["milliseconds"] = (
                        found["at"][against][level]["milliseconds"]
                        / found["at"][name][level]["milliseconds"]
                    )
                pair["recall_at_1_percent"] = comparison.difference(name, against, 0.01)
    return found


def show(seconds: int, found: dict[str, Any], facts: dict[str, dict[str, Any]]) -> None:
    """One table for the systems and one for the ratios."""
    exact = found["exact"]
    print(f"\nqueries of {seconds} s: exact search {exact['recall']:.3f} right, "
          f"{exact['milliseconds']:.2f} ms")  # fmt: skip
    heads = " ".join(f"{f'{100 * level:.0f} %':>15s}" for level in LEVELS)
    print(f"{'% examined / ms at':22s} {heads} | B table+vector  entropy of perfect, clumped")
    for name, levels in found["at"].items():
        cells = " ".join(
            f"{100 * cell['share']:8.3f}/{cell['milliseconds']:6.3f}" for cell in levels.values()
        )
        fact = facts[name]
        text = f"{name:22s} {cells} | {fact['table_bytes']:6.1f} + {fact['vector_bytes']:5.1f}"
        if "unheard_dense" in fact:
            text += "".join(
                f"  {part}: {fact[f'{part}_dense']['of_perfect']:.3f} "
                f"{fact[f'{part}_dense']['of_clumped']:.3f}"
                for part in ("trained", "unheard")
            )
        print(text)
    print(f"\n{'times as much examined':32s} {heads}  | recall at 1 % examined")
    for pair, levels in found["ratios"].items():
        cells = " ".join(
            f"{cell['ratio']:5.2f} [{cell['low']:.1f},{cell['high']:.1f}]"
            for key, cell in levels.items()
            if key != "recall_at_1_percent"
        )
        more = levels["recall_at_1_percent"]
        print(f"{pair:32s} {cells} | {more['difference']:+.3f} "
              f"[{more['low']:+.3f},{more['high']:+.3f}]")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
