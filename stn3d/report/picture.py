"""One picture of a registration: before and after, as overlay, checkerboard and deformation grid.

Everything is drawn in the fixed image's world but for one field: the moving image with the grid
that the transform lays on it. matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.io import Image, ImageSource, check_output, read_image, whole
from stn3d.registration import Registration
from stn3d.report.planes import (
    FIXED_TINT,
    MOVED_TINT,
    SIDES,
    Pixels,
    Plane,
    affine_part,
    checkerboard,
    grey,
    nice,
    otsu_thresholds,
    planes_of,
    seen,
    turn_deg,
    window,
)
from stn3d.transforms import Affine, Chain, Transform

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")

# Inches.
_CELL, _GAP, _SEAM, _TITLE, _MARGIN = 4.7, 0.3, 0.04, 0.36, 0.25
_CAPTION = 0.62


def require_matplotlib() -> None:
    """Find out before any work whether a picture can be drawn.

    Raises:
        InputError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise InputError(
            "the picture needs matplotlib, which is not installed; run: pip install 'stn3d[demo]'."
        )


def picture_of(
    path: str | os.PathLike[str],
    registration: Registration,
    moving: ImageSource,
    title: str = "",
    volume: int | None = None,
) -> None:
    """Save the picture of a registration; see `save_picture`.

    Args:
        path: the file.
        registration: what `stn3d.register` gave back.
        moving: the moving image that it was given.
        title: a line above the picture.
        volume: which volume of a 4D moving image.

    Raises:
        InputError: as `save_picture`, or the moving image is of no use.
    """
    image = read_image(moving, "moving", volume)
    save_picture(path, registration.fixed, image, registration.transform, title)


def save_picture(
    path: str | os.PathLike[str],
    fixed: Image,
    moving: Image,
    transform: Transform,
    title: str = "",
) -> None:
    """Save a picture of a pair before and after a transform.

    Rows: before (as the headers have it) and after. Columns: the fixed image with the outlines of
    the moving one; both in turn on a checkerboard; the fixed image's grid as the transform lays it
    on the moving image, and below what of it is left without its affine part. 3D images are shown
    on three planes through the middle, along the world's axes.

    Args:
        path: ``.png``, ``.pdf`` or ``.svg``.
        fixed: the fixed image.
        moving: the moving image, as it was given.
        transform: fixed points to moving points.
        title: a line above it all.

    Raises:
        InputError: matplotlib is missing, or the file cannot be written.
    """
    require_matplotlib()
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot draw {path}: end its name in one of {', '.join(SUFFIXES)}.")
    check_output(path)
    figure = _drawn(_Scene(fixed, moving, transform), title)
    # Without the date, and with one salt for its names, equal pictures are equal bytes.
    kind = path.suffix.lower()[1:]
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    from matplotlib import rc_context

    with whole(path) as part, rc_context({"svg.hashsalt": "stn3d"}):
        figure.savefig(part, format=kind, dpi=115, metadata=metadata[kind])


@dataclass(frozen=True, eq=False)
class _Scene:
    """The pair and its transform."""

    fixed: Image
    moving: Image
    transform: Transform

    def identity(self) -> Transform:
        return Affine.identity(self.fixed.grid.ndim)


@dataclass(frozen=True, eq=False)
class _Cell:
    """A field of the picture: planes side by side, coronal and sagittal above axial.

    Args:
        planes: one, or three.
        left: inches from the picture's left edge.
        lower: inches from its lower edge.
        scale: inches per millimetre.
    """

    planes: list[Plane]
    left: float
    lower: float
    scale: float

    @classmethod
    def fitted(cls, planes: list[Plane], left: float, lower: float, height: float) -> _Cell:
        """As large as a cell's width and this height allow."""
        wide, high = _span_mm(planes)
        seams = _SEAM * (len(planes) > 1)
        scale = min((_CELL - seams) / wide, (height - seams) / high)
        return cls(planes, left, lower + height - scale * high - seams, scale)

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Left, lower, width and height of each plane in inches, then those of the notes."""
        sizes = [(w * self.scale, h * self.scale) for w, h in (p.size_mm for p in self.planes)]
        if len(sizes) == 1:
            (wide, high) = sizes[0]
            return [
                (self.left, self.lower, wide, high),
                (self.left, self.lower - _CAPTION, _CELL, _CAPTION),
            ]
        coronal, sagittal, axial = sizes
        right, upper = self.left + coronal[0] + _SEAM, self.lower + axial[1] + _SEAM
        return [
            (self.left, upper, *coronal),
            (right, upper, *sagittal),
            (self.left, self.lower, *axial),
            (right, self.lower, sagittal[0], axial[1]),
        ]


def _span_mm(planes: Sequence[Plane]) -> tuple[float, float]:
    """Width and height of the planes of a cell, without the seams."""
    if len(planes) == 1:
        return planes[0].size_mm
    coronal, sagittal, axial = (p.size_mm for p in planes)
    return coronal[0] + sagittal[0], coronal[1] + axial[1]


def _drawn(scene: _Scene, title: str) -> Figure:
    from matplotlib.figure import Figure

    planes = planes_of(scene.fixed.grid)
    wide, high = _span_mm(planes)
    height = min(_CELL * high / wide, 1.5 * _CELL)
    row = height + _TITLE + (_CAPTION if len(planes) == 1 else 0)
    head = 0.5 if title else 0.0
    figure = Figure(
        figsize=(3 * _CELL + 2 * _GAP + 2 * _MARGIN, 2 * row + _GAP + 2 * _MARGIN + head),
        facecolor="white",
    )
    if title:
        _write(figure, _MARGIN, figure.get_figheight() - _MARGIN - 0.12, title, size=15)
    lowers = [_MARGIN + row - height - _TITLE + (row + _GAP) * i for i in (1, 0)]
    lefts = [_MARGIN + (_CELL + _GAP) * i for i in range(3)]
    for when, lower, how in zip(
        ("Before", "After"), lowers, (scene.identity(), scene.transform), strict=True
    ):
        cells = [_Cell.fitted(planes, left, lower, height) for left in lefts]
        heads = [f"{when}: overlay", f"{when}: checkerboard"]
        _draw_overlay(figure, cells[0], scene, how)
        _draw_checkerboard(figure, cells[1], scene, how)
        if when == "Before":
            heads.append("The transform on the moving image")
            _draw_whole_grid(figure, cells[2], scene, height)
        else:
            heads.append("Deformation without its affine part")
            _draw_deformation(figure, cells[2], scene)
        for left, text in zip(lefts, heads, strict=True):
            _write(figure, left, lower + height + 0.1, text, size=12, weight="bold")
    return figure


def _write(figure: Figure, left: float, lower: float, text: str, **style: object) -> None:
    """Text with its lower left corner at a place in inches."""
    wide, high = figure.get_size_inches()
    figure.text(left / wide, lower / high, text, ha="left", va="bottom", **style)  # type: ignore[arg-type]


def _axes(figure: Figure, cell: _Cell) -> list[Axes]:
    """Axes of a cell's planes with their sides' names, and of its notes."""
    wide, high = figure.get_size_inches()
    axes = [figure.add_axes((x / wide, y / high, w / wide, h / high)) for x, y, w, h in cell.boxes()]
    for ax, plane in zip(axes, cell.planes, strict=False):
        ax.set(xlim=plane.extent_mm[:2], ylim=plane.extent_mm[2:], xticks=[], yticks=[])
        ax.set_facecolor("black")
        for spine in ax.spines.values():
            spine.set_visible(False)
        _name_sides(ax, plane)
    axes[-1].set_axis_off()
    _scale_bar(axes[-2], cell.planes[-1])
    return axes


def _name_sides(ax: Axes, plane: Plane) -> None:
    if plane.name == "image":
        (left, right), (lower, upper) = ("−x", "+x"), ("−y", "+y")
    else:
        (left, right), (lower, upper) = (SIDES[a] for a in plane.axes)
    style = {"color": "white", "fontsize": 9, "transform": ax.transAxes}
    ax.text(0.015, 0.5, left, ha="left", va="center", **style)  # type: ignore[arg-type]
    ax.text(0.985, 0.5, right, ha="right", va="center", **style)  # type: ignore[arg-type]
    ax.text(0.5, 0.015, lower, ha="center", va="bottom", **style)  # type: ignore[arg-type]
    ax.text(0.5, 0.985, upper, ha="center", va="top", **style)  # type: ignore[arg-type]


def _scale_bar(ax: Axes, plane: Plane) -> None:
    left, _, lower, _ = plane.extent_mm
    wide, high = plane.size_mm
    length = nice(0.3 * wide)
    x, y = left + 0.03 * wide, lower + 0.03 * high
    ax.plot([x, x + length], [y, y], color="white", linewidth=2, solid_capstyle="butt")
    ax.text(x, y + 0.012 * high, f"{length:g} mm", color="white", fontsize=8, va="bottom")


def _show(ax: Axes, plane: Plane, pixels: Pixels) -> None:
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


def _note(ax: Axes, lines: Sequence[tuple[str, object]]) -> None:
    """Lines of text, each in its colour, from the top."""
    inches = ax.get_window_extent().height / ax.figure.dpi
    for i, (text, colour) in enumerate(lines):
        ax.text(
            0.04, 1 - (0.06 + 0.19 * i) / inches, text, color=colour, fontsize=9.5, va="top",
            transform=ax.transAxes,
        )  # fmt: skip


def _draw_overlay(figure: Figure, cell: _Cell, scene: _Scene, transform: Transform) -> None:
    axes = _axes(figure, cell)
    levels = sorted(set(otsu_thresholds(scene.moving.values)))
    black_white = window(scene.fixed.values)
    for ax, plane in zip(axes, cell.planes, strict=False):
        _show(ax, plane, grey(seen(scene.fixed, plane), black_white))
        moved = np.ma.masked_invalid(seen(scene.moving, plane, transform))
        if moved.count() and moved.min() < levels[-1] and moved.max() > levels[0]:
            left, right, lower, upper = plane.extent_mm
            ax.contour(
                moved,
                levels,
                origin="lower",
                extent=(left, right, lower, upper),
                colors=["#ff9d2e"],
                linewidths=0.7,
            )
    _note(axes[-1], [("grey: fixed image", "#444444"), ("lines: moving image", "#d97706")])


def _draw_checkerboard(figure: Figure, cell: _Cell, scene: _Scene, transform: Transform) -> None:
    axes = _axes(figure, cell)
    windows = window(scene.fixed.values), window(scene.moving.values)
    for ax, plane in zip(axes, cell.planes, strict=False):
        fixed = grey(seen(scene.fixed, plane), windows[0])
        moved = grey(seen(scene.moving, plane, transform), windows[1])
        _show(ax, plane, checkerboard(fixed, moved, plane))
    dark = [tuple(0.7 * np.array(tint)) for tint in (FIXED_TINT, MOVED_TINT)]
    _note(axes[-1], [("blue squares: fixed image", dark[0]), ("orange: moving image", dark[1])])


def _draw_whole_grid(figure: Figure, cell: _Cell, scene: _Scene, height: float) -> None:
    grid = scene.fixed.grid
    affine = affine_part(scene.transform, grid)
    centre = grid.centre_mm
    planes = planes_of(scene.moving.grid, affine.forward(centre))
    cell = _Cell.fitted(planes, cell.left, cell.lower, height)
    axes = _axes(figure, cell)
    black_white = window(scene.moving.values)
    for ax, plane, flat in zip(axes, planes, planes_of(grid), strict=False):
        _show(ax, plane, 0.75 * grey(seen(scene.moving, plane), black_white))
        lines = flat.lines_mm(max(flat.size_mm) / 12)
        _draw_lines(ax, plane, [scene.transform.forward(line) for line in lines], 0.8)
    shift_mm = float((affine.forward(centre) - centre).norm())
    volume = float(torch.linalg.det(affine.linear_part()))
    _note(
        axes[-1],
        [
            ("grey: moving image, as it is", "#444444"),
            ("lines: the fixed image's grid", "#0e8f86"),
            (f"turned by {turn_deg(affine):.1f}°", "#0e8f86"),
            (f"shifted by {shift_mm:.1f} mm", "#0e8f86"),
            (f"volume × {volume:.2f}", "#0e8f86"),
        ],
    )


def _draw_deformation(figure: Figure, cell: _Cell, scene: _Scene) -> None:
    axes = _axes(figure, cell)
    rest = Chain((scene.transform, affine_part(scene.transform, scene.fixed.grid).inverse()))
    black_white = window(scene.fixed.values)
    for ax, plane in zip(axes, cell.planes, strict=False):
        _show(ax, plane, 0.75 * grey(seen(scene.fixed, plane), black_white))
        lines = plane.lines_mm(max(plane.size_mm) / 30)
        _draw_lines(ax, plane, [rest.forward(line) for line in lines], 0.6)
    points = scene.fixed.grid.coarsened(8.0).points_mm()
    moved_mm = (rest.forward(points) - points).norm(dim=-1)
    _note(
        axes[-1],
        [
            ("grey: fixed image", "#444444"),
            ("lines: its grid, deformed", "#0e8f86"),
            (f"mean {float(moved_mm.mean()):.1f} mm", "#0e8f86"),
            (f"most {float(moved_mm.max()):.1f} mm", "#0e8f86"),
        ],
    )


def _draw_lines(ax: Axes, plane: Plane, lines: Sequence[Tensor], width: float) -> None:
    from matplotlib.collections import LineCollection

    segments = [line[:, list(plane.axes)].numpy() for line in lines]
    ax.add_collection(
        LineCollection(segments, colors="#2fd6c9", linewidths=width, alpha=0.9), autolim=False
    )
