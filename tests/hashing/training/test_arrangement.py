from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.errors import ModelError, UsageError
from hashing.features import FeatureConfig
from hashing.training.arrangement import LAYOUTS, arrange

SECOND = FeatureConfig()  # 64 bands, 28 frames
SQUARE = FeatureConfig(snippet_frames=64)


@pytest.mark.parametrize(
    ("sizes", "layout", "shape", "told"),
    [
        ([1792], "", (1792,), "flat"),
        ([None], "", (1792,), "flat"),
        ([1792], "bands-frames", (1792,), "flat"),
        ([1792], "frames-bands", (1792,), "frames-bands"),
        ([64, 28], "", (64, 28), "bands-frames"),
        ([28, 64], "", (28, 64), "frames-bands"),
        ([64, None], "", (64, 28), "bands-frames"),
        ([None, 64], "", (28, 64), "frames-bands"),
        ([None, 28], "", (64, 28), "bands-frames"),
        ([1, 64, 28], "", (1, 64, 28), "bands-frames"),
        ([28, 64, 1], "", (28, 64, 1), "frames-bands"),
        ([None, 64, None], "", (1, 64, 28), "bands-frames"),
        ([None, None, 1], "frames-bands", (28, 64, 1), "frames-bands"),
        ([None, None], "bands-frames", (64, 28), "bands-frames"),
    ],
)
def test_layouts(sizes: list[int | None], layout: str, shape: tuple[int, ...], told: str) -> None:
    plan = arrange("x", sizes, SECOND, layout)
    assert (plan.shape, plan.layout, plan.missing, plan.cells) == (shape, told, 0, 1792)


@pytest.mark.parametrize(
    ("sizes", "layout", "shape"),
    [([64, 32], "", (64, 32)), ([1, 32, 64], "", (1, 32, 64)), ([40, 64], "", (40, 64))],
)
def test_short_snippets_are_filled(sizes: list[int], layout: str, shape: tuple[int, ...]) -> None:
    plan = arrange("x", sizes, SECOND, layout)
    assert (plan.shape, plan.missing) == (shape, max(set(shape) - {64, 1}) - 28)


def test_what_fits_as_it_is_is_not_filled() -> None:
    # As frames and bands, a snippet of 28 bands would lack 36 frames.
    narrow = FeatureConfig(n_bands=28, snippet_frames=28)
    plan = arrange("x", [28, None], narrow, "bands-frames")
    assert (plan.shape, plan.missing) == ((28, 28), 0)


@pytest.mark.parametrize(
    ("sizes", "features", "layout", "words"),
    [
        ([64, 64], SQUARE, "", "say which with --layout"),
        ([None, None], SECOND, "", "say which with --layout"),
        ([64, 28], SECOND, "flat", "takes [n, 64, 28], a plane"),
        ([64, 28], SECOND, "sideways", "must be one of bands-frames, frames-bands, flat"),
    ],
)
def test_choices_to_make(
    sizes: list[int | None], features: FeatureConfig, layout: str, words: str
) -> None:
    with pytest.raises(UsageError) as raised:
        arrange("x", sizes, features, layout)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("sizes", "layout", "words"),
    [
        ([1791], "", "x takes [n, 1791], snippets of 64 bands and 28 frames have 1792 numbers"),
        ([128, 28], "", "x takes [n, 128, 28], which does not hold bands-frames or frames-bands"),
        ([64, 27], "", "does not hold"),
        ([64, 28], "frames-bands", "does not hold frames-bands of snippets of 64 bands"),
        ([3, 64, 28], "", "snippets have one channel"),
        ([1, 1, 64, 28], "", "export an encoder of [n, bands * frames]"),
        ([], "", "x takes [n]: export an encoder of"),
    ],
)
def test_what_does_not_fit(sizes: list[int | None], layout: str, words: str) -> None:
    with pytest.raises(ModelError) as raised:
        arrange("x", sizes, SECOND, layout)
    assert words in str(raised.value)


@given(
    bands=st.integers(2, 40),
    frames=st.integers(2, 40),
    more=st.integers(0, 5),
    layout=st.sampled_from(LAYOUTS[:2]),
    channel=st.sampled_from([None, 0, 2]),
)
def test_every_plane_of_its_layout_fits(
    bands: int, frames: int, more: int, layout: str, channel: int | None
) -> None:
    features = FeatureConfig(n_bands=bands, snippet_frames=frames)
    sizes = [bands, frames + more] if layout == "bands-frames" else [frames + more, bands]
    if channel is not None:
        sizes.insert(channel, 1)
    plan = arrange("x", sizes, features, layout)
    assert plan.missing == more
    assert plan.transposed == (layout == "frames-bands")
    assert plan.shape == tuple(sizes)
