"""What every worker must know of a search for pairs, and the folder that it is written to.

::

    OUT/pairs/part-*.parquet       MIDI files and their recordings, aligned
    OUT/duplicates/part-*.parquet  MIDI files that repeat another one
    OUT/failures/part-*.parquet    what could not be read, heard or aligned
    OUT/run.json                   counters; written last
    OUT/plan.json OUT/work/        what a stopped run goes on from; work/ is deleted at the end
"""

from __future__ import annotations

import dataclasses
import hashlib

import pyarrow as pa

from hashing.errors import CatalogError
from hashing.scores import MAX_SCORE_S, played_by
from hashing.titles import LEAST_SCORE, MOST
from pipelines import io
from pipelines.allowed import Allowed, allowed_now
from pipelines.catalog import catalog_digest
from pipelines.job_folder import claim
from pipelines.midi_folder import MidiFolder
from pipelines.time_maps import ALIGNMENT

FORMAT_VERSION = 1

FILES_PER_PART = 256  # MIDI files that are read: some seconds of work
PAIRS_PER_PART = 24  # pairs that are aligned: half a minute of work
PAIRS_PER_FILE = 4096  # of what is published: some 20 MB
# Seconds below which a song is left out: what is shorter lies somewhere in everything. The
# published system asks for 30 hashes of 0.37 s.
SHORTEST_S = 11.0
# Cells of an alignment, of a code of each side, 5 bytes each, or 0.75 GB: ten minutes against nine
# hours.
MAX_CELLS = 150_000_000

PAIRS = pa.schema(
    [
        ("midi_path", pa.string()),
        ("track_id", pa.string()),
        ("name_score", pa.float64()),
        ("confidence", pa.float64()),
        ("alignment", ALIGNMENT),
    ]
)
DUPLICATES = pa.schema([("midi_path", pa.string()), ("repeats", pa.string())])
FAILURES = pa.schema(
    [(n, pa.string()) for n in ("midi_path", "track_id", "uri", "stage", "error", "message")]
)


@dataclasses.dataclass(frozen=True)
class PairsOptions:
    """What ``hashbeam midi-pairs`` was asked to do.

    Fields: `catalog` a file, `midi` and `out` folders; `min_confidence` 0 to 1; `model` of
    sequences, a name or a folder; `soundfont` a path, `PLAIN`, or None for any; `allowed` is where
    uris may lead.
    """

    catalog: str
    midi: str
    out: str
    min_confidence: float
    model: str
    soundfont: str | None
    decode_timeout_s: float
    workers: int
    json: bool
    quiet: bool
    progress: bool
    allowed: Allowed = dataclasses.field(default_factory=allowed_now)


@dataclasses.dataclass(frozen=True)
class PairsJob:
    """A search for pairs; small, and sent to every worker.

    Attributes:
        options: as they were given.
        digest: of the model.
    """

    options: PairsOptions
    digest: str

    def path(self, *names: str) -> str:
        """Something in the folder of results."""
        return io.join(self.options.out, *names)

    @property
    def files_path(self) -> str:
        """The MIDI files, one row group a part."""
        return self.path("work", "files.parquet")

    @property
    def todo_path(self) -> str:
        """The pairs that are to be aligned, one row group a part."""
        return self.path("work", "todo.parquet")

    def part_path(self, stage: str, part: int) -> str:
        """What came of a part of the stage ``read`` or ``align``: whole, and so its own receipt."""
        return self.path("work", stage, part_file(part))

    def missing(self, stage: str, parts: int) -> list[int]:
        """The parts of a stage that are not finished."""
        written = set(io.list_dir(self.path("work", stage)))
        return [part for part in range(parts) if part_file(part) not in written]

    def finished(self, stage: str, parts: int) -> int:
        """How many parts of a stage are finished."""
        return parts - len(self.missing(stage, parts))


def part_file(part: int) -> str:
    """The name of a part: ``part-00012.parquet``."""
    return f"part-{part:05d}.parquet"


def parts_of(rows: int, size: int) -> int:
    """Parts of `size` rows each, the last one of fewer.

    >>> parts_of(0, 4), parts_of(4, 4), parts_of(5, 4)
    (0, 1, 2)
    """
    return -(-rows // size)


def check_titles(catalog: pa.Table, path: str) -> None:
    """Raises CatalogError where no track has a title: nothing could be matched by its name."""
    named = "title" in catalog.column_names
    if not named or catalog["title"].null_count == catalog.num_rows:
        what = "titles are all empty" if named else "there is no column title"
        raise CatalogError(
            f"{path}: {what}, and MIDI files are matched by their names; add the titles of tracks"
        )


def prepare(options: PairsOptions, digest: str, catalog: pa.Table, folder: MidiFolder) -> PairsJob:
    """The job, and its folder: a new one, or one with an unfinished run of the same job.

    Raises: HashbeamError where the folder holds anything else, or is finished.
    """
    names = hashlib.sha256()
    for column in ("title", "artist_name"):
        if column in catalog.column_names:
            names.update(repr(catalog[column].to_pylist()).encode())
    identity = [
        *(catalog_digest(catalog), names.hexdigest(), folder.digest),
        *(options.min_confidence, played_by(options.soundfont), digest),
        [SHORTEST_S, MAX_SCORE_S, MAX_CELLS, LEAST_SCORE, MOST, FILES_PER_PART, PAIRS_PER_PART],
    ]
    claim(
        options.out,
        FORMAT_VERSION,
        identity,
        results="pairs",
        others="pairs of another catalogue or folder, or found with other options",
    )
    return PairsJob(options, digest)
