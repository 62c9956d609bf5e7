"""What the Forgiving Hash paper left for later, measured: one bit a learner, other songs, noise.

Baluja & Covell (IJCAI 2007) name three things to try next: learners of a single bit, learners that
are trained on different sets of songs, and noise. Beside them stand the two choices of this
reproduction that most could depend on, the learning rate and the size of the database.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.conditions import Condition, Surroundings
from hashing.forgiving import mutual_information
from hashing.training.study import Trained
from hashing.training.study_lookup import Tables, ask, keys_of, song_interval
from hashing.training.study_music import Database
from hashing.training.study_paper import (
    Rows,
    Setting,
    bit_setting,
    by_length,
    compare_hashes,
    share,
)

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bits = npt.NDArray[np.bool_]

# Unstructured and structured noise, by how far it lies below the music, dB.
NOISE_DB = (20, 10, 5, 0)
NOISE_LENGTHS_S = (5.0, 13.0)

# Share of the database at which learning rates are compared, as the paper's large test examines,
# and lengths of keys that lie on both sides of it.
RATE_EXAMINED = 0.0027
RATE_KEY_BITS = (8, 10, 12, 14, 16, 18, 20, 22)

ABLATION_TABLES = 10
ABLATION_KEY_BITS = (8, 10, 12, 14, 16, 18, 20)


def conditions() -> list[Condition]:
    """White noise and ambience at each level, and a room.

    >>> [condition.name for condition in conditions()][:2]
    ['white@20', 'white@10']
    """
    names = [f"{kind}@{level}" for kind in ("white", "ambience") for level in NOISE_DB]
    return [Condition.parse(name) for name in (*names, "reverb")]


def degrader(
    condition: Condition, surroundings: Surroundings, seed: int
) -> Callable[[Floats, int], Floats]:
    """What happens to a track's music under a condition; each track draws its own noise."""

    def degrade(samples: Floats, track: int) -> Floats:
        name = sum(ord(letter) * 31**i for i, letter in enumerate(condition.name))
        rng = np.random.default_rng([seed, name, track])
        return surroundings.degrade(samples, condition, rng)

    return degrade


def under_noise(
    settings: Sequence[Setting],
    database: Database,
    heard: Database,
    queries: Integers,
    condition: str,
    starts: int,
    places_a_second: float,
    rng: np.random.Generator,
) -> Rows:
    """Single snippets and longer queries, heard in noise, looked up in the clean database."""
    rows: Rows = []
    for one in settings:
        answers = ask(Tables(one.keys(database)), one.keys(heard)[queries], database, queries)
        low, high = song_interval(answers.right, database.song[queries], rng)
        rows.append(
            {
                "condition": condition,
                "hash": one.name,
                "length_s": 1.4,
                "examined": round(answers.examined, 6),
                "right": share(answers.right.mean()),
                "low": low,
                "high": high,
                "queries": len(queries),
            }
        )
        longer = by_length([one], database, heard, starts, 1, places_a_second, NOISE_LENGTHS_S, rng)
        kept = ("hash", "length_s", "right", "low", "high", "queries")
        rows += [{"condition": condition, **{name: row[name] for name in kept}} for row in longer]
    return rows


def variants(
    ensembles: Mapping[str, Trained],
    snippets: Floats,
    database: Database,
    queries: Integers,
) -> Rows:
    """Ensembles of equally many bits, at several lengths of key.

    Args:
      ensembles: the networks, by name.
      snippets: [n, components] of training music, over which bits are chosen.
    """
    rows: Rows = []
    for name, trained in ensembles.items():
        training_bits = trained.bits(snippets)
        bits = trained.bits(database.views["front"])
        k = bits.shape[1]
        outputs = trained.network.second.shape[2]
        learned = {
            "variant": name,
            "networks": len(trained.network.hidden),
            "outputs": outputs,
            "bits_right_share": share(float(np.mean(trained.bits_right)) / outputs),
            "agreement": share(_agreement(bits, database)),
            "shared_information": round(_shared_information(training_bits), 5),
        }
        tables = min(ABLATION_TABLES, k)
        settings = [
            bit_setting(name, functools.partial(_given, bits), training_bits, tables, b)
            for b in ABLATION_KEY_BITS
            if b <= k
        ]
        for row in compare_hashes(settings, database, queries):
            rows.append(learned | {key: value for key, value in row.items() if key != "hash"})
    return rows


def _given(bits: Bits, database: Database) -> Bits:
    """Bits that were computed before, for the only database that is asked."""
    assert len(bits) == len(database)
    return bits


def _agreement(bits: Bits, database: Database) -> float:
    """Share of equal bits of neighbouring snippets, one hop apart."""
    neighbours = (np.diff(database.song) == 0) & (np.diff(database.place) == 1)
    return float((bits[:-1] == bits[1:])[neighbours].mean()) if neighbours.any() else float("nan")


def _shared_information(bits: Bits) -> float:
    """Mean mutual information of two different bits."""
    information = mutual_information(bits)
    return float(information[~np.eye(len(information), dtype=bool)].mean())


def at_rate(
    trained: Trained, snippets: Floats, database: Database, queries: Integers
) -> dict[str, Any]:
    """What a learning rate makes of single networks, and of hash tables of all their bits.

    Args:
      trained: some networks.
      snippets: [n, components] of training music, over which bits are chosen.
      database: songs that nothing else is measured on, as the rate is chosen by them.

    Returns:
      a row: means over single networks, and `right`, the share of top answers that are right where
      `RATE_EXAMINED` of the database is examined by `ABLATION_TABLES` tables (between lengths of
      key that examine more and less).
    """
    outputs = trained.network.second.shape[2]
    bits = trained.bits(database.views["front"])
    found, examined = [], []
    for network in range(len(trained.network.hidden)):
        own = np.arange(network * outputs, (network + 1) * outputs)
        keys = keys_of(bits, own[None, :])
        answers = ask(Tables(keys), keys[queries], database, queries)
        found.append(answers.found.mean())
        examined.append(answers.examined)
    return {
        "networks": len(trained.network.hidden),
        "outputs": outputs,
        "bits_right": round(float(np.mean(trained.bits_right)), 3),
        "examined": round(float(np.mean(examined)), 6),
        "found": share(float(np.mean(found))),
        "right": share(_right_at(trained.bits(snippets), bits, database, queries)),
    }


def _right_at(training_bits: Bits, bits: Bits, database: Database, queries: Integers) -> float:
    """See `at_rate`."""
    k = bits.shape[1]
    settings = [
        bit_setting("", functools.partial(_given, bits), training_bits, min(ABLATION_TABLES, k), b)
        for b in RATE_KEY_BITS
        if b <= k
    ]
    found = sorted(
        (math.log(max(row["examined"], 1e-9)), row["right"])
        for row in compare_hashes(settings, database, queries)
    )
    if not found:
        return float("nan")
    examined, right = zip(*found, strict=True)
    return float(np.interp(math.log(RATE_EXAMINED), examined, right))


def by_size(
    settings: Sequence[Setting],
    database: Database,
    more: Database,
    sizes: Sequence[int],
    queries: Integers,
) -> Rows:
    """Accuracy by songs in the database, asked for the same songs.

    Args:
      database: songs unheard in training, in random order; queries are from the fewest of `sizes`.
      more: songs that stand beside all of them in the largest database.
    """
    rows: Rows = []
    fewest = min(*sizes, database.songs)
    asked = queries[database.song[queries] < fewest]
    if not len(asked):
        return rows
    choices: list[tuple[int, Database]] = [
        (size, _part(database, database.song < size)) for size in sizes if size <= database.songs
    ]
    choices.append((database.songs + more.songs, _both(database, more)))
    for songs, one in choices:
        for row in compare_hashes(settings, one, asked):
            rows.append({"songs": songs, "snippets": len(one), "queries": len(asked), **row})
    return rows


def in_random_order(database: Database, rng: np.random.Generator) -> Database:
    """The same songs with other numbers, rows sorted by them."""
    number = rng.permutation(database.songs)
    order = np.argsort(number[database.song], kind="stable")
    return Database(
        number[database.song][order],
        database.place[order],
        {name: view[order] for name, view in database.views.items()},
        [database.tracks[i] for i in np.argsort(number).tolist()],
    )


def _part(database: Database, chosen: npt.NDArray[np.bool_]) -> Database:
    """The first songs, whose rows stand first."""
    songs = int(database.song[chosen].max()) + 1
    views: dict[str, Any] = {name: view[chosen] for name, view in database.views.items()}
    return Database(database.song[chosen], database.place[chosen], views, database.tracks[:songs])


def _both(database: Database, more: Database) -> Database:
    return Database(
        np.concatenate((database.song, more.song + database.songs)),
        np.concatenate((database.place, more.place)),
        {name: np.concatenate((view, more.views[name])) for name, view in database.views.items()},
        [*database.tracks, *more.tracks],
    )
