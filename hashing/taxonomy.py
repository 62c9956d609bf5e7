"""Labels in a hierarchy, such as genera within families, and how much two of them have in common.

A taxonomy names the parent of every label; a label without a parent is a root. Labels may lie at
any depth, and a clip may be labelled with an inner one where nobody knows more. Similarities are
the gains of `hashing.average_precision.hierarchical_average_precision`.

The similarity of two labels is the depth of their lowest common ancestor over the depth of the
deeper one, roots having a depth of one: 1 for the same label, 0 for two that share no ancestor.
Deng, Berg & Fei-Fei, "Hierarchical semantic indexing for large scale image retrieval" (CVPR 2011),
take one less the height of the lowest common ancestor over the height of the whole tree. With one
more root above all roots, and all labels that are compared equally deep, both are the same number.
They differ where branches are of unequal depth: what two labels have in common here does not depend
on how finely others are divided.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import CatalogError, ModelError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Bytes of a file: 300 for each of the most labels, with its parent.
MAX_BYTES = 32_000_000

# The names of all species that are heard in recordings are a tenth of that.
MAX_LABELS = 100_000

# Levels, the root's included; the tree of life with all its ranks has some 40.
MAX_DEPTH = 64

# Characters of a label, and labels of a cycle, that a message shows.
_SHOWN_CHARACTERS = 60
_SHOWN_CYCLE = 5

# Control characters: line breaks, and what JSON writes for one half of a character of UTF-16.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class _FaultError(ValueError):
    """What is wrong with a taxonomy, and how to mend it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem


class Taxonomy:
    """Labels and their parents, checked.

    Args:
      parents: the parent of each label, None or "" for a root.
      name: what messages call the taxonomy, such as its file.

    Attributes:
      labels: all of them, in the order of code points.
      levels: the depth of the deepest.

    Raises:
      ValueError: no label, more than `MAX_LABELS`, an empty label or parent that is not a text, an
        unknown parent, a label that lies under itself, or one deeper than `MAX_DEPTH`.

    >>> birds = Taxonomy({"owl": None, "tawny owl": "owl", "barn owl": "owl", "wren": None})
    >>> birds.similarity("tawny owl", "barn owl"), birds.similarity("tawny owl", "wren")
    (0.5, 0.0)
    """

    def __init__(self, parents: Mapping[str, str | None], name: str = "the taxonomy") -> None:
        if not parents:
            raise _FaultError("no label at all", "add one")
        if len(parents) > MAX_LABELS:
            raise _FaultError(f"more than {MAX_LABELS:,} labels", "leave out what no clip has")
        for label, parent in parents.items():
            _check_label(label, parent)
            if parent and parent not in parents:
                raise _FaultError(
                    f"label {_shown(label)} has the unknown parent {_shown(parent)}",
                    "add that as a label of its own, or mend the name",
                )
        self.name = name
        self.labels = tuple(sorted(parents))
        self._numbers = {label: number for number, label in enumerate(self.labels)}
        above = np.array([self._numbers.get(parents[label] or "", -1) for label in self.labels])
        self._depths = self._depths_under(above)
        self.levels = int(self._depths.max())
        # The ancestors of each label from its root down to itself, -1 beyond it.
        self._paths = np.full((len(self.labels), self.levels), -1, dtype=np.int32)
        for depth in range(1, self.levels + 1):
            members = np.flatnonzero(self._depths == depth)
            self._paths[members, : depth - 1] = self._paths[above[members], : depth - 1]
            self._paths[members, depth - 1] = members

    @classmethod
    def read(cls, path_or_bytes: str | os.PathLike[str] | bytes, name: str = "") -> Taxonomy:
        """The taxonomy of a file.

        It is a CSV file with the columns label and parent, the parent of a root being empty and
        further columns ignored, or a JSON object of the parent of each label, null for a root. It
        is in UTF-8. Blanks around labels do not count.

        Args:
          path_or_bytes: a path, or the content of a file.
          name: what messages call it; its path by default.

        Raises:
          CatalogError: a file that cannot be read, that is neither of these or that is larger than
            `MAX_BYTES`, a label that is named twice, and what `Taxonomy` refuses; names the file,
            the line where there is one, and the remedy.

        >>> Taxonomy.read(b"label,parent\\nowl,\\nbarn owl,owl\\n").ancestors("barn owl")
        ('owl',)
        >>> Taxonomy.read(b'{"owl": null, "barn owl": "owl"}').levels
        2
        """
        if isinstance(path_or_bytes, bytes):
            name, content = name or "the taxonomy", path_or_bytes
        else:
            name = name or os.fspath(path_or_bytes)
            content = _content(path_or_bytes, name)
        try:
            return cls(_parents(content), name)
        except _FaultError as fault:
            raise CatalogError(f"{name}: {fault}") from None

    @classmethod
    def from_json(cls, values: Mapping[str, Any], name: str = "the model's taxonomy") -> Taxonomy:
        """What `to_json` gave, as a model's ``config.json`` holds it.

        Raises: `ModelError` for a damaged one.
        """
        if not isinstance(values, Mapping):
            raise ModelError(f"{name}: no object of labels and parents; copy the model anew")
        try:
            return cls(values, name)
        except _FaultError as fault:
            raise ModelError(f"{name}: {fault.problem}; copy the model anew") from None

    def to_json(self) -> dict[str, str | None]:
        """The parent of each label, None for a root; what `from_json` and, as JSON, `read` take.

        >>> Taxonomy({"owl": "", "barn owl": "owl"}).to_json()
        {'barn owl': 'owl', 'owl': None}
        """
        parents: dict[str, str | None] = {}
        for label, path, depth in zip(self.labels, self._paths, self._depths, strict=True):
            parents[label] = self.labels[path[depth - 2]] if depth > 1 else None
        return parents

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, label: object) -> bool:
        return label in self._numbers

    def ancestors(self, label: str) -> tuple[str, ...]:
        """The parent of a label, the parent's parent and so on up to the root.

        Raises: CatalogError for a label that the taxonomy does not have.

        >>> Taxonomy({"bird": None, "owl": "bird", "barn owl": "owl"}).ancestors("barn owl")
        ('owl', 'bird')
        """
        number = self._number(label)
        path = self._paths[number, : self._depths[number] - 1]
        return tuple(self.labels[one] for one in path[::-1])

    def depth(self, label: str) -> int:
        """The number of labels from the root to this one, both counted: 1 for a root.

        Raises: CatalogError for a label that the taxonomy does not have.
        """
        return int(self._depths[self._number(label)])

    def similarity(self, a: str, b: str) -> float:
        """What two labels have in common, 0 to 1; see the module.

        Raises: CatalogError for a label that the taxonomy does not have.

        >>> tree = Taxonomy({"bird": None, "owl": "bird", "barn owl": "owl"})
        >>> tree.similarity("owl", "barn owl") == 2 / 3
        True
        """
        first, second = self._number(a), self._number(b)
        shared = (self._paths[first] == self._paths[second]) & (self._paths[first] >= 0)
        return int(shared.sum()) / int(max(self._depths[first], self._depths[second]))

    def similarities(self, labels_a: Sequence[str], labels_b: Sequence[str]) -> Floats:
        """`similarity` of each of some labels to each of others, float32 [a, b].

        A taxonomy of roots only gives 1 for the same label and 0 for any other.

        >>> Taxonomy({"owl": None, "wren": None}).similarities(["owl"], ["owl", "wren"])
        array([[1., 0.]], dtype=float32)
        """
        rows, row_of = np.unique(self._numbers_of(labels_a), return_inverse=True)
        columns, column_of = np.unique(self._numbers_of(labels_b), return_inverse=True)
        return self._between(rows, columns).take(column_of, axis=1)[row_of]

    def gain(self, labels: Collection[str], others: Collection[str]) -> float:
        """What a clip of several labels is worth to a query of several, 0 to 1.

        The mean, over the query's labels, of the best similarity to any label of the clip. A clip
        with more labels than the query is not worth less for them. Without labels on either side
        there is nothing in common: 0.

        Args:
          labels: of the query; one that is named twice counts once.
          others: of the clip.

        Raises: CatalogError for a label that the taxonomy does not have.

        >>> birds = Taxonomy({"owl": None, "tawny owl": "owl", "barn owl": "owl", "wren": None})
        >>> birds.gain(["tawny owl", "wren"], ["barn owl", "wren"])  # (1/2 + 1) / 2
        0.75
        >>> birds.gain(["wren"], ["barn owl", "wren"]), birds.gain(["barn owl", "wren"], ["wren"])
        (1.0, 0.5)
        """
        return float(self.gains([labels], [others])[0, 0])

    def gains(self, queries: Sequence[Collection[str]], clips: Sequence[Collection[str]]) -> Floats:
        """`gain` of each clip to each query, float32 [q, n].

        >>> Taxonomy({"owl": None, "wren": None}).gains([["owl"]], [["wren", "owl"], ["wren"], []])
        array([[1., 0., 0.]], dtype=float32)
        """
        # Clips of equal labels are worth the same: of many clips few differ.
        wanted, row_of = _distinct(queries)
        held, column_of = _distinct(clips)
        labels, of_label = np.unique(
            self._numbers_of([label for one in held for label in one]), return_inverse=True
        )
        sizes = np.array([len(one) for one in held], dtype=np.int64)
        some = np.flatnonzero(sizes)
        starts = (np.cumsum(sizes) - sizes)[some]
        worth = np.zeros((len(wanted), len(held)), dtype=np.float32)
        for row, own in enumerate([self._numbers_of(one) for one in wanted]):
            if own.size and some.size:
                between = self._between(own, labels)[:, of_label]
                best = np.maximum.reduceat(between, starts, axis=1)
                worth[row, some] = best.mean(axis=0, dtype=np.float64)
        return worth.take(column_of, axis=1)[row_of]

    def _between(self, rows: Ints, columns: Ints) -> Floats:
        """Similarities of labels by their numbers, [a, b]."""
        shared = np.zeros((len(rows), len(columns)), dtype=np.uint8)
        for level in self._paths.T:
            ours, theirs = level[rows, None], level[columns]
            shared += (ours == theirs) & (ours >= 0)
        deeper = np.maximum(self._depths[rows, None], self._depths[columns])
        return np.asarray(shared / deeper.astype(np.float32), dtype=np.float32)

    def _number(self, label: str) -> int:
        if label not in self._numbers:
            raise CatalogError(
                f"{self.name} lacks the label {_shown(label)}: add it with its parent, or mend the "
                "label"
            )
        return self._numbers[label]

    def _numbers_of(self, labels: Sequence[str]) -> Ints:
        if isinstance(labels, str):
            raise ValueError(f"labels must be several, got the text {_shown(labels)}")
        return np.array([self._number(label) for label in labels], dtype=np.int64)

    def _depths_under(self, above: Ints) -> Ints:
        """The depth of each label by the number of its parent, -1 for a root."""
        depths = np.where(above < 0, 1, 0)
        for _ in range(MAX_DEPTH - 1):
            depths = np.where((depths == 0) & (depths[above] > 0), depths[above] + 1, depths)
        if depths.all():
            return depths
        # What is left lies too deep, or in or under a cycle: whoever goes up finds out.
        passed = dict[int, None]()
        number = int(np.argmin(depths))
        while depths[number] == 0 and number not in passed:
            passed[number] = None
            number = int(above[number])
        if depths[number]:
            shown = _shown(self.labels[next(iter(passed))])
            raise _FaultError(f"label {shown} lies below level {MAX_DEPTH}", "leave out levels")
        cycle = [*passed][[*passed].index(number) :]
        names = [_shown(self.labels[one]) for one in (*cycle, number)]
        if len(names) > _SHOWN_CYCLE:
            names[_SHOWN_CYCLE - 1 : -1] = ["…"]
        raise _FaultError(
            f"label {_shown(self.labels[number])} lies under itself ({' under '.join(names)})",
            "give one of them another parent",
        )


def _shown(label: object) -> str:
    """A label for a message: in quotes, on one line, not too long."""
    text = label if isinstance(label, str) else repr(label)
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return repr(str(shown)) if isinstance(label, str) else shown


def _check_label(label: object, parent: object) -> None:
    if not isinstance(label, str) or not label or label != label.strip():
        raise _FaultError(f"a label is {_shown(label)}", "give each a name without blanks around")
    if parent is not None and not isinstance(parent, str):
        raise _FaultError(
            f"the parent of {_shown(label)} is {_shown(parent)}", "name a label, or none for a root"
        )
    if _UNFIT.search(label):
        raise _FaultError(f"label {_shown(label)} has a control character", "mend it")


def _distinct(sets: Iterable[Collection[str]]) -> tuple[list[list[str]], Ints]:
    """Different sets of labels, and the number of each one's among them."""
    numbers: dict[frozenset[str], int] = {}
    found = []
    for one in sets:
        if isinstance(one, str):
            raise ValueError(f"labels must be several, got the text {_shown(one)}")
        found.append(numbers.setdefault(frozenset(one), len(numbers)))
    return [sorted(one) for one in numbers], np.array(found, dtype=np.int64)


def _content(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CatalogError(
            f"cannot read {name}: {why}; name a CSV or JSON file of labels and parents"
        ) from None


def _parents(content: bytes) -> dict[str, str | None]:
    """The parents that a file names; raises `_FaultError`."""
    if len(content) > MAX_BYTES:
        raise _FaultError(f"larger than {MAX_BYTES:,} bytes", "leave out what no clip has")
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise _FaultError(f"byte {error.start + 1} is not UTF-8", "save it as UTF-8") from None
    if not text.strip():
        raise _FaultError("empty", "write a line label,parent and one for each label")
    rows = _json_rows(text) if text.lstrip().startswith("{") else _csv_rows(text)
    parents: dict[str, str | None] = {}
    for where, given, above in rows:
        label = given.strip()
        if not label:
            raise _FaultError(f"{where}a label is empty", "give every label a name")
        if label in parents:
            raise _FaultError(f"{where}label {_shown(label)} is named twice", "keep one of them")
        if len(parents) >= MAX_LABELS:
            raise _FaultError(f"more than {MAX_LABELS:,} labels", "leave out what no clip has")
        parents[label] = (above.strip() or None) if isinstance(above, str) else above
    return parents


def _json_rows(text: str) -> Iterator[tuple[str, str, Any]]:
    try:
        # As pairs: in a dict the last of two equal labels would win.
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise _FaultError(f"not JSON ({error})", "write an object of labels and parents") from None
    return (("", label, parent) for label, parent in pairs)


def _csv_rows(text: str) -> Iterator[tuple[str, str, str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    try:
        for row in reader:
            if not row or row == [""]:
                continue
            where = f"line {reader.line_num}: "
            if not header:
                header = [cell.strip() for cell in row]
                if header.count("label") != 1 or header.count("parent") != 1:
                    raise _FaultError(
                        f"the first line is {_shown(','.join(row))}",
                        "begin a CSV file with label,parent, or write a JSON object",
                    )
                label, parent = header.index("label"), header.index("parent")
            elif len(row) != len(header):
                raise _FaultError(
                    f"{where}{len(row)} values in {len(header)} columns",
                    "separate them by commas, and put labels with commas in quotes",
                )
            else:
                yield where, row[label], row[parent]
    except csv.Error as error:
        raise _FaultError(f"line {reader.line_num}: {error}", "mend that line") from None
