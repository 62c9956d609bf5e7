"""Names that several artists share, made of artists who are known: pseudo-homonym groups.

Sizes and shares follow the 122 homonym groups of Royo-Letelier et al. (ISMIR 2018), as far as the
catalogue has the tracks. Models are trained and measured with the same kind of names. Artists are
dealt into folds first, and no group has artists of two folds: what is tuned on some folds is
measured on artists that it has never met.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# Names of two, three and four artists among the published 122.
SHARED_BY = {2: 102, 3: 17, 4: 3}

# Tracks of a published artist, the fewest and the most.
FEWEST_TRACKS, MOST_TRACKS = 8, 168

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


def deal_folds(
    genres: Sequence[str],
    folds: int,
    rng: np.random.Generator,
    sizes: Sequence[int] | None = None,
) -> Ints:
    """A fold for each artist, [artists]; folds differ by few artists.

    Two or three artists of one genre are dealt together, so that groups within a genre can be made
    of the artists of a fold.

    Args:
        genres: of each artist, "" for none.
        sizes: how many each counts for, where sets of artists are dealt; all one unless given.

    >>> np.bincount(deal_folds([""] * 7, 3, np.random.default_rng(1))).tolist()
    [3, 2, 2]
    """
    counts = np.ones(len(genres), np.int64) if sizes is None else np.asarray(sizes, np.int64)
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
    # By what counts, then by how many there are at all.
    full = np.zeros((folds, 2), np.int64)
    sums = [(int(counts[pack].sum()), len(pack)) for pack in packs]
    # Large packs first: the small ones then even out the folds.
    order = rng.permutation(len(packs)).tolist()
    for place in sorted(order, key=lambda one: (-sums[one][0], -sums[one][1])):
        counted = full[:, 0] * bool(sums[place][0])
        smallest = int(np.lexsort((full[:, 1], counted))[0])
        fold[packs[place]] = smallest
        full[smallest] += sums[place]
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


def groups_of(artists: Mapping[str, Ints], count: int, seed: int) -> list[Group]:
    """Groups of the artists of one fold: `count` mixed, and one single for each artist.

    Args:
        artists: rows of each artist's tracks.

    >>> rows = {name: np.arange(9) + 9 * i for i, name in enumerate("abc")}
    >>> [group.kind for group in groups_of(rows, 2, 1)]
    ['mixed', 'mixed', 'single', 'single', 'single']
    """
    known = sorted(artists)
    rows = np.concatenate([artists[name] for name in known])
    artist = np.repeat(np.arange(len(known)), [len(artists[name]) for name in known])
    folds = np.zeros(len(known), np.int64)
    return [
        dataclasses.replace(group, rows=rows[group.rows])
        for group in draw_groups(artist, [""] * len(known), folds, count, seed)
    ]


def draw_sizes(n: int, most: int, rng: np.random.Generator) -> Ints:
    """How many artists share each of `n` names, as often as in the paper, `most` at the most.

    >>> set(draw_sizes(50, 3, np.random.default_rng(1)).tolist()) <= {2, 3}
    True
    """
    chances = np.array(list(SHARED_BY.values())) / sum(SHARED_BY.values())
    return np.asarray(np.minimum(rng.choice(np.array(list(SHARED_BY)), n, p=chances), most))


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
    used = np.zeros(len(tracks), np.int64)
    for _ in range(count):
        wanted = _sizes(int(draw_sizes(1, max(SHARED_BY), rng)[0]), rng)
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
    spread = GROUP_SPREAD * rng.standard_normal() + ARTIST_SPREAD * rng.standard_normal(artists)
    sizes = np.clip(np.rint(MEDIAN_TRACKS * np.exp(spread)), FEWEST_TRACKS, MOST_TRACKS)
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
