from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.artists.names import (
    NameRules,
    describe_rules,
    group_names,
    is_placeholder,
    normalise,
    split_artists,
)

ALL_OFF = NameRules(**dict.fromkeys((rule.name for rule in dataclasses.fields(NameRules)), False))
rules_ = st.builds(NameRules, **{rule: st.booleans() for rule in describe_rules()})
names = st.text(max_size=24) | st.text(
    alphabet="aAéßThe feat.ft&+;,/x-'’!†٣אבعاКйёがヒ東李한किİıøÆ\u200b\u200f\u0301\u064b()[]",
    max_size=24,
)
# Joined with "feat." and the like, so that the rules for guests are met as well.
credits_ = st.lists(names, min_size=1, max_size=3).map(" feat. ".join)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Björk", "BJORK"),
        ("Motörhead", "Motorhead"),
        ("Sigur Rós", "sigur ros"),
        ("Røyksopp", "Royksopp"),
        ("Æther Realm", "AEther Realm"),
        ("Die Ärzte", "die arzte"),
        ("Straße", "STRASSE"),
        ("İlhan İrem", "Ilhan Irem"),
        ("The Beatles", "Beatles, The"),
        ("Simon & Garfunkel", "Simon and Garfunkel"),
        ("Florence + the Machine", "Florence and The Machine"),
        ("AC/DC", "ACDC"),
        ("R.E.M.", "REM"),
        ("N'Dour", "N’Dour"),
        ("Youssou N`Dour", "Youssou NDour"),
        ("blink-182", "Blink 182"),
        ("blink-182", "blink182"),
        ("\uff22\uff21\uff22\uff39 \uff2d", "Baby M"),  # full-width letters
        ("ﾋｶﾙ", "ヒカル"),  # half-width kana
        ("Massive Attack", " Massive\u00a0\tAttack\n"),
        ("Massive Attack", "Massive\u200b Attack\ufeff"),
        ("Prince feat. Eve", "Prince"),
        ("Prince (feat. Eve)", "Prince"),
        ("Кино", "Kino"),
        ("Мумий Тролль", "Mumiy Troll"),
        ("Алёна", "алена"),
        ("Βαγγέλης", "ΒΑΓΓΕΛΗΣ"),
        ("שָׁלוֹם", "שלום"),  # Hebrew with its points
        ("مُحَمَّد", "محمد"),  # Arabic with its vowels
        ("أحمد", "احمد"),
        ("محـــمد", "محمد"),  # a stretched joint
        ("\u202bשלמה ארצי\u202c", "שלמה ארצי"),  # marks of direction
        ("٣ Doors", "3 doors"),
    ],
)
def test_spellings_of_one_name_are_equal(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("blink-182", "blink"),
        ("Sum 41", "Sum 42"),
        ("U2", "U"),
        ("!!!", "†††"),
        ("!!!", "!!"),
        ("!!!", ""),
        ("The The", "The"),
        ("The The", ""),
        ("Nirvana", "Nirvana (2)"),
        ("李", "理"),  # both "Li"
        ("王力", "王丽"),
        ("אמיר", "עמיר"),  # both "Amir"
        ("علي", "عالي"),
        ("か", "が"),
        ("ビル", "ビール"),
        ("कि", "की"),
        ("Кий", "Кии"),
        ("Little Feat", "Little"),
        ("10 Ft. Ganja Plant", "10"),
        ("♥", "★"),
    ],
)
def test_other_names_are_not(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize(
    "name",
    [
        "!!!",
        "†††",
        "東京事変",
        "宇多田ヒカル",
        "방탄소년단",
        "فيروز",
        "שלמה ארצי",
        "ไทย",
        "हिन्दी",
        "🎵🎵",
    ],
)
def test_names_of_every_script_stay_names(name: str) -> None:
    assert normalise(name) == name.replace(" ", "")
    assert split_artists(name) == [name]
    assert not is_placeholder(name)


@pytest.mark.parametrize(
    "name",
    [
        "Earth, Wind & Fire",
        "Simon & Garfunkel",
        "Simon and Garfunkel",
        "AC/DC",
        "AC / DC",
        "Crosby, Stills, Nash & Young",
        "The The",
        "Tyler, The Creator",
        "Florence + the Machine",
        "Little Feat",
        "10 Ft. Ganja Plant",
        "Charli XCX",
        "Malcolm X Choir",
        "Left Featherweight",
        "Swift",
        "Sophie Ellis-Bextor",
        "Godspeed You! Black Emperor",
        "Godley & Creme",
        "Belle and Sebastian",
        "Gift",
        "Feat",
        "Ft.",
    ],
)
def test_one_artist_is_not_torn_apart(name: str) -> None:
    assert split_artists(name) == [name]


@pytest.mark.parametrize(
    "field",
    [
        "A feat. B",
        "A feat B",
        "A Feat.B",
        "A FEAT. B",
        "A ft. B",
        "A ft B",
        "A featuring B",
        "A Featuring B",
        "A (feat. B)",
        "A [ft. B]",
        "A(feat. B)",
        "A; B",
        "A;B",
        "A\uff1bB",
        "A\0B",
        ";A;;B; ",
        "A; a; B",
        "A feat. B feat. B",
    ],
)
def test_lists_and_guests_are_split(field: str) -> None:
    assert split_artists(field) == ["A", "B"]


def test_guests_keep_their_names() -> None:
    assert split_artists("A feat. Earth, Wind & Fire") == ["A", "Earth, Wind & Fire"]
    assert split_artists("A feat. B (UK)") == ["A", "B (UK)"]
    assert split_artists("A (feat. B (UK))") == ["A", "B (UK)"]
    assert split_artists("Little Feat feat. Bonnie") == ["Little Feat", "Bonnie"]
    assert split_artists("Blink-182 ft. Chief") == ["Blink-182", "Chief"]
    assert split_artists("311 feat. B") == ["311", "B"]
    assert split_artists("宇多田ヒカル feat. 椎名林檎") == ["宇多田ヒカル", "椎名林檎"]
    assert split_artists("") == split_artists(" ; ") == []


@pytest.mark.parametrize(
    "field", ["A & B", "A, B", "A and B", "A x B", "A × B", "A vs. B", "A vs B", "A / B", "A、B"]
)
def test_duets_are_split_when_asked_for(field: str) -> None:
    assert split_artists(field) == [field]
    assert split_artists(field, NameRules(duets=True)) == ["A", "B"]
    assert split_artists(field, NameRules(duets=True), known={"a"}) == [field]
    assert split_artists(field, NameRules(duets=True), known={"a", "b"}) == ["A", "B"]


def test_known_names_keep_duos_whole() -> None:
    rules = NameRules(duets=True)
    known = {"simonandgarfunkel", "paulsimon", "artgarfunkel"}
    assert split_artists("Simon & Garfunkel", rules, known) == ["Simon & Garfunkel"]
    both = ["Paul Simon", "Art Garfunkel"]
    assert split_artists("Paul Simon & Art Garfunkel", rules, known) == both
    assert split_artists("Beatles, The", rules) == ["Beatles, The"]
    assert split_artists("A, B, and C", rules) == ["A", "B", "C"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        "-",
        "???",
        "Various Artists",
        "VARIOUS ARTISTS",
        "V.A.",
        "V/A",
        "va",
        "[unknown]",
        "<Unknown>",
        "Unknown Artist",
        "n/a",
        "Разные исполнители",
        "Verschiedene Künstler",
        "オムニバス",
        "群星",
        "אמנים שונים",
        "فنانون متنوعون",
    ],
)
def test_placeholders_are_known(name: str) -> None:
    assert is_placeholder(name)
    assert group_names(name) == []


def test_placeholders_are_kept_when_asked_for() -> None:
    assert group_names("Various Artists", NameRules(placeholders=False)) == ["variousartists"]
    assert group_names("Various Artists feat. Björk; Unknown") == ["bjork"]
    assert not is_placeholder("Unknown Mortal Orchestra")
    assert not is_placeholder("Various Cruelties")


@pytest.mark.parametrize(
    ("rule", "one", "other"),
    [
        ("featured", "A feat. B", "A"),
        ("case", "Kiss", "KISS"),
        ("ampersand", "A & B", "A and B"),
        ("scripts", "Кино", "Kino"),
        ("accents", "Björk", "Bjork"),
        ("article", "The Band", "Band"),
        ("punctuation", "AC/DC", "ACDC"),
        ("spaces", "Black Bird", "Blackbird"),
    ],
)
def test_each_rule_can_be_switched_off(rule: str, one: str, other: str) -> None:
    without = dataclasses.replace(NameRules(), **{rule: False})
    assert normalise(one) == normalise(other)
    assert normalise(one, without) != normalise(other, without)
    assert normalise("Plain", without) == normalise("Plain", without)


def test_rules_of_fields_can_be_switched_off() -> None:
    assert split_artists("A; B", NameRules(lists=False)) == ["A; B"]
    assert split_artists("A feat. B", NameRules(featured=False)) == ["A feat. B"]
    assert split_artists("A; B feat. C & D", ALL_OFF) == ["A; B feat. C & D"]
    assert normalise("The  Ärzte & Ⅳ", ALL_OFF) == "The Ärzte & IV"


def test_every_rule_is_described() -> None:
    described = describe_rules()
    assert list(described) == [rule.name for rule in dataclasses.fields(NameRules)]
    assert {name: on for name, (on, _) in described.items()} == dataclasses.asdict(NameRules())
    assert len({text for _, text in described.values()}) == len(described)


@given(name=names)
def test_a_normalised_name_stays(name: str) -> None:
    once = normalise(name)
    assert once == normalise(once)
    assert once == once.strip()


@given(field=credits_, rules=rules_)
def test_a_field_never_loses_all_its_artists(field: str, rules: NameRules) -> None:
    artists = split_artists(field, rules)
    keys = [normalise(artist, rules) for artist in artists]
    assert len(set(keys)) == len(keys)
    assert "" not in keys
    # Something to read is left of everything that has something to read.
    if normalise(field, ALL_OFF).strip("; "):
        assert artists
    for artist in artists:
        assert artist == " ".join(artist.split())
