"""Statistics of all tracks of a catalogue, made by several processes, kept on disk as they come."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing.artists.encoder import heard_segments
from hashing.artists.features import ArtistFeatures, n_statistics, segment_statistics
from hashing.errors import AudioError, HashbeamError
from hashing.excerpts import decode_excerpts

Floats = npt.NDArray[np.float32]

FORMAT_VERSION = 1

# Tracks of one file: what a stop can lose.
TRACKS_A_FILE = 16


@dataclasses.dataclass(frozen=True)
class Heard:
    """Statistics [segments, F] of each track, and the row of the catalogue that it is."""

    tracks: list[Floats]
    rows: list[int]


def hear_catalogue(
    rows: Sequence[Mapping[str, str]],
    features: ArtistFeatures,
    work: Path,
    workers: int,
    log: Callable[[str], None],
) -> Heard:
    """Statistics of the tracks of a catalogue; a run that was stopped goes on from `work`.

    Args:
      rows: with ``track_id`` and a local ``uri``.
      workers: processes.
      log: takes lines of progress, and one for each track that is left out.

    Raises:
      HashbeamError: no track could be heard.
    """
    settings = json.dumps([FORMAT_VERSION, dataclasses.asdict(features)], sort_keys=True)
    blocks = [
        range(at, min(at + TRACKS_A_FILE, len(rows))) for at in range(0, len(rows), TRACKS_A_FILE)
    ]
    jobs = []
    for block in blocks:
        uris = [rows[i]["uri"] for i in block]
        digest = hashlib.sha256(json.dumps([settings, uris]).encode()).hexdigest()[:24]
        jobs.append((work / "statistics" / f"{digest}.npz", uris, features))
    (work / "statistics").mkdir(parents=True, exist_ok=True)
    missing = [job for job in jobs if not job[0].exists()]
    if missing:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
            for done, _ in enumerate(pool.map(_hear_block, missing), start=1):
                if done % 8 == 0 or done == len(missing):
                    log(f"heard {min(done * TRACKS_A_FILE, len(rows))} of {len(rows)} tracks")
    tracks, heard = list[Floats](), list[int]()
    for block, (path, *_) in zip(blocks, jobs, strict=True):
        with np.load(path, allow_pickle=False) as kept:
            parts = np.split(kept["statistics"], np.cumsum(kept["segments"])[:-1])
            for row, part, reason in zip(block, parts, kept["reasons"], strict=True):
                if len(part):
                    tracks.append(part)
                    heard.append(row)
                else:
                    log(f"left out of training: {rows[row]['track_id']}: {reason}")
    if not tracks:
        raise HashbeamError("no track of the training catalogue could be heard")
    return Heard(tracks, heard)


def _hear_block(job: tuple[Path, list[str], ArtistFeatures]) -> None:
    path, uris, features = job
    empty = np.empty((0, n_statistics(features)), np.float32)
    statistics, reasons = list[Floats](), list[str]()
    for uri in uris:
        try:
            found = decode_excerpts(uri, features.sample_rate, features.segments_of)
            heard = heard_segments(found.parts, features)
        except AudioError as error:
            statistics.append(empty)
            reasons.append(str(error))
            continue
        statistics.append(np.stack([segment_statistics(part, features) for part in heard]))
        reasons.append("")
    temporary = path.with_suffix(".tmp.npz")
    np.savez(
        temporary,
        statistics=np.concatenate(statistics),
        segments=np.array([len(part) for part in statistics]),
        reasons=np.array(reasons),
    )
    temporary.replace(path)
