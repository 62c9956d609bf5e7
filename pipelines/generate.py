"""``hashbeam generate``: a catalogue of made-up artists, to train and to measure with."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys

from hashing.generated import write_catalogue
from pipelines.options import Checker

DESCRIPTION = """\
Make up artists, and write their songs and a catalogue of them.

  hashbeam generate --artists 100 --out generated
  hashbeam train artist --catalog music.csv --more generated/catalog.csv --out models/artist

Every artist has instruments, production, tempo, scales and habits of their own within one of
twelve genres; albums differ a little. Songs are composed, or made of the MIDI files of a folder.
The same seed gives the same songs. A run that was stopped goes on when it is started again.

The catalogue tells artist_id (who really plays), artist_name, album, genres, mood and
release_date. Catalogues that are hard to tell apart are made with --homonyms (two artists, one
name), --aliases (one artist, two names), --duets and --compilation."""

CODECS = ("flac", "ogg", "opus", "mp3", "wav")


@dataclasses.dataclass(frozen=True)
class GenerateOptions:
    """What is asked for; see `hashing.generated.write_catalogue`."""

    out: str
    artists: int
    albums: int
    songs: int
    seconds: float
    seed: int
    midi: str | None
    codec: str
    workers: int
    homonyms: int
    aliases: int
    duets: int
    compilation: int
    json: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add = parser.add_argument
    add("--out", metavar="DIR", help="where songs and catalog.csv go")
    add("--artists", metavar="N", default="100", help="how many (default: 100)")
    add("--albums", metavar="N", default="3", help="of each artist (default: 3)")
    add("--songs", metavar="N", default="8", help="of each artist, on all albums (default: 8)")
    add("--seconds", metavar="S", default="30", help="of each song (default: 30)")
    add("--midi", metavar="DIR", help="folder of MIDI files that songs are made of")
    add("--codec", metavar="NAME", default="flac", help=f"{', '.join(CODECS)} (default: flac)")
    add("--homonyms", metavar="N", default="0", help="pairs of artists that share a name")
    add("--aliases", metavar="N", default="0", help="artists with a second name")
    add("--duets", metavar="N", default="0", help="songs more, by two artists each")
    add("--compilation", metavar="N", default="0", help="songs more, on an album of several")
    add("--seed", metavar="N", default="1", help="(default: 1)")
    add("--workers", metavar="N", help="processes (default: all cores)")
    add("--json", action="store_true", help="tell what was made as JSON")


def parse(args: argparse.Namespace) -> GenerateOptions:
    """Options of parsed flags; raises `UsageError` that names every mistake."""
    checker = Checker(args)
    out = checker.text("--out")
    counts = {name: checker.integer(f"--{name}", low=1) for name in ("artists", "albums", "songs")}
    more = {
        name: checker.integer(f"--{name}", low=0)
        for name in ("homonyms", "aliases", "duets", "compilation")
    }
    seconds = checker.number("--seconds", low=0.5, high=3600.0)
    seed = checker.integer("--seed", low=0, high=2**31 - 1)
    cores = len(os.sched_getaffinity(0))
    workers = checker.integer("--workers", low=1, high=1024) if args.workers else cores
    if args.codec not in CODECS:
        checker.problems.append(f"--codec: must be one of {', '.join(CODECS)}")
    if args.midi and not os.path.isdir(args.midi):
        checker.problems.append(f"--midi: {args.midi} is not a folder")
    if not checker.problems:
        if counts["albums"] > counts["songs"]:
            checker.problems.append("--albums: an album needs a song, raise --songs")
        if 2 * more["homonyms"] + more["aliases"] > counts["artists"]:
            checker.problems.append("--homonyms, --aliases: they need more artists than there are")
        for name in ("duets", "compilation"):
            if more[name] > counts["artists"]:
                checker.problems.append(f"--{name}: no more than there are artists")
    checker.finish()
    return GenerateOptions(
        out,
        **counts,
        seconds=seconds,
        seed=seed,
        midi=args.midi,
        codec=args.codec,
        workers=workers,
        **more,
        json=args.json,
    )


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """Write the songs, and say where they are."""
    del beam_args
    options = parse(args)
    rows = write_catalogue(
        options.out,
        options.artists,
        options.albums,
        options.songs,
        options.seconds,
        options.seed,
        options.midi,
        options.workers,
        codec=options.codec,
        homonyms=options.homonyms,
        aliases=options.aliases,
        duets=options.duets,
        compilation=options.compilation,
    )
    catalog = f"{options.out.rstrip('/')}/catalog.csv"
    if options.json:
        print(json.dumps({"catalog": catalog, "tracks": len(rows)}))
    else:
        print(f"{catalog}: {len(rows)} tracks of {options.artists} artists")
    return 0


if __name__ == "__main__":
    from pipelines.cli import main

    sys.exit(main(["generate", *sys.argv[1:]]))
