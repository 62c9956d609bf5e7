"""Which recordings soundfonts are made of: those that ask share none with those that are known.

A soundfont is a RIFF file: the samples of all its instruments stand one after another in the chunk
``smpl``, and ``shdr`` tells where each begins and ends ("SoundFont technical specification",
version 2.04, E-mu Systems, 2006).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from hashing.generated.clips import SHARES
from hashing.generated.synthesisers import _FREEPATS_PROGRAMS, FREEPATS, SONIVOX
from hashing.rendering import RenderingError, find_soundfont

Samples = npt.NDArray[np.int16]

SHDR = np.dtype(
    [
        ("name", "S20"),
        *((name, "<u4") for name in ("start", "end", "loop", "loop_end", "rate")),
        ("pitch", "u1"),
        ("correction", "i1"),
        ("link", "<u2"),
        ("type", "<u2"),
    ]
)
IN_ROM = 0x8000  # of the type: the samples are in a sound card, and not in the file

LEAST = 300  # values of a sample: in shorter ones, loops of one period, there is little to know
WINDOW = 96  # values of a fingerprint


def chunks(data: npt.NDArray[np.uint8], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk; that of a list is named by its type."""
    while start + 8 <= end:
        name, size = struct.unpack("<4sI", data[start : start + 8].tobytes())
        first, last = start + 8, start + 8 + size
        if name in (b"RIFF", b"LIST"):
            name, first = data[first : first + 4].tobytes(), first + 4
        yield name, first, last
        start = last + size % 2


def samples_of(path: Path) -> dict[str, Samples]:
    """The samples of a soundfont by name; those of equal name have a number behind it."""
    data = np.memmap(path, np.uint8, "r")
    (riff,) = chunks(data, 0, len(data))
    assert riff[0] == b"sfbk"
    lists = {name: (first, last) for name, first, last in chunks(data, *riff[1:])}
    inner = {
        name: data[first:last]
        for part in (b"sdta", b"pdta")
        for name, first, last in chunks(data, *lists[part])
    }
    values = inner[b"smpl"][: len(inner[b"smpl"]) // 2 * 2].view("<i2")
    found: dict[str, Samples] = {}
    for head in np.frombuffer(inner[b"shdr"].tobytes(), SHDR)[:-1]:  # the last one ends the list
        if not head["type"] & IN_ROM:
            name = head["name"].split(b"\0")[0].decode("latin-1")
            name = name if name not in found else f"{name} {len(found)}"
            found[name] = values[int(head["start"]) : int(head["end"])]
    return found


def fingerprint(sample: Samples) -> bytes | None:
    """The values around the loudest one; None for what is too short or all the same."""
    if len(sample) < LEAST:
        return None
    # Not of the absolute values, which would be a copy of half a gigabyte.
    high, low = int(sample.argmax()), int(sample.argmin())
    loudest = high if int(sample[high]) >= -int(sample[low]) else low
    first = min(max(0, loudest - WINDOW // 2), len(sample) - WINDOW)
    window = sample[first : first + WINDOW]
    return window.tobytes() if window.min() < window.max() else None


def fingerprints(path: Path) -> set[bytes]:
    found = {fingerprint(sample) for sample in samples_of(path).values()}
    return {one for one in found if one is not None}


def soundfont(path: Path, samples: dict[str, Samples], in_rom: tuple[str, ...] = ()) -> Path:
    """A file with these samples, 46 zeros behind each."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

    heads, start = np.zeros(len(samples) + 1, SHDR), 0
    for head, (name, values) in zip(heads, samples.items(), strict=False):
        head["name"], head["start"], head["end"] = name.encode(), start, start + len(values)
        head["rate"], head["type"] = 22_050, 1 | (IN_ROM if name in in_rom else 0)
        start += len(values) + 46
    heads[-1]["name"] = b"EOS"
    audio = b"".join(values.astype("<i2").tobytes() + bytes(92) for values in samples.values())
    told = chunk(b"ifil", b"\2\0\1\0") + chunk(b"INAM", b"odd")  # an odd length is filled up
    lists = [
        chunk(b"LIST", b"INFO" + told),
        chunk(b"LIST", b"sdta" + chunk(b"smpl", audio)),
        chunk(b"LIST", b"pdta" + chunk(b"phdr", bytes(38)) + chunk(b"shdr", heads.tobytes())),
    ]
    path.write_bytes(chunk(b"RIFF", b"sfbk" + b"".join(lists)))
    return path


def noise(seed: int, n: int) -> Samples:
    return np.random.default_rng(seed).integers(-9000, 9000, n, np.int16)


def test_samples_are_where_the_file_says(tmp_path: Path) -> None:
    own = {"piano": noise(1, 400), "flute": noise(2, 301), "short": noise(3, 299)}
    path = soundfont(tmp_path / "a.sf2", {**own, "card": noise(4, 500)}, in_rom=("card",))
    assert find_soundfont(str(path)) == path.resolve()
    found = samples_of(path)
    assert list(found) == list(own)
    assert all(np.array_equal(found[name], own[name]) for name in own)
    assert len(fingerprints(path)) == 2  # what is short has none


def test_a_fingerprint_is_around_the_loudest_value() -> None:
    sample = noise(5, 1000)
    for place, value in ((500, 30_000), (500, -30_000), (0, 30_000), (999, -(2**15))):
        loud = sample.copy()
        loud[place] = value
        first = min(max(place - 48, 0), 1000 - 96)
        assert fingerprint(loud) == loud[first : first + 96].tobytes()
    assert fingerprint(np.zeros(500, np.int16)) is None


def test_a_sample_is_known_again_in_another_place_and_longer(tmp_path: Path) -> None:
    shared = noise(6, 600)
    shared[300] = 30_000
    other = np.concatenate([noise(7, 50), shared, noise(8, 77)])
    one = soundfont(tmp_path / "one.sf2", {"a": noise(9, 400), "violin": shared})
    two = soundfont(tmp_path / "two.sf2", {"fiddle": other, "b": noise(10, 400)})
    assert fingerprints(one) & fingerprints(two) == {shared[252:348].tobytes()}


def test_what_asks_shares_no_sample_with_what_is_known() -> None:
    """The claim of `hashing.generated.clips.SHARES`; whoever adds a soundfont is told here."""
    found: dict[str, dict[str, set[bytes]]] = {}
    for share, fonts in SHARES.items():
        for font in fonts:
            if font in (FREEPATS, SONIVOX):
                continue
            try:
                found.setdefault(share, {})[font] = fingerprints(_place(font))
            except RenderingError as error:
                pytest.skip(f"the soundfont {font} is not installed: {error}")
    known = {font: own for share in ("training", "database") for font, own in found[share].items()}
    for font, own in found["queries"].items():
        assert len(own) > 50
        for other, its in known.items():
            assert len(its) > 50
            assert not own & its, f"{font} and {other} have {len(own & its)} samples in common"


def patch_samples(data: bytes) -> list[Samples]:
    """The samples of a Gravis patch of one instrument and one layer, 16 bits each."""
    found, at = [], 129 + 63 + 47  # behind the headers of file, instrument and layer
    for _ in range(data[129 + 63 + 6]):
        head, at = data[at : at + 96], at + 96
        size, mode = int.from_bytes(head[8:12], "little"), head[55]
        part, at = data[at : at + size], at + size
        if mode & 1:
            values = np.frombuffer(part[: size // 2 * 2], "<i2").astype(np.int32)
        else:
            values = np.frombuffer(part, "i1").astype(np.int32) * 256
        unsigned = np.where(values < 0, values + 2**16, values) - 2**15
        found.append((unsigned if mode & 2 else values).astype(np.int16))
    return found


def test_freepats_shares_no_sample_with_what_asks_but_what_is_left_out() -> None:
    folder = Path("/usr/share/midi/freepats")
    patches = sorted(folder.glob("*/*.pat"))
    if not patches:
        pytest.skip("FreePats is not installed")
    try:
        asking = [fingerprints(_place(font)) for font in SHARES["queries"]]
    except RenderingError as error:
        pytest.skip(f"a soundfont is not installed: {error}")
    shared, used = set(), set()
    for path in patches:
        own = {fingerprint(sample) for sample in patch_samples(path.read_bytes())} - {None}
        program = int(path.name[:3])
        if path.parent.name == "Tone_000" and any(own & its for its in asking):
            shared.add(program)
        elif path.parent.name == "Tone_000":
            used.add(program)
        else:
            assert not any(own & its for its in asking), path.name
    assert shared == {64, 69, 75, 79}
    assert used >= _FREEPATS_PROGRAMS


def test_soundfonts_are_kin() -> None:
    """The fingerprints see what is the same: the rest of what is said of `SHARES`."""
    pairs = (
        ("MuseScore_General_Full.sf2", "FluidR3_GM.sf2", 0.5),
        ("TimGM6mb.sf2", "sf_GMbank.sf2", 2 / 3),
    )
    for font, other, share in pairs:
        try:
            own, its = (fingerprints(_place(name)) for name in (font, other))
        except RenderingError as error:
            pytest.skip(f"a soundfont is not installed: {error}")
        assert len(own & its) / len(its) == pytest.approx(share, abs=0.1)


def _place(font: str) -> Path:
    found = find_soundfont(font)
    assert found is not None
    return found
