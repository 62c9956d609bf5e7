"""``hashbeam events search``: the labelled clips that sound like a recording, or like words."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pipelines.allowed import Allowed, allowed_now
from pipelines.options import (
    MAX_TRACK_HOURS,
    Checker,
    add_decode_arguments,
    add_job_arguments,
    workers,
)

if TYPE_CHECKING:
    from hashing.decoder import Decoder
    from pipelines.answers import Query
    from pipelines.event_clips import Clips

TOP = 10

DESCRIPTION = """\
Find the labelled clips that sound most like a recording, by their codes.

  hashbeam events search --index clips.index recording.wav other.mp3
  hashbeam events search --index clips.index --text "dog barking"
  hashbeam events search --index clips.index --queries queries.csv --out answers
  hashbeam events search --index clips.index recording.wav --top 50 --all-windows --json
  hashbeam events search --index clips.index --queries many.parquet --out out --multi-index 0.01

An answer is a recording of the index: its labels, the time in it that is meant, and a squared
distance, from 0 (the same sound) over 2 (nothing in common) to 4. What the query sounds like is a
guess by the labels of the ten nearest recordings. A query longer than four seconds is heard in
windows, every two seconds, and an answer names the one that it is nearest to.

--text asks with words that the model has learned from labels. All codes are looked at, a million
in some milliseconds. --multi-index names a share of them: then those of the nearest cells are,
which misses some. Cells are made when the first query is asked, some seconds for a million codes:
they pay for many queries of a large index, and for shares of a hundredth or less. --symmetric
compares codes with codes.

--queries is CSV, JSON Lines or Parquet with query_id and uri, and start_s and duration_s if only a
part is asked for; it runs on Beam and writes matches/, failures/ and run.json into --out."""


@dataclasses.dataclass(frozen=True)
class EventOptions:
    """What ``hashbeam events search`` was asked to do.

    Either `files`, `text` or both, or `queries` and `out`; `labels` "" for the usual column;
    `share` None: all codes; `allowed` is where uris may lead; the rest as the flags say.
    """

    index: str
    files: tuple[str, ...] = ()
    text: str = ""
    queries: str = ""
    out: str = ""
    labels: str = ""
    model: str | None = None
    top: int = TOP
    share: float | None = None
    symmetric: bool = False
    all_windows: bool = False
    workers: int = 1
    max_query_hours: float = MAX_TRACK_HOURS
    decode_timeout_s: float = 60.0
    allowed: Allowed = dataclasses.field(default_factory=allowed_now)
    json: bool = False
    quiet: bool = False
    progress: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam events search``."""
    add = parser.add_argument
    add("kind", metavar="KIND", help="search")
    add("files", metavar="FILE", nargs="*", help="recordings to ask with")
    add("--index", metavar="INDEX", help="the folder that `hashbeam events index` wrote")
    add("--text", metavar="WORDS", help="words to ask with")
    add("--queries", metavar="Q", help="many queries: CSV, JSON Lines or Parquet")
    add("--out", metavar="DIR", help="a new folder for the answers to --queries")
    add("--labels", metavar="COLUMN", help="of the catalogue (default: label, or labels)")
    add("--top", metavar="K", default=TOP, help="answers to a query at most (%(default)s)")
    add("--all-windows", action="store_true", help="answers are windows, not one a recording")
    add(
        "--multi-index",
        metavar="SHARE",
        help="look at this share of the codes, those of the nearest cells, above 0 to 1",
    )
    add("--symmetric", action="store_true", help="make codes of queries, too")
    add("--model", metavar="M", help="the model that made the index, where it has moved")
    add(
        "--max-query-hours",
        metavar="H",
        default=MAX_TRACK_HOURS,
        help="longer queries fail (%(default)s)",
    )
    add_decode_arguments(parser)
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> EventOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    checker = Checker(args)
    index = checker.text("--index")
    at_once = bool(args.files or args.text)
    if at_once and args.queries:
        checker.problems.append("--queries: give it, or files and --text, not both")
    elif args.text is not None and not args.text.strip():
        checker.problems.append("--text: name some words")
    elif not at_once and not args.queries:
        checker.problems.append("FILE: name recordings, or give --text, or --queries and --out")
    if args.queries and not args.out:
        checker.problems.append("--out: is needed with --queries")
    if args.out and not args.queries:
        checker.problems.append("--out: goes with --queries; other answers are printed")
    share = None
    if checker.given("--multi-index"):
        share = checker.number("--multi-index", low=1e-6, high=1)
    options = EventOptions(
        index=index,
        files=tuple(args.files),
        text=args.text or "",
        queries=args.queries or "",
        out=args.out or "",
        labels=args.labels or "",
        model=args.model or None,
        top=checker.integer("--top", low=1, high=100_000),
        share=share,
        symmetric=args.symmetric,
        all_windows=args.all_windows,
        workers=workers(checker),
        max_query_hours=checker.number("--max-query-hours", low=0.001, high=2),
        decode_timeout_s=checker.number("--decode-timeout", low=0.1),
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
    )
    checker.finish()
    return options


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """Answer; status 1 where a query could not be asked (the others are answered)."""
    options = options_from(args)
    if options.queries:
        from pipelines.event_queries import search_many

        return search_many(options, beam_args)
    return search_now(options)


def search_now(options: EventOptions) -> int:
    """Answers to files and words, each printed as soon as it is known."""
    from hashing.decoder import Decoder

    with Decoder() as decoder:
        if options.files:
            decoder.start()  # it loads while the index is opened
        from pipelines.answers import Query
        from pipelines.event_clips import open_clips

        clips = open_clips(options.index, options.model, options.labels)
        failed = 0
        words = [ask_words(clips, options)] if options.text else []
        queries = [Query(name, name) for name in options.files]
        for answer in (*words, *ask_files(clips, queries, decoder, options)):
            failed += bool(answer.error)
            if answer.error:
                _complain(answer.message)
            elif answer.unknown and not options.quiet:
                _complain(f"the model does not know {', '.join(answer.unknown)}")
            if options.json:
                print(json.dumps(answer.to_json()), flush=True)
            elif not answer.error:
                print(answer.to_text(), flush=True)
    return 1 if failed else 0


@dataclasses.dataclass(frozen=True)
class EventAnswer:
    """The nearest recordings to a query, or why it could not be asked.

    Attributes:
      query_id: of the query; of words the words.
      uri: of its file; "" of words.
      matches: rows of `pipelines.event_clips.Clips.search`.
      guess: see `pipelines.event_clips.guess`.
      unknown: words that the model does not know.
      error, message: a word for the reason, and a line; "" where it was asked.
    """

    query_id: str
    uri: str
    matches: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    guess: dict[str, Any] | None = None
    unknown: tuple[str, ...] = ()
    error: str = ""
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it, one line a query."""
        out: dict[str, Any] = {"query_id": self.query_id, "uri": self.uri}
        if not self.uri:
            out = {"text": self.query_id, "unknown_words": list(self.unknown)}
        if self.error:
            return {**out, "error": self.error, "message": self.message}
        return {**out, "guess": self.guess, "matches": self.matches}

    def to_text(self) -> str:
        """A table for a person."""
        from pipelines.listing import shown

        title = shown(self.query_id)
        if self.guess is not None:
            title += f": {shown(self.guess['label'])}? ({self.guess['share']:.0%})"
        if not self.matches:
            return f"{title}: no match, the index is empty"
        rows: list[tuple[str, ...]] = [
            ("rank", "distance", "labels", "track_id", "at", "of the query")
        ]
        for match in self.matches:
            spans = (
                ""
                if match[f"{of}start_s"] is None
                else f"{match[f'{of}start_s']:.1f}-{match[f'{of}end_s']:.1f} s"
                for of in ("", "query_")
            )
            names = shown(match["labels"]) or "-", shown(match["track_id"])
            rows.append((str(match["rank"]), f"{match['distance']:.3f}", *names, *spans))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(_padded, row, widths, (1, 1, 0, 0, 0, 0))).rstrip() for row in rows]
        return "\n".join([title, *(f"  {line}" for line in lines)])


def ask_words(clips: Clips, options: EventOptions) -> EventAnswer:
    """The answer to ``--text``; raises `UsageError` where the model knows none of its words."""
    query, unknown = clips.ask_words(options.text)
    matches, label = _search(clips, query, options)
    return EventAnswer(options.text, "", matches, label, tuple(unknown))


def ask_files(
    clips: Clips, queries: Iterable[Query], decoder: Decoder, options: EventOptions
) -> Iterator[EventAnswer]:
    """Answers to recordings, one after the other; one that cannot be heard has an error."""
    from hashing.errors import AudioError, HashbeamError
    from hashing.events.search import hear_clip

    for query in queries:
        try:
            with options.allowed.local_copy(query.uri) as path:
                blocks = decoder.blocks(
                    path,
                    clips.hasher.features.sample_rate,
                    max_seconds=options.max_query_hours * 3600,
                    timeout_s=options.decode_timeout_s,
                    start_s=query.start_s,
                    duration_s=query.duration_s,
                )
                heard = hear_clip(blocks, clips.hasher)
        except AudioError as error:
            message = str(error)
            if query.uri not in message:  # the hasher has no name, a temporary copy another one
                message = f"{query.uri}: {message}"
            yield EventAnswer(query.query_id, query.uri, error=error.kind, message=message)
            continue
        except HashbeamError as error:  # a remote recording that cannot be fetched
            yield EventAnswer(query.query_id, query.uri, error="unreadable", message=str(error))
            continue
        yield EventAnswer(query.query_id, query.uri, *_search(clips, heard, options))


def _search(clips: Clips, query: Any, options: EventOptions) -> Any:
    return clips.search(
        query,
        options.top,
        symmetric=options.symmetric,
        share=options.share,
        all_windows=options.all_windows,
    )


def _padded(text: str, width: int, to_the_right: int) -> str:
    return text.rjust(width) if to_the_right else text.ljust(width)


def _complain(message: str) -> None:
    print(f"hashbeam events: {' '.join(message.split())}", file=sys.stderr)
