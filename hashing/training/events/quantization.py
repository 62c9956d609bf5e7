"""Deep quantization: a small network and the codebooks of its outputs, learned from labels.

* ``dqn``: pairwise cosine and quantization loss, codebooks learned in turns with the network. Cao
  et al., "Deep quantization network for efficient image retrieval" (AAAI 2016); for sound Jati &
  Emmanouilidou, "Supervised deep hashing for efficient audio event retrieval" (ICASSP 2020).
* ``dtq``: the same with group-hard triplets. Liu et al., "Deep triplet quantization" (ACM MM 2018).
* ``orthohash``: no codebooks but signs of the outputs, drawn to orthogonal codes of the classes.
  Hoe et al., "One loss for all" (NeurIPS 2021).

What is quantized is the output at length one, so that squared distances rank as cosines do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch
import torch.nn.functional as F

from hashing.codebooks import CENTROIDS, fit_opq, fit_pq
from hashing.events.words import words_of
from hashing.one_thread_faiss import k_means
from hashing.training.events.labels import LabelSets
from hashing.training.events.losses import group_hard_triplet, ortho_hash, pairwise_cosine
from hashing.training.schedules import cosine

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
System = Literal["dqn", "dtq", "orthohash"]

# Numbers of a code's vector: parts of 192, 96, 64, 48 and 24 for codes of 1, 2, 3, 4 and 8 bytes.
BOTTLENECK = 192

# Outputs that the last codebooks are fitted to: 78 a centroid, and a few seconds.
MOST_FITTED = 20_000


@dataclasses.dataclass(frozen=True)
class QuantizerTraining:
    """Settings of a training run.

    Attributes:
      code_bytes: of a code.
      hidden: units between embedding and output.
      quantization: weight of the quantization loss (lambda).
      balanced: pairs of like and of unlike labels count as much in all; as published each pair
        counts the same, so that of 41 classes like ones are 2 %.
      dropout: of embedding and hidden units.
      margin: of triplets, and of OrthoHash's cosines; groups: of a batch of triplets.
      scale: of OrthoHash's cosines; word_scale: of those with words. Sharper ones are surer of
        labels, and worse on soundfonts that were not heard.
      words: weight of the words of labels, whose vectors are learned along with the network, so
        that a text finds clips (a joint embedding, as Elizalde et al., "Cross modal audio search
        and retrieval with joint embeddings based on text and audio", ICASSP 2019, but of the words
        of labels); 0 for none.
      turned: whether outputs are rotated in the end so that their parts quantize better (OPQ: Ge
        et al., "Optimized product quantization", TPAMI 2014); the last layer takes it in.
      even: whether all sets of labels are drawn alike often, however many clips have them; else all
        clips are.
      codebook_epochs: passes over the clips between two fits of the codebooks; `codebook_steps`:
        steps between them, at least.
      seed: the same gives the same codes on the same machine.
    """

    system: System = "dqn"
    code_bytes: int = 4
    hidden: int = 1024
    bottleneck: int = BOTTLENECK
    quantization: float = 0.1
    balanced: bool = True
    dropout: tuple[float, float] = (0.1, 0.3)
    margin: float = 0.3
    groups: int = 4
    scale: float = 10.0
    word_scale: float = 5.0
    words: float = 0.0
    steps: int = 800
    batch: int = 256
    learning_rate: float = 6e-3
    weight_decay: float = 1e-2
    turned: bool = True
    even: bool = False
    momentum: float | None = None  # of plain descent; None for AdamW
    codebook_epochs: int = 2
    codebook_steps: int = 100
    seed: int = 1

    def __post_init__(self) -> None:
        if self.code_bytes < 1 or self.bottleneck % self.code_bytes:
            raise ValueError(f"{self.bottleneck} outputs cannot be cut into {self.code_bytes}")

    @property
    def outputs(self) -> int:
        """Numbers that the network gives: one a bit where signs are kept."""
        return 8 * self.code_bytes if self.system == "orthohash" else self.bottleneck

    def learning_rate_at(self, step: int) -> float:
        """Down along a cosine; as published, by half every tenth of the steps."""
        if self.momentum is not None:
            return self.learning_rate * 0.5 ** (10 * step // self.steps)
        return self.learning_rate * cosine(step / self.steps)


# The settings of the reference code of deep quantization networks, as far as they fit embeddings
# that are frozen.
PUBLISHED = QuantizerTraining(
    hidden=512,
    quantization=1e-4,
    balanced=False,
    dropout=(0.0, 0.0),
    steps=5000,
    learning_rate=0.02,  # the last layer's ten times 0.002; the layers before it are frozen here
    weight_decay=0.0,
    turned=False,
    momentum=0.9,
    codebook_steps=1,
)


@dataclasses.dataclass(frozen=True)
class Quantized:
    """A trained network, its codebooks, and how it came about.

    Attributes:
      layers: weight [in, out] and bias [out] of each, a ReLU between them; standardisation of the
        embedding is folded in.
      codebooks: [m, 256, width], numbered for keys; empty for `orthohash`.
      history: parts of the loss now and then.
      words, word_vectors: what a text is made of, and vectors [words, outputs]; none where no
        words were learned.
    """

    settings: QuantizerTraining
    layers: tuple[tuple[Floats, Floats], ...]
    codebooks: Floats
    history: list[dict[str, float]]
    words: tuple[str, ...] = ()
    word_vectors: Floats | None = None

    def respond(self, embeddings: Floats) -> Floats:
        """Outputs of length one, [n, outputs]; for `orthohash` as they are."""
        (first, first_bias), (last, last_bias) = self.layers
        hidden = np.maximum(np.asarray(embeddings, np.float32) @ first + first_bias, 0)
        found = hidden @ last + last_bias
        if self.settings.system == "orthohash":
            return np.asarray(found, np.float32)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found / np.maximum(lengths, 1e-12), np.float32)


class _Network(torch.nn.Module):
    """Embeddings, as versions of clips → outputs."""

    def __init__(self, embeddings: torch.Tensor, settings: QuantizerTraining) -> None:
        super().__init__()
        flat = embeddings.flatten(0, 1)
        self.mean = torch.nn.Parameter(flat.mean(0), requires_grad=False)
        self.gain = torch.nn.Parameter(1 / (flat.std(0) + 1e-6), requires_grad=False)
        self.first = torch.nn.Linear(flat.shape[1], settings.hidden)
        self.last = torch.nn.Linear(settings.hidden, settings.outputs)
        # Signs must be even: outputs are centred.
        binary = settings.system == "orthohash"
        self.even = torch.nn.BatchNorm1d(settings.outputs, affine=False) if binary else None
        self.dropout = settings.dropout
        self.words = torch.nn.Parameter(torch.empty(0, settings.outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.dropout((x - self.mean) * self.gain, self.dropout[0], self.training)
        hidden = F.dropout(F.relu(self.first(x)), self.dropout[1], self.training)
        found: torch.Tensor = self.last(hidden)
        if self.even is not None:
            return torch.as_tensor(self.even(found))
        return F.normalize(found, dim=1)

    def folded(self) -> tuple[tuple[Floats, Floats], ...]:
        """Layers as `Quantized` has them."""

        def array(value: torch.Tensor) -> Floats:
            return np.asarray(value.detach().cpu().numpy(), np.float32)

        mean, gain = array(self.mean), array(self.gain)
        first, last = array(self.first.weight).T, array(self.last.weight).T
        first_bias, last_bias = array(self.first.bias), array(self.last.bias)
        if self.even is not None:
            assert self.even.running_mean is not None
            assert self.even.running_var is not None
            even = 1 / np.sqrt(array(self.even.running_var) + np.float32(self.even.eps))
            last, last_bias = last * even, (last_bias - array(self.even.running_mean)) * even
        scaled = first * gain[:, None]
        return (
            (np.ascontiguousarray(scaled), first_bias - mean @ scaled),
            (np.ascontiguousarray(last), last_bias),
        )


def train_quantizer(
    embeddings: Floats,
    labels: LabelSets,
    settings: QuantizerTraining,
    others: Floats | None = None,
    log: Callable[[str], None] | None = None,
) -> Quantized:
    """Train a network and codebooks.

    Args:
      embeddings: of clips in several versions each, [n, versions, d].
      labels: of the clips.
      others: embeddings [m, d] of clips without labels, such as are to be coded: while it learns,
        codebooks are fitted to these as well, and in the end to these alone if they are enough.
      log: told how the loss goes.

    Raises:
      ValueError: fewer embeddings than centroids.
    """
    embeddings = np.asarray(embeddings, np.float32)
    flat = embeddings.reshape(-1, embeddings.shape[-1])
    items = np.concatenate([flat] if others is None else [flat, others])
    if len(items) < CENTROIDS:
        raise ValueError(f"{len(items)} embeddings are fewer than {CENTROIDS} centroids")
    torch.manual_seed(settings.seed)
    values = torch.from_numpy(embeddings)
    network = _Network(values, settings)
    words, spoken = _vocabulary(labels) if settings.words else ((), np.empty((0, 0), np.float32))
    if words:
        network.words = torch.nn.Parameter(torch.randn(len(words), settings.outputs))
    spoken_of, called = torch.from_numpy(spoken), torch.from_numpy(labels.name_shares)
    optimiser = _optimiser(network, settings)
    loss_of = _loss(labels, settings)
    books: torch.Tensor | None = None
    history = []
    epoch = -(-len(values) // settings.batch)
    every = max(settings.codebook_epochs * epoch, settings.codebook_steps)
    for step in range(settings.steps):
        rng = np.random.default_rng([settings.seed, step])
        if settings.system != "orthohash" and step and step % every == 0:
            books = torch.from_numpy(_codebooks(_outputs(network, items, rng), settings))
        rows = _drawn(labels, settings, rng)
        chosen = values[rows, rng.integers(values.shape[1], size=len(rows))]
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        network.train()
        outputs = network(chosen)
        loss, parts = loss_of(outputs, torch.from_numpy(labels.of[rows]))
        if words:
            texts = F.normalize(spoken_of @ network.words, dim=1)
            wanted = called[torch.from_numpy(labels.of[rows])]
            told = F.cross_entropy(settings.word_scale * outputs @ texts.T, wanted)
            loss, parts["words"] = loss + settings.words * told, told.item()
        if books is not None:
            error = (outputs - _decoded(outputs, books)).square().sum(1).mean()
            loss, parts["quantization"] = loss + settings.quantization * error, error.item()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if (step + 1) % max(1, settings.steps // 5) == 0:
            history.append({"step": step + 1, **parts})
            if log is not None:
                log("  ".join(f"{name} {value:.4g}" for name, value in history[-1].items()))
    network.eval()
    found = Quantized(
        settings,
        network.folded(),
        np.empty((0, CENTROIDS, 0), np.float32),
        history,
        words,
        np.asarray(network.words.detach().numpy(), np.float32) if words else None,
    )
    if settings.system == "orthohash":
        return found
    coded = items if others is None or len(others) < CENTROIDS else np.asarray(others, np.float32)
    some = np.random.default_rng(settings.seed).permutation(len(coded))[:MOST_FITTED]
    return _coded(found, found.respond(coded[some]))


def _coded(found: Quantized, outputs: Floats) -> Quantized:
    """With codebooks of outputs, after a rotation that layers and words take in."""
    settings = found.settings
    fit = (fit_opq if settings.turned else fit_pq)(outputs, settings.code_bytes, settings.seed)
    first, (last, bias) = found.layers
    turn = fit.rotation
    vectors = found.word_vectors
    return dataclasses.replace(
        found,
        layers=(first, (np.asarray(last @ turn, np.float32), np.asarray(bias @ turn, np.float32))),
        codebooks=fit.codebooks,
        word_vectors=None if vectors is None else np.asarray(vectors @ turn, np.float32),
    )


def _drawn(labels: LabelSets, settings: QuantizerTraining, rng: np.random.Generator) -> Ints:
    """Rows of a batch."""
    if settings.even:
        return labels.draw(settings.batch, rng)
    n = len(labels.of)
    return rng.choice(n, settings.batch, replace=n < settings.batch)


def _optimiser(network: _Network, settings: QuantizerTraining) -> torch.optim.Optimizer:
    weights: Any = [one for one in network.parameters() if one.requires_grad]
    if settings.momentum is not None:
        return torch.optim.SGD(weights, settings.learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(weights, settings.learning_rate, weight_decay=settings.weight_decay)


def _loss(
    labels: LabelSets, settings: QuantizerTraining
) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, dict[str, float]]]:
    likeness, shares = torch.from_numpy(labels.likeness), torch.from_numpy(labels.shares)
    targets = torch.from_numpy(class_codes(len(labels.labels), settings.outputs, settings.seed))

    def loss(outputs: torch.Tensor, sets: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        alike = likeness[sets][:, sets]
        if settings.system == "orthohash":
            value = ortho_hash(outputs, targets, shares[sets], settings.scale, settings.margin)
        elif settings.system == "dtq":
            value = group_hard_triplet(outputs, alike, settings.margin, settings.groups)
        else:
            value = pairwise_cosine(outputs, alike, balanced=settings.balanced)
        return value, {"loss": value.item()}

    return loss


def class_codes(classes: int, bits: int, seed: int) -> Floats:
    """Codes of ±1 for classes, [classes, bits], as far apart as there is room for.

    Rows of a Hadamard matrix are orthogonal; where there are more classes than bits, codes are
    drawn, and those are kept of many that are the farthest from the nearest one.

    >>> codes = class_codes(4, 8, seed=1)
    >>> (codes @ codes.T)[0].tolist()
    [8.0, 0.0, 0.0, 0.0]
    """
    rng = np.random.default_rng([seed, classes, bits])
    if classes <= bits and bits & (bits - 1) == 0:
        rows = rng.permutation(bits)[:classes]
        return np.asarray(scipy.linalg.hadamard(bits)[rows], np.float32)
    drawn = np.where(rng.random((max(4096, 8 * classes), bits)) < 0.5, 1.0, -1.0)
    chosen = [0]
    nearest = drawn @ drawn[0]
    while len(chosen) < classes:
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, drawn @ drawn[chosen[-1]])
    return np.asarray(drawn[chosen], np.float32)


def _vocabulary(labels: LabelSets) -> tuple[tuple[str, ...], Floats]:
    """All words of the names, and the share of each in every name, [names, words]."""
    spoken = [words_of(name) for name in labels.names]
    words = sorted({word for one in spoken for word in one})
    shares = np.zeros((len(spoken), len(words)), np.float32)
    for row, one in enumerate(spoken):
        for word in one:
            shares[row, words.index(word)] += 1 / len(one)
    return tuple(words), shares


def _outputs(network: _Network, items: Floats, rng: np.random.Generator) -> Floats:
    network.eval()
    rows = rng.permutation(len(items))[: 32 * CENTROIDS]
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(items[rows])).numpy(), np.float32)


def _codebooks(outputs: Floats, settings: QuantizerTraining) -> Floats:
    """Codebooks [m, 256, width] by k-means in each part, begun anew."""
    parts = np.split(outputs, settings.code_bytes, axis=1)
    return np.stack([k_means(part, CENTROIDS, settings.seed) for part in parts])


def _decoded(outputs: torch.Tensor, books: torch.Tensor) -> torch.Tensor:
    """The nearest centroids; with parts apart, no other choice of codes is better (ICM ends)."""
    with torch.no_grad():
        parts = outputs.reshape(len(outputs), len(books), -1).transpose(0, 1)
        nearest = torch.cdist(parts, books).argmin(2)
        chosen = torch.take_along_dim(books, nearest[:, :, None], 1)
        return chosen.transpose(0, 1).reshape(outputs.shape)
