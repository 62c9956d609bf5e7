"""Embeddings of a corpus by any encoder: what hashers are fitted to, and judged by.

Whatever stands on embeddings (rounding, sign hashes, product quantizers, trained heads) takes them
as arrays, and so does not care whether the encoder was trained here or brought along:

    hasher = Hasher.load("models/imported")
    clean = dense_embeddings(hasher.respond_in_track, hasher.features, corpus, tracks, hop=16)
    keys = hashing.binary.itq(clean.embeddings, bits=256)
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import tqdm

from hashing.conditions import Surroundings
from hashing.errors import HashbeamError, ModelError
from hashing.features import FeatureConfig, spectrogram
from hashing.fronts import Answer
from hashing.snippets import audible, snippets
from hashing.training.augment import degrade
from hashing.training.corpus import Corpus
from hashing.training.pool import LEAD_SECONDS

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Snippets in dB [n, bands, frames] → what a model says about them, as `Hasher.respond`.
Respond = Callable[[Floats], Answer]

# A spectrogram in dB and first frames of snippets → what it says about these, as
# `Hasher.respond_in_track`.
RespondInTrack = Callable[[Floats, npt.NDArray[np.integer]], Answer]

# Music around a snippet that is heard in its track, in lengths of a snippet: more than any front
# takes in.
AROUND = 2

# Snippets that an encoder gets at once.
BATCH = 256

# Places drawn for each snippet that is wanted: music that is silent for half of its length still
# gives enough.
DRAWS = 2


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Embeddings [n, d] of snippets, and the track [n] that each is from."""

    embeddings: Floats
    track: Ints


def clean_embeddings(
    respond: Respond,
    features: FeatureConfig,
    corpus: Corpus,
    tracks: Sequence[int],
    n: int,
    seed: int,
) -> Embedded:
    """Embeddings of up to `n` snippets at random places of `tracks`; silent ones are left out.

    Raises:
      HashbeamError: all places are silent, or every track is shorter than a snippet.
      ModelError: the model has no embeddings.
    """
    rng = np.random.default_rng([seed, 1])
    needed = features.snippet_samples

    def cuts() -> Iterator[tuple[int, Floats]]:
        for track, first in _places(corpus, tracks, needed, DRAWS * n, rng):
            spec = spectrogram([corpus.excerpt(track, first, needed)], features)
            cut, starts = snippets(spec, features)
            if starts.size:
                yield track, cut[0]

    return _embedded(respond, itertools.islice(cuts(), n), n)


@dataclasses.dataclass(frozen=True)
class Dense:
    """Embeddings [n, d] of snippets one after another, track by track.

    Attributes:
      embeddings: [n, d], float16 as an index keeps them.
      track: of each, [n].
      frame: first frame of each within its track, [n]; silent snippets are missing.
    """

    embeddings: npt.NDArray[np.float16]
    track: Ints
    frame: Ints


def dense_embeddings(
    respond: RespondInTrack,
    features: FeatureConfig,
    corpus: Corpus,
    tracks: Sequence[int],
    hop: int,
) -> Dense:
    """Embeddings of all clean snippets of `tracks`, `hop` frames apart.

    Tracks that are too short or silent give none. Errors as `clean_embeddings`.
    """
    found: list[npt.NDArray[np.float16]] = []
    track, frame = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for number in tqdm.tqdm(tracks, desc="embed tracks", mininterval=5.0):
        spec = spectrogram([corpus.track(number)], features)
        starts = audible(spec, features, hop)
        if not starts.size:
            continue
        answer = respond(spec, starts)
        found.append(_embeddings(answer).astype(np.float16))
        track.append(np.full(starts.size, number, np.int64))
        frame.append(starts.astype(np.int64))
    if not found:
        raise HashbeamError("no track of the music is long and loud enough: add music")
    return Dense(np.concatenate(found), np.concatenate(track), np.concatenate(frame))


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Moments of music, clean and heard through something: embeddings [n, d] and tracks [n]."""

    clean: Floats
    heard: Floats
    track: Ints


def paired_embeddings(
    respond_in_track: RespondInTrack,
    respond: Respond,
    features: FeatureConfig,
    corpus: Corpus,
    tracks: Sequence[int],
    n: int,
    surroundings: Surroundings,
    seed: int,
) -> Pairs:
    """Clean snippets of tracks, and the same moments degraded and up to half a query hop late.

    That is as far as the nearest of a query's snippets is from one of the index. `respond` gets the
    degraded ones. Errors as `clean_embeddings`.
    """
    rng = np.random.default_rng([seed, 2])
    lead = int(LEAD_SECONDS * corpus.sample_rate)
    late = features.query_hop * features.hop_length // 2
    needed = features.snippet_samples
    lengths = np.diff(corpus.starts)
    clean, heard, numbers = list[Answer](), list[Floats](), list[int]()
    for track, first in _places(corpus, tracks, needed + late, DRAWS * n, rng):
        if len(heard) == n:
            break
        audio = corpus.excerpt(track, first - lead, lead + needed + late)
        shift = lead + int(rng.integers(late + 1))
        degraded = degrade(audio, surroundings, rng)[shift : shift + needed]
        cut, _ = snippets(spectrogram([degraded], features), features)
        spec, start = _around(corpus, track, first, int(lengths[track]), features)
        own = spec[start : start + features.snippet_frames]
        if len(cut) and audible(own, features).size:
            clean.append(respond_in_track(spec, np.array([start])))
            heard.append(cut[0])
            numbers.append(track)
    asked = _embedded(respond, zip(numbers, heard, strict=True), len(heard))
    return Pairs(_embeddings(Answer.join(clean)), asked.embeddings, asked.track)


def _around(
    corpus: Corpus, track: int, first: int, length: int, features: FeatureConfig
) -> tuple[Floats, int]:
    """The spectrogram around the snippet at sample `first`, and its first frame there."""
    hop, most = features.hop_length, AROUND * features.snippet_frames
    before = min(most, first // hop)
    begin = first - before * hop
    end = min(first + features.snippet_samples + most * hop, length)
    return spectrogram([corpus.excerpt(track, begin, end - begin)], features), before


def _places(
    corpus: Corpus, tracks: Sequence[int], needed: int, n: int, rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """`n` tracks and first samples, every place of all tracks equally likely."""
    lengths = np.diff(corpus.starts)[np.asarray(tracks, dtype=np.int64)]
    room = np.maximum(lengths - needed + 1, 0)
    if not room.sum():
        raise HashbeamError(
            f"no track is as long as a snippet ({needed / corpus.sample_rate:.2f} s): add music"
        )
    for number in rng.choice(len(tracks), size=n, p=room / room.sum()):
        yield tracks[int(number)], int(rng.integers(room[number]))


def _embedded(respond: Respond, cuts: Iterator[tuple[int, Floats]], n: int) -> Embedded:
    found: list[Floats] = []
    numbers: list[int] = []
    batch: list[Floats] = []

    def flush() -> None:
        if not batch:
            return
        found.append(_embeddings(respond(np.stack(batch))))
        batch.clear()

    with tqdm.tqdm(total=n, desc="embed snippets", mininterval=5.0) as bar:
        for track, cut in cuts:
            numbers.append(track)
            batch.append(cut)
            if len(batch) == BATCH:
                flush()
                bar.update(BATCH)
        bar.update(len(batch))
        flush()
    if not found:
        raise HashbeamError("the music is silent wherever it was listened to: add music")
    return Embedded(np.concatenate(found), np.array(numbers, dtype=np.int64))


def _embeddings(answer: Answer) -> Floats:
    if answer.embeddings is None:
        raise ModelError("the model has no embeddings: name one that stands on an encoder")
    return answer.embeddings
