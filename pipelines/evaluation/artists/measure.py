"""What ``hashbeam evaluate artists`` does: clean, deal, hear, cluster, tune, compare."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.artists.homonyms import KINDS
from pipelines.catalog import read_catalog
from pipelines.evaluation.artists import identity as artist_identity
from pipelines.evaluation.artists.clusters import measure_systems
from pipelines.evaluation.artists.folds import check_folds, read_folds
from pipelines.evaluation.artists.groups import PUBLISHED, statistics
from pipelines.evaluation.artists.identity import identity
from pipelines.evaluation.artists.labels import read_labels
from pipelines.evaluation.artists.material import (
    check_artists,
    deal,
    enough,
    make_material,
    usable,
)
from pipelines.evaluation.artists.options import ArtistOptions
from pipelines.evaluation.artists.results import FORMAT_VERSION, write_results
from pipelines.evaluation.artists.summary import compare, warnings_of
from pipelines.evaluation.artists.systems import gather
from pipelines.lock import IndexLock


def measure_artists(options: ArtistOptions, beam_args: Sequence[str] = ()) -> dict[str, Any]:
    """All of it; writes the results, and returns the figures.

    Raises: CatalogError, UsageError, ModelError, HashbeamError: one line on what is wrong.
    """
    catalog = read_catalog(options.catalog)
    labels = read_labels(catalog, options.catalog, options.labels, options.same)
    folds = read_folds(catalog, options.catalog, options.fold_by)
    rows, few = usable(labels, options.least_tracks)
    check_artists({labels.artist[row] for row in rows}, options, labels)
    check_folds(options.catalog, options.fold_by, labels, folds, rows)
    with IndexLock(options.out):  # two runs would hear the same tracks, and mix their failures
        systems, failures = gather(
            options,
            catalog.take(pa.array(rows, pa.int64())),
            [labels.names[labels.artist[row]] for row in rows],
            [folds[row] for row in rows],
            beam_args,
        )
    heard = np.ones(len(rows), bool)
    for system in systems:
        heard &= system.heard
    kept = enough([labels.artist[row] for row in rows], heard, options.least_tracks)
    rows = [rows[place] for place in kept.tolist()]
    systems = [
        dataclasses.replace(one, embeddings=one.embeddings[kept], heard=one.heard[kept])
        for one in systems
    ]
    check_artists({labels.artist[row] for row in rows}, options, labels)
    check_folds(options.catalog, options.fold_by, labels, folds, rows)
    material = make_material(catalog, labels, folds, rows)
    groups, trials = deal(material, options, apart=any(one.by_fold for one in systems))
    measured = measure_systems(systems, groups, material, options)
    figures = {
        "format_version": FORMAT_VERSION,
        "catalog": Path(options.catalog).name,
        "labels": labels.column,
        "seeds": list(options.seeds),
        "folds": len(set(group.fold for group in groups)),
        "folds_by": Path(options.fold_by).name,
        "least_tracks": options.least_tracks,
        "least_whole": options.least_whole,
        "tracks": len(rows),
        "artists": len(material.names),
        "genres": sorted(set(material.genres) - {""}),
        "cleaned": {**labels.report, "artists_of_too_few_tracks": few},
        "failed": dict(Counter(row["error"] for row in failures)),
        "published": {**PUBLISHED, "identity": artist_identity.PUBLISHED},
        "statistics": {
            kind: statistics([one for one in groups if one.kind == kind], material.albums)
            for kind in KINDS
            if any(one.kind == kind for one in groups)
        },
        **compare(measured, groups),
        "identity": identity({one.name: one.embeddings for one in systems}, trials, 0)
        if systems
        else None,
    }
    figures["warnings"] = list(warnings_of(figures, systems))
    write_results(options.out, figures, groups, measured, material, failures)
    return figures
