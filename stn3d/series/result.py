"""The motion of a series, what a registration of it gives back, and the files that it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stn3d.apply_transform import WarpedVolumes
from stn3d.choices import SeriesInterpolation
from stn3d.io import Image, Volumes, atomic_write, write_transform
from stn3d.registration.result import make_folder, results_folder
from stn3d.transforms import Rigid

HEAD_RADIUS_MM = 50.0  # Power et al. 2012


@dataclass(frozen=True, eq=False)
class Motion:
    """How the volumes of a series lie to their reference, about the centre of its grid.

    Convention: from the reference to the volume. A head with a positive translation in x has gone
    to the right (RAS+); a positive rotation turns it counter-clockwise about its axis.

    Args:
        rotation_deg: ``(N, 3)`` rotation vectors, axis times angle; in 2D ``(N, 1)`` angles.
        translation_mm: ``(N, d)`` displacements of the centre.
    """

    rotation_deg: Tensor
    translation_mm: Tensor

    @classmethod
    def of(cls, transforms: Sequence[Rigid]) -> Motion:
        """The motion in transforms that share one centre."""
        parameters = torch.stack([transform.parameters for transform in transforms])
        d = transforms[0].ndim
        return cls(torch.rad2deg(parameters[:, :-d]), parameters[:, -d:])

    @property
    def framewise_displacement_mm(self) -> Tensor:
        """``(N,)``: the sum of absolute changes since the volume before, rotations as arcs at
        50 mm; 0 for the first (Power et al. 2012, doi:10.1016/j.neuroimage.2011.10.018)."""
        arcs_mm = torch.deg2rad(self.rotation_deg) * HEAD_RADIUS_MM
        steps = torch.cat([arcs_mm, self.translation_mm], dim=1).diff(dim=0)
        return torch.cat([steps.new_zeros(1), steps.abs().sum(dim=1)])

    def metrics(self) -> dict[str, float]:
        """The whole series in a few numbers, for metrics.json."""
        displacement_mm = self.framewise_displacement_mm
        return {
            "framewise_displacement_mean_mm": float(displacement_mm[1:].mean()),
            "framewise_displacement_max_mm": float(displacement_mm.max()),
            "rotation_max_deg": float(self.rotation_deg.norm(dim=1).max()),
            "translation_max_mm": float(self.translation_mm.norm(dim=1).max()),
        }


@dataclass(frozen=True, eq=False)
class SeriesRegistration:
    """The outcome of registering the volumes of a series.

    Args:
        transforms: for each volume from points of the reference to points of the volume, world
            RAS+ mm, about the centre of the reference's grid.
        series: the volumes, still where they were.
        reference: the image that they are brought onto.
        interpolation: of the moved volumes.
        correlations: of each moved volume with the reference, in the reference's foreground.
        metrics: figures, settings, timings, versions; what metrics.json holds.
    """

    transforms: tuple[Rigid, ...]
    series: Volumes
    reference: Image
    interpolation: SeriesInterpolation
    correlations: tuple[float, ...]
    metrics: dict[str, Any]

    @cached_property
    def motion(self) -> Motion:
        """The motion of each volume."""
        return Motion.of(self.transforms)

    @property
    def moved(self) -> WarpedVolumes:
        """The volumes on the reference's grid, ``(1, 1, *shape)`` each, made one after another."""
        return WarpedVolumes(self.transforms, self.series, self.reference, self.interpolation)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write moved.nii.gz, transforms/0000.h5 ..., motion.csv and metrics.json, all or none.

        Returns:
            The files, and the folder of the transforms.

        Raises:
            InputError: the folder cannot be written, or the series cannot be read any more.
        """
        folder = make_folder(folder)
        moved, table, metrics = (folder / n for n in ("moved.nii.gz", "motion.csv", "metrics.json"))
        with results_folder(folder / "transforms") as inside, ExitStack() as files:
            part = {
                path: files.enter_context(atomic_write(path)) for path in (moved, table, metrics)
            }
            for number, transform in enumerate(self.transforms):
                write_transform(
                    files.enter_context(atomic_write(inside / _name(number))), transform
                )
            part[table].write_text(self._table(), encoding="utf8")
            part[metrics].write_text(json.dumps(self.metrics, indent=2) + "\n", encoding="utf8")
            self.moved.write(part[moved])
        kept = {_name(number) for number in range(len(self.transforms))}
        for old in inside.glob("[0-9][0-9][0-9][0-9]*.h5"):
            if old.name not in kept:  # of a longer series that was here before
                old.unlink()
        return [moved, inside, table, metrics]

    def _table(self) -> str:
        """motion.csv: a line for each volume."""
        axes = "xyz"[: self.reference.grid.ndim]
        turns = axes if len(axes) == 3 else "z"
        head = ["volume", *(f"rotation_{a}_deg" for a in turns)]
        head += [*(f"translation_{a}_mm" for a in axes), "framewise_displacement_mm", "correlation"]
        motion, correlations = self.motion, torch.tensor(self.correlations, dtype=torch.float64)
        columns = [motion.rotation_deg, motion.translation_mm]
        columns += [motion.framewise_displacement_mm[:, None], correlations[:, None]]
        rows = torch.cat(columns, dim=1).tolist()
        lines = [[str(n), *(f"{round(v, 6) + 0:.6f}" for v in row)] for n, row in enumerate(rows)]
        return "\n".join(",".join(line) for line in (head, *lines)) + "\n"


def _name(number: int) -> str:
    """The file of a volume's transform."""
    return f"{number:04d}.h5"
