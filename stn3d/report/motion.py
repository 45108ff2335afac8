"""The page of a motion-corrected series: its motion as a plot, and its metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from markupsafe import Markup

from stn3d.report.page.render import rendered

_COLOURS = ("#3f86bd", "#d9771a", "#159a8e")
_LEFT, _WIDTH, _HEIGHT, _GAP = 56.0, 900.0, 120.0, 46.0
_NAMES = {"x": "x, right", "y": "y, anterior", "z": "z, superior"}


@dataclass(frozen=True)
class MotionCurves:
    """The motion of the volumes of a series.

    Args:
        rotation_deg: rotation about each axis, by the axis' name.
        translation_mm: translation along each axis, by its name.
        displacement_mm: framewise displacement.
    """

    rotation_deg: Mapping[str, Sequence[float]]
    translation_mm: Mapping[str, Sequence[float]]
    displacement_mm: Sequence[float]


def motion_plot(curves: MotionCurves) -> str:
    """Rotation, translation and framewise displacement by volume, as SVG."""
    return _plot(curves, standalone=True)


def series_html(curves: MotionCurves, metrics: Mapping[str, Any]) -> str:
    """The page of a motion-corrected series.

    Args:
        curves: its motion.
        metrics: content of metrics.json.
    """
    motion, seconds = metrics["motion"], sum(metrics["timings_s"].values())
    rows = [
        ("Correlation with the reference, mean", _change(metrics, "correlation")),
        ("Framewise displacement, mean", f"{motion['framewise_displacement_mean_mm']:.3f} mm"),
        ("Framewise displacement, largest", f"{motion['framewise_displacement_max_mm']:.3f} mm"),
        ("Rotation, largest", f"{motion['rotation_max_deg']:.3f}\N{DEGREE SIGN}"),
        ("Translation, largest", f"{motion['translation_max_mm']:.3f} mm"),
        ("Radius of rotations in the displacement", f"{motion['rotation_radius_mm']:g} mm"),
    ]
    largest = sorted(range(len(curves.displacement_mm)), key=lambda n: -curves.displacement_mm[n])
    content = {
        "name": PurePath(str(metrics["series"]["name"])).name,
        "count": len(curves.displacement_mm),
        "seconds": f"{seconds:.1f}",
        "plot": Markup(_plot(curves, standalone=False)),
        "rows": rows,
        "volumes": [(n, f"{curves.displacement_mm[n]:.3f}") for n in largest[:10]],
        "settings": [(key, str(value)) for key, value in metrics["settings"].items()],
        "versions": list(metrics["versions"].items()),
    }
    return rendered("series.html.j2", content, [])


def _change(metrics: Mapping[str, Any], key: str) -> str:
    before, after = (metrics[when][key] for when in ("before", "after"))
    return f"{before:.4f} before, {after:.4f} after"


def _plot(curves: MotionCurves, *, standalone: bool) -> str:
    panels = [
        ("Rotation, degrees", curves.rotation_deg),
        ("Translation, mm", curves.translation_mm),
        ("Framewise displacement, mm", {"": curves.displacement_mm}),
    ]
    high = len(panels) * (_HEIGHT + _GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 12:g} {high:g}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img" '
        'aria-label="Motion by volume">'
    ]
    if standalone:
        parts.append('<rect width="100%" height="100%" fill="white"/>')
    ink = "#444444" if standalone else "currentColor"
    for number, (title, lines) in enumerate(panels):
        parts += _panel(30 + number * (_HEIGHT + _GAP), title, lines, ink)
    parts.append(
        f'<text x="{_LEFT + _WIDTH}" y="{high - 6:g}" text-anchor="end" fill="{ink}">volume 0 to '
        f"{len(curves.displacement_mm) - 1}</text></svg>"
    )
    return "".join(parts)


def _panel(top: float, title: str, lines: Mapping[str, Sequence[float]], ink: str) -> list[str]:
    """One plot with its title, its scale and its legend."""
    values = [value for line in lines.values() for value in line]
    low, high = min(0.0, *values), max(0.0, *values)
    step = _step(high - low)
    low, high = math.floor(low / step) * step, max(math.ceil(high / step) * step, step)

    def at(value: float) -> float:
        return round(top + _HEIGHT * (high - value) / (high - low), 2)

    parts = [f'<text x="0" y="{top - 10:g}" font-weight="600" fill="{ink}">{title}</text>']
    for tick in range(round(low / step), round(high / step) + 1):
        y, strength = at(tick * step), 0.45 if tick == 0 else 0.16
        parts.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y}" y2="{y}" stroke="{ink}" '
            f'stroke-opacity="{strength}"/><text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end" '
            f'fill="{ink}">{tick * step + 0.0:.6g}</text>'
        )
    for (name, line), colour in zip(lines.items(), _COLOURS, strict=False):
        wide = _WIDTH / max(1, len(line) - 1)
        points = " ".join(f"{_LEFT + n * wide:.2f},{at(value):g}" for n, value in enumerate(line))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
        )
        if name:
            x = _LEFT + _WIDTH - 110 * (len(lines) - list(lines).index(name)) + 20
            parts.append(
                f'<rect x="{x}" y="{top - 17:g}" width="14" height="4" fill="{colour}"/>'
                f'<text x="{x + 20}" y="{top - 10:g}" fill="{ink}">{_NAMES[name]}</text>'
            )
    return parts


def _step(span: float) -> float:
    """A round distance of grid lines, about three over a span."""
    raw = max(span, 1e-6) / 3
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
