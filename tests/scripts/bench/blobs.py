"""An image for tests that run a registration tool."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk


def blobs(shift: float, origin: tuple[float, float, float]) -> sitk.Image:
    """A body of blobs on an oblique grid of 3 x 4 x 3 mm voxels."""
    size, spacing = (40, 36, 44), (3.0, 4.0, 3.0)
    noise = np.random.default_rng(5).standard_normal((size[2], size[1], size[0]))
    texture = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(noise.astype("f4")), 2.0)
    texture = sitk.GetArrayFromImage(texture)
    z, y, x = (np.linspace(-1.5, 1.5, n) for n in noise.shape)
    radius = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + (x - shift) ** 2)
    body = (1000 + 3000 * texture) / (1 + np.exp(12 * (radius - 1)))
    image = sitk.GetImageFromArray(body.astype("f4"))
    image.SetSpacing(spacing)
    image.SetDirection((0.0, 1.0, 0.0, -0.8, 0.0, 0.6, 0.6, 0.0, 0.8))
    image.SetOrigin(origin)
    return image
