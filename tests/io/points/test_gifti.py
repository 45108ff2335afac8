"""GIFTI surfaces, with nibabel as reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from stn3d.errors import InputError
from stn3d.io import read_geometry, write_geometry
from tests.io.points.cases import affine, by_itk, deformable, point_map, sphere, volume

VERTICES, TRIANGLES = sphere()


def gifti(path: Path, meta: dict[str, str] | None = None, **system: Any) -> Path:
    """A sphere with a value at each vertex."""
    points = nib.gifti.GiftiDataArray(VERTICES.astype("f4"), "NIFTI_INTENT_POINTSET", meta=meta)
    points.coordsys = nib.gifti.GiftiCoordSystem(**system)
    faces = nib.gifti.GiftiDataArray(TRIANGLES.astype("i4"), "NIFTI_INTENT_TRIANGLE")
    values = nib.gifti.GiftiDataArray(
        VERTICES[:, 0].astype("f4"), "NIFTI_INTENT_SHAPE", meta={"Name": "thickness"}
    )
    image = nib.gifti.GiftiImage(
        darrays=[points, faces, values], meta=nib.gifti.GiftiMetaData(Subject="a")
    )
    image.to_filename(path)
    return path


def test_everything_but_the_coordinates_is_kept(tmp_path: Path) -> None:
    mapped = read_geometry(gifti(tmp_path / "a.surf.gii")).mapped(point_map())
    write_geometry(tmp_path / "b.surf.gii", mapped)
    found = nib.load(tmp_path / "b.surf.gii")
    points, faces, values = (array.data for array in found.darrays)
    np.testing.assert_allclose(points, by_itk(deformable(), VERTICES, tmp_path), atol=2e-5)
    np.testing.assert_array_equal(faces, TRIANGLES)
    np.testing.assert_array_equal(values, VERTICES[:, 0].astype("f4"))
    assert dict(found.meta)["Subject"] == "a"
    assert dict(found.darrays[2].meta)["Name"] == "thickness"
    again = read_geometry(tmp_path / "b.surf.gii")
    np.testing.assert_allclose(again.sample(10**6), points, atol=1e-6)


@pytest.mark.parametrize(
    ("dataspace", "xformspace", "applied"), [(0, 1, True), (0, 0, False), (1, 4, False)]
)
def test_the_matrix_is_applied_from_an_unknown_space_only(
    tmp_path: Path, dataspace: int, xformspace: int, applied: bool
) -> None:
    matrix = np.array([[0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1.0]])
    system = {"dataspace": dataspace, "xformspace": xformspace, "xform": matrix}
    geometry = read_geometry(gifti(tmp_path / "a.surf.gii", **system))
    moved = VERTICES @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(geometry.sample(10**6), moved if applied else VERTICES, atol=1e-5)
    assert len(geometry.notes) == applied
    write_geometry(tmp_path / "b.surf.gii", geometry)  # in world coordinates, once
    again = read_geometry(tmp_path / "b.surf.gii")
    np.testing.assert_allclose(again.sample(10**6), geometry.sample(10**6), atol=1e-5)


def test_the_volume_centre_of_freesurfer_is_added(tmp_path: Path) -> None:
    axes = {"X": (-1, 0, 0), "Y": (0, 0, -1), "Z": (0, 1, 0), "C": (4, -5, 6)}
    meta = {
        f"VolGeom{key}_{axis}": str(value)
        for key, values in axes.items()
        for axis, value in zip("RAS", values, strict=True)
    }
    geometry = read_geometry(gifti(tmp_path / "a.surf.gii", meta))
    np.testing.assert_allclose(geometry.sample(10**6), VERTICES + np.array([4, -5, 6]), atol=1e-5)
    assert "(4, -5, 6) is added" in geometry.notes[0]
    write_geometry(tmp_path / "b.surf.gii", geometry)
    np.testing.assert_allclose(
        read_geometry(tmp_path / "b.surf.gii").sample(10**6),
        VERTICES + np.array([4, -5, 6]),
        atol=1e-5,
    )


def test_a_mirroring_transform_keeps_the_outside_outside(tmp_path: Path) -> None:
    geometry = read_geometry(gifti(tmp_path / "a.surf.gii")).mapped(point_map(affine(True)))
    write_geometry(tmp_path / "b.surf.gii", geometry)
    points, faces, _ = (array.data for array in nib.load(tmp_path / "b.surf.gii").darrays)
    expected = abs(np.linalg.det(affine().matrix[:3, :3])) * volume(VERTICES, TRIANGLES)
    assert volume(points.astype(float), faces) == pytest.approx(expected, rel=1e-4)


def test_bad_files_are_one_sentence(tmp_path: Path) -> None:
    data = nib.gifti.GiftiDataArray(np.zeros(5, "f4"), "NIFTI_INTENT_SHAPE")
    nib.gifti.GiftiImage(darrays=[data]).to_filename(tmp_path / "a.shape.gii")
    with pytest.raises(InputError, match=r"holds data without a surface .*give the \.surf\.gii"):
        read_geometry(tmp_path / "a.shape.gii")
    whole = gifti(tmp_path / "a.surf.gii").read_bytes()
    (tmp_path / "b.surf.gii").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as a GIFTI surface"):
        read_geometry(tmp_path / "b.surf.gii")
    image = nib.load(tmp_path / "a.surf.gii")
    image.darrays[0].data[3, 1] = np.nan
    image.to_filename(tmp_path / "c.surf.gii")
    with pytest.raises(InputError, match="the coordinates of vertex 4 of 66 are not numbers"):
        read_geometry(tmp_path / "c.surf.gii")
    with pytest.raises(InputError, match="there is no surface"):
        read_geometry(tmp_path / "gone.surf.gii")
