"""A given transform as MONAI's array and dictionary transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from monai.transforms import MapTransform
from torch import Tensor

from stn3d.choices import check_choice
from stn3d.errors import shown
from stn3d.grid import Grid
from stn3d.integrations.monai.items import (
    Target,
    image_of,
    meta_of_grid,
    target_of,
)
from stn3d.integrations.monai.modes import Sampling, samplings
from stn3d.integrations.monai.movement import Movement, MovingTransform
from stn3d.io import Reference, TransformSource, as_transform, grid_of_reference

Direction = Literal["to_fixed", "to_moving"]
"""``to_fixed`` moves data of the moving image's space to the fixed image's."""


def _plan(
    source: Any, like: Any, direction: Direction, own: Grid | None
) -> tuple[Movement, Target | None]:
    """How a transform moves items, and where to.

    Args:
        source: the transform, or what it is read from.
        like: reference image; None for the grid of each image itself.
        direction: which way data are moved.
        own: grid of the first image that is moved, if there is one; for formats that need it.

    Raises:
        InputError: the transform or the reference image cannot be used.
    """
    target = None if like is None else _target_from(like)
    onto = own if target is None else target.grid
    fixed, moving = (onto, own) if direction == "to_fixed" else (own, onto)
    transform = as_transform(source, fixed=fixed, moving=moving)
    movement = Movement(transform, transform.inverse())
    return (movement if direction == "to_fixed" else movement.back()), target


def _target_from(like: Any) -> Target:
    """Grid and metadata of a reference image: a channel-first item, or any other source."""
    if isinstance(like, Tensor | np.ndarray):
        return target_of(image_of(like, "the reference image"), "the reference image")
    grid = grid_of_reference(like, "fixed")
    return Target(grid, meta_of_grid(grid))


def _own_grid(item: Any, how: Sampling, name: str) -> Grid | None:
    return None if how.mode == "points" else target_of(image_of(item, name), name).grid


class ApplyTransform(MovingTransform):
    """Move an image or points through a transform; MONAI's array transform.

    Args:
        transform: fixed points to moving points in world RAS+ mm: a `stn3d.Transform`, a matrix, a
            SimpleITK transform, or the path of a file (`stn3d.io.as_transform`).
        like: reference image, which defines the output's grid: a path, `Grid`, `Image` or
            channel-first MetaTensor. Default: the grid of each image itself.
        mode: interpolation, see `Mode`; ``points`` for coordinates.
        padding_mode: what lies beyond the image, see `Padding`, or a number.
        direction: ``to_fixed`` (the default) for data of the moving image, ``to_moving`` for data
            of the fixed image.

    Raises:
        InputError: an option is unknown.
    """

    def __init__(
        self,
        transform: TransformSource,
        like: Reference | None = None,
        mode: str = "bilinear",
        padding_mode: str | float = "auto",
        direction: Direction = "to_fixed",
    ) -> None:
        check_choice("direction", direction, Direction)
        self.transform, self.like, self.direction = transform, like, direction
        self.sampling = Sampling(mode, padding_mode)

    def __call__(self, data: Any) -> Tensor:
        """Move one item.

        Args:
            data: ``(C, *shape)`` image, a MetaTensor or with the identity as its affine; or
                ``(..., d)`` points in world RAS+ mm.

        Returns:
            The moved item, a MetaTensor where MONAI tracks metadata.

        Raises:
            InputError: the item, the transform or the reference image cannot be used.
        """
        name, how = "the item", self.sampling
        own = _own_grid(data, how, name)
        movement, target = _plan(self.transform, self.like, self.direction, own)
        return self._moved(data, movement, target, how, name)

    def inverse(self, data: Any) -> Tensor:
        """Move an item back to its original grid."""
        return self._moved_back(data, "the item")


class ApplyTransformd(MapTransform, MovingTransform):
    """Move images, label maps and points through a transform; MONAI's dictionary transform.

    Args:
        keys: items to move.
        transform: fixed points to moving points in world RAS+ mm: a `stn3d.Transform`, a matrix, a
            SimpleITK transform, the path of a file (`stn3d.io.as_transform`), or the key of an item
            that holds one of these. A key takes precedence over a path.
        like: reference image, which defines the output's grid: a path, `Grid`, `Image`,
            channel-first MetaTensor, or the key of an item that holds one of these. Default: the
            grid of each image itself.
        mode: interpolation for all keys or for each, see `Mode`; ``points`` for coordinates.
        padding_mode: what lies beyond the image, for all keys or for each: see `Padding`, or a
            number.
        direction: ``to_fixed`` (the default) for data of the moving image, ``to_moving`` for data
            of the fixed image.
        allow_missing_keys: leave out keys that a dictionary lacks.

    Raises:
        InputError: an option is unknown.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        transform: TransformSource | Hashable,
        like: Reference | Hashable | None = None,
        mode: str | Sequence[str] = "bilinear",
        padding_mode: str | float | Sequence[str | float] = "auto",
        direction: Direction = "to_fixed",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        check_choice("direction", direction, Direction)
        self.transform, self.like, self.direction = transform, like, direction
        self.samplings = samplings(self.keys, mode, padding_mode)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Move the items.

        Args:
            data: the dictionary; images are ``(C, *shape)``, points ``(..., d)``.

        Returns:
            A dictionary with the moved items and all others.

        Raises:
            InputError: an item, the transform or the reference image cannot be used.
            KeyError: an item is missing.
        """
        d = dict(data)
        items = list(self.key_iterator(d, self.samplings))
        if not items:
            return d
        grids = (_own_grid(d[key], how, shown(key)) for key, how in items)
        own = next((grid for grid in grids if grid is not None), None)
        source, like = _looked_up(d, self.transform), _looked_up(d, self.like)
        movement, target = _plan(source, like, self.direction, own)
        for key, how in items:
            d[key] = self._moved(d[key], movement, target, how, shown(key))
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Move the items back to their original grids."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._moved_back(d[key], shown(key))
        return d


def _looked_up(d: Mapping[Hashable, Any], source: Any) -> Any:
    """The item under a key, or what was given instead of a key."""
    try:
        return d.get(source, source)
    except TypeError:  # a list or another object that cannot be a key
        return source
