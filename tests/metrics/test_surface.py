"""Distances between surfaces: analytic cases, MONAI, SimpleITK, and DeepMind's surface-distance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy import ndimage

from stn3d.errors import InputError
from stn3d.grid import Grid, homogeneous
from stn3d.metrics import SurfaceDistances, hd95_vox, surface_dice, surface_distances

RNG_SEED = 7
LABELS = [1, 2, 3]
SPACING = (1.0, 0.6, 2.0)
Maps = tuple[NDArray[Any], NDArray[Any]]


def maps_of(d: int) -> Maps:
    """Blocks of three labels that touch the faces; the second map lacks a corner."""
    shape = (26, 22, 18)[:d]
    rng = np.random.default_rng(RNG_SEED)
    a, b = (ndimage.zoom(rng.integers(0, 4, (5,) * d), np.array(shape) / 5, order=0) for _ in "ab")
    b[(slice(0, 9),) * d] = 0
    return a, b


def grid_of(maps: Maps) -> Grid:
    return Grid.of_spacing(maps[0].shape, SPACING[: maps[0].ndim])


def one_hot(maps: Maps) -> list[torch.Tensor]:
    return [torch.stack([torch.from_numpy(m == k) for k in range(4)])[None] for m in maps]


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5)])
def test_distances_of_a_shifted_square_are_the_shift(spacing: tuple[float, float]) -> None:
    fixed, moved = np.zeros((1, 1, 40, 40), int), np.zeros((40, 40), int)
    fixed[0, 0, 10:20, 5:30], moved[13:23, 5:30] = 4, 4
    fixed[0, 0, 0, 0], moved[39, 39] = 6, 7
    grid = Grid.of_spacing((40, 40), spacing)
    found = surface_distances(fixed, moved, grid, [4, 6, 7, 0])
    assert found[4].hd95_mm == found[4].hausdorff_mm == pytest.approx(3 * spacing[0])
    for label in (6, 7, 0):  # in one map, or background
        assert all(math.isnan(value) for value in vars(found[label]).values())
    single = surface_distances(moved, np.roll(moved, -9, 1), grid, [7])[7]
    assert vars(single) == pytest.approx(dict.fromkeys(vars(single), 9 * spacing[1]))


@pytest.mark.parametrize("d", [2, 3])
def test_distances_are_those_of_distance_transforms_also_at_the_faces(d: int) -> None:
    maps = maps_of(d)
    found = surface_distances(*maps, grid_of(maps), LABELS)
    for label in LABELS:
        a, b = ((m == label) & ~ndimage.binary_erosion(m == label) for m in maps)
        to_a, to_b = (ndimage.distance_transform_edt(~x, SPACING[:d]) for x in (a, b))
        both = np.r_[to_b[a], to_a[b]]
        expected = SurfaceDistances(
            max(np.percentile(to_b[a], 95), np.percentile(to_a[b], 95)),
            np.percentile(both, 95),
            both.max(),
            both.mean(),
        )
        assert vars(found[label]) == pytest.approx(vars(expected))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("d", [2, 3])
def test_distances_are_monais(d: int) -> None:
    """Labels touch the faces of the image and differ in size, so the two directions differ."""
    monai = pytest.importorskip("monai.metrics")
    maps = maps_of(d)
    found = surface_distances(*maps, grid_of(maps), LABELS)
    a, b = one_hot(maps)
    spacing = list(SPACING[:d])
    hd95 = monai.compute_hausdorff_distance(a, b, percentile=95, spacing=spacing)[0]
    hausdorff = monai.compute_hausdorff_distance(a, b, spacing=spacing)[0]
    assd = monai.compute_average_surface_distance(a, b, symmetric=True, spacing=spacing)[0]
    for theirs, name in ((hd95, "hd95_mm"), (hausdorff, "hausdorff_mm"), (assd, "assd_mm")):
        ours = [getattr(one, name) for one in found.values()]
        assert ours == pytest.approx(theirs.tolist(), abs=1e-5), name


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.5])
def test_surface_dice_is_monais(d: int, tolerance: float) -> None:
    monai = pytest.importorskip("monai.metrics")
    maps = maps_of(d)
    found = surface_dice(*maps, grid_of(maps), LABELS, tolerance)
    theirs = monai.compute_surface_dice(
        *one_hot(maps), [tolerance] * 3, spacing=list(SPACING[:d]), use_subvoxels=True
    )[0]
    assert list(found.values()) == pytest.approx(theirs.tolist(), abs=1e-5)


@pytest.mark.parametrize("d", [2, 3])
def test_distances_are_those_of_simpleitk(d: int) -> None:
    """HausdorffDistance compares sets of voxels, so it is given the surface voxels."""
    maps = maps_of(d)
    found = surface_distances(*maps, grid_of(maps), LABELS)
    for label in LABELS:
        images = []
        for m in maps:
            image = sitk.GetImageFromArray(np.pad((m == label).astype(np.uint8), 1))
            image.SetSpacing(SPACING[:d][::-1])
            images.append(sitk.LabelContour(image, fullyConnected=False))
        hausdorff = sitk.HausdorffDistanceImageFilter()
        hausdorff.Execute(*images)
        assert found[label].hausdorff_mm == pytest.approx(
            hausdorff.GetHausdorffDistance(), abs=1e-4
        )
        distances = [
            sitk.GetArrayFromImage(
                sitk.SignedMaurerDistanceMap(to, squaredDistance=False, useImageSpacing=True)
            )[sitk.GetArrayFromImage(start) > 0].clip(min=0)
            for start, to in (images, images[::-1])
        ]
        both = np.concatenate(distances)
        assert found[label].assd_mm == pytest.approx(both.mean(), abs=1e-4)


@pytest.fixture
def deepmind(monkeypatch: pytest.MonkeyPatch) -> Any:
    """DeepMind's surface-distance 0.1, which uses names that numpy 2 has removed."""
    for name, value in (("Inf", np.inf), ("NaN", np.nan), ("bool", bool)):
        monkeypatch.setattr(np, name, value, raising=False)
    return pytest.importorskip("surface_distance")


@pytest.mark.parametrize("d", [2, 3])
def test_surface_elements_are_those_of_surface_distance(d: int, deepmind: Any) -> None:
    maps = maps_of(d)
    nsd = surface_dice(*maps, grid_of(maps), LABELS, 1.0)
    vox = hd95_vox(*maps, grid_of(maps), LABELS)
    for label in LABELS:
        masks = [m == label for m in maps]
        theirs = deepmind.compute_surface_distances(*masks, SPACING[:d])
        assert nsd[label] == pytest.approx(
            deepmind.compute_surface_dice_at_tolerance(theirs, 1.0), abs=1e-6
        )
        theirs = deepmind.compute_surface_distances(*masks, [1.0] * d)
        assert vox[label] == pytest.approx(
            deepmind.compute_robust_hausdorff(theirs, 95.0), abs=1e-6
        )


# Values of surface-distance 0.1 for `maps_of`, computed once: NSD at 1 mm, HD95 in voxels.
DEEPMIND = {
    2: (
        [0.4134926498497508, 0.31481576173847337, 0.4354376317528028],
        [9.219544457292887, 18.24828759089466, 8.94427190999916],
    ),
    3: ([0.5421649119370834, 0.5748072769637673, 0.5596593884300843], [5.0, 4.0, 5.0]),
}


@pytest.mark.parametrize("d", [2, 3])
def test_surface_elements_have_the_values_of_surface_distance(d: int) -> None:
    maps = maps_of(d)
    nsd, vox = DEEPMIND[d]
    assert list(surface_dice(*maps, grid_of(maps), LABELS, 1.0).values()) == pytest.approx(nsd)
    assert list(hd95_vox(*maps, grid_of(maps), LABELS).values()) == pytest.approx(vox)


def test_hd95_is_the_larger_directed_percentile_and_not_the_pooled_one() -> None:
    """A small square in a large one: from the small one all is near, from the large one far."""
    large, small = np.zeros((40, 40), int), np.zeros((40, 40), int)
    large[5:35, 5:35], small[5:9, 5:9] = 1, 1
    found = surface_distances(large, small, Grid.of_spacing((40, 40)), [1])[1]
    a, b = (m.astype(bool) & ~ndimage.binary_erosion(m) for m in (large, small))
    from_large = ndimage.distance_transform_edt(~b)[a]
    from_small = ndimage.distance_transform_edt(~a)[b]
    assert found.hd95_mm == pytest.approx(np.percentile(from_large, 95))
    assert found.hd95_mm > found.hd95_pooled_mm > from_small.max()


def test_distances_run_along_the_world_and_not_along_sheared_axes() -> None:
    linear = torch.tensor([[1.0, 1.0], [0.0, 1.0]]).double()
    grid = Grid((8, 8), homogeneous(linear, torch.zeros(2).double()))
    fixed, moved = np.zeros((8, 8), int), np.zeros((8, 8), int)
    fixed[4, 2], moved[1, 5] = 1, 1  # index (-3, 3) is world (0, 3)
    assert surface_distances(fixed, moved, grid, [1])[1].hd95_mm == pytest.approx(3)


def test_labels_that_a_map_lacks() -> None:
    fixed, moved = np.zeros((6, 6), int), np.zeros((6, 6), int)
    fixed[2, 2], moved[4, 4] = 1, 2
    grid = Grid.of_spacing((6, 6))
    nsd = surface_dice(fixed, moved, grid, [1, 2, 3], 1.0)
    assert (nsd[1], nsd[2]) == (0, 0)
    assert math.isnan(nsd[3])
    vox = hd95_vox(fixed, moved, grid, [1, 2, 3])
    assert (vox[1], vox[2]) == (math.inf, math.inf)
    assert math.isnan(vox[3])
    empty = np.zeros((6, 6), int)
    assert math.isnan(surface_dice(empty, empty, grid, [1], 1.0)[1])
    assert math.isnan(surface_distances(empty, empty, grid, [1])[1].assd_mm)


def test_a_map_that_does_not_fit_and_a_bad_tolerance_are_refused() -> None:
    maps, grid = (np.zeros((5, 4), int), np.zeros((5, 4), int)), Grid.of_spacing((4, 5))
    for measure in (surface_distances, hd95_vox):
        with pytest.raises(InputError, match="does not fit the grid"):
            measure(*maps, grid, [1])
    for tolerance in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="tolerance"):
            surface_dice(*maps, Grid.of_spacing((5, 4)), [1], tolerance)
