"""Transforms in world coordinates."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("ignite")

from stn3d.train import (
    world_transform,
)


def test_a_voxel_displacement_becomes_a_world_transform() -> None:
    spacing = torch.diag(torch.tensor([2.0, 2.0, 1.0]).double())
    field = torch.zeros(2, 5, 5)
    field[0] = 1.5
    shift = torch.eye(3).double()
    shift[1, 2] = 10.0
    transform = world_transform(field, spacing, shift)
    moved = transform(torch.tensor([[4.0, 4.0]]).double())
    assert moved.tolist() == [[7.0, 14.0]]
