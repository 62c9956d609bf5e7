"""Artist embeddings made where the file is decoded: in a child that may crash or hang alone.

Where the track is hashed as well, both are made in one decoding.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.artists.encoder import ArtistEncoder, TrackEmbedding
from hashing.artists.measures import MEASURES, measure_sound
from hashing.decoder import Decoder
from hashing.decoder_frames import unpack_codes
from hashing.encoders import Hasher, TrackCodes
from hashing.errors import AudioError
from hashing.excerpts import Excerpts, decode_excerpts

Floats = npt.NDArray[np.float32]

_HEAD = struct.Struct("<dI")
_BOTH = struct.Struct("<I?")  # bytes of the codes, and whether the track was heard


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

    def hash_and_embed(
        self,
        path: str,
        hasher: Hasher,
        encoder: ArtistEncoder,
        *,
        max_seconds: float = 7200.0,
        timeout_s: float = 60.0,
        embeddings: bool = False,
    ) -> tuple[TrackCodes, HeardTrack | AudioError]:
        """What `hash_track` and `embed_file` make of a file, in one decoding of all of it.

        Returns:
          The codes, and the embedding or why there is none: a track may be too short for one.

        Raises:
          AudioError: as `hash_track`.
        """
        request = {
            "path": path,
            "sample_rate": hasher.features.sample_rate,
            "max_seconds": max_seconds,
            "model": str(hasher.model.path),
            "embeddings": embeddings,
            "artist": str(encoder.model.path),
        }
        width = hasher.quantizer.code_bytes
        return self._made(path, request, timeout_s, lambda body: unpack_both(body, width))


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


def pack_both(codes: Sequence[Any], heard: HeardTrack | AudioError) -> list[Any]:
    """The buffers of an answer: those of the codes, and of the embedding or why there is none."""
    if isinstance(heard, AudioError):
        told = [json.dumps({"kind": heard.kind, "message": str(heard)}).encode()]
    else:
        told = pack(heard)
    size = sum(memoryview(part).nbytes for part in codes)
    return [_BOTH.pack(size, not isinstance(heard, AudioError)), *codes, *told]


def unpack_both(body: bytearray, code_bytes: int) -> tuple[TrackCodes, HeardTrack | AudioError]:
    """What `pack_both` has packed; ValueError or struct.error for anything else.

    >>> from hashing.decoder_frames import pack_codes
    >>> codes = TrackCodes(np.ones((2, 3), np.uint8), np.array([0, 2], np.int32), 1.5)
    >>> packed = pack_both(pack_codes(codes), AudioError("too-short", "a second"))
    >>> again, heard = unpack_both(bytearray(b"".join(bytes(part) for part in packed)), 3)
    >>> again.snippet.tolist(), heard.kind
    ([0, 2], 'too-short')
    """
    size, heard = _BOTH.unpack_from(body)
    rest = body[_BOTH.size + size :]
    codes = unpack_codes(body[_BOTH.size : _BOTH.size + size], code_bytes)
    if heard:
        return codes, unpack(rest)
    try:
        told = json.loads(rest)
        return codes, AudioError(str(told["kind"]), str(told["message"]))
    except (TypeError, KeyError):
        raise ValueError("no reason why there is no embedding") from None
