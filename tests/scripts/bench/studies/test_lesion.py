"""The lesion's sphere, its masks, and the measurement of what happens to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from scripts.bench import paths
from scripts.bench.store import Results, write
from scripts.bench.studies.lesion import measure, page
from scripts.bench.studies.lesion.metrics import Ball, distances, errors, linear_ratio, volumes

SIZE, SPACING = 60, 2.0


@pytest.fixture
def brains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two bright balls of 50 mm as brains, off the origin and turned to LAS."""
    affine = np.diag([-SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = (70, -50, -40)
    x, y, z = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    values = (400 * (SPACING * np.sqrt(x**2 + y**2 + z**2) < 50)).astype(np.int16)
    for person in ("1", "2"):
        path = tmp_path / "data" / "brains" / f"{person}_t1.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, affine), path)
    (tmp_path / "bench").symlink_to(paths.SHARED / "bench")
    monkeypatch.setattr(paths, "SHARED", tmp_path)
    return tmp_path


@pytest.mark.parametrize("side", measure.SIDES)
def test_a_sphere_is_dark_deep_and_masked(side: str, brains: Path) -> None:
    case = measure.Case("1", "2", side, 0)
    files, ball = measure.write_lesion(case, 6, brains, brains)
    assert measure.write_lesion(case, 6, brains, brains)[1] == ball
    (brains / "other").mkdir()
    assert measure.write_lesion(case, 7, brains / "other", brains)[1] != ball
    other = "moving" if side == "fixed" else "fixed"
    assert files[other] == str(measure.brain(case.people[other], brains))
    image: Any = nib.load(files[side])
    before: Any = nib.load(measure.brain("1", brains))
    values, was = np.asanyarray(image.dataobj), np.asanyarray(before.dataobj)
    dark = values != was
    assert set(np.unique(values[dark])) == {40.0}
    assert dark.sum() * SPACING**3 / 1000 == pytest.approx(ball.volume_ml, rel=0.15)
    centre = np.argwhere(dark).mean(0) @ before.affine[:3, :3].T + before.affine[:3, 3]
    assert np.abs(centre - ball.centre_mm).max() < 0.5
    exclude, mask = (np.asanyarray(nib.load(files[k]).dataobj) for k in ("exclude", "mask"))
    assert (exclude[dark] == 1).all()
    assert exclude.sum() < 2 * dark.sum()
    assert (exclude + mask == 1).all()
    depth = 50 - np.linalg.norm(np.array(ball.centre_mm) - (70 - 59, -50 + 59, -40 + 59))
    assert depth > measure.DEPTH_MM - 2


@pytest.mark.usefixtures("shared_data")
def test_a_pair_with_a_known_truth_is_evaluated_by_it(brains: Path) -> None:
    case = measure.Case("1", "1~3", "moving", 0)
    measure.make_moving(case, brains)
    truth = measure.known_folder(case, brains) / "truth.h5"
    _files, ball = measure.write_lesion(case, 6, brains, brains)
    values, affine = measure.brain_of("1~3", brains)
    inside = ball.distance_mm(values.shape, affine) <= 0
    assert inside.sum() * SPACING**3 / 1000 == pytest.approx(ball.volume_ml, rel=0.15)
    assert values[inside].min() > 200  # deep in the brain as it was carried
    for name in ("run", "free"):
        (brains / name).mkdir()
    shutil.copy(truth, brains / "run" / "transform.h5")
    shift = sitk.TranslationTransform(3, (3.0, 0.0, 4.0))
    true: Any = sitk.ReadTransform(str(truth))
    count = true.GetNumberOfTransforms()
    both = sitk.CompositeTransform([shift, *map(true.GetNthTransform, range(count))])
    sitk.WriteTransform(both, str(brains / "free" / "transform.h5"))
    fixed = measure.brain("1", brains)
    found = errors(brains / "run", brains / "free", truth, fixed, "moving", ball)
    assert found == {"true_error_mm": 0, "true_error_free_mm": pytest.approx(5, abs=1e-3)}
    with pytest.raises(SystemExit, match="2~1 is not made from 1"):
        measure.make_moving(measure.Case("1", "2~1", "fixed", 0), brains)


def test_a_brain_without_depth_is_reported() -> None:
    with pytest.raises(SystemExit, match="no voxel lies 20 mm inside"):
        measure.deep_place(np.ones((30, 30, 30), bool), np.eye(4), np.random.default_rng(0))


def test_only_the_masked_run_is_asked_for_a_mask() -> None:
    files = {"exclude": "e.nii", "mask": "m.nii"}
    assert measure.mask_options("fixed", "plain", "exclude", files) == []
    assert measure.mask_options("fixed", "masked", "exclude", files) == ["--fixed-exclude", "e.nii"]
    assert measure.mask_options("moving", "masked", "mask", files) == ["--moving-mask", "m.nii"]


def swelling(centre_lps: np.ndarray, factor: float, reach: float) -> sitk.Transform:
    """Grows all lengths by a factor within reach of a centre, and nothing far away; then 1.1."""
    index = np.indices((80,) * 3)[::-1]
    points = np.moveaxis(index, 0, -1) * 1.0 - 40 + centre_lps
    away = points - centre_lps
    far = np.linalg.norm(away, axis=-1, keepdims=True)
    share = np.clip((1.8 * reach - far) / (0.8 * reach), 0, 1)
    field = sitk.GetImageFromArray((factor - 1) * share * away, isVector=True)
    field.SetOrigin((centre_lps - 40).tolist())
    affine = sitk.AffineTransform(3)
    affine.Scale(1.1)
    total = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(field)])
    return total


def test_the_spheres_volume_is_measured_through_a_transform(tmp_path: Path) -> None:
    ball = Ball((10.0, -5.0, 20.0), 7.5)
    transform = swelling(np.array([-10.0, 5.0, 20.0]), 0.8, 12.0)
    sitk.WriteTransform(transform, str(tmp_path / "t.h5"))
    found = volumes(tmp_path / "t.h5", ball)
    assert found["before_ml"] == pytest.approx(1.7671, abs=1e-4)
    assert found["ratio_affine"] == pytest.approx(1.331)
    assert found["ratio"] == pytest.approx(0.512 * 1.331, rel=0.01)
    assert found["after_ml"] == pytest.approx(found["ratio"] * found["before_ml"], rel=1e-3)
    assert found["ratio_around"] > found["ratio"]


def test_linear_parts_are_multiplied() -> None:
    one, two = sitk.AffineTransform(3), sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3)
    one.Scale((2.0, 1.0, 0.5))
    one.Scale(1.2)
    both = sitk.CompositeTransform([one, two])
    assert linear_ratio(both) == pytest.approx(1.728)
    assert linear_ratio(sitk.CompositeTransform([both, one])) == pytest.approx(1.728**2)


@pytest.mark.parametrize("side", measure.SIDES)
def test_distances_are_taken_outside_near_and_within(
    side: str, tmp_path: Path, brains: Path
) -> None:
    for folder, shift in (("free", 0.0), ("run", 3.0)):
        (tmp_path / folder).mkdir()
        moved = sitk.TranslationTransform(3, (0.0, shift, 4.0))
        sitk.WriteTransform(
            sitk.CompositeTransform([moved]), str(tmp_path / folder / "transform.h5")
        )
    ball = Ball((11.0, 9.0, 19.0), 7.5)
    found = distances(tmp_path / "run", tmp_path / "free", measure.brain("1", brains), side, ball)
    assert found == {"apart_mm": 3.0, "apart_near_mm": 3.0, "apart_within_mm": 3.0}


def row(side: str, how: str, ratio: float, number: int = 0, **more: Any) -> dict[str, Any]:
    common = {"fixed": "1", "moving": "2", "side": side, "number": number, "how": how}
    common |= {"volume": {"ratio": ratio, "ratio_around": 2.2, "ratio_affine": 2.0}}
    common |= {"volume_free": {"ratio": 1.8, "ratio_around": 2.0, "ratio_affine": 2.0}}
    apart = {"apart_mm": 0.1, "apart_near_mm": 0.2, "apart_within_mm": 0.3, "wall_s": 7.0}
    return common | apart | more


def test_the_page_has_means_runs_and_failures(tmp_path: Path) -> None:
    head = {
        "machine": "a machine",
        "threads": 2,
        "version": "stn3d 1",
        "tool": "stn3d",
        "by": "mask",
        "command": "lesion run",
        "versions": {},
    }
    rows = [row("fixed", "plain", 0.9), row("fixed", "plain", 3.6, 1), row("fixed", "masked", 1.8)]
    failed = {"fixed": "1", "moving": "2", "side": "moving", "number": 0, "how": "masked"}
    rows.append(failed | {"failed": "no such option"})
    write(tmp_path / "results.json", Results("lesion", head, rows))
    page.report(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    means, runs = text.split("## All runs")
    apart = "0.100 | 0.200 | 0.300"
    assert f"| fixed | plain | 2 | 0.900 | 1.100 | 0.900 | 1.000 | {apart} | 7.0 |" in means
    assert f"| fixed | masked | 1 | 0.900 | 1.100 | 0.900 | 1.000 | {apart} | 7.0 |" in means
    assert f"| 1 <- 2 (1) | fixed | plain | 1.800 | 1.100 | 0.900 | 2.000 | {apart} |" in runs
    assert "masks by `--SIDE-mask`" in means
    assert text.endswith("- 1 <- 2 (0), moving, masked: no such option\n")
    assert page.geometric((1.0, -0.1)) == 0.0


def test_a_pair_is_two_names() -> None:
    found = list(measure.cases("1 2,3 4", 2))
    assert len(found) == 8
    assert found[1] == measure.Case("1", "2", "moving", 0)
    with pytest.raises(SystemExit, match="give pairs such as"):
        list(measure.cases("1", 1))
