"""Look-up as Baluja & Covell count it: bins of hash tables, votes, and what they find.

"Learning 'Forgiving' Hash Functions" (IJCAI 2007). A query's snippet is hashed with every table;
the candidates are the union of its bins; a candidate's votes are the bins that hold it; the answer
has the most, ties broken at random. No spectrogram is compared. The query's own snippet is left
out of the database, so that the nearest one is a hop (116 ms) away.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.sparse

from hashing import codes
from hashing.training.study_music import Database

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.unsignedinteger]

# Queries whose candidates are held at once: 22 tables of 1,024 bins give some 3,000 candidates of
# 30,000 snippets each, 20 MB of them.
QUERIES_PER_PASS = 512

RESAMPLES = 1000  # of songs, for an interval


def keys_of(bits: npt.NDArray[np.bool_], positions: npt.NDArray[np.integer]) -> Keys:
    """Keys [n, tables] of bits [n, k], for tables of chosen bits [tables, key_bits].

    >>> keys_of(np.array([[True, False]]), np.array([[0, 1], [1, 1]])).tolist()
    [[2, 0]]
    """
    return codes.keys(codes.pack(bits), positions)


def byte_keys(
    signatures: npt.NDArray[np.uint8], n_tables: int, key_bytes: int
) -> npt.NDArray[np.uint64]:
    """Keys [n, tables], each of `key_bytes` (up to 8) bytes of the signature that are its own.

    Waveprint's tables are of 4 and of 5 bytes; `hashing.codes.keys` ends at 4.

    >>> byte_keys(np.array([[1, 2, 3, 4, 9]], np.uint8), 2, 2).tolist()
    [[258, 772]]
    """
    if n_tables * key_bytes > signatures.shape[1] or not 1 <= key_bytes <= 8:
        raise ValueError(
            f"{n_tables} tables of {key_bytes} bytes do not fit {signatures.shape[1]} bytes"
        )
    chosen = signatures[:, : n_tables * key_bytes].reshape(len(signatures), n_tables, key_bytes)
    keys = np.zeros(chosen.shape[:2], dtype=np.uint64)
    for byte in range(key_bytes):
        keys = (keys << np.uint64(8)) | chosen[:, :, byte].astype(np.uint64)
    return keys


class Tables:
    """Hash tables over the snippets of a database, in memory.

    Args:
      keys: [n, tables] the bin of each snippet in each table; any unsigned integers.

    >>> tables = Tables(np.array([[1, 7], [1, 8], [2, 8]], np.uint32))
    >>> tables.votes(np.array([[1, 8]], np.uint32)).toarray().tolist()
    [[1, 2, 1]]
    """

    def __init__(self, keys: Keys) -> None:
        self._known: list[Keys] = []
        self._first: list[int] = []  # column of each table's first bin
        columns = np.empty(keys.shape, dtype=np.int32)
        total = 0
        for table in range(keys.shape[1]):
            known, bins = np.unique(keys[:, table], return_inverse=True)
            columns[:, table] = bins + total
            self._known.append(known)
            self._first.append(total)
            total += len(known)
        self._bins = total
        self._members = self._matrix(columns, np.ones(keys.shape, dtype=bool)).T.tocsr()

    def votes(self, keys: Keys) -> scipy.sparse.csr_matrix:
        """Number of tables that hold each snippet in the bin of each query, [queries, n]."""
        columns = np.empty(keys.shape, dtype=np.int32)
        found = np.empty(keys.shape, dtype=bool)
        for table, (known, first) in enumerate(zip(self._known, self._first, strict=True)):
            at = np.minimum(np.searchsorted(known, keys[:, table]), len(known) - 1)
            found[:, table] = known[at] == keys[:, table]
            columns[:, table] = at + first
        return self._matrix(columns, found) @ self._members

    def _matrix(
        self, columns: npt.NDArray[np.int32], present: npt.NDArray[np.bool_]
    ) -> scipy.sparse.csr_matrix:
        ends = np.concatenate(([0], np.cumsum(present.sum(axis=1))))
        ones = np.ones(int(ends[-1]), dtype=np.int32)
        return scipy.sparse.csr_matrix(
            (ones, columns[present], ends), shape=(len(columns), self._bins)
        )


@dataclasses.dataclass(frozen=True)
class Answers:
    """What became of each query snippet.

    Attributes:
      candidates: [m] snippets in the union of the bins.
      found: [m] whether one of them is of the right song.
      right: [m] chance that the answer is of the right song, over the random choice among ties.
      ranked: [m, ranks] whether the candidate at each rank is of the right song.
      size: snippets of the database.
    """

    candidates: Integers
    found: npt.NDArray[np.bool_]
    right: Floats
    ranked: npt.NDArray[np.bool_]
    size: int

    @property
    def examined(self) -> float:
        """Mean share of the database that is candidates."""
        return float(self.candidates.mean()) / self.size


def ask(
    tables: Tables,
    keys: Keys,
    database: Database,
    queries: Integers,
    *,
    apart: int = 1,
    ranks: int = 0,
    rng: np.random.Generator | None = None,
) -> Answers:
    """Look snippets up, one by one.

    Args:
      tables: over all of `database`.
      keys: [m, tables] of the queries: the database's own, or of the same snippets degraded.
      queries: [m] row of the database that each query is a version of.
      apart: snippets of the query's song that are nearer than this many hops are left out; 1 leaves
        out the query's own.
      ranks: ranks to look at, with ties broken by `rng`.
    """
    m = len(queries)
    candidates = np.zeros(m, dtype=np.int64)
    found, right = np.zeros(m, dtype=bool), np.zeros(m)
    ranked = np.zeros((m, ranks), dtype=bool)
    for part, row, column, votes in _pairs(tables, keys, database, queries, apart):
        size = part.stop - part.start
        own = database.song[column] == database.song[queries[part]][row]
        counts = np.bincount(row, minlength=size)
        candidates[part] = counts
        found[part] = np.bincount(row, weights=own, minlength=size) > 0
        best = np.zeros(size, dtype=votes.dtype)
        np.maximum.at(best, row, votes)
        first = votes == best[row]
        tied = np.bincount(row[first], minlength=size)
        right[part] = np.bincount(row[first & own], minlength=size) / np.maximum(tied, 1)
        if ranks:
            assert rng is not None
            order = np.lexsort((rng.random(len(row)), -votes, row))
            starts = np.cumsum(counts) - counts
            rank = np.arange(len(row)) - starts[row[order]]
            shown = rank < ranks
            ranked[part.start + row[order][shown], rank[shown]] = own[order][shown]
    return Answers(candidates, found, right, ranked, len(database))


def _pairs(
    tables: Tables, keys: Keys, database: Database, queries: Integers, apart: int
) -> Iterator[tuple[slice, npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """Queries in parts, and their pairs (query of the part, snippet, votes) sorted by query."""
    for first in range(0, len(queries), QUERIES_PER_PASS):
        part = slice(first, min(first + QUERIES_PER_PASS, len(queries)))
        votes = tables.votes(keys[part]).tocsr()
        row = np.repeat(np.arange(votes.shape[0], dtype=np.int32), np.diff(votes.indptr))
        own = queries[part][row]
        near = (database.song[votes.indices] == database.song[own]) & (
            np.abs(database.place[votes.indices] - database.place[own]) < apart
        )
        yield part, row[~near], votes.indices[~near], votes.data[~near]


@dataclasses.dataclass(frozen=True)
class SongVotes:
    """Votes of single snippets by song: what longer queries are answered from.

    Attributes:
      totals: [n, songs] votes that each snippet as a query gives to all snippets of each song, its
        own left out.
      best: [n, songs] the votes of the one snippet of each song that has most.
      own: for each song, [snippets, snippets] votes that each of its snippets gives to each.
      database: the snippets.
    """

    totals: npt.NDArray[np.int32]
    best: npt.NDArray[np.int32]
    own: list[npt.NDArray[np.int32]]
    database: Database

    @classmethod
    def count(cls, tables: Tables, keys: Keys, database: Database) -> SongVotes:
        """Over all snippets of the database as queries; `keys` [n, tables] may be degraded.

        Rows of the database are sorted by song.
        """
        songs = database.songs
        totals = np.zeros((len(database), songs), dtype=np.int32)
        best = np.zeros_like(totals)
        sizes = np.bincount(database.song, minlength=songs)
        first = np.cumsum(sizes) - sizes
        own = [np.zeros((size, size), dtype=np.int32) for size in sizes.tolist()]
        everything = np.arange(len(database))
        for part, row, column, votes in _pairs(tables, keys, database, everything, apart=0):
            song = database.song[column]
            asking = row + part.start
            same = song == database.song[asking]
            for one in np.unique(song[same]).tolist():
                chosen = same & (song == one)
                own[one][asking[chosen] - first[one], column[chosen] - first[one]] = votes[chosen]
            other = asking != column
            np.add.at(totals, (asking[other], song[other]), votes[other])
            np.maximum.at(best, (asking[other], song[other]), votes[other])
        return cls(totals, best, own, database)

    def right(
        self, length: int, starts: int, *, apart: int = 1, rule: str = "sum"
    ) -> tuple[Floats, Integers, npt.NDArray[np.int64]]:
        """Chance that the song with the most votes is the right one, for queries of some length.

        Args:
          length: places (hops) that a query covers; snippets that are silent have no vote.
          starts: queries of a song at most, spread evenly over it.
          apart: 1 leaves out, of each single look-up, the snippet itself, as in the paper. More
            leaves out all snippets of the song that are nearer than this many hops to any of the
            query's.
          rule: ``sum``: all votes of a song count; ``best``: those of its best snippet only, for
            each snippet of the query.

        Returns:
          the chance for each query, its song, and its first place. Songs shorter than the query, or
          with nothing left of them, have none.
        """
        table = {"sum": self.totals, "best": self.best}[rule]
        chances: list[float] = []
        songs: list[int] = []
        firsts: list[int] = []
        for song in range(self.database.songs):
            rows = np.flatnonzero(self.database.song == song)
            places = self.database.place[rows]
            last = int(places.max()) + 1 - length
            if last < 0:
                continue
            for start in np.unique(np.linspace(0, last, starts).round().astype(int)).tolist():
                inside = (places >= start) & (places < start + length)
                far = (places <= start - apart) | (places >= start + length - 1 + apart)
                if not inside.any() or (apart > 1 and not far.any()):
                    continue
                scores = table[rows[inside]].sum(axis=0)
                if apart > 1:
                    left = self.own[song][np.ix_(inside, far)]
                    scores[song] = left.sum() if rule == "sum" else left.max(axis=1).sum()
                tied = int((scores == scores.max()).sum())
                wins = scores.max() > 0 and scores[song] == scores.max()
                chances.append(1.0 / tied if wins else 0.0)
                songs.append(song)
                firsts.append(start)
        return np.array(chances), np.array(songs, dtype=np.int64), np.array(firsts, dtype=np.int64)


def song_interval(
    values: npt.NDArray[np.floating] | npt.NDArray[np.bool_],
    song: Integers,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """95 % interval of a mean over queries, by drawing the songs anew (cluster bootstrap).

    Queries of one song succeed and fail together, so that songs and not queries are what the
    interval has to be taken over.

    >>> song_interval(np.array([1.0, 1.0]), np.array([0, 1]), np.random.default_rng(1))
    (1.0, 1.0)
    """
    if not len(values):
        return (0.0, 1.0)
    _, number = np.unique(song, return_inverse=True)
    sums = np.bincount(number, weights=values)
    sizes = np.bincount(number)
    drawn = rng.integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return (round(float(low), 4), round(float(high), 4))
