"""A cascade of spatial transformers: each sees the pair as moved so far and adds its residual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from stn3d.nets.blocks import options_of
from stn3d.nets.heads import Head
from stn3d.nets.localisation import PyramidLocalisation
from stn3d.nets.precision import exact
from stn3d.nets.spatial_transformer import Series, SpatialTransformer, voxels
from stn3d.transforms import Transform


def pair_transformer(
    head: Head = "affine",
    factor: int = 1,
    spatial_dims: int = 3,
    in_channels: int = 1,
    channels: Sequence[int] = (8, 16, 32, 64),
    control_points: int = 6,
    dropout: float = 0.0,
) -> SpatialTransformer:
    """A spatial transformer that looks at a fixed image beside the moving one.

    Args:
        head: what kind of transform, see `PyramidLocalisation`.
        factor: the localisation sees the pair averaged over blocks of so many voxels an edge.
        spatial_dims: 2 or 3.
        in_channels: of each image.
        channels: of the encoder's levels, from the finest on.
        control_points: along each axis, of a head that has any.
        dropout: share of the features that training leaves out.

    Raises:
        InputError: the head is unknown.
    """
    shared = (tuple(channels), control_points, dropout)
    return SpatialTransformer(
        PyramidLocalisation(head, spatial_dims, 2 * in_channels, *shared), factor
    )


class Cascade(nn.Module):
    """Spatial transformers of pairs one after another, coarse to fine; the identity at birth.

    The moving image is read once for each stage, through all that was found before (de Vos et al.
    2019, doi:10.1016/j.media.2018.11.010; Zhao et al. 2019, arXiv:1907.12353).

    Args:
        stages: the options of `pair_transformer`, for each.
        repeats: how often each is applied in turn, with the same weights; once by default.
    """

    def __init__(
        self, stages: Sequence[Mapping[str, Any]], repeats: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.series = Series([pair_transformer(**stage) for stage in stages], repeats)
        told = {"spatial_dims": 3, "in_channels": 1}  # what weights are asked for
        self.options: dict[str, Any] = {
            "stages": [options_of(**{**told, **stage}) for stage in stages],
            "repeats": self.series.repeats,
        }

    def transforms(self, pair: Tensor) -> list[Transform]:
        """The transform so far after each stage, in voxels of the pair's grid."""
        fixed, moving = pair.chunk(2, dim=1)
        return self.series.transforms(moving, fixed)

    def stages(self, pair: Tensor) -> tuple[Tensor, ...]:
        """The displacement after each stage, ``(B, d, *shape)`` in voxels."""
        return tuple(_displacement(pair, transform) for transform in self.transforms(pair))

    def forward(self, pair: Tensor) -> Tensor:
        """Displacements of pairs.

        Args:
            pair: ``(B, 2 C, *shape)``, the fixed image's channels before the moving image's.

        Returns:
            ``(B, d, *shape)`` in voxels: ``moved(x) = moving(x + u(x))``.
        """
        return _displacement(pair, self.transforms(pair)[-1])


def _displacement(pair: Tensor, transform: Transform) -> Tensor:
    points = voxels(pair)
    with exact(pair.device):
        return (transform(points) - points).movedim(-1, 1)
