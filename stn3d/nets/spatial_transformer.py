"""Spatial transformer modules: localisation network, transform and sampler.

Jaderberg et al. 2015, Spatial transformer networks (arXiv:1506.02025), in 2D and 3D, for one image
or several.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn3d.arguments import tensor_arguments
from stn3d.grid import Grid
from stn3d.nets.blocks import average_pool
from stn3d.nets.precision import no_autocast
from stn3d.transforms import Affine, Transform, chain
from stn3d.warp import warp_batch


class SpatialTransformer(nn.Module):
    """Estimates a transform from images and warps an image by it.

    The localisation network sees the image itself, another image, or several as channels: feature
    maps, a fixed and a moving image, a support image.

    Args:
        localisation: Maps images to a `Transform` in voxels of their grid, such as `Localisation`.
        factor: Downsampling factor of the localisation network's input.
        shape: Output shape over the same domain. Default: the shape of the image.
        crop_fraction: Fraction of the domain's edge lengths, about its centre, that the output
            covers under the identity. A value below 1 initialises the transformer to a centre
            crop, for objects much smaller than the image.
    """

    def __init__(
        self,
        localisation: nn.Module,
        factor: int = 1,
        shape: Sequence[int] | None = None,
        crop_fraction: float = 1.0,
    ) -> None:
        super().__init__()
        self.localisation, self.factor, self.crop_fraction = localisation, factor, crop_fraction
        self.shape = None if shape is None else tuple(shape)

    @tensor_arguments()
    def transform(self, source: Tensor) -> Transform:
        """Output-to-input transform, in voxels of the localisation input ``(B, C, *shape)``."""
        if self.factor == 1:
            transform: Transform = self.localisation(source)
            return transform
        padding = [side for n in reversed(source.shape[2:]) for side in (0, -n % self.factor)]
        coarse = average_pool(F.pad(source, padding), self.factor)
        # Coarse voxel i covers voxels factor i to factor (i + 1) - 1.
        grid = Grid.of_spacing(coarse.shape[2:], self.factor)
        matrix = grid.world_from_index.clone()
        matrix[:-1, -1] = (self.factor - 1) / 2
        fine_from_coarse = Affine.from_matrix(matrix)
        return chain(fine_from_coarse.inverse(), self.localisation(coarse), fine_from_coarse)

    @tensor_arguments()
    def forward(self, image: Tensor, source: Tensor | None = None) -> Tensor:
        """Warp an image.

        Args:
            image: ``(B, C, *shape)``.
            source: Input of the localisation network on the same grid. Default: the image.

        Returns:
            ``(B, C, *shape)``, or of the transformer's own ``shape``.
        """
        transform = self.transform(image if source is None else source)
        return warp_tensor(image, transform, self.shape, self.crop_fraction)


class ComposedTransformers(nn.Module):
    """Composition of spatial transformers; each estimates a residual from the warped image.

    The image is interpolated once, through the composed transform, so that nothing is lost at the
    border or by repeated interpolation (Lin & Lucey 2017, Inverse compositional spatial transformer
    networks, arXiv:1612.03897). To warp the output of each by the next, use `torch.nn.Sequential`.

    Args:
        transformers: Spatial transformers, coarse to fine.
        repeats: Number of times each is applied, with shared weights. Default: once.
    """

    def __init__(
        self, transformers: Sequence[SpatialTransformer], repeats: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.transformers = nn.ModuleList(transformers)
        self.repeats = [1] * len(transformers) if repeats is None else list(repeats)

    @tensor_arguments()
    def transforms(self, image: Tensor, reference: Tensor | None = None) -> list[Transform]:
        """The composed transform after each step, in voxels.

        Args:
            image: ``(B, C, *shape)``.
            reference: ``(B, C', *shape)``, never warped; concatenated before the warped image as
                input of each localisation network.
        """
        composed: list[Transform] = []
        for transformer, count in zip(self.transformers, self.repeats, strict=True):
            assert isinstance(transformer, SpatialTransformer)
            for _ in range(count):
                source = warp_tensor(image, composed[-1]) if composed else image
                source = source if reference is None else torch.cat([reference, source], dim=1)
                residual = transformer.transform(source)
                composed.append(chain(residual, composed[-1]) if composed else residual)
        return composed

    @tensor_arguments()
    def transform(self, image: Tensor, reference: Tensor | None = None) -> Transform:
        """The composed transform after the last step."""
        return self.transforms(image, reference)[-1]

    @tensor_arguments()
    def forward(self, image: Tensor, reference: Tensor | None = None) -> Tensor:
        """The image warped by the composed transform."""
        last = self.transformers[-1]
        assert isinstance(last, SpatialTransformer)
        transform = self.transform(image, reference)
        return warp_tensor(image, transform, last.shape, last.crop_fraction)


class ParallelTransformers(nn.Module):
    """Independent spatial transformers of one image; their outputs are concatenated as channels."""

    def __init__(self, transformers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.transformers = nn.ModuleList(transformers)

    @tensor_arguments()
    def forward(self, image: Tensor, source: Tensor | None = None) -> Tensor:
        """``(B, C, *shape)`` -> ``(B, n C, *shape)``."""
        return torch.cat([transformer(image, source) for transformer in self.transformers], dim=1)


class CanonicalisingWrapper(nn.Module):
    """Runs a network in the canonical frame of a spatial transformer and warps its output back.

    Args:
        transformer: Warps the images to the canonical frame, on a grid of the same shape.
        network: Maps images to channels on the same grid.
    """

    def __init__(
        self, transformer: SpatialTransformer | ComposedTransformers, network: nn.Module
    ) -> None:
        super().__init__()
        self.transformer, self.network = transformer, network

    @tensor_arguments()
    def forward(self, image: Tensor) -> Tensor:
        """The network's output for ``(B, C, *shape)``, warped back by the inverse transform."""
        transform = self.transformer.transform(image)
        output = self.network(warp_tensor(image, transform))
        return warp_tensor(output, transform.inverse())


@tensor_arguments()
def warp_tensor(
    image: Tensor,
    transform: Transform,
    shape: Sequence[int] | None = None,
    crop_fraction: float = 1.0,
) -> Tensor:
    """Images warped by a transform of their voxel coordinates.

    Args:
        image: ``(B, C, *shape)``.
        transform: Output to input points, in voxels of the images.
        shape: Output shape over the same domain. Default: the shape of the images.
        crop_fraction: Fraction of the domain's edge lengths, about its centre, that the output grid
            covers.
    """
    grid = Grid.of_spacing(image.shape[2:])
    with no_autocast(image.device):
        output_grid = (grid.with_shape(shape) if shape else grid).zoomed(crop_fraction)
        return warp_batch(image.to(_interpolation_dtype(image)), grid, transform, output_grid)


@tensor_arguments()
def voxel_points(image: Tensor, shape: Sequence[int] | None = None) -> Tensor:
    """Voxel centres of images ``(B, C, *shape)``, or of a grid of another shape over them.

    Returns:
        ``(1, *shape, d)`` in voxels of the images.
    """
    grid = Grid.of_spacing(image.shape[2:])
    output_grid = grid.with_shape(shape) if shape else grid
    points = output_grid.points_mm(device=image.device, dtype=_interpolation_dtype(image))
    return points[None]


def _interpolation_dtype(image: Tensor) -> torch.dtype:
    """At least 32 bits."""
    return image.dtype if image.dtype == torch.float64 else torch.float32
