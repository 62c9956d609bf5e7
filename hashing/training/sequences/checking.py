"""How good networks are on songs that they do not learn from, on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from hashing import cqt
from hashing.alignment import hash_scores
from hashing.cascade import likeness
from hashing.midi_figures import bhattacharyya, mean_reciprocal_rank, ranks
from hashing.sequences import BITS, SequenceFeatures, pack_codes
from hashing.training.sequences.corpus import CHOOSE, LEARN, Song
from hashing.training.sequences.features import TRAINING_FONTS
from hashing.training.sequences.settings import Head, Network, SequenceTraining

Floats = npt.NDArray[np.float32]

# Songs that choose, and others beside them, whose performances are the database on the way.
CHECK_DATABASE = 400
CHECK_DISTANCES = 100_000  # of foreign steps, for the Bhattacharyya coefficient


@dataclasses.dataclass(frozen=True)
class Check:
    """Scores that ask, and performances among which they ask, of songs that are not learned from.

    Attributes:
      scores: heard frames of each query.
      played: of each recording; those of the queries come first.
      steps: for the Bhattacharyya coefficient: the score's step of each step of a performance, -1
        for none.
    """

    scores: list[Floats]
    played: list[Floats]
    steps: list[npt.NDArray[np.int64]]

    @classmethod
    def of(
        cls,
        songs: Sequence[Song],
        settings: SequenceTraining,
        role: str = CHOOSE,
        database: int = CHECK_DATABASE,
    ) -> Check:
        """A fixed examination by the songs of a role, among so many recordings."""
        rng = settings.seeds(3)
        asked = [song for song in songs if song.role == role][:database]
        others = [song for song in songs if song.role == LEARN]
        others = [others[n] for n in rng.permutation(len(others))[: database - len(asked)]]
        scores, played = list[Floats](), list[Floats]()
        steps = list[npt.NDArray[np.int64]]()
        down, middle = settings.size.downsampling, (settings.size.downsampling - 1) / 2
        for song in [*asked, *others]:
            fonts = [one for one in song.played if one.font in TRAINING_FONTS]
            one = fonts[rng.integers(len(fonts))]
            played.append(cqt.heard_frames(one.magnitudes.astype(np.float32)))
            if len(scores) < len(asked):
                levels = song.scores[settings.scores[int(rng.integers(len(settings.scores)))]]
                scores.append(cqt.heard_frames(levels.astype(np.float32)))
                count = len(one.score_frame) // down
                at = one.score_frame[down // 2 :: down][:count]
                step = np.round((at - 0.5 - middle) / down)
                fits = np.isfinite(step) & (step >= 0) & (step < len(levels) // down)
                steps.append(np.where(fits, np.nan_to_num(step), -1).astype(np.int64))
        return cls(scores, played, steps)

    def figures(self, network: Network) -> dict[str, float]:
        """``mrr`` by Hamming DTW, and the Bhattacharyya coefficient ``bc`` of steps."""
        read = [pack_codes(outputs(network, frames, "score")[1]) for frames in self.scores]
        heard = [pack_codes(outputs(network, frames, "audio")[1]) for frames in self.played]
        truth = np.arange(len(read))
        codes, offsets = np.concatenate(heard), np.cumsum([0, *map(len, heard)])
        bits = np.stack([hash_scores(query, codes, offsets) for query in read])
        found = ranks(-bits, truth)
        one = np.concatenate([h[: len(s)][s >= 0] for h, s in zip(heard, self.steps, strict=False)])
        other = np.concatenate([r[s[s >= 0]] for r, s in zip(read, self.steps, strict=True)])
        same = np.bitwise_count(one ^ other)
        rng = np.random.default_rng(1)
        left, right = (rng.integers(len(one), size=CHECK_DISTANCES) for _ in range(2))
        foreign = np.bitwise_count(one[left] ^ other[right])
        return {
            "mrr": mean_reciprocal_rank(found),
            "first": float((found == 1).mean()),
            "bc": bhattacharyya(same, foreign, np.arange(BITS + 2.0)),
            "same": float(same.mean()),
            "foreign": float(foreign.mean()),
        }

    def embedding_figures(self, network: Network, head: Head) -> dict[str, float]:
        """``mrr``, and the share of the database ``p97`` that must be kept to lose 3 %."""
        read = [embed(network, head, frames, "score") for frames in self.scores]
        heard = [embed(network, head, frames, "audio") for frames in self.played]
        offsets, stacked = np.cumsum([0, *map(len, heard)]), np.concatenate(heard)
        near = np.stack([likeness(query, stacked, offsets) for query in read])
        found = ranks(near, np.arange(len(read)))
        return {
            "mrr": mean_reciprocal_rank(found),
            "p97": float(np.quantile(found, 0.97) / len(heard)),
            "kept10": float((found <= len(heard) / 10).mean()),
        }


def outputs(network: Network, frames: Floats, side: str) -> tuple[Floats, Floats]:
    """Features and outputs of one sequence of frames."""
    device = next(network.parameters()).device
    with torch.no_grad():
        found = network(torch.from_numpy(frames)[None].to(device), side)
    features, bits = (part[0].float().cpu().numpy() for part in found)
    return features, bits


def embed(network: Network, head: Head, frames: Floats, side: str) -> Floats:
    """Embeddings of the windows of one sequence of frames [n, d], of length one."""
    device = next(head.parameters()).device
    features, codes = outputs(network, frames, side)
    each = network.size.downsampling if len(features) > len(codes) else 1  # features of a code
    steps = torch.from_numpy(features).to(device)
    found = []
    with torch.no_grad():
        for part in SequenceFeatures().windows(len(codes)):
            window = steps[None, part.start * each : part.stop * each]
            found.append(torch.nn.functional.normalize(head(window, side), dim=1))
    return np.asarray(torch.cat(found).cpu().numpy(), np.float32)
