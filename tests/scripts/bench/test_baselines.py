"""Other tools: their versions, and the conversion of their transforms where they are installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from scripts.bench import baselines
from scripts.bench.tools import PEERS_SCRIPT
from tests.scripts.bench.blobs import blobs


def test_every_tool_reports_its_version_or_none() -> None:
    command = [sys.executable, str(PEERS_SCRIPT), "--versions"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert list(found) == list(baselines.OTHER_TOOLS)
    assert found["demons"].startswith("simpleitk 2.")
    assert (
        baselines.OtherTool("no-such-package", baselines.demons, baselines.convert_demons).version()
        is None
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in baselines.OTHER_TOOLS if name != "ants-synquick"]
)
def test_a_converted_transform_gives_the_tools_own_moved_image(name: str, tmp_path: Path) -> None:
    if not baselines.OTHER_TOOLS[name].version():
        pytest.skip(f"{baselines.OTHER_TOOLS[name].package} is not installed")
    paths = [tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"]
    fixed, moving = blobs(0.0, (10.0, -20.0, 30.0)), blobs(0.15, (4.0, -10.0, 20.0))
    for image, path in zip((fixed, moving), paths, strict=True):
        sitk.WriteImage(image, str(path))
    out = tmp_path / "out"
    command = [sys.executable, str(PEERS_SCRIPT), name, *map(str, (*paths, out))]
    for last in ("2", "--convert"):
        subprocess.run([*command, last], check=True, capture_output=True)
    elastix = {"elastix": "result.1.nii", "elastix-rigid": "result.0.nii"}
    own = out / elastix.get(name, "moved.nii.gz")
    order = sitk.sitkBSpline if name in elastix else sitk.sitkLinear
    moved = sitk.GetArrayFromImage(sitk.ReadImage(str(own), sitk.sitkFloat32))
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    if name == "ants-rigid":
        moving -= float(sitk.GetArrayViewFromImage(moving).min())
    mine = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, order))
    gap = np.abs(moved - mine) / np.ptp(mine)
    assert np.percentile(gap, 99) < 1e-3
    still = sitk.GetArrayFromImage(sitk.Resample(moving, fixed))
    assert np.percentile(np.abs(moved - still) / np.ptp(mine), 90) > 0.02  # it did move
