"""Segmentation of a real brain: places, sides, orientation, and what is refused."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

import stn3d
from stn3d import metrics
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.nets.weights import bundled_network
from stn3d.structures import STRUCTURES, brain_classes, classes_of_ids
from tests.helpers.brain import brain, brain_mask, brain_segmentation, permuted, quick_network
from tests.helpers.geometry_cases import rotation

LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS, STEM = 17, 53, 16


def test_a_brain_is_labelled_where_it_is() -> None:
    found, image = brain_segmentation(), brain()
    assert found.quality.status == "good", found.quality.reason
    assert found.labels.grid is image.grid
    assert found.labels.values.dtype == torch.int16
    assert set(found.labels.values.unique().tolist()) <= {one.label for one in STRUCTURES}
    assert metrics.dice(brain_mask().byte(), found.mask.values.byte(), [1])[1] > 0.9
    brain_ids = {STRUCTURES[number].label for number in brain_classes()}
    assert brain_ids <= set(found.labels.values.unique().tolist())
    points = image.grid.points_mm()
    left, right, stem = (
        points[found.labels.values[0, 0] == label].mean(dim=0)
        for label in (LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS, STEM)
    )
    assert 15 < -left[0] < 40
    assert 15 < right[0] < 40
    assert abs(stem[0]) < 5
    assert stem[2] < left[2]


def test_the_same_brain_in_any_orientation_has_the_same_labels() -> None:
    """Axes permuted and reversed; and the head turned in the world, far from the origin."""
    plain = stn3d.segment(brain(), network=quick_network())
    values, grid = permuted(brain())
    turn = torch.eye(4).double()
    turn[:3, :3], turn[:3, 3] = rotation(3, (20, -15, 30)), torch.tensor([150.0, -80, 300])
    turned = Grid(grid.shape, turn @ grid.world_from_index)
    for where, least in ((grid, 0.97), (turned, 0.93)):
        found = stn3d.segment((values, where), network=quick_network())
        back = found.labels.values[0, 0].flip(0, 2).permute(1, 2, 0)[None, None]
        a, b = (classes_of_ids(600)[x.long()] for x in (plain.labels.values, back))
        assert metrics.dice(a > 3, b > 3, [1])[1] > 0.97
        assert float((a == b)[a > 3].float().mean()) > least
        assert found.labels.grid.same_as(where)


def test_sources_of_any_kind_give_the_same_labels() -> None:
    image = brain()
    expected = stn3d.segment(image, network=quick_network()).labels.values
    array = np.stack([np.ones(image.grid.shape), 0.5 * image.numpy() + 7], axis=-1)
    series = nib.Nifti1Image(array.astype(np.float32), image.affine)
    settings = {"network": quick_network()}
    for source, volume in ((series, 1), (image.to_metatensor(), None)):
        found = stn3d.segment(source, volume=volume, **settings)  # type: ignore[arg-type]
        assert float((found.labels.values == expected).float().mean()) > 0.999
    with pytest.raises(InputError, match="2 volumes; choose one with --volume N"):
        stn3d.segment(series, **settings)  # type: ignore[arg-type]


def volume_of(shape: tuple[int, ...], spacing_mm: float = 4.0) -> tuple[torch.Tensor, Grid]:
    values = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(1))
    return values, Grid.of_spacing(shape, spacing_mm)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (volume_of((40, 40)), "is a 2D image, and segmentation needs a volume of the head"),
        (volume_of((40, 40, 1)), "is a single slice, and segmentation needs"),
        (volume_of((40, 40, 40), 0.15), "images of 56 to 1792 mm, and one measures 6 mm; check"),
        (volume_of((40, 40, 40), 4e3), "measures 1.6e.05 mm; check the voxel sizes"),
        ((torch.ones(1, 1, 9, 9, 9), Grid.of_spacing((9, 9, 9), 9.0)), "is constant"),
    ],
)
def test_what_is_no_head_is_refused_in_one_sentence(
    source: tuple[torch.Tensor, Grid], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        stn3d.segment(source)


def test_an_unknown_image_fails_and_an_unsuited_network_is_refused() -> None:
    noise = volume_of((40, 40, 40))
    found = stn3d.segment(noise, network=quick_network())
    assert found.quality.status == "failed"
    assert not found.quality.is_known
    with pytest.raises(InputError, match="device"):
        stn3d.segment(noise, device="tpu")
    with pytest.raises(InputError, match="give weights of a segmentation network"):
        stn3d.segment(noise, network=bundled_network("affine"))
