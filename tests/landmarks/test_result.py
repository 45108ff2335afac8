"""Files of a landmark registration, and landmarks outside the image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d import InputError, register_landmarks
from stn3d.cli import main
from stn3d.grid import apply_matrix
from stn3d.io import GeometryWarning, read_image
from tests.helpers import sitk_reference
from tests.helpers.geometry_cases import uniform
from tests.helpers.landmark_cases import (
    GRIDS,
    KINDS,
    make_landmark_files,
    noisy,
    placed,
    some_points,
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", GRIDS)
def test_simpleitk_reads_the_transforms(name: str, kind: str, tmp_path: Path) -> None:
    grid, out = GRIDS[name](), tmp_path / "out"
    command = ["landmarks", *make_landmark_files(tmp_path, grid), "--kind", kind, "--out", str(out)]
    assert main([*command, "--like", str(tmp_path / "fixed.nii.gz")]) == 0
    assert {path.name for path in out.iterdir()} == {"transform.h5", "inverse.h5", "metrics.json"}
    there, back = (sitk.ReadTransform(str(out / f"{n}.h5")) for n in ("transform", "inverse"))
    fixed, moving = placed(grid)
    exact = register_landmarks(fixed, moving, kind).transform  # type: ignore[arg-type]
    unit = uniform(0, 1, 200, grid.ndim, seed=7)
    unit[:50] = unit[:50].round()  # corners of the domain, which the image's faces share
    unit[50:100, 0] = unit[50:100, 0].round()
    points = apply_matrix(grid.world_from_unit, unit)
    moved = sitk_reference.mapped(there, points)
    tolerance_mm = 0.05 if kind == "tps" else 1e-5
    assert float((moved - exact(points)).norm(dim=-1).mean()) < tolerance_mm
    assert float((moved - exact(points)).norm(dim=-1).max()) < 10 * tolerance_mm
    assert (
        float((sitk_reference.mapped(back, moved) - points).norm(dim=-1).max()) < 10 * tolerance_mm
    )
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    gap = (sitk_reference.mapped(there, fixed) - moving).norm(dim=-1)
    errors = [one["residual_mm"] for one in metrics["landmarks"]]
    np.testing.assert_allclose(errors, gap, atol=1e-3)
    assert metrics["residual_mm"]["max"] == pytest.approx(max(errors))
    assert metrics["landmark_count"] == 9
    assert ("displacement_field" in metrics) == (kind == "tps")


def test_equal_landmarks_give_equal_bytes(tmp_path: Path) -> None:
    files = [
        *make_landmark_files(tmp_path, GRIDS["LAS"]()),
        "--like",
        str(tmp_path / "fixed.nii.gz"),
    ]
    for kind in ("rigid", "tps"):
        outs = [tmp_path / kind / name for name in ("a", "b")]
        for out in outs:
            assert main(["landmarks", *files, "--kind", kind, "--out", str(out)]) == 0
        for name in ("transform.h5", "inverse.h5", "metrics.json"):
            assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name


def test_landmarks_outside_the_image_give_a_warning() -> None:
    grid = GRIDS["LAS"]()
    fixed, moving = placed(grid)
    image = read_image((uniform(0, 1, 1, 1, *grid.shape).float(), grid))
    moved = fixed.clone()
    moved[2] = grid.centre_mm + torch.tensor([0.0, 0, 60])
    with pytest.warns(GeometryWarning, match=r"landmarks outside .*: 3;"):
        register_landmarks(moved, moving, "rigid").on_grid_of(image)
    flipped = fixed * torch.tensor([-1.0, -1, 1]) + 500
    with pytest.raises(InputError, match=r"no fixed landmark lies in .*from LPS"):
        register_landmarks(flipped, moving, "tps").on_grid_of(image)
    with pytest.raises(InputError, match="is 3D and the landmarks are 2D"):
        register_landmarks(*noisy(2), "tps").on_grid_of(image)


def test_linear_parameters_are_about_the_centroid() -> None:
    fixed, moving = some_points(3), some_points(3) + torch.tensor([1.0, 2, 3])
    found = register_landmarks(fixed, moving, "similarity").metrics["linear_parameters"]
    assert list(found["centre_mm"].values()) == pytest.approx(fixed.mean(dim=0).tolist())
    assert list(found["translation_mm"].values()) == pytest.approx([1, 2, 3])
    assert list(found["rotation_deg"].values()) == pytest.approx([0, 0, 0], abs=1e-5)
    assert list(found["scales"].values()) == pytest.approx([1, 1, 1])
    assert register_landmarks(fixed, moving, "tps").metrics["linear_parameters"] is None
