"""Figures of one transform on one pair: from images, labels, points and truth, as far as given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix
from stn3d.io import (
    Image,
    ImageSource,
    read_image,
    read_labels,
    read_mask,
    require_same_grid,
)
from stn3d.metrics import (
    dice,
    eroded,
    error_mm,
    hd95_mm,
    image_figures,
    inverse_error_mm,
    jacobian_figures,
    scored_labels,
    tre_mm,
)
from stn3d.preprocessing.intensity import limits
from stn3d.transforms import Transform
from stn3d.warp import jacobian_determinant, overlap, warp_image, warp_labels


@dataclass(frozen=True, eq=False)
class Case:
    """A pair of images and what is known about it.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        fixed_labels: labels on the fixed image's grid.
        moving_labels: labels on the moving image's grid.
        fixed_points_mm: ``(N, d)`` landmarks in the fixed image.
        moving_points_mm: ``(N, d)`` the same landmarks in the moving image.
        fixed_mask: where figures are taken; by default the labels, or else the foreground.
        true_transform: the known truth, fixed points to moving points.
    """

    fixed: Image
    moving: Image
    fixed_labels: Image | None = None
    moving_labels: Image | None = None
    fixed_points_mm: Tensor | None = None
    moving_points_mm: Tensor | None = None
    fixed_mask: Image | None = None
    true_transform: Transform | None = None

    @cached_property
    def region(self) -> Tensor:
        """``fixed.grid.shape`` bool: the mask, the labels, or the fixed image's foreground.

        Foreground lies above 2 % of the range of `stn3d.preprocessing.intensity.limits`.
        """
        if self.fixed_mask is not None:
            return self.fixed_mask.values[0, 0] > 0
        if self.fixed_labels is not None:
            return self.fixed_labels.values[0, 0] > 0
        dark, bright = limits(self.fixed.values[:, :1])
        return self.fixed.values[0, 0] > dark + 0.02 * (bright - dark)


def read_case(
    fixed: ImageSource,
    moving: ImageSource,
    masks: tuple[ImageSource | None, ImageSource | None],
    labels: tuple[ImageSource | None, ImageSource | None],
    volumes: tuple[int | None, int | None],
) -> tuple[Case, Image | None]:
    """Read a pair and what is known about it, and check that it fits together.

    Args:
        fixed: the fixed image.
        moving: the moving image, of the same dimension.
        masks: of the fixed and of the moving image, each on its image's grid.
        labels: of both images or of none, each on its image's grid.
        volumes: which volume of a 4D fixed and moving image.

    Returns:
        The case; and the moving mask, which figures do not need.

    Raises:
        InputError: an image, mask or label map is of no use; the message says why.
    """
    images = [
        read_image(source, role, volume)
        for source, role, volume in zip((fixed, moving), ("fixed", "moving"), volumes, strict=True)
    ]
    if images[0].grid.ndim != images[1].grid.ndim:
        raise InputError(
            f"the fixed image {images[0].name} is {images[0].grid.ndim}D and the moving image "
            f"{images[1].name} is {images[1].grid.ndim}D; give two images of one dimension."
        )
    if (labels[0] is None) != (labels[1] is None):
        given, other = ("fixed", "moving") if labels[1] is None else ("moving", "fixed")
        raise InputError(f"only {given} labels are given; give --{other}-labels too, or neither.")
    extras: list[Image | None] = []
    for read, sources, what in ((read_mask, masks, "mask"), (read_labels, labels, "labels")):
        for source, image, role in zip(sources, images, ("fixed", "moving"), strict=True):
            extra = None
            if source is not None:
                extra = read(source, f"{role} {what}", ndim=image.grid.ndim)
                require_same_grid(extra, image, f"{role} {what}")
                _require_no_negatives(extra, f"{role} {what}")
            extras.append(extra)
    fixed_mask, moving_mask, fixed_labels, moving_labels = extras
    case = Case(images[0], images[1], fixed_labels, moving_labels, fixed_mask=fixed_mask)
    return case, moving_mask


def read_exclusion(source: ImageSource | None, image: Image, role: str) -> Image | None:
    """A mask of what does not count in an image, on its grid.

    Raises:
        InputError: the mask is of no use, or leaves nothing.
    """
    if source is None:
        return None
    what = f"{role} exclude mask"
    mask = read_mask(source, what, ndim=image.grid.ndim)
    require_same_grid(mask, image, what)
    if bool((mask.values > 0).all()):
        raise InputError(
            f"the {what} {mask.name} covers the whole image; mark only what is not to count."
        )
    return mask


def _require_no_negatives(image: Image, what: str) -> None:
    if image.values.dtype != torch.bool and bool((image.values < 0).any()):
        raise InputError(
            f"the {what} {image.name} hold negative numbers; give labels from 0 upward."
        )


@torch.no_grad()
def evaluate(
    case: Case,
    transform: Transform,
    inverse: Transform | None = None,
    moved: Tensor | None = None,
) -> dict[str, Any]:
    """All figures that the case allows.

    Args:
        case: the pair and what is known about it.
        transform: fixed points to moving points.
        inverse: moving points to fixed points, if it shall be judged too.
        moved: ``(1, 1, *fixed.shape)`` moved image, if it is at hand.

    Returns:
        A dictionary for JSON: ``overlap_pct``, ``correlation``, ``local_correlation``,
        ``folding_pct``, ``sd_log_jac``, ``min_jac``, ``max_jac``, and where it applies ``dice``,
        ``hd95_mm``, ``labels``, ``tre_mm``, ``error_mm``, ``inverse_mm``. What cannot be measured
        is None.
    """
    grid, region = case.fixed.grid, case.region
    if moved is None:
        moved = warp_image(case.moving.values, case.moving.grid, transform, grid)
    figures: dict[str, Any] = {"overlap_pct": 100 * overlap(case.moving.grid, transform, grid)}
    radius_mm = 2 * min(grid.spacing_mm)
    likeness = image_figures(case.fixed.values, moved, grid, region, radius_mm)
    figures |= {key: likeness[key] for key in ("correlation", "local_correlation")}
    figures |= jacobian_figures(transform, grid, region)
    if case.fixed_labels is not None and case.moving_labels is not None:
        figures |= _label_figures(case.fixed_labels, case.moving_labels, transform)
    if case.fixed_points_mm is not None and case.moving_points_mm is not None:
        figures["tre_mm"] = tre_mm(transform, case.fixed_points_mm, case.moving_points_mm)
    if case.true_transform is not None:
        figures["error_mm"] = error_mm(transform, case.true_transform, grid, region)
    if inverse is not None:
        points_mm = _some_points_mm(grid, eroded(region.numpy()))
        figures["inverse_mm"] = inverse_error_mm(transform, inverse, points_mm)
    return {key: _plain(value) for key, value in figures.items()}


@torch.no_grad()
def excluded_figures(mask: Image, transform: Transform, around_mm: float = 10.0) -> dict[str, Any]:
    """What a transform does to the volume of a part that did not count, and to its surroundings.

    Args:
        mask: of the part.
        transform: from the mask's image to the other one.
        around_mm: how far the surroundings reach.

    Returns:
        ``volume_ml`` before, ``volume_after_ml`` in the other image, ``change_pct``, and
        ``surroundings_change_pct``.
    """
    grid, part = mask.grid, mask.values[0, 0] > 0
    change = jacobian_determinant(transform, grid).cpu().double()
    reach_mm = ndimage.distance_transform_edt(~part.numpy(), sampling=grid.spacing_mm)
    shell = torch.from_numpy((reach_mm > 0) & (reach_mm <= around_mm))
    voxel_ml = math.prod(grid.spacing_mm) / 1000
    before, after = (voxel_ml * float(x) for x in (part.sum(), change[part].sum()))
    return {
        "volume_ml": before,
        "volume_after_ml": after,
        "change_pct": _plain(100 * (after / before - 1)) if before else None,
        "surroundings_change_pct": _plain(100 * (float(change[shell].mean()) - 1)),
    }


def _some_points_mm(grid: Grid, mask: NDArray[np.bool_], count: int = 100_000) -> Tensor:
    """``(N, d)`` voxel centres of a mask, evenly chosen: all, or ``count`` and a few more."""
    step = max(1, int(mask.sum()) // count)
    chosen, seen = [], 0
    for rows in grid.slabs():
        here = np.flatnonzero(mask[rows])
        seen, first = seen + len(here), -seen % step
        chosen.append(here[first::step] + rows.start * mask[0].size)
    index = np.stack(np.unravel_index(np.concatenate(chosen), grid.shape), axis=-1)
    return apply_matrix(grid.world_from_index, torch.from_numpy(index).double())


def _label_figures(fixed: Image, moving: Image, transform: Transform) -> dict[str, Any]:
    """Mean Dice and HD95 over labels of at least 100 voxels in both maps, and each label's."""
    moved = warp_labels(moving.values, moving.grid, transform, fixed.grid)
    ids = scored_labels(fixed.values, moving.values)
    by_dice = dice(fixed.values, moved, ids)
    by_hd95 = hd95_mm(fixed.values, moved, fixed.grid, ids)
    each = {str(i): {"dice": _plain(by_dice[i]), "hd95_mm": _plain(by_hd95[i])} for i in ids}
    return {"dice": _mean(by_dice), "hd95_mm": _mean(by_hd95), "labels": each}


def _mean(figures: dict[int, float]) -> float:
    """The mean of what could be measured."""
    known = [value for value in figures.values() if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _plain(value: Any) -> Any:
    """NaN and infinity as None, for JSON knows neither."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
