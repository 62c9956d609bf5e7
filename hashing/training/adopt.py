"""An encoder that was made elsewhere becomes a model folder, like those that are trained here.

The encoder stays as it is. What a hasher needs beside it is fitted to a catalogue: the product
quantizer of its embeddings (OPQ: Ge et al., CVPR 2013), keys (signs of ITQ: Gong & Lazebnik, CVPR
2011) dealt out to tables, and the score.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import binary
from hashing.audio import decode
from hashing.codebooks import CENTROIDS
from hashing.conditions import Surroundings
from hashing.encoders import Hasher
from hashing.errors import AudioError, HashbeamError, ModelError
from hashing.features import FeatureConfig
from hashing.fronts import Answer
from hashing.learned import LearnedQuantizer
from hashing.models import Model, load_model, save_model
from hashing.snippets import standardise
from hashing.training import calibration, corpus
from hashing.training.embeddings import clean_embeddings, paired_embeddings
from hashing.training.export import append_linear
from hashing.training.foreign import read_source
from hashing.training.imported_card import imported_card
from hashing.training.learned import CONSTANT, learned_arrays, learned_figures
from hashing.training.wrapping import Wrapped, open_encoder, wrap

Floats = npt.NDArray[np.float32]

# Tracks that are listened to at most: 16,384 snippets, eight of each.
MOST_TRACKS = 2000

# Share of the tracks that the score is calibrated on. Twice that of a training run: nothing else
# here learns from what the other tracks sound like.
CALIBRATION_SHARE = 0.3

# Snippets below which nothing is fitted: each part of a code has as many centroids.
LEAST_SNIPPETS = CENTROIDS

# Matches below which the thirteen weights of the score are a guess: about forty for each.
FEW_MATCHES = 500

# Mean cosine of an encoder's answers to different snippets above which it hardly tells them apart.
ALIKE = 0.95

# Numbers of an embedding that a byte of a code stands for, as in the shipped model, and bytes that
# a code has at most: beyond 64 an index grows faster than answers get better.
NUMBERS_A_BYTE = 4
MOST_BYTES = 64


@dataclasses.dataclass(frozen=True)
class Adoption:
    """What a model folder is made of, beside the encoder.

    Attributes:
      rows: the catalogue, each with ``track_id`` and a local ``uri``.
      features: of the snippets that the encoder takes.
      input, output, layout: see `hashing.training.wrapping.wrap`.
      bits, n_tables: of the keys; a key is up to 32 bits long.
      code_bytes: of a code; 0 for `bytes_for`.
      snippets: that statistics are taken over, but no more than one a query hop of the music.
      pairs: that figures are taken over, but no more than one a snippet hop; 1,024 tell a recall
        to ±2 %.
      calibrated: whether the score is fitted.
      queries: of the calibration, for each index size and fold.
      noise, rooms: folders of ambiences and of room responses; empty for synthetic ones.
      group_columns: rows that agree in one of these stay on one side of the calibration.
      same_column: rows that agree in it are one recording; empty where none is known.
      command, catalog: how this was started, and with what, for the model card.
    """

    rows: Sequence[Mapping[str, str]]
    features: FeatureConfig
    input: str = ""
    output: str = ""
    layout: str = ""
    bits: int = 256
    n_tables: int = 16
    code_bytes: int = 0
    snippets: int = 16_384
    pairs: int = 1024
    calibrated: bool = True
    queries: int = 600
    noise: Sequence[Path] = ()
    rooms: Sequence[Path] = ()
    group_columns: Sequence[str] = ("album", "artist_name")
    same_column: str = ""
    seed: int = 1
    command: str = ""
    catalog: str = ""


def bytes_for(dimensions: int) -> int:
    """Bytes of the codes of embeddings, where nobody asks for others.

    >>> bytes_for(8), bytes_for(30), bytes_for(128), bytes_for(2048)
    (2, 8, 32, 64)
    """
    return min(max(2, -(-dimensions // NUMBERS_A_BYTE)), MOST_BYTES)


def adopt(
    encoder: Path, adoption: Adoption, out: Path, work: Path, log: Callable[[str], None]
) -> Model:
    """Make a model folder of an ONNX encoder.

    Args:
      encoder: the ONNX file.
      out: the folder; it appears when it is whole.
      work: a folder for decoded music.
      log: takes lines of progress and warnings.

    Raises:
      UsageError: names of tensors or a layout that do not fit the graph.
      ModelError: a graph that cannot be used.
      HashbeamError: music that is too little, too short or silent; a folder that is not empty.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise HashbeamError(f"{out} exists already: name another folder")
    wrapped = wrap(
        read_source(encoder), adoption.features, adoption.input, adoption.output, adoption.layout
    )
    for warning in _warnings_of(wrapped):
        log(f"warning: {warning}")
    log(
        f"{wrapped.source.name}: {wrapped.dimensions} numbers a snippet of "
        f"{_seconds(adoption.features):.2f} s, taken as {wrapped.arrangement.layout}"
    )
    rate = adoption.features.sample_rate
    air = Surroundings(rate, recordings(adoption.noise, rate), recordings(adoption.rooms, rate))
    music, rows = _music(adoption, work, log)
    fitting, checking = _split(rows, adoption)
    made = _fit(wrapped, adoption, music, fitting, log)
    story = {
        **_story(wrapped, adoption),
        "tracks_fitted": len(fitting),
        "tracks_calibrated": [rows[i]["track_id"] for i in checking],
        "snippets": made.snippets,
    }
    config = {
        "kind": "learned",
        "bits": 8 * story["code_bytes"],
        "dimensions": wrapped.dimensions,
        "features": dataclasses.asdict(adoption.features),
        "training": story,
        "calibration": {},
    }
    hasher = Hasher(save_model(work / "draft", config, made.graphs, made.arrays, "# Draft"))
    assert isinstance(hasher.quantizer, LearnedQuantizer)
    judged, features = checking or fitting, adoption.features
    n_pairs = min(adoption.pairs, _room(music, judged, features, features.snippet_hop))
    pairs = paired_embeddings(
        hasher.respond_in_track,
        hasher.respond,
        features,
        music,
        judged,
        n_pairs,
        air,
        adoption.seed,
    )
    figures = {**made.figures, **learned_figures(hasher.quantizer, made.rotation, pairs)}
    fitted: dict[str, Any] = {}
    if adoption.calibrated:
        fitted = _calibrate(hasher, adoption, music, rows, fitting, checking, air, log)
    card = imported_card(adoption.features, story, figures, fitted)
    config |= {"calibration": fitted, "figures": figures}
    shutil.rmtree(work / "draft")
    return _publish(out, config, made, card)


def _warnings_of(wrapped: Wrapped) -> list[str]:
    name, plan, found = wrapped.source.name, wrapped.arrangement, []
    if plan.missing:
        longer = plan.frames + plan.missing
        found.append(
            f"snippets of {plan.frames} frames are shorter than the {longer} that {name} expects: "
            f"the last {plan.missing} are filled with the mean; --snippet-frames {longer} gives "
            "it what it was trained with"
        )
    return found


def _music(
    adoption: Adoption, work: Path, log: Callable[[str], None]
) -> tuple[corpus.Corpus, list[Mapping[str, str]]]:
    """The tracks that are listened to, decoded, and their rows."""
    chosen = list(adoption.rows)
    if len(chosen) > MOST_TRACKS:
        rng = np.random.default_rng([adoption.seed, 3])
        kept = np.sort(rng.choice(len(chosen), MOST_TRACKS, replace=False))
        log(f"listening to {MOST_TRACKS} of {len(chosen)} tracks")
        chosen = [chosen[int(i)] for i in kept]
    _split(chosen, adoption)  # what is too little is told before anything is decoded
    music = corpus.load(chosen, adoption.features.sample_rate, work)
    by_id = {row["track_id"]: row for row in chosen}
    return music, [by_id[track] for track in music.track_ids]


def _split(rows: Sequence[Mapping[str, str]], adoption: Adoption) -> tuple[list[int], list[int]]:
    """Tracks for statistics and to fill indexes with, and those that the score is fitted on."""
    if not adoption.calibrated:
        return list(range(len(rows))), []
    longest_s = calibration.QUERY_SECONDS[1]
    if _seconds(adoption.features) > longest_s / 2:
        raise HashbeamError(
            f"snippets of {_seconds(adoption.features):.2f} s are too long for the calibration's "
            f"queries of up to {longest_s:g} s: give shorter ones, or --no-calibration"
        )
    fitting, checking = corpus.split(rows, adoption.group_columns, adoption.seed, CALIBRATION_SHARE)
    if not fitting or len(checking) < 2:
        groups = " or ".join(adoption.group_columns)
        raise HashbeamError(
            f"{len(rows)} tracks are too few to calibrate the score on"
            + (f" with no {groups} on two sides" if groups else "")
            + ": add music, name other columns with --group, or give --no-calibration"
        )
    return fitting, checking


@dataclasses.dataclass(frozen=True)
class _Made:
    """What was fitted to clean snippets, and how many these were."""

    rotation: Floats
    graphs: Mapping[str, bytes]
    arrays: Mapping[str, npt.NDArray[Any]]
    figures: Mapping[str, float]
    snippets: int


def _fit(
    wrapped: Wrapped,
    adoption: Adoption,
    music: corpus.Corpus,
    tracks: Sequence[int],
    log: Callable[[str], None],
) -> _Made:
    name, features = wrapped.source.name, adoption.features
    plain = open_encoder(wrapped.graph(), name)

    def respond(cut: Floats) -> Answer:
        return plain(standardise(cut, features))

    wanted = min(adoption.snippets, _room(music, tracks, features, features.query_hop))
    raw = clean_embeddings(respond, features, music, tracks, wanted, adoption.seed)
    if len(raw.embeddings) < LEAST_SNIPPETS:
        raise HashbeamError(
            f"the music has no more than {len(raw.embeddings)} snippets that are heard, fitting "
            f"needs {LEAST_SNIPPETS}: add music"
        )
    if not np.isfinite(raw.embeddings).all():
        share = float(np.mean(~np.isfinite(raw.embeddings).all(axis=1)))
        raise ModelError(
            f"{name} answers {share:.1%} of the snippets with what is no number: check its "
            "weights, and what it divides by or takes the logarithm of"
        )
    mean = raw.embeddings.mean(axis=0)
    varying = int(np.sum(raw.embeddings.std(axis=0) > CONSTANT))
    if varying < 2 or float(np.abs(raw.embeddings - mean).max()) < CONSTANT:
        raise ModelError(
            f"{name} answers every snippet with the same embedding: is {wrapped.output} the right "
            "tensor (--output), and was the encoder trained?"
        )
    if 2 * varying < wrapped.dimensions:
        log(f"warning: only {varying} of the {wrapped.dimensions} numbers of {name} ever vary")
    # The mean over all pairs, those of a snippet with itself taken out.
    n = len(raw.embeddings)
    alike = float((n * mean @ mean - 1.0) / max(1, n - 1))
    if alike > ALIKE:
        log(
            f"warning: {name} answers different snippets almost alike (mean cosine {alike:.3f}): "
            "are they of the features that it was trained with?"
        )
    away = raw.embeddings - mean
    embeddings = (away / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-12)).astype(np.float32)
    log(f"fitting keys of {adoption.bits} bits to {n} snippets")
    weights = binary.itq(embeddings, adoption.bits, adoption.seed).weights
    code_bytes = adoption.code_bytes or bytes_for(wrapped.dimensions)
    log(f"fitting codes of {code_bytes} bytes")
    rotation, arrays = learned_arrays(
        embeddings, weights, code_bytes, adoption.n_tables, seed=adoption.seed
    )
    bias = np.zeros(rotation.shape[1], dtype=np.float32)
    graphs = {"model": append_linear(wrapped.graph(mean), rotation, bias)}
    figures = {"varying": float(varying), "alike": alike}
    return _Made(rotation, graphs, arrays, figures, n)


def _calibrate(
    hasher: Hasher,
    adoption: Adoption,
    music: corpus.Corpus,
    rows: Sequence[Mapping[str, str]],
    fitting: Sequence[int],
    checking: Sequence[int],
    air: Surroundings,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """The calibration of the score, as config.json holds it."""
    log(f"calibrating the score on {len(checking)} tracks")
    answers, chance = calibration.ask(
        hasher,
        music,
        fitting,
        checking,
        sizes=calibration.index_sizes(len(checking), len(fitting)),
        queries=adoption.queries,
        surroundings=air,
        same=[row.get(adoption.same_column, "") or row["track_id"] for row in rows],
        seed=adoption.seed,
    )
    wrong = int(np.sum(~answers.right))
    if answers.right.size < FEW_MATCHES or min(wrong, answers.right.size - wrong) < 10:
        log(
            f"warning: the score is fitted to {answers.right.size} matches, {wrong} of them wrong: "
            "more music and --queries make it reliable"
        )
    return calibration.describe(answers, chance)


def recordings(folders: Sequence[Path], sample_rate: int) -> list[Floats]:
    """Everything in some folders that can be decoded, in order of names.

    Raises `HashbeamError` for a folder that is missing or holds no recording.
    """
    found: list[Floats] = []
    for folder in folders:
        if not folder.is_dir():
            raise HashbeamError(f"{folder} is not a folder: name one that holds recordings")
        before = len(found)
        for path in sorted(folder.iterdir()):
            try:
                found.append(decode(str(path), sample_rate))
            except AudioError:
                continue  # a list of licences beside the recordings
        if len(found) == before:
            raise HashbeamError(f"{folder} holds no recording: name a folder that does")
    return found


def _room(music: corpus.Corpus, tracks: Sequence[int], features: FeatureConfig, hop: int) -> int:
    """Snippets of some tracks, `hop` frames apart; at least one."""
    return max(1, int(sum(music.seconds(track) for track in tracks) / (hop * features.frame_s)))


def _seconds(features: FeatureConfig) -> float:
    return features.snippet_samples / features.sample_rate


def _story(wrapped: Wrapped, adoption: Adoption) -> dict[str, Any]:
    """What the model's config.json tells about the encoder and the settings."""
    source = wrapped.source
    return {
        "command": adoption.command,
        "encoder": {
            "file": source.name,
            "sha256": source.sha256,
            "bytes": source.size,
            "opset": source.opset,
            "input": wrapped.input,
            "output": wrapped.output,
            "layout": wrapped.arrangement.layout,
            "frames_filled": wrapped.arrangement.missing,
            "numbers": wrapped.dimensions,
        },
        "catalog": adoption.catalog,
        "bits": adoption.bits,
        "n_tables": adoption.n_tables,
        "code_bytes": adoption.code_bytes or bytes_for(wrapped.dimensions),
        "seed": adoption.seed,
    }


def _publish(out: Path, config: Mapping[str, Any], made: _Made, card: str) -> Model:
    """Write the folder under another name first: what bears its name is whole."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    save_model(partial, config, made.graphs, made.arrays, card)
    os.replace(partial, out)  # over an empty folder, too
    return load_model(str(out))
