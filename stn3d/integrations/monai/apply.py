"""A given transform as MONAI's array and dictionary transforms."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from monai.transforms import MapTransform
from torch import Tensor

from stn3d.choices import check_choice
from stn3d.errors import InputError, shown
from stn3d.integrations.monai.items import Target, image_of, target_of
from stn3d.integrations.monai.modes import Sampling, samplings
from stn3d.integrations.monai.movement import Movement, MovingTransform
from stn3d.io import ImageSource, read_image, read_transform
from stn3d.transforms import Transform

Direction = Literal["to_fixed", "to_moving"]
"""``to_fixed`` moves data of the moving image's space to the fixed image's."""

TransformSource: TypeAlias = "Transform | str | os.PathLike[str]"


def movement_of(source: Any, direction: Direction) -> Movement:
    """The movement by a transform in a direction.

    Args:
        source: a transform, fixed points to moving points, or the path of one.
        direction: which way data are moved.

    Raises:
        InputError: there is no such transform, or its file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        source = read_transform(source)
    if not isinstance(source, Transform):
        raise InputError(
            f"the transform is a {type(source).__name__}; give a stn3d Transform or the path of "
            "one."
        )
    movement = Movement(source, source.inverse())
    return movement if direction == "to_fixed" else movement.back()


def target_from(source: Any, name: str) -> Target:
    """The grid and metadata of a reference image.

    Args:
        source: a channel-first MetaTensor or array, or any other image source.
        name: name of the image in messages.

    Raises:
        InputError: it is no image.
    """
    if not hasattr(source, "ndim"):
        image = read_image(source, "like", 0, allow_constant=True)
        source = image.to_metatensor()
    return target_of(image_of(source, name), name)


class ApplyTransform(MovingTransform):
    """Move an image or points through a transform; MONAI's array transform.

    Args:
        transform: fixed points to moving points in world RAS+ mm, or the path of its file.
        like: reference image, which defines the output's grid: a path, MetaTensor or `Image`.
            Default: the grid of each image itself.
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
        like: ImageSource | None = None,
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
        target = None if self.like is None else target_from(self.like, "the reference image")
        movement = movement_of(self.transform, self.direction)
        return self._moved(data, movement, target, self.sampling, "the item")

    def inverse(self, data: Any) -> Tensor:
        """Move an item back to its original grid."""
        return self._moved_back(data, "the item")


class ApplyTransformd(MapTransform, MovingTransform):
    """Move images, label maps and points through a transform; MONAI's dictionary transform.

    Args:
        keys: items to move.
        transform: fixed points to moving points in world RAS+ mm: a transform, the path of its
            file, or the key of an item that holds either. A key wins over a path.
        like: reference image, which defines the output's grid: the key of an item, a path, a
            MetaTensor or an `Image`. Default: the grid of each image itself.
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
        like: ImageSource | Hashable | None = None,
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
        source = self._looked_up(d, self.transform)
        if isinstance(source, str) and source == self.transform and not os.path.exists(source):
            raise InputError(
                f"the transform {shown(source)} is neither a key of the dictionary nor a file."
            )
        like = self._looked_up(d, self.like)
        target = None if like is None else target_from(like, shown(self.like))
        movement = movement_of(source, self.direction)
        for key, how in self.key_iterator(d, self.samplings):
            d[key] = self._moved(d[key], movement, target, how, shown(key))
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Move the items back to their original grids."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._moved_back(d[key], shown(key))
        return d

    @staticmethod
    def _looked_up(d: Mapping[Hashable, Any], source: Any) -> Any:
        """The item under a key, or what was given instead of a key."""
        is_key = isinstance(source, Hashable) and not isinstance(source, Transform | Tensor)
        return d[source] if is_key and source in d else source
