"""Diffusion gradient directions: FSL's convention, rotation with the volumes, damaged files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from stn3d import Grid, InputError, Rigid
from stn3d.series.gradients import read_bvecs, rotated_bvecs, write_bvecs


def turned(axis: int, degrees: float) -> Rigid:
    parameters = torch.zeros(6, dtype=torch.float64)
    parameters[axis] = math.radians(degrees)
    return Rigid(parameters, torch.tensor([5.0, -7.0, 11.0]).double())


def grid(*diagonal: float) -> Grid:
    return Grid((9, 10, 11), torch.diag(torch.tensor([*diagonal, 1.0]).double()))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_direction_turns_back_with_the_head(sign: float) -> None:
    """Points of the reference are 30 degrees further in the volume, so the head turned by +30
    degrees; in the reference, a gradient along world x lies at -30 degrees. FSL's (-1, 0, 0) is
    world x for both orders of the first axis."""
    image = grid(2 * sign, 2, 2)
    found = rotated_bvecs(np.array([[-1.0, 0, 0]]), [turned(2, 30)], image, image)[0]
    angle = math.radians(-30)
    np.testing.assert_allclose(found, [-math.cos(angle), math.sin(angle), 0], atol=1e-12)


def test_no_motion_changes_nothing_but_the_grid() -> None:
    directions = np.array([[0, 0, 0], [0.6, 0.8, 0], [0, 0, 1.0], [0.1, 0.2, 0.3]])
    still = [turned(0, 0)] * 4
    np.testing.assert_allclose(
        rotated_bvecs(directions, still, grid(-2, 2, 2), grid(-1, 1, 3)), directions, atol=1e-12
    )
    # the same scan stored with its first axis reversed has the same FSL directions
    np.testing.assert_allclose(
        rotated_bvecs(directions, still, grid(-2, 2, 2), grid(2, 2, 2)), directions, atol=1e-12
    )
    flipped = rotated_bvecs(directions, still, grid(-2, 2, 2), grid(-2, 2, -2))
    assert flipped[2, 2] == pytest.approx(-1)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.bvec"
    directions = np.array([[0, 0, 0], [0.6, 0.8, 0], [0, 0, 1.0], [1, 0, 0]])
    write_bvecs(path, directions)
    assert len(path.read_text().splitlines()) == 3
    np.testing.assert_allclose(read_bvecs(path, 4), directions)
    np.savetxt(path, directions)  # a row for each volume
    np.testing.assert_allclose(read_bvecs(path, 4), directions)
    for text, part in (
        ("a b", "numbers"),
        ("1 2\n3 4", "2 x 2"),
        ("nan 0 0\n" * 4, "NaN"),
        ("", "bvecs"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=part):
            read_bvecs(path, 4)
