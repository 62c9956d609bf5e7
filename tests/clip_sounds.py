"""Little clips of sound, as windows and as files of tones, so that training takes a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch

from hashing.events.features import CLIP
from hashing.events.spectra import STEP_DB, Spectra
from hashing.features import FeatureConfig
from hashing.models import Model
from hashing.training.events.networks import ClipEncoder
from hashing.training.events.recipe import export_encoder
from hashing.training.events.sources import Source

# Windows of a twentieth of the cells of the shipped encoder's; all of their levels count.
SMALL = FeatureConfig(
    n_bands=16, snippet_frames=32, snippet_hop=16, dynamic_range_db=200.0, repeats_short=True
)

# Hz, of the tones of each kind.
PITCHES = {"hum": 150.0, "whistle": 1500.0, "hiss": 5000.0}


def spectra_of(levels_db: np.ndarray, config: FeatureConfig = SMALL) -> Spectra:
    """Windows of one file each, of levels [n, bands, frames] in dB."""
    steps = np.rint(levels_db / -STEP_DB).clip(0, 255).astype(np.uint8)
    n = len(steps)
    return Spectra(
        np.ascontiguousarray(steps.transpose(0, 2, 1)),
        np.arange(n),
        np.zeros(n, np.int64),
        {},
        config,
    )


def noisy(n: int, seed: int = 1) -> Spectra:
    """Windows without any order, of levels from -80 to -10 dB."""
    rng = np.random.default_rng(seed)
    return spectra_of(rng.uniform(-80, -10, (n, SMALL.n_bands, SMALL.snippet_frames)))


def kinds_of_clips(kinds: int, each: int, seed: int = 1) -> tuple[Spectra, list[tuple[str]]]:
    """Windows and their labels ``kind0``, ``kind1`` and so on: bands that pulse, each in its own
    time, in noise."""
    rng = np.random.default_rng(seed)
    bands, t = np.arange(SMALL.n_bands)[:, None], np.arange(SMALL.snippet_frames)[None]
    levels, labels = [], []
    for kind in range(kinds):
        centre = (kind + 0.5) * SMALL.n_bands / kinds
        for _ in range(each):
            pulse = 1 + 0.5 * np.sin(2 * np.pi * ((kind + 1) * t / 16 + rng.random()))
            shape = np.exp(-(((bands - centre - rng.normal(0, 0.3)) / 1.5) ** 2))
            levels.append(-60 + 25 * shape * pulse + rng.normal(0, 4, (len(bands), t.size)))
            labels.append((f"kind{kind}",))
    return spectra_of(np.stack(levels)), labels


def tone(kind: str, seed: int, seconds: float) -> np.ndarray:
    """A tone of about the pitch of its kind that comes and goes, in some noise, float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * CLIP.sample_rate)) / CLIP.sample_rate
    pitch = PITCHES[kind] * rng.uniform(0.8, 1.25)
    loud = 0.15 * (1.1 + np.sin(2 * np.pi * rng.uniform(0.3, 1) * t))
    out = loud * np.sin(2 * np.pi * pitch * t) + 0.003 * rng.standard_normal(t.size)
    return np.asarray(out, np.float32)


def write_tones(
    folder: Path, learned: int, unheard: int, seconds: float, prefix: str = ""
) -> Source:
    """A catalogue of files of every kind, labelled with it: so many to learn from, so many not."""
    folder.mkdir(parents=True, exist_ok=True)
    ids, labels = [], list[tuple[str, ...]]()
    for kind in PITCHES:
        wanted, number = {False: learned, True: unheard}, 0
        while any(wanted.values()):
            name = f"{prefix}{kind}-{number}"
            (role,) = Source("one", [name], [""], [()]).held_out().tolist()
            if wanted[role]:
                wanted[role] -= 1
                ids.append(name)
                labels.append((kind,))
            number += 1
    paths = [str(folder / f"{name}.wav") for name in ids]
    for seed, (path, (kind,)) in enumerate(zip(paths, labels, strict=True)):
        soundfile.write(path, tone(kind, seed, seconds), CLIP.sample_rate)
    return Source(f"{prefix}tones", ids, paths, labels)


def unlabelled(source: Source) -> Source:
    """The same catalogue without labels."""
    return Source(source.name, source.ids, source.paths, [()] * len(source.ids))


def any_network(bands: int = 16, dimensions: int = 8, seed: int = 1) -> ClipEncoder:
    """An untrained network in whose normalisations there are numbers of all sizes."""
    torch.manual_seed(seed)
    network = ClipEncoder(bands, dimensions)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 2.0)
            torch.nn.init.normal_(layer.bias, 0.0, 0.3)
        if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            torch.nn.init.normal_(layer.running_mean, 0.0, 0.3)
            torch.nn.init.uniform_(layer.running_var, 0.2, 3.0)
    return network.eval()


def any_encoder(folder: Path, dimensions: int = 16) -> Model:
    """The folder of an untrained encoder of clips."""
    return export_encoder(folder, any_network(CLIP.n_bands, dimensions), {}, {}, "# Any encoder")


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two networks are equal, bit for bit."""
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def nearest_are_alike(embeddings: np.ndarray, labels: Sequence[object]) -> float:
    """Share of items whose nearest other one has the same label."""
    products = embeddings @ embeddings.T
    np.fill_diagonal(products, -np.inf)
    nearest = products.argmax(axis=1)
    return float(np.mean([labels[row] == labels[at] for row, at in enumerate(nearest)]))
