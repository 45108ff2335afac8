"""Decompression bombs: rejected before their content is read, whatever the format."""

from __future__ import annotations

import bz2
import gzip
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from stn3d.errors import InputError
from stn3d.io import limits, read_image, read_transform
from tests.io.cases import nifti, numbers

SIDE = 1200
ZEROS = bytes(1 << 20)  # repeated, a compressed stream of zeros is one stream after another


def zeros(compress: Callable[[bytes], bytes], count: int) -> bytes:
    one = compress(ZEROS)
    return one * -(-count // len(ZEROS))


def bomb(path: Path) -> Path:
    """A file of 1200^3 zeros, about a megabyte."""
    count, name = SIDE**3, path.name
    if name.endswith((".nii.gz", ".mgz")):
        header: bytes
        if name.endswith(".mgz"):
            mgh = nib.freesurfer.mghformat.MGHHeader()
            mgh.set_data_shape((SIDE,) * 3)
            mgh.set_data_dtype(np.uint8)
            header = mgh.binaryblock[:284]
        else:
            one = nib.Nifti1Header()
            one.set_data_dtype(np.uint8)
            one.set_data_shape((SIDE,) * 3)
            one["magic"], one["vox_offset"] = b"n+1", 352
            one.set_sform(np.eye(4), 1)
            header = one.binaryblock + bytes(4)
        path.write_bytes(gzip.compress(header) + zeros(gzip.compress, count))
    elif name.endswith(".mha"):
        text = (
            "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\n"
            f"DimSize = {SIDE} {SIDE} {SIDE}\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
        )
        path.write_bytes(text.encode() + zeros(zlib.compress, count))
    else:
        encoding, compress = ("bzip2", bz2.compress) if "bz" in name else ("gzip", gzip.compress)
        text = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: {SIDE} {SIDE} {SIDE}\n"
        text += f"encoding: {encoding}\n\n"
        path.write_bytes(text.encode() + zeros(compress, count))
    return path


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mgz", "a.mha", "a.nrrd", "bz.nrrd"])
def test_small_files_of_huge_images(tmp_path: Path, name: str) -> None:
    path = bomb(tmp_path / name)
    assert path.stat().st_size < 3 << 20
    start = time.process_time()
    with pytest.raises(InputError, match=r"1200 x 1200 x 1200 voxels"):
        read_image(path)
    assert time.process_time() - start < 1


def test_a_transform_of_a_huge_field(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        text = h5py.string_dtype("ascii")
        group = file.create_group("TransformGroup/0")
        kind = np.array(["DisplacementFieldTransform_float_3_3"], dtype=object)
        group.create_dataset("TransformType", data=kind, dtype=text)
        fixed = np.array([800.0] * 3 + [0] * 3 + [1] * 3 + [1, 0, 0, 0, 1, 0, 0, 0, 1])
        group.create_dataset("TransformFixedParameters", data=fixed)
        group.create_dataset(
            "TransformParameters",
            shape=(3 * 800**3,),
            dtype="f4",
            compression="gzip",
            chunks=(1 << 20,),
        )
    with pytest.raises(InputError, match="cannot be read as a transform"):
        read_transform(tmp_path / "a.h5")


def test_what_does_not_fit_into_the_free_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nifti(tmp_path / "a.nii.gz", numbers(100, 100, 10))
    monkeypatch.setattr(limits, "free_gb", lambda: 0.0005)
    with pytest.raises(InputError, match=r"100 x 100 x 10 voxels, which need 586 KB .* 524 KB are"):
        read_image(path)
    monkeypatch.setattr(limits, "free_gb", lambda: None)
    assert read_image(path).grid.shape == (100, 100, 10)
