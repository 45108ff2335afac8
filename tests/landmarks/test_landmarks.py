"""Landmarks: exact recovery, SimpleITK as the judge, honest errors, files, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stn3d import InputError, register_landmarks
from stn3d.cli import main
from stn3d.grid import Grid, apply_matrix
from stn3d.io import (
    GeometryWarning,
    read_image,
    read_landmarks,
    read_points,
    read_transform,
    write_image,
    write_points,
)
from stn3d.io.points import PointTable
from stn3d.transforms import LINEAR_KINDS, Affine, Rigid, ThinPlateSpline
from stn3d.transforms.fit import fit_linear
from tests.cli.cases import without_opening
from tests.helpers import sitk_reference as judge
from tests.helpers.geometry_cases import DIMS, QUICK, make_grid, oblique, random, uniform

KINDS: tuple[Any, ...] = ("rigid", "similarity", "affine", "tps")
NEEDED = {"rigid": 0, "similarity": 0, "affine": 1, "tps": 1}  # more than d


def some_points(d: int, count: int = 12, seed: int = 1) -> Tensor:
    return 40 * random(count, d, seed=seed) + torch.tensor([20.0, -60, 90][:d])


def noisy(d: int, count: int = 12, noise_mm: float = 1.5) -> tuple[Tensor, Tensor]:
    """Landmarks, and where a turn, a shift and someone's hand put them."""
    fixed = some_points(d, count)
    start = Rigid.identity_parameters(d)
    moved = Rigid(start + 0.3 * random(len(start), seed=2), fixed.mean(0))(fixed)
    return fixed, moved + 15 + noise_mm * random(count, d, seed=3)


# -- exact recovery -------------------------------------------------------------------------------


@QUICK
@given(st.sampled_from(DIMS), st.sampled_from(sorted(LINEAR_KINDS)), st.integers(0, 999))
def test_a_linear_map_is_found_exactly(d: int, kind: Any, seed: int) -> None:
    truth = LINEAR_KINDS[kind]
    start = truth.identity_parameters(d)
    moves = truth(start + 0.3 * random(len(start), seed=seed), random(d, seed=seed))
    if torch.linalg.det(moves.linear_part()) < 0.1:
        return
    fixed = some_points(d, d + NEEDED[kind] + seed % 5, seed)
    found = register_landmarks(fixed, moves(fixed), kind)
    elsewhere = 50 * random(20, d, seed=seed + 1)
    torch.testing.assert_close(found.transform(elsewhere), moves(elsewhere), rtol=0, atol=1e-7)
    back = found.inverse(moves(elsewhere))
    torch.testing.assert_close(back, elsewhere, rtol=0, atol=1e-6)
    assert found.suspects == ()
    assert float(found.residuals_mm.max()) < 1e-8


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_a_turn_never_becomes_a_mirror(kind: Any, d: int) -> None:
    fixed = some_points(d)
    mirrored = fixed * torch.tensor([-1.0, 1, 1][:d])
    found = register_landmarks(fixed, mirrored, kind)
    assert isinstance(found.transform, Affine)
    assert float(torch.linalg.det(found.transform.linear_part())) > 0
    assert float(found.residuals_mm.mean()) > 5
    for other in ("affine", "tps"):
        with pytest.raises(InputError, match="would mirror the image; check that left and right"):
            register_landmarks(fixed, mirrored, other)  # type: ignore[arg-type]


def test_landmarks_of_one_plane_fix_a_turn() -> None:
    fixed = some_points(3) * torch.tensor([1.0, 1, 0])
    turn = Rigid(torch.tensor([0.4, -0.3, 0.8, 5, 6, 7]).double(), torch.zeros(3))
    found = register_landmarks(fixed, turn(fixed), "rigid")
    torch.testing.assert_close(found.transform(some_points(3)), turn(some_points(3)))


@pytest.mark.parametrize(
    ("kind", "d"),
    [("rigid", 2), ("affine", 2), ("rigid", 3), ("similarity", 3), ("affine", 3)],
)
def test_the_fit_is_simpleitks(kind: str, d: int) -> None:
    """LandmarkBasedTransformInitializer's, of landmarks that no transform fits exactly."""
    fixed, moving = noisy(d)
    makers = {
        "rigid": sitk.VersorRigid3DTransform if d == 3 else sitk.Euler2DTransform,
        "similarity": sitk.Similarity3DTransform,
        "affine": lambda: sitk.AffineTransform(d),
    }
    sets = [(points.numpy() @ judge.flip(d)).flatten().tolist() for points in (fixed, moving)]
    theirs = sitk.LandmarkBasedTransformInitializer(makers[kind](), *sets)
    ours = register_landmarks(fixed, moving, kind).transform  # type: ignore[arg-type]
    points = some_points(d, 30, seed=9)
    gap = (ours(points) - judge.mapped(theirs, points)).norm(dim=-1)
    if kind != "similarity":  # ITK takes its scale otherwise than Umeyama
        assert float(gap.max()) < 1e-6
        return
    mine = float((ours(fixed) - moving).square().sum())
    assert mine <= float((judge.mapped(theirs, fixed) - moving).square().sum()) + 1e-9


# -- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_landmark_without_weight_is_only_measured(kind: Any, d: int) -> None:
    fixed, moving = noisy(d)
    wrong = moving.clone()
    wrong[4] += 30
    weights = torch.ones(12)
    weights[4] = 0
    others = weights > 0
    found = register_landmarks(fixed, wrong, kind, weights, smoothing=3 if kind == "tps" else 0)
    without = register_landmarks(
        fixed[others], moving[others], kind, smoothing=3 if kind == "tps" else 0
    )
    points = some_points(d, 20, seed=8)
    torch.testing.assert_close(found.transform(points), without.transform(points))
    torch.testing.assert_close(found.left_out_mm[others], without.left_out_mm)
    torch.testing.assert_close(found.left_out_mm[4], found.residuals_mm[4])


@pytest.mark.parametrize("kind", ["rigid", "affine", "tps"])
def test_more_weight_brings_a_landmark_nearer(kind: Any) -> None:
    fixed, moving = noisy(3)
    errors = [
        float(
            register_landmarks(
                fixed,
                moving,
                kind,
                [w, *[1] * 11],  # type: ignore[arg-type]
                smoothing=50 if kind == "tps" else 0,
            ).residuals_mm[0]
        )
        for w in (0.1, 1, 10, 1000)
    ]
    assert errors == sorted(errors, reverse=True)


# -- splines --------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", DIMS)
def test_a_spline_passes_through_its_landmarks_and_smooth_it_is_affine(d: int) -> None:
    fixed, moving = noisy(d)
    found = register_landmarks(fixed, moving, "tps")
    assert isinstance(found.transform, ThinPlateSpline)
    assert float(found.residuals_mm.max()) < 1e-8
    weights = uniform(0.5, 2, 12)
    smooth = register_landmarks(fixed, moving, "tps", weights, smoothing=1e9).transform
    affine = register_landmarks(fixed, moving, "affine", weights).transform
    points = some_points(d, 20, seed=8)
    torch.testing.assert_close(smooth(points), affine(points), rtol=0, atol=1e-3)


@pytest.mark.parametrize("d", DIMS)
def test_the_inverse_of_a_spline_leads_back(d: int) -> None:
    found = register_landmarks(*noisy(d), "tps", smoothing=1.0)
    points = some_points(d, 50, seed=8)
    gap = found.inverse(found.transform(points)) - points
    assert float(gap.norm(dim=-1).max()) < 1e-3


@pytest.mark.parametrize("d", DIMS)
def test_the_slopes_of_a_spline_are_those_of_small_steps(d: int) -> None:
    spline = register_landmarks(*noisy(d), "tps").transform
    points, step = some_points(d, 20, seed=8), 1e-5
    columns = [
        (spline(points + step * axis) - spline(points - step * axis)) / (2 * step)
        for axis in torch.eye(d).double()
    ]
    torch.testing.assert_close(
        spline.jacobian(points), torch.stack(columns, dim=-1), rtol=0, atol=1e-6
    )


# -- errors of landmarks that were left out -------------------------------------------------------


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize(("kind", "smoothing"), [*((k, 0.0) for k in KINDS), ("tps", 7.0)])
def test_errors_when_left_out_are_those_of_the_plain_loop(
    kind: Any, smoothing: float, d: int
) -> None:
    fixed, moving = noisy(d)
    found = register_landmarks(fixed, moving, kind, smoothing=smoothing)
    for row in range(len(fixed)):
        others = torch.arange(len(fixed)) != row
        fit = register_landmarks(fixed[others], moving[others], kind, smoothing=smoothing)
        error = float((fit.transform(fixed[row : row + 1]) - moving[row]).norm())
        assert float(found.left_out_mm[row]) == pytest.approx(error, abs=1e-7)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_left_out_has_no_error(kind: Any, d: int) -> None:
    fixed = some_points(d, d + NEEDED[kind])
    found = register_landmarks(fixed, fixed + 5, kind)
    assert bool(found.left_out_mm.isnan().all())
    assert found.metrics["left_out_mm"] is None
    json.dumps(found.metrics, allow_nan=False)


def test_one_landmark_off_a_plane_cannot_be_left_out_of_an_affine_map() -> None:
    fixed = some_points(3) * torch.tensor([1.0, 1, 0])
    fixed[5, 2] = 40
    found = register_landmarks(fixed, fixed + random(12, 3), "affine")
    assert found.left_out_mm.isnan().nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_who_stands_out_is_named_and_used(kind: Any, d: int) -> None:
    fixed, moving = noisy(d, 20)
    assert register_landmarks(fixed, moving, kind, smoothing=0).suspects == ()
    moving[7] += 60
    names = [f"point {row}" for row in range(20)]
    found = register_landmarks(fixed, moving, kind, names=names)
    assert found.suspects == ("point 7",)
    if kind == "tps":
        assert float(found.residuals_mm[7]) < 1e-8
    marked = [one["name"] for one in found.metrics["landmarks"] if one["suspect"]]
    assert marked == list(found.suspects)
    moving[12] -= 50
    again = register_landmarks(fixed, moving, kind, names=names)
    if kind != "tps":  # an interpolating spline may hide two behind each other
        assert set(again.suspects) == {"point 7", "point 12"}


# -- what is refused ------------------------------------------------------------------------------


def line(d: int) -> Tensor:
    return torch.arange(6.0)[:, None] * torch.tensor([1.0, 2, 3][:d]) * 10


FLAT = some_points(3) * torch.tensor([1.0, 1, 0])
BAD: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "shape": (torch.zeros(4, 4), torch.zeros(4, 4), {}, r"fixed .* shape \(4, 4\); give"),
    "pairs": (some_points(3), some_points(3)[1:], {}, "12 fixed and 11 moving landmarks; give"),
    "dimensions": (some_points(3), some_points(2), {}, "are 3D and the moving ones 2D; give"),
    "nan": (some_points(3), some_points(3) / torch.zeros(3), {}, r"moving .* row 1 has NaN or Inf"),
    "few": (some_points(3, 2), some_points(3, 2), {}, "2 landmarks; --kind rigid needs 3 or more"),
    "one": (some_points(3, 1), some_points(3, 1), {}, "there is 1 landmark"),
    "few affine": (some_points(3, 3), some_points(3, 3), {"kind": "affine"}, "needs 4 or more"),
    "line": (line(3), some_points(3, 6), {}, "fixed landmarks lie on one line, .* rigid"),
    "line 2D": (line(2), line(2), {"kind": "tps"}, "lie on one line, .* or take --kind rigid"),
    "plane": (some_points(3), FLAT, {"kind": "affine"}, "moving landmarks lie on one plane"),
    "doubled": (
        torch.cat([some_points(3), some_points(3)[2:3]]),
        some_points(3, 13),
        {},
        "fixed landmarks 3 and 13 are in one place; mend",
    ),
    "kind": (some_points(3), some_points(3), {"kind": "tsp"}, "did you mean tps"),
    "smoothing": (some_points(3), some_points(3), {"smoothing": 1.0}, "is for --kind tps"),
    "negative": (some_points(3), some_points(3), {"kind": "tps", "smoothing": -1.0}, "is -1.0"),
    "names": (some_points(3), some_points(3), {"names": ["a"]}, "1 names do not fit 12"),
    "weights": (some_points(3), some_points(3), {"weights": [1.0]}, "must be 12 numbers"),
    "weightless": (
        some_points(3),
        some_points(3),
        {"weights": [1.0, 1.0, *[0.0] * 10]},
        "2 landmarks with a weight above 0; --kind rigid needs 3",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_fixes_no_transform_is_refused(case: str) -> None:
    fixed, moving, options, message = BAD[case]
    with pytest.raises(InputError, match=message):
        register_landmarks(fixed, moving, **options)


def test_lists_and_arrays_are_landmarks_too() -> None:
    fixed = some_points(2)
    found = register_landmarks(fixed.tolist(), fixed.numpy() + 3)  # type: ignore[arg-type]
    torch.testing.assert_close(found.transform(fixed), fixed + 3)


# -- files of landmarks ---------------------------------------------------------------------------


def write(path: Path, points: Tensor, names: list[str] | None = None) -> str:
    header = ("x", "y", "z")[: points.shape[1]]
    others = tuple((name,) for name in names) if names else ((),) * len(points)
    write_points(path, points, PointTable((*header, "name") if names else header, others))
    return str(path)


def test_rows_go_by_name(tmp_path: Path) -> None:
    points = some_points(3, 4).round()
    first = write(tmp_path / "a.csv", points, ["a", "b", "c", "d"])
    second = write(tmp_path / "b.csv", points.flip(0), ["d", "c", "b", "a"])
    pairs = read_landmarks(first, second)
    assert pairs.names == ("a", "b", "c", "d")
    assert torch.equal(pairs.fixed_mm, pairs.moving_mm)
    unnamed = write(tmp_path / "c.csv", points + 1)
    assert torch.equal(read_landmarks(first, unnamed).moving_mm, points + 1)
    assert read_landmarks(unnamed, unnamed).names == ("1", "2", "3", "4")


def test_slicers_lists_are_ras_here(tmp_path: Path) -> None:
    (tmp_path / "a.mrk.json").write_text(
        '{"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm",'
        ' "controlPoints": [{"label": "F-1", "position": [1, 2, 3], "positionStatus": "defined"},'
        ' {"label": "F-2", "position": [-4.5, 5, 6]}]}]}'
    )
    rows = "0,{0},{1},3,0,0,0,1,1,1,0,F-1,,,2,0\n1,{2},{3},6,0,0,0,1,1,1,0,F-2,,,2,0\n"
    head = "# Markups fiducial file version = 4.11\n# CoordinateSystem = {}\n# columns = id,x,y,z,"
    head += "ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    (tmp_path / "lps.fcsv").write_text(head.format("LPS") + rows.format(1, 2, -4.5, 5))
    (tmp_path / "ras.fcsv").write_text(head.format("0") + rows.format(-1, -2, 4.5, -5))
    for name in ("a.mrk.json", "lps.fcsv", "ras.fcsv"):
        points, table = read_points(tmp_path / name)
        assert points.tolist() == [[-1, -2, 3], [4.5, -5, 6]]
        assert table.names == ("F-1", "F-2")
    (tmp_path / "none.fcsv").write_text(rows.format(1, 2, 3, 4))
    with pytest.raises(InputError, match="does not say that its points are RAS or LPS"):
        read_points(tmp_path / "none.fcsv")
    (tmp_path / "lps.fcsv").write_text(head.format("LPS") + rows.format(1, 2, 3, 4)[:-4] + "0,0\n")
    with pytest.raises(InputError, match="'F-2' is not placed"):
        read_points(tmp_path / "lps.fcsv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no list of points of 3D Slicer"),
        ('{"markups": []}', "is no list of points"),
        ('{"markups": [{"controlPoints": []}]}', "holds no points"),
        ('{"markups": [{"controlPoints": [{"label": "a", "position": [1, 2]}]}]}', "'a' is not 3"),
        ('{"markups": [{"coordinateUnits": "um", "controlPoints": []}]}', "is in um, not in mm"),
        ('{"markups": [{"controlPoints": []}, {}]}', "holds 2 lists"),
        ('{"markups": [{"coordinateSystem": "IJK", "controlPoints": [{"position": [1, 2, 3]}]}]}',
         "is IJK"),
        ('{"markups": [{"controlPoints": [{"label": "a", "positionStatus": "undefined"}]}]}',
         "the point 'a' is not placed"),
    ],
)  # fmt: skip
def test_lists_that_are_none_are_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.mrk.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_points(tmp_path / "a.mrk.json")


# -- the command ----------------------------------------------------------------------------------

GRIDS: dict[str, Callable[[], Grid]] = {
    "LAS": lambda: make_grid((24, 22, 20), (3, 3, 4), origin_mm=(36, -40, -35), left_handed=True),
    "oblique": lambda: oblique(3, (40, 24, 18)),
    "2D": lambda: oblique(2, (50, 30)),
}


def placed(grid: Grid, count: int = 9) -> tuple[Tensor, Tensor]:
    """Landmarks within an image, and bent, turned and shifted elsewhere."""
    d = grid.ndim
    size = torch.tensor(grid.shape).double()
    fixed = apply_matrix(grid.world_from_index, uniform(0, 1, count, d, seed=4) * (size - 1))
    start = Rigid.identity_parameters(d)
    turn = Rigid(start + 0.4 * random(len(start), seed=5), grid.centre_mm)
    return fixed, turn(fixed) + 70 + random(count, d, seed=6)


def make_files(folder: Path, grid: Grid) -> list[str]:
    fixed, moving = placed(grid)
    image = read_image((uniform(0, 1, 1, 1, *grid.shape).float(), grid))
    write_image(folder / "fixed.nii.gz", image.values, image)
    names = [f"p{row}" for row in range(len(fixed))]
    write(folder / "fixed.csv", fixed, names)
    write(folder / "moving.csv", moving.flip(0), names[::-1])
    return [str(folder / name) for name in ("fixed.csv", "moving.csv")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", GRIDS)
def test_simpleitk_follows_the_files(name: str, kind: str, tmp_path: Path) -> None:
    grid, out = GRIDS[name](), tmp_path / "out"
    command = ["landmarks", *make_files(tmp_path, grid), "--kind", kind, "--out", str(out)]
    assert main([*command, "--like", str(tmp_path / "fixed.nii.gz")]) == 0
    assert {path.name for path in out.iterdir()} == {"transform.h5", "inverse.h5", "metrics.json"}
    there, back = (sitk.ReadTransform(str(out / f"{n}.h5")) for n in ("transform", "inverse"))
    fixed, moving = placed(grid)
    exact = register_landmarks(fixed, moving, kind).transform  # type: ignore[arg-type]
    unit = uniform(0, 1, 200, grid.ndim, seed=7)
    unit[:50] = unit[:50].round()  # corners of the domain, which the image's faces share
    unit[50:100, 0] = unit[50:100, 0].round()
    points = apply_matrix(grid.world_from_unit, unit)
    moved = judge.mapped(there, points)
    tolerance_mm = 0.05 if kind == "tps" else 1e-5
    assert float((moved - exact(points)).norm(dim=-1).mean()) < tolerance_mm
    assert float((moved - exact(points)).norm(dim=-1).max()) < 10 * tolerance_mm
    assert float((judge.mapped(back, moved) - points).norm(dim=-1).max()) < 10 * tolerance_mm
    figures = json.loads((out / "metrics.json").read_text())
    gap = (judge.mapped(there, fixed) - moving).norm(dim=-1)
    errors = [one["residual_mm"] for one in figures["landmarks"]]
    np.testing.assert_allclose(errors, gap, atol=1e-3)
    assert figures["residual_mm"]["max"] == pytest.approx(max(errors))
    assert figures["count"] == 9
    assert ("sampling" in figures) == (kind == "tps")


def test_a_spline_far_outside_the_image_is_the_affine_fit(tmp_path: Path) -> None:
    grid = GRIDS["oblique"]()
    files = [*make_files(tmp_path, grid), "--like", str(tmp_path / "fixed.nii.gz")]
    out = tmp_path / "out"
    assert main(["landmarks", *files, "--kind", "tps", "--out", str(out)]) == 0
    affine = fit_linear("affine", *placed(grid))
    far = grid.centre_mm + 1000 * torch.eye(3).double()
    found = read_transform(out / "transform.h5")
    torch.testing.assert_close(found(far), affine(far), rtol=0, atol=1e-3)
    back = read_transform(out / "inverse.h5")
    torch.testing.assert_close(back(affine(far)), far, rtol=0, atol=1e-3)


def test_same_landmarks_same_bytes(tmp_path: Path) -> None:
    files = [*make_files(tmp_path, GRIDS["LAS"]()), "--like", str(tmp_path / "fixed.nii.gz")]
    for kind in ("rigid", "tps"):
        outs = [tmp_path / kind / name for name in ("a", "b")]
        for out in outs:
            assert main(["landmarks", *files, "--kind", kind, "--out", str(out)]) == 0
        for name in ("transform.h5", "inverse.h5", "metrics.json"):
            assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name


def test_the_command_shows_errors_and_suspects(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fixed, moving = noisy(3)
    moving[3] += 50
    names = [f"p{row}" for row in range(12)]
    files = [write(tmp_path / f"{n}.csv", p, names) for n, p in (("a", fixed), ("b", moving))]
    assert main(["landmarks", *files, "--out", str(tmp_path / "out")]) == 0
    out, err = capfd.readouterr()
    assert without_opening(err.splitlines()) == []
    assert "leave-one-out landmark error, mm" in out
    assert "outlier: landmark p3 lies " in out
    assert out.splitlines()[-2] == f"wrote {tmp_path / 'out' / 'metrics.json'}"


def test_a_linear_result_has_its_parameters_about_the_centroid() -> None:
    fixed, moving = some_points(3), some_points(3) + torch.tensor([1.0, 2, 3])
    found = register_landmarks(fixed, moving, "similarity").metrics["linear_parameters"]
    assert list(found["centre_mm"].values()) == pytest.approx(fixed.mean(dim=0).tolist())
    assert list(found["translation_mm"].values()) == pytest.approx([1, 2, 3])
    assert list(found["rotation_deg"].values()) == pytest.approx([0, 0, 0], abs=1e-5)
    assert list(found["scales"].values()) == pytest.approx([1, 1, 1])
    assert register_landmarks(fixed, moving, "tps").metrics["linear_parameters"] is None


def test_landmarks_beyond_the_image_are_told() -> None:
    grid = GRIDS["LAS"]()
    fixed, moving = placed(grid)
    image = read_image((uniform(0, 1, 1, 1, *grid.shape).float(), grid))
    moved = fixed.clone()
    moved[2] = grid.centre_mm + torch.tensor([0.0, 0, 60])
    with pytest.warns(GeometryWarning, match=r"outside .* the landmarks 3;"):
        register_landmarks(moved, moving, "rigid").on_grid_of(image)
    flipped = fixed * torch.tensor([-1.0, -1, 1]) + 500
    with pytest.raises(InputError, match=r"no fixed landmark lies in .*from LPS"):
        register_landmarks(flipped, moving, "tps").on_grid_of(image)
    with pytest.raises(InputError, match="is 3D and the landmarks are 2D"):
        register_landmarks(*noisy(2), "tps").on_grid_of(image)


def test_a_spline_that_folds_has_no_files(tmp_path: Path) -> None:
    grid = Grid.of_spacing((30, 30), 1.0)
    image = read_image((uniform(0, 1, 1, 1, 30, 30).float(), grid))
    fixed = torch.cartesian_prod(*[torch.tensor([3.0, 10, 18, 26]).double()] * 2)
    moving = fixed.clone()
    moving[[5, 6]] = moving[[6, 5]]
    found = register_landmarks(fixed, moving, "tps")
    with pytest.raises(InputError, match="the spline folds, so it has no inverse"):
        found.on_grid_of(image)
    moving[15] += 4000
    with pytest.raises(InputError, match="the spline folds"):
        register_landmarks(fixed, moving, "tps").on_grid_of(image)
    with pytest.raises(InputError, match="give the image"):
        found.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


REFUSED = {
    "a.csv b.csv --kind tps": "give the fixed image as --like",
    "a.csv b.csv --kind afine": "did you mean affine",
    "a.csv few.csv": "holds 12 points and few.csv 3",
    "a.csv gone.csv": "there is no file of points gone.csv",
    "few.csv few.csv --kind affine": "needs 4 or more",
    "named.csv other.csv": "named.csv holds the landmark 'q', other.csv does not; give the same",
    "named.csv twice.csv": "twice.csv: two points are named 'q'; name each landmark once",
    "named.csv nameless.csv": "nameless.csv: a point has no name",
    "a.csv b.csv --kind tps --like gone.nii.gz": "there is no like image gone.nii.gz",
    "a.csv b.csv --smoothing 3": "--smoothing is for --kind tps",
    "a.csv plane.csv": "plane.csv holds 2D points and a.csv 3D points",
}


@pytest.mark.parametrize("options", REFUSED)
def test_bad_input_leaves_nothing(
    options: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.csv", some_points(3))
    write(tmp_path / "b.csv", some_points(3) + 1)
    write(tmp_path / "plane.csv", some_points(2))
    few = some_points(3, 3)
    write(tmp_path / "few.csv", few)
    for name, names in {
        "named": ["p", "q", "r"],
        "other": ["p", "s", "r"],
        "twice": ["p", "q", "q"],
        "nameless": ["p", "", "r"],
    }.items():
        write(tmp_path / f"{name}.csv", few, names)
    assert main(["landmarks", *options.split(), "--out", "new/out"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(without_opening(err.splitlines())) == 1
    assert REFUSED[options] in err
    assert not (tmp_path / "new").exists()
