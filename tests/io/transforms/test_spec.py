"""Transforms as they are named on command lines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stn3d.errors import InputError
from stn3d.io import read_spec, split_format, write_transform
from stn3d.io.transforms.spec import spec_files
from stn3d.transforms import Affine


def affine(x_mm: float) -> Affine:
    matrix = torch.eye(4).double()
    matrix[0, 3] = x_mm
    return Affine.from_matrix(matrix)


def moves(spec: str) -> float:
    return float(read_spec(spec)(torch.zeros(1, 3).double())[0, 0])


def test_paths_formats_inverses_and_folders(tmp_path: Path) -> None:
    write_transform(tmp_path / "transform.h5", affine(3))
    write_transform(tmp_path / "inverse.h5", affine(-2.5))  # not the exact inverse, to tell them
    write_transform(tmp_path / "t.tfm", affine(7))
    assert moves(str(tmp_path / "t.tfm")) == 7
    assert moves(f"itk:{tmp_path}/t.tfm") == 7
    assert moves(f"inverse:{tmp_path}/t.tfm") == -7
    assert moves(f"inverse:inverse:itk:{tmp_path}/t.tfm") == 7
    assert moves(str(tmp_path)) == 3
    assert moves(f"inverse:{tmp_path}") == -2.5


def test_a_file_of_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_transform("t.tfm", affine(1))
    write_transform("inverse:t.tfm", affine(5))
    assert moves("inverse:t.tfm") == 5
    assert split_format("inverse:t.tfm") == (Path("inverse:t.tfm"), "auto")


def test_prefixes() -> None:
    assert split_format("ants:out/a_") == (Path("out/a_"), "ants")
    assert split_format(r"C:\a.h5") == (Path(r"C:\a.h5"), "auto")
    assert spec_files("inverse:fsl:x.mat") == [Path("x.mat")]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no transform file no\.h5"):
        read_spec("no.h5")
    with pytest.raises(InputError, match=r"holds no transform\.h5, as the folder"):
        read_spec(str(tmp_path))
