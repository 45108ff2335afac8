"""Interpolation and padding of one item, by MONAI's names and stn3d's."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from monai.utils import ensure_tuple_rep

from stn3d.choices import check_choice, fill_choice

Mode = Literal["auto", "bilinear", "linear", "nearest", "bicubic", "cubic", "label", "points"]
"""``bilinear`` and ``bicubic`` are MONAI's names of ``linear`` and ``cubic``, in 2D and 3D.

``label`` takes the label with the largest linearly interpolated indicator; ``auto`` is ``label``
for label maps and else ``linear``; ``points`` are coordinates.
"""

Fold = Literal["border", "reflection"]
"""Padding by values of the image: the nearest voxel's, or the image mirrored at its faces."""

Padding = Literal["zeros", "border", "reflection", "auto", "background", "nan"]
"""MONAI's ``zeros``, ``border`` and ``reflection``; or the ``fill`` of `stn3d.apply`."""

# MONAI's Invertd replaces these words by "nearest" where nearest_interp is set.
_MONAI_NAMES = {"linear": "bilinear", "cubic": "bicubic"}


@dataclass(frozen=True)
class Sampling:
    """How one item is sampled.

    Args:
        mode: interpolation, or ``points`` for coordinates.
        padding: what lies beyond the image: a `Padding` or a number.

    Raises:
        InputError: a name is unknown.
    """

    mode: str = "bilinear"
    padding: str | float = "auto"

    def __post_init__(self) -> None:
        mode = str(getattr(self.mode, "value", self.mode))
        check_choice("mode", mode, Mode)
        object.__setattr__(self, "mode", _MONAI_NAMES.get(mode, mode))
        padding = getattr(self.padding, "value", self.padding)
        if padding not in get_args(Padding):
            padding = fill_choice(padding)
        object.__setattr__(self, "padding", padding)


def samplings(
    keys: Sequence[Hashable],
    mode: str | Sequence[str],
    padding_mode: str | float | Sequence[str | float],
) -> tuple[Sampling, ...]:
    """One `Sampling` for each key.

    Args:
        keys: the keys.
        mode: one mode for all keys, or one for each.
        padding_mode: likewise.

    Raises:
        InputError: a name is unknown.
        ValueError: the numbers of keys and of modes differ (MONAI's message).
    """
    modes: tuple[Any, ...] = ensure_tuple_rep(mode, len(keys))
    paddings: tuple[Any, ...] = ensure_tuple_rep(padding_mode, len(keys))
    return tuple(Sampling(m, p) for m, p in zip(modes, paddings, strict=True))
