"""Pairs of images in memory, written as the folders that `scripts.bench.pairs` reads."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.bench.paths import image_path

Floats = NDArray[np.float64]
LUNGS = ("0004", "0006", "0007")  # people of shared/data/lung_mr


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image with its labels and landmarks.

    Args:
        values: intensities.
        affine: RAS+ mm from voxel indices.
        labels: a label map on the same grid.
        points_mm: ``(N, 3)`` landmarks, RAS+ mm.
    """

    values: NDArray[Any]
    affine: Floats
    labels: NDArray[Any]
    points_mm: Floats = field(default_factory=lambda: np.zeros((0, 3)))


def empty_folder(path: Path) -> Path:
    """The folder itself, without what was in it."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def write_pair(folder: Path, split: str, fixed: LabelledImage, moving: LabelledImage) -> None:
    """Write a pair: float32 images, int16 labels and, where there are any, landmarks."""
    folder.mkdir(parents=True)
    (folder / "split.txt").write_text(f"{split}\n", encoding="utf-8")
    for role, image in (("fixed", fixed), ("moving", moving)):
        save(folder / f"{role}.nii.gz", image.values.astype(np.float32), image.affine)
        save(folder / f"{role}_labels.nii.gz", image.labels.astype(np.int16), image.affine)
        if len(image.points_mm):
            with (folder / f"{role}_points.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("x", "y", "z"), *image.points_mm.tolist()])


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
