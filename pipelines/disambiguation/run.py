"""The job behind ``hashbeam disambiguate``: hear, judge, propose, measure, write."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.artists.names import NameRules
from hashing.errors import HashbeamError, UsageError
from hashing.models import DEFAULT_ARTIST_MODEL
from pipelines import io, parquet
from pipelines.catalog import catalog_digest, read_catalog
from pipelines.disambiguation import embed
from pipelines.disambiguation.cluster import Rules
from pipelines.disambiguation.embed import EmbedJob
from pipelines.disambiguation.group import Groups, group_tracks
from pipelines.disambiguation.hear import hear_missing
from pipelines.disambiguation.judge import Judged, albums_of, judge, recordings_of
from pipelines.disambiguation.measure import measure, read_truth
from pipelines.disambiguation.options import DisambiguateOptions
from pipelines.disambiguation.outcome import Proposal
from pipelines.disambiguation.proposals import propose, spelled_alike
from pipelines.disambiguation.publish import DECISIONS, Findings, Hearing, Summary, publish
from pipelines.disambiguation.results import Earlier, load_earlier
from pipelines.disambiguation.review import (
    Decisions,
    Review,
    apply_review,
    load_decisions,
    read_review,
)
from pipelines.disambiguation.store import (
    Stored,
    adopt,
    check_index,
    embedding_files,
    find_stored,
    forget_stale,
    read_embeddings,
)
from pipelines.duplication.collapse import groups_digest, open_groups
from pipelines.job_folder import remove_temporary
from pipelines.launch import launch_time
from pipelines.lock import IndexLock
from pipelines.progress import shows_progress
from pipelines.runner import make_pipeline_options, workers_here
from pipelines.stores import is_remote, local
from pipelines.track_tables import FAILURES
from pipelines.versions import is_temporary

# Says whose folder it is, before anything else is written to it.
_MARK = "plan.json"
_PLAN = b'{"job": "disambiguate", "format_version": 1}\n'

# Embeddings of more are mapped from a file in the folder of results.
MOST_IN_MEMORY = 1 << 30

Floats = npt.NDArray[np.float32]


def disambiguate(options: DisambiguateOptions, beam_args: Sequence[str] = ()) -> Summary:
    """Does all of it; returns what is printed.

    Raises: HashbeamError, before any result of an earlier run is touched; also where more tracks
        failed than allowed: then their failures are written, and what was heard is kept.
    """
    started = launch_time()
    catalog = read_catalog(options.catalog)
    truth = read_truth(catalog, options.truth, options.catalog) if options.truth else None
    groups = group_tracks(
        catalog,
        options.rules,
        names=options.names,
        opt_outs=options.opt_outs,
        source=options.catalog,
    )
    review = read_review(options.review) if options.review else None
    model = options.model or DEFAULT_ARTIST_MODEL
    encoder = embed.load_encoder(model)
    if options.index:
        problem = check_index(options.index, encoder.digest)
        if problem and not options.quiet:
            print(f"hashbeam disambiguate: {problem}", file=sys.stderr)
    copies = open_groups(options.duplicates) or {}
    cut = options.cut or float(encoder.cut)
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    _check_folder(options.out)
    with IndexLock(options.out) as lock:
        earlier = _find_earlier(options)
        decisions = _decide(earlier, review)
        _claim(options.out)
        job = EmbedJob(
            options.out,
            io.join(options.out, "work"),
            model,
            encoder.digest,
            options.max_track_hours * 3600,
            options.decode_timeout_s,
        )
        stored, failures, hearing = _hear(options, job, catalog, groups, pipeline_options)
        with _matrix(stored, options.out) as embeddings:
            good = read_embeddings(stored, embeddings)
            wanted = groups.judged()
            heard = wanted & good
            failures = _all_failures(failures, catalog, wanted, heard)
            _check_failures(options, failures, int(wanted.sum()))
            settings = {
                "model_digest": encoder.digest,
                "cut": cut,
                "keep_albums": options.keep_albums,
            }
            if options.duplicates:
                settings["duplicates"] = groups_digest(options.duplicates)
            judged = judge(
                groups,
                catalog,
                heard,
                embeddings,
                Rules(
                    cut,
                    options.min_tracks,
                    options.min_confidence,
                    hold=not options.recluster and dict(earlier.settings) == settings,
                ),
                before=lambda name: earlier.before(name, decisions),
                albums=albums_of(catalog, groups) if options.keep_albums else (),
                recordings=recordings_of(catalog, copies) if copies else (),
                shown=options.report_groups,
            )
            figures, by_group = (
                measure(groups, judged, truth, options.truth) if truth is not None else (None, {})
            )
            run_id = _run_id(catalog, groups, judged, settings, decisions)
            findings = Findings(
                run_id=run_id,
                runs=(run_id, *(one for one in earlier.runs if one != run_id)),
                catalog=catalog,
                groups=groups,
                judged=judged,
                heard=heard,
                embeddings=embeddings,
                durations=stored.duration_s,
                measures=stored.measures,
                failures=failures,
                proposals=_propose(groups, judged, catalog, cut, options.rules, decisions),
                decisions=decisions,
                earlier=earlier,
                settings=settings,
                figures=figures,
                truth=by_group,
                model=model,
                hearing=hearing,
                started=started,
                workers=workers_here(pipeline_options, options.workers),
            )
            lock.check()
            summary = publish(options, findings)
        forget_stale(stored, options.out)
        io.remove_tree(job.work)
    return summary


def _check_folder(out: str) -> None:
    """Refuses a folder that holds something else, before the lock is written into it."""
    if not is_remote(out) and io.exists(out) and not io.is_dir(out):
        raise HashbeamError(f"{out} is a file: name a folder with --out")
    foreign = [
        name
        for name in io.list_dir(out)
        if name != "LOCK" and not name.startswith(".LOCK.") and not is_temporary(name)
    ]
    if foreign and io.read_if_exists(io.join(out, _MARK)) != _PLAN:
        raise HashbeamError(
            f"{out} is not empty (it holds {foreign[0]}) and holds no results of disambiguate; "
            "name another folder with --out"
        )


def _claim(out: str) -> None:
    if io.read_if_exists(io.join(out, _MARK)) != _PLAN:
        io.write_bytes(io.join(out, _MARK), _PLAN)
    remove_temporary(out)
    io.remove_tree(io.join(out, "work"))


def _find_earlier(options: DisambiguateOptions) -> Earlier:
    earlier = load_earlier(options.out)
    if not earlier.run_id and options.previous:
        earlier = load_earlier(options.previous)
        if not earlier.run_id:
            raise UsageError(
                f"--previous: {options.previous} holds no finished run of disambiguate; name the "
                "folder of one, or leave the flag out"
            )
    return earlier


def _decide(earlier: Earlier, review: Review | None) -> Decisions:
    """What editors have decided so far, this review included."""
    decisions = load_decisions(io.join(earlier.folder, DECISIONS))
    if review is None:
        return decisions
    names = {name for name, _ in review.tracks}
    return apply_review(
        decisions,
        review,
        runs=earlier.runs,
        members={name: earlier.tracks(name) for name in names},
        proposals=earlier.decidable(),
    )


def _hear(
    options: DisambiguateOptions,
    job: EmbedJob,
    catalog: pa.Table,
    groups: Groups,
    pipeline_options: Any,
) -> tuple[Stored, pa.Table, Hearing]:
    """Embeddings of all tracks that are judged, what failed, and how it went."""
    others = [folder for folder in (options.previous, options.index) if folder]
    wanted = groups.judged()
    show = shows_progress(quiet=options.quiet, asked=options.progress)
    heard = hear_missing(job, catalog, wanted, others, pipeline_options, show=show)
    stored = heard.stored
    if options.previous:
        adopt(stored, options.out, embedding_files(options.previous))
        files = [path for folder in (options.out, *others) for path in embedding_files(folder)]
        stored = find_stored(files, catalog, job.digest)
    fresh = stored.duration_s[wanted & stored.found & ~heard.known]
    seconds = float(fresh.sum(dtype=np.float64))
    return stored, heard.failures, Hearing(int(heard.known.sum()), seconds, heard.wall_s)


@contextlib.contextmanager
def _matrix(stored: Stored, out: str) -> Iterator[Floats]:
    """Room for the embeddings of all tracks, [tracks, dimensions]."""
    shape = (len(stored.file), max(1, stored.dimensions))
    if 4 * shape[0] * shape[1] <= MOST_IN_MEMORY:
        yield np.zeros(shape, np.float32)
        return
    folder = None if is_remote(out) else local(out)
    with tempfile.NamedTemporaryFile(prefix=".embeddings.", suffix=".tmp", dir=folder) as file:
        yield np.memmap(file, np.float32, "w+", shape=shape)


def _all_failures(
    failures: pa.Table, catalog: pa.Table, wanted: npt.NDArray[np.bool_], heard: Any
) -> pa.Table:
    """A row for every track that should have been heard and was not."""
    told = {row["track_id"]: row for row in failures.to_pylist()}
    lost = catalog.select(["track_id", "uri"]).take(pa.array(np.flatnonzero(wanted & ~heard)))
    nothing = {
        "stage": "embed",
        "error": "unreadable",
        "message": "its stored embedding is no number; remove the file that has it, and run again",
    }
    rows = [told.get(row["track_id"], {**row, **nothing}) for row in lost.to_pylist()]
    return pa.Table.from_pylist(rows, schema=FAILURES)


def _check_failures(options: DisambiguateOptions, failures: pa.Table, wanted: int) -> None:
    if failures.num_rows <= options.max_failures * wanted:
        return
    path = io.join(options.out, "failures", "part-00000.parquet")
    parquet.write_table(path, failures)
    kinds = Counter(failures["error"].to_pylist())
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    raise HashbeamError(
        f"{failures.num_rows} of {wanted} tracks failed ({told}), more than --max-failures "
        f"{options.max_failures:g} allows: no results were written, the reasons stand in {path}, "
        "and what was heard is kept"
    )


def _propose(
    groups: Groups,
    judged: Judged,
    catalog: pa.Table,
    cut: float,
    rules: NameRules,
    decisions: Decisions,
) -> list[Proposal]:
    ids = catalog["track_id"].to_pylist()
    spelled = spelled_alike(groups, judged, rules)
    return propose(groups, judged, ids, cut, spelled=spelled, decided=decisions.proposals)


def _run_id(
    catalog: pa.Table,
    groups: Groups,
    judged: Judged,
    settings: Mapping[str, Any],
    decisions: Decisions,
) -> str:
    """Names what was found: two runs of one id say the same of the same tracks."""
    digest = hashlib.sha256(catalog_digest(catalog).encode())
    digest.update(json.dumps([settings, groups.keys, decisions.to_json()], sort_keys=True).encode())
    digest.update(groups.rows.tobytes() + judged.numbers.tobytes())
    digest.update(json.dumps(judged.member_status).encode())
    return digest.hexdigest()[:16]
