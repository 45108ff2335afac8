"""Small image files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (7, 6, 5)


AFFINE = np.array([[-2.0, 0, 0, 11], [0, 1.5, 0, -7], [0, 0, 3, 5], [0, 0, 0, 1]])


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape or SHAPE).astype(np.int16)


def nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.Nifti1Image(array, affine, dtype=array.dtype).to_filename(path)
    return path
