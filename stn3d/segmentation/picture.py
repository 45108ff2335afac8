"""A picture of a segmentation: three planes of the image, and its structures in colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.io import Image
from stn3d.preprocessing.intensity import limits
from stn3d.report.layout import GAP, HEAD, HEADING, INK, MARGIN, Canvas, Tile
from stn3d.report.planes import Plane, brightness, image_on_plane, planes_of
from stn3d.report.views import borders, values_at
from stn3d.segmentation.label_table import colour_of
from stn3d.structures import STRUCTURES

_WIDTH, _TITLE, _LINE = 1240, 34, 20
_AROUND_MM = 25.0  # of the head that is shown around the brain
_OPACITY, _MASK_COLOUR = 0.5, (255, 154, 31)
_SWATCH, _COLUMNS = 14, 4


def segmentation_picture(image: Image, labels: Image, mask: Image, title: str) -> Pillow.Image:
    """Coronal, sagittal and axial plane through the brain.

    Upper row: the image with the outline of the brain mask. Lower row: structures in the colours of
    labels.tsv, and their names below.

    Args:
        image: the image.
        labels: labels on its grid.
        mask: brain mask on its grid.
        title: title of the picture.
    """
    region, centre_mm = _region(mask)
    planes = planes_of(region, centre_mm)
    wide = sum(plane.size_mm[0] for plane in planes)
    scale = (_WIDTH - 2 * MARGIN - GAP * (len(planes) - 1)) / wide
    high = round(scale * max(plane.size_mm[1] for plane in planes))
    names = list(dict.fromkeys(one.name for one in STRUCTURES[1:]))
    legend = _LINE * -(-len(names) // _COLUMNS)
    rows = [MARGIN + _TITLE + HEADING + (high + HEADING) * n for n in range(2)]
    below = rows[1] + high + GAP // 2
    canvas = Canvas((_WIDTH, below + legend + MARGIN))
    canvas.write((MARGIN, MARGIN), title, 18, HEAD)
    window = limits(image.values)
    for row, heading in zip(rows, ("Outline of the brain mask", "Structures"), strict=True):
        canvas.write((MARGIN, row - HEADING + 6), heading, 16, INK, bold=1)
    left = MARGIN
    for plane in planes:
        size = round(scale * plane.size_mm[0]), round(scale * plane.size_mm[1])
        grey = brightness(image_on_plane(image, plane), window)
        for row, tile in zip(rows, _tiles(labels, mask, plane, size, grey), strict=True):
            canvas.picture.paste(tile.finished(bar=plane is planes[-1]), (left, row))
        left += size[0] + GAP
    _draw_legend(canvas, names, below)
    return canvas.picture


def _tiles(
    labels: Image,
    mask: Image,
    plane: Plane,
    size: tuple[int, int],
    grey: NDArray[np.float64],
) -> tuple[Tile, Tile]:
    """The image with the outline of the mask, and with the structures."""
    inside, ids = (_numbers_on(one, plane) for one in (mask, labels))
    outlined = Tile(plane, size, grey)
    outlined.stencil(borders(inside), _MASK_COLOUR)
    colours = _colour_table()[ids.astype(int)]
    opacity = np.where(ids > 0, _OPACITY, 0.0)[..., None]
    mixed = (1 - opacity) * grey[..., None] + opacity * colours
    return outlined, Tile(plane, size, mixed)


def _draw_legend(canvas: Canvas, names: Sequence[str], top: int) -> None:
    """A coloured square and the name of each structure."""
    colours = {one.name: colour_of(one) for one in STRUCTURES}
    rows, width = -(-len(names) // _COLUMNS), (_WIDTH - 2 * MARGIN) // _COLUMNS
    for number, name in enumerate(names):
        left, y = MARGIN + width * (number // rows), top + _LINE * (number % rows)
        swatch = Pillow.new("RGB", (_SWATCH, _SWATCH), colours[name])
        canvas.picture.paste(swatch, (left, y + 2))
        canvas.write((left + _SWATCH + 6, y), name, 14, INK)


def _colour_table() -> NDArray[np.float64]:
    """``(ids, 3)`` colours from 0 to 1."""
    table = np.zeros((max(one.label for one in STRUCTURES) + 1, 3))
    for one in STRUCTURES:
        table[one.label] = [int(colour_of(one)[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    return table


def _numbers_on(image: Image, plane: Plane) -> NDArray[np.float64]:
    """Labels or a mask on a plane."""
    return values_at(replace(image, values=image.values.float()), plane.points_mm(), nearest=True)


def _region(mask: Image) -> tuple[Grid, Tensor | None]:
    """The box around the brain that is shown, in voxels of 1 mm along the world axes, and the
    centre of the brain."""
    inside = mask.values[0, 0]
    if not bool(inside.any()):
        return mask.grid, None
    corners, centre = [], []
    for axis in range(3):
        counts = inside.sum(dim=[a for a in range(3) if a != axis]).double()
        at = counts.nonzero()[:, 0].double()
        corners.append(torch.stack([at[0], at[-1]]))
        centre.append((counts * torch.arange(len(counts))).sum() / counts.sum())
    matrix = mask.grid.world_from_index
    ends = apply_matrix(matrix, torch.cartesian_prod(*corners))
    low, high = ends.amin(0), ends.amax(0)
    half = (high - low) / 2 + _AROUND_MM
    half[1:] = half[1:].max()  # so that all planes have one height
    shape = tuple(int(n) for n in (2 * half).round())
    box = Grid(shape, homogeneous(torch.eye(3).double(), (low + high) / 2 - half))
    return box, apply_matrix(matrix, torch.stack(centre)[None])[0]
