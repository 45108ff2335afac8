"""A picture of a registration: overlay, checkerboard and grid, before and after.

All panels are in fixed space except one: the fixed grid mapped into the moving image. matplotlib is
imported only when a picture is drawn.
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
from stn3d.io import Image, ImageSource, atomic_write, check_output, read_image
from stn3d.length_unit import length_text
from stn3d.preprocessing.intensity import limits
from stn3d.registration.result import Registration
from stn3d.report.layout import (
    BLUE,
    CAPTION,
    CELL,
    CONTOUR_COLOUR,
    GAP,
    HEADING,
    INK,
    MARGIN,
    ORANGE,
    TEAL,
    Panel,
    axes_of,
    colour_bar,
    draw_lines,
    legend_text,
    show,
    span_mm,
    write,
)
from stn3d.report.planes import (
    Pixels,
    Plane,
    affine_part,
    brightness,
    checkerboard,
    image_on_plane,
    intensity_window,
    mapped_lines,
    otsu_thresholds,
    planes_of,
    rotation_angle_deg,
)
from stn3d.transforms import Affine, Chain, Transform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")

Lines = Sequence[str]


def require_matplotlib() -> None:
    """Check that a picture can be drawn, before any other work.

    Raises:
        InputError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise InputError(
            "pictures need matplotlib, which is not installed; run: pip install matplotlib."
        )


def save_registration_picture(
    path: str | os.PathLike[str],
    registration: Registration,
    moving: ImageSource,
    title: str = "",
    volume: int | None = None,
) -> None:
    """Save a picture of a registration; see `save_picture`.

    Args:
        path: file to write.
        registration: the result of `stn3d.register`.
        moving: the moving image of that registration.
        title: title of the picture.
        volume: volume number, for a 4D moving image.

    Raises:
        InputError: see `save_picture`; or the moving image cannot be read.
    """
    image = read_image(moving, "moving", volume)
    before, after = (_metric_lines(registration.metrics[when]) for when in ("before", "after"))
    after = [*after, f"quality: {registration.metrics['quality']['status']}"]
    save_picture(path, registration.fixed, image, registration.transform, title, (before, after))


def _metric_lines(metrics: dict[str, Any]) -> Lines:
    """The metrics beside the overlay."""
    names = {"correlation": "correlation", "local_correlation": "local correlation", "dice": "Dice"}
    return [f"{names[k]} {metrics[k]:.3f}" for k in names if metrics.get(k) is not None]


def save_picture(
    path: str | os.PathLike[str],
    fixed: Image,
    moving: Image,
    transform: Transform,
    title: str = "",
    metrics: tuple[Lines, Lines] = ((), ()),
) -> None:
    """Save a picture of a pair before and after a transform.

    Rows: before (positions from the headers) and after. Columns: the fixed image with contours of
    the moving image; a checkerboard of both; the fixed grid mapped into the moving image (upper
    row) and the deformed grid without the affine part (lower row). 3D images are shown on three
    planes through the centre, along the world axes.

    Args:
        path: ``.png``, ``.pdf`` or ``.svg``.
        fixed: the fixed image.
        moving: the moving image, not warped.
        transform: fixed points to moving points.
        title: title of the picture.
        metrics: lines of text beside the overlays, before and after.

    Raises:
        InputError: matplotlib is missing, or the file cannot be written.
    """
    require_matplotlib()
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"cannot draw {path}: the file name must end in one of {', '.join(SUFFIXES)}."
        )
    check_output(path)
    figure = _drawn(_Scene(fixed, moving, transform), title, metrics)
    # Without dates and random identifiers, equal pictures are equal bytes.
    kind = path.suffix.lower()[1:]
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    from matplotlib import rc_context

    with atomic_write(path) as part, rc_context({"svg.hashsalt": "stn3d"}):
        figure.savefig(part, format=kind, dpi=115, metadata=metadata[kind])


@dataclass(frozen=True, eq=False)
class _Scene:
    """A pair, its transform, and what several panels need."""

    fixed: Image
    moving: Image
    transform: Transform

    def identity(self) -> Transform:
        return Affine.identity(self.fixed.grid.ndim)

    @cached_property
    def planes(self) -> list[Plane]:
        """Planes through the centre of the fixed image."""
        return planes_of(self.fixed.grid)

    @cached_property
    def affine(self) -> Affine:
        """The affine transform closest to the transform."""
        return affine_part(self.transform, self.fixed.grid)

    @cached_property
    def contour_levels(self) -> list[float]:
        """Intensities of the moving image at which contours are drawn."""
        return sorted(set(otsu_thresholds(self.moving.values)))

    @cached_property
    def fixed_pixels(self) -> list[Pixels]:
        """Brightness of the fixed image on the planes."""
        window = limits(self.fixed.values)
        return [brightness(image_on_plane(self.fixed, plane), window) for plane in self.planes]

    @cached_property
    def moved_window(self) -> tuple[float, float]:
        """Intensity window of the moving image inside the foreground of the fixed image."""
        moved = [
            image_on_plane(self.moving, plane, self.transform).ravel() for plane in self.planes
        ]
        bright = np.concatenate([pixels.ravel() for pixels in self.fixed_pixels]) > 0.02
        return intensity_window(np.concatenate(moved), bright) or limits(self.moving.values)


def _drawn(scene: _Scene, title: str, metrics: tuple[Lines, Lines]) -> Figure:
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
        panels = [Panel.fitted(planes, left, lower, height) for left in lefts]
        when, transform = ("After", scene.transform) if after else ("Before", scene.identity())
        heads = [f"{when}: fixed image, moving contours", f"{when}: checkerboard"]
        _draw_overlay(figure, panels[0], scene, transform, metrics[after])
        _draw_checkerboard(figure, panels[1], scene, transform)
        if after:
            heads.append("Deformable part (affine part removed)")
            _draw_deformation(figure, panels[2], scene)
        else:
            heads.append("Fixed grid mapped into the moving image")
            _draw_mapped_grid(figure, panels[2], scene, height)
        for left, text in zip(lefts, heads, strict=True):
            write(figure, left, lower + height + 0.07, text, size=12, weight="bold")
    return figure


def _draw_overlay(
    figure: Figure, panel: Panel, scene: _Scene, transform: Transform, metrics: Lines
) -> None:
    axes, legend = axes_of(figure, panel)
    levels = scene.contour_levels
    for ax, plane, fixed in zip(axes, panel.planes, scene.fixed_pixels, strict=True):
        show(ax, plane, 0.8 * fixed)
        moved = np.ma.masked_invalid(image_on_plane(scene.moving, plane, transform))
        if moved.count() and moved.min() < levels[-1] and moved.max() > levels[0]:
            extent = plane.extent_mm
            ax.contour(
                moved,
                levels,
                origin="lower",
                extent=extent,
                colors=[CONTOUR_COLOUR],
                linewidths=0.75,
            )
    lines = [("greyscale: fixed image", INK), ("orange lines: moving image contours", ORANGE)]
    legend_text(legend, lines + [(text, INK) for text in metrics])


def _draw_checkerboard(figure: Figure, panel: Panel, scene: _Scene, transform: Transform) -> None:
    axes, legend = axes_of(figure, panel)
    for ax, plane, fixed in zip(axes, panel.planes, scene.fixed_pixels, strict=True):
        moved = brightness(image_on_plane(scene.moving, plane, transform), scene.moved_window)
        show(ax, plane, checkerboard(fixed, moved, plane))
    legend_text(
        legend, [("blue squares: fixed image", BLUE), ("orange squares: moving image", ORANGE)]
    )


def _draw_mapped_grid(figure: Figure, panel: Panel, scene: _Scene, height: float) -> None:
    affine, centre = scene.affine, scene.fixed.grid.centre_mm
    planes = planes_of(scene.moving.grid, affine.forward(centre))
    panel = Panel.fitted(planes, panel.left, panel.lower, height)
    axes, legend = axes_of(figure, panel)
    window = limits(scene.moving.values)
    for ax, plane, flat in zip(axes, planes, scene.planes, strict=True):
        show(ax, plane, 0.7 * brightness(image_on_plane(scene.moving, plane), window))
        lines = flat.lines_mm(max(flat.size_mm) / 12)
        draw_lines(ax, plane, mapped_lines(lines, scene.transform), None, 0.8)
    shift_mm = float((affine.forward(centre) - centre).norm())
    volume = float(torch.linalg.det(affine.linear_part()))
    lines_of_text = [
        ("greyscale: moving image", INK),
        ("lines: fixed grid, transformed", TEAL),
        (f"rotation {rotation_angle_deg(affine):.1f}°", INK),
        (f"translation of the centre {length_text(shift_mm, 1)} mm", INK),
        (f"volume change {100 * (volume - 1):+.0f} %", INK),
    ]
    legend_text(legend, lines_of_text)


def _draw_deformation(figure: Figure, panel: Panel, scene: _Scene) -> None:
    axes, legend = axes_of(figure, panel)
    rest = Chain((scene.transform, scene.affine.inverse()))
    straight = [plane.lines_mm(max(plane.size_mm) / 26) for plane in panel.planes]
    bent = [mapped_lines(lines, rest) for lines in straight]
    lengths = [
        [(b - a).norm(dim=-1) for a, b in zip(*pair, strict=True)]
        for pair in zip(straight, bent, strict=True)
    ]
    largest_mm = max(float(length.max()) for of_plane in lengths for length in of_plane)
    # Below a hundred-thousandth of the image everything has the first colour.
    scale = 1 / max(largest_mm, 1e-5 * max(max(plane.size_mm) for plane in panel.planes))
    for i, (ax, plane) in enumerate(zip(axes, panel.planes, strict=True)):
        show(ax, plane, 0.5 * scene.fixed_pixels[i])
        draw_lines(ax, plane, bent[i], [length * scale for length in lengths[i]], 0.7)
    legend_text(
        legend,
        [
            ("greyscale: fixed image", INK),
            ("lines: deformed grid", TEAL),
            ("colour: displacement", INK),
        ],
    )
    colour_bar(figure, panel, 3, largest_mm)
