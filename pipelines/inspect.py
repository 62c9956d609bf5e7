"""``hashbeam info``: what an index holds, by the manifest of its published version."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pipelines import io
from pipelines.also import ALSO
from pipelines.options import add_output_arguments
from pipelines.versions import Manifest, open_manifest

DESCRIPTION = """\
Show the published version of an index: model, tracks, hours, tables, files.

  hashbeam info music.index
  hashbeam info music.index --html health.html

--html writes a page that shows how the index is doing: how full its buckets are against a perfect
hash's, the balance of its bits, versions and segments, failed tracks, speed and size, and on top
whether anything is to be done. It needs no network. Little of an index is read for it, whatever its
size; `hashbeam verify` reads all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam info``."""
    parser.add_argument("index", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    parser.add_argument("--html", metavar="FILE", help="write a page on the health of the index")
    add_output_arguments(parser)


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam info``."""
    manifest = open_manifest(args.index)
    facts = describe(args.index, manifest)
    text = _as_text(facts)
    if args.html:
        # Figures and templates take seconds to import, which the text alone need not wait for.
        from pipelines.health.examine import examine
        from pipelines.listing import shown
        from pipelines.report.health_page import health_page

        health = examine(args.index, manifest, facts)
        io.write_bytes(args.html, health_page(health).encode())
        text = "\n".join([text, f"  health: {shown(health.verdict)}", f"  {args.html}"])
    print(json.dumps(facts) if args.json else text)
    return 0


def describe(index: str, manifest: Manifest) -> dict[str, Any]:
    """What a published version holds, from its manifest alone."""
    kinds: dict[str, dict[str, int]] = {}
    columns = (manifest.files.column(name) for name in ("kind", "rows", "bytes"))
    for kind, rows, size in zip(*columns, strict=True):
        of_kind = kinds.setdefault(kind, {"files": 0, "rows": 0, "bytes": 0})
        of_kind["files"] += 1
        of_kind["rows"] += rows
        of_kind["bytes"] += size
    return {
        "index": index,
        "version": manifest.version,
        "parent": manifest.parent,
        "created": manifest.created,
        "format_version": manifest.format_version,
        "model": manifest.model,
        "also": manifest.also,
        "catalog_digest": manifest.catalog_digest,
        "key_bits": manifest.key_bits,
        "n_tables": manifest.n_tables,
        "compared": manifest.compared,
        "snippet_hop_s": manifest.snippet_hop_s,
        "segments": len(manifest.segments),
        **manifest.counters,
        "kinds": kinds,
    }


def _as_text(facts: dict[str, Any]) -> str:
    lines = [
        f"{facts['index']}: version {facts['version']} of {facts['created']}",
        f"  model {facts['model']['name']} ({facts['model']['digest'][:12]})",
        f"  {facts['tracks_hashed']} of {facts['tracks']} tracks, {facts['audio_s'] / 3600:.2f} h, "
        f"{facts['snippets']} snippets every {facts['snippet_hop_s']:g} s, "
        f"{facts['tracks_failed']} failed",
        f"  {facts['n_tables']} tables of {facts['key_bits']} bits in {facts['segments']} segments",
        f"  queries are compared with {facts['compared']}",
        *(
            f"  {_title(name)}s by model {model['name']} ({model['digest'][:12]})"
            for name, model in facts["also"].items()
        ),
    ]
    for kind, counts in facts["kinds"].items():
        size = f"{counts['bytes'] / 1e6:.1f} MB"
        lines.append(f"  {kind}: {counts['files']} files, {counts['rows']} rows, {size}")
    return "\n".join(lines)


def _title(name: str) -> str:
    return ALSO[name].title if name in ALSO else name


if __name__ == "__main__":
    from pipelines.cli import main

    sys.exit(main(["info", *sys.argv[1:]]))
