"""Labels of clips as training takes them: which sets there are, and how alike they are."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from hashing.taxonomy import Taxonomy

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class LabelSets:
    """The labels of some clips, by their distinct sets: of many clips few differ.

    Attributes:
      labels: all labels, sorted.
      sets: the distinct sets, each sorted.
      of: the set of each clip, [n].
      likeness: of sets to one another, [s, s], from -1 (nothing in common) to 1 (the same).
      shares: of the labels in each set, [s, labels], sums of one.
      names: the labels and, with a taxonomy, what they lie under: what people may call a clip.
      name_shares: of the names in each set, [s, names], sums of one; the more general a name, the
        smaller its share.
    """

    labels: tuple[str, ...]
    sets: tuple[tuple[str, ...], ...]
    of: Ints
    likeness: Floats
    shares: Floats
    names: tuple[str, ...]
    name_shares: Floats

    def take(self, rows: npt.NDArray[np.integer]) -> LabelSets:
        """Those of some of the clips; all sets stay."""
        return dataclasses.replace(self, of=self.of[rows])

    def extended(self, of: Ints) -> LabelSets:
        """With more clips, each of one of the sets."""
        return dataclasses.replace(self, of=np.concatenate([self.of, of]))

    def draw(self, n: int, rng: np.random.Generator) -> Ints:
        """Rows of n clips: all sets that have clips are drawn alike often, however many."""
        sets = self._present[rng.integers(len(self._present), size=n)]
        order, counts = self._by_set
        first = np.cumsum(counts) - counts
        return np.asarray(order[first[sets] + (rng.random(n) * counts[sets]).astype(np.int64)])

    @functools.cached_property
    def _by_set(self) -> tuple[Ints, Ints]:
        """Clips in the order of their sets, and how many each set has."""
        counts = np.bincount(self.of, minlength=len(self.sets))
        return np.argsort(self.of, kind="stable"), counts

    @functools.cached_property
    def _present(self) -> Ints:
        """Sets that have clips."""
        return np.flatnonzero(self._by_set[1])

    @classmethod
    def from_clips(
        cls, clips: Sequence[Collection[str]], taxonomy: Taxonomy | None = None
    ) -> LabelSets:
        """The label sets of clips, each of which has a label at least.

        With a taxonomy, relatives are alike: labels of one family lie between -1 and 1.

        Raises:
          CatalogError: a label that the taxonomy lacks.
          ValueError: a clip without labels.

        >>> found = LabelSets.from_clips([["oboe"], ["flute"], ["oboe"], ["oboe", "flute"]])
        >>> found.of.tolist(), found.likeness[1].tolist()
        ([2, 0, 2, 1], [0.5, 1.0, 0.5])
        """
        held = [tuple(sorted(set(one))) for one in clips]
        sets = sorted(set(held))
        if () in sets:
            raise ValueError("a clip without labels teaches nothing: leave it out")
        labels = sorted({label for one in sets for label in one})
        tree = taxonomy or Taxonomy(dict.fromkeys(labels))
        # What either is worth to the other: a clip with one more label is like, but not the same.
        gains = tree.gains(sets, sets)
        shares = np.zeros((len(sets), len(labels)), np.float32)
        for row, one in enumerate(sets):
            shares[row, [labels.index(label) for label in one]] = 1 / len(one)
        above = {label: tree.ancestors(label) for label in labels}
        names = sorted({name for label in labels for name in (label, *above[label])})
        name_shares = np.zeros((len(sets), len(names)), np.float32)
        for row, one in enumerate(sets):
            for label in one:
                for height, name in enumerate((label, *above[label])):
                    name_shares[row, names.index(name)] += 0.5**height
        name_shares /= name_shares.sum(axis=1, keepdims=True)
        numbers = {one: number for number, one in enumerate(sets)}
        return cls(
            tuple(labels),
            tuple(sets),
            np.array([numbers[one] for one in held], np.int64),
            np.asarray(gains + gains.T - 1, np.float32),
            shares,
            tuple(names),
            name_shares,
        )
