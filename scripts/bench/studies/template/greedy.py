"""The template of ANTs' scripts (Avants et al. 2010) with greedy as the registration.

All images are registered affinely to the first one, whose padded grid the template keeps; their
mean is the first template. In each iteration all images are registered to the template, affine and
deformable, with the settings of the study brains. The mean of the moved images, warped by minus a
quarter of the mean displacement, is the next template. Then all are registered to the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

import stn3d
from scripts.bench.baselines import convert_greedy, greedy, greedy_rigid
from stn3d.io import atomic_write
from stn3d.transforms import invert_fields

METRIC = "NCC 2x2x2"
STEP = 0.25  # of the mean displacement, as in ANTs
MARGIN_VOX = 10


def greedy_template(images: Sequence[Path], folder: Path, iterations: int, threads: int) -> Path:
    """Build a template, or continue to.

    Args:
        images: the images; names of the results are their names without extension.
        folder: folder of all results.
        iterations: number of updates after the affine mean.
        threads: number of CPU threads.

    Returns:
        The folder with ``NAME/transform.h5`` and ``NAME/inverse.h5`` of all images.
    """

    def affine(fixed: Path, moving: Path, out: Path) -> None:
        greedy_rigid(METRIC, fixed, moving, out, threads, parameters=12)

    def deformable(fixed: Path, moving: Path, out: Path) -> None:
        greedy(METRIC, fixed, moving, out, threads)

    start = folder / "start.nii.gz"
    if not start.exists():
        folder.mkdir(parents=True, exist_ok=True)
        first = sitk.ReadImage(str(images[0]), sitk.sitkFloat32)
        _write(sitk.ConstantPad(first, [MARGIN_VOX] * 3, [MARGIN_VOX] * 3), start)
    found = _registered(images, start, folder / "affine", affine)
    for number in range(iterations + 1):
        template = folder / f"template_{number}.nii.gz"
        if not template.exists():
            _write(_mean(found), template)
        found = _registered(images, template, folder / f"registrations_{number}", deformable)
    for out in found:
        _convert(out)
    return found[0].parent


def _registered(
    images: Sequence[Path], fixed: Path, folder: Path, register: Callable[[Path, Path, Path], None]
) -> list[Path]:
    """The folders of the registrations of all images; finished ones are kept."""
    found = []
    for image in images:
        out = folder / image.name.partition(".")[0]
        if not (out / "done").exists():
            out.mkdir(parents=True, exist_ok=True)
            register(fixed, image, out)
            (out / "done").touch()
        found.append(out)
    return found


def _mean(folders: Sequence[Path]) -> sitk.Image:
    """The mean of moved images of equal brightness, moved towards their mean shape."""
    moved = [sitk.ReadImage(str(out / "moved.nii.gz"), sitk.sitkFloat32) for out in folders]
    values = [sitk.GetArrayViewFromImage(one) for one in moved]
    bright = np.stack([100 * one / one[one > 0].mean() for one in values])
    image = sitk.GetImageFromArray(bright.mean(axis=0, dtype=np.float32))
    image.CopyInformation(moved[0])
    if not (folders[0] / "warp.nii.gz").exists():
        return image
    warps = [sitk.ReadImage(str(out / "warp.nii.gz"), sitk.sitkVectorFloat64) for out in folders]
    vectors = np.stack([sitk.GetArrayViewFromImage(one) for one in warps])
    shift = sitk.GetImageFromArray(-STEP * vectors.mean(axis=0), isVector=True)
    shift.CopyInformation(warps[0])
    return sitk.Resample(image, sitk.DisplacementFieldTransform(shift))


def _convert(out: Path) -> None:
    """Write transform.h5 and inverse.h5 of a registration."""
    if not (out / "inverse.h5").exists():
        sitk.WriteTransform(convert_greedy(out, out), str(out / "transform.h5"))
        inverse, _ = invert_fields(stn3d.read_transform(out / "transform.h5"))
        stn3d.write_transform(out / "inverse.h5", inverse)


def _write(image: sitk.Image, path: Path) -> None:
    with atomic_write(path) as part:
        sitk.WriteImage(image, str(part))
