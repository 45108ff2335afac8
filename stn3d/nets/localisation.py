"""Localisation networks: images -> transform, initialised to the identity.

Convention: transforms map output points to input points, in voxels of the images' grid;
`stn3d.nets.stages` converts them to world coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from stn3d.arguments import tensor_arguments
from stn3d.grid import Grid
from stn3d.nets.blocks import Encoder, to_channels_last
from stn3d.nets.heads import HeadKind, make_head
from stn3d.transforms import Transform


class Localisation(nn.Module):
    """Localisation network made of an encoder and a head.

    Args:
        encoder: Maps images ``(B, C, *shape)`` to features, or to a list of them, finest first.
        head: A head of `stn3d.nets.heads` for these features.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    @tensor_arguments()
    def forward(self, images: Tensor) -> Transform:
        """The transform of each image of ``(B, C, *shape)``, in voxels of their grid."""
        features = self.encoder(images)
        features = [features] if isinstance(features, Tensor) else features
        transform: Transform = self.head(features, Grid.of_spacing(images.shape[2:]))
        return transform


class PyramidLocalisation(Localisation):
    """Localisation network with a multi-level convolutional encoder and any head.

    Args:
        head: Matrix transforms: ``translation``, ``attention`` (scale and translation), ``rigid``,
            ``similarity``, ``affine`` (12 parameters in 3D), ``projective``. Control-point
            transforms: ``thin_plate_spline``, ``b_spline``, ``piecewise_affine``, ``basis``
            (combinations of learned deformations). Velocity fields: ``regional`` (on control
            points), ``velocity`` (dense).
        spatial_dims: 2 or 3.
        in_channels: Channels of the network's input.
        channels: Channels of the encoder's levels, finest first.
        control_points: Control points along each axis, for heads that have them.
        dropout: Dropout probability of the encoder's features.

    Raises:
        InputError: The head is unknown.
    """

    def __init__(
        self,
        head: HeadKind,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int] = (8, 16, 32, 64),
        control_points: int = 6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            Encoder(spatial_dims, in_channels, channels, dropout),
            make_head(head, spatial_dims, channels, control_points),
        )

    @tensor_arguments()
    def forward(self, images: Tensor) -> Transform:
        """The transform of each image of ``(B, C, *shape)``, in voxels of their grid."""
        return super().forward(to_channels_last(images))
