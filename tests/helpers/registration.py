"""Registrations of a known pair, with further data on either side."""

from __future__ import annotations

from typing import Any

from stn3d import RegistrationImage


def sides(sources: Any, **data: Any) -> tuple[RegistrationImage, RegistrationImage]:
    """Both sides of a registration.

    Args:
        sources: the fixed and the moving image.
        **data: fields of `RegistrationImage`, each a pair of values, the fixed side's first.
    """
    fixed = {name: values[0] for name, values in data.items()}
    moving = {name: values[1] for name, values in data.items()}
    return RegistrationImage(sources[0], **fixed), RegistrationImage(sources[1], **moving)


def one_sided(side: str, value: Any) -> tuple[Any, Any]:
    """A value for one side, None for the other."""
    return (value, None) if side == "fixed" else (None, value)
