"""The planes of a page: pictures as data URIs, lines as SVG paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stn3d.io import Image
from stn3d.length_unit import length_text
from stn3d.report.case import ReportCase
from stn3d.report.colours import DIVERGING, SEQUENTIAL
from stn3d.report.encoding import colour_map_uri, picture_uri, stencil_uri
from stn3d.report.planes import SIDES, Plane, round_length
from stn3d.report.views import Region, View, When

_ORANGE, _BLUE, _RED, _DARK = (255, 154, 31), (95, 180, 238), (255, 92, 122), (12, 16, 20)
_WHENS: tuple[When, When] = ("before", "after")
_TILES = 8  # of a checkerboard along the longer side
_FEW_PIXELS = 160  # planes with fewer are shown as pixels
_FEW_LABELS = 12  # more of them hide the images
_RAMP = np.linspace(0, 1, 256)[None]
_LOG_JACOBIAN = 0.15  # smallest end of its colour bar


def planes_content(case: ReportCase, views: Sequence[View]) -> dict[str, Any]:
    """Everything on a page that shows planes.

    Returns:
        ``planes``: pictures and lines of each; ``overlays`` and ``key``: what may lie over them;
        ``maps``: those of the deformation, unless the transform is linear, and of the expected
        error, if it was estimated, with their colour bars; ``data``: the positions of the planes,
        for the script.
    """
    maps = [*(_fields(views) if case.is_deformable else ())]
    if case.uncertainty is not None:
        maps.append(_errors(views, case.uncertainty, case.most_expected_mm))
    planes = [_plane(view, case) for view in views]
    for n, plane in enumerate(planes):
        if maps:
            plane |= {one["name"]: one["planes"][n] for one in maps if one["bar"]}
            plane["fixed_edges"] = stencil_uri(views[n].fixed_edges(), _DARK)
        if case.is_deformable:
            plane["grid"] = _path(views[n].grid_lines(), views[n].plane)
    kinds = {kind for plane in planes for kind, _, _ in plane["outlines"]}
    few = len(case.metrics["after"].get("labels") or ()) <= _FEW_LABELS
    known = (("labels", "Labels", few), ("regions", "Masks", True))
    overlays = [one for one in known if one[0] in kinds]
    key = []
    if "labels" in kinds:
        key += [("#5fb4ee", "labels of the fixed image"), ("#ff9a1f", "of the moving image")]
    if "regions" in kinds:
        key += [("#ff5c7a", "masks and excluded regions")]
    if any(plane["landmarks"] for plane in planes):
        overlays.append(("landmarks", "Landmarks", True))
        key.append(("#5fb4ee", "landmarks: fixed blue, moving orange; faint away from the plane"))
    return {
        "planes": planes,
        "overlays": overlays,
        "key": key,
        "maps": maps,
        "data": [_position(view.plane) for view in views],
    }


def _plane(view: View, case: ReportCase) -> dict[str, Any]:
    plane = view.plane
    (wide, high), longest = plane.size_mm, max(plane.size_mm)
    bar_mm = round_length(0.3 * wide)
    found = {
        "name": plane.name,
        "width": round(wide, 4),
        "height": round(high, 4),
        "tile": f"{200 * longest / _TILES / wide:.3f}% {200 * longest / _TILES / high:.3f}%",
        "pixelated": max(plane.shape) < _FEW_PIXELS,
        "coloured": case.fixed.colours is not None or case.moving.colours is not None,
        "fixed": picture_uri(view.fixed),
        "edges": {when: stencil_uri(view.edges(when), _ORANGE) for when in _WHENS},
        "outlines": _outlines(view),
        "landmarks": _landmarks(view),
        "stroke": round(longest / 300, 4),
        "dot": round(longest / 60, 4),
        "sides": _sides(plane),
        "bar_pct": round(100 * bar_mm / wide, 2),
        "bar_text": f"{bar_mm:g} mm",
        "caption": _caption(plane, case),
    }
    return found | {when: picture_uri(view.moved(when)) for when in _WHENS}


def _outlines(view: View) -> list[tuple[str, str, str]]:
    """Class names of an overlay and its picture."""
    found = []
    known: tuple[tuple[str, Region], ...]
    known = (("labels", "labels"), ("regions", "mask"), ("regions", "exclude"))
    for kind, region in known:
        for which, lines in view.outlines(region).items():
            colour = _RED if kind == "regions" else _BLUE if which == "fixed" else _ORANGE
            found.append((kind, which, stencil_uri(lines, colour)))
    return found


def _landmarks(view: View) -> list[dict[str, Any]]:
    """Landmarks in the coordinates of the plane's SVG."""
    left, lower = view.plane.low_mm
    high = view.plane.size_mm[1]

    def place(at: Sequence[float]) -> tuple[float, float]:
        return round(at[0] - left, 3), round(lower + high - at[1], 3)

    return [
        {
            "fixed": place(mark.fixed),
            "before": place(mark.before),
            "after": place(mark.after),
            "nearness": round(mark.nearness, 3),
        }
        for mark in view.landmarks()
    ]


def _sides(plane: Plane) -> dict[str, str]:
    if plane.name == "image":
        return {}
    (west, east), (south, north) = (SIDES[axis] for axis in plane.axes)
    return {"w": west, "e": east, "s": south, "n": north}


def _caption(plane: Plane, case: ReportCase) -> str:
    if plane.name == "image":
        return f"x right, y up; {plane.size_mm[0]:.4g} x {plane.size_mm[1]:.4g} mm"
    (across,) = (axis for axis in range(3) if axis not in plane.axes)
    rounded = round(float(plane.at_mm[across]), case.decimals) + 0.0
    return f"{plane.name}, {'xyz'[across]} = {rounded:.{case.decimals}f} mm"


def _position(plane: Plane) -> dict[str, Any]:
    return {
        "axes": list(plane.axes),
        "at_mm": plane.at_mm.tolist(),
        "low_mm": list(plane.low_mm),
        "size_mm": list(plane.size_mm),
    }


def _fields(views: Sequence[View]) -> list[dict[str, Any]]:
    """Maps of the deformation; all planes have the same colours."""
    lengths, logarithms = zip(*(view.deformation for view in views), strict=True)
    largest = max(float(one.max()) for one in lengths)
    inside = np.abs(np.concatenate([one.ravel() for one in logarithms]))
    inside = inside[np.isfinite(inside)]
    end = max(float(np.percentile(inside, 99.5)) if inside.size else 0.0, _LOG_JACOBIAN)
    grid, displacement, jacobian = _bars(largest, end)
    scale = max(largest, 1e-12)
    displacement["planes"] = [colour_map_uri(one / scale, SEQUENTIAL) for one in lengths]
    jacobian["planes"] = [colour_map_uri(_diverging(one, end), DIVERGING) for one in logarithms]
    return [grid, displacement, jacobian]


def _errors(views: Sequence[View], uncertainty: Image, most_mm: float) -> dict[str, Any]:
    """The map of the expected error."""
    errors, end = [view.expected_error(uncertainty) for view in views], max(most_mm, 1e-12)
    return {
        "name": "error",
        "label": "Expected error",
        "title": "expected error",
        "planes": [colour_map_uri(one / end, SEQUENTIAL) for one in errors],
        "bar": colour_map_uri(_RAMP, SEQUENTIAL),
        "low": "0",
        "high": f"{length_text(end, 1)} mm",
        "text": "Registration error that is expected at each point; darkest where nothing is "
        "known. Dark lines are contours of the fixed image.",
    }


def _diverging(logarithm: NDArray[np.float64], end: float) -> NDArray[np.float64]:
    """From 0 to 1 with 0.5 for no change; folded points are at the end of compression."""
    return np.nan_to_num((logarithm / end + 1) / 2, nan=0.0)


def _bars(largest_mm: float, end: float) -> list[dict[str, Any]]:
    return [
        {
            "name": "grid",
            "label": "Grid",
            "title": "deformed grid",
            "bar": "",
            "text": "A regular grid after the deformation, with the affine part removed.",
        },
        {
            "name": "displacement",
            "label": "Displacement",
            "title": "displacement",
            "bar": colour_map_uri(_RAMP, SEQUENTIAL),
            "low": "0",
            "high": f"{length_text(largest_mm, 1)} mm",
            "text": "Length of the displacement, with the affine part removed; dark lines are "
            "contours of the fixed image.",
        },
        {
            "name": "jacobian",
            "label": "Log-Jacobian",
            "title": "log-Jacobian",
            "bar": colour_map_uri(_RAMP, DIVERGING),
            "low": f"{-end:.2f}",
            "high": f"+{end:.2f}",
            "text": "Logarithm of the Jacobian determinant from fixed to moving, affine part "
            "included: above 0 the moving image is larger there, below 0 smaller.",
        },
    ]


def _path(lines: Sequence[Tensor], plane: Plane) -> str:
    """Lines as an SVG path in mm from the upper left corner."""
    left, lower = plane.low_mm
    high = plane.size_mm[1]
    digits = max(0, 2 - int(np.floor(np.log10(max(plane.size_mm)))) + 1)
    parts = []
    for line in lines:
        xy = line.numpy()
        flat = np.round(np.stack([xy[:, 0] - left, lower + high - xy[:, 1]], axis=1), digits)
        parts.append("M" + "L".join(f"{x:g},{y:g}" for x, y in flat.tolist()))
    return "".join(parts)
