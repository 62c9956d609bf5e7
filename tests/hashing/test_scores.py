"""MIDI files as they are heard, and every way in which they cannot be."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from midi_files import END, chunk, made_up_song, note, song, tempo

from hashing import cqt, scores
from hashing.cqt import CqtConfig
from hashing.midi_writing import midi_bytes
from hashing.piano_rolls import piano_roll
from hashing.rendering import RenderingError, render_plainly
from hashing.scores import PLAIN, ROLL, ScoreError, check_soundfont, hear_score, read_score

CONFIG = CqtConfig()


def test_levels_are_those_of_the_notes(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    path.write_bytes(song(note(60, 96) + note(67, 96) + END))  # half a second each
    score = hear_score(path, CONFIG, PLAIN)
    assert score.song.pitch.tolist() == [60, 67]
    assert score.levels.shape == (1 + int(1.0 / CONFIG.frame_s), CONFIG.n_bins)
    assert score.levels.max() == 0.0
    loudest = score.levels.argmax(axis=1) + CONFIG.lowest
    assert set(loudest[1:9]) == {60}
    assert set(loudest[12:20]) == {67}


def test_frames_are_at_their_times() -> None:
    """A score and a recording of it, made by another way, have the same frames."""
    played = made_up_song(1, 20.0, drums=False)
    heard = cqt.heard_frames(hear_score(midi_bytes(played), CONFIG, PLAIN).levels)
    recording = cqt.log_frames(cqt.magnitudes(render_plainly(played, CONFIG.sample_rate)))
    n = min(len(heard), len(recording))
    likeness = np.einsum("tb,tb->t", heard[:n], recording[:n])
    assert float(np.median(likeness)) > 0.95


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "not-midi"),
        (b"RIFF" + bytes(40), "not-midi"),
        (song(END, division=0), "no-beats"),
        (song(note(60, 96) + END)[:-6], "truncated"),
        (song(bytes([0, 0xFF, 0x01, 99]) + b"a"), "truncated"),
        (song(bytes([0, 0xF1]) + END), "damaged"),
        (song(tempo(0) + note(60, 96) + END), "bad-tempo"),
        (song(), "no-tracks"),
        (song(END), "no-notes"),
        (song(note(36, 96, channel=9) + END), "drums-only"),
        (song(tempo(0xFFFFFF) + note(60, 127) * 250 + END, division=2), "too-long"),
        (song() + chunk(b"MTrk", END) * 300, "too-large"),
        (b"MThd" + bytes((4 << 20) + 1), "too-large"),
        (song(tempo(1) + note(60, 1) + END, division=32767), None),
        (song(note(60, 96) + END) + chunk(b"XXXX", b"a"), None),
    ],
)
def test_what_is_wrong_has_a_kind(data: bytes, kind: str | None) -> None:
    if kind is None:
        assert read_score(data).pitch.tolist() == [60]
        return
    with pytest.raises(ScoreError) as caught:
        read_score(data, "a\nb.mid")
    assert caught.value.kind == kind
    assert str(caught.value).startswith("'a\\nb.mid' ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "no.mid", tmp_path):
        with pytest.raises(ScoreError, match=str(path)) as caught:
            read_score(path)
        assert caught.value.kind == "unreadable"


def test_long_songs_are_refused_before_they_are_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "render_plainly", None)
    with pytest.raises(ScoreError, match=r"lasts 0.5 minutes, more than 0.1") as caught:
        hear_score(midi_bytes(made_up_song(1, 30.0)), CONFIG, PLAIN, max_seconds=6)
    assert caught.value.kind == "too-long"


def test_notes_that_nobody_hears() -> None:
    with pytest.raises(ScoreError, match="silent") as caught:
        hear_score(song(note(127, 96) + END), CONFIG, PLAIN)
    assert caught.value.kind == "silent"


def test_a_soundfont_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.sf2"
    path.write_bytes(b"nothing")
    with pytest.raises(RenderingError, match="no soundfont"):
        check_soundfont(path)
    check_soundfont(PLAIN)


def test_a_roll_is_drawn_and_not_played(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("render", "render_plainly"):
        monkeypatch.setattr(scores, name, None)
    played = made_up_song(2, 10.0)
    score = hear_score(midi_bytes(played), CONFIG, "no such.sf2", kind=ROLL)
    roll = piano_roll(score.song, CONFIG)
    assert score.levels.shape == roll.shape
    # dB below the loudest cell, and nothing where nothing sounds.
    sounding = roll > 0
    wanted = 20 * np.log10(roll[sounding] / roll.max())
    assert score.levels[sounding] == pytest.approx(wanted, abs=1e-3)
    assert (score.levels[~sounding] < -CONFIG.dynamic_range_db).all()
    assert 0.02 < sounding.mean() < 0.5
    with pytest.raises(ScoreError, match="silent") as caught:
        hear_score(song(note(20, 96) + END), CONFIG, kind=ROLL)
    assert caught.value.kind == "silent"
    with pytest.raises(ScoreError, match="minutes"):
        hear_score(midi_bytes(played), CONFIG, kind=ROLL, max_seconds=6)


def test_errors_keep_their_kind_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ScoreError("no-notes", "a.mid holds no notes")))
    assert (error.kind, str(error)) == ("no-notes", "a.mid holds no notes")
