"""One side of a registration: what is given, and what was read from it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from stn3d.choices import ColourChannel, check_choice
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import Image, ImageSource, read_image, read_labels, read_mask, require_same_grid
from stn3d.preprocessing.colour import ColourSelection, selected_channel
from stn3d.preprocessing.intensity import (
    constant_background,
    covered,
    looks_like_ct,
    scaled,
    shows_bone,
)
from stn3d.preprocessing.prepared import ChannelGroup, PreparedImage
from stn3d.preprocessing.slices import on_slices
from stn3d.registration.inputs.labels import LabelGroup, label_channels
from stn3d.registration.inputs.landmarks import PointSource
from stn3d.registration.inputs.memo import Memo

Role = Literal["fixed", "moving"]


@dataclass(frozen=True, eq=False)
class RegistrationImage:
    """An image and the data that belong to it: one side of a registration.

    Images, masks and labels are paths, nibabel images, MetaTensors, or tensors with their `Grid`.
    Masks, channels and labels lie on the grid of the image.

    Args:
        image: the image; of several channels the first, which is warped and measured.
        mask: mask whose nonzero voxels contribute to the metric. Default: all voxels.
        exclude: mask whose nonzero voxels do not contribute, such as a lesion or a resection
            cavity.
        channels: further channels, in the same order for both images.
        labels: label map, whole numbers from 0; evaluated, and part of the objective with
            `Settings.label_weight`.
        landmarks: file of points, or ``(N, d)`` world RAS+ mm, in the same order (or with the same
            names) for both images; weighted by `Settings.landmark_weight`.
        window: intensity window: ``head``, ``lung``, ``abdomen`` or ``bone`` for CT in HU, or
            ``LOW,HIGH``. Default: chosen from the image.
        volume: number of the volume of a 4D image, from 0.
        colour: what is registered of a colour image: ``luminance`` (the default),
            ``haematoxylin``, ``eosin`` or ``dab``.
        keep: keep what is read and prepared of this side for further registrations with this
            object, such as those of many images to one template. Results are the same. Not for
            several threads at once.
    """

    image: ImageSource
    _: KW_ONLY
    mask: ImageSource | None = None
    exclude: ImageSource | None = None
    channels: Sequence[ImageSource] = ()
    labels: ImageSource | None = None
    landmarks: PointSource | None = None
    window: str | None = None
    volume: int | None = None
    colour: ColourChannel | None = None
    keep: bool = False
    _memo: Memo = field(default_factory=Memo, init=False, repr=False)

    @property
    def memo(self) -> Memo:
        """What is kept of this side; empty at each use unless it is to be kept."""
        return self._memo if self.keep else Memo()

    @classmethod
    def of(cls, source: RegistrationImage | ImageSource) -> RegistrationImage:
        """A plain image source as a side without further data."""
        return source if isinstance(source, cls) else cls(source)  # type: ignore[arg-type]

    def sources(self) -> dict[str, Any]:
        """Absolute paths and choices, for metrics.json: ``image``, ``mask``, ``exclude``,
        ``labels``, ``landmarks`` (None if not given, or in memory), ``channels``, ``volume``,
        ``colour``, and ``in_memory``, what was given without a file."""
        single = {key: getattr(self, key) for key in _FILES}
        channels = [_path(source) for source in self.channels]
        in_memory = [k for k, v in single.items() if v is not None and _path(v) is None]
        return {
            **{key: _path(value) for key, value in single.items()},
            "channels": channels,
            "volume": self.volume,
            "colour": self.colour,
            "in_memory": in_memory + (["channels"] if None in channels else []),
        }


_FILES = ("image", "mask", "exclude", "labels", "landmarks")


def _path(source: Any) -> str | None:
    """Absolute path of a file or folder; None for anything else, such as a pipe."""
    if not isinstance(source, str | os.PathLike):
        return None
    path = os.path.abspath(source)
    return path if os.path.isfile(path) or os.path.isdir(path) else None


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """One side of a registration in memory, checked.

    Args:
        role: ``fixed`` or ``moving``, for messages.
        image: the image.
        mask: voxels that contribute to the metric, on the image's grid; None for all.
        exclude: voxels that do not; None for none.
        channels: further channels, on the image's grid.
        labels: label map, on the image's grid.
        landmarks_mm: ``(N, d)`` landmarks, world RAS+ mm.
        window: intensity window, see `RegistrationImage`.
        colour: what is registered of a colour image; None for an image without colours.
        given: where all of this comes from; None if that is not known.
        memo: what was computed from all of these but the landmarks.
    """

    role: Role
    image: Image
    mask: Image | None = None
    exclude: Image | None = None
    channels: tuple[Image, ...] = ()
    labels: Image | None = None
    landmarks_mm: Tensor | None = None
    window: str | None = None
    colour: ColourSelection | None = None
    given: RegistrationImage | None = None
    memo: Memo = field(default_factory=Memo, repr=False)

    @property
    def grid(self) -> Grid:
        """The image's grid."""
        return self.image.grid

    @property
    def name(self) -> str:
        """The image's name in messages."""
        return self.image.name

    @property
    def is_ct(self) -> bool:
        """Whether the image looks like CT in HU."""
        return self.memo.of("is_ct", lambda: looks_like_ct(self.image.values))

    @property
    def may_be_stripped(self) -> bool:
        """Whether the image ends at a background without noise, as after skull stripping, and does
        not show bone if it is CT: air around a whole head may be constant too."""
        return self.memo.of("may_be_stripped", self._may_be_stripped)

    def _may_be_stripped(self) -> bool:
        values = self.image.values
        return constant_background(values) is not None and not (self.is_ct and shows_bone(values))

    @cached_property
    def included(self) -> Tensor | None:
        """``(1, 1, *shape)`` bool, voxels that contribute to the metric; None for all.

        Raises:
            InputError: no voxel is left.
        """
        parts = [] if self.mask is None else [self.mask.values > 0]
        parts += [] if self.exclude is None else [self.exclude.values == 0]
        included = torch.stack(parts).all(dim=0) if parts else None
        if included is not None and not bool(included.any()):
            raise InputError(
                f"the {self.role} exclude mask covers all that the {self.role} mask marks, so no "
                "voxel is left; mark less in the exclude mask."
            )
        return included

    def prepared(
        self, weights: Sequence[float], label_group: LabelGroup | None, device: torch.device
    ) -> PreparedImage:
        """The image, its channels and its labels as the stages compare them.

        Thick slices that were interpolated to smaller voxels are put back, so the grid may be
        coarser along one axis than the image's.

        Args:
            weights: a weight for each channel, the image's own first.
            label_group: labels to compare, with their weight; None for none.
            device: device of the prepared image.

        Raises:
            InputError: the window does not fit the image, or no voxel is left.
        """
        key = "prepared", tuple(weights), label_group, str(device)
        return self.memo.of(key, lambda: self._prepared(weights, label_group, device))

    def _prepared(
        self, weights: Sequence[float], label_group: LabelGroup | None, device: torch.device
    ) -> PreparedImage:
        channels = [self._first(), *(scaled(one.values, self.included) for one in self.channels)]
        groups = tuple(ChannelGroup(weight) for weight in weights) if self.channels else None
        if label_group is not None and self.labels is not None:
            channels.append(label_channels(self.labels.values, label_group.ids))
            own = ChannelGroup(label_group.weight, channels[-1].shape[1], labels=True)
            groups = (*(groups or (ChannelGroup(1.0),)), own)
        image = torch.cat(channels, dim=1) if len(channels) > 1 else channels[0]
        mask = None if self.included is None else self.included.float().to(device)
        return on_slices(PreparedImage(image.to(device), self.grid, mask, groups))

    def _first(self) -> Tensor:
        """The image, scaled, with excluded voxels filled from around them."""
        try:
            values = scaled(self.image.values, self.included, self.window)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None
        return values if self.exclude is None else covered(values, self.exclude.values != 0)

    def about(self) -> dict[str, Any]:
        """Name, geometry and intensity window, for metrics.json."""
        spacing_mm = [round(s, 6) for s in self.grid.spacing_mm]
        return {
            "name": self.name,
            "shape": list(self.grid.shape),
            "spacing_mm": spacing_mm,
            "window": self.window,
            "colour": None if self.colour is None else self.colour.description,
            "sources": None if self.given is None else self.given.sources(),
        }


def with_channel(
    given: RegistrationImage, image: Image, role: Role
) -> tuple[Image, ColourSelection | None]:
    """An image with the channel that is registered, and what that is; as it is without colours.

    Args:
        given: the sources.
        image: the image, as read.
        role: ``fixed`` or ``moving``, for messages.

    Raises:
        InputError: a channel is given and the image holds no colours, or the channel is unknown or
            constant.
    """
    if given.colour is not None:
        check_choice("colour channel", given.colour, ColourChannel)
    if image.colours is None:
        if given.colour is None:
            return image, None
        raise InputError(f"the {role} image {image.name} holds no colours; omit --{role}-colour.")
    values, selection = selected_channel(image.colours, given.colour or "luminance")
    if float(values.max()) == float(values.min()):
        raise InputError(
            f"{selection.description} of the {role} image {image.name} is constant; choose another "
            f"--{role}-colour."
        )
    tensor = torch.from_numpy(values).reshape(image.values.shape)
    return dataclasses.replace(image, values=tensor), selection


def read_side(
    given: RegistrationImage, image: Image, role: Role, colour: ColourSelection | None = None
) -> LoadedImage:
    """Read masks, channels and labels of an image, and check that they lie on its grid.

    What `RegistrationImage.keep` keeps of an earlier call is used.

    Args:
        given: the sources.
        image: the image, as read.
        role: ``fixed`` or ``moving``, for messages.
        colour: what is registered of a colour image.

    Raises:
        InputError: a mask, channel or label map cannot be used; the message says why.
    """
    key = "side", role, image.grid.ndim
    return given.memo.of(key, lambda: _read_side(given, image, role, colour))


def _read_side(
    given: RegistrationImage, image: Image, role: Role, colour: ColourSelection | None
) -> LoadedImage:
    mask = _on_grid(read_mask, given.mask, image, f"{role} mask")
    labels = _on_grid(read_labels, given.labels, image, f"{role} labels")
    if labels is not None and bool((labels.values < 0).any()):
        raise InputError(
            f"the {role} labels {labels.name} hold negative numbers; give labels from 0 upward."
        )
    exclude = _on_grid(read_mask, given.exclude, image, f"{role} exclude mask")
    if exclude is not None and bool((exclude.values > 0).all()):
        raise InputError(
            f"the {role} exclude mask {exclude.name} covers the whole image; mark only the voxels "
            "to be excluded."
        )
    what = f"{role} channel"
    channels = [_on_grid(read_image, source, image, what) for source in given.channels]
    found = tuple(channel for channel in channels if channel is not None)
    return LoadedImage(
        role, image, mask, exclude, found, labels, window=given.window, colour=colour, given=given
    )


def _on_grid(read: Any, source: ImageSource | None, image: Image, what: str) -> Image | None:
    """Read a source by a reader of `stn3d.io` and check that it lies on the image's grid."""
    if source is None:
        return None
    found: Image = read(source, what, ndim=image.grid.ndim)
    require_same_grid(found, image, what)
    return found
