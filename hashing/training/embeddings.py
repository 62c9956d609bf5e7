"""Embeddings of a corpus by any encoder: what hashers are fitted to, and judged by.

Whatever stands on embeddings (rounding, sign hashes, product quantizers, trained heads) takes them
as arrays, and so does not care whether the encoder was trained here or brought along:

    hasher = Hasher.load("models/imported")
    clean = clean_embeddings(hasher.respond, hasher.features, corpus, tracks, 16_384, seed=1)
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
from hashing.snippets import snippets
from hashing.training.augment import degrade
from hashing.training.corpus import Corpus
from hashing.training.pool import LEAD_SECONDS

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Snippets in dB [n, bands, frames] → what a model says about them, as `Hasher.respond`.
Respond = Callable[[Floats], Answer]

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
    respond: Respond,
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
        if spec.shape[0] < features.snippet_frames:
            continue
        cut, starts = snippets(spec, features, hop)
        if not starts.size:
            continue
        answer = respond(cut)
        if answer.embeddings is None:
            raise ModelError("the model has no embeddings: name one that stands on an encoder")
        found.append(answer.embeddings.astype(np.float16))
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
    respond: Respond,
    features: FeatureConfig,
    corpus: Corpus,
    tracks: Sequence[int],
    n: int,
    surroundings: Surroundings,
    seed: int,
    respond_heard: Respond | None = None,
) -> Pairs:
    """Clean snippets, and the same moments degraded and up to half a query hop late.

    That is as far as the nearest of a query's snippets is from one of the index. The degraded ones
    are given to `respond_heard`, where a model answers queries with another graph. Errors as
    `clean_embeddings`.
    """
    rng = np.random.default_rng([seed, 2])
    lead = int(LEAD_SECONDS * corpus.sample_rate)
    late = features.query_hop * features.hop_length // 2
    needed = features.snippet_samples
    kept: list[tuple[int, Floats, Floats]] = []
    for track, first in _places(corpus, tracks, needed + late, DRAWS * n, rng):
        if len(kept) == n:
            break
        audio = corpus.excerpt(track, first - lead, lead + needed + late)
        shift = lead + int(rng.integers(late + 1))
        heard = degrade(audio, surroundings, rng)[shift : shift + needed]
        spectra = [
            snippets(spectrogram([part], features), features)[0]
            for part in (audio[lead : lead + needed], heard)
        ]
        if all(map(len, spectra)):
            kept.append((track, spectra[0][0], spectra[1][0]))
    clean = _embedded(respond, ((track, cut) for track, cut, _ in kept), len(kept))
    heard_too = _embedded(
        respond_heard or respond, ((track, cut) for track, _, cut in kept), len(kept)
    )
    return Pairs(clean.embeddings, heard_too.embeddings, clean.track)


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
        answer = respond(np.stack(batch))
        if answer.embeddings is None:
            raise ModelError("the model has no embeddings: name one that stands on an encoder")
        found.append(answer.embeddings)
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
