from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from model_fixture import learned_model, random_model, track_model

from hashing import codes, track_fronts
from hashing.conditions import add_noise, coloured_noise
from hashing.confidence import Confidence
from hashing.encoders import Hasher
from hashing.errors import AudioError, ModelError
from hashing.features import FeatureConfig, spectrogram
from hashing.models import list_models, load_model, save_model
from hashing.quantizers import SignQuantizer
from hashing.ranking import compare_bytes
from hashing.snippets import LONG_QUERY_S, audible, query_snippets, snippets, standardise
from hashing.synthesis import render_track
from hashing.training.export import ensemble_graph
from hashing.training.networks import NETWORKS_PER_CHUNK, Ensemble

RATE = 8000


@pytest.fixture(scope="module")
def hasher(model_folder: Path) -> Hasher:
    return Hasher.load(str(model_folder))


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Hasher:
    """A hasher that stands on an encoder."""
    return Hasher(learned_model(tmp_path_factory.mktemp("models") / "learned"))


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> Hasher:
    """A hasher whose index graph hears whole spectrograms, and which has one for queries."""
    return Hasher(track_model(tmp_path_factory.mktemp("models") / "tracks"))


@pytest.fixture(scope="module", params=["hasher", "learned", "tracks"])
def anyone(request: pytest.FixtureRequest) -> Hasher:
    """A hasher of every kind of front."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Hasher)
    return found


def signs(hasher: Hasher) -> SignQuantizer:
    assert isinstance(hasher.quantizer, SignQuantizer)
    return hasher.quantizer


def margins(hasher: Hasher, cut: np.ndarray) -> np.ndarray:
    """How far the responses to snippets are above their thresholds."""
    return signs(hasher).margins(hasher.respond(cut).responses)


def encode(hasher: Hasher, cut: np.ndarray) -> np.ndarray:
    """Codes of snippets as queries hear them; those of a track, for a hasher of one front."""
    return hasher.quantizer.encode(hasher.respond(cut).responses)


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    return render_track(1, 20.0, RATE)


def cut(samples: np.ndarray, hasher: Hasher) -> np.ndarray:
    return snippets(spectrogram([samples], hasher.features), hasher.features)[0]


SMALL = FeatureConfig(n_bands=10, snippet_frames=6, snippet_hop=4)


@pytest.mark.parametrize("sizes", [[7], [3, 9, 4], list(range(5, 5 + NETWORKS_PER_CHUNK + 3))])
def test_onnx_gives_what_torch_gives(sizes: list[int], tmp_path: Path, music: np.ndarray) -> None:
    torch.manual_seed(4)
    rng = np.random.default_rng(4)
    outputs, components = 5, 20
    network = Ensemble(components, sizes, outputs)
    with torch.no_grad():
        network.first_bias.normal_()
        network.second_bias.normal_()
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())
    front = (rng.standard_normal((60, components)) / 8).astype(np.float16).astype(np.float32)
    bits = len(sizes) * outputs
    thresholds = rng.standard_normal(bits).astype(np.float32) / 4
    spreads = rng.uniform(0.5, 2.0, bits).astype(np.float32)
    arrays = {
        "thresholds": thresholds,
        "spreads": spreads,
        "tables": rng.permutation(bits)[None, :5].astype(np.int16),
    }
    config = {"kind": "forgiving", "bits": bits, "features": dataclasses.asdict(SMALL)}
    graph = ensemble_graph(front, *network.fused())
    hasher = Hasher(save_model(tmp_path / "m", config, {"model": graph}, arrays, "#"))

    parts = cut(music, hasher)
    inputs = torch.from_numpy(standardise(parts, SMALL) @ front)
    with torch.no_grad():
        logits = network(inputs.expand(len(sizes), *inputs.shape)).permute(1, 0, 2)
    expected = (logits.reshape(len(parts), bits).numpy() - thresholds) / spreads
    assert np.abs(expected).std() > 0.1  # there is something to compare
    np.testing.assert_allclose(margins(hasher, parts), expected, atol=1e-4)
    bits_found = codes.unpack(encode(hasher, parts), bits)
    clear = np.abs(expected) > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(bits_found[clear], (expected > 0)[clear])


def test_a_code_is_the_sign_of_the_margins(hasher: Hasher, music: np.ndarray) -> None:
    parts = cut(music, hasher)
    found = margins(hasher, parts)
    assert found.shape == (len(parts), 464)
    np.testing.assert_array_equal(encode(hasher, parts), codes.pack(found > 0))


def test_margins_count_in_spreads(model_folder: Path, tmp_path: Path, music: np.ndarray) -> None:
    model = load_model(str(model_folder))
    plain = Hasher(model)
    shift = np.linspace(-1, 1, 464).astype(np.float32)
    arrays = {**model.arrays, "thresholds": shift, "spreads": np.full(464, 4.0, np.float32)}
    save_model(tmp_path / "m", model.config, {"model": model.graph("model")}, arrays, "#")
    parts = cut(music, plain)
    expected = (margins(plain, parts) - shift) / 4
    changed = Hasher.load(str(tmp_path / "m"))
    np.testing.assert_allclose(margins(changed, parts), expected, atol=1e-5)


def test_responses_are_of_standardised_snippets(learned: Hasher, music: np.ndarray) -> None:
    parts = cut(music, learned)
    answer = learned.respond(parts)
    expected = learned.query_front(standardise(parts, learned.features))
    np.testing.assert_allclose(answer.responses, expected.responses, atol=1e-5)
    # Louder music and another contrast have the same answer.
    np.testing.assert_allclose(learned.respond(parts + 6).responses, answer.responses, atol=1e-3)


def test_the_size_of_a_batch_does_not_matter(
    hasher: Hasher, music: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = cut(music, hasher)
    whole = margins(hasher, parts)
    for size in (1, 7, len(parts) - 1, len(parts)):
        monkeypatch.setattr(track_fronts, "BATCH", size)
        np.testing.assert_allclose(margins(hasher, parts), whole, atol=1e-4)
        found = codes.unpack(encode(hasher, parts), 464)
        clear = np.abs(whole) > 1e-4
        np.testing.assert_array_equal(found[clear], (whole > 0)[clear])


def test_embeddings_and_norms_of_batches_are_joined(
    learned: Hasher, music: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = cut(music, learned)
    whole = learned.respond(parts)
    assert whole.embeddings is not None
    assert whole.norms is not None
    assert whole.embeddings.shape == (len(parts), 64)
    assert whole.norms.shape == (len(parts),)
    monkeypatch.setattr(track_fronts, "BATCH", 7)
    batches = learned.respond(parts)
    assert batches.embeddings is not None
    assert batches.norms is not None
    np.testing.assert_allclose(batches.embeddings, whole.embeddings, atol=1e-5)
    np.testing.assert_allclose(batches.norms, whole.norms, rtol=1e-4)


def test_no_snippets_have_no_codes(hasher: Hasher, learned: Hasher) -> None:
    nothing = np.empty((0, 64, 28), np.float32)
    assert encode(hasher, nothing).shape == (0, 58)
    assert margins(hasher, nothing).shape == (0, 464)
    assert encode(learned, nothing).shape == (0, 32)


@pytest.mark.parametrize("step", [100, 8000, 65_536])
def test_a_track_has_the_same_codes_however_it_arrives(
    anyone: Hasher, music: np.ndarray, step: int
) -> None:
    whole = anyone.hash_track([music])
    blocks = anyone.hash_track(music[first : first + step] for first in range(0, len(music), step))
    np.testing.assert_array_equal(blocks.codes, whole.codes)
    np.testing.assert_array_equal(blocks.snippet, whole.snippet)
    assert blocks.duration_s == whole.duration_s


def test_snippets_of_a_track(hasher: Hasher, music: np.ndarray) -> None:
    track = hasher.hash_track([music])
    # 20 s hold the snippets that start at 0, 0.5 … 19 s: 19 + 0.97 is the last to fit.
    assert track.snippet.tolist() == list(range(39))
    assert track.snippet.dtype == np.int32
    assert track.codes.shape == (39, 58)
    assert track.codes.dtype == np.uint8
    assert 20.0 - hasher.features.frame_s < track.duration_s <= 20.0
    # A snippet in the middle is the snippet of an excerpt that starts there.
    alone = hasher.hash_track([music[10 * 4000 : 10 * 4000 + RATE]])
    np.testing.assert_array_equal(alone.codes[0], track.codes[10])


def test_a_track_that_hears_its_surroundings(tracks: Hasher, music: np.ndarray) -> None:
    whole = tracks.hash_track([music], embeddings=True)
    assert whole.snippet.tolist() == list(range(39))
    assert (whole.codes.shape, whole.codes.dtype) == ((39, 32), np.uint8)
    assert whole.embeddings is not None
    # Two seconds of music around a snippet are more than it hears: so far an excerpt is the track.
    excerpt = tracks.hash_track([music[4 * RATE : 12 * RATE]], embeddings=True)
    assert excerpt.embeddings is not None
    np.testing.assert_array_equal(excerpt.codes[4:11], whole.codes[12:19])
    np.testing.assert_allclose(excerpt.embeddings[4:11], whole.embeddings[12:19], atol=1e-3)
    # Its first snippet has lost what was before it.
    assert np.abs(excerpt.embeddings[0] - whole.embeddings[8]).max() > 0.01


def test_a_long_track_is_heard_in_parts(tracks: Hasher, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred seconds are four runs; one run of them all answers the same."""
    long = np.concatenate([render_track(seed, 20.0, RATE) for seed in range(70, 75)])
    spec = spectrogram([long], tracks.features)
    starts = audible(spec, tracks.features)
    parts = list(tracks.track_front(spec, starts))
    assert len(parts) == 4
    found = tracks.hash_track([long], embeddings=True)
    assert found.snippet.tolist() == list(range(199))
    monkeypatch.setattr(track_fronts, "SHARED_BATCH", 1000)
    whole = tracks.hash_track([long], embeddings=True)
    assert found.embeddings is not None
    assert whole.embeddings is not None
    np.testing.assert_allclose(found.embeddings, whole.embeddings, atol=1e-3)
    # A last digit may put a number on the other side of the border between two codes.
    assert np.mean(found.codes == whole.codes) > 0.999


def test_answers_of_a_track_become_its_codes(anyone: Hasher, music: np.ndarray) -> None:
    track = anyone.hash_track([music])
    spec = spectrogram([music], anyone.features)
    answer = anyone.respond_in_track(spec, 16 * track.snippet)
    np.testing.assert_array_equal(anyone.quantizer.encode(answer.responses), track.codes)


def test_music_finds_its_own_snippets(tracks: Hasher, music: np.ndarray) -> None:
    """A query of the very music is nearest to itself, though another graph hears it."""
    track = tracks.hash_track([music], embeddings=True)
    assert track.embeddings is not None
    query = tracks.hash_query([music[4 * RATE : 7 * RATE]])
    assert query.embeddings is not None
    rows = np.flatnonzero((query.start_frame >= 0) & (query.start_frame % 16 == 0))
    own = 8 + query.start_frame[rows] // 16
    assert own.tolist() == [8, 9, 10, 11, 12]
    likeness = query.embeddings[rows] @ track.embeddings.astype(np.float32).T
    np.testing.assert_array_equal(likeness.argmax(axis=1), own)
    compare = compare_bytes(tracks.quantizer.byte_scores(query.responses))
    by_code = [compare(np.full(39, row), track.codes).argmax() for row in rows]
    np.testing.assert_array_equal(by_code, own)


def test_numbers_of_silent_snippets_are_missing_of_shared_layers(
    tracks: Hasher, music: np.ndarray
) -> None:
    gap = music[: 10 * RATE].copy()
    gap[3 * RATE : 6 * RATE] = 0.0
    found, whole = (tracks.hash_track([part]) for part in (gap, music[: 10 * RATE]))
    assert found.snippet.tolist() == [*range(6), *range(11, 19)]
    # What a snippet hears around itself reaches into the silence.
    np.testing.assert_array_equal(found.codes[:2], whole.codes[:2])
    np.testing.assert_array_equal(found.codes[-4:], whole.codes[-4:])
    assert not np.array_equal(found.codes[6], whole.codes[11])


def test_numbers_of_silent_snippets_are_missing(hasher: Hasher, music: np.ndarray) -> None:
    gap = music[: 10 * RATE].copy()
    gap[3 * RATE : 6 * RATE] = 0.0
    track = hasher.hash_track([gap])
    # Silent are those that lie wholly in the gap: they start at 3, 3.5 … 5 s.
    assert track.snippet.tolist() == [*range(6), *range(11, 19)]
    heard = hasher.hash_track([music[: 10 * RATE]])
    np.testing.assert_array_equal(track.codes[:4], heard.codes[:4])
    np.testing.assert_array_equal(track.codes[-6:], heard.codes[-6:])
    assert track.duration_s == heard.duration_s


@pytest.mark.parametrize("samples", [0, 1, 1023, 1024, 7773])
def test_less_than_a_snippet_is_too_short(anyone: Hasher, samples: int) -> None:
    music = render_track(2, 1.0, RATE)[:samples]
    with pytest.raises(AudioError, match=r"track of 0\.\d\d s is shorter than a snippet") as caught:
        anyone.hash_track([music])
    assert caught.value.kind == "too-short"
    with pytest.raises(AudioError, match="query of") as caught:
        anyone.hash_query([music])
    assert caught.value.kind == "too-short"


def test_one_snippet_is_enough(anyone: Hasher) -> None:
    music = render_track(2, 1.0, RATE)
    assert anyone.hash_track([music[:7774]]).snippet.tolist() == [0]
    # The query's own, and those that reach a quarter of a second beyond it to either side.
    assert anyone.hash_query([music[:7774]]).start_frame.tolist() == [-8, -4, 0, 4, 8]


@pytest.fixture(scope="module")
def repeating(tmp_path_factory: pytest.TempPathFactory) -> Hasher:
    """As `hasher`, but what is short is repeated."""
    features = FeatureConfig(repeats_short=True)
    return Hasher(random_model(tmp_path_factory.mktemp("models") / "short", features=features))


@pytest.mark.parametrize(("samples", "frames"), [(1024, 1), (3523, 10), (3524, 11), (7773, 27)])
def test_what_is_short_is_repeated(repeating: Hasher, samples: int, frames: int) -> None:
    music = render_track(2, 1.0, RATE)[:samples]
    spec = spectrogram([music], repeating.features)
    assert len(spec) == frames
    whole = spec[np.arange(28) % frames]
    track = repeating.hash_track([music])
    assert track.snippet.tolist() == [0]
    np.testing.assert_array_equal(track.codes, encode(repeating, whole.T[None]))
    query = repeating.hash_query([music])
    assert query.start_frame.tolist() == [-8, -4, 0, 4, 8]
    own = repeating.respond(whole.T[None]).responses
    np.testing.assert_allclose(query.responses[2:3], own, atol=1e-5)
    # Its length is that of what was played.
    assert track.duration_s == query.duration_s == ((frames - 1) * 250 + 1024) / RATE


@pytest.mark.parametrize("samples", [0, 1023])
def test_less_than_a_frame_is_not_repeated(repeating: Hasher, samples: int) -> None:
    music = render_track(2, 1.0, RATE)[:samples]
    for call, what in ((repeating.hash_track, "track"), (repeating.hash_query, "query")):
        said = rf"{what} of 0\.00 s is shorter than a frame \(0\.13 s\)"
        with pytest.raises(AudioError, match=said) as caught:
            call([music])
        assert caught.value.kind == "too-short"


def test_what_is_long_enough_is_not_repeated(
    hasher: Hasher, repeating: Hasher, music: np.ndarray
) -> None:
    for samples in (7774, len(music)):
        one, other = (found.hash_track([music[:samples]]) for found in (hasher, repeating))
        np.testing.assert_array_equal(one.snippet, other.snippet)
        assert one.duration_s == other.duration_s
    with pytest.raises(AudioError, match="silent"):
        repeating.hash_track([np.zeros(2000, np.float32)])


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence_is_named(anyone: Hasher, level: float) -> None:
    noise = level * np.random.default_rng(1).standard_normal(3 * RATE)
    for what, listen in (("track", anyone.hash_track), ("query", anyone.hash_query)):
        with pytest.raises(AudioError, match=f"{what} is silent: nothing above -60 dB") as caught:
            listen([noise.astype(np.float32)])
        assert caught.value.kind == "silent"


def test_too_short_comes_before_silent(anyone: Hasher) -> None:
    with pytest.raises(AudioError) as caught:
        anyone.hash_track([np.zeros(100, np.float32)])
    assert caught.value.kind == "too-short"


def test_a_query_is_denser_than_a_track(hasher: Hasher, music: np.ndarray) -> None:
    excerpt = music[: int(0.9 * LONG_QUERY_S * RATE)]
    query = hasher.hash_query([excerpt])
    track = hasher.hash_track([excerpt])
    assert query.start_frame[:5].tolist() == [-8, -4, 0, 4, 8]
    assert query.start_frame.dtype == np.int32
    assert query.duration_s == track.duration_s
    # Snippets of the same moment that lie wholly in the query have the same codes.
    shared = (query.start_frame >= 0) & (query.start_frame % 16 == 0)
    shared &= query.start_frame <= 16 * track.snippet[-1]
    np.testing.assert_array_equal(
        codes.pack(signs(hasher).margins(query.responses[shared]) > 0), track.codes
    )


def test_a_long_query_is_less_dense(hasher: Hasher, music: np.ndarray) -> None:
    query = hasher.hash_query([music[: int(1.5 * LONG_QUERY_S * RATE)]])
    assert query.start_frame[:4].tolist() == [-8, 0, 8, 16]


@pytest.mark.parametrize("name", ["learned", "tracks"])
def test_what_a_query_tells_beside_its_responses(
    name: str, request: pytest.FixtureRequest, music: np.ndarray
) -> None:
    learned = request.getfixturevalue(name)
    excerpt = music[: 2 * RATE]
    query = learned.hash_query([excerpt])
    parts, starts = query_snippets(spectrogram([excerpt], learned.features), learned.features)
    np.testing.assert_array_equal(query.start_frame, starts)
    answer = learned.respond(parts)
    assert query.embeddings is not None
    assert query.norms is not None
    assert query.contrast is not None
    np.testing.assert_allclose(query.responses, answer.responses, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(query.embeddings, axis=1), 1.0, atol=1e-4)
    np.testing.assert_allclose(query.contrast, [part.std() for part in parts], rtol=1e-3)
    # Noise leaves less contrast.
    heard = learned.hash_query([noisy(excerpt, 0.0, 1)])
    assert heard.contrast is not None
    assert heard.contrast.mean() < 0.8 * query.contrast.mean()


def test_a_hasher_without_an_encoder_has_no_embeddings(hasher: Hasher, music: np.ndarray) -> None:
    query = hasher.hash_query([music[:RATE]])
    assert query.embeddings is None
    assert query.norms is None
    assert query.contrast is not None
    with pytest.raises(ModelError, match="has no embeddings: name one that has"):
        hasher.hash_track([music], embeddings=True)


@pytest.mark.parametrize("name", ["learned", "tracks"])
def test_embeddings_of_a_track_are_kept_where_asked_for(
    name: str, request: pytest.FixtureRequest, music: np.ndarray
) -> None:
    learned = request.getfixturevalue(name)
    plain, kept = (learned.hash_track([music], embeddings=wanted) for wanted in (False, True))
    assert plain.embeddings is None
    assert kept.embeddings is not None
    assert kept.embeddings.dtype == np.float16
    assert kept.embeddings.shape == (39, 64)
    # Codes are made of what is kept: half precision moves what lies on a border to its other side.
    np.testing.assert_array_equal(kept.codes, learned.codes_of(kept.embeddings))
    assert (kept.codes != plain.codes).mean() < 0.005
    np.testing.assert_array_equal(kept.snippet, plain.snippet)
    spec = spectrogram([music], learned.features)
    expected = learned.respond_in_track(spec, 16 * plain.snippet).embeddings
    assert expected is not None
    np.testing.assert_allclose(kept.embeddings, expected, atol=1e-3)


def test_the_length_of_a_key_is_checked(hasher: Hasher) -> None:
    assert [hasher.check_key_bits(key_bits) for key_bits in (1, 12, 24)] == [1, 12, 24]
    for key_bits in (0, -1, 25):
        with pytest.raises(ModelError, match=f"keys of 1 to 24 bits, not {key_bits}"):
            hasher.check_key_bits(key_bits)


def noisy(samples: np.ndarray, snr_db: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return add_noise(samples, coloured_noise(samples.size, 1.0, rng), snr_db)


@pytest.fixture(scope="module", params=list_models())
def shipped(request: pytest.FixtureRequest) -> Hasher:
    return Hasher.load(request.param)


def test_shipped_models_hash_music(shipped: Hasher, music: np.ndarray) -> None:
    track = shipped.hash_track([music])
    # As many as fit into 20 s: every half or quarter of a second, by the model.
    features = shipped.features
    room = len(music) - features.snippet_samples
    n = room // (features.snippet_hop * features.hop_length) + 1
    assert n >= 39
    assert track.codes.shape == (n, shipped.quantizer.code_bytes)
    assert len({bytes(code) for code in track.codes}) == n
    again = Hasher.load(str(shipped.model.path)).hash_track([music])
    np.testing.assert_array_equal(track.codes, again.codes)
    assert len(shipped.digest) == 64
    assert encode(shipped, np.empty((0, 64, 28), np.float32)).shape[0] == 0


def test_shipped_models_know_music_again_in_noise(shipped: Hasher) -> None:
    songs = [render_track(seed, 5.0, RATE) for seed in range(40, 52)]
    clean = np.stack([shipped.hash_track([song]).codes[4] for song in songs])
    nearest, same, unlike = [], [], []
    for seed, song in enumerate(songs):
        query = shipped.hash_query([noisy(song, 10.0, seed)])
        (row,) = np.flatnonzero(query.start_frame == 4 * shipped.features.snippet_hop)
        compare = compare_bytes(shipped.quantizer.byte_scores(query.responses))
        similarity = compare(np.full(12, row), clean)
        nearest.append(similarity.argmax() == seed)
        same.append(similarity[seed])
        unlike += np.delete(similarity, seed).tolist()
    assert np.mean(nearest) >= 10 / 12
    assert 0.4 < np.mean(same) <= 1.0
    # Codes that have nothing to do with the query are near nothing.
    assert abs(np.mean(unlike)) < 0.2
    assert np.mean(same) > np.mean(unlike) + 0.3


def test_keys_of_shipped_models_are_spread(shipped: Hasher) -> None:
    # The synthetic music is not what a model was fitted to, but no key may hold it all.
    found = [shipped.hash_track([render_track(seed, 5.0, RATE)]).codes for seed in range(60, 90)]
    packed, quantizer = np.concatenate(found), shipped.quantizer
    material = quantizer.key_material(packed)
    assert 20 <= quantizer.key_bits_max <= 32
    tables = [quantizer.postings(material, table, 12)[1] for table in range(quantizer.n_tables)]
    for keys in tables:
        assert keys.max() < 1 << 12
        _, counts = np.unique(keys, return_counts=True)
        assert counts.max() < 0.2 * len(packed)
    # Tables are made of different bits.
    same = [np.mean(one == other) for i, one in enumerate(tables) for other in tables[:i]]
    assert max(same, default=0.0) < 0.1


def test_no_bit_is_twice_in_a_key_of_shipped_models(shipped: Hasher) -> None:
    tables = shipped.model.arrays["tables"]
    assert tables.shape == (shipped.quantizer.n_tables, shipped.quantizer.key_bits_max)
    assert all(len(set(table)) == len(table) for table in tables.tolist())


def test_queries_meet_the_music_in_the_tables_of_shipped_models(shipped: Hasher) -> None:
    quantizer, met = shipped.quantizer, []
    for seed in range(20, 30):
        song = render_track(seed, 3.0, RATE)
        track, query = shipped.hash_track([song]), shipped.hash_query([noisy(song, 15.0, seed)])
        (row,) = np.flatnonzero(query.start_frame == 2 * shipped.features.snippet_hop)
        probes = quantizer.probe_keys(query.responses[row][None], 12, 8)[0]
        material = quantizer.key_material(track.codes[2:3])
        for table in range(quantizer.n_tables):
            key = quantizer.postings(material, table, 12)[1]
            met.append(np.isin(key, probes[:, table]).any())
    assert np.mean(met) > 0.3


def test_shipped_models_are_calibrated(shipped: Hasher) -> None:
    confidence = Confidence.from_json(shipped.config["calibration"])
    assert confidence != Confidence()


def test_cards_of_shipped_models_name_no_place(shipped: Hasher) -> None:
    folder = shipped.model.path
    for name in ("README.md", "config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        assert not re.search(r"(^|[\s`'\"(=])/\w+/", text)  # no absolute path
    assert json.loads((folder / "config.json").read_text())["training"]["seed"] >= 0
    assert (folder / "README.md").read_text().startswith("# ")
