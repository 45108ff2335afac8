"""The penalty of implausible scales, and the overlap of the content."""

from __future__ import annotations

import math

import pytest
import torch

from stn3d.grid import Grid
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.stages import content_overlap_fraction, stretch_penalty
from stn3d.transforms import Affine


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ((1.2, 0.85, 1.0), 0.0),
        ((2.0, 2.0, 2.0), 0.1 * 3 * math.log(2 / 1.25) ** 2),  # a body that has grown
        ((0.5, 0.5, 0.5), 0.1 * 3 * math.log(2 / 1.25) ** 2),
        ((2.0, 1.0, 1.0), (1 - 1 / 3 + 0.1 / 3) * math.log(2 / 1.25) ** 2),
        ((2.0, 0.5, 1.0), 2 * math.log(2 / 1.25) ** 2),  # what all axes share is 0
    ],
)
def test_growth_costs_less_than_another_shape(scales: tuple[float, ...], expected: float) -> None:
    turn = torch.linalg.qr(torch.tensor([[1.0, 2, 3], [0, 1, 4], [5, 6, 0]]).double())[0]
    matrix = torch.eye(4).double()
    matrix[:3, :3] = turn @ torch.diag(torch.tensor(scales).double()) @ turn.T
    assert float(stretch_penalty(matrix)) == pytest.approx(expected, abs=1e-12)


def test_a_small_body_lies_within_a_small_field_of_view() -> None:
    values = torch.zeros(1, 1, 20, 20)
    values[..., 8:12, 8:12] = 1.0
    fixed = PreparedImage(values, Grid.of_spacing((20, 20)))
    inner = fixed.grid.cropped([7, 7], [13, 13])
    assert content_overlap_fraction(inner, Affine.identity(2), fixed) == 1.0
    half = fixed.grid.cropped([7, 7], [10, 13])
    assert content_overlap_fraction(half, Affine.identity(2), fixed) == 0.5
