"""Which tracks of a catalogue the name of a file may mean: titles and artists, matched loosely.

Names of MIDI files are what somebody typed: "the_beatles-let_it_be_(live).2.mid",
"Beatles/LetItBe.mid", "LETITBE.MID" with the title inside. Words are compared, in no order, each
weighed by how rare it is in the catalogue; words may be written together or apart, and a long one
may have a wrong letter. What comes of it are candidates: the sound decides.

Only those tracks are weighed that share a rare word of their title with the name, so that work
grows with the names, not with names times tracks.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from anyascii import anyascii
from rapidfuzz.distance import OSA

from hashing.artists.names import NameRules, is_placeholder, normalise

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Of a title at least this share (by weight of words) must stand in the name.
LEAST_TITLE = 0.6
# Of a score the name that is explained by title and artist, and the artist that stands in the name.
OF_NAME, OF_ARTIST = 0.6, 0.4
# What an artist counts where the catalogue knows none: neither found nor missed.
NO_ARTIST = 0.5
# A title alone, without its artist and with nothing else in the name, has 0.6.
LEAST_SCORE = 0.5
MOST = 5  # tracks a name

NEAR = 0.9  # what a word with one wrong letter counts
_LONG = 5  # letters of a word that may have a wrong one
_JOINED = 5  # words that may be written together
_SHORTEST_JOINED = 3  # letters of them together, as in "REM"
_TITLE_WORDS, _NAME_WORDS = 16, 24  # more tell nothing
_MOST_ARTISTS = 4  # of a track that are tried
_NOISE_WEIGHT = 0.1
# Words that tell programs, versions and formats apart, and those that are in every other title.
_NOISES = (
    "the a an of and in on to for by with my your i you me is it la le les el los de der die das "
    "mid midi kar karaoke gm gs xg mt live remix remaster remastered mix version edit edited demo "
    "instrumental piano guitar cover final new copy feat ft ver v vs unknown untitled track seq "
    "sequence sequenced music song theme st nd rd th"
)
_NOISE = frozenset(_NOISES.split())
_RULES = NameRules(spaces=False, article=False)
_SEAM = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])|_+")
_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}")
_TAIL = re.compile(r"\s+[-–—/:]\s+.*$")


@dataclasses.dataclass(frozen=True)
class FileName:
    """What a file is called.

    Attributes:
      titles: texts that may hold the title, and the artist with it: its name, its first track.
      around: text that may hold the artist: the folders.
    """

    titles: tuple[str, ...]
    around: str = ""


def file_name(path: str, inside: Iterable[str] = ()) -> FileName:
    """The name of a file by its path, with slashes, and titles that stand in the file.

    A name without a word, such as "2.mid", is that of its folder.

    >>> file_name("Beatles/LetItBe.2.mid", ["Let It Be", ""])
    FileName(titles=('LetItBe.2', 'Let It Be'), around='Beatles')
    >>> file_name("Beatles/Let It Be/01.mid").titles
    ('Let It Be 01',)
    """
    parts = [part for part in path.split("/") if part]
    stem = re.sub(r"\.(mid|midi|kar)$", "", parts.pop() if parts else "", flags=re.IGNORECASE)
    while parts and not any(word not in _NOISE and not word.isdigit() for word in words(stem)):
        stem = f"{parts.pop()} {stem}"
    texts = dict.fromkeys([stem, *(text.strip() for text in inside)])
    return FileName(tuple(text for text in texts if text), " ".join(parts[-2:]))


def words(text: str) -> list[str]:
    """The words of a name in small Latin letters and digits, as they are compared.

    >>> words("the_beatles-LetItBe (Björk's)"), words("battle2")
    (['the', 'beatles', 'let', 'it', 'be', 'bjorks'], ['battle', '2'])
    """
    apart = _SEAM.sub(" ", text.replace(".", ". "))  # "let.it.be", "J.S. Bach"
    return re.findall("[a-z0-9]+", anyascii(normalise(apart, _RULES)).lower())


@dataclasses.dataclass(frozen=True)
class Named:
    """A track that a name may mean: its number in the catalogue, and a score from 0 to 1."""

    track: int
    score: float


class TitleIndex:
    """Titles and artists of a catalogue, to find those that names may mean.

    Args:
      titles: of the tracks; None and "" for those that are never found.
      artists: of each track, None for none.

    >>> index = TitleIndex(["Let It Be", "Yesterday", None], [["The Beatles"], ["Beatles"], None])
    >>> [found.track for found in index.find(file_name("beatles-let_it_be_(live).mid"))]
    [0]
    >>> index.find(file_name("help.mid"))
    []
    """

    def __init__(
        self, titles: Sequence[str | None], artists: Sequence[Sequence[str] | None]
    ) -> None:
        entries: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}
        for track, (title, names) in enumerate(zip(titles, artists, strict=True)):
            known = [words(name) for name in names or () if not is_placeholder(name)]
            for spelt in _spellings(title or ""):
                for artist in known[:_MOST_ARTISTS] or [[]]:
                    entries.setdefault((spelt, tuple(dict.fromkeys(artist))), []).append(track)
        self._tracks = list(entries.values())
        spread = collections.Counter(
            itertools.chain.from_iterable({*title, *artist} for title, artist in entries)
        )
        self._numbers = {word: number for number, word in enumerate(spread)}
        self._rarity = {
            word: float(np.log(1 + len(entries) / count)) for word, count in spread.items()
        }
        # A number in a title tells it from others ("Nocturne 2"); one in a name may be anything.
        self._weights = np.array(
            [
                rarity * (_NOISE_WEIGHT if word in _NOISE else 1.0)
                for word, rarity in self._rarity.items()
            ]
        )
        self._rarest = float(np.log(1 + max(1, len(entries))))
        self._titles = _Lists([self._ids(title) for title, _ in entries])
        self._artists = _Lists([self._ids(artist) for _, artist in entries])
        self._joined = self._find_joined(entries)
        self._without = self._find_without()
        self._near: dict[str, list[tuple[int, float]]] = {}
        self._holders = self._find_holders()

    def __len__(self) -> int:
        """Pairs of a title and an artist."""
        return len(self._tracks)

    def find(self, name: FileName, most: int = MOST, least: float = LEAST_SCORE) -> list[Named]:
        """The tracks that a name may mean, best first, then in the order of the catalogue.

        Args:
          most: tracks at most.
          least: score at least.
        """
        found: dict[int, float] = {}
        around = self._spelt(words(name.around)[-_NAME_WORDS:])
        for text in name.titles:
            for entry, score in self._score(words(text)[:_NAME_WORDS], around, least):
                for track in self._tracks[entry]:
                    found[track] = max(found.get(track, 0.0), score)
        ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        return [Named(track, score) for track, score in ranked[:most]]

    def _score(
        self, spelt: list[str], around: dict[int, tuple[float, float]], least: float
    ) -> Iterator[tuple[int, float]]:
        """Numbers and scores of the entries that a text may mean."""
        means = self._spelt(spelt)
        lists = [self._holders[number] for number in means if number in self._holders]
        if not lists:
            return
        chosen = np.unique(np.concatenate(lists))
        covered, explained, anywhere = np.zeros((3, len(self._weights)))
        for number, (share, _) in around.items():
            anywhere[number] = share
        for number, (share, weight) in means.items():
            covered[number], explained[number] = share, weight
            anywhere[number] = max(anywhere[number], share)
        title = self._titles.sums(self._weights * covered, chosen)
        title /= self._titles.sums(self._weights, chosen)
        chosen, title = chosen[title >= LEAST_TITLE], title[title >= LEAST_TITLE]
        of_name = self._titles.sums(explained, chosen) + self._artists.sums(explained, chosen)
        of_name = np.minimum(of_name / sum(map(self._weigh, dict.fromkeys(spelt))), 1.0)
        whole = self._artists.sums(self._weights, chosen)
        artist = self._artists.sums(self._weights * anywhere, chosen)
        artist = np.where(whole > 0, artist / np.maximum(whole, 1e-9), NO_ARTIST)
        score = title * (OF_NAME * of_name + OF_ARTIST * artist)
        for row in np.flatnonzero(score >= least).tolist():
            yield int(chosen[row]), round(float(score[row]), 4)

    def _spelt(self, spelt: list[str]) -> dict[int, tuple[float, float]]:
        """Words of the catalogue that a text means: how surely, and what of its weight they are."""
        found: dict[int, tuple[float, float]] = {}

        def add(number: int, share: float, weight: float) -> None:
            before = found.get(number, (0.0, 0.0))
            found[number] = max(before[0], share), max(before[1], weight)

        for word in spelt:
            number, weight = self._numbers.get(word), self._weigh(word)
            if number is not None:
                add(number, 1.0, weight)
            several = self._joined.get(word, ())
            for part in several:
                add(part, 1.0, weight / len(several))
            if number is None and not several:
                for part, share in self._nearest(word):
                    add(part, share, weight * share)
        for length in range(2, _JOINED + 1):
            for start in range(len(spelt) - length + 1):
                parts = spelt[start : start + length]
                number = self._numbers.get("".join(parts))
                if number is not None:
                    add(number, 1.0, sum(map(self._weigh, parts)))
        return found

    def _weigh(self, word: str) -> float:
        """What a word of a name weighs: one that no title has, as the rarest do."""
        noise = word in _NOISE or word.isdigit()
        return self._rarity.get(word, self._rarest) * (_NOISE_WEIGHT if noise else 1.0)

    def _ids(self, spelt: Iterable[str]) -> list[int]:
        return [self._numbers[word] for word in spelt]

    def _find_holders(self) -> dict[int, Ints]:
        """Entries by words of their titles, the rarest ones.

        What is left without them has too little weight: no name without one of them can mean the
        title.
        """
        holders: dict[int, list[int]] = {}
        for entry in range(len(self._tracks)):
            ids = sorted(self._titles.of(entry), key=lambda number: -self._weights[number])
            left = whole = float(self._weights[ids].sum())
            for number in ids:
                if left < LEAST_TITLE * whole:
                    break
                holders.setdefault(number, []).append(entry)
                left -= float(self._weights[number])
        return {number: np.array(rows, np.int64) for number, rows in holders.items()}

    def _find_joined(self, entries: Iterable[Any]) -> dict[str, list[int]]:
        """Words of titles and artists that a name may have written together."""
        joined: dict[str, list[int]] = {}
        for spelt in itertools.chain.from_iterable(entries):
            for length in range(2, _JOINED + 1):
                for start in range(len(spelt) - length + 1):
                    parts = spelt[start : start + length]
                    if sum(map(len, parts)) >= _SHORTEST_JOINED:
                        joined.setdefault("".join(parts), self._ids(dict.fromkeys(parts)))
        return joined

    def _find_without(self) -> dict[str, list[str]]:
        """Long words by what is left of them without one letter."""
        found: dict[str, list[str]] = {}
        for word in self._numbers:
            if len(word) >= _LONG and word.isalpha():
                for short in _shortened(word):
                    found.setdefault(short, []).append(word)
        return found

    def _nearest(self, word: str) -> list[tuple[int, float]]:
        """Words of the catalogue that differ from a word in one letter, or two that are swapped."""
        if len(word) < _LONG - 1 or not word.isalpha():
            return []
        if word not in self._near:
            others = {other for short in _shortened(word) for other in self._without.get(short, ())}
            self._near[word] = [
                (self._numbers[other], NEAR)
                for other in sorted(others)
                if OSA.distance(word, other, score_cutoff=1) <= 1
            ]
        return self._near[word]


class _Lists:
    """Many short lists of numbers, one after another."""

    def __init__(self, lists: Sequence[Sequence[int]]) -> None:
        sizes = np.fromiter(map(len, lists), np.int64, len(lists))
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        flat = itertools.chain.from_iterable(lists)
        self._flat = np.fromiter(flat, np.int64, int(sizes.sum()))

    def of(self, number: int) -> list[int]:
        """One list."""
        return list(self._flat[self._starts[number] : self._starts[number + 1]].tolist())

    def sums(self, values: Floats, chosen: Ints) -> Floats:
        """The sum of `values` at the numbers of each of the chosen lists."""
        sizes = self._starts[chosen + 1] - self._starts[chosen]
        ends = np.cumsum(sizes)
        total = int(ends[-1]) if ends.size else 0
        place = np.arange(total) - np.repeat(ends - sizes, sizes)
        flat = self._flat[np.repeat(self._starts[chosen], sizes) + place]
        owner = np.repeat(np.arange(chosen.size), sizes)
        return np.asarray(np.bincount(owner, values[flat], minlength=chosen.size), np.float64)


def _spellings(title: str) -> list[tuple[str, ...]]:
    """The words of a title, and those of what is left without brackets and what follows a dash.

    >>> _spellings("Let It Be (2009) - Remastered")
    [('let', 'it', 'be', '2009', 'remastered'), ('let', 'it', 'be')]
    """
    bare = _TAIL.sub("", _BRACKETS.sub(" ", title).strip())
    texts = [words(text)[:_TITLE_WORDS] for text in (title, bare)]
    return [key for key in dict.fromkeys(tuple(dict.fromkeys(text)) for text in texts) if key]


def _shortened(word: str) -> set[str]:
    """A word, and the word without each of its letters."""
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}
