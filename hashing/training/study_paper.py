"""The measurements of the Forgiving Hash paper, each as rows of a table.

Baluja & Covell, "Learning 'Forgiving' Hash Functions" (IJCAI 2007). Shares are of 1; `examined` is
the mean share of the database's snippets that a query's bins hold.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import codes
from hashing.forgiving import group_bits
from hashing.selection import selectors
from hashing.training.study import Trained
from hashing.training.study_lookup import (
    Answers,
    Keys,
    SongVotes,
    Tables,
    ask,
    byte_keys,
    keys_of,
    song_interval,
)
from hashing.training.study_music import Database

Bits = npt.NDArray[np.bool_]
Rows = list[dict[str, Any]]
Keyed = Callable[[Database], Keys]  # the keys of a database's snippets, [n, tables]

# The paper's grid, and the setting that it reports most about.
TABLES = (1, 3, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22)
KEY_BITS = (10, 12, 14, 16, 18, 20, 22)
REFERENCE = (18, 22)

RANKS = 25
LENGTHS_S = (1.4, 2.0, 5.0, 13.0, 25.0)  # of queries, as Table II has them

# Keys that hashes of random projections may have, so that some setting examines as little as the
# reference does.
PROJECTION_KEY_BITS = (10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32)

# Tables and bytes a key of Min-Hash: Waveprint's own are (20, 5) and (25, 4).
MINHASH_SETTINGS = (
    *((18, 1), (18, 2), (18, 3), (18, 4), (18, 5), (16, 6), (14, 7), (12, 8)),
    *((20, 5), (25, 4), (33, 3), (50, 2)),
)

SELECTION_TABLES = 20  # hashes of each length over which a selector is averaged


@dataclasses.dataclass(frozen=True)
class Setting:
    """A hash of some kind with so many tables of so many bits, and how its keys are made."""

    name: str
    n_tables: int
    key_bits: int
    keys: Keyed


def share(value: float) -> float:
    """Rounded to what the number of queries supports.

    >>> share(0.123456)
    0.1235
    """
    return round(float(value), 4)


def single_networks(
    ensembles: Mapping[str, Trained],
    database: Database,
    queries: npt.NDArray[np.int64],
) -> Rows:
    """Each network as a hash table of its own: candidates, and bins that hold the right song."""
    rows: Rows = []
    for procedure, trained in ensembles.items():
        outputs = trained.network.second.shape[2]
        bits = trained.bits(database.views["front"])
        for network, hidden in enumerate(trained.network.hidden):
            own = np.arange(network * outputs, (network + 1) * outputs)
            answers = _ask(keys_of(bits, own[None, :]), database, queries)
            rows.append(
                {
                    "procedure": procedure,
                    "network": network,
                    "hidden": hidden,
                    "outputs": outputs,
                    "bits_right": _number(trained.bits_right[network]),
                    "candidates": round(float(answers.candidates.mean()), 1),
                    "examined": round(answers.examined, 6),
                    "found": share(answers.found.mean()),
                }
            )
    return rows


def compare_selectors(
    training_bits: Bits,
    bits: Bits,
    database: Database,
    queries: npt.NDArray[np.int64],
    key_bits: Sequence[int],
    rng: np.random.Generator,
) -> Rows:
    """Single hashes of bits chosen in three ways from those of all networks.

    Args:
      training_bits: [n, k] of the training snippets, which the choice is made on.
      bits: [n, k] of the database.
    """
    rows: Rows = []
    k = training_bits.shape[1]
    for name, select in selectors(rng).items():
        for b in (b for b in key_bits if b <= k):
            positions = select(training_bits, min(SELECTION_TABLES, k), b)
            keys = keys_of(bits, positions)
            each = [
                _ask(keys[:, table : table + 1], database, queries)
                for table in range(keys.shape[1])
            ]
            rows.append(
                {
                    "selector": name,
                    "key_bits": b,
                    "hashes": len(each),
                    "candidates": round(float(np.mean([a.candidates.mean() for a in each])), 2),
                    "examined": round(float(np.mean([a.examined for a in each])), 7),
                    "found": share(float(np.mean([a.found.mean() for a in each]))),
                    "found_deviation": share(float(np.std([a.found.mean() for a in each]))),
                }
            )
    return rows


def grid(
    training_bits: Bits,
    bits: Bits,
    database: Database,
    queries: npt.NDArray[np.int64],
    n_tables: Sequence[int],
    key_bits: Sequence[int],
) -> Rows:
    """Accuracy and share examined by number of tables and bits a key, bits by information.

    Where songs are excerpts of the same tracks, `right_recording` has the accuracy that counts all
    excerpts of the query's track as right.
    """
    rows: Rows = []
    k = training_bits.shape[1]
    for b in (b for b in key_bits if b <= k):
        for tables in (t for t in n_tables if t <= k):
            positions = group_bits(training_bits, tables, b)
            keys = keys_of(bits, positions)
            row = {"n_tables": tables, "key_bits": b, **_summary(_ask(keys, database, queries))}
            if len(set(database.tracks)) < database.songs:
                whole = _ask(keys, by_recording(database), queries)
                row["right_recording"] = share(whole.right.mean())
            rows.append(row)
    return rows


def by_recording(database: Database) -> Database:
    """The same snippets, where all excerpts of a track are one song.

    >>> four = Database(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), {}, [7, 7])
    >>> by_recording(four).song.tolist(), by_recording(four).place.tolist()
    ([0, 0, 0, 0], [0, 1, 2, 3])
    """
    tracks, number = np.unique(np.array(database.tracks), return_inverse=True)
    # Places only have to tell a query's own snippet from the others.
    places = database.place + database.song * (int(database.place.max()) + 1)
    return Database(number[database.song], places, database.views, tracks.tolist())


def rank_shares(
    setting: Setting, database: Database, queries: npt.NDArray[np.int64], rng: np.random.Generator
) -> Rows:
    """Share of queries whose candidate at each rank is of the right song."""
    keys = setting.keys(database)
    answers = ask(Tables(keys), keys[queries], database, queries, ranks=RANKS, rng=rng)
    return [
        {"rank": rank + 1, "right": share(answers.ranked[:, rank].mean())} for rank in range(RANKS)
    ]


def compare_hashes(
    settings: Sequence[Setting], database: Database, queries: npt.NDArray[np.int64]
) -> Rows:
    """Accuracy and share examined of hashes of several kinds."""
    return [
        {
            "hash": one.name,
            "n_tables": one.n_tables,
            "key_bits": one.key_bits,
            **_summary(_ask(one.keys(database), database, queries)),
        }
        for one in settings
    ]


def by_length(
    settings: Sequence[Setting],
    database: Database,
    heard: Database,
    starts: int,
    apart: int,
    places_a_second: float,
    lengths_s: Sequence[float],
    rng: np.random.Generator,
    rules: Sequence[str] = ("sum",),
) -> Rows:
    """Share of queries of each length whose song has the most votes.

    Args:
      database: what is looked up in.
      heard: the same snippets as they are heard in the queries: itself, or degraded.
      starts: queries of a song and length.
      apart: hops between a query and what is left of its song; see `SongVotes.right`.
      rules: how votes are added up; see there.
    """
    rows: Rows = []
    longest = int(database.place.max()) + 1
    for one in settings:
        votes = SongVotes.count(Tables(one.keys(database)), one.keys(heard), database)
        for rule, seconds in itertools.product(rules, lengths_s):
            places = min(places_of(seconds, places_a_second), longest)
            right, song, _ = votes.right(places, starts, apart=apart, rule=rule)
            if not len(right):
                continue
            low, high = song_interval(right, song, rng)
            rows.append(
                {
                    "hash": one.name,
                    "n_tables": one.n_tables,
                    "key_bits": one.key_bits,
                    "length_s": seconds,
                    "snippets": places,
                    "apart": apart,
                    "rule": rule,
                    "right": share(right.mean()),
                    "low": low,
                    "high": high,
                    "queries": len(right),
                    "songs": len(np.unique(song)),
                }
            )
    return rows


def places_of(seconds: float, places_a_second: float) -> int:
    """Snippets of a query: one at 1.4 s, and another for each hop that it is longer.

    >>> [places_of(seconds, 8.6125) for seconds in (1.4, 2.0, 13.0)]
    [1, 6, 101]
    """
    return 1 + round((seconds - LENGTHS_S[0]) * places_a_second)


def bit_setting(
    name: str,
    bits: Callable[[Database], Bits],
    training_bits: Bits,
    n_tables: int,
    key_bits: int,
) -> Setting:
    """Tables of bits dealt out by mutual information over the training snippets."""
    positions = group_bits(training_bits, n_tables, key_bits)
    return Setting(name, n_tables, key_bits, lambda database: keys_of(bits(database), positions))


def projection_setting(view: str, bits: int, n_tables: int, key_bits: int) -> Setting:
    """Tables of random projections, whose packed bits are a view; bits are used in turn."""
    # Drawn at random already: any bits are as good, and none is twice in one table.
    positions = (np.arange(n_tables * key_bits) % bits).reshape(n_tables, key_bits)
    return Setting(
        view, n_tables, key_bits, lambda database: codes.keys(database.views[view], positions)
    )


def minhash_setting(view: str, n_tables: int, key_bytes: int) -> Setting:
    """Tables of bytes of a Min-Hash signature, which is a view."""
    return Setting(
        view,
        n_tables,
        8 * key_bytes,
        lambda database: byte_keys(database.views[view], n_tables, key_bytes),
    )


def nearest_setting(
    settings: Sequence[Setting], rows: Sequence[Mapping[str, Any]], examined: float
) -> Setting:
    """The setting whose share examined is nearest to a given one, by their ratio."""
    distances = [abs(np.log(max(row["examined"], 1e-9) / max(examined, 1e-9))) for row in rows]
    return settings[int(np.argmin(distances))]


def _ask(keys: Keys, database: Database, queries: npt.NDArray[np.int64]) -> Answers:
    return ask(Tables(keys), keys[queries], database, queries)


def _summary(answers: Answers) -> dict[str, Any]:
    return {
        "candidates": round(float(answers.candidates.mean()), 1),
        "examined": round(answers.examined, 6),
        "found": share(answers.found.mean()),
        "right": share(answers.right.mean()),
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 3)
