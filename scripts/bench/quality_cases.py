"""Cases for the quality check: pairs of images with known truth, also hopeless ones."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scripts.bench import paths
from scripts.bench.paths import existing
from stn3d import Grid, Rigid, Transform, VelocityField, read_image
from stn3d.preprocessing.intensity import limits
from stn3d.transforms import chain
from stn3d.warp import resample_image, warp_image

SPACING_MM = 2.0

CONTRASTS = tuple(f"contrasts/p07_{name}.nii.gz" for name in ("t1", "t1post", "t2", "flair"))
TEMPLATES = tuple(
    f"ct_mr/{name}.nii.gz" for name in ("scct", "mni152_t1_2mm", "avg152T2", "single_subj_T1")
)
BRAINS = tuple(f"brains/{number}_t1.nii.gz" for number in (1000, 1001, 1007, 1010, 1036))
UNRELATED_PAIRS = (
    (BRAINS[0], "lung_mr/0004.nii.gz"),
    ("abdomen/ct.nii.gz", CONTRASTS[0]),
    (TEMPLATES[0], "abdomen/ct.nii.gz"),
    ("lung_mr/0006.nii.gz", "abdomen/mr.nii.gz"),
    (TEMPLATES[1], "noise"),
    (CONTRASTS[2], "lung_mr/0007.nii.gz"),
)
UNRELATED = "unrelated"
FAMILIES = ("contrasts", "contrasts deformed", "templates", "one T1 deformed", UNRELATED)
STACKS = "stacks"
ONLY_UNRELATED = 300  # from this number on, all pairs are unrelated
ONLY_STACKS = 400  # from this number on, all pairs are stacks of few slices


class Case(NamedTuple):
    """Both images, and the truth if there is one."""

    what: str
    fixed: tuple[Tensor, Grid]
    moving: tuple[Tensor, Grid]
    truth: Transform | None


def image(name: str, generator: torch.Generator) -> tuple[Tensor, Grid]:
    """``(1, 1, *shape)`` at 2 mm (or its own spacing, if that is coarser) and its grid."""
    if name == "noise":
        return torch.rand(1, 1, 90, 100, 90, generator=generator), Grid.of_spacing((90, 100, 90), 2)
    read = read_image(existing(paths.SHARED / "data" / name), "image")
    grid = read.grid.coarsened(SPACING_MM)
    return resample_image(read.values, read.grid, grid), grid


def draw_stacks(number: int) -> Case:
    """Two stacks of the same slices, moved within their plane."""
    g = torch.Generator().manual_seed(number)
    axis, count = number % 3, 2 + number // 3 % 7
    values, grid = image((*CONTRASTS, *BRAINS)[int(torch.randint(9, (), generator=g))], g)
    across = int(grid.world_from_index[:3, axis].abs().argmax())
    parameters = torch.zeros(6, dtype=torch.float64)
    parameters[across] = math.radians(20 * (2 * float(torch.rand((), generator=g)) - 1))
    parameters[3:] = 30 * torch.rand(3, generator=g, dtype=torch.float64) - 15
    parameters[3 + across] = 0
    truth = Rigid(parameters, grid.centre_mm)
    moved = warp_image(values, grid, truth.inverse(), grid)
    share = (0.02, 0.05, 0.15)[int(torch.randint(3, (), generator=g))]
    fixed, moving = (stack((one, grid), axis, count) for one in (values, noisy(moved, share, g)))
    return Case(STACKS, fixed, moving, truth)


def stack(one: tuple[Tensor, Grid], axis: int, count: int, step: int = 2) -> tuple[Tensor, Grid]:
    """Every second slice around the centre, along an axis."""
    values, grid = one
    start = (grid.shape[axis] - step * count) // 2
    index = torch.arange(start, start + step * count, step)
    matrix = grid.world_from_index.clone()
    matrix[:-1, -1] += start * matrix[:-1, axis]
    matrix[:-1, axis] *= step
    chosen = values.index_select(2 + axis, index).contiguous()
    return chosen, Grid(tuple(chosen.shape[2:]), matrix)


def draw(number: int) -> Case:
    """The case of a number."""
    if number >= ONLY_STACKS:
        return draw_stacks(number)
    g = torch.Generator().manual_seed(number)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)

    def pick(names: tuple[Any, ...]) -> Any:
        return names[int(torch.randint(len(names), (), generator=g))]

    def displaced(source: tuple[Tensor, Grid], truth: Transform, motion: Rigid) -> Any:
        """The moving image: deformed by the truth on a displaced grid, noisy, maybe cropped."""
        elsewhere = Grid(source[1].shape, motion.matrix @ source[1].world_from_index).padded(10)
        moved = warp_image(source[0], source[1], truth.inverse(), elsewhere)
        made = noisy(moved, float(pick((0.02, 0.05, 0.15, 0.5))), g), elsewhere
        return maybe_slab(made)

    def maybe_slab(one: tuple[Tensor, Grid]) -> tuple[Tensor, Grid]:
        share, axis = float(uniform(0.2, 0.7)), int(torch.randint(3, (), generator=g))
        return slab(one, share, axis) if pick((True, False, False)) else one

    unrelated = number >= ONLY_UNRELATED or number // 2 % 5 == 4
    family = 4 if unrelated else number // 2 % 5
    if unrelated:
        first, second = pick(UNRELATED_PAIRS)
    else:
        names = (CONTRASTS, CONTRASTS, TEMPLATES, BRAINS)[family]
        first = pick(names)
        second = first if family == 3 else pick(tuple(n for n in names if n != first))
    fixed, source = image(first, g), image(second, g)
    grid, axis = fixed[1], uniform(-1, 1, 3)
    turn = axis / axis.norm() * math.radians(float(pick((20.0, 45.0, 90.0, 180.0))))
    motion = Rigid(torch.cat([turn * uniform(0.3, 1), uniform(-40, 40, 3)]), grid.centre_mm)
    deformed = family in (1, 3)
    truth = chain(deformation(grid, g, float(uniform(2, 14))), motion) if deformed else motion
    moving = displaced(source, truth, motion)
    return Case(FAMILIES[family], maybe_slab(fixed), moving, None if unrelated else truth)


def deformation(grid: Grid, generator: torch.Generator, amplitude_mm: float) -> Transform:
    """The exponential of smooth noise, with vectors up to an amplitude."""
    coarse = grid.coarsened(24.0)
    v = torch.randn(1, 3, *coarse.shape, generator=generator)
    smooth = resample_image(v, coarse, grid.coarsened(8.0))
    smooth *= amplitude_mm / float(smooth.norm(dim=1).max())
    return VelocityField(smooth, grid.coarsened(8.0)).displacement


def noisy(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The image with noise; its standard deviation is a fraction of the intensity range."""
    low, high = limits(values)
    return values + share * (high - low) * torch.randn(values.shape, generator=generator)


def slab(one: tuple[Tensor, Grid], share: float, axis: int) -> tuple[Tensor, Grid]:
    """The central part along an axis."""
    values, grid = one
    n = grid.shape[axis]
    keep = max(8, round(share * n))
    start, stop = [0] * 3, list(grid.shape)
    start[axis], stop[axis] = (n - keep) // 2, (n - keep) // 2 + keep
    inner = [slice(a, b) for a, b in zip(start, stop, strict=True)]
    part = values[:, :, inner[0], inner[1], inner[2]]
    return part.contiguous(), grid.cropped(start, stop)
