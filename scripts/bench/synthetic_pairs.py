"""Synthetic pairs of any size, written by a process of its own: ``synthetic_pairs 64x64x64
FOLDER``.

The study starts it for each size, so that the arrays do not stay in the memory of the study's own
process while a registration estimates how much memory is free.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def make_pair(shape: tuple[int, ...], folder: Path) -> None:
    """Write fixed.nii.gz and moving.nii.gz."""
    for seed, role in enumerate(("fixed", "moving"), start=1):
        voxels = np.empty(shape, np.int16)
        noise = np.random.default_rng(seed)
        for plane in range(shape[0]):
            values = _plane(shape, plane, deformed=role == "moving")
            values += noise.normal(0, 10, values.shape)
            voxels[plane] = values
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / f"{role}.nii.gz")


def _plane(shape: tuple[int, ...], plane: int, deformed: bool) -> NDArray[np.float64]:
    """One plane of blobs of about 10 voxels, from random numbers; dark at the faces."""
    lattice = np.random.default_rng(0).normal(1000, 200, [n // 10 + 6 for n in shape])
    axes = [np.array([plane]), np.arange(shape[1]), np.arange(shape[2])]
    index = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float64)
    if deformed:
        waves = [np.sin(index[(axis + 1) % 3] / 25) for axis in range(3)]
        index += 2 + 1.5 * np.stack(waves)
    values = ndimage.map_coordinates(lattice, index.reshape(3, -1) / 10 + 2, order=1)
    sides = [np.minimum(i, n - 1 - i) for i, n in zip(index, shape, strict=True)]
    fade = np.prod([(side / 8 - 0.5).clip(0, 1) for side in sides], axis=0)
    plane_values: NDArray[np.float64] = values.reshape(shape[1:]) * fade[0]
    return plane_values


if __name__ == "__main__":
    make_pair(tuple(int(n) for n in sys.argv[1].split("x")), Path(sys.argv[2]))
