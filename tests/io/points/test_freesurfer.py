"""FreeSurfer's surfaces: the volume geometry at the end of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import nibabel.freesurfer as fs
import numpy as np
import pytest

from stn3d.errors import InputError
from stn3d.io import read_geometry, write_geometry
from tests.io.points.cases import GRID, by_itk, deformable, point_map, sphere

VERTICES, TRIANGLES = sphere()


def volume_info(affine: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Volume geometry of an image, as FreeSurfer writes it, by nibabel's MGH header."""
    header = nib.MGHImage(np.zeros(shape, np.float32), affine).header
    axes = np.asarray(header["Mdc"])  # a row for each axis
    return {
        "head": np.array([2, 0, 20]),
        "valid": "1  # volume info valid",
        "filename": "orig.mgz",
        "volume": np.array(shape),
        "voxelsize": np.asarray(header["delta"]),
        "xras": axes[0],
        "yras": axes[1],
        "zras": axes[2],
        "cras": np.asarray(header["Pxyz_c"]),
    }


CONFORMED = np.array([[-1.0, 0, 0, 130], [0, 0, 1, -120], [0, -1, 0, 140], [0, 0, 0, 1]])
OBLIQUE = np.array([[0.9, 0.1, -0.3, -60], [-0.2, 1, 0, -80], [0.3, -0.1, 2, -50], [0, 0, 0, 1]])


@pytest.mark.parametrize(("affine", "shape"), [(CONFORMED, (256,) * 3), (OBLIQUE, (100, 90, 60))])
def test_surface_coordinates_become_scanner_coordinates(
    tmp_path: Path, affine: Any, shape: tuple[int, ...]
) -> None:
    axes = np.linalg.qr(affine[:3, :3])[0]  # MGH headers hold orthogonal axes only
    axes *= np.sign(np.diag(axes.T @ affine[:3, :3]))
    affine = affine.copy()
    affine[:3, :3] = axes * np.linalg.norm(affine[:3, :3], axis=0)
    path = tmp_path / "lh.white"
    info = volume_info(affine, shape)
    fs.write_geometry(str(path), VERTICES, TRIANGLES, "a stamp", info)
    header = nib.MGHImage(np.zeros(shape, np.float32), affine).header
    scanner_from_surface = header.get_vox2ras() @ np.linalg.inv(header.get_vox2ras_tkr())
    expected = nib.affines.apply_affine(scanner_from_surface, VERTICES)
    geometry = read_geometry(path)
    np.testing.assert_allclose(geometry.sample(10**6), expected, atol=1e-4)
    mapped = geometry.mapped(point_map())
    write_geometry(tmp_path / "lh.pial", mapped)
    points, faces, volume, stamp = fs.read_geometry(
        str(tmp_path / "lh.pial"), read_metadata=True, read_stamp=True
    )
    moved = by_itk(deformable(), expected, tmp_path)
    surface_from_scanner = np.linalg.inv(scanner_from_surface)
    np.testing.assert_allclose(
        points, nib.affines.apply_affine(surface_from_scanner, moved), atol=1e-4
    )
    np.testing.assert_array_equal(faces, TRIANGLES)
    np.testing.assert_allclose(volume["cras"], info["cras"], atol=1e-4)
    assert stamp == "a stamp"
    write_geometry(tmp_path / "lh.like", mapped, like=GRID)  # the geometry of another volume
    np.testing.assert_allclose(read_geometry(tmp_path / "lh.like").sample(10**6), moved, atol=1e-4)
    volume = fs.read_geometry(str(tmp_path / "lh.like"), read_metadata=True)[2]
    np.testing.assert_allclose(volume["cras"], GRID.centre_mm.numpy() + 2, atol=1e-4)
    np.testing.assert_array_equal(volume["volume"], GRID.shape)


def test_a_surface_without_volume_geometry(tmp_path: Path) -> None:
    fs.write_geometry(str(tmp_path / "rh.inflated"), VERTICES, TRIANGLES)
    geometry = read_geometry(tmp_path / "rh.inflated")
    np.testing.assert_allclose(geometry.sample(10**6), VERTICES, atol=1e-5)
    assert "states no volume geometry" in geometry.notes[0]
    assert "no anatomical surface" in geometry.notes[1]


def test_bad_files_are_one_sentence(tmp_path: Path) -> None:
    fs.write_geometry(str(tmp_path / "lh.white"), VERTICES, TRIANGLES)
    whole = (tmp_path / "lh.white").read_bytes()
    (tmp_path / "lh.short").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is shorter than its header states"):
        read_geometry(tmp_path / "lh.short")
    (tmp_path / "lh.text").write_text("text")
    with pytest.raises(InputError, match="is no FreeSurfer surface"):
        read_geometry(tmp_path / "lh.text")
