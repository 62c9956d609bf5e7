"""CPU time and bytes of a labelled clip: hearing, embedding, coding; and of a query among many.

Clips are noise of four seconds, for which every step takes as long as for any other sound. The
index is made up of codes as the model gives them.

    python -m tests.benchmarks.bench_events --model events --clips 200 --codes 1000000

Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hashing.audio import decode_blocks, encode
from hashing.encoders import Hasher
from hashing.events.search import ClipIndex
from hashing.features import spectrogram
from hashing.models import DEFAULT_EVENTS_MODEL
from hashing.quantization import ProductQuantizer
from hashing.snippets import audible, filled

SECONDS = 4.0
QUERIES = 50


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_EVENTS_MODEL)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--share", type=float, default=0.01, help="the multi-index looks at")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    hasher, rng = Hasher.load(args.model), np.random.default_rng(args.seed)
    quantizer = hasher.quantizer
    assert isinstance(quantizer, ProductQuantizer)
    config = hasher.features
    told: dict[str, object] = {"model": hasher.model.name, "bytes_a_clip": quantizer.code_bytes}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.flac" for number in range(args.clips)]
        for path in paths:
            noise = 0.1 * rng.standard_normal(round(SECONDS * 24_000)).astype(np.float32)
            encode(noise, 24_000, str(path), codec="flac")
        sound = [np.concatenate(list(decode_blocks(str(p), config.sample_rate))) for p in paths]
        told["decode_ms"] = each(
            lambda number: list(decode_blocks(str(paths[number]), config.sample_rate)), args.clips
        )
    told["spectrogram_ms"] = each(lambda n: spectrogram([sound[n]], config), args.clips)
    spectra = [filled(spectrogram([one], config), config) for one in sound]
    starts = [audible(spec, config) for spec in spectra]
    told["network_ms"] = each(
        lambda n: hasher.respond_in_track(spectra[n], starts[n]).responses, args.clips
    )
    responses = np.concatenate(
        [
            hasher.respond_in_track(spec, at).responses
            for spec, at in zip(spectra, starts, strict=True)
        ]
    )
    told["encode_ms"] = each(lambda n: quantizer.encode(responses[n : n + 1]), len(responses))
    codes = rng.integers(256, size=(args.codes, quantizer.code_bytes), dtype=np.uint8)
    index = ClipIndex(codes, quantizer.codebooks)
    asked = responses[rng.integers(len(responses), size=QUERIES)]
    index.nearest(asked[:1], 10)  # compiles
    told["codes"] = args.codes
    told["scan_ms"] = each(lambda n: index.nearest(asked[n : n + 1], 10), QUERIES)
    started = time.process_time()
    index.nearest(asked[:1], 10, share=args.share)
    told["cells_s"] = round(time.process_time() - started, 2)
    told["multi_index_ms"] = each(
        lambda n: index.nearest(asked[n : n + 1], 10, share=args.share), QUERIES
    )
    told["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(told))
    return 0


def each(work: Callable[[int], object], count: int) -> float:
    """Milliseconds of CPU of a piece of work, after a first one that does not count."""
    work(0)
    started = time.process_time()
    for number in range(count):
        work(number)
    return round(1000 * (time.process_time() - started) / count, 3)


if __name__ == "__main__":
    sys.exit(main())
