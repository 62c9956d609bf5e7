"""Two versions of an index, each with its model, asked the same queries: which finds more.

The queries are those of ``hashbeam evaluate lookup``: stretches cut from tracks that both versions
hold, with noise. Neither version is changed, and the new one need not be published.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hashing.conditions import Condition, Surroundings
from hashing.decoder import Decoder
from hashing.encoders import Hasher
from hashing.search import PROBES
from pipelines.changes.classes import HASHED, Changes
from pipelines.evaluation.accuracy import Result
from pipelines.evaluation.comparison import Bootstrap
from pipelines.evaluation.questions import SAMPLE_RATE, Question, Questions, Source, Tracks
from pipelines.evaluation.systems import OpenedIndex, System, ask, same_audio, systems_of
from pipelines.live import failed_tracks, without_codes
from pipelines.versions import Manifest

# Seconds of the queries and what is done to them, each for a quarter of them; without recordings
# an ambience is pink noise. So short and so noisy that a good model misses some: of queries that
# every model finds nothing is learned. On 60 tracks, `contrastive` finds 93 % and `forgiving` 79 %;
# at 5 dB less noise 99.5 % and 97 %, which could be chance.
KINDS = ((1.0, "white@0"), (1.0, "white@-5"), (1.0, "ambience@0"), (2.0, "ambience@-5"))
QUERIES = 200  # see `pipelines.gating.model` for what they tell apart
SEED = 1
PUBLISHED, NEW = "published", "new"


@dataclasses.dataclass(frozen=True)
class Rival:
    """A version and its model."""

    manifest: Manifest
    hasher: Hasher


def in_both(index: str, new: Manifest, changes: Changes, catalog: pa.Table) -> pa.Table:
    """The rows of the catalogue whose track is the same in both versions, and live in both.

    Args:
        changes: since the published version.
    """
    ids = catalog["track_id"]
    rows = changes.of(*HASHED, "renamed", "failed")
    # By --force every track counts as changed, without a look at it: it is taken to be the same.
    forced = pc.equal(rows["reason"].cast(pa.string()), "forced")
    others = rows.filter(pc.invert(forced))["track_id"].combine_chunks()
    failed = [without_codes(table)["track_id"] for table in failed_tracks(index, new)]
    lost = pa.concat_arrays([others, *(chunk for one in failed for chunk in one.chunks)])
    return catalog.filter(pc.invert(pc.is_in(ids, lost)))


def compare(
    index: str,
    published: Rival,
    new: Rival,
    catalog: pa.Table,
    changes: Changes,
    queries: int,
    *,
    show: bool,
) -> dict[str, Any]:
    """What both versions find.

    Args:
        catalog, changes: what `new` was made of, and what had changed since `published`.
        queries: how many; each from a track of its own where there are enough.
        show: a progress bar on stderr.

    Returns: `queries` that were asked and from how many `tracks`; the shares that `published` and
        `new` have answered right first, their `difference` (new less published) with its 95 %
        interval from `low` to `high`; the same shares by kind of query in `kinds`; `not_asked`, why
        some were not, and how many. A track that sounds the same at the place counts as right.

    Raises: HashbeamError where a version cannot be read.
    """
    tracks = in_both(index, new.manifest, changes, catalog)
    results: dict[str, list[Result]] = {PUBLISHED: [], NEW: []}
    with Decoder() as decoder:
        systems = _systems(index, published, new)
        uris = dict[str, str]()
        audio = Tracks(uris, SAMPLE_RATE, decoder)
        for question in _questions(tracks, queries, uris, audio, show=show):
            answers = ask(question, systems, {question.source.track_id: ""}, audio)
            for result in _judged(list(answers), question, catalog, uris, audio):
                results[result.system].append(result)
    return _figures(results)


def _systems(index: str, published: Rival, new: Rival) -> list[System]:
    indexes = []
    for name, rival in ((PUBLISHED, published), (NEW, new)):
        opened = OpenedIndex(index, None, manifest=rival.manifest, hasher=rival.hasher)
        opened.name = name
        indexes.append(opened)
    return systems_of(indexes, [PROBES])


def _questions(
    tracks: pa.Table, queries: int, uris: dict[str, str], audio: Tracks, *, show: bool
) -> Iterator[Question]:
    """The queries, numbered through; places are drawn by chance."""
    if not tracks.num_rows:
        return
    rng = np.random.default_rng(SEED)
    chosen = rng.permutation(tracks.num_rows)[:queries]
    rows = tracks.select(["track_id", "uri"]).take(pa.array(chosen)).to_pylist()
    sources = [Source(row["track_id"], row["uri"] or "", "") for row in rows]
    uris.update((one.track_id, one.uri) for one in sources)
    number = 0
    for at, (seconds, name) in enumerate(KINDS):
        own = sources[at :: len(KINDS)] or sources
        places = len(range(at, queries, len(KINDS)))
        air = Surroundings(SAMPLE_RATE)
        asked = Questions((seconds,), (Condition.parse(name),), places, 0, air, SEED + at)
        for question in asked.cut(own, [], audio, show=show) if places else ():
            yield dataclasses.replace(question, number=number)
            number += 1


def _judged(
    results: Sequence[Result],
    question: Question,
    catalog: pa.Table,
    uris: dict[str, str],
    audio: Tracks,
) -> Iterator[Result]:
    """What was said, right also where another track sounds the same.

    A query that one model cannot hear and the other can is one that it does not answer.
    """
    heard = not all(result.error for result in results)
    for result in results:
        right = result.right
        if result.answer and not right:
            if result.answer not in uris:
                row = pc.index(catalog["track_id"], pa.scalar(result.answer)).as_py()
                if row >= 0:
                    uris[result.answer] = catalog["uri"][row].as_py() or ""
            if result.answer in uris:
                right = same_audio(question, result.answer, result.offset_s, audio)
        yield dataclasses.replace(result, right=right, error="" if heard else result.error)


def _figures(results: dict[str, list[Result]]) -> dict[str, Any]:
    asked = {name: [one for one in rows if not one.error] for name, rows in results.items()}
    errors = Counter(one.error for one in results[NEW] if one.error)
    found: dict[str, Any] = {
        "queries": len(asked[NEW]),
        "tracks": len({one.source for one in asked[NEW]}),
        "not_asked": dict(errors.most_common()),
    }
    if not asked[NEW]:
        return found
    difference = Bootstrap(results, SEED).difference(NEW, PUBLISHED, None)["top1"]
    kinds = []
    for seconds, condition in KINDS:
        own = {
            name: [r.right for r in rows if (r.duration_s, r.condition) == (seconds, condition)]
            for name, rows in asked.items()
        }
        shares = {name: _share(flags) for name, flags in own.items()}
        told = {"duration_s": seconds, "condition": condition, "queries": len(own[NEW])}
        kinds.append({**told, **shares})
    shares = {name: _share([one.right for one in rows]) for name, rows in asked.items()}
    return {**found, **shares, **difference, "kinds": kinds}


def _share(flags: Sequence[bool]) -> float | None:
    return round(sum(flags) / len(flags), 4) if flags else None
