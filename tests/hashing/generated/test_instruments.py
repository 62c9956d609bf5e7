"""Phrases of instruments, and labelled clips of them."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hashing import audio
from hashing.errors import HashbeamError, UsageError
from hashing.generated import clips, synthesisers
from hashing.generated.clips import SHARES, Batch, ClipSettings, plan, play, write_clips
from hashing.generated.instruments import SOUNDS, Sound, medley, phrase
from hashing.generated.other_sounds import OTHER_SOUNDS
from hashing.generated.synthesisers import playable, require
from hashing.midi import Song
from hashing.rendering import render_plainly

FEW = ClipSettings(training=2, database=1, queries=1, seconds=0.5, codec="wav")
BY_LABEL = {sound.label: sound for sound in SOUNDS}


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Clips are played without soundfonts, which are noted down; drums as if they had a pitch."""
    asked: list[str] = []

    def render(song: Song, rate: int, font: str) -> np.ndarray:
        asked.append(font)
        return render_plainly(dataclasses.replace(song, is_drum=np.zeros_like(song.is_drum)), rate)

    monkeypatch.setattr(clips, "render", render)
    monkeypatch.setattr(clips, "_require_players", lambda settings: None)
    monkeypatch.setitem(clips.SETS, "instruments", SOUNDS[::16])
    return asked


def test_classes_are_distinct_and_families_have_several() -> None:
    assert len({sound.label for sound in SOUNDS}) == len(SOUNDS) == 48
    programs = [program for sound in SOUNDS for program in sound.programs]
    assert len(set(programs)) == len(programs)
    families = [sound.family for sound in SOUNDS]
    assert all(families.count(family) >= 2 or family == "voice" for family in families)


@pytest.mark.parametrize("sound", SOUNDS, ids=lambda sound: sound.label)
def test_phrases_stay_within_the_time_and_reach_of_their_players(sound: Sound) -> None:
    together = set()
    for seed in range(40):
        notes = phrase(sound, 3.0, np.random.default_rng(seed))
        assert len(notes)
        start, end, pitch, velocity = notes.T
        assert ((start >= 0) & (end > start) & (end <= 3.0)).all()
        assert ((pitch >= sound.low) & (pitch <= sound.high)).all()
        assert ((velocity >= 25) & (velocity <= 127)).all()
        together.add(len(start) > len(set(start.tolist())))
    # Who plays one note at a time never plays two, but for those pushed to the end of the phrase.
    assert (True in together) == sound.chords or sound.is_drum


def test_a_tom_tom_is_no_hi_hat() -> None:
    drums = [sound for sound in SOUNDS if sound.is_drum]
    heard = {
        drum.label: {
            int(pitch)
            for seed in range(60)
            for pitch in phrase(drum, 3.0, np.random.default_rng(seed))[:, 2]
        }
        for drum in drums
    }
    for one in drums:
        for other in drums:
            assert one is other or not heard[one.label] & heard[other.label]
    assert heard["hi_hat"] == {42, 44, 46}


def test_a_medley_has_its_phrases_where_they_belong_whatever_comes_after() -> None:
    few, more = (medley(BY_LABEL["piano"], count, 2.0, 1.0, 5) for count in (3, 6))
    both = [np.stack([song.start_s, song.pitch], axis=1) for song in (few, more)]
    assert np.array_equal(both[0], both[1][both[1][:, 0] < 9.0])
    within = more.start_s % 3.0
    assert (within < 2.0).all()
    assert set(np.floor(more.start_s / 3.0).astype(int)) == set(range(6))
    assert set(more.program) <= {0, 1}
    assert not np.array_equal(medley(BY_LABEL["piano"], 3, 2.0, 1.0, 6).pitch, few.pitch)


def test_a_set_of_clips_goes_on_where_it_was(plainly: list[str], tmp_path: Path) -> None:
    rows = write_clips(tmp_path / "set", FEW, show=False)
    assert len(rows) == 3 * 4
    with (tmp_path / "set/labels.csv").open(encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == rows
    with (tmp_path / "set/taxonomy.csv").open(encoding="utf-8") as file:
        parents = {row["label"]: row["parent"] for row in csv.DictReader(file)}
    assert {row["label"] for row in rows} <= set(parents)
    assert parents["piano"] == "keyboard"
    assert parents["keyboard"] == ""
    for row in rows:
        samples = audio.decode(str(tmp_path / "set" / row["uri"]), clips.RATE_HZ)
        assert len(samples) == 0.5 * clips.RATE_HZ
        assert np.abs(samples).max() > 0.01
        assert row["synthesiser"] in SHARES[row["share"]]
    gone = tmp_path / "set" / rows[0]["uri"]
    before, calls = gone.read_bytes(), len(plainly)
    gone.unlink()
    assert write_clips(tmp_path / "set", FEW, show=False) == rows
    assert gone.read_bytes() == before
    assert len(plainly) == calls + 1
    with pytest.raises(UsageError, match="other settings"):
        write_clips(tmp_path / "set", dataclasses.replace(FEW, seed=2), show=False)


def test_no_two_clips_are_alike(plainly: list[str], tmp_path: Path) -> None:
    settings = dataclasses.replace(FEW, training=3)
    batches = [batch for batch in plan(tmp_path, settings) if batch.sound is SOUNDS[0]]
    heard = [clip.tobytes() for batch in batches for clip in play(batch)]
    assert len(set(heard)) == len(heard) == 5
    assert heard == [clip.tobytes() for batch in batches for clip in play(batch)]


def test_no_soundfont_plays_in_two_shares() -> None:
    fonts = [font for share in SHARES.values() for font in share]
    assert len(set(fonts)) == len(fonts)
    batches = list(plan(Path("x"), ClipSettings()))
    for share, own in SHARES.items():
        assert {batch.font for batch in batches if batch.share == share} == set(own)
    counts = {share: sum(b.count for b in batches if b.share == share) for share in SHARES}
    assert counts == {"training": 450 * 48, "database": 150 * 48, "queries": 50 * 48}


def test_training_is_heard_in_other_tunings_and_nothing_else_is(tmp_path: Path) -> None:
    tunings: dict[str, list[float]] = {share: [] for share in SHARES}
    for batch in plan(tmp_path, ClipSettings()):
        tunings[batch.share].append(clips._tuning(batch, batch.first + 1000 * len(tunings)))
        assert playable(batch.sound, batch.font) is not None
    heard = np.array(tunings["training"])
    assert np.abs(heard).max() <= clips.TUNING_SEMITONES
    assert 0.1 < (heard == 0).mean() < 0.6
    assert set(tunings["database"]) == set(tunings["queries"]) == {0.0}


def test_a_tuned_clip_is_in_time_and_higher_than_its_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[float, int, int]] = []

    def render(song: Song, rate: int, font: str) -> np.ndarray:
        asked.append((float(song.end_s.max()), int(song.pitch.min()), rate))
        return render_plainly(song, rate)

    monkeypatch.setattr(clips, "render", render)
    batch = Batch(tmp_path, BY_LABEL["violin"], "training", "a.sf2", 0, 1, ClipSettings(seconds=2))
    for semitones in (0.0, 5.0):
        monkeypatch.setattr(clips, "_tuning", lambda batch, seed, by=semitones: by)
        (clip,) = play(batch)
        assert len(clip) == 2 * clips.RATE_HZ
    (end_s, pitch, rate), (moved_end_s, moved_pitch, moved_rate) = asked
    assert pitch - moved_pitch == 5
    assert moved_end_s * moved_rate == pytest.approx(end_s * rate, rel=1e-4)


def test_without_fluidsynth_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesisers, "fluidsynth_command", lambda: None)
    with pytest.raises(HashbeamError, match="apt-get install fluidsynth"):
        write_clips(tmp_path / "set", FEW, show=False)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("font", [font for fonts in SHARES.values() for font in fonts])
def test_synthesisers_are_heard(font: str, tmp_path: Path) -> None:
    try:
        require(font)
    except HashbeamError as error:
        pytest.skip(str(error))
    for label in ("violin", "cymbal"):
        batch = Batch(tmp_path, BY_LABEL[label], "queries", font, 0, 2, ClipSettings(seconds=1.0))
        for clip in play(batch):
            assert np.abs(clip).max() > 0.01


def test_other_sounds_share_no_program_with_the_instruments() -> None:
    known = {program for sound in SOUNDS for program in sound.programs}
    other = {program for sound in OTHER_SOUNDS for program in sound.programs}
    assert len(other) == 72
    assert not known & other
    assert not {sound.label for sound in SOUNDS} & {sound.label for sound in OTHER_SOUNDS}
    drums = [{*range(s.low, s.high + 1)} for s in (*SOUNDS, *OTHER_SOUNDS) if s.is_drum]
    kept = {pitch for one in drums[5:] for pitch in one}
    assert not kept & {35, 36, 38, 40, 42, 46, 49, 57}  # of the instruments


def test_other_sounds_are_a_set_of_their_own(plainly: list[str], tmp_path: Path) -> None:
    few = dataclasses.replace(FEW, kind="other-sounds", database=0, queries=0, training=1)
    monkey = [sound for sound in OTHER_SOUNDS if sound.label in ("viola", "cowbell")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(clips.SETS, "other-sounds", monkey)
        rows = write_clips(tmp_path / "o", few, show=False)
    assert sorted((row["label"], row["share"]) for row in rows) == [
        ("cowbell", "training"),
        ("viola", "training"),
    ]
    with pytest.raises(ValueError, match="kind="):
        dataclasses.replace(FEW, kind="pianos")
