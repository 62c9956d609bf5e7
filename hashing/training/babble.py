"""Synthetic speech: many voices at once, the noise that music recognition finds hardest.

Recordings of crowds are rare and come with rights; what makes them hard can be computed: voiced
syllables at four a second, gliding pitch, formants that jump from vowel to vowel, pauses, hissing
consonants. A voice is a pulse train through three resonances (Klatt's cascade synthesiser, 1980,
much reduced). Nobody understands it, and it need not be understood to hide music.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# First three formants of ten vowels of American English, Hz: means of Peterson & Barney (1952),
# Table II, men. Voices scale them by up to `VOICE_SCALE`.
VOWELS_HZ = np.array(
    [
        [270, 2290, 3010],
        [390, 1990, 2550],
        [530, 1840, 2480],
        [660, 1720, 2410],
        [730, 1090, 2440],
        [570, 840, 2410],
        [440, 1020, 2240],
        [300, 870, 2240],
        [640, 1190, 2390],
        [490, 1350, 1690],
    ]
)
VOICE_SCALE = (0.95, 1.25)
PITCH_HZ = (85.0, 260.0)
GLIDE = 0.12  # deviation of the logarithm of the pitch at each end of a syllable
SYLLABLE_S = (0.12, 0.35)
PAUSE_CHANCE = 0.2  # of a syllable being a pause
HISS_CHANCE = 0.5  # of a syllable starting with a fricative
BANDWIDTH_HZ = 90.0  # of every formant


def voice(n: int, sample_rate: int, rng: np.random.Generator) -> Floats:
    """`n` samples of one voice.

    >>> bool(np.isfinite(voice(8000, 8000, np.random.default_rng(1))).all())
    True
    """
    from scipy.signal import lfilter

    scale = rng.uniform(*VOICE_SCALE)
    base = rng.uniform(*PITCH_HZ)
    out = np.zeros(n, dtype=np.float64)
    at = 0
    while at < n:
        length = int(rng.uniform(*SYLLABLE_S) * sample_rate)
        end = min(n, at + length)
        if rng.random() >= PAUSE_CHANCE:
            size = end - at
            pitch = base * np.exp(np.linspace(rng.normal(0.0, GLIDE), rng.normal(0.0, GLIDE), size))
            phase = np.cumsum(pitch) / sample_rate
            sound = np.diff(np.floor(phase), prepend=0.0) - pitch / sample_rate
            for formant in VOWELS_HZ[rng.integers(len(VOWELS_HZ))] * scale:
                if formant >= 0.48 * sample_rate:
                    continue
                radius = np.exp(-np.pi * BANDWIDTH_HZ / sample_rate)
                angle = 2.0 * np.pi * formant / sample_rate
                poles = [1.0, -2.0 * radius * np.cos(angle), radius * radius]
                sound = lfilter([sum(poles)], poles, sound)
            sound *= np.hanning(size + 2)[1:-1] / (np.sqrt(np.mean(sound**2)) + 1e-9)
            if rng.random() < HISS_CHANCE:
                hiss = np.diff(rng.standard_normal(size + 1))
                hiss *= np.linspace(1.0, 0.0, size) ** 6
                sound = sound + 0.4 * hiss
            out[at:end] += sound * np.exp(rng.normal(0.0, 0.4))
        at = end
    return out.astype(np.float32)


def babble(n: int, sample_rate: int, rng: np.random.Generator, voices: int) -> Floats:
    """`voices` voices at once, each at its own loudness.

    >>> babble(800, 8000, np.random.default_rng(1), voices=3).shape
    (800,)
    """
    out = np.zeros(n, dtype=np.float32)
    for _ in range(voices):
        out += voice(n, sample_rate, rng) * np.float32(np.exp(rng.normal(0.0, 0.5)))
    return out
