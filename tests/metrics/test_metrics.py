"""Metrics: analytic cases, SimpleITK as another judge, and ../shared/bench/score.py itself."""

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
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, homogeneous
from stn3d.losses import lncc, mse, ncc
from stn3d.metrics import (
    dice,
    error_mm,
    hd95_mm,
    image_figures,
    inverse_error_mm,
    jacobian_figures,
    scored_labels,
    tre_mm,
)
from stn3d.transforms import Affine, DisplacementField, Transform, rotation_matrix
from stn3d.warp import warp_image, warp_labels
from tests.helpers.paths import SHARED

SCORE = SHARED / "bench" / "score.py"
RNG_SEED = 7

# -- dice and labels ------------------------------------------------------------------------------


def test_dice_of_shifted_blocks_is_known() -> None:
    fixed, moved = np.zeros((10, 10), np.int16), torch.zeros(10, 10, dtype=torch.uint8)
    fixed[2:6, 2:6], moved[3:7, 2:6] = 5, 5
    fixed[8, :], moved[0, :] = 9, 12
    assert dice(fixed, moved) == {5: 2 * 12 / 32, 9: 0.0, 12: 0.0}
    chosen = dice(fixed, moved, [12, 5, 77])
    assert list(chosen) == [12, 5, 77]
    assert math.isnan(chosen[77])


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 1000),
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=3),
    factor=st.sampled_from([1, 37, 4_000_000]),
)
def test_dice_is_symmetric_and_one_for_equal_maps(seed: int, shape: list[int], factor: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, (2, *shape)) * factor
    assert dice(a, b) == dice(b, a)
    assert all(value == 1 for value in dice(a, a).values())
    assert set(dice(a, b)) == (set(np.unique(a).tolist()) | set(np.unique(b).tolist())) - {0}
    by_hand = {
        v: 2 * ((a == v) & (b == v)).sum() / ((a == v).sum() + (b == v).sum()) for v in a.ravel()
    }
    assert all(dice(a, b, [v])[v] == pytest.approx(by_hand[v]) for v in by_hand)


@pytest.mark.parametrize("d", [2, 3])
def test_dice_is_simpleitks(d: int) -> None:
    rng = np.random.default_rng(RNG_SEED)
    a, b = rng.integers(0, 7, (2, *(9, 8, 7)[:d])).astype(np.int32)
    judge = sitk.LabelOverlapMeasuresImageFilter()
    judge.Execute(sitk.GetImageFromArray(a), sitk.GetImageFromArray(b))
    assert dice(a, b) == pytest.approx({i: judge.GetDiceCoefficient(i) for i in range(1, 7)})


def test_scored_labels_are_those_large_enough_in_both_maps() -> None:
    fixed, moving = np.zeros((20, 20), int), np.zeros((30, 11), float)
    fixed[:10, :10], fixed[10:, :9], fixed[0, 10:13] = 3, 8, 2
    moving[:10, :10], moving[10:20, :10], moving[20:30, :10] = 3, 8, 2
    assert scored_labels(fixed, moving) == [3]
    assert scored_labels(fixed, moving, min_voxels=90) == [3, 8]
    assert scored_labels(fixed * 10**8, moving * 10**8, min_voxels=3) == [
        2 * 10**8,
        3 * 10**8,
        8 * 10**8,
    ]


@pytest.mark.parametrize(
    ("labels", "match"), [([0.5, 1], "fractions"), ([math.nan, 1], "NaN"), ([-1, 2], "negative")]
)
def test_labels_that_are_none_are_refused(labels: list[float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        dice(np.array(labels), np.array([0, 1]))


def test_arrays_that_do_not_fit_are_refused() -> None:
    grid, identity = Grid.of_spacing((4, 5)), Affine.identity(2)
    with pytest.raises(InputError, match="shapes"):
        dice(np.zeros((4, 5), int), np.zeros((5, 4), int))
    with pytest.raises(InputError, match="does not fit the grid"):
        hd95_mm(np.zeros((5, 4), int), np.zeros((5, 4), int), grid, [1])
    with pytest.raises(InputError, match="does not fit the grid"):
        jacobian_figures(identity, grid, np.ones((5, 4)))
    with pytest.raises(InputError, match="landmarks"):
        tre_mm(identity, np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(InputError, match="takes points"):
        inverse_error_mm(identity, identity, np.zeros((3, 3)))


# -- surfaces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5)])
def test_hd95_of_a_shifted_square_is_the_shift(spacing: tuple[float, float]) -> None:
    fixed, moved = np.zeros((1, 1, 40, 40), int), np.zeros((40, 40), int)
    fixed[0, 0, 10:20, 5:30], moved[13:23, 5:30] = 4, 4
    fixed[0, 0, 0, 0], moved[39, 39] = 6, 7
    found = hd95_mm(fixed, moved, Grid.of_spacing((40, 40), spacing), [4, 6, 7, 0])
    assert found[4] == pytest.approx(3 * spacing[0])
    assert all(math.isnan(found[label]) for label in (6, 7, 0))
    single = hd95_mm(moved, np.roll(moved, -9, 1), Grid.of_spacing((40, 40), spacing), [7])
    assert single[7] == pytest.approx(9 * spacing[1])


@pytest.mark.parametrize("d", [2, 3])
def test_hd95_is_that_of_distance_transforms_also_at_the_faces(d: int) -> None:
    shape, spacing = (13, 11, 9)[:d], (1.0, 0.6, 2.0)[:d]
    rng = np.random.default_rng(RNG_SEED)
    maps = [ndimage.zoom(rng.integers(0, 4, (5,) * d), np.array(shape) / 5, order=0) for _ in "ab"]
    found = hd95_mm(*maps, Grid.of_spacing(shape, spacing), [1, 2, 3])
    for label in (1, 2, 3):
        a, b = ((m == label) & ~ndimage.binary_erosion(m == label) for m in maps)
        to_a, to_b = (ndimage.distance_transform_edt(~x, spacing) for x in (a, b))
        directed = np.percentile(to_b[a], 95), np.percentile(to_a[b], 95)
        assert found[label] == pytest.approx(max(directed))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("d", [2, 3])
def test_hd95_is_monais(d: int) -> None:
    """Labels touch the faces of the image and differ in size, so the two directions differ."""
    monai = pytest.importorskip("monai.metrics")
    shape, spacing = (26, 22, 18)[:d], (1.0, 0.6, 2.0)[:d]
    rng = np.random.default_rng(RNG_SEED)
    a, b = (ndimage.zoom(rng.integers(0, 4, (5,) * d), np.array(shape) / 5, order=0) for _ in "ab")
    b[(slice(0, 9),) * d] = 0
    one_hot = [torch.stack([torch.from_numpy(m == k) for k in range(4)])[None] for m in (a, b)]
    theirs = monai.compute_hausdorff_distance(*one_hot, percentile=95, spacing=list(spacing))[0]
    found = hd95_mm(a, b, Grid.of_spacing(shape, spacing), [1, 2, 3])
    assert list(found.values()) == pytest.approx(theirs.tolist(), abs=1e-5)


def test_hd95_is_the_larger_directed_percentile() -> None:
    """A small square in a large one: from the small one all is near, from the large one far."""
    large, small = np.zeros((40, 40), int), np.zeros((40, 40), int)
    large[5:35, 5:35], small[5:9, 5:9] = 1, 1
    found = hd95_mm(large, small, Grid.of_spacing((40, 40)), [1])[1]
    a, b = (m.astype(bool) & ~ndimage.binary_erosion(m) for m in (large, small))
    from_large = ndimage.distance_transform_edt(~b)[a]
    from_small = ndimage.distance_transform_edt(~a)[b]
    assert found == pytest.approx(np.percentile(from_large, 95))
    assert found > np.percentile(np.r_[from_large, from_small], 95) > from_small.max()


def test_hd95_measures_along_the_world_and_not_along_sheared_axes() -> None:
    linear = torch.tensor([[1.0, 1.0], [0.0, 1.0]]).double()
    grid = Grid((8, 8), homogeneous(linear, torch.zeros(2).double()))
    fixed, moved = np.zeros((8, 8), int), np.zeros((8, 8), int)
    fixed[4, 2], moved[1, 5] = 1, 1  # index (-3, 3) is world (0, 3)
    assert hd95_mm(fixed, moved, grid, [1])[1] == pytest.approx(3)


# -- points and transforms ------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 3])
def test_point_errors_are_known(d: int) -> None:
    eye, zero = torch.eye(d).double().flatten(), torch.zeros(d).double()
    shift = Affine(torch.cat([eye, torch.tensor([3.0, 4.0, 0.0][:d]).double()]), zero)
    points = np.random.default_rng(RNG_SEED).normal(size=(50, d)) * 30
    points.setflags(write=False)
    assert tre_mm(Affine.identity(d), points, points) == {"mean": 0, "p95": 0, "max": 0}
    five = pytest.approx({"mean": 5, "p95": 5, "max": 5})
    assert tre_mm(shift, points, torch.from_numpy(points.copy())) == five
    assert inverse_error_mm(shift, Affine.identity(d), points) == five
    assert inverse_error_mm(shift, shift.inverse(), points)["max"] < 1e-9
    grid = Grid.of_spacing((6, 5, 4)[:d], 2.0)
    assert error_mm(Affine.identity(d), shift, grid) == five
    away = points + np.arange(50)[:, None] * np.eye(d)[0]
    gaps = {"mean": 24.5, "p95": np.percentile(np.arange(50), 95), "max": 49}
    assert tre_mm(Affine.identity(d), points, away) == pytest.approx(gaps)
    assert math.isnan(tre_mm(shift, points[:0], points[:0])["mean"])


def test_error_counts_only_the_mask() -> None:
    grid = Grid.of_spacing((6, 5))
    double = Affine(torch.tensor([2.0, 0, 0, 1, 0, 0]).double(), torch.zeros(2).double())
    mask = torch.zeros(6, 5, dtype=torch.bool)
    mask[2, :], mask[4, :] = True, True
    found = error_mm(double, Affine.identity(2), grid, mask)
    assert found == pytest.approx({"mean": 3, "p95": 4, "max": 4})
    assert math.isnan(error_mm(double, double, grid, torch.zeros(6, 5))["max"])


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("protocol", ["strict", "l2r"])
def test_jacobian_of_a_scaling_is_its_volume(d: int, protocol: Any) -> None:
    turn = rotation_matrix(torch.tensor([0.3, 0.2, -0.5][: 2 * d - 3]).double())
    grid = Grid(
        (9, 8, 7)[:d],
        homogeneous(turn * torch.tensor([1.0, 2.0, 0.7][:d]), -torch.ones(d).double()),
    )
    scaled = Affine(
        torch.cat([1.5 * turn.flatten(), torch.ones(d).double()]), torch.ones(d).double()
    )
    found = jacobian_figures(scaled, grid, protocol=protocol)
    expected = {"folding_pct": 0, "sd_log_jac": 0, "min_jac": 1.5**d, "max_jac": 1.5**d}
    assert found == pytest.approx(expected, abs=1e-4)
    parameters = torch.cat([torch.diag(torch.tensor([-1.0, 1, 1][:d])).flatten(), torch.zeros(d)])
    mirrored = Affine(parameters.double(), torch.zeros(d).double())
    assert jacobian_figures(mirrored, grid, protocol=protocol)["folding_pct"] == 100


def folded_grid() -> tuple[Grid, DisplacementField]:
    """Rows 6 to 7 of 14 go backward along the first axis."""
    grid = Grid.of_spacing((14, 12))
    u = torch.zeros(1, 2, 14, 12).double()
    u[0, 0, :7], u[0, 0, 7:] = 2.0, -2.0
    return grid, DisplacementField(u, grid)


def test_folding_and_spread_are_counted_in_the_eroded_mask() -> None:
    grid, transform = folded_grid()
    found = jacobian_figures(transform, grid)  # determinants 1, but -1 in rows 6 and 7 of 2 to 11
    logs = np.log(np.r_[np.full(8, 1.0), 1e-3, 1e-3])
    expected = {"folding_pct": 20, "sd_log_jac": logs.std(), "min_jac": -1, "max_jac": 1}
    assert found == pytest.approx(expected, abs=1e-5)
    logs = np.log(np.r_[np.full(8, 4.0), 2, 2])
    assert jacobian_figures(transform, grid, protocol="l2r")["sd_log_jac"] == pytest.approx(
        logs.std(), abs=1e-5
    )
    mask = np.zeros((14, 12), np.uint8)
    mask[:8] = 1  # eroded: rows 2 to 5, which do not fold
    assert jacobian_figures(transform, grid, mask)["folding_pct"] == 0
    assert jacobian_figures(transform, grid, mask, "l2r")["folding_pct"] == pytest.approx(100 / 3)
    none = jacobian_figures(transform, grid, np.zeros((14, 12)))
    assert all(math.isnan(value) for value in none.values())


def test_a_thin_slab_keeps_its_slices() -> None:
    found = jacobian_figures(Affine.identity(3), Grid.of_spacing((9, 9, 1)))
    assert found == pytest.approx({"folding_pct": 0, "sd_log_jac": 0, "min_jac": 1, "max_jac": 1})


# -- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 3])
def test_image_figures_read_well_and_are_the_losses(d: int) -> None:
    grid = Grid.of_spacing((12, 11, 9)[:d], (1.0, 2.0, 0.5)[:d])
    rng = np.random.default_rng(RNG_SEED)
    a, b = rng.normal(size=(2, *grid.shape))
    same = {"correlation": 1, "local_correlation": 1, "rms_difference": 0}
    assert image_figures(a, a, grid) == pytest.approx(same, abs=1e-3)
    assert image_figures(a, -a + 2, grid)["correlation"] == pytest.approx(-1)
    assert image_figures(a, a + 2, grid)["rms_difference"] == pytest.approx(2)
    mask = rng.random(grid.shape) > 0.4
    found = image_figures(a, torch.from_numpy(b)[None, None], grid, mask)
    assert found["correlation"] == pytest.approx(np.corrcoef(a[mask], b[mask])[0, 1], abs=1e-5)
    x, y, w = (torch.from_numpy(v.astype(np.float32))[None, None] for v in (a, b, mask))
    local = lncc(x, y, w, radius_mm=2, spacing_mm=grid.spacing_mm).item()
    assert found["local_correlation"] == pytest.approx(1 - local)
    assert found["rms_difference"] == pytest.approx(math.sqrt(mse(x, y, w).item()))
    assert found["correlation"] == pytest.approx(1 - ncc(x.double(), y.double(), w).item())


def test_image_figures_by_weights_far_from_zero_and_of_nothing() -> None:
    grid = Grid.of_spacing((12, 11, 9))
    rng = np.random.default_rng(RNG_SEED)
    a, b = rng.normal(size=(2, *grid.shape)) + 4000
    weights = rng.random(grid.shape) * (rng.random(grid.shape) > 0.4)
    found = image_figures(a, b, grid, weights)
    a, b = a.astype(np.float32).astype(float), b.astype(np.float32).astype(float)
    covariance = np.cov(a.ravel(), b.ravel(), aweights=weights.ravel())
    expected = covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])
    assert found["correlation"] == pytest.approx(expected, rel=1e-5)
    rms = math.sqrt(np.average((a - b) ** 2, weights=weights))
    assert found["rms_difference"] == pytest.approx(rms, rel=1e-6)
    nothing = {"correlation": 0, "local_correlation": 0}
    for mask in (np.zeros(grid.shape), np.zeros(grid.shape, bool)):
        assert image_figures(a, b, grid, mask).items() >= nothing.items()
    assert image_figures(a, np.full_like(a, 0.1), grid)["correlation"] == 0


# -- against the score that judges from files ------------------------------------------------------


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


def judge(folder: Path, files: dict[str, Any]) -> dict[str, Any]:
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
    """Every figure of score.py, from files, equals ours, from memory."""
    (fixed_image, fixed_labels, grid), (moving_image, moving_labels, moving_grid) = fixed, moving
    rng = np.random.default_rng(RNG_SEED)
    low, high = grid.points_mm().reshape(-1, 3)[[0, -1]].numpy()
    fixed_points = low + (high - low) * rng.uniform(0.3, 0.7, (20, 3))
    moving_points = fixed_points + rng.normal(size=(20, 3))
    scores = judge(
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
    labels = scored_labels(fixed_labels, moving_labels)
    overlaps = dice(fixed_labels, moved, labels)
    distances = np.array(list(hd95_mm(fixed_labels, moved, grid, labels).values()))
    jacobians = jacobian_figures(transform, grid, fixed_labels)
    assert len(labels) == scores["num_labels"]
    assert np.isnan(distances).sum() == scores["labels_lost"]
    assert np.mean(list(overlaps.values())) == pytest.approx(scores["dice"], abs=1e-6)
    assert np.nanmean(distances) == pytest.approx(scores["hd95_mm"], abs=1e-6)
    assert jacobians["folding_pct"] == pytest.approx(scores["folding_pct"], abs=1e-6)
    assert jacobians["sd_log_jac"] == pytest.approx(scores["sd_log_jac"], abs=1e-6)
    assert tre_mm(transform, fixed_points, moving_points) == pytest.approx(
        scores["tre_mm"], abs=1e-6
    )
    errors = error_mm(transform, truth, grid, fixed_labels)
    assert {k: errors[k] for k in ("mean", "p95")} == pytest.approx(scores["error_mm"], abs=1e-6)
    inner = ndimage.binary_erosion(fixed_labels > 0, iterations=2)
    assert 100 < inner.sum() < 20_000  # score.py draws no more points than that
    errors = inverse_error_mm(transform, inverse, grid.points_mm()[torch.from_numpy(inner)])
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
def test_every_figure_is_the_one_that_score_py_finds_in_the_files(
    kind: str, tmp_path: Path
) -> None:
    turn = rotation_matrix(torch.tensor([0.2, -0.1, 0.4]).double())
    fixed_linear = turn * torch.tensor([-1.0, 1.5, 1.25])
    origin = torch.tensor([20.0, -30.0, 11.0]).double()
    grid = Grid((34, 33, 32), homogeneous(fixed_linear, origin))
    moving_grid = Grid((36, 35, 34), homogeneous(fixed_linear * 0.97, origin + 1.1))
    affine = Affine(
        torch.cat([(torch.eye(3) + 0.1 * turn).flatten().double(), torch.ones(3).double()]),
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
def test_figures_on_two_brains_are_those_of_score_py(tmp_path: Path) -> None:
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
