"""The linear stages where the kind of transform is selected on the way."""

from __future__ import annotations

import pytest
import torch

from stn3d.registration.linear_part import rigid_again
from stn3d.registration.settings import settings_from
from stn3d.transforms import Affine
from tests.helpers.synthetic import dense_truth, known_pair, plain_grid


@pytest.mark.parametrize(
    ("init", "scale"), [("auto", 1.0), ("mass", 1.0), ("a/file.h5", 0.99), ("given", 0.99)]
)
def test_a_rigid_registration_keeps_no_scale_that_was_found(init: str, scale: float) -> None:
    """The candidates for an affine transform have a scale; a transform that is given stays."""
    grid = plain_grid(3, 12)
    pair = known_pair(dense_truth(grid, 0.5), grid, grid).pair
    turn = torch.tensor([[0.0, -1, 0, 3], [1, 0, 0, 2], [0, 0, 1, 1], [0, 0, 0, 1]]).double()
    turn[:3, :3] *= 0.99
    start = Affine.from_matrix(turn)
    stages, begun = rigid_again(pair, settings_from({"kind": "rigid", "init": init}), start, None)
    assert [stage.name for stage in stages] == ["rigid"]
    assert isinstance(begun, Affine)
    assert torch.linalg.svdvals(begun.matrix[:3, :3]).tolist() == pytest.approx([scale] * 3)
    centre = pair.fixed.grid.centre_mm[None]
    assert torch.allclose(begun(centre), start(centre))
