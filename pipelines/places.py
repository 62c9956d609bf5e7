"""Paths in a command line, for workers elsewhere: these have another working folder."""

from __future__ import annotations

import argparse
import os

from hashing.models import PRETRAINED
from pipelines.stores import is_remote

# Flags of all jobs whose values workers open.
FOLDERS = ("out", "index", "index_flag", "indexes", "duplicates", "midi", "previous")
# These the launcher reads itself, and with --detach the last step again.
FILES = ("catalog", "queries", "review", "opt_out_file", "allow")
MODELS = ("model", "old_model", "artist_model", "sequence_model")


def settle_places(args: argparse.Namespace) -> None:
    """Makes relative paths absolute, as a shared folder has the same name on all machines.

    What names no folder here stays: the name of a shipped model, or a path in an object store.

    >>> args = argparse.Namespace(out="music.index", index="gs://b/i", model="contrastive")
    >>> settle_places(args)
    >>> args.out == os.path.abspath("music.index"), args.index, args.model
    (True, 'gs://b/i', 'contrastive')
    """
    for name in (*FOLDERS, *FILES):
        value = getattr(args, name, None)
        if isinstance(value, list):
            setattr(args, name, [_absolute(one) for one in value])
        elif value:
            setattr(args, name, _absolute(value))
    for name in MODELS:
        value = getattr(args, name, None)
        if value and not (PRETRAINED / value).is_dir() and os.path.isdir(value):
            setattr(args, name, _absolute(value))


def _absolute(path: str) -> str:
    return path if is_remote(path) or path.startswith("file://") else os.path.abspath(path)
