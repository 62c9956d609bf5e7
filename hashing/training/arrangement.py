"""How a snippet is laid out for an encoder that was made elsewhere: which axis is which."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hashing.errors import ModelError, UsageError
from hashing.features import FeatureConfig

BANDS_FRAMES, FRAMES_BANDS, FLAT = LAYOUTS = ("bands-frames", "frames-bands", "flat")


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """What happens to a snippet [bands, frames] before an encoder gets it.

    Attributes:
      bands, frames: of a snippet.
      missing: frames that are filled with the snippet's mean at its end.
      transposed: frames come first.
      shape: of a snippet as the encoder takes it; a channel is an axis of size one.
    """

    bands: int
    frames: int
    missing: int
    transposed: bool
    shape: tuple[int, ...]

    @property
    def cells(self) -> int:
        """Numbers of a snippet."""
        return self.bands * self.frames

    @property
    def layout(self) -> str:
        """The layout in one word."""
        if self.transposed:
            return FRAMES_BANDS
        return FLAT if len(self.shape) == 1 else BANDS_FRAMES


def arrange(
    what: str, sizes: Sequence[int | None], features: FeatureConfig, layout: str = ""
) -> Arrangement:
    """How snippets of `features` go into an input.

    Args:
      what: names the input in messages.
      sizes: of the input behind the batch, None where they are free: one for a flat input, two for
        a plane, three for a plane and one channel, first or last.
      features: of the snippets.
      layout: ``bands-frames``, ``frames-bands`` (of a flat input: frame by frame), ``flat`` (band
        by band); empty to tell it by `sizes`.

    Raises:
      UsageError: a layout that the input does not have, or one that must be named.
      ModelError: sizes that do not fit the features. Snippets that are too short are no error:
        `Arrangement.missing` frames are filled.

    >>> arrange("x", [1, 64, 28], FeatureConfig()).shape
    (1, 64, 28)
    >>> arrange("x", [28, 64], FeatureConfig()).layout
    'frames-bands'
    >>> arrange("x", [64, 32], FeatureConfig()).missing
    4
    """
    bands, frames = features.n_bands, features.snippet_frames
    shown = "[" + ", ".join(["n", *("?" if s is None else str(s) for s in sizes)]) + "]"
    if layout and layout not in LAYOUTS:
        raise UsageError(f"--layout: must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if len(sizes) == 1:
        if sizes[0] not in (None, bands * frames):
            raise ModelError(
                f"{what} takes {shown}, snippets of {bands} bands and {frames} frames have "
                f"{bands * frames} numbers: give the features that the encoder was trained with "
                "(--n-bands, --snippet-frames)"
            )
        turned = layout == FRAMES_BANDS
        return Arrangement(bands, frames, 0, turned, (bands * frames,))
    if len(sizes) not in (2, 3):
        raise ModelError(
            f"{what} takes {shown}: export an encoder of [n, bands * frames], [n, bands, frames] "
            "or [n, 1, bands, frames]"
        )
    if layout == FLAT:
        raise UsageError(f"--layout flat: {what} takes {shown}, a plane")
    channel = _channel(what, shown, sizes)
    plane = [size for axis, size in enumerate(sizes) if axis != channel]
    asked = [layout] if layout else [BANDS_FRAMES, FRAMES_BANDS]
    missing = {name: _missing(name, plane, bands, frames) for name in asked}
    fitting = {name: lost for name, lost in missing.items() if lost is not None}
    # Where one layout fits without filling anything, it is meant.
    fitting = {name: lost for name, lost in fitting.items() if lost == 0} or fitting
    if len(fitting) > 1:
        raise UsageError(
            f"{what} takes {shown}, which may be bands and frames or frames and bands: say which "
            "with --layout bands-frames or --layout frames-bands"
        )
    if not fitting:
        raise ModelError(
            f"{what} takes {shown}, which does not hold {' or '.join(asked)} of snippets of "
            f"{bands} bands and {frames} frames: give the features that the encoder was trained "
            "with (--n-bands, --snippet-frames)"
        )
    ((name, lost),) = fitting.items()
    shape = [bands, frames + lost]
    if name == FRAMES_BANDS:
        shape.reverse()
    if channel is not None:
        shape.insert(channel, 1)
    return Arrangement(bands, frames, lost, name == FRAMES_BANDS, tuple(shape))


def _channel(what: str, shown: str, sizes: Sequence[int | None]) -> int | None:
    """The axis of the channel; None for a plane without one."""
    if len(sizes) == 2:
        return None
    first, last = sizes[0], sizes[2]
    if first == 1 or (first is None and last != 1):
        return 0
    if last == 1:
        return 2
    raise ModelError(
        f"{what} takes {shown}: snippets have one channel; export an encoder of "
        "[n, 1, bands, frames] or [n, bands, frames, 1]"
    )


def _missing(layout: str, plane: Sequence[int | None], bands: int, frames: int) -> int | None:
    """Frames that a plane has beyond those of a snippet; None where it does not fit."""
    high, wide = plane if layout == BANDS_FRAMES else reversed(plane)
    if high not in (None, bands) or (wide is not None and wide < frames):
        return None
    return 0 if wide is None else wide - frames
