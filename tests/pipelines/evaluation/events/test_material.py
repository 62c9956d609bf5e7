"""The material of ``hashbeam evaluate events``: what is written is read, and what it tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashing.taxonomy import Taxonomy
from pipelines.evaluation.events.jobs import Job, judge
from pipelines.evaluation.events.material import ROLES, Material
from pipelines.evaluation.events.measure import closed, plan
from pipelines.evaluation.events.options import EventsOptions
from pipelines.evaluation.events.systems import Ranking

TREE = Taxonomy(
    {"animal": None, "small dog": "animal", "cat": "animal", "rain": None, "siren": None}
)
CLIPS: dict[str, list[tuple[str, ...]]] = {
    "training": [("cat",), ("cat",), ("rain",), ("cat", "rain"), ("cat",)],
    "database": [("cat",), ("small dog",), ("rain",), ("cat", "rain")],
    "queries": [("cat",), ("siren",)],
}


def vectors(clips: dict[str, list[tuple[str, ...]]], d: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    found = {role: rng.random((len(clips[role]), d)).astype(np.float32) for role in ROLES}
    return {**found, "training": np.stack([found["training"]] * 2, axis=1)}


def written(
    folder: Path, tree: Taxonomy | None = TREE, made_of: tuple[str, ...] = ("a",), **clips: Any
) -> Material:
    told = {**CLIPS, **clips}
    return Material.write(folder, told, {"3-d": vectors(told)}, tree, made_of)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    material = written(tmp_path / "m")
    Material.open.cache_clear()
    again = Material.open(tmp_path / "m")
    assert again.digest == material.digest
    for role in ROLES:
        assert again.count(role) == len(CLIPS[role])
        assert [again.sets[at] for at in again.sets_of(role, None)] == CLIPS[role]
    assert again.labels == ["cat", "rain", "siren", "small dog"]
    assert again.taxonomy is not None
    assert again.taxonomy.to_json() == TREE.to_json()
    found = again.embedded("3-d")
    assert np.array_equal(found.training, vectors(CLIPS)["training"])
    assert np.array_equal(found.queries, vectors(CLIPS)["queries"])
    assert np.array_equal(found.take(np.array([2, 0])).training, found.training[[2, 0]])
    assert again.sets_of("database", np.array([2])).tolist() == [again.sets.index(("rain",))]
    assert list(again.label_sets().of) == [
        again.label_sets().sets.index(s) for s in CLIPS["training"]
    ]


def test_a_digest_is_of_all_that_counts(tmp_path: Path) -> None:
    first = written(tmp_path / "m").digest
    others = [
        written(tmp_path / "m", made_of=("b",)),
        written(tmp_path / "m", tree=None),
        written(tmp_path / "m", queries=[("cat",), ("rain",)]),
    ]
    assert len({first, *(one.digest for one in others)}) == 4
    assert written(tmp_path / "m").digest == first


def test_what_sets_have_in_common(tmp_path: Path) -> None:
    material = written(tmp_path)
    cat, both, dog = (
        material.sets.index(one) for one in (("cat",), ("cat", "rain"), ("small dog",))
    )
    assert material.shared[cat, both]
    assert material.shared[both, cat]
    assert not material.shared[cat, dog]
    # A dog to who asks for cats: both are animals; a clip with one label more is worth as much.
    assert material.gains[cat, [cat, both, dog]].tolist() == [1.0, 1.0, 0.5]
    assert material.gains[both, cat] == 0.5
    flat = written(tmp_path / "flat", tree=None)
    assert flat.gains[cat, [cat, both, dog]].tolist() == [1.0, 1.0, 0.0]


def test_texts_and_what_they_mean(tmp_path: Path) -> None:
    found = written(tmp_path).texts()
    assert {text: held.tolist() for text, held in found["labels"]} == {
        "cat": [True, False, False, True],
        "rain": [False, False, True, True],
        "small dog": [False, True, False, False],  # no clip is a siren
    }
    (family,) = found["families"]
    assert (family[0], family[1].tolist()) == ("animal", [True, True, False, True])
    assert list(written(tmp_path, tree=None).texts()) == ["labels"]
    # Labels of roots alone have no families; those without a letter have no words.
    roots = Taxonomy(dict.fromkeys(["cat", "rain", "siren", "small dog", "!"]))
    nameless = written(tmp_path, tree=roots, database=[("!",)] * 2).texts()
    assert nameless == {"labels": []}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    sets=st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), min_size=1, max_size=30),
    seed=st.integers(0, 99),
)
def test_halves_and_shares_of_labels(sets: list[set[str]], seed: int, tmp_path: Path) -> None:
    told = [tuple(sorted(one)) for one in sets]
    material = written(tmp_path, tree=None, training=told, database=told, queries=told)
    one, other = material.halves_of_labels(seed)
    labels = [
        {x for s, own in zip(material.sets, half, strict=True) if own for x in s}
        for half in (one, other)
    ]
    assert not labels[0] & labels[1]
    assert not (one & other).any()
    for own, half in zip(material.sets, one | other, strict=True):
        assert half or len(own) > 1  # only clips of both halves are in neither
    before = np.empty(0, np.int64)
    for share in (0.01, 0.3, 0.5, 1.0):
        rows = material.labelled(share, seed)
        assert set(before) <= set(rows)
        counts = np.bincount(material.sets_of("training", rows), minlength=len(material.sets))
        whole = np.bincount(material.sets_of("training", None), minlength=len(material.sets))
        assert np.array_equal(counts, np.maximum(1, np.ceil(share * whole - 1e-9)))
        before = rows
    assert np.array_equal(before, np.arange(len(told)))


# Figures.


def job(**changes: Any) -> Job:
    told = {"section": "table", "embedding": "3-d", "bits": 8, "share": 1.0, "seed": 1}
    return Job(**{**told, "ranks": (1,), "steps": 0, **changes})


def test_a_ranking_is_judged(tmp_path: Path) -> None:
    material = written(tmp_path)
    # To who asks for cats: a dog, then a cat, the rain with a cat, and rain; nobody has a siren.
    order = np.array([[2, 1, 4, 3], [1, 2, 3, 4]])
    ranking = Ranking("x", 8, lambda: iter([order]), fitted_s=1.5, encoded_s=4e-6)
    row = judge(ranking, job(), material, np.arange(2), np.arange(4), labelled=True)
    assert row["map"] == pytest.approx((1 / 2 + 2 / 3) / 2, abs=1e-5)
    assert row["map_at_1"] == 0
    # Gains 0.5, 1, 1, 0 of which the best order is 1, 1, 0.5, 0.
    assert row["ahp"] == pytest.approx((0.5 / 1 + 1.5 / 2 + 2.5 / 2.5 + 1) / 4, abs=1e-5)
    assert (row["fitted_cpu_s"], row["encoded_us"], row["labelled"]) == (1.5, 1.0, True)
    ranking = Ranking("x", 8, lambda: iter([order[1:]]))
    nobody = judge(ranking, job(), written(tmp_path, tree=None), np.array([1]), np.arange(4))
    assert nobody["map"] is None
    assert "ahp" not in nobody


def test_rows_are_kept_by_what_they_are_of(tmp_path: Path) -> None:
    material = written(tmp_path)
    path = job().path(material)
    others = [job(bits=16), job(share=0.5), job(seed=2), job(ranks=(2,)), job(steps=9)]
    assert len({path, *(one.path(material) for one in others)}) == 6
    assert job().path(material) == path
    assert job().path(written(tmp_path, made_of=("b",))) != path


def row(system: str, value: float | None, *, labelled: bool = True, **changes: Any) -> Any:
    told = {"section": "table", "embedding": "e", "bits": 8, "labelled": labelled}
    return {**told, "system": system, "map": value, **changes}


def test_what_is_closed() -> None:
    rows = [
        row("PQ", 0.2, labelled=False),
        row("PQ", 0.6, labelled=False, bits=16),
        row("PQ", 0.0, labelled=False, embedding="f"),
        row("OPQ", 0.3, labelled=False),
        row("DQN", 0.6),
        row("DQN", 0.5, bits=16),
        row("DQN", 0.5, embedding="f"),
        row("DQN", 0.9, bits=32),  # there is no PQ of as many bits
        row("DQN", 0.9, section="shares"),
    ]
    assert [
        (one["embedding"], one["bits"], one["closed"], one["times"]) for one in closed(rows)
    ] == [
        ("e", 8, 0.5, 3.0),
        ("e", 16, -0.25, 0.833),
        ("f", 8, 0.5, None),
    ]
    assert closed([row("PQ", 1.0, labelled=False), row("DQN", 1.0)]) == []
    assert closed([row("PQ", None, labelled=False), row("DQN", None)]) == []
    assert closed([]) == []


def test_the_plan(tmp_path: Path) -> None:
    chosen = EventsOptions("c", "o", "w", bits=(8, 24, 64), sections=("text", "table", "shares"))
    jobs = plan(chosen, written(tmp_path))
    assert [(one.section, one.bits, one.share) for one in jobs] == [
        *(("table", bits, 0.1) for bits in (8, 24, 64)),
        *(("shares", 24, share) for share in (0.01, 0.05, 0.1, 0.5, 1.0)),
        ("text", 24, 0.1),
    ]
    assert {one.usual_bits for one in jobs} == {24}  # the nearest to 32
