"""The verbs of ``hashbeam``: where each lives, and how one is carried out.

A verb is a module with ``DESCRIPTION`` (text of its help, with examples), ``add_arguments(parser)``
and ``run(args, beam_args) -> int``, and where its flags are checked before any work,
``options_from(args)``. It is imported when it is called.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from types import ModuleType

from pipelines.allowed import only


@dataclasses.dataclass(frozen=True)
class Verb:
    """Where a verb lives, its line in the help, and whether it takes Beam's own flags."""

    module: str
    help: str
    beam_flags: bool = False


VERBS = {
    "demo": Verb("pipelines.demo", "make a small catalogue, index it, look noisy snippets up"),
    "catalog": Verb("pipelines.catalog", "write a catalogue from a folder of audio and its tags"),
    "index": Verb("pipelines.index", "turn a catalogue into codes and hash tables", True),
    "reindex": Verb("pipelines.reindex", "bring an index up to date with its catalogue", True),
    "compact": Verb("pipelines.compact", "merge the segments that reindexing has added", True),
    "merge": Verb("pipelines.merge", "make one index of several", True),
    "remove": Verb("pipelines.remove", "take tracks out of an index"),
    "lookup": Verb("pipelines.search", "say which track a recording is from", True),
    "duplicates": Verb(
        "pipelines.duplicates", "find tracks of an index that are one recording", True
    ),
    "disambiguate": Verb("pipelines.disambiguate", "tell artists of one name apart by sound", True),
    "match-midi": Verb(
        "pipelines.match_midi", "find the recordings that MIDI files transcribe", True
    ),
    "events": Verb("pipelines.events", "index labelled clips of sound, and search them", True),
    "midi-pairs": Verb("pipelines.midi_pairs", "pair MIDI files with the tracks they are of", True),
    "evaluate": Verb("pipelines.evaluate", "measure look-up, or how artists are told apart", True),
    "train": Verb("pipelines.train", "train a hasher, or a model of artists, on a catalogue"),
    "generate": Verb("pipelines.generate", "make up artists and their songs, to train with"),
    "import-model": Verb("pipelines.import_model", "make a model of an ONNX encoder of your own"),
    "info": Verb("pipelines.inspect", "show what an index holds"),
    "verify": Verb("pipelines.verify", "check every file of an index"),
    "list": Verb("pipelines.listing", "show the tracks of an index, or those that failed"),
    "versions": Verb("pipelines.show_versions", "show the versions of an index, and their changes"),
    "rollback": Verb("pipelines.rollback", "make an earlier version the published one"),
    "plan": Verb("pipelines.plan", "say what an index will cost: hours, bytes, workers, money"),
    "gc": Verb("pipelines.gc", "delete old versions and what dead runs have left"),
}
# Those that read a catalogue or a list of queries, which others may have made.
READ_URIS = {
    *("index", "reindex", "lookup", "disambiguate", "events", "midi-pairs", "plan"),
    *("evaluate", "train", "import-model"),
}


def carry_out(module: ModuleType, args: argparse.Namespace, beam_args: Sequence[str]) -> int:
    """Runs a verb with its parsed flags; errors as it raises them."""
    with only(getattr(args, "allow", None) or ()):
        return int(module.run(args, list(beam_args)))
