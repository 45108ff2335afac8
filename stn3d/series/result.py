"""The result of a motion correction: transforms, motion parameters and files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from stn3d.choices import SeriesInterpolation
from stn3d.display import Described, Description, number
from stn3d.grid import Grid
from stn3d.io import Image, Volumes, atomic_write, write_transform
from stn3d.io.colours import is_colour
from stn3d.registration.folders import make_folder, replaced_results, results_folder
from stn3d.report.motion import MotionCurves, motion_plot, series_html
from stn3d.series.gradients import Directions, rotated_bvecs, write_bvecs
from stn3d.series.target import Target
from stn3d.transforms import Affine, Linear, Rigid, Transform
from stn3d.warp.apply import WarpedColours, WarpedVolumes

BVECS = "moved.bvec"
HEAD_RADIUS_MM = 50.0  # Power et al. 2012
_HEAD_EXTENTS_MM = 100.0, 500.0  # longest extent of a field of view that may show a head


@dataclass(frozen=True, eq=False)
class Motion:
    """Motion of the volumes of a series relative to the reference, about the centre of its grid.

    Convention: from the reference to the volume, RAS+. A positive translation in x is a motion to
    the right; a positive rotation is counter-clockwise about its axis.

    Args:
        rotation_deg: ``(N, 3)`` rotation vectors, axis times angle; in 2D ``(N, 1)`` angles.
        translation_mm: ``(N, d)`` displacements of the centre.
        radius_mm: radius at which rotations are measured as arc lengths.

    Examples:
        >>> poses = [[0.0, 0.0, 0.0], [0.01, 1.0, 0.0], [0.01, 1.0, -2.0]]
        >>> motion = Motion.of([Rigid(torch.tensor(pose), torch.zeros(2)) for pose in poses])
        >>> motion.framewise_displacement_mm
        tensor([0.0000, 1.5000, 2.0000])
    """

    rotation_deg: Tensor
    translation_mm: Tensor
    radius_mm: float = HEAD_RADIUS_MM

    @classmethod
    def of(cls, transforms: Sequence[Rigid], radius_mm: float = HEAD_RADIUS_MM) -> Motion:
        """Motion of transforms with the same centre."""
        parameters = torch.stack([transform.parameters for transform in transforms])
        d = transforms[0].ndim
        return cls(torch.rad2deg(parameters[:, :-d]), parameters[:, -d:], radius_mm)

    @property
    def framewise_displacement_mm(self) -> Tensor:
        """``(N,)`` framewise displacement (Power et al. 2012,
        doi:10.1016/j.neuroimage.2011.10.018): sum of the absolute changes of all parameters since
        the previous volume, with rotations as arc lengths; 0 for the first."""
        arcs_mm = torch.deg2rad(self.rotation_deg) * self.radius_mm
        steps = torch.cat([arcs_mm, self.translation_mm], dim=1).diff(dim=0)
        return torch.cat([steps.new_zeros(1), steps.abs().sum(dim=1)])

    def metrics(self) -> dict[str, float]:
        """Summary of the motion, for metrics.json."""
        displacement_mm = self.framewise_displacement_mm
        return {
            "framewise_displacement_mean_mm": float(displacement_mm[1:].mean()),
            "framewise_displacement_max_mm": float(displacement_mm.max()),
            "rotation_radius_mm": self.radius_mm,
            "rotation_max_deg": float(self.rotation_deg.norm(dim=1).max()),
            "translation_max_mm": float(self.translation_mm.norm(dim=1).max()),
        }


def rotation_radius_mm(grid: Grid) -> float:
    """Radius for the framewise displacement: 50 mm as published, or a quarter of the longest extent
    of a field of view that is too small or too large for a head.

    Args:
        grid: grid of the reference.
    """
    longest_mm, (least_mm, most_mm) = max(grid.size_mm), _HEAD_EXTENTS_MM
    return HEAD_RADIUS_MM if least_mm <= longest_mm <= most_mm else longest_mm / 4


@dataclass(frozen=True, eq=False, repr=False)
class SeriesRegistration(Described):
    """The result of registering the volumes of a series.

    Args:
        transforms: transform of each volume, from points of the reference to points of the volume,
            world RAS+ mm, about the centre of the reference's grid.
        series: the original volumes.
        reference: reference image.
        interpolation: interpolation of the moved volumes.
        correlations: correlation of each moved volume with the reference, in the foreground of the
            reference.
        metrics: content of metrics.json: metrics, settings, timings, versions.
        outside_value: value of the moved volumes where a volume shows nothing; of colour images
            that of the first channel.
        fill: how that value was chosen, see `register_series`.
        target: the space in which the volumes are resampled, if it is not that of the reference.
        bvecs: ``(N, 3)`` diffusion gradient directions of the moved volumes in FSL's convention, if
            those of the series were given.
    """

    transforms: tuple[Rigid, ...]
    series: Volumes
    reference: Image
    interpolation: SeriesInterpolation
    correlations: tuple[float, ...]
    metrics: dict[str, Any]
    outside_value: float = 0.0
    fill: str | float = "auto"
    target: Target | None = None
    bvecs: Directions | None = None

    FILES: ClassVar = ("moved.nii.gz", "motion.csv", "metrics.json")
    REPORT: ClassVar = ("report.html", "motion.svg")

    def description(self) -> Description:
        motion = self.motion.metrics()
        correlation = sum(self.correlations) / len(self.correlations)
        rows = [
            ("of", self.series.name),
            ("volumes", f"{len(self.transforms)}"),
            ("largest rotation", number(motion["rotation_max_deg"], "degrees")),
            ("largest translation", number(motion["translation_max_mm"], "mm")),
            (
                "mean framewise displacement",
                number(motion["framewise_displacement_mean_mm"], "mm"),
            ),
            ("correlation", f"{correlation:.4g}"),
            ("time", number(sum(self.metrics["timings_s"].values()), "s")),
        ]
        return Description("SeriesRegistration", rows)

    @cached_property
    def motion(self) -> Motion:
        """Motion of each volume."""
        return Motion.of(self.transforms, rotation_radius_mm(self.reference.grid))

    @property
    def moved(self) -> WarpedVolumes | WarpedColours:
        """Volumes on the grid of the target, by default the reference, ``(1, 1, *shape)`` each,
        computed on iteration; ``shape`` colours each of a series of colour images."""
        transforms: Sequence[Transform] = self.transforms
        fixed = self.reference
        if self.target is not None:
            transforms, fixed = self.target.composed(self.transforms), self.target.image
        if is_colour(self.series.stored.dtype):
            return WarpedColours(transforms, self.series, fixed, self.interpolation, self.fill)
        return WarpedVolumes(transforms, self.series, fixed, self.interpolation, self.outside_value)

    def with_bvecs(self, bvecs: Directions) -> SeriesRegistration:
        """This result with the gradient directions of the moved volumes.

        Args:
            bvecs: ``(N, 3)`` directions of the original volumes in FSL's convention.
        """
        grid, rotations = self.reference.grid, list[Linear](self.transforms)
        if self.target is not None:
            first = self.target.rotation(grid)
            rotations = [Affine.from_matrix(one.matrix @ first.matrix) for one in rotations]
            grid = self.target.image.grid
        turned = rotated_bvecs(bvecs, rotations, self.series.image(0).grid, grid)
        return replace(self, bvecs=turned)

    def save(self, folder: str | os.PathLike[str], *, report: bool = True) -> list[Path]:
        """Write moved.nii.gz, transforms/0000.h5 ..., motion.csv, metrics.json and, for a series
        with gradient directions, moved.bvec; all or none.

        Args:
            folder: folder for the files, created if needed.
            report: write report.html, a page with the motion, and motion.svg, its plot.

        Returns:
            The files, and the folder of the transforms.

        Raises:
            InputError: the folder cannot be written, or the series can no longer be read.
        """
        folder = make_folder(folder)
        moved, table, metrics = (folder / name for name in self.FILES)
        further = [] if self.bvecs is None else [folder / BVECS]
        page, plot = (folder / name for name in self.REPORT)
        further += [page, plot] if report else []
        others = {BVECS, *self.REPORT} - {one.name for one in further}
        with (
            replaced_results(folder, metrics.name, others),
            results_folder(folder / "transforms") as transforms,
            ExitStack() as files,
        ):
            part = {
                path: files.enter_context(atomic_write(path))
                for path in (moved, table, metrics, *further)
            }
            for number, transform in enumerate(self.transforms):
                write_transform(
                    files.enter_context(atomic_write(transforms / _name(number))), transform
                )
            part[table].write_text(self._table(), encoding="utf8")
            part[metrics].write_text(json.dumps(self.metrics, indent=2) + "\n", encoding="utf8")
            if self.bvecs is not None:
                write_bvecs(part[folder / BVECS], self.bvecs)
            if report:
                curves = self._curves()
                part[page].write_text(series_html(curves, self.metrics), encoding="utf8")
                part[plot].write_text(motion_plot(curves), encoding="utf8")
            self.moved.write(part[moved])
        written = {_name(number) for number in range(len(self.transforms))}
        for old in transforms.glob("[0-9][0-9][0-9][0-9]*.h5"):
            if old.name not in written:  # from an earlier run with a longer series
                old.unlink()
        return [moved, transforms, table, metrics, *further]

    @property
    def _axes(self) -> tuple[str, str]:
        """Names of the axes of rotation and of translation."""
        axes = "xyz"[: self.reference.grid.ndim]
        return (axes if len(axes) == 3 else "z"), axes

    def _curves(self) -> MotionCurves:
        motion = self.motion
        rotation, translation = (
            dict(zip(names, values.T.tolist(), strict=True))
            for names, values in zip(
                self._axes, (motion.rotation_deg, motion.translation_mm), strict=True
            )
        )
        return MotionCurves(rotation, translation, motion.framewise_displacement_mm.tolist())

    def _table(self) -> str:
        """Content of motion.csv: one line per volume."""
        rotation_axes, axes = self._axes
        head = ["volume", *(f"rotation_{a}_deg" for a in rotation_axes)]
        head += [*(f"translation_{a}_mm" for a in axes), "framewise_displacement_mm", "correlation"]
        motion, correlations = self.motion, torch.tensor(self.correlations, dtype=torch.float64)
        columns = [motion.rotation_deg, motion.translation_mm]
        columns += [motion.framewise_displacement_mm[:, None], correlations[:, None]]
        rows = torch.cat(columns, dim=1).tolist()
        lines = [[str(n), *(f"{round(v, 6) + 0:.6f}" for v in row)] for n, row in enumerate(rows)]
        return "\n".join(",".join(line) for line in (head, *lines)) + "\n"


def _name(number: int) -> str:
    """File name of the transform of a volume."""
    return f"{number:04d}.h5"
