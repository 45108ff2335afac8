"""Localisation networks: what is looked at -> a transform; the identity at birth.

Convention: transforms here map the output's to the input's points in voxels of the grid of what is
looked at; `stn3d.nets.stages` brings them to the world.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from stn3d.grid import Grid
from stn3d.nets.blocks import Encoder, dense_memory
from stn3d.nets.heads import Head, head_of
from stn3d.transforms import Transform


class Localisation(nn.Module):
    """An encoder and a head: images -> a transform for each.

    Args:
        encoder: of images ``(B, C, *shape)``; gives features, or a list of them, fine to coarse.
        head: of `stn3d.nets.heads`, for these features.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, images: Tensor) -> Transform:
        """``(B, C, *shape)`` -> the transform of each, in voxels of their grid."""
        features = self.encoder(images)
        features = [features] if isinstance(features, Tensor) else features
        transform: Transform = self.head(features, Grid.of_spacing(images.shape[2:]))
        return transform


class PyramidLocalisation(Localisation):
    """The localisation for registration: an encoder of several levels, and any head.

    Args:
        head: a matrix: ``translation``, ``attention`` (scale and shift), ``rigid``, ``similarity``,
            ``affine`` (12 parameters in 3D) or ``projective``; control points:
            ``thin_plate_spline``, ``b_spline``, ``piecewise_affine``, or ``basis`` (sums of learned
            deformations); ``regional`` (a velocity at control points) or ``velocity`` (dense).
        spatial_dims: 2 or 3.
        in_channels: of all that is looked at.
        channels: of the encoder's levels, from the finest on.
        control_points: along each axis, of a head that has any.
        dropout: share of the features that training leaves out.

    Raises:
        InputError: the head is unknown.
    """

    def __init__(
        self,
        head: Head,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int] = (8, 16, 32, 64),
        control_points: int = 6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            Encoder(spatial_dims, in_channels, channels, dropout),
            head_of(head, spatial_dims, channels, control_points),
        )

    def forward(self, images: Tensor) -> Transform:
        """``(B, C, *shape)`` -> the transform of each, in voxels of their grid."""
        return super().forward(dense_memory(images))
