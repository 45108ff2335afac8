"""What a plane shows, against direct computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stn3d.grid import Grid, homogeneous
from stn3d.io import read_image
from stn3d.registration.inputs import LoadedImage, LoadedPair
from stn3d.report.case import ReportCase
from stn3d.report.views import borders, contours, views_of
from stn3d.transforms import Affine, DisplacementField, Transform
from tests.helpers.geometry_cases import smooth_field


def case(transform: Transform, grid: Grid, **fixed: object) -> ReportCase:
    distance = (grid.points_mm() - grid.centre_mm).norm(dim=-1)
    image = read_image((100 * torch.sigmoid(9 - distance)[None, None], grid))
    sides = LoadedImage("fixed", image, **fixed), LoadedImage("moving", image)  # type: ignore[arg-type]
    return ReportCase(LoadedPair(*sides), transform, {})


def test_contours_lie_between_pixels_in_proportion() -> None:
    values = np.tile(np.array([0.0, 0.0, 10.0, 10.0]), (4, 1))
    lines = contours(values, [2.0])  # a fifth of the way from the second to the third column
    np.testing.assert_allclose(lines[1], [0, 1, 0.3, 0])
    assert contours(values, []).max() == 0
    values[:, 2:] = np.nan
    assert contours(values, [2.0]).max() == 0  # the end of an image is no contour


def test_borders_of_labels() -> None:
    labels = np.zeros((5, 5))
    labels[1:4, 1:4] = 3
    labels[2, 2] = 7
    lines = borders(labels)
    assert lines.sum() == 9  # the ring of 3 and the 7; none outside
    assert lines[0].max() == 0


def test_displacement_and_jacobian_of_known_transforms() -> None:
    grid = Grid.of_spacing((32, 30, 28), 1.5)
    scale = Affine.from_matrix(homogeneous(1.2 * torch.eye(3).double(), torch.ones(3).double()))
    for view in views_of(case(scale, grid)):
        length, logarithm = view.deformation
        assert length.max() < 1e-6
        np.testing.assert_allclose(logarithm, 3 * math.log(1.2), atol=1e-5)
    assert not case(scale, grid).is_deformable
    field = DisplacementField(smooth_field(grid, 2.0).float(), grid)
    both = field.then(scale)
    assert case(both, grid).is_deformable
    view = views_of(case(both, grid))[2]
    points = view.coarse.points_mm()[4:-4:7, 4:-4:7].reshape(-1, 3)
    mapped = both.forward(points)
    rest = case(both, grid).affine.inverse().forward(mapped) - points
    length, logarithm = (one[4:-4:7, 4:-4:7].ravel() for one in view.deformation)
    np.testing.assert_allclose(length, rest.norm(dim=1).numpy(), atol=1e-6)
    points.requires_grad_(True)
    rows = [torch.autograd.grad(both.forward(points)[:, k].sum(), points)[0] for k in range(3)]
    exact = torch.logdet(torch.stack(rows, dim=1)).numpy()
    assert np.abs(logarithm - exact).max() < 0.1
    assert np.abs(logarithm - exact).mean() < 0.02


def test_folding_is_marked() -> None:
    grid = Grid.of_spacing((24, 24), 1.0)
    mirrored = Affine.from_matrix(torch.diag(torch.tensor([-1.0, 1.0, 1.0])).double())
    _, logarithm = views_of(case(mirrored, grid))[0].deformation
    assert np.isnan(logarithm).all()


def test_planes_go_through_the_excluded_region_and_landmarks_are_placed() -> None:
    grid = Grid.of_spacing((30, 30, 30), 2.0)
    lesion = torch.zeros(1, 1, 30, 30, 30)
    lesion[..., 20:23, 8:11, 4:7] = 1
    shift = Affine.from_matrix(
        homogeneous(torch.eye(3).double(), torch.tensor([4.0, 0, 0]).double())
    )
    at = torch.tensor([[42.0, 18.0, 10.0], [42.0, 18.0, 40.0]]).double()
    found = case(shift, grid, exclude=read_image((lesion, grid)), landmarks_mm=at)
    object.__setattr__(found.inputs.moving, "landmarks_mm", at + torch.tensor([4.0, 3.0, 0.0]))
    assert found.planes[0].at_mm.tolist() == [42.0, 18.0, 10.0]
    near, far = views_of(found)[2].landmarks()  # axial
    assert near.fixed == pytest.approx([42, 18])
    assert near.before == pytest.approx([46, 21])
    assert near.after == pytest.approx([42, 21])
    assert near.error_mm == pytest.approx(3)
    assert near.nearness == 1 > far.nearness >= 0.2
    lines = views_of(found)[0].outlines("exclude")
    assert set(lines) == {"fixed"}
    assert lines["fixed"].max() == 1
