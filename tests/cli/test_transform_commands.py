"""`convert`, `compose`, `invert`, `jacobian`, `explain` and `check` on a real registration."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from stn3d import read_transform, write_transform
from stn3d.cli import main
from stn3d.transforms import Translation, chain
from tests.cli.cases import Files, printed


def test_compose_is_one_transform_after_the_other(
    files: Files, result: Path, tmp_path: Path
) -> None:
    there, back = result / "transform.h5", result / "inverse.h5"
    out = tmp_path / "both.h5"
    assert main(["compose", str(there), str(back), "--out", str(out)]) == 0
    points = files.known.fixed_grid.points_mm()[files.known.foreground][::53]
    expected = chain(read_transform(there), read_transform(back))(points)
    torch.testing.assert_close(read_transform(out)(points), expected, atol=1e-4, rtol=0)
    converted = tmp_path / "converted.h5"
    command = ["convert", str(there), "--then", str(back), "--out", str(converted)]
    assert main(command) == 0
    assert converted.read_bytes() == out.read_bytes()


def test_invert_prints_its_error(
    files: Files, result: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "inverted.h5"
    command = ["invert", str(result / "transform.h5"), "--out", str(out), "--like", files.fixed]
    assert main(command) == 0
    assert any("error of the inverse" in line for line in printed(capfd)[0])
    points = files.known.fixed_grid.points_mm()[files.known.foreground][::53]
    back = read_transform(out)(read_transform(result / "transform.h5")(points))
    assert float((back - points).norm(dim=-1).mean()) < 0.05


def test_jacobian_writes_a_map(
    files: Files, result: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "jacobian.nii.gz"
    command = ["jacobian", str(result), "--like", files.fixed, "--out", str(out)]
    assert main(command) == 0
    values = nib.load(out).get_fdata()
    assert values.shape == nib.load(files.fixed).shape
    folded = int((values <= 0).sum())
    assert any(f"folded voxels: {folded}" in line for line in printed(capfd)[0])
    code = main([*command, "--log"])
    if folded:
        assert code == 2
    else:
        assert code == 0
        np.testing.assert_allclose(nib.load(out).get_fdata(), np.log(values), atol=1e-4)


def test_explain_a_registration_a_transform_and_an_image(
    files: Files, result: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(result)]) == 0
    text = "\n".join(printed(capfd)[0])
    assert "quality: " in text
    assert "displacement field" in text
    command = ["explain", str(result / "transform.h5"), "--like", files.fixed, "--json"]
    assert main([*command, "--moving", files.moving]) == 0
    found = json.loads("\n".join(printed(capfd)[0]))
    assert found["format"] == "itk"
    assert found["over_fixed"]["max_mm"] > 1
    assert 0 < found["inside_moving_fraction"] <= 1
    assert main(["explain", files.moving_labels]) == 0
    assert "label map" in "\n".join(printed(capfd)[0])


def test_explain_says_what_it_cannot_explain(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text("[1]")
    (tmp_path / "b.json").write_text("{]")
    (tmp_path / "c.h5").write_text("no transform")
    for name, part in (("a.json", "metrics"), ("b.json", "not JSON"), ("c.h5", "transform")):
        assert main(["explain", str(tmp_path / name)]) == 2
        out, err = printed(capfd)
        assert out == []
        assert part in err[-1]


def test_check_a_pair(files: Files, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *files.pair]) == 0
    assert "register accepts them" in printed(capfd)[0]
    assert main(["check", *files.pair, "--json"]) == 0
    assert json.loads("\n".join(printed(capfd)[0]))["errors"] == []


def test_check_exits_with_2_where_register_refuses(
    files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = nib.load(files.moving)
    small = nib.Nifti1Image(np.asarray(image.dataobj), image.affine @ np.diag([0.001] * 3 + [1]))
    nib.save(small, tmp_path / "small.nii.gz")
    assert main(["check", files.fixed, str(tmp_path / "small.nii.gz")]) == 2
    assert "register refuses them" in printed(capfd)[0]


@pytest.mark.parametrize(
    "command",
    [
        "convert nothing.h5 --out NEW/a.h5",
        "compose nothing.h5 --out NEW/a.h5",
        "invert nothing.h5 --out NEW/a.h5",
        "jacobian nothing.h5 --like image.nii.gz --out NEW/a.nii.gz",
        "explain nothing.h5",
        "check nothing.nii.gz nothing.nii.gz",
    ],
)
def test_missing_files_are_one_sentence(refused: object, command: str) -> None:
    assert "nothing" in refused(command)  # type: ignore[operator]


def test_register_starts_at_several_transforms(files: Files, tmp_path: Path) -> None:
    """Two transforms whose composition is the truth, in the order of a fixed point."""
    d = files.known.fixed_grid.ndim
    centre = files.known.fixed_grid.centre_mm
    shift = torch.zeros(d, dtype=torch.float64)
    shift[0] = 40.0
    first = Translation(shift, centre)
    second = chain(first.inverse(), files.known.truth)
    write_transform(tmp_path / "first.tfm", first)
    write_transform(tmp_path / "second.h5", second)
    inits = ["--init", str(tmp_path / "first.tfm"), "--init", str(tmp_path / "second.h5")]
    out = tmp_path / "out"
    assert main(["register", *files.pair, "--out", str(out), "--kind", "rigid", *inits]) in (0, 3)
    metrics = json.loads((out / "metrics.json").read_text())
    assert [one["name"] for one in metrics["initial_candidates"]] == ["given"]
    points = files.known.fixed_grid.points_mm()[files.known.foreground][::53]
    found = read_transform(out / "transform.h5")(points)
    assert float((found - files.known.truth(points)).norm(dim=-1).mean()) < 5
    assert main(["register", *files.pair, "--out", str(out), "--init", "nowhere.h5"]) == 2
