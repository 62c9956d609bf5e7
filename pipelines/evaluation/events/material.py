"""What the evaluation of labelled clips stands on: clips in three roles, embedded, in a folder."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hashing.events.words import words_of
from hashing.taxonomy import Taxonomy
from pipelines.evaluation.events.systems import Embedded

if TYPE_CHECKING:
    from hashing.training.events.labels import LabelSets

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

ROLES = ("training", "database", "queries")

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Material:
    """Clips in a folder, ready to be hashed and asked for.

    Attributes:
      folder: where the embeddings are.
      facts: what ``material.json`` holds: the sets of labels, the set of each clip by its role,
        the names of the embeddings, and the taxonomy.
      digest: of the facts and of what the embeddings were made of.
    """

    folder: Path
    facts: Mapping[str, Any]
    digest: str

    @classmethod
    @functools.lru_cache(maxsize=2)
    def open(cls, folder: Path) -> Material:
        """What `write` has left."""
        text = (folder / "material.json").read_text(encoding="utf-8")
        return cls(folder, json.loads(text), hashlib.sha256(text.encode()).hexdigest())

    @classmethod
    def write(
        cls,
        folder: Path,
        clips: Mapping[str, Sequence[tuple[str, ...]]],
        embeddings: Mapping[str, Mapping[str, Floats]],
        taxonomy: Taxonomy | None,
        made_of: Sequence[str],
    ) -> Material:
        """Write material.

        Args:
          clips: labels of the clips in each role.
          embeddings: by name and role; those of training [n, versions, d].
          made_of: what tells one evaluation's embeddings from another's.
        """
        sets = sorted({labels for role in ROLES for labels in clips[role]})
        number = {labels: at for at, labels in enumerate(sets)}
        folder.mkdir(parents=True, exist_ok=True)
        for name, found in embeddings.items():
            for role in ROLES:
                np.save(folder / f"{name}-{role}.npy", found[role], allow_pickle=False)
        facts = {
            "format_version": FORMAT_VERSION,
            "sets": sets,
            "of": {role: [number[labels] for labels in clips[role]] for role in ROLES},
            "embeddings": {name: found["database"].shape[1] for name, found in embeddings.items()},
            "taxonomy": None if taxonomy is None else taxonomy.to_json(),
            "made_of": list(made_of),
        }
        path = folder / "material.json"
        part = path.with_suffix(".tmp")
        part.write_text(json.dumps(facts), encoding="utf-8")
        part.replace(path)
        cls.open.cache_clear()
        return cls.open(folder)

    @functools.cached_property
    def taxonomy(self) -> Taxonomy | None:
        """The taxonomy of the labels, where there is one."""
        told = self.facts["taxonomy"]
        return None if told is None else Taxonomy(told)

    @property
    def sets(self) -> list[tuple[str, ...]]:
        """The distinct sets of labels."""
        return [tuple(one) for one in self.facts["sets"]]

    @functools.cached_property
    def shared(self) -> npt.NDArray[np.bool_]:
        """Which sets have a label in common, [sets, sets]."""
        held = self._held
        return (held.astype(np.int64) @ held.T) > 0

    @functools.cached_property
    def gains(self) -> Floats:
        """What clips of one set are worth to a query of another, [sets of queries, sets]."""
        tree = self.taxonomy or Taxonomy(dict.fromkeys(self.labels))
        return tree.gains(self.sets, self.sets)

    @functools.cached_property
    def labels(self) -> list[str]:
        """All labels, sorted."""
        return sorted({label for one in self.sets for label in one})

    @functools.cached_property
    def _held(self) -> npt.NDArray[np.bool_]:
        held = np.zeros((len(self.sets), len(self.labels)), bool)
        for row, one in enumerate(self.sets):
            held[row, [self.labels.index(label) for label in one]] = True
        return held

    @property
    def one_collection(self) -> bool:
        """Whether database and training are the same clips, as those of folds are."""
        of = self.facts["of"]
        return bool(of["training"] == of["database"])

    def count(self, role: str) -> int:
        """Clips in a role."""
        return len(self.facts["of"][role])

    def sets_of(self, role: str, rows: Ints | None) -> Ints:
        """The set of some clips, or of all."""
        of = np.array(self.facts["of"][role], np.int64)
        return of if rows is None else of[rows]

    def embedded(self, name: str) -> Embedded:
        """Embeddings of one name."""
        training, database, queries = (
            np.load(self.folder / f"{name}-{role}.npy", allow_pickle=False) for role in ROLES
        )
        return Embedded(name, training, database, queries)

    def label_sets(self, taxonomy: Taxonomy | None = None) -> LabelSets:
        """Of the training clips, as training takes them."""
        from hashing.training.events.labels import LabelSets

        return LabelSets.from_clips(
            [self.sets[at] for at in self.facts["of"]["training"]], taxonomy
        )

    def labelled(self, share: float, seed: int) -> Ints:
        """Training clips whose labels are known: a share of each set, one at least.

        Those of a smaller share are among those of a larger one.
        """
        of = self.sets_of("training", None)
        order = np.random.default_rng([seed, 0x1ABE1]).permutation(len(of))
        chosen = []
        for number in np.unique(of):
            own = order[of[order] == number]
            chosen.append(own[: max(1, math.ceil(share * len(own) - 1e-9))])
        return np.sort(np.concatenate(chosen))

    def halves_of_labels(self, seed: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Sets, [sets], all of whose labels are in one half of them, and in the other.

        Halves are drawn by chance; sets that have labels of both are in neither.
        """
        drawn = np.random.default_rng([seed, 0x5EE]).permutation(len(self.labels))
        half = np.isin(np.arange(len(self.labels)), drawn[: len(drawn) // 2])
        inside, all_of = (self._held & half).sum(axis=1), self._held.sum(axis=1)
        return np.asarray(inside == all_of), np.asarray(inside == 0)

    def texts(self) -> dict[str, list[tuple[str, npt.NDArray[np.bool_]]]]:
        """Texts that ask for clips, and which of the database they mean, [N].

        ``labels`` are the labels' own words, ``families`` those of what labels lie under.
        """
        of = self.sets_of("database", None)
        found = {
            "labels": [
                (" ".join(words_of(label)), self._held[of, at])
                for at, label in enumerate(self.labels)
            ]
        }
        tree = self.taxonomy
        if tree is not None:
            above = sorted({name for label in self.labels for name in tree.ancestors(label)})
            families = []
            for name in above:
                under = np.array([name in tree.ancestors(label) for label in self.labels])
                held = np.asarray((self._held & under).any(axis=1))
                families.append((" ".join(words_of(name)), held[of]))
            found["families"] = families
        return {
            kind: [(text, held) for text, held in texts if text and held.any()]
            for kind, texts in found.items()
            if texts
        }
