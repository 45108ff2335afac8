"""Translation to affine, and projective: parameters, matrices, centres, inverses, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.autograd import gradcheck

from stn3d.grid import homogeneous
from stn3d.nets.heads import MATRIX_KINDS, MatrixKind
from stn3d.transforms import (
    Affine,
    Homography,
    Linear,
    Projective,
    Rigid,
    Translation,
    rotation_matrix,
)
from tests.helpers.geometry_cases import DIMS, QUICK, random

KINDS: tuple[MatrixKind, ...] = tuple(MATRIX_KINDS)
COUNTS: dict[tuple[MatrixKind, int], int] = {
    ("translation", 2): 2,
    ("translation", 3): 3,
    ("attention", 2): 3,
    ("attention", 3): 4,
    ("rigid", 2): 3,
    ("rigid", 3): 6,
    ("similarity", 2): 4,
    ("similarity", 3): 7,
    ("affine", 2): 6,
    ("affine", 3): 12,
    ("projective", 2): 8,
    ("projective", 3): 15,
}


@st.composite
def homographies(
    draw: st.DrawFn,
    ndim: int | None = None,
    batch: int = 0,
    kinds: tuple[MatrixKind, ...] = KINDS,
) -> Homography:
    """Any homography: rotations up to 170 degrees, scales 0.5 to 2, translations up to 100 mm, a
    distant horizon."""
    d = draw(st.sampled_from(DIMS)) if ndim is None else ndim
    kind = draw(st.sampled_from(kinds))
    seed = draw(st.integers(0, 10**6))
    lead = (batch,) if batch else ()
    linear = torch.eye(d).double() + random(*lead, d, d, seed=seed + 1, scale=0.15)
    turn = draw(st.floats(-1.7, 1.7)) * torch.ones(*lead, 1 if d == 2 else 3).double()
    scale = draw(st.floats(-0.7, 0.7)) * torch.ones(*lead, 1).double()
    before = {
        "translation": [],
        "attention": [scale],
        "rigid": [turn],
        "similarity": [turn, scale],
        "affine": [linear.flatten(-2)],
        "projective": [linear.flatten(-2), 2e-4 * random(*lead, d, seed=seed + 3)],
    }[kind]
    parameters = torch.cat([*before, random(*lead, d, seed=seed, scale=50)], -1)
    return MATRIX_KINDS[kind](parameters, random(d, seed=seed + 2, scale=100))


def linears(ndim: int | None = None, batch: int = 0) -> st.SearchStrategy[Linear]:
    """Any linear transform."""
    kinds = tuple(kind for kind in KINDS if kind != "projective")
    return homographies(ndim, batch, kinds)  # type: ignore[return-value]


def points(d: int, *shape: int, seed: int = 9) -> Tensor:
    return random(*shape, d, seed=seed, scale=100)


@QUICK
@given(homographies())
def test_a_transform_and_its_inverse_cancel(transform: Homography) -> None:
    x = points(transform.ndim, 12)
    inverse = transform.inverse()
    assert type(inverse) is type(transform)
    torch.testing.assert_close(transform.then(inverse)(x), x, rtol=0, atol=1e-9)
    torch.testing.assert_close(inverse.then(transform)(x), x, rtol=0, atol=1e-9)
    torch.testing.assert_close(inverse(transform(x)), x, rtol=0, atol=1e-9)


@QUICK
@given(linears(3), homographies(3), linears(3))
def test_composition_is_associative(a: Linear, b: Homography, c: Linear) -> None:
    x = points(3, 12)
    left, right = a.then(b).then(c), a.then(b.then(c))
    assert isinstance(left, Affine if isinstance(b, Linear) else Projective)
    torch.testing.assert_close(left(x), right(x), rtol=0, atol=1e-8)
    torch.testing.assert_close(left(x), c(b(a(x))), rtol=0, atol=1e-8)


@QUICK
@given(homographies(batch=3))
def test_a_batch_equals_a_loop(transform: Homography) -> None:
    x = points(transform.ndim, 3, 4, 2)
    alone = [type(transform)(p, transform.centre_mm) for p in transform.parameters]
    looped = torch.stack([t(one) for t, one in zip(alone, x, strict=True)])
    torch.testing.assert_close(transform(x), looped)
    back = torch.stack([t.inverse()(one) for t, one in zip(alone, x, strict=True)])
    torch.testing.assert_close(transform.inverse()(x), back)
    jacobian = torch.stack([t.jacobian(one) for t, one in zip(alone, x, strict=True)])
    torch.testing.assert_close(transform.jacobian(x), jacobian)
    twice = torch.stack([t(t(one)) for t, one in zip(alone, x, strict=True)])
    torch.testing.assert_close(transform.then(transform)(x), twice)
    shared = torch.stack([t(x[0]) for t in alone])
    torch.testing.assert_close(transform(x[:1]), shared)
    torch.testing.assert_close(
        transform.jacobian(x[:1]), torch.stack([t.jacobian(x[0]) for t in alone])
    )


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_number_of_parameters_and_identity(kind: MatrixKind, d: int) -> None:
    cls = MATRIX_KINDS[kind]
    assert cls.num_parameters(d) == COUNTS[kind, d]
    centre = random(d, scale=100)
    identity = cls.identity(d, centre)
    assert identity.parameters.shape == (COUNTS[kind, d],)
    torch.testing.assert_close(identity.matrix, torch.eye(d + 1).double(), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=f"{cls.__name__} in {d}D has {COUNTS[kind, d]}"):
        cls(torch.zeros(COUNTS[kind, d] + 1), torch.zeros(d))


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_identity", [True, False])
def test_gradcheck_in_parameters_and_points(kind: MatrixKind, d: int, at_identity: bool) -> None:
    cls = MATRIX_KINDS[kind]
    parameters = cls.identity_parameters(d) + (0 if at_identity else 0.2) * random(COUNTS[kind, d])
    centre = random(d, seed=1)

    def forward(p: Tensor, x: Tensor) -> Tensor:
        return cls(p, centre)(x)

    x = random(3, d, seed=2).requires_grad_()
    assert gradcheck(forward, (parameters.requires_grad_(), x))
    assert gradcheck(lambda p: cls(p, centre).inverse()(x.detach()), parameters)
    assert gradcheck(lambda p: cls(p, centre).jacobian(x.detach()), parameters)


@QUICK
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_rotation_vectors_equal_those_of_scipy(vector: list[float]) -> None:
    expected = torch.from_numpy(Rotation.from_rotvec(vector).as_matrix())
    actual = rotation_matrix(torch.tensor(vector, dtype=torch.float64))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_angles_are_counter_clockwise() -> None:
    quarter = Rigid(torch.tensor([math.pi / 2, 0, 0]).double(), torch.zeros(2).double())
    turned = quarter(torch.tensor([[1.0, 0], [0, 1]]).double())
    torch.testing.assert_close(turned, torch.tensor([[0.0, 1], [-1, 0]]).double())


@QUICK
@given(linears())
def test_the_centre_moves_by_the_translation(transform: Linear) -> None:
    moved = transform(transform.centre_mm)
    expected = transform.centre_mm + transform.translation_mm
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-9)


@QUICK
@given(linears())
def test_matrix_parameters_and_points_agree(transform: Linear) -> None:
    x, centre = points(transform.ndim, 5), transform.centre_mm
    by_hand = (x - centre) @ transform.linear_part().T + centre + transform.translation_mm
    torch.testing.assert_close(transform(x), by_hand, rtol=0, atol=1e-9)
    again = Affine.from_matrix(transform.matrix, centre)
    torch.testing.assert_close(again(x), by_hand, rtol=0, atol=1e-9)
    torch.testing.assert_close(again.translation_mm, transform.translation_mm, rtol=0, atol=1e-9)
    without = Affine.from_matrix(transform.matrix)
    torch.testing.assert_close(without(x), by_hand, rtol=0, atol=1e-9)


@QUICK
@given(linears())
def test_determinants_of_each_kind(transform: Linear) -> None:
    determinant = float(torch.linalg.det(transform.linear_part()))
    if isinstance(transform, Rigid | Translation):
        assert determinant == pytest.approx(1)
    elif not isinstance(transform, Affine):
        scale = math.exp(float(transform.parameters[-transform.ndim - 1]))
        assert determinant == pytest.approx(scale**transform.ndim)


@QUICK
@given(homographies(kinds=("projective",)))
def test_a_projective_transform_keeps_lines_straight_and_equals_its_matrix(
    transform: Projective,
) -> None:
    x = points(transform.ndim, 9)
    one = torch.cat([x, torch.ones(9, 1).double()], dim=1) @ transform.matrix.T
    torch.testing.assert_close(transform(x), one[:, :-1] / one[:, -1:], rtol=0, atol=1e-9)
    again = Projective.from_matrix(3 * transform.matrix, transform.centre_mm)
    torch.testing.assert_close(again.parameters, transform.parameters)
    a, b = transform(x[:1]), transform(x[1:2])
    middle = transform((x[:1] + x[1:2]) / 2)
    along = (b - a) / (b - a).norm()
    off = (middle - a) - ((middle - a) * along).sum() * along
    assert float(off.norm()) < 1e-8


def test_points_behind_the_horizon_are_mapped_to_infinity() -> None:
    parameters = Projective.identity_parameters(2).clone()
    parameters[4] = 0.1  # the horizon is x = -10
    transform = Projective(parameters.requires_grad_(), torch.zeros(2))
    mapped = transform(torch.tensor([[-9.0, 1], [-10.0, 1], [-11.0, 1]]))
    torch.testing.assert_close(mapped[0], torch.tensor([-90.0, 10]), rtol=0, atol=1e-3)
    assert bool(torch.isinf(mapped[1:]).all())
    mapped[0].sum().backward()
    assert parameters.grad is not None
    assert bool(parameters.grad.isfinite().all())


def test_in_plane_3d_equals_2d() -> None:
    turn, shift, centre = 0.7, torch.tensor([3.0, -4]).double(), torch.tensor([20.0, 30]).double()
    flat = Rigid(torch.cat([torch.tensor([turn]).double(), shift]), centre)
    zero = torch.zeros(1).double()
    angle = torch.tensor([turn]).double()
    solid = Rigid(torch.cat([zero, zero, angle, shift, zero]), torch.cat([centre, zero]))
    x = points(2, 10)
    expected = torch.cat([flat(x), torch.full((10, 1), 7.0).double()], -1)
    torch.testing.assert_close(solid(torch.cat([x, torch.full((10, 1), 7.0)], -1)), expected)


def test_errors_of_float32_parameters_are_rounding_errors() -> None:
    exact = Rigid(torch.tensor([0.3, -0.2, 0.1, 5, 6, 7]).double(), torch.tensor([100.0, -80, 60]))
    rough = Rigid(exact.parameters.float(), exact.centre_mm)
    x = points(3, 100)
    assert float((rough(x) - exact(x)).abs().max()) < 5e-5
    back = rough.inverse()(rough(x))
    assert float((back - x).abs().max()) < 5e-5
    assert rough(x.float()).dtype == torch.float32


def test_precision_of_a_chain_of_mixed_precision() -> None:
    exact = Affine.from_matrix(torch.eye(4).double())
    rough = Rigid.identity(3)
    rough = Rigid(rough.parameters.float(), rough.centre_mm)
    shift = torch.tensor([1000.0001, 0, 0, 0, 0, 0], dtype=torch.float64).roll(3)
    far = Rigid(shift, torch.zeros(3).double())
    x = points(3, 5)
    for folded in (rough.then(far), far.then(rough), rough.then(exact).then(far)):
        assert float((folded(x) - far(x)).abs().max()) < 1e-6


def test_rigid_parameters_from_a_matrix() -> None:
    for d, parameters in ((2, [0.3, 4.0, -2.0]), (3, [0.3, -2.0, 1.0, 4.0, -2.0, 9.0])):
        centre = torch.tensor([3.0, 5.0, -7.0][:d]).double()
        rigid = Rigid(torch.tensor(parameters).double(), centre)
        again = Rigid.from_matrix(rigid.matrix, centre)
        assert torch.allclose(again.parameters, rigid.parameters, atol=1e-12)
        none = Rigid.from_matrix(homogeneous(torch.eye(d), torch.zeros(d)).double(), centre)
        assert torch.equal(none.parameters, Rigid.identity_parameters(d))
