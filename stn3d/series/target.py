"""The space beyond the reference in which the volumes of a series are resampled.

Convention: a point of the target grid passes through the given transforms in their order to a
point of the series' reference, and through the motion transform of a volume to a point of that
volume: ``moved_n(x) = volume_n(motion_n(then(x)))``. Each volume is interpolated once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.io import (
    Image,
    ImageSource,
    TransformSource,
    as_transform,
    in_dimension,
    read_image,
    read_specs,
)
from stn3d.sampler import inside
from stn3d.transforms import Affine, Linear, Rigid, Transform, chain, sampled
from stn3d.transforms.fit import fit_linear
from stn3d.warp.images import fov_overlap_fraction

_FIT_POINTS = 30  # along each axis


@dataclass(frozen=True)
class Normalisation:
    """Where the volumes go after motion correction, as it is asked for.

    Args:
        like: image that defines the grid, affine and header codes of the moved volumes.
        transforms: transforms from points of ``like`` to points of the series' reference, in the
            order in which a point passes through them (template to structural image first, then
            structural image to reference), see `stn3d.io.as_transform`; none if ``like`` is
            aligned with the reference.
    """

    like: ImageSource
    transforms: tuple[TransformSource, ...] = ()

    def read(self, reference: Image) -> Target:
        """Read the transforms and the target image.

        Args:
            reference: reference of the series.

        Raises:
            InputError: a file cannot be read, the dimensions differ, or the target image does not
                overlap with the reference.
        """
        fixed = read_image(self.like, "like", 0, allow_constant=True)
        ndim = reference.grid.ndim
        fixed = in_dimension(fixed, ndim)
        then = self._transform(fixed, reference)
        for what, found in (("target image (--like)", fixed.grid), ("transform (--then)", then)):
            if found.ndim != ndim:
                raise InputError(
                    f"the {what} is {found.ndim}D and the volumes are {ndim}D; both need the same "
                    "dimension."
                )
        if fov_overlap_fraction(reference.grid, then, fixed.grid) == 0:
            raise InputError(
                f"the transforms (--then) map no voxel of {fixed.name} into the reference "
                f"{reference.name}; they go from points of {fixed.name} to points of the "
                "reference, the transform of the template first."
            )
        names = [
            os.fspath(one) if isinstance(one, str | os.PathLike) else type(one).__name__
            for one in self.transforms
        ]
        return Target(then, fixed, tuple(names))

    def _transform(self, fixed: Image, reference: Image) -> Transform:
        given = self.transforms
        if not given:
            return Affine.identity(fixed.grid.ndim)
        if all(isinstance(one, str | os.PathLike) for one in given):
            specs = [os.fspath(one) for one in given if isinstance(one, str | os.PathLike)]
            return read_specs(specs, fixed=fixed, moving=reference)
        return chain(*(as_transform(one, fixed=fixed, moving=reference) for one in given))


@dataclass(frozen=True, eq=False)
class Target:
    """The space in which the volumes are resampled.

    Args:
        then: points of the target to points of the reference.
        image: the target image, which defines the grid.
        names: paths of the transforms, or their types.
    """

    then: Transform
    image: Image
    names: tuple[str, ...] = ()

    def metrics(self) -> dict[str, Any]:
        """What was given, for metrics.json."""
        return {"name": self.image.name, "transforms": list(self.names)}

    def composed(self, motions: tuple[Rigid, ...]) -> tuple[Transform, ...]:
        """Target points to points of each volume.

        A transform that is not linear is evaluated once, at the voxels of the target, where alone
        it is needed; the volumes share it.
        """
        then = self.then
        if not isinstance(then, Linear):
            then = sampled(then, self.image.grid)
        return tuple(chain(then, motion) for motion in motions)

    def rotation(self, reference: Grid) -> Rigid:
        """The rotation of the transform, for directions that are common to a whole volume.

        The rotation of the polar decomposition of the affine that fits best within the field of
        view of the reference (finite strain, Alexander et al. 2001, doi:10.1109/42.963816). It is
        exact for linear transforms.
        """
        grid = self.image.grid
        spacing = [
            size / min(n, _FIT_POINTS) for n, size in zip(grid.shape, grid.size_mm, strict=True)
        ]
        points = grid.resampled(spacing).points_mm().reshape(-1, grid.ndim)
        mapped = self.then(points)
        seen = inside(apply_matrix(reference.index_from_world, mapped), reference.shape)
        if int(seen.sum()) <= grid.ndim:  # a small field of view in a large target
            seen = mapped.isfinite().all(dim=-1)
        affine = fit_linear("affine", points[seen], mapped[seen])
        u, _, vt = torch.linalg.svd(affine.matrix[:-1, :-1])
        return Rigid.from_matrix(homogeneous(u @ vt, torch.zeros(grid.ndim)), grid.centre_mm)
