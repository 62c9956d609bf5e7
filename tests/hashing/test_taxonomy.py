"""Taxonomies of labels, their files and similarities."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing import taxonomy
from hashing.average_precision import average_precision, hierarchical_average_precision
from hashing.errors import CatalogError, HashbeamError, ModelError
from hashing.taxonomy import MAX_DEPTH, MAX_LABELS, Taxonomy

BIRDS = {
    "birds": None,
    "owls": "birds",
    "tawny owl": "owls",
    "barn owl": "owls",
    "wren": "birds",
    "frogs": None,
    "tree frog": "frogs",
}


def path_to(parents: dict[str, str | None], label: str) -> list[str]:
    """From the label up to its root, by walking."""
    found = [label]
    while (above := parents[found[-1]]) is not None:
        found.append(above)
    return found


def similarity_of(parents: dict[str, str | None], a: str, b: str) -> float:
    first, second = path_to(parents, a), path_to(parents, b)
    return len(set(first) & set(second)) / max(len(first), len(second))


@st.composite
def forests(draw: st.DrawFn) -> dict[str, str | None]:
    """Labels in an order in which parents need not come first."""
    size = draw(st.integers(1, 25))
    names = draw(st.permutations([f"label {number}" for number in range(size)]))
    parents: dict[str, str | None] = {}
    for number, name in enumerate(names):
        above = draw(st.integers(-1, number - 1))
        parents[name] = names[above] if above >= 0 else None
    shuffled = draw(st.permutations(list(parents)))
    return {name: parents[name] for name in shuffled}


def as_csv(parents: dict[str, str | None]) -> bytes:
    lines = [f"{label},{parent or ''}" for label, parent in parents.items()]
    return "\n".join(["label,parent", *lines]).encode()


# What labels have in common.


def test_similarities_by_hand():
    tree = Taxonomy(BIRDS)
    assert tree.similarity("tawny owl", "tawny owl") == 1.0
    assert tree.similarity("tawny owl", "barn owl") == pytest.approx(2 / 3)
    assert tree.similarity("tawny owl", "owls") == pytest.approx(2 / 3)
    assert tree.similarity("tawny owl", "wren") == pytest.approx(1 / 3)
    assert tree.similarity("owls", "wren") == 0.5
    assert tree.similarity("tawny owl", "tree frog") == 0.0
    assert tree.similarity("birds", "frogs") == 0.0
    assert tree.ancestors("tawny owl") == ("owls", "birds")
    assert tree.ancestors("birds") == ()
    assert [tree.depth(label) for label in ("birds", "wren", "barn owl")] == [1, 2, 3]
    assert (tree.levels, len(tree), "wren" in tree, "robin" in tree) == (3, 7, True, False)
    assert tree.labels == tuple(sorted(BIRDS))


@settings(max_examples=60)
@given(parents=forests(), rng=st.randoms(use_true_random=False))
def test_a_tree_is_that_of_walking_up(parents: dict[str, str | None], rng: random.Random):
    for tree in (
        Taxonomy(parents),
        Taxonomy.read(as_csv(parents)),
        Taxonomy.read(json.dumps(parents).encode()),
        Taxonomy.from_json(json.loads(json.dumps(Taxonomy(parents).to_json(), sort_keys=True))),
    ):
        assert tree.to_json() == parents
        assert list(tree.to_json()) == sorted(parents)
    paths = {label: path_to(parents, label) for label in parents}
    assert tree.levels == max(len(path) for path in paths.values())
    for label, path in paths.items():
        assert (tree.ancestors(label), tree.depth(label)) == (tuple(path[1:]), len(path))
    some, others = rng.choices(list(parents), k=7), rng.choices(list(parents), k=30)
    found = tree.similarities(some, others)
    assert (found.shape, found.dtype) == ((7, 30), np.float32)
    expected = [[similarity_of(parents, a, b) for b in others] for a in some]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose([[tree.similarity(a, b) for b in others] for a in some], expected)
    np.testing.assert_array_equal(tree.similarities(others, some), found.T)
    # One label on each side is the same.
    np.testing.assert_array_equal(tree.gains([[a] for a in some], [[b] for b in others]), found)


@given(seed=st.integers(0, 10**6), levels=st.integers(1, 4))
def test_leaves_of_one_depth_have_the_similarity_of_deng_et_al(seed: int, levels: int):
    rng = random.Random(seed)
    parents: dict[str, str | None] = {}
    last: list[str | None] = [None]
    for level in range(levels):
        last = [f"{level}.{n}" for n in range(rng.randint(len(last), 2 * len(last) + 1))]
        above = [label for label in parents if label.startswith(f"{level - 1}.")] or [None]
        # Every inner label has a child, or it would be a leaf of another depth.
        parents |= {label: above[n % len(above)] for n, label in enumerate(last) if label}
    tree = Taxonomy(parents)
    leaves = [label for label in last if label]
    a, b = rng.choice(leaves), rng.choice(leaves)
    # The height of the lowest common ancestor; a root above all has the height of the whole tree.
    common = [label for label in path_to(parents, a) if label in path_to(parents, b)]
    height = path_to(parents, a).index(common[0]) if common else levels
    assert tree.similarity(a, b) == pytest.approx(1 - height / levels)


@given(st.lists(st.sampled_from("abcdefg"), min_size=1), st.lists(st.sampled_from("abcdefg")))
def test_a_flat_taxonomy_tells_only_whether_labels_are_the_same(ours: list, theirs: list):
    flat = Taxonomy(dict.fromkeys("abcdefg"))
    expected = np.array([[a == b for b in theirs] for a in ours], np.float32)
    np.testing.assert_array_equal(flat.similarities(ours, theirs), expected.reshape(len(ours), -1))


# Several labels.


def test_gains_of_several_labels_by_hand():
    tree = Taxonomy(BIRDS)
    # Of the query's labels, one is there, the other has a relation of 1/3.
    assert tree.gain(["tawny owl", "wren"], ["wren", "tree frog"]) == pytest.approx((1 / 3 + 1) / 2)
    # What else is heard does not matter, nor does how often a label is named.
    assert tree.gain(["wren"], ["wren", "tree frog", "owls"]) == 1.0
    assert tree.gain(["wren", "wren", "frogs"], ["wren"]) == 0.5
    assert tree.gain([], ["wren"]) == tree.gain(["wren"], []) == tree.gain([], []) == 0.0
    assert tree.gain({"wren"}, ("wren",)) == 1.0


label_sets = st.lists(st.sampled_from(sorted(BIRDS)), max_size=4)


@given(st.lists(label_sets, max_size=5), st.lists(label_sets, max_size=12))
def test_gains_are_means_of_the_best(queries: list[list[str]], clips: list[list[str]]):
    found = Taxonomy(BIRDS).gains(queries, clips)
    assert (found.shape, found.dtype) == ((len(queries), len(clips)), np.float32)
    for row, ours in zip(found, queries, strict=True):
        for value, theirs in zip(row, clips, strict=True):
            best = [max((similarity_of(BIRDS, a, b) for b in theirs), default=0) for a in set(ours)]
            assert value == pytest.approx(np.mean(best) if best else 0.0, rel=1e-6)
            assert not (set(ours) and set(ours) <= set(theirs)) or value == 1.0


def test_gains_rank_a_miss_within_the_family_above_another():
    tree = Taxonomy(BIRDS)
    clips = ["tawny owl", "barn owl", "tree frog"]
    gains = tree.similarities(["tawny owl"], clips)[0]
    assert hierarchical_average_precision([0, 1, 2], gains) == pytest.approx(1.0)
    kin_first = hierarchical_average_precision([1, 0, 2], gains)
    assert kin_first > hierarchical_average_precision([1, 2, 0], gains)
    assert average_precision([1, 0, 2], gains == 1) == average_precision([1, 2, 0], gains == 1)


def test_labels_that_the_taxonomy_lacks():
    tree = Taxonomy.read(as_csv(BIRDS), "birds.csv")
    for call in (
        lambda: tree.ancestors("robin"),
        lambda: tree.depth("robin"),
        lambda: tree.similarity("wren", "robin"),
        lambda: tree.similarities(["wren"], ["wren", "robin"]),
        lambda: tree.gain(["robin"], []),
        lambda: tree.gains([], [["wren"], ["robin"]]),
    ):
        with pytest.raises(CatalogError, match=r"birds\.csv lacks the label 'robin': add it"):
            call()
    with pytest.raises(CatalogError, match="lacks the label 'Wren'"):  # as it is written
        tree.depth("Wren")


def test_a_text_in_place_of_labels_is_refused():
    flat = Taxonomy(dict.fromkeys("abc"))
    for call in (
        lambda: flat.similarities("abc", ["a"]),
        lambda: flat.gain("abc", ["a"]),
        lambda: flat.gains([["a"]], "abc"),
    ):
        with pytest.raises(ValueError, match="must be several"):
            call()


# Files.


@pytest.mark.parametrize(
    "content",
    [
        "label,parent\na,\nb,a\n",
        "\ufefflabel,parent\r\na,\r\nb,a\r\n",
        "label,parent\rb,a\ra,",
        "\n\nlabel,parent\n\n b , a \n\na,  \n",
        'parent,count,label\na,3,b\n"",,"a"\n',
        '{"b": "a", "a": null}',
        '\ufeff \n {" b": "a ", "a": ""}\n',
    ],
)
def test_ways_to_write_it(content: str, tmp_path: Path):
    path = tmp_path / "tree"
    path.write_bytes(content.encode())
    for tree in (Taxonomy.read(content.encode()), Taxonomy.read(path), Taxonomy.read(str(path))):
        assert tree.to_json() == {"a": None, "b": "a"}


def test_names_of_all_the_world():
    parents = {"Vögel": None, "「フクロウ」": "Vögel", 'so-called "owl", grey': "Vögel", "🦉": None}
    assert Taxonomy.read(json.dumps(parents).encode()).to_json() == parents
    content = 'label,parent\nVögel,\n「フクロウ」,Vögel\n"so-called ""owl"", grey",Vögel\n🦉,\n'
    assert Taxonomy.read(content.encode()).to_json() == parents


FAULTS = {
    "": r"t: empty; write a line label,parent",
    " \n\t": r"t: empty; write",
    "label,parent\n": r"t: no label at all; add one",
    "{}": r"t: no label at all; add one",
    "a,\nb,a\n": r"t: the first line is 'a,'; begin a CSV file with label,parent, or",
    "label;parent\na;\n": r"t: the first line is 'label;parent'; begin",
    "label\na\n": r"t: the first line is 'label'; begin",
    "label,parent,label\na,,b\n": r"t: the first line is 'label,parent,label'; begin",
    '["a"]': r"""t: the first line is '\["a"\]'; begin""",
    "label,parent\na,\n\nb\n": r"t: line 4: 1 values in 2 columns; separate them by commas",
    "label,parent\na,b,c\n": r"t: line 2: 3 values in 2 columns; separate",
    'label,parent\n"a,\n': r"t: line 2: .*; mend that line",
    'label,parent\n"a"b,\n': r"t: line 2: .*; mend that line",
    "label,parent\n,\n": r"t: line 2: a label is empty; give every label a name",
    "label,parent\na,\n  ,a\n": r"t: line 3: a label is empty; give",
    "label,parent\na,\nb,a\n a,b\n": r"t: line 4: label 'a' is named twice; keep one",
    '{"a": null, "a": null}': r"t: label 'a' is named twice; keep one",
    '{"a": null, "": "a"}': r"t: a label is empty; give",
    "label,parent\nb,a\n": r"t: label 'b' has the unknown parent 'a'; add that",
    "label,parent\na,a\n": r"t: label 'a' lies under itself \('a' under 'a'\); give one of them",
    "label,parent\nr,\na,b\nb,c\nc,a\nd,a\n": r"\('a' under 'b' under 'c' under 'a'\); give",
    '{"a": 0}': r"t: the parent of 'a' is 0; name a label, or none",
    '{"a": false}': r"t: the parent of 'a' is False; name",
    '{"a": []}': r"t: the parent of 'a' is \[\]; name",
    '{"a": {"b": null}}': r"t: the parent of 'a' is \[\('b', None\)\]; name",
    '{"a": NaN}': r"t: the parent of 'a' is nan; name",
    '{"a": null': r"t: not JSON \(.*\); write an object",
    '{"a": null} b': r"t: not JSON \(Extra data.*\); write",
    '{"a":' + 100_000 * "[": r"t: not JSON \(.*recursion.*\); write",
    '{"a":' + 5_000 * "1" + "}": r"t: not JSON \(.*\); write|t: the parent of 'a' is 1+…; name",
    '{"a\\ud800": null}': r"t: label 'a\\ud800' has a control character; mend it",
    'label,parent\n"a\nb",\n': r"t: label 'a\\nb' has a control character; mend it",
    "label,parent\na\0b,\n": r"t: label 'a\\x00b' has a control|t: line 2: line contains NUL",
}


@pytest.mark.parametrize("content", FAULTS, ids=lambda content: ascii(content[:40]))
def test_every_fault_is_one_clear_line(content: str):
    with pytest.raises(CatalogError, match=FAULTS[content]) as refused:
        Taxonomy.read(content.encode(), "t")
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 300


def test_long_labels_and_long_cycles_do_not_fill_the_screen():
    with pytest.raises(CatalogError, match=r"unknown parent 'bbb.*…'; add") as refused:
        Taxonomy.read(f"label,parent\n{'a' * 9999},{'b' * 9999}\n".encode(), "t")
    assert len(str(refused.value)) < 300
    circle = {f"{n:03}": f"{(n + 1) % 500:03}" for n in range(500)}
    with pytest.raises(ValueError, match=r"'000' under '001' under .* under … under '000'\);"):
        Taxonomy(circle)
    with pytest.raises(CatalogError, match="line 2: field larger than field limit"):
        Taxonomy.read(b"label,parent\n" + b"a" * 200_000 + b",\n", "t")


@pytest.mark.parametrize(
    ("content", "byte"),
    [(b"label,parent\nV\xf6gel,\n", 15), ("label,parent".encode("utf-16"), 1), (b"{\xff}", 2)],
)
def test_what_is_not_utf_8_is_refused(content: bytes, byte: int):
    with pytest.raises(CatalogError, match=f"t: byte {byte} is not UTF-8; save it as UTF-8"):
        Taxonomy.read(content, "t")


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_whatever_a_file_holds_it_is_a_taxonomy_or_a_clear_line(content: bytes):
    for whole in (content, b"label,parent\n" + content, b'{"a":' + content, b"{" + content):
        said = "t: one line"
        try:
            tree = Taxonomy.read(whole, "t")
            assert Taxonomy.from_json(tree.to_json()).to_json() == tree.to_json()
        except HashbeamError as error:
            said = str(error)
        assert said.startswith("t: ")
        assert len(said.splitlines()) == 1


def test_files_that_cannot_be_read(tmp_path: Path):
    for path in (tmp_path / "none.csv", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(CatalogError, match=r"cannot read .*; name a CSV or JSON file"):
            Taxonomy.read(path)
    with pytest.raises(CatalogError, match=r"^cannot read --taxonomy: No such file"):
        Taxonomy.read(tmp_path / "none.csv", "--taxonomy")
    path = tmp_path / "birds.csv"
    path.write_bytes(b"label,parent\nb,a\n")
    with pytest.raises(CatalogError) as refused:
        Taxonomy.read(path)
    assert str(refused.value).startswith(f"{path}: label 'b'")


def test_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    deep = {"0": None} | {str(n): str(n - 1) for n in range(1, MAX_DEPTH)}
    tree = Taxonomy(deep)
    assert tree.levels == tree.depth(str(MAX_DEPTH - 1)) == MAX_DEPTH
    last = str(MAX_DEPTH - 1)
    assert tree.similarity("0", last) == pytest.approx(1 / MAX_DEPTH)
    with pytest.raises(CatalogError, match=f"label 'x' lies below level {MAX_DEPTH}; leave out"):
        Taxonomy.read(as_csv(deep | {"x": last}))
    many = {str(n): None for n in range(MAX_LABELS)}
    assert len(Taxonomy.read(as_csv(many))) == MAX_LABELS
    many["one more"] = None
    for read in (Taxonomy, lambda parents: Taxonomy.read(as_csv(parents))):
        with pytest.raises((ValueError, CatalogError), match="more than 100,000 labels; leave out"):
            read(many)
    content = as_csv(BIRDS)
    monkeypatch.setattr(taxonomy, "MAX_BYTES", len(content))
    path = tmp_path / "t.csv"
    for size, given_ in ((0, content), (1, content + b"\n")):
        path.write_bytes(given_)
        for source in (path, given_):
            if size:
                with pytest.raises(CatalogError, match=r"larger than \d+ bytes; leave out"):
                    Taxonomy.read(source)
            else:
                assert len(Taxonomy.read(source)) == len(BIRDS)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (None, "no object of labels"),
        (["a"], "no object of labels"),
        ({}, "no label at all"),
        ({"a": 1}, "the parent of 'a' is 1"),
        ({"a": "b"}, "unknown parent 'b'"),
        ({"a": "b", "b": "a"}, "lies under itself"),
        ({" a": None}, "a label is ' a'"),
        ({1: None}, "a label is 1"),
    ],
)
def test_a_model_with_a_damaged_taxonomy_is_refused(values: object, said: str):
    with pytest.raises(ModelError, match=f"the model's taxonomy: .*{said}.*; copy the model anew"):
        Taxonomy.from_json(values)  # type: ignore[arg-type]
    if values and isinstance(values, dict):
        with pytest.raises(ValueError, match=said):
            Taxonomy(values)
