"""Thick slices: their weights, where they lie, and their noise."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from scripts.bench.thick_slices import Profile, Slices, acquired, slice_weights


def test_a_box_averages_whole_voxels_and_a_gaussian_has_its_width() -> None:
    box = slice_weights(20, 1.0, Slices(5.0, 0, "box"))
    np.testing.assert_allclose(box, np.kron(np.eye(4), np.full((1, 5), 0.2)), atol=1e-12)
    weights = slice_weights(81, 0.5, Slices(8.1, 0))[2]  # the middle slice of five
    positions = 0.5 * (np.arange(81) - 40)
    sd = np.sqrt((weights * positions**2).sum())
    assert sd == pytest.approx(8.1 / 2.3548, rel=0.01)


@pytest.mark.parametrize("profile", ["gaussian", "box"])
def test_slices_lie_where_the_affine_says(profile: Profile) -> None:
    # A ramp is its own average: each slice shows the position of its centre.
    affine = nib.affines.from_matvec(
        [[0.0, -1.2, 0.0], [0.9, 0.0, 0.2], [0.0, 0.1, 1.5]], [7.0, -3.0, 11.0]
    )
    ijk = np.stack(np.meshgrid(*[np.arange(n) for n in (40, 30, 20)], indexing="ij"), axis=-1)
    ramp = nib.affines.apply_affine(affine, ijk)[..., 1]
    values, matrix = acquired(ramp, affine, Slices(4.0, 0, profile), seed=0)
    assert np.linalg.norm(matrix[:3, 0]) == pytest.approx(4.0)
    shown = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"), axis=-1)
    expected = nib.affines.apply_affine(matrix, shown)[..., 1]
    np.testing.assert_allclose(values[2:-2], expected[2:-2], atol=0.02)


def test_noise_is_rician_within_the_content() -> None:
    content = np.zeros((40, 40, 40))
    content[10:30] = 100.0
    values, _ = acquired(content, np.eye(4), Slices(2.0, 1, noise=0.05), seed=3)
    assert not values[:8].any()
    inside = values[12:28]
    assert inside.std() == pytest.approx(5.0, rel=0.03)
    assert inside.mean() == pytest.approx(100 + 5.0**2 / 200, abs=0.15)
