"""Layout of a picture: panels of planes with a legend, drawn by Pillow; lengths in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor

from stn3d.report.planes import SIDES, Plane, round_length

CELL, GAP, SEAM, HEADING, MARGIN, CAPTION = 460, 30, 8, 30, 24, 110
_LINE, _TEXT, _SMALL = 20, 14, 12
_LINE_WIDTH = 3  # in a fine plane
_FINE = 2  # planes are drawn this many times as large, so that lines become smooth

# One colour per thing: moving image, fixed image, deformed grid.
CONTOUR_COLOUR = (255, 154, 31)
# Grid lines: no displacement to the largest.
LINE_COLOURS = ((53, 201, 189), (255, 225, 77), (255, 90, 54))
# The same hues for text, dark enough on white.
INK, TEAL, ORANGE, BLUE, HEAD = "#444444", "#0e8f86", "#b35f00", "#3a7f9e", "#111111"


@dataclass(frozen=True, eq=False)
class Panel:
    """A panel of the picture: coronal and sagittal plane above the axial plane, and the legend.

    Args:
        planes: three planes, or one for 2D images.
        left: its left edge.
        top: its upper edge.
        scale: pixels per mm.
    """

    planes: Sequence[Plane]
    left: int
    top: int
    scale: float

    @classmethod
    def fitted(cls, planes: Sequence[Plane], left: int, top: int, height: int) -> Panel:
        """A panel as large as the column width and a height allow."""
        wide, high = span_mm(planes)
        seams = SEAM * (len(planes) > 1)
        return cls(planes, left, top, min((CELL - seams) / wide, (height - seams) / high))

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """Left, upper edge, width and height of each plane, and last of the legend."""
        sizes = [
            (max(1, round(w * self.scale)), max(1, round(h * self.scale)))
            for w, h in (plane.size_mm for plane in self.planes)
        ]
        if len(sizes) == 1:
            (wide, high) = sizes[0]
            return [
                (self.left, self.top, wide, high),
                (self.left, self.top + high, CELL, CAPTION),
            ]
        coronal, sagittal, axial = sizes
        right, lower = self.left + coronal[0] + SEAM, self.top + coronal[1] + SEAM
        return [
            (self.left, self.top, *coronal),
            (right, self.top, *sagittal),
            (self.left, lower, *axial),
            (right, lower, sagittal[0], axial[1]),
        ]


def span_mm(planes: Sequence[Plane]) -> tuple[float, float]:
    """Width and height of the planes of a panel in mm, without the gaps between them."""
    if len(planes) == 1:
        return planes[0].size_mm
    coronal, sagittal, axial = (p.size_mm for p in planes)
    return coronal[0] + sagittal[0], coronal[1] + axial[1]


class Tile:
    """A plane that is drawn on, with a fine resolution.

    Args:
        plane: the plane.
        size: width and height in the picture.
        pixels: ``(H, W)`` brightness or ``(H, W, 3)`` colours from 0 to 1; row 0 at the bottom.
    """

    def __init__(self, plane: Plane, size: tuple[int, int], pixels: NDArray[np.float64]) -> None:
        self._plane, self._size = plane, size
        base = Pillow.fromarray(np.round(255 * pixels[::-1]).astype(np.uint8)).convert("RGB")
        fine = (_FINE * size[0], _FINE * size[1])
        self._picture = base.resize(fine, Pillow.Resampling.BILINEAR)
        self._draw = ImageDraw.Draw(self._picture)

    def stencil(self, opacity: NDArray[np.float64], colour: tuple[int, int, int]) -> None:
        """Paint a colour with an opacity ``(H, W)`` from 0 to 1."""
        mask = Pillow.fromarray(np.round(255 * opacity[::-1]).astype(np.uint8))
        mask = mask.resize(self._picture.size, Pillow.Resampling.BILINEAR)
        self._picture.paste(colour, (0, 0), mask)

    def lines(self, lines: Sequence[Tensor], shares: Sequence[Tensor] | None) -> None:
        """Draw world lines ``(n, d)`` projected on the plane.

        Args:
            lines: the lines.
            shares: ``(n,)`` position in `LINE_COLOURS` of each point, 0 to 1; None for the first.
        """
        for number, line in enumerate(lines):
            points = [tuple(point) for point in self._at(line).tolist()]
            if shares is None:
                self._draw.line(points, fill=LINE_COLOURS[0], width=_LINE_WIDTH)
                continue
            colours = line_colours(shares[number].numpy())
            for k in range(len(points) - 1):
                fill = tuple(colours[k].tolist())
                self._draw.line(points[k : k + 2], fill=fill, width=_LINE_WIDTH)

    def _at(self, line: Tensor) -> Tensor:
        """Positions of world points in the tile."""
        (left, lower), (wide, high) = self._plane.low_mm, self._plane.size_mm
        across, up = (line[:, axis] for axis in self._plane.axes)
        x = (across - left) / wide * self._picture.width
        y = (1 - (up - lower) / high) * self._picture.height
        return x.new_tensor([x.tolist(), y.tolist()]).T

    def reduced(self) -> Pillow.Image:
        """The tile in its size."""
        return self._picture.resize(self._size, Pillow.Resampling.BOX)

    def finished(self, *, bar: bool) -> Pillow.Image:
        """The tile in its size, with the names of its sides."""
        picture = self.reduced()
        draw = ImageDraw.Draw(picture)
        _name_sides(draw, self._plane, self._size)
        if bar:
            _scale_bar(draw, self._plane, self._size)
        return picture


class Canvas:
    """The picture.

    Args:
        size: width and height.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.picture = Pillow.new("RGB", size, "white")
        self._draw = ImageDraw.Draw(self.picture)

    def write(self, at: tuple[int, int], text: str, size: int, colour: str, bold: int = 0) -> None:
        """Text with its upper left corner at a position."""
        style: dict[str, Any] = {"stroke_width": 0.4 * bold, "stroke_fill": colour}
        self._draw.text(at, _drawable(text), fill=colour, font=_font(size), **style)

    def panel(self, panel: Panel, tiles: Sequence[Tile], lines: Sequence[tuple[str, str]]) -> None:
        """Place the tiles of a panel and the lines of text of its legend, each with its colour."""
        *boxes, legend = panel.boxes()
        for number, (box, tile) in enumerate(zip(boxes, tiles, strict=True)):
            self.picture.paste(tile.finished(bar=number == len(tiles) - 1), box[:2])
        for number, (text, colour) in enumerate(lines):
            at = legend[0] + 8, legend[1] + 8 + _LINE * number
            self.write(at, text, _TEXT, colour)

    def colour_bar(self, panel: Panel, below: int, largest: str) -> None:
        """A colour bar of the displacement, in the legend below that many lines of text."""
        left, top, wide, _ = panel.boxes()[-1]
        size = (min(150, round(0.7 * wide)), 9)
        ramp = np.tile(line_colours(np.linspace(0, 1, size[0]))[None], (size[1], 1, 1))
        at = left + 8, top + 14 + _LINE * below
        self.picture.paste(Pillow.fromarray(ramp), at)
        self.write((at[0], at[1] + 13), "0", _SMALL, INK)
        self.write((at[0] + size[0] - 24, at[1] + 13), largest, _SMALL, INK)


def line_colours(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """``(n, 3)`` colours of grid lines for shares from 0 to 1."""
    stops = np.array(LINE_COLOURS, float)
    at = np.clip(shares, 0, 1) * (len(stops) - 1)
    channels = [np.interp(at, np.arange(len(stops)), stops[:, c]) for c in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


@cache
def _font(size: int) -> Any:
    """Pillow's own font: one of the system may be missing."""
    return ImageFont.load_default(size)


def _drawable(text: str) -> str:
    """Text on one line; Pillow refuses halves of surrogate pairs."""
    return " ".join(text.encode("utf8", "replace").decode().split())


def _outlined(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, anchor: str, size: int
) -> None:
    style: dict[str, Any] = {"stroke_width": 2, "stroke_fill": "black"}
    draw.text(at, text, fill="white", font=_font(size), anchor=anchor, **style)


def _name_sides(draw: ImageDraw.ImageDraw, plane: Plane, size: tuple[int, int]) -> None:
    if plane.name == "image":
        (left, right), (lower, upper) = ("-x", "+x"), ("-y", "+y")
    else:
        (left, right), (lower, upper) = (SIDES[a] for a in plane.axes)
    wide, high = size
    name = "" if plane.name == "image" else plane.name
    for at, text, anchor in (
        ((5, 4), name, "lt"),
        ((5, high / 2), left, "lm"),
        ((wide - 5, high / 2), right, "rm"),
        ((wide / 2, high - 5), lower, "mb"),
        ((wide / 2, 4), upper, "mt"),
    ):
        _outlined(draw, at, text, anchor, _TEXT - 1)


def _scale_bar(draw: ImageDraw.ImageDraw, plane: Plane, size: tuple[int, int]) -> None:
    wide, high = size
    length_mm = round_length(0.3 * plane.size_mm[0])
    pixels = length_mm / plane.size_mm[0] * wide
    draw.rectangle((7, high - 9, 9 + pixels, high - 5), fill="black")
    draw.rectangle((8, high - 8, 8 + pixels, high - 6), fill="white")
    _outlined(draw, (8, high - 12), f"{length_mm:g} mm", "lb", _SMALL)
