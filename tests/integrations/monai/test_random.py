import pickle

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose, Invertd
from monai.utils import set_determinism
from torch import Tensor

from stn3d.integrations.monai import (
    RandAffineWorld,
    RandAffineWorldd,
    RandSmoothDeform,
    RandSmoothDeformd,
)
from tests.integrations.monai.cases import (
    body_grid,
    dice,
    image,
    labels,
    mean_difference,
    metatensor,
    plane,
)

AFFINE = {"rotation_deg": 20.0, "translation_mm": 6.0, "scale": 1.1, "shear": 0.05}
SMOOTH = {"amplitude_mm": (5.0, 6.0), "sigma_mm": (12.0, 14.0)}
BOTH = [(RandSmoothDeformd, SMOOTH), (RandAffineWorldd, AFFINE)]
both = pytest.mark.parametrize(("cls", "options"), BOTH, ids=["smooth", "affine"])


def seeded(cls, *args, seed=3, prob=1.0, **options):
    return cls(*args, prob=prob, **options).set_random_state(seed)


@both
def test_one_seed_gives_one_deformation_in_mm_for_any_voxels(cls, options):
    """The same points move alike with images of other spacing, orientation and field of view."""
    points = 10 * torch.randn(50, 3, dtype=torch.float64)
    moved = []
    for grid in (
        body_grid((32, 32, 32)),
        body_grid((40, 20, 30), "PIR"),
        body_grid((33, 33, 33), "LPS", size_mm=66.0),
    ):
        transform = seeded(cls, ("image", "points"), mode=("bilinear", "points"), **options)
        moved.append(transform({"image": image(grid), "points": points})["points"].as_tensor())
    assert float((moved[0] - points).norm(dim=1).mean()) > 1
    for other in moved[1:]:
        torch.testing.assert_close(other, moved[0], atol=1e-3, rtol=0)


@both
def test_images_labels_and_points_move_together(cls, options):
    """On grids of their own: the label of a moved voxel is that of the moved image's intensity."""
    fine, coarse = body_grid((64, 64, 64), "LAS"), body_grid((32, 32, 32))
    spot = torch.zeros(fine.shape)
    spot[36:39, 28:31, 34:37] = 1
    point = fine.points_mm()[37, 29, 35][None]
    data = {
        "image": image(fine),
        "spot": metatensor(spot[None], fine),
        "segmentation": labels(coarse),
        "point": point,
    }
    modes = ("bilinear", "bilinear", "label", "points")
    moved = seeded(cls, tuple(data), mode=modes, **options)(data)
    weight = moved["spot"].as_tensor()[0]
    centre = (weight[..., None] * fine.points_mm()).sum((0, 1, 2)) / weight.sum()
    assert float((centre - moved["point"][0].as_subclass(Tensor)).norm()) < 0.5
    assert float((moved["point"].as_tensor() - point).norm()) > 1
    by_intensity = (
        moved["image"]
        .as_tensor()
        .unfold(1, 2, 2)
        .unfold(2, 2, 2)
        .unfold(3, 2, 2)
        .mean((-1, -2, -3))
    )
    again = ((by_intensity > 30).int() + (by_intensity > 70)).flip(1)
    assert dice(again, moved["segmentation"], 1) > 0.75
    assert dice(again, moved["segmentation"], 2) > 0.9


@both
def test_invertd_moves_back(cls, options):
    grid, keys = body_grid(axes="LPS"), ("image", "segmentation")
    data = {"image": image(grid), "segmentation": labels(grid)}
    moves = cls(keys, mode=("bilinear", "label"), prob=1.0, **options)
    pipeline = Compose([moves]).set_random_state(3)  # Compose seeds what it is given
    moved = pipeline(data)
    before = mean_difference(data["image"], moved["image"])
    assert before > 0.005
    torch.testing.assert_close(moved["image"].affine, data["image"].affine)
    back = Invertd(keys, pipeline, nearest_interp=False)(moved)
    assert mean_difference(data["image"], back["image"]) < before / 2
    assert dice(data["segmentation"], back["segmentation"], 2) > 0.93


@both
def test_the_state_decides(cls, options):
    data = {"image": image(body_grid((16, 16, 16)))}
    first, second = (seeded(cls, "image", **options) for _ in range(2))
    for _ in range(3):
        assert torch.equal(first(data)["image"], second(data)["image"])
    other = seeded(cls, "image", seed=4, **options)
    assert not torch.equal(first(data)["image"], other(data)["image"])
    read = pickle.loads(pickle.dumps(first))
    assert torch.equal(read(data)["image"], first(data)["image"])


def test_set_determinism_seeds_a_pipeline():
    data = [{"image": image(body_grid((12, 12, 12)))} for _ in range(2)]
    found = []
    for _ in range(2):
        set_determinism(seed=5)
        pipeline = Compose([RandSmoothDeformd("image", prob=1, **SMOOTH)]).set_random_state(5)
        found.append(torch.stack([pipeline(one)["image"].as_tensor() for one in data]))
    set_determinism(seed=None)
    assert torch.equal(*found)
    assert not torch.equal(found[0][0], found[0][1])


def test_probability():
    data = {"image": image(body_grid((8, 8, 8))), "other": 1}
    transform = seeded(RandAffineWorldd, "image", prob=0.3, **AFFINE)
    results = [transform(data) for _ in range(30)]
    still = [r for r in results if torch.equal(r["image"], data["image"])]
    assert 14 <= len(still) <= 28
    for result in results:  # an item that was left alone is inverted as well
        assert transform.inverse(result)["image"].applied_operations == []
    assert torch.equal(transform.inverse(still[0])["image"], data["image"])


def test_missing_keys():
    data = {"image": image(body_grid((8, 8, 8)))}
    with pytest.raises(KeyError, match="absent"):
        seeded(RandAffineWorldd, ("image", "absent"), **AFFINE)(data)
    moved = seeded(RandAffineWorldd, ("image", "absent"), allow_missing_keys=True, **AFFINE)(data)
    assert not torch.equal(moved["image"], data["image"])
    assert seeded(RandSmoothDeformd, "absent", allow_missing_keys=True)({}) == {}


def test_a_translation_is_in_world_mm():
    """The centre of mass moves by at most the translation, and along with a point."""
    grid = body_grid((40, 20, 30), "PIR")
    values, point = torch.zeros(1, *grid.shape), grid.points_mm()[20, 10, 15][None]
    values[0, 20, 10, 15] = 1
    data = {"image": metatensor(values, grid), "point": point}
    only = {"translation_mm": 9.0, "mode": ("bilinear", "points")}
    for seed in range(4):
        moved = seeded(RandAffineWorldd, ("image", "point"), seed=seed, **only)(data)
        weight = moved["image"].as_tensor()[0]
        centre = (weight[..., None] * grid.points_mm()).sum((0, 1, 2)) / weight.sum()
        shift = moved["point"].as_tensor()[0] - point[0]
        assert 0 < float(shift.norm()) <= 9
        torch.testing.assert_close(centre - point[0], shift, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("cls", "options"), [(RandSmoothDeform, SMOOTH), (RandAffineWorld, AFFINE)]
)
def test_arrays(cls, options):
    for item in (image(body_grid((16, 16, 16))), np.random.default_rng(0).random((2, 12, 12, 12))):
        transform = seeded(cls, **options)
        moved = transform(item)
        assert moved.shape == item.shape
        assert torch.equal(transform(item, randomize=False), moved)
        assert transform.inverse(moved).shape == item.shape
        assert seeded(cls, prob=0.0, **options)(item).shape == item.shape


def test_planes():
    grid = plane()
    data = {"image": metatensor(torch.rand(1, *grid.shape), grid)}
    for cls, options in BOTH:
        moved = seeded(cls, "image", **options)(data)["image"]
        assert moved.shape == data["image"].shape
        assert not torch.equal(moved, data["image"])


def test_workers_deform_differently_and_repeatably():
    data = [{"image": image(body_grid((12, 12, 12)))} for _ in range(4)]
    runs = []
    for _ in range(2):
        transform = Compose([RandSmoothDeformd("image", prob=1, **SMOOTH)])
        dataset = CacheDataset(data, transform, progress=False, num_workers=0)
        set_determinism(seed=1)
        loader = DataLoader(dataset, batch_size=2, num_workers=2)
        runs.append(torch.cat([batch["image"].as_tensor() for batch in loader]))
    set_determinism(seed=None)
    assert torch.equal(*runs)
    assert len(runs[0].flatten(1).sum(1).unique()) == 4
