from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from hashing import codes, spectral


def embeddings(seed: int, n: int, d: int) -> np.ndarray:
    """Of length one with a falling spectrum, about a mean that is not zero."""
    values = np.random.default_rng(seed).standard_normal((n, d)) / np.arange(1, d + 1) ** 0.5 + 0.2
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def clusters(seed: int, centres: int, each: int, d: int = 8) -> np.ndarray:
    """Far apart, [centres, each, d]."""
    rng = np.random.default_rng(seed)
    middle = 10.0 * np.linalg.qr(rng.standard_normal((d, d)))[0][:centres]
    return middle[:, None] + 0.1 * rng.standard_normal((centres, each, d))


def fit(name: str, items: np.ndarray, bits: int, **options: int):
    if name == "spectral":
        return spectral.fit_spectral(items, bits)
    return spectral.fit_anchor_graph(items, bits, layers=int(name[-1]), anchors=40, **options)


NAMES = ("spectral", "anchors-1", "anchors-2")


# Spectral hashing.


def test_along_a_line_mode_k_flips_k_times():
    # The range is 0 to 16 about a mean of 8; mode k flips at 16 (j + 1/2) / k.
    hashed = spectral.fit_spectral(np.arange(17.0)[:, None], bits=4)
    assert hashed.mean.tolist() == [8.0]
    assert hashed.directions.tolist() == [[1.0]]
    assert (hashed.low.tolist(), hashed.high.tolist()) == ([-8.0], [8.0])
    assert hashed.axes.tolist() == [0, 0, 0, 0]
    assert hashed.modes.tolist() == [1, 2, 3, 4]
    flips = {0: [8], 1: [4, 12], 2: [16 / 6, 8, 80 / 6], 3: [2, 6, 10, 14]}
    points = np.arange(0.05, 16, 0.1)
    found = codes.unpack(hashed.encode(points[:, None]), 4)
    for bit, where in flips.items():
        expected = np.sum(points[:, None] > np.array(where), axis=1) % 2 == 0
        np.testing.assert_array_equal(found[:, bit], expected)
    # On a flip the response is 0, and the bit not set; a cosine of π/2 would be above 0.
    assert hashed.responses(np.array([[8.0]]))[0, [0, 2]].tolist() == [0.0, 0.0]
    assert hashed.encode(np.array([[8.0]])).tolist() == [[0b1000]]
    np.testing.assert_allclose(hashed.responses(np.array([[0.0], [16.0]]))[:, 0], [1.0, -1.0])


def test_a_wide_direction_has_several_bits_before_a_narrow_one_has_its_first():
    # A box of 4 by 1 that is turned by 30 degrees: mode 4 along it and mode 1 across are equals.
    box = np.stack(np.meshgrid(np.arange(0, 4.5, 0.5), [0.0, 0.5, 1.0]), axis=-1).reshape(-1, 2)
    turn = np.array([[np.sqrt(3) / 2, 0.5], [-0.5, np.sqrt(3) / 2]])
    for items in (box, box @ turn, 100.0 * box @ turn + 7.0):
        hashed = spectral.fit_spectral(items, bits=7)
        assert hashed.axes.tolist() == [0, 0, 0, 0, 1, 0, 0]
        assert hashed.modes.tolist() == [1, 2, 3, 4, 1, 5, 6]


@given(seed=st.integers(0, 10**6), d=st.integers(1, 6), bits=st.integers(1, 40))
@settings(max_examples=40)
def test_bits_are_those_of_the_formula(seed: int, d: int, bits: int):
    items = embeddings(seed, 50, d + 1).astype(np.float64)
    hashed = spectral.fit_spectral(items, bits)
    turned = PCA(min(bits, d + 1), svd_solver="full").fit(items)
    components = turned.components_ * np.sign(
        np.sum(turned.components_ * hashed.directions.T, axis=1, keepdims=True)
    )
    values = (items - turned.mean_) @ components.T
    low, high = values.min(axis=0), values.max(axis=0)
    every = [(k * np.pi / width) ** 2 for width in high - low for k in range(1, bits + 1)]
    step = hashed.modes * np.pi / (high - low)[hashed.axes]
    np.testing.assert_allclose(step**2, np.sort(every)[:bits], rtol=1e-4)
    assert len(set(zip(hashed.axes, hashed.modes, strict=True))) == bits
    expected = np.sin(np.pi / 2 + step * (values - low)[:, hashed.axes])
    responses = hashed.responses(items)
    assert responses.dtype == np.float32
    np.testing.assert_allclose(responses, expected, atol=1e-3)
    np.testing.assert_array_equal(codes.unpack(hashed.encode(items), bits), responses > 0)


def test_along_a_line_responses_are_eigenvectors_of_the_graph_of_neighbours():
    n = 200
    joined = np.eye(n, k=1) + np.eye(n, k=-1)
    vectors = np.linalg.eigh(np.diag(joined.sum(axis=0)) - joined)[1][:, 1:6]
    hashed = spectral.fit_spectral(np.arange(float(n))[:, None], bits=5)
    alike = np.abs(np.corrcoef(vectors.T, hashed.responses(np.arange(float(n))[:, None]).T))
    assert np.diag(alike[:5, 5:]).min() > 0.999


def test_directions_without_variance_are_left_out():
    line = np.arange(5.0)[:, None] * np.array([3.0, 0.0, 4.0]) + 1.0
    hashed = spectral.fit_spectral(line, bits=3)
    np.testing.assert_allclose(hashed.directions, [[0.6], [0.0], [0.8]], atol=1e-6)
    np.testing.assert_allclose(hashed.high - hashed.low, [20.0], rtol=1e-6)
    assert hashed.modes.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="3 embeddings are all the same"):
        spectral.fit_spectral(np.full((3, 2), 0.1), bits=1)


# Anchor graph hashing.


def dense(hashed: spectral.AnchorGraphHash, items: np.ndarray) -> np.ndarray:
    """Z [n, m] of embeddings, with all of its zeros."""
    squares = np.square(items[:, None] - hashed.anchors.astype(np.float64)).sum(axis=2)
    kept = np.argsort(np.argsort(squares, axis=1), axis=1) < hashed.nearest[0]
    z = np.exp(-squares / hashed.bandwidth[0]) * kept
    return z / z.sum(axis=1, keepdims=True)


def test_two_points_by_hand():
    # Each point is an anchor, the other one is at distance 1: the bandwidth is 1. A point x has the
    # similarities exp(-x²) and exp(-(1 - x)²); their difference over their sum is tanh(1/2 - x).
    hashed = spectral.fit_anchor_graph(np.array([[0.0], [1.0]]), bits=1)
    assert hashed.anchors.ravel().tolist() == [0.0, 1.0]
    assert hashed.bandwidth.tolist() == [1.0]
    assert hashed.nearest.tolist() == [2]
    points = np.array([[-1.0], [0.0], [0.3], [1.0], [4.0]])
    expected = np.tanh(0.5 - points) / np.tanh(0.5)
    np.testing.assert_allclose(hashed.responses(points), expected, rtol=1e-5)
    assert hashed.encode(points).ravel().tolist() == [1, 1, 1, 0, 0]
    # Each side is one point: the thresholds stand half-way, and both points are beyond them.
    two = spectral.fit_anchor_graph(np.array([[0.0], [1.0]]), bits=2, layers=2)
    np.testing.assert_allclose(two.thresholds, [[0.5], [-0.5]], rtol=1e-5)
    assert two.encode(points).ravel().tolist() == [3, 3, 1, 2, 2]


@given(seed=st.integers(0, 10**6), nearest=st.integers(2, 6), m=st.integers(8, 20))
@settings(max_examples=25)
def test_responses_are_the_eigenvectors_of_the_whole_graph(seed: int, nearest: int, m: int):
    items = embeddings(seed, 80, 3).astype(np.float64)
    hashed = spectral.fit_anchor_graph(items, bits=5, anchors=m, nearest=nearest, seed=seed)
    z = dense(hashed, items)
    graph = z / z.sum(axis=0) @ z.T
    np.testing.assert_allclose(graph.sum(axis=0), 1.0)
    found = hashed.responses(items).astype(np.float64)
    # The constant one is not among them; each has a mean of 0 and the length √n, all are at right
    # angles; and their eigenvalues are the largest that there are.
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(found.T @ found / 80, np.eye(5), atol=1e-3)
    expected = np.linalg.eigvalsh(graph)[::-1][1:6]
    np.testing.assert_allclose(graph @ found, found * expected, atol=1e-3)
    farthest = np.sort(np.linalg.norm(items[:, None] - hashed.anchors, axis=2), axis=1)
    bandwidth = farthest[:, nearest - 1].mean() ** 2
    np.testing.assert_allclose(hashed.bandwidth, [bandwidth], rtol=1e-5)
    # What was not there at the fit has the mean of its anchors' weights.
    other = embeddings(seed + 1, 20, 3).astype(np.float64)
    np.testing.assert_allclose(
        hashed.responses(other), dense(hashed, other) @ hashed.weights, atol=1e-4
    )


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_of_the_second_layer_are_the_smoothest_with_a_mean_of_zero(seed: int):
    # Skewed, so that the thresholds of the two sides differ.
    items = np.random.default_rng(seed).exponential(size=(150, 2))
    hashed = spectral.fit_anchor_graph(items, bits=6, anchors=20, nearest=4, layers=2)
    z = dense(hashed, items)
    laplacian = np.eye(150) - z / z.sum(axis=0) @ z.T
    for values, expected in zip((z @ hashed.weights).T, hashed.thresholds.T, strict=True):

        def second(at: np.ndarray, values: np.ndarray = values) -> np.ndarray:
            return np.where(values > 0, values - at[0], at[1] - values)

        best = minimize(
            lambda at, second=second: second(at) @ laplacian @ second(at),
            x0=[1.0, -1.0],
            constraints={"type": "eq", "fun": lambda at, second=second: second(at).mean()},
        )
        np.testing.assert_allclose(expected, best.x, atol=2e-3)
    assert np.abs(hashed.thresholds.sum(axis=0)).max() > 0.05
    np.testing.assert_allclose(hashed.responses(items).mean(axis=0), 0.0, atol=1e-4)


def test_the_second_layer_halves_the_sides_of_the_first():
    items = embeddings(0, 500, 4)
    one = spectral.fit_anchor_graph(items, bits=8, anchors=50)
    half = spectral.fit_anchor_graph(items, bits=4, anchors=50)
    two = spectral.fit_anchor_graph(items, bits=8, anchors=50, layers=2)
    first, second = np.split(two.responses(items), 2, axis=1)
    np.testing.assert_allclose(first, half.responses(items), atol=1e-5)
    upper, lower = two.thresholds
    np.testing.assert_array_equal(second > 0, np.where(first > 0, first > upper, first < lower))
    # Both sides of each sign are cut into two parts that are not small.
    for side in (first > 0, first <= 0):
        share = np.sum(side & (second > 0), axis=0) / side.sum(axis=0)
        assert share.min() > 0.2
        assert share.max() < 0.8
    differing = codes.hamming(one.encode(items), two.encode(items))
    assert np.mean(differing > 0) > 0.5


def test_anchors_are_those_of_k_means():
    items = embeddings(1, 600, 5)
    anchors = spectral.fit_anchor_graph(items, bits=4, anchors=30).anchors
    reference = KMeans(30, n_init=1, random_state=0).fit(items)
    squares = np.square(items[:, None] - anchors).sum(axis=2).min(axis=1)
    assert squares.sum() < 1.1 * reference.inertia_


def test_few_embeddings_are_anchors_themselves():
    items = np.repeat(embeddings(2, 7, 3), 2, axis=0)
    hashed = spectral.fit_anchor_graph(items, bits=3)
    np.testing.assert_array_equal(hashed.anchors, np.unique(items, axis=0))
    assert hashed.nearest.tolist() == [spectral.NEAREST]
    for bits, layers in ((7, 1), (14, 2)):
        with pytest.raises(ValueError, match="need more than 7 anchors, not 7"):
            spectral.fit_anchor_graph(items, bits=bits, layers=layers)
    with pytest.raises(ValueError, match="bits=12 in 1 layers need more than 12 anchors, not 10"):
        spectral.fit_anchor_graph(embeddings(3, 100, 3), bits=12, anchors=10)


def test_a_graph_of_too_few_eigenvectors_is_refused():
    # All anchors near enough to all points: eigenvalues fall faster than exponentially.
    line = np.linspace(0.0, 1.0, 40)[:, None]
    assert spectral.fit_anchor_graph(line, bits=3, nearest=40).bits == 3
    with pytest.raises(ValueError, match="of 40 anchors does not have 20 eigenvectors of use"):
        spectral.fit_anchor_graph(line, bits=20, nearest=40)


# Both.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_clusters_have_codes_alike_within_and_unlike_between(name: str, seed: int):
    items = clusters(seed, centres=4, each=100)
    train, other = items[:, :60], items[:, 60:]
    # Three directions or eigenvectors tell four clusters apart, later ones tell what is in them.
    bits = 3 if name == "anchors-1" else 6
    hashed = fit(name, train.reshape(-1, 8), bits)
    first = codes.unpack(hashed.encode(train.reshape(-1, 8)), bits).reshape(4, 60, bits)
    found = codes.unpack(hashed.encode(other.reshape(-1, 8)), bits).reshape(4, 40, bits)
    usual = first.mean(axis=1) > 0.5
    assert len(np.unique(usual, axis=0)) == 4
    within = np.mean(found != usual[:, None])
    between = np.mean(usual[:, None] != usual[None]) * 4 / 3
    assert within < 0.1 < 0.25 < between


@pytest.mark.parametrize("layers", [1, 2])
def test_clusters_that_nothing_joins_have_one_code_each(layers: int):
    items = clusters(5, centres=4, each=50)
    hashed = spectral.fit_anchor_graph(
        items.reshape(-1, 8), bits=3 * layers, anchors=32, nearest=2, layers=layers
    )
    packed = hashed.encode(items.reshape(-1, 8)).reshape(4, 50)
    assert np.all(packed == packed[:, :1])
    assert len(np.unique(packed[:, 0])) == 4
    # Each side is cut at its own mean, or half-way to it: the graph leaves it open where.
    values = hashed.responses(items.reshape(-1, 8))[:, :3]
    sides = np.array([[value[value > 0].mean(), value[value <= 0].mean()] for value in values.T])
    for share in hashed.thresholds / sides.T[: len(hashed.thresholds)]:
        assert np.all(np.isclose(share, 1.0, rtol=1e-4) | np.isclose(share, 0.5, rtol=1e-4))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_arguments_give_the_same_hash(name: str):
    items = embeddings(6, 300, 8)
    hashed = fit(name, items, bits=12)
    for same in (items.astype(np.float64), np.asfortranarray(items)):
        for key, array in fit(name, same, bits=12).arrays().items():
            np.testing.assert_array_equal(array, hashed.arrays()[key])
    if name != "spectral":
        assert not np.array_equal(fit(name, items, bits=12, seed=1).anchors, hashed.anchors)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_rows_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch):
    items, other = embeddings(7, 300, 8), embeddings(8, 101, 8)
    whole = fit(name, items, bits=12)
    responses, packed = whole.responses(other), whole.encode(other)
    for values in (1, 700, 5000):
        monkeypatch.setattr(spectral, "_BLOCK_VALUES", values)
        np.testing.assert_allclose(whole.responses(other), responses, atol=1e-6)
        np.testing.assert_array_equal(whole.encode(other), packed)
        for key, array in fit(name, items, bits=12).arrays().items():
            np.testing.assert_allclose(array, whole.arrays()[key], atol=1e-5)
    assert whole.encode(other[:0]).shape == (0, 2)
    assert whole.responses(other[:0]).shape == (0, 12)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_is_the_same_hash(name: str):
    items = embeddings(9, 200, 6)
    hashed = fit(name, items, bits=10)
    stored = io.BytesIO()
    np.savez(stored, allow_pickle=False, tables=np.zeros(3), **hashed.arrays())
    stored.seek(0)
    with np.load(stored) as arrays:
        again = type(hashed).from_arrays(arrays)
    assert again.bits == hashed.bits == 10
    np.testing.assert_array_equal(again.responses(items), hashed.responses(items))
    responses = hashed.responses(items)
    assert responses.dtype == np.float32
    np.testing.assert_array_equal(again.encode(items), codes.pack(responses > 0))


@pytest.mark.parametrize("name", NAMES)
def test_far_away_there_are_answers_too(name: str):
    hashed = fit(name, embeddings(10, 200, 4), bits=8)
    assert np.all(np.isfinite(hashed.responses(np.array([[1e30, 0, 0, 0], [-1e4, 1e4, 0, 0]]))))


def bad(name: str, key: str, value: object) -> dict[str, np.ndarray]:
    arrays = fit(name, embeddings(11, 60, 3), bits=4).arrays()
    array = arrays.pop(key)
    if callable(value):
        arrays[key] = value(array)
    elif value is not None:
        arrays[key] = np.asarray(value)
    return arrays


BAD = [
    *(
        (name, key, None, f"lacks the array '{key}'")
        for name, key in (("spectral", "mean"), ("anchors-1", "thresholds"))
    ),
    ("spectral", "mean", lambda a: a[:2], "mean must be"),
    ("spectral", "mean", lambda a: a * np.nan, "mean must be finite"),
    ("spectral", "mean", lambda a: np.full(3, 1e300), "mean must be finite"),
    ("spectral", "mean", ["a", "b", "c"], "mean must not be"),
    ("spectral", "directions", lambda a: a[:, 0], "directions must not be"),
    ("spectral", "directions", lambda a: a[:, :0], "directions must not be"),
    ("spectral", "low", lambda a: a[:1], "low must be"),
    ("spectral", "high", lambda a: a - 10.0, "high must be above low"),
    ("spectral", "axes", lambda a: a + 3, "axes 0 to 2"),
    ("spectral", "axes", lambda a: a - 1, "axes 0 to 2"),
    ("spectral", "axes", lambda a: a[:3], "axes must be"),
    ("spectral", "modes", lambda a: a * 0.5, "modes must not be float64"),
    ("spectral", "modes", lambda a: a - 1, "modes must be 1 to 4"),
    ("spectral", "modes", lambda a: a.astype(np.uint64) << np.uint64(63), "modes must be 1 to 4"),
    ("spectral", "modes", lambda a: a[:0], "modes must not be"),
    ("anchors-1", "anchors", lambda a: a[1:], "weights must be"),
    ("anchors-1", "anchors", lambda a: a[None], "anchors must not be"),
    ("anchors-1", "anchors", lambda a: a / 0.0, "anchors must be finite"),
    ("anchors-1", "bandwidth", [0.0], "bandwidth must be above 0"),
    ("anchors-1", "bandwidth", [1.0, 1.0], "bandwidth must be"),
    ("anchors-1", "nearest", [0], "nearest 1 to 40"),
    ("anchors-1", "nearest", [41], "nearest 1 to 40"),
    ("anchors-1", "nearest", 2, "nearest must not be"),
    ("anchors-1", "thresholds", lambda a: a[:, 1:], "thresholds must be"),
    ("anchors-2", "thresholds", lambda a: a[:1], "thresholds must be"),
    ("anchors-2", "weights", lambda a: a[:, :1], "thresholds must be"),
]


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
@pytest.mark.parametrize(("name", "key", "value", "message"), BAD)
def test_damaged_arrays_are_refused(name: str, key: str, value: object, message: str):
    kind = spectral.SpectralHash if name == "spectral" else spectral.AnchorGraphHash
    with pytest.raises(ValueError, match=message):
        kind.from_arrays(bad(name, key, value))


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_hashed_says_why(name: str):
    items = embeddings(12, 60, 3)
    hashed = fit(name, items, bits=4)
    not_embeddings = (items[0], items[None], items[:, :0], items.astype(np.int64), items > 0)
    for call in (lambda x: fit(name, x, bits=4), hashed.responses, hashed.encode):
        for wrong in not_embeddings:
            with pytest.raises(ValueError, match=r"are not float \[n, "):
                call(wrong)
        for wrong in (items * np.nan, items.astype(np.float64) * 1e300):
            with pytest.raises(ValueError, match="embeddings must be finite"):
                call(wrong)
    for call in (hashed.responses, hashed.encode):
        with pytest.raises(ValueError, match=r"\(60, 2\) are not float \[n, 3\]"):
            call(items[:, :2])
    with pytest.raises(ValueError, match="0"):
        fit(name, items[:0], bits=4)
    with pytest.raises(ValueError, match="bits=0 must be 1 or more"):
        fit(name, items, bits=0)


def test_numbers_of_an_anchor_graph_are_checked():
    items = embeddings(13, 60, 3)
    for options in ({"layers": 3}, {"layers": 0}, {"layers": 2}):
        with pytest.raises(ValueError, match="a multiple of layers="):
            spectral.fit_anchor_graph(items, bits=5, **options)
    for options in ({"nearest": 1}, {"anchors": 1}):
        with pytest.raises(ValueError, match="2 each"):
            spectral.fit_anchor_graph(items, bits=1, **options)
