"""``gs://`` by google-cloud-storage, for `pipelines.stores`.

What an object is, and what must not be, is said by its *generation*, a number that the store gives
to every object that it takes in: a write on the condition that the object still has the generation
that was read (0: that there is none) succeeds for one of many writers. Nothing is ever renamed.

What passes (429, 5xx, lost connections, cut answers) is tried again with growing pauses
(`pipelines.patience`). An answer may be lost when the write has been done; so that a writer knows
its own object again, each one carries the name of its writer.

With STORAGE_EMULATOR_HOST nobody is asked for credentials; otherwise they are Google's defaults.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

from hashing.errors import HashbeamError
from pipelines import patience
from pipelines.ranged import RangedFile
from pipelines.stores import Stamped, writing

Result = TypeVar("Result")

# What is written to an object is kept in memory up to this, and then in a temporary file: it goes
# out in one piece when it is whole, and so again after a failure.
SPOOL_BYTES = 8 << 20
# Connections of a process: the reader threads of a look-up, and some more.
CONNECTIONS = 64
_WRITER = "hashbeam-writer"  # the metadata that names an object's writer
# Otherwise google-cloud-storage asks for each bucket itself, for its traces: a right that nobody
# who reads or writes objects needs, and whose refusal stands in the audit log.
_NO_BUCKET_METADATA = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"


class GcsStore:
    """Objects of Google Cloud Storage; the methods are those of `pipelines.stores.Remote`."""

    def open_read(self, path: str) -> BinaryIO:
        found = self._stat(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such object")
        # Pinned to what was found: an object that is replaced meanwhile cannot come torn.
        fetch = functools.partial(self._fetch, path, generation=found.generation)
        return RangedFile(int(found.size), fetch)  # type: ignore[return-value]

    def read(self, path: str) -> Stamped | None:
        def read() -> Stamped:
            blob = self._blob(path)
            data = blob.download_as_bytes(raw_download=True, retry=None, timeout=_timeout())
            return Stamped(data, str(blob.generation))

        return self._unless_missing(path, read)

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        return self._fetch(path, offset, offset + size)

    def _fetch(self, path: str, start: int, end: int, *, generation: int | None = None) -> bytes:
        """Bytes from `start` to `end`; fewer where the object ends before."""
        if end <= start:
            return b""

        def fetch() -> bytes:
            blob = self._blob(path, generation)
            try:
                data: bytes = blob.download_as_bytes(
                    start=start,
                    end=end - 1,
                    raw_download=True,
                    checksum=None,  # the store gives those of whole objects only
                    retry=None,
                    timeout=_timeout(),
                )
            except Exception as error:
                if _code(error) == 416:  # all of it lies beyond the end
                    return b""
                raise
            return data

        return self._call(path, fetch)

    @contextlib.contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        import tempfile  # slow to import, and not needed for what is local

        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as file:
            yield file  # type: ignore[misc]
            with writing(path):
                size = file.tell()
                self._upload(path, file, size, None)

    def replace(self, path: str, data: bytes, stamp: str | None) -> str | None:
        return self._upload(path, io.BytesIO(data), len(data), int(stamp or 0))

    def _upload(self, path: str, file: Any, size: int, generation: int | None) -> str | None:
        """The new generation; None where the object has another one than the expected."""
        # Not seeded: no two writers may be confused.
        writer = os.urandom(16).hex()
        attempts = 0

        def upload() -> str | None:
            nonlocal attempts
            attempts += 1
            blob = self._blob(path)
            blob.metadata = {_WRITER: writer}
            try:
                blob.upload_from_file(
                    file,
                    rewind=True,
                    size=size,
                    content_type="application/octet-stream",
                    if_generation_match=generation,
                    checksum="crc32c",
                    retry=None,
                    timeout=_timeout(),
                )
            except Exception as error:
                if _code(error) != 412:
                    raise
                if attempts > 1:  # an earlier attempt may have got through, its answer lost
                    found = self._bucket(path).get_blob(_name(path), retry=None, timeout=_timeout())
                    if found is not None and (found.metadata or {}).get(_WRITER) == writer:
                        return str(found.generation)
                return None
            return str(blob.generation)

        return self._call(path, upload)

    def exists(self, path: str) -> bool:
        return self._stat(path) is not None or self.is_dir(path)

    def is_dir(self, path: str) -> bool:
        return bool(self._list(path, "items(name),nextPageToken", max_results=2)[0])

    def stat(self, path: str) -> tuple[int, float | None] | None:
        found = self._stat(path)
        return None if found is None else (int(found.size), found.updated.timestamp())

    def size(self, path: str) -> int | None:
        found = self._stat(path)
        return None if found is None else int(found.size)

    def list_dir(self, path: str) -> list[str]:
        files, folders = self._list(path, "items(name),prefixes,nextPageToken", delimiter="/")
        return sorted({name for name, _ in files} | set(folders))

    def list_files(self, path: str) -> Iterator[tuple[str, int]]:
        yield from self._list(path, "items(name,size),nextPageToken")[0]

    def remove(self, path: str, stamp: str | None = None) -> bool:
        generation = None if stamp is None else int(stamp)

        def remove() -> bool:
            # Named as well as required: the emulator looks at the name only.
            self._bucket(path).delete_blob(
                _name(path),
                generation=generation,
                if_generation_match=generation,
                retry=None,
                timeout=_timeout(),
            )
            return True

        try:
            return self._unless_missing(path, remove) or False
        except OSError as error:
            if _code(error.__cause__) == 412:
                return False
            raise

    def _list(
        self, path: str, fields: str, **named: Any
    ) -> tuple[list[tuple[str, int]], list[str]]:
        """Files below a folder with their sizes, and its folders; names relative to it."""
        prefix = _name(path).rstrip("/")
        prefix = prefix and prefix + "/"

        def found() -> tuple[list[tuple[str, int]], list[str]]:
            listing = client().list_blobs(
                _split(path)[0],
                prefix=prefix,
                fields=fields,
                retry=None,
                timeout=_timeout(),
                **named,
            )
            files = [
                (blob.name[len(prefix) :], int(blob.size or 0))
                for blob in listing
                if not blob.name.endswith("/")  # what consoles leave to show an empty folder
            ]
            return files, [name[len(prefix) :].rstrip("/") for name in listing.prefixes]

        return self._call(path, found)

    def _stat(self, path: str) -> Any:
        if not _name(path):
            return None  # a bucket
        return self._call(
            path,
            lambda: self._bucket(path).get_blob(_name(path), retry=None, timeout=_timeout()),
        )

    def _bucket(self, path: str) -> Any:
        return client().bucket(_split(path)[0])

    def _blob(self, path: str, generation: int | None = None) -> Any:
        return self._bucket(path).blob(_name(path), generation=generation)

    def _unless_missing(self, path: str, action: Callable[[], Result]) -> Result | None:
        try:
            return self._call(path, action)
        except FileNotFoundError:
            return None

    def _call(self, path: str, action: Callable[[], Result]) -> Result:
        """The action, tried again while what fails passes; the rest as an OSError in few words."""
        try:
            client()  # credentials are no matter of patience
        except HashbeamError as error:
            raise HashbeamError(f"{path}: {error}") from error
        try:
            return patience.persist(action, passes, told)
        except (HashbeamError, OSError):
            raise
        except Exception as error:
            number = errno.ENOENT if _code(error) == 404 else errno.EIO
            raise OSError(number, told(error)) from error


def client() -> Any:
    """The client of this process: it must not be shared with a forked one.

    Raises: HashbeamError where google-cloud-storage is not installed, or there are no credentials.
    """
    with _LOCK:
        return _client(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST", ""))


_LOCK = threading.Lock()


@functools.lru_cache(maxsize=4)
def _client(process: int, emulator: str) -> Any:
    try:
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud.storage import Client
        from requests.adapters import HTTPAdapter
    except ImportError as error:
        raise HashbeamError(
            "gs:// needs google-cloud-storage: pip install 'hashbeam[gcp]'"
        ) from error
    os.environ.setdefault(_NO_BUCKET_METADATA, "true")
    if emulator:
        made = Client.create_anonymous_client()
    else:
        try:
            made = Client()
        except (DefaultCredentialsError, OSError) as error:
            raise HashbeamError(
                "no Google credentials were found: run `gcloud auth application-default login`, "
                "or set GOOGLE_APPLICATION_CREDENTIALS"
            ) from error
    for scheme in ("http://", "https://"):
        made._http.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
    return made


def passes(error: Exception) -> bool:
    """Whether another attempt may succeed: 408, 429, 5xx, a lost connection, a cut answer.

    >>> passes(ConnectionResetError()), passes(FileNotFoundError())
    (True, False)
    """
    return _code(error) in (408, 429, 500, 502, 503, 504) or isinstance(error, _passing())


@functools.cache
def _passing() -> tuple[type[Exception], ...]:
    import http.client

    import google.auth.exceptions
    import requests.exceptions
    import urllib3.exceptions
    from google.cloud.storage.exceptions import DataCorruption

    return (
        ConnectionError,
        TimeoutError,
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.ContentDecodingError,
        # An answer cut in its JSON.
        requests.exceptions.JSONDecodeError,
        http.client.HTTPException,
        urllib3.exceptions.ProtocolError,
        urllib3.exceptions.TimeoutError,
        urllib3.exceptions.PoolError,
        google.auth.exceptions.TransportError,
        DataCorruption,
    )


def _code(error: BaseException | None) -> int | None:
    """The HTTP status behind an error of google-cloud-storage."""
    code = getattr(error, "code", None)
    if isinstance(code, int):
        return int(code)
    return getattr(getattr(error, "response", None), "status_code", None)


def told(error: Exception) -> str:
    """An error in a few words.

    >>> told(ConnectionResetError("Connection reset by peer"))
    'the connection was lost (ConnectionResetError)'
    """
    code = _code(error)
    if code in _WORDS:
        return f"{_WORDS[code]} ({code})"
    if code is not None:
        return f"the store answered {code}: {_first_line(error)}"
    if isinstance(error, _passing()):
        late = "imeout" in type(error).__name__
        what = "the store did not answer in time" if late else "the connection was lost"
        return f"{what} ({type(error).__name__})"
    return _first_line(error)


_WORDS: dict[int | None, str] = {
    401: "the credentials were refused",
    403: "these credentials may not do that",
    404: "there is no such object, or no such bucket",
    408: "the store did not answer in time",
    429: "too many requests",
    500: "the store failed",
    502: "the store cannot be reached",
    503: "the store is not available",
    504: "the store did not answer in time",
}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _timeout() -> float:
    return patience.PATIENCE.request_s


def _split(path: str) -> tuple[str, str]:
    bucket, _, name = path.removeprefix("gs://").partition("/")
    if not bucket:
        raise OSError(errno.EINVAL, "a path looks like gs://bucket/folder")
    return bucket, name


def _name(path: str) -> str:
    return _split(path)[1]
