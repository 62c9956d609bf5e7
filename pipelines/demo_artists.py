"""The artists of the demo: two who share a name and one who does not, told apart by sound alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines import io, parquet

# Of each artist: names with fewer than three tracks are left alone.
SONGS = 4
ALBUMS = 2
# Genres of the artists; of the two who share a name first. They sound so different that hardly any
# seed makes artists who are taken for one: how often that happens to artists who are nearer to each
# other is what `hashbeam evaluate artists` measures.
CAST = ("classical", "metal", "folk")
# Of a song: three segments that the artist model hears; longer ones are told apart no better here.
LONGEST_S = 30.0
# The column of the catalogue that says who plays. Only the figures are made with it.
TRUTH = "true_artist"
# Tracks to listen to in the report: two of each artist of a name that is split.
SNIPPETS = 4

Track = dict[str, str]


def draw_artists(seed: int) -> list[Any]:
    """Three `hashing.generated.artist.Artist`; the first two are to share a name.

    >>> [artist.genres[0] for artist in draw_artists(1)]
    ['classical', 'metal', 'folk']
    """
    from hashing.generated.artist import Artist

    return [Artist.draw(len(CAST) * seed + i, genre) for i, genre in enumerate(CAST)]


def render_artists(folder: str, seconds: float, seed: int) -> list[Track]:
    """Writes their songs to a folder; returns rows of a catalogue with a column `TRUTH`."""
    from hashing.audio import encode

    artists = draw_artists(seed)
    names = [artists[0].name, artists[0].name, artists[2].name]
    if names[2] == names[0]:
        names[2] = f"{names[2]} Trio"
    rows = []
    for (number, artist), place in ((pair, i) for pair in enumerate(artists) for i in range(SONGS)):
        song = artist.song(place * ALBUMS // SONGS, place, seconds=min(seconds, LONGEST_S))
        track_id = f"song-{number}{place:02d}"
        row = {"track_id": track_id, "uri": f"{track_id}.ogg", "title": song.title}
        encode(song.samples, song.sample_rate, os.path.join(folder, row["uri"]), codec="ogg")
        rows.append(
            {**row, "artist_name": names[number], "album": song.album, TRUTH: f"artist {number}"}
        )
    return rows


def judge_names(out: str, catalog: str, index: str, songs: Sequence[Track], **how: Any) -> Any:
    """Disambiguates their names as ``hashbeam disambiguate`` does, and says what came of each.

    Args:
        out: folder of the results.
        songs: rows that `render_artists` gave.
        how: more options of `pipelines.disambiguation.options.DisambiguateOptions`.

    Returns:
        A dict for each name, see `tell_name`, in the order of the songs.
    """
    from pipelines.disambiguation.options import DisambiguateOptions
    from pipelines.disambiguation.run import disambiguate

    names = tuple(dict.fromkeys(song["artist_name"] for song in songs))
    options = DisambiguateOptions(
        catalog, out, index=index, names=names, truth=TRUTH, snippets=SNIPPETS, **how
    )
    disambiguate(options)
    table = parquet.read_table(io.join(out, "clusters.parquet"), ["track_id", "cluster", "status"])
    found = {row["track_id"]: (row["cluster"], row["status"]) for row in table.to_pylist()}
    return [tell_name(name, songs, found) for name in names]


def tell_name(
    name: str, songs: Sequence[Track], found: Mapping[str, tuple[int, str]]
) -> dict[str, Any]:
    """What became of a name.

    Args:
        found: track id → its cluster, 0 where it was left alone, and its status.

    Returns:
        ``artists``: how many there are; ``clusters``: number of songs of each that was found;
        ``right``: whether the clusters are the artists; ``left_alone``: why, if it was.

    >>> songs = [{"track_id": t, "artist_name": "A", TRUTH: who} for t, who in ("ax", "bx", "cy")]
    >>> told = tell_name("A", songs, {t: (n, "clustered") for t, n in zip("abc", (1, 1, 2))})
    >>> told["artists"], told["clusters"], told["right"]
    (2, [2, 1], True)
    """
    own = [song for song in songs if song["artist_name"] == name]
    pairs = {(song[TRUTH], found[song["track_id"]][0]) for song in own}
    artists = len({artist for artist, _ in pairs})
    sizes = Counter(found[song["track_id"]][0] for song in own)
    left_alone = next((found[song["track_id"]][1] for song in own if 0 in sizes), "")
    return {
        "name": name,
        "songs": len(own),
        "artists": artists,
        "clusters": [] if left_alone else [sizes[number] for number in sorted(sizes)],
        "right": not left_alone and len(pairs) == artists == len(sizes),
        "left_alone": left_alone,
    }
