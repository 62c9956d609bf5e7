"""Names of artists, albums and songs, made of syllables and plain words."""

from __future__ import annotations

import numpy as np

# Words in one string each: lists of them would fill a page.
_ONSETS = "b br c d dr f g gr h j k l m n p r s st t tr v w z"
_VOWELS = "a e i o u ae ei ou"
_CODAS = ". . . l n r s th nd ck ll rn"
_ADJECTIVES = (
    "amber bitter blind broken cobalt cold crooked distant early electric empty fading foreign "
    "gentle golden hollow hidden idle ivory last late little lonely lunar paper plain quiet "
    "restless rusty second secret silver slow sudden tender velvet wandering western wild winter"
)
_NOUNS = (
    "avenue bridge candle city compass corner desert dream engine feather fire garden ghost "
    "harbour hour island kingdom lantern letter machine meadow mirror morning mountain night "
    "ocean orchard parade radio rain river road sailor season shadow signal sister station stone "
    "stranger summer thunder tower train valley window"
)
_GROUPS = (
    "Architects Band Bells Collective Crows Drifters Ensemble Experience Foxes Kites Lights "
    "Orchestra Pilots Project Quartet Rivals Saints Sound Strangers Trio Union Waves"
)


def artist_name(rng: np.random.Generator) -> str:
    """Draw a person's or a group's name.

    >>> artist_name(np.random.default_rng(1)) == artist_name(np.random.default_rng(1))
    True
    """
    form = rng.random()
    if form < 0.45:
        return f"{_invented(rng)} {_invented(rng)}"
    if form < 0.7:
        return f"The {_word(_ADJECTIVES, rng)} {_one(_GROUPS, rng)}"
    if form < 0.85:
        return f"{_invented(rng)} {_one(_GROUPS, rng)}"
    return f"{_word(_ADJECTIVES, rng)} {_word(_NOUNS, rng)}"


def title(rng: np.random.Generator) -> str:
    """Draw the title of a song or an album.

    >>> title(np.random.default_rng(1)) == title(np.random.default_rng(1))
    True
    """
    form = rng.random()
    noun = _word(_NOUNS, rng)
    if form < 0.4:
        return f"{_word(_ADJECTIVES, rng)} {noun}"
    if form < 0.65:
        return f"{noun} of {_word(_NOUNS, rng)}"
    if form < 0.85:
        return f"The {_word(_ADJECTIVES, rng)} {noun}"
    return f"{noun} and {_word(_NOUNS, rng)}"


def _one(words: str, rng: np.random.Generator) -> str:
    return str(rng.choice(words.split()))


def _word(words: str, rng: np.random.Generator) -> str:
    return _one(words, rng).title()


def _invented(rng: np.random.Generator) -> str:
    """Two syllables that nobody is called by, or nearly."""
    syllables = [_one(_ONSETS, rng) + _one(_VOWELS, rng) for _ in range(2)]
    return ("".join(syllables) + _one(_CODAS, rng).strip(".")).capitalize()
