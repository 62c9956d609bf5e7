"""Pieces of the evaluation, each of which a process does alone, and the rows that it makes.

A row tells section, embedding, system, bits, the share of labels, and figures. What a piece needs
lies in a folder (`pipelines.evaluation.events.material`); its rows are written there as well, so
that an evaluation that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hashing.average_precision import average_precisions, hierarchical_average_precisions
from hashing.events.words import LEARNED_WEIGHT
from hashing.taxonomy import Taxonomy
from pipelines.evaluation.events.guesses import any_unlabelled, guesses_of, unlabelled_clips
from pipelines.evaluation.events.material import Material
from pipelines.evaluation.events.systems import (
    BLOCK,
    Embedded,
    Ranking,
    by_tables,
    of_probe,
    of_quantized,
    real_valued,
    unsupervised,
)

if TYPE_CHECKING:
    from hashing.training.events.self_training import Guesses

Ints = npt.NDArray[np.int64]
Row = dict[str, Any]

# Bytes of a code in the sections that do not go through all of them.
USUAL_BITS = 32

# Sections where labels are guessed: that takes ten times as long as learning them.
GUESSING = ("table",)

# Shares of the codes that the multi-index looks at.
LOOKED_AT = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclasses.dataclass(frozen=True)
class Job:
    """A piece.

    Attributes:
      section: one of `SECTIONS`.
      embedding: name of the embedding.
      bits: of a code.
      share: of the training clips whose labels are known.
      ranks: R of mAP@R beside the size of the database.
    """

    section: str
    embedding: str
    bits: int
    share: float
    seed: int
    ranks: tuple[int, ...]
    steps: int
    usual_bits: int = USUAL_BITS

    def path(self, material: Material) -> Path:
        """Where its rows are."""
        told = json.dumps([dataclasses.asdict(self), material.digest], sort_keys=True)
        name = hashlib.sha256(told.encode()).hexdigest()[:24]
        return material.folder / "rows" / f"{name}.json"


def do(job: Job, folder: str) -> int:
    """Does a piece, unless that was done before; returns 1."""
    from hashing.training.events.probe import one_thread

    one_thread()
    material = Material.open(Path(folder))
    path = job.path(material)
    if not path.exists():
        rows = list(SECTIONS[job.section](job, material))
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.tmp")
        part.write_text(json.dumps(rows))
        part.replace(path)
    return 1


def rows_of(jobs: Sequence[Job], material: Material) -> list[Row]:
    """The rows of jobs that were done."""
    return [row for job in jobs for row in json.loads(job.path(material).read_text())]


def judge(
    ranking: Ranking, job: Job, material: Material, queries: Ints, database: Ints, **told: Any
) -> Row:
    """The row of a ranking of some clips for some queries."""
    wanted, held = material.sets_of("queries", queries), material.sets_of("database", database)
    ranks = [*job.ranks, None]
    found: dict[int | None, list[npt.NDArray[np.float64]]] = {at: [] for at in ranks}
    graded: list[npt.NDArray[np.float64]] = []
    started = time.process_time()
    for number, block in enumerate(ranking.distances()):
        some = wanted[number * BLOCK : number * BLOCK + len(block)]
        relevant = material.shared[some][:, held]
        for at in ranks:
            found[at].append(average_precisions(block, relevant, at))
        if material.taxonomy is not None:
            gains = material.gains[some][:, held]
            graded.append(hierarchical_average_precisions(block, gains, None))
    row = {
        "section": job.section,
        "embedding": job.embedding,
        "system": ranking.system,
        "bits": ranking.bits,
        "code_bits": job.bits,
        "share": job.share,
        **{f"map_at_{at}": _mean(found[at]) for at in job.ranks},
        "map": _mean(found[None]),
        "fitted_cpu_s": round(ranking.fitted_s, 3),
        "encoded_us": round(1e6 * ranking.encoded_s / max(1, len(database)), 2),
        "judged_cpu_s": round(time.process_time() - started, 2),
        **told,
    }
    if graded:
        row["ahp"] = _mean(graded)
    return row


def _mean(parts: Sequence[npt.NDArray[np.float64]]) -> float | None:
    """None where no query has a figure: JSON has no NaN."""
    values = np.concatenate(parts)
    return round(float(np.nanmean(values)), 5) if np.isfinite(values).any() else None


def _all(material: Material) -> tuple[Ints, Ints]:
    return np.arange(material.count("queries")), np.arange(material.count("database"))


def _learned(
    job: Job,
    material: Material,
    rows: Ints,
    tree: Taxonomy | None = None,
    *,
    guesses: bool = False,
    **settings: Any,
) -> tuple[Any, float]:
    """A quantizer trained on labelled clips, and the CPU seconds that it took.

    Codebooks are fitted to the database, as those of the unsupervised hashers are. With `guesses`
    the network learns from guessed labels, too: see `unlabelled_clips`.
    """
    from hashing.training.events.quantization import QuantizerTraining, train_quantizer
    from hashing.training.events.self_training import train_with_guesses

    given = {"code_bytes": job.bits // 8, "seed": job.seed}
    given |= {"steps": job.steps} if job.steps else {}
    training = dataclasses.replace(QuantizerTraining(), **{**given, **settings})
    embedded = material.embedded(job.embedding)
    labels = material.label_sets(tree).take(rows)
    known, items = embedded.training[rows], embedded.coded()
    if not guesses or not any_unlabelled(material, rows):
        started = time.process_time()
        found = train_quantizer(known, labels, training, items)
        return found, time.process_time() - started
    unlabelled = unlabelled_clips(embedded, material, rows)
    guessed, spent = _guesses(job, material)
    started = time.process_time()
    found = train_with_guesses(known, labels, unlabelled, guessed, training, items=items)
    return found, time.process_time() - started + spent


def _guesses(job: Job, material: Material) -> tuple[Guesses, float]:
    """Those of the job's share of labels, and the CPU seconds that they took."""
    from hashing.training.events.quantization import QuantizerTraining

    settings = QuantizerTraining(words=LEARNED_WEIGHT, seed=job.seed)
    settings = dataclasses.replace(settings, steps=job.steps or settings.steps)
    return guesses_of(material, _some(job, material), settings)


def prepare_guesses(job: Job, folder: str) -> int:
    """Makes the guesses that a piece and others need, unless there are some; returns 1."""
    from hashing.training.events.probe import one_thread

    one_thread()
    material = Material.open(Path(folder))
    rows = _some(job, material)
    if any_unlabelled(material, rows):
        _guesses(job, material)
    return 1


def that_guess(jobs: Sequence[Job]) -> list[Job]:
    """One piece of each that need the same guesses."""
    found = {job.share: job for job in jobs if job.section in GUESSING}
    return list(found.values())


def _some(job: Job, material: Material) -> Ints:
    """The training clips whose labels are known: a share of each class, at least one of each."""
    return material.labelled(job.share, job.seed)


def _table(job: Job, material: Material) -> Iterator[Row]:
    from hashing.training.events.probe import fit_probe

    embedded, places = material.embedded(job.embedding), _all(material)
    for ranking in unsupervised(embedded, job.bits, job.seed):
        yield judge(ranking, job, material, *places, labelled=False)
    rows = _some(job, material)
    for name, settings in SYSTEMS.items():
        found, spent = _learned(job, material, rows, **settings)
        for ranking in of_quantized(found, embedded, name):
            yield judge(
                dataclasses.replace(ranking, fitted_s=spent), job, material, *places, labelled=True
            )
    probe = fit_probe(embedded.training[rows], material.label_sets().take(rows), job.seed)
    for ranking in of_probe(probe, embedded, job.bits, job.seed):
        yield judge(ranking, job, material, *places, labelled=True)
    yield from _taught_probe(job, material)
    if job.bits == job.usual_bits:
        for ranking in real_valued(embedded, probe):
            yield judge(ranking, job, material, *places, labelled=ranking.system != "embedding")


def _taught_probe(job: Job, material: Material) -> Iterator[Row]:
    """A linear probe that learns from guesses as well: what is theirs, and what the codes'."""
    from hashing.training.events.probe import fit_probe
    from hashing.training.events.self_training import with_guesses

    embedded, rows = material.embedded(job.embedding), _some(job, material)
    if not any_unlabelled(material, rows):
        return
    unlabelled = unlabelled_clips(embedded, material, rows)
    guesses, spent = _guesses(job, material)
    labels = material.label_sets().take(rows)
    started = time.process_time()
    # In one version each: in all of them it would take as long as the networks.
    known = embedded.training[rows]
    both, told = with_guesses(known[:, :1], labels, unlabelled[:, :1], guesses)
    probe = fit_probe(both, told, job.seed)
    spent += time.process_time() - started
    for ranking in of_probe(probe, embedded, job.bits, job.seed, "probe + guesses"):
        ranking = dataclasses.replace(ranking, fitted_s=spent)
        yield judge(ranking, job, material, *_all(material), labelled=True)


def _shares(job: Job, material: Material) -> Iterator[Row]:
    from hashing.training.events.probe import fit_probe

    embedded, places, rows = material.embedded(job.embedding), _all(material), _some(job, material)
    for name in ("DQN", "DQN + words", "OrthoHash"):
        found, _ = _learned(job, material, rows, **SYSTEMS[name])
        for ranking in of_quantized(found, embedded, name):
            yield judge(ranking, job, material, *places, clips=len(rows))
    probe = fit_probe(embedded.training[rows], material.label_sets().take(rows), job.seed)
    for ranking in real_valued(embedded, probe):
        yield judge(ranking, job, material, *places, clips=len(rows))


def _unseen(job: Job, material: Material) -> Iterator[Row]:
    """Half of the labels are learned; clips of the other half ask among each other."""
    seen, unseen = material.halves_of_labels(job.seed)
    rows = _some(job, material)
    rows = rows[np.isin(material.sets_of("training", rows), np.flatnonzero(seen))]
    parts = {
        part: [
            np.flatnonzero(np.isin(material.sets_of(role, None), np.flatnonzero(sets)))
            for role in ("queries", "database")
        ]
        for part, sets in (("seen", seen), ("unseen", unseen))
    }
    if not len(rows) or not all(len(clips) for both in parts.values() for clips in both):
        return  # most clips have labels of both halves
    embedded = material.embedded(job.embedding)
    # Guesses would be at clips of labels that are to be unknown: they are left out here.
    systems = {
        name: _learned(job, material, rows, **settings)[0]
        for name, settings in SYSTEMS.items()
        if "guesses" not in settings
    }
    for part, (queries, database) in parts.items():
        own = Embedded(
            embedded.name,
            embedded.training,
            embedded.database[database],
            embedded.queries[queries],
        )
        rankings = list(unsupervised(own, job.bits, job.seed))
        rankings += [
            one for name, found in systems.items() for one in of_quantized(found, own, name)
        ]
        for ranking in (*rankings, *real_valued(own, None)):
            yield judge(ranking, job, material, queries, database, part=part)


def _taxonomy(job: Job, material: Material) -> Iterator[Row]:
    """Trained with the taxonomy and without; judged by both."""
    if material.taxonomy is None:
        return
    embedded, places, rows = material.embedded(job.embedding), _all(material), _some(job, material)
    for name, tree in (("flat", None), ("hierarchical", material.taxonomy)):
        for system in ("DQN", "DQN + words", "DTQ"):
            found, _ = _learned(job, material, rows, tree, **SYSTEMS[system])
            for ranking in of_quantized(found, embedded, f"{system} {name}"):
                yield judge(ranking, job, material, *places)


def _ablation(job: Job, material: Material) -> Iterator[Row]:
    """What the parts of deep quantization are worth."""
    from hashing.training.events.quantization import PUBLISHED

    embedded, places, rows = material.embedded(job.embedding), _all(material), _some(job, material)
    published = dataclasses.asdict(PUBLISHED)
    kept = ("system", "code_bytes", "seed", *(("steps",) if job.steps else ()))
    for name, settings in (
        ("DQN", {}),
        ("DQN, no quantization loss", {"quantization": 0.0}),
        ("DQN, quantization loss x 10", {"quantization": 1.0}),
        ("DQN, every pair alike", {"balanced": False}),
        ("DQN as published", {k: v for k, v in published.items() if k not in kept}),
    ):
        found, _ = _learned(job, material, rows, **settings)
        for ranking in of_quantized(found, embedded, name):
            yield judge(ranking, job, material, *places)


def _text(job: Job, material: Material) -> Iterator[Row]:
    """Label words ask for clips, by a joint embedding of words and sound."""
    from hashing import asymmetric
    from hashing.codebooks import Codebooks
    from hashing.events.words import WordVectors

    embedded, rows = material.embedded(job.embedding), _some(job, material)
    found, _ = _learned(job, material, rows, material.taxonomy, words=LEARNED_WEIGHT)
    items = found.respond(embedded.database)
    packed = Codebooks(found.codebooks).encode(items)
    words = WordVectors(found.words, found.word_vectors) if found.words else None
    for kind, every in material.texts().items():
        # Words of labels that are in the database alone have no vector.
        texts = [(text, held) for text, held in every if set(text.split()) & set(found.words)]
        if words is None or not texts:
            continue
        asked = np.stack([words.embed(text)[0] for text, _ in texts])
        relevant = np.stack([held for _, held in texts])
        tables = asymmetric.distance_tables(asked, found.codebooks)
        distances = np.stack([asymmetric.distances(packed, table) for table in tables])
        for name, values in (("codes", distances), ("real-valued", -asked @ items.T)):
            row: Row = {
                "section": job.section,
                "embedding": job.embedding,
                "system": f"words of {kind}, {name}",
                "bits": job.bits if name == "codes" else 32 * items.shape[1],
                "code_bits": job.bits,
                "share": job.share,
                "queries": len(texts),
            }
            for at in (*job.ranks, None):
                key = "map" if at is None else f"map_at_{at}"
                row[key] = _mean([average_precisions(values, relevant, at)])
            yield row
    ranking = by_tables(
        "sound",
        packed,
        asymmetric.distance_tables(found.respond(embedded.queries), found.codebooks),
    )
    yield judge(ranking, job, material, *_all(material))


def _multi_index(job: Job, material: Material) -> Iterator[Row]:
    """What is left of mAP@100 where only the nearest cells are looked at."""
    from hashing import asymmetric
    from hashing.events.search import ClipIndex

    embedded, rows = material.embedded(job.embedding), _some(job, material)
    found, _ = _learned(job, material, rows)
    items, asked = found.respond(embedded.database), found.respond(embedded.queries)
    index = ClipIndex(_packed(found, items), found.codebooks)
    tables = asymmetric.distance_tables(asked, found.codebooks)
    at = 100
    at_ranks = dataclasses.replace(job, ranks=tuple(sorted({*job.ranks, at})))
    exhaustive = by_tables("exhaustive", index.codes, tables)
    whole = judge(exhaustive, at_ranks, material, *_all(material))
    best = whole[f"map_at_{at}"]
    index.nearest(asked[:1], 1, share=LOOKED_AT[0])  # makes the cells
    for share in (*LOOKED_AT, None):
        far = np.full((len(asked), len(items)), np.inf, np.float32)
        looked = np.zeros(len(asked))
        started = time.process_time()
        for number, query in enumerate(asked):
            near = index.nearest(query[None], len(items), share=share)
            far[number, near.rows] = near.distances
            looked[number] = len(near.rows) / len(items)
        spent = time.process_time() - started
        name = "multi-index" if share else "all"
        ranking = Ranking(name, job.bits, functools.partial(_blocks, far))
        row = judge(ranking, at_ranks, material, *_all(material))
        yield {
            **row,
            "looked_at": round(float(looked.mean()), 5),
            "asked_share": share,
            "cpu_us_a_query": round(1e6 * spent / len(asked), 1),
            "kept": round(row[f"map_at_{at}"] / best, 4) if best else None,
        }


def _blocks(distances: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    for first in range(0, len(distances), BLOCK):
        yield distances[first : first + BLOCK]


def _packed(found: Any, items: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    from hashing.codebooks import Codebooks

    return Codebooks(found.codebooks).encode(items)


# Systems that learn from labels, and their settings.
SYSTEMS: dict[str, dict[str, Any]] = {
    "DQN": {},
    "DQN + words": {"words": LEARNED_WEIGHT},
    "DQN + words + guesses": {"words": LEARNED_WEIGHT, "guesses": True},
    "DTQ": {"system": "dtq"},
    "OrthoHash": {"system": "orthohash"},
}

SECTIONS = {
    "table": _table,
    "shares": _shares,
    "unseen": _unseen,
    "taxonomy": _taxonomy,
    "ablation": _ablation,
    "text": _text,
    "multi-index": _multi_index,
}
