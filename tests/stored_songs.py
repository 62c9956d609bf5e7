"""A catalogue of songs of a few bytes in any store, and the index of it (`quick_index`)."""

from __future__ import annotations

import csv
import dataclasses
import io as std_io
from pathlib import Path
from typing import Any

from quick_index import Contents, build, contents, update

from pipelines import io
from pipelines.reindexing.run import Result
from pipelines.summary import Summary
from pipelines.verify import verify_files
from pipelines.versions import Manifest, open_manifest


@dataclasses.dataclass
class StoredSongs:
    """Songs below a folder of a store, the rows of their catalogue, and an index beside them.

    Attributes:
        rows: track_id → its row.
        etags: whether the catalogue has what the store says of a file: on ``gs://`` the generation.
    """

    root: str
    etags: bool = False
    rows: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def index(self) -> str:
        return io.join(self.root, "songs.index")

    def path(self, name: str) -> str:
        """A file of the catalogue's folder."""
        return io.join(self.root, "songs", name)

    def put(self, track_id: str, data: bytes, uri: str = "", **row: str) -> None:
        """A track with its file; the row is made, or changed where it is there."""
        uri = uri or self.rows.get(track_id, {}).get("uri", f"{track_id}.song")
        io.write_bytes(self.path(uri), data)
        self.rows[track_id] = {**self.rows.get(track_id, {}), "uri": uri, **row}

    def move(self, track_id: str, uri: str, new_id: str = "") -> None:
        """Another name for the file of a track, as a copy that is deleted; perhaps another id."""
        row = self.rows.pop(track_id)
        io.write_bytes(self.path(uri), io.read_bytes(self.path(row["uri"])))
        io.remove(self.path(row["uri"]))
        self.rows[new_id or track_id] = {**row, "uri": uri}

    def catalog(self) -> str:
        """Writes the catalogue; its path."""
        rows = [{"track_id": track_id, **row} for track_id, row in self.rows.items()]
        if self.etags:
            for row in rows:
                found = io.read_stamped(self.path(row["uri"]))
                row["etag"] = "" if found is None else found.stamp
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = std_io.StringIO()
        writer = csv.DictWriter(text, names)
        writer.writeheader()
        writer.writerows(rows)
        io.write_bytes(self.path("catalog.csv"), text.getvalue().encode())
        return self.path("catalog.csv")

    def build(self, model: Path, index: str = "", **options: Any) -> Summary:
        """``hashbeam index`` within `quick_jobs`."""
        return build(self.catalog(), index or self.index, model, **options)

    def update(self, **options: Any) -> Result:
        """``hashbeam reindex`` within `quick_jobs`; what it published is whole."""
        result = update(self.catalog(), self.index, **options)
        self.check()
        return result

    def check(self) -> Manifest:
        """The published version is whole, and nothing else lies about in its folder."""
        manifest = open_manifest(self.index)
        assert verify_files(self.index, manifest) == []
        left = set(io.list_files(self.index))
        assert manifest.every_file().keys() <= left
        assert not any("/work/" in name or name.endswith(".tmp") for name in left)
        assert "LOCK" not in left
        return manifest

    def held(self, index: str = "") -> Contents:
        """What the published version holds."""
        return contents(index or self.index)
