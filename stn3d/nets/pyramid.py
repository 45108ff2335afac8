"""Feature-pyramid registration network: warp, correlate, predict the residual, refine.

One encoder processes both images. From the coarsest level on, the moving features are warped by the
current displacement and correlated with the fixed features in a small neighbourhood (cost volume);
a head predicts the residual velocity, whose exponential is composed with the current displacement
(Sun et al. 2018, PWC-Net, arXiv:1709.02371; Hu et al. 2022, Recursive decomposition network,
doi:10.1109/TMI.2022.3161653). Demons steps follow; the head predicts a gain for each voxel (as in
Zhang et al. 2024, Recurrent inference machine for image registration, arXiv:2406.13413, where a
network learns the update from the gradient of the similarity). With ``symmetric`` the velocity is
the antisymmetric part of the predictions for both orders of the images, so that swapping the images
inverts every residual (Greer et al. 2023, Inverse consistency by construction, arXiv:2305.00087).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stn3d import kernels
from stn3d.arguments import tensor_arguments
from stn3d.errors import InputError
from stn3d.losses.similarity import mind_channels, mind_descriptor
from stn3d.nets.blocks import (
    Encoder,
    average_pool,
    convolution,
    json_options,
    pad_to_multiple,
    resize_displacement,
    to_channels_last,
    upsample,
    upsample_displacement,
    zero_initialised_convolution,
)
from stn3d.nets.forces import correlation_force
from stn3d.sampler import sample_displaced

_GAIN_SCALE = 4.0  # gain of a head's output of 1: speeds up the start of the training
_STEP_SQUARINGS = 2  # demons steps are shorter than predicted residuals
_FORCE_SMOOTHINGS = 2

Gains = dict[int, Tensor]  # gains of the demons steps, by level


@dataclass(frozen=True)
class _Level:
    """Settings of one level's head: feature and hidden channels, search radius, gains."""

    features: int
    hidden: int
    radius: int
    gain_levels: Sequence[int]


class ResidualHead(nn.Module):
    """Predicts the residual velocity of one level and the gains of demons steps.

    Args:
        spatial_dims: 2 or 3.
        level: Channels, search radius, and levels whose demons steps it predicts gains for.
        dropout: Dropout probability of the hidden features.
        bias: Bias of the velocity. A symmetric velocity has none: it cancels.
    """

    def __init__(self, spatial_dims: int, level: _Level, dropout: float, bias: bool) -> None:
        super().__init__()
        self.radius, hidden = level.radius, level.hidden
        inputs = (2 * level.radius + 1) ** spatial_dims + 2 * level.features
        self.layers = nn.Sequential(
            convolution(spatial_dims, inputs, hidden, 1, dropout),
            convolution(spatial_dims, hidden, hidden, 1, dropout),
        )
        self.velocity = zero_initialised_convolution(spatial_dims, hidden, spatial_dims, bias)
        self.gains = nn.ModuleDict(
            {
                str(index): zero_initialised_convolution(spatial_dims, hidden, 1, kernel_size=1)
                for index in level.gain_levels
            }
        )

    def forward(self, fixed: Tensor, moved: Tensor, symmetric: bool) -> tuple[Tensor, Gains]:
        """Velocity and gains of a level.

        Args:
            fixed: Features ``(B, C, *shape)``.
            moved: Warped moving features, same shape.
            symmetric: Also predict for the swapped images; these follow in the batch.

        Returns:
            ``(B or 2B, d, *shape)`` velocity in voxels; gains ``(B or 2B, 1, *shape)`` by level.
        """
        orders = _both_orders(_normalised(fixed), _normalised(moved), symmetric)
        cost_volume = kernels.cost_volume(*orders, self.radius)
        cost_volume, fixed, moved = (_to_autocast_dtype(t) for t in (cost_volume, fixed, moved))
        inputs = torch.cat([cost_volume, *_both_orders(fixed, moved, symmetric)], dim=1)
        hidden = self.layers(to_channels_last(inputs))
        gains = {int(level): gain(hidden).float() for level, gain in self.gains.items()}
        return self.velocity(hidden).float(), gains


def _to_autocast_dtype(features: Tensor) -> Tensor:
    """The features in the dtype of autocast if it is on, so that concatenation does not upcast."""
    device = features.device.type
    enabled = torch.is_autocast_enabled(device)
    return features.to(torch.get_autocast_dtype(device)) if enabled else features


def _normalised(features: Tensor) -> Tensor:
    """Features divided by their root mean square over the channels."""
    return features * (features.square().mean(dim=1, keepdim=True) + 1e-6).rsqrt()


@dataclass(eq=False, repr=False)
class PyramidCascade(nn.Module):
    """Dense displacement field of an image pair, coarse to fine, initialised to the identity.

    Sequences hold one value for each level, finest first.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of each image.
        channels: Feature channels of each level.
        hidden: Hidden channels of each level's head. A level with 0 has no head: it predicts no
            velocity, and the next coarser head predicts the gains of its demons steps.
        radii: Search radius of the cost volume in voxels of the level.
        repeats: Number of predictions of each level, with shared weights.
        steps: Demons steps along the local correlation force after each prediction; a head
            predicts their gain for each voxel.
        squarings: Scaling-and-squaring steps of each residual's exponential.
        smoothings: Number of box filters of 3 voxels along each axis applied to a velocity.
        symmetric: Swapping the images inverts every residual.
        descriptors: Add MIND-SSC descriptors to the encoder's input. They hardly depend on the
            contrast and speed up the training.
        dropout: Dropout probability of the features.

    Raises:
        InputError: A sequence has not as many values as there are levels.
    """

    spatial_dims: int = 3
    in_channels: int = 1
    channels: Sequence[int] = (8, 24, 48, 64)
    hidden: Sequence[int] = (0, 32, 64, 64)
    radii: Sequence[int] = (0, 1, 1, 1)
    repeats: Sequence[int] = (1, 1, 2, 2)
    steps: Sequence[int] = (5, 4, 2, 2)
    squarings: int = 4
    smoothings: int = 1
    symmetric: bool = True
    descriptors: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__init__()
        self._require_one_value_a_level()
        fields = [field.name for field in dataclasses.fields(self)]
        self.options: dict[str, Any] = json_options(**{n: getattr(self, n) for n in fields})
        inputs = 1 + (mind_channels(self.spatial_dims) if self.descriptors else 0)
        self.encoder = Encoder(
            self.spatial_dims, self.in_channels * inputs, self.channels, self.dropout
        )
        bias = not self.symmetric
        self.residuals = nn.ModuleDict(
            {
                str(index): ResidualHead(self.spatial_dims, level, self.dropout, bias)
                for index, level in self._levels_with_heads().items()
            }
        )

    def _require_one_value_a_level(self) -> None:
        for name in ("hidden", "radii", "repeats", "steps"):
            values = getattr(self, name)
            if len(values) != len(self.channels):
                raise InputError(
                    f"channels has {len(self.channels)} levels and {name} has {len(values)}; "
                    "channels, hidden, radii, repeats and steps need one value for each level."
                )

    def _levels_with_heads(self) -> dict[int, _Level]:
        """Settings of the levels with a head.

        A head predicts gains for its own level and for the finer levels without a head.
        """
        heads = [index for index, width in enumerate(self.hidden) if width > 0]
        levels = {}
        for finer_head, index in itertools.pairwise([-1, *heads]):
            gains = [i for i in range(finer_head + 1, index + 1) if self.steps[i] > 0]
            levels[index] = _Level(
                self.channels[index], self.hidden[index], self.radii[index], gains
            )
        return levels

    @tensor_arguments()
    def forward(self, pair: Tensor) -> Tensor:
        """Displacement fields of image pairs.

        Args:
            pair: ``(B, 2 C, *shape)``, channels of the fixed image, then of the moving image.

        Returns:
            ``(B, d, *shape)`` in voxels: ``moved(x) = moving(x + u(x))``.
        """
        return resize_displacement(self.stages(pair)[-1], pair.shape[2:])

    @tensor_arguments()
    def stages(self, pair: Tensor) -> tuple[Tensor, ...]:
        """The displacement after each level with a head or demons steps, coarse to fine.

        Returns:
            ``(B, d, *level shape)`` in voxels of the level. Shapes are those of the pair padded at
            the end to a multiple of the coarsest level.
        """
        pair = pad_to_multiple(pair, 2 ** (len(self.repeats) - 1))
        features = self._features(pair)
        stages: list[Tensor] = []
        gains: Gains = {}
        current = pair.new_zeros(len(pair), pair.ndim - 2, *features[-1].shape[2:]).float()
        for level in reversed(range(len(features))):
            if level < len(features) - 1:
                current = upsample_displacement(current)
                gains = {i: upsample(gain) for i, gain in gains.items() if i <= level}
            has_head = str(level) in self.residuals
            if has_head:
                fixed, moving = features[level].float().contiguous().chunk(2)
                for _ in range(self.repeats[level]):
                    current, predicted = self._predict(level, fixed, moving, current)
                    gains |= predicted
                    current = self._demons_steps(level, pair, current, gains)
            else:
                current = self._demons_steps(level, pair, current, gains)
            if has_head or level in gains:
                stages.append(current)
        return tuple(stages)

    def _features(self, pair: Tensor) -> list[Tensor]:
        """Features of the fixed and the moving images, concatenated along the batch."""
        images = torch.cat(pair.chunk(2, dim=1))
        if self.descriptors:
            with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
                parts = [images, mind_descriptor(images.float())]
            images = torch.cat([_to_autocast_dtype(part) for part in parts], dim=1)
        features: list[Tensor] = self.encoder(to_channels_last(images))
        return features

    def _predict(
        self, level: int, fixed: Tensor, moving: Tensor, current: Tensor
    ) -> tuple[Tensor, Gains]:
        """The current displacement composed with a predicted residual, and the predicted gains."""
        moved = sample_displaced(moving, current)
        velocity, gains = self.residuals[str(level)](fixed, moved, self.symmetric)
        return self._compose(velocity, current, self.squarings), gains

    def _demons_steps(self, level: int, pair: Tensor, current: Tensor, gains: Gains) -> Tensor:
        """The current displacement composed with steps along the local correlation force."""
        if level not in gains:
            return current
        fixed, moving = average_pool(pair.float(), 2**level).chunk(2, dim=1)
        for _ in range(self.steps[level]):
            with torch.no_grad():
                moved = sample_displaced(moving, current)
                force = correlation_force(*_both_orders(fixed, moved, self.symmetric))
                force = _smoothed(force, _FORCE_SMOOTHINGS)
            current = self._compose(_GAIN_SCALE * gains[level] * force, current, _STEP_SQUARINGS)
        return current

    def _compose(self, velocity: Tensor, current: Tensor, squarings: int) -> Tensor:
        """The exponential of a velocity, then the current displacement.

        Args:
            velocity: ``(B, d, *shape)``; if ``symmetric``, ``(2B, ...)`` for both image orders.
            current: ``(B, d, *shape)``.
            squarings: Scaling-and-squaring steps.
        """
        if self.symmetric:
            forward, backward = velocity.chunk(2)
            velocity = 0.5 * (forward - backward)
        velocity = _smoothed(velocity, self.smoothings)
        return kernels.compose(kernels.exponential(velocity, squarings), current)


def _both_orders(fixed: Tensor, moved: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    """The pair; if ``symmetric``, the swapped pair after it in the batch."""
    if not symmetric:
        return fixed, moved
    return torch.cat([fixed, moved]), torch.cat([moved, fixed])


def _smoothed(field: Tensor, times: int) -> Tensor:
    """The field after ``times`` box filters of 3 voxels along each axis, zero-padded."""
    d = field.ndim - 2
    for _ in range(times):
        field = kernels.box_sum(field, [1] * d) / 3**d
    return field
