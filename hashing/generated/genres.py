"""Twelve genres: what the artists of one have in common.

A genre bounds what its artists draw: which instruments play which role, how they play, tempo,
swing, scales, production and years. Artists of one genre therefore differ in timbre, production
and habits, and not in kind, as in real catalogues. The figures are common practice, not measured.
"""

from __future__ import annotations

import dataclasses

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Genre:
    """Bounds and weights. Strings of several words are choices; a doubled word is likelier.

    `tempo` is mean and spread in beats/min. `beats` are drum patterns of 16 steps, one line each
    for kick, snare and hat: x nearly always, o often, - now and then, . hardly ever. `density` is
    the share of a tune's notes that are played at least.
    """

    name: str
    years: tuple[int, int]
    tempo: Range
    swing: Range
    waltz: float  # chance of three beats a bar
    scales: str
    lead: str
    second: str
    chords: str
    bass: str
    comping: str
    walking: str
    kit: str  # none: no drums
    beats: tuple[tuple[str, str, str], ...]
    reverb_s: Range
    wet: Range
    tilt_db: Range  # per octave, of the whole mix
    ratio: Range  # of the compressor
    loudness_db: Range
    drive: Range
    moods: str
    tunes: float  # chance that a tune comes from the given melodies
    more: Range = (0.4, 0.9)  # chance that a section has its second voice


_FOUR = ("x...x...x...x...", "....x.......x...", "..x...x...x...x.")
_ROCK = ("x.....-.x.x...-.", "....x.......x...", "x.x.x.x.x.x.x.x.")
_ROCK_2 = ("x..-..x...x.....", "....x.......x..-", "x...x...x...x...")
_METAL = ("x.xxx.x.x.xxx.x.", "....x.......x...", "x...x...x...x...")
_METAL_2 = ("xxxxxxxxxxxxxxxx", "....x.......x...", "x.x.x.x.x.x.x.x.")
_POP = ("x......-x.-.....", "....x.......x...", "x.x.x.x.x.x.x.xo")
_SWING = ("o.......-.......", "........-...-..-", "x...x..xx...x..x")
_JAZZ_2 = ("x...o...x...o...", "....-..-....-..-", "x...x.x.x...x.x.")
_BREAK = ("x.x....-..x..x..", "....x..-.-..x...", "x.x.x.x.x.x.x.x.")
_BOOM = ("x......x..x....-", "....x.......x...", "x.x.x.xox.x.x.x.")
_DUB = ("........x.......", "........x......-", "x.xox.xox.xox.xo")
_STEP = ("x...x...x...x...", "........x.......", "x.-.x.-.x.-.x.-.")
_FUNK = ("x..x..-...x..-x.", "....x..o.o..x..o", "xxxxxxxxxxxxxxxx")
_FUNK_2 = ("x.x.......x..x..", "....x..-.-..x...", "x.x.xox.x.x.xox.")
_HOUSE_2 = ("x...x...x..-x..-", "....x..-....x...", "-ox.-ox.-ox.-oxo")
_FOLK = ("x.......x.......", "....-.......-...", "..-...-...-...-.")
_CHIP = ("x.......x.x.....", "....x.......x...", "x.x.x.x.x.x.x.x.")

GENRES: dict[str, Genre] = {
    genre.name: genre
    for genre in (
        Genre(
            "rock", (1966, 2022), (122, 20), (0.5, 0.53), 0.05, "major minor mixolydian minor",
            "voice voice electric", "electric organ electric", "electric guitar electric",
            "bass bass", "strum power power", "eighths eighths roots", "acoustic",
            (_ROCK, _ROCK_2), (0.5, 1.4), (0.08, 0.3), (-5.2, -3.6), (2.5, 5), (-17, -12),
            (1.0, 4.0), "energetic energetic happy sad dark", 0.7,
        ),
        Genre(
            "metal", (1982, 2024), (142, 26), (0.5, 0.5), 0.03, "minor phrygian harmonic minor",
            "electric voice electric", "electric electric strings", "electric electric",
            "bass bass", "power power strum", "eighths eighths pedal", "acoustic",
            (_METAL, _METAL_2, _ROCK), (0.4, 1.2), (0.05, 0.22), (-4.6, -3.0), (4, 8), (-14, -10),
            (4.0, 12.0), "dark dark energetic", 0.2,
        ),
        Genre(
            "pop", (1975, 2024), (110, 17), (0.5, 0.55), 0.04, "major major minor mixolydian",
            "voice voice voice sawlead", "strings epiano mallet guitar", "piano pad epiano guitar",
            "bass synthbass", "hold strum arpeggio", "roots eighths offbeat", "acoustic electronic",
            (_POP, _ROCK_2, _FOUR), (0.7, 1.8), (0.1, 0.32), (-5.4, -3.8), (3, 6), (-16, -11),
            (0.5, 2.0), "happy sad energetic romantic", 0.9,
        ),
        Genre(
            "folk", (1955, 2020), (104, 22), (0.5, 0.58), 0.35, "major dorian mixolydian minor",
            "flute violin voice reed", "violin flute guitar reed", "guitar guitar harp",
            "guitar upright", "arpeggio strum", "roots fifths", "brushes none none",
            (_FOLK,), (0.4, 1.5), (0.06, 0.25), (-6.2, -4.4), (1, 2.5), (-22, -16),
            (0.0, 0.5), "calm happy sad romantic", 0.9,
        ),
        Genre(
            "jazz", (1948, 2018), (132, 38), (0.6, 0.68), 0.1, "dorian major mixolydian dorian",
            "reed brass piano reed", "brass reed piano", "piano epiano guitar",
            "upright upright", "stabs stabs hold", "walking walking fifths", "brushes acoustic",
            (_SWING, _JAZZ_2), (0.4, 1.3), (0.06, 0.25), (-6.4, -4.6), (1, 2.5), (-22, -16),
            (0.0, 1.0), "calm romantic happy energetic", 0.5,
        ),
        Genre(
            "classical", (1960, 2022), (98, 26), (0.5, 0.5), 0.3, "major minor harmonic major",
            "violin piano flute strings", "reed strings violin brass", "strings piano harp strings",
            "strings upright", "hold arpeggio hold", "roots roots fifths", "none",
            (_FOLK,), (1.3, 3.0), (0.2, 0.5), (-6.8, -5.0), (1, 1.5), (-26, -19),
            (0.0, 0.2), "calm sad romantic energetic", 0.7,
        ),
        Genre(
            "electronic", (1986, 2024), (127, 9), (0.5, 0.56), 0.0, "minor minor dorian phrygian",
            "sawlead pulselead bell", "bell pulselead pad", "pad sawlead pad epiano",
            "synthbass synthbass", "stabs hold arpeggio", "offbeat eighths pulse", "electronic",
            (_FOUR, _HOUSE_2), (0.8, 2.4), (0.1, 0.35), (-5.0, -3.4), (3, 7), (-15, -10),
            (0.5, 3.0), "energetic dark energetic happy", 0.15,
        ),
        Genre(
            "ambient", (1978, 2024), (78, 14), (0.5, 0.5), 0.15, "lydian dorian major minor",
            "bell pad flute piano", "pad bell strings", "pad pad strings", "synthbass pad",
            "hold hold arpeggio", "pedal roots pedal", "none none electronic",
            (_STEP,), (2.5, 5.0), (0.3, 0.65), (-7.4, -5.2), (1, 2), (-26, -18),
            (0.0, 0.5), "calm calm dark sad", 0.25,
        ),
        Genre(
            "hip hop", (1988, 2024), (90, 8), (0.53, 0.62), 0.0, "minor dorian minor phrygian",
            "voice epiano voice", "brass strings bell", "epiano piano pad strings",
            "synthbass bass", "stabs hold stabs", "roots pulse pedal",
            "electronic electronic acoustic",
            (_BOOM, _BREAK), (0.3, 1.0), (0.04, 0.2), (-6.2, -4.2), (3, 7), (-15, -10),
            (0.5, 3.0), "dark energetic calm", 0.25,
        ),
        Genre(
            "reggae", (1969, 2020), (78, 7), (0.52, 0.62), 0.0, "major minor dorian major",
            "voice voice brass", "brass organ pulselead", "organ electric piano",
            "bass bass", "offbeat offbeat offbeat", "roots pulse fifths", "acoustic",
            (_DUB, _STEP), (0.8, 2.2), (0.1, 0.35), (-6.6, -4.8), (2, 4), (-19, -13),
            (0.2, 1.5), "happy calm happy", 0.6,
        ),
        Genre(
            "funk", (1968, 2020), (106, 10), (0.5, 0.58), 0.0, "dorian mixolydian minor dorian",
            "voice brass reed", "brass organ brass", "electric epiano guitar",
            "bass bass synthbass", "stabs offbeat stabs", "pulse pulse octaves", "acoustic",
            (_FUNK, _FUNK_2, _BREAK), (0.3, 1.1), (0.05, 0.2), (-5.4, -3.8), (2, 4), (-18, -12),
            (0.3, 2.0), "energetic happy energetic", 0.3,
        ),
        Genre(
            "chiptune", (1985, 2024), (140, 22), (0.5, 0.5), 0.05, "major minor minor mixolydian",
            "pulselead pulselead sawlead", "pulselead bell pulselead", "pulselead pulselead bell",
            "triangle triangle synthbass", "arpeggio arpeggio stabs", "eighths octaves pulse",
            "chip",
            (_CHIP, _FOUR, _ROCK), (0.2, 0.7), (0.0, 0.12), (-4.4, -2.8), (1, 2.5), (-18, -12),
            (0.0, 1.0), "happy energetic dark energetic", 0.4,
        ),
    )
}  # fmt: skip
