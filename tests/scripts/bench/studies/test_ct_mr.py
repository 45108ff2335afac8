"""The study of CT and MR heads from random initial poses: what is drawn, evaluated and reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from scripts.bench import paths
from scripts.bench import rigid_metrics as rm
from scripts.bench.store import Results, write
from scripts.bench.studies import ct_mr

CENTRE = np.array([10.0, -20.0, 30.0])
POINTS = CENTRE + np.random.default_rng(3).uniform(-60, 60, (400, 3))
COST = {"wall_s": 4.0, "cpu_s": 5.0, "peak_gb": 0.5}
NMI = "stn3d --kind rigid --metric nmi"
HEAD = {"machine": "a machine", "versions": {}, "threads": 2, "command": "ct_mr run"}


def test_a_displacement_is_rigid_and_depends_on_the_number_alone() -> None:
    one, again, other = (ct_mr.displacement(5, pose, CENTRE) for pose in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.allclose(one, other)
    shifts = [rm.motion(ct_mr.displacement(5, i, CENTRE), CENTRE)[3:] for i in range(200)]
    assert 38 < np.abs(shifts).max() <= ct_mr.MAX_SHIFT_MM
    rotation = one[:3, :3]
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_the_initial_displacement_is_removed_from_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that finds the displacement itself has found the identity."""
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    for name in ("a", "b"):
        path = tmp_path / "data" / "ct_mr" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.ones((6, 7, 8), np.int16), affine), path)
    monkeypatch.setattr(paths, "SHARED", tmp_path)
    monkeypatch.setattr(ct_mr, "brain_mm", lambda: POINTS)

    def register_pair(tool: str, images: tuple[str, str], out: Path, *_: Any) -> dict[str, float]:
        header: Any = nib.load(images[1])
        assert header.get_sform(coded=True)[1] == header.get_qform(coded=True)[1] == 1
        out.mkdir()
        flip = np.diag([-1.0, -1.0, 1.0, 1.0])
        matrix = flip @ header.affine @ np.linalg.inv(affine) @ flip
        found = sitk.AffineTransform(3)
        found.SetMatrix(matrix[:3, :3].ravel().tolist())
        found.SetTranslation(matrix[:3, 3].tolist())
        sitk.WriteTransform(sitk.CompositeTransform([found]), str(out / "transform.h5"))
        return dict(COST)

    monkeypatch.setattr(ct_mr, "register_pair", register_pair)
    row = ct_mr.measured(5, (1, "python"), {"fixed": "a", "moving": "b", "pose": 3, "tool": "any"})
    assert np.allclose(row["matrix"], np.eye(4), atol=1e-4)
    assert row["wall_s"] == 4.0


def pose_row(pose: int, matrix: rm.Floats | None) -> dict[str, Any]:
    common = {"fixed": "scct", "moving": "mr", "pose": pose, "tool": NMI, "version": "stn3d 1"}
    return common | (COST | {"matrix": matrix.tolist()} if matrix is not None else {"failed": "no"})


def test_the_page_has_deviation_identity_lost_and_failed(tmp_path: Path) -> None:
    shift = [rm.rigid_matrix([0.0] * 3, [x, 0.0, 0.0], CENTRE) for x in (1.0, 1.5, 2.0, 40.0)]
    given = [pose_row(i, matrix) for i, matrix in enumerate([*shift, None])]
    found = ct_mr.with_deviation(given, POINTS)
    assert [row.get("deviation_mm") for row in found] == [0.75, 0.25, 0.25, 38.25, None]
    assert [row.get("identity_mm") for row in found] == [1.0, 1.5, 2.0, 40.0, None]
    write(tmp_path / "results.json", Results("ct_mr", HEAD, found))
    ct_mr.report(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    cells = "| 5 | 1 | 1 | 0.50 | 32.62 | 38.25 | 1.75 | 40.00 | 4.0 | 4.0 |"
    assert f"| scct <- mr | {NMI} {cells}" in text
    assert text.endswith(f"- scct <- mr, pose 4, {NMI}: no\n")
