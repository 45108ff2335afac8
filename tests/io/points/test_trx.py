"""TRX, with trx-python as reference."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from stn3d.errors import InputError
from stn3d.io import read_geometry, write_geometry
from tests.io.points.cases import GRID, point_map
from tests.io.points.test_streamlines import expected, lines, trk

pytest.importorskip("trx", reason="trx-python is not installed: pip install 'stn3d[streamlines]'")


def contents(path: Path) -> dict[str, Any]:
    """Arrays of a TRX file by name, read from the zip archive."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith((".json", "/")):
                dtype = np.dtype(name.rpartition(".")[2])
                found[name] = np.frombuffer(archive.read(name), dtype)
    return found


def test_trx_from_trk_and_back(tmp_path: Path) -> None:
    source = lines()
    path = trk(tmp_path / "a.trk", source)
    write_geometry(tmp_path / "a.trx", read_geometry(path), like=GRID)
    before = (tmp_path / "a.trx").read_bytes()
    arrays = contents(tmp_path / "a.trx")
    np.testing.assert_allclose(
        arrays["positions.3.float32"].reshape(-1, 3), np.concatenate(source), atol=2e-5
    )
    with zipfile.ZipFile(tmp_path / "c.trx", "w", zipfile.ZIP_DEFLATED) as archive:
        with zipfile.ZipFile(tmp_path / "a.trx") as plain:
            for name in plain.namelist():
                archive.writestr(name, plain.read(name))
        archive.writestr("groups/left.uint32", np.array([0, 2], "u4").tobytes())
    for name in ("a.trx", "c.trx"):  # stored, and compressed with a group
        geometry = read_geometry(tmp_path / name).mapped(point_map())
        write_geometry(tmp_path / "b.trx", geometry)
        found = contents(tmp_path / "b.trx")
        assert found.keys() == contents(tmp_path / name).keys()
        moved = found.pop("positions.3.float32").reshape(-1, 3)
        np.testing.assert_allclose(moved, expected(source, tmp_path), atol=5e-5)
        for key, array in found.items():
            np.testing.assert_array_equal(array, contents(tmp_path / name)[key])
        assert geometry.size.startswith("5 streamlines")
    assert (tmp_path / "a.trx").read_bytes() == before
    write_geometry(tmp_path / "b.trk", read_geometry(tmp_path / "b.trx"))
    content = nib.streamlines.load(tmp_path / "b.trk")
    np.testing.assert_allclose(
        np.concatenate(content.streamlines), expected(source, tmp_path), atol=5e-5
    )
    np.testing.assert_array_equal(content.header["dimensions"], GRID.shape)
    weights = content.tractogram.data_per_streamline["weight"]
    np.testing.assert_array_equal(weights[:, 0], np.arange(5))


def test_bad_files_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = trk(tmp_path / "a.trk", lines())
    write_geometry(tmp_path / "a.trx", read_geometry(path), like=GRID)
    whole = (tmp_path / "a.trx").read_bytes()
    for content in (b"", whole[:100], whole[:-100]):
        (tmp_path / "b.trx").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as streamlines"):
            read_geometry(tmp_path / "b.trx")
    with zipfile.ZipFile(tmp_path / "b.trx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("positions.3.float32", bytes(50_000_000))
    with pytest.raises(InputError, match="unpacks to 50000000 bytes"):
        read_geometry(tmp_path / "b.trx")
    monkeypatch.setattr("stn3d.io.points.trx.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"needs the package trx-python; .* 'stn3d\[streamlines"):
        read_geometry(tmp_path / "a.trx")
