"""Pairs of images in memory, written as the folders that `scripts.bench.pairs` reads."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from scripts.bench.paths import image_path
from stn3d import Transform, write_transform

Floats = NDArray[np.float64]
LUNGS = ("0004", "0006", "0007")  # people of shared/data/lung_mr


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image with its labels and landmarks.

    Args:
        values: intensities.
        affine: RAS+ mm from voxel indices.
        labels: a label map on the same grid; empty where there is none.
        points_mm: ``(N, 3)`` landmarks, RAS+ mm.
        parts_mm: parts of the landmarks that are reported by themselves, by name.
        mask: the region that is evaluated, of a fixed image; empty for the foreground.
    """

    values: NDArray[Any]
    affine: Floats
    labels: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    points_mm: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    parts_mm: Mapping[str, Floats] = field(default_factory=dict)
    mask: NDArray[Any] = field(default_factory=lambda: np.zeros(0))

    def write(self, folder: Path, role: str) -> None:
        """A float32 image and, where there are any, int16 labels and landmarks."""
        save(folder / f"{role}.nii.gz", self.values.astype(np.float32), self.affine)
        if self.labels.size:
            save(folder / f"{role}_labels.nii.gz", self.labels.astype(np.int16), self.affine)
        if self.mask.size and role == "fixed":
            save(folder / "fixed_mask.nii.gz", self.mask.astype(np.uint8), self.affine)
        if len(self.points_mm):
            write_points(folder / f"{role}_points.csv", self.points_mm)
        for part, points_mm in self.parts_mm.items():
            write_points(folder / f"{role}_points_{part}.csv", points_mm)


@dataclass(frozen=True, eq=False)
class Picture:
    """A photograph or a section, in colour or grey, with landmarks; its pixels are 1 mm.

    Args:
        path: the file.
        points_px: ``(N, 2)`` landmarks, columns and rows of pixels.
    """

    path: Path
    points_px: Floats

    def write(self, folder: Path, role: str) -> None:
        """A PNG file without a resolution, and the landmarks in RAS+ mm of it."""
        image = sitk.ReadImage(str(self.path))
        image.SetSpacing([1.0] * image.GetDimension())
        sitk.WriteImage(image, str(folder / f"{role}.png"))
        write_points(folder / f"{role}_points.csv", -self.points_px)


def empty_folder(path: Path) -> Path:
    """The folder itself, without what was in it."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def write_pair(
    folder: Path,
    split: str,
    fixed: LabelledImage | Picture,
    moving: LabelledImage | Picture,
    truth: Transform | None = None,
) -> None:
    """Write a pair: its images with their labels and landmarks, and the true transform."""
    folder.mkdir(parents=True)
    (folder / "split.txt").write_text(f"{split}\n", encoding="utf-8")
    for role, image in (("fixed", fixed), ("moving", moving)):
        image.write(folder, role)
    if truth is not None:
        write_transform(folder / "truth.h5", truth)


def write_points(path: Path, points_mm: Floats) -> None:
    """Write ``(N, d)`` points, RAS+ mm, as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(["xyz"[: points_mm.shape[1]], *points_mm.tolist()])


def save(path: Path, values: NDArray[Any], affine: Floats) -> None:
    """Write a NIfTI file in mm whose sform and qform are the same."""
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nib.save(image, path)


def load(name: str) -> tuple[NDArray[Any], Floats]:
    """Values and affine of an image of the shared data, see `image_path`.

    Raises:
        SystemExit: the file does not exist.
    """
    image: Any = nib.load(image_path(name))
    return np.asanyarray(image.dataobj), image.affine
