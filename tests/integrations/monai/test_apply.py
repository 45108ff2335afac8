import numpy as np
import pytest
import torch
from monai.networks.blocks import Warp
from monai.transforms import Compose, Invertd, Orientationd, Spacingd
from torch import Tensor

from stn3d.errors import InputError
from stn3d.integrations.monai import ApplyTransform, ApplyTransformd
from stn3d.io import write_transform
from stn3d.io.ddf import to_ddf
from stn3d.transforms import Affine, Translation
from stn3d.warp import warp_image
from tests.helpers.image_pairs import TRUTH
from tests.integrations.monai.cases import (
    body_grid,
    bump,
    dice,
    image,
    labels,
    mean_difference,
    metatensor,
    plane,
)

FIXED = body_grid((30, 30, 28), "LAS", (5, 10, 15))
MOVING = body_grid()


def warped(values: Tensor, grid=MOVING, target=FIXED, transform=None) -> Tensor:
    return warp_image(values.as_subclass(Tensor)[None], grid, transform or bump(FIXED), target)[0]


@pytest.mark.parametrize("kind", ["object", "key", "path", "path under a key", "matrix"])
def test_the_transform_is_given_in_any_way(kind, tmp_path):
    path = tmp_path / "transform.h5"
    write_transform(path, TRUTH)
    given, extra = {
        "object": (TRUTH, {}),
        "key": ("transform", {"transform": TRUTH}),
        "path": (str(path), {}),
        "path under a key": ("transform", {"transform": path}),
        "matrix": (TRUTH.matrix.numpy(), {}),
    }[kind]
    data = {"moving": image(MOVING), "fixed": image(FIXED), **extra}
    moved = ApplyTransformd("moving", given, like="fixed")(data)["moving"]
    torch.testing.assert_close(
        moved.as_tensor(), warped(data["moving"], transform=TRUTH), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(moved.affine, data["fixed"].affine)


def test_like_may_be_an_image_of_any_kind(tmp_path):
    import nibabel as nib

    path = tmp_path / "fixed.nii.gz"
    nib.save(
        nib.Nifti1Image(np.zeros(FIXED.shape, np.float32), FIXED.world_from_index.numpy()), path
    )
    moving = image(MOVING)
    expected = warped(moving)
    for like in (str(path), FIXED, image(FIXED)):
        moved = ApplyTransform(bump(FIXED), like)(moving)
        torch.testing.assert_close(moved.as_tensor(), expected, atol=2e-3, rtol=0)
        torch.testing.assert_close(moved.affine, FIXED.world_from_index, atol=1e-5, rtol=0)
    own = ApplyTransform(bump(FIXED))(moving)
    torch.testing.assert_close(own.as_tensor(), warped(moving, target=MOVING))


def test_metadata_are_those_of_the_grid_and_the_name_that_of_the_image():
    moving = metatensor(image(MOVING).as_tensor(), MOVING, filename_or_obj="moving.nii.gz", note=1)
    fixed = metatensor(image(FIXED).as_tensor(), FIXED, filename_or_obj="fixed.nii.gz", note=2)
    moved = ApplyTransform(bump(FIXED), fixed)(moving)
    assert (moved.meta["filename_or_obj"], moved.meta["note"]) == ("moving.nii.gz", 2)
    assert moving.meta["note"] == 1
    assert moving.applied_operations == []


def test_directions_are_inverse_to_each_other():
    points = 8 * torch.randn(20, 3, dtype=torch.float64)
    there = ApplyTransform(TRUTH, mode="points")
    back = ApplyTransform(TRUTH, mode="points", direction="to_moving")
    torch.testing.assert_close(there(points).as_tensor(), TRUTH.inverse()(points))
    torch.testing.assert_close(back(points).as_tensor(), TRUTH(points))
    moved = ApplyTransform(TRUTH, MOVING, direction="to_moving")(image(MOVING))
    expected = warped(image(MOVING), target=MOVING, transform=TRUTH.inverse())
    torch.testing.assert_close(moved.as_tensor(), expected)


def test_points_stay_on_the_structure_that_they_mark():
    """A bright voxel, moved as an image, lies where its moved point is."""
    values = torch.zeros(1, *MOVING.shape)
    values[0, 18, 12, 15] = 1
    blurred = torch.nn.functional.avg_pool3d(values[None], 3, 1, 1)[0]
    point = MOVING.points_mm()[18, 12, 15][None]
    keys, modes = ("moving", "point"), ("bilinear", "points")
    data = {"moving": metatensor(blurred, MOVING), "point": point}
    moved = ApplyTransformd(keys, bump(FIXED), FIXED, mode=modes)(data)
    weight = moved["moving"].as_tensor()[0]
    centre = (weight[..., None] * FIXED.points_mm()).sum((0, 1, 2)) / weight.sum()
    assert float((centre - moved["point"].as_tensor()[0]).norm()) < 0.3


def test_each_key_has_its_mode_and_padding():
    data = {"moving": image(MOVING), "segmentation": labels(MOVING)}
    keys = ("moving", "segmentation")
    far = Translation(torch.tensor([30.0, 0, 0]), torch.zeros(3))
    moved = ApplyTransformd(keys, far, mode=("bilinear", "label"), padding_mode=(-1000, 7))(data)
    assert float(moved["moving"].min()) == -1000
    assert set(moved["segmentation"].unique().tolist()) == {0, 1, 2, 7}


def test_missing_keys():
    data = {"moving": image(MOVING)}
    with pytest.raises(KeyError, match="absent"):
        ApplyTransformd(("moving", "absent"), TRUTH)(data)
    moved = ApplyTransformd(("moving", "absent"), TRUTH, allow_missing_keys=True)(data)
    assert "absent" not in moved
    assert ApplyTransformd("absent", "nothing", allow_missing_keys=True)(data) == data


def test_wrong_arguments_are_one_sentence():
    data = {"moving": image(MOVING), "fixed": image(FIXED)}
    with pytest.raises(InputError, match="no transform"):
        ApplyTransformd("moving", "transfrom")(data)
    with pytest.raises(InputError, match="direction"):
        ApplyTransformd("moving", TRUTH, direction="forward")
    with pytest.raises(InputError, match="2D"):
        ApplyTransformd("moving", Affine.identity(2))(data)


@pytest.mark.parametrize("nearest", [False, True])
def test_invertd_moves_back_onto_the_original_grid(nearest):
    """Through MONAI's transforms before and after; nearest_interp is Invertd's default."""
    keys = ("moving", "segmentation")
    data = {"moving": image(MOVING), "segmentation": labels(MOVING), "fixed": image(FIXED)}
    modes = ("bilinear", "nearest")
    pipeline = Compose(
        [
            Orientationd(keys, "PIR", labels=None),
            ApplyTransformd(keys, bump(FIXED), "fixed", mode=("bilinear", "label")),
            Spacingd(keys, (2.0, 2.0, 2.0), mode=modes),
        ]
    )
    moved = pipeline(data)
    back = Invertd(keys, pipeline, nearest_interp=nearest)(moved)
    for key in keys:
        torch.testing.assert_close(back[key].affine, data[key].affine, atol=1e-6, rtol=0)
        assert back[key].shape == data[key].shape
        assert back[key].applied_operations == []
        assert len(moved[key].applied_operations) == 3  # the moved item is left as it is
    assert mean_difference(data["moving"], back["moving"]) < (0.03 if nearest else 0.015)
    assert min(dice(data["segmentation"], back["segmentation"], n) for n in (1, 2)) > 0.9


def test_points_are_inverted():
    points = 8 * torch.randn(1, 20, 3, dtype=torch.float64)
    transform = ApplyTransformd("points", bump(FIXED), mode="points")
    back = transform.inverse(transform({"points": points}))["points"]
    assert float((back.as_tensor() - points).norm(dim=-1).max()) < 0.1


def test_planes():
    grid, target = plane(), plane((18, 26))
    values = metatensor(torch.rand(3, *grid.shape), grid, spatial_shape=np.array(grid.shape))
    transform = ApplyTransform(bump(target), target)
    moved = transform(values)
    torch.testing.assert_close(
        moved.as_tensor(), warped(values.as_tensor(), grid, target, bump(target))
    )
    back = transform.inverse(moved)
    assert back.shape == values.shape
    torch.testing.assert_close(back.affine, values.affine)


@pytest.mark.parametrize(
    "grids",
    [
        (body_grid((30, 28, 26)), body_grid((30, 28, 26), "LAS")),
        (body_grid((24, 40, 16), "LPS", (20, -35, 50)), body_grid((24, 40, 16), "RAS")),
        (body_grid((24, 40, 16), "PIR", (5, 5, 5)), body_grid((24, 40, 16), "LAS", (20, -35, 50))),
    ],
    ids=["RAS and LAS", "oblique LPS and RAS", "oblique PIR and oblique LAS"],
)
@pytest.mark.filterwarnings("ignore:monai.networks.blocks.Warp:UserWarning")
def test_monais_warp_moves_an_image_as_stn3d_does(grids):
    fixed, moving = grids
    transform = bump(fixed).then(TRUTH)
    values = image(moving)
    ours = ApplyTransform(transform, fixed)(values).as_tensor()
    ddf = to_ddf(transform, fixed, moving)
    theirs = Warp(padding_mode="zeros")(values.as_tensor()[None], ddf)[0]
    index = (ddf[0].movedim(0, -1) + fixed.points_index()).movedim(-1, 0)
    size = torch.tensor(moving.shape).reshape(3, 1, 1, 1)
    inside = ((index >= 0) & (index <= size - 1)).all(0)
    assert float(inside.float().mean()) > 0.5
    gap = (ours - theirs)[0][inside].abs().max()
    assert float(gap) < 1e-3 * float(values.max() - values.min())
