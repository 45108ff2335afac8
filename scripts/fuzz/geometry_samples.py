"""Small valid surfaces and streamlines of each format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import nibabel.freesurfer as fs
import numpy as np
from nibabel.streamlines import TckFile, Tractogram, TrkFile

from stn3d.grid import Grid
from stn3d.io import read_geometry, write_geometry

GEOMETRY = ("gii", "freesurfer", "vtk", "vtp", "stl", "ply", "obj", "tck", "trk", "trx")
_VERTICES = 10 * np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
_TRIANGLES = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
_HEADER = {
    "voxel_to_rasmm": np.diag([-2.0, 2, 2, 1]).astype("f4"),
    "dimensions": np.array([20, 20, 20], "i2"),
    "voxel_sizes": np.array([2, 2, 2], "f4"),
    "voxel_order": "LAS",
}


def geometry_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Write the files below a folder; yields the format and the path of each."""
    (folder / "points.tsv").write_text("name\tx\ty\tz\na\t1\t2\t3\nb\t4\t5.5\t-6\n")
    yield "tsv", folder / "points.tsv"
    yield from _surfaces(folder)
    yield from _streamlines(folder)


def _surfaces(folder: Path) -> Iterator[tuple[str, Path]]:
    points = nib.gifti.GiftiDataArray(_VERTICES.astype("f4"), "NIFTI_INTENT_POINTSET")
    faces = nib.gifti.GiftiDataArray(_TRIANGLES.astype("i4"), "NIFTI_INTENT_TRIANGLE")
    values = nib.gifti.GiftiDataArray(np.arange(4, dtype="f4"), "NIFTI_INTENT_SHAPE")
    surface = folder / "a.surf.gii"
    nib.gifti.GiftiImage(darrays=[points, faces, values]).to_filename(surface)
    yield "gii", surface
    volume = {
        "head": np.array([2, 0, 20]),
        "valid": "1  # volume info valid",
        "filename": "orig.mgz",
        "volume": np.array([256] * 3),
        "voxelsize": np.ones(3),
        **{f"{axis}ras": row for axis, row in zip("xyz", -np.eye(3), strict=True)},
        "cras": np.array([1.0, 2, 3]),
    }
    fs.write_geometry(str(folder / "lh.white"), _VERTICES, _TRIANGLES, "stamp", volume)
    yield "freesurfer", folder / "lh.white"
    for format in ("vtk", "vtp", "stl", "ply", "obj"):
        write_geometry(folder / f"a.{format}", read_geometry(surface))
        yield format, folder / f"a.{format}"


def _streamlines(folder: Path) -> Iterator[tuple[str, Path]]:
    lines = [np.arange(3 * n, dtype="f4").reshape(n, 3) for n in (1, 4, 20)]
    data = {"weight": np.ones((3, 1), "f4")}
    per_point = {"fa": [np.ones((len(one), 1), "f4") for one in lines]}
    content = Tractogram(lines, data, per_point, affine_to_rasmm=np.eye(4))
    TckFile(Tractogram(lines, affine_to_rasmm=np.eye(4))).save(str(folder / "a.tck"))
    yield "tck", folder / "a.tck"
    TrkFile(content, _HEADER).save(str(folder / "a.trk"))
    yield "trk", folder / "a.trk"
    grid = Grid.of_spacing((20, 20, 20), 2.0)
    write_geometry(folder / "a.trx", read_geometry(folder / "a.trk"), like=grid)
    yield "trx", folder / "a.trx"
