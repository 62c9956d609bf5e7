"""``hashbeam generate``: made-up artists, or clips of instruments, to train and measure with."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys

from hashing.generated import write_catalogue
from hashing.generated.clips import LABELS, SETS, SHARES, ClipSettings, write_clips
from pipelines.options import Checker

DESCRIPTION = """\
Make up artists, and write their songs and a catalogue of them; or labelled clips of instruments.

  hashbeam generate --artists 100 --out generated
  hashbeam generate instruments --out clips
  hashbeam train artist --catalog music.csv --more generated/catalog.csv --out models/artist

Every artist has instruments, production, tempo, scales and habits of their own within one of
twelve genres; albums differ a little. Songs are composed, or made of the MIDI files of a folder.
The same seed gives the same songs. A run that was stopped goes on when it is started again.

The catalogue tells artist_id (who really plays), artist_name, album, genres, mood and
release_date. Catalogues that are hard to tell apart are made with --homonyms (two artists, one
name), --aliases (one artist, two names), --duets and --compilation.

instruments are 48 classes of General MIDI in 12 families, played by seven synthesisers of Debian:
those of the training share by others than the database, and queries by others again, so that nobody
can go by the sound of one synthesiser. Two thirds of the training share are tuned up or down, which
gives each note the sound of another key. other-sounds are 85 more classes, of which an encoder can
learn without having heard a label of the instruments (the shipped one did, with --training 250
--database 0 --queries 0). labels.csv tells clip_id, uri, label, share and synthesiser, taxonomy.csv
the family of each label."""

CODECS = ("flac", "ogg", "opus", "mp3", "wav")


KINDS = ("artists", *SETS)


@dataclasses.dataclass(frozen=True)
class InstrumentOptions:
    """Clips that are asked for; see `hashing.generated.clips.write_clips`."""

    out: str
    settings: ClipSettings
    workers: int
    json: bool


@dataclasses.dataclass(frozen=True)
class GenerateOptions:
    """Artists that are asked for; see `hashing.generated.write_catalogue`."""

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
    add(
        "kind",
        metavar="KIND",
        nargs="?",
        default="artists",
        help=f"artists (default), {', '.join(SETS)}",
    )
    add("--out", metavar="DIR", help="where songs and catalog.csv go, or clips and labels.csv")
    add("--artists", metavar="N", default="100", help="how many (default: 100)")
    add("--albums", metavar="N", default="3", help="of each artist (default: 3)")
    add("--songs", metavar="N", default="8", help="of each artist, on all albums (default: 8)")
    add("--seconds", metavar="S", help="of each song (default: 30), or clip (4)")
    add("--midi", metavar="DIR", help="folder of MIDI files that songs are made of")
    add("--codec", metavar="NAME", default="flac", help=f"{', '.join(CODECS)} (default: flac)")
    add("--homonyms", metavar="N", default="0", help="pairs of artists that share a name")
    add("--aliases", metavar="N", default="0", help="artists with a second name")
    add("--duets", metavar="N", default="0", help="songs more, by two artists each")
    add("--compilation", metavar="N", default="0", help="songs more, on an album of several")
    for share in SHARES:
        most = getattr(ClipSettings, share)
        said = f"clips of each instrument in the share {share} (default: {most})"
        add(f"--{share}", metavar="N", default=str(most), help=said)
    add("--seed", metavar="N", default="1", help="(default: 1)")
    add("--workers", metavar="N", help="processes (default: all cores)")
    add("--json", action="store_true", help="tell what was made as JSON")


def parse(args: argparse.Namespace) -> GenerateOptions | InstrumentOptions:
    """Options of parsed flags; raises `UsageError` that names every mistake."""
    if args.kind in SETS:
        return _parse_instruments(args)
    checker = Checker(args)
    if args.kind not in KINDS:
        checker.problems.append(f"KIND: {args.kind} is none of {', '.join(KINDS)}")
    args.seconds = args.seconds or "30"
    out = checker.text("--out")
    counts = {name: checker.integer(f"--{name}", low=1) for name in ("artists", "albums", "songs")}
    more = {
        name: checker.integer(f"--{name}", low=0)
        for name in ("homonyms", "aliases", "duets", "compilation")
    }
    seconds = checker.number("--seconds", low=0.5, high=3600.0)
    seed = checker.integer("--seed", low=0, high=2**31 - 1)
    workers = _workers(checker)
    _check_codec(args, checker)
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


def _parse_instruments(args: argparse.Namespace) -> InstrumentOptions:
    checker = Checker(args)
    args.seconds = args.seconds or str(ClipSettings.seconds)
    out = checker.text("--out")
    counts = {share: checker.integer(f"--{share}", low=0, high=9999) for share in SHARES}
    seconds = checker.number("--seconds", low=0.5, high=60.0)
    seed = checker.integer("--seed", low=0, high=2**31 - 1)
    workers = _workers(checker)
    _check_codec(args, checker)
    if not checker.problems and not any(counts.values()):
        checker.problems.append("--training, --database, --queries: no clips at all")
    checker.finish()
    settings = ClipSettings(args.kind, **counts, seconds=seconds, seed=seed, codec=args.codec)
    return InstrumentOptions(out, settings, workers, args.json)


def _workers(checker: Checker) -> int:
    if not checker.given("--workers"):
        return len(os.sched_getaffinity(0))
    return checker.integer("--workers", low=1, high=1024)


def _check_codec(args: argparse.Namespace, checker: Checker) -> None:
    if args.codec not in CODECS:
        checker.problems.append(f"--codec: must be one of {', '.join(CODECS)}")


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """Write songs or clips, and say where they are."""
    del beam_args
    options = parse(args)
    if isinstance(options, InstrumentOptions):
        clips = write_clips(options.out, options.settings, options.workers)
        labels = f"{options.out.rstrip('/')}/{LABELS}"
        classes = len({row["label"] for row in clips})
        if options.json:
            print(json.dumps({"labels": labels, "clips": len(clips), "classes": classes}))
        else:
            print(f"{labels}: {len(clips)} clips of {classes} classes")
        return 0
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
