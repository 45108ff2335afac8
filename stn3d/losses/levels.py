"""A training batch downsampled to the levels of a multi-stage network.

Level voxel i of factor f covers voxels ``f i`` to ``f i + f - 1`` of the batch's grid along each
axis and holds their mean. A level is empty beyond the end of the grid.
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

# Volumes of a batch and their weights.
_WEIGHTS = {
    "fixed": "fixed_weight",
    "moving": "moving_weight",
    "fixed_labels": "fixed_weight",
    "moving_labels": "moving_weight",
    "displacement_vox": "truth_weight",
}


def level_factor(shape: Sequence[int], level_shape: Sequence[int]) -> int:
    """The smallest power of two by which a level covers a grid.

    Args:
        shape: Shape of the grid.
        level_shape: Shape of the level, same length.

    Raises:
        InputError: The dimensions differ, or the level is empty.
    """
    if len(shape) != len(level_shape) or min(level_shape) < 1:
        raise InputError(
            f"a stage of shape {tuple(level_shape)} cannot be a level of a grid of shape "
            f"{tuple(shape)}."
        )
    factor = 1
    while any(factor * m < n for n, m in zip(shape, level_shape, strict=True)):
        factor *= 2
    return factor


class BatchPyramid:
    """Volumes of a batch at any downsampling factor, computed on first use.

    Args:
        batch: As for `stn3d.losses.RegistrationLoss`.
        max_labels: Maximum number of the labels that fixed and moving images have in common.
    """

    def __init__(self, batch: Mapping[str, Tensor], max_labels: int) -> None:
        self._batch = batch
        self._max_labels = max_labels
        self._means: dict[tuple[str, int], Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        """An unchanged entry of the batch."""
        if name not in self._batch:
            raise InputError(
                f"the loss needs {name!r}, which is missing from the batch; add it to the data or "
                "set the weights of the terms that need it to 0."
            )
        return self._batch[name]

    def optional(self, name: str) -> Tensor | None:
        """An entry of the batch, or None."""
        return self._batch.get(name)

    def volume(self, name: str, factor: int, shape: Sequence[int]) -> Tensor:
        """``(B, C, *shape)`` weighted means of a volume; one channel for each label."""
        weight = self.weighted(_WEIGHTS[name], factor, shape)
        # With many channels, multiplication is faster than division.
        return self.weighted(name, factor, shape) * (1 / torch.where(weight > 0, weight, 1.0))

    def weighted(self, name: str, factor: int, shape: Sequence[int]) -> Tensor:
        """``(B, C, *shape)`` means of a volume times its weights, or of the weights themselves."""
        return _padded(self._mean(name, factor), shape)

    @torch.no_grad()
    def _mean(self, name: str, factor: int) -> Tensor:
        """Means of values times weights; each level is computed from the next finer one."""
        key = name, factor
        if key not in self._means:
            mean = self._full(name) if factor == 1 else _halved(self._mean(name, factor // 2))
            self._means[key] = mean
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
        return common_labels(self["fixed_labels"], self["moving_labels"], self._max_labels)


@dataclass(frozen=True, eq=False)
class LevelComparison:
    """The displacement of one stage and both images aligned by it, on the level of the stage.

    Args:
        displacement_vox: ``(B, d, *level shape)``, float32, in voxels of the level.
        factor: Downsampling factor of the level.
        pyramid: The batch.
    """

    displacement_vox: Tensor
    factor: int
    pyramid: BatchPyramid

    @property
    def fixed(self) -> Tensor:
        """``(B, C, *level shape)`` fixed image."""
        return self._volume("fixed")

    @property
    def moving(self) -> Tensor:
        """``(B, C, *level shape)`` moving image, not warped."""
        return self._volume("moving")

    @property
    def fixed_weight(self) -> Tensor:
        """``(B, 1, *level shape)`` weights of the fixed image."""
        return self._weighted("fixed_weight")

    @property
    def moving_weight(self) -> Tensor:
        """``(B, 1, *level shape)`` weights of the moving image, not warped."""
        return self._weighted("moving_weight")

    @property
    def fixed_labels(self) -> Tensor:
        """``(B, L, *level shape)`` label fractions of the fixed image."""
        return self._volume("fixed_labels")

    @cached_property
    def moved(self) -> Tensor:
        """``(B, C, *level shape)`` warped moving image."""
        return self.warp(self._weighted("moving"), self._moved_weight)

    @cached_property
    def moved_labels(self) -> Tensor:
        """``(B, L, *level shape)`` warped label fractions of the moving image."""
        return self.warp(self._weighted("moving_labels"), self._moved_weight)

    @cached_property
    def overlap(self) -> Tensor:
        """``(B, 1, *level shape)`` product of the weights of both images.

        Detached, so that shrinking the overlap does not lower the loss.
        """
        return self.fixed_weight * self._moved_weight.detach()

    @property
    def overlap_same_contrast(self) -> Tensor:
        """``(B, 1, *level shape)`` overlap of pairs with the same contrast, 0 for other pairs."""
        same = self.pyramid.optional("same_contrast")
        if same is None:
            return self.overlap
        return self.overlap * same.to(self.overlap).reshape(-1, *[1] * (self.overlap.ndim - 1))

    def warp(self, moving: Tensor, moved_weight: Tensor | None = None) -> Tensor:
        """A volume of the moving image warped by the displacement, zero outside.

        Args:
            moving: ``(B, C, *level shape)``.
            moved_weight: Warped weights of the volume; the result is divided by them, so that it is
                a mean over weighted voxels only.
        """
        values = sample_displaced(moving, self.displacement_vox)
        return values if moved_weight is None else values * (1 / moved_weight.clamp(min=1e-3))

    @property
    def truth_vox(self) -> Tensor:
        """``(B, d, *level shape)`` true displacement in voxels of the level."""
        return self._volume("displacement_vox") / self.factor

    @property
    def truth_weight(self) -> Tensor:
        """``(B, 1, *level shape)`` weights of the true displacement."""
        return self._weighted("truth_weight")

    def points(self, name: str) -> Tensor:
        """``(B, N, d)`` landmarks of the batch in index coordinates of the level."""
        return (self.pyramid[name].float() - (self.factor - 1) / 2) / self.factor

    @property
    def points_weight(self) -> Tensor | None:
        """``(B, N)`` landmark weights; None for equal weights."""
        return self.pyramid.optional("points_weight")

    def transformed(self, points: Tensor) -> Tensor:
        """Displaced points ``(B, N, d)`` of the level; points outside it stay in place."""
        return points + sample(self.displacement_vox, points).movedim(1, -1)

    def _volume(self, name: str) -> Tensor:
        return self.pyramid.volume(name, self.factor, self.displacement_vox.shape[2:])

    def _weighted(self, name: str) -> Tensor:
        return self.pyramid.weighted(name, self.factor, self.displacement_vox.shape[2:])

    @cached_property
    def _moved_weight(self) -> Tensor:
        return self.warp(self.moving_weight)


def _padded(volume: Tensor, shape: Sequence[int]) -> Tensor:
    """The volume with zeros at the end of each axis up to a shape."""
    ends = [m - n for n, m in zip(volume.shape[2:], shape, strict=True)]
    if not any(ends):
        return volume
    return F.pad(volume, [p for end in reversed(ends) for p in (0, end)])


def _halved(volume: Tensor) -> Tensor:
    """Means of two voxels along each axis; odd axes are padded with zeros."""
    even = _padded(volume, [n + n % 2 for n in volume.shape[2:]])
    return F.avg_pool2d(even, 2) if volume.ndim == 4 else F.avg_pool3d(even, 2)
