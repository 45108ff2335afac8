"""Segmentation in MONAI pipelines, against `stn3d.segment`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import (
    Compose,
    DeleteItemsd,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
)

import stn3d
from stn3d.errors import InputError
from stn3d.integrations.monai import SegmentHeadd
from stn3d.io import write_image
from tests.helpers.brain import brain, quick_network


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("monai") / "brain.nii.gz"
    write_image(file, brain().values, brain())
    return file


def test_batches_from_workers_hold_labels_in_their_place(path):
    step = SegmentHeadd("image", status_suffix="_status", network=quick_network())
    loading = [
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        Orientationd("image", "LAS", labels=None),
    ]
    data = Dataset([{"image": str(path)}] * 2, Compose([*loading, step]))
    batch = next(iter(DataLoader(data, batch_size=2, num_workers=1)))
    expected = stn3d.segment(path, network=quick_network())
    for key, values in (("labels", expected.labels), ("mask", expected.mask)):
        item = batch[f"image_{key}"]
        assert item.shape == (2, 1, *brain().grid.shape)
        assert torch.equal(item[0], item[1])
        assert torch.allclose(item.affine, batch["image"].affine)
        back = item[0, 0].flip(0).numpy()  # RAS again
        assert np.mean(back == values.numpy()) > 0.98
    assert batch["image_labels"].dtype == torch.int16
    assert batch["image_status"] == ["good", "good"]


def test_labels_go_back_with_the_image(path):
    loading = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", "PIR", labels=None),
        ]
    )
    step = SegmentHeadd(
        "image", mask_suffix=None, probabilities_suffix="_p", network=quick_network()
    )
    item = step(loading({"image": str(path)}))
    assert set(item) == {"image", "image_labels", "image_p"}
    assert item["image_p"].shape[0] == 33
    before = item["image_labels"]
    back = Invertd("image_labels", loading, orig_keys="image", nearest_interp=True)(item)
    assert back["image_labels"].shape == (1, *brain().grid.shape)
    assert np.allclose(back["image_labels"].affine, brain().affine)
    assert torch.equal(back["image_labels"].unique(), before.unique())
    assert set(DeleteItemsd("image_p")(item)) == {"image", "image_labels"}


def test_what_cannot_be_segmented_is_one_sentence(path):
    step = SegmentHeadd("image", network=quick_network())
    for values, message in (
        (torch.rand(2, 30, 30, 30), "has 2 channels, and SegmentHeadd takes images of one"),
        (torch.rand(1, 60, 60), "is a 2D image"),
        (torch.full((1, 30, 30, 30), 2.0), "is constant"),
        (torch.full((1, 30, 30, 30), torch.nan), "has NaN"),
        (torch.rand(1, 1, 30, 30, 30), "use EnsureChannelFirstd"),
    ):
        affine = torch.diag(torch.tensor([5.0, 5, 5, 1])).double()
        with pytest.raises(InputError, match=message):
            step({"image": MetaTensor(values, affine=affine)})
    with pytest.raises(KeyError):
        step({"other": 1})
    assert SegmentHeadd("image", allow_missing_keys=True)({"other": 1}) == {"other": 1}
    for wrong in (
        {"labels_suffix": None, "mask_suffix": None},
        {"mask_suffix": ""},
        {"mask_suffix": "_labels"},
    ):
        with pytest.raises(InputError, match="suffixes of SegmentHeadd name its new items"):
            SegmentHeadd("image", **wrong)
    with pytest.raises(InputError, match="device"):
        SegmentHeadd("image", device="tpu")
