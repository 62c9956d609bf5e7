"""Where the uris of a catalogue may lead: ``--allow`` of every command that reads one.

A catalogue may be made by strangers, and the account that reads its files can read others as well.
The launcher holds every uri against the prefixes before any work; a worker does so again right
before it opens a file, since a link may have been put in its place meanwhile.

What is allowed is a matter of the whole command, as the rights of its account are: `only` says it
once, `read_catalog` asks for it, and what is sent to the workers takes it along (`allowed_now`), so
that no command can forget it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hashing.errors import AudioError, TooLargeError, UsageError
from pipelines import io
from pipelines.credentials import carries_credentials, redacted
from pipelines.stores import is_remote, local

SHOWN_LETTERS = 100  # of a uri in a message: its end is what is looked for, and is kept
_FOLDERS_HELD = 1 << 14  # links of a folder are resolved once for all of its files


@dataclasses.dataclass(frozen=True)
class Allowed:
    """Prefixes below which uris must stand, as `parse_prefix` makes them; none: anywhere.

    >>> music = Allowed((parse_prefix("gs://bucket/music"), parse_prefix("/no/such/folder")))
    >>> music.permits("gs://bucket/music/a.mp3"), music.permits("gs://bucket/music-of-others/a")
    (True, False)
    >>> music.permits("/no/such/folder/x/../a.mp3"), music.permits("/no/such/folder/../a.mp3")
    (True, False)
    """

    prefixes: tuple[str, ...] = ()

    def permits(self, uri: str) -> bool:
        """Whether a uri, absolute or with a scheme, leads below one of the prefixes.

        Links of the local disk are followed. The names of a store are taken as they are: there
        ``..`` is a name like any other.
        """
        return self._permits(uri, os.path.realpath)

    def refused(self, uris: Iterable[str]) -> list[int]:
        """The places of those that are not permitted."""
        if not self.prefixes:
            return []
        folder = functools.lru_cache(_FOLDERS_HELD)(os.path.realpath)

        def real(path: str) -> str:
            before, name = os.path.split(path)
            if name in ("", ".", "..") or os.path.islink(path):
                return os.path.realpath(path)
            return os.path.join(folder(before), name)

        return [place for place, uri in enumerate(uris) if not self._permits(uri, real)]

    @contextlib.contextmanager
    def local_copy(self, uri: str) -> Iterator[str]:
        """`io.local_copy` of a uri that is looked at once more before it is opened.

        Raises: AudioError of the kinds ``not-allowed`` and ``too-large``; as `io.local_copy`.
        """
        if not self.permits(uri):
            raise AudioError("not-allowed", f"{shown(uri)} {self.why}")
        with contextlib.ExitStack() as stack:
            try:
                path = stack.enter_context(io.local_copy(uri))
            except TooLargeError as error:
                raise AudioError("too-large", str(error)) from None
            yield path

    @property
    def why(self) -> str:
        """The rest of a sentence about a uri that is refused."""
        told = " or ".join(one.removesuffix("/") or one for one in self.prefixes)
        return f"leads out of what --allow permits ({told})"

    def _permits(self, uri: str, real: Callable[[str], str]) -> bool:
        if not self.prefixes:
            return True
        if "\0" in uri:  # no path
            return False
        if is_remote(uri):
            return (uri + "/").startswith(tuple(filter(is_remote, self.prefixes)))
        path = real(local(uri))
        return (path + "/").startswith(tuple(p for p in self.prefixes if not is_remote(p)))


def refusals(uris: Any) -> dict[int, str]:
    """Why uris of a list cannot be taken: place → the rest of a sentence about it.

    They lead out of what the command allows, or carry credentials.

    Args:
        uris: absolute, an Arrow array.
    """
    import pyarrow.compute as pc  # not needed for --help

    allowed, told = allowed_now(), dict[int, str]()
    for place in allowed.refused(uris.to_pylist()) if allowed.prefixes else ():
        told[place] = f"{shown(redacted(uris[place].as_py()))} {allowed.why}"
    doubtful = pc.indices_nonzero(pc.match_substring_regex(uris, "(?s)://.*[@?]"))
    for place in doubtful.to_pylist():
        if carries_credentials(uri := uris[place].as_py()):
            told[place] = (
                f"{shown(redacted(uri))} must not carry credentials, which would be written down "
                "with it: give the account of the workers the right to read, and name the bare file"
            )
    return told


def parse_prefix(text: str) -> str:
    """A prefix as `Allowed` wants it: absolute, without links, with a slash at the end.

    Raises: UsageError where it is empty.

    >>> parse_prefix("gs://bucket"), parse_prefix("file:///no/such/../folder/")
    ('gs://bucket/', '/no/folder/')
    """
    if not local(text).strip():
        raise UsageError("--allow: names nothing; give a folder, or a prefix such as gs://bucket/a")
    path = text if is_remote(text) else os.path.realpath(local(text))
    return path if path.endswith("://") else path.rstrip("/") + "/"


def shown(uri: str) -> str:
    """A uri for a message: quoted, printable, and not too long.

    >>> shown("/a b"), len(shown("x" * 1000))
    ("'/a b'", 102)
    """
    text = uri if len(uri) <= SHOWN_LETTERS else "…" + uri[1 - SHOWN_LETTERS :]
    return repr(text)


def add_allow_argument(parser: argparse.ArgumentParser) -> None:
    """The flag of every command that reads a list of uris."""
    parser.add_argument(
        "--allow",
        metavar="PREFIX",
        action="append",
        help="a folder, or a prefix such as gs://bucket/music, below which all uris must stand, "
        "links followed; may be given again (default: anywhere that the account may read)",
    )


ANYWHERE = Allowed()
_now = ANYWHERE


def allowed_now() -> Allowed:
    """What the command that runs permits."""
    return _now


@contextlib.contextmanager
def only(prefixes: Iterable[str]) -> Iterator[Allowed]:
    """Within it, catalogues may lead below these prefixes only; none: anywhere.

    Raises: UsageError where a prefix is empty.

    >>> with only(["gs://bucket/music"]):
    ...     allowed_now().permits("gs://other/a.mp3")
    False
    """
    global _now
    before, _now = _now, Allowed(tuple(map(parse_prefix, prefixes)))
    try:
        yield _now
    finally:
        _now = before
