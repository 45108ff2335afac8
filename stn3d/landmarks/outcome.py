"""What a registration of landmarks gives back, and the files it writes."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from stn3d.choices import LandmarkKind
from stn3d.errors import InputError
from stn3d.grid import apply_matrix
from stn3d.io import (
    GeometryWarning,
    Image,
    ImageSource,
    Landmarks,
    read_image,
    whole,
    write_transform,
)
from stn3d.landmarks.fields import fields_of
from stn3d.metrics import tre_mm
from stn3d.registration.result import make_folder, versions
from stn3d.sampler import inside
from stn3d.transforms import Affine, Linear, ThinPlateSpline, Transform, describe_linear


@dataclass(frozen=True, eq=False)
class LandmarkRegistration:
    """The outcome of registering landmarks.

    Args:
        transform: fixed points to moving points, world RAS+ mm.
        inverse: moving points to fixed points; a spline's is found point by point, NaN where there
            is none.
        landmarks: both sets, with names.
        left_out_points_mm: ``(N, d)``, where each landmark goes by the fit to all others; NaN where
            these determine no transform.
        suspects: names of landmarks whose error, when left out, is far beyond the others', the
            worst first; they were used all the same.
        kind: of the transform.
        smoothing: of a spline.
        sampling: what a spline lost when it became a field, see `on_grid_of`.
    """

    transform: Transform
    inverse: Transform
    landmarks: Landmarks
    left_out_points_mm: Tensor
    suspects: tuple[str, ...]
    kind: LandmarkKind
    smoothing: float
    sampling: dict[str, Any] = field(default_factory=dict)

    @property
    def residuals_mm(self) -> Tensor:
        """``(N,)``: how far from its partner the transform takes each landmark."""
        moved = self.transform(self.landmarks.fixed_mm)
        return (moved - self.landmarks.moving_mm).norm(dim=-1)

    @property
    def left_out_mm(self) -> Tensor:
        """``(N,)``: the same for the fit without that landmark, an honest error; NaN if unknown."""
        return (self.left_out_points_mm - self.landmarks.moving_mm).norm(dim=-1)

    @property
    def metrics(self) -> dict[str, Any]:
        """Figures for JSON: means, 95th percentiles and maxima, and each landmark's own."""
        pairs = self.landmarks
        none = Affine.identity(self.transform.ndim)
        known = self.left_out_mm.isfinite()
        left_out = tre_mm(none, self.left_out_points_mm[known], pairs.moving_mm[known])
        each = zip(pairs.names, self.residuals_mm.tolist(), self.left_out_mm.tolist(), strict=True)
        return {
            "kind": self.kind,
            "smoothing": self.smoothing,
            "ndim": self.transform.ndim,
            "linear_parameters": _linear_parameters(self.transform),
            "count": len(known),
            "before_mm": tre_mm(none, pairs.fixed_mm, pairs.moving_mm),
            "residual_mm": tre_mm(self.transform, pairs.fixed_mm, pairs.moving_mm),
            "left_out_mm": left_out if bool(known.any()) else None,
            "left_out_count": int(known.sum()),
            "suspects": list(self.suspects),
            "landmarks": [
                {
                    "name": name,
                    "residual_mm": residual,
                    "left_out_mm": error if error == error else None,
                    "suspect": name in self.suspects,
                }
                for name, residual, error in each
            ],
            **({"sampling": self.sampling} if self.sampling else {}),
            "versions": versions(),
        }

    def on_grid_of(self, like: ImageSource) -> LandmarkRegistration:
        """The same for the grid of a fixed image: a spline as its files will hold it.

        It becomes a displacement field and then the landmarks' affine fit, which alone is left far
        outside the image. `sampling` tells by how much that is off, between voxels too, and how
        well the inverse leads back. A linear transform stays as it is.

        Args:
            like: gives the grid.

        Raises:
            InputError: the image is of no use or of another dimension, no landmark lies in it, or
                the spline folds so that it has no inverse.
        """
        image = read_image(like, "like", 0, allow_constant=True)
        self._require_inside(image)
        if not isinstance(self.transform, ThinPlateSpline):
            return self
        fields = fields_of(self.transform, image.grid)
        if fields is None:
            blame = f" Look at {', '.join(self.suspects)}." if self.suspects else ""
            raise InputError(
                "the spline folds, so it has no inverse: landmarks that are near each other move "
                f"too differently; mend them, or give a larger --smoothing.{blame}"
            )
        return dataclasses.replace(
            self, transform=fields.transform, inverse=fields.inverse, sampling=fields.figures
        )

    def _require_inside(self, image: Image) -> None:
        """Landmarks outside the image are worth a note; all of them there are a mistake."""
        grid, points = image.grid, self.landmarks.fixed_mm
        if grid.ndim != points.shape[1]:
            raise InputError(
                f"{image.name} is {grid.ndim}D and the landmarks are {points.shape[1]}D; "
                "give the fixed image that they were placed in."
            )
        index = apply_matrix(grid.index_from_world, points)
        within = inside(index, grid.shape)
        if not bool(within.any()):
            raise InputError(
                f"no fixed landmark lies in {image.name}; give the image that they were placed in, "
                "and points in RAS+ mm (from LPS, change the signs of x and y)."
            )
        outside = [
            name for name, there in zip(self.landmarks.names, within, strict=True) if not there
        ]
        if outside:
            warnings.warn(
                f"outside {image.name} lie the landmarks {', '.join(outside)}; "
                "there a saved tps is the affine fit.",
                GeometryWarning,
                stacklevel=3,
            )

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write transform.h5, inverse.h5 and metrics.json, all or none.

        Returns:
            The files written.

        Raises:
            InputError: the folder cannot be written, or a spline was not put `on_grid_of` an image.
        """
        if isinstance(self.transform, ThinPlateSpline):
            raise InputError("a spline is saved as a field on an image's grid; give the image.")
        folder = make_folder(folder)
        written = [folder / name for name in ("transform.h5", "inverse.h5", "metrics.json")]
        with ExitStack() as files:
            transform, inverse, metrics = (files.enter_context(whole(p)) for p in written)
            write_transform(transform, self.transform)
            write_transform(inverse, self.inverse)
            metrics.write_text(json.dumps(self.metrics, indent=2) + "\n", encoding="utf8")
        return written


def _linear_parameters(transform: Transform) -> dict[str, Any] | None:
    return describe_linear(transform).as_dict() if isinstance(transform, Linear) else None
