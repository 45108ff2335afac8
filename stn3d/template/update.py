"""One update of a template: the mean of shape, then the mean of intensity.

The transforms from the present template to the images (a displacement field, then an affine pose)
are centred: size, shear, rotation and position of the poses by `linear_mean.centring`, the
displacements by the inverse of their mean (Guimond et al. 2000, doi:10.1006/cviu.1999.0815; Avants
et al. 2010, doi:10.1016/j.neuroimage.2009.09.062). With the correction ``c``, new to present
template points, ``c.then(transform)`` has the mean displacement 0. Each image is warped by this
transform, with one interpolation, and averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.io import Image
from stn3d.metrics import foreground
from stn3d.template.average import MeanField, MeanImage, on_grid, sharpened, sharpness
from stn3d.template.linear_mean import centring, mirrored, product, reflection
from stn3d.template.subjects import Subject
from stn3d.transforms import (
    Affine,
    DisplacementField,
    Linear,
    Transform,
    chain,
    compose,
    sampled,
    split_linear,
)

Member = tuple[Subject, Callable[[], Transform]]
"""An image, and what reads the transform from points of the present template to its points."""


@dataclass(frozen=True, eq=False)
class Space:
    """The space of a template.

    Args:
        grid: grid of the template.
        centre_mm: point at which the mean translation of the images is 0.
        symmetric: whether it is symmetric about the plane of constant x through the centre.
    """

    grid: Grid
    centre_mm: Tensor
    symmetric: bool = False

    @cached_property
    def mirror(self) -> Affine:
        """The reflection about the plane of symmetry."""
        return reflection(float(self.centre_mm[0]), len(self.centre_mm))

    def centring(self, poses: Sequence[Linear]) -> Affine:
        """See `linear_mean.centring`; of a symmetric template, with the mirror images."""
        if not self.symmetric:
            return centring(poses, self.centre_mm)
        both = [*poses, *(mirrored(pose, self.mirror) for pose in poses)]
        found = centring(both, self.centre_mm)
        mean = 0.5 * (found.matrix + mirrored(found, self.mirror).matrix)  # up to rounding, found
        return Affine.from_matrix(mean, self.centre_mm)


@dataclass(frozen=True, eq=False)
class Correction:
    """The map from a new template to the present one.

    Args:
        linear: new points to points of the present pose; applied first.
        field: inverse of the mean displacement; None for none.
    """

    linear: Affine
    field: DisplacementField | None

    def then(self, transform: Transform) -> Transform:
        """The corrected transform, with at most one field."""
        field, pose = parts_of(transform, None if self.field is None else self.field.grid)
        if self.field is not None:
            grid, vectors = self.field.grid, self.field.displacement_mm
            if field is not None:
                vectors = compose(vectors, on_grid(field, grid), grid)
            field = DisplacementField(vectors, grid)
        return chain(self.linear, *([] if field is None else [field]), pose)


@dataclass(frozen=True, eq=False)
class Update:
    """A new template.

    Args:
        values: ``(1, 1, *shape)`` the template.
        poses: linear part of the corrected transform to each image.
        metrics: how much has changed.
    """

    values: Tensor
    poses: list[Affine]
    metrics: dict[str, float]


def parts_of(transform: Transform, grid: Grid | None) -> tuple[DisplacementField | None, Linear]:
    """The field and the linear part of a transform; other transforms are sampled on the grid."""
    before, linear = split_linear(transform)
    linear = Affine.identity(transform.ndim) if linear is None else linear
    if before is None or isinstance(before, DisplacementField):
        return before, linear
    if grid is None:
        raise ValueError("a transform of this kind needs a grid.")
    return sampled(before, grid), linear


@torch.no_grad()
def updated(
    members: Sequence[Member], space: Space, previous: Tensor | None, sharpening: float
) -> Update:
    """Update a template.

    Args:
        members: images and their transforms.
        space: space of the template.
        previous: the present template, on the grid of the space; None for the first one.
        sharpening: see `TemplateSettings`.
    """
    correction, poses = _correction(members, space)
    is_ct = members[0][0].is_ct
    mean = MeanImage(space.grid, previous, is_ct)
    mask = None if previous is None else foreground(previous)
    of_images: list[float] = []
    for subject, transform in members:
        moved = mean.add(subject.read(), correction.then(transform()))
        used = foreground(moved) if mask is None else mask
        of_images.append(sharpness(moved, space.grid, used))
    plain = mean.result()
    if space.symmetric:
        plain = 0.5 * (plain + plain.flip(2))
    values = sharpened(plain, sharpening)
    used = foreground(values) if mask is None else mask
    metrics = {
        "mean_displacement_mm": _length_mm(correction, space.grid, used),
        "sharpness": sharpness(plain, space.grid, used),
        "sharpness_sharpened": sharpness(values, space.grid, used),
        "sharpness_of_images": sum(of_images) / len(of_images),
    }
    if previous is not None:
        gap = (values - previous)[0, 0][used].double().square().mean().sqrt()
        metrics["relative_change"] = float(gap / previous[0, 0][used].double().std())
    return Update(values, [product(correction.linear, pose) for pose in poses], metrics)


def _correction(members: Sequence[Member], space: Space) -> tuple[Correction, list[Linear]]:
    """The correction, and the linear part of each transform."""
    mean, poses, moves = MeanField(space.grid), list[Linear](), False
    for _, transform in members:
        field, pose = parts_of(transform(), space.grid)
        mean.add(field)
        poses.append(pose)
        moves = moves or field is not None
    field = mean.result(space.symmetric).inverse() if moves else None
    if field is not None and space.symmetric:  # its inverse is, up to rounding
        other = field.displacement_mm.flip(2)
        other[:, 0] *= -1
        field = DisplacementField(0.5 * (field.displacement_mm + other), field.grid)
    return Correction(space.centring(poses), field), poses


def _length_mm(correction: Correction, grid: Grid, mask: Tensor) -> float:
    """Mean length of the correction's displacement in a mask of the new template."""
    points = grid.points_mm()[mask]
    moved = correction.linear(points)
    if correction.field is not None:
        moved = correction.field(moved)
    return float((moved - points).norm(dim=-1).mean())


def image_on(values: Tensor, grid: Grid, name: str) -> Image:
    """An image of values on a grid."""
    from stn3d.io import as_image

    made = as_image((values[0, 0], grid))
    return Image(made.values, made.grid, name, made.header)
