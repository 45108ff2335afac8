import numpy as np
import pytest
import torch
from monai.data import MetaTensor, set_track_meta
from monai.transforms import Flip, Orientation, TransformPointsWorldToImaged
from torch import Tensor

from stn3d.errors import InputError
from stn3d.integrations.monai.items import image_of, moved_image, moved_points, target_of, tensor_of
from stn3d.integrations.monai.modes import Sampling
from stn3d.transforms import Translation
from stn3d.warp import warp_image
from tests.integrations.monai.cases import body_grid, bump, image, labels, metatensor, plane


@pytest.mark.parametrize("grid", [body_grid(axes="LAS", angles_deg=(10, 20, 30)), plane()])
def test_the_grid_of_an_item_is_that_of_its_affine(grid):
    values = torch.rand(3, *grid.shape)
    for channels in (1, 3):
        found = target_of(
            image_of(metatensor(values[:channels], grid, spatial_shape=grid.shape), "x"), "x"
        )
        assert found.grid.same_as(grid)


def test_lps_items_lie_where_ras_items_do():
    ras = image(body_grid())
    lps = MetaTensor(
        ras.as_tensor(),
        affine=np.diag([-1.0, -1, 1, 1]) @ ras.affine.numpy(),
        meta={"space": "LPS"},
    )
    assert target_of(lps, "x").grid.same_as(target_of(ras, "x").grid)


def test_arrays_have_the_identity_as_affine():
    assert target_of(image_of(np.ones((1, 4, 3, 2)), "x"), "x").grid.spacing_mm == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("shape", [(4, 3), (2, 1, 4, 3, 2), (1, 0, 3, 2)])
def test_what_is_no_channel_first_image_is_one_sentence(shape):
    with pytest.raises(InputError, match=r"'moving' has the shape \(.*EnsureChannelFirstd"):
        image_of(torch.zeros(shape), "'moving'")


def test_batches_and_paths_are_one_sentence():
    batch = MetaTensor(torch.zeros(2, 1, 4, 3))
    batch.is_batch = True
    with pytest.raises(InputError, match="which is a batch"):
        image_of(batch, "'moving'")
    with pytest.raises(InputError, match="load it first"):
        tensor_of("moving.nii.gz", "'moving'")


def test_pending_operations_are_applied():
    item = image(body_grid())
    lazy = Orientation("LPI", labels=None, lazy=True)(Flip(1, lazy=True)(item))
    assert lazy.pending_operations
    eager = Orientation("LPI", labels=None)(Flip(1)(item))
    applied = image_of(lazy, "x")
    assert not applied.pending_operations
    assert torch.equal(applied.as_tensor(), eager.as_tensor())
    torch.testing.assert_close(applied.affine, eager.affine)


def test_without_tracking_items_are_plain_tensors():
    set_track_meta(False)
    try:
        assert type(image_of(torch.zeros(1, 3, 3, 3), "x")) is Tensor
    finally:
        set_track_meta(True)


def test_every_channel_is_moved_as_by_warp_image():
    grid, target = body_grid(axes="LAS", angles_deg=(10, 20, 30)), body_grid((20, 24, 22))
    values, transform = torch.rand(2, *grid.shape), bump(target)
    moved = moved_image(metatensor(values, grid), transform, target, Sampling())
    assert type(moved) is Tensor
    torch.testing.assert_close(moved, warp_image(values[None], grid, transform, target)[0])


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int16, torch.uint16, torch.int64, torch.bool, torch.float32]
)
@pytest.mark.parametrize("mode", ["nearest", "label"])
def test_labels_keep_their_dtype_and_values(dtype, mode):
    grid = body_grid()
    map_ = labels(grid).to(dtype)
    moved = moved_image(map_, bump(grid), grid, Sampling(mode))
    assert moved.dtype == dtype
    assert set(moved.int().unique().tolist()) == set(map_.as_tensor().int().unique().tolist())


def test_large_ids_are_exact():
    grid = body_grid((8, 8, 8))
    ids = torch.where(torch.arange(8)[:, None, None] < 4, 614454277, 614454278).expand(1, 8, 8, 8)
    still = Translation(torch.zeros(3), torch.zeros(3))
    for mode in ("nearest", "label", "auto"):
        assert torch.equal(moved_image(metatensor(ids, grid), still, grid, Sampling(mode)), ids)


def test_integers_become_float_by_linear_interpolation():
    grid = body_grid()
    moved = moved_image(image(grid).to(torch.int16), bump(grid), grid, Sampling())
    assert moved.dtype == torch.float32
    assert bool((moved != moved.round()).any())


def test_fractions_are_no_labels():
    grid = body_grid()
    with pytest.raises(InputError, match="holds fractions"):
        moved_image(image(grid), bump(grid), grid, Sampling("label"))


def test_auto_tells_labels_from_images():
    grid = body_grid()
    assert set(moved_image(labels(grid), bump(grid), grid, Sampling("auto")).unique().tolist()) <= {
        0,
        1,
        2,
    }
    by_auto = moved_image(image(grid), bump(grid), grid, Sampling("auto"))
    assert torch.equal(by_auto, moved_image(image(grid), bump(grid), grid, Sampling()))


def test_another_dimension_is_one_sentence():
    grid = plane()
    with pytest.raises(InputError, match="the image is 2D and the transform 3D"):
        moved_image(
            metatensor(torch.rand(1, *grid.shape), grid), bump(body_grid()), grid, Sampling()
        )


def test_points_are_moved_in_world_millimetres():
    shift = Translation(torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3))
    whole = moved_points(torch.tensor([[-119, -135, -193]]), shift, "x")
    assert whole.dtype == torch.float64
    assert whole.tolist() == [[-118, -133, -190]]
    assert moved_points(torch.zeros(1, 0, 3), shift, "x").shape == (1, 0, 3)
    with pytest.raises(InputError, match=r"points in 3D are \(..., 3\)"):
        moved_points(torch.zeros(4, 2), shift, "'points'")


def test_points_in_voxels_of_an_image_are_moved_by_their_affine():
    """MONAI's TransformPointsWorldToImaged leaves voxels, and an affine from them to the world."""
    item, points = image(body_grid(axes="LPS")), 8 * torch.randn(1, 9, 3, dtype=torch.float64)
    data = {"image": item, "points": points}
    voxels = TransformPointsWorldToImaged("points", refer_keys="image", dtype=torch.float64)(data)[
        "points"
    ]
    transform = bump(body_grid())
    moved = moved_points(voxels, transform, "x")
    matrix = item.affine
    world = moved @ matrix[:3, :3].T + matrix[:3, 3]
    torch.testing.assert_close(world, transform(points), atol=1e-6, rtol=0)
