"""The result of a landmark registration, and its files."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from stn3d.choices import LandmarkKind
from stn3d.display import Described, Description, number
from stn3d.errors import InputError
from stn3d.grid import apply_matrix
from stn3d.io import (
    GeometryWarning,
    Image,
    ImageSource,
    Landmarks,
    atomic_write,
    in_dimension,
    read_image,
    write_transform,
)
from stn3d.landmarks.fields import spline_fields
from stn3d.metrics import tre_mm
from stn3d.registration.folders import make_folder, versions
from stn3d.sampler import inside
from stn3d.transforms import Affine, Linear, ThinPlateSpline, Transform, describe_linear

SCHEMA_VERSION = 1
"""Version of metrics.json; rises when a key is renamed or removed, or changes its meaning."""


@dataclass(frozen=True, eq=False, repr=False)
class LandmarkRegistration(Described):
    """The result of registering landmarks.

    Args:
        transform: fixed points to moving points, world RAS+ mm.
        inverse: moving points to fixed points. The inverse of a spline is computed point by point
            and is NaN where there is none.
        landmarks: fixed and moving landmarks, with names.
        leave_one_out_points_mm: ``(N, d)`` each fixed landmark mapped by the fit to all others; NaN
            where the others do not determine a transform.
        outliers: names of landmarks with an unusually large leave-one-out error, largest first.
            They are used in the fit.
        kind: kind of the transform.
        smoothing: smoothing of a spline.
        field_metrics: errors of a spline's displacement fields, see `on_grid_of`.
    """

    transform: Transform
    inverse: Transform
    landmarks: Landmarks
    leave_one_out_points_mm: Tensor
    outliers: tuple[str, ...]
    kind: LandmarkKind
    smoothing: float
    field_metrics: dict[str, Any] = field(default_factory=dict)

    FILES: ClassVar = ("transform.h5", "inverse.h5", "metrics.json")

    def description(self) -> Description:
        errors_mm = self.leave_one_out_errors_mm
        rows = [
            ("kind", self.kind),
            ("landmarks", f"{len(self.landmarks.names)}"),
            ("residual", number(float(self.residuals_mm.mean()), "mm")),
            ("leave-one-out error", number(float(errors_mm.nanmean()), "mm")),
            ("outliers", ", ".join(self.outliers[:5])),
        ]
        return Description("LandmarkRegistration", rows)

    @property
    def residuals_mm(self) -> Tensor:
        """``(N,)`` distances between mapped fixed landmarks and moving landmarks."""
        moved = self.transform(self.landmarks.fixed_mm)
        return (moved - self.landmarks.moving_mm).norm(dim=-1)

    @property
    def leave_one_out_errors_mm(self) -> Tensor:
        """``(N,)`` distance of each landmark by the fit to all others; NaN where undefined."""
        return (self.leave_one_out_points_mm - self.landmarks.moving_mm).norm(dim=-1)

    @property
    def metrics(self) -> dict[str, Any]:
        """Content of metrics.json: statistics of the errors (`stn3d.metrics.tre_mm`), errors of
        each landmark, options, versions."""
        pairs = self.landmarks
        identity = Affine.identity(self.transform.ndim)
        errors_mm, outliers = self.leave_one_out_errors_mm, set(self.outliers)
        known = errors_mm.isfinite()
        leave_one_out = tre_mm(
            identity, self.leave_one_out_points_mm[known], pairs.moving_mm[known]
        )
        each = zip(
            pairs.names,
            self.residuals_mm.tolist(),
            self.leave_one_out_errors_mm.tolist(),
            strict=True,
        )
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            "smoothing": self.smoothing,
            "ndim": self.transform.ndim,
            "linear_parameters": self._linear_parameters(),
            "landmark_count": len(known),
            "initial_distance_mm": tre_mm(identity, pairs.fixed_mm, pairs.moving_mm),
            "residual_mm": tre_mm(self.transform, pairs.fixed_mm, pairs.moving_mm),
            "leave_one_out_error_mm": leave_one_out if bool(known.any()) else None,
            "leave_one_out_count": int(known.sum()),
            "outliers": list(self.outliers),
            "landmarks": [
                {
                    "name": name,
                    "residual_mm": residual,
                    "leave_one_out_error_mm": error if error == error else None,
                    "outlier": name in outliers,
                }
                for name, residual, error in each
            ],
            **({"displacement_field": self.field_metrics} if self.field_metrics else {}),
            "versions": versions(),
        }

    def _linear_parameters(self) -> dict[str, Any] | None:
        """Parameters of a linear transform, about the centroid of the fixed landmarks."""
        if not isinstance(self.transform, Linear):
            return None
        centre_mm = self.landmarks.fixed_mm.mean(dim=0)
        return describe_linear(Affine.from_matrix(self.transform.matrix, centre_mm)).as_dict()

    def on_grid_of(self, like: ImageSource) -> LandmarkRegistration:
        """Sample a spline on the grid of the fixed image, as its files store it.

        The result is a displacement field followed by the affine fit of the landmarks; far outside
        the image only the affine fit remains. `field_metrics` holds the discretisation error (also
        between voxels) and the inverse-consistency error. Linear transforms are returned unchanged.

        Args:
            like: fixed image, which defines the grid.

        Raises:
            InputError: the image cannot be used or has another dimension, no landmark lies inside
                it, or the spline folds and has no inverse.
        """
        image = read_image(like, "like", 0, allow_constant=True)
        image = in_dimension(image, self.landmarks.fixed_mm.shape[1])
        self._require_inside(image)
        if not isinstance(self.transform, ThinPlateSpline):
            return self
        fields = spline_fields(self.transform, image.grid)
        if fields is None:
            hint = f" Check {_listed(self.outliers)}." if self.outliers else ""
            raise InputError(
                "the spline folds, so it has no inverse: displacements of neighbouring landmarks "
                f"differ too much; correct the landmarks or increase --smoothing.{hint}"
            )
        return dataclasses.replace(
            self, transform=fields.transform, inverse=fields.inverse, field_metrics=fields.metrics
        )

    def _require_inside(self, image: Image) -> None:
        """Warn about landmarks outside the image; raise an error if none lies inside."""
        grid, points = image.grid, self.landmarks.fixed_mm
        if grid.ndim != points.shape[1]:
            raise InputError(
                f"{image.name} is {grid.ndim}D and the landmarks are {points.shape[1]}D; "
                "give the fixed image in which they were placed."
            )
        index = apply_matrix(grid.index_from_world, points)
        within = inside(index, grid.shape)
        if not bool(within.any()):
            raise InputError(
                f"no fixed landmark lies in {image.name}; give the image in which they were "
                "placed, and points in RAS+ mm (from LPS, change the signs of x and y)."
            )
        outside = [
            name for name, is_in in zip(self.landmarks.names, within, strict=True) if not is_in
        ]
        if outside:
            warnings.warn(
                f"landmarks outside {image.name}: {_listed(outside)}; "
                "a saved tps is the affine fit there.",
                GeometryWarning,
                stacklevel=3,
            )

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write transform.h5, inverse.h5 and metrics.json; all files or none.

        Returns:
            The files written.

        Raises:
            InputError: the folder cannot be written, or a spline is not sampled, see `on_grid_of`.
        """
        if isinstance(self.transform, ThinPlateSpline):
            raise InputError(
                "a spline is saved as a displacement field; sample it with on_grid_of(image) first."
            )
        folder = make_folder(folder)
        written = [folder / name for name in self.FILES]
        with ExitStack() as files:
            transform, inverse, metrics = (files.enter_context(atomic_write(p)) for p in written)
            write_transform(transform, self.transform)
            write_transform(inverse, self.inverse)
            metrics.write_text(json.dumps(self.metrics, indent=2) + "\n", encoding="utf8")
        return written


def _listed(names: Sequence[str], most: int = 10) -> str:
    """Names for a message, the first ones of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
