"""The end of an index run: receipts become a manifest, or the reason why there is none."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping

from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from hashing.models import PRETRAINED, Model
from hashing.quantizers import Quantizer
from pipelines.also import ALSO, LACKING
from pipelines.part_files import part_name
from pipelines.runs import Receipt, Run
from pipelines.segment_codes import SegmentCodes, read_segments
from pipelines.spills import finished_spills
from pipelines.tables import choose_key_bits, plan_shards, spills_of
from pipelines.versions import FileEntry, Files, Manifest, Segment, utc_now


def failure_kinds(parts: Iterable[Receipt]) -> dict[str, int]:
    """Why tracks failed → how many of them, the most frequent first."""
    kinds: Counter[str] = Counter()
    for receipt in parts:
        for name, count in receipt.counters.items():
            if name.startswith("failed_"):
                kinds[name.removeprefix("failed_")] += int(count)
    return dict(kinds.most_common())


def part_receipts(run: Run, receipts: Mapping[str, Receipt]) -> list[Receipt]:
    """The receipts of all parts, in order.

    Raises: HashbeamError where parts are missing.
    """
    names = [part_name(part) for part in run.plan.parts]
    missing = sum(name not in receipts for name in names)
    if missing:
        raise HashbeamError(
            f"{missing} of {run.plan.n_parts} parts of {run.index} are not finished; "
            "run the same command again"
        )
    return [receipts[name] for name in names]


def forget_failures(run: Run) -> None:
    """Makes the parts with failed tracks be hashed again."""
    for name, receipt in run.receipts().items():
        if receipt.counters.get("tracks_failed") or total_lacking([receipt]):
            run.discard(name)


def check_failures(run: Run, parts: Iterable[Receipt], max_failures: float) -> None:
    """Refuses a run in which too many tracks failed, be it only to get what ``--also`` asks for.

    Args:
        max_failures: share of the tracks, 0 to 1.

    Raises: HashbeamError with numbers, reasons, and how to go on.
    """
    parts = list(parts)
    lost, tracks = total(parts, "tracks_failed"), run.plan.n_tracks
    failed = lost + total_lacking(parts)
    if lost < tracks and failed <= max_failures * tracks:
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in failure_kinds(parts).items())
    limit = f"more than --max-failures {max_failures:g} allows"
    remedy = "or raise --max-failures, "
    if lost == tracks:
        limit, remedy = "so that there is nothing to index", ""
    raise HashbeamError(
        f"{failed} of {tracks} tracks failed ({kinds}), {limit}; nothing was published, finished "
        f"work is kept, the reasons stand in {run.path('failures')}; mend the files and add "
        f"--retry-failed, {remedy}and run the same command again"
    )


def total(receipts: Iterable[Receipt], counter: str) -> int:
    """The sum of a count, 0 where a receipt has none."""
    return sum(int(receipt.counters.get(counter, 0)) for receipt in receipts)


def total_lacking(receipts: Iterable[Receipt]) -> int:
    """Tracks that have codes, and lack something else that was asked for."""
    # Of an earlier hashbeam, which knew one kind only, that is the counter of this kind.
    first = next(iter(ALSO.values())).lacking
    return sum(int(one.counters.get(LACKING, one.counters.get(first, 0))) for one in receipts)


@dataclasses.dataclass(frozen=True)
class Built:
    """What a finished run has made: its segments, all their files, and the receipts of shards.

    `key_bits` is the length of the keys of their tables; `spills` are the receipts of what large
    ones were built from.
    """

    key_bits: int
    segments: list[Segment]
    files: list[FileEntry]
    shards: list[Receipt]
    spills: list[Receipt]


def gather_segments(
    run: Run, receipts: Mapping[str, Receipt], quantizer: Quantizer, key_bits: int | None
) -> Built:
    """The segments of a finished run.

    Args:
        key_bits: of a key; None: chosen by the number of snippets, as the job has done.

    Raises: HashbeamError where parts or shards are missing.
    """
    parts = part_receipts(run, receipts)
    segments = read_segments(run, receipts)
    bits = key_bits or choose_key_bits(segments, quantizer)
    built = Built(bits, [], [], [], [])
    if not segments:  # every track has failed
        built.files.extend(entry for part in parts for entry in part.files)
    for segment in segments:
        for number in segment.parts:
            built.files.extend(
                dataclasses.replace(entry, segment=segment.id)
                for entry in receipts[part_name(number)].files
            )
        pieces = spills_of(segment, quantizer, bits)
        built.spills.extend(finished_spills(segment, pieces, receipts))
        for task in plan_shards(segment, quantizer, bits):
            receipt = receipts.get(task.name)
            if receipt is None or receipt.inputs != task.inputs(segment):
                raise HashbeamError(
                    f"table shard {task.name} of {run.index} is not finished; "
                    "run the same command again"
                )
            built.files.extend(receipt.files)
            built.shards.append(receipt)
        built.segments.append(_segment(segment, receipts))
    return built


def make_manifest(
    run: Run,
    receipts: Mapping[str, Receipt],
    hasher: Hasher,
    key_bits: int | None,
    also: Mapping[str, Model] | None = None,
) -> tuple[Manifest, Built]:
    """The manifest of a finished run that starts from nothing, and what it is made of.

    Args:
        also: the models of what the run was asked for beside codes.

    Raises: HashbeamError where parts or shards are missing.
    """
    parts = part_receipts(run, receipts)
    quantizer = hasher.quantizer
    built = gather_segments(run, receipts, quantizer, key_bits)
    counters: dict[str, int | float] = {
        name: sum(part.counters[name] for part in parts)
        for name in ("tracks", "tracks_hashed", "tracks_failed", "snippets", "audio_s")
    }
    for name in also or {}:
        counters[ALSO[name].made] = total(parts, ALSO[name].made)
    manifest = Manifest(
        version=run.version,
        parent=run.plan.parent,
        model=where_model(hasher.model),
        catalog_digest=run.plan.catalog_digest,
        key_bits=built.key_bits,
        n_tables=quantizer.n_tables,
        snippet_hop_s=hasher.features.snippet_hop_s,
        replication=quantizer.replication,
        compared="embeddings" if run.plan.options.get("keep_embeddings") else "codes",
        segments=built.segments,
        files=Files.of(built.files),
        counters=counters,
        created=utc_now(),
        also={name: where_model(model) for name, model in (also or {}).items()},
    )
    return manifest, built


def where_model(model: Model) -> dict[str, str]:
    """What names a model in a manifest; a model of the user's own with its folder."""
    named = {"name": model.name, "digest": model.digest}
    if model.path.parent != PRETRAINED:
        named["path"] = os.path.abspath(model.path)
    return named


def _segment(segment: SegmentCodes, receipts: Mapping[str, Receipt]) -> Segment:
    chosen = [receipts[part_name(number)].counters for number in segment.parts]
    gids = [int(counters["gids"]) for counters in chosen]
    tracks = [int(counters["tracks_hashed"]) for counters in chosen]
    return Segment(
        id=segment.id,
        first_part=segment.parts.start,
        n_parts=len(segment.parts),
        tracks=sum(tracks),
        snippets=sum(int(counters["snippets"]) for counters in chosen),
        part_gids=gids,
        part_tracks=tracks,
    )
