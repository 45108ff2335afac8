"""The memory that a registration takes, known before it starts; a coarser finest level for less.

An estimate counts the float32 arrays that are held where most are: in the last level of a stage, or
while figures are taken. It is for images without masks and labels that fill their field of view, on
the CPU; the dense stage leaves empty margins out and takes less there. GB are of 2**30 bytes.
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.losses.similarity import MetricName, window_radii
from stn3d.preprocessing.pair import Pair, PreparedImage
from stn3d.registration.settings import Settings
from stn3d.registration.stages import DeformableStage, LinearStage, Stage

_FAR_MM = 1e6  # no level is as coarse; JSON knows no infinity
_GB = 2**30
_PROCESS_GB = 0.42  # Python with torch and numba, the compiled loops
_HEAP_GB = 0.03  # freed arrays that the process keeps, from 64^3 voxels on
_SHARE_OF_FREE = 0.8

# Arrays of a level, each a float32 for every voxel of its grid.
_LINEAR_ARRAYS = 5  # a field of zeros; what is read and its coverage
_DEFORMABLE_ARRAYS = (
    22  # image, mask; 3 fields, velocity, force; what is read, weight; coarser field
)
# Products and derivatives of a loss; twice where the weight has a derivative too. A
# descriptor has 12 channels.
_LOSS_ARRAYS: dict[MetricName, int] = {
    "lncc": 2,
    "mse": 3,
    "ncc": 5,
    "nmi": 5,
    "mind": 60,
    "gradient": 24,
}
_CHANNEL_ARRAYS = 3  # of each further contrast: image, what is read, derivative
_METRIC_ARRAYS = 4  # masks; an image in a mask, less its mean, squared
_DEFORMABLE_METRIC_ARRAYS = (
    7  # masks; determinants, those in a mask; their logarithms in float64, twice
)


@dataclass(frozen=True)
class Budget:
    """What a registration may take and will take.

    Args:
        settings: those asked for, or with a coarser finest level.
        estimated_gb: the peak of the process, in GB.
        allowed_gb: `Settings.max_memory`, or a share of what is free; None where nobody can tell.
        note: why the finest level is coarser than asked for; None if it is not.
    """

    settings: Settings
    estimated_gb: float
    allowed_gb: float | None
    note: str | None = None


def budget(fixed: Grid, moving: Grid, settings: Settings, channels: int = 1) -> Budget:
    """Settings that fit into the memory allowed: the finest level grows coarser by steps of sqrt 2.

    Args:
        fixed: the fixed image's grid.
        moving: the moving image's grid.
        settings: as asked for; without ``max_memory`` four fifths of the free memory are allowed.
        channels: contrasts of either image.

    Raises:
        InputError: even the coarsest level does not fit.
    """
    allowed_gb, whose = settings.max_memory, "by --max-memory"
    if allowed_gb is None:
        free = free_gb()
        allowed_gb = None if free is None else _SHARE_OF_FREE * free
        whose = f"{_SHARE_OF_FREE:.0%} of what is free"
    needed_gb = estimated_gb(fixed, moving, settings, channels)
    if allowed_gb is None or needed_gb <= allowed_gb:
        return Budget(settings, needed_gb, allowed_gb)
    least_gb = needed_gb
    for coarser in _coarser(settings):
        less_gb = estimated_gb(fixed, moving, coarser, channels)
        if less_gb <= allowed_gb:
            before, after = (_finest_mm(fixed, moving, s) for s in (settings, coarser))
            note = (
                f"about {needed_gb:.1f} GB would be needed and {allowed_gb:.1f} GB are allowed "
                f"({whose}), so the finest level is {after:.3g} mm instead of {before:.3g} mm, "
                f"for about {less_gb:.1f} GB."
            )
            return Budget(coarser, less_gb, allowed_gb, note)
        least_gb = min(least_gb, less_gb)
    raise InputError(
        f"the registration needs about {least_gb:.2f} GB even with its coarsest level alone, and "
        f"{allowed_gb:.2f} GB are allowed ({whose}); allow more by --max-memory, or crop or "
        "resample the images."
    )


def estimated_gb(fixed: Grid, moving: Grid, settings: Settings, channels: int = 1) -> float:
    """The peak memory of a process that registers a pair and saves the outcome, in GB.

    Args:
        fixed: the fixed image's grid.
        moving: the moving image's grid.
        settings: of the registration.
        channels: contrasts of either image.
    """
    n, m = fixed.num_voxels, moving.num_voxels
    pair = _geometry(fixed, moving)
    stages = settings.stages()
    dense = settings.is_deformable
    field = fixed.ndim * _deformable_voxels(stages[-1], pair) if dense else 0
    held = 2 * channels * (n + m)  # both images, as they were read and scaled
    working = max(2 * max(n, m), *(_stage_floats(stage, pair, channels) for stage in stages))
    figures = _DEFORMABLE_METRIC_ARRAYS if dense else _METRIC_ARRAYS
    judging = (2 + figures) * n + m + 2 * field  # with the moved image, field and inverse
    constant_gb = _PROCESS_GB + _HEAP_GB * min(1, n / (1 << 18))
    return constant_gb + 4 * max(held + working, judging) / _GB


def _geometry(fixed: Grid, moving: Grid) -> Pair:
    """A pair without voxels: it knows which levels a stage has."""
    return Pair(PreparedImage(torch.empty(0), fixed), PreparedImage(torch.empty(0), moving))


def _stage_floats(stage: Stage, pair: Pair, channels: int) -> int:
    """The most numbers that a stage holds, besides both scans."""
    assert isinstance(stage, LinearStage | DeformableStage)
    spacings = _spacings_mm(stage, pair)
    levels = sum(
        scan.grid.coarsened(spacing).num_voxels
        for spacing in spacings
        for scan in (pair.fixed, pair.moving)
        if scan.grid.coarsened(spacing).shape != scan.grid.shape
    )
    levels *= channels
    loss = channels * _LOSS_ARRAYS[stage.metric] + _CHANNEL_ARRAYS * (channels - 1)
    if isinstance(stage, DeformableStage):
        return levels + (_DEFORMABLE_ARRAYS + loss) * _deformable_voxels(stage, pair)
    voxels = pair.fixed.grid.coarsened(spacings[-1]).num_voxels
    return levels + (_LINEAR_ARRAYS + 2 * loss) * voxels


def _spacings_mm(stage: Stage, pair: Pair) -> list[float]:
    """The levels of a stage."""
    if isinstance(stage, LinearStage):
        return stage.spacings_mm(pair)
    assert isinstance(stage, DeformableStage)
    return pair.level_spacings_mm(stage.factors)


def _deformable_voxels(stage: Stage, pair: Pair) -> int:
    """Voxels of the field's finest level, with all of its margin."""
    assert isinstance(stage, DeformableStage)
    grid = pair.fixed.grid.coarsened(pair.level_spacings_mm(stage.factors)[-1])
    spacings, radii = grid.spacing_mm, [0] * grid.ndim
    if stage.metric == "lncc":
        radii = window_radii(stage.radius_vox * min(spacings), spacings)
    margins = [r + math.ceil(stage.margin_mm / s) for r, s in zip(radii, spacings, strict=True)]
    return math.prod(n + 2 * k for n, k in zip(grid.shape, margins, strict=True))


def _finest_mm(fixed: Grid, moving: Grid, settings: Settings) -> float:
    return _spacings_mm(settings.stages()[-1], _geometry(fixed, moving))[-1]


def _coarser(settings: Settings) -> list[Settings]:
    """The settings with ever coarser finest levels of the last stage, until one level is left."""
    dense = settings.is_deformable
    factors = settings.deformable.factors if dense else settings.linear.final_factors
    steps, made = math.floor(2 * math.log2(max(factors) / factors[-1]) + 1e-9), []
    for k in range(1 if dense else 0, steps + 1):
        finest = factors[-1] * 2 ** (k / 2)
        kept = (*(f for f in factors if f > finest * (1 + 1e-9)), finest)
        if dense:
            counts = settings.deformable.iterations[-len(factors) :][: len(kept)]
            stage = dataclasses.replace(settings.deformable, factors=kept, iterations=counts)
            made.append(dataclasses.replace(settings, deformable=stage))
        else:
            linear = dataclasses.replace(
                settings.linear, final_factors=kept, finest_spacing_mm=_FAR_MM
            )
            made.append(dataclasses.replace(settings, linear=linear))
    return made


# -- what is free ---------------------------------------------------------------------------------


def free_gb() -> float | None:
    """Memory that new processes can have, in GB: of the machine and of this process's cgroups; None
    where the system does not tell."""
    known = [free for free in (_machine_bytes(), _cgroup_bytes()) if free is not None]
    return max(0, min(known)) / _GB if known else None


def _machine_bytes() -> int | None:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup_bytes() -> int | None:
    """The least that any cgroup (version 2) above this process leaves; caches give way."""
    root = Path("/sys/fs/cgroup")
    own = next((p for p in _read("/proc/self/cgroup").splitlines() if p.startswith("0::")), "0::/")
    folder, left = root / own[3:].lstrip("/"), []
    for one in (folder, *folder.parents):
        limit, used = _read(one / "memory.max").strip(), _read(one / "memory.current").strip()
        if limit.isdigit() and used.isdigit():
            words = dict(line.split() for line in _read(one / "memory.stat").splitlines())
            left.append(int(limit) - int(used) + int(words.get("inactive_file", 0)))
        if one == root:
            break
    return min(left, default=None)


def _read(path: str | Path) -> str:
    """A file's text; empty where there is none to read."""
    try:
        return Path(path).read_text(encoding="utf8")
    except OSError:
        return ""
