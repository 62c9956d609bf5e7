from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from artist_fixture import TINY_ARTISTS, artist_music
from training_fixture import Log, assert_same_state

from hashing.errors import HashbeamError
from hashing.training.artists import training as artist_training
from hashing.training.artists.segments import ArtistMusic, SetRules, TrainingSet, training_set
from hashing.training.artists.training import (
    ArtistState,
    ArtistTraining,
    TrainedArtists,
    check,
    draw_batch,
    embed_tracks,
    new_network,
    train,
)


def changed(**values: object) -> ArtistTraining:
    return dataclasses.replace(TINY_ARTISTS, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def music() -> ArtistMusic:
    return artist_music(9)


@pytest.fixture(scope="module")
def chosen(music: ArtistMusic) -> TrainingSet:
    return training_set(music, range(6), SetRules(), 1)


HELD_OUT = [6, 7, 8]


def run(
    music: ArtistMusic, chosen: TrainingSet, settings: ArtistTraining, work: Path, log: Log
) -> TrainedArtists:
    return train(music, chosen, HELD_OUT, settings, work, log)


def state_at(path: Path, settings: ArtistTraining, music: ArtistMusic) -> ArtistState:
    state = ArtistState.begin(settings, new_network(settings, music, 6))
    state.restore(path / "state.pt")
    return state


@pytest.mark.parametrize("system", ["metric", "classifier", "contrastive"])
def test_a_resumed_run_is_an_undisturbed_one(
    system: str, music: ArtistMusic, chosen: TrainingSet, tmp_path: Path
) -> None:
    settings = changed(system=system, probability=0.5, tags=("genre", "mood", "date"))
    whole = run(music, chosen, settings, tmp_path / "whole", Log())
    with pytest.raises(KeyboardInterrupt):
        run(music, chosen, settings, tmp_path / "cut", Log(stop_at="step      4"))
    log = Log()
    resumed = run(music, chosen, settings, tmp_path / "cut", log)
    assert log.lines[0] == "resuming at step 4 of 8"
    one, other = (state_at(tmp_path / name, settings, music) for name in ("whole", "cut"))
    assert_same_state(one, other)
    assert whole.history == resumed.history
    assert [report["step"] for report in whole.history] == [2, 4, 6, 8]
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name])
    # A run that has ended is not begun again.
    again = run(music, chosen, settings, tmp_path / "cut", Log("step"))
    assert again.history == whole.history


def test_other_settings_begin_anew(music: ArtistMusic, chosen: TrainingSet, tmp_path: Path) -> None:
    run(music, chosen, TINY_ARTISTS, tmp_path, Log())
    log = Log()
    run(music, chosen, changed(margin=0.3), tmp_path, log)
    assert not any(line.startswith("resuming") for line in log.lines)
    with pytest.raises(HashbeamError, match="8 steps, which is more than 4"):
        run(music, chosen, changed(margin=0.3, steps=4), tmp_path, Log())


@pytest.mark.parametrize("system", ["metric", "classifier", "contrastive"])
def test_training_learns(
    system: str, music: ArtistMusic, chosen: TrainingSet, tmp_path: Path
) -> None:
    settings = changed(system=system, steps=30, every=30, dropout=0.0, artists=6, samples=4)
    if system == "classifier":
        settings = dataclasses.replace(settings, learning_rate=0.02)
    tracks = np.flatnonzero(music.artists < 6)
    before = check(new_network(settings, music, 6).eval(), music, tracks)
    trained = run(music, chosen, settings, tmp_path, Log())
    after = check(trained.network, music, tracks)
    assert after["eer"] < max(0.05, before["eer"] - 0.05)


def test_weights_of_the_best_report_are_kept(
    music: ArtistMusic, chosen: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([0.4, 0.1, 0.3, 0.2])
    kept = []

    def told(network: torch.nn.Module, *_: object) -> dict[str, float]:
        kept.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"eer": next(rates, 0.9), "spread": 0.5}

    monkeypatch.setattr(artist_training, "check", told)
    trained = run(music, chosen, TINY_ARTISTS, tmp_path, Log())
    found = trained.network.state_dict()
    assert all(torch.equal(value, kept[1][name]) for name, value in found.items())
    assert not all(torch.equal(value, kept[3][name]) for name, value in found.items())


def test_training_ends_where_nothing_is_gained(
    music: ArtistMusic, chosen: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([0.4, 0.3, 0.31, 0.2999, 0.35, 0.1])
    report = {"spread": 0.5}
    monkeypatch.setattr(artist_training, "check", lambda *_: {"eer": next(rates), **report})
    log = Log()
    trained = run(music, chosen, changed(steps=40, patience=3), tmp_path, log)
    # 0.2999 is no gain: three reports after 0.3 are in vain.
    assert [found["eer"] for found in trained.history] == [0.4, 0.3, 0.31, 0.2999, 0.35]
    assert trained.ended == "no gain"
    assert not trained.collapsed
    assert log.lines[-1] == "ended at step 10: no gain"
    # Nor does a later call go on.
    assert run(music, chosen, changed(steps=40, patience=3), tmp_path, Log("step")).ended


class Constant(torch.nn.Module):
    """Hears nothing, and answers the same."""

    def __init__(self, like: torch.nn.Module) -> None:
        super().__init__()
        self.like = like
        self.weight = torch.nn.Parameter(torch.ones(8))

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.weight.expand(len(levels), 8), dim=1)


def test_a_network_that_has_collapsed_is_found_and_told(
    music: ArtistMusic, chosen: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = new_network(TINY_ARTISTS, music, 6)
    monkeypatch.setattr(artist_training, "new_network", lambda *_: Constant(made))
    monkeypatch.setattr(artist_training, "AnyNetwork", Constant)
    log = Log()
    trained = run(music, chosen, changed(steps=40), tmp_path, log)
    assert trained.collapsed
    assert trained.history[-1]["step"] == 6  # three reports in a row
    assert trained.history[-1]["spread"] == pytest.approx(0.0, abs=1e-6)
    assert trained.history[-1]["eer"] == pytest.approx(0.5)
    assert trained.history[-1]["active"] == 1.0
    assert log.lines[-1] == "ended at step 6: collapsed"


def test_a_network_that_has_not_collapsed_is_not_told_so(
    music: ArtistMusic, chosen: TrainingSet, tmp_path: Path
) -> None:
    trained = run(music, chosen, changed(dropout=0.0), tmp_path, Log())
    assert not trained.collapsed
    assert min(report["spread"] for report in trained.history) > 2 * artist_training.COLLAPSED


# Batches.


def test_a_batch_has_as_many_segments_of_each_artist(chosen: TrainingSet) -> None:
    settings = changed(artists=4, samples=3)
    rows = draw_batch(chosen, settings, np.random.default_rng(1))
    artists, counts = np.unique(chosen.artists[rows], return_counts=True)
    assert len(artists) == 4
    assert counts.tolist() == [3] * 4
    assert len(set(rows.tolist())) == 12


def test_artists_of_a_long_tail_come_less_often() -> None:
    places = np.column_stack((np.zeros(44, dtype=np.int64), np.arange(44)))
    numbers = np.repeat([0, 1, 2], [40, 2, 2])
    long = TrainingSet(places, numbers, 3)
    settings, rng = changed(artists=1, samples=2), np.random.default_rng(0)
    drawn = [long.artists[draw_batch(long, settings, rng)[0]] for _ in range(500)]
    assert np.mean(np.array(drawn) == 0) == pytest.approx(40 / 44, abs=0.05)
    # The same with the segments of the others repeated.
    rows = np.concatenate((np.arange(40), np.resize([40, 41], 40), np.resize([42, 43], 40)))
    even = TrainingSet(places[rows], numbers[rows], 3)
    batches = [draw_batch(even, settings, rng) for _ in range(500)]
    drawn = [even.artists[rows[0]] for rows in batches]
    assert np.mean(np.array(drawn) == 0) == pytest.approx(1 / 3, abs=0.08)
    # A segment is no positive of itself.
    assert all(len(np.unique(even.places[rows], axis=0)) == 2 for rows in batches)


def test_a_classifier_hears_any_segment(chosen: TrainingSet) -> None:
    settings, rng = changed(system="classifier"), np.random.default_rng(0)
    rows = np.concatenate([draw_batch(chosen, settings, rng) for _ in range(100)])
    assert set(rows.tolist()) == set(range(len(chosen.places)))


# Embeddings of tracks.


def test_a_track_is_the_mean_of_its_segments(music: ArtistMusic) -> None:
    network = new_network(TINY_ARTISTS, music, 6).eval()
    found = embed_tracks(network, music, np.array([4, 1]), n_segments=3)
    for row, track in enumerate((4, 1)):
        with torch.no_grad():
            segments = network(torch.from_numpy(music.cut(music.places(track, 3)))).numpy()
        mean = segments.mean(axis=0)
        assert found[row] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def test_check_tells_artists_from_chance(music: ArtistMusic) -> None:
    class Oracle(torch.nn.Module):
        """The mean spectrum, which each artist has of its own here."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, levels: torch.Tensor) -> torch.Tensor:
            means = levels.mean(dim=2) + 45.0
            return torch.nn.functional.normalize(means, dim=1)

    found = check(Oracle(), music, np.arange(len(music)))
    assert found["eer"] == 0.0
    assert found["spread"] > 0.5
