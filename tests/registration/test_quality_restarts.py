"""Repeated registrations: how far they end from the result, and how well the images fit there."""

from __future__ import annotations

import pytest
import torch

from stn3d.grid import homogeneous
from stn3d.registration.quality_restarts import restarts_of
from stn3d.transforms import Affine
from tests.helpers.synthetic import Known, grid_about, known_pair


def shifted(mm: float) -> Affine:
    shift = torch.tensor([0.0, 0, mm]).double()
    return Affine.from_matrix(homogeneous(torch.eye(3).double(), shift))


def slices_in_a_volume(spacing_mm: float) -> Known:
    """A stack of a body's slices, and the whole of it."""
    stack = grid_about(torch.zeros(3), [36, 36, 36], [1.5, 1.5, spacing_mm])
    volume = grid_about(torch.zeros(3), [48, 48, 48], [1.5] * 3)
    return known_pair(shifted(0.0), stack, volume)


@pytest.mark.parametrize(("spacing_mm", "left_mm"), [(3.0, 2.0), (9.0, 0.0)])
def test_a_quarter_of_the_distance_of_few_slices_is_no_disagreement(
    spacing_mm: float, left_mm: float
) -> None:
    known = slices_in_a_volume(spacing_mm)
    points = known.fixed_grid.points_mm()[known.foreground]
    found = restarts_of(known.pair, shifted(2.0), "rigid", "lncc", points, [shifted(0.0)], False)
    assert found.disagreement_mm == pytest.approx(left_mm, abs=0.5)


def test_the_loss_tells_whether_the_images_fit_where_a_restart_ends() -> None:
    known = slices_in_a_volume(3.0)
    points = known.fixed_grid.points_mm()[known.foreground]
    truth = shifted(0.0)
    far = Affine.from_matrix(homogeneous(torch.diag(torch.tensor([-1.0, -1, 1])), torch.zeros(3)))
    caught = restarts_of(known.pair, truth, "rigid", "lncc", points, [far], False)
    assert caught.disagreement_mm is not None
    assert caught.excess_loss is not None
    assert caught.disagreement_mm > 4
    assert caught.excess_loss > 0.05
    back = restarts_of(known.pair, truth, "rigid", "lncc", points, [shifted(2.0)], False)
    assert back.disagreement_mm == pytest.approx(0, abs=0.3)
    assert back.excess_loss == pytest.approx(0, abs=0.01)
    none = restarts_of(known.pair, truth, "rigid", "lncc", points, [], False)
    assert (none.disagreement_mm, none.excess_loss) == (None, None)
