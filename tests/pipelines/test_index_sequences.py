"""``hashbeam index --also artist,sequence``: both of one decoding, and what becomes of them."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from index_decoder import Heard
from index_helpers import assert_same_content, error_line, paths, run_index
from tiny_catalog import RATE, tune, write_rows

from hashing import audio
from hashing.excerpts import Overheard
from hashing.models import PRETRAINED
from hashing.sequences import SequenceEncoder, TrackSequence
from pipelines.cli import main
from pipelines.sequence_files import open_sequences
from pipelines.versions import SEQUENCES, Manifest, open_manifest

N_TRACKS = 10
SILENT = "t08"  # to the sequence, which hears up to 1 kHz: its music is above that
SHORT = "t09"  # long enough for codes and a sequence, too short for an artist embedding
HIGH_HZ = 2500.0

Shown = pytest.CaptureFixture[str]


class Made(NamedTuple):
    """An index with both.

    `refused` is what was said when more tracks had failed than allowed, `out` when it was
    published, and `heard` are the files that were decoded for it.
    """

    index: Path
    refused: str
    out: str
    heard: list[str]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten tracks: two parts; one of them at another rate, as Ogg."""
    folder = tmp_path_factory.mktemp("music")
    rows = []
    for number in range(N_TRACKS):
        name = f"t{number:02d}"
        samples, suffix = tune(number, 2.0 if name == SHORT else 4.0), "wav"
        if name == SILENT:
            time = np.arange(4 * 16_000) / 16_000
            # It begins and ends softly: a click would be heard.
            samples = 0.1 * np.hanning(time.size) * np.sin(2 * np.pi * HIGH_HZ * time)
            soundfile.write(folder / f"{number}.wav", samples, 16_000, subtype="FLOAT")
        elif number == 3:
            suffix = "ogg"
            audio.encode(np.repeat(samples, 4), 4 * RATE, str(folder / "3.ogg"), codec="ogg")
        else:
            soundfile.write(folder / f"{number}.wav", samples, RATE, subtype="FLOAT")
        rows.append({"track_id": name, "uri": f"{number}.{suffix}", "title": f"Title {number}"})
    return write_rows(folder / "catalog.csv", rows)


@pytest.fixture(scope="module")
def made(
    catalog: Path,
    model_folder: Path,
    one_index_decoder: Heard,
    tmp_path_factory: pytest.TempPathFactory,
) -> Made:
    """Not to be changed."""
    index = tmp_path_factory.mktemp("made") / "index"
    out, err, also = io.StringIO(), io.StringIO(), ("--also", "artist,sequence")
    one_index_decoder.since()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert run_index(catalog, index, model_folder, *also, "--max-failures", "0.1") == 1
        assert run_index(catalog, index, model_folder, *also, "--max-failures", "0.5") == 0
    (refused,) = (line for line in err.getvalue().splitlines() if ": error: " in line)
    return Made(index, refused, out.getvalue(), one_index_decoder.since())


@pytest.fixture
def own(made: Made, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made.index, tmp_path / "index")
    return tmp_path / "index"


def stored(index: Path, manifest: Manifest) -> dict[str, TrackSequence]:
    """track_id → what stands in the files."""
    found = {}
    for path in paths(index, manifest, SEQUENCES):
        find = open_sequences(str(path))
        for track_id in pq.read_table(path, columns=["track_id"])["track_id"].to_pylist():
            found[track_id] = find(track_id)
    return found


def test_sequences_are_those_of_the_encoder(catalog: Path, made: Made) -> None:
    encoder, manifest = SequenceEncoder.load(), open_manifest(str(made.index))
    files = paths(made.index, manifest, SEQUENCES)
    assert [path.parent.name for path in files] == ["sequences"] * 2
    assert all(path.match(f"part-0000{part}-*.parquet") for part, path in enumerate(files))
    found = stored(made.index, manifest)
    assert list(found) == [f"t{number:02d}" for number in range(N_TRACKS) if number != 8]
    for track_id, sequence in found.items():
        number = int(track_id[1:])
        path = catalog.parent / f"{number}.{'ogg' if number == 3 else 'wav'}"
        overheard = Overheard(encoder.features.cqt.sample_rate)
        audio.decode(str(path), RATE, listener=overheard.hear)
        expected = encoder.hear(overheard.samples())
        np.testing.assert_array_equal(sequence.codes, expected.codes)
        np.testing.assert_array_equal(sequence.levels, expected.levels)
        np.testing.assert_allclose(sequence.embeddings, expected.embeddings, atol=1e-3)
        # As it is decoded for nothing else, it is the same but for what is rounded.
        alone = encoder.hear(audio.decode(str(path), encoder.features.cqt.sample_rate))
        differing = int(np.bitwise_count(sequence.codes ^ alone.codes).sum())
        assert differing <= 0.01 * 32 * len(alone.codes)
    assert manifest.also["sequence"] == {"name": "sequence", "digest": encoder.digest}
    assert list(manifest.also) == ["artist", "sequence"]
    for path in files:
        assert pq.read_schema(path).metadata[b"model_digest"].decode() == encoder.digest
    entries = manifest.files.select(kind=SEQUENCES)
    assert (entries.column("rows"), entries.column("part")) == ([8, 1], [0, 1])


def test_both_are_of_one_decoding_and_change_nothing_else(
    catalog: Path, made: Made, model_folder: Path, tmp_path: Path
) -> None:
    assert made.heard == sorted(map(str, range(N_TRACKS)))
    flags = ("--also", "artist", "--max-failures", "0.5")
    assert run_index(catalog, tmp_path / "artist", model_folder, *flags) == 0
    assert_same_content(made.index, tmp_path / "artist")
    indexes = (made.index, tmp_path / "artist")
    both = [
        [pq.read_table(path) for path in paths(one, open_manifest(str(one)), "artist_embeddings")]
        for one in indexes
    ]
    assert all(one.equals(other) for one, other in zip(*both, strict=True))


def test_a_track_that_lacks_one_has_the_other_and_is_told(made: Made) -> None:
    (path,) = paths(made.index, open_manifest(str(made.index)), "failures")
    rows = pq.read_table(path).to_pylist()
    assert [(row["track_id"], row["stage"], row["error"]) for row in rows] == [
        (SILENT, "sequence", "silent"),
        (SHORT, "embed", "too-short"),
    ]
    assert "no note of it can be heard" in rows[0]["message"]
    run = json.loads((made.index / "versions/000001/run.json").read_text())
    assert (run["tracks_indexed"], run["tracks_failed"]) == (10, 0)
    assert (run["tracks_embedded"], run["tracks_not_embedded"]) == (9, 1)
    assert (run["tracks_sequenced"], run["tracks_not_sequenced"]) == (9, 1)
    assert run["also"] == {"artist": "artist", "sequence": "sequence"}
    assert "  hash sequences of 9 tracks by model sequence\n" in made.out
    assert "1 tracks have no artist embedding, 1 tracks have no hash sequence (" in made.out


def test_too_many_without_are_too_many_failures(made: Made) -> None:
    assert "2 of 10 tracks failed (" in made.refused
    assert "more than --max-failures 0.1 allows" in made.refused


def test_files_are_checked_and_shown(made: Made, own: Path, capsys: Shown) -> None:
    assert main(["verify", str(made.index)]) == 0
    capsys.readouterr()
    assert main(["info", str(made.index)]) == 0
    shown = capsys.readouterr().out
    assert "  hash sequences by model sequence (" in shown
    assert "  sequences: 2 files, 9 rows, " in shown
    where = own / "versions/000001/manifest.json"
    values = json.loads(where.read_text())
    values["also"]["sequence"]["digest"] = "0" * 64
    values["counters"]["tracks_sequenced"] = 10
    where.write_text(json.dumps(values))
    first, second = paths(own, open_manifest(str(own)), SEQUENCES)
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    assert main(["verify", str(own), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    digest = SequenceEncoder.load().digest[:12]
    assert [problem.split("…")[0][:-12] for problem in problems if "SHA-256" in problem] == [
        f"{second} has SHA-256 "
    ]
    assert sorted(problem for problem in problems if "SHA-256" not in problem) == sorted(
        [
            "sequences of 9 rows in the manifest, expected 10",
            f"{first} was made by model {digest}, the index by 000000000000",
        ]
    )


def test_reindex_keeps_makes_and_forgets_them(
    catalog: Path, own: Path, one_index_decoder: Heard, tmp_path: Path
) -> None:
    before = stored(own, open_manifest(str(own)))
    rows = [f"t{number:02d},{catalog.parent / f'{number}.wav'},Title" for number in (0, 1, 5)]
    rows.append(f"n00,{catalog.parent / '2.wav'},Title")  # another id for a file that is known
    soundfile.write(tmp_path / "new.wav", tune(77, 4.0), RATE, subtype="FLOAT")
    rows.append(f"t99,{tmp_path / 'new.wav'},Title")
    (tmp_path / "c.csv").write_text("\n".join(["track_id,uri,title", *rows]) + "\n")
    one_index_decoder.since()
    names = ["--catalog", str(tmp_path / "c.csv"), "--index", str(own), "--workers", "1"]
    assert main(["reindex", *names, "--no-gates", "live-tracks,self-recall", "--quiet"]) == 0
    assert one_index_decoder.since() == ["new"]
    manifest = open_manifest(str(own))
    assert manifest.counters["tracks_sequenced"] == 5
    assert main(["compact", str(own), "--all", "--workers", "1", "--quiet"]) == 0
    assert one_index_decoder.since() == []
    after = stored(own, open_manifest(str(own)))
    assert list(after) == ["n00", "t00", "t01", "t05", "t99"]
    known = {"n00": "t02", "t00": "t00", "t01": "t01", "t05": "t05"}
    for name, old in known.items():
        for field in ("codes", "embeddings", "levels"):
            one, other = getattr(after[name], field), getattr(before[old], field)
            np.testing.assert_array_equal(one, other)
    expected = SequenceEncoder.load().hear(audio.decode(str(tmp_path / "new.wav"), 2760))
    np.testing.assert_array_equal(after["t99"].codes, expected.codes)
    assert main(["verify", str(own)]) == 0


@pytest.mark.parametrize("name", ["artist", "sequence"])
def test_a_model_that_is_another_now_is_refused(
    own: Path, tmp_path: Path, capsys: Shown, name: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(PRETRAINED / name, other)
    config = json.loads((other / "config.json").read_text())
    config["bits"] = 7  # of its identity, and of no use to it
    (other / "config.json").write_text(json.dumps(config))
    command = ["compact", str(own), "--all", "--workers", "1", f"--{name}-model", str(other)]
    assert main(command) == 1
    told = error_line(capsys, "compact")
    assert f"{'artist embedding' if name == 'artist' else 'hash sequence'}s of model" in told
    assert f"name the model that made them with --{name}-model" in told
