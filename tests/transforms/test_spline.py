"""Thin-plate splines, B-splines, piecewise affine transforms: references, gradients, inverses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator
from torch import Tensor
from torch.autograd import gradcheck

from stn3d.grid import Grid, apply_matrix
from stn3d.transforms import (
    Affine,
    BSpline,
    Inverse,
    PiecewiseAffine,
    ThinPlateSpline,
    Transform,
    control_grid,
)
from tests.helpers.geometry_cases import DIMS, QUICK, make_grid, oblique, random, uniform

LATTICES: tuple[Any, ...] = (BSpline, PiecewiseAffine)


def controls(d: int, count: int = 4) -> Grid:
    return control_grid(oblique(d, (30, 24, 20)[:d]), count)


def lattice(make: Any, d: int, amplitude_mm: float = 2.0, batch: int = 1, count: int = 4) -> Any:
    grid = controls(d, count)
    return make(amplitude_mm * random(batch, d, *grid.shape), grid)


def thin_plate(d: int, amplitude_mm: float = 2.0, batch: int = 0) -> ThinPlateSpline:
    points = controls(d, 3).points_mm().reshape(-1, d)
    lead = (batch,) if batch else ()
    return ThinPlateSpline(points, points + amplitude_mm * random(*lead, *points.shape))


def inside(d: int, count: int, seed: int = 5) -> Tensor:
    """World points within the control points."""
    index = uniform(0.05, 2.95, count, d, seed=seed)
    return apply_matrix(controls(d).world_from_index, index)


@pytest.mark.parametrize("d", DIMS)
def test_control_points_span_the_domain(d: int) -> None:
    grid = oblique(d, (30, 24, 20)[:d])
    corners = control_grid(grid, 2).points_mm().reshape(-1, d)
    faces = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * d)
    expected = apply_matrix(grid.world_from_unit, faces)
    torch.testing.assert_close(corners, expected, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="at least 2 control points"):
        control_grid(grid, 1)


@pytest.mark.parametrize("d", DIMS)
def test_a_thin_plate_spline_equals_scipy(d: int) -> None:
    spline = thin_plate(d)
    kernel = "thin_plate_spline" if d == 2 else "linear"
    reference = RBFInterpolator(
        spline.points_mm.numpy(), spline.targets_mm.numpy(), kernel=kernel, degree=1
    )
    x = inside(d, 50)
    torch.testing.assert_close(spline(x), torch.from_numpy(reference(x.numpy())), rtol=0, atol=1e-7)
    torch.testing.assert_close(spline(spline.points_mm), spline.targets_mm, rtol=0, atol=1e-8)


@pytest.mark.parametrize("d", DIMS)
def test_smoothing_reduces_bending(d: int) -> None:
    spline = thin_plate(d)
    points, targets = spline.points_mm, spline.targets_mm
    off = [
        float((ThinPlateSpline(points, targets, s)(points) - targets).square().sum())
        for s in (0.0, 1.0, 10.0, 1e7)
    ]
    assert off == sorted(off)
    assert off[0] < 1e-12
    one = torch.ones(len(points), 1).double()
    fitted = torch.linalg.lstsq(torch.cat([points, one], 1), targets).solution
    plane = torch.cat([points, one], 1) @ fitted
    smoothest = ThinPlateSpline(points, targets, 1e7)(points)
    torch.testing.assert_close(smoothest, plane, rtol=0, atol=1e-2)


@pytest.mark.parametrize("d", DIMS)
def test_degenerate_control_points_are_rejected(d: int) -> None:
    line = torch.linspace(0, 1, 6)[:, None].expand(6, d)
    with pytest.raises(ValueError, match=r"lie on one (line|plane)"):
        ThinPlateSpline(line, line)
    with pytest.raises(ValueError, match="each control point needs one target"):
        ThinPlateSpline(torch.rand(5, d), torch.rand(4, d))


@pytest.mark.parametrize("d", DIMS)
def test_a_b_spline_equals_itk(d: int) -> None:
    """Away from the outer control points, which stn3d mirrors and ITK does not."""
    spline = lattice(BSpline, d, count=8)
    reference = sitk.BSplineTransform(d, 3)
    grid, flip = spline.grid, np.diag([-1.0, -1.0, 1.0][:d])
    cells = [n - 3 for n in grid.shape]  # ITK's domain starts one control point further in
    linear = flip @ grid.world_from_index[:d, :d].numpy()
    spacing = np.linalg.norm(linear, axis=0)
    first = flip @ apply_matrix(grid.world_from_index, torch.ones(d).double()).numpy()
    reference.SetTransformDomainMeshSize(cells)
    reference.SetTransformDomainOrigin(first.tolist())
    reference.SetTransformDomainDirection((linear / spacing).flatten().tolist())
    reference.SetTransformDomainPhysicalDimensions((spacing * cells).tolist())
    vectors = torch.einsum("ab,b...->a...", torch.from_numpy(flip), spline.displacement_mm[0])
    reference.SetParameters(vectors.transpose(1, -1).flatten().tolist() if d == 2
                        else vectors.permute(0, 3, 2, 1).flatten().tolist())  # fmt: skip
    index = uniform(2.0, min(grid.shape) - 3.0, 30, d)
    x = apply_matrix(grid.world_from_index, index)
    expected = [flip @ reference.TransformPoint((flip @ p).tolist()) for p in x.numpy()]
    torch.testing.assert_close(spline(x), torch.tensor(np.array(expected)), rtol=0, atol=1e-6)


def test_a_piecewise_affine_map_is_linear_in_each_triangle() -> None:
    mesh = lattice(PiecewiseAffine, 2)
    u = mesh.displacement_mm[0]
    for i, j, a, b in [(0, 1, 0.7, 0.2), (2, 0, 0.1, 0.9), (1, 1, 0.5, 0.5)]:
        corner, far = u[:, i, j], u[:, i + 1, j + 1]
        middle = u[:, i + 1, j] if a >= b else u[:, i, j + 1]
        big, small = max(a, b), min(a, b)
        expected = corner + big * (middle - corner) + small * (far - middle)
        index = torch.tensor([[i + a, j + b]], dtype=torch.float64)
        x = apply_matrix(mesh.grid.world_from_index, index)
        torch.testing.assert_close(mesh(x), x + expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", DIMS)
def test_a_piecewise_affine_map_interpolates_control_points_and_is_continuous(d: int) -> None:
    mesh = lattice(PiecewiseAffine, d)
    x = mesh.grid.points_mm()
    torch.testing.assert_close(mesh(x), x + mesh.displacement_mm[0].movedim(0, -1))
    p = inside(d, 400)
    step = 1e-7 * random(400, d, seed=3)
    assert float((mesh(p + step) - mesh(p)).abs().max()) < 1e-5


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("make", LATTICES)
def test_displacements_are_constant_beyond_the_control_points(make: Any, d: int) -> None:
    mesh = lattice(make, d)
    index = torch.full((1, d), 1.0).double()
    ends = [index.clone(), index.clone()]
    ends[0][0, 0], ends[1][0, 0] = 3.5, 40.0
    near, far = (apply_matrix(mesh.grid.world_from_index, one) for one in ends)
    torch.testing.assert_close(mesh(near) - near, mesh(far) - far, rtol=0, atol=1e-9)


def affine_of(d: int) -> Affine:
    matrix = torch.eye(d + 1).double()
    matrix[:d] += 0.1 * random(d, d + 1, seed=8)
    return Affine.from_matrix(matrix)


@pytest.mark.parametrize("d", DIMS)
def test_affine_displacements_are_reproduced(d: int) -> None:
    """B-splines reproduce linear functions away from the mirrored coefficients."""
    truth, x = affine_of(d), inside(d, 40)
    grid = controls(d)
    points = grid.points_mm()
    moves = (truth(points) - points).movedim(-1, 0)[None]
    flat = points.reshape(-1, d)
    torch.testing.assert_close(ThinPlateSpline(flat, truth(flat))(x), truth(x), rtol=0, atol=1e-7)
    torch.testing.assert_close(PiecewiseAffine(moves, grid)(x), truth(x), rtol=0, atol=1e-9)
    middle = apply_matrix(grid.world_from_index, uniform(1.01, 1.99, 40, d))
    torch.testing.assert_close(BSpline(moves, grid)(middle), truth(middle), rtol=0, atol=1e-9)


def families(d: int, batch: int = 0) -> list[Transform]:
    return [thin_plate(d, 0.5, batch), *[lattice(m, d, 0.5, batch or 1) for m in LATTICES]]


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("which", range(3))
def test_a_batch_equals_a_loop_and_may_share_its_points(which: int, d: int) -> None:
    transform = families(d, 3)[which]
    x = inside(d, 3 * 5).reshape(3, 5, d)
    if isinstance(transform, ThinPlateSpline):
        alone: list[Any] = [
            ThinPlateSpline(transform.points_mm, targets) for targets in transform.targets_mm
        ]
    else:
        assert isinstance(transform, BSpline | PiecewiseAffine)
        moves = transform.displacement_mm
        alone = [type(transform)(one[None], transform.grid) for one in moves]
    looped = torch.stack([t(one) for t, one in zip(alone, x, strict=True)])
    torch.testing.assert_close(transform(x), looped)
    torch.testing.assert_close(transform(x[:1]), torch.stack([t(x[0]) for t in alone]))
    jacobian = torch.stack([t.jacobian(x[0]) for t in alone])
    torch.testing.assert_close(transform.jacobian(x[:1]), jacobian)


@pytest.mark.parametrize("d", DIMS)
def test_gradcheck_in_parameters_and_points(d: int) -> None:
    x = inside(d, 6).requires_grad_()
    spline = thin_plate(d)
    assert gradcheck(
        lambda targets, at: ThinPlateSpline(spline.points_mm, targets)(at),
        (spline.targets_mm.requires_grad_(), x),
    )
    for make in LATTICES:
        mesh = lattice(make, d)
        assert gradcheck(
            lambda moves, at, make=make: make(moves, controls(d))(at),
            (mesh.displacement_mm.requires_grad_(), x),
        )


def test_2d_equals_a_3d_slice() -> None:
    flat = make_grid((20, 16), (1.0, 2.0))
    solid = make_grid((20, 16, 12), (1.0, 2.0, 1.5))
    x = uniform(1, 15, 20, 2)
    deep = torch.cat([x, torch.full((20, 1), 8.0).double()], dim=1)
    for make in LATTICES:
        moves = random(1, 2, 4, 4)
        lifted = torch.cat([moves, torch.zeros(1, 1, 4, 4).double()], 1)
        lifted = lifted[..., None].expand(-1, -1, -1, -1, 4)
        thick = make(lifted, control_grid(solid, 4))
        thin = make(moves, control_grid(flat, 4))
        torch.testing.assert_close(thick(deep)[:, :2], thin(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("which", range(3))
def test_the_inverse_is_consistent(which: int, d: int) -> None:
    transform = families(d)[which]
    inverse = transform.inverse()
    assert isinstance(inverse, Inverse)
    assert inverse.inverse() is transform
    assert inverse.ndim == d
    x = inside(d, 200)
    torch.testing.assert_close(inverse(transform(x)), x, rtol=0, atol=1e-4)
    torch.testing.assert_close(transform(inverse(x)), x, rtol=0, atol=1e-4)


@QUICK
@given(st.integers(0, 1000))
def test_the_inverse_is_consistent_for_large_smooth_deformations(seed: int) -> None:
    points = controls(2, 3).points_mm().reshape(-1, 2)
    spline = ThinPlateSpline(points, points + 1.5 * random(9, 2, seed=seed))
    x = inside(2, 50, seed)
    if bool((torch.linalg.det(spline.jacobian(x)) > 0.3).all()):
        torch.testing.assert_close(
            spline(spline.inverse()(spline(x))), spline(x), rtol=0, atol=2e-3
        )


@pytest.mark.parametrize("d", DIMS)
def test_an_inverse_has_exact_gradients(d: int) -> None:
    spline = thin_plate(d, 0.3)

    def back(targets: Tensor, at: Tensor) -> Tensor:
        return Inverse(ThinPlateSpline(spline.points_mm, targets), tolerance_mm=1e-10)(at)

    at = inside(d, 4).requires_grad_()
    assert gradcheck(back, (spline.targets_mm.requires_grad_(), at), atol=1e-4)


def test_the_inverse_of_an_unreachable_point_is_nan() -> None:
    """All control points are mapped to one point."""
    grid = control_grid(Grid.of_spacing((10, 10)), 2)
    centre = grid.points_mm().reshape(-1, 2).mean(0)
    moves = (centre - grid.points_mm()).movedim(-1, 0)[None]
    flat = PiecewiseAffine(moves, grid)
    found = flat.inverse()(centre + torch.tensor([[0.0, 0.0], [1.5, 0.5]]))
    assert bool(torch.isnan(found[1]).all())


def test_displacements_of_a_wrong_shape_are_rejected() -> None:
    with pytest.raises(ValueError, match="this grid of control points"):
        BSpline(torch.zeros(1, 2, 4, 5), control_grid(Grid.of_spacing((10, 10)), 4))
