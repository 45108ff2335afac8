"""Both sides of a registration, read together and prepared for the stages."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from stn3d.errors import InputError
from stn3d.evaluation import EvaluationCase
from stn3d.grid import Grid
from stn3d.io import Image, ImageSource, in_dimension, read_image
from stn3d.losses.supervised import common_labels
from stn3d.preprocessing.landmark_term import LandmarkTerm, distance_unit_mm
from stn3d.preprocessing.pair import Pair
from stn3d.registration.automatic import Selection
from stn3d.registration.inputs.image import (
    LoadedImage,
    RegistrationImage,
    Role,
    read_side,
    with_channel,
)
from stn3d.registration.inputs.labels import MAX_LABEL_CHANNELS, LabelGroup
from stn3d.registration.inputs.landmarks import read_landmark_pairs
from stn3d.registration.settings import Settings

_ROLES: tuple[Role, Role] = ("fixed", "moving")
_ALL_LABELS = 1 << 30
_AXES = ("first", "second", "third")


@dataclass(frozen=True, eq=False)
class LoadedPair:
    """Both sides of a registration in memory, checked against each other."""

    fixed: LoadedImage
    moving: LoadedImage

    @cached_property
    def shared_labels(self) -> tuple[int, ...]:
        """Labels above 0 that both label maps hold."""
        if self.fixed.labels is None or self.moving.labels is None:
            return ()
        maps = self.fixed.labels.values.long(), self.moving.labels.values.long()
        return common_labels(*maps, _ALL_LABELS)

    @cached_property
    def evaluation_case(self) -> EvaluationCase:
        """The pair with the data that metrics need."""
        return EvaluationCase(
            self.fixed.image,
            self.moving.image,
            self.fixed.labels,
            self.moving.labels,
            self.fixed.landmarks_mm,
            self.moving.landmarks_mm,
            self.fixed.mask,
        )

    def channel_weights(self, settings: Settings) -> tuple[float, ...]:
        """A weight for each channel, the images' own first.

        Raises:
            InputError: the settings do not have as many weights.
        """
        count, weights = 1 + len(self.fixed.channels), settings.channel_weights
        if weights is not None and len(weights) != count:
            raise InputError(
                f"there are {len(weights)} channel weights and {count} channels with the first; "
                "give one --channel-weight for each, or none."
            )
        return weights or (1.0,) * count

    def num_channels(self, settings: Settings) -> int:
        """Number of channels that the stages compare, labels among them."""
        labels = len(self.shared_labels) if settings.label_weight else 0
        return 1 + len(self.fixed.channels) + min(MAX_LABEL_CHANNELS, labels)

    def used_in_optimisation(self, settings: Settings) -> list[str]:
        """Evaluation data in the objective: their metrics are no independent test."""
        used = ["labels"] if settings.label_weight else []
        return used + (["landmarks"] if self._landmark_term(settings) is not None else [])

    def prepared(self, settings: Settings, device: torch.device) -> Pair:
        """The pair as the stages compare it.

        Raises:
            InputError: labels are weighted but there are none in common, or an image cannot be
                prepared.
        """
        weights, labels = self.channel_weights(settings), self._label_group(settings)
        sides = [side.prepared(weights, labels, device) for side in (self.fixed, self.moving)]
        return Pair(sides[0], sides[1], self._landmark_term(settings))

    def slices(self, pair: Pair) -> Selection | None:
        """Which images are compared as the slices that they repeat; None where neither is.

        Args:
            pair: The pair as prepared.
        """
        sides = (self.fixed, pair.fixed), (self.moving, pair.moving)
        found = [_slices(own, one.grid) for own, one in sides if own.grid.shape != one.grid.shape]
        if not found:
            return None
        words = [
            "the {image} image shows no more along its {axis} axis (voxels of {voxel_mm:.2g} mm) "
            "than slices of {thickness_mm:.2g} mm would".format_map(one)
            for one in found
        ]
        images = " and ".join(one["image"] for one in found)
        return Selection(images, " and ".join(words), {"images": found})

    def _label_group(self, settings: Settings) -> LabelGroup | None:
        """The labels in the objective, with their weight."""
        weight = settings.label_weight
        if not weight:
            return None
        fixed, moving = self.fixed.labels, self.moving.labels
        if fixed is None or moving is None:
            raise InputError(
                f"the label weight is {weight:g} and there are no labels; give --fixed-labels and "
                "--moving-labels."
            )
        if not self.shared_labels:
            raise InputError(
                f"{fixed.name} and {moving.name} share no label above 0, so the label weight has "
                "no effect; omit --label-weight, or give label maps that use the same numbers."
            )
        return LabelGroup(self.shared_labels, weight)

    def _landmark_term(self, settings: Settings) -> LandmarkTerm | None:
        """The landmarks in the objective, with their weight."""
        fixed_mm, moving_mm = self.fixed.landmarks_mm, self.moving.landmarks_mm
        if fixed_mm is None or moving_mm is None or not settings.landmark_weight:
            return None
        unit_mm = distance_unit_mm(self.fixed.grid, self.moving.grid)
        return LandmarkTerm(fixed_mm, moving_mm, settings.landmark_weight, unit_mm)


def _slices(own: LoadedImage, slices: Grid) -> dict[str, Any]:
    """An image that is compared as slices, and which."""
    axis = next(a for a, n in enumerate(own.grid.shape) if n != slices.shape[a])
    return {
        "image": own.role,
        "axis": _AXES[axis],
        "voxel_mm": round(own.grid.spacing_mm[axis], 6),
        "thickness_mm": round(slices.spacing_mm[axis], 6),
    }


def read_pair(
    fixed: RegistrationImage | ImageSource,
    moving: RegistrationImage | ImageSource,
    ndim: int = 3,
) -> LoadedPair:
    """Read both sides of a registration and check that they fit together.

    Args:
        fixed: the fixed image, with or without further data.
        moving: the moving image, of the same dimension. Beside a 2D image a single slice is 2D.
        ndim: 2 to read single slices as 2D images.

    Raises:
        InputError: an image, mask, channel, label map or set of landmarks cannot be used; the
            message says which, why, and what to do.
    """
    given = RegistrationImage.of(fixed), RegistrationImage.of(moving)
    images = [_image(side, role) for side, role in zip(given, _ROLES, strict=True)]
    ndim = min(ndim, *(image.grid.ndim for image in images))
    chosen = [
        with_channel(side, in_dimension(image, ndim), role)
        for side, image, role in zip(given, images, _ROLES, strict=True)
    ]
    images = [image for image, _ in chosen]
    _require_one_dimension(*images)
    _require_moving_labels(*given)
    _require_as_many_channels(*given)
    landmarks = given[0].landmarks, given[1].landmarks
    points_mm = read_landmark_pairs(*landmarks, images[0].grid.ndim)
    colours = [colour for _, colour in chosen]
    sides = [read_side(*one) for one in zip(given, images, _ROLES, colours, strict=True)]
    return LoadedPair(
        *(
            dataclasses.replace(side, landmarks_mm=points)
            for side, points in zip(sides, points_mm, strict=True)
        )
    )


def _image(side: RegistrationImage, role: Role) -> Image:
    """The image of a side, as it was read before if it is kept."""
    return side.memo.of(("image", role), lambda: read_image(side.image, role, side.volume))


def _require_one_dimension(fixed: Image, moving: Image) -> None:
    if fixed.grid.ndim != moving.grid.ndim:
        raise InputError(
            f"the fixed image {fixed.name} is {fixed.grid.ndim}D and the moving image "
            f"{moving.name} is {moving.grid.ndim}D; give two images of one dimension."
        )


def _require_moving_labels(fixed: RegistrationImage, moving: RegistrationImage) -> None:
    """Labels of the moving image alone are moved; those of the fixed image alone have no use."""
    if fixed.labels is not None and moving.labels is None:
        raise InputError("only fixed labels are given; give --moving-labels too, or neither.")


def _require_as_many_channels(fixed: RegistrationImage, moving: RegistrationImage) -> None:
    if len(fixed.channels) != len(moving.channels):
        raise InputError(
            f"there are {len(fixed.channels)} further channels of the fixed image and "
            f"{len(moving.channels)} of the moving image; give as many --fixed-channel as "
            "--moving-channel, in the same order."
        )
