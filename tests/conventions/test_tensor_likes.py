"""Every public callable takes MetaTensors, batches of them, numpy arrays and lists.

The names are read from the packages; a new one needs a case in `tensor_like_cases`.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from torch import Tensor

from stn3d.grid import Grid, apply_matrix, homogeneous
from tests.conventions.tensor_like_cases import (
    CASES,
    CONTROL_GRID,
    CONTROLS,
    FIELD,
    GRID,
    MATRIX,
    NETS,
    POINTS,
    TARGETS,
    TRANSFORMS,
    Like,
    values_of,
)

PACKAGES = (
    "transforms",
    "transforms.normalised",
    "sampler",
    "warp",
    "losses",
    "nets",
    "metrics",
    "train",
    "data",
    "evaluation",
    "landmarks",
    "synth",
)
# results of the package, and batches that the package's own functions have made plain
MADE_BY_OTHERS = {
    "stn3d.landmarks.LandmarkRegistration",
    "stn3d.metrics.Determinants",
    "stn3d.synth.Subject",
    "stn3d.train.Checkpoints",
}
AFFINE = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))


def metatensor(values: Tensor) -> MetaTensor:
    return MetaTensor(values, affine=AFFINE)


def batched(values: Tensor) -> MetaTensor:
    """As a DataLoader makes it."""
    return list_data_collate([metatensor(value) for value in values])


def array(values: Tensor) -> Any:
    return values.numpy()


PLAIN = Like(lambda values: values, lambda values: values)
LIKES = {
    "metatensor": Like(metatensor, metatensor),
    "batch": Like(batched, batched),
    "numpy": Like(array, array),
    "list": Like(array, lambda values: values.tolist()),
}


def public_names(module: str) -> list[str]:
    found = importlib.import_module(f"stn3d.{module}")
    own = [n for n, v in vars(found).items() if getattr(v, "__module__", "") == found.__name__]
    return [n for n in getattr(found, "__all__", own) if not n.startswith("_")]


def takes_tensors(value: Any) -> bool:
    """Whether a function, or a constructor or public method of a class, has a tensor parameter."""
    if inspect.isclass(value):
        members = [
            getattr(value, name)
            for name in vars(value)
            if name in ("__init__", "__call__") or not name.startswith("_")
        ]
        functions = [m for m in members if inspect.isfunction(m) or inspect.ismethod(m)]
        return any(takes_tensors(function) for function in functions)
    annotations = [str(p.annotation) for p in inspect.signature(value).parameters.values()]
    return any(re.search(r"\b(Tensor|TensorLike|Array|Batch)\b", a) for a in annotations)


def public_callables() -> dict[str, Any]:
    found = {}
    for module in PACKAGES:
        package = importlib.import_module(f"stn3d.{module}")
        for name in public_names(module):
            value = getattr(package, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                found[f"stn3d.{module}.{name}"] = value
    return found


def test_every_public_callable_that_takes_tensors_has_a_case() -> None:
    callables = public_callables()
    assert len(callables) > 100
    needed = {
        name
        for name, value in callables.items()
        if takes_tensors(value) and not inspect.isabstract(value)
    }
    missing = sorted(needed - set(CASES) - MADE_BY_OTHERS)
    assert missing == [], "add them to tests/conventions/tensor_like_cases.py"
    assert sorted(set(CASES) - set(callables)) == []


@pytest.mark.parametrize("like", LIKES)
@pytest.mark.parametrize("name", CASES)
def test_the_result_is_that_of_plain_tensors(name: str, like: str) -> None:
    expected, found = _of_plain_tensors(name), values_of(CASES[name](LIKES[like]))
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        if isinstance(b, Tensor):
            assert type(a) is Tensor
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, check_dtype=like != "list")
        else:
            assert a == pytest.approx(b, rel=1e-5, nan_ok=True) if _is_number(b) else a == b


@cache
def _of_plain_tensors(name: str) -> list[Any]:
    return values_of(CASES[name](PLAIN))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_integer_points_are_not_rounded(name: str) -> None:
    """Maps and Jacobians of whole coordinates are those of the same coordinates in float64."""
    whole = Like(lambda v: v, lambda v: v.round().long() if v is POINTS else v)
    double = Like(lambda v: v, lambda v: v.round().double() if v is POINTS else v)
    if name == "ThinPlateSpline":  # its control points are not the points that are mapped
        from stn3d.transforms import ThinPlateSpline
        from tests.conventions.tensor_like_cases import mapped

        spline = ThinPlateSpline(POINTS, TARGETS)
        found, expected = mapped(spline, whole), mapped(spline, double)
    else:
        found, expected = (
            values_of(CASES[f"stn3d.transforms.{name}"](one)) for one in (whole, double)
        )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_point_of_the_report() -> None:
    """100 mm off in version 0.1, whose matrices were cast to the integers of the points."""
    from stn3d.transforms import Rigid

    rigid = Rigid(torch.tensor([0.3, -0.2, 0.4, 5.5, 6.5, 7.5]), torch.zeros(3))
    point = torch.tensor([[-119, -135, -193]])
    torch.testing.assert_close(rigid(point), rigid(point.double()), rtol=0, atol=0)
    torch.testing.assert_close(rigid(point.tolist()), rigid(point.double()), rtol=0, atol=0)


def test_functions_of_points_promote_integers() -> None:
    """Fields, matrices and index coordinates of integers too."""
    ones = torch.ones(1, 2, *GRID.shape, dtype=torch.int32)
    from stn3d.sampler import sample, sample_displaced
    from stn3d.transforms import DisplacementField

    image = torch.rand(1, 1, *GRID.shape)
    index = torch.tensor([[[1, 2], [3, 4]]])
    torch.testing.assert_close(sample(image, index)[0, 0, 1], image[0, 0, 3, 4])
    torch.testing.assert_close(
        sample_displaced(image, ones), sample_displaced(image, ones.double()), rtol=0, atol=0
    )
    field = DisplacementField(ones, GRID)
    centre = GRID.centre_mm[None]
    torch.testing.assert_close(field(centre), centre + 1)
    torch.testing.assert_close(apply_matrix(MATRIX, index), apply_matrix(MATRIX, index.double()))
    assert homogeneous([[1, 0], [0, 1]], [2, 3]).dtype == torch.float64  # type: ignore[arg-type]
    assert Grid((2, 2), [[1, 0, 3], [0, 1, 4], [0, 0, 1]]).spacing_mm == (1, 1)  # type: ignore[arg-type]


WITH_GRADIENTS = [
    "stn3d.losses.ncc",
    "stn3d.losses.lncc",
    "stn3d.losses.mind_ssc",
    "stn3d.losses.bending",
    "stn3d.transforms.DisplacementField",
    "stn3d.transforms.Similarity",
    "stn3d.warp.warp_batch",
    "stn3d.sampler.sample_displaced",
    *[f"stn3d.nets.{name}" for name in NETS if name in ("PyramidCascade", "SpatialTransformer")],
]


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients_flow_to_metatensors(name: str) -> None:
    def gradients(make: Callable[[Tensor], Tensor]) -> list[Tensor]:
        leaves: list[Tensor] = []

        def leaf(values: Tensor) -> Tensor:
            if not values.is_floating_point():
                return values
            leaves.append(make(values.clone()).requires_grad_())
            return leaves[-1]

        results = values_of(CASES[name](Like(leaf, leaf)))
        total = sum(r.double().sum() for r in results if isinstance(r, Tensor) and r.requires_grad)
        assert isinstance(total, Tensor)
        found = torch.autograd.grad(total, leaves, allow_unused=True)
        return [g.as_subclass(Tensor) for g in found if g is not None]

    found, expected = gradients(metatensor), gradients(lambda values: values)
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_cases_are_not_trivial() -> None:
    assert CONTROL_GRID.shape == tuple(CONTROLS.shape[2:])
    assert FIELD.abs().max() > 0.5
