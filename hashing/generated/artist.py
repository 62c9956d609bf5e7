"""A generated artist: everything that its songs share, and what albums and songs change."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hashing.generated import names
from hashing.generated.arrangement import Manner
from hashing.generated.composition import Habits, compose
from hashing.generated.drums import Kit, draw_beats
from hashing.generated.genres import GENRES
from hashing.generated.performance import ROLES, Score, play
from hashing.generated.production import Production
from hashing.generated.timbres import Instrument, Samples
from hashing.generated.tunes import DARK, SCALES, Tune, excerpt, read_tune

STREAM = 0xA271  # keeps these draws apart from other users of the same seed
SAMPLE_RATE = 22050

# How far artists of a genre differ, and how far one artist's albums and songs do. Set so that MFCC
# statistics with Ward linkage are far from telling generated artists apart (adjusted Rand index .45
# over groups of 2 to 4, .26 within a genre, .50 across genres; 96 artists). Richer statistics do
# better here than on real music: figures compare systems, and are no forecast.
ARTIST_EQ_DB = 2.2
ALBUM_EQ_DB, ALBUM_SPREAD = 1.8, 0.22
SONG_EQ_DB, SONG_SPREAD = 2.6, 0.3
BALANCE_DB = (2.0, 3.5)  # levels of the players: by artist, by song
GUEST = 0.25  # chance that a song's part is played by somebody of the genre, not by the artist
_BALANCE = (0.0, -6.0, -6.0, -2.0, -3.0)  # usual levels of lead, second, chords, bass, drums (dB)
_MOOD_TEMPO = {"calm": 0.88, "sad": 0.9, "romantic": 0.9, "energetic": 1.08}  # others: 1


@dataclasses.dataclass(frozen=True)
class Song:
    """One song: its samples [n], mono float32 at `sample_rate` Hz, and what a catalogue says."""

    title: str
    artist_name: str
    album: str
    genres: tuple[str, ...]
    mood: str
    release_date: str
    tempo: float
    samples: Samples
    sample_rate: int = SAMPLE_RATE

    @property
    def year(self) -> int:
        """The year of the release date."""
        return int(self.release_date[:4])


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a catalogue says about a song; nothing of it has been rendered."""

    title: str
    album: str
    genres: tuple[str, ...]
    mood: str
    release_date: str


@dataclasses.dataclass(frozen=True)
class Artist:
    """An artist of one genre, drawn from a seed: equal seeds are equal artists."""

    seed: int
    name: str
    genres: tuple[str, ...]
    first_year: int
    instruments: dict[str, tuple[Instrument, ...]]
    kit: Kit | None
    beats: tuple[tuple[tuple[float, ...], ...], ...]
    production: Production
    manner: Manner
    habits: Habits
    tempo: float
    tempo_spread: float
    scales: tuple[str, ...]
    keys: tuple[int, ...]
    moods: tuple[str, ...]
    levels_db: tuple[float, ...]
    density: float
    second: float  # chance that a section has the second voice

    @classmethod
    def draw(cls, seed: int, genre: str | None = None) -> Artist:
        """Draw the artist of a seed, of a genre of `GENRES`, or of one that the seed draws.

        >>> Artist.draw(7) == Artist.draw(7), Artist.draw(7, "jazz").genres[0]
        (True, 'jazz')
        """
        if genre is not None and genre not in GENRES:
            raise ValueError(f"genre {genre!r} is none of {', '.join(GENRES)}")
        rng = np.random.default_rng([STREAM, seed])
        drawn = str(rng.choice(list(GENRES)))
        g = GENRES[genre or drawn]
        genres: tuple[str, ...] = (g.name,)
        if rng.random() < 0.2:  # a second tag, which says little about the sound
            genres = (g.name, str(rng.choice([other for other in GENRES if other != g.name])))
        lo, hi = g.years
        first_year = int(rng.integers(lo, hi - 3))
        kit = str(rng.choice(g.kit.split()))
        scales = rng.choice(g.scales.split(), int(rng.integers(2, 4)))
        keys = rng.choice(12, int(rng.integers(3, 7)), replace=False)
        return cls(
            seed,
            names.artist_name(rng),
            genres,
            first_year,
            {role: _palette(getattr(g, role), rng) for role in ROLES},
            None if kit == "none" else Kit.draw(kit, rng),
            draw_beats(g, rng),
            Production.draw(g, first_year, ARTIST_EQ_DB, rng),
            Manner.draw(g, rng),
            Habits.draw(rng),
            float(np.clip(rng.normal(*g.tempo), 55, 200)),
            rng.uniform(0.05, 0.14),
            tuple(scales.tolist()),
            tuple((keys - 6).tolist()),
            tuple(rng.choice(g.moods.split(), 3).tolist()),
            tuple((np.array(_BALANCE) + rng.normal(0, BALANCE_DB[0], len(_BALANCE))).tolist()),
            rng.uniform(0.5, 1.0),
            rng.uniform(*g.more),
        )

    def facts(self, album: int, number: int) -> Facts:
        """Title, album, mood and date of song `number` of an album, without rendering it."""
        rng = np.random.default_rng([STREAM, self.seed, 1, album])
        album_title = names.title(rng)
        gap = int(rng.integers(0, 2))
        newest = GENRES[self.genres[0]].years[1]
        year = min(self.first_year + 2 * album + gap, newest)
        day = datetime.date(year, 1, 1) + datetime.timedelta(days=int(rng.integers(0, 365)))
        rng = np.random.default_rng([STREAM, self.seed, 2, album, number])
        mood = str(rng.choice(self.moods))
        return Facts(names.title(rng), album_title, self.genres, mood, day.isoformat())

    def song(
        self,
        album: int,
        number: int,
        *,
        seconds: float = 30.0,
        tunes: Sequence[Path] = (),
        guest: Artist | None = None,
        sample_rate: int = SAMPLE_RATE,
    ) -> Song:
        """Render song `number` of album `album` (both from 0).

        `tunes` are MIDI files (`tune_files`), of which the artist plays some; without them it
        composes all of its songs. A `guest` sings every other section. The same arguments give
        the same samples.

        >>> Artist.draw(3).song(0, 1, seconds=2.0, sample_rate=8000).samples.shape
        (16000,)
        """
        if not 0.5 <= seconds <= 3600 or album < 0 or number < 0 or sample_rate < 4000:
            raise ValueError(f"{seconds=} {album=} {number=} {sample_rate=}: nothing to render")
        facts = self.facts(album, number)
        rng = np.random.default_rng([STREAM, self.seed, 3, album, number])
        score = self._score(album, facts.mood, seconds, tunes, guest, rng)
        samples = play(score, seconds, sample_rate, int(rng.integers(1 << 30)))
        name = self.name if guest is None else f"{self.name}; {guest.name}"
        facts_of = (facts.title, name, facts.album, facts.genres, facts.mood, facts.release_date)
        return Song(*facts_of, score.tempo, samples, sample_rate)

    def _score(
        self,
        album: int,
        mood: str,
        seconds: float,
        tunes: Sequence[Path],
        guest: Artist | None,
        rng: np.random.Generator,
    ) -> Score:
        g = GENRES[self.genres[0]]
        instruments, kit, production = _album(self, album)
        players = {role: _choose(instruments[role], rng) for role in ROLES}
        for role in ROLES:
            if rng.random() < GUEST:
                kind = str(rng.choice(getattr(g, role).split()))
                players[role] = Instrument.draw(kind, rng)
        tempo = self.tempo * float(np.exp(rng.normal(0, self.tempo_spread)))
        tempo = float(np.clip(tempo * _MOOD_TEMPO.get(mood, 1.0), 50, 210))
        tune = self._tune(seconds, tempo, tunes, rng)
        fitting = [s for s in self.scales if (s in DARK) == (mood in ("sad", "dark"))]
        sections = np.arange(round(len(tune.chords) / 2)) // int(rng.choice([4, 4, 8]))
        n = int(sections[-1]) + 1
        density = float(np.clip(self.density + rng.normal(0, 0.15), 0.3, 1.0))
        instrumental = rng.random() < 0.12
        drums = (
            kit if rng.random() < (0.75 if mood in ("calm", "sad", "romantic") else 0.97) else None
        )
        chances = {"lead": 0.9, "second": self.second, "chords": 0.92, "bass": 0.92, "drums": 0.92}
        if instrumental:
            chances["lead"], chances["second"] = 0.25, 0.5
        if guest is not None:
            chances["lead"] = 1.0
        playing = {r: tuple((rng.random(n) < c).tolist()) for r, c in chances.items()}
        levels = np.array(self.levels_db) + rng.normal(0, BALANCE_DB[1], len(self.levels_db))
        return Score(
            tune,
            SCALES[str(rng.choice(fitting or list(self.scales)))],
            int(rng.choice(self.keys)),
            tempo,
            self.manner,
            str(rng.choice(self.manner.comping)),
            str(rng.choice(self.manner.walking)),
            density,
            players,
            None if guest is None else _choose(_album(guest, 0)[0]["lead"], rng),
            drums,
            self.beats[rng.integers(len(self.beats))],
            sections,
            playing,
            tuple(levels.tolist()),
            max(0.0, production.drive + rng.normal(0, 0.2 * production.drive)),
            production.vary(rng, SONG_EQ_DB, SONG_SPREAD, room=False),
        )

    def _tune(
        self, seconds: float, tempo: float, tunes: Sequence[Path], rng: np.random.Generator
    ) -> Tune:
        """A tune long enough, from the files by the genre's habit, or of the artist's own."""
        g = GENRES[self.genres[0]]
        tune = None
        if tunes and rng.random() < g.tunes:
            tune = read_tune(tunes[int(rng.integers(len(tunes)))])
        if tune is None:
            tune = compose(self.habits, 3.0 if rng.random() < g.waltz else 4.0, rng)
        bars = int(np.ceil(seconds * tempo / 60 / tune.bar)) + 1
        first = int(rng.integers(max(1, len(tune.chords) // 2 - bars // 2)))
        return excerpt(tune, first, bars)


@functools.lru_cache(maxsize=8)
def _album_of(
    seed: int, genre: str, album: int
) -> tuple[dict[str, tuple[Instrument, ...]], Kit | None, Production]:
    artist = Artist.draw(seed, genre)
    rng = np.random.default_rng([STREAM, seed, 4, album])
    instruments = {
        role: tuple(player.vary(rng, ALBUM_SPREAD) for player in players)
        for role, players in artist.instruments.items()
    }
    kit = None if artist.kit is None else artist.kit.vary(rng, ALBUM_SPREAD / 2)
    return instruments, kit, artist.production.vary(rng, ALBUM_EQ_DB, ALBUM_SPREAD)


def _album(
    artist: Artist, album: int
) -> tuple[dict[str, tuple[Instrument, ...]], Kit | None, Production]:
    """Instruments, kit and studio of an album: the artist's, each a little different."""
    return _album_of(artist.seed, artist.genres[0], album)


def _palette(kinds: str, rng: np.random.Generator) -> tuple[Instrument, ...]:
    """Two or three instruments; the first is the artist's favourite."""
    chosen = rng.choice(kinds.split(), int(rng.integers(2, 4)))
    return tuple(Instrument.draw(str(kind), rng) for kind in chosen)


def _choose(players: tuple[Instrument, ...], rng: np.random.Generator) -> Instrument:
    return players[0 if rng.random() < 0.6 else int(rng.integers(len(players)))]
