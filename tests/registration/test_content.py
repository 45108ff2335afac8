"""A stripped brain and a whole head share the brain; other pairs share all of both images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

import stn3d
from stn3d.grid import Grid
from stn3d.io import read_image
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.content import SharedContent, shared_content, unscaled
from stn3d.registration.initialisation.initialise import initialise
from stn3d.registration.settings import settings_from
from stn3d.transforms import Affine, Transform
from stn3d.warp import warp_image
from tests.helpers.geometry_cases import DIMS
from tests.helpers.heads import BRAIN, SCALP, head_image, prepared_pair
from tests.helpers.synthetic import Anatomy, linear_truth, plain_grid

BOTH = (True, True)
MM = 1.0


def shift(ndim: int) -> Affine:
    """A translation by a millimetre or two."""
    offset = torch.tensor([2.0, -1, 1], dtype=torch.float64)[:ndim]
    zero = torch.zeros(ndim, dtype=torch.float64)
    return Affine.from_matrix(linear_truth("rigid", zero, offset, 0).matrix)


def a_pair(ndim: int, fixed_stripped: bool, moving_stripped: bool) -> tuple[Pair, Affine]:
    """A pair with its true transform."""
    truth = shift(ndim)
    fixed = head_image(plain_grid(ndim, 48), fixed_stripped, truth)
    moving = head_image(plain_grid(ndim, 50), moving_stripped)
    return prepared_pair(fixed, moving), truth


def body(grid: Grid, transform: Transform) -> Tensor:
    return Anatomy(torch.zeros(grid.ndim).double()).body(transform(grid.points_mm()))


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_the_image_that_ends_is_found(ndim: int, role: str) -> None:
    pair, truth = a_pair(ndim, role == "fixed", role == "moving")
    found = shared_content(pair, truth, MM, BOTH)
    assert found is not None
    assert found.role == role
    assert found.fraction(truth) > 0.9
    selection = found.selection(truth)
    assert selection.choice == f"content of the {role} image"
    other = "moving" if role == "fixed" else "fixed"
    assert f"--{other}-mask" in selection.reason
    assert selection.evidence == {"tissue_around": found.fraction(truth)}


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("stripped", [True, False])
def test_two_images_of_one_kind_share_everything(ndim: int, stripped: bool) -> None:
    pair, truth = a_pair(ndim, stripped, stripped)
    assert shared_content(pair, truth, MM, BOTH) is None


def test_a_noisy_background_is_no_end() -> None:
    pair, truth = a_pair(3, True, False)
    assert shared_content(pair, truth, MM, (False, True)) is None
    noise = 0.01 * torch.rand(pair.fixed.image.shape, generator=torch.manual_seed(0))
    noisy = replace(pair, fixed=replace(pair.fixed, image=pair.fixed.image + noise))
    assert shared_content(noisy, truth, MM, BOTH) is None


@pytest.mark.parametrize("ndim", DIMS)
def test_strong_noise_is_no_tissue(ndim: int) -> None:
    """Noise of both signs lifts the air of a scaled image above 0."""
    truth = shift(ndim)
    fixed = head_image(plain_grid(ndim, 48), True, truth)
    for stripped in (True, False):
        image, grid = head_image(plain_grid(ndim, 50), stripped)
        noise = 0.3 * torch.randn(image.shape, generator=torch.manual_seed(0))
        pair = prepared_pair(fixed, (image + noise, grid))
        found = shared_content(pair, truth, 2 * MM, (True, False))
        assert (found is None) == stripped


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("padded", [True, False])
def test_a_partial_field_of_view_is_no_end(ndim: int, padded: bool) -> None:
    grid, truth = plain_grid(ndim, 48), shift(ndim)
    image = head_image(grid, False, truth)[0]
    whole = head_image(plain_grid(ndim, 50), False)
    start, stop = [18, *[0] * (ndim - 1)], [30, *grid.shape[1:]]
    if padded:
        image[:, :, : start[0]], image[:, :, stop[0] :] = 0, 0
        slab = image, grid
    else:
        slab = image[:, :, start[0] : stop[0]], grid.cropped(start, stop)
    assert shared_content(prepared_pair(slab, whole), truth, MM, BOTH) is None
    assert shared_content(prepared_pair(whole, slab), truth.inverse(), MM, BOTH) is None


def test_masks_of_the_user_decide_what_is_compared() -> None:
    pair, truth = a_pair(3, True, False)
    brain = (body(pair.moving.grid, Affine.identity(3)) < BRAIN).float()[None, None]
    masked = replace(pair, moving=replace(pair.moving, mask=brain))
    assert shared_content(masked, truth, MM, BOTH) is None


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_masks_cover_the_content(ndim: int, role: str) -> None:
    pair, truth = a_pair(ndim, role == "fixed", role == "moving")
    content = SharedContent(pair, "fixed" if role == "fixed" else "moving", MM)
    identity = Affine.identity(ndim)
    at = {"fixed": body(pair.fixed.grid, truth), "moving": body(pair.moving.grid, identity)}
    other = "moving" if role == "fixed" else "fixed"

    def covered(view: Pair, side: str) -> Tensor:
        image: PreparedImage = getattr(view, side)
        assert image.mask is not None
        assert getattr(view, {"fixed": "moving", "moving": "fixed"}[side]).mask is None
        return image.mask[0, 0] > 0.5

    assert torch.equal(covered(content.within, role), at[role] < BRAIN)
    exact, wide = (covered(v, other) for v in (content.covered(truth), content.around(truth)))
    assert (exact & (at[other] < BRAIN)).sum() > 0.95 * exact.sum()
    assert (exact & (at[other] < BRAIN)).sum() > 0.95 * (at[other] < BRAIN).sum()
    assert bool((wide | ~exact).all())
    assert 1 < wide.sum() / exact.sum() < SCALP**ndim


def test_masks_are_added_to_those_given() -> None:
    pair, truth = a_pair(2, True, False)
    half = torch.ones_like(pair.moving.image)
    half[..., :25] = 0
    given = replace(pair, moving=replace(pair.moving, mask=half))
    mask = SharedContent(given, "fixed", MM).covered(truth).moving.mask
    assert mask is not None
    assert mask[..., :25].sum() == 0 < mask.sum()


def test_unscaled_keeps_rotation_and_the_centre() -> None:
    pair, _ = a_pair(3, True, False)
    zero, offset = torch.zeros(3).double(), torch.tensor([3.0, 1, -2]).double()
    rigid = linear_truth("rigid", zero, offset, 12)
    zoom = Affine.from_matrix(torch.diag(torch.tensor([1.3, 1.3, 1.3, 1.0]).double()))
    found = unscaled(Affine.from_matrix(rigid.matrix @ zoom.matrix), pair)
    torch.testing.assert_close(found.matrix[:3, :3], rigid.matrix[:3, :3].double())
    centre = pair.fixed.grid.centre_mm[None]
    torch.testing.assert_close(found(centre), rigid(zoom(centre)))


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_the_initial_transform_does_not_stretch_the_brain_to_the_scalp(role: str) -> None:
    pair, truth = a_pair(3, role == "fixed", role == "moving")
    start = initialise(pair, settings_from({"estimator": "optimiser"}))
    assert start.content is not None
    assert start.content.role == role
    assert start.selected_metric is not None
    assert start.selected_metric.choice == "lncc"
    scales = torch.linalg.svdvals(start.best.linear.matrix[:3, :3])
    assert float((scales - 1).abs().max()) < 0.1
    assert start.best.linear(torch.zeros(1, 3).double()) == pytest.approx(
        truth(torch.zeros(1, 3).double()).numpy(), abs=1.0
    )


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_registration_says_that_it_compares_the_brain_alone(role: str) -> None:
    truth = shift(3)
    fixed = head_image(plain_grid(3, 48), role == "fixed", truth)
    moving = head_image(plain_grid(3, 50), role == "moving")
    found = stn3d.register(fixed, moving, estimator="optimiser")
    assert found.metrics["auto_selected"]["region"]["choice"] == f"content of the {role} image"
    inside = body(fixed[1], truth) < BRAIN
    points = fixed[1].points_mm()[inside]
    error_mm = torch.linalg.vector_norm(found.transform(points) - truth(points), dim=-1)
    assert float(error_mm.mean()) < 0.5  # 6 mm if whole images are compared
    ratio = found.metrics["quality"]["measures"]["content_volume_ratio"]
    assert ratio == pytest.approx(1, abs=0.1)


def test_a_smaller_brain_is_not_a_stripped_one() -> None:
    zoom = Affine.from_matrix(torch.diag(torch.tensor([0.85, 0.85, 0.85, 1.0]).double()))
    fixed = head_image(plain_grid(3, 48), True)
    moving = head_image(plain_grid(3, 50), True, zoom.inverse())
    start = initialise(prepared_pair(fixed, moving), settings_from({"estimator": "optimiser"}))
    assert start.content is None


# -- real heads -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("role", ["fixed", "moving"])
@pytest.mark.parametrize("subject", ["brains/1007_t1", "contrasts/p07_t1"])
def test_a_stripped_brain_onto_a_whole_head_template(
    shared_data: Path, subject: str, role: str
) -> None:
    template = shared_data / "ct_mr" / "mni152_t1_2mm.nii.gz"
    mask = read_image(shared_data / "ct_mr" / "mni152_brainmask_2mm.nii.gz", "mask")
    brain = shared_data / f"{subject}.nii.gz"
    person = read_image(brain, "brain")
    extent = replace(person, values=filled(person.values))
    images = (brain, template) if role == "fixed" else (template, brain)
    masks = (extent, mask) if role == "fixed" else (mask, extent)
    found = stn3d.register(*images, preset="fast")
    selected = found.metrics["auto_selected"]
    assert selected["region"]["choice"] == f"content of the {role} image"
    assert selected["metric"]["choice"] == "lncc"
    assert "same contrast" in selected["metric"]["reason"]
    fixed, moving = ((one.values > 0).float() for one in masks)
    moved = warp_image(moving, masks[1].grid, found.transform, masks[0].grid) > 0.5
    assert 2 * (moved * fixed).sum() / (moved.sum() + fixed.sum()) > 0.93
    assert found.metrics["quality"]["status"] == "good"


def filled(values: Tensor) -> Tensor:
    """The largest connected part of a stripped image, without holes."""
    parts, _ = ndimage.label((values[0, 0].abs() > 1e-3 * values.max()).numpy())
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return torch.from_numpy(ndimage.binary_fill_holes(largest))[None, None].float()
