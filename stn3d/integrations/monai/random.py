"""Random deformations and affine transforms in millimetres, as MONAI's random transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from stn3d.errors import shown
from stn3d.grid import apply_matrix, homogeneous
from stn3d.integrations.monai.deformation import Box, SmoothDeformation
from stn3d.integrations.monai.items import image_of, target_of, tensor_of, world_points
from stn3d.integrations.monai.modes import Sampling, samplings
from stn3d.integrations.monai.movement import Movement, MovingTransform
from stn3d.synth.generator import SeededGenerator
from stn3d.synth.geometry import RandomAffine
from stn3d.transforms import Affine, Transform

_SEEDS = 1 << 31


class RandomMap(Protocol):
    """A distribution of transforms of world space."""

    def sample(self, rng: SeededGenerator, box: Box) -> Transform:
        """A random transform of a box."""


@dataclass(frozen=True)
class CentredAffine:
    """Random affine transforms about the centre of the images.

    Args:
        ranges: the parameters' ranges.
    """

    ranges: RandomAffine

    def sample(self, rng: SeededGenerator, box: Box) -> Affine:
        """See `RandomMap`."""
        d, centre = len(box.centre_mm), box.centre_mm
        eye = torch.eye(d, dtype=torch.float64)
        matrix = self.ranges.sample(rng, d)
        return Affine.from_matrix(homogeneous(eye, centre) @ matrix @ homogeneous(eye, -centre))


class RandomMovement(RandomizableTransform, MovingTransform):
    """Abstract base class of random movements of world space.

    Args:
        distribution: the movements' transforms, moved points to original points.
        prob: probability of a movement.
    """

    def __init__(self, distribution: RandomMap, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)
        self.distribution = distribution
        self._seed = 0

    def randomize(self, data: Any = None) -> None:
        """Draw from `R` whether there is a movement, and the seed of its transform."""
        super().randomize(None)
        self._seed = int(self.R.randint(_SEEDS))

    def _drawn(self, box: Box) -> Movement:
        """The movement of the present seed for items within a box."""
        transform = self.distribution.sample(SeededGenerator(self._seed), box)
        return Movement(transform, transform.inverse())


def _box(items: Sequence[tuple[Any, Sampling, str]]) -> Box:
    """The box around items; its centre is that of the images, or of the points without any."""
    corners = [_corners(*item) for item in items]
    images = [c for c, (_, how, _) in zip(corners, items, strict=True) if how.mode != "points"]
    every, central = torch.cat(corners), torch.cat(images or corners)
    centre = (central.amin(dim=0) + central.amax(dim=0)) / 2
    return Box(every.amin(dim=0), every.amax(dim=0), centre)


def _corners(item: Any, how: Sampling, name: str) -> Tensor:
    """``(N, d)`` world points whose bounding box contains an item."""
    if how.mode == "points":
        points = tensor_of(item, name)
        return world_points(points, points.shape[-1], name).reshape(-1, points.shape[-1])
    grid = target_of(image_of(item, name), name).grid
    unit = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * grid.ndim)
    return apply_matrix(grid.world_from_unit, unit)


class _RandomArray(RandomMovement):
    """Abstract base class of random movements of one item, MONAI's array transforms."""

    def __init__(
        self, distribution: RandomMap, prob: float, mode: str, padding_mode: str | float
    ) -> None:
        super().__init__(distribution, prob)
        self.sampling = Sampling(mode, padding_mode)

    def __call__(self, data: Any, randomize: bool = True) -> Tensor:
        """Move one item.

        Args:
            data: ``(C, *shape)`` image, or ``(..., d)`` points in world RAS+ mm.
            randomize: draw a new movement; otherwise repeat the last one.

        Returns:
            The moved item on its own grid, a MetaTensor where MONAI tracks metadata.

        Raises:
            InputError: the item cannot be used.
        """
        if randomize:
            self.randomize()
        name, how = "the item", self.sampling
        if not self._do_transform:
            return self._untouched(data, how, name)
        return self._moved(data, self._drawn(_box([(data, how, name)])), None, how, name)

    def inverse(self, data: Any) -> Tensor:
        """Move an item back."""
        return self._moved_back(data, "the item")


class _RandomDictionary(RandomMovement, MapTransform):
    """Abstract base class of random movements of the items of a dictionary."""

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        distribution: RandomMap,
        prob: float,
        mode: str | Sequence[str],
        padding_mode: str | float | Sequence[str | float],
        allow_missing_keys: bool,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomMovement.__init__(self, distribution, prob)
        self.samplings = samplings(self.keys, mode, padding_mode)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Move all items by one movement, each on its own grid.

        Args:
            data: the dictionary; images are ``(C, *shape)``, points ``(..., d)``.

        Returns:
            A dictionary with the moved items and all others.

        Raises:
            InputError: an item cannot be used.
            KeyError: an item is missing.
        """
        d = dict(data)
        self.randomize()
        items = list(self.key_iterator(d, self.samplings))
        if not self._do_transform:
            return d | {key: self._untouched(d[key], how, shown(key)) for key, how in items}
        if items:
            movement = self._drawn(_box([(d[key], how, shown(key)) for key, how in items]))
        for key, how in items:
            d[key] = self._moved(d[key], movement, None, how, shown(key))
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Move the items back."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._moved_back(d[key], shown(key))
        return d


class RandSmoothDeform(_RandomArray):
    """Deform an item by a random smooth diffeomorphism in millimetres.

    The same state of the generator gives the same deformation of world space for any voxel size,
    orientation and field of view.

    Args:
        prob: probability of a deformation.
        amplitude_mm: minimum and maximum of the amplitude, a displacement that about 1 in 100
            points exceeds; limited to 0.8 sigma. There is no folding.
        sigma_mm: minimum and maximum of the smoothing sigma; small ones give local deformations.
        mode: interpolation, see `Mode`; ``points`` for coordinates.
        padding_mode: what lies beyond the image, see `Padding`, or a number.

    Raises:
        InputError: an option is unknown, or a range is empty or negative.
    """

    def __init__(
        self,
        prob: float = 0.1,
        amplitude_mm: tuple[float, float] = SmoothDeformation.amplitude_mm,
        sigma_mm: tuple[float, float] = SmoothDeformation.sigma_mm,
        mode: str = "bilinear",
        padding_mode: str | float = "border",
    ) -> None:
        super().__init__(SmoothDeformation(amplitude_mm, sigma_mm), prob, mode, padding_mode)


class RandSmoothDeformd(_RandomDictionary):
    """Deform items of a dictionary by one random smooth diffeomorphism in millimetres.

    Images, label maps and points move together, whatever their voxel grids are. See
    `RandSmoothDeform`.

    Args:
        keys: items to deform.
        prob: probability of a deformation.
        amplitude_mm: minimum and maximum of the amplitude, a displacement that about 1 in 100
            points exceeds; limited to 0.8 sigma. There is no folding.
        sigma_mm: minimum and maximum of the smoothing sigma; small ones give local deformations.
        mode: interpolation for all keys or for each, see `Mode`; ``points`` for coordinates.
        padding_mode: what lies beyond the image, for all keys or for each: see `Padding`, or a
            number.
        allow_missing_keys: leave out keys that a dictionary lacks.

    Raises:
        InputError: an option is unknown, or a range is empty or negative.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        prob: float = 0.1,
        amplitude_mm: tuple[float, float] = SmoothDeformation.amplitude_mm,
        sigma_mm: tuple[float, float] = SmoothDeformation.sigma_mm,
        mode: str | Sequence[str] = "bilinear",
        padding_mode: str | float | Sequence[str | float] = "border",
        allow_missing_keys: bool = False,
    ) -> None:
        distribution = SmoothDeformation(amplitude_mm, sigma_mm)
        super().__init__(keys, distribution, prob, mode, padding_mode, allow_missing_keys)


class RandAffineWorld(_RandomArray):
    """Move an item by a random affine transform in millimetres, about the centre of its grid.

    Args:
        prob: probability of a movement.
        rotation_deg: maximum rotation angle about a random axis.
        translation_mm: maximum length of the translation.
        scale: maximum isotropic scale; the minimum is its inverse.
        stretch: maximum logarithm of the additional scale of each world axis.
        shear: maximum shear ratio.
        mode: interpolation, see `Mode`; ``points`` for coordinates.
        padding_mode: what lies beyond the image, see `Padding`, or a number.

    Raises:
        InputError: an option is unknown.
    """

    def __init__(
        self,
        prob: float = 0.1,
        rotation_deg: float = 0.0,
        translation_mm: float = 0.0,
        scale: float = 1.0,
        stretch: float = 0.0,
        shear: float = 0.0,
        mode: str = "bilinear",
        padding_mode: str | float = "border",
    ) -> None:
        ranges = RandomAffine(rotation_deg, translation_mm, scale, stretch, shear)
        super().__init__(CentredAffine(ranges), prob, mode, padding_mode)


class RandAffineWorldd(_RandomDictionary):
    """Move items of a dictionary by one random affine transform in millimetres.

    Its centre is that of the box around all images. Images, label maps and points move together,
    whatever their voxel grids are.

    Args:
        keys: items to move.
        prob: probability of a movement.
        rotation_deg: maximum rotation angle about a random axis.
        translation_mm: maximum length of the translation.
        scale: maximum isotropic scale; the minimum is its inverse.
        stretch: maximum logarithm of the additional scale of each world axis.
        shear: maximum shear ratio.
        mode: interpolation for all keys or for each, see `Mode`; ``points`` for coordinates.
        padding_mode: what lies beyond the image, for all keys or for each: see `Padding`, or a
            number.
        allow_missing_keys: leave out keys that a dictionary lacks.

    Raises:
        InputError: an option is unknown.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        prob: float = 0.1,
        rotation_deg: float = 0.0,
        translation_mm: float = 0.0,
        scale: float = 1.0,
        stretch: float = 0.0,
        shear: float = 0.0,
        mode: str | Sequence[str] = "bilinear",
        padding_mode: str | float | Sequence[str | float] = "border",
        allow_missing_keys: bool = False,
    ) -> None:
        ranges = RandomAffine(rotation_deg, translation_mm, scale, stretch, shear)
        super().__init__(keys, CentredAffine(ranges), prob, mode, padding_mode, allow_missing_keys)
