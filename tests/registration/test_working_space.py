"""Single slices: their plane, transforms of it in 3D, and slices within volumes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

import stn3d
from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix
from stn3d.registration.working_space import working_space
from stn3d.transforms import Affine, DisplacementField, Rigid, Transform
from tests.helpers.synthetic import Known, grid_about, known_pair

ORIGIN = torch.zeros(3, dtype=torch.float64)
STRAIGHT, OBLIQUE = (0.0, 0.0, 0.0), (25.0, -15.0, 20.0)


def slice_grid(axis: int, angles: Sequence[float] = STRAIGHT, at_mm: float = 0.0) -> Grid:
    """A slice of 3 mm through the origin, or beside it along its normal."""
    size, spacing = [36.0] * 3, [1.0] * 3
    size[axis] = spacing[axis] = 3.0
    grid = grid_about(ORIGIN, size, spacing, angles)
    normal = grid.world_from_index[:3, axis] / 3.0
    return grid_about(at_mm * normal, size, spacing, angles)


def in_plane_motion(grid: Grid, along_mm: float = 0.0) -> Rigid:
    """A rotation about a slice's normal, a shift in its plane, and one along the normal."""
    axis = grid.slice_axis
    assert axis is not None
    directions = (grid.world_from_index[:3, :3] / torch.tensor(grid.spacing_mm)).T
    first, second = (directions[a] for a in range(3) if a != axis)
    shift = 3 * first - 2 * second + along_mm * directions[axis]
    return Rigid(torch.cat([0.15 * directions[axis], shift]), grid.centre_mm)


def registered(known: Known, kind: str = "rigid", **options: object) -> stn3d.Registration:
    given = {"preset": "fast", "metric": "lncc", "threads": 1, "estimator": "optimiser", **options}
    return stn3d.register(*known.sources, kind=kind, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((5, 4, 1), 2), ((5, 1, 4), 1), ((1, 5, 4), 0), ((5, 1, 1), 2), ((5, 4, 2), None)],
)
def test_the_slice_axis_is_the_one_of_one_voxel(shape: tuple[int, ...], axis: int | None) -> None:
    assert Grid.of_spacing(shape).slice_axis == axis
    assert Grid.of_spacing((5, 1)).slice_axis is None


@pytest.mark.parametrize("angles", [STRAIGHT, OBLIQUE])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_two_slices_move_in_their_plane(axis: int, angles: Sequence[float]) -> None:
    grid = slice_grid(axis, angles)
    known = known_pair(in_plane_motion(grid), grid, slice_grid(axis, angles))
    result = registered(known)
    assert result.metrics["geometry"]["mode"] == "in_plane"
    assert result.transform.ndim == 3
    assert result.moved.values.shape == (1, 1, *grid.shape)
    assert known.error_mm(result.transform) < 0.1
    normal = grid.world_from_index[:3, axis] / 3.0
    points = grid.points_mm().reshape(-1, 3)
    assert float(((result.transform(points) - points) @ normal).abs().max()) < 1e-6
    torch.testing.assert_close(result.inverse(result.transform(points)), points)
    if angles == STRAIGHT:  # exactly, not up to rounding
        parameters = result.metrics["linear_parameters"]
        out = [v for key, v in parameters["rotation_deg"].items() if key != "xyz"[axis]]
        assert [*out, parameters["translation_mm"]["xyz"[axis]]] == [0, 0, 0]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_within_its_volume_in_both_directions(axis: int) -> None:
    grid = slice_grid(axis)
    volume = grid_about(ORIGIN, [44.0] * 3, [1.1] * 3, (5, -4, 3))
    truth = Rigid(torch.tensor([0.06, -0.05, 0.08, 2.0, -1.5, 1.0]).double(), ORIGIN)
    known = known_pair(truth, grid, volume)
    slice_, whole = known.sources
    there = registered(known)
    assert there.metrics["geometry"]["mode"] == "slice_to_volume"
    assert known.error_mm(there.transform) < 0.3
    assert there.metrics["quality"]["status"] != "failed"
    options = {"kind": "rigid", "preset": "fast", "metric": "lncc", "threads": 1}
    back = stn3d.register(whole, slice_, estimator="optimiser", **options)  # type: ignore[arg-type]
    assert back.moved.values.shape == (1, 1, *volume.shape)
    torch.testing.assert_close(
        back.inverse(grid.points_mm()), there.transform(grid.points_mm()), atol=1e-6, rtol=0
    )
    assert back.metrics["after"]["correlation"] > 0.9  # in the slice alone
    assert float((back.moved.values != 0).double().mean()) < 0.2


@pytest.mark.parametrize("swap", [False, True])
def test_a_displacement_field_of_a_slice_in_its_volume(swap: bool) -> None:
    grid, volume = slice_grid(2), grid_about(ORIGIN, [44.0] * 3, [1.1] * 3)
    bend = torch.zeros(1, 3, 5, 5, 5)
    bend[0, 0, 2, 2, 2] = 4.0
    bent = DisplacementField(bend, grid_about(ORIGIN, [60.0] * 3, [12.0] * 3))
    known = known_pair(bent, grid, volume)
    sources = known.sources[::-1] if swap else known.sources
    options = {"kind": "deformable", "metric": "lncc", "threads": 1, "estimator": "optimiser"}
    result = stn3d.register(*sources, **options)  # type: ignore[arg-type]
    found = result.inverse if swap else result.transform
    points = grid.points_mm()[known.foreground]
    before, after = ((t(points) - bent(points)) for t in (Affine.identity(3), found))
    in_plane = [float(gap[:, :2].norm(dim=-1).mean()) for gap in (before, after)]
    assert in_plane[0] > 1
    assert in_plane[1] < 0.5 * in_plane[0]  # smooth blobs show little through the plane
    assert result.metrics["after"]["folding_pct"] == 0


def test_parallel_slices_apart_are_moved_to_one_plane() -> None:
    fixed, moving = slice_grid(2), slice_grid(2, at_mm=8.0)
    known = known_pair(in_plane_motion(fixed, along_mm=8.0), fixed, moving)
    result = registered(known)
    assert known.error_mm(result.transform) < 0.1
    assert result.metrics["linear_parameters"]["translation_mm"]["z"] == pytest.approx(8)
    assert "8 mm apart" in result.metrics["geometry"]["note"]
    assert result.metrics["after"]["fov_overlap_pct"] > 80


def test_planes_within_each_others_thickness_are_one_plane() -> None:
    near = working_space(slice_grid(2), slice_grid(2, at_mm=1.4))
    assert near.note is not None
    assert "0" in near.note
    apart = working_space(slice_grid(2), slice_grid(2, at_mm=1.6))
    assert apart.note is not None
    assert "1.6 mm apart" in apart.note


def test_the_note_tells_the_angle_between_planes() -> None:
    space = working_space(slice_grid(2), slice_grid(2, (30.0, 0.0, 0.0)))
    assert space.note is not None
    assert "inclined by 30 degrees" in space.note


@pytest.mark.parametrize("moving", [slice_grid(2, OBLIQUE, 4.0), slice_grid(1), slice_grid(0)])
def test_plane_to_plane_is_rigid_and_ends_in_the_other_plane(moving: Grid) -> None:
    fixed = slice_grid(2)
    identity = Affine.identity(2)
    transform, inverse = working_space(fixed, moving).result(identity, identity)
    points = fixed.points_mm().reshape(-1, 3)
    mapped = transform(points)
    axis = moving.slice_axis
    assert axis is not None
    index = apply_matrix(moving.index_from_world, mapped)[:, axis]
    torch.testing.assert_close(index, torch.zeros_like(index), atol=1e-9, rtol=0)
    torch.testing.assert_close(torch.pdist(mapped[::50]), torch.pdist(points[::50]))
    torch.testing.assert_close(inverse(mapped), points)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_fields_are_lifted_and_come_back_by_given(axis: int) -> None:
    grid = slice_grid(axis, OBLIQUE)
    space = working_space(grid, slice_grid(axis, OBLIQUE))
    planar = space.grids[0]
    field = DisplacementField(torch.randn(1, 2, *planar.shape), planar)
    flat = field.then(Rigid(torch.tensor([0.2, 1.0, 2.0]).double(), planar.centre_mm))
    lifted, _ = space.result(flat, flat.inverse())
    assert [part.ndim for part in lifted.parts] == [3, 3]
    again = space.given(lifted)
    points = planar.points_mm()
    torch.testing.assert_close(again(points), flat(points), atol=1e-4, rtol=0)


def test_landmarks_of_slices_take_part_in_their_plane() -> None:
    grid = slice_grid(1, OBLIQUE)
    truth: Transform = in_plane_motion(grid)
    known = known_pair(truth, grid, slice_grid(1, OBLIQUE))
    points = grid.points_mm()[8:30:7, 0, 8:30:7].reshape(-1, 3)
    fixed, moving = (
        stn3d.RegistrationImage(source, landmarks=mm)
        for source, mm in zip(known.sources, (points, truth(points)), strict=True)
    )
    options = {"kind": "rigid", "preset": "fast", "metric": "lncc", "threads": 1}
    result = stn3d.register(fixed, moving, **options)  # type: ignore[arg-type]
    assert result.metrics["after"]["tre_mm"]["max"] < 0.1


def test_an_initial_transform_out_of_the_plane_is_refused() -> None:
    grid = slice_grid(2)
    space = working_space(grid, slice_grid(2))
    upright = Rigid(torch.tensor([torch.pi / 2, 0, 0, 0, 0, 0]).double(), ORIGIN)
    with pytest.raises(InputError, match="out of the plane of the moving one"):
        space.given(upright)


def test_volumes_and_2d_images_are_registered_as_they_are() -> None:
    for grid in (Grid.of_spacing((8, 8, 8)), Grid.of_spacing((8, 8)), Grid.of_spacing((8, 1))):
        space = working_space(grid, grid)
        assert (space.mode, space.note, space.grids) == ("as_given", None, (grid, grid))
