"""Indexing speed on mp3, against decoding the same files with soundfile, side by side in one run.

Encodes a part of a catalogue as mp3 (44.1 kHz, stereo, 128 kb/s), then in turns: decodes the files
with soundfile alone, and indexes a larger catalogue, of which each file is listed several times,
with one worker. Then the same with two workers, and 100 and 1,000 tracks for the memory of a
worker. CPU time is that of whole processes, the decoder's start included (0.8 s).

    python tests/benchmarks/bench_index.py --music MUSIC_FOLDER
    python tests/benchmarks/bench_index.py --music MUSIC_FOLDER --also sequence

With `--also`, what it costs to keep that beside codes, in CPU time against an index without it, in
turns, and in bytes of the index; nothing else is measured.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from hashing.audio import decode, encode
from hashing.synthesis import render_track

RATE = 44_100
BIT_RATE = 128_000


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--music", type=Path, help="a folder with catalog.csv; else it is rendered")
    parser.add_argument("--tracks", type=int, default=45, help="files to encode as mp3")
    parser.add_argument("--hours", type=float, default=10.0, help="of audio that is indexed")
    parser.add_argument("--rounds", type=int, default=3, help="of decoding and indexing in turns")
    parser.add_argument("--skip-scaling", action="store_true", help="only the speed on one core")
    parser.add_argument("--also", nargs="+", metavar="KIND", help="what these cost, and no more")
    parser.add_argument("--work-dir", type=Path, help="keep the mp3 files here for the next run")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = make_mp3(args.work_dir or Path(scratch) / "mp3", args.music, args.tracks)
        figures = measured(files, Path(scratch), args)
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:44s}{value:>12,.3f}")
    return 0


def measured(files: list[Path], scratch: Path, args: argparse.Namespace) -> dict[str, float]:
    """All figures that were asked for."""
    if args.also:
        costs = (beside(files, scratch, kind, args.rounds, args.hours) for kind in args.also)
        return {name: value for cost in costs for name, value in cost.items()}
    figures = one_core(files, scratch, args.rounds, args.hours)
    if not args.skip_scaling:
        figures |= scaling(files, scratch, args.hours)
        figures |= memory(files, scratch)
    return figures


def make_mp3(folder: Path, music: Path | None, n: int) -> list[Path]:
    """Encode `n` tracks; the second channel differs a little, as in a real stereo file."""
    folder.mkdir(parents=True, exist_ok=True)
    if music:
        rows = list(csv.DictReader((music / "catalog.csv").open(encoding="utf-8")))
        chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, n).astype(int)]
    files = []
    for i in range(n):
        path = folder / f"{i:04d}.mp3"
        files.append(path)
        if path.exists():
            continue
        if music:
            mono = decode(str(music / chosen[i]["uri"]), 24_000)
            mono = soxr.resample(mono, 24_000, RATE)
        else:
            mono = render_track(i, 80.0, RATE)
        side = 0.2 * np.roll(mono, 37)
        encode(
            np.stack([mono + side, mono - side], 1) * 0.8,
            RATE,
            str(path),
            codec="mp3",
            bit_rate=BIT_RATE,
        )
    return files


def decode_alone(files: list[Path]) -> tuple[float, float]:
    """CPU seconds and audio seconds of reading the files with soundfile to float32."""
    begin, audio_s = time.process_time(), 0.0
    for path in files:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
        audio_s += len(samples) / rate
    return time.process_time() - begin, audio_s


def index(
    files: list[Path],
    scratch: Path,
    workers: int,
    n_tracks: int | None = None,
    also: str | None = None,
) -> dict[str, Any]:
    """Run `hashbeam index` as a user would; its summary, with the CPU time of the whole process."""
    n = n_tracks or len(files)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        catalog = Path(folder) / "catalog.csv"
        rows = "".join(f"t{i:06d},{files[i % len(files)]}\n" for i in range(n))
        catalog.write_text("track_id,uri\n" + rows, encoding="utf-8")
        command = [
            sys.executable, "-m", "pipelines", "index", "--catalog", str(catalog),
            "--out", f"{folder}/index", "--workers", str(workers), "--json", "--quiet",
            *(["--also", also] if also else []),
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, out
    summary: dict[str, Any] = json.loads(out)
    summary["process_cpu_s"] = usage.ru_utime + usage.ru_stime
    return summary


def one_core(files: list[Path], scratch: Path, rounds: int, hours: float) -> dict[str, float]:
    """Speed of one worker against soundfile; medians over rounds in turns."""
    _, once_s = decode_alone(files)
    # Hours, because a catalogue of minutes would show what a job costs once.
    copies = max(1, round(hours * 3600 / once_s))
    decoding, indexing, factors = [], [], []
    for _ in range(rounds):
        cpu_s, audio_s = decode_alone(files)
        decoding.append(cpu_s)
        summary = index(files, scratch, 1, copies * len(files))
        # Hashing, the decoder's process included, and the tables.
        cpu_s = summary["hash_cpu_s"] + summary["tables_cpu_s"]
        indexing.append(cpu_s / copies)
        factors.append(copies * audio_s / cpu_s)
    ratios = [b / a for a, b in zip(decoding, indexing, strict=True)]
    return {
        "mp3_hours": audio_s / 3600,
        "decode_alone_x_real_time": audio_s / statistics.median(decoding),
        "index_x_real_time_per_core": statistics.median(factors),
        "index_cpu_over_decode_cpu": statistics.median(ratios),
        "start_up_s_one_worker": summary["startup_s"],
    }


def scaling(files: list[Path], scratch: Path, hours: float) -> dict[str, float]:
    """Wall time of the work itself with one and with two workers."""
    _, audio_s = decode_alone(files)
    n = int(hours * 3600 / audio_s * len(files))
    one, two = (index(files, scratch, workers, n) for workers in (1, 2))
    return {
        "scaling_hours": one["audio_s"] / 3600,
        "one_worker_work_s": one["wall_s"] - one["startup_s"],
        "two_workers_work_s": two["wall_s"] - two["startup_s"],
        "two_workers_speed_up": (one["wall_s"] - one["startup_s"])
        / (two["wall_s"] - two["startup_s"]),
        "one_worker_x_real_time": one["times_real_time"],
        "two_workers_x_real_time": two["times_real_time"],
        "start_up_s_two_workers": two["startup_s"],
    }


def beside(
    files: list[Path], scratch: Path, kind: str, rounds: int, hours: float
) -> dict[str, float]:
    """What it costs to keep something beside codes; medians over rounds in turns."""
    _, once_s = decode_alone(files)
    n = max(1, round(hours * 3600 / once_s)) * len(files)
    ratios, sizes = [], []
    for _ in range(rounds):
        without, also = (index(files, scratch, 1, n, also=one) for one in (None, kind))
        ratios.append(also["hash_cpu_s"] / without["hash_cpu_s"])
        sizes.append((also["index_bytes"] - without["index_bytes"]) / also["audio_s"])
    return {
        f"also_{kind}_hours": also["audio_s"] / 3600,
        f"also_{kind}_hash_cpu_ratio": statistics.median(ratios),
        f"also_{kind}_bytes_per_s": statistics.median(sizes),
        f"also_{kind}_x_real_time": also["audio_s"] / also["hash_cpu_s"],
        f"also_{kind}_peak_mb": also["max_rss_bytes"] / 1e6,
        "without_peak_mb": without["max_rss_bytes"] / 1e6,
    }


def memory(files: list[Path], scratch: Path) -> dict[str, float]:
    """Peak memory of a worker for 100 and for 1,000 tracks."""
    return {
        f"worker_peak_mb_{n}_tracks": index(files, scratch, 2, n)["max_rss_bytes"] / 1e6
        for n in (100, 1000)
    }


if __name__ == "__main__":
    sys.exit(main())
