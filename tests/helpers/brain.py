"""A real brain, the MNI T1 template of nilearn, which the networks were not trained on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

import pytest
import torch
from torch import Tensor

from stn3d.demo.heads import TEMPLATE
from stn3d.grid import Grid
from stn3d.io import Image, read_image
from stn3d.nets.weights import TrainedNetwork, bundled_network
from stn3d.segmentation import SegmentationResult, segment
from stn3d.warp import resample_image


@cache
def _full() -> Image:
    """The skull-stripped template; the test is skipped without nilearn."""
    try:
        path = distribution("nilearn").locate_file(TEMPLATE.format("t1"))
    except PackageNotFoundError:
        pytest.skip("nilearn is not installed")
    return read_image(str(path))


@cache
def brain(spacing_mm: float = 3.0) -> Image:
    """The template on a coarser grid."""
    full = _full()
    grid = full.grid.coarsened(spacing_mm)
    return read_image((resample_image(full.values, full.grid, grid), grid))


def brain_mask() -> Tensor:
    """``(1, 1, *shape)`` bool, where the template is not 0, on the grid of `brain`."""
    full, grid = _full(), brain().grid
    return resample_image((full.values > 0).float(), full.grid, grid) > 0.5


@cache
def brain_segmentation() -> SegmentationResult:
    """What the network of the package finds in the template."""
    return segment(brain())


@cache
def quick_network() -> TrainedNetwork:
    """The network of the package on a grid of 3 mm: a quarter of the time, and less accurate."""
    trained = bundled_network("segmentation")
    return replace(trained, preprocessing={**trained.preprocessing, "spacing_mm": 3.0})


def as_t2(values: Tensor) -> Tensor:
    """A T1-weighted image with dark white matter and bright fluid."""
    x = (values / float(values[values > 0].quantile(0.98))).clamp(max=1)
    t2 = torch.where(x < 0.5, 1.0 - 0.9 * x, 0.55 - 0.6 * (x - 0.5))
    return torch.where(x > 0.08, t2, x)


def permuted(image: Image) -> tuple[Tensor, Grid]:
    """The same voxels at the same places in an array of other axes, two of them reversed."""
    values = image.values[0, 0].permute(2, 0, 1).flip(0, 2)[None, None].contiguous()
    new = torch.tensor([[0, 1.0, 0, 0], [0, 0, -1, 0], [-1, 0, 0, 0], [0, 0, 0, 1]]).double()
    new[1, 3], new[2, 3] = image.grid.shape[1] - 1, image.grid.shape[2] - 1
    return values, Grid(tuple(values.shape[2:]), image.grid.world_from_index @ new)
