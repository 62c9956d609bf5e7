"""Codes of a track and what is made of it beside them, from one decoding, in a child process.

What a child answers is the codes, then for each kind (`hashing.beside.KINDS`) that was asked for
its name and what was made, or why there is nothing: a track may be too short for one of them and
long enough for another.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.beside import KINDS
from hashing.decoder import Decoder
from hashing.decoder_frames import unpack_codes
from hashing.encoders import Hasher, TrackCodes
from hashing.errors import AudioError
from hashing.excerpts import Overheard

# Bytes that a piece takes, and whether it is something that was made, not why there is nothing.
_PIECE = struct.Struct("<I?")

# What was made of a track, or why there is nothing, by the name of the kind.
Beside = dict[str, Any]


class ListeningDecoder(Decoder):
    """A `hashing.decoder.Decoder` whose child makes more of a track than its codes.

    >>> with ListeningDecoder() as decoder:
    ...     decoder.pid is None  # the child is started when it is needed
    True
    """

    def prepare_beside(self, encoders: Mapping[str, Any]) -> None:
        """Have the child load encoders, by the name of their kind; waits for it.

        Raises: AudioError of kind ``crashed`` or ``timeout`` where the child cannot be started.
        """
        self._load({"beside": _folders(encoders)})

    def hash_and_hear(
        self,
        path: str,
        hasher: Hasher,
        encoders: Mapping[str, Any],
        *,
        max_seconds: float = 7200.0,
        timeout_s: float = 60.0,
        embeddings: bool = False,
    ) -> tuple[TrackCodes, Beside]:
        """What `hash_track` makes of a file, and what each encoder does, in one decoding.

        Args:
          encoders: by the name of their kind, one of `hashing.beside.KINDS`.

        Returns:
          The codes, and for each encoder what it has made, or the `AudioError` that says why there
          is nothing.

        Raises:
          AudioError: as `hash_track`.
        """
        request = {
            "path": path,
            "sample_rate": hasher.features.sample_rate,
            "max_seconds": max_seconds,
            "model": str(hasher.model.path),
            "embeddings": embeddings,
            "beside": _folders(encoders),
        }
        width = hasher.quantizer.code_bytes
        return self._made(path, request, timeout_s, lambda body: unpack_all(body, width, encoders))


class Listeners:
    """What several encoders hear of one decoding: `hear` is the listener of `decode_blocks`.

    Args:
      encoders: by the name of their kind.
    """

    def __init__(self, encoders: Mapping[str, Any]) -> None:
        self._encoders = dict(encoders)
        self._heard = {
            name: Overheard(KINDS[name].rate(encoder)) for name, encoder in encoders.items()
        }

    def hear(self, block: npt.NDArray[np.float32], rate: int) -> None:
        """Takes in the next mono block [n] at `rate` Hz, the same for all blocks."""
        for overheard in self._heard.values():
            overheard.hear(block, rate)

    def make(self, name: str) -> Any:
        """What one of them makes of all blocks, or the `AudioError` that says why not."""
        overheard = self._heard.pop(name)  # what a long track takes is free when it is done with
        try:
            return KINDS[name].hear(self._encoders[name], overheard)
        except AudioError as error:
            return error


def pack_all(codes: Sequence[Any], beside: Mapping[str, Any]) -> list[Any]:
    """The buffers of an answer: those of the codes, and of what was made beside them."""
    body = [*_piece(codes, made=True)]
    for name, made in beside.items():
        if isinstance(made, AudioError):
            told = json.dumps({"kind": made.kind, "message": str(made)}).encode()
            body += _piece([told], made=False)
        else:
            body += _piece(KINDS[name].pack(made), made=True)
    return body


def unpack_all(body: bytearray, code_bytes: int, names: Iterable[str]) -> tuple[TrackCodes, Beside]:
    """What `pack_all` has packed of kinds of these names, in their order.

    ValueError or struct.error for anything else.

    >>> from hashing.decoder_frames import pack_codes
    >>> codes = TrackCodes(np.ones((2, 3), np.uint8), np.array([0, 2], np.int32), 1.5)
    >>> packed = pack_all(pack_codes(codes), {"artist": AudioError("too-short", "a second")})
    >>> again, beside = unpack_all(bytearray(b"".join(map(bytes, packed))), 3, ["artist"])
    >>> again.snippet.tolist(), beside["artist"].kind
    ([0, 2], 'too-short')
    """
    pieces = list(_pieces(body))
    wanted = list(names)
    if len(pieces) != 1 + len(wanted):
        raise ValueError(f"{len(pieces)} pieces are not codes and {len(wanted)} things beside")
    codes = unpack_codes(pieces[0][0], code_bytes)
    return codes, {
        name: KINDS[name].unpack(piece) if made else _reason(piece)
        for name, (piece, made) in zip(wanted, pieces[1:], strict=True)
    }


def _piece(buffers: Sequence[Any], *, made: bool) -> list[Any]:
    return [_PIECE.pack(sum(memoryview(part).nbytes for part in buffers), made), *buffers]


def _pieces(body: bytearray) -> Iterable[tuple[bytearray, bool]]:
    at = 0
    while at < len(body):
        size, made = _PIECE.unpack_from(body, at)
        at += _PIECE.size + size
        if at > len(body):
            raise ValueError("an answer is cut short")
        yield body[at - size : at], made


def _reason(piece: bytearray) -> AudioError:
    try:
        told = json.loads(piece)
        return AudioError(str(told["kind"]), str(told["message"]))
    except (TypeError, KeyError):
        raise ValueError("no reason why there is nothing") from None


def _folders(encoders: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(encoder.model.path) for name, encoder in encoders.items()}
