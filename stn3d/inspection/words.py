"""Numbers, positions, axes and quality in words; values of JSON that may be of any type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np

from stn3d.errors import shown
from stn3d.grid import Grid

_DIRECTIONS = {
    "R": "right",
    "L": "left",
    "A": "anterior",
    "P": "posterior",
    "S": "superior",
    "I": "inferior",
}
_LONGEST = 1000  # characters of a text
_LARGEST = 1e300  # of numbers; JSON has no limit


def number(value: float) -> str:
    """Four significant digits at most, without an exponent for common lengths."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def sizes(values: Sequence[float], unit: str = "") -> str:
    """``2 x 2 x 3 mm``."""
    text = " x ".join(number(value) for value in values)
    return f"{text} {unit}".rstrip()


def position(point_mm: Sequence[float]) -> str:
    """``(12.0, -34.5, 5.0)``; more digits for small objects."""
    digits = 1 if max(map(abs, point_mm), default=0) >= 1 else 4
    return f"({', '.join(f'{round(x, digits) + 0:.{digits}f}' for x in point_mm)})"


def orientation(grid: Grid) -> str:
    """Code of the closest anatomical axes, such as ``RAS``; in 2D of the world's x and y."""
    d = grid.ndim
    matrix = np.eye(4)
    matrix[:d, :d], matrix[:d, 3] = (
        grid.world_from_index[:d, :d].numpy(),
        grid.world_from_index[:d, d].numpy(),
    )
    return "".join(code or "?" for code in nib.aff2axcodes(matrix)[:d])


def directions(code: str) -> str:
    """``right, anterior, superior`` for ``RAS``."""
    return ", ".join(_DIRECTIONS.get(letter, letter) for letter in code)


def obliqueness_deg(grid: Grid) -> float:
    """Largest angle between an axis of the grid and the closest world axis, in degrees."""
    d = grid.ndim
    axes = grid.world_from_index[:d, :d].numpy()
    cosines = np.abs(axes / np.linalg.norm(axes, axis=0)).max(axis=0)
    return float(np.degrees(np.arccos(np.clip(cosines, 0, 1))).max())


def shear_deg(grid: Grid) -> float:
    """Largest deviation of two axes of the grid from a right angle, in degrees."""
    d = grid.ndim
    axes = grid.world_from_index[:d, :d].numpy()
    cosines = axes / np.linalg.norm(axes, axis=0)
    products = np.abs(cosines.T @ cosines - np.eye(d)).max()
    return float(np.degrees(np.arcsin(np.clip(products, 0, 1))))


def number_of(value: Any) -> float | None:
    """A value of JSON as a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    found = float(value) if abs(value) < _LARGEST else math.inf
    return found if math.isfinite(found) else None


def text_of(value: Any) -> str:
    """A value of JSON as a text of one line."""
    return " ".join(value.split())[:_LONGEST] if isinstance(value, str) else shown(value)


def mapping_of(value: Any) -> Mapping[str, Any]:
    """A value of JSON, if it is an object; else an empty one."""
    return value if isinstance(value, Mapping) else {}


def list_of(value: Any) -> Sequence[Any]:
    """A value of JSON, if it is a list; else an empty one."""
    return value if isinstance(value, list) else []


def quality_lines(quality: Mapping[str, Any], meanings: Mapping[str, str]) -> list[str]:
    """The quality status with its reason, suggestion and warnings; none without a status.

    Args:
        quality: `quality` of a metrics.json or volumes.json.
        meanings: what each status means.
    """
    if not quality:
        return []
    status = text_of(quality.get("status"))
    lines = [f"quality: {status}, {meanings.get(status, 'an unknown status')}"]
    for key in ("reason", "suggestion"):
        if quality.get(key):
            lines.append(f"   {key}: {text_of(quality[key])}")
    return lines + [f"   warning: {text_of(one)}" for one in list_of(quality.get("warnings"))]
