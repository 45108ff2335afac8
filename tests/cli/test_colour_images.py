"""`register` and `apply` of colour images from end to end, with SimpleITK as reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.cli import main
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.transforms import Affine
from stn3d.warp.apply import apply
from tests.cli.cases import QUICK, metrics_of, printed
from tests.helpers.synthetic import Known, known_pair, linear_truth, plain_grid


def slide(values: torch.Tensor, dtype: Any, alpha: bool = False) -> np.ndarray:
    """A section of the anatomy, stained by haematoxylin, on a bright slide: (x, y, C)."""
    density = values[0, 0].double().numpy()[..., None] * np.array([0.65, 0.70, 0.29])
    top = np.iinfo(dtype).max
    channels = (0.92 * top * 10**-density).round()
    opaque = np.full((*channels.shape[:2], 1), top)
    return np.concatenate([channels, opaque], -1)[..., : 4 if alpha else 3].astype(dtype)


def save(path: Path, channels: np.ndarray, grid: Grid) -> str:
    image = sitk.GetImageFromArray(np.ascontiguousarray(channels.swapaxes(0, 1)), isVector=True)
    image.SetOrigin((-grid.world_from_index[:2, 2]).tolist())
    if path.suffix == ".nii":
        assert channels.dtype == np.uint8
    image.SetDirection([-1.0, 0, 0, -1])  # stn3d's axes are those of the world, RAS
    sitk.WriteImage(image, str(path))
    return str(path)


def pair() -> Known:
    grid = plain_grid(2)
    zero = torch.zeros(2, dtype=torch.float64)
    return known_pair(linear_truth("rigid", zero, zero, 8), grid, grid)


def error_mm(known: Known, path: Path) -> float:
    """Of a transform file, over the body."""
    transform = sitk.ReadTransform(str(path))
    points = known.fixed_grid.points_mm()[known.foreground]
    mapped = np.array([transform.TransformPoint((-p).tolist()) for p in points])
    return float(np.linalg.norm(-mapped - known.truth(points).numpy(), axis=1).mean())


@pytest.mark.parametrize(
    ("suffix", "dtype", "alpha"),
    [(".mha", np.uint8, False), (".mha", np.uint16, True), (".nrrd", np.uint8, True)],
)
@pytest.mark.parametrize("stain", [None, "haematoxylin"])
def test_register_and_apply_keep_all_channels(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    suffix: str,
    dtype: Any,
    alpha: bool,
    stain: str | None,
) -> None:
    known = pair()
    grids = known.fixed_grid, known.moving_grid
    images = known.fixed, known.moving
    fixed, moving = (
        save(tmp_path / f"{name}{suffix}", slide(values, dtype, alpha), grid)
        for name, values, grid in zip(("f", "m"), images, grids, strict=True)
    )
    out, options = tmp_path / "out", ["--kind", "rigid", "--metric", "lncc", *QUICK]
    if stain is not None:
        options += ["--fixed-colour", stain, "--moving-colour", stain]
    assert main(["register", fixed, moving, "-o", str(out), *options]) in (0, 3)
    told = [line for line in printed(capfd)[0] if line.startswith(("fixed image:", "moving im"))]
    assert len(told) == 2
    assert all((stain or "inverted since its background is bright") in line for line in told)
    assert (stain or "luminance") in metrics_of(out)["moving"]["colour"]
    assert error_mm(known, out / "transform.h5") < 0.3

    moved = sitk.ReadImage(str(out / "moved.nii.gz"))
    assert moved.GetNumberOfComponentsPerPixel() == (4 if alpha else 3)
    found = np.squeeze(sitk.GetArrayFromImage(moved))
    assert found.dtype == dtype
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    source, onto = sitk.ReadImage(moving), sitk.ReadImage(fixed)
    by_itk = sitk.GetArrayFromImage(sitk.Resample(source, onto, transform, sitk.sitkLinear, 0.0))
    inner = (slice(8, -8), slice(8, -8))
    gap = np.abs(found[inner].astype(float) - by_itk[inner])
    assert float(gap.max()) <= 1.5
    outside = found[0, 0].astype(float) / np.iinfo(dtype).max
    assert outside[3] == 0 if alpha else outside.min() > 0.9

    again = tmp_path / f"again{suffix}"
    command = ["apply", str(out / "transform.h5"), moving, "--like", fixed, "-o", str(again)]
    assert main(command) == 0
    assert any("holds colours" in line for line in printed(capfd)[0])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(again))), found)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("colours", [True, False])
def test_apply_writes_pictures(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, colours: bool
) -> None:
    """By SimpleITK: the values, in the data type of the picture, and the pixel size."""
    known = pair()
    channels = slide(known.moving, np.uint8) if colours else slide(known.moving, np.uint8)[..., 0]
    image = sitk.GetImageFromArray(np.ascontiguousarray(channels.swapaxes(0, 1)), isVector=colours)
    image.SetSpacing((0.25, 0.25))
    source, moved = tmp_path / f"a{suffix}", tmp_path / f"moved{suffix}"
    sitk.WriteImage(image, str(source))
    transform = sitk.Euler2DTransform((4.0, 5.0), 0.2, (0.3, -0.4))
    sitk.WriteTransform(transform, str(tmp_path / "t.tfm"))
    command = ["apply", str(tmp_path / "t.tfm"), str(source), "--like", str(source)]
    assert main([*command, "-o", str(moved)]) == 0
    assert not any("origin" in line for line in printed(capfd)[1])
    found = sitk.ReadImage(str(moved))
    again = sitk.ReadImage(str(source))
    by_itk = sitk.Resample(again, again, transform, sitk.sitkLinear, 0.0)
    assert found.GetPixelIDTypeAsString() == again.GetPixelIDTypeAsString()
    np.testing.assert_allclose(found.GetSpacing(), again.GetSpacing(), rtol=1e-6)
    arrays = [sitk.GetArrayFromImage(one).astype(float) for one in (found, by_itk)]
    inner = (slice(12, -12), slice(12, -12))
    assert np.abs(arrays[0][inner] - arrays[1][inner]).max() <= 1
    assert np.ptp(arrays[0][inner]) > 50
    assert main([*command, "-o", str(tmp_path / "moved.jpg")]) == 2
    assert "use one of the extensions" in " ".join(printed(capfd)[1])


@pytest.mark.parametrize("colours", [True, False])
def test_register_writes_pictures(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], colours: bool
) -> None:
    """The same values as in NIfTI, rounded; a 3D image is refused before any work."""
    known, files = pair(), []
    for name, values in (("f", known.fixed), ("m", known.moving)):
        channels = slide(values, np.uint8) if colours else slide(values, np.uint8)[..., 0]
        rows = np.ascontiguousarray(channels.swapaxes(0, 1))
        files.append(str(tmp_path / f"{name}.png"))
        sitk.WriteImage(sitk.GetImageFromArray(rows, isVector=colours), files[-1])
    options = ["--kind", "rigid", "--metric", "lncc", *QUICK]
    for suffix in (".png", ".nii.gz"):
        out = ["-o", str(tmp_path / suffix), "--image-format", suffix, "--jacobian"]
        assert main(["register", *files, *options, *out]) in (0, 3)
    picture = sitk.ReadImage(str(tmp_path / ".png" / "moved.png"))
    nifti = sitk.ReadImage(str(tmp_path / ".nii.gz" / "moved.nii.gz"))
    assert picture.GetPixelIDTypeAsString() == sitk.ReadImage(files[1]).GetPixelIDTypeAsString()
    found, expected = (np.squeeze(sitk.GetArrayFromImage(one)) for one in (picture, nifti))
    np.testing.assert_array_equal(found, np.rint(expected))
    assert (tmp_path / ".png" / "jacobian.tif").exists()
    solid = str(tmp_path / "solid.nii.gz")
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((9, 8, 7)), np.eye(4)), solid)
    out = ["-o", str(tmp_path / "out"), "--image-format", ".png"]
    capfd.readouterr()
    assert main(["register", solid, solid, *out]) == 2
    assert "PNG and TIFF files hold 2D images only" in " ".join(printed(capfd)[1])
    assert not (tmp_path / "out").exists()


def test_volumes_of_colours_keep_their_channels(tmp_path: Path) -> None:
    """A series of RGB images, one of them shifted by two voxels."""
    grid = plain_grid(3, 28.0)
    zero = torch.zeros(3, dtype=torch.float64)
    known = known_pair(linear_truth("rigid", zero, zero, 0), grid, grid)
    grey = (200 * known.fixed[0, 0]).round().clamp(0, 255).numpy().astype(np.uint8)
    volumes = [np.stack([v, v // 2, v // 3], -1) for v in (grey, grey, np.roll(grey, 2, axis=0))]
    rgb = np.stack(volumes, 3).view([(name, np.uint8) for name in "RGB"])[..., 0]
    nib.save(nib.Nifti1Image(rgb, grid.world_from_index.numpy()), tmp_path / "s.nii.gz")
    command = ["series", str(tmp_path / "s.nii.gz"), "-o", str(tmp_path / "out")]
    assert main([*command, "--reference-volume", "0"]) == 0
    moved = nib.load(tmp_path / "out" / "moved.nii.gz")
    assert moved.get_data_dtype() == rgb.dtype
    found = np.asarray(moved.dataobj)
    inner = (slice(6, -6),) * 3
    for name in "RGB":
        gaps = np.abs(found[name].astype(float) - rgb[name][..., :1])[inner]
        assert gaps.max() < 0.2 * np.ptp(rgb[name][..., 0])
        assert gaps[..., 2].mean() < 1
    fixed = str(tmp_path / "s.nii.gz")
    with pytest.raises(InputError, match="3 volumes of colours; choose one by its number"):
        apply(Affine.identity(3), fixed, fixed)


def test_rgb24_volumes_and_grey_images_together(tmp_path: Path) -> None:
    grid = plain_grid(3, 28.0)
    zero = torch.zeros(3, dtype=torch.float64)
    known = known_pair(linear_truth("rigid", zero, zero, 5), grid, grid)
    affine = grid.world_from_index.numpy()
    grey = (200 * known.moving[0, 0]).round().clamp(0, 255).numpy().astype(np.uint8)
    colours = np.stack([grey, grey // 2, grey // 3], -1)
    rgb = colours.view([(name, np.uint8) for name in "RGB"])[..., 0]
    nib.save(nib.Nifti1Image(known.fixed[0, 0].numpy(), affine), tmp_path / "f.nii.gz")
    nib.save(nib.Nifti1Image(rgb, affine), tmp_path / "m.nii.gz")
    out, files = tmp_path / "out", [str(tmp_path / f"{name}.nii.gz") for name in "fm"]
    options = ["--kind", "rigid", "--metric", "lncc", *QUICK]
    assert main(["register", *files, "-o", str(out), *options]) in (0, 3)
    moved = nib.load(out / "moved.nii.gz")
    assert moved.get_data_dtype() == rgb.dtype
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    fixed, moving = (sitk.ReadImage(file) for file in files)
    by_itk = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0))
    found = np.asarray(moved.dataobj)
    for n, name in enumerate("RGB"):
        gap = np.abs(found[name].astype(float) - by_itk[..., n].T)
        assert float(gap.max()) <= 1.0
    about = metrics_of(out)
    assert about["fixed"]["colour"] is None
    assert about["moving"]["colour"] == "the luminance (Rec. 709)"


def test_what_does_not_fit_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    known = pair()
    grey = tmp_path / "grey.nii.gz"
    nib.save(nib.Nifti1Image(known.fixed[0, 0].numpy(), np.eye(4)), grey)
    colour = save(tmp_path / "a.mha", slide(known.moving, np.uint8), known.moving_grid)
    out = str(tmp_path / "out")
    cases = {
        ("register", str(grey), colour, "-o", out, "--fixed-colour", "dab"): "holds no colours; "
        "omit --fixed-colour",
        ("register", colour, colour, "-o", out, "--moving-colour", "green"): "is unknown; did you",
        ("register", colour, colour, "-o", out, "--fill", "300"): "cannot be filled with 300",
    }
    for command, message in cases.items():
        assert main(list(command)) == 2
        assert message in " ".join(printed(capfd)[1])
    assert not Path(out).exists()


def test_metrics_and_labels_of_colour_pairs(tmp_path: Path) -> None:
    known = pair()
    path = save(tmp_path / "a.mha", slide(known.moving, np.uint8), known.moving_grid)
    report = tmp_path / "metrics.json"
    assert main(["evaluate", "--fixed", path, "--moving", path, "-o", str(report)]) == 0
    assert json.loads(report.read_text())["correlation"] == pytest.approx(1)
