"""Movement of items through transforms, traced and inverted as MONAI's transforms are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform
from monai.utils import TraceKeys
from torch import Tensor
from torch.utils.data._utils.collate import default_collate_fn_map

from stn3d.grid import Grid
from stn3d.integrations.monai.items import (
    Target,
    grid_of_meta,
    image_of,
    moved_image,
    moved_points,
    renamed,
    target_of,
    tensor_of,
    with_meta,
)
from stn3d.integrations.monai.modes import Sampling
from stn3d.transforms import (
    Affine,
    Attention,
    BSpline,
    Chain,
    DisplacementField,
    Homography,
    Inverse,
    PiecewiseAffine,
    Projective,
    Rigid,
    Similarity,
    ThinPlateSpline,
    Transform,
    Translation,
    VelocityField,
)


@dataclass(frozen=True, eq=False)
class Movement:
    """How images and points are moved from a source space to a target space.

    Args:
        source_from_target: target points to source points: images are moved by it.
        target_from_source: its inverse: points are moved by it.
    """

    source_from_target: Transform
    target_from_source: Transform

    def back(self) -> Movement:
        """The movement from the target space to the source space."""
        return Movement(self.target_from_source, self.source_from_target)

    def __deepcopy__(self, memo: Any) -> Movement:
        """Itself: it never changes, and MONAI copies the operations of an item many times."""
        return self


class MovingTransform(InvertibleTransform):
    """Abstract base class of transforms that move items and trace what they did.

    The operation of an item holds its movement, so `inverse` needs no other item.
    """

    def _moved(
        self, item: Any, movement: Movement, target: Target | None, how: Sampling, name: str
    ) -> Tensor:
        """An item moved to the target space, with this operation in its trace.

        Args:
            item: image or points.
            movement: the movement.
            target: where an image is moved to; None for its own grid.
            how: interpolation and padding, or ``points``.
            name: name of the item in messages.

        Raises:
            InputError: the item does not fit the transform.
        """
        if how.mode == "points":
            source = tensor_of(item, name)
            values = moved_points(source, movement.target_from_source, name)
            meta: dict[str, Any] = source.meta if isinstance(source, MetaTensor) else {}
            out, size = with_meta(values, meta, source), tuple(source.shape)
        else:
            source = image_of(item, name)
            own = target_of(source, name)
            target = own if target is None else replace(target, meta=renamed(target.meta, source))
            values = moved_image(source, movement.source_from_target, target.grid, how)
            out, size = with_meta(values, target.meta, source), tuple(source.shape[1:])
            meta = own.meta
        info = {"mode": how.mode, "padding_mode": how.padding, "movement": movement, "meta": meta}
        return cast(Tensor, self.push_transform(out, orig_size=size, extra_info=info))

    def _moved_back(self, item: Any, name: str) -> Tensor:
        """An item moved back to where it was before this transform.

        Args:
            item: image or points, with this operation in its trace.
            name: name of the item in messages.
        """
        item = _another(tensor_of(item, name))
        operation = self.pop_transform(item)
        info = operation[TraceKeys.EXTRA_INFO]
        if not operation[TraceKeys.DO_TRANSFORM]:
            return cast(Tensor, item)
        how, movement = Sampling(info["mode"], info["padding_mode"]), info["movement"].back()
        if how.mode == "points":
            values = moved_points(item, movement.target_from_source, name)
        else:
            shape = tuple(int(n) for n in operation[TraceKeys.ORIG_SIZE])
            grid = grid_of_meta(shape, info["meta"], name)
            values = moved_image(image_of(item, name), movement.source_from_target, grid, how)
        return with_meta(values, info["meta"], item)

    def _untouched(self, item: Any, how: Sampling, name: str) -> Tensor:
        """An item that a random transform leaves as it is, with the operation in its trace."""
        info = {"mode": how.mode, "padding_mode": how.padding}
        return cast(Tensor, self.push_transform(_another(tensor_of(item, name)), extra_info=info))


def _another(item: Tensor) -> Tensor:
    """The same values with a trace of their own, so that the input's trace stays as it is."""
    return with_meta(item.as_tensor(), item.meta, item) if isinstance(item, MetaTensor) else item


def _listed(batch: list[Any], *, collate_fn_map: Any = None) -> list[Any]:
    """A list of arrays without axes, each of which holds one object.

    Transforms of a batch may have different types and shapes. MONAI's ``decollate_batch`` unpacks
    such an array, and so does ``.item()``.
    """
    boxes = []
    for one in batch:
        box = np.empty((), dtype=object)
        box[()] = one
        boxes.append(box)
    return boxes


# Batches: torch's and MONAI's collate functions look types up here.
default_collate_fn_map.update({Transform: _listed, Movement: _listed})
# Caches: PersistentDataset reads its files by torch.load with weights_only=True.
SAFE_CLASSES = (
    Affine,
    Attention,
    BSpline,
    Chain,
    DisplacementField,
    Homography,
    Inverse,
    PiecewiseAffine,
    Projective,
    Rigid,
    Similarity,
    ThinPlateSpline,
    Translation,
    VelocityField,
    Grid,
    Movement,
    TraceKeys,  # in traces of MONAI's own transforms, and not allowed by MONAI 1.6
)
"""Classes of which items of a dictionary, and their traces, may hold objects."""
torch.serialization.add_safe_globals(list(SAFE_CLASSES))
