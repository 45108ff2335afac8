"""Small images, a table of pairs, and a request that takes a tenth of a second."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stn3d.cohort import CohortPair, CohortRequest, read_cohort

QUICK = {"kind": "rigid", "preset": "fast", "threads": 1, "init": "header"}


def write_image(path: Path, seed: int, shift: int = 0) -> Path:
    """A 2D image of blobs; those of one seed differ by a shift."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = gaussian_filter(np.random.default_rng(seed).standard_normal((36, 32)), 3)
    values = np.roll(values, shift, 0) - values.min()
    nib.Nifti1Image(values.astype(np.float32)[..., None], np.diag([4.0, 4, 4, 1])).to_filename(path)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three pairs of one fixed image."""
    folder = tmp_path / "data"
    for number in range(4):
        write_image(folder / f"im{number}.nii.gz", 0, number)
    rows = [f"p{n},im0.nii.gz,im{n}.nii.gz" for n in (1, 2, 3)]
    (folder / "pairs.csv").write_text("\n".join(["name,fixed,moving", *rows]) + "\n")
    return folder / "pairs.csv"


@pytest.fixture
def pairs(table: Path) -> list[CohortPair]:
    return read_cohort(table)


@pytest.fixture
def request_() -> CohortRequest:
    return CohortRequest.of(QUICK)
