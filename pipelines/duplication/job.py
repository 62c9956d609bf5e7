"""What every worker must know of a search for duplicates, and the folder that it is written to.

::

    OUT/duplicates.parquet      pairs of tracks that share audio
    OUT/groups.parquet          tracks that are one recording
    OUT/run.json                counters; written last
    OUT/plan.json OUT/work/     what a stopped run goes on from; work/ is deleted at the end
"""

from __future__ import annotations

import dataclasses

from hashing.joining import JoinRules
from pipelines import io
from pipelines.job_folder import claim
from pipelines.records import Record
from pipelines.versions import Manifest

FORMAT_VERSION = 1

# Of a pair of snippets one must be every fourth of its track, a second apart: copies have hundreds
# of pairs, and those that keep only one in fifty still have the votes that are asked for.
EVERY = 4
# Tables that are joined, of the 13 of the default model. With four of them and keys as long as ten
# million tracks have, half as many excerpts and noisy copies again are missed; thirteen find one
# more in forty, for two thirds more of work.
TABLES = 8
# Postings of a bucket at most. Longer ones are silence, drones and test tones; the pairs of a
# bucket grow with its square. The price: of a recording that stands more often than that in a
# catalogue with equal keys, those buckets are not joined.
MAX_BUCKET = 64
# Votes that must agree on a shift: two are chance for one pair in ten of 523 tracks.
MIN_VOTES = 3
# Shifts at which a pair of tracks is compared: a loop repeats, and one of its shifts is the best.
MOST_SHIFTS = 4
# Owners of a part: at 120 s of music each some eight million pairs of snippets, or 100 MB.
TRACKS_PER_PART = 2048


@dataclasses.dataclass(frozen=True)
class DuplicatesOptions:
    """What ``hashbeam duplicates`` was asked to do.

    Fields: `index`, `out` folders; `model` where it is not a shipped one; `every` snippets of a
    track one is on the grid; `tables` that are joined; `max_bucket` postings; `min_score` 0 to 1.
    """

    index: str
    out: str
    model: str | None
    every: int
    tables: int
    max_bucket: int
    min_score: float
    workers: int
    json: bool
    quiet: bool
    progress: bool

    @property
    def rules(self) -> JoinRules:
        """How buckets become pairs."""
        return JoinRules(self.every, self.max_bucket)


@dataclasses.dataclass(frozen=True)
class Block:
    """A range of keys of a table, and the shards of all segments that reach into it."""

    table: int
    number: int
    key_lo: int
    key_hi: int
    shards: list[tuple[int, str]]

    @property
    def name(self) -> str:
        """What its receipt is called: ``t07-k0003``."""
        return f"t{self.table:02d}-k{self.number:04d}"


@dataclasses.dataclass(frozen=True)
class BlockReceipt(Record):
    """A block that was joined: its files of pairs, written whole before this, and its counts."""

    name: str
    files: list[str]
    postings: int
    long_buckets: int
    long_postings: int
    pairs: int
    cpu_s: float


@dataclasses.dataclass(frozen=True)
class DuplicatesJob:
    """A search for duplicates; small, and sent to every worker.

    `tracks` counts the removed ones too.
    """

    options: DuplicatesOptions
    tracks: int

    @property
    def n_parts(self) -> int:
        """Parts into which the owners of pairs are cut."""
        return max(1, -(-self.tracks // TRACKS_PER_PART))

    def path(self, *names: str) -> str:
        """Something in the folder of results."""
        return io.join(self.options.out, *names)

    def block_path(self, name: str) -> str:
        """Where the receipt of a block stands."""
        return self.path("work", "blocks", f"{name}.json")

    def pairs_path(self, name: str, number: int) -> str:
        """A file of pairs of snippets."""
        return self.path("work", "pairs", f"{name}-{number:04d}.pairs")

    def part_path(self, part: int) -> str:
        """The pairs of tracks of a part: written whole, and so its own receipt."""
        return self.path("work", "parts", self.part_file(part))

    @staticmethod
    def part_file(part: int) -> str:
        """What it is called there: ``part-00012.parquet``."""
        return f"part-{part:05d}.parquet"


def plan_blocks(index: str, manifest: Manifest, tables: int) -> list[Block]:
    """The blocks of the first `tables` tables.

    A table is cut where its largest segment is, so that each of that segment's shards is read once;
    a shard of a smaller one is read for every block that it reaches into.
    """
    columns = ("table", "segment", "key_lo", "key_hi", "path")
    shards: dict[int, dict[int, list[tuple[int, int, str]]]] = {}
    for table, segment, *place in manifest.files.tuples(*columns, kind="tables"):
        if table < tables:
            shards.setdefault(table, {}).setdefault(segment, []).append(tuple(place))
    blocks = []
    for table, segments in sorted(shards.items()):
        cuts = max(map(sorted, segments.values()), key=len)
        for number, (low, high, _) in enumerate(cuts):
            reaching = [
                (segment, io.join(index, path))
                for segment, places in sorted(segments.items())
                for key_lo, key_hi, path in sorted(places)
                if key_lo < high and key_hi > low
            ]
            blocks.append(Block(table, number, low, high, reaching))
    return blocks


def prepare(options: DuplicatesOptions, manifest: Manifest) -> DuplicatesJob:
    """The job, and its folder: a new one, or one with an unfinished run of the same job.

    Raises: HashbeamError where the folder holds anything else, or is finished.
    """
    identity = [
        manifest.version,
        manifest.created,
        manifest.model["digest"],
        manifest.catalog_digest,
        manifest.key_bits,
        options.every,
        options.tables,
        options.max_bucket,
        options.min_score,
        [MIN_VOTES, MOST_SHIFTS, TRACKS_PER_PART],
    ]
    claim(
        options.out,
        FORMAT_VERSION,
        identity,
        results="duplicates",
        others="duplicates of another index or version, or found with other options",
    )
    return DuplicatesJob(options, sum(segment.tracks for segment in manifest.segments))
