"""What the page of disambiguation says in words: differences, figures, names inside a text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.disambiguation.outcome import Feature, Side

# A statistic that sets a cluster apart by less says nothing to a person: standard deviations for
# measures, difference of the shares otherwise.
_WEAK_DEVIATIONS, _WEAK_SHARE = 0.5, 0.15
# Signs that turn the direction of what follows them, beyond the end of a name.
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def tells(feature: Feature) -> bool:
    """Whether a difference is large enough to tell a person something.

    >>> [tells(Feature("tempo", 90.0, 96.0, "bpm", strength)) for strength in (-0.1, -2.0)]
    [False, True]
    """
    weak = _WEAK_SHARE if feature.unit == "%" else _WEAK_DEVIATIONS
    return math.isfinite(feature.strength) and abs(feature.strength) >= weak


def in_words(feature: Feature) -> str:
    """A difference, for a person.

    >>> in_words(Feature("tempo", 128.0, 96.04, "bpm", 1.8))
    'tempo: 128 bpm, the others 96 bpm'
    >>> in_words(Feature("genre jazz", 80.0, 5.0, "%", 0.75))
    'genre jazz: 80 % of the tracks, 5 % of the others'
    >>> in_words(Feature("year of release", 1998.4, 2005.0, "year", -1.2))
    'year of release: 1998, the others 2005'
    """
    if feature.unit == "%":
        shares = f"{feature.value:.0f} % of the tracks, {feature.rest:.0f} % of the others"
        return f"{feature.name}: {shares}"
    here, rest = (_amount(value, feature.unit) for value in (feature.value, feature.rest))
    return f"{feature.name}: {here}, the others {rest}"


def _amount(value: float, unit: str) -> str:
    if unit == "year":
        return f"{value:.0f}"
    return f"{value:,.0f} {unit}".strip() if abs(value) >= 1000 else f"{value:.3g} {unit}".strip()


def side_name(side: Side) -> str:
    """One side of a proposal: the name, the number of the cluster, the known id."""
    number = f" {side.cluster}" if side.cluster else ""
    known = f" (id {isolated(side.artist_id)})" if side.artist_id else ""
    return f"{isolated(side.name)}{number}{known}"


def isolated(name: str) -> str:
    """A name inside a text, so that its direction turns nothing around it (Unicode 6.3, UAX 9).

    >>> isolated("abc\\u202e") == "\\u2068abc\\u2069"  # what would turn the rest is left out
    True
    """
    plain = _TURNS.sub("", name)
    return f"\u2068{plain}\u2069"


def counted(number: int, what: str) -> str:
    """So many of something.

    >>> counted(1, "track"), counted(1200, "track")
    ('1 track', '1,200 tracks')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def joined(names: Sequence[str]) -> str:
    """A list for a person.

    >>> joined(["a", "b", "c"]), joined(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Figures of any nesting as (name, text).

    >>> list(flat({"mean": {"ari": 0.6512, "groups": 12}, "note": "seen_tracks"}))
    [('mean.ari', '0.651'), ('mean.groups', '12'), ('note', 'seen_tracks')]
    """
    for name, value in values.items():
        label = f"{above}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        elif isinstance(value, float):
            yield label, f"{value:.3g}" if math.isfinite(value) else "–"
        elif isinstance(value, str | int):
            yield label, str(value)
        elif value is None:
            yield label, "–"
