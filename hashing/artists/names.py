"""Which spellings of an artist's name are one name, and which artists a field names.

Tracks are grouped by equality of the normalised name, so a rule here must not make one name of two
that a listener tells apart. Rules are applied in this order, and each can be switched off
(`NameRules`, `describe_rules`):

1.  Always: one form of each character (Unicode NFKC: full-width letters, ligatures), invisible
    characters dropped, runs of spaces made one.
2.  `featured`: what follows "feat.", "ft." or "featuring" is another artist. "Little Feat" and
    "10 Ft. Ganja Plant" are names.
3.  `case`: capitals are small letters, "ß" is "ss".
4.  `ampersand`: "&", and "+" standing alone, are "and".
5.  `scripts`: Cyrillic, Greek, Armenian and Georgian letters are written in Latin ones, digits of
    all scripts as 0 to 9. Other scripts keep their letters: in Latin ones different names are the
    same (Chinese without its tones, Arabic and Hebrew without vowels).
6.  `accents`: accents and vowel points are dropped, and Latin letters such as "ø" and "æ" are
    written in plain ones.
7.  `article`: a leading "The" and a trailing ", The" are dropped; "The The" stays.
8.  `punctuation`: apostrophes and full stops are dropped, other signs part words. Digits are
    letters. A name of signs alone ("!!!") is left as it is.
9.  `spaces`: words are written together: "Blink 182" is "blink-182" and "blink182".

Fields are split into artists before: at ";" (`lists`), at "feat." (`featured`), and only when asked
at commas, "&", "and", "x", "vs." and their like (`duets`), since "Earth, Wind & Fire", "Simon &
Garfunkel" and "AC/DC" are one artist each. A slash never parts without spaces around it.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Collection

from anyascii import anyascii


def _rule(default: bool, text: str) -> bool:
    made: bool = dataclasses.field(default=default, metadata={"help": text})
    return made


@dataclasses.dataclass(frozen=True)
class NameRules:
    """Switches of the rules; `describe_rules` says what each does. Source: the module's text.

    >>> normalise("Beyoncé", NameRules(accents=False))
    'beyoncé'
    """

    featured: bool = _rule(True, "“A feat. B” is A, and B too (also “ft.” and “featuring”)")
    case: bool = _rule(True, "capital and small letters are equal")
    ampersand: bool = _rule(True, "“&”, and “+” standing alone, are “and”")
    scripts: bool = _rule(True, "Cyrillic, Greek, Armenian and Georgian are written in Latin")
    accents: bool = _rule(True, "letters are equal with and without accents and vowel points")
    article: bool = _rule(True, "a leading “The” and a trailing “, The” are dropped")
    punctuation: bool = _rule(True, "signs are dropped; a name of signs alone keeps them")
    spaces: bool = _rule(True, "words are written together")
    lists: bool = _rule(True, "“A; B” is two artists")
    duets: bool = _rule(False, "“A & B”, “A, B”, “A x B”, “A vs. B” and “A / B” are two artists")
    placeholders: bool = _rule(True, "names such as “Various Artists” and “Unknown” are left out")


DEFAULT_RULES = NameRules()


def describe_rules() -> dict[str, tuple[bool, str]]:
    """Each rule's name, with whether it is on by default and what it does.

    >>> describe_rules()["lists"]
    (True, '“A; B” is two artists')
    """
    return {
        rule.name: (bool(rule.default), str(rule.metadata["help"]))
        for rule in dataclasses.fields(NameRules)
    }


@functools.lru_cache(maxsize=1 << 17)  # a catalogue repeats its names; some 30 MB when full
def normalise(name: str, rules: NameRules = DEFAULT_RULES) -> str:
    """The name under which tracks are grouped; empty only where the name is.

    >>> normalise("The Beatles"), normalise("BEATLES, The"), normalise("The The")
    ('beatles', 'beatles', 'thethe')
    >>> normalise("blink-182"), normalise("Youssou N’Dour"), normalise("Кино"), normalise("!!!")
    ('blink182', 'youssoundour', 'kino', '!!!')
    """
    name = _clean(name)
    if rules.featured:
        name = _split_featured(name)[0]
    text = _clean(name.casefold()) if rules.case else name
    bare = text
    if rules.ampersand:
        text = re.sub(r"\s*&\s*|(?<=\s)\+(?=\s)", " and ", text) if _has_words(text) else text
    if rules.scripts:
        text = "".join(map(_to_latin, text))
    if rules.accents:
        text = _without_accents(text)
    if rules.case:
        text = text.casefold()  # letters of other scripts may have come out as capitals
    if rules.article:
        text = _without_article(text)
    if rules.punctuation:
        text = _without_signs(text)
    text = " ".join(text.split())
    if rules.spaces:
        text = text.replace(" ", "")
    return text or bare


def split_artists(
    field: str, rules: NameRules = DEFAULT_RULES, known: Collection[str] | None = None
) -> list[str]:
    """The artists that a field names, as they are spelled, each once.

    Args:
      field: the artist of a track as its catalogue gives it.
      known: normalised names that stand alone somewhere in the catalogue. Where given, a duet is
        split only if all its parts are among them, so that `duets` leaves "Simon & Garfunkel" be.

    >>> split_artists("A feat. B; C (ft. D)")
    ['A', 'B', 'C', 'D']
    >>> split_artists("Simon & Garfunkel"), split_artists("AC/DC"), split_artists("A & ; a")
    (['Simon & Garfunkel'], ['AC/DC'], ['A &', 'a'])
    >>> split_artists("Nina & Tom", NameRules(duets=True))
    ['Nina', 'Tom']
    """
    parts = re.split("[;\uff1b\0]", field) if rules.lists else [field]
    if rules.featured:
        parts = [one for part in parts for one in _split_featured(part.strip())]
    if rules.duets:
        parts = [one for part in parts for one in _split_duet(part, rules, known)]
    artists: dict[str, str] = {}
    for part in parts:
        artist = " ".join(part.split())
        if key := normalise(artist, rules):
            artists.setdefault(key, artist)
    return list(artists.values())


def group_names(
    field: str, rules: NameRules = DEFAULT_RULES, known: Collection[str] | None = None
) -> list[str]:
    """The normalised names of a field's artists, without placeholders unless they are asked for.

    >>> group_names("Björk feat. The Sugarcubes"), group_names("Various Artists")
    (['bjork', 'sugarcubes'], [])
    """
    return [
        normalise(artist, rules)
        for artist in split_artists(field, rules, known)
        if not (rules.placeholders and is_placeholder(artist))
    ]


# Names that say that nobody, anybody or a number of people made a track, in the languages that
# catalogues of Latin, Cyrillic, Japanese, Chinese, Hebrew and Arabic names mostly come in.
PLACEHOLDERS = (
    "Various Artists, Various, Various Artist, Various Composers, Various Performers, VA, V.A., "
    "V/A, Unknown, Unknown Artist, Artist Unknown, Unknown Performer, Unknown Composer, N/A, null, "
    "No Artist, Not Available, Not Specified, Anonymous, Traditional, Trad., Dialogue, "
    "Soundtrack, Original Soundtrack, Original Motion Picture Soundtrack, Original Cast, "
    "Verschiedene Interpreten, Verschiedene Künstler, Diverse Interpreten, Unbekannt, "
    "Unbekannter Künstler, Artistes divers, Artistes variés, Artiste inconnu, Varios Artistas, "
    "Artista desconocido, Vários Artistas, Vários Intérpretes, Artista desconhecido, "
    "Artisti vari, Autori vari, Artista sconosciuto, Diverse artiesten, Onbekende artiest, "
    "Разные исполнители, Различные исполнители, Сборник, Неизвестный исполнитель, Неизвестен, "
    "ヴァリアス・アーティスト, ヴァリアス, オムニバス, 不明, 不明なアーティスト, "
    "群星, 未知, 未知艺术家, 未知藝術家, 佚名, אמנים שונים, אמן לא ידוע, "
    "فنانون متنوعون, فنانين متنوعين, فنان غير معروف, مجهول"
)


def is_placeholder(name: str) -> bool:
    """Whether a name stands for nobody in particular; an empty one does.

    >>> [is_placeholder(name) for name in ("VARIOUS  artists", "[unknown]", "-", "", "!!!")]
    [True, True, True, True, False]
    """
    text = _clean(name)
    return not text.strip("-–—_.? ") or normalise(text) in _placeholder_names()


@functools.cache
def _placeholder_names() -> frozenset[str]:
    return frozenset(normalise(name) for name in PLACEHOLDERS.split(", "))


def _clean(text: str) -> str:
    """One form of each character, no invisible ones, single spaces."""
    text = unicodedata.normalize("NFKC", text)
    shown = (
        " " if category == "Cc" else character
        for character in text
        if (category := unicodedata.category(character)) not in ("Cf", "Cs")
    )
    return " ".join("".join(shown).split())


_FEATURED = re.compile(
    r"(?:(?<!\blittle)\s+|\s*[(\[]\s*)(?P<word>feat|ft|featuring)(?:\.\s*|:\s*|\s+)(?=[^\s)\]])",
    re.IGNORECASE,
)
_CLOSING = {")": "(", "]": "["}


def _split_featured(name: str) -> list[str]:
    """The main artist, then the featured ones."""
    parts, start = [], 0
    for match in _FEATURED.finditer(name):
        before = name[start : match.start()].strip()
        # "10 Ft. Ganja Plant" is ten feet high.
        if _clean(before) and not (match["word"].lower() == "ft" and before.isdecimal()):
            parts.append(before)
            start = match.end()
    parts.append(name[start:].strip())
    return [parts[0], *(_without_bracket(guest) for guest in parts[1:])]


def _without_bracket(guest: str) -> str:
    """A featured artist without the bracket that was opened before it."""
    opening = _CLOSING.get(guest[-1:])
    if opening and guest.count(guest[-1]) > guest.count(opening):
        return guest[:-1].strip()
    return guest


_DUET = re.compile(
    r"\s*[,、،]\s*(?:(?:and|&)\s+)?|\s+(?:&|\+|and|with|vs\.?|x|×|/)\s+", re.IGNORECASE
)


def _split_duet(part: str, rules: NameRules, known: Collection[str] | None) -> list[str]:
    whole = dataclasses.replace(rules, featured=False)
    if not rules.article or not re.search(r",\s*the$", part.strip(), re.IGNORECASE):
        names = [name for name in _DUET.split(part) if name.strip()]
        if known is None or all(normalise(name, whole) in known for name in names):
            return names
    return [part]


def _has_words(text: str) -> bool:
    return any(unicodedata.category(character)[0] in "LN" for character in text)


# Scripts whose letters have Latin ones of their own, as Unicode names their characters.
_ALPHABETS = ("CYRILLIC", "GREEK", "ARMENIAN", "GEORGIAN")


@functools.lru_cache(maxsize=4096)
def _to_latin(character: str) -> str:
    """A letter of another alphabet in Latin ones, a digit as 0 to 9, all else as it is."""
    if not character.isascii() and unicodedata.category(character) == "Nd":
        return str(unicodedata.decimal(character))
    if character.isascii() or not unicodedata.name(character, "").startswith(_ALPHABETS):
        return character
    if unicodedata.category(character)[0] != "L":
        return character
    return "".join(filter(str.isalnum, anyascii(character)))  # without the sign for a soft sign


# Marks that are accents or vowel points: of Latin, Greek and Cyrillic, of Hebrew, and of Arabic
# with its stretched joint. Those of other scripts are parts of letters, as in Hindi and Japanese.
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf-\u05c2\u05c4\u05c5\u05c7"
    "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed]"
)


def _without_accents(text: str) -> str:
    text = _ACCENTS.sub("", unicodedata.normalize("NFD", text))
    return "".join(map(_plain_latin, unicodedata.normalize("NFC", text)))


@functools.lru_cache(maxsize=4096)
def _plain_latin(character: str) -> str:
    if character.isascii() or not unicodedata.name(character, "").startswith("LATIN "):
        return character
    return "".join(filter(str.isalnum, anyascii(character))) or character


def _without_article(text: str) -> str:
    text = re.sub(r"^(.*\S),\s*the$", r"the \1", text, flags=re.IGNORECASE)
    while match := re.fullmatch(r"the\s+(\S.*)", text, flags=re.IGNORECASE):
        if match[1].casefold() == "the" or not _has_words(match[1]):
            break
        text = match[1]
    return text


# Signs inside a word rather than between words: apostrophes in all their shapes, and full stops.
_JOINING = re.compile("['\u2018\u2019`\u00b4\u02bc\u02b9.]")


def _without_signs(text: str) -> str:
    joined = _JOINING.sub("", text)
    return "".join(
        character if unicodedata.category(character)[0] in "LNM" else " " for character in joined
    )
