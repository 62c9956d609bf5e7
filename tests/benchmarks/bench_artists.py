"""CPU time of artist embeddings, by container: of what is heard, and of the whole track.

Only the segments that are used are decoded where a container can seek. A track as long as songs
are, in stereo, is written in each container and embedded by one process, as `disambiguate` does.

    python tests/benchmarks/bench_artists.py
    python tests/benchmarks/bench_artists.py --file song.mp3 --model models/mine
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hashing.artists.encoder import ArtistEncoder
from hashing.audio import decode, encode
from hashing.models import DEFAULT_ARTIST_MODEL
from hashing.synthesis import render_track

RATE = 44100
CODECS = ("wav", "flac", "ogg", "opus", "mp3", "m4a")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_ARTIST_MODEL)
    parser.add_argument("--seconds", type=float, default=240.0, help="of the track")
    parser.add_argument("--file", help="music to write in each container; else it is rendered")
    parser.add_argument("--rounds", type=int, default=3, help="the best of which counts")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    encoder = ArtistEncoder.load(args.model)
    music = decode(args.file, RATE) if args.file else render_track(1, args.seconds, RATE)
    stereo = np.stack([music, np.roll(music, 200)], axis=1)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for codec in CODECS:
            path = str(Path(folder, f"track.{codec}"))
            encode(stereo, RATE, path, codec=codec)
            figures[codec] = measure(encoder, path, args.rounds)
    # Kilobytes, as Linux counts them.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if args.json:
        print(json.dumps({"containers": figures, "peak_mb": peak_mb}))
        return 0
    print(f"{'':8s}{'x real time heard':>20s}{'x of the track':>20s}")
    for codec, (heard, track) in figures.items():
        print(f"{codec:8s}{heard:>20.0f}{track:>20.0f}")
    print(f"{peak_mb:.0f} MB at most")
    return 0


def measure(encoder: ArtistEncoder, path: str, rounds: int) -> tuple[float, float]:
    """Seconds heard, and of the track, for a second of CPU time."""
    best, found = float("inf"), encoder.embed_file(path)
    for _ in range(rounds):
        begun = time.process_time()
        found = encoder.embed_file(path)
        best = min(best, time.process_time() - begun)
    spans = encoder.features.segments_of(found.duration_s)
    return sum(length for _, length in spans) / best, found.duration_s / best


if __name__ == "__main__":
    sys.exit(main())
