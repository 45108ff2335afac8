"""The channel of a colour image that is registered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stn3d.io.colours import colours_of, luminance
from stn3d.preprocessing.colour import has_bright_background, selected_channel, stain_density

STAINS = ("haematoxylin", "eosin", "dab")
# Ruifrok and Johnston 2001, Anal Quant Cytol Histol 23:291: rows are haematoxylin, eosin
# and DAB, from optical densities of red, green and blue.
PUBLISHED = np.array([[1.88, -0.07, -0.60], [-1.02, 1.13, -0.48], [-0.55, -0.13, 1.57]])


def packed(channels: np.ndarray) -> Any:
    colours = colours_of(channels)
    assert colours is not None
    return colours


def stained(densities: np.ndarray, dtype: Any) -> Any:
    """A transmitted-light picture of stain densities ``(..., 3)``, by Lambert and Beer."""
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    vectors /= np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    top = np.iinfo(dtype).max
    return packed(np.round(top * 10 ** -(densities @ vectors)).astype(dtype))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.uint8, 0.03), (np.uint16, 2e-4)])
def test_stains_of_a_mixture_are_separated(dtype: Any, tolerance: float) -> None:
    densities = np.random.default_rng(0).uniform(0, 0.4, (20, 20, 3))
    picture = stained(densities, dtype)
    for n, stain in enumerate(STAINS):
        found = stain_density(picture, stain)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, densities[..., n], atol=tolerance)


def test_the_unmixing_is_the_published_one() -> None:
    channels = np.array([[[100, 60, 140], [180, 90, 170], [120, 100, 60]]], np.uint16) * 200
    density = -np.log10(channels / 65535.0)
    expected = (density @ PUBLISHED.T).clip(min=0)
    for n, stain in enumerate(STAINS):
        found = stain_density(packed(channels), stain)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected[..., n], atol=0.02)  # two printed decimals


def test_white_has_no_stain_and_black_is_finite() -> None:
    for value, expected in ((255, 0.0), (0, None)):
        picture = packed(np.full((3, 3, 3), value, np.uint8))
        for stain in STAINS:
            found = stain_density(picture, stain)  # type: ignore[arg-type]
            assert np.isfinite(found).all()
            assert expected is None or (found == expected).all()


def section(alpha: bool = False) -> np.ndarray:
    """A dark disc on a bright slide, with noise."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, 40)] * 2, indexing="ij")
    grey = np.where(np.hypot(x, y) < 0.6, 120, 235)[..., None] + np.zeros(4 if alpha else 3)
    grey += np.random.default_rng(0).normal(0, 3, grey.shape)
    channels = grey.clip(0, 255).astype(np.uint8)
    if alpha:
        channels[..., 3] = 255
    return channels


@pytest.mark.parametrize("alpha", [False, True])
def test_a_bright_background_becomes_dark(alpha: bool) -> None:
    picture = packed(section(alpha))
    assert has_bright_background(picture)
    values, selection = selected_channel(picture)
    assert selection.inverted
    assert "inverted" in selection.description
    assert values[20, 20] > 100 > 40 > values[1, 1]
    np.testing.assert_allclose(values + luminance(picture), 255, atol=1e-3)


def test_photographs_and_dark_backgrounds_stay() -> None:
    dark = packed(255 - section())
    noise = packed(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8))
    for picture in (dark, noise):
        values, selection = selected_channel(picture)
        assert not selection.inverted
        np.testing.assert_array_equal(values, luminance(picture))


def test_transparent_voxels_are_background_whatever_their_colour() -> None:
    channels = section(alpha=True)
    channels[:, :10, 3] = 0
    channels[:, :10, :3] = 7
    for channel in ("luminance", *STAINS):
        values, _ = selected_channel(packed(channels), channel)  # type: ignore[arg-type]
        assert (values[:, :10] == 0).all()
