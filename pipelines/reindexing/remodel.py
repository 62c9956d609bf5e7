"""Another model takes over: ``hashbeam reindex --model NEW``.

The next version is made of the whole catalogue, in segments of its own, beside the published one;
that goes on being read. It is published where it finds what the published one does
(`pipelines.reindexing.rivals`). Where both models stand on one encoder, and its embeddings were
kept, codes of tracks that have not changed are made of these, and nothing of them is decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions

from hashing.encoders import Hasher
from hashing.errors import HashbeamError, ModelError
from hashing.models import Model, load_model
from pipelines.also import folders_of, models_beside
from pipelines.catalog import catalog_digest, read_catalog
from pipelines.changes.classes import HASHED, Asked, Changes, Estimate
from pipelines.execution import Work, execute
from pipelines.gather import Built, make_manifest, part_receipts, where_model
from pipelines.gating.bounds import Gate
from pipelines.gating.model import gate_model
from pipelines.index_job import IndexJob
from pipelines.kept import KEPT
from pipelines.launch import launch_time
from pipelines.live import count_live, tracks_of_segment
from pipelines.lock import IndexLock
from pipelines.opened import embedding_dimensions, find_hasher
from pipelines.parts import HashJob
from pipelines.progress import shows_progress
from pipelines.reindexing.begin import ReindexOptions, ToDo, begin, look_for_changes, plan_options
from pipelines.reindexing.counting import count_changes
from pipelines.reindexing.failures import carry_failures
from pipelines.reindexing.rivals import Rival, compare
from pipelines.reindexing.run import Result
from pipelines.reindexing.start import open_parent, wanted_plan
from pipelines.runner import make_pipeline_options
from pipelines.runs import Receipt, Run
from pipelines.versions import Files, Manifest, open_manifest


def takes_over(model: str | None, manifest: Manifest) -> bool:
    """Whether a model, by name or folder, is another than that of an index; raises ModelError."""
    return model is not None and load_model(model).digest != manifest.model["digest"]


@dataclasses.dataclass(frozen=True)
class Takeover:
    """What is known before anything is made.

    Attributes:
        new: the model that is to take over.
        old: that of the published version; None where it is not to be had and not needed.
        keeps: the new version keeps embeddings, as the published one does.
        recodes: codes are made of the embeddings that the published version keeps.
    """

    new: Hasher
    old: Hasher | None
    keeps: bool
    recodes: bool


def plan_takeover(options: ReindexOptions, published: Manifest) -> Takeover:
    """How the model that `options` name takes over.

    Raises: ModelError where a model is missing, the old one too where the two are to be compared.
    """
    assert options.model is not None
    new, kept = Hasher.load(options.model), published.compared == "embeddings"
    old = None
    try:
        old = find_hasher(published, options.old_model)
    except ModelError as error:
        if "model" not in options.bounds.left_out:
            raise ModelError(
                f"the model of the published version is needed to compare {new.model.name} with: "
                f"{error}; name its folder with --old-model, or publish without: --no-gates model"
            ) from None
    same = old is not None and old.encoder_digest is not None
    same = same and old is not None and old.encoder_digest == new.encoder_digest
    return Takeover(new, old, kept and embedding_dimensions(new) > 0, kept and same)


def remodel(options: ReindexOptions, beam_args: Sequence[str] = ()) -> Result:
    """Makes an index anew with the model that `options` name, compares, and publishes the result.

    Raises: HashbeamError where a gate is not passed, be it that the new model finds less: then
        nothing is published, and what was done is kept for the next run.
    """
    launched = launch_time()
    catalog = read_catalog(options.catalog)
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    open_manifest(options.index)  # what is no index gets no lock
    with IndexLock(options.index) as lock:
        parent = open_parent(options.index)
        takeover = plan_takeover(options, parent)
        asked = {
            **plan_options(options, parent, keep_embeddings=takeover.keeps),
            "recodes": takeover.recodes,
        }
        new = where_model(takeover.new.model)
        wanted = wanted_plan(parent, catalog_digest(catalog), asked, new)

        def find(folder: str) -> Changes:
            return look_for_changes(
                options.index,
                parent,
                catalog,
                pipeline_options,
                _for_changes(options, takeover),
                folder,
            )

        def plan(changes: Changes) -> ToDo:
            if not takeover.recodes:
                return ToDo(catalog)
            return ToDo(recoded_rows(options.index, parent, changes, catalog))

        run, changes = begin(options, parent, wanted, find, plan)
        assert run is not None
        if parent.compared == "embeddings" and not takeover.keeps:
            options.say("the new model has no embeddings: queries are compared with codes")
        work = _Work(options, takeover, run, parent, changes, catalog)
        manifest, summary = execute(work.to_do(pipeline_options), options, lock, launched)
    return Result(manifest, changes, summary)


def look_before(
    options: ReindexOptions,
    published: Manifest,
    catalog: pa.Table,
    pipeline_options: PipelineOptions,
) -> tuple[Changes, Estimate]:
    """What has changed, and what another model would have to hear; nothing is written.

    Raises: as `plan_takeover`.
    """
    takeover = plan_takeover(options, published)
    asked = _for_changes(options, takeover)
    changes = look_for_changes(options.index, published, catalog, pipeline_options, asked)
    cost = changes.estimate(catalog)
    if takeover.recodes:
        return changes, cost
    gone = pc.sum(changes.of("changed", "removed")["duration_s"]).as_py() or 0.0
    stays = max(float(changes.counts["audio_live_s"]) - gone, 0.0)
    unknown = cost.tracks - cost.tracks_known
    tracks = catalog.num_rows
    return changes, Estimate(tracks, cost.audio_s + stays, tracks - unknown)


def _for_changes(options: ReindexOptions, takeover: Takeover) -> Asked:
    """As `options` ask; a model that must hear the tracks is given those that failed, too."""
    return Asked(options.force, options.retry_failed or not takeover.recodes)


def recoded_rows(index: str, parent: Manifest, changes: Changes, catalog: pa.Table) -> pa.Table:
    """The rows of the catalogue, of all that have not failed for good, in order of track_id.

    Those whose embeddings the parent keeps have the columns of `kept.KEPT` filled.
    """
    failed = changes.of("failed")["track_id"].combine_chunks()
    rows = catalog.filter(pc.invert(pc.is_in(catalog["track_id"], failed))).combine_chunks()
    ids = rows["track_id"].combine_chunks()
    seen = changes.table.filter(pc.is_valid(changes.table["row"])).combine_chunks()
    at = pc.index_in(ids, value_set=seen["track_id"].combine_chunks())

    def told(name: str) -> Any:
        """What the changes say of each row; null where it is unchanged."""
        return seen[name].combine_chunks().take(at)

    decoded = pc.is_in(told("class").cast(pa.string()), pa.array(HASHED))
    known = pc.if_else(decoded, None, pc.coalesce(told("old_track_id"), ids))
    wanted = ("track_id", "ordinal")
    held = pa.concat_tables(
        table.select([*wanted, "segment", "part"])
        for segment in parent.segments
        for table in tracks_of_segment(index, parent, segment, columns=wanted)
    ).combine_chunks()
    places = held.take(pc.index_in(known, value_set=held["track_id"].combine_chunks()))
    values = {
        "hashbeam_source": pc.if_else(pc.is_valid(places["ordinal"]), 0, None),
        **{f"hashbeam_{name}": places[name] for name in ("segment", "part", "ordinal")},
        "hashbeam_mtime": told("mtime"),
    }
    for name, kind in KEPT.items():
        rows = rows.append_column(name, values[name].cast(kind))
    return rows


@dataclasses.dataclass(frozen=True)
class _Work:
    """A run that was begun, and what it was begun with."""

    options: ReindexOptions
    takeover: Takeover
    run: Run
    parent: Manifest
    changes: Changes
    catalog: pa.Table

    def to_do(self, pipeline_options: PipelineOptions) -> Work:
        """It as `execute` carries it out."""
        options, recodes, new = self.options, self.takeover.recodes, self.takeover.new
        job = HashJob(
            self.run,
            options.max_track_hours * 3600,
            options.decode_timeout_s,
            self.takeover.keeps,
            ((options.index, self.parent.version),) if recodes else (),
            decodes=not recodes or self.changes.of(*HASHED).num_rows > 0,
            recodes=recodes,
        )
        beside = models_beside(self.parent, options.also_models)
        return Work(
            "reindex",
            self.run,
            new,
            self.parent,
            lambda receipts: self._finish(receipts, beside),
            options.bounds,
            IndexJob(job, new.model.reference, new.quantizer, None, 1.0, folders_of(beside)),
            pipeline_options,
            self._compare,
        )

    def _finish(
        self, receipts: Mapping[str, Receipt], beside: Mapping[str, Model]
    ) -> tuple[Manifest, Built]:
        manifest, built = make_manifest(self.run, receipts, self.takeover.new, None, beside)
        files = list(manifest.files)
        if self.takeover.recodes:
            files += carry_failures(self.run, self.parent, self.changes, anew=True)
        parts, live = part_receipts(self.run, receipts), count_live(manifest)
        counters = count_changes(self.run, parts, self.parent, self.changes, live)
        return dataclasses.replace(
            manifest, files=Files.of(files), counters=manifest.counters | counters
        ), built

    def _compare(self, manifest: Manifest) -> tuple[Gate, dict[str, Any]]:
        """What the gate says, and the figures; nothing where it is not asked."""
        options, old = self.options, self.takeover.old
        if "model" in options.bounds.left_out or old is None:
            return Gate("model", None, None, True, "not asked: --no-gates"), {}
        options.say(f"asks both models {options.compare_queries} queries")
        show = shows_progress(quiet=options.quiet, asked=options.progress)
        rivals = Rival(self.parent, old), Rival(manifest, self.takeover.new)
        how_many = options.compare_queries
        try:
            figures = compare(
                options.index, *rivals, self.catalog, self.changes, how_many, show=show
            )
        except HashbeamError as error:
            return Gate("model", None, None, False, f"the models cannot be compared: {error}"), {}
        gate = gate_model(figures, options.bounds)
        return gate, figures
