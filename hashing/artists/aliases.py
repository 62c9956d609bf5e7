"""Names that may be one artist spelt in two ways: proposals for an editor, never merges.

All pairs of 100,000 names are five thousand million. Only those are compared that share a *block*:
a rare word, the same words, the same initials and last word, the same consonants, a rare run of
three letters, or the name with one letter left out. A block with too many names tells nothing and
is passed over, so work grows with the names. Names are compared in Latin letters, whatever their
script; those that differ in a number ("Sum 41", "Sum 42") are never proposed.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from anyascii import anyascii
from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from hashing.artists.names import DEFAULT_RULES, NameRules, is_placeholder, normalise

Ints = npt.NDArray[np.int64]

# Likeness of spelling from which on a pair is proposed: one letter of six may differ.
LEAST_LIKENESS = 0.83

# Names that sound alike must be spelt alike as well, as much as this.
_LEAST_BY_SOUND = 0.6

# So must what is left of two names without the words that they share: "John Smith" is not "Jane
# Smith", and "Kyoto Orchestra" not "Quito Orchestra".
_LEAST_OF_REST = 0.5

# Scores of pairs that are not alike letter by letter, below those that are.
_SCORE_OF_INITIALS = 0.8
_SCORE_OF_PART = 0.7

# Names with one word in common are proposed if not more than this many names have the word.
_RARE_WORD = 4
_LONG_WORD = 4  # letters of a word that says who is meant

_LARGEST_BLOCK = 40  # names; 780 pairs
_RARE_RUNS = 4  # runs of three letters by which a name is looked up, its rarest
_PAIRS_AT_ONCE = 1 << 18


@dataclasses.dataclass(frozen=True)
class Alias:
    """Two names that may be one artist.

    Attributes:
      first, second: as they are spelt, in the order in which they were given.
      score: 0 to 1; for ``spelling`` and ``order`` the share of letters that agree.
      reason: ``spelling``; ``order`` of the same words; ``sound``: the same consonants;
        ``initials``: words shortened to their first letter; ``part``: all words of one are in the
        other, and few other names have them.
    """

    first: str
    second: str
    score: float
    reason: str


def propose_aliases(names: Sequence[str], rules: NameRules = DEFAULT_RULES) -> list[Alias]:
    """Pairs of names that are spelt alike but not equal by `rules`, the most alike first.

    Names that are equal by the rules are one already, and stand under the first of their
    spellings. Placeholders and names without letters or digits are passed over.

    >>> for alias in propose_aliases(["Ndour", "Dylan Bob", "Youssou N'Dour", "Bob Dylan"]):
    ...     print(alias)
    Alias(first='Dylan Bob', second='Bob Dylan', score=1.0, reason='order')
    Alias(first='Ndour', second="Youssou N'Dour", score=0.7, reason='part')
    """
    spelt = _Spelt(names, rules)
    found: list[Alias] = []
    for one, other in spelt.pairs():
        found += spelt.compare(one, other)
    return sorted(found, key=lambda alias: (-alias.score, alias.first, alias.second))


class _Spelt:
    """Names in the forms in which they are compared."""

    def __init__(self, names: Sequence[str], rules: NameRules) -> None:
        apart = dataclasses.replace(rules, spaces=False)
        first: dict[str, str] = {}
        for name in names:
            first.setdefault(normalise(name, rules), name)
        self.names: list[str] = []
        self.words: list[list[str]] = []
        for name in first.values():
            # "J.S. Bach" has the initials that "J. S. Bach" has.
            text = anyascii(normalise(re.sub(r"\.(?=\w)", ". ", name), apart)).lower()
            words = re.findall("[a-z0-9]+", text)
            if words and not is_placeholder(name):
                self.names.append(name)
                self.words.append(words)
        self.joined = ["".join(words) for words in self.words]
        self.ordered = [" ".join(sorted(words)) for words in self.words]
        self.digits = _numbers(["-".join(re.findall("[0-9]+", name)) for name in self.ordered])
        self.sounds = [sound_of(name) for name in self.joined]
        self.sound = _numbers(self.sounds)
        self.initials = _numbers([_initials(words) for words in self.words])
        self.spread = collections.Counter(itertools.chain.from_iterable(map(set, self.words)))

    def pairs(self) -> Iterator[tuple[Ints, Ints]]:
        """Pairs of names that share a block, some at a time, each once."""
        blocks, members = self._blocks()
        if not blocks.size:
            return
        order = np.lexsort((members, blocks))
        blocks, members = blocks[order], members[order]
        starts = np.flatnonzero(np.append(True, blocks[1:] != blocks[:-1]))
        sizes = np.diff(np.append(starts, blocks.size))
        # With each of the following members of its block, one distance after another.
        ends = np.repeat(np.where(sizes <= _LARGEST_BLOCK, starts + sizes, 0), sizes)
        found = []
        for step in range(1, _LARGEST_BLOCK):
            here = np.flatnonzero(np.arange(blocks.size) + step < ends)
            found.append(members[here] * len(self.names) + members[here + step])
        codes = np.unique(np.concatenate(found))
        for start in range(0, codes.size, _PAIRS_AT_ONCE):
            yield np.divmod(codes[start : start + _PAIRS_AT_ONCE], len(self.names))

    def _blocks(self) -> tuple[Ints, Ints]:
        """Hashes of blocks and the names in them. Python's hash of text: a clash costs a look."""
        runs = [
            [name[i : i + 3] for i in range(len(name) - 2)]
            for name in map(" {} ".format, self.joined)
        ]
        common = collections.Counter(itertools.chain.from_iterable(map(set, runs)))
        blocks: list[int] = []
        members: list[int] = []
        for row, (words, name) in enumerate(zip(self.words, self.joined, strict=True)):
            keys = {("word", word) for word in words if self.spread[word] <= _LARGEST_BLOCK}
            keys.add(("order", self.ordered[row]))
            keys.add(("sound", self.sounds[row]))
            keys.add(("initials", _initials(words)))
            rare = sorted(set(runs[row]), key=lambda run: (common[run], run))[:_RARE_RUNS]
            keys.update(("run", run) for run in rare)
            keys.update(("letters", name[:i] + name[i + 1 :]) for i in range(len(name)))
            keys.add(("letters", name))
            blocks += map(hash, keys)
            members += [row] * len(keys)
        return np.array(blocks, dtype=np.int64), np.array(members, dtype=np.int64)

    def compare(self, one: Ints, other: Ints) -> Iterator[Alias]:
        """Those of the pairs that are alike, each with what is alike in it."""
        same = self.digits[one] == self.digits[other]
        one, other = one[same], other[same]
        likeness = self._likeness(self.joined, one, other)
        by_order = self._likeness(self.ordered, one, other)
        subset = self._likeness(self.ordered, one, other, fuzz.token_set_ratio) >= 100.0
        sound = self.sound[one] == self.sound[other]
        initials = self.initials[one] == self.initials[other]
        best = np.maximum(likeness, by_order)
        kept = (best >= LEAST_LIKENESS) | subset | initials | (sound & (best >= _LEAST_BY_SOUND))
        for i in np.flatnonzero(kept).tolist():
            a, b = int(one[i]), int(other[i])
            score, reason = float(best[i]), ""
            alike = self._rest_likeness(a, b) >= _LEAST_OF_REST
            if alike and score >= LEAST_LIKENESS:
                moved = self.ordered[a] == self.ordered[b] and self.joined[a] != self.joined[b]
                reason = "order" if moved else "spelling"
            elif alike and sound[i] and score >= _LEAST_BY_SOUND and len(self.sounds[a]) >= 3:
                score, reason = (1.0 + score) / 2.0, "sound"
            elif initials[i] and _shortened(self.words[a], self.words[b]):
                score, reason = _SCORE_OF_INITIALS, "initials"
            elif subset[i] and self._says_who(a, b):
                score, reason = _SCORE_OF_PART, "part"
            if reason:
                yield Alias(self.names[a], self.names[b], round(score, 4), reason)

    def _likeness(
        self, forms: list[str], one: Ints, other: Ints, scorer: Any = OSA.normalized_similarity
    ) -> npt.NDArray[np.float32]:
        texts = [[forms[row] for row in side.tolist()] for side in (one, other)]
        return np.asarray(process.cpdist(*texts, scorer=scorer, workers=1))

    def _rest_likeness(self, one: int, other: int) -> float:
        """Likeness of what is left of two names without the words that they share."""
        shared = set(self.words[one]) & set(self.words[other])
        rests = ["".join(w for w in self.words[row] if w not in shared) for row in (one, other)]
        return OSA.normalized_similarity(*rests) if all(rests) else 1.0

    def _says_who(self, one: int, other: int) -> bool:
        """Whether two names share a long word that few others have."""
        shared = set(self.words[one]) & set(self.words[other])
        return any(len(word) >= _LONG_WORD and self.spread[word] <= _RARE_WORD for word in shared)


def _numbers(texts: list[str]) -> Ints:
    """A number for each text, the same for equal ones."""
    number: dict[str, int] = {}
    return np.array([number.setdefault(text, len(number)) for text in texts], dtype=np.int64)


def _initials(words: list[str]) -> str:
    """First letters of all words but the last, and the last; a word alone is its own."""
    return "".join(word[0] for word in words[:-1]) + " " + words[-1]


def _shortened(one: list[str], other: list[str]) -> bool:
    """Whether words of one are first letters of the other's, and all others are equal."""
    pairs = list(zip(one[:-1], other[:-1], strict=False))
    return len(one) == len(other) > 1 and all(a == b or 1 in (len(a), len(b)) for a, b in pairs)


# Letters that sound alike in the spellings of one name, longest first, as the languages of Europe
# and usual romanisations of Arabic, Hebrew and Cyrillic write them.
_SOUNDS = (
    ("tsch", "k"),
    ("tch", "k"),
    ("sch", "s"),
    ("ch", "k"),
    ("sh", "s"),
    ("ph", "f"),
    ("kh", "k"),
    ("ck", "k"),
    ("ts", "s"),
    ("tz", "s"),
    ("ce", "s"),
    ("ci", "s"),
    ("cy", "s"),
    ("x", "ks"),
    ("z", "s"),
    ("c", "k"),
    ("q", "k"),
    ("w", "v"),
)
_SOUND = re.compile("|".join(letters for letters, _ in _SOUNDS))
_SOUND_OF = dict(_SOUNDS)


def sound_of(name: str) -> str:
    """The consonants of a name of small Latin letters, those that sound alike as one.

    >>> sound_of("tschaikowsky"), sound_of("tchaikovsky"), sound_of("youssoundour")
    ('kvsk', 'kvsk', 'sndr')
    """
    sounds = re.sub("[aeiouyhj]", "", _SOUND.sub(lambda match: _SOUND_OF[match[0]], name))
    return re.sub(r"([a-z])\1+", r"\1", sounds)
