from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from artist_fixture import TINY_ARTISTS, artist_music
from training_fixture import Log

from hashing.training.artists import study as artist_study
from hashing.training.artists.groups import CUTS, Groups
from hashing.training.artists.study import Grid, Setting, Study

BASE = dataclasses.replace(TINY_ARTISTS, steps=2, every=2)


def test_a_classifier_is_trained_once_whatever_the_dimensions() -> None:
    grid = Grid(artists=(5,), dimensions=(32, 256), probabilities=(0.0, 0.5), folds=(0, 1))
    settings = grid.settings()
    assert len(settings) == 2 + 2 * 2 * 2
    assert {s.dimensions for s in settings if s.system == "classifier"} == {256}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(artist_study, "TEST_NAMES", 6)
    monkeypatch.setattr(artist_study, "CHOOSING_NAMES", 4)
    return Study(artist_music(20), BASE, tmp_path, Log())


def test_no_artist_is_in_two_parts(study: Study) -> None:
    tested = []
    for fold in range(artist_study.FOLDS):
        parts = study.parts(fold)
        assert sorted(artist for part in parts for artist in part) == list(range(20))
        assert [len(part) for part in parts] == [14, 2, 4]
        tested += parts[2]
    assert sorted(tested) == list(range(20))


GRID = Grid(artists=(5, 99), minutes=(float("inf"),))


def test_a_study_goes_on_where_it_stopped(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = GRID.settings()
    rows = study.run(settings)
    assert [row["artists"] for row in rows] == [5, 99, 5, 99]
    assert "99 artists" in rows[1]["left_out"]
    for row in rows[::2]:
        assert row["artists_trained"] == 5
        assert row["steps"] == row["best_step"] == 2
        assert -1.0 <= row["ari"] <= 1.0
        assert 0.0 <= row["eer"] <= 1.0
        assert (study.work / row["key"] / "embeddings.pt").exists()
    assert isinstance(study.log, Log)
    # How long it takes is told before anything is trained.
    told = [i for i, line in enumerate(study.log.lines) if "hours at most" in line]
    trained = [i for i, line in enumerate(study.log.lines) if line.startswith("step")]
    assert len(told) == 1
    assert told[0] < trained[0]
    path = study.work / "results.jsonl"
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    # The last line is cut in two, as when the machine goes off: it alone is made again.
    path.write_text("\n".join(lines[:-2]) + "\n" + lines[-2][:40])
    seen = []
    one = Study.one
    monkeypatch.setattr(Study, "one", lambda self, s: (seen.append(s), one(self, s))[1])
    again = study.run(settings)
    assert seen == settings[2:]
    different = {"seconds"}
    for row, other in zip(rows, again, strict=True):
        assert {k: v for k, v in row.items() if k not in different} == {
            k: v for k, v in other.items() if k not in different
        }
    assert [json.loads(line) for line in path.read_text().splitlines()] == again


def test_results_of_other_settings_are_not_taken(study: Study) -> None:
    setting = Setting("metric", 5, float("inf"), "balanced", 8, 0.0, 0)
    other = dataclasses.replace(study, base=dataclasses.replace(BASE, margin=0.3))
    music = dataclasses.replace(study, music=artist_music(21))
    folds = dataclasses.replace(setting, fold=1)
    keys = {study.key(setting), other.key(setting), music.key(setting), study.key(folds)}
    assert len(keys) == 4
    assert setting.training(BASE).dimensions == 8


def test_the_estimate_counts_every_network(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Study, "_seconds", lambda *_: 1800.0)
    told = study.estimate(GRID.settings() + Grid(artists=(4,), minutes=(1e9,)).settings())
    assert told.startswith("2 networks take 1.0 hours at most")


def test_the_estimate_grows_with_the_steps(study: Study) -> None:
    chosen = study.chosen(Setting("metric", 5, float("inf"), "balanced", 8, 0.0, 0))
    few, many = (
        study._seconds(dataclasses.replace(BASE, steps=steps), chosen, 0) for steps in (10, 10_000)
    )
    assert 0 < 50 * few < many


# Names made up of several artists.


def test_groups_have_all_tracks_of_two_to_four_artists() -> None:
    artists = np.repeat(np.arange(8), 5)
    embeddings = np.eye(8, dtype=np.float32)[artists]
    embeddings += np.random.default_rng(0).normal(0, 0.05, embeddings.shape).astype(np.float32)
    groups = Groups.draw(embeddings, artists, 120, np.random.default_rng(1))
    sizes = [len(np.unique(truth)) for truth in groups.truth]
    assert all(len(truth) == 5 * size for truth, size in zip(groups.truth, sizes, strict=True))
    shares = np.bincount(sizes, minlength=5)[2:5] / 120
    assert shares == pytest.approx([102 / 122, 17 / 122, 3 / 122], abs=0.1)
    # Artists are 1.4 apart, tracks of one 0.2: a cut between them is right, one beyond is not.
    cut = groups.best_cut()
    assert groups.scores(cut) == pytest.approx({"ari": 1.0, "ami": 1.0})
    assert groups.scores(float(CUTS[-1])) == pytest.approx({"ari": 0.0, "ami": 0.0}, abs=1e-9)
    assert groups.scores(0.01)["ari"] == pytest.approx(0.0, abs=1e-9)
