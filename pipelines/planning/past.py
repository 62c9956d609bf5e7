"""What an existing index tells about the next one: its speeds, and what its tracks became."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from pipelines import io, parquet
from pipelines.opened import embedding_dimensions, find_hasher
from pipelines.planning.content import CODES, USUAL, Content, Overhead, rows_overhead
from pipelines.planning.layout import plan_layout
from pipelines.planning.speeds import Speeds, TableSpeeds
from pipelines.summary import Summary, summary_of
from pipelines.versions import (
    ARTIST_EMBEDDINGS,
    SEQUENCES,
    Manifest,
    open_manifest,
    read_manifest,
    version_path,
)

FILES_LOOKED_AT = 16  # of a kind: enough to weigh a row, quick to fetch from a store


@dataclasses.dataclass(frozen=True)
class Past:
    """What an index tells.

    Attributes:
        content: what its tracks became.
        speeds: of the run that built it.
        audio_bytes_per_s: size of its files of audio by their length.
        notes: what a reader of the plan should know about it.
    """

    content: Content
    speeds: Speeds
    audio_bytes_per_s: float
    notes: list[str]


def read_past(index: str, model: str | None = None) -> Past:
    """Reads an index; of one that was reindexed, the run that built it if it is still there.

    Args:
        model: where the index's model is, if not where it was.

    Raises: HashbeamError where there is no index, or its run says too little; ModelError where its
        model is not there.
    """
    manifest = _first(index, open_manifest(index))
    summary = summary_of(index, manifest.version)
    if summary is None:
        path = version_path(index, manifest.version, "run.json")
        raise HashbeamError(f"{path} is missing: name another index with --from, or use --measure")
    content = _content(index, manifest, summary, find_hasher(manifest, model))
    speeds, notes = _speeds(manifest, summary, content)
    return Past(content, speeds, _audio_bytes_per_s(index, manifest), notes)


def _first(index: str, manifest: Manifest) -> Manifest:
    """The version that others were made from, as far back as they are still there."""
    while manifest.parent is not None:
        earlier = read_manifest(index, manifest.parent)
        if earlier is None:
            break
        manifest = earlier
    return manifest


def _content(index: str, manifest: Manifest, summary: Summary, hasher: Hasher) -> Content:
    files = manifest.files
    tracks = sum(segment.tracks for segment in manifest.segments)
    snippets = sum(segment.snippets for segment in manifest.segments)
    numbers = sum(sum(segment.part_gids) for segment in manifest.segments)
    if not tracks or not snippets:
        raise HashbeamError(f"{index} holds no tracks: name another index with --from")
    embeddings = files.select(kind="embeddings")
    plain = Content(hasher, embedding_dimensions(hasher) if len(embeddings) else 0)
    artists = files.select(kind=ARTIST_EMBEDDINGS)
    if len(artists):
        first = parquet.read_table(io.join(index, artists[0].path), ["embedding"])
        plain = dataclasses.replace(
            plain, artist_dimensions=first.schema.field("embedding").type.list_size
        )
    sequences = files.select(kind=SEQUENCES)
    if len(sequences):
        usual = USUAL[SEQUENCES]
        beside = (
            len(sequences) * usual.file_bytes + sum(sequences.column("rows")) * usual.track_bytes
        )
        rest = max(0.0, sum(sequences.column("bytes")) - beside)
        plain = dataclasses.replace(plain, sequence_bytes_per_s=rest / manifest.counters["audio_s"])
    possible = tracks * plain.possible(manifest.counters["audio_s"] / tracks)
    overheads: dict[str, Overhead] = {}
    for kind, width in {**plain.fixed_widths(), **plain.row_widths()}.items():
        chosen = files.select(kind=kind)
        usual = USUAL.get(kind, CODES)
        fixed = len(chosen) * usual.file_bytes + sum(chosen.column("rows")) * width
        rest = max(0.0, sum(chosen.column("bytes")) - fixed)
        overheads[kind] = Overhead(usual.file_bytes, rest / tracks)
    overheads["tracks"] = _tracks_overhead(index, manifest)
    return dataclasses.replace(
        plain,
        heard=snippets / possible if possible else 1.0,
        numbered=numbers / possible if possible else 1.0,
        balance=min(1.0, summary.entropy_bits / manifest.key_bits),
        overheads=overheads,
    )


def _speeds(manifest: Manifest, summary: Summary, content: Content) -> tuple[Speeds, list[str]]:
    if not summary.times_real_time_per_cpu or not summary.tables_cpu_s:
        raise HashbeamError(
            f"the run of {summary.index} had nothing to do, and tells no speeds: name another "
            "index with --from, or use --measure"
        )
    notes = []
    if summary.parts_resumed:
        notes.append("the run of --from was resumed: tables may have been counted in part only")
    # How much slower tables were built than on the machine of the constants.
    tables = manifest.files.tuples("path", "rows", kind="tables")
    built = sum(rows for path, rows in tables if manifest.is_own(path))
    usual = TableSpeeds.usual(content.hasher)
    tracks = sum(segment.tracks for segment in manifest.segments)
    snippets = sum(segment.snippets for segment in manifest.segments)
    layout = plan_layout(
        tracks, snippets, snippets, content.hasher.quantizer, key_bits=manifest.key_bits
    )
    if len(layout.segments) == len(manifest.segments):  # parts may have been cut otherwise
        cut = zip(layout.segments, manifest.segments, strict=True)
        as_cut = [dataclasses.replace(ranges, parts=segment.n_parts) for ranges, segment in cut]
        layout = dataclasses.replace(layout, segments=as_cut)
    share = built / max(1, layout.postings)
    factor = summary.tables_cpu_s / max(1e-9, usual.cpu_s(layout) * min(1.0, share))
    return (
        Speeds(
            hash_cpu_s_per_hour=3600 / summary.times_real_time_per_cpu,
            tables=usual.scaled(factor),
            start_s=max(0.0, summary.startup_s),
            worker_bytes=float(summary.max_rss_bytes),
            source=f"the run of {summary.index} ({summary.audio_s / 3600:.1f} h)",
        ),
        notes,
    )


def _tracks_overhead(index: str, manifest: Manifest) -> Overhead:
    tables = [
        parquet.read_table(io.join(index, path), small=True)
        for path in manifest.files.select(kind="tracks").column("path")[:FILES_LOOKED_AT]
    ]
    if len(tables) == 1 and tables[0].num_rows == 1:
        return Overhead(0.0, float(manifest.files.select(kind="tracks")[0].bytes))
    return rows_overhead(pa.concat_tables(tables, promote_options="permissive"))


def _audio_bytes_per_s(index: str, manifest: Manifest) -> float:
    """Mean over some of the tracks; 0 where their sizes are not known."""
    held, seconds = 0.0, 0.0
    for path in manifest.files.select(kind="tracks").column("path")[:FILES_LOOKED_AT]:
        table = parquet.read_table(io.join(index, path), ["size", "duration_s"], small=True)
        for size, duration_s in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if size is not None and duration_s:
                held, seconds = held + size, seconds + duration_s
    return held / seconds if seconds else 0.0
