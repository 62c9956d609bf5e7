"""An index of labelled clips, opened: all of its codes in memory, and what its tracks are called.

What is heard in a clip is in its labels, a column that the catalogue brought and ``tracks/`` has
kept. Codes are some bytes for two seconds, so that those of ten thousand hours are 0.3 GB.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.encoders import Hasher
from hashing.errors import IndexFormatError, ModelError, UsageError
from hashing.events.search import ClipIndex, HeardClip, Near
from hashing.events.words import WordVectors
from hashing.models import EVENTS_KIND
from pipelines import io, parquet
from pipelines.clip_labels import USUAL, label_column, labels_of
from pipelines.live import removed_ordinals
from pipelines.opened import find_hasher
from pipelines.stores import in_turn, is_remote
from pipelines.track_tables import unite
from pipelines.versions import Manifest, Segment, open_manifest

Ints = npt.NDArray[np.int64]

# Columns of ``tracks/`` that are kept of every recording, beside its labels.
TRACK_COLUMNS = ("track_id", "duration_s")

# Recordings whose labels are a guess at the query's.
GUESSED_BY = 10


def events_hasher(name_or_folder: str) -> Hasher:
    """A model of labelled sounds; raises `ModelError` where it is another kind of model."""
    return check_kind(Hasher.load(name_or_folder), f"model {name_or_folder}")


def check_kind(hasher: Hasher, what: str) -> Hasher:
    """`hasher`; raises `ModelError` where it is of another kind."""
    kind = hasher.model.config["kind"]
    if kind != EVENTS_KIND:
        raise ModelError(
            f"{what} is of kind {kind!r}, not {EVENTS_KIND!r}, which labelled clips need: name a "
            "model that `hashbeam train events` made, or the shipped one"
        )
    return hasher


@dataclasses.dataclass(frozen=True, eq=False)
class Clips:
    """A version of an index, opened.

    Attributes:
      hasher: its model.
      manifest: of the version.
      index: all codes of tracks that have not been removed.
      snippet: number of each code within its recording, [n].
      track_ids, durations_s, labels: of the recordings that ``index.recordings`` counts.
      column: of the labels; "" where there is none.
    """

    hasher: Hasher
    manifest: Manifest
    index: ClipIndex
    snippet: npt.NDArray[np.int32]
    track_ids: pa.ChunkedArray
    durations_s: npt.NDArray[np.float64]
    labels: pa.Table
    column: str

    def search(
        self,
        query: HeardClip,
        top: int,
        *,
        symmetric: bool = False,
        share: float | None = None,
        all_windows: bool = False,
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """The nearest recordings to a query as rows, and a guess at its label.

        Args:
          query: what was heard, or words.
          top: answers at most.
          symmetric, share: see `hashing.events.search.ClipIndex.nearest`.
          all_windows: windows, not one for each recording.
        """
        ask = functools.partial(
            self.index.nearest, query.responses, symmetric=symmetric, share=share
        )
        recordings = ask(max(GUESSED_BY, 0 if all_windows else top), one_each=True)
        rows = self._rows(query, recordings)
        return self._rows(query, ask(top)) if all_windows else rows[:top], guess(rows[:GUESSED_BY])

    def _rows(self, query: HeardClip, near: Near) -> list[dict[str, Any]]:
        recordings = self.index.recordings
        assert recordings is not None
        features = self.hasher.features
        window_s = features.snippet_samples / features.sample_rate

        def span(start_s: float, duration_s: float) -> tuple[float, float]:
            return round(start_s, 3), round(max(start_s, min(start_s + window_s, duration_s)), 3)

        chosen = pa.array(recordings[near.rows])
        ids = self.track_ids.take(chosen).to_pylist()
        labels = (
            labels_of(self.labels.take(chosen), self.column) if self.column else [()] * len(ids)
        )
        starts_s = self.snippet[near.rows] * features.snippet_hop_s
        out: list[dict[str, Any]] = []
        for at, row in enumerate(near.rows.tolist()):
            found = span(float(starts_s[at]), float(self.durations_s[recordings[row]]))
            heard: tuple[float | None, float | None] = None, None
            if query.start_s is not None:
                heard = span(float(query.start_s[near.windows[at]]), query.duration_s)
            out.append(
                {
                    "rank": at + 1,
                    "track_id": ids[at],
                    "labels": list(labels[at]),
                    "distance": round(float(near.distances[at]), 6),
                    **dict(zip(("start_s", "end_s"), found, strict=True)),
                    **dict(zip(("query_start_s", "query_end_s"), heard, strict=True)),
                }
            )
        return out

    def ask_words(self, text: str) -> tuple[HeardClip, list[str]]:
        """A text as a query, and its words that the model does not know.

        Raises: UsageError where it knows none of them, or no words at all.
        """
        words = WordVectors.from_model(self.hasher.model)
        if words is None:
            raise UsageError(
                f"--text: model {self.hasher.model.name} knows no words; ask with a recording"
            )
        try:
            vector, unknown = words.embed(text)
        except UsageError as error:
            raise UsageError(f"--text: {error}") from None
        return HeardClip(vector[None], None, 0.0), unknown


def guess(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The label that the nearest recordings speak for, and its share of all they say.

    A recording says as much as the cosine that its distance stands for; None where no near one has
    a label.

    >>> guess([{"labels": ["dog"], "distance": 0.5}, {"labels": ["cat", "dog"], "distance": 1.5}])
    {'label': 'dog', 'share': 0.8}
    """
    said: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        for label in row["labels"]:
            said[label] += max(0.0, 1 - row["distance"] / 2)
    total = sum(said.values())
    if not total:
        return None
    label = min(said, key=lambda one: (-said[one], one))
    return {"label": label, "share": round(said[label] / total, 3)}


def open_clips(
    index: str, model: str | None = None, column: str = "", manifest: Manifest | None = None
) -> Clips:
    """Open the published version of an index of labelled clips, or another one.

    Raises:
      ModelError: another model than the one that made the index, or an index of another kind.
      CatalogError: no such column of labels.
      IndexFormatError: a damaged index.
    """
    manifest = open_manifest(index) if manifest is None else manifest
    hasher = find_hasher(manifest, model)
    check_kind(hasher, f"the model of {index}, {hasher.model.name},")
    width = hasher.quantizer.code_bytes
    codes, snippets, tables, counts = [], [], [], []
    names = dict[str, None]()
    for segment in manifest.segments:
        for table, heard, packed in _read_segment(index, manifest, segment, width):
            names |= dict.fromkeys(table.column_names)
            wanted = (*TRACK_COLUMNS, *([column] if column else USUAL))
            tables.append(table.select([name for name in wanted if name in table.column_names]))
            counts.append(table["snippets"].to_numpy().astype(np.int64))
            snippets.append(heard)
            codes.append(packed)
    tracks = unite(tables) if tables else pa.table({"track_id": pa.array([], pa.string())})
    header = pa.table({name: pa.nulls(0) for name in names})
    named = label_column(header, f"--labels: tracks of {index}", column, required=False)
    per_track = np.concatenate([np.empty(0, np.int64), *counts])
    return Clips(
        hasher,
        manifest,
        ClipIndex(
            np.concatenate([np.empty((0, width), np.uint8), *codes]),
            _codebooks(hasher),
            np.repeat(np.arange(len(per_track), dtype=np.int32), per_track),
        ),
        np.concatenate([np.empty(0, np.int32), *snippets]),
        tracks["track_id"],
        tracks["duration_s"].to_numpy() if tables else np.empty(0),
        tracks.select([named] if named else []),
        named,
    )


def _codebooks(hasher: Hasher) -> Any:
    return hasher.model.arrays["codebooks"]


Read = tuple[pa.Table, npt.NDArray[np.int32], npt.NDArray[np.uint8]]


def _read_segment(index: str, manifest: Manifest, segment: Segment, width: int) -> Iterator[Read]:
    """Tracks, snippet numbers and codes of the live tracks of each part of a segment."""
    removed = removed_ordinals(index, segment)
    paths = {
        kind: dict(manifest.files.tuples("part", "path", kind=kind, segment=segment.id))
        for kind in ("tracks", "codes")
    }
    parts = sorted(paths["tracks"])
    if set(parts) != set(paths["codes"]):
        raise IndexFormatError(
            f"index {index}: segment {segment.id} has parts with tracks but no codes, or codes but "
            "no tracks; run `hashbeam verify` on it, then rebuild it"
        )

    def read(part: int) -> Read:
        table = parquet.read_table(io.join(index, paths["tracks"][part]), small=True)
        place = io.join(index, paths["codes"][part])
        found = parquet.read_table(place, ["snippet", "code"], small=True).combine_chunks()
        code = found["code"].combine_chunks()
        per_track = table["snippets"].to_numpy().astype(np.int64)
        if getattr(code.type, "byte_width", 0) != width or len(code) != per_track.sum():
            raise IndexFormatError(
                f"{place} holds {len(code)} codes of type {code.type}, not {per_track.sum()} of "
                f"{width} bytes; run `hashbeam verify` on the index"
            )
        data = np.frombuffer(code.buffers()[1], np.uint8, len(code) * width, code.offset * width)
        packed, heard = data.reshape(-1, width), found["snippet"].to_numpy()
        if not removed.size:
            return table, heard, packed
        live = ~np.isin(table["ordinal"].to_numpy().astype(np.int64), removed)
        kept = np.repeat(live, per_track)
        return table.filter(pa.array(live)), heard[kept], packed[kept]

    return in_turn(read, parts, is_remote(index))
