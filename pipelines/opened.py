"""A published index, opened for look-up: its tables, its tracks, and the model that made it."""

from __future__ import annotations

import bisect
import functools
import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hashing.encoders import Hasher
from hashing.errors import IndexFormatError, ModelError
from hashing.gone import NOTHING, Gone
from hashing.matrix import HELD_BYTES, CodeMatrices, CodeMatrix
from hashing.models import list_models, load_model
from hashing.search import PROBES, Searcher
from hashing.shards import Shard, TableSet
from pipelines import io, parquet
from pipelines.pages import PageCache
from pipelines.remote_index import RemoteMatrices, RemoteTables
from pipelines.stores import is_remote, local, side_by_side
from pipelines.versions import Manifest, open_manifest

if TYPE_CHECKING:
    import pyarrow as pa

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]

# Of a file of removals, beside ``ordinal``: first snippet number of each track and its end, and how
# many of these have a snippet.
SPANS = ("first_gid", "end_gid", "snippets")
SPANNED = ("gids", "ordinal")  # the same of a file of tracks: all that locating one needs

# Parts of which is kept where their tracks begin, 8 bytes a track: the candidates of a query are
# spread over as many parts. Ten million tracks take 80 MB, 8,192 parts of 4,096 tracks 268 MB.
CACHED_PARTS = 8192
# Parts of which all columns are kept, for the answers: 2,442 rows a part at ten million tracks, so
# some 200 MB. An index that has no more of them is read once.
CACHED_ROWS = 512

# Parts of a segment that are read at once, when the first of them is met: a query meets most of
# them, and one search among all of their tracks takes as long as one among those of a part.
WHOLE_PARTS = 256


class IndexTracks:
    """The tracks of an index, read part by part when a look-up meets them.

    Parts are cut from the catalogue in order, so the snippet numbers of a segment tell the part,
    and the part's own file tells the track: nothing that grows with the index is read to open it.

    Args:
      index: the folder.
      manifest: of any version of it.
      read_ahead: read small segments whole when they are first met; see `open_index`.
    """

    def __init__(self, index: str, manifest: Manifest, read_ahead: bool = True) -> None:
        self._index = index
        self._whole_parts = WHOLE_PARTS if read_ahead else 0
        self._segments = {segment.id: segment for segment in manifest.segments}
        self.starts = {
            segment.id: np.concatenate(([0], np.cumsum(segment.part_gids))).astype(np.int64)
            for segment in manifest.segments
        }
        self._paths = {
            (segment, part): path
            for path, segment, part in manifest.files.tuples(
                "path", "segment", "part", kind="tracks"
            )
        }
        # Lowest ordinal and number of every part that has been read, in order, by segment.
        self._read: dict[int, list[tuple[int, int]]] = {}
        self._rows: OrderedDict[str, pa.Table] = OrderedDict()  # by path, used last at the end
        self._part = functools.lru_cache(maxsize=CACHED_PARTS)(self._read_part)
        self._whole = functools.lru_cache(maxsize=None)(self._read_whole)
        self._removals = functools.lru_cache(maxsize=None)(self._read_removals)

    def gone(self, segment: int) -> Gone:
        """Snippet numbers of removed tracks, which look-up passes over."""
        return self._removals(segment)[1]

    def locate(self, segment: int, gids: Ints) -> tuple[Ints, Ints, Ints]:
        """Ordinal of the track of each gid (-1: removed), its first snippet number and its end."""
        starts = self.starts[segment]
        if gids.size and gids.max() >= starts[-1]:
            raise IndexFormatError(
                f"index {self._index}: snippet number {gids.max()} of segment {segment} is that of "
                "no track; run `hashbeam verify` on it, then rebuild it"
            )
        if starts.size <= self._whole_parts:
            ordinals, firsts, ends = self._locate_in(self._whole(segment), gids)
        else:
            parts = np.searchsorted(starts, gids, side="right") - 1
            ordinals, firsts, ends = np.empty((3, gids.size), dtype=np.int64)
            met = np.unique(parts).tolist()
            self._fetch(segment, met)
            for part in met:
                chosen = parts == part
                found = self._locate_in(self._bounds(segment, part), gids[chosen])
                ordinals[chosen], firsts[chosen], ends[chosen] = found
        removed, _ = self._removals(segment)
        if removed.size:
            ordinals[np.isin(ordinals, removed)] = -1
        return ordinals, firsts, ends

    @staticmethod
    def _locate_in(tracks: tuple[Ints, Ints], gids: Ints) -> tuple[Ints, Ints, Ints]:
        bounds, ordinals = tracks
        at = np.searchsorted(bounds[:-1], gids, side="right") - 1
        return ordinals[at], bounds[at], bounds[at + 1]

    def _bounds(self, segment: int, part: int) -> tuple[Ints, Ints]:
        """First snippet number of each track of a part and the end of the last, and ordinals."""
        bounds, ordinals = self._part(segment, part)
        return bounds + self.starts[segment][part], ordinals.astype(np.int64)

    def _read_whole(self, segment: int) -> tuple[Ints, Ints]:
        """`_bounds` of all parts of a small segment."""
        heard = np.flatnonzero(np.diff(self.starts[segment])).tolist()
        self._fetch(segment, heard)
        parts = [self._bounds(segment, part) for part in heard]
        bounds = [np.zeros(1, dtype=np.int64), *(part_bounds[1:] for part_bounds, _ in parts)]
        return np.concatenate(bounds), np.concatenate([ordinals for _, ordinals in parts])

    def span(self, segment: int, ordinal: int) -> tuple[int, int] | None:
        """First snippet number and end of a track, be it removed or not; None: there is no such.

        Reads the parts that a binary search meets.
        """
        starts = self.starts[segment]
        low, high = 0, starts.size - 1
        while low < high:
            middle = (low + high) // 2
            part = middle
            while part < high and starts[part] == starts[part + 1]:
                part += 1  # it has no track, and so no file
            if part == high:
                high = middle
                continue
            bounds, ordinals = self._bounds(segment, part)
            if ordinal < ordinals[0]:
                high = middle
            elif ordinal > ordinals[-1]:
                low = part + 1
            else:
                at = int(np.searchsorted(ordinals, ordinal))
                found = ordinals[at] == ordinal
                return (int(bounds[at]), int(bounds[at + 1])) if found else None
        return None

    def row(self, segment: int, ordinal: int) -> dict[str, Any]:
        """What the catalogue says about a track that `locate` has given."""
        # Ordinals rise from part to part.
        read = self._read[segment]
        _, part = read[bisect.bisect(read, (ordinal, math.inf)) - 1]
        _, ordinals = self._part(segment, part)
        path = self._path(segment, part)
        if path not in self._rows:
            self._keep(path, parquet.read_table(io.join(self._index, path), small=True))
        self._rows.move_to_end(path)
        at = int(np.searchsorted(ordinals, ordinal))
        (row,) = self._rows[path].slice(at, 1).to_pylist()
        return dict(row)

    def _fetch(self, segment: int, parts: list[int]) -> None:
        """Reads parts that have not been read yet side by side, where a store is far away."""
        if not is_remote(self._index):
            return
        read = {part for _, part in self._read.get(segment, ())}
        first = self._segments[segment].first_part
        paths = [self._paths.get((segment, first + part)) for part in parts if part not in read]
        known = [path for path in paths[:CACHED_ROWS] if path is not None]
        tables = side_by_side(lambda path: parquet.read_table(io.join(self._index, path)), known)
        for path, table in zip(known, tables, strict=True):
            self._keep(path, table)

    def _keep(self, path: str, table: pa.Table) -> None:
        self._rows[path] = table
        while len(self._rows) > CACHED_ROWS:
            self._rows.popitem(last=False)

    def _path(self, segment: int, part: int) -> str:
        path: str | None = self._paths.get((segment, self._segments[segment].first_part + part))
        if path is None:
            raise IndexFormatError(
                f"index {self._index}: part {part} of segment {segment} has snippets but no "
                "tracks; run `hashbeam verify` on it, then rebuild it"
            )
        return path

    def _read_part(self, segment: int, part: int) -> tuple[Words, Words]:
        """`_bounds` counted from the part's own first number; both fit into 32 bits."""
        path = self._path(segment, part)
        table = self._rows.get(path)
        if table is None and len(self._paths) <= CACHED_ROWS:
            table = parquet.read_table(io.join(self._index, path))
            self._keep(path, table)
        elif table is None:
            table = parquet.read_table(io.join(self._index, path), SPANNED, small=True)
        ends = np.cumsum(table["gids"].to_numpy(), dtype=np.uint32)
        ordinals = table["ordinal"].to_numpy().astype(np.uint32)
        read = self._read.setdefault(segment, [])
        if (place := (int(ordinals[0]), part)) not in read:
            bisect.insort(read, place)
        return np.concatenate((np.zeros(1, np.uint32), ends)), ordinals

    def _read_removals(self, segment: int) -> tuple[Ints, Gone]:
        """Ordinals of removed tracks, and their snippet numbers."""
        removals = self._segments[segment].removals
        if removals is None:
            return np.empty(0, dtype=np.int64), NOTHING
        table = parquet.read_table(io.join(self._index, removals.path), ["ordinal", *SPANS])
        ordinals, first, end, snippets = (
            table[name].to_numpy().astype(np.int64) for name in ("ordinal", *SPANS)
        )
        return ordinals, Gone(first, end, int(snippets.sum()))


def open_index(
    index: str,
    model: str | None = None,
    probes: int = PROBES,
    *,
    manifest: Manifest | None = None,
    hasher: Hasher | None = None,
    read_ahead: bool = True,
) -> tuple[Searcher, IndexTracks, Manifest]:
    """Open the published version of an index, or another one, for look-up.

    Args:
      index: the folder; on a disk its tables and code matrices are memory-mapped, elsewhere what
        a look-up needs of them is read by byte ranges and kept, within bounds.
      model: name or folder of the model, where it is not a shipped one.
      probes: keys looked up for each snippet and table.
      manifest: of the version, which need not be published yet; None: the published one.
      hasher: its model, where that is open already; `model` is then passed over.
      read_ahead: read small segments whole when they are first met, which makes many queries
        faster and a handful slower.

    Raises:
      IndexFormatError: no published index there, or a damaged one.
      ModelError: another model than the one that made the index; both digests are named.
    """
    manifest = open_manifest(index) if manifest is None else manifest
    hasher = find_hasher(manifest, model) if hasher is None else hasher
    shards = shard_places(index, manifest)
    cache = PageCache() if is_remote(index) else None
    tables = (
        TableSet(shards, manifest.n_tables, manifest.key_bits, open_shard=Shard.open)
        if cache is None
        else RemoteTables(
            shards, manifest.n_tables, manifest.key_bits, _sizes(index, manifest), cache
        )
    )
    tracks = IndexTracks(index, manifest, read_ahead)
    snippets = sum(
        segment.snippets - tracks.gone(segment.id).snippets for segment in manifest.segments
    )
    searcher = Searcher(
        hasher,
        tables,
        _open_codes(index, manifest, hasher, tracks, cache, HELD_BYTES if read_ahead else 0),
        tracks,
        manifest.key_bits,
        math.ceil(snippets * manifest.replication),
        probes,
        embeddings=manifest.compared == "embeddings",
    )
    return searcher, tracks, manifest


def _open_codes(
    index: str,
    manifest: Manifest,
    hasher: Hasher,
    tracks: IndexTracks,
    cache: PageCache | None,
    held_bytes: int,
) -> CodeMatrices:
    base = local(index).rstrip("/")
    first_parts = {segment.id: segment.first_part for segment in manifest.segments}
    columns = ("path", "segment", "part")
    shards = {
        (segment, part): path
        for path, segment, part in manifest.files.tuples(*columns, kind=manifest.compared)
    }
    places = []
    for path, segment, part in manifest.files.tuples(*columns, kind="matrices"):
        shard = shards.get((segment, part))
        if shard is None:
            raise IndexFormatError(
                f"index {index}: part {part} of segment {segment} has a code matrix but no "
                f"{manifest.compared}; run `hashbeam verify` on it, then rebuild it"
            )
        own = part - first_parts[segment]
        places.append((f"{base}/{path}", f"{base}/{shard}", segment, own))
    width = hasher.quantizer.code_bytes
    if manifest.compared == "embeddings":
        width = 2 * embedding_dimensions(hasher)  # float16
    if cache is not None:
        return RemoteMatrices(places, tracks.starts, width, _sizes(index, manifest), cache)
    return CodeMatrices(places, tracks.starts, width, CodeMatrix.open, held_bytes=held_bytes)


def _sizes(index: str, manifest: Manifest) -> dict[str, int]:
    """Bytes of every file, by its path."""
    base = local(index).rstrip("/")
    return {f"{base}/{path}": size for path, size in manifest.files.tuples("path", "bytes")}


def shard_places(index: str, manifest: Manifest) -> Iterable[tuple[str, int, int, int, int]]:
    """``(path, segment, table, key_lo, key_hi)`` of every shard, as `TableSet` takes them."""
    columns = ("path", "segment", "table", "key_lo", "key_hi")
    base = local(index).rstrip("/")
    for path, *place in manifest.files.tuples(*columns, kind="tables"):
        yield (f"{base}/{path}", *place)


def embedding_dimensions(hasher: Hasher) -> int:
    """Numbers of a snippet's embedding; 0 where the model has none."""
    features = hasher.features
    snippet = np.zeros((1, features.n_bands, features.snippet_frames), dtype=np.float32)
    embeddings = hasher.respond(snippet).embeddings
    return 0 if embeddings is None else int(embeddings.shape[1])


def find_hasher(manifest: Manifest, model: str | None) -> Hasher:
    """The model that made an index: the named one, a shipped one, or where it was at the time.

    Raises `ModelError` where it is not there or has another digest.
    """
    wanted = manifest.model["digest"]
    name, path = manifest.model["name"], manifest.model.get("path")
    if model is None:
        model = name if path is None and name in list_models() else path or name
    found = load_model(model)
    if found.digest != wanted:
        raise ModelError(
            f"the index was made by model {name} with digest {wanted[:16]}, {found.path} has "
            f"digest {found.digest[:16]}: name the model that made it with --model, or index anew"
        )
    return Hasher(found)
