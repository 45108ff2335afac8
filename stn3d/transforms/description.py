"""Decomposition of a linear transform into rotation, translation, scales and shears.

Convention: ``y = A (x - c) + c + t`` maps fixed points x to moving points y, world RAS+ mm, with
``A = R diag(scales) U``: shears first, then scales, then the rotation. U is upper triangular with
ones on its diagonal. In 3D ``R = Rz Ry Rx`` (first about x, then y, then z, about fixed axes;
scipy's ``xyz``, ITK's ``Euler3DTransform`` with ``ComputeZYX``). Positive angles rotate
counter-clockwise as seen from the axis' positive end. A reflection is a negative first scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stn3d.transforms.linear import Linear

AXES = {"x": "left-right", "y": "posterior-anterior", "z": "inferior-superior"}
"""Anatomical directions of the RAS+ axes."""

_NOISE_MM = 1e-6  # smaller translations are rounding errors
_UNCHANGED = 1e-6  # smaller differences of scales from 1 and shears from 0 are not printed


@dataclass(frozen=True)
class LinearParameters:
    """Parameters of a linear transform, in the convention of this module.

    Args:
        centre_mm: centre of rotation, scaling and shearing, by axis.
        rotation_deg: rotation about each axis, in degrees; in 2D about z.
        translation_mm: displacement of the centre, by axis.
        scales: scale along each axis.
        shears: shears ``xy``, ``xz``, ``yz``: displacement along the first axis per mm along the
            second.
    """

    centre_mm: dict[str, float]
    rotation_deg: dict[str, float]
    translation_mm: dict[str, float]
    scales: dict[str, float]
    shears: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "centre_mm": self.centre_mm,
            "rotation_deg": self.rotation_deg,
            "translation_mm": self.translation_mm,
            "scales": self.scales,
            "shears": self.shears,
        }

    def lines(self) -> list[str]:
        """One line of text per group of parameters; scales of 1 and shears of 0 are omitted."""
        form = _length_form(self.centre_mm, ".1f")
        centre = ", ".join(format(value, form) for value in self.centre_mm.values())
        form = _length_form(self.translation_mm, ".3f")
        lines = [
            f"rotation, degrees: {_listed(self.rotation_deg, '.3f', AXES)}",
            f"translation, mm: {_listed(self.translation_mm, form)}, of the centre ({centre})",
        ]
        if any(abs(value - 1) > _UNCHANGED for value in self.scales.values()):
            lines.append(f"scale: {_listed(self.scales, '.4f')}")
        if any(abs(value) > _UNCHANGED for value in self.shears.values()):
            lines.append(f"shear: {_listed(self.shears, '.4f')}")
        return lines


def describe_linear(transform: Linear) -> LinearParameters:
    """Decompose a linear transform into rotation, translation, scales and shears.

    Args:
        transform: a single linear transform.

    Returns:
        Its parameters about its own centre.

    Raises:
        ValueError: the transform is a batch, or singular.
    """
    linear = transform.linear_part().detach().cpu().double()
    if linear.ndim != 2:
        raise ValueError(f"a batch of {len(linear)} transforms has no one set of parameters.")
    rotation, scales, shears = _decomposed(linear)
    names = "xyz"[: transform.ndim]
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    return LinearParameters(
        centre_mm=_by_axis(transform.centre_mm, names),
        rotation_deg=_angles_deg(rotation),
        translation_mm=_by_axis(transform.translation_mm, names),
        scales=_by_axis(scales, names),
        shears={names[i] + names[j]: float(shears[i, j]) for i, j in pairs},
    )


def _decomposed(linear: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation ``(d, d)``, scales ``(d,)`` and unit upper triangular shears ``(d, d)``."""
    rotation, upper = torch.linalg.qr(linear)
    if bool((upper.diagonal() == 0).any()):
        raise ValueError("the linear transform is singular; it has no scales.")
    signs = upper.diagonal().sign()
    if float(torch.linalg.det(rotation * signs)) < 0:
        signs[0] = -signs[0]
    rotation, upper = rotation * signs, signs[:, None] * upper
    scales = upper.diagonal()
    return rotation, scales, upper / scales[:, None]


def _angles_deg(rotation: Tensor) -> dict[str, float]:
    """Angles about x, y and z of ``Rz Ry Rx``; in 2D the angle about z. In gimbal lock (y = 90
    degrees) the angle about z is 0."""
    r = rotation.tolist()
    if len(r) == 2:
        return {"z": math.degrees(math.atan2(r[1][0], r[0][0]))}
    cosine = math.hypot(r[0][0], r[1][0])
    y = math.atan2(-r[2][0], cosine)
    if cosine < 1e-9:
        x, z = math.atan2(-r[1][2], r[1][1]), 0.0
    else:
        x, z = math.atan2(r[2][1], r[2][2]), math.atan2(r[1][0], r[0][0])
    return {axis: math.degrees(angle) for axis, angle in zip("xyz", (x, y, z), strict=True)}


def _by_axis(values: Tensor, names: str) -> dict[str, float]:
    return dict(zip(names, values.detach().cpu().double().tolist(), strict=True))


def _length_form(values: dict[str, float], form: str) -> str:
    """The format of lengths; significant digits where its decimals would hide them."""
    largest, decimals = max(abs(value) for value in values.values()), int(form[1:-1])
    return ".3g" if _NOISE_MM < largest < 10.0 ** (1 - decimals) else form


def _listed(values: dict[str, float], form: str, meanings: dict[str, str] | None = None) -> str:
    """``x 1.000 (left-right), y 2.000 (posterior-anterior)``."""
    meanings = meanings or {}
    return ", ".join(
        f"{name} {format(round(value, 9) + 0, form)}"
        + (f" ({meanings[name]})" if name in meanings else "")
        for name, value in values.items()
    )
