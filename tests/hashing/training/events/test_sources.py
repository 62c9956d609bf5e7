"""Catalogues that are learned from: what is held out, and whose windows and labels are whose."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from clip_sounds import SMALL

from hashing.errors import CatalogError, HashbeamError
from hashing.taxonomy import Taxonomy
from hashing.training.events.sources import HELD_OUT, Source, hear_sources

RATE = SMALL.sample_rate


def source(folder: Path, name: str, seconds: dict[str, float], labels: list[list[str]]) -> Source:
    """Files of noise of such lengths; one of zero seconds is no sound file."""
    rng = np.random.default_rng(len(name))
    paths = []
    for file, length in seconds.items():
        path = folder / f"{file}.wav"
        paths.append(str(path))
        if length:
            noise = 0.1 * rng.standard_normal(round(length * RATE))
            soundfile.write(path, noise.astype(np.float32), RATE)
        else:
            path.write_text("no sound")
    return Source(name, list(seconds), paths, [tuple(one) for one in labels])


def ids(prefix: str, learned: int, unheard: int) -> list[str]:
    """Ids of files that are learned from, and then of some that are not."""
    wanted = {False: learned, True: unheard}
    found: dict[bool, list[str]] = {False: [], True: []}
    for number in range(2000):
        name = f"{prefix}{number}"
        digest = hashlib.sha256(name.encode()).digest()
        found[int.from_bytes(digest[:4], "big") % 20 == 0].append(name)
    return [name for role in (False, True) for name in found[role][: wanted[role]]]


def test_one_file_in_twenty_is_held_out_by_its_id() -> None:
    names = [f"clip{n}" for n in range(4000)]
    one = Source("one", names, names, [()] * 4000).held_out()
    assert HELD_OUT == 20
    assert 0.04 < one.mean() < 0.06
    # Whatever else is in the catalogue, and whatever it is called.
    other = Source("other", names[::-3], names[::-3], [()] * 1334).held_out()
    np.testing.assert_array_equal(other, one[::-3])
    assert Source("none", [], [], []).held_out().shape == (0,)


def test_windows_and_labels_are_those_of_their_catalogue(tmp_path: Path) -> None:
    a, b, c, d, out = ids("x", 4, 1)
    # 1.1 s are a window, as what is shorter becomes; half a second more is another one.
    first = source(tmp_path, "first", {a: 2.2, out: 1.0, b: 1.7}, [[], ["oboe"], ["oboe"]])
    second = source(tmp_path, "second", {c: 1.0, d: 1.7}, [["drum", "oboe"], ["drum"]])
    third = source(tmp_path, "third", {"bare": 1.0}, [[]])
    lines: list[str] = []
    heard = hear_sources([first, second, third], tmp_path / "kept", SMALL, 1, lines.append)
    assert list(heard.first) == [0, 3, 5]
    assert heard.spectra.file.tolist() == [0, 0, 0, 1, 2, 2, 3, 4, 4, 5]
    assert heard.spectra.start_frame.tolist() == [0, 16, 32, 0, 0, 16, 0, 0, 16, 0]
    assert heard.held_out().tolist() == [False, True, False, False, False, False]
    learned, unheard = heard.learned(), heard.unheard()
    assert learned.file.tolist() == [0, 0, 0, 2, 2, 3, 4, 4, 5]
    assert unheard.file.tolist() == [1]
    for part in (learned, unheard):
        for row, (file, start) in enumerate(zip(part.file, part.start_frame, strict=True)):
            (place,) = np.flatnonzero(
                (heard.spectra.file == file) & (heard.spectra.start_frame == start)
            )
            np.testing.assert_array_equal(part.levels[row], heard.spectra.levels[place])
    one, two = heard.labelled(learned)  # the third has none
    assert one.rows.tolist() == [3, 4]  # the other file has no labels
    assert one.labels.labels == ("oboe",)
    assert two.rows.tolist() == [5, 6, 7]
    assert [two.labels.sets[at] for at in two.labels.of] == [("drum", "oboe"), ("drum",), ("drum",)]
    (one,) = heard.labelled(unheard)
    assert one.rows.tolist() == [0]
    # A second time they are taken from where they are kept.
    again = hear_sources([second, first], tmp_path / "kept", SMALL, 1, lines.append)
    assert again.spectra.file.tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 4]
    assert sum("hearing" in line for line in lines) == 3


def test_relatives_are_alike_where_a_taxonomy_says_so(tmp_path: Path) -> None:
    a, b = ids("y", 2, 0)
    one = source(tmp_path, "one", {a: 1.0, b: 1.0}, [["oboe"], ["flute"]])
    heard = hear_sources([one], tmp_path, SMALL, 1, lambda line: None)
    tree = Taxonomy({"wind": None, "oboe": "wind", "flute": "wind"})
    (found,) = heard.labelled(heard.spectra, tree)
    assert found.labels.likeness[0, 1] == 0
    (found,) = heard.labelled(heard.spectra)
    assert found.labels.likeness[0, 1] == -1
    with pytest.raises(CatalogError, match="flute"):
        heard.labelled(heard.spectra, Taxonomy({"oboe": None}))


def test_files_that_cannot_be_heard_are_told_and_left_out(tmp_path: Path) -> None:
    seconds = {"good": 1.0, **{f"bad{n}": 0.0 for n in range(5)}, "last": 1.0}
    one = source(tmp_path, "mixed", seconds, [["a"]] * 7)
    lines: list[str] = []
    heard = hear_sources([one], tmp_path, SMALL, 1, lines.append)
    assert heard.spectra.file.tolist() == [0, 6]
    told = [line for line in lines if line.startswith("mixed: ")]
    assert [line.split(" cannot")[0] for line in told[:3]] == [f"mixed: bad{n}" for n in range(3)]
    assert told[3:] == ["mixed: and 2 more"]
    bad = dataclasses.replace(one, ids=["bad0"], paths=one.paths[1:2], labels=[("a",)])
    with pytest.raises(HashbeamError, match="none of 1 clips can be heard"):
        hear_sources([one, bad], tmp_path, SMALL, 1, lines.append)
