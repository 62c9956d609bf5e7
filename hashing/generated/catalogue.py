"""A catalogue of generated artists on disk, with the awkward cases that real catalogues have."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import tqdm

from hashing import audio
from hashing.errors import UsageError
from hashing.generated.artist import STREAM, Artist
from hashing.generated.folder import claim, replacing, write_csv
from hashing.generated.genres import GENRES
from hashing.generated.processes import spread
from hashing.generated.tunes import tune_files

COLUMNS = (
    "track_id", "uri", "title", "artist_id", "artist_name", "album", "genres", "mood",
    "release_date",
)  # fmt: skip
COMPILATION = "Various Shades"  # the title of the album on which several artists appear


@dataclasses.dataclass(frozen=True)
class Job:
    """One file to render: song `number` of an album of the artist `seed`, maybe with a guest."""

    row: dict[str, str]
    artist: int
    genre: str
    album: int
    number: int
    guest: tuple[int, str] | None = None


def write_catalogue(
    folder: str | Path,
    n_artists: int,
    albums: int,
    songs: int,
    seconds: float,
    seed: int,
    midi: str | Path | None = None,
    workers: int = 1,
    *,
    codec: str = "ogg",
    homonyms: int = 0,
    duets: int = 0,
    aliases: int = 0,
    compilation: int = 0,
    show: bool = True,
) -> list[dict[str, str]]:
    """Write generated artists' songs and their ``catalog.csv`` to `folder`; returns its rows.

    Each artist has `songs` songs of `seconds`, spread over `albums` albums. Genres take turns, so
    that all have as many artists. `midi` is a folder of MIDI files, of which some songs are made.
    `codec` is one of `hashing.audio.encode`. ``artist_id`` always tells who really plays:

    * `homonyms`: so many pairs of artists share one name (of different ids);
    * `aliases`: so many artists call themselves something else from the second half of their
      albums on (two names, one id);
    * `duets`: so many songs more, by two artists (names and ids with "; " between them);
    * `compilation`: so many songs more, by as many artists, on one album.

    What has been written is kept: a call that was stopped goes on, and a folder with other
    settings is refused (`UsageError`). `show` prints a line of progress.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = write_catalogue(folder, 1, 1, 1, 1.0, 0, codec="wav", show=False)
    >>> rows[0]["track_id"], rows[0]["uri"]
    ('a0000-00', 'a0000/a0000-00.wav')
    """
    if n_artists < 1 or not 1 <= albums <= songs or not 0.5 <= seconds <= 3600 or seed < 0:
        raise ValueError(f"{n_artists=} {albums=} {songs=} {seconds=} {seed=}: nothing to write")
    if 2 * homonyms + aliases > n_artists or max(duets, compilation) > n_artists:
        raise ValueError(f"{n_artists} artists are too few for what is asked for")
    files = [] if midi is None else tune_files(midi)
    if midi is not None and not files:
        raise UsageError(f"{midi} holds no .mid files")
    folder = Path(folder)
    settings = {
        "n_artists": n_artists, "albums": albums, "songs": songs, "seconds": seconds, "seed": seed,
        "tunes": len(files), "codec": codec, "homonyms": homonyms, "duets": duets,
        "aliases": aliases, "compilation": compilation,
    }  # fmt: skip
    claim(folder, settings)
    jobs = plan(
        n_artists, albums, songs, seed, codec, homonyms=homonyms, duets=duets, aliases=aliases,
        compilation=compilation,
    )  # fmt: skip
    todo: dict[int, list[Job]] = {}
    for job in jobs:
        if not (folder / job.row["uri"]).exists():
            todo.setdefault(job.artist, []).append(job)
    tasks = [(folder, group, seconds, codec, files) for group in todo.values()]
    total = sum(len(group) for group in todo.values())
    if workers < 2 or len(tasks) < 2:  # in this process, song by song, so that progress shows
        songs_left = (job for group in todo.values() for job in group)
        tasks, workers = [(folder, [job], seconds, codec, files) for job in songs_left], 1
    with tqdm.tqdm(total=total, desc="songs", mininterval=5.0, disable=not show) as bar:
        for done in spread(_render, tasks, workers):
            bar.update(done)
    rows = [job.row for job in jobs]
    write_csv(folder / "catalog.csv", COLUMNS, rows)
    return rows


def plan(
    n_artists: int,
    albums: int,
    songs: int,
    seed: int,
    codec: str,
    *,
    homonyms: int = 0,
    duets: int = 0,
    aliases: int = 0,
    compilation: int = 0,
) -> list[Job]:
    """List all files of a catalogue and their rows, rendering none; see `write_catalogue`."""
    order = list(np.random.default_rng([STREAM, seed, 5]).permutation(list(GENRES)))
    cast = [(seed * 1_000_003 + i, str(order[i % len(order)])) for i in range(n_artists)]
    artists = [Artist.draw(*member) for member in cast]
    called = _distinct([artist.name for artist in artists])
    for pair in range(homonyms):
        called[2 * pair + 1] = called[2 * pair]
    other_name = {
        2 * homonyms + i: f"{called[2 * homonyms + i].split()[-1]} & Co." for i in range(aliases)
    }
    jobs: list[Job] = []

    def add(index: int, album: int, number: int, guest: int | None = None, other: str = "") -> None:
        facts = artists[index].facts(album, number)
        track = f"a{index:04d}-{number:02d}"
        late = index in other_name and album >= (albums + 1) // 2
        row = {
            "track_id": track,
            "uri": f"a{index:04d}/{track}.{codec}",
            "title": facts.title,
            "artist_id": f"a{index:04d}",
            "artist_name": other_name[index] if late else called[index],
            "album": other or facts.album,
            "genres": ";".join(facts.genres),
            "mood": facts.mood,
            "release_date": facts.release_date,
        }
        if guest is not None:
            row["artist_id"] += f"; a{guest:04d}"
            row["artist_name"] += f"; {called[guest]}"
        member = None if guest is None else cast[guest]
        jobs.append(Job(row, *cast[index], album, number, member))

    for index in range(n_artists):
        for number in range(songs):
            add(index, number * albums // songs, number)
        if index < duets and n_artists > 1:
            add(index, 0, songs, (index + n_artists // 2) % n_artists)
        if index >= n_artists - compilation:
            add(index, albums - 1, songs + 1, other=COMPILATION)
    return jobs


def _distinct(names: list[str]) -> list[str]:
    """Add a numeral to names that came up before: only homonyms that are asked for share one."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return out


Task = tuple[Path, list[Job], float, str, list[Path]]


def _render(task: Task) -> int:
    folder, jobs, seconds, codec, files = task
    for job in jobs:
        artist = Artist.draw(job.artist, job.genre)
        guest = None if job.guest is None else Artist.draw(*job.guest)
        song = artist.song(job.album, job.number, seconds=seconds, tunes=files, guest=guest)
        path = folder / job.row["uri"]
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as part:
            audio.encode(song.samples, song.sample_rate, str(part), codec=codec)
    return len(jobs)
