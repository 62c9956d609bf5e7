"""What is heard of a clip: one window of nearly four seconds."""

from __future__ import annotations

from hashing.features import FeatureConfig

# Bits of codes that the 192 outputs of deep quantization can be cut into bytes for.
CODE_BITS = (8, 16, 24, 32, 48, 64)

# Cymbals and key strokes are told apart above 4 kHz, where the snippets of music end; 16 kHz is
# what also poor recordings have. 152 frames are three halvings of 19, and end just before 4 s.
CLIP = FeatureConfig(
    sample_rate=16_000,
    n_fft=1024,  # 64 ms: partials of all but the lowest notes stand apart
    hop_length=400,  # 25 ms: a drum's attack is one frame
    n_bands=64,
    fmin=50.0,
    fmax=7800.0,
    snippet_frames=152,  # 3.84 s
    snippet_hop=80,  # 2 s: a longer recording is heard in overlapping windows
    dynamic_range_db=70.0,
    silence_db=-70.0,
    repeats_short=True,
)
