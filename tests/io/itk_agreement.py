"""Comparison of stored images with SimpleITK's reading of the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from stn3d.io.sources import open_source

TYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
TYPES += [np.float32, np.float64]


def oblique_image(d: int, dtype: Any) -> Any:
    """A SimpleITK image with oblique axes."""
    generator = np.random.default_rng(d)
    image = sitk.GetImageFromArray(
        (generator.random((4, 5, 6, 3)[:d]) * 100).astype(dtype), isVector=False
    )
    image.SetSpacing((generator.random(d) + 0.5).tolist())
    image.SetOrigin((9 * generator.random(d)).tolist())
    direction, spatial = np.eye(d), min(d, 3)
    direction[:spatial, :spatial] = np.linalg.qr(generator.normal(size=(spatial, spatial)))[0]
    image.SetDirection(direction.ravel().tolist())
    return image


def assert_same_as_itk(path: Path) -> None:
    """Values, type and geometry equal those that SimpleITK reads."""
    image, stored = sitk.ReadImage(str(path)), open_source(path, "image")
    array = np.transpose(sitk.GetArrayFromImage(image))
    np.testing.assert_array_equal(stored.array, array)
    assert stored.array.dtype == array.dtype
    d, size = min(image.GetDimension(), 3), image.GetDimension()
    lps = np.eye(4)
    direction = np.reshape(image.GetDirection(), (size, size))[:d, :d]
    lps[:d, :d], lps[:d, 3] = direction * image.GetSpacing()[:d], image.GetOrigin()[:d]
    np.testing.assert_allclose(stored.affine, np.diag([-1, -1, 1, 1]) @ lps, atol=1e-6)
