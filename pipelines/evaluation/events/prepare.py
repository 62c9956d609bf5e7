"""A catalogue of labelled clips becomes the material of an evaluation: roles, sound, embeddings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.codebooks import CENTROIDS
from hashing.errors import CatalogError, ModelError
from hashing.events.encoder import ClipEmbedder
from hashing.events.external import OnnxEncoder, read_embeddings
from hashing.events.features import CLIP
from hashing.events.spectra import Spectra, hear
from hashing.taxonomy import Taxonomy
from pipelines.catalog import read_catalog
from pipelines.clip_labels import label_column, labels_of
from pipelines.evaluation.events.material import ROLES, Material
from pipelines.evaluation.events.options import EventsOptions

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Versions in which networks that learn from few labels hear each of their clips.
VERSIONS = 4

# Clips of each role that it takes: codebooks are fitted to the versions of training clips, if need
# be. Embeddings that are given have one version.
LEAST = {"training": CENTROIDS // VERSIONS, "database": CENTROIDS // VERSIONS, "queries": 1}
LEAST_GIVEN = {"training": CENTROIDS, "database": CENTROIDS, "queries": 1}

# Columns that tell the roles of clips.
SHARE, FOLD = "share", "fold"

TAXONOMY = "taxonomy.csv"  # beside the catalogue


@dataclasses.dataclass(frozen=True)
class Clips:
    """Labelled clips of a catalogue.

    Attributes:
      ids, paths, labels: of each.
      roles: rows of the clips in each role; a clip may have two.
      told: how roles came to be.
    """

    ids: list[str]
    paths: list[str]
    labels: list[tuple[str, ...]]
    roles: dict[str, Ints]
    told: str


def read_clips(path: str, labels: str | None, query_fold: str | None) -> Clips:
    """The clips of a catalogue and their roles.

    The column ``share`` tells them (training, database, queries); or the column ``fold``: one fold
    asks, by default the last, and all others are database and training.

    Raises: CatalogError: no column of labels, no column of roles, a role without clips, too few to
      fit codebooks to, or nothing to tell apart.
    """
    table = read_catalog(path)
    told = labels_of(table, label_column(table, path, labels))
    known = np.array([bool(one) for one in told], bool)
    roles, how = _roles(table, path, query_fold)
    roles = {role: rows[known[rows]] for role, rows in roles.items()}
    for role, rows in roles.items():
        if not len(rows):
            raise CatalogError(f"{path}: no labelled clip in the role of {role} ({how}); add some")
        if len(rows) < LEAST[role]:
            raise CatalogError(
                f"{path}: {len(rows)} labelled clips in the role of {role} ({how}) are too few: "
                f"{LEAST[role]} or more are needed"
            )
    if len({told[row] for rows in roles.values() for row in rows.tolist()}) < 2:
        raise CatalogError(f"{path}: all clips have the same labels: add clips of others")
    return Clips(table["track_id"].to_pylist(), table["uri"].to_pylist(), told, roles, how)


def read_taxonomy(path: str | None, catalog: str) -> Taxonomy | None:
    """The named taxonomy, or the one that lies beside the catalogue; "none" for none."""
    if path == "none":
        return None
    beside = os.path.join(os.path.dirname(catalog), TAXONOMY)
    if path is None:
        return Taxonomy.read(beside) if os.path.exists(beside) else None
    return Taxonomy.read(path)


def prepare(options: EventsOptions, log: Callable[[str], None]) -> tuple[Material, dict[str, Any]]:
    """Hear and embed; what is there already is kept.

    Returns:
      The material, and facts for the figures: counts, failures, seconds and bytes.
    """
    clips = read_clips(options.catalog, options.labels, options.query_fold)
    taxonomy = read_taxonomy(options.taxonomy, options.catalog)
    if taxonomy is not None:
        lacking = sorted({one for labels in clips.labels for one in labels} - set(taxonomy.labels))
        if lacking:
            raise CatalogError(
                f"{taxonomy.name} lacks {', '.join(map(repr, lacking[:5]))}: add them, or pass "
                "--taxonomy none"
            )
    folder = Path(options.work)
    embedders = _embedders(options)
    spectra, failures = None, dict[int, tuple[str, str]]()
    if any(one is not None for one in embedders.values()):
        heard = hear(
            clips.paths, folder / "spectra", CLIP, windows=1, workers=options.workers, log=log
        )
        spectra, failures = heard, heard.failures
    given = _given(options, clips, failures)
    left = {
        role: np.array([row for row in rows if row not in failures], np.int64)
        for role, rows in clips.roles.items()
    }
    least = LEAST_GIVEN if given else LEAST
    for role, rows in left.items():
        if len(rows) < least[role]:
            why = next(
                (f" ({failures[row][1]})" for row in clips.roles[role] if row in failures), ""
            )
            raise CatalogError(
                f"{options.catalog}: {len(rows)} clips in the role of {role} have embeddings, "
                f"{least[role]} or more are needed{why}"
            )
    embeddings: dict[str, dict[str, Floats]] = {}
    for name, embedder in embedders.items():
        if embedder is not None and spectra is not None:
            log(f"embedding {name}")
            embeddings[name] = {
                role: _embed(embedder, spectra, clips, role, rows, options)
                for role, rows in left.items()
            }
    for name, vectors in given.items():
        embeddings[name] = {
            role: vectors[rows][:, None] if role == "training" else vectors[rows]
            for role, rows in left.items()
        }
    labels = {role: [clips.labels[row] for row in rows.tolist()] for role, rows in left.items()}
    made_of = [
        *(
            hashlib.sha256(np.ascontiguousarray(found[role]).tobytes()).hexdigest()
            for found in embeddings.values()
            for role in ROLES
        ),
        str([clips.ids[row] for role in ROLES for row in left[role].tolist()]),
    ]
    material = Material.write(folder, labels, embeddings, taxonomy, made_of)
    facts = {
        "roles": clips.told,
        "clips": {role: len(rows) for role, rows in left.items()},
        "failures": [
            {"track_id": clips.ids[row], "error": kind, "message": message}
            for row, (kind, message) in sorted(failures.items())
        ],
        "classes": len(material.labels),
        "taxonomy_levels": 0 if taxonomy is None else taxonomy.levels,
    }
    return material, facts


def _roles(table: pa.Table, path: str, fold: str | None) -> tuple[dict[str, Ints], str]:
    if SHARE in table.column_names and fold is None:
        shares = np.array([str(value) for value in table[SHARE].to_pylist()])
        if set(ROLES) <= set(shares):
            return {role: np.flatnonzero(shares == role) for role in ROLES}, f"column {SHARE}"
    if FOLD not in table.column_names:
        raise CatalogError(
            f"{path}: no column {SHARE} with {', '.join(ROLES)}, and no column {FOLD}: add one"
        )
    folds = np.array(["" if value is None else str(value) for value in table[FOLD].to_pylist()])
    # As numbers where they are: of ten the tenth is the last.
    known = sorted(
        {*folds.tolist()} - {""}, key=lambda one: (len(one) if one.isdigit() else 0, one)
    )
    asking = fold or (known[-1] if known else "")
    if asking not in known or len(known) < 2:
        raise CatalogError(f"{path}: no fold {asking!r} beside others in the column {FOLD}")
    others = np.flatnonzero((folds != asking) & (folds != ""))
    roles = {"training": others, "database": others, "queries": np.flatnonzero(folds == asking)}
    return roles, f"fold {asking} asks, the others are database and training"


def _embedders(options: EventsOptions) -> dict[str, ClipEmbedder | None]:
    """By the names of embeddings; None for those that are given as files."""
    if options.encoder.endswith((".parquet", ".onnx")):
        return {}
    kinds = {"narrow": False, "wide": True}
    found = {name: ClipEmbedder.load(options.encoder, wide) for name, wide in kinds.items()}
    return {f"{one.dimensions}-d": one for one in found.values()}


def _given(
    options: EventsOptions, clips: Clips, failures: dict[int, tuple[str, str]]
) -> Mapping[str, Floats]:
    """Embeddings from elsewhere, [clips, d] of length one; clips without one are failures."""
    if options.encoder.endswith(".parquet"):
        ids, vectors = read_embeddings(options.encoder)
        place = {one: at for at, one in enumerate(ids)}
        found = np.zeros((len(clips.ids), vectors.shape[1]), np.float32)
        for row in _wanted(clips):
            one = clips.ids[row]
            if one in place:
                found[row] = vectors[place[one]]
            else:
                failures[row] = ("no-embedding", f"{options.encoder} has no row for {one}")
    elif options.encoder.endswith(".onnx"):
        found = _by_onnx(options.encoder, options.sample_rate, clips, failures)
    else:
        return {}
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return {f"{found.shape[1]}-d": found / np.maximum(lengths, 1e-12)}


def _wanted(clips: Clips) -> list[int]:
    """Rows of the clips that have a role."""
    return [int(row) for row in np.unique(np.concatenate(list(clips.roles.values())))]


def _by_onnx(
    path: str, sample_rate: int, clips: Clips, failures: dict[int, tuple[str, str]]
) -> Floats:
    from hashing.audio import decode
    from hashing.errors import AudioError

    encoder = OnnxEncoder(path, sample_rate, CLIP)
    rows: dict[int, Floats] = {}
    for row in _wanted(clips):
        try:
            rows[row] = encoder.embed(decode(clips.paths[row], encoder.sample_rate))
        except AudioError as error:
            failures[row] = (error.kind, str(error))
    if not rows:
        raise ModelError(f"{path}: no clip can be embedded ({next(iter(failures.values()))[1]})")
    found = np.zeros((len(clips.ids), len(next(iter(rows.values())))), np.float32)
    for row, vector in rows.items():
        found[row] = vector
    return found


def _embed(
    embedder: ClipEmbedder,
    spectra: Spectra,
    clips: Clips,
    role: str,
    rows: Ints,
    options: EventsOptions,
) -> Floats:
    """Embeddings of the clips in a role; those that were made before are read."""
    from hashing.training.events.views import embed_versions

    versions = VERSIONS if role == "training" else 1
    ids = [clips.ids[row] for row in rows.tolist()]
    told = [embedder.digest, embedder.dimensions, versions, options.seed, ids]
    digest = hashlib.sha256(json.dumps(told).encode())
    chosen = spectra.first_windows(len(clips.ids))[rows]
    digest.update(np.ascontiguousarray(spectra.levels[chosen][:, ::16, ::8]).tobytes())
    path = Path(options.work) / "embeddings" / f"{digest.hexdigest()[:24]}.npy"
    if path.exists():
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    made = embed_versions(embedder, spectra, chosen, versions, options.seed)
    made = made if role == "training" else made[:, 0]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".tmp.npy")
    np.save(part, made.astype(np.float16), allow_pickle=False)
    part.replace(path)
    return np.asarray(np.load(path, allow_pickle=False), np.float32)
