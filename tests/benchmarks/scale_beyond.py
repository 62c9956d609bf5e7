"""From one table of a million tracks to all tables, and to 10 and 100 million tracks.

One table that is asked with thirteen times the usual probes meets about as many buckets, postings
and candidates as thirteen tables do: it stands for them, and is held against indexes with all 13.
Beyond what was built, the postings that keys meet are those that keys of real music would.
"""

from __future__ import annotations

import math
from typing import Any

Figures = dict[str, Any]

TABLES = 13
SECONDS = ("1", "5", "10")
SIZES = ("1M", "10M", "100M", "480M")
CHECKED = ("1M", "10M")  # where all tables were built
LARGEST = "480M"
FULL = "10"  # seconds of queries that have as many candidates in one table as in all


def wide(results: Figures, size: str) -> Figures:
    """What stands for all tables."""
    found: Figures = results[f"lookup {size}-wide"]
    return found


def every(results: Figures, size: str) -> Figures | None:
    """All tables, where they were built."""
    return results.get(f"lookup {size}-all")


def hit_ms(results: Figures, seconds: str = FULL) -> float:
    """What a posting that is met costs: by what votes cost in one table, and thirteen times asked.

    Of the largest index, from queries with as many candidates in both.
    """
    few, many = results[f"lookup {LARGEST}"][seconds], wide(results, LARGEST)[seconds]
    return float((_spent(many) - _spent(few)) / (many["hits"] - few["hits"]))


def beyond(results: Figures, plan: Figures, seconds: str) -> Figures:
    """A query to an index that `plan` tells of; CPU ms, warm."""
    known = wide(results, LARGEST)[seconds]
    keys = known["keys"]
    postings, bits = plan["postings"] / plan["n_tables"], plan["key_bits"]
    met = load(results["balance"]["real"], bits) * postings
    hits = keys * met
    more = hit_ms(results) * (hits - known["hits"])
    # Each segment is looked up in by itself.
    more += (plan["segments"] - 1) * known["buckets_cpu_ms"]
    return {"hits_a_key": met, "hits": hits, "search_cpu_ms": known["search_cpu_ms"] + more}


def load(balance: Figures, bits: int) -> float:
    """Share of the postings that a key of so many bits meets; between those measured, by powers.

    >>> round(load({"30": {"load": 2**-26}, "32": {"load": 2**-28}}, 31) * 2**27)
    1
    """
    known = sorted(map(int, balance))
    low = max(one for one in known if one <= bits)
    high = min(one for one in known if one >= bits)
    first, last = (math.log2(balance[str(one)]["load"]) for one in (low, high))
    share = (bits - low) / (high - low) if high > low else 0.0
    return float(2 ** (first + share * (last - first)))


def _spent(figures: Figures) -> float:
    """From keys to candidates."""
    return float(figures["candidates_cpu_ms"] - figures["keys_cpu_ms"])
