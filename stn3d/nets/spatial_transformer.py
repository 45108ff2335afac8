"""The spatial transformer: localisation, transform and sampler as one module.

Jaderberg et al. 2015, Spatial transformer networks (arXiv:1506.02025), in two or three dimensions,
for one image or several.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn3d.grid import Grid
from stn3d.nets.precision import exact
from stn3d.transforms import Affine, Transform, chain
from stn3d.warp import warp_batch


class SpatialTransformer(nn.Module):
    """Finds a transform in what it looks at, and moves an image by it.

    What is looked at is the image itself, another one, or several as channels: a network's own
    feature maps, a fixed image beside a moving one, a support image.

    Args:
        localisation: images -> `Transform` in voxels of their grid, such as `Localisation`.
        factor: the localisation sees images averaged over blocks of so many voxels an edge.
        shape: of the output, which shows the same domain; the image's own by default.
        share: of the domain's edges, about its middle, that the output shows through the identity:
            below 1 a transformer is born zoomed, for digits and organs much smaller than the image.
    """

    def __init__(
        self,
        localisation: nn.Module,
        factor: int = 1,
        shape: Sequence[int] | None = None,
        share: float = 1.0,
    ) -> None:
        super().__init__()
        self.localisation, self.factor, self.share = localisation, factor, share
        self.shape = None if shape is None else tuple(shape)

    def transform(self, seen: Tensor) -> Transform:
        """Output's to input's points in voxels of what is looked at, ``(B, C, *shape)``."""
        if self.factor == 1:
            found: Transform = self.localisation(seen)
            return found
        pool = F.avg_pool2d if seen.ndim == 4 else F.avg_pool3d
        sizes = seen.shape[2:]
        sides = [side for n in reversed(sizes) for side in (0, -n % self.factor)]
        coarse = pool(F.pad(seen, sides), self.factor)
        # Block i holds voxels factor i up to factor (i + 1) - 1.
        grid = Grid.of_spacing(coarse.shape[2:], self.factor)
        shift = (self.factor - 1) / 2
        matrix = grid.world_from_index.clone()
        matrix[:-1, -1] = shift
        to_voxels = Affine.from_matrix(matrix)
        return chain(to_voxels.inverse(), self.localisation(coarse), to_voxels)

    def forward(self, image: Tensor, seen: Tensor | None = None) -> Tensor:
        """An image as the transformer turns it.

        Args:
            image: ``(B, C, *shape)``.
            seen: what the localisation looks at, on the same grid; the image by default.

        Returns:
            ``(B, C, *shape)``, or of the transformer's own ``shape``.
        """
        found = self.transform(image if seen is None else seen)
        return moved(image, found, self.shape, self.share)


class Series(nn.Module):
    """Spatial transformers in depth: each sees the image as moved so far and adds its residual.

    The image itself is read once, through the composition of all that was found: nothing is lost at
    its border or by reading again and again (Lin & Lucey 2017, Inverse compositional spatial
    transformer networks, arXiv:1612.03897). To let each move what the last one gave, put them into
    `torch.nn.Sequential`.

    Args:
        transformers: in their order, coarse to fine.
        repeats: how often each is applied in turn, with the same weights; once by default.
    """

    def __init__(
        self, transformers: Sequence[SpatialTransformer], repeats: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.transformers = nn.ModuleList(transformers)
        self.repeats = [1] * len(transformers) if repeats is None else list(repeats)

    def transforms(self, image: Tensor, beside: Tensor | None = None) -> list[Transform]:
        """The transform so far after each step, in voxels.

        Args:
            image: ``(B, C, *shape)``.
            beside: ``(B, C', *shape)``, which stands still; each transformer sees it first and then
                the image as moved so far.
        """
        found: list[Transform] = []
        for transformer, count in zip(self.transformers, self.repeats, strict=True):
            assert isinstance(transformer, SpatialTransformer)
            for _ in range(count):
                seen = moved(image, found[-1]) if found else image
                seen = seen if beside is None else torch.cat([beside, seen], dim=1)
                residual = transformer.transform(seen)
                found.append(chain(residual, found[-1]) if found else residual)
        return found

    def transform(self, image: Tensor, beside: Tensor | None = None) -> Transform:
        """What all found together."""
        return self.transforms(image, beside)[-1]

    def forward(self, image: Tensor, beside: Tensor | None = None) -> Tensor:
        """The image, moved by what all found together."""
        last = self.transformers[-1]
        assert isinstance(last, SpatialTransformer)
        return moved(image, self.transform(image, beside), last.shape, last.share)


class Parallel(nn.Module):
    """Several spatial transformers, each with an eye of its own: their outputs as channels."""

    def __init__(self, transformers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.transformers = nn.ModuleList(transformers)

    def forward(self, image: Tensor, seen: Tensor | None = None) -> Tensor:
        """``(B, C, *shape)`` -> ``(B, n C, *shape)``."""
        return torch.cat([transformer(image, seen) for transformer in self.transformers], dim=1)


class Returning(nn.Module):
    """A network that works in the frame of a spatial transformer, and answers in the image's own.

    Args:
        transformer: turns images before the network sees them, to their own shape.
        network: gives channels on the grid that it is given.
    """

    def __init__(self, transformer: SpatialTransformer | Series, network: nn.Module) -> None:
        super().__init__()
        self.transformer, self.network = transformer, network

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, *shape)`` -> the network's channels, moved back by the inverse transform."""
        transform = self.transformer.transform(image)
        answer = self.network(moved(image, transform))
        return moved(answer, transform.inverse())


def moved(
    image: Tensor, transform: Transform, shape: Sequence[int] | None = None, share: float = 1.0
) -> Tensor:
    """Images ``(B, C, *shape)`` read at a transform of their own grid's voxels.

    Args:
        image: the images.
        transform: output's to input's points, in voxels of the images.
        shape: of the output, over the same domain; the images' own by default.
        share: of the domain's edges that the output's grid takes, about its middle.
    """
    grid = Grid.of_spacing(image.shape[2:])
    with exact(image.device):
        wanted = (grid.with_shape(shape) if shape else grid).zoomed(share)
        return warp_batch(image.to(_kept(image)), grid, transform, wanted)


def voxels(image: Tensor, shape: Sequence[int] | None = None) -> Tensor:
    """``(1, *shape, d)`` voxels of images ``(B, C, *shape)``, or of another shape over them."""
    grid = Grid.of_spacing(image.shape[2:])
    wanted = grid.with_shape(shape) if shape else grid
    return wanted.points_mm(device=image.device, dtype=_kept(image))[None]


def _kept(image: Tensor) -> torch.dtype:
    """The precision to move an image in: at least 32 bits."""
    return image.dtype if image.dtype == torch.float64 else torch.float32
