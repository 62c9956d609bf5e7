"""What General MIDI has beside the instruments of labelled clips: other programs, other drums.

An encoder that has learned to tell these apart, whichever soundfont plays them, has heard no label
of the instruments themselves: as embeddings that were trained on other labels elsewhere.
"""

from __future__ import annotations

from hashing.generated.instruments import Sound

# Names by program, from 0: General MIDI System Level 1 (MIDI Manufacturers Association, 1991), but
# for what `hashing.generated.instruments.SOUNDS` has, and its close kin.
_PROGRAMS = {
    3: "honky_tonk_piano",
    8: "celesta",
    15: "dulcimer",
    17: "percussive_organ",
    18: "rock_organ",
    20: "reed_organ",
    26: "jazz_guitar",
    28: "muted_guitar",
    31: "guitar_harmonics",
    35: "fretless_bass",
    41: "viola",
    43: "contrabass",
    44: "tremolo_strings",
    47: "timpani",
    50: "synth_strings",
    54: "synth_voice",
    55: "orchestra_hit",
    59: "muted_trumpet",
    62: "synth_brass",
    64: "soprano_sax",
    67: "baritone_sax",
    69: "english_horn",
    74: "recorder",
    76: "blown_bottle",
    77: "shakuhachi",
    78: "whistle",
    79: "ocarina",
    80: "square_lead",
    81: "sawtooth_lead",
    82: "calliope_lead",
    83: "chiff_lead",
    84: "charang_lead",
    85: "voice_lead",
    86: "fifths_lead",
    87: "bass_lead",
    88: "new_age_pad",
    89: "warm_pad",
    90: "polysynth_pad",
    91: "choir_pad",
    92: "bowed_pad",
    93: "metallic_pad",
    94: "halo_pad",
    95: "sweep_pad",
    96: "rain",
    97: "soundtrack",
    98: "crystal",
    99: "atmosphere",
    100: "brightness",
    101: "goblins",
    102: "echoes",
    103: "sci_fi",
    106: "shamisen",
    107: "koto",
    109: "bagpipe",
    110: "fiddle",
    111: "shanai",
    112: "tinkle_bell",
    113: "agogo_program",
    114: "steel_drums",
    115: "woodblock_program",
    116: "taiko",
    117: "melodic_tom",
    118: "synth_drum",
    119: "reverse_cymbal",
    120: "fret_noise",
    121: "breath_noise",
    122: "seashore",
    123: "bird_tweet",
    124: "telephone",
    125: "helicopter",
    126: "applause",
    127: "gunshot",
}
# Those that all soundfonts have.
_DRUMS = {
    "side_stick": (37, 37),
    "hand_clap": (39, 39),
    "tambourine": (54, 54),
    "cowbell": (56, 56),
    "bongo": (60, 61),
    "conga": (62, 64),
    "timbale": (65, 66),
    "agogo": (67, 68),
    "cabasa": (69, 69),
    "maracas": (70, 70),
    "guiro": (73, 74),
    "claves": (75, 75),
    "wood_block": (76, 77),
}
_LOW, _HIGH = 40, 84  # MIDI pitches that nearly all of them have samples for

OTHER_SOUNDS = (
    *(
        Sound(name, "other", (program,), _LOW, _HIGH, chords=80 <= program < 104)
        for program, name in _PROGRAMS.items()
    ),
    *(Sound(name, "other_drums", (), low, high) for name, (low, high) in _DRUMS.items()),
)
