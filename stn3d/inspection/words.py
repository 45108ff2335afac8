"""Numbers, positions and axes in words."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np

from stn3d.grid import Grid

_DIRECTIONS = {
    "R": "right",
    "L": "left",
    "A": "anterior",
    "P": "posterior",
    "S": "superior",
    "I": "inferior",
}


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
