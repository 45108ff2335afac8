"""A stripped image is aligned with a whole one whose contrast is inverted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stn3d.preprocessing.pair import Pair
from stn3d.registration.automatic import shows_same_contrast
from stn3d.registration.content import Role, SharedContent
from stn3d.registration.initialisation.initialise import initialise
from stn3d.registration.initialisation.within import aligned_within, is_aligned
from stn3d.registration.settings import settings_from
from stn3d.transforms import Affine
from tests.helpers.heads import BRAIN, head_image, prepared_pair
from tests.helpers.synthetic import Anatomy, linear_truth, plain_grid

MM = 1.0


def inverted_pair(role: Role) -> tuple[Pair, Affine]:
    """A whole head and a stripped brain, bright where the head is dark, with the true transform."""
    offset, zero = torch.tensor([2.0, -1, 1]).double(), torch.zeros(3).double()
    truth = Affine.from_matrix(linear_truth("rigid", zero, offset, 5).matrix)
    fixed = head_image(plain_grid(3, 48), role == "fixed", truth)
    moving = head_image(plain_grid(3, 50), role == "moving")
    pair = prepared_pair(fixed, moving)
    stripped = getattr(pair, role)
    bright = torch.where(stripped.image > 0, 1.1 - stripped.image.clamp(max=1), 0)
    return replace(pair, **{role: replace(stripped, image=bright)}), truth


def brain_error_mm(found: Affine, truth: Affine, pair: Pair) -> float:
    points = pair.fixed.grid.points_mm()
    inside = Anatomy(torch.zeros(3).double()).body(truth(points)) < BRAIN
    difference = found(points[inside]) - truth(points[inside])
    return float(torch.linalg.vector_norm(difference, dim=-1).mean())


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_a_rough_start_is_aligned_by_the_content_alone(role: Role) -> None:
    pair, truth = inverted_pair(role)
    zoom = Affine.from_matrix(torch.diag(torch.tensor([1.15, 1.1, 1.1, 1.0]).double()))
    starts = [zoom, Affine.from_matrix(zoom.matrix @ truth.matrix)]
    content = SharedContent(pair, role, MM)
    found = aligned_within(content, starts, "affine", MM)
    assert is_aligned(content, found, MM)
    assert not is_aligned(content, replace(found, transform=starts[0], loss=1.0), MM)
    assert found.proposed in starts
    assert brain_error_mm(starts[1], truth, pair) > 1
    assert brain_error_mm(Affine.from_matrix(found.linear.matrix), truth, pair) < 0.5


def test_a_rigid_transform_keeps_its_size() -> None:
    pair, truth = inverted_pair("moving")
    found = aligned_within(SharedContent(pair, "moving", MM), [Affine.identity(3)], "rigid", MM)
    scales = torch.linalg.svdvals(found.linear.matrix[:3, :3])
    torch.testing.assert_close(scales, torch.ones_like(scales))
    assert brain_error_mm(Affine.from_matrix(found.linear.matrix), truth, pair) < 0.5


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_the_initialisation_aligns_inverted_contrasts(role: Role) -> None:
    pair, truth = inverted_pair(role)
    start = initialise(pair, settings_from({"estimator": "optimiser"}))
    assert start.content is not None
    assert start.content.role == role
    assert start.selected_metric is not None
    assert not shows_same_contrast(start.selected_metric)
    assert start.selected_metric.choice == "nmi"
    assert start.selected_metric.deformable_metric == "mind"
    found = Affine.from_matrix(start.best.linear.matrix)
    assert brain_error_mm(found, truth, pair) < 0.5
