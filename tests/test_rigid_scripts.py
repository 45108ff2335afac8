"""The scripts of rigid registration: what is judged, how runs resume, and their pages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import contrasts_rigid  # noqa: E402
import contrasts_rigid_report  # noqa: E402
import ct_mr  # noqa: E402
import ct_mr_report  # noqa: E402
import rigid_figures as rf  # noqa: E402
import rows  # noqa: E402
import starts_cases  # noqa: E402

from stn3d.io import write_transform  # noqa: E402
from stn3d.transforms import Affine  # noqa: E402

CENTRE = np.array([10.0, -20.0, 30.0])
POINTS = CENTRE + np.random.default_rng(3).uniform(-60, 60, (400, 3))
COST = {"wall_s": 4.0, "cpu_s": 5.0, "peak_gb": 0.5}
NMI = "stn3d --kind rigid --metric nmi"


def some_motion(seed: int, size: float = 1.0) -> rf.Floats:
    numbers = np.random.default_rng(seed).normal(size=6) * size
    return rf.turned(0.01 * numbers[:3], numbers[3:], CENTRE)


def test_a_motion_leads_back_to_its_matrix() -> None:
    matrix = rf.turned([0.3, -0.2, 0.5], [4.0, 5.0, -6.0], CENTRE)
    assert np.allclose(rf.carried(matrix, CENTRE[None]), CENTRE + np.array([4, 5, -6]))
    numbers = rf.motion(matrix, CENTRE)
    assert np.allclose(numbers, [0.3, -0.2, 0.5, 4, 5, -6])
    assert np.allclose(rf.turned(numbers[:3], numbers[3:], CENTRE), matrix)


def test_a_matrix_is_read_from_our_files_and_from_fields(tmp_path: Path) -> None:
    import torch

    matrix = rf.turned([0.3, -0.2, 0.5], [4.0, 5.0, -6.0], CENTRE)
    write_transform(tmp_path / "t.h5", Affine.from_matrix(torch.from_numpy(matrix)))
    assert np.allclose(rf.read_matrix(tmp_path / "t.h5", POINTS), matrix, atol=1e-6)
    transform = sitk.ReadTransform(str(tmp_path / "t.h5"))
    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, [40] * 3, [-80.0, -50.0, -40.0], [4.0] * 3
    )
    dense = sitk.DisplacementFieldTransform(sitk.Image(field))
    sitk.WriteTransform(sitk.CompositeTransform([dense]), str(tmp_path / "d.h5"))
    assert np.allclose(rf.read_matrix(tmp_path / "d.h5", POINTS), matrix, atol=1e-4)


def test_a_transform_that_bends_is_no_matrix(tmp_path: Path) -> None:
    spline = sitk.BSplineTransformInitializer(sitk.Image([30] * 3, sitk.sitkFloat32), [2, 2, 2])
    count = len(spline.GetParameters())
    spline.SetParameters(np.random.default_rng(1).normal(size=count).tolist())
    sitk.WriteTransform(spline, str(tmp_path / "b.h5"))
    with pytest.raises(ValueError, match="holds no linear transform"):
        rf.read_matrix(tmp_path / "b.h5", np.random.default_rng(2).uniform(-29, 0, (300, 3)))


def test_the_common_motion_is_that_of_the_other_seeds() -> None:
    common = rf.turned([0.002, 0.0, -0.001], [0.2, -0.1, 0.1], POINTS.mean(0))
    alike = rf.without_common_motion([common] * 3, POINTS)
    assert all(left is not None and left.max() < 1e-9 for left in alike)
    shifted = rf.turned([0.0] * 3, [1.0, 0.0, 0.0], CENTRE)
    first, second, third = rf.without_common_motion([np.eye(4), np.eye(4), shifted], POINTS)
    assert first is not None
    assert np.allclose(first, 0.5)  # half of the third one's millimetre
    assert np.allclose(second, first)
    assert third is not None
    assert np.allclose(third, 1.0)
    assert rf.without_common_motion([common], POINTS) == [None]


def test_the_consensus_is_not_moved_by_one_that_is_lost() -> None:
    lost = rf.turned([2.0, 0.0, 0.0], [50.0, 0.0, 0.0], CENTRE)
    middle = rf.consensus([np.eye(4), np.eye(4), lost], POINTS)
    assert np.allclose(middle, POINTS)


def test_figures_of_a_contrast_are_the_distance_and_the_residual() -> None:
    truth, residual = some_motion(1, 20), some_motion(2)
    found = contrasts_rigid.figures(truth, truth @ residual, POINTS)
    expected = np.linalg.norm(rf.carried(residual, POINTS) - POINTS, axis=1)
    assert found["error_mm"]["mean"] == pytest.approx(expected.mean(), abs=1e-4)
    assert found["error_mm"]["max"] == pytest.approx(expected.max(), abs=1e-4)
    assert np.allclose(found["residual"], rf.motion(residual, POINTS.mean(0)), atol=1e-6)


def contrast_row(seed: int, error: float, tool: str = NMI, **more: Any) -> dict[str, Any]:
    common = {"fixed": "t1", "moving": "t2", "seed": seed, "tool": tool, "version": "stn3d 1"}
    spread = {"mean": error, "p95": error, "max": error}
    return common | {"error_mm": spread, "residual": [0.0] * 3 + [error, 0, 0]} | COST | more


def test_lost_runs_take_no_part_in_repeatability(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(contrasts_rigid, "brain_points_mm", lambda _: torch.from_numpy(POINTS))
    given = [contrast_row(1, 0.3), contrast_row(2, 0.5), contrast_row(3, 40.0)]
    given += [contrast_row(1, 0.2, tool="ants-rigid")]
    found = contrasts_rigid.with_repeatability(given)
    assert [row["repeatability_mm"] for row in found] == [0.2, 0.2, None, None]


def test_the_page_of_contrasts_has_errors_repeatability_and_failures() -> None:
    found = [contrast_row(1, 0.3, repeatability_mm=0.1), contrast_row(2, 2.0, repeatability_mm=0.2)]
    failed = {"fixed": "t1", "moving": "t2", "seed": 3, "tool": NMI, "version": "stn3d 1"}
    text = contrasts_rigid_report.markdown(
        {"machine": "a machine", "threads": 2}, [*found, failed | {"failed": "no overlap"}]
    )
    line = f"| t1 <- t2 | {NMI} | 3 | 1.150 | 1.915 | 2.000 | 33 % (1 of 3) | 4.0 | 4.0 |"
    assert line in text
    assert line.replace("t1 <- t2", "all") in text
    assert f"| t1 <- t2 | {NMI} | 2 | 0.150 | 0.195 | 0.200 | 1.150 | 0.000 |" in text
    assert "Machine: a machine; 2 threads.\nVersions: stn3d 1." in text
    assert text.endswith(f"- t1 <- t2, seed 3, {NMI}: no overlap\n")


def test_each_pair_of_contrasts_is_made_for_all_tools_and_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = [], []

    def make_pair(folder: Path, moving: str, seed: int, fixed: str, _: Any) -> Path:
        pair = folder / f"{moving}-{seed}"
        pair.mkdir(parents=True)
        made.append((fixed, moving, seed))
        return pair

    def measured(tool: str, fixed: Path, pair: Path, *_: Any) -> dict[str, Any]:
        assert pair.is_dir()
        if len(asked) == 3:
            asked.append("")
            raise KeyboardInterrupt
        asked.append(tool)
        return {"failed": "so it is"}

    monkeypatch.setattr(contrasts_rigid, "make_pair", make_pair)
    monkeypatch.setattr(contrasts_rigid, "measured", measured)
    monkeypatch.setattr(contrasts_rigid, "available", lambda tools, _: dict.fromkeys(tools, "1"))
    command = ["--work", str(tmp_path / "w"), "--out", str(tmp_path / "out" / "r")]
    command += ["--pairs", "t1 t2,flair t1post", "--count", "2", "--peers", "ants-rigid"]
    command += ["--options=--metric nmi"]
    with pytest.raises(KeyboardInterrupt):
        contrasts_rigid.main(command)
    assert made == [("t1", "t2", 1), ("flair", "t1post", 1)]
    monkeypatch.undo()
    monkeypatch.setattr(contrasts_rigid, "make_pair", lambda *a: make_pair(tmp_path / "n", *a[1:]))
    monkeypatch.setattr(contrasts_rigid, "measured", measured)
    monkeypatch.setattr(contrasts_rigid, "available", lambda tools, _: dict.fromkeys(tools, "1"))
    contrasts_rigid.main(command)
    assert made[2:] == [("flair", "t1post", 1), ("t1", "t2", 2), ("flair", "t1post", 2)]
    assert asked == [NMI, "ants-rigid", NMI, "", "ants-rigid", *[NMI, "ants-rigid"] * 2]
    assert not list((tmp_path / "n").iterdir())
    page = json.loads((tmp_path / "out" / "r.json").read_text())
    assert len(page["rows"]) == 8
    with pytest.raises(SystemExit, match="give pairs such as"):
        contrasts_rigid.main([*command, "--pairs", "t1"])


def test_a_displacement_is_rigid_and_depends_on_the_number_alone() -> None:
    one, again, other = (ct_mr.displacement(5, start, CENTRE) for start in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.allclose(one, other)
    shifts = [rf.motion(ct_mr.displacement(5, i, CENTRE), CENTRE)[3:] for i in range(200)]
    assert 38 < np.abs(shifts).max() <= ct_mr.MAX_SHIFT_MM
    rotation = one[:3, :3]
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_a_start_is_taken_out_of_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that finds the displacement itself has found the identity."""
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    for name in ("a", "b"):
        (tmp_path / "ct_mr").mkdir(exist_ok=True)
        path = tmp_path / "ct_mr" / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(np.ones((6, 7, 8), np.int16), affine), path)
    monkeypatch.setattr(starts_cases, "DATA", tmp_path)
    monkeypatch.setattr(ct_mr, "brain_mm", lambda: POINTS)

    def registered(tool: str, images: tuple[str, str], out: Path, *_: Any) -> dict[str, float]:
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

    monkeypatch.setattr(ct_mr, "registered", registered)
    row = ct_mr.measured(5, (1, "python"), {"fixed": "a", "moving": "b", "start": 3, "tool": "any"})
    assert np.allclose(row["matrix"], np.eye(4), atol=1e-4)
    assert row["wall_s"] == 4.0


def start_row(start: int, matrix: rf.Floats | None) -> dict[str, Any]:
    common = {"fixed": "scct", "moving": "mr", "start": start, "tool": NMI, "version": "stn3d 1"}
    return common | (COST | {"matrix": matrix.tolist()} if matrix is not None else {"failed": "no"})


def test_the_page_of_starts_has_spread_identity_lost_and_failed() -> None:
    shift = [rf.turned([0.0] * 3, [x, 0.0, 0.0], CENTRE) for x in (1.0, 1.5, 2.0, 40.0)]
    given = [start_row(i, matrix) for i, matrix in enumerate([*shift, None])]
    found = ct_mr.with_spread(given, POINTS)
    assert [row.get("spread_mm") for row in found] == [0.75, 0.25, 0.25, 38.25, None]
    assert [row.get("identity_mm") for row in found] == [1.0, 1.5, 2.0, 40.0, None]
    text = ct_mr_report.markdown({"machine": "a machine", "threads": 2}, found)
    cells = "| 5 | 1 | 1 | 0.50 | 32.62 | 38.25 | 1.75 | 40.00 | 4.0 | 4.0 |"
    assert f"| scct <- mr | {NMI} {cells}" in text
    assert text.endswith(f"- scct <- mr, start 4, {NMI}: no\n")


def test_rows_are_kept_and_a_cut_off_line_is_dropped(tmp_path: Path) -> None:
    path, head, keys = tmp_path / "new" / "r.jsonl", {"threads": 2}, ("a", "b")
    assert rows.begin(path, head, keys) == set()
    for value in (1, 2):
        rows.append(path, {"a": 1, "b": 2, "x": value})
    with path.open("a") as file:
        file.write('{"a": 3, "b"')
    assert rows.begin(path, head, keys) == {(1, 2)}
    assert rows.read(path, keys) == (head, [{"a": 1, "b": 2, "x": 2}])
    with pytest.raises(SystemExit, match="was measured with"):
        rows.begin(path, {"threads": 1}, keys)
    wanted = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert rows.measure(path, head, keys, wanted, lambda row: {"x": row["a"]}) == (
        head,
        [{"a": 1, "b": 2, "x": 2}, {"a": 3, "b": 4, "x": 3}],
    )
    rows.write_page(tmp_path / "page", head, [{"a": 1}, {"a": 2}], "text\n")
    assert json.loads((tmp_path / "page.json").read_text()) == head | {"rows": [{"a": 1}, {"a": 2}]}
    assert (tmp_path / "page.md").read_text() == "text\n"
