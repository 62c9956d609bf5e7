"""Spectrograms of many clips: what is kept of sound files, and when they are heard anew."""

from __future__ import annotations

import dataclasses
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hashing.audio import decode_blocks, encode
from hashing.errors import AudioError, HashbeamError
from hashing.events import spectra
from hashing.events.features import CLIP
from hashing.events.spectra import Spectra, hear, hear_file
from hashing.features import FeatureConfig, spectrogram

# Windows of 10 frames, 0.53 s, that begin 6 frames apart.
SMALL = FeatureConfig(
    n_fft=512,
    hop_length=416,
    n_bands=8,
    snippet_frames=10,
    snippet_hop=6,
    silence_db=-70.0,
    repeats_short=True,
)
RATE = SMALL.sample_rate


def noise(seed: int, seconds: float, rate: int = RATE) -> np.ndarray:
    """Noise that is 60 dB louder at its end than at its start."""
    samples = round(seconds * rate)
    rising = np.logspace(-4, -1, max(samples, 1))[:samples]
    return (rising * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> str:
    encode(samples, rate, str(path), codec="wav")
    return str(path)


def decoded(path: str, config: FeatureConfig) -> np.ndarray:
    return spectrogram(decode_blocks(path, config.sample_rate), config)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Two whole files and one of half a window, a silent one, no audio, and one that is missing."""
    (tmp_path / "text.wav").write_text("no audio")
    return [
        write(tmp_path / "one.wav", noise(1, 1.4)),
        write(tmp_path / "silent.wav", np.zeros(RATE, np.float32)),
        str(tmp_path / "text.wav"),
        write(tmp_path / "two.wav", noise(2, 1.0, 44_100), 44_100),
        str(tmp_path / "missing.wav"),
        write(tmp_path / "short.wav", noise(3, 0.3)),
    ]


def count(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Note in `calls` which files are heard."""

    def told(path: str, config: FeatureConfig, windows: int = 0) -> object:
        calls.append(Path(path).stem)
        return hear_file(path, config, windows)

    monkeypatch.setattr(spectra, "hear_file", told)


def test_windows_are_those_of_the_spectrogram(paths: list[str], tmp_path: Path) -> None:
    found = hear(paths, tmp_path / "kept", SMALL)
    # 1.4 s are 26 frames, 1 s is 19 and 0.3 s are 5: windows begin at 0, 6 and 12 while ten fit.
    assert found.file.tolist() == [0, 0, 0, 3, 3, 5]
    assert found.start_frame.tolist() == [0, 6, 12, 0, 6, 0]
    assert (found.levels.shape, found.levels.dtype) == ((6, 10, 8), np.uint8)
    assert found.config == SMALL
    cut = found.cut(np.arange(6))
    assert (cut.shape, cut.dtype, cut.flags.c_contiguous) == ((6, 8, 10), np.float32, True)
    for row, (file, start) in enumerate(zip(found.file, found.start_frame, strict=True)):
        spec = decoded(paths[file], SMALL)
        if file == 5:
            assert len(spec) == 5
            spec = np.concatenate((spec, spec))
        np.testing.assert_allclose(cut[row], spec[start : start + 10].T, atol=0.26)
    np.testing.assert_array_equal(found.cut(np.array([4, 0])), cut[[4, 0]])


def test_what_cannot_be_heard_is_told_with_its_number(paths: list[str], tmp_path: Path) -> None:
    found = hear(paths, tmp_path / "kept", SMALL)
    kinds = {number: kind for number, (kind, _) in found.failures.items()}
    assert kinds == {1: "silent", 2: "not-audio", 4: "missing"}
    for number, (_, message) in found.failures.items():
        assert paths[number] in message
    assert found.failures[1][1].endswith("silent.wav is silent: nothing above -70 dB")
    # From what is kept, the same.
    assert hear(paths, tmp_path / "kept", SMALL).failures == found.failures


def test_the_first_window_of_each_file(paths: list[str], tmp_path: Path) -> None:
    found = hear(paths, tmp_path / "kept", SMALL)
    assert found.first_windows(6).tolist() == [0, -1, -1, 3, -1, 5]
    assert found.first_windows(7).tolist()[6] == -1
    none = dataclasses.replace(found, file=np.empty(0, np.int64))
    assert none.first_windows(2).tolist() == [-1, -1]


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 96_000])
def test_the_first_windows_need_only_the_beginning(tmp_path: Path, rate: int) -> None:
    samples = 0.1 * np.random.default_rng(4).standard_normal(9 * rate)
    path = write(tmp_path / "a.wav", samples, rate)
    whole, starts = hear_file(path, CLIP)
    assert starts.tolist() == [0, 80, 160]
    for windows in (1, 2, 3, 9):
        levels, first = hear_file(path, CLIP, windows)
        assert first.tolist() == starts[:windows].tolist()
        np.testing.assert_array_equal(levels, whole[:windows])


def test_a_silent_start_is_left_out(tmp_path: Path) -> None:
    samples = np.concatenate((np.zeros(2 * RATE, np.float32), noise(5, 1.0)))
    path = write(tmp_path / "a.wav", samples)
    # 2 s are 38 frames: a window that ends at frame 40 at the earliest hears what comes then.
    starts = hear_file(path, SMALL)[1]
    assert starts.size
    assert starts[0] >= 30
    with pytest.raises(AudioError) as caught:
        hear_file(path, SMALL, 2)
    assert caught.value.kind == "silent"


def test_short_files(tmp_path: Path) -> None:
    path = write(tmp_path / "half.wav", noise(6, 0.3))
    levels, starts = hear_file(path, SMALL)
    assert starts.tolist() == [0]
    np.testing.assert_array_equal(levels[0, :5], levels[0, 5:])
    for config, samples in ((dataclasses.replace(SMALL, repeats_short=False), 2400), (SMALL, 511)):
        path = write(tmp_path / "a.wav", noise(6, samples / RATE))
        with pytest.raises(AudioError, match="shorter than a") as caught:
            hear_file(path, config)
        assert caught.value.kind == "too-short"


def test_messages_are_one_line_whatever_files_are_called(tmp_path: Path) -> None:
    path = write(tmp_path / "two\nlines.wav", np.zeros(RATE, np.float32))
    with pytest.raises(AudioError) as caught:
        hear_file(path, SMALL)
    assert "\n" not in str(caught.value)


def test_files_are_heard_once(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    count(heard, monkeypatch)
    monkeypatch.setattr(spectra, "FILES_A_TASK", 2)
    first = hear(paths, tmp_path / "kept", SMALL)
    assert heard == ["one", "silent", "text", "two", "missing", "short"]
    assert {path.suffix for path in (tmp_path / "kept").iterdir()} == {".npz"}
    assert_same(hear(paths, tmp_path / "kept", SMALL), first)
    assert len(heard) == 6
    # A file that has changed, with those of its task, and no others.
    write(Path(paths[3]), noise(7, 0.8))
    heard.clear()
    again = hear(paths, tmp_path / "kept", SMALL)
    assert heard == ["text", "two"]
    assert again.file.tolist() == [0, 0, 0, 3, 5]
    np.testing.assert_array_equal(again.levels[3], hear_file(paths[3], SMALL)[0][0])
    # One that has come since, and one of the same size that was written later.
    write(Path(paths[4]), noise(8, 0.6))
    os.utime(paths[0], ns=(1, 1))
    heard.clear()
    assert hear(paths, tmp_path / "kept", SMALL).failures.keys() == {1, 2}
    assert heard == ["one", "silent", "missing", "short"]
    # Other settings, and another number of windows, are heard for themselves.
    heard.clear()
    hear(paths, tmp_path / "kept", dataclasses.replace(SMALL, n_bands=9))
    hear(paths, tmp_path / "kept", SMALL, windows=1)
    assert len(heard) == 12


def assert_same(one: Spectra, other: Spectra) -> None:
    for name in ("levels", "file", "start_frame"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.failures == other.failures


def test_what_was_stopped_goes_on(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "FILES_A_TASK", 2)
    whole = hear(paths, tmp_path / "whole", SMALL)

    def stops(path: str, config: FeatureConfig, windows: int = 0) -> object:
        if path == paths[3]:
            raise KeyboardInterrupt
        return hear_file(path, config, windows)

    monkeypatch.setattr(spectra, "hear_file", stops)
    with pytest.raises(KeyboardInterrupt):
        hear(paths, tmp_path / "kept", SMALL)
    heard: list[str] = []
    count(heard, monkeypatch)
    said: list[str] = []
    assert_same(hear(paths, tmp_path / "kept", SMALL, log=said.append), whole)
    assert heard == ["text", "two", "missing", "short"]
    assert said == ["hearing 4 files"]


def test_processes_hear_the_same(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent to a process and back, without the seconds that its start takes."""
    alone = hear(paths, tmp_path / "alone", SMALL)
    asked: list[int] = []

    def sent(work: Callable[[object], int], tasks: list[object], workers: int) -> Iterator[int]:
        asked.append(workers)
        for task in reversed(tasks):
            there, what = pickle.loads(pickle.dumps((work, task)))
            yield there(what)

    monkeypatch.setattr(spectra, "spread", sent)
    monkeypatch.setattr(spectra, "FILES_A_TASK", 2)
    assert_same(hear(paths, tmp_path / "spread", SMALL, workers=3), alone)
    assert asked == [3]


def test_nothing_to_hear_is_an_error(paths: list[str], tmp_path: Path) -> None:
    with pytest.raises(HashbeamError, match=r"none of 0 clips can be heard \(no files\)"):
        hear([], tmp_path / "kept", SMALL)
    with pytest.raises(HashbeamError, match=r"none of 2 clips .*silent"):
        hear(paths[1:3], tmp_path / "kept", SMALL)
