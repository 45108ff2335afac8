"""One picture of a registration: before and after, as overlay, checkerboard and deformation grid.

Everything is drawn in the fixed image's world but for one field: the moving image with the grid
that the transform lays on it. matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stn3d.errors import InputError
from stn3d.io import Image, ImageSource, check_output, read_image, whole
from stn3d.preprocessing.intensity import limits
from stn3d.registration.result import Registration
from stn3d.report.layout import (
    BLUE,
    CAPTION,
    CELL,
    GAP,
    HEADING,
    INK,
    MARGIN,
    ORANGE,
    TEAL,
    Cell,
    axes_of,
    colour_bar,
    draw_lines,
    note,
    show,
    span_mm,
    write,
)
from stn3d.report.planes import (
    Pixels,
    Plane,
    affine_part,
    carried,
    checkerboard,
    grey,
    otsu_thresholds,
    planes_of,
    seen,
    turn_deg,
    window_within,
)
from stn3d.transforms import Affine, Chain, Transform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")

Lines = Sequence[str]


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
        registration: what `stn3d.register` returns.
        moving: the moving image that it was given.
        title: a line above the picture.
        volume: which volume of a 4D moving image.

    Raises:
        InputError: as `save_picture`, or the moving image is of no use.
    """
    image = read_image(moving, "moving", volume)
    before, after = (_told(registration.metrics[when]) for when in ("before", "after"))
    save_picture(path, registration.fixed, image, registration.transform, title, (before, after))


def _told(metrics: dict[str, Any]) -> Lines:
    """The figures that stand beside the overlay."""
    names = {"correlation": "correlation", "local_correlation": "local correlation", "dice": "Dice"}
    return [f"{names[k]} {metrics[k]:.3f}" for k in names if metrics.get(k) is not None]


def save_picture(
    path: str | os.PathLike[str],
    fixed: Image,
    moving: Image,
    transform: Transform,
    title: str = "",
    figures: tuple[Lines, Lines] = ((), ()),
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
        figures: lines of text beside the overlays, before and after.

    Raises:
        InputError: matplotlib is missing, or the file cannot be written.
    """
    require_matplotlib()
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot draw {path}: end its name in one of {', '.join(SUFFIXES)}.")
    check_output(path)
    figure = _drawn(_Scene(fixed, moving, transform), title, figures)
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

    @cached_property
    def planes(self) -> list[Plane]:
        """Through the middle of the fixed image."""
        return planes_of(self.fixed.grid)

    @cached_property
    def affine(self) -> Affine:
        """The transform's affine part."""
        return affine_part(self.transform, self.fixed.grid)

    @cached_property
    def outlines(self) -> list[float]:
        """The moving image's brightness along its outlines."""
        return sorted(set(otsu_thresholds(self.moving.values)))

    @cached_property
    def fixed_pixels(self) -> list[Pixels]:
        """The fixed image's brightness on its planes."""
        black_white = limits(self.fixed.values)
        return [grey(seen(self.fixed, plane), black_white) for plane in self.planes]

    @cached_property
    def moved_window(self) -> tuple[float, float]:
        """Black and white of the moving image where the fixed image is not dark."""
        moved = [seen(self.moving, plane, self.transform).ravel() for plane in self.planes]
        bright = np.concatenate([pixels.ravel() for pixels in self.fixed_pixels]) > 0.02
        return window_within(np.concatenate(moved), bright) or limits(self.moving.values)


def _drawn(scene: _Scene, title: str, figures: tuple[Lines, Lines]) -> Figure:
    from matplotlib.figure import Figure

    planes = scene.planes
    wide, high = span_mm(planes)
    height = min(CELL * high / wide, 1.15 * CELL)
    row = height + HEADING + (CAPTION if len(planes) == 1 else 0)
    head = 0.4 if title else 0.0
    size = (3 * CELL + 2 * GAP + 2 * MARGIN, 2 * row + GAP + 2 * MARGIN + head)
    figure = Figure(figsize=size, facecolor="white")
    if title:
        write(figure, MARGIN, size[1] - MARGIN - 0.22, title, size=16)
    lefts = [MARGIN + (CELL + GAP) * i for i in range(3)]
    lowers = [MARGIN + row - height - HEADING + (row + GAP) * i for i in (1, 0)]
    for after, lower in enumerate(lowers):
        cells = [Cell.fitted(planes, left, lower, height) for left in lefts]
        when, transform = ("After", scene.transform) if after else ("Before", scene.identity())
        heads = [f"{when}: overlay", f"{when}: checkerboard"]
        _draw_overlay(figure, cells[0], scene, transform, figures[after])
        _draw_checkerboard(figure, cells[1], scene, transform)
        if after:
            heads.append("The deformation, without the affine part")
            _draw_deformation(figure, cells[2], scene)
        else:
            heads.append("The transform, on the moving image")
            _draw_whole_grid(figure, cells[2], scene, height)
        for left, text in zip(lefts, heads, strict=True):
            write(figure, left, lower + height + 0.07, text, size=12, weight="bold")
    return figure


def _draw_overlay(
    figure: Figure, cell: Cell, scene: _Scene, transform: Transform, figures: Lines
) -> None:
    axes, notes = axes_of(figure, cell)
    levels = scene.outlines
    for ax, plane, fixed in zip(axes, cell.planes, scene.fixed_pixels, strict=True):
        show(ax, plane, 0.8 * fixed)
        moved = np.ma.masked_invalid(seen(scene.moving, plane, transform))
        if moved.count() and moved.min() < levels[-1] and moved.max() > levels[0]:
            extent = plane.extent_mm
            ax.contour(
                moved, levels, origin="lower", extent=extent, colors=["#ff9a1f"], linewidths=0.75
            )
    lines = [("grey: fixed image", INK), ("lines: outlines of the moving image", ORANGE)]
    note(notes, lines + [(text, INK) for text in figures])


def _draw_checkerboard(figure: Figure, cell: Cell, scene: _Scene, transform: Transform) -> None:
    axes, notes = axes_of(figure, cell)
    for ax, plane, fixed in zip(axes, cell.planes, scene.fixed_pixels, strict=True):
        moved = grey(seen(scene.moving, plane, transform), scene.moved_window)
        show(ax, plane, checkerboard(fixed, moved, plane))
    note(notes, [("blue squares: fixed image", BLUE), ("orange squares: moving image", ORANGE)])


def _draw_whole_grid(figure: Figure, cell: Cell, scene: _Scene, height: float) -> None:
    affine, centre = scene.affine, scene.fixed.grid.centre_mm
    planes = planes_of(scene.moving.grid, affine.forward(centre))
    cell = Cell.fitted(planes, cell.left, cell.lower, height)
    axes, notes = axes_of(figure, cell)
    black_white = limits(scene.moving.values)
    for ax, plane, flat in zip(axes, planes, scene.planes, strict=True):
        show(ax, plane, 0.7 * grey(seen(scene.moving, plane), black_white))
        lines = flat.lines_mm(max(flat.size_mm) / 12)
        draw_lines(ax, plane, carried(lines, scene.transform), None, 0.8)
    shift_mm = float((affine.forward(centre) - centre).norm())
    volume = float(torch.linalg.det(affine.linear_part()))
    lines_of_text = [
        ("grey: moving image, as it is", INK),
        ("lines: the fixed image's grid on it", TEAL),
        (f"turned by {turn_deg(affine):.1f} degrees", INK),
        (f"middle shifted by {shift_mm:.1f} mm", INK),
        (f"size changed by {100 * (volume - 1):+.0f} %", INK),
    ]
    note(notes, lines_of_text)


def _draw_deformation(figure: Figure, cell: Cell, scene: _Scene) -> None:
    axes, notes = axes_of(figure, cell)
    rest = Chain((scene.transform, scene.affine.inverse()))
    straight = [plane.lines_mm(max(plane.size_mm) / 26) for plane in cell.planes]
    bent = [carried(lines, rest) for lines in straight]
    lengths = [
        [(b - a).norm(dim=-1) for a, b in zip(*pair, strict=True)]
        for pair in zip(straight, bent, strict=True)
    ]
    most_mm = max(float(length.max()) for of_plane in lengths for length in of_plane)
    scale = 1 / max(most_mm, 1e-3)  # what is less than a micrometre stays in the first colour
    for i, (ax, plane) in enumerate(zip(axes, cell.planes, strict=True)):
        show(ax, plane, 0.5 * scene.fixed_pixels[i])
        draw_lines(ax, plane, bent[i], [length * scale for length in lengths[i]], 0.7)
    note(notes, [("grey: fixed image", INK), ("lines: its grid, deformed, by", TEAL)])
    colour_bar(figure, cell, 2, most_mm)
