"""Artists that nobody has heard of: as many as a study needs, each with a sound of its own.

An artist is drawn from a seed: instruments, drum kit, studio, tempo, swing, scales, chord and
melody habits, within the bounds of its genre. Its albums change instruments and studio a little,
its songs change them more. Songs are made of MIDI melodies, where a folder of them is given, or
composed by the artist.
"""

from __future__ import annotations

from hashing.generated.artist import Artist, Facts, Song
from hashing.generated.catalogue import write_catalogue
from hashing.generated.genres import GENRES
from hashing.generated.tunes import tune_files

__all__ = ["GENRES", "Artist", "Facts", "Song", "tune_files", "write_catalogue"]
