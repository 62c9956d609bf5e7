"""``hashbeam evaluate artists`` from the command line, on tones and on given embeddings."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from disambiguation_music import PitchEncoder, pitch_encoder, write_tones
from index_helpers import error_line

from hashing.artists.cepstra import SETTINGS, track_cepstra
from hashing.models import save_model
from pipelines.cli import main
from pipelines.disambiguation import embed
from pipelines.evaluation.artists.systems import trained_on

Shown = pytest.CaptureFixture[str]
Rows = list[dict[str, Any]]


def rows_of(artists: int, tracks: int, **more: Any) -> Rows:
    """Tracks without audio: what is given as embeddings need not be heard."""
    return [
        {
            "track_id": f"a{artist:02d}t{track:02d}",
            "artist_id": f"id{artist}",
            "artist_name": f"Artist {artist}",
            "album": f"{artist}-{track // 4}",
            "genres": ["rock", "jazz"][artist // 2 % 2],
            "fold": f"f{artist % 2}",
            **more,
        }
        for artist in range(artists)
        for track in range(tracks)
    ]


def vectors(path: Path, rows: Rows, apart: float, seed: int = 0) -> Path:
    """Embeddings around each artist's own point."""
    rng = np.random.default_rng(seed)
    centres = {row["artist_id"]: apart * rng.standard_normal(8) for row in rows}
    values = [(centres[row["artist_id"]] + 0.3 * rng.standard_normal(8)).tolist() for row in rows]
    table = pa.table({"track_id": [row["track_id"] for row in rows], "embedding": values})
    pq.write_table(table, path)
    return path


def evaluate(catalog: Path, out: Path, *flags: object) -> int:
    named = ["--catalog", str(catalog), "--out", str(out), "--workers", "1", "--quiet"]
    return main(["evaluate", "artists", *named, *map(str, flags)])


def figures_of(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "figures.json").read_text()))


def system(figures: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in figures["systems"] if row["name"] == name)


QUICK = ("--groups", "10", "--seeds", "1", "2", "--comparators", "one", "each", "random", "albums")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalogue of 12 artists, clear and worthless embeddings, and results."""
    folder = tmp_path_factory.mktemp("given")
    rows = rows_of(12, 8)
    catalog = write_tones(folder, rows)
    clear = vectors(folder / "clear.parquet", rows, 6.0)
    noise = vectors(folder / "noise.parquet", rows, 0.0)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert evaluate(catalog, folder / "out", "--vectors", clear, noise, *QUICK) == 0
    (folder / "said").write_text(said.getvalue())
    return folder


def test_known_answers(given: Path) -> None:
    figures = figures_of(given / "out")
    clear, noise = system(figures, "clear"), system(figures, "noise")
    for kind in ("mixed", "within", "across"):
        assert clear["groups"][kind]["ari"] == {
            "mean": 1.0, "groups": [1.0, 1.0], "artists": [1.0, 1.0]
        }  # fmt: skip
        # There are half as many of one genre or of several.
        at_most = 0.1 if kind == "mixed" else 0.25
        assert abs(noise["groups"][kind]["ami"]["mean"]) < at_most
    assert clear["groups"]["single"]["whole"]["mean"] == 1.0
    assert system(figures, "one cluster")["groups"]["mixed"]["ari"]["mean"] == 0.0
    assert system(figures, "one cluster")["groups"]["mixed"]["pair_recall"]["mean"] == 1.0
    assert system(figures, "each track alone")["groups"]["mixed"]["pair_precision"]["mean"] == 1.0
    assert system(figures, "each track alone")["groups"]["single"]["whole"]["mean"] == 0.0
    assert abs(system(figures, "random")["groups"]["mixed"]["ari"]["mean"]) < 0.1
    # Albums are pure, and there are two of each artist.
    assert system(figures, "albums alone")["groups"]["mixed"]["b_cubed_precision"]["mean"] == 1.0
    with_albums = system(figures, "noise + albums")["groups"]["mixed"]
    assert with_albums["ari"]["mean"] > noise["groups"]["mixed"]["ari"]["mean"] + 0.1
    row = next(
        row
        for row in figures["differences"]["mixed"]
        if (row["one"], row["other"]) == ("clear", "noise")
    )
    assert row["ari"]["groups"][0] > 0.8
    assert row["ari"]["artists"][0] > 0.8
    who = {one["name"]: one for one in figures["identity"]["systems"]}
    assert who["clear"]["accuracy"]["mean"] == 1.0
    assert who["noise"]["accuracy"]["mean"] < 0.4


def test_no_artist_is_in_two_folds_of_a_seed(given: Path) -> None:
    groups = pq.read_table(given / "out/groups.parquet").to_pylist()
    members = pq.read_table(given / "out/members.parquet").to_pylist()
    fold_of: dict[tuple[int, str], int] = {}
    for group in groups:
        for artist in group["artists"]:
            assert fold_of.setdefault((group["seed"], artist), group["fold"]) == group["fold"]
    assert len({fold for (seed, _), fold in fold_of.items() if seed == 1}) == 5
    artists = {group["group"]: set(group["artists"]) for group in groups}
    for row in members:
        assert row["artist"] in artists[row["group"]]
        assert row["track_id"].startswith(f"a{int(row['artist'].split()[1]):02d}")
    mixed = {group["group"] for group in groups if group["kind"] == "mixed"}
    assert len(mixed) == 20  # 10 of each seed
    assert len({group["system"] for group in groups}) == 8


def test_seeds_decide_everything(given: Path, tmp_path: Path) -> None:
    catalog = given / "catalog.jsonl"
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        flags = ("--vectors", given / "noise.parquet", "--groups", "4", "--seeds", seed)
        assert evaluate(catalog, tmp_path / name, *flags, "--comparators", "one") == 0
    a, b, c = (figures_of(tmp_path / name) for name in "abc")
    assert a == b
    assert a["systems"] != c["systems"]


def test_the_page_is_whole_and_escapes_names(given: Path) -> None:
    page = (given / "out/report.html").read_text()
    for part in ("Names of several artists", "Of one genre", "Differences", "clear + albums"):
        assert part in page
    assert 'genre negatives p = 0.5</th><td class="n">0.643</td><td class="n">0.623' in page
    for part in ("How sure is sure", "Off by, spread 0.2", "below 0.6: names", "from 0.6: names"):
        assert part in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count("<svg") >= 5


def test_the_text_tells_what_matters(given: Path, tmp_path: Path, capsys: Shown) -> None:
    text = (given / "said").read_text()
    for part in ("96 tracks of 12 artists (artist_id), 5 folds, seeds 1, 2", "left whole"):
        assert part in text
    assert "confidence from 0.6: 20 names of several artists, ARI 1.000; 24 of one artist" in text
    assert "clear - one cluster: ARI +1.000 (+1.000 to +1.000; +1.000 to +1.000)" in text
    flags = ("--no-model", "--groups", "2", "--seeds", "1", "--comparators", "one", "--json")
    assert evaluate(given / "catalog.jsonl", tmp_path / "out", *flags) == 0
    assert json.loads(capsys.readouterr().out) == figures_of(tmp_path / "out")


def test_names_of_one_artist_can_be_given_a_say(given: Path, tmp_path: Path) -> None:
    close = vectors(tmp_path / "close.parquet", rows_of(12, 8), 0.15)
    shares = []
    for name, least in (("free", 0), ("whole", 0.95)):
        flags = ("--vectors", close, *QUICK[:4], "--comparators", "one", "--least-whole", least)
        assert evaluate(given / "catalog.jsonl", tmp_path / name, *flags) == 0
        figures = figures_of(tmp_path / name)
        shares.append(system(figures, "close")["groups"]["single"]["whole"]["mean"])
    assert shares[0] < shares[1], shares


# Tones: the pitch says whose they are.


def tones(folder: Path, artists: int = 6, tracks: int = 4, **more: Any) -> Path:
    rows = rows_of(artists, tracks, **more)
    for row in rows:
        number = int(row["artist_id"][2:])
        row["pitch"] = 150 + 200 * number + 7 * int(row["track_id"][-1])
    return write_tones(folder, rows)


@contextlib.contextmanager
def encoders(**models: PitchEncoder) -> Iterator[None]:
    """Stand-ins by the last part of a model's name."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(embed, "load_encoder", lambda model: models[Path(model).name])
        patched.setattr(
            embed, "open_ear", lambda encoder, job: contextlib.nullcontext(encoder.embed_file)
        )
        yield


def test_tracks_are_heard_once_and_kept(tmp_path: Path) -> None:
    catalog = tones(tmp_path / "music")
    flags = ("--groups", "6", "--seeds", "1", "--comparators", "one", "mfcc")
    with pitch_encoder() as encoder:
        assert evaluate(catalog, tmp_path / "out", *flags) == 0
        assert len(encoder.heard) == 24
        first = figures_of(tmp_path / "out")
        assert evaluate(catalog, tmp_path / "out", *flags) == 0
        assert evaluate(catalog, tmp_path / "two", *flags, "--embeddings", tmp_path / "out") == 0
        assert len(encoder.heard) == 24
    for folder in ("out", "two"):
        again = figures_of(tmp_path / folder)
        assert {row.pop("reused") for row in again["systems"] if row.get("digests")} == {24}
        for row in first["systems"]:
            row.pop("reused", None)
        assert again == first
    model = system(first, "artist")
    assert model["own_cut"] == encoder.cut
    assert "own_cut" in model["groups"]["mixed"]
    assert model["digests"] == [encoder.digest]
    assert not (tmp_path / "out/hearing.work").exists()


def test_what_cannot_be_heard_is_told_and_left_out(tmp_path: Path) -> None:
    rows = rows_of(5, 5)
    for row in rows:
        row["pitch"] = 150 + 250 * int(row["artist_id"][2:])
    rows[0]["pitch"] = 0  # silent
    rows[6]["pitch"] = None  # gone
    catalog = write_tones(tmp_path / "music", rows)
    with pitch_encoder():
        flags = ("--groups", "4", "--seeds", "1", "--comparators", "one", "mfcc")
        assert evaluate(catalog, tmp_path / "out", *flags) == 0
    figures = figures_of(tmp_path / "out")
    assert figures["tracks"] == 23
    assert figures["failed"] == {"missing": 1, "silent": 1}
    assert any("2 tracks could not be heard" in one for one in figures["warnings"])
    failures = pq.read_table(tmp_path / "out/failures/part-00000.parquet").to_pylist()
    assert [row["track_id"] for row in failures] == ["a00t00", "a01t01"]
    members = pq.read_table(tmp_path / "out/members.parquet")["track_id"].to_pylist()
    assert not {"a00t00", "a01t01"} & set(members)


def test_each_fold_is_heard_by_the_model_that_does_not_know_it(tmp_path: Path) -> None:
    catalog = tones(tmp_path / "music")
    one, other = PitchEncoder(), PitchEncoder()
    one.digest, other.digest = "0" * 64, "1" * 64
    flags = ("--groups", "6", "--seeds", "1", "--comparators", "one")
    with encoders(f0=one, f1=other):
        folds = ("--fold-by", "fold", "--model", "cv/{fold}")
        assert evaluate(catalog, tmp_path / "out", *flags, *folds) == 0
    assert {int(name[1:3]) % 2 for name in one.heard} == {0}
    assert {int(name[1:3]) % 2 for name in other.heard} == {1}
    figures = figures_of(tmp_path / "out")
    assert figures["folds"] == 2
    assert system(figures, "cv/{fold}")["digests"] == ["0" * 64, "1" * 64]
    assert figures["identity"]["sets"] == 2
    assert figures["identity"]["compared_with"] == 3
    groups = pq.read_table(tmp_path / "out/groups.parquet").to_pylist()
    for group in groups:
        assert {int(name.split()[1]) % 2 for name in group["artists"]} == {group["fold"]}


def test_artists_that_a_model_was_trained_on_are_told(tmp_path: Path) -> None:
    story = {"artists": ["ARTIST 1", "Nobody"], "trained_on": ["a02t03", "x"]}
    config = {"kind": "artist", "features": {}, "training": story}
    save_model(tmp_path / "model", config, {}, {"a": np.zeros(1)}, "# Model")
    assert trained_on(str(tmp_path / "model")) == ({"artist1", "nobody"}, {"a02t03", "x"})
    assert trained_on("nowhere") == (set(), set())
    catalog = tones(tmp_path / "music")
    with encoders(model=PitchEncoder()):
        flags = ("--groups", "4", "--seeds", "1", "--comparators", "one")
        assert evaluate(catalog, tmp_path / "out", *flags, "--model", tmp_path / "model") == 0
    figures = figures_of(tmp_path / "out")
    assert system(figures, "model")["known_artists"] == ["Artist 1", "Artist 2"]
    assert any("trained with tracks of 2 of these 6 artists" in one for one in figures["warnings"])


def test_cepstra_of_a_tone_do_not_vary_and_of_noise_do() -> None:
    rate = SETTINGS.sample_rate
    tone = np.sin(2 * np.pi * 440 * np.arange(3 * rate) / rate).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal(3 * rate).astype(np.float32)
    n = SETTINGS.n_mfcc
    assert track_cepstra(tone).shape == (2 * n,)
    assert track_cepstra(tone)[n:].max() < 0.5 < track_cepstra(noise)[n:].min()


# What is wrong is one line.


def test_mistakes_in_flags_are_told_at_once(tmp_path: Path, capsys: Shown) -> None:
    catalog = write_tones(tmp_path, rows_of(4, 3))
    for flags, expected in (
        (
            ("--groups", "1", "--seeds", "x", "--folds", "1"),
            ("--groups: ", "--seeds: ", "--folds: "),
        ),
        (("--comparators", "mfc"), ("--comparators: no 'mfc', use one of one, each",)),
        (("--model", "a", "a"), ("--model: a is there twice",)),
        (("--model", "a", "--no-model"), ("--no-model: leave it out, or --model",)),
        (("--model", "cv/{fold}"), ("--model: {fold} needs --fold-by",)),
        (("--least-whole", "2", "--least-tracks", "1"), ("--least-whole: ", "--least-tracks: ")),
        (("--seed", "1"), ("unknown flag --seed (did you mean --seeds?)",)),
    ):
        assert evaluate(catalog, tmp_path / "out", *flags) == 2
        line = error_line(capsys, "evaluate")
        assert all(part in line for part in expected), line
    assert main(["evaluate", "artists"]) == 2
    line = error_line(capsys, "evaluate")
    assert "--catalog: is needed" in line
    assert "--out: is needed" in line
    assert not (tmp_path / "out").exists()


def test_catalogues_that_cannot_be_used_are_one_line(tmp_path: Path, capsys: Shown) -> None:
    (tmp_path / "no.parquet").write_text("x")
    pq.write_table(pa.table({"track_id": ["a"]}), tmp_path / "less.parquet")
    stranger = vectors(tmp_path / "other.parquet", rows_of(1, 1), 1.0)
    rows = rows_of(4, 3)
    strangers = [{**row, "track_id": f"x{row['track_id']}"} for row in rows]
    nameless = [{"track_id": row["track_id"], "title": "x"} for row in rows]
    empty = [{**row, "artist_id": "", "artist_name": ""} for row in rows]
    split = [{**row, "fold": f"f{n % 2}"} for n, row in enumerate(rows)]
    for case, flags, status, expected in (
        (nameless, (), 2, "no artist is known, columns artist_id and artist_name are missing"),
        (empty, (), 2, "no artist is known"),
        (rows, ("--labels", "voice"), 2, "--labels: column voice is missing"),
        (rows_of(3, 3), (), 1, "3 artists by artist_id have 3 tracks or more that can be used, 4"),
        (rows, ("--least-tracks", "9"), 1, "0 artists by artist_id have 9 tracks or more"),
        (rows, ("--fold-by", "part"), 2, "no column 'part' (--fold-by)"),
        (split, ("--fold-by", "fold"), 2, "is in several folds of fold"),
        (rows, ("--fold-by", "artist_id"), 2, "must deal the artists into two folds or more of 2"),
        (rows, ("--vectors", tmp_path / "gone.parquet"), 2, "gone.parquet is no file"),
        (rows, ("--vectors", tmp_path / "no.parquet"), 2, "no.parquet is no Parquet file"),
        (rows, ("--vectors", tmp_path / "less.parquet"), 2, "columns track_id and embedding"),
        (strangers, ("--vectors", stranger), 2, "other.parquet has no track of the catalogue"),
        (rows, ("--model", "nowhere"), 1, "no model 'nowhere'"),
    ):
        catalog = write_tones(tmp_path / "case", case)
        needed = () if "--vectors" in flags or "--model" in flags else ("--no-model",)
        comparators = ("--comparators", "one")
        assert evaluate(catalog, tmp_path / "out", *flags, *needed, *comparators) == status
        line = error_line(capsys, "evaluate")
        assert expected in line, line
    assert not (tmp_path / "out/figures.json").exists()


def test_too_many_failures_are_one_line(tmp_path: Path, capsys: Shown) -> None:
    catalog = write_tones(tmp_path / "music", rows_of(4, 3))  # no file is there
    with pitch_encoder():
        assert evaluate(catalog, tmp_path / "out", "--comparators", "one") == 1
    assert "12 of 12 tracks failed, more than --max-failures" in error_line(capsys, "evaluate")


def test_truth_with_gaps_is_measured_where_there_is_some(tmp_path: Path) -> None:
    rows = rows_of(8, 6)
    path = vectors(tmp_path / "clear.parquet", rows, 6.0)
    for row in rows[::6]:
        row["artist_id"] = ""
    catalog = write_tones(tmp_path, rows)
    flags = ("--vectors", path, "--groups", "4", "--seeds", "1", "--comparators", "one")
    assert evaluate(catalog, tmp_path / "out", *flags) == 0
    figures = figures_of(tmp_path / "out")
    assert figures["tracks"] == 40
    assert figures["warnings"][0] == "8 tracks have no artist_id and count nowhere"


def test_tracks_with_one_embedding_are_one_cluster(tmp_path: Path) -> None:
    rows = rows_of(8, 5)
    table = pa.table({"track_id": [r["track_id"] for r in rows], "embedding": [[1.0, 0.0]] * 40})
    pq.write_table(table, tmp_path / "same.parquet")
    catalog = write_tones(tmp_path, rows)
    flags = ("--vectors", tmp_path / "same.parquet", "--groups", "4", "--comparators", "one")
    assert evaluate(catalog, tmp_path / "out", *flags) == 0
    assert system(figures_of(tmp_path / "out"), "same")["groups"]["mixed"]["ari"]["mean"] == 0.0


def test_comparators_alone_have_a_page(tmp_path: Path, capsys: Shown) -> None:
    catalog = write_tones(tmp_path, rows_of(8, 5))
    flags = ("--no-model", "--groups", "4", "--comparators", "one", "albums")
    assert evaluate(catalog, tmp_path / "out", *flags) == 0
    assert "albums alone - one cluster: ARI " in capsys.readouterr().out
    assert figures_of(tmp_path / "out")["identity"] is None
    assert "Who is who" not in (tmp_path / "out/report.html").read_text()


def test_help_explains(capsys: Shown) -> None:
    assert main(["evaluate", "artists", "--help"]) == 0
    text = capsys.readouterr().out
    assert "hashbeam evaluate artists --catalog music/catalog.csv" in text
    assert "--least-whole" in text
