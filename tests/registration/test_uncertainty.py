"""The expected error: larger where images say nothing and where the result is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

import stn3d
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.outputs import Outputs
from stn3d.registration.settings import Settings
from stn3d.registration.uncertainty import coarse_error, error_map, search_measures
from stn3d.registration.uncertainty_cues import coarse_cues
from stn3d.registration.uncertainty_model import COARSE_MODEL, FINE_MODEL
from stn3d.transforms import Affine
from tests.helpers.images import smooth_image

SETTINGS = Settings(kind="deformable", metric="lncc", preset="fast")
SIZE = 192  # voxels of 1 mm, so the length unit is 1 mm


def blobs(flat: bool = False, size: int = 6) -> Tensor:
    """``(1, 1, SIZE, SIZE)``: blobs, dark around; the second half grey if ``flat``."""
    torch.manual_seed(0)
    small = torch.rand(1, 1, SIZE // size, SIZE // size)
    image = 0.3 + 0.7 * torch.nn.functional.interpolate(small, size=(SIZE, SIZE), mode="bicubic")
    if flat:
        image[..., SIZE // 2 :, :] = 0.65
    body = torch.zeros_like(image)
    body[..., 12:-12, 12:-12] = 1
    return image.clamp(0.1, 1) * body


def pair_of(image: Tensor, spacing_mm: float = 1.0) -> Pair:
    prepared = PreparedImage(image, Grid.of_spacing(tuple(image.shape[2:]), spacing_mm))
    return Pair(prepared, replace(prepared))


def shifted(*mm: float) -> Affine:
    matrix = torch.eye(len(mm) + 1).double()
    matrix[:-1, -1] = torch.tensor(mm)
    return Affine.from_matrix(matrix)


def halves(values: Tensor) -> tuple[float, float]:
    """Means over the inner part of the left and of the right half."""
    inner = values[0, 0, 24:-24, 24:-24]
    n = len(inner) // 2
    return float(inner[: n - 12].mean()), float(inner[n + 12 :].mean())


def test_a_flat_half_and_a_wrong_result_have_the_larger_errors() -> None:
    pair = pair_of(blobs(flat=True))
    right, wrong = shifted(0, 0), shifted(0, 7)
    for estimate in (error_map, coarse_error):
        textured, flat = halves(estimate(pair, right, SETTINGS).on(pair.fixed.grid))
        assert flat > 1.5 * textured
        moved, _ = halves(estimate(pair, wrong, SETTINGS).on(pair.fixed.grid))
        assert moved > 2 * textured
    assert textured < 3.0
    assert 3.0 < moved < 25.0


def test_nothing_is_known_outside_the_body_and_where_the_moving_image_ends() -> None:
    pair = pair_of(blobs(flat=True))
    found = error_map(pair, shifted(60, 0), SETTINGS)
    values = found.on(pair.fixed.grid)[0, 0]
    assert (values[:4] == 0).all()
    assert (values[-50:] == 0).all()
    assert (values[30:100, 30:-30] > 0).all()
    summary = found.summary()
    assert 0 < summary["median_mm"] <= summary["p90_mm"] <= summary["p95_mm"]
    away = error_map(pair, shifted(900, 0), SETTINGS)
    assert away.mean_mm is None
    assert away.summary()["mean_mm"] is None
    assert not away.on(pair.fixed.grid).any()


def test_an_image_without_air_is_all_body() -> None:
    image = blobs()[..., 20:-20, 20:-20].contiguous()
    found = error_map(pair_of(image), shifted(0, 0), SETTINGS)
    assert (found.on(Grid.of_spacing(tuple(image.shape[2:]), 1.0)) > 0).double().mean() > 0.9


def test_errors_scale_with_the_voxels() -> None:
    """A mouse of the same voxels has a tenth of the error."""
    image = blobs()
    large = error_map(pair_of(image), shifted(0, 2), SETTINGS)
    small = error_map(pair_of(image, 0.1), shifted(0, 0.2), SETTINGS)
    assert large.mean_mm is not None
    assert small.mean_mm == pytest.approx(0.1 * large.mean_mm, rel=0.05)
    summaries = large.summary(), small.summary()
    assert summaries[1]["large_mm"] == pytest.approx(0.1 * summaries[0]["large_mm"])
    assert summaries[1]["large_fraction"] == pytest.approx(summaries[0]["large_fraction"], abs=0.01)


def test_a_slice_has_the_map_of_the_2d_image() -> None:
    image = blobs()[0, 0, ::2, ::2].contiguous()
    options = {"kind": "rigid", "metric": "ncc", "threads": 1, "uncertainty": True}
    flat = Grid.of_spacing(tuple(image.shape), 2.0)
    planar = stn3d.register((image, flat), (image, flat), **options)  # type: ignore[arg-type]
    slice_ = Grid.of_spacing((*image.shape, 1), 2.0)
    deep = image[..., None]
    solid = stn3d.register((deep, slice_), (deep, slice_), **options)  # type: ignore[arg-type]
    assert planar.uncertainty is not None
    assert solid.uncertainty is not None
    assert solid.uncertainty.values.shape[2:] == deep.shape
    torch.testing.assert_close(solid.uncertainty.values[..., 0], planar.uncertainty.values)


def test_the_map_is_a_file_and_changes_no_other(tmp_path: Path) -> None:
    image = smooth_image((40, 40))[0, 0].float()
    other = torch.roll(image, 2, 0)
    grid = Grid.of_spacing((40, 40), 2.0)
    options = {"kind": "deformable", "metric": "lncc", "preset": "fast", "threads": 1}
    found = {}
    for wanted in (False, True):
        one = stn3d.register((image, grid), (other, grid), uncertainty=wanted, **options)  # type: ignore[arg-type]
        one.save(tmp_path / str(wanted), Outputs(report=wanted))
        found[wanted] = one
    names = {path.name for path in (tmp_path / "False").iterdir()}
    assert {path.name for path in (tmp_path / "True").iterdir()} == names | {
        "uncertainty.nii.gz", "report.html", "report.png",
    }  # fmt: skip
    for name in names - {"metrics.json", "transform.h5", "inverse.h5"}:
        assert (tmp_path / "False" / name).read_bytes() == (tmp_path / "True" / name).read_bytes()
    points = grid.points_mm()
    assert torch.equal(found[False].transform(points), found[True].transform(points))
    file = nib.load(tmp_path / "True" / "uncertainty.nii.gz")
    values = np.asanyarray(file.dataobj)
    assert values.dtype == np.float32
    assert values.shape[:2] == (40, 40)
    summary = found[True].metrics["uncertainty"]
    assert values.max() >= summary["p95_mm"] >= summary["mean_mm"] > 0
    assert found[False].metrics["uncertainty"] is None
    assert "Expected error" in (tmp_path / "True" / "report.html").read_text(encoding="utf8")
    measures = found[True].metrics["quality"]["measures"]
    assert measures["expected_error_mm"] == summary["mean_mm"]


def test_the_setting_is_true_or_false() -> None:
    with pytest.raises(InputError, match="uncertainty is 'yes'; give true or false"):
        Settings(uncertainty="yes")  # type: ignore[arg-type]


def test_the_coarse_error_is_that_of_the_swapped_pair_for_no_deformation() -> None:
    pair = pair_of(blobs(flat=True))
    there = coarse_error(pair, Affine.identity(2), SETTINGS)
    back = coarse_error(pair.swapped, Affine.identity(2), SETTINGS)
    torch.testing.assert_close(there.expected_mm, back.expected_mm)


def test_a_smaller_body_has_a_larger_error() -> None:
    pair = pair_of(blobs())
    values = coarse_cues(pair, Affine.identity(2), SETTINGS.discrete).values
    side = SIZE - 2 * 12  # of the body; a pixel is a length unit
    torch.testing.assert_close(
        values["size"], torch.full_like(values["size"], side), rtol=0.05, atol=0
    )
    half = values | {"size": values["size"] / 2}
    assert (COARSE_MODEL.expected(half) > 1.05 * COARSE_MODEL.expected(values)).all()
    assert FINE_MODEL.terms["size"] == COARSE_MODEL.terms["size"]


def test_a_result_that_is_no_better_than_no_registration_is_found() -> None:
    """Displacements that a search finds around the result, and without the registration."""
    pair = pair_of(blobs(size=16))
    there = shifted(0, 16).matrix @ pair.fixed.grid.world_from_index
    moved = Pair(pair.fixed, replace(pair.fixed, grid=Grid((SIZE, SIZE), there)))
    right, half, wrong = (search_measures(moved, shifted(0, mm), SETTINGS) for mm in (16, 8, -6))
    assert right.remaining_displacement_mm == pytest.approx(0, abs=0.5)
    assert right.remaining_displacement_fraction is None
    assert half.remaining_displacement_mm == pytest.approx(8, abs=1)
    assert half.remaining_displacement_fraction == pytest.approx(0.5, abs=0.1)
    assert wrong.remaining_displacement_fraction == pytest.approx(22 / 16, abs=0.2)
    assert {one.expected_error_mm for one in (right, half, wrong)} == {None}
    worse = search_measures(pair, shifted(0, 9), SETTINGS)
    assert worse.remaining_displacement_fraction is not None
    assert worse.remaining_displacement_fraction > 10
    away = search_measures(pair, shifted(900, 0), SETTINGS)
    assert away == type(away)()
