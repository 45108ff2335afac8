"""Checks of settings: types and ranges, with messages that name the setting."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection
from typing import Any

from stn3d.errors import InputError, shown

_MOST = 1e6  # no number of a setting is larger; below, nothing overflows
_MOST_ITEMS = 100


def check_fields(
    instance: Any,
    prefix: str = "",
    zero_allowed: Collection[str] = (),
    skip: Collection[str] = (),
) -> None:
    """Convert the numbers of a frozen dataclass to their annotated types and check their ranges.

    A ``float`` must not be negative, an ``int`` must be at least 1, and a tuple must hold positive
    numbers, all of them up to a million; None is kept where the annotation allows it, and so is a
    default that is infinite. A ``str`` must be a text or a path, a ``bool`` true or false. Fields
    of other types are left alone.

    Args:
        instance: The dataclass, in its ``__post_init__``.
        prefix: Precedes the names of the fields in messages, such as ``linear.``.
        zero_allowed: Fields of whole numbers that may be 0.
        skip: Fields with checks of their own.

    Raises:
        InputError: A value does not fit.
    """
    for field in dataclasses.fields(instance):
        value, kind = getattr(instance, field.name), str(field.type)
        if field.name in skip or value == field.default == math.inf:
            continue
        if value is None and kind.endswith(" | None"):
            continue
        kind, name = kind.removesuffix(" | None"), prefix + field.name
        if kind == "float":
            value = _number(name, value)
        elif kind == "int":
            value = _whole_number(name, value, 0 if field.name in zero_allowed else 1)
        elif kind == "str":
            value = _text(name, value)
        elif kind == "bool":
            value = _flag(name, value)
        elif kind in ("tuple[float, ...]", "tuple[int, ...]"):
            value = _numbers(name, value, whole="int" in kind)
        object.__setattr__(instance, field.name, value)


def _number(name: str, value: Any) -> float:
    if _is_number(value) and value >= 0:
        return float(value)
    raise InputError(
        f"the setting {name} is {shown(value)}; give a number, not negative, up to {_MOST:g}."
    )


def _text(name: str, value: Any) -> str:
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    raise InputError(f"the setting {name} is {shown(value)}; give a text.")


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise InputError(f"the setting {name} is {shown(value)}; give true or false.")


def _whole_number(name: str, value: Any, least: int) -> int:
    if not _is_number(value) or not float(value).is_integer() or value < 0:
        raise InputError(
            f"the setting {name} is {shown(value)}; give a whole number, not negative, up to "
            f"{_MOST:g}."
        )
    if value < least:
        raise InputError(f"the setting {name} is {value}; give at least {least}.")
    return int(value)


def _numbers(name: str, value: Any, whole: bool) -> tuple[float, ...]:
    """Positive numbers; a single number is a list of one."""
    items = value if isinstance(value, list | tuple) else [value]
    fit = all(_is_number(v) and v > 0 and (not whole or float(v).is_integer()) for v in items)
    if 0 < len(items) <= _MOST_ITEMS and fit:
        return tuple(int(v) if whole else v for v in items)
    kind = "whole numbers" if whole else "numbers"
    raise InputError(
        f"the setting {name} is {shown(value)}; give a list of positive {kind} up to {_MOST:g}."
    )


def check_large_motion(value: str, kind: str, estimator: str) -> None:
    """Make sure that a discrete search can run where it is asked for.

    Raises:
        InputError: There is no optimiser's deformable stage to follow.
    """
    if value != "on":
        return
    if kind not in ("auto", "deformable"):
        raise InputError(
            f"--large-motion on needs a deformable registration and the kind is {kind}; "
            "use --kind deformable."
        )
    if estimator not in ("auto", "optimiser"):
        raise InputError(
            f"--large-motion on needs the optimiser and the estimator is {estimator}; "
            "use --estimator optimiser."
        )


def check_seed(seed: Any) -> None:
    """Make sure that a seed is one of torch's.

    Raises:
        InputError: it is not a whole number from 0 to 2^63 - 1.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise InputError(
            f"the setting seed is {shown(seed)}; give a whole number, not negative, below 2^63."
        )


def _is_number(value: Any) -> bool:
    """Whether a value is a number of plausible size; NaN is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST


def channel_weights(value: Any) -> tuple[float, ...] | None:
    """Channel weights from 0 upward; None where there are none.

    Raises:
        InputError: A weight is negative or not a number, or all are 0.
    """
    items = value if isinstance(value, list | tuple) else [value]
    for weight in items:
        if not (_is_number(weight) and weight >= 0):
            raise InputError(
                f"a channel weight is {shown(weight)}; give a number from 0 to {_MOST:g}."
            )
    if items and not any(items):
        raise InputError("all channel weights are 0; give one above 0.")
    return tuple(float(weight) for weight in items) or None
