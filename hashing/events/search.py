"""Search among the codes of labelled clips, all of them or those of the nearest cells.

A code of 1 to 8 bytes stands for the vector of a window of sound; how far a query is from it is a
sum of numbers out of a table (`hashing.asymmetric`). A million codes of 8 bytes take some
milliseconds, so that all are looked at unless the inverted multi-index is asked for (Babenko &
Lempitsky, CVPR 2012): its cells are of what codes stand for, and only codes of the nearest cells
are compared. Of half a million codes, on one core, a hundredth takes 1 ms in place of 2.5, a
twentieth more than all of them; making the cells takes 4 s. It is for many queries.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from hashing import asymmetric
from hashing.encoders import Hasher
from hashing.errors import AudioError
from hashing.features import spectrogram
from hashing.fronts import Answer
from hashing.multi_index import MultiIndex, cells_of
from hashing.quantization import ProductQuantizer
from hashing.snippets import audible, filled

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Codes of a cell on average, were cells filled evenly: few enough that a hundredth of an index of
# some thousand is several cells, and more that the cells that a query visits are not mostly empty.
CELL_CODES = 4
# Of a half: 65,536 cells in all, 0.5 MB. More would be visited one by one for a long time.
MOST_CENTROIDS = 256

# k-means: items drawn for each centroid, and rounds. Codes are few different vectors.
ITEMS_A_CENTROID = 64
ROUNDS = 10

# Rows decoded at once: of 256 numbers 16 MB.
_BLOCK_ROWS = 16_384


@dataclasses.dataclass(frozen=True)
class Near:
    """Windows of an index, the nearest first.

    Attributes:
      rows: their numbers, [k].
      distances: squared, [k]; 0 to 4, as what is compared is not longer than one.
      windows: the window of the query that each is nearest to, [k].
    """

    rows: Ints
    distances: Floats
    windows: Ints


class ClipIndex:
    """The codes of an index in memory.

    Args:
      codes: uint8 [n, m].
      codebooks: float32 [m, 256, width], of the quantizer that made them.
      recordings: the number of the recording that each is a window of, [n], never falling; where
        it is given, `nearest` can tell the best window of each only.
      seed: of the centroids of the multi-index.

    Raises:
      ValueError: shapes that do not fit.

    >>> books = np.arange(256, dtype=np.float32).reshape(1, 256, 1) / 256
    >>> index = ClipIndex(np.array([[0], [64], [128]], np.uint8), books)
    >>> near = index.nearest(np.array([[0.25], [0.0]], np.float32), 2)
    >>> near.rows.tolist(), near.distances.tolist(), near.windows.tolist()
    ([0, 1], [0.0, 0.0], [1, 0])
    """

    def __init__(
        self,
        codes: Bytes,
        codebooks: Floats,
        recordings: npt.NDArray[np.integer] | None = None,
        seed: int = 0,
    ) -> None:
        self.quantizer = ProductQuantizer(codebooks)
        if codes.dtype != np.uint8 or codes.shape[1:] != (self.quantizer.code_bytes,):
            raise ValueError(f"codes {codes.shape} do not fit codebooks {codebooks.shape}")
        self.codes = np.ascontiguousarray(codes)
        self.recordings = None if recordings is None else np.asarray(recordings)
        if self.recordings is not None and (
            self.recordings.shape != (len(codes),) or (np.diff(self.recordings) < 0).any()
        ):
            raise ValueError(f"recordings must be [{len(codes)}] and never fall")
        self._seed = seed

    def __len__(self) -> int:
        return len(self.codes)

    def nearest(
        self,
        responses: Floats,
        top: int,
        *,
        symmetric: bool = False,
        share: float | None = None,
        one_each: bool = False,
    ) -> Near:
        """The nearest windows to a query; of equally near ones those with the lowest numbers.

        Args:
          responses: of the query's windows, [q, m * width]. A window of the index is as far as it
            is from the nearest of them.
          top: at most so many.
          symmetric: reduce the query to codes as well.
          share: look at this share of the codes, above 0 to 1, for each window of the query: those
            of the nearest cells. None: at all, without the multi-index.
          one_each: the best window of each recording only.

        Raises:
          ValueError: responses or a share that do not fit, or no window.
        """
        queries = np.asarray(responses, np.float32)
        if queries.ndim != 2 or not len(queries):
            raise ValueError(f"responses must be [windows, {self._dimensions}], {queries.shape}")
        if share is not None and not 0 < share <= 1:
            raise ValueError(f"share must be above 0 to 1, got {share}")
        books = self.quantizer.codebooks
        if symmetric:
            packed = self.quantizer.encode(queries)
            tables = asymmetric.symmetric_tables(packed, books)
            queries = self.quantizer.decode(packed)
        else:
            tables = asymmetric.distance_tables(queries, books)
        rows = None if share is None else self._candidates(queries, share)
        if not len(self.codes):
            return Near(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))
        chosen = self.codes if rows is None else self.codes[rows]
        best = asymmetric.distances(chosen, tables[0])
        window = np.zeros(len(chosen), np.int64)
        for number in range(1, len(tables)):
            found = asymmetric.distances(chosen, tables[number])
            nearer = found < best
            best[nearer] = found[nearer]
            window[nearer] = number
        places = self._best_places(rows, best, top) if one_each else None
        if places is None:
            places, _ = asymmetric.smallest(best, top)
        return Near(places if rows is None else rows[places], best[places], window[places])

    def _best_places(self, rows: Ints | None, best: Floats, top: int) -> Ints:
        """Places in `best` of the nearest windows of recordings, one each."""
        if self.recordings is None:
            raise ValueError("one_each: the index was not told of which recordings its codes are")
        of = self.recordings if rows is None else self.recordings[rows]
        firsts = np.flatnonzero(np.diff(of, prepend=of[0] - 1))
        ends = np.append(firsts[1:], len(of))
        chosen, _ = asymmetric.smallest(np.minimum.reduceat(best, firsts), top)
        spans = zip(firsts[chosen].tolist(), ends[chosen].tolist(), strict=True)
        return np.array([first + best[first:end].argmin() for first, end in spans], np.int64)

    def _candidates(self, queries: Floats, share: float) -> Ints:
        """Numbers of the codes in the nearest cells of any of the queries, rising."""
        wanted = math.ceil(share * len(self.codes))
        if wanted >= len(self.codes):
            return np.arange(len(self.codes))
        cells = self._multi_index
        found = [cells.rows[cells.candidates(one, wanted)] for one in _even(queries)]
        return np.unique(np.concatenate(found))

    @functools.cached_property
    def _multi_index(self) -> MultiIndex:
        """Cells of what the codes stand for; made when it is needed first."""
        n = len(self.codes)
        centroids = centroids_for(n)
        rng = np.random.default_rng(self._seed)
        drawn = rng.permutation(n)[: ITEMS_A_CENTROID * centroids]
        books = fit_halves(self._stands_for(self.codes[drawn]), centroids, self._seed)
        # A block at a time: vectors of all would take a hundred times what their codes do.
        blocks = np.split(self.codes, range(_BLOCK_ROWS, n, _BLOCK_ROWS))
        cells = np.concatenate([cells_of(self._stands_for(block), books) for block in blocks])
        counts = np.bincount(cells, minlength=centroids**2)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        return MultiIndex(books, offsets, np.argsort(cells, kind="stable"))

    def _stands_for(self, codes: Bytes) -> Floats:
        return _even(self.quantizer.decode(codes))

    @property
    def _dimensions(self) -> int:
        parts, _, width = self.quantizer.codebooks.shape
        return int(parts * width)


def centroids_for(codes: int) -> int:
    """Centroids of each half: their pairs are so many cells that each holds `CELL_CODES` of them.

    >>> [centroids_for(codes) for codes in (1, 100, 10_000, 1_000_000)]
    [1, 5, 50, 256]
    """
    return int(np.clip(round(math.sqrt(codes / CELL_CODES)), 1, MOST_CENTROIDS))


def fit_halves(values: Floats, centroids: int, seed: int = 0) -> Floats:
    """Centroids [2, centroids, width] of the two halves of vectors [n, 2 * width], by k-means.

    Without faiss, which an installation that only searches does not have. Vectors that codes stand
    for are alike by the thousand: a half of one byte has 256 different ones at most. It begins with
    different ones, and where there are fewer, the rest is never nearest.

    >>> books = fit_halves(np.array([[0.0, 1], [1, 1], [8, 1], [9, 1]], np.float32), 2)
    >>> np.sort(books[0], axis=0).tolist()
    [[0.5], [8.5]]
    """
    rng = np.random.default_rng(seed)
    width = values.shape[1] // 2
    halves = np.split(values, [width], axis=1)
    return np.stack([_k_means(half, centroids, rng) for half in halves])


def _k_means(items: Floats, centroids: int, rng: np.random.Generator) -> Floats:
    different, counts = np.unique(items, axis=0, return_counts=True)
    n = len(different)
    books = different[np.resize(rng.choice(n, min(centroids, n), replace=False), centroids)]
    for _ in range(ROUNDS if n > centroids else 0):
        near = asymmetric.distance_tables(different, books[None])[:, 0].argmin(axis=1)
        weight = np.bincount(near, counts, minlength=centroids)
        sums = np.zeros(books.shape)
        np.add.at(sums, near, different * counts[:, None])
        used = weight > 0
        books[used] = (sums[used] / weight[used, None]).astype(np.float32)
    return books


def _even(values: Floats) -> Floats:
    """With a column of zeros more where there is an odd number of them: then there are halves."""
    return np.pad(values, ((0, 0), (0, 1))) if values.shape[1] % 2 else values


@dataclasses.dataclass(frozen=True)
class HeardClip:
    """A query, heard as an index hears a recording.

    Attributes:
      responses: of its windows that are not silent, [windows, d].
      start_s: where each begins, s; None of words, which have no time.
      duration_s: of the query, s.
    """

    responses: Floats
    start_s: npt.NDArray[np.float64] | None
    duration_s: float


def hear_clip(blocks: Iterable[Floats], hasher: Hasher) -> HeardClip:
    """The windows of a recording that is a query: the very ones that an index has of it.

    Unlike a query of music, it need not be aligned with a recording: what it has in common with
    others is a kind of sound.

    Args:
      blocks: mono float32 samples at the hasher's sample rate, in pieces of any length.

    Raises:
      AudioError: ``too-short`` or ``silent``.
    """
    config = hasher.features
    heard = spectrogram(blocks, config)
    spec = filled(heard, config)
    if len(spec) < config.snippet_frames:
        needed = config.snippet_samples if not config.repeats_short else config.n_fft
        raise AudioError(
            "too-short", f"query is shorter than {needed / config.sample_rate:.2f} s, one window"
        )
    starts = audible(spec, config)
    if not starts.size:
        raise AudioError("silent", f"query is silent: nothing above {config.silence_db:.0f} dB")
    answer: Answer = hasher.respond_in_track(spec, starts)
    seconds = ((len(heard) - 1) * config.hop_length + config.n_fft) / config.sample_rate
    return HeardClip(answer.responses, starts.astype(np.float64) * config.frame_s, seconds)
