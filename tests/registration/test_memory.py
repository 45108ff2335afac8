"""The memory of a registration, estimated; coarser levels where it would be too much."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from stn3d import register
from stn3d.errors import InputError, MemoryWarning
from stn3d.grid import Grid
from stn3d.io import read_image, write_image
from stn3d.memory import limit as memory_limit
from stn3d.registration.memory import budget, estimated_gb
from stn3d.registration.settings import PRESETS, Settings, settings_from
from tests.helpers.synthetic import dense_truth, grid_about, known_pair


def cube(n: int, spacing_mm: float = 1.0) -> Grid:
    return Grid.of_spacing((n,) * 3, spacing_mm)


def gb(n: int, **options: Any) -> float:
    return estimated_gb(cube(n), cube(n), settings_from(options))


LARGEST = Grid.of_spacing((512, 512, 400))


# -- the estimate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rigid", "affine", "deformable"])
@pytest.mark.parametrize("metric", ["lncc", "ncc", "mse"])
def test_the_estimate_grows_as_the_voxels_do(kind: str, metric: str) -> None:
    """Twice the edge is eight times the voxels; the margin's share only shrinks."""
    levels = {"finest_spacing_mm": 2.0}  # by default small images have finer levels
    options = {"kind": kind, "metric": metric, "linear": levels}
    small, large, larger = (gb(n, **options) for n in (128, 256, 512))
    slopes = (large - small) / (256**3 - 128**3), (larger - large) / (512**3 - 256**3)
    assert 0.75 * slopes[0] < slopes[1] < 1.01 * slopes[0]
    assert 0.3 < small - slopes[0] * 128**3 < 0.7  # what no voxel causes: the process itself


def test_what_does_more_takes_more() -> None:
    rigid, deformable = gb(256, kind="rigid"), gb(256)
    fast, accurate = (gb(256, preset=preset) for preset in ("fast", "accurate"))
    assert rigid < fast < deformable <= accurate
    assert estimated_gb(cube(64), cube(512), settings_from({})) > gb(64) + 2 * 4 * 512**3 / 2**30


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is sure to tell")
def test_the_estimate_is_near_the_peak_of_a_process(tmp_path: Path) -> None:
    """A pair that fills its field of view, as large as a few seconds allow."""
    grid = cube(96)
    made = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 1, 14, 14, 14, generator=made)
    blobs = torch.nn.functional.interpolate(coarse, grid.shape, mode="trilinear")
    pair = [blobs + 0.05 * torch.randn(blobs.shape, generator=made) for _ in range(2)]
    corner = cube(24)  # registered here first: compiling the loops takes memory of its own
    register(*[(values[..., :24, :24, :24].contiguous(), corner) for values in pair])
    files = []
    for name, values in zip(("fixed", "moving"), pair, strict=True):
        image = read_image((values, grid))
        files.append(str(tmp_path / f"{name}.nii"))
        write_image(files[-1], image.values, image)
    arguments = ["register", *files, "--out", str(tmp_path / "out"), "--threads", "2"]
    code = (
        f"from stn3d.cli import main; assert main({arguments!r}) == 0\n"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, encoding="utf8"
    )
    peak_gb = int(told.stdout.split()[-1]) / 2**20
    memory = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["memory"]
    assert memory["note"] is None
    assert 0.9 * peak_gb < memory["estimated_gb"] < 1.25 * peak_gb


# -- what is chosen -------------------------------------------------------------------------------


def test_enough_memory_changes_nothing() -> None:
    settings = settings_from({"max_memory": 100})
    found = budget(LARGEST, LARGEST, settings)
    assert (found.settings, found.allowed_gb, found.note) == (settings, 100, None)
    assert found.estimated_gb == estimated_gb(LARGEST, LARGEST, settings)


def test_512_512_400_fits_into_six_gb_by_a_coarser_level() -> None:
    settings = settings_from({"max_memory": 6})
    found = budget(LARGEST, LARGEST, settings)
    assert estimated_gb(LARGEST, LARGEST, settings) > 6 > found.estimated_gb
    assert found.settings.deformable.factors == (8, 4, 2)
    assert found.settings.deformable.iterations == settings.deformable.iterations[:3]
    assert found.note is not None
    for words in ("6.0 GB are allowed (by --max-memory)", "is 2 mm instead of 1 mm", "about 4."):
        assert words in found.note


def test_the_least_step_that_fits_is_taken() -> None:
    limits = [round(gb(256) - 0.01 - 0.1 * k, 2) for k in range(12)]
    made = [budget(cube(256), cube(256), settings_from({"max_memory": gb})) for gb in limits]
    finest = [one.settings.deformable.factors[-1] for one in made]
    assert finest == sorted(finest)
    assert finest[0] == pytest.approx(2**0.5)
    assert made[0].settings.deformable.factors[:-1] == (8, 4, 2)
    assert all(one.estimated_gb <= gb for one, gb in zip(made, limits, strict=True))
    for one in made:
        assert len(one.settings.deformable.factors) == len(one.settings.deformable.iterations)


@pytest.mark.parametrize(
    ("kind", "preset"),
    [
        *(("deformable", preset) for preset in PRESETS),
        *((kind, "accurate") for kind in ("rigid", "affine")),
    ],
)
def test_only_the_last_stage_and_only_its_levels_change(kind: str, preset: str) -> None:
    asked = settings_from({"kind": kind, "preset": preset})
    needed = estimated_gb(LARGEST, LARGEST, asked)
    asked = dataclasses.replace(asked, max_memory=needed - 1e-3)
    found = budget(LARGEST, LARGEST, asked).settings
    if kind == "deformable":
        assert found.deformable.factors[-1] > asked.deformable.factors[-1]
        same = {"factors": asked.deformable.factors, "iterations": asked.deformable.iterations}
        found = dataclasses.replace(found, deformable=dataclasses.replace(found.deformable, **same))
    else:
        assert found.linear.final_factors[-1] > asked.linear.final_factors[-1]
        # Nor do finer levels follow again; what is recorded is a number, which JSON holds.
        assert asked.linear.finest_spacing_mm is None
        assert 1e6 <= (found.linear.finest_spacing_mm or 0) < float("inf")
        same = {key: getattr(asked.linear, key) for key in ("final_factors", "finest_spacing_mm")}
        linear = dataclasses.replace(found.linear, **same)
        found = dataclasses.replace(found, linear=linear)
    assert found == asked


def test_too_little_is_refused_in_one_sentence() -> None:
    with pytest.raises(InputError) as caught:
        budget(LARGEST, LARGEST, settings_from({"max_memory": 1.5}))
    sentence = str(caught.value)
    assert "needs about 4." in sentence
    assert "1.50 GB are allowed (by --max-memory)" in sentence
    assert "crop or resample" in sentence
    assert "\n" not in sentence


# -- free memory ---------------------------------------------------------------------------------


def test_by_default_80_percent_of_the_free_memory_are_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_limit, "free_gb", lambda: 7.5)
    found = budget(LARGEST, LARGEST, Settings())
    assert found.allowed_gb == 6.0
    assert found.note is not None
    assert "6.0 GB are allowed (80% of the free memory)" in found.note


def test_where_nobody_can_tell_all_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "free_gb", lambda: None)
    found = budget(LARGEST, LARGEST, Settings())
    assert (found.settings, found.allowed_gb, found.note) == (Settings(), None, None)


# -- registrations --------------------------------------------------------------------------------


def test_a_coarser_registration_says_so_and_keeps_the_fixed_grid() -> None:
    fixed = grid_about(torch.zeros(3), [44.0] * 3, (1.0, 1.0, 1.0))
    known = known_pair(dense_truth(fixed, 1.5), fixed, fixed)
    pair = (known.fixed, fixed), (known.moving, fixed)
    settings = settings_from({"preset": "accurate"})
    limit = estimated_gb(fixed, fixed, settings) - 1e-3
    with pytest.warns(MemoryWarning, match="finest level is 1.41 mm instead of 1 mm") as told:
        found = register(*pair, preset="accurate", max_memory=limit)
    told_of = found.metrics["memory"]
    assert told_of["note"] == str(told[0].message)
    assert told_of["estimated_gb"] <= limit + 0.005
    assert found.metrics["settings"]["deformable"]["factors"][-1] == pytest.approx(2**0.5)
    dense = [one for one in found.metrics["stages"] if one["stage"] == "deformable"]
    assert dense[-1]["spacing_mm"] == pytest.approx(2**0.5)
    assert found.moved.values.shape[2:] == fixed.shape
    assert found.metrics["after"]["correlation"] > found.metrics["before"]["correlation"]
    with pytest.raises(InputError, match="needs about"):
        register(*pair, max_memory=0.1)


def test_images_that_are_compared_as_thick_slices_take_more() -> None:
    grid, settings = cube(128), settings_from({"kind": "deformable", "metric": "lncc"})
    slices = grid.with_shape((128, 128, 64))
    own, prepared = (estimated_gb(grid, grid, settings, 1, p) for p in (None, (slices, slices)))
    assert own < prepared < 1.5 * own
    assert budget(grid, grid, settings, 1, (slices, slices)).estimated_gb == prepared
