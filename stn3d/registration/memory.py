"""Peak memory of a registration, estimated before it starts, and a coarser finest level for less.

The estimate adds up the float32 arrays that are held at the peak: on the last level of a stage, or
while metrics are computed. It is for images without masks and labels that fill their field of view,
on the CPU. GB are 2**30 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.memory.limit import allowed_gb
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.settings import Settings

_GB = 2**30
_PROCESS_GB = 0.42  # Python with torch and numba, and the compiled kernels
_HEAP_GB = 0.03  # freed arrays that the process keeps, from 64^3 voxels on

# Arrays of the size of the fixed image while metrics are computed.
_METRIC_ARRAYS = 4  # masks; an image within a mask, without its mean, squared
_FIELD_METRIC_ARRAYS = 7  # masks; determinants, those in a mask; their logarithms in float64, twice


@dataclass(frozen=True)
class Budget:
    """Memory that a registration may use and will use.

    Args:
        settings: The settings requested, or the same with a coarser finest level.
        estimated_gb: Estimated peak memory of the process.
        allowed_gb: `Settings.max_memory`, or a fraction of the free memory; None if unknown.
        note: Why the finest level is coarser than requested; None if it is not.
    """

    settings: Settings
    estimated_gb: float
    allowed_gb: float | None
    note: str | None = None


Grids = tuple[Grid, Grid]
"""Grids of the fixed and of the moving image."""


def budget(
    fixed: Grid,
    moving: Grid,
    settings: Settings,
    channels: int = 1,
    prepared: Grids | None = None,
) -> Budget:
    """Settings that fit into the memory allowed; the finest level is coarsened by steps of sqrt 2.

    Args:
        fixed: Grid of the fixed image.
        moving: Grid of the moving image.
        settings: Settings requested; without ``max_memory``, 80 % of the free memory are allowed.
        channels: Number of channels of either image.
        prepared: See `estimated_gb`.

    Raises:
        InputError: Even the coarsest level does not fit.
    """
    limit_gb, source = allowed_gb(settings.max_memory)
    needed_gb = estimated_gb(fixed, moving, settings, channels, prepared)
    if limit_gb is None or needed_gb <= limit_gb:
        return Budget(settings, needed_gb, limit_gb)
    least_gb = needed_gb
    for coarser in settings.coarser():
        less_gb = estimated_gb(fixed, moving, coarser, channels, prepared)
        if less_gb <= limit_gb:
            grids = prepared or (fixed, moving)
            before, after = (_finest_mm(*grids, s) for s in (settings, coarser))
            note = (
                f"the registration needs about {needed_gb:.1f} GB and {limit_gb:.1f} GB are "
                f"allowed ({source}); the finest level is {after:.3g} mm instead of "
                f"{before:.3g} mm, which needs about {less_gb:.1f} GB."
            )
            return Budget(coarser, less_gb, limit_gb, note)
        least_gb = min(least_gb, less_gb)
    raise InputError(
        f"the registration needs about {least_gb:.2f} GB even with its coarsest level alone, and "
        f"{limit_gb:.2f} GB are allowed ({source}); allow more by --max-memory, or crop or "
        "resample the images."
    )


def estimated_gb(
    fixed: Grid,
    moving: Grid,
    settings: Settings,
    channels: int = 1,
    prepared: Grids | None = None,
) -> float:
    """Peak memory of a process that registers a pair and saves the result, in GB.

    Args:
        fixed: Grid of the fixed image.
        moving: Grid of the moving image.
        settings: Settings of the registration.
        channels: Number of channels of either image.
        prepared: Grids of the prepared images, where they differ from those of the images.
    """
    n, m = fixed.num_voxels, moving.num_voxels
    pair, stages = _without_voxels(*(prepared or (fixed, moving))), settings.stages()
    images = 2 * channels * (n + m)  # both images, as read and scaled
    stage_peak = max(stage.memory_floats(pair, channels) for stage in stages)
    registering = images + max(2 * max(n, m), stage_peak)
    arrays = _FIELD_METRIC_ARRAYS if settings.is_deformable else _METRIC_ARRAYS
    transforms = 2 * stages[-1].transform_floats(pair)  # the transform and its inverse
    evaluated = n if fixed.slice_axis is None else max(n, m)  # the volume may be the fixed image
    evaluating = (2 + arrays) * evaluated + m + transforms  # with the warped image
    constant_gb = _PROCESS_GB + _HEAP_GB * min(1, n / (1 << 18))
    return constant_gb + 4 * max(registering, evaluating) / _GB


def _without_voxels(fixed: Grid, moving: Grid) -> Pair:
    """A pair with grids alone, which determine the levels of a stage."""
    return Pair(PreparedImage(torch.empty(0), fixed), PreparedImage(torch.empty(0), moving))


def _finest_mm(fixed: Grid, moving: Grid, settings: Settings) -> float:
    return settings.stages()[-1].spacings_mm(_without_voxels(fixed, moving))[-1]
