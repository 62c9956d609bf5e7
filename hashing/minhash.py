"""Waveprint's hash: the largest wavelets of a snippet, Min-Hashed to bytes. Nothing is learned.

Baluja & Covell, "Content fingerprinting using wavelets" (CVMP 2006), the system that Forgiving Hash
was measured against. The spectrogram image goes through a Haar transform; of the largest
coefficients the signs are kept, two bits each, all others being zero; Min-Hash (Broder, 1997) turns
that sparse set into bytes, of which two agree with a probability equal to the share of elements
that the sets have in common (Jaccard similarity).

What differs from the paper is the image, which is this library's standardised log-mel snippet: one
second of 64 bands instead of 1.5 s of 32, so that hashers are compared on the same input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import codes
from hashing.errors import ModelError
from hashing.features import FeatureConfig
from hashing.models import Model

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint32]

# Bytes of a code, and tables of 4 bytes each: "Waveprint-2" of the paper.
PERMUTATIONS = 100
TABLES = 25

# Share of wavelets that are kept: half of the paper's 200 of 4,096. Of 4,288 degraded snippets of
# training music, 36 % are found among as many by their bytes; with the paper's share 32 %.
KEPT_SHARE = 100 / 4096

# Position that stands for itself and all later ones: one byte.
LAST_POSITION = 255

# Snippets hashed at once: positions of 50 wavelets in 100 permutations are then 0.6 MB, which stay
# in the L2 cache.
_CHUNK_ROWS = 128


class MinHash:
    """Bytes of Min-Hash; a front of its own in place of a graph.

    Args:
      shape: bands and frames of a snippet.
      kept: wavelets whose sign counts.
      positions: uint8 [2 * wavelets, code_bytes], where each permutation puts each element, capped
        at 255. Element ``2 * w`` is wavelet `w` being positive, ``2 * w + 1`` its being negative.
      n_tables: tables, each of which takes the next ``code_bytes // n_tables`` bytes as its key, or
        the first four of them.

    >>> hasher = MinHash.draw(FeatureConfig(), seed=1)
    >>> hasher.code_bytes, hasher.n_tables, hasher.key_bits_max
    (100, 25, 32)
    """

    replication = 1.0

    def __init__(self, shape: tuple[int, int], kept: int, positions: Bytes, n_tables: int) -> None:
        transforms = [haar_matrix(_power_of_two(side)) @ _stretched(side) for side in shape]
        self._bands, self._frames = (matrix.astype(np.float32) for matrix in transforms)
        wavelets = len(self._bands) * len(self._frames)
        if positions.ndim != 2 or positions.dtype != np.uint8 or not positions.size:
            raise ModelError(f"positions must be bytes, got {positions.dtype} {positions.shape}")
        if len(positions) != 2 * wavelets:
            raise ModelError(f"has positions of {len(positions)} elements, not {2 * wavelets}")
        self.code_bytes = positions.shape[1]
        if not 1 <= kept <= wavelets:
            raise ModelError(f"keeps {kept} of {wavelets} wavelets")
        if not 1 <= n_tables <= self.code_bytes:
            raise ModelError(f"has {n_tables} tables of {self.code_bytes} bytes")
        self.shape = shape
        self.kept = kept
        self.positions = positions
        self.n_tables = n_tables
        a_table = self.code_bytes // n_tables
        self.key_bits_max = min(8 * a_table, codes.MAX_KEY_BITS)
        # Low bits of a byte come first: positions are small numbers, whose high bits are mostly 0,
        # so that a key that ends within a byte is cut where it tells least.
        self._key_places = 8 * a_table * np.arange(n_tables)[:, None] + np.arange(self.key_bits_max)
        # One more element for a wavelet of zero: it is in no set, and so never first.
        self._looked_up = np.concatenate(
            (positions, np.full((1, self.code_bytes), LAST_POSITION, dtype=np.uint8))
        )

    @classmethod
    def draw(
        cls,
        features: FeatureConfig,
        seed: int,
        permutations: int = PERMUTATIONS,
        n_tables: int = TABLES,
        kept_share: float = KEPT_SHARE,
    ) -> MinHash:
        """A Min-Hash with permutations drawn from a seed."""
        shape = (features.n_bands, features.snippet_frames)
        wavelets = _power_of_two(shape[0]) * _power_of_two(shape[1])
        rng = np.random.default_rng(seed)
        positions = np.empty((2 * wavelets, permutations), dtype=np.uint8)
        for column in range(permutations):
            positions[:, column] = np.minimum(rng.permutation(2 * wavelets), LAST_POSITION)
        return cls(shape, max(1, round(kept_share * wavelets)), positions, n_tables)

    @classmethod
    def from_model(cls, model: Model) -> MinHash:
        """The hasher of a model folder; raises `ModelError` where arrays do not fit."""
        features = FeatureConfig.from_json(model.config["features"])
        try:
            positions, numbers = (model.arrays[name] for name in ("positions", "numbers"))
        except KeyError as error:
            raise ModelError(f"lacks the array {error}") from None
        if numbers.shape != (2,) or not np.issubdtype(numbers.dtype, np.integer):
            raise ModelError(f"numbers must be two integers, got {numbers.dtype} {numbers.shape}")
        kept, n_tables = numbers.tolist()
        hasher = cls((features.n_bands, features.snippet_frames), kept, positions, n_tables)
        if 8 * hasher.code_bytes != model.config.get("bits"):
            raise ModelError(f"has {hasher.code_bytes} bytes for {model.config.get('bits')} bits")
        return hasher

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What `from_model` reads.

        The permutations themselves, and not a seed: numpy may draw others one day.
        """
        return {
            "positions": self.positions,
            "numbers": np.array([self.kept, self.n_tables], dtype=np.int32),
        }

    def wavelets(self, snippets: Floats) -> Floats:
        """Haar coefficients [n, wavelets] of snippets [n, bands * frames].

        Each side of the image is stretched to a power of two: padding with zeros and mirroring find
        2 and 1 points less on degraded snippets of training music. The decomposition is the
        standard one, rows in full and then columns, which found images better than the nonstandard
        one (Jacobs, Finkelstein & Salesin, "Fast multiresolution image querying", 1995).
        """
        bands, frames = self.shape
        if snippets.ndim != 2 or snippets.shape[1] != bands * frames:
            raise ValueError(f"snippets must be [n, {bands * frames}], got {snippets.shape}")
        images = np.asarray(snippets, dtype=np.float32).reshape(-1, frames)
        rows = (images @ self._frames.T).reshape(-1, bands, len(self._frames))
        out: Floats = np.matmul(self._bands, rows)
        return out.reshape(len(snippets), len(self._bands) * len(self._frames))

    def elements(self, snippets: Floats) -> Ints:
        """The set of each snippet [n, kept]: its largest wavelets with their signs.

        A wavelet of zero has no sign; in its place stands a number that is no element.
        """
        values = self.wavelets(snippets)
        magnitudes = np.abs(values)
        # The mean of a snippet tells nothing: it is standardised.
        magnitudes[:, 0] = 0.0
        largest = np.argpartition(magnitudes, -self.kept, axis=1)[:, -self.kept :]
        chosen = 2 * largest + (np.take_along_axis(values, largest, axis=1) < 0)
        sizes = np.take_along_axis(magnitudes, largest, axis=1)
        return np.where(sizes > 0, chosen, len(self.positions))

    def responses(self, snippets: Floats) -> Floats:
        """Min-Hash bytes [n, code_bytes], as float32, of standardised snippets."""
        out = np.empty((len(snippets), self.code_bytes), dtype=np.float32)
        for first in range(0, len(snippets), _CHUNK_ROWS):
            rows = slice(first, first + _CHUNK_ROWS)
            # Where a permutation meets the first element of a set is the least of its positions.
            out[rows] = self._looked_up[self.elements(snippets[rows])].min(axis=1)
        return out

    def encode(self, responses: Floats) -> Bytes:
        """Responses are bytes already, [n, code_bytes]."""
        if responses.ndim != 2 or responses.shape[1] != self.code_bytes:
            raise ValueError(f"responses must be [n, {self.code_bytes}], got {responses.shape}")
        return np.asarray(responses).astype(np.uint8)

    def key_material(self, packed: Bytes) -> Bytes:
        """See `hashing.quantizers.Quantizer`: the codes themselves."""
        return packed

    def postings(self, packed: Bytes, table: int, key_bits: int) -> tuple[Ints, Keys]:
        """See `hashing.quantizers.Quantizer`."""
        return np.arange(len(packed)), codes.keys(packed, self._key_places[table, :key_bits])

    def probe_keys(self, responses: Floats, key_bits: int, probes: int) -> Keys:
        """The own key [n, probes, n_tables], repeated: nothing tells which key would be next."""
        own = codes.keys(self.encode(responses), self._key_places[:, :key_bits])
        return np.repeat(own[:, None, :], max(1, probes), axis=1)

    def byte_scores(self, responses: Floats) -> Floats:
        """See `hashing.quantizers.Quantizer`: the share of bytes that agree."""
        own = self.encode(responses)
        out = np.zeros((*own.shape, LAST_POSITION + 1), dtype=np.float32)
        np.put_along_axis(out, own[:, :, None].astype(np.int64), 1.0 / self.code_bytes, axis=2)
        return out

    def likeness(self, one: Bytes, other: Bytes) -> Floats:
        """See `hashing.quantizers.Quantizer`: the share of bytes that agree."""
        return np.asarray((one == other).mean(axis=1), dtype=np.float32)


def haar_matrix(n: int) -> npt.NDArray[np.float64]:
    """Orthonormal Haar transform of `n` values, a power of two; coarse wavelets first, [n, n].

    >>> haar_matrix(2).round(2).tolist()
    [[0.71, 0.71], [0.71, -0.71]]
    """
    if n < 1 or n & (n - 1):
        raise ValueError(f"n={n} is no power of two")
    matrix = np.ones((1, 1))
    while len(matrix) < n:
        coarse = np.kron(matrix, [1.0, 1.0])
        fine = np.kron(np.eye(len(matrix)), [1.0, -1.0])
        matrix = np.concatenate((coarse, fine)) / np.sqrt(2.0)
    return matrix


def _power_of_two(n: int) -> int:
    """The least power of two that is not below `n`."""
    return 1 << max(0, n - 1).bit_length()


def _stretched(n: int) -> npt.NDArray[np.float64]:
    """What stretches `n` values to a power of two by linear interpolation, [power, n]."""
    power = _power_of_two(n)
    middles = (np.arange(power) + 0.5) * (n / power) - 0.5
    return np.stack([np.interp(middles, np.arange(n), unit) for unit in np.eye(n)], axis=1)
