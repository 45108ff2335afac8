"""Landmark fits: exact recovery, SimpleITK as reference, weights, leave-one-out errors."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st

from stn3d import InputError, register_landmarks
from stn3d.transforms import LINEAR_KINDS, Affine, Rigid, ThinPlateSpline
from tests.helpers import sitk_reference
from tests.helpers.geometry_cases import DIMS, QUICK, random, uniform
from tests.helpers.landmark_cases import KINDS, NEEDED, noisy, some_points


@QUICK
@given(st.sampled_from(DIMS), st.sampled_from(sorted(LINEAR_KINDS)), st.integers(0, 999))
def test_a_linear_map_is_found_exactly(d: int, kind: Any, seed: int) -> None:
    truth = LINEAR_KINDS[kind]
    start = truth.identity_parameters(d)
    moves = truth(start + 0.3 * random(len(start), seed=seed), random(d, seed=seed))
    if torch.linalg.det(moves.linear_part()) < 0.1:
        return
    fixed = some_points(d, d + NEEDED[kind] + seed % 5, seed)
    found = register_landmarks(fixed, moves(fixed), kind)
    elsewhere = 50 * random(20, d, seed=seed + 1)
    torch.testing.assert_close(found.transform(elsewhere), moves(elsewhere), rtol=0, atol=1e-7)
    back = found.inverse(moves(elsewhere))
    torch.testing.assert_close(back, elsewhere, rtol=0, atol=1e-6)
    assert found.outliers == ()
    assert float(found.residuals_mm.max()) < 1e-8


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_rigid_and_similarity_fits_are_never_reflections(kind: Any, d: int) -> None:
    fixed = some_points(d)
    mirrored = fixed * torch.tensor([-1.0, 1, 1][:d])
    found = register_landmarks(fixed, mirrored, kind)
    assert isinstance(found.transform, Affine)
    assert float(torch.linalg.det(found.transform.linear_part())) > 0
    assert float(found.residuals_mm.mean()) > 5
    for other in ("affine", "tps"):
        with pytest.raises(InputError, match="would mirror the image; check that left and right"):
            register_landmarks(fixed, mirrored, other)  # type: ignore[arg-type]


def test_coplanar_landmarks_determine_a_rigid_transform() -> None:
    fixed = some_points(3) * torch.tensor([1.0, 1, 0])
    turn = Rigid(torch.tensor([0.4, -0.3, 0.8, 5, 6, 7]).double(), torch.zeros(3))
    found = register_landmarks(fixed, turn(fixed), "rigid")
    torch.testing.assert_close(found.transform(some_points(3)), turn(some_points(3)))


@pytest.mark.parametrize(
    ("kind", "d"),
    [("rigid", 2), ("affine", 2), ("rigid", 3), ("similarity", 3), ("affine", 3)],
)
def test_the_fit_equals_simpleitk(kind: str, d: int) -> None:
    """LandmarkBasedTransformInitializer's, of landmarks that no transform fits exactly."""
    fixed, moving = noisy(d)
    makers = {
        "rigid": sitk.VersorRigid3DTransform if d == 3 else sitk.Euler2DTransform,
        "similarity": sitk.Similarity3DTransform,
        "affine": lambda: sitk.AffineTransform(d),
    }
    sets = [
        (points.numpy() @ sitk_reference.flip(d)).flatten().tolist() for points in (fixed, moving)
    ]
    theirs = sitk.LandmarkBasedTransformInitializer(makers[kind](), *sets)
    ours = register_landmarks(fixed, moving, kind).transform  # type: ignore[arg-type]
    points = some_points(d, 30, seed=9)
    gap = (ours(points) - sitk_reference.mapped(theirs, points)).norm(dim=-1)
    if kind != "similarity":  # ITK computes the scale differently from Umeyama
        assert float(gap.max()) < 1e-6
        return
    mine = float((ours(fixed) - moving).square().sum())
    assert mine <= float((sitk_reference.mapped(theirs, fixed) - moving).square().sum()) + 1e-9


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_landmark_of_weight_0_is_not_used(kind: Any, d: int) -> None:
    fixed, moving = noisy(d)
    wrong = moving.clone()
    wrong[4] += 30
    weights = torch.ones(12)
    weights[4] = 0
    others = weights > 0
    found = register_landmarks(fixed, wrong, kind, weights, smoothing=3 if kind == "tps" else 0)
    without = register_landmarks(
        fixed[others], moving[others], kind, smoothing=3 if kind == "tps" else 0
    )
    points = some_points(d, 20, seed=8)
    torch.testing.assert_close(found.transform(points), without.transform(points))
    torch.testing.assert_close(
        found.leave_one_out_errors_mm[others], without.leave_one_out_errors_mm
    )
    torch.testing.assert_close(found.leave_one_out_errors_mm[4], found.residuals_mm[4])


@pytest.mark.parametrize("kind", ["rigid", "affine", "tps"])
def test_more_weight_reduces_the_residual(kind: Any) -> None:
    fixed, moving = noisy(3)
    errors = [
        float(
            register_landmarks(
                fixed,
                moving,
                kind,
                [w, *[1] * 11],  # type: ignore[arg-type]
                smoothing=50 if kind == "tps" else 0,
            ).residuals_mm[0]
        )
        for w in (0.1, 1, 10, 1000)
    ]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("d", DIMS)
def test_a_spline_interpolates_and_with_smoothing_approaches_the_affine_fit(d: int) -> None:
    fixed, moving = noisy(d)
    found = register_landmarks(fixed, moving, "tps")
    assert isinstance(found.transform, ThinPlateSpline)
    assert float(found.residuals_mm.max()) < 1e-8
    weights = uniform(0.5, 2, 12)
    smooth = register_landmarks(fixed, moving, "tps", weights, smoothing=1e9).transform
    affine = register_landmarks(fixed, moving, "affine", weights).transform
    points = some_points(d, 20, seed=8)
    torch.testing.assert_close(smooth(points), affine(points), rtol=0, atol=1e-3)


@pytest.mark.parametrize("d", DIMS)
def test_the_inverse_of_a_spline_is_consistent(d: int) -> None:
    found = register_landmarks(*noisy(d), "tps", smoothing=1.0)
    points = some_points(d, 50, seed=8)
    gap = found.inverse(found.transform(points)) - points
    assert float(gap.norm(dim=-1).max()) < 1e-3


@pytest.mark.parametrize("d", DIMS)
def test_the_jacobian_of_a_spline_equals_finite_differences(d: int) -> None:
    spline = register_landmarks(*noisy(d), "tps").transform
    points, step = some_points(d, 20, seed=8), 1e-5
    columns = [
        (spline(points + step * axis) - spline(points - step * axis)) / (2 * step)
        for axis in torch.eye(d).double()
    ]
    torch.testing.assert_close(
        spline.jacobian(points), torch.stack(columns, dim=-1), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize(("kind", "smoothing"), [*((k, 0.0) for k in KINDS), ("tps", 7.0)])
def test_leave_one_out_errors_equal_explicit_refits(kind: Any, smoothing: float, d: int) -> None:
    fixed, moving = noisy(d)
    found = register_landmarks(fixed, moving, kind, smoothing=smoothing)
    for row in range(len(fixed)):
        others = torch.arange(len(fixed)) != row
        fit = register_landmarks(fixed[others], moving[others], kind, smoothing=smoothing)
        error = float((fit.transform(fixed[row : row + 1]) - moving[row]).norm())
        assert float(found.leave_one_out_errors_mm[row]) == pytest.approx(error, abs=1e-7)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_leave_one_out_errors_are_undefined_for_too_few_landmarks(kind: Any, d: int) -> None:
    fixed = some_points(d, d + NEEDED[kind])
    found = register_landmarks(fixed, fixed + 5, kind)
    assert bool(found.leave_one_out_errors_mm.isnan().all())
    assert found.metrics["leave_one_out_error_mm"] is None
    json.dumps(found.metrics, allow_nan=False)


def test_leave_one_out_error_is_undefined_where_the_others_are_coplanar() -> None:
    fixed = some_points(3) * torch.tensor([1.0, 1, 0])
    fixed[5, 2] = 40
    found = register_landmarks(fixed, fixed + random(12, 3), "affine")
    assert found.leave_one_out_errors_mm.isnan().nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_outliers_are_reported_and_used(kind: Any, d: int) -> None:
    fixed, moving = noisy(d, 20)
    assert register_landmarks(fixed, moving, kind, smoothing=0).outliers == ()
    moving[7] += 60
    names = [f"point {row}" for row in range(20)]
    found = register_landmarks(fixed, moving, kind, names=names)
    assert found.outliers == ("point 7",)
    if kind == "tps":
        assert float(found.residuals_mm[7]) < 1e-8
    marked = [one["name"] for one in found.metrics["landmarks"] if one["outlier"]]
    assert marked == list(found.outliers)
    moving[12] -= 50
    again = register_landmarks(fixed, moving, kind, names=names)
    if kind != "tps":  # an interpolating spline may hide two behind each other
        assert set(again.outliers) == {"point 7", "point 12"}


def test_landmarks_may_be_lists_and_arrays() -> None:
    fixed = some_points(2)
    found = register_landmarks(fixed.tolist(), fixed.numpy() + 3)  # type: ignore[arg-type]
    torch.testing.assert_close(found.transform(fixed), fixed + 3)


def test_thousands_of_landmarks_take_seconds() -> None:
    fixed = some_points(3, 4000)
    moving = fixed + 5
    wild = torch.arange(0, 4000, 10)
    moving[wild] += 30 * torch.rand(400, 3, generator=torch.Generator().manual_seed(0)).double()
    begin = time.process_time()
    found = register_landmarks(fixed, moving, "rigid")
    assert time.process_time() - begin < 10  # 0.5 s; one batch of all weights took minutes
    assert {int(name) - 1 for name in found.outliers} == set(wild.tolist())


def test_a_spline_of_too_many_landmarks_is_refused() -> None:
    points = some_points(3, 3001)
    message = r"there are 3001 landmarks; a spline takes 3000 at most.*one row in 2 of both files"
    with pytest.raises(InputError, match=message):
        register_landmarks(points, points, "tps")
