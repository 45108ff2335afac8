import pytest
import torch
import torch.nn.functional as F

from stn3d.grid import Grid
from stn3d.integrations.monai.items import moved_image
from stn3d.integrations.monai.modes import Sampling
from stn3d.integrations.monai.padding import IntoImage
from stn3d.transforms import Translation
from tests.integrations.monai.cases import body_grid, metatensor


@pytest.mark.parametrize("rule", ["border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_padding_is_that_of_grid_sample(rule, mode):
    """torch's grid_sample with align_corners=False has the same faces."""
    shape, shift_vox = (6, 5, 4), torch.tensor([2.3, -3.6, 1.2])
    values = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    index = Grid.of_spacing(shape).points_index(dtype=torch.float32) + shift_vox
    unit = (2 * index + 1) / torch.tensor(shape) - 1
    options = {"mode": mode, "padding_mode": rule, "align_corners": False}
    expected = F.grid_sample(values, unit.flip(-1)[None], **options)[0]
    grid = body_grid(shape, "LPS")
    shift_mm = grid.world_from_index[:3, :3] @ shift_vox.double()
    transform = Translation(shift_mm, torch.zeros(3))
    moved = moved_image(metatensor(values[0], grid), transform, grid, Sampling(mode, rule))
    torch.testing.assert_close(moved, expected, atol=2e-5, rtol=0)


def test_points_inside_stay():
    grid = body_grid((6, 5, 4), angles_deg=(20, 10, 0))
    points = grid.points_mm()
    for rule in ("border", "reflection"):
        torch.testing.assert_close(IntoImage(grid, rule)(points), points, atol=1e-9, rtol=0)


def test_labels_reach_the_faces_with_border():
    grid = body_grid((6, 5, 4))
    full = metatensor(torch.full((1, *grid.shape), 3.0), grid)
    far = Translation(torch.tensor([40.0, 0.0, 0.0]), torch.zeros(3))
    assert bool((moved_image(full, far, grid, Sampling("label", "border")) == 3).all())
    assert bool((moved_image(full, far, grid, Sampling("label", "zeros")) == 0).any())
