"""What the Forgiving Hash paper left for later, as it came out: a question and figures each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report.forgiving_claims import REFERENCE_EXAMINED, accuracy_at, only

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]

# Of the queries whose noise is compared, seconds.
NOISE_LENGTH_S = 5.0

NAMES = {
    "reassigned": "forgiving hash",
    "random projections": "random projections",
    "min-hash": "Min-Hash",
}


def findings(tables: Tables) -> list[dict[str, str]]:
    """Rows ``question`` and ``here``."""
    made = (_one_bit, _own_songs, _unstructured, _structured, _room, _rates, _sizes)
    return [
        {"question": question, "here": here} for question, here in (one(tables) for one in made)
    ]


def comparable(*kinds: Sequence[Row]) -> float:
    """The paper's share examined, or the least above it that settings of all kinds examine.

    >>> comparable([{"examined": 0.001}, {"examined": 0.01}], [{"examined": 0.004}])
    0.004
    """
    least = [float(min(row["examined"] for row in rows)) for rows in kinds]
    return max(REFERENCE_EXAMINED, *least)


def _against_same(tables: Tables, name: str) -> str:
    own = only(tables["variants"], variant=name)
    same = only(tables["variants"], variant="same songs")
    share = comparable(own, same)
    here, other = accuracy_at(own, share), accuracy_at(same, share)
    return (
        f"{_percent(here)} of answers right against {_percent(other)} with {same[0]['networks']} "
        f"networks of {same[0]['outputs']} bits on the same songs, where "
        f"{100 * share:.2f} % are examined; bits right after training "
        f"{_percent(own[0]['bits_right_share'])} against {_percent(same[0]['bits_right_share'])}; "
        f"information that two bits share {own[0]['shared_information']:.4f} against "
        f"{same[0]['shared_information']:.4f} bits"
    )


def _one_bit(tables: Tables) -> tuple[str, str]:
    return "Learners of one bit each", _against_same(tables, "one bit")


def _own_songs(tables: Tables) -> tuple[str, str]:
    return "Learners trained on different songs", _against_same(tables, "own songs")


def _unstructured(tables: Tables) -> tuple[str, str]:
    return "Unstructured noise (white)", _noise(tables, "white")


def _structured(tables: Tables) -> tuple[str, str]:
    return "Structured noise (ambience)", _noise(tables, "ambience")


def _noise(tables: Tables, kind: str) -> str:
    parts = []
    for name, title in NAMES.items():
        rows = [
            (float(row["condition"].split("@")[1]), row["right"])
            for row in only(tables["noise"], hash=name, length_s=NOISE_LENGTH_S)
            if row["condition"].startswith(f"{kind}@")
        ]
        if rows:
            shares = " · ".join(f"{100 * right:.0f}" for _, right in sorted(rows, reverse=True))
            parts.append((title, shares, sorted((level for level, _ in rows), reverse=True)))
    if not parts:
        return "no query is as long as that"
    levels = ", ".join(f"{level:g}" for level in parts[0][2])
    figures = "; ".join(f"{title} {shares}" for title, shares, _ in parts)
    return f"{NOISE_LENGTH_S:g} s queries, {levels} dB below the music: {figures} % right"


def _room(tables: Tables) -> tuple[str, str]:
    rows = {
        name: only(tables["noise"], hash=name, length_s=NOISE_LENGTH_S, condition="reverb")
        for name in NAMES
    }
    shares = [f"{NAMES[name]} {_percent(row[0]['right'])}" for name, row in rows.items() if row]
    here = ", ".join(shares) or "no query is as long as that"
    return "A room, which the paper does not name", here


def _rates(tables: Tables) -> tuple[str, str]:
    rates = sorted({row["learning_rate"] for row in tables["rates"]})
    parts = []
    for rate in rates:
        both = {r["procedure"]: r for r in only(tables["rates"], learning_rate=rate)}
        right = " and ".join(_percent(r["right"]) for r in both.values())
        bits = " and ".join(f"{100 * r['bits_right'] / r['outputs']:.0f}" for r in both.values())
        parts.append(f"{rate:g}: {right} of answers, {bits} % of bits")
    return "The learning rate, targets that move and that stay", "; ".join(parts)


def _sizes(tables: Tables) -> tuple[str, str]:
    rows = only(tables["sizes"], hash="reassigned")
    parts = [f"{_percent(row['right'])} among {row['snippets']:,} snippets" for row in rows]
    return "The size of the database, single snippets", ", ".join(parts)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
