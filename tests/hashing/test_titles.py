"""Names of files and the tracks that they may mean; every score can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.titles import NEAR, OF_NAME, TitleIndex, file_name, words

TRACKS = [
    ("Let It Be", ["The Beatles"]),
    ("Yesterday", ["The Beatles"]),
    ("Thunderstruck", ["AC/DC"]),
    ("Nocturne 1", ["Frédéric Chopin"]),
    ("Nocturne 2", ["Frédéric Chopin"]),
    ("Группа крови", ["Кино"]),
    ("Radio (Live at Home) - Remastered 2009", ["R.E.M.", "Guest"]),
    ("Intro", None),
    (None, ["The Beatles"]),
    ("", ["The Beatles"]),
    ("Yesterday", ["Various Artists"]),
]


@pytest.fixture(scope="module")
def index() -> TitleIndex:
    titles, artists = zip(*TRACKS, strict=True)
    return TitleIndex(titles, artists)


@pytest.mark.parametrize(
    ("path", "inside", "track"),
    [
        ("The Beatles - Let It Be.mid", [], 0),
        ("beatles/let it be.2.mid", [], 0),
        ("the_beatles-let_it_be_(live).mid", [], 0),
        ("B/Beatles, The/LetItBe.mid", [], 0),
        ("pop/LETITBE.MID", [], 0),
        ("07 - let.it.be.kar", [], 0),
        ("Beatles/Let It Be/1.mid", [], 0),
        ("midi/000123.mid", ["Let It Be - Beatles"], 0),
        ("beatles_yesterdey.mid", [], 1),
        ("acdc-thunderstruck.mid", [], 2),
        ("AC-DC/Thunder_struck.mid", [], 2),
        ("chopin/nocturne2.mid", [], 4),
        ("kino - gruppa krovi.mid", [], 5),
        ("REM/radio.mid", [], 6),
        ("rem - Radio (live at home).mid", [], 6),
        ("intro.mid", [], 7),
    ],
)
def test_the_best_is_the_one_that_is_meant(
    index: TitleIndex, path: str, inside: list[str], track: int
) -> None:
    assert index.find(file_name(path, inside))[0].track == track


@pytest.mark.parametrize(
    "path",
    [
        "",
        "help.mid",
        "Beatles.mid",
        "Beatles - Help.mid",
        "Beatles/It Is.mid",
        "chopin - nocturne 3.mid",
        "Chopin - Etude 2.mid",
        "Someone Else - Another Song about Yesterday Evening.mid",
        "~~~.mid",
    ],
)
def test_names_that_mean_nothing_here(index: TitleIndex, path: str) -> None:
    assert index.find(file_name(path)) == []


def test_scores_by_hand() -> None:
    index = TitleIndex(["Alpha Beta", "Gamma"], [["Delta"], None])
    # All of the name is explained, and title and artist are in it.
    assert index.find(file_name("delta - alpha beta.mid"))[0].score == 1.0
    # The title alone: all of the name, nothing of the artist.
    assert index.find(file_name("alpha beta.mid"))[0].score == OF_NAME
    # The artist from the folder.
    assert index.find(file_name("delta/alpha beta.mid"))[0].score == 1.0
    # A word of two entries, one of which has it: log(1 + 2 / 1). Another one weighs as much: of
    # three words two are explained.
    found = index.find(file_name("delta/alpha beta omega.mid"))[0]
    assert found.score == round(OF_NAME * 2 / 3 + 0.4, 4)
    # A track without an artist: half of what an artist counts.
    assert index.find(file_name("gamma.mid"))[0].score == 0.8
    # A wrong letter, in the title and so in what is explained.
    assert index.find(file_name("gamna.mid"))[0].score == round(NEAR * (0.6 * NEAR + 0.2), 4)


def test_several_tracks_of_a_name_are_all_candidates_but_not_too_many() -> None:
    index = TitleIndex(["Love"] * 9, [["A"], ["B"], ["C"]] * 3)
    assert [one.track for one in index.find(file_name("B - Love.mid"))] == [1, 4, 7]
    assert [one.track for one in index.find(file_name("love.mid"), most=4)] == [0, 1, 2, 3]


def test_an_empty_catalogue() -> None:
    assert TitleIndex([], []).find(file_name("a.mid")) == []
    assert TitleIndex([None, "!!!"], [None, ["B"]]).find(file_name("b.mid")) == []


WORD = st.text("abcdefghij", min_size=3, max_size=9)


@settings(max_examples=30)
@given(
    tracks=st.lists(st.tuples(st.lists(WORD, min_size=1, max_size=4), WORD), min_size=1),
    pick=st.integers(0, 99),
    order=st.randoms(use_true_random=False),
)
def test_what_is_named_whole_is_found_whatever_the_order(
    tracks: list[tuple[list[str], str]], pick: int, order: np.random.Generator
) -> None:
    index = TitleIndex([" ".join(title) for title, _ in tracks], [[one] for _, one in tracks])
    title, artist = tracks[pick % len(tracks)]
    parts = [*title, artist]
    order.shuffle(parts)
    found = index.find(file_name("_".join(parts) + ".mid"), most=len(tracks))
    scores = {one.track: one.score for one in found}
    assert scores[pick % len(tracks)] == 1.0
    assert all(0.5 <= score <= 1.0 for score in scores.values())


@settings(max_examples=30)
@given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=3))
def test_any_name_is_taken(index: TitleIndex, path: str, inside: list[str]) -> None:
    for found in index.find(file_name(path, inside)):
        assert TRACKS[found.track][0]


def test_words() -> None:
    assert words("Mc Cartney_&_Wings: “Jet”") == ["mc", "cartney", "and", "wings", "jet"]
    assert words("R.E.M.") == ["r", "e", "m"]
    assert words("2Pac") == ["2", "pac"]
