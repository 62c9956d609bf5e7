"""What editors decide, read from the file that the report exports, and kept from run to run.

A decision says which tracks of a name are one artist, and which number that artist has; tracks of
one name under different numbers are different artists. It is kept by track id, so it outlives
every clustering, and a later decision about a track replaces an earlier one: decisions can never
contradict each other. In JSON::

    {"format": "hashbeam-review", "format_version": 1, "run": "3f9a…",
     "decisions": [{"name": "nina", "artist": 1, "tracks": ["a", "b"]}],
     "proposals": [{"proposal": "merge-91c2…", "decision": "rejected"}]}

`name` is the normalised name. As CSV the same has the columns ``run, name, artist, track_id,
proposal, decision``, one row a track or a proposal. A cell that a spreadsheet would compute, as one
that begins with "=", has an apostrophe before it in an exported file; it is no part of the name or
id. A cell without it is read as it stands.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io as text_io
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hashing.errors import HashbeamError, IndexFormatError, UsageError
from pipelines import io
from pipelines.answers import in_one_line
from pipelines.records import Record

FORMAT = "hashbeam-review"
FORMAT_VERSION = 1
WORDS = ("accepted", "rejected")
COLUMNS = ("run", "name", "artist", "track_id", "proposal", "decision")
# A cell that was guarded: the pattern of the report page, behind an apostrophe.
_GUARDED = re.compile("'+[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
HIGHEST_ARTIST = 1_000_000  # of one name; beyond that it is a typing mistake


@dataclasses.dataclass(frozen=True)
class Review:
    """A review as it was read: of which run, and what it decides.

    `tracks` maps (normalised name, track id) to the number of the artist, `proposals` the id of a
    proposal to one of `WORDS`; `digest` names the content.
    """

    path: str
    run_id: str
    tracks: Mapping[tuple[str, str], int]
    proposals: Mapping[str, str]
    digest: str


@dataclasses.dataclass(frozen=True)
class DecidedProposal(Record):
    """A proposal that an editor has decided: its sides by name and track ids, and the word."""

    proposal_id: str
    kind: str
    decision: str
    names: list[str]
    tracks: list[list[str]]


@dataclasses.dataclass(frozen=True)
class Decisions(Record):
    """Everything that editors have decided so far.

    `tracks` maps a normalised name to track id → number of the artist; `reviews` are the digests
    of the reviews that have been applied.
    """

    tracks: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    proposals: list[DecidedProposal] = dataclasses.field(default_factory=list)
    reviews: list[str] = dataclasses.field(default_factory=list)
    format_version: int = FORMAT_VERSION

    def of(self, name: str) -> Mapping[str, int]:
        """Track id → number of the artist, of one normalised name."""
        return self.tracks.get(name, {})

    @property
    def count(self) -> int:
        """How many tracks are decided."""
        return sum(map(len, self.tracks.values()))


def read_review(path: str) -> Review:
    """A review in JSON or CSV (by its content), checked.

    Raises: UsageError that names the file, and everything that is wrong with it, in one line.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write(",".join(COLUMNS) + "\\nr1,nina,2,a,,\\n")
    ...     _ = file.flush()
    ...     review = read_review(file.name)
    >>> review.run_id, dict(review.tracks)
    ('r1', {('nina', 'a'): 2})
    """
    if io.is_dir(path) or not io.exists(path):
        what = "is a folder" if io.exists(path) else "does not exist"
        raise UsageError(f"--review: {path} {what}: name the file that the report exported")
    data = io.read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"--review: {path} is no text in UTF-8: export it again") from None
    if not text.strip():
        raise UsageError(f"--review: {path} is empty: export it from the report again")
    reader = _JsonReader if text.lstrip().startswith(("{", "[")) else _CsvReader
    read = reader(path, text)
    if read.problems:
        raise UsageError(f"--review: {path}: {in_one_line(read.problems)}; export it again")
    return Review(path, read.run_id, read.tracks, read.proposals, hashlib.sha256(data).hexdigest())


class _Reader:
    """What both formats have in common: the checks of a value, collected."""

    def __init__(self, path: str, text: str) -> None:
        self.problems: list[str] = []
        self.run_id = ""
        self.tracks: dict[tuple[str, str], int] = {}
        self.proposals: dict[str, str] = {}
        self._read(path, text)
        if not self.problems and not self.run_id:
            self.problems.append("it does not say of which run it is")
        if not self.problems and not self.tracks and not self.proposals:
            self.problems.append("it decides nothing")

    def _read(self, path: str, text: str) -> None:
        raise NotImplementedError

    def _decide(self, where: str, name: Any, artist: Any, track_id: Any) -> None:
        if not isinstance(name, str) or not name:
            self.problems.append(f"{where}: name is missing")
        elif type(artist) is not int or not 1 <= artist <= HIGHEST_ARTIST:
            self.problems.append(f"{where}: artist {artist!r} is no number from 1 up")
        elif not isinstance(track_id, str) or not track_id:
            self.problems.append(f"{where}: a track id is missing")
        elif self.tracks.setdefault((name, track_id), artist) != artist:
            earlier = self.tracks[name, track_id]
            self.problems.append(
                f"{where}: track {track_id!r} is given to artists {earlier} and {artist} of "
                f"{name!r} (a track has one)"
            )

    def _judge(self, where: str, proposal: Any, decision: Any) -> None:
        if not isinstance(proposal, str) or not proposal:
            self.problems.append(f"{where}: proposal is missing")
        elif decision not in WORDS:
            self.problems.append(f"{where}: {decision!r} is none of {', '.join(WORDS)}")
        elif self.proposals.setdefault(proposal, decision) != decision:
            self.problems.append(f"{where}: {proposal} is both accepted and rejected")


class _JsonReader(_Reader):
    def _read(self, path: str, text: str) -> None:
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"--review: {path} is no JSON ({error}): export it again") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise UsageError(f"--review: {path} is no review: export it from the report")
        if data.get("format_version") != FORMAT_VERSION:
            raise UsageError(
                f"--review: {path} has format version {data.get('format_version')!r}, this "
                f"hashbeam reads {FORMAT_VERSION}: export it from this report"
            )
        self.run_id = run if isinstance(run := data.get("run"), str) else ""
        for where, entry in self._entries(data, "decisions"):
            tracks = entry.get("tracks")
            if not isinstance(tracks, list) or not tracks:
                self.problems.append(f"{where}: tracks are missing")
                continue
            for track_id in tracks:
                self._decide(where, entry.get("name"), entry.get("artist"), track_id)
        for where, entry in self._entries(data, "proposals"):
            self._judge(where, entry.get("proposal"), entry.get("decision"))

    def _entries(self, data: dict[str, Any], kind: str) -> Iterable[tuple[str, dict[str, Any]]]:
        entries = data.get(kind, [])
        if not isinstance(entries, list):
            self.problems.append(f"{kind} is no list")
            return
        for number, entry in enumerate(entries, start=1):
            where = f"{kind} {number}"
            if isinstance(entry, dict):
                yield where, entry
            else:
                self.problems.append(f"{where} is no object")


class _CsvReader(_Reader):
    def _read(self, path: str, text: str) -> None:
        rows = csv.DictReader(text_io.StringIO(text, newline=""))
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise UsageError(
                f"--review: {path} is no review: column {' and '.join(missing)} missing; "
                "export it from the report"
            )
        try:
            for number, row in enumerate(rows, start=1):
                self._read_row(f"row {number}", row)
        except csv.Error as error:
            raise UsageError(f"--review: {path} is no CSV ({error}): export it again") from None

    def _read_row(self, where: str, row: dict[str, Any]) -> None:
        row = {name: _unguarded(row[name]) for name in COLUMNS}
        run_id = row["run"] or ""
        if self.run_id and run_id != self.run_id:
            self.problems.append(f"{where}: run {run_id!r} beside {self.run_id!r}")
        self.run_id = self.run_id or run_id
        if row["proposal"]:
            self._judge(where, row["proposal"], row["decision"])
        else:
            artist = row["artist"] or ""
            number: Any = int(artist) if artist.isdecimal() and len(artist) < 10 else artist
            self._decide(where, row["name"], number, row["track_id"])


def _unguarded(cell: str | None) -> str | None:
    """A cell of the table without the apostrophe that keeps spreadsheets from computing it.

    >>> [_unguarded(cell) for cell in ("'=1+1", "''-5", "-5", "'til", None)]
    ['=1+1', "'-5", '-5', "'til", None]
    """
    return cell[1:] if cell and _GUARDED.match(cell) else cell


def apply_review(
    decisions: Decisions,
    review: Review,
    *,
    runs: Iterable[str],
    members: Mapping[str, set[str]],
    proposals: Mapping[str, DecidedProposal],
) -> Decisions:
    """The decisions, with those of a review on top; the same ones where it was applied before.

    Args:
        runs: the run whose results are there, and those before it.
        members: normalised name → ids of its tracks in the run whose results are there.
        proposals: those of that run by id, with sides; their `decision` is not looked at.

    Raises: UsageError where it is the review of another run, or names what the run does not have.
    """
    if review.digest in decisions.reviews:
        return decisions
    known = list(runs)
    if review.run_id not in known:
        here = f"the results there are of run {known[0]}" if known else "there are no results yet"
        raise UsageError(
            f"--review: {review.path} is a review of run {review.run_id}, and {here}; name the "
            "folder of its run with --out or --previous, or export the review again"
        )
    decided = {proposal.proposal_id for proposal in decisions.proposals}
    problems = [
        f"name {name!r} has no track {track_id!r}"
        for name, track_id in review.tracks
        if track_id not in members.get(name, ()) and track_id not in decisions.of(name)
    ]
    problems += [
        f"there is no proposal {proposal_id!r}"
        for proposal_id in review.proposals
        if proposal_id not in proposals and proposal_id not in decided
    ]
    if problems:
        raise UsageError(
            f"--review: {review.path}: {in_one_line(problems)}; export it from the report of the "
            "last run again"
        )
    tracks = {name: dict(numbers) for name, numbers in decisions.tracks.items()}
    for (name, track_id), artist in review.tracks.items():
        tracks.setdefault(name, {})[track_id] = artist
    judged = {proposal.proposal_id: proposal for proposal in decisions.proposals}
    for proposal_id, word in review.proposals.items():
        found = proposals.get(proposal_id) or judged[proposal_id]
        judged[proposal_id] = dataclasses.replace(found, decision=word)
    return Decisions(tracks, list(judged.values()), [*decisions.reviews, review.digest])


def load_decisions(path: str) -> Decisions:
    """The decisions of earlier runs; none where there is no such file.

    Raises: HashbeamError where the file is damaged: decisions are never lost in silence.
    """
    data = io.read_if_exists(path)
    if data is None:
        return Decisions()
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HashbeamError(f"{path} is damaged ({error}): restore it from a copy") from None
    try:
        return Decisions.from_json(found, path)
    except IndexFormatError as error:
        reason = str(error).split(";")[0]
        raise HashbeamError(f"{reason}: it is damaged, restore it from a copy") from None


def save_decisions(path: str, decisions: Decisions) -> None:
    """Writes the decisions, whole or not at all."""
    text = json.dumps(decisions.to_json(), ensure_ascii=False, indent=1)
    io.write_bytes(path, text.encode() + b"\n")
