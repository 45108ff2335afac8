"""Cascade of spatial transformers for image pairs; each stage estimates a residual transform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from stn3d.arguments import tensor_arguments
from stn3d.nets.blocks import json_options
from stn3d.nets.heads import HeadKind
from stn3d.nets.localisation import PyramidLocalisation
from stn3d.nets.precision import no_autocast
from stn3d.nets.spatial_transformer import ComposedTransformers, SpatialTransformer, voxel_points
from stn3d.transforms import Transform


def pair_transformer(
    head: HeadKind = "affine",
    factor: int = 1,
    spatial_dims: int = 3,
    in_channels: int = 1,
    channels: Sequence[int] = (8, 16, 32, 64),
    control_points: int = 6,
    dropout: float = 0.0,
) -> SpatialTransformer:
    """A spatial transformer whose localisation network sees the fixed and the moving image.

    Args:
        head: Transform that is estimated, see `PyramidLocalisation`.
        factor: Downsampling factor of the pair before the localisation network.
        spatial_dims: 2 or 3.
        in_channels: Channels of each image.
        channels: Channels of the encoder's levels, finest first.
        control_points: Control points along each axis, for heads that have them.
        dropout: Dropout probability of the encoder's features.

    Raises:
        InputError: The head is unknown.
    """
    shared = (tuple(channels), control_points, dropout)
    return SpatialTransformer(
        PyramidLocalisation(head, spatial_dims, 2 * in_channels, *shared), factor
    )


class Cascade(nn.Module):
    """Spatial transformers of image pairs applied one after another, initialised to the identity.

    Each stage sees the moving image warped once by the composition of all earlier transforms (de
    Vos et al. 2019, doi:10.1016/j.media.2018.11.010; Zhao et al. 2019, arXiv:1907.12353).

    Args:
        stages: Arguments of `pair_transformer` for each stage, coarse to fine.
        repeats: Number of times each stage is applied, with shared weights. Default: once.
    """

    def __init__(
        self, stages: Sequence[Mapping[str, Any]], repeats: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.composed = ComposedTransformers(
            [pair_transformer(**stage) for stage in stages], repeats
        )
        defaults = {"spatial_dims": 3, "in_channels": 1}  # weight files must name these
        self.options: dict[str, Any] = {
            "stages": [json_options(**{**defaults, **stage}) for stage in stages],
            "repeats": self.composed.repeats,
        }

    @tensor_arguments()
    def transforms(self, pair: Tensor) -> list[Transform]:
        """The composed transform after each stage, in voxels of the pair's grid."""
        fixed, moving = pair.chunk(2, dim=1)
        return self.composed.transforms(moving, fixed)

    @tensor_arguments()
    def stages(self, pair: Tensor) -> tuple[Tensor, ...]:
        """The displacement after each stage, ``(B, d, *shape)`` in voxels."""
        return tuple(_displacement(pair, transform) for transform in self.transforms(pair))

    @tensor_arguments()
    def forward(self, pair: Tensor) -> Tensor:
        """Displacement fields of image pairs.

        Args:
            pair: ``(B, 2 C, *shape)``, channels of the fixed image, then of the moving image.

        Returns:
            ``(B, d, *shape)`` in voxels: ``moved(x) = moving(x + u(x))``.
        """
        return _displacement(pair, self.transforms(pair)[-1])


def _displacement(pair: Tensor, transform: Transform) -> Tensor:
    points = voxel_points(pair)
    with no_autocast(pair.device):
        return (transform(points) - points).movedim(-1, 1)
