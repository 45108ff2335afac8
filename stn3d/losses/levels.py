"""A batch brought down to the levels at which a cascade's stages speak.

Level voxel i of factor f covers voxels ``f i ... f i + f - 1`` of the batch's grid along each axis;
beyond the grid's end a level holds nothing. So a level's value is the mean over what it covers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.errors import InputError
from stn3d.losses.supervised import common_labels, one_hot
from stn3d.sampler import sample, sample_displaced

# What a volume of the batch is weighted by.
_WEIGHTS = {
    "fixed": "fixed_weight",
    "moving": "moving_weight",
    "fixed_labels": "fixed_weight",
    "moving_labels": "moving_weight",
    "displacement_vox": "truth_weight",
}


def level_factor(shape: Sequence[int], level_shape: Sequence[int]) -> int:
    """The least power of two by which a level covers a grid.

    Args:
        shape: of the grid.
        level_shape: of the level, as long.

    Raises:
        InputError: they differ in dimensions, or the level is empty.
    """
    if len(shape) != len(level_shape) or min(level_shape) < 1:
        raise InputError(f"a stage of shape {tuple(level_shape)} is no level of {tuple(shape)}.")
    factor = 1
    while any(factor * m < n for n, m in zip(shape, level_shape, strict=True)):
        factor *= 2
    return factor


class Pyramid:
    """A batch's volumes at any factor; each is made when it is first asked for.

    Args:
        batch: see `stn3d.losses.RegistrationLoss`.
        most_labels: of the labels that fixed and moving have in common, this many at most.
    """

    def __init__(self, batch: Mapping[str, Tensor], most_labels: int) -> None:
        self._batch = batch
        self._most_labels = most_labels
        self._means: dict[tuple[str, int], Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        """An entry of the batch as it is."""
        if name not in self._batch:
            raise InputError(
                f"the loss needs {name!r}, which the batch does not hold; "
                "add it to the data or set the weights of the terms that need it to 0."
            )
        return self._batch[name]

    def optional(self, name: str) -> Tensor | None:
        """An entry of the batch, if it is there."""
        return self._batch.get(name)

    def volume(self, name: str, factor: int, shape: Sequence[int]) -> Tensor:
        """``(B, C, *shape)`` means of a volume by its weights; labels as one channel each."""
        weight = self.weighted(_WEIGHTS[name], factor, shape)
        # Many channels are multiplied faster than divided.
        return self.weighted(name, factor, shape) * (1 / torch.where(weight > 0, weight, 1.0))

    def weighted(self, name: str, factor: int, shape: Sequence[int]) -> Tensor:
        """``(B, C, *shape)`` means of a volume times its weights, or of weights alone."""
        return _padded(self._mean(name, factor), shape)

    @torch.no_grad()
    def _mean(self, name: str, factor: int) -> Tensor:
        """Means of values times weights, which one level hands down to the next."""
        key = name, factor
        if key not in self._means:
            even = self._full(name) if factor == 1 else _halved(self._mean(name, factor // 2))
            self._means[key] = even
        return self._means[key]

    def _full(self, name: str) -> Tensor:
        if name in _WEIGHTS.values():
            volume = next(v for v, weight in _WEIGHTS.items() if weight == name)
            weight = self.optional(name)
            return torch.ones_like(self[volume][:, :1]) if weight is None else weight.float()
        labels = name in ("fixed_labels", "moving_labels")
        values = one_hot(self[name], self._label_ids) if labels else self[name].float()
        return values * self._mean(_WEIGHTS[name], 1)

    @cached_property
    def _label_ids(self) -> tuple[int, ...]:
        return common_labels(self["fixed_labels"], self["moving_labels"], self._most_labels)


@dataclass(frozen=True, eq=False)
class Comparison:
    """One stage's displacement, and both images as it brings them together on its level.

    Args:
        displacement_vox: ``(B, d, *level shape)``, float32, voxels of the level.
        factor: of the level.
        pyramid: of the batch.
    """

    displacement_vox: Tensor
    factor: int
    pyramid: Pyramid

    @property
    def fixed(self) -> Tensor:
        """``(B, C, *level shape)``."""
        return self._volume("fixed")

    @property
    def moving(self) -> Tensor:
        """``(B, C, *level shape)``, where it lies."""
        return self._volume("moving")

    @property
    def fixed_weight(self) -> Tensor:
        """``(B, 1, *level shape)``."""
        return self._weighted("fixed_weight")

    @property
    def moving_weight(self) -> Tensor:
        """``(B, 1, *level shape)``, where the moving image lies."""
        return self._weighted("moving_weight")

    @property
    def fixed_labels(self) -> Tensor:
        """``(B, L, *level shape)`` shares of labels."""
        return self._volume("fixed_labels")

    @cached_property
    def moved(self) -> Tensor:
        """``(B, C, *level shape)``: the moving image on the fixed one's level."""
        return self.read(self._weighted("moving"), self._moved_weight)

    @cached_property
    def moved_labels(self) -> Tensor:
        """``(B, L, *level shape)``: the moving image's on the fixed one's level."""
        return self.read(self._weighted("moving_labels"), self._moved_weight)

    @cached_property
    def overlap(self) -> Tensor:
        """``(B, 1, *level shape)``: where both images are there.

        It carries no gradient, so that pushing something out of sight cannot pay.
        """
        return self.fixed_weight * self._moved_weight.detach()

    @property
    def overlap_same_contrast(self) -> Tensor:
        """``(B, 1, *level shape)``: the overlap, of pairs whose images are of one contrast."""
        alike = self.pyramid.optional("same_contrast")
        if alike is None:
            return self.overlap
        return self.overlap * alike.to(self.overlap).reshape(-1, *[1] * (self.overlap.ndim - 1))

    def read(self, moving: Tensor, moved_weight: Tensor | None = None) -> Tensor:
        """``(B, C, *level shape)``: a volume of the moving image's level, moved; 0 beyond.

        Args:
            moving: ``(B, C, *level shape)``.
            moved_weight: what the volume is weighted by, moved; the result is divided by it, and is
                a mean of what there is, not of zeros too.
        """
        values = sample_displaced(moving, self.displacement_vox)
        return values if moved_weight is None else values * (1 / moved_weight.clamp(min=1e-3))

    @property
    def truth_vox(self) -> Tensor:
        """``(B, d, *level shape)``, voxels of the level."""
        return self._volume("displacement_vox") / self.factor

    @property
    def truth_weight(self) -> Tensor:
        """``(B, 1, *level shape)``."""
        return self._weighted("truth_weight")

    def points(self, name: str) -> Tensor:
        """``(B, N, d)`` landmarks of the batch in index coordinates of the level."""
        return (self.pyramid[name].float() - (self.factor - 1) / 2) / self.factor

    @property
    def points_weight(self) -> Tensor | None:
        """``(B, N)`` of the landmarks; None counts all."""
        return self.pyramid.optional("points_weight")

    def transformed(self, points: Tensor) -> Tensor:
        """Points ``(B, N, d)`` of the level, displaced; those off the level stay."""
        return points + sample(self.displacement_vox, points).movedim(1, -1)

    def _volume(self, name: str) -> Tensor:
        return self.pyramid.volume(name, self.factor, self.displacement_vox.shape[2:])

    def _weighted(self, name: str) -> Tensor:
        return self.pyramid.weighted(name, self.factor, self.displacement_vox.shape[2:])

    @cached_property
    def _moved_weight(self) -> Tensor:
        return self.read(self.moving_weight)


def _padded(volume: Tensor, shape: Sequence[int]) -> Tensor:
    """Zeros at the end of each axis, up to a shape."""
    ends = [m - n for n, m in zip(volume.shape[2:], shape, strict=True)]
    if not any(ends):
        return volume
    return F.pad(volume, [p for end in reversed(ends) for p in (0, end)])


def _halved(volume: Tensor) -> Tensor:
    """Means of two voxels along each axis; zeros complete the last."""
    even = _padded(volume, [n + n % 2 for n in volume.shape[2:]])
    return F.avg_pool2d(even, 2) if volume.ndim == 4 else F.avg_pool3d(even, 2)
