"""The moved image outside of the moving one, through `register` and `register_series`."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

import stn3d
from stn3d.errors import InputError
from stn3d.series.api import register_series
from tests.helpers.geometry_cases import DIMS


def ct(shift: int = 0) -> np.ndarray:
    """A body with contents in air, with noise, in a window of the scanner's field of view."""
    rng = np.random.default_rng(0)
    body = np.linalg.norm(np.indices((40,) * 3) - 19.5, axis=0) < 14
    inside = ndimage.gaussian_filter(rng.normal(size=body.shape), 2)
    hu = np.where(body, 40 + 150 * inside / inside.std(), -1000) + rng.normal(0, 3, body.shape)
    return hu[shift:, shift:, shift:]


def saved(path: Path, array: np.ndarray, origin: float = 0) -> Path:
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = origin
    nib.save(nib.Nifti1Image(array.astype(np.int16), affine), path)
    return path


@pytest.mark.parametrize(
    ("fill", "expected", "told"), [(None, -1000, -1000), (7, 7, 7), ("nan", np.nan, None)]
)
def test_a_ct_is_filled_with_its_air(
    tmp_path: Path, fill: float | str | None, expected: float, told: float | None
) -> None:
    fixed = saved(tmp_path / "f.nii", ct())
    moving = saved(tmp_path / "m.nii", ct(6), 18)
    found = stn3d.register(fixed, moving, kind="rigid", preset="fast", threads=1, fill=fill)
    corner = found.moved.values[0, 0, :3, :3, :3].numpy()
    np.testing.assert_allclose(corner, expected, atol=1)
    assert float(found.moved.values[0, 0, 20, 20, 20]) > -500
    assert found.metrics["outside_value"] == (told if told is None else pytest.approx(told, abs=1))
    assert found.metrics["settings"]["fill"] == {None: "auto", 7: "7.0"}.get(fill, fill)
    json.dumps(found.metrics, allow_nan=False)


def test_the_fill_does_not_change_the_metrics(tmp_path: Path) -> None:
    fixed = saved(tmp_path / "f.nii", ct())
    moving = saved(tmp_path / "m.nii", ct(6), 18)
    found = [
        stn3d.register(fixed, moving, kind="rigid", preset="fast", threads=1, fill=fill)
        for fill in (0, "auto")
    ]
    assert found[0].metrics["after"] == found[1].metrics["after"]


def test_other_fills_are_refused() -> None:
    image = (torch.rand(8, 8, 8), stn3d.Grid.of_spacing((8, 8, 8)))
    with pytest.raises(InputError, match="the fill 'air' is unknown"):
        stn3d.register(image, image, fill="air")


@pytest.mark.parametrize("ndim", DIMS)
def test_a_series_is_filled_too(tmp_path: Path, ndim: int) -> None:
    array = ct()[:, :, 18:19] if ndim == 2 else ct()[5:35, 5:35, 5:35]
    path = saved(tmp_path / "s.nii", np.stack([array, np.roll(array, 4, 0)], -1))
    found = register_series(path, reference_volume=0, threads=1)
    assert found.metrics["outside_value"] == pytest.approx(-1000, abs=1)
    second = list(found.moved)[1]
    assert float(second[0, 0, -1].median()) == pytest.approx(-1000, abs=1)
    found = register_series(path, reference_volume=0, threads=1, fill=5)
    assert float(list(found.moved)[1][0, 0, -1].median()) == 5
