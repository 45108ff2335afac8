"""Pictures of segmentations: three planes of each image, and the classes over them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from torch import Tensor

from stn3d import Affine
from stn3d.io import Image
from stn3d.io.files import atomic_write
from stn3d.nets.working_grid import axis_aligned_grid
from stn3d.preprocessing.intensity import scaled
from stn3d.structures import STRUCTURES
from stn3d.warp import warp_image, warp_labels

Pixels = NDArray[np.uint8]
SIZE, SPACING_MM, OPACITY = 128, 2.0, 0.55


def save_pictures(found: Mapping[str, tuple[Image, Tensor]], folder: Path) -> None:
    """Write a PNG for each folder of images.

    Args:
        found: Images with their classes ``(1, 1, *shape)``, by name.
        folder: Output folder.
    """
    groups: dict[str, list[Pixels]] = {}
    for name, (image, classes) in found.items():
        groups.setdefault(name.partition("/")[0], []).append(_strip(image, classes))
    for group, strips in groups.items():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / f"{group}.png") as part:
            pixels = np.concatenate(strips) // 8 * 8
            PIL.Image.fromarray(pixels).save(part, format="png", optimize=True)


def colours() -> NDArray[np.float64]:
    """``(classes, 3)`` from 0 to 1; left and right differ in brightness, background is black."""
    generator = np.random.default_rng(5)
    by_name = {one.name: generator.uniform(0.25, 1, 3) for one in STRUCTURES}
    shade = {"left": 1.0, "right": 0.7, "": 0.9}
    table = np.array([by_name[one.name] * shade[one.side] for one in STRUCTURES])
    table[0] = 0
    return table


def _strip(image: Image, classes: Tensor) -> Pixels:
    """Sagittal, coronal and axial planes through the brain, and the same with classes."""
    grid = axis_aligned_grid(image.grid, SPACING_MM)
    move = Affine.identity(3)
    values = warp_image(scaled(image.values), image.grid, move, grid)[0, 0].clamp(0, 1).numpy()
    labels = warp_labels(classes, image.grid, move, grid)[0, 0].numpy()
    inside = np.argwhere(labels > 3)
    middle = (
        [round(x) for x in inside.mean(axis=0)] if len(inside) else [n // 2 for n in grid.shape]
    )
    grey = np.repeat(values[..., None], 3, axis=-1)
    colour = colours()[labels]
    mixed = np.where(labels[..., None] > 0, (1 - OPACITY) * grey + OPACITY * colour, grey)
    planes = [_plane(v, axis, middle) for v in (grey, mixed) for axis in range(3)]
    return np.concatenate(planes, axis=1)


def _plane(volume: NDArray[Any], axis: int, middle: list[int]) -> Pixels:
    """``(SIZE, SIZE, 3)``, superior or anterior up, cropped around the middle."""
    others = [a for a in range(3) if a != axis]
    plane = volume.take(middle[axis], axis=axis)
    out = np.zeros((SIZE, SIZE, 3))
    starts = [max(0, middle[a] - SIZE // 2) for a in others]
    part = plane[starts[0] : starts[0] + SIZE, starts[1] : starts[1] + SIZE]
    out[: part.shape[0], : part.shape[1]] = part
    return (255 * np.rot90(out)).round().astype(np.uint8)
