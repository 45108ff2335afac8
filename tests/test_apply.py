"""Images and label maps through a transform; `auto` tells one from the other."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from stn3d.apply import apply, looks_like_labels
from stn3d.errors import InputError
from stn3d.grid import homogeneous
from stn3d.io import read_image
from stn3d.transforms import Affine
from stn3d.warp import warp_image, warp_labels
from tests.geometry_cases import DIMS
from tests.synthetic import Known, grid_about, known_pair, linear_truth, plain_grid


def a_pair(ndim: int) -> Known:
    zeros = torch.zeros(ndim).double()
    moving = grid_about(zeros + 2, [38] * ndim, [1.1, 0.9, 1.4][:ndim], (10, 5, 20), True)
    return known_pair(linear_truth("affine", zeros, zeros + 2, 10), plain_grid(ndim, 30), moving)


def regions(image: torch.Tensor) -> torch.Tensor:
    """Five regions of whole numbers that lie inside each other."""
    return torch.bucketize(image, torch.tensor([0.2, 0.5, 0.6, 0.8])).int() * 10


def as_bytes(image: torch.Tensor) -> torch.Tensor:
    """An image as scanners store it, in whole numbers from 0 to 255 on a background of 0."""
    noise = 6 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return (200 * image + noise * (image > 0.02)).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("ndim", DIMS)
def test_labels_and_images_of_whole_numbers_are_told_apart(ndim: int) -> None:
    image = a_pair(ndim).moving
    assert looks_like_labels(regions(image))
    assert looks_like_labels((image > 0.3).int())
    assert not looks_like_labels(as_bytes(image).float())
    assert not looks_like_labels(image)
    assert not looks_like_labels(torch.zeros_like(image))


@pytest.mark.parametrize("ndim", DIMS)
def test_auto_is_linear_for_an_image_and_label_for_labels(ndim: int) -> None:
    known = a_pair(ndim)
    fixed, moving = known.sources
    image = apply(known.truth, moving, fixed)
    expected = warp_image(known.moving, known.moving_grid, known.truth, known.fixed_grid)
    assert torch.equal(image.values, expected)
    assert float((image.values - known.fixed).abs().mean()) < 0.02
    labels = regions(known.moving)
    moved = apply(known.truth, (labels, known.moving_grid), fixed)
    assert moved.values.dtype == torch.int32
    assert torch.equal(
        moved.values,
        warp_labels(labels, known.moving_grid, known.truth, known.fixed_grid, smooth=True),
    )
    agree = (moved.values == regions(known.fixed)).float().mean()
    assert float(agree) > 0.85
    assert moved.grid.same_as(known.fixed_grid)


def test_smooth_labels_are_nearer_to_the_truth_than_nearest_ones() -> None:
    known = a_pair(3)
    truth, labels = known.fixed > 0.3, ((known.moving > 0.3).int(), known.moving_grid)
    wrong = [
        int(((apply(known.truth, labels, known.sources[0], how).values > 0) != truth).sum())
        for how in ("label", "nearest")
    ]
    assert wrong[0] < 0.8 * wrong[1]


@pytest.mark.parametrize("how", ["linear", "nearest", "cubic"])
def test_what_is_asked_for_is_done(how: str) -> None:
    known = a_pair(3)
    values = apply(known.truth, known.sources[1], known.sources[0], how).values
    expected = warp_image(known.moving, known.moving_grid, known.truth, known.fixed_grid, how)
    assert torch.equal(values, expected)


def test_one_volume_of_several_by_its_number(tmp_path: Path) -> None:
    known = a_pair(3)
    labels = regions(known.moving)[0, 0].numpy().astype(np.int16)
    affine = known.moving_grid.world_from_index.numpy()
    nib.save(nib.Nifti1Image(np.stack([labels, labels // 10], -1), affine), tmp_path / "4d.nii.gz")
    first, second = (
        apply(known.truth, tmp_path / "4d.nii.gz", known.sources[0], volume=n) for n in (0, 1)
    )
    assert torch.equal(first.values, 10 * second.values)
    with pytest.raises(InputError, match="2 volumes"):
        apply(known.truth, tmp_path / "4d.nii.gz", known.sources[0])


def test_dimensions_must_agree() -> None:
    flat, deep = a_pair(2), a_pair(3)
    for transform, image, like in (
        (deep.truth, deep.sources[1], flat.sources[0]),
        (deep.truth, flat.sources[1], deep.sources[0]),
        (flat.truth, deep.sources[1], deep.sources[0]),
    ):
        with pytest.raises(InputError, match="the transform"):
            apply(transform, image, like)


def test_beyond_the_moving_image_is_0() -> None:
    known = a_pair(2)
    far = Affine.from_matrix(homogeneous(torch.eye(2).double(), torch.tensor([1e3, 0.0]).double()))
    moved = apply(far, (known.moving + 5, known.moving_grid), known.sources[0])
    assert bool((moved.values == 0).all())


def test_real_labels_and_images_are_told_apart(shared_data: Path) -> None:
    folder = shared_data / "abdomen"
    for name, expected in (("ct", False), ("mr", False), ("ct_labels", True), ("mr_labels", True)):
        assert looks_like_labels(read_image(folder / f"{name}.nii.gz").values) is expected, name
