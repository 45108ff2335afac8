"""The discrete search recovers large displacements that jump, and finds nothing in equal images."""

from __future__ import annotations

import pytest
import torch

from stn3d.errors import InputError
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.stages import Comparison, DiscreteStage
from stn3d.registration.stages.discrete import candidate_offsets
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS
from tests.helpers.sliding import sliding_pair
from tests.helpers.stages import run

STAGE = DiscreteStage()


@pytest.mark.parametrize("ndim", DIMS)
def test_a_shift_of_20_mm_with_a_sliding_border_is_recovered(ndim: int) -> None:
    known = sliding_pair(ndim, 20.0)
    found = run(known.pair, Affine.identity(ndim), STAGE)
    for where in ("inside", "outside"):
        points = getattr(known, where)
        error = (found(points) - known.truth(points)).norm(dim=1)
        before = (points - known.truth(points)).norm(dim=1).mean()
        assert float(before) == (20.0 if where == "inside" else 0.0)
        assert float(error.mean()) < 1.0
    again = run(known.pair, Affine.identity(ndim), STAGE)
    points = torch.cat([known.inside, known.outside])
    assert torch.equal(found(points), again(points))


@pytest.mark.parametrize("ndim", DIMS)
def test_equal_images_are_not_displaced(ndim: int) -> None:
    image = sliding_pair(ndim, 20.0).pair.moving
    noise = torch.randn(image.image.shape, generator=torch.Generator().manual_seed(1))
    other = PreparedImage(image.image + 0.02 * noise, image.grid)
    start = Affine.identity(ndim)
    assert run(Pair(image, image), start, STAGE) is start
    points = image.grid.points_mm()
    moved = (run(Pair(image, other), start, STAGE)(points) - points).norm(dim=-1)
    assert float(moved.mean()) < 0.02
    assert float(moved.max()) < 2.0  # half a voxel of the search, in a window of little texture


def test_a_slice_is_registered_like_the_volume_of_copies_of_it() -> None:
    """The first axis of the 3D images is constant, so nothing moves along it."""
    flat = sliding_pair(2, 20.0)
    images = [
        PreparedImage(one.image[:, :, None].repeat(1, 1, 18, 1, 1), flat.volume_grid(18))
        for one in (flat.pair.fixed, flat.pair.moving)
    ]
    field = run(Pair(images[0], images[1]), Affine.identity(3), STAGE)
    points = torch.cat([flat.inside, flat.outside])
    expected = run(flat.pair, Affine.identity(2), STAGE)(points) - points
    middle = torch.cat([torch.full((len(points), 1), 17.0), points], dim=1)
    moved = field(middle.double()) - middle
    assert float(moved[:, 0].abs().max()) < 0.2
    assert float((moved[:, 1:] - expected).norm(dim=1).mean()) < 0.5


def test_masked_voxels_do_not_decide() -> None:
    known = sliding_pair(2, 20.0)
    fixed = known.pair.fixed
    mask = torch.ones_like(fixed.image)
    mask[:, :, 36:54, 30:48] = 0
    spoilt = torch.where(mask > 0, fixed.image, torch.rand(fixed.image.shape))
    stage = DiscreteStage()
    comparison = Comparison.of(
        Pair(PreparedImage(spoilt, fixed.grid, mask), known.pair.moving), known.truth, 6.0
    )
    hidden = comparison.fixed_weight == 0
    assert bool(hidden.any())
    found = stage.residual(comparison, 3).displacement_mm.norm(dim=1, keepdim=True)
    assert float(found[hidden].mean()) < 3.0


def test_candidates_are_a_ball_with_the_shortest_first() -> None:
    offsets = candidate_offsets(2, 3)
    assert offsets[0].tolist() == [0, 0, 0]
    assert len(offsets) == 33  # 1 + 6 + 12 + 8 + 6
    lengths = offsets.double().norm(dim=1)
    assert float(lengths.max()) == 2
    assert bool((lengths.diff() >= 0).all())


def test_memory_grows_with_the_candidates() -> None:
    pair = sliding_pair(3, 20.0).pair
    wide = DiscreteStage(radii_vox=(8, 5))
    assert wide.memory_floats(pair, 1) > STAGE.memory_floats(pair, 1) > pair.fixed.grid.num_voxels


def test_a_level_without_a_radius_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"discrete\.spacings has 3 levels and .* 2; give a radius"
    ):
        DiscreteStage(spacings=(8, 4, 2), radii_vox=(3, 3))
