"""The data type in which values are stored: that of the input if it holds them all exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.errors import InputError

_INTEGERS = tuple(np.dtype(t) for t in (np.uint8, np.int16, np.int32, np.int64))
_FLOATS = tuple(np.dtype(t) for t in (np.float32, np.float64))
_OTHERS = tuple(np.dtype(t) for t in (np.int8, np.uint16, np.uint32, np.uint64))
EXACT_IN_FLOAT64 = 2**53
"""Up to here, 64-bit floats hold every whole number."""


@dataclass(frozen=True)
class Values:
    """What values a data type must hold.

    Args:
        low: smallest value.
        high: largest value.
        whole: whether all are whole numbers.
        single: whether float32 holds all exactly.
    """

    low: float
    high: float
    whole: bool
    single: bool

    @classmethod
    def of(cls, values: Tensor) -> Values:
        """The values of a tensor, finite."""
        low, high = (one.item() for one in values.aminmax())
        if not values.is_floating_point():
            exact = max(-low, high) <= 1 << 24 or bool((values.float().double() == values).all())
            return cls(low, high, True, exact)
        single = values.dtype == torch.float32 or bool((values.float() == values).all())
        return cls(low, high, bool((values == values.round()).all()), single)

    def joined(self, other: Values) -> Values:
        """Both together."""
        return Values(
            min(self.low, other.low),
            max(self.high, other.high),
            self.whole and other.whole,
            self.single and other.single,
        )

    def fit(self, dtype: np.dtype[Any]) -> bool:
        """Whether a data type holds all values exactly."""
        if dtype.kind in "ui":
            limits = np.iinfo(dtype)
            return self.whole and limits.min <= self.low and self.high <= limits.max
        if self.whole and max(-self.low, self.high) > EXACT_IN_FLOAT64:
            return False
        return self.single or dtype.itemsize > 4

    def stored_as(self, dtype: np.dtype[Any] | None = None) -> np.dtype[Any]:
        """The given data type if files can have it and it fits, else the smallest one that fits."""
        given = [dtype] if dtype is not None and dtype in (*_INTEGERS, *_FLOATS, *_OTHERS) else []
        known = [*given, *(_INTEGERS if self.whole else ()), *_FLOATS]
        return next(one for one in known if self.fit(one))


def exact(array: NDArray[Any], name: str) -> NDArray[Any]:
    """All values, in the smallest of int32, int64, float32, float64 that holds the dtype.

    Raises:
        InputError: an integer has more than 63 bits.
    """
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "u" and size == 8 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{name} holds integers of 64 bits (beyond 2^63); store smaller ones.")
    if kind in "ui":
        return array.astype(np.int64 if size + (kind == "u") > 4 else np.int32, order="C")
    if kind == "f":
        return array.astype(np.float64 if size > 4 else np.float32, order="C")
    return array
