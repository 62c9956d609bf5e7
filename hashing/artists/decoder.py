"""Artist embeddings made where the file is decoded: in a child that may crash or hang alone.

Where the track is hashed as well, both are made in one decoding: `hashing.listening`.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.artists.encoder import ArtistEncoder, TrackEmbedding
from hashing.artists.measures import MEASURES, measure_sound
from hashing.decoder import Decoder
from hashing.excerpts import Excerpts, decode_excerpts

Floats = npt.NDArray[np.float32]

_HEAD = struct.Struct("<dI")


@dataclasses.dataclass(frozen=True)
class HeardTrack:
    """A track heard: its embedding, and the `measures.MEASURES` of a segment [6]."""

    track: TrackEmbedding
    measures: Floats


class ArtistDecoder(Decoder):
    """A `hashing.decoder.Decoder` whose child makes artist embeddings.

    >>> with ArtistDecoder() as decoder:
    ...     decoder.pid is None  # the child is started when it is needed
    True
    """

    def prepare_artist(self, encoder: ArtistEncoder) -> None:
        """Have the child load an encoder; waits for it.

        Raises: AudioError of kind ``crashed`` or ``timeout`` where the child cannot be started.
        """
        self._load({"artist": str(encoder.model.path)})

    def embed_file(
        self,
        path: str,
        encoder: ArtistEncoder,
        *,
        max_seconds: float = 7200.0,
        timeout_s: float = 60.0,
    ) -> HeardTrack:
        """What `ArtistEncoder.embed_file` makes of a file, and measures of its sound.

        Raises:
          AudioError: as `ArtistEncoder.embed_file`; ``crashed`` when the child dies, ``timeout``
            when a track takes it longer than `timeout_s` seconds.
        """
        request = {
            "artist": str(encoder.model.path),
            "path": path,
            "max_seconds": max_seconds,
        }
        return self._made(path, request, timeout_s, unpack)


def hear(encoder: ArtistEncoder, path: str, max_seconds: float) -> HeardTrack:
    """What the child answers; errors as `ArtistEncoder.embed_file`."""
    features = encoder.features
    found = decode_excerpts(
        path, features.sample_rate, features.segments_of, max_seconds=max_seconds
    )
    return hear_excerpts(encoder, found)


def hear_excerpts(encoder: ArtistEncoder, found: Excerpts) -> HeardTrack:
    """What the encoder makes of a track's segments; errors as `ArtistEncoder.embed`."""
    embedding = encoder.embed(found.parts)
    # All segments would take half as long again, and the mean over an artist's tracks is as good.
    levels = [float(np.einsum("i,i->", part, part)) / part.size for part in found.parts]
    middle = found.parts[int(np.argsort(levels)[len(levels) // 2])]
    return HeardTrack(
        TrackEmbedding(embedding, len(found.parts), found.duration_s),
        measure_sound(middle, encoder.features),
    )


def pack(heard: HeardTrack) -> list[Any]:
    """The buffers of an answer: duration (s), segments, measures, embedding."""
    values = np.concatenate([heard.measures, heard.track.embedding]).astype("<f4")
    return [_HEAD.pack(heard.track.duration_s, heard.track.n_segments), values]


def unpack(body: bytearray) -> HeardTrack:
    """What `pack` has packed; ValueError or struct.error for anything else.

    >>> track = TrackEmbedding(np.ones(3, np.float32), 2, 1.5)
    >>> heard = HeardTrack(track, np.zeros(len(MEASURES), np.float32))
    >>> again = unpack(bytearray(b"".join(bytes(part) for part in pack(heard))))
    >>> again.track.embedding.tolist(), again.track.duration_s
    ([1.0, 1.0, 1.0], 1.5)
    """
    duration_s, segments = _HEAD.unpack_from(body)
    values = np.frombuffer(body, "<f4", -1, _HEAD.size).astype(np.float32)
    if values.size <= len(MEASURES):
        raise ValueError(f"{values.size} values hold no embedding")
    measures, embedding = values[: len(MEASURES)], values[len(MEASURES) :]
    return HeardTrack(TrackEmbedding(embedding, segments, duration_s), measures)
