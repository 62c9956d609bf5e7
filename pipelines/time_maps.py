"""How a MIDI file lies along a recording, as a column of a table: pairs of seconds."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

ALIGNMENT = pa.list_(pa.struct([("midi_s", pa.float32()), ("audio_s", pa.float32())]))


def as_rows(midi_s: Sequence[float], audio_s: Sequence[float]) -> list[dict[str, float]]:
    """A value of a column of `ALIGNMENT`.

    >>> as_rows([0.0, 1.0], [2.0, 3.5])
    [{'midi_s': 0.0, 'audio_s': 2.0}, {'midi_s': 1.0, 'audio_s': 3.5}]
    """
    pairs = zip(midi_s, audio_s, strict=True)
    return [{"midi_s": one, "audio_s": other} for one, other in pairs]
