"""What groups of artists are like, beside the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hashing.artists.homonyms import FEWEST_TRACKS, MOST_TRACKS, SHARED_BY, Group

# Of the 122 homonym groups of Royo-Letelier et al. (ISMIR 2018): artists of a group and how many
# have them, tracks of an artist and of a group, share of the artist with the most tracks.
PUBLISHED: dict[str, Any] = {
    "groups": sum(SHARED_BY.values()),
    "artists_of_a_group": {str(artists): names for artists, names in SHARED_BY.items()},
    "tracks_per_artist": {
        "low": FEWEST_TRACKS,
        "median": 28,
        "mean": 35.7,
        "high": MOST_TRACKS,
    },
    "tracks_per_group": {"low": 26, "median": 66.5, "mean": 78.2, "high": 263},
    "majority_share": {"median": 0.591, "mean": 0.618},
}


def statistics(groups: Sequence[Group], albums: Sequence[str]) -> dict[str, Any]:
    """Of groups as `PUBLISHED` has them; of several artists.

    Args:
        albums: of each track, "" for none.
    """
    sizes = [[int((group.truth == one).sum()) for one in group.artists] for group in groups]
    totals = [sum(one) for one in sizes]
    majority = [max(one) / sum(one) for one in sizes]
    counts = [len(one) for one in sizes]
    used = np.bincount([one for group in groups for one in group.artists])
    with_albums = [
        len({albums[row] for row in group.rows[group.truth == one].tolist()} - {""})
        for group in groups
        for one in group.artists
    ]
    return {
        "groups": len(groups),
        "different_sets_of_artists": len({frozenset(group.artists) for group in groups}),
        "artists": int((used > 0).sum()),
        "groups_of_an_artist": _spread(used[used > 0].tolist()),
        "artists_of_a_group": {str(n): counts.count(n) for n in sorted(set(counts))},
        "tracks_per_artist": _spread([size for one in sizes for size in one]),
        "tracks_per_group": _spread(totals),
        "majority_share": _spread(majority),
        "albums_per_artist": _spread([n for n in with_albums if n]),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    found = np.array([min(values), np.median(values), np.mean(values), max(values)])
    return dict(zip(("low", "median", "mean", "high"), found.round(3).tolist(), strict=True))
