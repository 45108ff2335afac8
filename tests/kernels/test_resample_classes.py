"""The most probable class on another grid: by hand, and the kernel against the reference."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from stn3d import kernels
from stn3d.kernels.resample_classes import reference
from tests.helpers.geometry_cases import random
from tests.kernels.cases import DTYPES, SHAPES, strided
from tests.kernels.test_resample import Rows, resampling


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", get_args(Rows))
@pytest.mark.parametrize("with_factors", [False, True])
def test_classes_equal_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, rows: Rows, with_factors: bool
) -> None:
    """Coarse probabilities, so that some cells have one class and others have several."""
    logits = random(1, 5, *shape).cumsum(dim=-1)
    probabilities = strided(torch.softmax(2 * logits, dim=1)).to(dtype)
    _, matrix, wanted, _ = resampling(shape, dtype, False, rows)
    groups, each = [0, 1, -1, 1, 2], torch.ones(1, 4, *wanted, dtype=dtype)
    factors = None
    if with_factors:
        each[:, :3] = torch.exp(random(1, 3, *wanted, seed=1)).to(dtype)
        factors = each[:, :3].contiguous()
    actual = kernels.resample_classes(probabilities, matrix, wanted, factors, groups)
    expected = reference.resample_classes(probabilities, matrix, wanted, factors, groups)
    assert actual.dtype == torch.uint8
    interpolated = kernels.resample(probabilities, matrix, wanted) * each[:, groups]
    mixed = interpolated.topk(2, dim=1).values
    clear = mixed[:, :1] - mixed[:, 1:] > 1e-5
    assert torch.equal(actual[clear], interpolated.argmax(dim=1, keepdim=True)[clear].byte())
    assert torch.equal(actual[clear], expected[clear])
    within = mixed[:, :1] > 0
    assert bool((actual[~within] == 0).all())
    assert int(clear.sum()) > 0.9 * int(within.sum())
    assert len(actual.unique()) > 2


def test_a_class_may_win_between_two_others() -> None:
    """At the first voxel class 0 is ahead of 1, at the second class 2; in the middle third 1 is."""
    ends = torch.tensor([[0.40, 0.25], [0.35, 0.35], [0.25, 0.40]])
    probabilities = ends.reshape(1, 3, 1, 2)
    quarters = torch.tensor([[1.0, 0, 0], [0, 0.25, 0], [0, 0, 1]]).double()
    for module in (kernels, reference):
        found = module.resample_classes(probabilities, quarters, (1, 5), None, ())  # type: ignore[attr-defined]
        assert found.tolist() == [[[[0, 0, 1, 2, 2]]]]
