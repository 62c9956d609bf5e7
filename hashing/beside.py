"""What can be made of a track beside its codes: an artist embedding, a hash sequence.

Each has a model of a kind of its own, listens at the rate of that model while the file is decoded,
and crosses the pipe from the child that decodes (`hashing.listening`). Models and what runs them
are imported when they are asked for: most runs need none of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from hashing.excerpts import Overheard
from hashing.models import (
    ARTIST_KIND,
    DEFAULT_ARTIST_MODEL,
    DEFAULT_SEQUENCE_MODEL,
    SEQUENCE_KIND,
)


@dataclasses.dataclass(frozen=True)
class Kind:
    """One thing that a track may have beside its codes.

    Attributes:
      name: as ``--also`` and manifests name it.
      default_model: that is used where none is named.
      load: name or folder of a model → its encoder, which has ``model`` and ``digest``; raises
        `ModelError`.
      rate: encoder → the rate at which it listens, Hz.
      hear: encoder, what was overheard of a track → what it makes of it; raises `AudioError` where
        that is nothing: a track may be too short, or silent.
      pack: that → buffers.
      unpack: the bytes of these → that; raises ValueError or struct.error for any others.
    """

    name: str
    default_model: str
    load: Callable[[str], Any]
    rate: Callable[[Any], int]
    hear: Callable[[Any, Overheard], Any]
    pack: Callable[[Any], list[Any]]
    unpack: Callable[[bytearray], Any]


def _load_artist(model: str) -> Any:
    from hashing.artists.encoder import ArtistEncoder

    return ArtistEncoder.load(model)


def _hear_artist(encoder: Any, overheard: Overheard) -> Any:
    from hashing.artists.decoder import hear_excerpts

    return hear_excerpts(encoder, overheard.excerpts(encoder.features.segments_of))


def _pack_artist(heard: Any) -> list[Any]:
    from hashing.artists.decoder import pack

    return pack(heard)


def _unpack_artist(body: bytearray) -> Any:
    from hashing.artists.decoder import unpack

    return unpack(body)


def _load_sequence(model: str) -> Any:
    from hashing.sequences import SequenceEncoder

    return SequenceEncoder.load(model)


def _pack_sequence(heard: Any) -> list[Any]:
    from hashing.stored_sequences import pack

    return pack(heard)


def _unpack_sequence(body: bytearray) -> Any:
    from hashing.stored_sequences import unpack

    return unpack(body)


ARTIST = Kind(
    ARTIST_KIND,
    DEFAULT_ARTIST_MODEL,
    _load_artist,
    lambda encoder: int(encoder.features.sample_rate),
    _hear_artist,
    _pack_artist,
    _unpack_artist,
)
SEQUENCE = Kind(
    SEQUENCE_KIND,
    DEFAULT_SEQUENCE_MODEL,
    _load_sequence,
    lambda encoder: int(encoder.features.cqt.sample_rate),
    lambda encoder, overheard: encoder.hear(overheard.samples()),
    _pack_sequence,
    _unpack_sequence,
)
KINDS = {kind.name: kind for kind in (ARTIST, SEQUENCE)}
