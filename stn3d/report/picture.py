"""A picture of a registration: overlay, checkerboard and grid, before and after.

All panels are in fixed space except one: the fixed grid mapped into the moving image.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from stn3d.errors import InputError
from stn3d.io import Image, atomic_write, check_output
from stn3d.length_unit import length_text
from stn3d.preprocessing.intensity import limits
from stn3d.registration.inputs import LoadedImage, LoadedPair
from stn3d.report.case import ReportCase
from stn3d.report.layout import (
    BLUE,
    CAPTION,
    CELL,
    CONTOUR_COLOUR,
    GAP,
    HEAD,
    HEADING,
    INK,
    MARGIN,
    ORANGE,
    TEAL,
    Canvas,
    Panel,
    Tile,
    span_mm,
)
from stn3d.report.planes import (
    brightness,
    checkerboard,
    image_on_plane,
    mapped_lines,
    planes_of,
    rotation_angle_deg,
)
from stn3d.report.views import View, When, views_of
from stn3d.transforms import Chain, Transform

SUFFIXES = (".png", ".jpg", ".pdf")

_THUMBNAIL = "stn3d thumbnail"
_THUMBNAIL_HEIGHT = 84

Lines = Sequence[str]


def save_picture(
    path: str | os.PathLike[str],
    fixed: Image,
    moving: Image,
    transform: Transform,
    title: str = "",
    metrics: tuple[Lines, Lines] = ((), ()),
) -> None:
    """Save a picture of a pair before and after a transform; see `picture_of`.

    Args:
        path: ``.png``, ``.jpg`` or ``.pdf``.
        fixed: the fixed image.
        moving: the moving image, not warped.
        transform: fixed points to moving points.
        title: title of the picture.
        metrics: lines of text beside the overlays, before and after.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"cannot draw {path}: the file name must end in one of {', '.join(SUFFIXES)}."
        )
    check_output(path)
    inputs = LoadedPair(LoadedImage("fixed", fixed), LoadedImage("moving", moving))
    views = views_of(ReportCase(inputs, transform, {}))
    with atomic_write(path) as part:
        write_picture(part, picture_of(views, title, metrics), path.suffix)


def write_picture(
    path: Path, picture: Pillow.Image, suffix: str = ".png", thumbnail: bytes = b""
) -> None:
    """Write a picture; equal PNG pictures are equal bytes.

    Args:
        path: the file.
        picture: the picture.
        suffix: ``.png``, ``.jpg`` or ``.pdf``.
        thumbnail: of `thumbnail_of`, stored in a PNG for the index of many registrations.
    """
    kind = {".png": "PNG", ".jpg": "JPEG", ".pdf": "PDF"}[suffix.lower()]
    options: dict[str, Any] = {"PNG": {"compress_level": 3}, "JPEG": {"quality": 92}}.get(kind, {})
    if kind == "PNG" and thumbnail:
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text(_THUMBNAIL, base64.b64encode(thumbnail).decode("ascii"))
    picture.save(path, kind, **options)


def thumbnail_of(views: Sequence[View]) -> bytes:
    """The fixed image with contours of the moved image, all planes in a row, as WebP."""
    high = max(view.plane.size_mm[1] for view in views)
    tiles = []
    for view in views:
        size = [max(1, round(_THUMBNAIL_HEIGHT * mm / high)) for mm in view.plane.size_mm]
        drawn = Tile(view.plane, (size[0], size[1]), view.fixed)
        drawn.stencil(0.8 * view.edges("after"), CONTOUR_COLOUR)
        tiles.append(drawn.reduced())
    row = Pillow.new("RGB", (sum(tile.width for tile in tiles), _THUMBNAIL_HEIGHT))
    left = 0
    for tile in tiles:
        row.paste(tile, (left, (_THUMBNAIL_HEIGHT - tile.height) // 2))
        left += tile.width
    file = io.BytesIO()
    row.save(file, "WEBP", quality=62)
    return file.getvalue()


def thumbnail_in(path: Path) -> bytes | None:
    """The thumbnail that a picture holds, as WebP; None if it cannot be read."""
    try:
        with Pillow.open(path) as picture:
            text = picture.info.get(_THUMBNAIL)
            return base64.b64decode(text) if isinstance(text, str) else None
    except (OSError, ValueError, SyntaxError):  # what Pillow raises of a file that is no picture
        return None


def metric_lines(metrics: Mapping[str, Any]) -> tuple[Lines, Lines]:
    """The metrics beside the overlays, before and after.

    Args:
        metrics: content of metrics.json.
    """
    names = {"correlation": "correlation", "local_correlation": "local correlation", "dice": "Dice"}
    before, after = (
        [f"{names[k]} {metrics[when][k]:.3f}" for k in names if metrics[when].get(k) is not None]
        for when in ("before", "after")
    )
    return before, [*after, f"quality: {metrics['quality']['status']}"]


def picture_of(
    views: Sequence[View], title: str = "", metrics: tuple[Lines, Lines] = ((), ())
) -> Pillow.Image:
    """A picture of a pair before and after a transform.

    Rows: before (positions from the headers) and after. Columns: the fixed image with contours of
    the moving image; a checkerboard of both; the fixed grid mapped into the moving image (upper
    row) and the deformed grid without the affine part (lower row).

    Args:
        views: the planes.
        title: title of the picture.
        metrics: lines of text beside the overlays, before and after.
    """
    planes = [view.plane for view in views]
    wide, high = span_mm(planes)
    height = round(min(CELL * high / wide, 1.15 * CELL))
    row = height + HEADING + (CAPTION if len(planes) == 1 else 0)
    head = 40 if title else 0
    canvas = Canvas((3 * CELL + 2 * GAP + 2 * MARGIN, 2 * row + GAP + 2 * MARGIN + head))
    if title:
        canvas.write((MARGIN, MARGIN), title, 22, HEAD)
    lefts = [MARGIN + (CELL + GAP) * i for i in range(3)]
    whens: tuple[When, When] = ("before", "after")
    for number, when in enumerate(whens):
        top = MARGIN + head + HEADING + (row + GAP) * number
        panels = [Panel.fitted(planes, left, top, height) for left in lefts]
        word = when.capitalize()
        heads = [f"{word}: fixed image, moving contours", f"{word}: checkerboard"]
        _draw_overlay(canvas, panels[0], views, when, metrics[number])
        _draw_checkerboard(canvas, panels[1], views, when)
        if when == "after":
            heads.append("Deformable part (affine part removed)")
            _draw_deformation(canvas, panels[2], views)
        else:
            heads.append("Fixed grid mapped into the moving image")
            _draw_mapped_grid(canvas, panels[2], views, height)
        for left, text in zip(lefts, heads, strict=True):
            canvas.write((left, top - HEADING + 6), text, 16, HEAD, bold=1)
    return canvas.picture


def _tiles(panel: Panel, pixels: Sequence[NDArray[np.float64]]) -> list[Tile]:
    boxes = panel.boxes()[:-1]
    return [
        Tile(plane, box[2:], values)
        for plane, box, values in zip(panel.planes, boxes, pixels, strict=True)
    ]


def _draw_overlay(
    canvas: Canvas, panel: Panel, views: Sequence[View], when: When, metrics: Lines
) -> None:
    tiles = _tiles(panel, [0.8 * view.fixed for view in views])
    for tile, view in zip(tiles, views, strict=True):
        tile.stencil(view.edges(when), CONTOUR_COLOUR)
    lines = [("greyscale: fixed image", INK), ("orange lines: moving image contours", ORANGE)]
    canvas.panel(panel, tiles, lines + [(text, INK) for text in metrics])


def _draw_checkerboard(canvas: Canvas, panel: Panel, views: Sequence[View], when: When) -> None:
    boards = [
        checkerboard(_grey(view.fixed), _grey(view.moved(when)), view.plane) for view in views
    ]
    lines = [("blue squares: fixed image", BLUE), ("orange squares: moving image", ORANGE)]
    canvas.panel(panel, _tiles(panel, boards), lines)


def _grey(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    return pixels if pixels.ndim == 2 else pixels.mean(axis=-1)


def _draw_mapped_grid(canvas: Canvas, panel: Panel, views: Sequence[View], height: int) -> None:
    case = views[0].case
    affine, centre = case.affine, case.fixed.grid.centre_mm
    planes = planes_of(case.moving.grid, affine.forward(centre))
    flats = [view.plane for view in views]
    if len(planes) != len(flats):  # a slice and a volume
        names = [flat.name for flat in flats]
        planes = [plane for plane in planes if plane.name in names] or planes
        flats = [flat for flat in flats if flat.name in [plane.name for plane in planes]]
        planes = planes[: len(flats)]
    panel = Panel.fitted(planes, panel.left, panel.top, height)
    window = limits(case.moving.values)
    shown = [0.7 * brightness(image_on_plane(case.moving, plane), window) for plane in planes]
    tiles = _tiles(panel, shown)
    for tile, flat in zip(tiles, flats, strict=True):
        lines = flat.lines_mm(max(flat.size_mm) / 12, samples_per_step=6)
        tile.lines(mapped_lines(lines, case.transform), None)
    shift_mm = float((affine.forward(centre) - centre).norm())
    volume = float(torch.linalg.det(affine.linear_part()))
    text = [
        ("greyscale: moving image", INK),
        ("lines: fixed grid, transformed", TEAL),
        (f"rotation {rotation_angle_deg(affine):.1f}°", INK),
        (f"translation of the centre {length_text(shift_mm, 1)} mm", INK),
        (f"volume change {100 * (volume - 1):+.0f} %", INK),
    ]
    canvas.panel(panel, tiles, text)


def _draw_deformation(canvas: Canvas, panel: Panel, views: Sequence[View]) -> None:
    case = views[0].case
    rest = Chain((case.transform, case.affine.inverse()))
    straight = [plane.lines_mm(max(plane.size_mm) / 26, 5) for plane in panel.planes]
    bent = [mapped_lines(lines, rest) for lines in straight]
    lengths = [
        [(b - a).norm(dim=-1) for a, b in zip(*pair, strict=True)]
        for pair in zip(straight, bent, strict=True)
    ]
    largest_mm = max(float(length.max()) for of_plane in lengths for length in of_plane)
    # Below a hundred-thousandth of the image everything has the first colour.
    scale = 1 / max(largest_mm, 1e-5 * max(max(plane.size_mm) for plane in panel.planes))
    tiles = _tiles(panel, [0.5 * view.fixed for view in views])
    for number, tile in enumerate(tiles):
        tile.lines(bent[number], [length * scale for length in lengths[number]])
    text = [
        ("greyscale: fixed image", INK),
        ("lines: deformed grid", TEAL),
        ("colour: displacement", INK),
    ]
    canvas.panel(panel, tiles, text)
    canvas.colour_bar(panel, 3, f"{length_text(largest_mm, 1)} mm")
