"""Displacements in voxels against MONAI's Warp."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from monai.networks.blocks import Warp

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.ddf import from_ddf, to_ddf
from stn3d.transforms import Affine
from stn3d.warp import warp_image
from tests.helpers.geometry_cases import QUICK, make_grid, uniform
from tests.io.transforms.cases import GRIDS, affine, affines, field, largest_gap_mm, volumes


@settings(QUICK, max_examples=6)
@given(fixed=volumes(), moving=volumes(), transform=affines())
def test_round_trips(fixed: Grid, moving: Grid, transform: Affine) -> None:
    dense = field(fixed).then(transform)
    ddf = to_ddf(dense, fixed, moving)
    assert ddf.shape == (1, 3, *fixed.shape)
    assert ddf.dtype == torch.float32
    assert largest_gap_mm(from_ddf(ddf, fixed, moving), dense, fixed) < 1e-3


@pytest.mark.filterwarnings("ignore:monai.networks.blocks.Warp")
@pytest.mark.parametrize("orientation", GRIDS)
def test_monai_warps_as_stn3d_does(orientation: str) -> None:
    fixed = GRIDS[orientation]
    moving = make_grid(fixed.shape, (1.3, 1.1, 1.7), (5, -8, 12), left_handed=True)
    centred = torch.eye(4).double()
    centred[:3, 3] = moving.centre_mm - fixed.centre_mm
    transform = field(fixed).then(Affine.from_matrix(centred))
    image = uniform(0, 1, 1, 1, *moving.shape).float()
    ours = warp_image(image, moving, transform, fixed)
    theirs = Warp(padding_mode="zeros")(image, to_ddf(transform, fixed, moving))
    inside = warp_image(torch.ones_like(image), moving, transform, fixed) > 0
    border = Warp(padding_mode="zeros")(torch.ones_like(image), to_ddf(transform, fixed, moving))
    inside &= border > 0.99999  # MONAI's Warp fades to 0 over the outer half voxel
    assert int(inside.sum()) > 100
    assert float((ours - theirs)[inside].abs().max()) < 1e-4


def test_a_batch_of_transforms() -> None:
    fixed, moving = GRIDS["RAS"], GRIDS["oblique"]
    both = Affine(
        torch.stack([affine().parameters, Affine.identity(3).parameters]), torch.zeros(3).double()
    )
    ddf = to_ddf(both, fixed, moving)
    assert ddf.shape == (2, 3, *fixed.shape)
    torch.testing.assert_close(ddf[:1], to_ddf(affine(), fixed, moving))
    torch.testing.assert_close(ddf[1:], to_ddf(Affine.identity(3), fixed, moving))


def test_an_unbatched_ddf_and_integers() -> None:
    grid = Grid.of_spacing((3, 4), 2.0)
    ddf = torch.ones(2, 3, 4, dtype=torch.int32)
    assert float(from_ddf(ddf, grid, grid).displacement_mm.mean()) == 2.0


def test_shapes_and_dimensions_are_checked() -> None:
    plane, volume = Grid.of_spacing((3, 4)), GRIDS["RAS"]
    with pytest.raises(InputError, match=r"has the shape \(B, 2, 3, 4\); got \(1, 2, 4, 3\)"):
        from_ddf(torch.zeros(1, 2, 4, 3), plane, plane)
    with pytest.raises(InputError, match="the fixed image 2D and the moving image 3D"):
        to_ddf(Affine.identity(2), plane, volume)
