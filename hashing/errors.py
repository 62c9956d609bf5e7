"""Everything that a user can cause, as exceptions whose message is one clear line.

The command line prints the message and nothing else: it names the thing that is wrong and what to
do about it. Anything that is not a `HashbeamError` is a defect of hashbeam and keeps its traceback.
"""

from __future__ import annotations


class HashbeamError(Exception):
    """A condition that the user can mend. The message is one line: the thing, then the remedy."""


class UsageError(HashbeamError):
    """The command line asks for something that cannot be done; exit status 2."""


class CatalogError(HashbeamError):
    """The catalogue cannot be used; names the file, the row and the column; exit status 2."""


class ModelError(HashbeamError):
    """A model folder is missing, damaged, or not the one that made the data."""


class IndexFormatError(HashbeamError):
    """An index file is damaged, truncated, or of another format version."""


class TooLargeError(HashbeamError):
    """A remote file has more bytes than are downloaded."""


class AudioError(HashbeamError):
    """One track cannot be hashed; becomes a row in ``failures/``.

    `kind` is a short stable word for counting: ``missing``, ``not-a-file``, ``empty``,
    ``not-audio``, ``truncated``, ``no-samples``, ``too-long``, ``too-short``, ``silent``,
    ``unreadable``, ``crashed`` or ``timeout``; of what is not even opened, ``not-allowed`` or
    ``too-large``.

    >>> AudioError("empty", "a.mp3 holds no bytes").kind
    'empty'
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[AudioError], tuple[str, str]]:
        # Exceptions cross process borders on Beam; the default would lose `kind`.
        return (AudioError, (self.kind, str(self)))
