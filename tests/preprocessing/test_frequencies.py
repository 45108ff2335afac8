"""Frequencies: those of waves, and what is blurred along all axes."""

from __future__ import annotations

import math

import pytest
import torch

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.preprocessing.frequencies import is_blurred, squared_frequency
from stn3d.preprocessing.prepared import PreparedImage

SHAPE = (34, 50, 50)  # whole waves between the ends


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("period_vox", [8, 16])
def test_a_wave_has_its_own_frequency(axis: int, period_vox: int) -> None:
    points = Grid.of_spacing(SHAPE).points_index()[..., axis]
    frequency = 2 * math.pi / period_vox
    wave = 0.5 + 0.4 * torch.sin(frequency * points).float()[None, None]
    found = squared_frequency(wave, torch.ones_like(wave).bool(), axis)
    # Exactly (2 tan(f / 2))^2 of sampled waves, f^2 of low frequencies.
    assert found == pytest.approx((2 * math.tan(frequency / 2)) ** 2, rel=1e-2)


def test_little_that_is_shown_says_nothing() -> None:
    values = torch.rand(1, 1, *SHAPE)
    shown = torch.zeros_like(values).bool()
    shown[..., :5, :5, :5] = True
    assert squared_frequency(values, shown, 0) == 0
    assert squared_frequency(torch.ones_like(values), torch.ones_like(shown), 0) == 0
    assert squared_frequency(values[:, :, :2], torch.ones_like(shown)[:, :, :2], 0) == 0


def image(sigma_mm: float, spacing_mm: tuple[float, ...]) -> PreparedImage:
    """Noise smoothed by a Gaussian, as tissue of one size."""
    noise = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(3))
    smooth = kernels.gaussian_smooth(noise, [sigma_mm / s for s in spacing_mm])
    return PreparedImage(0.5 + 0.1 * smooth / smooth.std(), Grid.of_spacing(SHAPE, spacing_mm))


@pytest.mark.parametrize(
    ("sigma_mm", "spacing_mm", "blurred"),
    [
        (1.0, (2.0, 2.0, 2.0), False),
        (5.0, (2.0, 2.0, 2.0), True),
        (5.0, (1.0, 1.0, 1.5), True),
        (1.0, (1.0, 1.0, 1.0), False),
        (1.0, (2.0, 2.0, 5.0), False),
    ],
)
def test_an_image_is_blurred_whatever_its_voxels(
    sigma_mm: float, spacing_mm: tuple[float, ...], blurred: bool
) -> None:
    assert is_blurred(image(sigma_mm, spacing_mm)) is blurred


def test_an_image_that_is_blurred_along_one_axis_is_sharp() -> None:
    sharp = image(1.0, (2.0, 2.0, 2.0))
    thick = kernels.gaussian_smooth(sharp.image, [0.0, 0.0, 3.0])
    assert not is_blurred(PreparedImage(thick, sharp.grid))
    assert not is_blurred(PreparedImage(torch.ones_like(thick), sharp.grid))
