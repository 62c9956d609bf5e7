"""A version opened for looking up what it holds itself: stretches of codes, without their audio."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hashing.encoders import Hasher
from hashing.errors import IndexFormatError
from hashing.stored import StoredPlaces, Stretch, find_stored
from pipelines import io, parquet
from pipelines.opened import open_index
from pipelines.plain import rows_of
from pipelines.segment_codes import number_snippets
from pipelines.versions import Manifest

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

# Snippets of a stretch, silent ones included: 2 to 4 s.
STRETCH = 8

# Candidates that are compared with a stretch. Its own place has every snippet's vote in every
# table, so that only copies of it stand beside; each one more is a part of the segment to be read.
CANDIDATES = 4

# Stretches looked up at once, and postings of the largest bucket that is read for them: 5 million
# hits at most in 20 tables, some 200 MB, whatever a broken hasher has put into one bucket. In an
# index so large that the mean bucket is above a 16th of that, 16 times the mean.
AT_ONCE = 8
BUCKET, BUCKET_LOADS = 4096, 16

# A place is as like as the likest one when it lacks no more than this share: embeddings of length
# one are that within 0.001 when rounded to half precision.
TIE = 2e-3


@dataclasses.dataclass(frozen=True)
class Sample:
    """A stretch of a track, and where it stands: `gid` is the snippet number of its first one."""

    segment: int
    ordinal: int
    gid: int
    stretch: Stretch


class StoredCodes:
    """The codes of a version and its tables, tracks and removals, open for looking up.

    Parts of a segment are read where a sample or a candidate lies, and no segment is read whole.

    Args:
      index: the folder.
      manifest: of the version, which need not be published yet.
      hasher: its model.
    """

    def __init__(self, index: str, manifest: Manifest, hasher: Hasher) -> None:
        self._index, self._manifest = index, manifest
        self._searcher, self.tracks, _ = open_index(
            index, manifest=manifest, hasher=hasher, read_ahead=False
        )
        mean_load = self._searcher.n_snippets / 2**manifest.key_bits
        self._max_bucket = max(BUCKET, int(BUCKET_LOADS * mean_load))
        self._first_parts = {segment.id: segment.first_part for segment in manifest.segments}
        self._paths = {
            (kind, segment, part): path
            for kind, segment, part, path in manifest.files.tuples(
                "kind", "segment", "part", "path"
            )
        }

    def draw(self, segments: Sequence[int], n: int, seed: int) -> list[Sample]:
        """Stretches that begin at `n` snippet numbers drawn from these segments, of live tracks.

        A long track is drawn more often. A stretch without a sound is none, so that there may be
        fewer.
        """
        ends = np.cumsum([int(self.tracks.starts[segment][-1]) for segment in segments])
        total = int(ends[-1]) if ends.size else 0
        drawn = np.random.default_rng(seed).choice(total, min(n, total), replace=False)
        owner = np.searchsorted(ends, drawn, side="right")
        samples = []
        for at, segment in enumerate(segments):
            gids = drawn[owner == at] - (ends[at - 1] if at else 0)
            located = self.tracks.locate(segment, gids)
            samples += self._cut(segment, gids, *located)
        return samples

    def of_track(self, segment: int, ordinal: int) -> list[Sample]:
        """The first stretch with a sound of a track, in a list; it may have been removed.

        Raises: IndexFormatError where there is no such track.
        """
        span = self.tracks.span(segment, ordinal)
        if span is None:
            raise IndexFormatError(
                f"segment {segment} has no track {ordinal}; run `hashbeam verify` on the index"
            )
        _, heard = self._searcher.codes.rows(segment, np.arange(*span))
        first = span[0] + np.flatnonzero(heard)[:1]
        same = np.ones_like(first)
        return self._cut(segment, first, ordinal * same, span[0] * same, span[1] * same)

    def find(self, samples: Sequence[Sample]) -> Iterator[tuple[Sample, StoredPlaces]]:
        """Each sample, and where it may be in its own segment."""
        for segment in sorted({sample.segment for sample in samples}):
            mine = [sample for sample in samples if sample.segment == segment]
            for first in range(0, len(mine), AT_ONCE):
                batch = mine[first : first + AT_ONCE]
                stretches = [sample.stretch for sample in batch]
                found = find_stored(
                    self._searcher, segment, stretches, CANDIDATES, self._max_bucket
                )
                yield from zip(batch, found, strict=True)

    def is_own(self, sample: Sample, places: StoredPlaces) -> bool:
        """Whether one of the likest places is where a sample stands, or a copy of it."""
        likest = places.likeness >= (1 - TIE) * places.likeness.max(initial=0.0)
        for at in np.flatnonzero(likest):
            gid = int(places.gid[at])
            if (gid, int(places.ordinal[at])) == (sample.gid, sample.ordinal):
                return True
            rows, there = self._searcher.codes.rows(sample.segment, gid + sample.stretch.number)
            if there.all() and np.array_equal(rows, sample.stretch.rows):
                return True
        return False

    def _cut(
        self, segment: int, gids: Ints, ordinals: Ints, firsts: Ints, ends: Ints
    ) -> list[Sample]:
        """The stretches that begin at `gids`, or so much earlier that their tracks hold them."""
        starts = np.clip(gids, firsts, np.maximum(firsts, ends - STRETCH))
        samples = []
        for ordinal, start, end in zip(ordinals, starts, ends, strict=True):
            numbers = np.arange(start, min(start + STRETCH, end))
            rows, heard = self._searcher.codes.rows(segment, numbers)
            if ordinal < 0 or not heard.any():
                continue
            numbers, rows = numbers[heard], rows[heard]
            codes = rows
            if self._searcher.embeddings:
                codes = self._codes(segment, numbers)
            gid = int(numbers[0])
            samples.append(Sample(segment, int(ordinal), gid, Stretch(numbers - gid, codes, rows)))
        return samples

    def _codes(self, segment: int, gids: Ints) -> Bytes:
        """The codes of snippets of one track, where matrices lead to embeddings instead.

        Raises: IndexFormatError where they are not there.
        """
        starts = self.tracks.starts[segment]
        part = int(np.searchsorted(starts, gids[0], side="right")) - 1
        place = segment, self._first_parts[segment] + part
        tables = []
        for kind, columns in (("codes", ["snippet", "code"]), ("tracks", ["snippets", "gids"])):
            path = self._paths.get((kind, *place))
            if path is None:
                raise IndexFormatError(
                    f"part {place[1]} of segment {segment} has no {kind}; run `hashbeam verify` on "
                    "the index"
                )
            tables.append(parquet.read_table(io.join(self._index, path), columns))
        codes, tracks = tables
        counts, spans = (tracks[name].to_numpy().astype(np.int64) for name in ("snippets", "gids"))
        wanted, rows = gids - starts[part], np.empty(0, np.int64)
        if counts.sum() == codes.num_rows:
            numbers = number_snippets(codes["snippet"].to_numpy(), counts, spans)
            rows = np.flatnonzero(np.isin(numbers, wanted))
        if rows.size != wanted.size:
            raise IndexFormatError(
                f"part {place[1]} of segment {segment} lacks codes of snippets that it has "
                "embeddings of; run `hashbeam verify` on the index"
            )
        chosen: Bytes = rows_of(codes["code"])[rows]
        return chosen
