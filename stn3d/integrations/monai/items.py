"""Items of MONAI's dictionaries: channel-first images on their grids, and points.

Convention: an image is ``(C, *shape)``, a MetaTensor with its affine, or any array, whose affine is
the identity as in MONAI. Points are ``(..., d)``; their affine, if they have one, maps them to
world coordinates, as in MONAI's ``ApplyTransformToPoints``.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import torch
from monai.data import MetaTensor, get_track_meta
from monai.data.utils import to_affine_nd
from monai.transforms.lazy.functional import apply_pending_transforms
from monai.utils import ImageMetaKey, MetaKeys, SpaceKeys, convert_to_tensor
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix
from stn3d.integrations.monai.modes import Fold, Sampling
from stn3d.integrations.monai.padding import IntoImage
from stn3d.io.geometry import grid_of, plane_in_space
from stn3d.io.objects import metatensor_affine
from stn3d.io.sources import open_source
from stn3d.transforms import Transform
from stn3d.warp import warp_image, warp_labels
from stn3d.warp.fill import outside_label, outside_value
from stn3d.warp.label_maps import by_values

_NAME = ImageMetaKey.FILENAME_OR_OBJ
_SIGNED = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}


@dataclass(frozen=True, eq=False)
class Target:
    """The grid that an image is moved onto, and the metadata it gets there.

    Args:
        grid: the grid.
        meta: metadata of a MetaTensor on this grid, with its affine.
    """

    grid: Grid
    meta: dict[str, Any]


def tensor_of(item: Any, name: str) -> Tensor:
    """An item as a tensor whose pending operations are applied, a MetaTensor if MONAI tracks them.

    Raises:
        InputError: it is no array.
    """
    tensor = convert_to_tensor(item, track_meta=get_track_meta())
    if not isinstance(tensor, Tensor):
        raise InputError(
            f"{name} is a {type(item).__name__}; load it first, for example by LoadImaged."
        )
    applied: Tensor = apply_pending_transforms(tensor, None)
    return applied


def image_of(item: Any, name: str) -> Tensor:
    """An item as a channel-first image of one subject.

    Raises:
        InputError: it is no array, or a batch, or has no channel axis.
    """
    image = tensor_of(item, name)
    batch = getattr(image, "is_batch", False)
    if batch or image.ndim not in (3, 4) or 0 in image.shape:
        what = "a batch" if batch or image.ndim > 4 else "no channel-first image"
        raise InputError(
            f"{name} has the shape {tuple(image.shape)}, which is {what}; give one image "
            "(C, i, j[, k]): use EnsureChannelFirstd, and transform before batches are made, or "
            "after decollate_batch."
        )
    return image


def target_of(image: Tensor, name: str) -> Target:
    """The grid and the metadata of a channel-first image.

    Raises:
        InputError: its affine is singular or not finite.
    """
    meta = deepcopy(image.meta) if isinstance(image, MetaTensor) else {}
    return Target(grid_of_meta(tuple(image.shape[1:]), meta, name), meta)


def grid_of_meta(shape: tuple[int, ...], meta: dict[str, Any], name: str) -> Grid:
    """The grid of an image of a shape with a MetaTensor's metadata.

    Raises:
        InputError: the affine is singular or not finite.
    """
    empty = MetaTensor(torch.zeros(()).expand(1, *shape), meta=dict(meta))
    return grid_of(open_source(empty, name).affine, shape, len(shape))


def meta_of_grid(grid: Grid) -> dict[str, Any]:
    """Metadata of a MetaTensor on a grid."""
    matrix = grid.world_from_index
    affine = torch.from_numpy(plane_in_space(matrix)) if grid.ndim == 2 else matrix.clone()
    return {MetaKeys.AFFINE.value: affine, MetaKeys.SPACE.value: SpaceKeys.RAS.value}


def with_meta(values: Tensor, meta: dict[str, Any], like: Tensor, traced: bool = True) -> Tensor:
    """Values with metadata and with the operations that were applied to another item.

    Args:
        values: plain tensor.
        meta: metadata.
        like: the other item.
        traced: whether to take over its operations.

    Returns:
        A MetaTensor if the other item is one, else the values.
    """
    if not isinstance(like, MetaTensor):
        return values
    operations = list(like.applied_operations) if traced else []
    return MetaTensor(values, meta=deepcopy(meta), applied_operations=operations)


def renamed(meta: dict[str, Any], like: Tensor) -> dict[str, Any]:
    """Metadata of a grid with the file name of the image that is moved onto it."""
    name = like.meta.get(_NAME) if isinstance(like, MetaTensor) else None
    rest = {key: value for key, value in meta.items() if key != _NAME}
    return rest if name is None else {**rest, _NAME: name}


def moved_image(image: Tensor, transform: Transform, target: Grid, how: Sampling) -> Tensor:
    """A channel-first image through a transform.

    Args:
        image: ``(C, *shape)``, a MetaTensor or with the identity as its affine.
        transform: points of the target to points of the image.
        target: grid of the output.
        how: interpolation and padding.

    Returns:
        ``(C, *target.shape)`` plain tensor on the image's device. Floating-point images keep their
        dtype, integers become float32 by linear and cubic interpolation; labels and nearest values
        keep theirs.

    Raises:
        InputError: the dimensions differ, labels hold fractions, or the padding does not fit.
    """
    grid = target_of(image, "the image").grid
    for what, ndim in (("the transform", transform.ndim), ("the reference grid", target.ndim)):
        if ndim != grid.ndim:
            raise InputError(
                f"the image is {grid.ndim}D and {what} {ndim}D; give one of {grid.ndim}D."
            )
    values = image.detach().as_subclass(Tensor)
    mode = _selected(values) if how.mode == "auto" else how.mode
    padding = how.padding
    if padding == "border" or padding == "reflection":
        transform, padding = transform.then(IntoImage(grid, cast(Fold, padding))), 0.0
    padding = 0.0 if padding == "zeros" else padding
    if mode == "label":
        return _moved_labels(values, grid, transform, target, padding)
    if mode == "nearest":
        plain = values.to(_SIGNED.get(values.dtype, values.dtype))
        outside = outside_value(padding, values[None].float().cpu())
        return warp_image(plain[None], grid, transform, target, "nearest", outside)[0].to(
            values.dtype
        )
    plain = values if values.is_floating_point() else values.float()
    outside = outside_value(padding, plain[None])
    return warp_image(plain[None], grid, transform, target, _LINEAR[mode], outside)[0]


_LINEAR: dict[str, Any] = {"bilinear": "linear", "bicubic": "cubic"}


def _selected(values: Tensor) -> str:
    """The mode for an image of unknown kind."""
    decision = by_values(values[None].cpu())
    if not decision.labels:
        return "bilinear"
    return "nearest" if decision.scattered else "label"


def _moved_labels(
    values: Tensor, grid: Grid, transform: Transform, target: Grid, padding: str | float
) -> Tensor:
    """Each channel as a label map, in the dtype of the image."""
    labels = (
        values.long() if values.element_size() > 2 or values.is_floating_point() else values.int()
    )
    if values.is_floating_point() and not bool((labels == values).all()):
        raise InputError(
            "the label map holds fractions; give whole numbers, or use mode bilinear or nearest."
        )
    outside = outside_label(padding, "the label map")
    channels = [
        warp_labels(channel[None, None], grid, transform, target, True, outside)[0]
        for channel in labels
    ]
    return torch.cat(channels).to(values.dtype)


def moved_points(points: Tensor, transform: Transform, name: str) -> Tensor:
    """Points through a transform.

    Args:
        points: ``(..., d)``, in world RAS+ millimetres or with an affine to them.
        transform: a map of points in world RAS+ millimetres.
        name: name of the points in messages.

    Returns:
        ``(..., d)`` plain tensor; float64 for integers.

    Raises:
        InputError: the points have another number of coordinates than the transform.
    """
    moved = world_points(points, transform.ndim, name)
    if moved.numel():
        points_from_world = torch.linalg.inv(_world_from_points(points, transform.ndim))
        moved = apply_matrix(points_from_world, transform(moved))
    return moved.to(points.device, points.dtype if points.is_floating_point() else torch.float64)


def world_points(points: Tensor, ndim: int, name: str) -> Tensor:
    """Points in world RAS+ millimetres, ``(..., d)``, plain, float64, on the CPU.

    Args:
        points: ``(..., d)``, in world RAS+ millimetres or with an affine to them.
        ndim: the number d of coordinates.
        name: name of the points in messages.

    Raises:
        InputError: the points have another number of coordinates.
    """
    if points.ndim < 2 or points.shape[-1] != ndim:
        raise InputError(
            f"{name} has the shape {tuple(points.shape)}; points in {ndim}D are (..., {ndim})."
        )
    exact = points.detach().as_subclass(Tensor).cpu().double()
    return apply_matrix(_world_from_points(points, ndim), exact)


def _world_from_points(points: Tensor, d: int) -> Tensor:
    """``(d + 1, d + 1)`` matrix from the coordinates of points to world RAS+ millimetres."""
    if not isinstance(points, MetaTensor):
        return torch.eye(d + 1, dtype=torch.float64)
    return torch.from_numpy(to_affine_nd(d, metatensor_affine(points, "the item of points")))
