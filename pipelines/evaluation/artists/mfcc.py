"""Hears the comparator that every artist embedding must beat; see `hashing.artists.cepstra`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import apache_beam as beam
import numpy as np

from hashing.artists.cepstra import SETTINGS, track_cepstra
from hashing.artists.decoder import HeardTrack
from hashing.artists.encoder import TrackEmbedding
from hashing.artists.measures import MEASURES
from hashing.decoder import Decoder
from pipelines.disambiguation.embed import EmbedJob, embed_part

NAME = "MFCC"
_VERSION = 1  # of what is computed: another one is another digest, and is heard anew
DIGEST = hashlib.sha256(f"mfcc {_VERSION} {SETTINGS}".encode()).hexdigest()


class HearCepstra(beam.DoFn):
    """Part numbers in, part numbers out, as `EmbedParts` does it for a model.

    One decoder a part, in a process of its own.
    """

    def __init__(self, job: EmbedJob) -> None:
        self._job = job

    def process(self, part: int) -> Iterable[int]:
        job, measures = self._job, np.full(len(MEASURES), np.nan, np.float32)
        with Decoder() as decoder:

            def ear(path: str) -> HeardTrack:
                blocks = decoder.blocks(
                    path,
                    SETTINGS.sample_rate,
                    max_seconds=job.max_seconds,
                    timeout_s=job.timeout_s,
                )
                samples = np.concatenate([np.zeros(0, np.float32), *blocks])
                duration_s = samples.size / SETTINGS.sample_rate
                return HeardTrack(TrackEmbedding(track_cepstra(samples), 1, duration_s), measures)

            embed_part(job, part, ear)
        yield part
