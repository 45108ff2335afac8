"""Layout of a picture: panels of planes with a legend; lengths in inches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from stn3d.length_unit import length_text
from stn3d.report.planes import SIDES, Pixels, Plane, round_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL, GAP, SEAM, HEADING, MARGIN, CAPTION = 4.7, 0.3, 0.08, 0.34, 0.25, 1.05

# One colour per thing: moving image, fixed image, deformed grid.
CONTOUR_COLOUR = "#ff9a1f"
# Grid lines: no displacement to the largest.
LINE_COLOURS = ("#35c9bd", "#ffe14d", "#ff5a36")
# The same hues for text, dark enough on white.
INK, TEAL, ORANGE, BLUE = "#444444", "#0e8f86", "#c96a00", "#3a7f9e"


@dataclass(frozen=True, eq=False)
class Panel:
    """A panel of the picture: coronal and sagittal plane above the axial plane, and the legend.

    Args:
        planes: three planes, or one for 2D images.
        left: distance from the left edge of the picture, in inches.
        lower: distance from its lower edge, in inches.
        scale: inches per mm.
    """

    planes: list[Plane]
    left: float
    lower: float
    scale: float

    @classmethod
    def fitted(cls, planes: list[Plane], left: float, lower: float, height: float) -> Panel:
        """A panel as large as the column width and a height allow."""
        wide, high = span_mm(planes)
        seams = SEAM * (len(planes) > 1)
        scale = min((CELL - seams) / wide, (height - seams) / high)
        return cls(planes, left, lower + height - scale * high - seams, scale)

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Left, lower, width and height of each plane in inches, and last of the legend."""
        sizes = [(w * self.scale, h * self.scale) for w, h in (p.size_mm for p in self.planes)]
        if len(sizes) == 1:
            (wide, high) = sizes[0]
            return [
                (self.left, self.lower, wide, high),
                (self.left, self.lower - CAPTION, CELL, CAPTION),
            ]
        coronal, sagittal, axial = sizes
        right, upper = self.left + coronal[0] + SEAM, self.lower + axial[1] + SEAM
        return [
            (self.left, upper, *coronal),
            (right, upper, *sagittal),
            (self.left, self.lower, *axial),
            (right, self.lower, sagittal[0], axial[1]),
        ]


def span_mm(planes: Sequence[Plane]) -> tuple[float, float]:
    """Width and height of the planes of a panel in mm, without the gaps between them."""
    if len(planes) == 1:
        return planes[0].size_mm
    coronal, sagittal, axial = (p.size_mm for p in planes)
    return coronal[0] + sagittal[0], coronal[1] + axial[1]


def write(figure: Figure, left: float, lower: float, text: str, **style: object) -> None:
    """Text with its lower left corner at a position in inches."""
    wide, high = figure.get_size_inches()
    figure.text(left / wide, lower / high, text, ha="left", va="bottom", **style)  # type: ignore[arg-type]


def axes_of(figure: Figure, panel: Panel) -> tuple[list[Axes], Axes]:
    """Axes of the planes, with the names of their sides and a scale bar, and axes of the legend."""
    wide, high = figure.get_size_inches()
    axes = [
        figure.add_axes((x / wide, y / high, w / wide, h / high)) for x, y, w, h in panel.boxes()
    ]
    *planes, legend = axes
    for ax, plane in zip(planes, panel.planes, strict=True):
        ax.set_facecolor("black")
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_visible(False)
        _name_sides(ax, plane)
    legend.set_axis_off()
    _scale_bar(planes[-1], panel.planes[-1])
    return planes, legend


def show(ax: Axes, plane: Plane, pixels: Pixels) -> None:
    """Show brightness ``(H, W)`` or colours ``(H, W, 3)`` from 0 to 1, with axes in mm."""
    ax.imshow(
        pixels,
        origin="lower",
        extent=plane.extent_mm,
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="bilinear",
        aspect="auto",  # the axes themselves have the plane's proportions
    )
    ax.set(xlim=plane.extent_mm[:2], ylim=plane.extent_mm[2:])


def legend_text(ax: Axes, lines: Sequence[tuple[str, str]]) -> None:
    """Lines of text, each with its colour, from the top."""
    inches = ax.get_window_extent().height / ax.figure.dpi
    for i, (text, colour) in enumerate(lines):
        y = 1 - (0.08 + 0.19 * i) / inches
        ax.text(0.03, y, text, color=colour, fontsize=9.5, va="top", transform=ax.transAxes)


def draw_lines(
    ax: Axes, plane: Plane, lines: Sequence[Tensor], colours: Sequence[Tensor] | None, width: float
) -> None:
    """World lines ``(n, d)`` projected on a plane; colours from 0 to 1, ``(n,)`` for each line."""
    import numpy as np
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    flat = [line[:, list(plane.axes)].numpy() for line in lines]
    if colours is None:
        drawn = LineCollection(flat, colors=LINE_COLOURS[0], linewidths=width)
    else:
        pieces = np.concatenate([np.stack([xy[:-1], xy[1:]], axis=1) for xy in flat])
        drawn = LineCollection(list(pieces), linewidths=width, capstyle="round")
        drawn.set_cmap(LinearSegmentedColormap.from_list("lines", LINE_COLOURS))
        drawn.set_array(np.concatenate([c[:-1].numpy() for c in colours]))
        drawn.set_clim(0, 1)
    ax.add_collection(drawn, autolim=False)


def colour_bar(figure: Figure, panel: Panel, below: int, largest_mm: float) -> None:
    """A colour bar of the displacement, in the legend below that many lines of text."""
    from matplotlib.colors import LinearSegmentedColormap

    left, lower, wide, high = panel.boxes()[-1]
    size = figure.get_size_inches()
    y = lower + high - 0.2 - 0.19 * below
    box = ((left + 0.06) / size[0], y / size[1], min(1.3, 0.6 * wide) / size[0], 0.09 / size[1])
    ax = figure.add_axes(box)
    cmap = LinearSegmentedColormap.from_list("lines", LINE_COLOURS)
    ax.imshow([[i / 63 for i in range(64)]], aspect="auto", cmap=cmap)
    ax.set_axis_off()
    text = {"color": INK, "fontsize": 8.5, "transform": ax.transAxes, "va": "top"}
    ax.text(0, -0.5, "0", ha="left", **text)  # type: ignore[arg-type]
    ax.text(1, -0.5, f"{length_text(largest_mm, 1)} mm", ha="center", **text)  # type: ignore[arg-type]


def _name_sides(ax: Axes, plane: Plane) -> None:
    if plane.name == "image":
        (left, right), (lower, upper) = ("-x", "+x"), ("-y", "+y")
    else:
        (left, right), (lower, upper) = (SIDES[a] for a in plane.axes)
    name = "" if plane.name == "image" else plane.name
    for x, y, text, ha, va in (
        (0.02, 0.985, name, "left", "top"),
        (0.015, 0.5, left, "left", "center"),
        (0.985, 0.5, right, "right", "center"),
        (0.5, 0.015, lower, "center", "bottom"),
        (0.5, 0.985, upper, "center", "top"),
    ):
        drawn = ax.text(x, y, text, color="white", fontsize=9, ha=ha, va=va, transform=ax.transAxes)
        drawn.set_path_effects(_outline())


def _scale_bar(ax: Axes, plane: Plane) -> None:
    left, _, lower, _ = plane.extent_mm
    wide, high = plane.size_mm
    length = round_length(0.3 * wide)
    x, y = left + 0.03 * wide, lower + 0.03 * high
    ax.plot([x, x + length], [y, y], color="white", linewidth=2, path_effects=_outline())
    ax.text(
        x, y + 0.015 * high, f"{length:g} mm", color="white", fontsize=8, path_effects=_outline()
    )


def _outline() -> list[Any]:
    """A dark outline that keeps white text legible on bright tissue."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.2, foreground="black")]
