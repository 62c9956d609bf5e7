"""Secrets are written to no file, page or log: neither those of the environment nor of uris."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from index_helpers import error_line, run_index
from tiny_catalog import tiny_catalog, write_rows

from hashing.errors import CatalogError, HashbeamError
from pipelines.catalog import read_catalog
from pipelines.cli import main
from pipelines.credentials import HIDDEN, carries_credentials, redacted
from pipelines.pairing.align import _explain as explain_unaligned
from pipelines.track_tables import explain

PLANTED = "planted-5ecret"

BAD = [
    "https://ann:PW@host/a.mp3",
    "https://PW@host/a.mp3",
    "ftp://ann:PW@host/a.mp3",
    "hdfs://ann:PW@host:8020/a.mp3",
    "https://host/a.mp3?X-Goog-Signature=PW&X-Goog-Credential=PW",
    "https://host/a.mp3?sv=1&sig=PW",
    "https://host/a.mp3?x=1&Token=PW",
    "HTTPS://host/a.mp3?x-amz-signature=PW",
    "azfs://account/container/a.mp3?sig=PW",
    "http://host/a.mp3?key=PW#t=1",
]
GOOD = [
    "gs://bucket/who?sig=1.mp3",
    "gs://bucket/a@b.mp3",
    "s3://bucket/what?token=is.mp3",
    "https://host/a.mp3",
    "https://host/a.mp3?format=mp3",
    "https://host/@ann/a.mp3",
    "/music/me@home?sig=1.mp3",
    "/music/http:/ann:PW@host",
    "me:you@home.mp3",
    "file:///music/a@b?token=1.mp3",
]


@pytest.mark.parametrize("uri", BAD)
def test_uris_that_let_somebody_in(uri: str) -> None:
    assert carries_credentials(uri)
    told = redacted(f"cannot read {uri} today")
    assert "PW" not in told
    assert HIDDEN in told
    assert told.startswith("cannot read ")
    assert told.endswith(" today")


@pytest.mark.parametrize("uri", GOOD)
def test_uris_that_do_not(uri: str) -> None:
    assert not carries_credentials(uri)


def test_names_without_credentials_are_told_as_they_are() -> None:
    for text in (
        *GOOD[3:6],
        "/music/me@home.mp3",
        "gs://b/c/d.mp3: no such object (404)",
        "a@b.c; 5 ? 6 : 7",
        "",
    ):
        assert redacted(text) == text


@given(
    before=st.text("ab /?&=:@.", max_size=9),
    secret=st.text("PW0-_.~%+", min_size=1, max_size=9),
    after=st.text("ab /?&=:@.", max_size=9),
)
def test_no_secret_outlives_redaction(before: str, secret: str, after: str) -> None:
    mark = f"Q{secret}Q"
    for uri in (f"https://u:{mark}@h/{after}", f"https://h/{after.strip(' ')}?sig={mark}"):
        assert mark not in redacted(f"{before} {uri} {after}")


def test_a_catalogue_with_credentials_is_refused_and_does_not_show_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"track_id": f"t{n}", "uri": uri} for n, uri in enumerate([*GOOD, *BAD[:7]])]
    catalog = write_rows(tmp_path / "c.csv", rows)
    with pytest.raises(CatalogError) as caught:
        read_catalog(str(catalog))
    first = len(GOOD) + 1
    assert str(caught.value).startswith(
        f"{catalog}: row {first}, column uri: 'https://***@host/a.mp3' must not carry credentials, "
        "which would be written down with it: give the account of the workers the right to read, "
        f"and name the bare file; row {first + 1}, column uri: "
    )
    assert "PW" not in str(caught.value)
    assert str(caught.value).count("column uri") == 7
    out = tmp_path / "index"
    assert main(["index", "--catalog", str(catalog), "--out", str(out)]) == 2
    assert "PW" not in error_line(capsys)
    assert not out.exists()
    assert main(["index", "--catalog", "https://ann:PW@host/c.csv", "--out", str(out)]) != 0
    assert "https://***@host/c.csv" in error_line(capsys)


def test_what_a_library_says_of_a_file_is_told_without_them() -> None:
    error = HashbeamError("cannot read x: 403 for https://host/o?X-Goog-Signature=PW&alt=media")
    rows = [
        explain(error, "hash"),
        explain(error, "embed", "x"),
        explain_unaligned(error, "s", "x"),
    ]
    for row in rows:
        assert row["message"].endswith("https://host/o?X-Goog-Signature=***&alt=media")


def texts_of(path: Path) -> bytes:
    """All that a file says, pages of Parquet unpacked."""
    data = path.read_bytes()
    if path.suffix != ".parquet":
        return data
    table = pq.read_table(path)
    told = [repr(table.to_pylist()), repr(table.schema.metadata)]
    return data + "\n".join(told).encode("utf-8", "surrogateescape")


def forms_of(secret: str) -> list[bytes]:
    """A secret as it is, and as base64 shows it at any place of a longer text."""
    shifted = [base64.b64encode(b"\0" * n + secret.encode())[4:-4] for n in range(3)]
    return [secret.encode(), *shifted]


@pytest.mark.usefixtures("one_index_decoder")
def test_no_file_and_no_line_of_a_run_holds_a_secret(
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Of the environment, of the credentials that it names, or of an option of Beam."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    key = {"type": "service_account", "private_key": f"{PLANTED}-key", "client_email": "a@b"}
    (secrets / "key.json").write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(secrets / "key.json"))
    for name in ("AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING", "DB_PASSWORD"):
        monkeypatch.setenv(name, f"{PLANTED}-{name}")
    work = tmp_path / "work"
    music, index, out = work / "music", work / "index", work / "artists"
    catalog = tiny_catalog(music, 4)
    rows = [
        {"track_id": f"t{n}", "uri": f"{n}.wav", "title": "a known title", "artist_name": "Ann"}
        for n in range(4)
    ]
    (music / "bad.wav").write_text("no audio")
    rows.append({"track_id": "bad", "uri": "bad.wav", "title": "", "artist_name": "Ann"})
    write_rows(catalog, rows)
    common = ["--max-failures", "0.9", "--progress", f"--s3_secret_access_key={PLANTED}-beam"]
    metrics = ["--metrics", str(work / "hashbeam.prom")]
    assert run_index(catalog, index, model_folder, *common, *metrics, "--json") == 0
    rows[1]["title"], rows[2]["uri"] = "another title", "3.wav"
    write_rows(catalog, rows[:3])
    update = ["--catalog", str(catalog), "--index", str(index), "--model", str(model_folder)]
    assert main(["reindex", *update, "--workers", "1", *common, *metrics]) == 0
    assert main(["info", str(index), "--html", str(work / "health.html")]) == 0
    names = ["--catalog", str(catalog), "--out", str(out), "--workers", "1", "--min-tracks", "1"]
    assert main(["disambiguate", *names, *common]) == 0
    # And a run that fails.
    assert main(["reindex", *update[:4], "--workers", "1", "--model", "none", *common[2:]]) == 1

    told = capfd.readouterr()
    files = [path for path in work.rglob("*") if path.is_file() and path.suffix != ".wav"]
    found = {str(path.relative_to(work)): texts_of(path) for path in files}
    found |= {"stdout": told.out.encode(), "stderr": told.err.encode()}
    # What is looked for would be found, in a compressed page as well.
    assert sum(b"a known title" in data for data in found.values()) >= 3
    assert {"artists/run.json", "hashbeam.prom", "health.html"} <= found.keys()
    assert b"bad.wav" in found["stderr"]
    kinds = {Path(name).parts[-2] for name in found if name.startswith("index/versions/")}
    assert {"000001", "000002", "codes", "failures", "tables", "tracks"} <= kinds
    for form in (*forms_of(PLANTED), str(secrets).encode()):
        assert [name for name, data in found.items() if form in data] == []


def test_the_search_for_secrets_finds_them(tmp_path: Path) -> None:
    for shift in range(3):
        text = base64.b64encode(b"x" * shift + f"{PLANTED}-and-more".encode())
        assert any(form in text for form in forms_of(PLANTED))
    pq.write_table(pa.table({"a": [PLANTED * 50]}), tmp_path / "a.parquet", compression="zstd")
    assert PLANTED.encode() in texts_of(tmp_path / "a.parquet")
