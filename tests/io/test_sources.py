"""Images from memory, volumes of 4D images, invalid sources."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import (
    read_image,
    read_labels,
    read_mask,
    write_image,
)
from tests.io.cases import AFFINE, SHAPE, nifti, numbers


def test_sources_in_memory(tmp_path: Path) -> None:
    array = numbers().astype(np.float32)
    expected = read_image(nifti(tmp_path / "a.nii", array))
    tensor, grid = torch.from_numpy(array), expected.grid
    sources: list[Any] = [
        str(tmp_path / "a.nii"),
        nib.Nifti1Image(array, AFFINE),
        nib.load(tmp_path / "a.nii"),
        (tensor, grid),
        (tensor[None], grid),
        (tensor[None, None].double().requires_grad_(), grid),
        expected,
    ]
    for source in sources:
        image = read_image(source)
        assert torch.equal(image.values, expected.values)
        assert image.grid.same_as(grid)
        assert not image.values.requires_grad


def test_metatensors(tmp_path: Path) -> None:
    monai = pytest.importorskip("monai.data")
    array = torch.from_numpy(numbers().astype(np.float32))
    lps = torch.diag(torch.tensor([-1.0, -1, 1, 1])).double() @ torch.from_numpy(AFFINE)
    for source in (
        monai.MetaTensor(array, affine=torch.from_numpy(AFFINE)),
        monai.MetaTensor(array[None], affine=torch.from_numpy(AFFINE)),
        monai.MetaTensor(array[None], affine=lps, meta={"space": "LPS"}),
    ):
        image = read_image(source)
        assert type(image.values) is torch.Tensor
        assert torch.equal(image.values[0, 0], array)
        np.testing.assert_allclose(image.grid.world_from_index.numpy(), AFFINE)
    two = monai.MetaTensor(torch.stack([array, array + 1]), affine=torch.from_numpy(AFFINE))
    with pytest.raises(InputError, match="holds 2 volumes; choose one with --moving-volume N"):
        read_image(two, "moving")
    assert torch.equal(read_image(two, volume=1).values[0, 0], array + 1)


def test_2d_metatensors() -> None:
    monai = pytest.importorskip("monai.data")
    array = torch.from_numpy(numbers(7, 6).astype(np.float32))
    plane = torch.tensor([[2.0, 0, 3], [0, 1.5, 4], [0, 0, 1]]).double()
    space = torch.from_numpy(AFFINE)
    for tensor, affine in ((array, plane), (array[None], plane), (array, space)):
        image = read_image(monai.MetaTensor(tensor, affine=affine))
        assert image.grid.shape == (7, 6)
        assert torch.equal(image.values[0, 0], array)
    image = read_image(monai.MetaTensor(array[None], affine=plane))
    assert torch.equal(image.grid.world_from_index, plane)
    rgb = monai.MetaTensor(array.expand(3, 7, 6), affine=plane)
    with pytest.raises(InputError, match="holds 3 volumes"):
        read_image(rgb)


def test_import_loads_neither_monai_nor_simpleitk() -> None:
    code = (
        "import sys, stn3d.io; "
        "sys.exit(str(sorted({'monai', 'SimpleITK'} & set(sys.modules))) "
        "if {'monai', 'SimpleITK'} & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf8", check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_volume_of_4d(tmp_path: Path) -> None:
    array = numbers(*SHAPE, 3)
    path = nifti(tmp_path / "a.nii.gz", array)
    with pytest.raises(InputError, match=r"fixed image .* holds 3 volumes; .* --fixed-volume N"):
        read_image(path, "fixed")
    with pytest.raises(InputError, match="has no volume 3; it holds 3, counted from 0"):
        read_image(path, "fixed", volume=3)
    image = read_image(path, volume=2)
    np.testing.assert_array_equal(image.values[0, 0].numpy(), array[..., 2])
    write_image(tmp_path / "b.nii", image.values, image)
    assert nib.load(tmp_path / "b.nii").shape == SHAPE
    assert read_image(nifti(path, numbers(*SHAPE, 1))).grid.shape == SHAPE
    fifth = read_image(nifti(tmp_path / "e.nii.gz", array[..., None]), volume=2)
    np.testing.assert_array_equal(fifth.values[0, 0].numpy(), array[..., 2])
    for read, verb in ((read_labels, "labels .* hold"), (read_mask, "mask .* holds")):
        with pytest.raises(InputError, match=rf"{verb} 3 volumes; save the volume to use"):
            read(nifti(path, array))


def test_invalid_sources_are_rejected() -> None:
    with pytest.raises(InputError, match="the moving image is a Tensor; give a path"):
        read_image(torch.zeros(3, 4, 5), "moving")
    with pytest.raises(InputError, match=r"shape \(2, 7, 6, 5\), but its grid has \(7, 6, 5\)"):
        read_image((torch.rand(2, *SHAPE), Grid.of_spacing(SHAPE)))
    with pytest.raises(InputError, match=r"shape \(6, 7\), but its grid has \(7, 6\)"):
        read_image((torch.rand(6, 7), Grid.of_spacing((7, 6))))
