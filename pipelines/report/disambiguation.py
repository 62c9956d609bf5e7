"""The page of ``hashbeam disambiguate``: names by doubt, each drawn when it is opened, and marked.

One HTML file that asks nothing of any network. The list of names is HTML; what an opened name
needs is JSON beside it, parsed then. The drawings are SVG made by the page's own script, and not by
a library: every track can be reached with the keyboard, the style sheet prints them and darkens
them, and a page is a megabyte smaller. Names and titles are text to the script, never markup, and
the page's security policy lets only that script run, known by its digest.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from pipelines.disambiguation.outcome import (
    STATUSES,
    Cluster,
    Group,
    Proposal,
    Run,
    Track,
)
from pipelines.report.disambiguation_words import (
    counted,
    flat,
    in_words,
    isolated,
    joined,
    side_name,
    tells,
)
from pipelines.report.page import length
from pipelines.report.page import render as render_template

# In the order in which they use each other.
_SCRIPTS = ("draw", "review", "name", "page")

_REASONS = 5  # that set a cluster apart, at most
_ALBUMS = 4  # of a cluster, at most
_TITLES = 3  # of each side of a proposal, at most

_JUDGED = ("clustered", "decided")  # statuses; all others say why a name was left alone
_TRUTH = ("ari", "ami")  # of a name, beside it; all figures are in metrics.json

_DIGITS = 4  # of a place on the map, whose width is 1: less than a pixel
_FIGURES = 200  # of metrics.json, at most


def render(run: Run) -> str:
    """The page, as HTML.

    Args:
        run: what was found. A track's `snippet` is a path relative to the page's folder, or a
            ``data:audio/…;base64,`` address; one that lies on another machine is named, not loaded.
    """
    script = "\n".join(_text(f"disambiguation_{name}.js") for name in _SCRIPTS)
    rows = [_row(group) for group in run.groups]
    groups = [(f"group-{place}", _embedded(_data(group))) for place, group in enumerate(run.groups)]
    titles = _titles(run)
    return render_template(
        "disambiguation.html.j2",
        rows=rows,
        several=sum(row["kind"] == "several" for row in rows),
        left_out=run.groups_left_out,
        facts=list(_facts(run)),
        proposals=[_proposal(one, titles) for one in run.proposals],
        figures=list(flat(run.figures or {}))[:_FIGURES],
        failures=run.failures,
        failed=max(int(run.facts.get("tracks_failed", 0)), len(run.failures)),
        data=[("run", _embedded({"id": run.run_id, "file": _file_name(run.run_id)})), *groups],
        script=_markup(script),
        policy=_policy(script),
        run_id=run.run_id,
        made=list(_made(run.facts)),
    )


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _markup(text: str) -> Any:
    """Text that the template takes as it is: our own, or escaped already."""
    from markupsafe import Markup

    return Markup(text)


def _embedded(value: Any) -> Any:
    """JSON for a script element: nothing in it can end the element or begin a comment.

    >>> print(_embedded({"title": "</script><!--&"}))
    {"title":"\\u003c/script\\u003e\\u003c!--\\u0026"}
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Lone surrogates, which broken names may carry, have no place in UTF-8.
    text = re.sub("[<>&\u2028\u2029\ud800-\udfff]", lambda sign: f"\\u{ord(sign[0]):04x}", text)
    return _markup(text)


def _policy(script: str) -> str:
    """Content security policy: our script alone runs, and only local sound is loaded."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; media-src 'self' file: data:; base-uri 'none'; form-action 'none'"
    )


def _file_name(run_id: str) -> str:
    return re.sub(r"[^\w.-]+", "-", run_id, flags=re.ASCII)[:80] or "run"


def _facts(run: Run) -> Iterator[tuple[str, str, str]]:
    """Term, value and note of each figure at the top."""
    facts = run.facts
    tracks = int(facts.get("tracks", sum(len(group.tracks) for group in run.groups)))
    failed = int(facts.get("tracks_failed", len(run.failures)))
    heard = f"{int(facts['tracks_heard']):,} heard" if "tracks_heard" in facts else ""
    unheard = f"{failed:,} could not be heard" if failed else ""
    yield "Tracks", f"{tracks:,}", ", ".join(filter(None, (heard, unheard)))
    shown = len(run.groups)
    groups = int(facts.get("groups", shown + run.groups_left_out))
    yield "Names", f"{groups:,}", f"{shown:,} on this page"
    counts = facts.get("groups_by_status") or Counter(group.status for group in run.groups)
    alone = sum(count for status, count in counts.items() if status not in _JUDGED)
    yield "Left alone", f"{alone:,}", "too few tracks, too uncertain, or as you asked"
    merges = sum(one.kind == "merge" for one in run.proposals)
    splits = len(run.proposals) - merges
    yield (
        "Proposals",
        f"{len(run.proposals):,}",
        ", ".join((counted(merges, "merge"), counted(splits, "split"))),
    )
    if isinstance(cut := facts.get("cut"), int | float):
        yield "Cut", f"{cut:.3g}", "distance from which on branches are different artists"


def _made(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, fact in (("Model", "model"), ("catalogue", "catalog"), ("made", "created")):
        if facts.get(fact):
            yield f"{name} {facts[fact]}"
    if isinstance(wall_s := facts.get("wall_s"), int | float):
        yield f"in {length(wall_s)}"


def _kind(group: Group) -> str:
    if group.status not in _JUDGED:
        return "alone"
    return "several" if len(group.clusters) > 1 else "one"


def _row(group: Group) -> dict[str, Any]:
    """A name as the list shows it."""
    kind = _kind(group)
    result = {"several": f"{len(group.clusters)} artists", "one": "one artist"}.get(kind)
    if group.status != "clustered":
        said = STATUSES.get(group.status, group.status)
        result = f"{result}: {said}" if result else said
    spellings = dict.fromkeys([group.name, group.key, *(name for name, _ in group.variants)])
    return {
        "key": group.key,
        "name": group.name,
        "search": " ".join(spellings),
        "tracks": len(group.tracks),
        "clusters": len(group.clusters),
        "doubt": _rounded(group.doubt, 4) or 0.0,
        "kind": kind,
        "result": result,
    }


def _data(group: Group) -> dict[str, Any]:
    """What an opened name needs."""
    unheard = sum(bool(track.failure) for track in group.tracks)
    said = [STATUSES.get(group.status, group.status), f"doubt {group.doubt:.2f}"]
    if unheard:
        said.append(f"{unheard} of {len(group.tracks)} tracks could not be heard")
    truth = {name.upper(): group.truth[name] for name in _TRUTH if name in group.truth}
    said += [f"{name} {value}" for name, value in flat(truth)]
    merges = _merges(group)
    heights = _heights(group, merges)
    return {
        "key": group.key,
        "name": group.name,
        "cut": _rounded(group.cut),
        "highest": group.highest,
        "variants": group.variants,
        "facts": said,
        "columns": _columns(group),
        "clusters": [_cluster(one, heights.get(one.number), group.cut) for one in group.clusters],
        "merges": [(one, other, _rounded(height)) for one, other, height in merges],
    }


def _merges(group: Group) -> list[tuple[int, int, float]]:
    """The tree as (node, node, height); merges that were forced may have a height without bound."""
    rows = [] if group.linkage is None else group.linkage.tolist()
    highest = max((row[2] for row in rows if math.isfinite(row[2])), default=group.cut)
    return [
        (int(one), int(other), height if math.isfinite(height) else 1.1 * highest)
        for one, other, height, _ in rows
    ]


def _heights(
    group: Group, merges: Sequence[tuple[int, int, float]]
) -> dict[int, tuple[float, float]]:
    """Of each cluster that others join: the height of its own last merge, and of theirs."""
    of_node = [track.cluster for track in group.tracks[: len(merges) + 1]]  # 0 where mixed
    own = dict.fromkeys(of_node, 0.0)
    others: dict[int, float] = {}
    for one, other, height in merges:
        first, second = of_node[one], of_node[other]
        if first == second:
            own[first] = max(own.get(first, 0.0), height)
        else:
            others.setdefault(first, height)
            others.setdefault(second, height)
        of_node.append(first if first == second else 0)
    return {number: (own[number], others[number]) for number in others if number}


def _columns(group: Group) -> dict[str, list[Any]]:
    """The tracks, a list a column; columns that say nothing are left out."""
    heard = len(group.positions)
    span = float(np.ptp(group.positions, axis=0).max()) if heard else 0.0
    places = np.round(group.positions / (span or 1.0), _DIGITS).astype(float)
    unplaced = [None] * (len(group.tracks) - heard)
    listen, named = zip(*(_listen(track) for track in group.tracks), strict=True)
    columns: dict[str, list[Any]] = {
        "id": [track.track_id for track in group.tracks],
        "title": [track.title for track in group.tracks],
        "album": [track.album for track in group.tracks],
        "cluster": [track.cluster for track in group.tracks],
        "confidence": [_rounded(track.confidence, 2) for track in group.tracks],
        "x": [*map(_rounded, places[:, 0]), *unplaced] if heard else [],
        "y": [*map(_rounded, places[:, 1]), *unplaced] if heard else [],
        "listen": list(listen),
        "place": list(named),
        "remark": [_remark(track, group.status) for track in group.tracks],
    }
    return {name: values for name, values in columns.items() if name == "id" or any(values)}


def _remark(track: Track, usual: str) -> str:
    parts = [track.failure]
    if track.status != usual and not track.failure:
        parts.append(STATUSES.get(track.status, track.status))
    if track.artist_id:
        parts.append(f"id {isolated(track.artist_id)}")
    if track.others:
        parts.append(f"with {', '.join(map(isolated, track.others))}")
    return " · ".join(part for part in parts if part)


def _listen(track: Track) -> tuple[str, str]:
    """Address of the track's sound, "" where there is none here; and what to call its place.

    >>> track = Track("a", "A", "", 1, 1.0, 1.0, "gs://bucket/a.opus", snippet="snippets/a b.ogg")
    >>> _listen(track)
    ('snippets/a%20b.ogg', 'snippets/a b.ogg')
    """
    if track.snippet:
        if re.fullmatch(r"data:audio/[\w.+-]+;base64,[A-Za-z0-9+/=]+", track.snippet):
            return track.snippet, ""
        return _address(track.snippet), track.snippet
    # A relative path is relative to the catalogue, and nobody knows where that is from the page.
    absolute = track.uri.startswith("/") or track.uri.lower().startswith("file:///")
    return _address(track.uri) if absolute else "", track.uri


def _address(path: str) -> str:
    """A path on this machine as an address; "" for any other machine's."""
    if path.lower().startswith("file:///"):
        path = unquote(path[len("file://") :])
    elif re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path) and not path.startswith("./"):
        return ""
    # Two slashes at the beginning would name another machine.
    return quote(re.sub(r"^/+", "/", path), errors="surrogatepass")


def _cluster(cluster: Cluster, heights: tuple[float, float] | None, cut: float) -> dict[str, Any]:
    said = [counted(cluster.size, "track"), f"confidence {cluster.confidence:.2f}"]
    if cluster.decided:
        said.append("decided by an editor")
    apart = [in_words(one) for one in cluster.apart if tells(one)][:_REASONS]
    if heights:
        own, others = heights
        apart.append(
            f"sound: its tracks join by {own:.3g}, the others at {others:.3g}; cut {cut:.3g}"
        )
    return {
        "number": cluster.number,
        "typical": cluster.medoids,
        "text": ", ".join(said),
        "apart": apart,
        "albums": cluster.albums[:_ALBUMS],
        "ids": cluster.artist_ids[:_ALBUMS],
    }


def _titles(run: Run) -> dict[str, str]:
    """Titles of the tracks that proposals name."""
    wanted = {track_id for one in run.proposals for side in one.sides for track_id in side.tracks}
    return {
        track.track_id: track.title
        for group in run.groups
        for track in group.tracks
        if track.track_id in wanted
    }


def _proposal(one: Proposal, titles: Mapping[str, str]) -> dict[str, Any]:
    names = [side_name(side) for side in one.sides]
    return {
        "id": one.proposal_id,
        "kind": one.kind,
        "names": names,
        "about": f"{one.kind} {joined(names)}",
        "score": one.score,
        "reason": one.reason,
        "evidence": [f"{name}: {value}" for name, value in flat(one.evidence)],
        "sides": [
            {
                "name": name,
                "size": side.size,
                "titles": [titles.get(track) or track for track in side.tracks[:_TITLES]],
            }
            for name, side in zip(names, one.sides, strict=True)
        ],
    }


def _rounded(value: float | None, digits: int = _DIGITS) -> float | None:
    """With so many digits after the point; None where it is no number."""
    return round(float(value), digits) if value is not None and math.isfinite(value) else None
