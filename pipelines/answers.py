"""What look-up says: matches of a query as rows, as JSON, as lines for a person."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hashing.decoder import Decoder
from hashing.encoders import QueryCodes
from hashing.errors import AudioError, HashbeamError
from hashing.search import Match, Searcher
from pipelines.allowed import ANYWHERE, Allowed
from pipelines.duplication.collapse import MORE, collapse
from pipelines.opened import IndexTracks

# Matches below it are more likely wrong than right, if the score is calibrated.
MIN_SCORE = 0.5
TOP = 5

# Columns of the catalogue that tell a person which track it is.
SHOWN = ("title", "artist_name", "album")

# Problems told in one line; nobody reads more.
TOLD_PROBLEMS = 10

# What a terminal would obey instead of showing, and halves of characters (names of files that are
# no UTF-8 hold them), which cannot be printed at all.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class Query:
    """A recording to look up, or a part of one.

    `start_s` and `duration_s` choose the part; None is to the end.
    """

    query_id: str
    uri: str
    start_s: float = 0.0
    duration_s: float | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """The matches of a query, best first; `error` and `message` where it could not be asked."""

    query: Query
    matches: list[dict[str, Any]]
    error: str = ""
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """As ``lookup --json`` prints it, one line a query."""
        out: dict[str, Any] = {"query_id": self.query.query_id, "uri": self.query.uri}
        if self.error:
            return {**out, "error": self.error, "message": self.message}
        return {**out, "matches": self.matches}

    def to_text(self) -> str:
        """A few lines for a person."""
        if self.error:
            return _shown(self.message)
        if not self.matches:
            return _shown(f"{self.query.query_id}: no match")
        lines = [self.query.query_id]
        for match in self.matches:
            names = [_name(match[column]) for column in SHOWN if match.get(column)]
            what = f"  ({', '.join(names)})" if names else ""
            lines.append(
                f"  {match['rank']:2d}  {match['score']:.3f}  {match['track_id']}{what}  "
                f"query {match['query_start_s']:.1f}-{match['query_end_s']:.1f} s "
                f"at {match['offset_s'] + match['query_start_s']:.1f} s of the track, "
                f"{match['votes']} votes"
                f"{_copies(match.get('duplicates', ()))}"
            )
        return "\n".join(map(_shown, lines))


def ask(
    queries: Iterable[Query],
    searcher: Searcher,
    tracks: IndexTracks,
    decoder: Decoder,
    *,
    top: int,
    min_score: float,
    max_seconds: float,
    timeout_s: float,
    groups: Mapping[str, int] | None = None,
    allowed: Allowed = ANYWHERE,
) -> Iterable[Answer]:
    """Answer queries one after the other; one that cannot be decoded is an answer with an error.

    With the `groups` of duplicates by track id, one recording is one match.
    """
    for query in queries:
        try:
            codes = hash_query(query, searcher, decoder, max_seconds, timeout_s, allowed)
        except AudioError as error:
            message = str(error)
            if query.uri not in message:  # the hasher has no name, a temporary copy another one
                message = f"{query.uri}: {message}"
            yield Answer(query, [], error.kind, message)
            continue
        except HashbeamError as error:  # a remote recording that cannot be fetched
            yield Answer(query, [], "unreadable", str(error))
            continue
        wanted = top if groups is None else MORE * top
        matches = rows(searcher.search([codes], wanted)[0], tracks, min_score)
        yield Answer(query, matches if groups is None else collapse(matches, groups)[:top])


def hash_query(
    query: Query,
    searcher: Searcher,
    decoder: Decoder,
    max_seconds: float,
    timeout_s: float,
    allowed: Allowed = ANYWHERE,
) -> QueryCodes:
    """The snippets of a query; raises `AudioError`."""
    with allowed.local_copy(query.uri) as path:
        blocks = decoder.blocks(
            path,
            searcher.hasher.features.sample_rate,
            max_seconds=max_seconds,
            timeout_s=timeout_s,
            start_s=query.start_s,
            duration_s=query.duration_s,
        )
        return searcher.hasher.hash_query(blocks)


def rows(matches: Sequence[Match], tracks: IndexTracks, min_score: float) -> list[dict[str, Any]]:
    """Matches of at least `min_score` as rows, with what the catalogue says about the tracks."""
    out: list[dict[str, Any]] = []
    for match in matches:
        if match.score < min_score:
            continue
        track = tracks.row(match.segment, match.ordinal)
        out.append(
            {
                "rank": len(out) + 1,
                "track_id": track["track_id"],
                "score": match.score,
                "votes": match.votes,
                "offset_s": round(match.offset_s, 3),
                "query_start_s": round(match.query_start_s, 3),
                "query_end_s": round(match.query_end_s, 3),
                **{name: track[name] for name in SHOWN if track.get(name)},
            }
        )
    return out


def in_one_line(problems: Sequence[str]) -> str:
    """The first of many problems, and how many more there are.

    >>> in_one_line([f"p{i}" for i in range(12)])
    'p0; p1; p2; p3; p4; p5; p6; p7; p8; p9; and 2 more'
    """
    more = len(problems) - TOLD_PROBLEMS
    return "; ".join([*problems[:TOLD_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])


def _copies(track_ids: Sequence[str]) -> str:
    return f", the same recording as {', '.join(track_ids)}" if track_ids else ""


def _shown(line: str) -> str:
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", line)


def _name(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
