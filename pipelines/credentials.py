"""Credentials that stand in uris: found, so that they are refused, and taken out of what is told.

A uri of a catalogue is written to the index, to ``failures/``, to pages and to logs, where whoever
reads them could use what it carries. So no catalogue may have such uris; and messages, which may
quote what a library was given, are told without.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from pipelines.stores import is_remote

# A question mark is a letter like any other in the names of these.
_STORES = ("gs", "s3")
# Parameters that let their holder in: signed URLs of Google, Amazon and Azure, tokens and keys.
_SECRET = (
    "x-goog-signature|x-goog-credential|x-amz-signature|x-amz-credential|x-amz-security-token|"
    "googleaccessid|awsaccesskeyid|signature|sig|sas|token|access_token|id_token|refresh_token|"
    "auth|authorization|jwt|key|api_key|apikey|api-key|secret|client_secret|password|passwd|pwd"
)
_NAMES = frozenset(_SECRET.split("|"))
HIDDEN = "***"
_USER = re.compile(r"(?i)\b([a-z][a-z0-9+.\-]*://)[^/?#\s'\"@]+@")
_PARAMETER = re.compile(rf"(?i)([?&;](?:{_SECRET})=)[^&;#\s'\"]+")


def carries_credentials(uri: str) -> bool:
    """Whether a uri names a user or a password, or has a parameter such as a signature.

    >>> [carries_credentials(uri) for uri in ("https://a:b@host/c", "https://h/c?sig=1", "gs://b/a")]
    [True, True, False]
    >>> carries_credentials("/music/what?sig=1.mp3"), carries_credentials("gs://b/who?sig=1.mp3")
    (False, False)
    """
    if not is_remote(uri):
        return False
    scheme, _, rest = uri.partition("://")
    if "@" in re.split(r"[/?#]", rest, maxsplit=1)[0]:
        return True
    if scheme.lower() in _STORES:
        return False
    try:
        query = urlsplit(uri).query
    except ValueError:
        query = rest.partition("?")[2]
    return any(name.lower() in _NAMES for name, _ in parse_qsl(query, keep_blank_values=True))


def one_line(error: Exception) -> str:
    """What an error says, in a line, without what lets one in.

    >>> one_line(ValueError("no\\n  such host: https://ann:pw@host/a"))
    'no such host: https://***@host/a'
    """
    return redacted(" ".join(str(error).split()))


def redacted(text: str) -> str:
    """A text in which uris have lost what lets one in.

    >>> redacted("cannot read https://ann:pw@host/a.mp3?x=1&sig=AbC%3D today")
    'cannot read https://***@host/a.mp3?x=1&sig=*** today'
    """
    return _PARAMETER.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text))
