"""Pairs of one person's contrasts with thick slices and noise, whose true transform is known."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.bench.images import foreground_points_mm
from scripts.bench.known_truth import make_known
from scripts.bench.paths import contrast_path
from scripts.bench.store import Row
from scripts.bench.thick_slices import CONTENT, Profile, Slices, acquired, bright
from scripts.bench.written_pairs import Floats, save
from stn3d.io import read_transform

Role = Literal["moving", "fixed", "both"]
AXES = "xyz"
OWN_MM = 1.0  # spacing of the contrasts
_MARGIN_MM = 10.0  # of a field of view around the content
PD = "pd"  # made of the T1 and the T2
_PD_POWERS = {"t1": 0.25, "t2": 0.75}  # grey matter 1.13 times as bright as white, fluid between


@dataclass(frozen=True)
class Case:
    """One pair.

    Args:
        role: the image, or images, with thick slices. The T1 is the fixed image unless that is the
            one with slices.
        contrast: of the other image, ``t2``, ``flair`` or ``pd``.
        thickness_mm: thickness of the slices.
        axis: ``x``, ``y`` or ``z``, the axis of the image's grid across the slices; where both
            images have slices, the T1's lie across the next one.
        noise_pct: standard deviation of the noise, % of the bright intensities.
        profile: slice profile.
        seed: of the truth and of the noise.
        voxel_mm: spacing within the slices and of the image without slices. Above that of the
            contrasts, 1 mm, both images are also cut to a field of view around their content.
    """

    role: Role
    contrast: str
    thickness_mm: float
    axis: str
    noise_pct: float
    profile: Profile
    seed: int
    voxel_mm: float = OWN_MM

    def axis_of(self, image: str) -> int | None:
        """The axis across the slices of the ``fixed`` or the ``moving`` image; None without."""
        axis = AXES.index(self.axis)
        if self.role == "both":
            return (axis + 1) % 3 if image == "fixed" else axis
        return axis if self.role == image else None


def make_pair(case: Case, work: Path, folder: Path) -> Path:
    """Write fixed.nii.gz, moving.nii.gz and a link to truth.h5 (fixed points to moving points).

    Args:
        case: the pair.
        work: folder of the deformed contrasts, which are made once and kept.
        folder: folder of the pair, which is created.
    """
    names = ("t1", case.contrast) if case.role != "fixed" else (case.contrast, "t1")
    sharp, other = (sharp_path(name, work) for name in names)
    options = ("--noise", "0", "--other-contrast", str(other))
    made = work / "whole" / f"{names[1]}-{case.seed}"
    whole = make_known(contrast_path("t1"), case.seed, made, options)
    folder.mkdir(parents=True)
    for number, (role, path) in enumerate((("fixed", sharp), ("moving", whole / "moving.nii.gz"))):
        values: NDArray[Any]
        values, affine = _read(path)
        values = np.clip(values, 0, None)  # ANTs begins from centres of mass, which these displace
        across = case.axis_of(role)
        if case.voxel_mm > OWN_MM:
            values, affine = sampled(*field_of_view(values, affine), case, across)
        if across is not None:
            slices = Slices(case.thickness_mm, across, case.profile, case.noise_pct / 100)
            values, affine = acquired(values, affine, slices, 2 * case.seed + number)
        save(folder / f"{role}.nii.gz", values.astype(np.float32), affine)
    os.symlink(os.path.abspath(whole / "truth.h5"), folder / "truth.h5")
    return folder


def field_of_view(values: NDArray[Any], affine: Floats) -> tuple[NDArray[Any], Floats]:
    """The content of an image with 1 mm voxels with a margin, as far as the image goes.

    Args:
        values: 3D image.
        affine: RAS+ mm from voxel indices.

    Returns:
        The part and its affine.
    """
    shown = np.argwhere(values > CONTENT * bright(values))
    margin = round(_MARGIN_MM / OWN_MM)
    start, stop = np.maximum(shown.min(0) - margin, 0), shown.max(0) + margin + 1
    part = values[tuple(map(slice, start, stop))]
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    return part, affine


def sampled(
    values: NDArray[Any], affine: Floats, case: Case, across: int | None
) -> tuple[NDArray[Any], Floats]:
    """An image in voxels of the case, but for the axis across its slices.

    Args:
        values: 3D image.
        affine: RAS+ mm from voxel indices.
        case: the pair.
        across: the axis across the slices; None without.

    Returns:
        The image and its affine.
    """
    for axis in {0, 1, 2} - {across}:
        values, affine = acquired(values, affine, Slices(case.voxel_mm, axis, case.profile), 0)
    return values, affine


def errors_mm(transform: Path, truth: Path) -> Row:
    """Distances of two transforms over the brain of the sharp T1: mean and 95th percentile.

    Args:
        transform: the one that was found, an ITK file.
        truth: the true one.
    """
    points = foreground_points_mm(contrast_path("t1"))
    found, true = (read_transform(path).forward(points) for path in (transform, truth))
    distances = (found - true).norm(dim=-1)
    error, p95 = float(distances.mean()), float(distances.quantile(0.95))
    return {"true_error_mm": round(error, 4), "true_error_p95_mm": round(p95, 4)}


def sharp_path(contrast: str, work: Path) -> Path:
    """The file of a contrast before it has slices; the PD-like one is made once."""
    if contrast != PD:
        return contrast_path(contrast)
    path = work / "pd.nii.gz"
    if not path.is_file():
        product: Any = 1000.0
        for name, power in _PD_POWERS.items():
            values, affine = _read(contrast_path(name))
            product = product * _from_zero_to_bright(values) ** power
        work.mkdir(parents=True, exist_ok=True)
        save(path, product.astype(np.float32), affine)
    return path


def _from_zero_to_bright(values: Floats) -> Floats:
    """Intensities without negative ones, divided by the bright ones."""
    positive = np.clip(values, 0, None)
    return positive / float(np.percentile(positive[positive > 0], 99.5))


def _read(path: Path) -> tuple[Floats, Floats]:
    image: Any = nib.load(path)
    return np.asarray(image.dataobj, dtype=float), image.affine
