"""CPU time of finding the recording of one MIDI file among 10,000, step by step, on one core.

Recordings are made up: MIDI files, played and heard as audio, are cut into pieces of ten seconds,
and a recording is 24 pieces of one file in an order of its own. So codes, embeddings and frames are
those of music, and neighbours as alike. The recordings of the files that ask stand among them as
they were played. All steps of ``hashbeam match-midi`` are carried out as its workers do, from
Parquet files to Parquet files; what Beam adds is its start, some seconds whatever the index.

    python -m tests.benchmarks.bench_matching --midi FOLDER

Prints a line of JSON for one MIDI file that asks, and one for several, which share the reading.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.models import DEFAULT_SEQUENCE_MODEL
from hashing.scores import PLAIN, read_score, score_levels
from hashing.sequences import SequenceEncoder, TrackSequence
from pipelines import parquet
from pipelines.matching.job import QUERIES_PER_PART, STEPS, MatchJob, MatchOptions
from pipelines.matching.recordings import SequenceFile
from pipelines.matching.run import Worker
from pipelines.midi_folder import MidiFolder, find_midi, read_midi_file
from pipelines.sequence_files import Kept, write_sequences

PIECE_S = 10.0
LEAST_S = 60.0  # of a file that recordings are made of: six pieces, and a window or two
PER_FILE = 500  # recordings of a Parquet file: 50 MB


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--midi", required=True, help="a folder of MIDI files")
    parser.add_argument("--sources", type=int, default=60, help="files recordings are made of")
    parser.add_argument("--recordings", type=int, default=10_000)
    parser.add_argument("--pieces", type=int, default=24, help="of ten seconds, a recording")
    parser.add_argument("--queries", type=int, default=8, help="that ask together at the end")
    parser.add_argument("--model", default=DEFAULT_SEQUENCE_MODEL)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    encoder, rng = SequenceEncoder.load(args.model), np.random.default_rng(args.seed)
    sources = hear(find_midi(args.midi), encoder, args.sources, rng)
    asking = list(sources)[: args.queries]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = write_recordings(folder, sources, asking, encoder, args, rng)
        ask(folder / "compiled", args, encoder, files, asking[:1])  # compiles loops; is not told
        for names in (asking[:1], asking):
            told = ask(folder / f"out-{len(names)}", args, encoder, files, names)
            told["bytes_a_recording"] = round(
                sum(Path(file.path).stat().st_size for file in files) / args.recordings
            )
            print(json.dumps(told), flush=True)
    return 0


def hear(
    midi: MidiFolder, encoder: SequenceEncoder, wanted: int, rng: np.random.Generator
) -> dict[str, TrackSequence]:
    """As many files as wanted, played by sine tones and heard as audio."""
    found: dict[str, TrackSequence] = {}
    for number in rng.permutation(len(midi.paths)):
        path = midi.paths[number]
        song = read_score(read_midi_file(midi.root, path), path)
        if song.duration_s < LEAST_S:
            continue
        levels = score_levels(song, encoder.features.cqt, PLAIN, path)
        found[path] = encoder.hear_levels(levels, "audio")
        if len(found) == wanted:
            break
    return found


def joined(
    source: TrackSequence, encoder: SequenceEncoder, pieces: int, rng: np.random.Generator
) -> TrackSequence:
    """A recording made of pieces of another one; its windows are drawn from those."""
    features = encoder.features
    down, size = features.downsampling, round(PIECE_S / features.code_s)
    starts = rng.integers(0, len(source.codes) - size, pieces)
    steps = (starts[:, None] + np.arange(size)).ravel()
    frames = (steps[:, None] * down + np.arange(down)).ravel()
    windows = rng.integers(0, len(source.embeddings), len(features.windows(len(steps))))
    vectors = source.embeddings[windows]
    vectors = vectors + rng.normal(0, 0.03, vectors.shape)  # no two the same
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    frames = np.minimum(frames, len(source.levels) - 1)
    return TrackSequence(source.codes[steps], vectors.astype(np.float32), source.levels[frames])


def write_recordings(
    folder: Path,
    sources: dict[str, TrackSequence],
    asking: list[str],
    encoder: SequenceEncoder,
    args: argparse.Namespace,
    rng: np.random.Generator,
) -> list[SequenceFile]:
    """The files of an index: those of the files that ask, somewhere, and joined ones."""
    whole = dict(zip(rng.permutation(args.recordings).tolist(), asking, strict=False))
    others = [sequence for name, sequence in sources.items() if name not in asking]
    files = []
    for first in range(0, args.recordings, PER_FILE):
        names, kept = [], []
        for number in range(first, min(first + PER_FILE, args.recordings)):
            name = whole.get(number)
            names.append(f"made-up-{number:06d}" if name is None else name)
            if name is not None:
                sequence = sources[name]
            else:
                source = others[int(rng.integers(len(others)))]
                sequence = joined(source, encoder, args.pieces, rng)
            kept.append(Kept(len(kept), sequence))
        path = str(folder / f"part-{first:07d}.parquet")
        write_sequences(path, pa.table({"track_id": names}), kept, encoder.digest)
        files.append(SequenceFile(path, len(kept)))
    return files


def ask(
    out: Path,
    args: argparse.Namespace,
    encoder: SequenceEncoder,
    files: list[SequenceFile],
    names: list[str],
) -> dict[str, Any]:
    """All steps for some MIDI files; CPU seconds of each, and how many were found."""
    flags = {"aligned": False, "json": True, "quiet": True, "progress": False}
    options = MatchOptions(
        *("index", args.midi, str(out), args.model, None, 0.1, 20, 5, 0.0), workers=1, **flags
    )
    job = MatchJob(
        *(options, options.settings, args.model, encoder.digest, len(names)),
        *(QUERIES_PER_PART, files),
    )
    parquet.write_table(job.listing, pa.table({"query_id": names}), row_group_size=QUERIES_PER_PART)
    worker, spent = Worker(job), dict[str, float]()
    counts: dict[str, float] = {}
    for step in STEPS:
        began = cpu_s()
        for task in job.tasks(step):
            for name, value in worker.carry_out(task).items():
                counts[name] = counts.get(name, 0) + value
        spent[f"{step}_cpu_s"] = round(cpu_s() - began, 2)
    table = parquet.read_table(job.part_path("matches", 0)).to_pylist()
    right = sum(row["rank"] == 1 and row["query_id"] == row["track_id"] for row in table)
    shutil.rmtree(out)
    return {
        "recordings": sum(file.rows for file in files),
        "midi_files": len(names),
        "right": right,
        "cpu_s": round(sum(spent.values()), 2),
        "cpu_s_a_file": round(sum(spent.values()) / len(names), 2),
        **spent,
        "pairs_by_hashes": int(counts["pairs_left"]),
        "pairs_aligned": int(counts["candidates"]),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def cpu_s() -> float:
    """Of this process and what it has started and seen end (FluidSynth)."""
    times = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(one.ru_utime + one.ru_stime for one in times)


if __name__ == "__main__":
    sys.exit(main())
