"""Tissues and structures of an image, from the segmentation network and the image's intensities.

The network knows where tissues are expected, in any contrast, but its working grid blurs their
edges. The image shows the edges, but not which tissue lies on either side. So the network's
probabilities are the prior of a Gaussian mixture whose means and variances vary slowly over the
image, and its posterior is as sharp as the image (Ashburner and Friston 2005,
doi:10.1016/j.neuroimage.2005.02.018, with local Gaussians in place of a bias field).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.nets.segmenter import Segmentation
from stn3d.preprocessing.prepared import PreparedImage, bounding_box
from stn3d.structures import STRUCTURES, Group, classes_of_groups

TISSUES: tuple[tuple[Group, ...], ...] = (
    ("white matter", "other brain"),
    ("cortex", "deep grey"),
    ("ventricle", "outer fluid"),
)
"""Groups of structures that have similar intensities: white matter, grey matter, fluid."""

_BRAIN = 0.02  # probability of the tissues beyond which a voxel is computed
_SAMPLES_MM = 2.0  # distance of the voxels that the Gaussians are fitted to
_GLOBAL = 0.02  # weight of the whole image's Gaussian in each window, in voxels of the tissue
_LEAST_PRIOR = 0.01
_VOXELS = 2_000_000  # computed at once
_NOISE = 2e-4  # least variance, relative to the square of the intensity range

WHITE_MATTER, GREY_MATTER = 1.0, 0.5
"""Values of `contrast_of`, which is 0 elsewhere."""


@dataclass(frozen=True)
class TissueSettings:
    """Settings of `tissue_probabilities`; the defaults were chosen on brains of four people.

    Args:
        window_mm: Sigma of the windows in which the Gaussians are fitted.
        prior_power: Power of the network's probabilities of the tissues among themselves; below 1
            the image has more to say.
        iterations: Expectation-maximisation steps.
    """

    window_mm: float = 20.0
    prior_power: float = 0.5
    iterations: int = 4


_SHARP = TissueSettings(prior_power=1.0)  # the network's word counts in full for structures


def expected_tissues(segmentation: Segmentation) -> Tensor:
    """Probabilities of white matter, grey matter and fluid on the working grid.

    Args:
        segmentation: The segmentation of an image.

    Returns:
        ``(1, 3, *segmentation.grid.shape)`` float32.
    """
    classes = segmentation.probabilities
    groups = [classes[:, classes_of_groups(*one)].sum(dim=1, keepdim=True) for one in TISSUES]
    return torch.cat(groups, dim=1)


@torch.no_grad()
def tissue_probabilities(
    image: PreparedImage, expected: Tensor, coarse: Grid, settings: TissueSettings | None = None
) -> Tensor:
    """Probabilities of white matter, grey matter and fluid.

    Args:
        image: The image that was segmented; only its first channel is read.
        expected: ``(1, 3, *coarse.shape)``, as from `expected_tissues` of its segmentation.
        coarse: Working grid of the segmentation.
        settings: Default: `TissueSettings()`.

    Returns:
        ``(1, 3, *image.grid.shape)`` float32, 0 outside the brain and the fluid around it.
    """
    result = image.image.new_zeros(1, len(TISSUES), *image.grid.shape)
    for slab in _slabs(image, expected, coarse, settings or TissueSettings()):
        result[slab.box] = slab.posterior[:, :-1]
    return result


@torch.no_grad()
def sharp_classes(image: PreparedImage, segmentation: Segmentation) -> Tensor:
    """The most probable structure of each voxel, given the network and the image's intensities.

    The intensities decide between tissues, the network between structures of the same tissue and
    where the brain ends: in the brain and the fluid around it, the network's probability of a
    structure is multiplied by the posterior of its tissue relative to the tissue's prior.

    Args:
        image: The image that was segmented; only its first channel is read.
        segmentation: Its segmentation.

    Returns:
        ``(1, 1, *image.grid.shape)`` uint8 on the CPU, class numbers of
        `stn3d.structures.STRUCTURES`, 0 outside the working grid.
    """
    classes = segmentation.classes_on(image.grid)
    coarse = segmentation.grid
    # The order in which they are read, so that no slab reorders them.
    probabilities = segmentation.probabilities.contiguous(memory_format=torch.channels_last_3d)
    for slab in _slabs(image, expected_tissues(segmentation), coarse, _SHARP):
        matrix = coarse.index_from_world @ slab.grid.world_from_index
        classes[slab.box] = kernels.resample_classes(
            probabilities, matrix, slab.grid.shape, slab.factors, _tissue_of_classes()
        ).cpu()
    return classes


@dataclass(frozen=True, eq=False)
class SharpWeights:
    """What the network's probabilities are multiplied by, given the image's intensities.

    Args:
        factors: ``(1, 3, *shape)`` factors of the tissues, on the CPU.
        scale: ``(1, 1, *shape)`` which makes the sum 1.
    """

    factors: Tensor
    scale: Tensor

    def of_class(self, index: int) -> Tensor:
        """``(1, 1, *shape)`` of a structure of `stn3d.structures.STRUCTURES`."""
        tissue = _tissue_of_classes()[index]
        return self.scale if tissue < 0 else self.factors[:, tissue, None] * self.scale


@torch.no_grad()
def sharp_weights(image: PreparedImage, segmentation: Segmentation) -> SharpWeights:
    """The weights with which the most probable structures are those of `sharp_classes`.

    Args:
        image: The image that was segmented; only its first channel is read.
        segmentation: Its segmentation.
    """
    expected, coarse = expected_tissues(segmentation), segmentation.grid
    factors = torch.ones(1, len(TISSUES), *image.grid.shape)
    scale = torch.ones(1, 1, *image.grid.shape)
    for slab in _slabs(image, expected, coarse, _SHARP):
        matrix = coarse.index_from_world @ slab.grid.world_from_index
        tissues = kernels.resample(expected, matrix, slab.grid.shape)
        total = 1 + ((slab.factors - 1) * tissues).sum(dim=1, keepdim=True)
        factors[slab.box], scale[slab.box] = slab.factors.cpu(), 1 / total.cpu()
    return SharpWeights(factors, scale)


def contrast_of(tissues: Tensor) -> Tensor:
    """An image of the same contrast for any image: white matter, and half as bright grey matter.

    It resembles a T1-weighted image of the brain without its surroundings, noise and bias field.

    Args:
        tissues: ``(1, 3, *shape)``, as from `tissue_probabilities`.

    Returns:
        ``(1, 1, *shape)`` float32 from 0 to 1.
    """
    return WHITE_MATTER * tissues[:, :1] + GREY_MATTER * tissues[:, 1:2]


def _tissue_of_classes() -> list[int]:
    """The index in `TISSUES` of each structure, -1 outside the brain and its fluid."""
    groups = [-1] * len(STRUCTURES)
    for index, one in enumerate(TISSUES):
        for number in classes_of_groups(*one):
            groups[number] = index
    return groups


@dataclass(frozen=True, eq=False)
class _Slab:
    """A part of an image that contains brain.

    Args:
        box: Index of the part in a tensor ``(1, channels, *shape)``.
        grid: Grid of the part.
        prior: ``(1, tissues + 1, *grid.shape)``; the last is all that is no tissue.
        posterior: Likewise.
    """

    box: tuple[slice, ...]
    grid: Grid
    prior: Tensor
    posterior: Tensor

    @property
    def factors(self) -> Tensor:
        """``(1, tissues, *grid.shape)`` posterior by prior, where there is a tissue at all."""
        return _of_tissues(self.posterior) / _of_tissues(self.prior)


def _of_tissues(probabilities: Tensor) -> Tensor:
    """Probabilities ``(1, tissues, *shape)`` on the condition that there is a tissue."""
    tissues = probabilities[:, :-1].clamp(min=1e-6)
    return tissues / tissues.sum(dim=1, keepdim=True)


def _slabs(
    image: PreparedImage, expected: Tensor, coarse: Grid, settings: TissueSettings
) -> Iterator[_Slab]:
    """Priors and posteriors around the brain, part by part: fine images have many voxels."""
    grid, values = image.grid, image.image[:, :1]

    def prior_on(part: Grid) -> Tensor:
        matrix = coarse.index_from_world @ part.world_from_index
        return _prior(kernels.resample(expected, matrix, part.shape), settings.prior_power)

    matrix = coarse.index_from_world @ grid.world_from_index
    near = kernels.resample(expected.sum(1, True), matrix, grid.shape)[0, 0] > _BRAIN
    if not bool(near.any()):
        return
    start, stop = bounding_box(near.cpu())
    around = grid.cropped(start, stop)
    steps = [max(1, round(_SAMPLES_MM / s)) for s in grid.spacing_mm]
    thinned = _thinned(around, steps)
    samples = values[_box(start, stop, steps)].contiguous()
    mixture = _LocalMixture.fitted(samples, prior_on(thinned), thinned, settings)
    planes = max(1, _VOXELS // math.prod(around.shape[1:]))
    for first in range(start[0], stop[0], planes):
        ends = (first, *start[1:]), (min(first + planes, stop[0]), *stop[1:])
        part, box = grid.cropped(*ends), _box(*ends)
        prior = prior_on(part)
        yield _Slab(box, part, prior, mixture.posterior(values[box], prior, part))


def _box(
    start: Sequence[int], stop: Sequence[int], steps: Sequence[int | None] | None = None
) -> tuple[slice, ...]:
    """Index of a part of a tensor ``(1, channels, *shape)``, every n-th voxel along each axis."""
    ends = zip(start, stop, steps or [None] * len(start), strict=True)
    return (slice(None), slice(None), *(slice(*one) for one in ends))


def _thinned(grid: Grid, steps: Sequence[int]) -> Grid:
    """The grid of every n-th voxel along each axis, from the first on."""
    shape = tuple(-(-n // step) for n, step in zip(grid.shape, steps, strict=True))
    scale = torch.diag(torch.tensor([*steps, 1], dtype=torch.float64))
    return Grid(shape, grid.world_from_index @ scale)


def _prior(tissues: Tensor, power: float) -> Tensor:
    """``(1, 4, *shape)`` prior of the tissues and of all else.

    What belongs to the brain is the network's word; within it, the tissues' odds are flattened.
    """
    inside = tissues.sum(dim=1, keepdim=True).clamp(min=1e-6, max=1)
    flat = (tissues / inside).clamp(min=_LEAST_PRIOR) ** power
    inside = inside.clamp(_LEAST_PRIOR, 1 - _LEAST_PRIOR)
    return torch.cat([inside * flat / flat.sum(dim=1, keepdim=True), 1 - inside], dim=1)


@dataclass(frozen=True, eq=False)
class _LocalMixture:
    """Gaussians of the classes, whose means and variances vary over the image.

    Args:
        mean: ``(1, classes, *shape)`` on the grid that they were fitted on, and one more voxel at
            the end of each axis.
        variance: Likewise.
        grid: That grid.
    """

    mean: Tensor
    variance: Tensor
    grid: Grid

    @classmethod
    def fitted(
        cls, values: Tensor, prior: Tensor, grid: Grid, settings: TissueSettings
    ) -> _LocalMixture:
        """Fit to the voxels of a grid."""
        sigma = [settings.window_mm / mm for mm in grid.spacing_mm]
        mean, variance = _moments(values, prior, sigma)
        for _ in range(settings.iterations - 1):
            share = _share(values, prior, mean, variance)
            mean, variance = _moments(values, share, sigma)
        return cls(_extended(mean), _extended(variance), grid)

    def posterior(self, values: Tensor, prior: Tensor, grid: Grid) -> Tensor:
        """``(1, classes, *grid.shape)`` of voxels with a prior, sum 1."""
        matrix = self.grid.index_from_world @ grid.world_from_index
        mean, variance = (
            kernels.resample(x, matrix, grid.shape) for x in (self.mean, self.variance)
        )
        return _share(values, prior, mean, variance)


def _extended(values: Tensor) -> Tensor:
    """One more voxel at the end of each axis, so that every voxel of the image lies inside."""
    sides = [0, 1] * (values.ndim - 2)
    return torch.nn.functional.pad(values, sides, mode="replicate")


def _moments(values: Tensor, share: Tensor, sigma: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Means and variances of the classes in Gaussian windows; rare ones tend to the image's own."""
    total = share.flatten(2).sum(dim=2).clamp(min=1e-6)
    dims = (...,) + (None,) * (values.ndim - 2)
    mean = ((share * values).flatten(2).sum(dim=2) / total)[dims]
    square = ((share * values**2).flatten(2).sum(dim=2) / total)[dims]
    each = torch.cat([share, share * values, share * values**2], dim=1)
    weight, first, second = kernels.gaussian_smooth(each, sigma).chunk(3, dim=1)
    weight = weight + _GLOBAL
    local = (first + _GLOBAL * mean) / weight
    variance = (second + _GLOBAL * square) / weight - local**2
    return local, variance.clamp(min=0) + _NOISE


def _share(values: Tensor, prior: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Posterior probabilities of the classes."""
    likelihood = torch.exp(-0.5 * (values - mean) ** 2 / variance) * variance.rsqrt()
    weighted = prior * likelihood
    return weighted / weighted.sum(dim=1, keepdim=True).clamp(min=1e-12)
