"""Drum kits of an artist's own, and how an artist bends the beats of a genre."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from hashing.generated.genres import Genre
from hashing.generated.timbres import LEVEL, Samples

PIECES = ("kick", "snare", "hat", "open", "tom", "crash")
STEPS = 16  # of a bar of four beats
SECONDS = 0.6  # longest hit; cymbals are cut there
_CHANCES = {"x": 0.97, "o": 0.6, "-": 0.25, ".": 0.01}
# Loudness of the pieces against one another, as drummers play them (factor).
_LEVELS = {"kick": 1.5, "snare": 1.1, "hat": 0.35, "open": 0.4, "tom": 0.9, "crash": 0.6}


@dataclasses.dataclass(frozen=True)
class Kit:
    """One drum kit: pitches (Hz), decays (s) and how much of each piece is noise."""

    style: str  # acoustic, brushes, electronic, chip
    kick_hz: float
    kick_sweep: float
    kick_s: float
    click: float
    snare_hz: float
    snare_s: float
    snare_noise: float
    hat_hz: float
    hat_s: float
    tom_hz: float
    seed: int

    @classmethod
    def draw(cls, style: str, rng: np.random.Generator) -> Kit:
        """Draw a kit of one of the four styles."""
        soft = style == "brushes"
        return cls(
            style,
            rng.uniform(40, 75),
            rng.uniform(1.0, 5.0),
            float(np.exp(rng.uniform(*np.log((0.06, 0.35 if style == "electronic" else 0.18))))),
            rng.uniform(0.0, 0.2 if soft else 0.6),
            rng.uniform(150, 320),
            float(np.exp(rng.uniform(*np.log((0.05, 0.2))))),
            0.97 if soft else rng.uniform(0.5, 0.95),
            rng.uniform(3500, 8500),
            float(np.exp(rng.uniform(*np.log((0.02, 0.09))))),
            rng.uniform(80, 160),
            int(rng.integers(1 << 30)),
        )

    def vary(self, rng: np.random.Generator, amount: float) -> Kit:
        """Tune and damp the kit anew, by factors around e ** amount."""
        names = ("kick_hz", "kick_s", "snare_hz", "snare_s", "hat_s", "tom_hz")
        scale = dict(zip(names, np.exp(rng.normal(0, amount, len(names))).tolist(), strict=True))
        hat_hz = float(np.clip(self.hat_hz * np.exp(rng.normal(0, amount)), 2500, 9000))
        varied = {name: getattr(self, name) * factor for name, factor in scale.items()}
        return dataclasses.replace(self, hat_hz=hat_hz, **varied)


@functools.lru_cache(maxsize=16)
def hits(kit: Kit, sample_rate: int) -> dict[str, Samples]:
    """One hit [n] of every piece of a kit.

    >>> kit = Kit.draw("acoustic", np.random.default_rng(0))
    >>> sorted(hits(kit, 8000)) == sorted(PIECES)
    True
    """
    rng = np.random.default_rng(kit.seed)
    t = np.arange(round(SECONDS * sample_rate)) / sample_rate
    noise = rng.standard_normal((4, len(t)))
    chip = kit.style == "chip"
    if chip:  # a sound chip's noise: one bit, held for several samples
        held = np.repeat(noise, 3, axis=1)[:, : len(t)]
        noise = np.sign(held)
    high = np.stack([_high_pass(row, kit.hat_hz, sample_rate) for row in noise])
    kick = _drum(t, kit.kick_hz, kit.kick_sweep, kit.kick_s)
    kick += kit.click * np.exp(-t / 0.004) * noise[0]
    body = _drum(t, kit.snare_hz, 0.5, 0.6 * kit.snare_s)
    rattle = noise[1] * np.exp(-t / kit.snare_s)
    snare = (1 - kit.snare_noise) * 1.6 * body + kit.snare_noise * 0.5 * rattle
    if kit.style == "brushes":
        snare = high[1] * t * np.exp(-t / kit.snare_s) * 8
    sounds = {
        "kick": kick,
        "snare": snare,
        "hat": high[2] * np.exp(-t / kit.hat_s),
        "open": high[2] * np.exp(-t / (5 * kit.hat_s)),
        "tom": _drum(t, kit.tom_hz, 0.8, 0.18) + 0.05 * rattle,
        "crash": (high[3] + 0.3 * noise[3]) * np.exp(-t / 0.25),
    }
    out = {}
    for piece, sound in sounds.items():
        attack = sound[: sample_rate // 20]
        level = _LEVELS[piece] * 2.5 * LEVEL / max(float(np.sqrt(np.mean(attack**2))), 1e-9)
        out[piece] = (level * sound * np.minimum((SECONDS - t) * 20, 1)).astype(np.float32)
    return out


def _drum(
    t: npt.NDArray[np.float64], hz: float, sweep: float, decay_s: float
) -> npt.NDArray[np.float64]:
    """A membrane: a sine that falls to `hz` from `1 + sweep` times as high within 25 ms."""
    turns = hz * (t - sweep * 0.025 * np.expm1(-t / 0.025))
    sound: npt.NDArray[np.float64] = np.sin(2 * np.pi * turns) * np.exp(-t / decay_s)
    return sound


def _high_pass(
    noise: npt.NDArray[np.float64], hz: float, sample_rate: int
) -> npt.NDArray[np.float64]:
    spectrum = np.fft.rfft(noise)
    octaves = np.fft.rfftfreq(len(noise), 1 / sample_rate) / min(hz, 0.4 * sample_rate)
    filtered: npt.NDArray[np.float64] = np.fft.irfft(
        spectrum * octaves**2 / (1 + octaves**2), len(noise)
    )
    return filtered


def draw_beats(genre: Genre, rng: np.random.Generator) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Draw an artist's beats: each a chance for every piece and step, [beats][pieces][steps].

    Up to three of the genre's beats, with steps of their own: some are taken up and some dropped.
    """
    beats = []
    for number in rng.permutation(len(genre.beats))[:3].tolist() * 2:
        base = np.array([[_CHANCES[c] for c in line] for line in genre.beats[number]])
        change = rng.random(base.shape)
        base = np.where(change < 0.06, rng.uniform(0.3, 0.95), base)
        base[:, 1:] = np.where(change[:, 1:] > 0.95, 0.02, base[:, 1:])
        if rng.random() < 0.3:  # hats in half as many, or twice as many, strokes
            base[2] = np.where(np.arange(STEPS) % 4 == 0, 0.97, rng.choice([0.03, 0.85]))
        extra = np.full((3, STEPS), 0.0)
        extra[0, rng.integers(STEPS)] = rng.choice([0.0, 0.7])  # an open hat
        extra[1, rng.integers(STEPS)] = rng.choice([0.0, 0.0, 0.4])  # a tom
        beats.append(tuple(tuple(row) for row in np.vstack([base, extra]).round(3).tolist()))
    return tuple(beats[: int(rng.integers(2, 4))])
