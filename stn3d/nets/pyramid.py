"""A cascade over a pyramid of features: move, compare nearby, predict what is left, go finer.

One encoder reads both images. From the coarsest level on, the moving image's features are moved by
the transform so far and correlated with the fixed image's in a small neighbourhood; a head predicts
the velocity that is left, and its exponential goes before the transform so far (Sun et al. 2018,
PWC-Net, arXiv:1709.02371; Hu et al. 2022, Recursive decomposition network, doi:10.1109/TMI.2022.
3161653). Steps of an optimiser follow, whose length at each voxel the head tells too (as Zhang et
al. 2024, Recurrent inference machine for image registration, arXiv:2406.13413, have a network learn
the update from the similarity's gradient). With ``symmetric`` the velocity is the difference of
what both orders of the images give, so that every residual's inverse is what the swapped images
would have had (Greer et al. 2023, Inverse consistency by construction, arXiv:2305.00087).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stn3d import kernels
from stn3d.errors import InputError
from stn3d.losses.similarity import mind_channels, mind_descriptor
from stn3d.nets.blocks import (
    Encoder,
    averaged,
    convolution,
    dense_memory,
    doubled,
    full_size,
    magnified,
    options_of,
    padded_to_multiple,
    silent_convolution,
)
from stn3d.nets.forces import correlation_force
from stn3d.sampler import sample_displaced

_GAIN = 4.0  # of a head's answer of 1, so that training soon finds what is of use
_STEP_SQUARINGS = 2  # a step is shorter than a predicted residual can be


Gains = dict[int, Tensor]  # of the steps, by level


class Residual(nn.Module):
    """Predicts on one level the velocity that is left, in voxels of the level, and gains of forces.

    Args:
        spatial_dims: 2 or 3.
        features: channels of each image.
        hidden: channels in between.
        radius: how far features are compared.
        dropout: share of the features that training leaves out.
        bias: of the velocity.
        served: levels whose steps there are gains for.
    """

    def __init__(
        self,
        spatial_dims: int,
        features: int,
        hidden: int,
        radius: int,
        dropout: float,
        bias: bool,
        served: Sequence[int],
    ) -> None:
        super().__init__()
        self.radius = radius
        inputs = (2 * radius + 1) ** spatial_dims + 2 * features
        self.layers = nn.Sequential(
            convolution(spatial_dims, inputs, hidden, 1, dropout),
            convolution(spatial_dims, hidden, hidden, 1, dropout),
        )
        self.velocity = silent_convolution(spatial_dims, hidden, spatial_dims, bias)
        self.gains = nn.ModuleDict(
            {str(level): silent_convolution(spatial_dims, hidden, 1, width=1) for level in served}
        )

    def forward(self, fixed: Tensor, moved: Tensor, both: bool) -> tuple[Tensor, Gains]:
        """Velocities ``(B, d, *shape)``, and by level gains ``(B, 1, *shape)``.

        Args:
            fixed: features ``(B, C, *shape)``.
            moved: the same.
            both: the images are also seen the other way round, which the batch has after the first.
        """
        near = kernels.cost_volume(*_orders(_unit(fixed), _unit(moved), both), self.radius)
        near, fixed, moved = (_as_convolved(t) for t in (near, fixed, moved))
        seen = torch.cat([near, *_orders(fixed, moved, both)], dim=1)
        hidden = self.layers(dense_memory(seen))
        gains = {int(level): gain(hidden).float() for level, gain in self.gains.items()}
        return self.velocity(hidden).float(), gains


def _as_convolved(features: Tensor) -> Tensor:
    """In autocast's own type, if it is on: convolutions would cast all that is put together."""
    kind = features.device.type
    on = torch.is_autocast_enabled(kind)
    return features.to(torch.get_autocast_dtype(kind)) if on else features


def _unit(features: Tensor) -> Tensor:
    """Features of root mean square 1 over the channels."""
    return features * (features.square().mean(dim=1, keepdim=True) + 1e-6).rsqrt()


class PyramidCascade(nn.Module):
    """A dense displacement from a pair, coarse to fine; the identity at birth.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of each image.
        channels: of the features, from the finest level on; one level each.
        hidden: channels of the heads, from the finest level on; a level of 0 has no head: it
            predicts nothing, and the gains of its steps come from the next coarser head.
        radii: how far features are compared, in voxels of the level, from the finest level on.
        repeats: how often a level predicts, with the same weights, from the finest level on.
        steps: how many steps follow the images' local correlation, each voxel's scaled by a
            gain that a head predicts, from the finest level on.
        squarings: of each residual's exponential.
        smoothings: how often each velocity is averaged over 3 voxels along each axis.
        symmetric: residuals that are inverted when the images are swapped.
        descriptors: the encoder also sees the images' MIND-SSC descriptors, which hardly know what
            kind of image they are of: training is far faster.
        dropout: share of the features that training leaves out.

    Raises:
        InputError: what is given by level is not as long as the channels.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        channels: Sequence[int] = (8, 24, 48, 64),
        hidden: Sequence[int] = (0, 32, 64, 64),
        radii: Sequence[int] = (0, 1, 1, 1),
        repeats: Sequence[int] = (1, 1, 2, 2),
        steps: Sequence[int] = (5, 4, 2, 2),
        squarings: int = 4,
        smoothings: int = 1,
        symmetric: bool = True,
        descriptors: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        by_level = {"hidden": hidden, "radii": radii, "repeats": repeats, "steps": steps}
        for name, values in by_level.items():
            if len(values) != len(channels):
                raise InputError(
                    f"channels has {len(channels)} levels and {name} has {len(values)}; give "
                    "channels, hidden, radii, repeats and steps one number a level each."
                )
        self.options: dict[str, Any] = options_of(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=channels,
            hidden=hidden,
            radii=radii,
            repeats=repeats,
            squarings=squarings,
            smoothings=smoothings,
            symmetric=symmetric,
            steps=steps,
            descriptors=descriptors,
            dropout=dropout,
        )
        self.repeats, self.squarings = tuple(repeats), squarings
        self.smoothings, self.symmetric = smoothings, symmetric
        self.steps, self.descriptors = tuple(steps), descriptors
        seen = in_channels * (1 + (mind_channels(spatial_dims) if descriptors else 0))
        self.encoder = Encoder(spatial_dims, seen, channels, dropout)
        heads = [level for level, width in enumerate(hidden) if width > 0]
        # A head gives gains for its own level's steps, and for those of finer levels without one.
        served = {
            level: [finer for finer in range(below + 1, level + 1) if steps[finer] > 0]
            for below, level in itertools.pairwise([-1, *heads])
        }
        self.residuals = nn.ModuleDict(
            {
                # of a difference of answers no bias is left
                str(level): Residual(
                    spatial_dims,
                    channels[level],
                    hidden[level],
                    radii[level],
                    dropout,
                    not symmetric,
                    served[level],
                )
                for level in heads
            }
        )

    def forward(self, pair: Tensor) -> Tensor:
        """Displacements of pairs.

        Args:
            pair: ``(B, 2 C, *shape)``, the fixed image's channels before the moving image's.

        Returns:
            ``(B, d, *shape)`` in voxels: ``moved(x) = moving(x + u(x))``.
        """
        return full_size(self.stages(pair)[-1], pair.shape[2:])

    def stages(self, pair: Tensor) -> tuple[Tensor, ...]:
        """The displacement after each level that has a head or steps, coarse to fine, ``(B, d,
        *level shape)`` in voxels of the level; sizes are those of the pair, padded at the end to a
        multiple of the coarsest."""
        pair = padded_to_multiple(pair, 2 ** (len(self.repeats) - 1))
        images = torch.cat(pair.chunk(2, dim=1))
        if self.descriptors:
            with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
                parts = [images, mind_descriptor(images.float())]
            images = torch.cat([_as_convolved(part) for part in parts], dim=1)
        features = self.encoder(dense_memory(images))
        found: list[Tensor] = []
        gains: Gains = {}
        so_far = pair.new_zeros(len(pair), pair.ndim - 2, *features[-1].shape[2:]).float()
        for level in reversed(range(len(features))):
            if level < len(features) - 1:
                so_far = doubled(so_far)
                gains = {i: magnified(gain) for i, gain in gains.items() if i <= level}
            head = str(level) in self.residuals
            if head:
                fixed, moving = features[level].float().contiguous().chunk(2)
                for _ in range(self.repeats[level]):
                    so_far, told = self._predicted(level, fixed, moving, so_far)
                    gains |= told
                    so_far = self._followed(level, pair, so_far, gains)
            else:
                so_far = self._followed(level, pair, so_far, gains)
            if head or level in gains:
                found.append(so_far)
        return tuple(found)

    def _predicted(
        self, level: int, fixed: Tensor, moving: Tensor, so_far: Tensor
    ) -> tuple[Tensor, Gains]:
        """The displacement so far with a predicted residual before it, and gains for both orders
        of the images or for one."""
        moved = sample_displaced(moving, so_far)
        velocity, gains = self.residuals[str(level)](fixed, moved, self.symmetric)
        return self._moved_on(so_far, velocity, self.squarings), gains

    def _followed(self, level: int, pair: Tensor, so_far: Tensor, gains: Gains) -> Tensor:
        """The displacement so far with steps along the images' force before it."""
        if level not in gains:
            return so_far
        fixed, moving = averaged(pair.float(), 2**level).chunk(2, dim=1)
        for _ in range(self.steps[level]):
            with torch.no_grad():
                moved = sample_displaced(moving, so_far)
                force = _smoothed(correlation_force(*_orders(fixed, moved, self.symmetric)), 2)
            so_far = self._moved_on(so_far, _GAIN * gains[level] * force, _STEP_SQUARINGS)
        return so_far

    def _moved_on(self, so_far: Tensor, velocity: Tensor, squarings: int) -> Tensor:
        """The displacement so far with a residual before it: the exponential of a velocity, given
        for both orders of the images or for one."""
        if self.symmetric:
            there, back = velocity.chunk(2)
            velocity = 0.5 * (there - back)
        velocity = _smoothed(velocity, self.smoothings)
        return kernels.compose(kernels.exponential(velocity, squarings), so_far)


def _orders(fixed: Tensor, moved: Tensor, both: bool) -> tuple[Tensor, Tensor]:
    """A pair, and if both orders are asked the swapped pair after it in the batch."""
    if not both:
        return fixed, moved
    return torch.cat([fixed, moved]), torch.cat([moved, fixed])


def _smoothed(field: Tensor, times: int) -> Tensor:
    """Averaged over 3 voxels along each axis, so many times; nothing lies beyond the faces."""
    d = field.ndim - 2
    for _ in range(times):
        field = kernels.box_sum(field, [1] * d) / 3**d
    return field
