"""Every class of change, on a disk and on ``gs://``: the same tests for both."""

from __future__ import annotations

from pathlib import Path

import pytest
from quick_index import QuickJobs, broken, song
from stored_songs import StoredSongs

from pipelines import io
from pipelines.also import ALSO
from pipelines.changes.classes import CLASSES, Changes
from pipelines.stores import is_remote


def counted(changes: Changes) -> dict[str, int]:
    found = {name: int(changes.counts[f"tracks_{name}"]) for name in CLASSES}
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("etags", [False, True])
def test_every_class_of_change(root: str, model: Path, jobs: QuickJobs, etags: bool) -> None:
    songs = StoredSongs(root, etags)
    for number in range(12):
        songs.put(f"s{number:02d}", song(number, number), title=f"Song {number}")
    songs.put("f0", broken(0), title="Broken")
    songs.put("f1", broken(1), title="Broken, too")
    songs.build(model, also=tuple(ALSO))
    songs.check()

    # Nothing has changed; what has an etag is not even looked at.
    jobs.decoder.heard.clear()
    result = songs.update()
    assert result.summary is None
    assert counted(result.changes) == {"unchanged": 12, "failed": 2}
    assert result.changes.counts["files_looked_at"] == (0 if etags else 14)
    assert result.changes.counts["contents_compared"] == 0
    assert jobs.decoder.heard == []

    songs.put("s00", song(0, 1000))  # of another size
    songs.put("s01", song(1, 8))  # of the same size
    songs.move("s02", "elsewhere/s02.song")
    songs.rows["s03"]["title"] = "Another title"
    songs.move("s04", "s04.song2", "renamed")
    songs.rows["again"] = songs.rows.pop("s05")  # another id, the same file
    del songs.rows["s06"]
    songs.put("f1", song(20, 20))
    songs.put("n0", song(21, 21), title="New")
    songs.put("n1", broken(2), title="New and broken")
    io.remove(songs.path("s07.song"))

    seen = songs.update().changes
    # A generation says that the bytes were written, not what they are: a file that was copied to
    # another name has another one.
    moved = ("changed", "etag") if etags else ("moved", "content")
    told = "etag" if etags else None
    assert {row["track_id"]: (row["class"], row["reason"]) for row in seen.table.to_pylist()} == {
        "s00": ("changed", told or "size"),
        "s01": ("changed", told or "mtime"),
        "s02": moved,
        "s03": ("edited", "row"),
        "renamed": ("renamed", "content"),
        "again": ("renamed", "mtime"),
        "s06": ("removed", "id"),
        "s07": ("changed", "gone"),
        "f0": ("failed", "etag" if etags else "mtime"),
        "f1": ("retried", told or "size"),
        "n0": ("new", "id"),
        "n1": ("new", "id"),
    }
    # On a disk the decoder finds out itself that s07 is not there.
    assert len(jobs.decoder.heard) == 5 + etags + (not is_remote(root))

    fresh = io.join(root, "fresh.index")
    songs.build(model, fresh, also=tuple(ALSO))
    assert songs.held() == songs.held(fresh)
    assert songs.update().summary is None


def test_force_and_retry(root: str, model: Path, jobs: QuickJobs) -> None:
    songs = StoredSongs(root)
    for number in range(3):
        songs.put(f"s{number}", song(number, number))
    songs.put("f", broken(0))
    songs.build(model)
    jobs.decoder.heard.clear()
    assert counted(songs.update(retry_failed=True).changes) == {"unchanged": 3, "retried": 1}
    assert len(jobs.decoder.heard) == 1
    assert counted(songs.update(force=True).changes) == {"changed": 3, "retried": 1}
    assert len(jobs.decoder.heard) == 5
    assert set(songs.held().codes) == {"s0", "s1", "s2"}
