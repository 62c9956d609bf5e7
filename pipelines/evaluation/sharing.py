"""Which tracks of an evaluation are one recording: what the catalogue says, and what is found."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hashing.decoder import Decoder
from hashing.duplicates import Shared, find_shared, join
from pipelines.evaluation.questions import Source, Tracks
from pipelines.evaluation.systems import OpenedIndex


@dataclasses.dataclass(frozen=True)
class Sharing:
    """Which tracks share audio.

    Attributes:
        found_by: names of the indexes that were asked.
        pairs: of tracks that share audio.
        recordings: name of the recording of every track of the catalogue and of the indexes.
    """

    found_by: Sequence[str]
    pairs: Sequence[Shared[str]]
    recordings: Mapping[str, str]

    @property
    def groups(self) -> list[list[str]]:
        """Tracks that were joined into one recording, by group."""
        groups: dict[str, list[str]] = {}
        for track in sorted({name for pair in self.pairs for name in (pair.one, pair.other)}):
            groups.setdefault(self.recordings[track], []).append(track)
        return list(groups.values())

    def to_json(self, no_negatives: Sequence[str]) -> dict[str, Any]:
        """As figures.json has it; `no_negatives`: tracks that are not asked for because of it."""
        return {
            "found_by": list(self.found_by),
            "groups": self.groups,
            "no_negatives": list(no_negatives),
            "pairs": [_rounded(dataclasses.asdict(pair)) for pair in self.pairs],
        }


def as_listed(sources: Iterable[Source], indexes: Sequence[OpenedIndex]) -> Sharing:
    """What the catalogue says; a track of an index that it does not list is its own recording."""
    recordings = {track_id: track_id for index in indexes for track_id in index.held}
    recordings |= {one.track_id: one.recording for one in sources}
    return Sharing([], [], recordings)


def look_for_sharing(
    listed: Sharing,
    tracks: Sequence[Source],
    indexes: Sequence[OpenedIndex],
    uris: Mapping[str, str],
    decoder: Decoder,
    *,
    show: bool,
) -> Sharing:
    """`listed`, with tracks joined that share audio by `hashing.duplicates.find_shared`.

    The first index is asked, and those after it that hold a track which none before them holds.

    Args:
        tracks: those that queries are cut from.
        uris: where these are, and all tracks of the indexes.
        show: a progress bar on stderr.
    """
    from tqdm import tqdm

    seen: set[str] = set()
    asked, pairs = [], []
    for index in indexes:
        if index.held.keys() <= seen:
            continue
        seen |= index.held.keys()
        asked.append(index.name)
        audio = Tracks(uris, index.searcher.hasher.features.sample_rate, decoder)
        names = [one.track_id for one in tracks]
        bar = tqdm(names, desc="find shared audio", disable=not show, file=sys.stderr)
        pairs += list(find_shared(index.searcher, bar, audio.samples, index.id_of))
    return Sharing(asked, pairs, join(listed.recordings, pairs))


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()
    }
