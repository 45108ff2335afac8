"""diffusion, bending, jacobian, inverse consistency, deviation from identity; in 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stn3d.grid import Grid, homogeneous
from stn3d.losses import (
    bending,
    diffusion,
    identity_deviation,
    inverse_consistency,
    jacobian,
)
from stn3d.transforms import Affine, DisplacementField, Rigid, rotation_matrix

FIELD_LOSSES: dict[str, Callable[..., Tensor]] = {
    "diffusion": diffusion,
    "bending": bending,
    "jacobian": jacobian,
}
GRID_KINDS = ["plain", "anisotropic", "oblique", "sheared"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grid_of(kind: str, d: int, n: int = 5) -> Grid:
    """Grids over a cube of about ``n`` mm a side."""
    spacing = torch.ones(d).double()
    linear = torch.eye(d).double()
    if kind != "plain":
        spacing[0], spacing[-1] = 0.5, 1.25
    if kind in ("oblique", "sheared"):
        linear = rotation_matrix(torch.tensor([0.4, -0.3, 0.8][: 2 * d - 3]).double())
        linear[:, 0] *= -1
    if kind == "sheared":
        linear[:, 1] += 0.5 * linear[:, 0]
    shape = [round(n / s) for s in spacing.tolist()]
    return Grid(tuple(shape), homogeneous(linear * spacing, torch.full((d,), 7.0).double()))


def field(grid: Grid, displacement: Callable[[Tensor], Tensor]) -> Tensor:
    """A physical field at the voxels of a grid, ``(1, d, *shape)``."""
    return displacement(grid.points_mm()).movedim(-1, 0)[None]


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kind", ["oblique", "sheared"])
@pytest.mark.parametrize("name", sorted(FIELD_LOSSES))
def test_gradients_are_right(name: str, kind: str, d: int) -> None:
    grid = grid_of(kind, d, n=4 if d == 3 else 5).cropped([0] * d, [4, 3, 3][:d])
    mask = (noise(1, 1, *grid.shape, seed=3) > -1).double()
    u = (0.4 * noise(2, d, *grid.shape)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: FIELD_LOSSES[name](x, grid), [u])
    assert torch.autograd.gradcheck(lambda x: FIELD_LOSSES[name](x, grid, mask), [u])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", GRID_KINDS)
@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", sorted(FIELD_LOSSES))
def test_the_identity_has_zero_loss(name: str, d: int, kind: str, dtype: torch.dtype) -> None:
    grid = grid_of(kind, d)
    u = torch.zeros(1, d, *grid.shape, dtype=dtype)
    value = FIELD_LOSSES[name](u, grid)
    assert value.dtype == dtype
    assert value.ndim == 0
    assert value.item() == 0
    assert FIELD_LOSSES[name](noise(*u.shape), grid).item() > 0.1


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(
    entries=st.lists(st.floats(-0.3, 0.3), min_size=12, max_size=12),
    d=st.sampled_from([2, 3]),
    kind=st.sampled_from(GRID_KINDS),
)
def test_affine_displacements_have_analytic_losses(entries: list[float], d: int, kind: str) -> None:
    gradient = torch.tensor(entries[: d * d]).double().reshape(d, d)
    shift = torch.tensor(entries[9 : 9 + d]).double()
    grid = grid_of(kind, d)
    u = field(grid, lambda p: p @ gradient.T + 10 * shift)
    assert bending(u, grid).item() == pytest.approx(0, abs=1e-20)
    assert diffusion(u, grid).item() == pytest.approx((gradient**2).sum().item(), abs=1e-12)
    determinant = torch.linalg.det(torch.eye(d) + gradient).item()
    if determinant > 0.1:
        assert jacobian(u, grid).item() == pytest.approx(math.log(determinant) ** 2, abs=1e-9)


@pytest.mark.parametrize("kind", GRID_KINDS)
@pytest.mark.parametrize("d", [2, 3])
def test_bending_of_a_quadratic_field_is_exact(d: int, kind: str) -> None:
    hessian = noise(d, d, d)
    hessian = (hessian + hessian.transpose(1, 2)) / 2
    grid = grid_of(kind, d)
    u = field(grid, lambda p: torch.einsum("...a,kab,...b->...k", p, hessian, p) / 2)
    assert bending(u, grid).item() == pytest.approx((hessian**2).sum().item(), rel=1e-9)


def swirl(points: Tensor) -> Tensor:
    """A smooth field, in mm."""
    waves = [torch.sin(0.5 * p + 1) for p in points.unbind(-1)]
    return torch.stack([w * torch.cos(0.4 * waves[i - 1]) for i, w in enumerate(waves)], dim=-1)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", sorted(FIELD_LOSSES))
def test_the_loss_does_not_depend_on_the_grid(name: str, d: int) -> None:
    linear = rotation_matrix(torch.tensor([0.4, -0.3, 0.8][: 2 * d - 3]).double())
    coarse = Grid((20,) * d, homogeneous(0.5 * linear, torch.ones(d).double()))
    grids = [coarse, coarse.resampled(0.25), coarse.resampled([0.25, *[0.5] * (d - 1)])]
    values = [FIELD_LOSSES[name](field(grid, swirl), grid).item() for grid in grids]
    assert values[0] > 0.01
    assert values[1:] == pytest.approx([values[0]] * 2, rel=0.1)


@pytest.mark.parametrize("name", sorted(FIELD_LOSSES))
def test_sheared_and_orthogonal_grids_agree(name: str) -> None:
    window = {"plain": [0.1, 0.1], "sheared": [0.1, 0.05]}
    values = []
    for kind, spacing in window.items():
        linear = torch.diag(torch.tensor(spacing).double())
        if kind == "sheared":
            linear[0, 1] = 0.05
        grid = Grid((120, 120), homogeneous(linear, torch.zeros(2).double()))
        p = grid.points_mm()
        inside = (((p - torch.tensor([8.0, 3.0])).norm(dim=-1)) < 2.5)[None, None]
        assert inside.sum() * grid.spacing_mm[0] * abs(linear[1, 1]) == pytest.approx(
            math.pi * 2.5**2, rel=0.01
        )
        values.append(FIELD_LOSSES[name](field(grid, swirl), grid, inside).item())
    assert values[1] == pytest.approx(values[0], rel=0.02)


@pytest.mark.parametrize("kind", GRID_KINDS)
@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", sorted(FIELD_LOSSES))
def test_vectors_outside_the_mask_have_no_influence(name: str, d: int, kind: str) -> None:
    grid, loss = grid_of(kind, d, n=8 if d == 3 else 12), FIELD_LOSSES[name]
    inside = (slice(None), slice(None), *[slice(1, n - 1) for n in grid.shape])
    mask = torch.zeros(1, 1, *grid.shape)
    mask[inside] = 1
    u = 0.1 * noise(2, d, *grid.shape)
    value = loss(u, grid, mask).item()
    part = grid.cropped([1] * d, [n - 1 for n in grid.shape])
    assert value == pytest.approx(loss(u[inside], part).item(), rel=1e-9)
    changed = torch.where(mask == 0, 30 * noise(*u.shape, seed=5), u)
    assert loss(changed, grid, mask.bool()).item() == pytest.approx(value, rel=1e-12)
    assert loss(changed, grid).item() != pytest.approx(value, rel=0.1)


def test_an_empty_mask_has_zero_loss() -> None:
    grid = grid_of("oblique", 3)
    for loss in FIELD_LOSSES.values():
        assert loss(noise(1, 3, *grid.shape), grid, torch.zeros(1, 1, *grid.shape)).item() == 0


@pytest.mark.parametrize("name", sorted(FIELD_LOSSES))
def test_a_single_slice_has_the_loss_of_its_plane(name: str) -> None:
    flat, volume = Grid.of_spacing((8, 9), (1, 2)), Grid.of_spacing((8, 9, 1), (1, 2, 3))
    u = 0.2 * noise(1, 2, 8, 9)
    u3 = torch.cat([u, torch.zeros(1, 1, 8, 9).double()], dim=1)[..., None]
    expected = FIELD_LOSSES[name](u, flat).item()
    assert FIELD_LOSSES[name](u3, volume).item() == pytest.approx(expected, rel=1e-9)


def test_fields_with_too_few_voxels_have_zero_bending() -> None:
    u = noise(1, 2, 2, 1).requires_grad_()
    value = bending(u, Grid.of_spacing((2, 1)))
    value.backward()
    assert value.item() == 0


@pytest.mark.parametrize("d", [2, 3])
def test_the_loss_increases_with_folding_and_its_gradient_reduces_it(d: int) -> None:
    grid = Grid.of_spacing((6,) * d)

    def squeezed(by: float) -> Tensor:
        return field(grid, lambda p: torch.cat([-by * p[..., :1], 0 * p[..., 1:]], dim=-1))

    costs = [jacobian(squeezed(by), grid).item() for by in (0.0, 0.5, 0.89, 0.99, 1.0, 1.5, 3.0)]
    assert costs == sorted(costs)
    assert costs[1] == pytest.approx(math.log(0.5) ** 2)
    slope = 2 * math.log(0.1) / 0.1
    assert costs[5] == pytest.approx(math.log(0.1) ** 2 + slope * (-0.5 - 0.1))
    u = squeezed(3.0).requires_grad_()
    jacobian(u, grid).backward()
    assert u.grad is not None
    assert u.grad.isfinite().all()
    assert jacobian((u - 0.1 * u.grad).detach(), grid).item() < costs[-1]


def test_expansion_and_contraction_have_the_same_loss() -> None:
    grid = grid_of("oblique", 3)
    costs = [
        jacobian(field(grid, lambda p, s=s: (s - 1) * p), grid).item()  # type: ignore[misc]
        for s in (0.8, 1.25)
    ]
    assert costs[0] == pytest.approx(costs[1], rel=1e-9)
    assert costs[0] == pytest.approx((3 * math.log(0.8)) ** 2, rel=1e-9)


def test_folding_missed_by_central_differences_is_detected() -> None:
    grid = Grid.of_spacing((9, 9))
    u = torch.zeros(1, 2, 9, 9).double()
    u[0, :, 4, 4] = 1.6  # one voxel jumps over its neighbours; its own central difference is 1
    assert jacobian(u, grid).item() > 1
    assert jacobian(u / 4, grid).item() < 0.1


@pytest.mark.parametrize("floor", [0.0, 1.0, -1.0])
def test_a_floor_outside_zero_and_one_is_an_error(floor: float) -> None:
    with pytest.raises(ValueError, match="floor"):
        jacobian(torch.zeros(1, 2, 4, 4), Grid.of_spacing((4, 4)), floor=floor)


@pytest.mark.parametrize("name", sorted(FIELD_LOSSES))
def test_fields_and_masks_of_other_shapes_are_an_error(name: str) -> None:
    grid = Grid.of_spacing((4, 5))
    with pytest.raises(ValueError, match="field on this grid"):
        FIELD_LOSSES[name](torch.zeros(1, 2, 5, 4), grid)
    with pytest.raises(ValueError, match="mask on this grid"):
        FIELD_LOSSES[name](torch.zeros(1, 2, 4, 5), grid, torch.ones(4, 5))


@pytest.mark.parametrize("d", [2, 3])
def test_point_losses(d: int) -> None:
    points = 20 * noise(30, d)
    shift = torch.arange(1.0, d + 1).double()
    eye = torch.eye(d).double().flatten()
    centre = torch.ones(d).double()
    moved, identity = Affine(torch.cat([eye, shift]), centre), Affine.identity(d)
    squared = (shift**2).sum().item()
    assert identity_deviation(identity, points).item() == 0
    assert identity_deviation(moved, points).item() == pytest.approx(squared)
    assert inverse_consistency(moved, moved.inverse(), points).item() < 1e-20
    assert inverse_consistency(moved, identity, points).item() == pytest.approx(squared)
    turned = Rigid(0.1 * noise(3 * d - 3, seed=4), centre)
    assert inverse_consistency(turned, turned.inverse(), points).item() < 1e-20
    half = (torch.arange(30) < 15).double()
    expected = identity_deviation(turned, points[:15]).item()
    assert identity_deviation(turned, points, half).item() == pytest.approx(expected)
    expected = inverse_consistency(turned, moved, points[:15]).item()
    assert inverse_consistency(turned, moved, points, half).item() == pytest.approx(expected)

    def both(p: Tensor, q: Tensor) -> Tensor:
        a, b = Rigid(p, centre), Affine(q, centre)
        return inverse_consistency(a, b, points[:4]) + identity_deviation(a, points[:4])

    parameters = [turned.parameters.clone().requires_grad_(), moved.parameters.requires_grad_()]
    assert torch.autograd.gradcheck(both, parameters)


def test_inverse_consistency_of_a_displacement_field() -> None:
    grid = Grid.of_spacing((16, 14))
    forward = DisplacementField(field(grid, lambda p: 0.8 * torch.sin(0.4 * p)), grid)
    points = grid.cropped((3, 3), (13, 11)).points_mm()
    with_inverse = inverse_consistency(forward, forward.inverse(), points).item()
    without = inverse_consistency(forward, Affine.identity(2), points).item()
    assert with_inverse < 0.01 * without
