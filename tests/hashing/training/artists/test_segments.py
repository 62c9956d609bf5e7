from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from artist_fixture import SEGMENT, artist_music

from hashing import audio
from hashing.artists.mel_segments import MEL_3S, MEL_9S, cut_segments, linear_starts, spans_of
from hashing.errors import AudioError, HashbeamError
from hashing.excerpts import decode_excerpts
from hashing.features import spectrogram
from hashing.synthesis import render_track
from hashing.training.artists import segments as artist_segments
from hashing.training.artists.segments import ArtistMusic, SetRules, load_music, training_set

SECONDS = SEGMENT.snippet_hop_s


def minutes(segments: int) -> float:
    return segments * SECONDS / 60.0


# Segments.


def test_segments_are_three_and_nine_seconds_of_128_bands() -> None:
    for config, seconds, frames in ((MEL_3S, 3.0, 129), (MEL_9S, 9.0, 388)):
        assert config.snippet_hop_s == pytest.approx(seconds, abs=0.01)
        assert (config.snippet_frames, config.n_bands, config.fmax) == (frames, 128, 11025.0)


def test_segments_are_linearly_spaced_to_the_ends() -> None:
    starts = linear_starts(5000, MEL_9S)
    assert len(starts) == 10
    assert (starts[0], starts[-1]) == (0, 5000 - 388)
    assert np.ptp(np.diff(starts)) <= 1


def test_a_part_that_is_decoded_alone_is_the_segment(tmp_path: Path) -> None:
    path = str(tmp_path / "a.wav")
    samples = render_track(1, 12.0, MEL_3S.sample_rate)
    audio.encode(samples, MEL_3S.sample_rate, path, codec="wav")
    whole = spectrogram([audio.decode(path, MEL_3S.sample_rate)], MEL_3S)
    expected = cut_segments(whole, linear_starts(len(whole), MEL_3S, 4), MEL_3S)
    parts = decode_excerpts(path, MEL_3S.sample_rate, lambda s: spans_of(s, MEL_3S, 4)).parts
    found = np.stack([spectrogram([part], MEL_3S).T for part in parts])
    assert found.shape == expected.shape == (4, 128, 129)
    # Both from the same samples; what is summed in another order differs in the last digits.
    assert np.abs(found - expected)[expected > -60].max() < 0.05


def test_a_short_track_is_heard_again() -> None:
    levels = np.arange(50 * 24, dtype=np.float32).reshape(50, 24)
    (found,) = cut_segments(levels, np.array([0]), SEGMENT)
    assert np.array_equal(found[:, 100], levels[0])
    assert np.array_equal(found[:, 127], levels[27])
    with pytest.raises(AudioError, match="shorter"):
        cut_segments(levels[:0], np.array([0]), SEGMENT)


# Music on disk.


def test_music_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for i in range(3):
        path = str(tmp_path / f"{i}.wav")
        audio.encode(render_track(i, 4.0, 22050), 22050, path, codec="wav")
        rows.append({"track_id": f"t{i}", "uri": path, "artist_id": "xy"[i % 2], "genres": "rock"})
    rows.append({"track_id": "gone", "uri": str(tmp_path / "gone.wav"), "artist_id": "x"})
    rows.append({"track_id": "nobody", "uri": rows[0]["uri"], "artist_id": ""})
    first = load_music(rows, tmp_path / "cache", MEL_3S)
    assert first.track_ids == ["t0", "t1", "t2"]
    assert first.artists.tolist() == [0, 1, 0]
    assert first.levels.dtype == np.float16
    whole = spectrogram([audio.decode(rows[1]["uri"], 22050)], MEL_3S)
    found = first.cut(np.array([[1, 7]]))[0]
    assert np.abs(found - whole[7:136].T).max() <= 0.04  # half precision: steps of 1/16 dB
    monkeypatch.setattr(artist_segments, "decode_blocks", lambda *_: pytest.fail("again"))
    again = load_music(rows, tmp_path / "cache", MEL_9S)
    assert np.array_equal(again.levels, first.levels)
    assert again.identity() != first.identity()  # other segments
    with pytest.raises(HashbeamError, match="no track has an artist"):
        load_music(rows, tmp_path / "cache", MEL_3S, "label")


# Training sets.


@pytest.fixture
def music() -> ArtistMusic:
    """Artists of 12, 16, 20 … segments in two tracks."""
    return artist_music(10, tracks=2, lengths=[6, 7, 8, 9, 10, 6, 7, 8, 9, 10])


def test_a_balanced_set_has_as_much_of_everybody(music: ArtistMusic) -> None:
    chosen = training_set(music, range(10), SetRules(4, minutes(8)), 1)
    assert chosen.counts().tolist() == [8] * 4
    # An artist's own tracks, both of them, and nothing twice.
    for artist in range(4):
        places = chosen.places[chosen.artists == artist]
        tracks = places[:, 0]
        assert len(set(music.artists[tracks])) == 1
        assert sorted(np.unique(tracks, return_counts=True)[1]) == [4, 4]
        assert len(np.unique(places, axis=0)) == 8


def test_segments_of_a_track_do_not_overlap(music: ArtistMusic) -> None:
    chosen = training_set(music, range(10), SetRules(), 1)
    for track in range(len(music)):
        starts = np.sort(chosen.places[chosen.places[:, 0] == track, 1])
        assert len(starts) == music.frames(track) // SEGMENT.snippet_frames
        assert np.all(np.diff(starts) >= SEGMENT.snippet_frames)
        assert starts[-1] + SEGMENT.snippet_frames <= music.frames(track)


def test_a_larger_set_holds_the_smaller(music: ArtistMusic) -> None:
    def of(artists: int, segments: int) -> set[tuple[int, ...]]:
        chosen = training_set(music, range(10), SetRules(artists, minutes(segments)), 5)
        return {tuple(place) for place in chosen.places.tolist()}

    assert of(3, 6) < of(5, 6) < of(5, 11)


def test_only_artists_that_may_be_learned_from(music: ArtistMusic) -> None:
    chosen = training_set(music, [2, 3, 7], SetRules(), 1)
    assert set(music.artists[chosen.places[:, 0]]) == {2, 3, 7}
    assert chosen.n_artists == 3
    with pytest.raises(HashbeamError, match="3 are there"):
        training_set(music, [2, 3, 7], SetRules(artists=4), 1)
    with pytest.raises(HashbeamError, match="ask for fewer"):
        training_set(music, range(10), SetRules(6, minutes(18)), 1)


def test_the_four_shapes() -> None:
    music = artist_music(10, tracks=6, segments=10)
    counts = {
        shape: training_set(music, range(10), SetRules(10, minutes(60), shape), 1).counts()
        for shape in ("balanced", "long-tailed", "cut", "repeated")
    }
    assert counts["balanced"].tolist() == [60] * 10
    # 60 segments down to a thirtieth, each artist with as much less as the next.
    assert counts["long-tailed"].tolist() == [60, 41, 28, 19, 13, 9, 6, 4, 3, 2]
    # 1,002 of 1,749 artists are 57 %: six have 9 segments, the others are left out.
    assert counts["cut"].tolist() == [9] * 6
    assert counts["repeated"].tolist() == [60] * 10


def test_a_repeated_set_has_the_segments_of_the_long_tailed_one() -> None:
    music = artist_music(6, tracks=6, segments=10)
    rules = {s: SetRules(6, minutes(60), s) for s in ("long-tailed", "repeated")}  # type: ignore[arg-type]
    long, repeated = (training_set(music, range(6), rules[s], 1) for s in rules)
    for artist in range(6):
        one, other = (
            np.unique(s.places[s.artists == artist], axis=0, return_counts=True)
            for s in (long, repeated)
        )
        assert np.array_equal(one[0], other[0])
        assert np.ptp(other[1]) <= 1  # as often as each other
