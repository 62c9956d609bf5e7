"""Words as queries: vectors in the space of the responses of a model of labelled sounds."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hashing.errors import ModelError, UsageError
from hashing.models import Model

Floats = npt.NDArray[np.float32]

# Known words that are named where a query has none.
NAMED_WORDS = 12

# Of words where they are learned along with codes, beside the pairwise loss of 1: alone, that is
# worse by a third (`evaluate events`).
LEARNED_WEIGHT = 1.0

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case: all between what is neither letter nor digit.

    >>> words_of("Snare-drum, 808's ROLL_off")
    ['snare', 'drum', '808', 's', 'roll', 'off']
    """
    return _WORD.findall(text.lower())


class WordVectors:
    """Words that a model has a vector for.

    Args:
      words: as `words_of` gives them; those of several words are known by each one that they
        hold, unless that is a word of its own.
      vectors: [len(words), d].

    Raises:
      ModelError: vectors that are not finite, or another number of them than words.

    >>> words = WordVectors(["dog", "bell"], np.eye(2, dtype=np.float32))
    >>> vector, unknown = words.embed("Dogs & a bell")
    >>> (vector**2).round(3).tolist(), unknown
    ([0.5, 0.5], ['a'])
    """

    def __init__(self, words: Sequence[str], vectors: npt.NDArray[np.floating]) -> None:
        values = np.asarray(vectors, np.float32)
        if values.ndim != 2 or len(values) != len(words) or not np.isfinite(values).all():
            raise ModelError(f"{len(words)} words do not fit vectors {values.shape}")
        self.words = tuple(words)
        self.vectors = values
        self._rows: dict[str, list[int]] = {}
        spoken = [words_of(word) for word in words]
        alone = {parts[0] for parts in spoken if len(parts) == 1}
        for row, parts in enumerate(spoken):
            for part in parts:
                if len(parts) == 1 or part not in alone:
                    self._rows.setdefault(part, []).append(row)

    @classmethod
    def from_model(cls, model: Model) -> WordVectors | None:
        """Those of a model folder; None where it has none.

        Raises:
          ModelError: arrays that do not fit.
        """
        words, vectors = model.config.get("words"), model.arrays.get("word_vectors")
        if not words or vectors is None:
            return None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ModelError(f"model {model.path}: words must be a list of text: copy it anew")
        try:
            return cls(words, vectors)
        except ModelError as error:
            raise ModelError(f"model {model.path}: {error}: copy it anew") from None

    def embed(self, text: str) -> tuple[Floats, list[str]]:
        """The vector of a text [d], of length one, and the words of it that are not known.

        The mean of the vectors of its known words; a plural with an s is as good as its singular.

        Raises:
          UsageError: none of its words is known; names some that are.
        """
        spoken = dict.fromkeys(words_of(text))
        found = {word: self._find(word) for word in spoken}
        known = [self.vectors[rows].mean(axis=0) for rows in found.values() if rows]
        unknown = [word for word, rows in found.items() if not rows]
        mean = np.mean(known, axis=0) if known else np.zeros(self.vectors.shape[1], np.float32)
        length = float(np.linalg.norm(mean))
        if not length:
            told = "its words cancel out" if known else "the model knows none of these words"
            some = ", ".join(sorted(self.words)[:NAMED_WORDS])
            more = len(self.words) - NAMED_WORDS
            rest = f" and {more} more" if more > 0 else ""
            raise UsageError(f"{text!r}: {told}; it knows {some}{rest}")
        return np.asarray(mean / length, np.float32), unknown

    def _find(self, word: str) -> list[int]:
        """Rows of a word, or of its singular."""
        forms = [word]
        if len(word) > 2 and word.endswith("s"):
            forms.append(word[:-1])
        else:
            forms.append(f"{word}s")  # the model may know the plural only
        return next((self._rows[form] for form in forms if form in self._rows), [])
