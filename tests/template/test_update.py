"""Updates of a template from known transforms."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.template.average import MeanField, MeanImage, sharpened, sharpness
from stn3d.template.linear_mean import mirrored
from stn3d.template.space import template_grid, template_spacing_mm
from stn3d.template.subjects import read_subjects
from stn3d.template.update import Member, Space, image_on, updated
from stn3d.transforms import Affine, DisplacementField, Transform, chain, sampled
from tests.helpers.geometry_cases import smooth_field, uniform
from tests.helpers.synthetic import plain_grid
from tests.helpers.template_cases import anatomy, make_group

GRID = plain_grid(2, 50.0, 1.0)


def known_transforms(count: int) -> list[Transform]:
    """From points of the present template: a field, then an affine transform."""
    made: list[Transform] = []
    for n in range(count):
        linear = torch.eye(3).double()
        linear[:2, :2] += uniform(-0.1, 0.1, 2, 2, seed=n)
        field = DisplacementField(smooth_field(GRID, 2.0, seed=n), GRID)
        made.append(chain(field, Affine.from_matrix(linear)))
    return made


def members_of(folder: Path, transforms: list[Transform]) -> list[Member]:
    """Images that show the anatomy at the inverse of these transforms."""
    paths = []
    for n, transform in enumerate(transforms):
        back = sampled(chain(*[part.inverse() for part in reversed(transform.parts)]), GRID)
        values = anatomy(2)(back(GRID.points_mm()))[None, None]
        paths.append(folder / f"{n}.nii.gz")
        image_on(values, GRID, "image").save(paths[-1])
    subjects = sorted(read_subjects(paths), key=lambda one: one.name)
    return [(s, partial(lambda t: t, t)) for s, t in zip(subjects, transforms, strict=True)]


def test_the_mean_displacement_is_removed_and_images_are_resampled_once(tmp_path: Path) -> None:
    transforms = known_transforms(3)
    members = members_of(tmp_path, transforms)
    space = Space(GRID, GRID.centre_mm)
    done = updated(members, space, None, 0.0)
    fields = [DisplacementField(one.parts[0].displacement_mm, GRID) for one in transforms]  # type: ignore[attr-defined]
    mean_field = MeanField(GRID)
    for field in fields:
        mean_field.add(field)
    linear = space.centring([one.parts[1] for one in transforms])  # type: ignore[misc]
    inverse = mean_field.result().inverse()
    points = GRID.points_mm()[8:-8, 8:-8].reshape(-1, 2)
    old = inverse(linear(points))
    warped = torch.stack([field(old) for field in fields]).mean(0)
    torch.testing.assert_close(warped, linear(points), atol=0.02, rtol=0)
    # all images show the anatomy at `old`
    expected = anatomy(2)(old).double()
    seen = done.values[0, 0, 8:-8, 8:-8].flatten().double()
    assert float(torch.corrcoef(torch.stack([seen, expected]))[0, 1]) > 0.995
    assert done.metrics["mean_displacement_mm"] > 0.3


def test_a_symmetric_template_is_exactly_symmetric(tmp_path: Path) -> None:
    members = members_of(tmp_path, known_transforms(2))
    space = Space(GRID, GRID.centre_mm, symmetric=True)
    done = updated(members, space, None, 1.0)
    assert torch.equal(done.values, done.values.flip(2))
    both = [*done.poses, *(mirrored(pose, space.mirror) for pose in done.poses)]
    torch.testing.assert_close(
        space.centring(both).matrix, torch.eye(3).double(), atol=1e-9, rtol=0
    )


def test_brightness_scale_and_field_of_view_do_not_change_the_mean() -> None:
    """A third image is brighter by ten and shows one half only."""
    values = anatomy(2)(GRID.points_mm())[None, None]
    noise = 0.01 * uniform(0, 1, *values.shape, seed=2).float()  # scanned air is not constant
    mean, identity = MeanImage(GRID, None, False), Affine.identity(2)
    for n, scale in enumerate((1.0, 3.0)):
        mean.add(image_on(scale * (values + noise), GRID, f"{n}"), identity)
    whole = mean.result()
    half = Grid((25, 50), GRID.world_from_index)
    mean = MeanImage(GRID, whole, False)
    for n, scale in enumerate((1.0, 3.0)):
        mean.add(image_on(scale * (values + noise), GRID, f"{n}"), identity)
    mean.add(image_on(10 * (values + noise)[:, :, :25], half, "half"), identity)
    torch.testing.assert_close(mean.result(), whole, atol=1.5, rtol=0)  # of 100
    assert float(whole.quantile(0.995)) == pytest.approx(100, rel=0.1)


def test_sharpness_and_sharpening() -> None:
    values = anatomy(2)(GRID.points_mm())[None, None]
    mask = torch.ones(GRID.shape, dtype=torch.bool)
    plain = sharpness(values, GRID, mask)
    ramp = torch.arange(50.0)[:, None].expand(50, 50)[None, None]
    deviation = float(ramp.std())
    assert sharpness(ramp, GRID, mask) == pytest.approx(1 / deviation, rel=1e-4)
    assert sharpness(7 * values, GRID, mask) == pytest.approx(plain, rel=1e-4)
    assert sharpness(sharpened(values, 1.0), GRID, mask) > 1.05 * plain
    assert torch.equal(sharpened(values, 0.0), values)


def test_the_grid_covers_all_images_and_treats_them_alike(tmp_path: Path) -> None:
    grids = [one.grid for one in make_group(tmp_path, 4)]
    poses = [Affine.from_matrix(torch.eye(3).double()) for _ in grids]
    spacing = template_spacing_mm(grids)
    assert spacing == pytest.approx(1.07, abs=0.01)  # median of sqrt(1.0), sqrt(1.1) ...
    grid = template_grid(grids, poses, spacing)
    again = template_grid(grids[::-1], poses, spacing)
    assert grid.shape == again.shape
    assert torch.equal(grid.world_from_index, again.world_from_index)
    assert grid.orientation == "RA"
    symmetric = template_grid(grids, poses, spacing, 2.0)
    assert float(symmetric.centre_mm[0]) == pytest.approx(2.0, abs=1e-5)


def test_images_away_from_the_grid_give_no_mean() -> None:
    away = Affine.from_matrix(torch.tensor([[1.0, 0, 1e4], [0, 1, 0], [0, 0, 1]]).double())
    mean = MeanImage(GRID, None, False)
    mean.add(image_on(torch.rand(1, 1, *GRID.shape), GRID, "image"), away)
    with pytest.raises(InputError, match="check that all images show the same object"):
        mean.result()
