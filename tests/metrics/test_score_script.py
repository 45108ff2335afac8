"""Every metric equals that of ../shared/bench/score.py, which reads files with SimpleITK alone."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from stn3d.grid import Grid, homogeneous
from stn3d.metrics import (
    dice,
    inverse_consistency_error_mm,
    jacobian_metrics,
    select_labels,
    surface_distances,
    tre_mm,
    true_error_mm,
)
from stn3d.transforms import Affine, DisplacementField, Transform, rotation_matrix
from stn3d.warp import warp_image, warp_labels
from tests.helpers.paths import SHARED

RNG_SEED = 7
SCORE = SHARED / "bench" / "score.py"


def lps(ndim: int) -> NDArray[Any]:
    return np.diag([-1.0, -1.0, 1.0][:ndim])


def itk_image(values: Tensor | NDArray[Any], grid: Grid, vectors: bool = False) -> sitk.Image:
    """A SimpleITK image of an array ``(i, j, k[, vector])`` on a RAS grid."""
    order = [2, 1, 0, 3] if vectors else [2, 1, 0]
    image = sitk.GetImageFromArray(np.asarray(values).transpose(order), isVector=vectors)
    matrix, spacing = lps(3) @ grid.world_from_index[:3].numpy(), np.array(grid.spacing_mm)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:, 3].tolist())
    return image


def itk_transform(transform: Transform) -> sitk.Transform:
    if isinstance(transform, DisplacementField):
        vectors = transform.displacement_mm[0].movedim(0, -1).numpy() @ lps(3)
        return sitk.DisplacementFieldTransform(itk_image(vectors, transform.grid, vectors=True))
    assert isinstance(transform, Affine)
    matrix = transform.matrix.numpy()
    linear, shift = lps(3) @ matrix[:3, :3] @ lps(3), lps(3) @ matrix[:3, 3]
    return sitk.AffineTransform(linear.ravel().tolist(), shift.tolist())


def smooth_field(grid: Grid, size_mm: float) -> DisplacementField:
    """Waves of about a third of the grid's length; large ones fold."""
    unit = (grid.points_index() + 0.5) / torch.tensor(grid.shape)
    p = 2 * math.pi * (unit @ torch.tensor([[2.5, 1, 0], [0, 2, 1], [1, 0, 2.2]]).double())
    u = size_mm * torch.sin(p + torch.tensor([0.3, 1.1, 2.0])).movedim(-1, 0)
    return DisplacementField(u[None], grid)


def run_score(folder: Path, files: dict[str, Any]) -> dict[str, Any]:
    """Writes the files and runs score.py on them."""
    command = [sys.executable, "-W", "ignore", str(SCORE)]
    for name, value in files.items():
        path = folder / f"{name}.nrrd"
        if isinstance(value, sitk.Transform):
            path = path.with_suffix(".h5")
            sitk.WriteTransform(value, str(path))
        elif isinstance(value, sitk.Image):
            sitk.WriteImage(value, str(path))
        else:
            path = path.with_suffix(".csv")
            with path.open("w", newline="") as handle:
                csv.writer(handle).writerows([["x", "y", "z"], *value.tolist()])
        command += [f"--{name}", str(path)]
    result = subprocess.run(command, capture_output=True, encoding="utf8", check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    scores: dict[str, Any] = json.loads(result.stdout)
    return scores


def check_against_score(
    folder: Path,
    fixed: tuple[NDArray[Any], NDArray[Any], Grid],
    moving: tuple[NDArray[Any], NDArray[Any], Grid],
    transform: Transform,
    inverse: Transform,
    truth: Transform,
) -> dict[str, Any]:
    """Every metric of score.py, computed from files, equals ours, computed in memory."""
    (fixed_image, fixed_labels, grid), (moving_image, moving_labels, moving_grid) = fixed, moving
    rng = np.random.default_rng(RNG_SEED)
    low, high = grid.points_mm().reshape(-1, 3)[[0, -1]].numpy()
    fixed_points = low + (high - low) * rng.uniform(0.3, 0.7, (20, 3))
    moving_points = fixed_points + rng.normal(size=(20, 3))
    scores = run_score(
        folder,
        {
            "fixed": itk_image(fixed_image, grid),
            "moving": itk_image(moving_image, moving_grid),
            "fixed-labels": itk_image(fixed_labels, grid),
            "moving-labels": itk_image(moving_labels, moving_grid),
            "transform": itk_transform(transform),
            "inverse": itk_transform(inverse),
            "true-transform": itk_transform(truth),
            "fixed-points": fixed_points,
            "moving-points": moving_points,
            "moved": itk_image(
                warp_image(
                    torch.from_numpy(moving_image)[None, None], moving_grid, transform, grid
                )[0, 0],
                grid,
            ),
        },
    )
    moved = warp_labels(torch.from_numpy(moving_labels)[None, None], moving_grid, transform, grid)
    labels = select_labels(fixed_labels, moving_labels).labels
    overlaps = dice(fixed_labels, moved, labels)
    found = surface_distances(fixed_labels, moved, grid, labels)
    distances = np.array([one.hd95_mm for one in found.values()])
    jacobians = jacobian_metrics(transform, grid, fixed_labels)
    assert len(labels) == scores["num_labels"]
    assert np.isnan(distances).sum() == scores["labels_lost"]
    assert np.mean(list(overlaps.values())) == pytest.approx(scores["dice"], abs=1e-6)
    assert np.nanmean(distances) == pytest.approx(scores["hd95_mm"], abs=1e-6)
    assert jacobians["folding_pct"] == pytest.approx(scores["folding_pct"], abs=1e-6)
    assert jacobians["log_jacobian_sd"] == pytest.approx(scores["sd_log_jac"], abs=1e-6)
    tre = tre_mm(transform, fixed_points, moving_points)
    assert {key: tre[key] for key in scores["tre_mm"]} == pytest.approx(scores["tre_mm"], abs=1e-6)
    errors = true_error_mm(transform, truth, grid, fixed_labels)
    assert {k: errors[k] for k in ("mean", "p95")} == pytest.approx(scores["error_mm"], abs=1e-6)
    inner = ndimage.binary_erosion(fixed_labels > 0, iterations=2)
    assert 100 < inner.sum() < 20_000  # score.py draws no more points than that
    errors = inverse_consistency_error_mm(
        transform, inverse, grid.points_mm()[torch.from_numpy(inner)]
    )
    assert {k: errors[k] for k in ("mean", "p95")} == pytest.approx(scores["inverse_mm"], abs=1e-6)
    assert scores["moved_rms"] < 1e-5
    return scores


needs_score = pytest.mark.skipif(not SCORE.exists(), reason=f"needs {SCORE}")


def blocks(grid: Grid, seed: int) -> tuple[NDArray[Any], NDArray[Any], Grid]:
    """An image and labels of random blocks with a margin of background."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.random(grid.shape), 2).astype(np.float32)
    labels = np.kron(rng.integers(1, 5, (4, 4, 4)), np.ones((7, 7, 7), int)).astype(np.int32)
    labels = np.pad(labels, 4)[tuple(slice(n) for n in grid.shape)]
    labels[14:16, 14:16, 14:16] = 9  # too small to be scored
    return image, labels, grid


@needs_score
@pytest.mark.parametrize("kind", ["affine", "field", "folding"])
def test_every_metric_equals_that_of_score_py(kind: str, tmp_path: Path) -> None:
    rotation = rotation_matrix(torch.tensor([0.2, -0.1, 0.4]).double())
    fixed_linear = rotation * torch.tensor([-1.0, 1.5, 1.25])
    origin = torch.tensor([20.0, -30.0, 11.0]).double()
    grid = Grid((34, 33, 32), homogeneous(fixed_linear, origin))
    moving_grid = Grid((36, 35, 34), homogeneous(fixed_linear * 0.97, origin + 1.1))
    affine = Affine(
        torch.cat([(torch.eye(3) + 0.1 * rotation).flatten().double(), torch.ones(3).double()]),
        grid.centre_mm,
    )
    field = smooth_field(grid, 4.0 if kind == "folding" else 0.8)
    transform, truth = (affine, field) if kind == "affine" else (field, affine)
    scores = check_against_score(
        tmp_path,
        blocks(grid, 1),
        blocks(moving_grid, 2),
        transform,
        affine.inverse() if kind == "affine" else DisplacementField(-field.displacement_mm, grid),
        truth,
    )
    assert (scores["folding_pct"] > 1) == (kind == "folding")
    assert scores["sd_log_jac"] > 0.05 or kind == "affine"


@needs_score
@pytest.mark.skipif(not (SHARED / "data/brains").exists(), reason="needs ../shared/data/brains")
def test_metrics_of_two_brains_equal_those_of_score_py(tmp_path: Path) -> None:
    def part(person: str) -> tuple[NDArray[Any], NDArray[Any], Grid]:
        image = nib.load(SHARED / f"data/brains/{person}_t1.nii.gz")
        labels = nib.load(SHARED / f"data/brains/{person}_labels.nii.gz")
        start = np.array(image.shape) // 2 - 12
        box = tuple(slice(k, k + 24) for k in start)
        world_from_index = torch.eye(4, dtype=torch.float64)
        world_from_index[0, 0] = -1
        values = np.asarray(image.dataobj)[box].astype(np.float32)
        return (
            values,
            np.asarray(labels.dataobj)[box].astype(np.int32),
            Grid((24,) * 3, world_from_index),
        )

    fixed, moving = part("1000"), part("1001")
    field = smooth_field(fixed[2], 1.5)
    back = DisplacementField(-field.displacement_mm, fixed[2])
    truth = Affine.identity(3, fixed[2].centre_mm)
    scores = check_against_score(tmp_path, fixed, moving, field, back, truth)
    assert scores["num_labels"] > 5
    assert 0 < scores["dice"] < 1
