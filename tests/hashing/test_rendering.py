"""Songs as sound: what is heard, how long, and that FluidSynth cannot do harm."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from midi_files import made_up_song

from hashing import rendering
from hashing.midi import COLUMNS, Controls, Song
from hashing.rendering import (
    PEAK,
    RenderingError,
    find_soundfont,
    held_ends,
    render,
    render_plainly,
    render_with_fluidsynth,
)

RATE = 11_025
needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or find_soundfont() is None,
    reason="FluidSynth or a soundfont is not installed (apt: fluidsynth, timgm6mb-soundfont)",
)


def one_note(pitch: int, start_s: float = 0.5, end_s: float = 1.5, program: int = 0) -> Song:
    def column(value: int) -> npt.NDArray[np.int64]:
        return np.array([value])

    return Song(
        *(np.array([start_s]), np.array([end_s])),
        *(column(pitch), column(100), column(program), np.array([False]), column(0)),
        ("",),
        np.arange(0, end_s + 1, 0.5),
    )


def loudest_hz(samples: npt.NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.argmax(spectrum) * RATE / samples.size)


@pytest.mark.parametrize(("pitch", "hz"), [(45, 110.0), (60, 261.63), (69, 440.0), (93, 1760.0)])
@pytest.mark.parametrize("program", [0, 48])
def test_a_plain_note_has_its_pitch_and_place(pitch: int, hz: float, program: int) -> None:
    samples = render_plainly(one_note(pitch, program=program), RATE)
    assert samples.dtype == np.float32
    assert not samples[: RATE // 2 - 1].any()
    assert loudest_hz(samples[RATE // 2 : RATE]) == pytest.approx(hz, abs=2.5)
    assert np.abs(samples).max() == pytest.approx(PEAK)


def test_struck_notes_die_away_and_blown_ones_stay() -> None:
    def ratio(program: int) -> float:
        samples = render_plainly(one_note(60, 0.0, 3.0, program), RATE)
        return float(samples[2 * RATE : 3 * RATE].std() / samples[:RATE].std())

    assert ratio(0) < 0.3
    assert ratio(19) == pytest.approx(1.0, abs=0.05)


def test_drums_are_heard_and_the_same_song_is_the_same_sound() -> None:
    song = made_up_song(1, 5.0)
    drums = song.where(song.is_drum)
    assert render_plainly(drums, RATE).any()
    assert np.array_equal(render_plainly(song, RATE), render_plainly(song, RATE))


def test_a_song_without_notes_is_silence() -> None:
    song = made_up_song(1, 5.0)
    assert not render_plainly(song.where(song.pitch > 127), RATE).any()


def test_the_pedal_holds_notes_until_it_is_released() -> None:
    song = one_note(60)
    zero = np.zeros(4, np.int64)
    values = np.array([127, 100, 0, 127])
    pedal = Controls(np.array([1.0, 1.2, 2.5, 2.6]), zero, zero + rendering.PEDAL, values)
    longer = one_note(62, 0.0, 4.0)
    pairs = zip(COLUMNS, song.columns(), longer.columns(), strict=True)
    both = dataclasses.replace(
        song, controls=pedal, **{name: np.concatenate([a, b]) for name, a, b in pairs}
    )
    assert held_ends(both).tolist() == [2.5, 4.0]
    other = dataclasses.replace(both, controls=dataclasses.replace(pedal, track=zero + 1))
    assert held_ends(other).tolist() == [1.5, 4.0]


def test_without_fluidsynth_it_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    song = made_up_song(1, 3.0)
    monkeypatch.setattr(rendering, "fluidsynth_command", lambda: None)
    assert np.array_equal(render(song, RATE), render_plainly(song, RATE))
    monkeypatch.setattr(rendering, "fluidsynth_command", lambda: sys.executable)
    monkeypatch.setattr(rendering, "FOLDERS", ())
    assert np.array_equal(render(song, RATE), render_plainly(song, RATE))


def test_a_named_soundfont_is_found_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "FOLDERS", (str(tmp_path),))
    good, bad = tmp_path / "b.sf2", tmp_path / "a.txt"
    good.write_bytes(b"RIFF\0\0\0\0sfbk")
    bad.write_bytes(b"RIFF\0\0\0\0WAVE")
    assert find_soundfont() == find_soundfont("b.sf2") == find_soundfont(good) == good.resolve()
    with pytest.raises(RenderingError, match=r"a\.txt is no soundfont"):
        find_soundfont("a.txt")
    with pytest.raises(RenderingError, match="nor in"):
        find_soundfont("c.sf2")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import time; time.sleep(60)", "takes more than 0.5 s"),
        ("import sys; [sys.stdout.buffer.write(bytes(1 << 20)) for _ in range(99)]", "plays on"),
        ("raise SystemExit(3)", "ends with status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ends with status -11"),
        ("pass", "plays nothing"),
        ("import sys; sys.stdout.buffer.write(b'\\xff' * 800)", "plays nothing"),
    ],
)
def test_a_synthesiser_that_fails_is_one_clear_line(program: str, words: str) -> None:
    limit = 0.5 if "sleep" in program else 30.0
    command = [sys.executable, "-I", "-S", "-c", program]
    with pytest.raises(RenderingError, match=words):
        render_with_fluidsynth(
            one_note(60), RATE, Path("none.sf2"), command=command, timeout_s=limit
        )


def test_a_synthesiser_that_is_missing_and_a_rate_that_is_none() -> None:
    with pytest.raises(RenderingError, match="does not start: No such file"):
        render_with_fluidsynth(one_note(60), RATE, Path("a"), command=["no such program"])
    with pytest.raises(RenderingError, match="4000 Hz is not a rate"):
        render_with_fluidsynth(one_note(60), 4000, Path("a"))


@needs_fluidsynth
def test_fluidsynth_plays_the_note_in_its_place() -> None:
    soundfont = find_soundfont()
    assert soundfont is not None
    samples = render_with_fluidsynth(one_note(69), RATE, soundfont)
    assert samples.size >= 1.5 * RATE
    heard = np.flatnonzero(np.abs(samples) > 0.05)
    assert heard[0] / RATE == pytest.approx(0.5, abs=0.03)
    assert loudest_hz(samples[RATE // 2 : RATE]) == pytest.approx(440.0, abs=3)
    assert np.abs(samples).max() == pytest.approx(PEAK)


@needs_fluidsynth
def test_plain_sound_has_the_chroma_of_fluidsynths() -> None:
    """Frame by frame, and not where one of them is moved by a second."""
    song = made_up_song(6, 10.0, drums=False)

    def bands(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        frames = samples[: samples.size // 1024 * 1024].reshape(-1, 1024) * np.hanning(1024)
        power = np.log1p(100 * np.abs(np.fft.rfft(frames, axis=1))[:, 10:100])
        return np.asarray(power / (np.linalg.norm(power, axis=1, keepdims=True) + 1e-9))

    one, other = bands(render_plainly(song, RATE)), bands(render(song, RATE))
    n = min(len(one), len(other)) - 11

    def likeness(shift: int) -> float:
        return float((one[:n] * other[shift : n + shift]).sum(1).mean())

    assert likeness(0) > 0.85
    assert likeness(0) > likeness(11) + 0.05
