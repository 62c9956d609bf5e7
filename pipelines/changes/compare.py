"""One partition of a catalogue against the same partition of a version: columns, not rows.

What says whether a file has changed, in the order of trust: two etags decide alone, and no file is
looked at; then another size; then the modification time; then, where a store tells none, a checksum
of samples of the content. Under another uri times and sizes say nothing: there only an etag with
the size, or the content, makes it the same file.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hashing.errors import IndexFormatError
from pipelines.changes.classes import CLASSES, PLACED, REASONS, Asked, rows_of
from pipelines.file_state import FILE_STATE
from pipelines.live import failed_beside
from pipelines.look import GONE, checksums, look_at

Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int8]

CLASS = {name: number for number, name in enumerate(CLASSES)}
REASON = {name: number for number, name in enumerate(REASONS)}
_SAME, _DIFFERENT, _MOVED, _OPEN = range(4)
_TOLD = 3  # ids in a message


@dataclasses.dataclass(frozen=True)
class Files:
    """How files are looked at; the functions of `pipelines.look`, or others in tests."""

    look: Callable[[Sequence[str]], tuple[Any, Any]] = look_at
    checksums: Callable[[Sequence[str]], list[bytes | None]] = checksums


def compare(
    catalog: pa.Table, indexed: pa.Table, failed: pa.Table, asked: Asked, files: Files
) -> tuple[pa.Table, Counter[str]]:
    """What has changed in a partition.

    Args:
      catalog, indexed, failed: as `pipelines.changes.sides` makes them, of the same range or hash
        of track_ids, in any order; of failures with one id the first counts.
      asked: what was asked for.
      files: how to look at files.

    Returns:
      All rows but the unchanged, as `classes.CHANGES`, in no order, and the counts of
      `classes.Changes` that can be summed.

    Raises:
      IndexFormatError: a track_id is live twice in the version.
    """
    _check_once(indexed["track_id"])
    at = _positions(catalog["track_id"], indexed["track_id"])
    failed_at = _positions(catalog["track_id"], failed["track_id"])
    live, known = at >= 0, (at >= 0) | (failed_at >= 0)
    audio_s: Any = pc.sum(indexed["duration_s"]).as_py() or 0.0
    counts = Counter[str](tracks_live=indexed.num_rows, audio_live_s=audio_s)
    new = catalog.filter(pa.array(~known))
    parts = [_catalog_rows(new, "new", "id")]
    kept = catalog.filter(pa.array(known))
    before = _before(indexed, failed, at[known], failed_at[known])
    found = _Judgement(kept, before, live[known])
    if asked.force:
        found.settle(found.open, _DIFFERENT, "forced")
    found.judge(files, counts)
    unheard = failed.filter(failed_beside(failed))["track_id"]
    classes = found.classes(asked.retry_failed, _positions(kept["track_id"], unheard) >= 0)
    shown = classes != CLASS["unchanged"]
    counts["tracks_unchanged"] = int((~shown).sum())
    parts.append(found.rows(classes, shown))
    lost = _positions(failed["track_id"], catalog["track_id"]) < 0
    lost &= _positions(failed["track_id"], indexed["track_id"]) < 0
    counts["failures_gone"] = int(lost.sum())
    gone = _positions(indexed["track_id"], catalog["track_id"]) < 0
    parts.append(_removed_rows(indexed.filter(pa.array(gone))))
    return pa.concat_tables(parts), counts


class _Judgement:
    """Rows that both sides have: what is known of each file, and what became of it."""

    def __init__(self, kept: pa.Table, before: pa.Table, live: Bools) -> None:
        self._kept, self._before, self._live = kept, before, live
        self._verdicts = np.full(kept.num_rows, _OPEN, np.int8)
        self._reasons = np.zeros(kept.num_rows, np.int8)
        self._sizes = np.full(kept.num_rows, GONE, np.int64)
        self._times = np.full(kept.num_rows, np.nan)
        self._contents = np.full(kept.num_rows, None, object)
        self._looked = np.zeros(kept.num_rows, bool)

    @property
    def open(self) -> Bools:
        """Rows that nothing has decided yet."""
        rows: Bools = self._verdicts == _OPEN
        return rows

    def settle(self, rows: Bools, verdict: int, reason: str) -> None:
        """Decides those of `rows` that are open."""
        rows = rows & self.open
        self._verdicts[rows], self._reasons[rows] = verdict, REASON[reason]

    def judge(self, files: Files, counts: Counter[str]) -> None:
        """Decides all rows, each by the first evidence that both sides have."""
        before = self._before
        same_uri = _truth(pc.equal(self._kept["uri"], before["uri"]))
        etags = is_known(self._kept["etag"]) & is_known(before["etag"])
        alike = etags & _truth(pc.equal(self._kept["etag"], before["etag"]))
        sized = _valid(before["size"])  # else no file was there when it failed
        self.settle(etags & ~alike & sized, _DIFFERENT, "etag")
        self.settle(alike & same_uri & sized, _SAME, "etag")
        self._look(files, counts)
        missing = self._sizes == GONE
        self.settle(missing & ~sized & same_uri, _SAME, "gone")
        self.settle(missing, _DIFFERENT, "gone")
        self.settle(~sized, _DIFFERENT, "found")
        old_sizes = pc.fill_null(before["size"], GONE).to_numpy()
        self.settle(self._sizes != old_sizes, _DIFFERENT, "size")
        self.settle(alike, _MOVED, "etag")
        old_times = pc.fill_null(before["mtime"], np.nan).to_numpy()
        timed = same_uri & ~np.isnan(old_times) & ~np.isnan(self._times)
        self.settle(timed & (old_times == self._times), _SAME, "mtime")
        self.settle(timed, _DIFFERENT, "mtime")
        self._compare_contents(files, counts, same_uri)
        self.settle(same_uri, _SAME, "size")
        self.settle(self.open, _DIFFERENT, "uri")

    def classes(self, retry_failed: bool, unheard: Bools) -> Numbers:
        """The class of each row; `unheard` are live tracks that failed beside being hashed."""
        kept, before, live = self._kept, self._before, self._live
        same, moved = self._verdicts == _SAME, self._verdicts == _MOVED
        classes = np.full(kept.num_rows, CLASS["changed"], np.int8)
        edited = _truth(pc.not_equal(kept["described"], before["described"]))
        # An etag that is new spares the next run the look at the file.
        edited |= is_known(kept["etag"]) & ~is_known(before["etag"])
        classes[same] = CLASS["unchanged"]
        classes[same & edited] = CLASS["edited"]
        classes[moved] = CLASS["moved"]
        classes[~live] = CLASS["retried"]
        classes[~live & same] = CLASS["failed"]
        if retry_failed:
            again = live & unheard & (same | moved)
            classes[again] = CLASS["changed"]
            again |= ~live & same
            classes[again & ~live] = CLASS["retried"]
            self._reasons[again] = REASON["retry"]
        self._reasons[classes == CLASS["edited"]] = REASON["row"]
        return classes

    def rows(self, classes: Numbers, shown: Bools) -> pa.Table:
        """The chosen rows as `classes.CHANGES`."""
        seen = self._looked & (self._sizes != GONE)
        columns = {name: self._kept[name] for name in ("track_id", "row", "uri", "etag")}
        columns |= {name: self._before[name] for name in (*PLACED, "duration_s")}
        columns["size"] = pa.array(self._sizes, mask=~seen)
        columns["mtime"] = pa.array(self._times, mask=~seen | np.isnan(self._times))
        columns["content"] = pa.array(self._contents, FILE_STATE["content"])
        table = rows_of(classes, self._reasons, columns)
        return table.filter(pa.array(shown))

    def _look(self, files: Files, counts: Counter[str]) -> None:
        (rows,) = np.nonzero(self.open)
        if rows.size:
            sizes, times = files.look(_texts(self._kept["uri"], rows))
            self._sizes[rows], self._times[rows], self._looked[rows] = sizes, times, True
        counts["files_looked_at"] += rows.size

    def _compare_contents(self, files: Files, counts: Counter[str], same_uri: Bools) -> None:
        old = self._before["content"]
        (rows,) = np.nonzero(self.open & _valid(old))
        if not rows.size:
            return
        found = files.checksums(_texts(self._kept["uri"], rows))
        self._contents[rows] = found
        contents = pa.array(found, FILE_STATE["content"])
        equal = np.zeros(len(same_uri), bool)
        equal[rows] = _truth(pc.equal(contents, old.take(pa.array(rows)).combine_chunks()))
        asked = np.zeros(len(same_uri), bool)
        asked[rows] = True
        self.settle(asked & equal & same_uri, _SAME, "content")
        self.settle(asked & equal, _MOVED, "content")
        self.settle(asked, _DIFFERENT, "content")
        counts["contents_compared"] += rows.size


def _before(indexed: pa.Table, failed: pa.Table, at: Any, failed_at: Any) -> pa.Table:
    """What the version has of each row: of the live track, else of the failure."""
    live = indexed.take(pa.array(at, mask=at < 0))
    if not failed.num_rows:
        return live
    lost = failed.take(pa.array(failed_at, mask=(failed_at < 0) | (at >= 0)))
    is_live = pa.array(at >= 0)
    columns = {
        name: pc.if_else(is_live, live[name], lost[name])
        if name in lost.column_names
        else live[name]
        for name in live.column_names
    }
    return pa.table(columns)


def _catalog_rows(table: pa.Table, name: str, reason: str) -> pa.Table:
    numbers = np.full(table.num_rows, CLASS[name]), np.full(table.num_rows, REASON[reason])
    columns = {column: table[column] for column in ("track_id", "row", "uri", "etag")}
    return rows_of(*numbers, columns)


def _removed_rows(table: pa.Table) -> pa.Table:
    numbers = np.full(table.num_rows, CLASS["removed"]), np.full(table.num_rows, REASON["id"])
    return rows_of(*numbers, {name: table[name] for name in table.column_names})


def _check_once(ids: Any) -> None:
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    counted = pc.value_counts(ids)
    twice = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    raise IndexFormatError(
        f"{len(twice)} tracks are live twice in the version, such as "
        f"{', '.join(twice[:_TOLD].to_pylist())}; run `hashbeam verify` on the index"
    )


def _positions(wanted: Any, among: Any) -> Any:
    """The place of each text among others, the first where it is there twice; -1: not there."""
    if not len(among):
        return np.full(len(wanted), -1)
    found = pc.index_in(wanted, value_set=among.combine_chunks())
    return pc.fill_null(found, -1).to_numpy()


def _texts(column: Any, rows: Any) -> list[str]:
    texts: list[str] = column.take(pa.array(rows)).to_pylist()
    return texts


def is_known(column: Any) -> Bools:
    """Where a text is neither null nor empty."""
    return _truth(pc.not_equal(column, ""))


def _valid(column: Any) -> Bools:
    valid: Bools = column.is_valid().to_numpy()
    return valid


def _truth(condition: Any) -> Bools:
    """A condition as bools: unknown is false."""
    truth: Bools = pc.fill_null(condition, False).to_numpy(zero_copy_only=False)
    return truth
