"""Names that several artists share, made of artists who are known: pseudo-homonym groups.

Sizes and shares follow the 122 homonym groups of Royo-Letelier et al. (ISMIR 2018), as far as the
catalogue has the tracks. Artists are dealt into folds first, and no group has artists of two folds:
what is tuned on some folds is measured on artists that it has never met.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# Of the published groups: artists of a group and how many have them, tracks of an artist and of a
# group, share of the artist with the most tracks, albums of an artist.
PUBLISHED: dict[str, Any] = {
    "groups": 122,
    "artists_of_a_group": {"2": 102, "3": 17, "4": 3},
    "tracks_per_artist": {"low": 8, "median": 28, "mean": 35.7, "high": 168},
    "tracks_per_group": {"low": 26, "median": 66.5, "mean": 78.2, "high": 263},
    "majority_share": {"median": 0.591, "mean": 0.618},
}

# Tracks of an artist are drawn log-normally: half of the spread is the group's, half the artist's.
# 40,000 groups: median 28 and mean 35.8 an artist, 64 and 78.3 a group, majority .593 and .600.
MEDIAN_TRACKS, GROUP_SPREAD, ARTIST_SPREAD = 28.0, 0.5, 0.5

# Sets of artists that are tried for each group; the one that comes nearest to the size and share
# wanted is taken. More would use some artists again and again.
_TRIES = 10
_SHARE_WEIGHT = 4.0  # a share off by a tenth counts as much as a size off by half

KINDS = {
    "mixed": "several artists, whatever their genres",
    "within": "several artists of one genre",
    "across": "several artists of as many genres",
    "single": "one artist",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """A made-up name.

    Attributes:
        kind: a key of `KINDS`.
        seed, fold: that it belongs to.
        artists: numbers of its artists.
        rows: int64 [n], its tracks, as rows of what was handed to `draw_groups`.
        truth: int64 [n], the artist of each.
    """

    kind: str
    seed: int
    fold: int
    artists: tuple[int, ...]
    rows: Ints
    truth: Ints


def deal_folds(genres: Sequence[str], folds: int, rng: np.random.Generator) -> Ints:
    """A fold for each artist, [artists]; folds differ by few artists.

    Two or three artists of one genre are dealt together, so that groups within a genre can be made
    of the artists of a fold.

    >>> np.bincount(deal_folds([""] * 7, 3, np.random.default_rng(1))).tolist()
    [3, 2, 2]
    """
    packs: list[list[int]] = []
    for genre in sorted(set(genres)):
        members = [number for number, one in enumerate(genres) if one == genre]
        order = rng.permutation(members).tolist()
        step = 2 if genre else 1
        cut = [order[at : at + step] for at in range(0, len(order), step)]
        if len(cut) > 1 and len(cut[-1]) < step:
            cut[-2:] = [cut[-2] + cut[-1]]
        packs += cut
    fold = np.zeros(len(genres), np.int64)
    sizes = np.zeros(folds, np.int64)
    # Large packs first: the small ones then even out the folds.
    for place in sorted(rng.permutation(len(packs)).tolist(), key=lambda one: -len(packs[one])):
        smallest = int(np.argmin(sizes))
        fold[packs[place]] = smallest
        sizes[smallest] += len(packs[place])
    return fold


def draw_groups(
    artist: Ints, genres: Sequence[str], fold: Ints, count: int, seed: int
) -> Iterator[Group]:
    """Groups of all kinds: `count` mixed, one single for each artist, and where two artists of a
    fold have one genre or different ones, half as many within and across genres.

    Args:
        artist: of each track, numbers from 0, [tracks].
        genres: of each artist, "" where it has none.
        fold: of each artist.
        count: of the mixed groups, over all folds.
        seed: the same gives the same groups.
    """
    tracks = [np.flatnonzero(artist == number) for number in range(len(genres))]
    numbers = np.unique(fold).tolist()
    for kind, wanted in (("mixed", count), ("within", count // 2), ("across", count // 2)):
        if kind != "mixed" and not any(genres):
            continue
        for place, number in enumerate(numbers):
            members = np.flatnonzero(fold == number)
            share = wanted * (place + 1) // len(numbers) - wanted * place // len(numbers)
            rng = np.random.default_rng([seed, list(KINDS).index(kind), number])
            yield from _draw(kind, seed, number, members, tracks, genres, share, rng)
    rng = np.random.default_rng([seed, list(KINDS).index("single")])
    for number, rows in enumerate(tracks):
        size = min(len(rows), int(_sizes(1, rng)[0]))
        chosen = np.sort(rng.choice(rows, size, replace=False))
        truth = np.full(size, number, np.int64)
        yield Group("single", seed, int(fold[number]), (number,), chosen, truth)


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


def _draw(
    kind: str,
    seed: int,
    fold: int,
    members: Ints,
    tracks: Sequence[Ints],
    genres: Sequence[str],
    count: int,
    rng: np.random.Generator,
) -> Iterator[Group]:
    """Groups of the artists of one fold; none where it has too few of the kind."""
    numbers = np.array(list(map(int, PUBLISHED["artists_of_a_group"])), np.int64)
    weights = np.array(list(PUBLISHED["artists_of_a_group"].values()), np.float64)
    used = np.zeros(len(tracks), np.int64)
    for _ in range(count):
        wanted = _sizes(int(rng.choice(numbers, p=weights / weights.sum())), rng)
        best: tuple[float, list[int], list[int]] | None = None
        for _ in range(_TRIES):
            artists = _artists(kind, len(wanted), members, genres, used, rng)
            if len(artists) < 2:
                continue
            # The largest size for who has the most tracks; what is not there cannot be had.
            artists.sort(key=lambda one: -len(tracks[one]))
            sizes = [min(len(tracks[a]), int(n)) for a, n in zip(artists, wanted, strict=False)]
            goal = wanted[: len(sizes)]
            misfit = abs(np.log(sum(sizes) / goal.sum()))
            misfit += _SHARE_WEIGHT * abs(max(sizes) / sum(sizes) - goal.max() / goal.sum())
            if best is None or misfit < best[0]:
                best = (float(misfit), artists, sizes)
        if best is None:
            return
        _, artists, sizes = best
        used[artists] += 1
        chosen = [
            np.sort(rng.choice(tracks[one], size, replace=False))
            for one, size in zip(artists, sizes, strict=True)
        ]
        rows = np.concatenate(chosen)
        truth = np.repeat(np.array(artists, np.int64), sizes)
        order = rng.permutation(len(rows))
        yield Group(kind, seed, fold, tuple(sorted(artists)), rows[order], truth[order])


def _sizes(artists: int, rng: np.random.Generator) -> Ints:
    """Tracks of each artist of a group as the published groups have them, the most first."""
    low, high = (PUBLISHED["tracks_per_artist"][name] for name in ("low", "high"))
    spread = GROUP_SPREAD * rng.standard_normal() + ARTIST_SPREAD * rng.standard_normal(artists)
    sizes = np.clip(np.rint(MEDIAN_TRACKS * np.exp(spread)), low, high)
    return np.sort(sizes.astype(np.int64))[::-1]


def _artists(
    kind: str,
    wanted: int,
    members: Ints,
    genres: Sequence[str],
    used: Ints,
    rng: np.random.Generator,
) -> list[int]:
    """Artists for one group, those seldom used before others; fewer where there are no more."""
    chosen: list[int] = []
    # A share of the usual chance for each group that an artist is in already.
    chances = 0.5 ** (used[members] - used[members].min()).astype(np.float64)
    for place in rng.choice(len(members), len(members), replace=False, p=chances / chances.sum()):
        one = int(members[place])
        genre, theirs = genres[one], {genres[other] for other in chosen}
        fits = kind == "mixed" or genre != ""
        if kind == "within" and chosen:
            fits = genre in theirs
        elif kind == "across":
            fits = fits and genre not in theirs
        if fits:
            chosen.append(one)
        if len(chosen) == wanted:
            break
    return chosen
