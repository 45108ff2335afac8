"""Registration as a step of a MONAI pipeline."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any, Literal

from monai.transforms import MapTransform
from torch import Tensor

from stn3d.choices import check_choice
from stn3d.errors import shown
from stn3d.integrations.monai.items import (
    Target,
    image_of,
    target_of,
    tensor_of,
    with_meta,
    world_points,
)
from stn3d.integrations.monai.modes import Sampling
from stn3d.integrations.monai.movement import Movement, MovingTransform
from stn3d.io.ddf import to_ddf
from stn3d.registration.api import register
from stn3d.registration.inputs import RegistrationImage
from stn3d.registration.result import Registration
from stn3d.registration.settings import settings_from

Role = Literal["mask", "exclude", "labels", "landmarks"]
"""What an item may be to a registration, see `stn3d.RegistrationImage`."""


class Registerd(MapTransform, MovingTransform):
    """Register two images of a dictionary and move one onto the other's grid.

    The moving image is replaced by the moved one, which has the fixed image's grid and metadata and
    its own file name. The inverse moves it back onto its original grid. Images of several channels
    are registered by all of them.

    Args:
        fixed: key of the fixed image.
        moving: key of the moving image.
        also: further items in the moving image's space, each with its mode (see `Mode`), that are
            moved along: ``{"segmentation": "label", "landmarks": "points"}``.
        fixed_with: items that belong to the fixed image, by their role: ``mask``, ``exclude``,
            ``labels`` or ``landmarks``, as in `stn3d.RegistrationImage`.
        moving_with: likewise for the moving image. They are moved only if `also` names them.
        transform_key: where to store the transform, fixed points to moving points in world RAS+ mm;
            None to leave it out.
        ddf_key: where to store the displacement as MONAI's ``Warp`` takes it, ``(d, *fixed shape)``
            in voxels of the moving image. None leaves it out.
        quality_key: where to store the result of the quality check, ``good``, ``check`` or
            ``failed``. None leaves it out.
        metrics_key: where to store the content of metrics.json, as JSON text. None leaves it out.
        uncertainty_key: where to store the registration error that is expected at each voxel,
            ``(1, *fixed shape)`` in mm, 0 where nothing is known (docs/uncertainty.md). None leaves
            it out.
        allow_missing_keys: leave out items that a dictionary lacks; without one of the two images
            nothing is done.
        **settings: settings of `stn3d.register`, such as ``kind``, ``metric``, ``preset``, ``init``
            and ``config``. The device is that of the moving image by default.

    Raises:
        InputError: an option is unknown.
    """

    def __init__(
        self,
        fixed: Hashable,
        moving: Hashable,
        also: Mapping[Hashable, str] | None = None,
        fixed_with: Mapping[Role, Hashable] | None = None,
        moving_with: Mapping[Role, Hashable] | None = None,
        transform_key: Hashable | None = "transform",
        ddf_key: Hashable | None = None,
        quality_key: Hashable | None = None,
        metrics_key: Hashable | None = None,
        uncertainty_key: Hashable | None = None,
        allow_missing_keys: bool = False,
        **settings: Any,
    ) -> None:
        others = {key: mode for key, mode in (also or {}).items() if key != moving}
        MapTransform.__init__(self, (moving, *others), allow_missing_keys)
        self.fixed, self.moving = fixed, moving
        self.fixed_with, self.moving_with = dict(fixed_with or {}), dict(moving_with or {})
        for role in (*self.fixed_with, *self.moving_with):
            check_choice("role", role, Role)
        self.transform_key, self.ddf_key = transform_key, ddf_key
        self.quality_key, self.metrics_key = quality_key, metrics_key
        self.uncertainty_key = uncertainty_key
        own = Sampling((also or {}).get(moving, "bilinear"), settings.get("fill", "auto"))
        self.samplings = (own, *(Sampling(mode) for mode in others.values()))
        self.settings = settings | ({} if uncertainty_key is None else {"uncertainty": True})
        _check_settings(**settings)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Register the images.

        Args:
            data: the dictionary; images are ``(C, *shape)``, points ``(..., d)``.

        Returns:
            A dictionary with the moved items, the transform and all other items.

        Raises:
            InputError: an item cannot be used.
            KeyError: an item is missing.
        """
        d = dict(data)
        if self._lacks_an_image(d):
            return d
        fixed, moving = (image_of(d[key], shown(key)) for key in (self.fixed, self.moving))
        target, source = target_of(fixed, shown(self.fixed)), target_of(moving, shown(self.moving))
        device = "cuda" if moving.is_cuda else "cpu"
        result = register(
            self._side(d, fixed, target, self.fixed_with),
            self._side(d, moving, source, self.moving_with),
            **{"device": device, **self.settings},
        )
        movement = Movement(result.transform, result.inverse)
        for key, how in self.key_iterator(d, self.samplings):
            d[key] = self._moved(d[key], movement, target, how, shown(key))
        if self.ddf_key is not None:
            ddf = to_ddf(result.transform, target.grid, source.grid)[0]
            d[self.ddf_key] = with_meta(ddf.to(moving.device), target.meta, fixed, traced=False)
        if self.uncertainty_key is not None and result.uncertainty is not None:
            errors = result.uncertainty.values[0].to(moving.device)
            d[self.uncertainty_key] = with_meta(errors, target.meta, fixed, traced=False)
        d.update(self._about(result))
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Move the moved items back onto their original grids."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._moved_back(d[key], shown(key))
        return d

    def _lacks_an_image(self, d: Mapping[Hashable, Any]) -> bool:
        missing = [key for key in (self.fixed, self.moving) if key not in d]
        if missing and not self.allow_missing_keys:
            raise KeyError(f"Registerd: the dictionary has no item {missing[0]!r}.")
        return bool(missing)

    def _side(
        self, d: Mapping[Hashable, Any], image: Tensor, on: Target, roles: Mapping[Role, Hashable]
    ) -> RegistrationImage:
        """An image of the dictionary with the items that belong to it."""
        channels = [(channel, on.grid) for channel in _plain(image)]
        given: dict[str, Any] = {}
        for role, key in roles.items():
            if key not in d:
                if not self.allow_missing_keys:
                    raise KeyError(f"Registerd: the dictionary has no item {key!r} ({role}).")
            elif role == "landmarks":
                given[role] = world_points(tensor_of(d[key], shown(key)), on.grid.ndim, shown(key))
            else:
                item = image_of(d[key], shown(key))
                given[role] = (_plain(item), target_of(item, shown(key)).grid)
        return RegistrationImage(channels[0], channels=tuple(channels[1:]), **given)

    def _about(self, result: Registration) -> dict[Hashable, Any]:
        """What is stored besides the moved items."""
        values = {
            self.transform_key: result.transform,
            self.quality_key: result.metrics["quality"]["status"],
            self.metrics_key: json.dumps(result.metrics),
        }
        return {key: value for key, value in values.items() if key is not None}


def _plain(image: Tensor) -> Tensor:
    return image.detach().as_subclass(Tensor).cpu()


def _check_settings(
    init: Any = None, config: Any = None, progress: Any = None, **options: Any
) -> None:
    """Check the settings of a registration before any image is at hand.

    Raises:
        InputError: a setting is unknown, or a value does not fit.
    """
    given = init if init is None or isinstance(init, str) else "given"
    settings_from({"init": given, **options}, config)
