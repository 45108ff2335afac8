"""TCK and TRK, with nibabel as reference."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.streamlines import TckFile, Tractogram, TrkFile

from stn3d.errors import InputError
from stn3d.io import PointMap, read_geometry, write_geometry
from stn3d.io.points import mapping
from tests.io.points.cases import GRID, affine, by_itk, deformable, point_map

OBLIQUE = np.array([[-1.8, 0.2, 0, 60], [0.3, 1.9, 0.1, -70], [0, -0.2, 2, -50], [0, 0, 0, 1.0]])
HEADER = {
    "voxel_to_rasmm": OBLIQUE.astype("f4"),
    "dimensions": np.array([60, 70, 50], "i2"),
    "voxel_sizes": np.linalg.norm(OBLIQUE[:3, :3], axis=0).astype("f4"),
    "voxel_order": "LAS",
}


def lines(count: int = 5) -> list[Any]:
    """Streamlines of 1 to 40 points, in RAS."""
    random = np.random.default_rng(0)
    return [
        (random.uniform(-20, 20, 3) + random.normal(size=(n, 3)).cumsum(0)).astype("f4")
        for n in random.integers(1, 40, count)
    ]


def trk(path: Path, streamlines: list[Any]) -> Path:
    """A TRK file with a value per streamline and two per point."""
    content = Tractogram(
        streamlines,
        data_per_streamline={"weight": np.arange(len(streamlines), dtype="f4")[:, None]},
        data_per_point={"colour": [np.tile([1.0, 2.0], (len(s), 1)) for s in streamlines]},
        affine_to_rasmm=np.eye(4),
    )
    TrkFile(content, HEADER).save(str(path))
    return path


def tck(path: Path, streamlines: list[Any], **header: str) -> Path:
    TckFile(Tractogram(streamlines, affine_to_rasmm=np.eye(4)), header).save(str(path))
    return path


def expected(streamlines: list[Any], folder: Path) -> Any:
    return by_itk(deformable(), np.concatenate(streamlines).astype(float), folder)


@pytest.mark.parametrize("out", ["b.trk", "b.tck"])
def test_trk_agrees_with_simpleitk(
    tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stn3d.io.points.streamlines.BLOCK", 30)
    path, source = trk(tmp_path / "a.trk", lines()), lines()
    geometry = read_geometry(path).mapped(point_map())
    notes = write_geometry(tmp_path / out, geometry)
    assert geometry.size == f"5 streamlines, {sum(map(len, source))} points"
    found = nib.streamlines.load(tmp_path / out)
    np.testing.assert_allclose(
        np.concatenate(found.streamlines), expected(source, tmp_path), atol=5e-5
    )
    assert [len(s) for s in found.streamlines] == [len(s) for s in source]
    if out == "b.tck":
        assert "colour, weight are dropped" in notes[0]
        return
    assert "keeps the image grid of a.trk" in notes[0]
    np.testing.assert_allclose(found.header["voxel_to_rasmm"], OBLIQUE, atol=1e-6)
    content = found.tractogram
    np.testing.assert_array_equal(content.data_per_streamline["weight"][:, 0], np.arange(5))
    np.testing.assert_array_equal(np.concatenate(content.data_per_point["colour"])[:, 1], 2)


def test_the_header_has_the_grid_of_the_target(tmp_path: Path) -> None:
    path = tck(tmp_path / "a.tck", lines())
    geometry = read_geometry(path).mapped(PointMap(deformable(), GRID))
    with pytest.raises(InputError, match=r"a\.tck does not; .* as --fixed or --moving"):
        write_geometry(tmp_path / "b.trk", geometry)
    assert not (tmp_path / "b.trk").exists()
    assert write_geometry(tmp_path / "b.trk", geometry, like=GRID) == ()
    found = nib.streamlines.load(tmp_path / "b.trk")
    np.testing.assert_array_equal(found.header["dimensions"], GRID.shape)
    np.testing.assert_allclose(
        np.concatenate(found.streamlines), expected(lines(), tmp_path), atol=5e-5
    )


def test_the_header_of_mrtrix_is_kept(tmp_path: Path) -> None:
    path = tck(tmp_path / "a.tck", lines(), step_size="0.5", method="iFOD2")
    head, _, data = path.read_bytes().partition(b"\nfile: . ")
    entry = b"\ncommand_history: tckgen C:wm.mif a.tck  (version=3.0.4)"  # nibabel writes no colons
    head += entry
    offset = len(head) + len(b"\nfile: . 000") + len(b"\nEND\n")
    path.write_bytes(head + b"\nfile: . %03d\nEND\n" % offset + data.partition(b"END\n")[2])
    write_geometry(tmp_path / "b.tck", read_geometry(path).mapped(point_map()))
    written = (tmp_path / "b.tck").read_bytes()
    assert entry in written
    assert b"\nmethod: iFOD2\n" in written
    assert b"\ncount: 000000000005\n" in written
    found = nib.streamlines.load(tmp_path / "b.tck").streamlines
    np.testing.assert_allclose(np.concatenate(found), expected(lines(), tmp_path), atol=5e-5)


def test_streamlines_that_leave_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "BLOCK", 3)
    source = [*lines(3), np.array([[0, 0, 0], [100, 0, 0], [0, 0, 0]], "f4")]
    geometry = read_geometry(tck(tmp_path / "a.tck", source)).mapped(PointMap(affine(), GRID))
    write_geometry(tmp_path / "b.tck", geometry)
    outside = [(np.abs(affine()(np_tensor(s)).numpy()) > 40).any() for s in source]
    assert geometry.outside() == (sum(outside), 4)
    assert 0 < sum(outside) < 4


def np_tensor(array: Any) -> Any:
    import torch

    return torch.from_numpy(np.asarray(array, np.float64))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for count in (1_500, 4_500):
        points = np.random.default_rng(0).uniform(-30, 30, (count, 300, 3)).astype("f4")
        path = tck(tmp_path / "a.tck", list(points))
        tracemalloc.start()
        write_geometry(tmp_path / "b.tck", read_geometry(path).mapped(point_map(affine())))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 2**20
    found = nib.streamlines.load(tmp_path / "b.tck").streamlines
    moved = affine()(np_tensor(points[-1])).numpy()
    np.testing.assert_allclose(found[-1], moved, atol=1e-5)


def test_bad_files_are_one_sentence(tmp_path: Path) -> None:
    for path in (tck(tmp_path / "a.tck", []), trk(tmp_path / "a.trk", lines(0))):
        with pytest.raises(InputError, match="holds no streamlines"):
            write_geometry(path.with_stem("b"), read_geometry(path).mapped(point_map()))
        assert not path.with_stem("b").exists()
    for path in (tck(tmp_path / "c.tck", lines()), trk(tmp_path / "c.trk", lines())):
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(InputError, match=f"{path.name} cannot be read as streamlines"):
            write_geometry(path.with_stem("d"), read_geometry(path).mapped(point_map()))
        assert not path.with_stem("d").exists()
        path.write_bytes(b"no tracks")
        with pytest.raises(InputError, match="cannot be read as streamlines"):
            read_geometry(path)
