"""Building of a group template: unbiased, resumable, and the same bytes again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import stn3d
from stn3d.cli import main
from stn3d.errors import InputError
from stn3d.registration.outputs import Outputs
from stn3d.template import Template, TemplateSettings, build, registrations
from stn3d.transforms import Affine
from tests.helpers.template_cases import Shape, anatomy, make_group

ONE = TemplateSettings(iterations=1, threads=1)
FILES = {"moved.nii.gz", "transform.h5", "inverse.h5", "metrics.json"}
PAGES = {"report.html", "report.png"}
PLAIN = Outputs(report=False)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> list[Shape]:
    return make_group(tmp_path_factory.mktemp("group"), 2)


@pytest.fixture(scope="module")
def built(group: list[Shape], tmp_path_factory: pytest.TempPathFactory) -> Template:
    out = tmp_path_factory.mktemp("built") / "new" / "template"
    return build([one.path for one in group], out, settings=ONE)


def contents(folder: Path) -> dict[str, bytes]:
    """All files that do not hold times."""
    timed = (".json", ".html", ".png")
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in timed)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_images_agree_in_the_template(group: list[Shape], built: Template) -> None:
    image = built.image()
    points = image.grid.points_mm()
    seen = [one.truth(built.transform(one.path.name[:6])(points)) for one in group]
    inside = anatomy(2).body(seen[0]) < 0.9
    gaps = [float((s - seen[0]).norm(dim=-1)[inside].mean()) for s in seen[1:]]
    start = [
        float((one.truth(points) - group[0].truth(points)).norm(dim=-1)[inside].mean())
        for one in group[1:]
    ]
    assert min(start) > 2
    assert max(gaps) < 0.5  # mm; voxels have 1 to 1.2
    shown = torch.stack([anatomy(2)(s)[inside] for s in seen]).mean(0)
    both = torch.stack([shown, image.values[0, 0][inside]])
    assert float(torch.corrcoef(both)[0, 1]) > 0.99


def test_size_and_pose_are_the_mean_of_the_images(group: list[Shape], built: Template) -> None:
    """The volume of the body in the template is the geometric mean of those in the images."""
    areas = []
    for one in group:
        inside = anatomy(2).body(one.truth(one.grid.points_mm())) < 1
        areas.append(float(inside.sum()) * abs(float(torch.linalg.det(one.grid.world_from_index))))
    image = built.image()
    seen = group[0].truth(built.transform("shape0")(image.grid.points_mm()))
    inside = anatomy(2).body(seen) < 1
    area = float(inside.sum()) * abs(float(torch.linalg.det(image.grid.world_from_index)))
    assert max(areas) / min(areas) > 1.08
    assert area == pytest.approx(np.exp(np.mean(np.log(areas))), rel=0.03)


def test_files_and_metrics(group: list[Shape], built: Template) -> None:
    assert {p.name for p in built.folder.iterdir()} == {
        *("template.nii.gz", "template.json", "index.html"),
        *("shape0", "shape1"),
    }
    for name in built.names:
        assert {path.name for path in (built.folder / name).iterdir()} == FILES | PAGES
    assert built.names == ["shape0", "shape1"]
    assert all(path.is_file() for path in built.files)
    assert len(built.metrics["iterations"]) == 2
    assert built.metrics["iterations"][1]["images"] == 2
    points = built.image().grid.points_mm()[15:-15, 15:-15]
    back = built.inverse("shape1")(built.transform("shape1")(points))
    assert float((back - points).norm(dim=-1).max()) < 0.3


def test_order_and_start_do_not_matter(
    group: list[Shape], built: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes in another order, interrupted at every third registration; nearly the same
    template from another initial target."""
    paths = [one.path for one in reversed(group)]
    calls, plain = 0, registrations.register

    def interrupted(*args: Any, **further: Any) -> stn3d.Registration:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise KeyboardInterrupt
        return plain(*args, **further)

    monkeypatch.setattr(registrations, "register", interrupted)
    out = tmp_path / "template"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            build(paths, out, settings=ONE, outputs=PLAIN)
        assert not (out / "template.json").exists()
    found = build(paths, out, settings=ONE, outputs=PLAIN)
    assert calls == 6 + 2  # none is repeated
    assert contents(out) == contents(built.folder)
    assert found.names == ["shape1", "shape0"]
    build(paths, out, settings=ONE, outputs=PLAIN)
    assert calls == 8  # it is complete
    monkeypatch.setattr(registrations, "register", plain)
    own = built.image()
    assert built.metrics["start"].endswith("shape0.nii.gz")
    start = build(paths, tmp_path / "start", start=group[1].path, settings=ONE, outputs=PLAIN)
    moved = stn3d.apply(Affine.identity(2), start.image(), own).values
    both = torch.stack([moved.flatten(), own.values.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.998
    points = own.grid.points_mm()[own.values[0, 0] > 20]
    for name in built.names:
        gap = start.transform(name)(points) - built.transform(name)(points)
        assert float(gap.norm(dim=-1).mean()) < 0.35  # mm


def test_large_motion_is_an_option_of_the_deformable_registrations(
    group: list[Shape], tmp_path: Path
) -> None:
    images, out = [str(one.path) for one in group], tmp_path / "template"
    options = ["--iterations", "1", "--threads", "1", "--no-report", "--large-motion", "on"]
    assert main(["template", *images, "--out", str(out), *options]) == 0
    found = [json.loads(path.read_text("utf-8")) for path in out.glob("*/metrics.json")]
    assert len(found) == len(images)
    for metrics in found:
        assert metrics["settings"]["large_motion"] == "on"
        assert "discrete" in metrics["timings_s"]
    assert (
        json.loads((out / "template.json").read_text("utf-8"))["settings"]["large_motion"] == "on"
    )


def test_a_config_with_large_motion_applies_to_the_deformable_registrations() -> None:
    settings = TemplateSettings(config={"large_motion": "on"})
    assert "large_motion" not in settings.registration("fast", "deformable")
    assert settings.registration("fast", "affine")["large_motion"] == "off"
    with pytest.raises(InputError, match="large_motion"):
        TemplateSettings(large_motion="much")  # type: ignore[arg-type]


def test_bad_images_are_rejected(group: list[Shape], tmp_path: Path) -> None:
    first, out = group[0].path, tmp_path / "out"
    flat = tmp_path / "flat.nii.gz"
    nib.save(
        nib.Nifti1Image(np.random.default_rng(0).random((20, 20, 20), np.float32), np.eye(4)), flat
    )
    hounsfield = np.full((20, 20), -1000, np.float32)
    hounsfield[5:15, 5:15] = 40
    nib.save(nib.Nifti1Image(hounsfield, np.eye(4)), tmp_path / "ct.nii.gz")
    series = np.random.default_rng(0).random((20, 20, 1, 5), np.float32)
    nib.save(nib.Nifti1Image(series, np.eye(4)), tmp_path / "series.nii.gz")
    cases: list[tuple[list[Path], str]] = [
        ([first, tmp_path / "series.nii.gz"], "series holds 5 volumes; give images of one volume"),
        ([first], "at least 2 images; got 1"),
        ([first, first], "is given twice"),
        ([first, tmp_path / "gone.nii.gz"], "gone.nii.gz"),
        ([first, flat], "give images of one dimension"),
        ([first, tmp_path / "ct.nii.gz"], "ct is a CT in HU and shape0 is not"),
    ]
    for images, words in cases:
        with pytest.raises(InputError, match=words):
            build(images, out)
        assert not out.exists()
    for name, value in {"iterations": 0, "jobs": 0, "spacing_mm": -1.0, "sharpening": -1.0}.items():
        with pytest.raises(InputError, match=name.removesuffix("_mm")):
            TemplateSettings(**{name: value})  # type: ignore[arg-type]
