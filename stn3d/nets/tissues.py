"""White and grey matter of an image, from the segmentation network and the image's intensities.

The network knows where tissues are expected, in any contrast, but its working grid blurs their
edges. The image shows the edges, but not which tissue lies on either side. So the network's
probabilities are the prior of a Gaussian mixture whose means and variances vary slowly over the
image, and its posterior is as sharp as the image (Ashburner and Friston 2005,
doi:10.1016/j.neuroimage.2005.02.018, with local Gaussians in place of a bias field).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid, homogeneous
from stn3d.nets.segmenter import Segmentation
from stn3d.preprocessing.prepared import PreparedImage, bounding_box
from stn3d.structures import Group, classes_of_groups

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
    settings = settings or TissueSettings()
    grid, values = image.grid, image.image[:, :1]
    matrix = coarse.index_from_world @ grid.world_from_index
    near = kernels.resample(expected.sum(1, True), matrix, grid.shape)[0, 0] > _BRAIN
    result = values.new_zeros(1, len(TISSUES), *grid.shape)
    if not bool(near.any()):
        return result
    start, stop = bounding_box(near.cpu())
    box = (slice(None), slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))
    part = grid.cropped(start, stop)
    to_coarse = coarse.index_from_world @ part.world_from_index
    prior = _prior(kernels.resample(expected, to_coarse, part.shape), settings.prior_power)
    mixture = _LocalMixture.fitted(values[box], prior, part, settings)
    result[box] = mixture.posterior(values[box], prior)[:, :-1]
    return result


def contrast_of(tissues: Tensor) -> Tensor:
    """An image of the same contrast for any image: white matter, and half as bright grey matter.

    It resembles a T1-weighted image of the brain without its surroundings, noise and bias field.

    Args:
        tissues: ``(1, 3, *shape)``, as from `tissue_probabilities`.

    Returns:
        ``(1, 1, *shape)`` float32 from 0 to 1.
    """
    return WHITE_MATTER * tissues[:, :1] + GREY_MATTER * tissues[:, 1:2]


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
        mean: ``(1, classes, *coarse)``.
        variance: Likewise.
        matrix: Coarse indices from indices of the image, homogeneous.
    """

    mean: Tensor
    variance: Tensor
    matrix: Tensor

    @classmethod
    def fitted(
        cls, values: Tensor, prior: Tensor, grid: Grid, settings: TissueSettings
    ) -> _LocalMixture:
        """Fit to every n-th voxel, which are not blurred by averaging."""
        steps = [max(1, round(_SAMPLES_MM / s)) for s in grid.spacing_mm]
        thinned = (slice(None), slice(None), *(slice(None, None, step) for step in steps))
        values, prior = values[thinned].contiguous(), prior[thinned].contiguous()
        sigma = [
            settings.window_mm / (s * step) for s, step in zip(grid.spacing_mm, steps, strict=True)
        ]
        mean, variance = _moments(values, prior, sigma)
        for _ in range(settings.iterations - 1):
            share = _share(values, prior, mean, variance)
            mean, variance = _moments(values, share, sigma)
        scales = torch.tensor([1 / step for step in steps], dtype=torch.float64)
        matrix = homogeneous(torch.diag(scales), torch.zeros(len(steps), dtype=torch.float64))
        return cls(mean, variance, matrix)

    def posterior(self, values: Tensor, prior: Tensor) -> Tensor:
        """``(1, classes, *shape)`` of voxels with a prior, sum 1."""
        shape = values.shape[2:]
        mean, variance = (
            kernels.resample(_extended(x), self.matrix, shape) for x in (self.mean, self.variance)
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
