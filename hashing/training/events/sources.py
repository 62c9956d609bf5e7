"""Catalogues of clips that an encoder or a quantizer learns from."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing.events.spectra import Spectra, hear
from hashing.features import FeatureConfig
from hashing.taxonomy import Taxonomy
from hashing.training.events.encoder import Labelled
from hashing.training.events.labels import LabelSets

Ints = npt.NDArray[np.int64]

# One file in so many, by its id, is not learned from: by these the figures on the way are told.
HELD_OUT = 20


@dataclasses.dataclass(frozen=True)
class Source:
    """A catalogue.

    Attributes:
      name: of the catalogue, for the model card.
      ids, paths: of its files.
      labels: of each file, sorted; empty where there are none, or none that may be known.
    """

    name: str
    ids: Sequence[str]
    paths: Sequence[str]
    labels: Sequence[tuple[str, ...]]

    def held_out(self) -> npt.NDArray[np.bool_]:
        """Which files are not learned from; the same whatever else is in the catalogue."""
        digests = [hashlib.sha256(one.encode()).digest() for one in self.ids]
        return np.array([int.from_bytes(one[:4], "big") % HELD_OUT == 0 for one in digests], bool)


@dataclasses.dataclass(frozen=True)
class Heard:
    """The windows of some catalogues.

    Attributes:
      spectra: of all, `file` counted over all catalogues.
      sources: the catalogues.
      first: number of each catalogue's first file.
    """

    spectra: Spectra
    sources: Sequence[Source]
    first: Sequence[int]

    def learned(self) -> Spectra:
        """The windows that are learned from."""
        kept = np.flatnonzero(~self.held_out()[self.spectra.file])
        return self._take(kept)

    def unheard(self) -> Spectra:
        """The others."""
        return self._take(np.flatnonzero(self.held_out()[self.spectra.file]))

    def held_out(self) -> npt.NDArray[np.bool_]:
        """Which files, counted over all catalogues, are not learned from."""
        return np.concatenate([source.held_out() for source in self.sources])

    def labelled(self, spectra: Spectra, taxonomy: Taxonomy | None = None) -> list[Labelled]:
        """The labelled windows among `spectra`, by catalogue; those without labels have none."""
        found = []
        for source, first in zip(self.sources, self.first, strict=True):
            own = (spectra.file >= first) & (spectra.file < first + len(source.ids))
            rows = np.flatnonzero(own)
            labels = [source.labels[at] for at in (spectra.file[rows] - first).tolist()]
            told = np.array([bool(one) for one in labels], bool)
            if told.any():
                sets = LabelSets.from_clips([one for one in labels if one], taxonomy)
                found.append(Labelled(rows[told], sets))
        return found

    def _take(self, rows: Ints) -> Spectra:
        spectra = self.spectra
        return dataclasses.replace(
            spectra,
            levels=spectra.levels[rows],
            file=spectra.file[rows],
            start_frame=spectra.start_frame[rows],
        )


def hear_sources(
    sources: Sequence[Source],
    folder: Path,
    config: FeatureConfig,
    workers: int,
    log: Callable[[str], None],
) -> Heard:
    """The windows of all files of catalogues, which are kept in `folder`.

    Raises:
      HashbeamError: a catalogue of which not one file can be heard.
    """
    found, first, total = [], [], 0
    for source in sources:
        heard = hear(source.paths, folder, config, workers=workers, log=log)
        for at, (kind, message) in sorted(heard.failures.items())[:3]:
            log(f"{source.name}: {source.ids[at]} cannot be heard ({kind}: {message})")
        if len(heard.failures) > 3:
            log(f"{source.name}: and {len(heard.failures) - 3} more")
        found.append(heard)
        first.append(total)
        total += len(source.ids)
    spectra = Spectra(
        np.concatenate([one.levels for one in found]),
        np.concatenate([one.file + at for one, at in zip(found, first, strict=True)]),
        np.concatenate([one.start_frame for one in found]),
        {},
        config,
    )
    return Heard(spectra, list(sources), first)
