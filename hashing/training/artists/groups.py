"""Names that several artists share, made up of artists that do not, to compare embeddings with.

How Royo-Letelier et al. (ISMIR 2018) judge: the tracks of each name are clustered by Ward's method,
cut at a distance that suits the names of other artists.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster

from hashing.artists.cuts import ami_at, best_cut
from hashing.artists.homonyms import draw_sizes
from hashing.clusters.scores import score_clusters
from hashing.clusters.ward import ward

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Distances that are tried as a cut: of embeddings of length one, Ward's are between 0 and the root
# of twice the tracks.
CUTS = np.geomspace(0.05, 8.0, 80)


@dataclasses.dataclass(frozen=True)
class Groups:
    """Names, as trees of their tracks.

    Attributes:
      truth: artist of each track of a name.
      linkages: Ward's tree of each name, as scipy has it.
    """

    truth: list[Ints]
    linkages: list[npt.NDArray[np.float64]]

    @classmethod
    def draw(cls, embeddings: Floats, artists: Ints, n: int, rng: np.random.Generator) -> Groups:
        """`n` names of random artists with all their tracks.

        Args:
          embeddings: of tracks, [tracks, d].
          artists: of each track, [tracks]; two at least.
        """
        names = np.unique(artists)
        truth, linkages = [], []
        for size in draw_sizes(n, len(names), rng):
            own = rng.choice(names, size, replace=False)
            rows = np.flatnonzero(np.isin(artists, own))
            truth.append(artists[rows])
            linkages.append(np.asarray(ward(embeddings[rows], cut=1.0).linkage))
        return cls(truth, linkages)

    def scores(self, cut: float) -> dict[str, float]:
        """``ari`` and ``ami``, means over the names, at one cut."""
        found = [
            score_clusters(truth, fcluster(linkage, cut, "distance"))
            for truth, linkage in zip(self.truth, self.linkages, strict=True)
        ]
        return {
            "ari": float(np.mean([one.ari for one in found])),
            "ami": float(np.mean([one.ami for one in found])),
        }

    def best_cut(self, cuts: Sequence[float] = tuple(CUTS.tolist())) -> float:
        """The cut with the highest ``ami``, as in the paper; the middle one of equals."""
        ami = [
            ami_at(truth, linkage, cuts)
            for truth, linkage in zip(self.truth, self.linkages, strict=True)
        ]
        return float(cuts[best_cut(np.array(ami))])
