"""The music of the study of forgiving hash: songs to learn, and databases of songs unheard.

Baluja & Covell, "Learning 'Forgiving' Hash Functions" (IJCAI 2007): a snippet is 128 frames 11.6 ms
apart, snippets are 116 ms apart; ten of each song are learned; a database holds ten snippets of
3,800 other songs, or 200 of 6,500. Frames, bands and hop are those of
`hashing.features.BALUJA_COVELL`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import HashbeamError
from hashing.features import FeatureConfig, spectrogram
from hashing.snippets import snippets, standardise
from hashing.training.corpus import Corpus
from hashing.training.pool import QUIET_DB

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
View = Callable[[Floats], npt.NDArray[Any]]  # standardised snippets [n, cells] → [n, …]
Degrade = Callable[[Floats, int], Floats]  # samples, number of the track → samples of that length

SNIPPETS_LEARNED = 10  # of a song
PLACES_TRIED = 20  # for an excerpt that is not silence


@dataclasses.dataclass(frozen=True)
class Database:
    """Snippets of songs, as the views keep them.

    Attributes:
      song: [n] number of the song, from 0 on.
      place: [n] number of the snippet in its song: hops since its first; silent ones are left out.
      views: name of each view, and what it gave, [n, …].
      tracks: the track of each song.
    """

    song: Integers
    place: Integers
    views: dict[str, npt.NDArray[Any]]
    tracks: list[int]

    def __len__(self) -> int:
        return len(self.song)

    @property
    def songs(self) -> int:
        """Songs with a snippet."""
        return len(self.tracks)


def span(count: int, config: FeatureConfig) -> int:
    """Samples under `count` snippets one hop apart.

    >>> from hashing.features import BALUJA_COVELL
    >>> round(span(10, BALUJA_COVELL) / BALUJA_COVELL.sample_rate, 2)
    2.89
    """
    frames = config.snippet_frames + (count - 1) * config.snippet_hop
    return (frames - 1) * config.hop_length + config.n_fft


def one_of_each(
    tracks: Sequence[int], recordings: Sequence[str], rng: np.random.Generator
) -> list[int]:
    """The tracks in random order, one for each recording (`recordings`: a name for each track).

    >>> sorted(one_of_each([0, 2], ["a", "b", "a"], np.random.default_rng(1)))[0] in (0, 2)
    True
    """
    chosen: dict[str, int] = {}
    for track in rng.permutation(np.asarray(tracks, dtype=np.int64)).tolist():
        chosen.setdefault(recordings[track], track)
    return list(chosen.values())


def songs_to_learn(
    music: Corpus,
    tracks: Sequence[int],
    count: int,
    config: FeatureConfig,
    rng: np.random.Generator,
    each: int = SNIPPETS_LEARNED,
) -> Floats:
    """An excerpt of `count` of the tracks, as `each` standardised snippets: [count, each, cells].

    Excerpts start at random places that are not silent (`hashing.training.pool.QUIET_DB`).

    Raises:
      HashbeamError: fewer tracks hold such a place.
    """
    needed = span(each, config)
    found: list[Floats] = []
    for track in tracks:
        if len(found) == count:
            break
        room = int(music.starts[track + 1] - music.starts[track]) - needed
        for _ in range(PLACES_TRIED if room >= 0 else 0):
            samples = music.excerpt(track, int(rng.integers(room + 1)), needed)
            cut, _ = snippets(spectrogram([samples], config), config)
            if np.mean(samples**2) > 10.0 ** (QUIET_DB / 10.0) and len(cut) == each:
                found.append(standardise(cut, config))
                break
    if len(found) < count:
        raise HashbeamError(
            f"{count} songs are to be learned, and {len(found)} tracks of other recordings are "
            f"long and loud enough: add music, or lower --outputs to {_outputs(len(found))}"
        )
    return np.stack(found)


def _outputs(songs: int) -> int:
    return max(1, songs.bit_length() - 1)


def whole_songs(
    music: Corpus,
    tracks: Sequence[int],
    count: int,
    config: FeatureConfig,
    views: Mapping[str, View],
    degrade: Degrade | None = None,
) -> Database:
    """Up to `count` consecutive snippets from the middle of each track, silent ones left out.

    With `degrade`, the same snippets of the music degraded: which are silent is decided before.
    Tracks without any sound are left out.
    """
    build = _Builder(config, views)
    for track in tracks:
        length = int(music.starts[track + 1] - music.starts[track])
        needed = min(length, span(count, config))
        samples = music.excerpt(track, (length - needed) // 2, needed)
        heard = None if degrade is None else degrade(samples, track)
        build.add(samples, heard, track)
    return build.database()


def excerpts(
    music: Corpus,
    tracks: Sequence[int],
    count: int,
    config: FeatureConfig,
    views: Mapping[str, View],
    rng: np.random.Generator,
    each: int = SNIPPETS_LEARNED,
) -> Database:
    """Up to `count` excerpts of `each` snippets as songs of their own.

    No two excerpts share a sample; of those that the tracks hold, `count` are drawn. Excerpts with
    a silent snippet are left out.
    """
    needed = span(each, config)
    places = [
        (track, first * needed)
        for track in tracks
        for first in range(int(music.starts[track + 1] - music.starts[track]) // needed)
    ]
    chosen = rng.permutation(len(places))[:count]
    build = _Builder(config, views, least=each)
    for at in np.sort(chosen).tolist():
        track, first = places[at]
        build.add(music.excerpt(track, first, needed), None, track)
    return build.database()


class _Builder:
    """Collects the snippets of songs."""

    def __init__(self, config: FeatureConfig, views: Mapping[str, View], least: int = 1) -> None:
        self._config, self._views, self._least = config, views, least
        self._song: list[Integers] = []
        self._place: list[Integers] = []
        self._kept: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in views}
        self._tracks: list[int] = []

    def add(self, samples: Floats, heard: Floats | None, track: int) -> None:
        config = self._config
        cut, starts = snippets(spectrogram([samples], config), config)
        if len(cut) < self._least:
            return
        if heard is not None:
            spec = spectrogram([heard], config)
            windows = np.lib.stride_tricks.sliding_window_view(spec, config.snippet_frames, axis=0)
            cut = windows[starts]
        inputs = standardise(cut, config)
        for name, view in self._views.items():
            self._kept[name].append(view(inputs))
        self._song.append(np.full(len(starts), len(self._tracks), dtype=np.int64))
        self._place.append(starts.astype(np.int64) // config.snippet_hop)
        self._tracks.append(track)

    def database(self) -> Database:
        if not self._tracks:
            raise HashbeamError("no music is left to look up: every track is silent or too short")
        views = {name: np.concatenate(kept) for name, kept in self._kept.items()}
        return Database(
            np.concatenate(self._song), np.concatenate(self._place), views, self._tracks
        )
