"""Transform files: round trips, equal bytes, errors; for ITK see tests/conventions."""

from __future__ import annotations

import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import check_transform_path, hdf5, read_transform, write_transform
from stn3d.transforms import (
    Affine,
    Chain,
    DisplacementField,
    Rigid,
    Transform,
    VelocityField,
    chain,
)
from tests.helpers.geometry_cases import oblique


def rigid(d: int = 3) -> Rigid:
    return Rigid(torch.linspace(0.1, 2, Rigid.num_parameters(d)).double(), torch.ones(d).double())


def field(d: int = 3, batch: int = 1) -> DisplacementField:
    grid = oblique(d)
    noise = torch.randn(batch, d, *grid.shape, generator=torch.Generator().manual_seed(0))
    return DisplacementField(noise, grid)


@pytest.mark.parametrize("d", [2, 3])
def test_a_chain_keeps_its_parts(tmp_path: Path, d: int) -> None:
    dense, linear = field(d), rigid(d)
    write_transform(tmp_path / "t.h5", chain(dense, linear))
    got = read_transform(tmp_path / "t.h5")
    assert isinstance(got, Chain)
    first, second = got.transforms
    assert isinstance(first, DisplacementField)
    assert first.displacement_mm.dtype == torch.float32
    assert torch.equal(first.displacement_mm, dense.displacement_mm)
    assert first.grid.same_as(dense.grid, tolerance_vox=1e-9)
    assert isinstance(second, Affine)
    torch.testing.assert_close(second.matrix, linear.matrix)


def test_a_velocity_field_is_stored_as_its_displacement_field(tmp_path: Path) -> None:
    velocity = VelocityField(field().displacement_mm, oblique(3))
    write_transform(tmp_path / "t.h5", velocity)
    got = read_transform(tmp_path / "t.h5")
    assert isinstance(got, DisplacementField)
    assert torch.equal(got.displacement_mm, velocity.displacement.displacement_mm)


def test_file_is_a_flat_composite_of_compressed_float32(tmp_path: Path) -> None:
    grid = Grid.of_spacing((20, 20, 20))
    dense = DisplacementField(torch.zeros(1, 3, 20, 20, 20), grid)
    write_transform(tmp_path / "t.h5", chain(chain(dense, rigid()), chain(dense, dense)))
    with h5py.File(tmp_path / "t.h5") as file:
        groups = file["TransformGroup"]
        kinds = [groups[str(n)]["TransformType"][0].decode() for n in range(len(groups))]
        numbers = groups["1/TransformParameters"]
        assert (numbers.dtype, numbers.compression, numbers.shuffle) == (np.float32, "gzip", True)
    assert kinds == [
        "CompositeTransform_double_3_3",
        "DisplacementFieldTransform_float_3_3",
        "DisplacementFieldTransform_float_3_3",
        "AffineTransform_double_3_3",
        "DisplacementFieldTransform_float_3_3",
    ]
    assert (tmp_path / "t.h5").stat().st_size < 20**3 * 12


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_a_field_in_several_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, d: int, chunk: int
) -> None:
    monkeypatch.setattr(
        hdf5, "_CHUNK_NUMBERS", chunk
    )  # one plane, planes with a remainder, all planes
    dense = field(d)
    write_transform(tmp_path / "t.h5", dense)
    signs = torch.tensor([-1.0, -1, 1])[:d]
    expected = (dense.displacement_mm[0].movedim(0, -1) * signs).transpose(0, d - 1).numpy()
    with h5py.File(tmp_path / "t.h5") as file:
        numbers = file["TransformGroup/1/TransformParameters"][:]
    np.testing.assert_array_equal(numbers, expected.ravel())
    composite = sitk.CompositeTransform(sitk.ReadTransform(str(tmp_path / "t.h5")))
    image = sitk.DisplacementFieldTransform(composite.GetNthTransform(0)).GetDisplacementField()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), expected)
    got = read_transform(tmp_path / "t.h5")
    assert isinstance(got, DisplacementField)
    assert torch.equal(got.displacement_mm, dense.displacement_mm)


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".mat"])
def test_equal_transforms_give_equal_bytes(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in ("a", "another")]
    for path in paths:
        write_transform(path, rigid() if suffix != ".h5" else chain(field(), rigid()))
        if path is paths[0] and suffix == ".h5":
            time.sleep(1.1)  # HDF5 may store times, in seconds
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == paths


def test_gradients_and_float64_do_not_matter(tmp_path: Path) -> None:
    dense = field()
    wanting = DisplacementField(dense.displacement_mm.double().requires_grad_(), dense.grid)
    write_transform(tmp_path / "a.h5", dense)
    write_transform(tmp_path / "b.h5", wanting)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_identity_and_empty_composite(tmp_path: Path) -> None:
    for number, itk in enumerate(
        [sitk.Transform(3, sitk.sitkIdentity), sitk.CompositeTransform(3)]
    ):
        path = tmp_path / f"{number}.tfm"
        sitk.WriteTransform(itk, str(path))
        points = torch.randn(5, 3).double()
        assert torch.equal(read_transform(path).forward(points), points)


def test_unsupported_transforms_and_paths_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.tfm stores linear transforms only; use \.h5"):
        write_transform(tmp_path / "t.tfm", field())
    with pytest.raises(InputError, match=r"use the extension \.h5"):
        write_transform(tmp_path / "t.xyz", rigid())
    with pytest.raises(InputError, match=r"a displacement field .* needs the fixed image"):
        write_transform(tmp_path / "t.nii.gz", rigid())
    with pytest.raises(InputError, match="there is no folder"):
        check_transform_path(tmp_path / "missing" / "t.h5")
    with pytest.raises(ValueError, match="a batch of 2"):
        write_transform(tmp_path / "t.h5", field(batch=2))
    with pytest.raises(ValueError, match="a batch of 2"):
        write_transform(tmp_path / "t.h5", Rigid(torch.zeros(2, 6), torch.zeros(3)))
    assert list(tmp_path.iterdir()) == []


class Unsupported(Transform):
    """A transform of a kind without an ITK format."""

    @property
    def ndim(self) -> int:
        return 3

    def _map(self, points_mm: torch.Tensor) -> torch.Tensor:
        return points_mm.sin()

    def inverse(self) -> Transform:
        raise NotImplementedError


def test_a_transform_without_an_itk_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a Unsupported has no ITK format"):
        write_transform(tmp_path / "t.h5", chain(rigid(), Unsupported()))


def test_missing_and_damaged_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_transform(tmp_path / "t.h5", field())
    whole = (tmp_path / "t.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tfm").write_text("no transform at all")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = [1, 2, 3]
    for name in ("cut.h5", "text.tfm", "other.h5"):
        with pytest.raises(
            InputError, match=f"{name} cannot be read as a transform; give a complete"
        ):
            read_transform(tmp_path / name)
    with pytest.raises(InputError, match=r"there is no transform file .*missing\.h5"):
        read_transform(tmp_path / "missing.h5")
    assert "HDF5-DIAG" not in capfd.readouterr().err


def test_unsupported_classes_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "t.tfm"
    sitk.WriteTransform(sitk.BSplineTransform(3, 3), str(path))
    with pytest.raises(InputError, match="holds a BSplineTransform, which stn3d does not support"):
        read_transform(path)
    nested = sitk.CompositeTransform([sitk.AffineTransform(3), sitk.BSplineTransform(3, 3)])
    sitk.WriteTransform(nested, str(path))
    with pytest.raises(InputError, match="holds a BSplineTransform, which stn3d does not support"):
        read_transform(path)


def test_nan_and_singular_matrices_are_rejected(tmp_path: Path) -> None:
    flat = sitk.AffineTransform(3)
    flat.SetMatrix([1, 0, 0, 0, 1, 0, 0, 0, 0])
    (tmp_path / "t.tfm").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        "Parameters: 1 0 0 0 1 0 0 0 0 4 5 6\nFixedParameters: 0 0 0\n"
    )
    with pytest.raises(InputError, match="holds a singular matrix"):
        read_transform(tmp_path / "t.tfm")
    broken = field().displacement_mm.clone()
    broken[0, 0, 0, 0, 0] = torch.nan
    write_transform(tmp_path / "t.h5", DisplacementField(broken, oblique(3)))
    with pytest.raises(InputError, match="holds displacements of NaN or Inf"):
        read_transform(tmp_path / "t.h5")
