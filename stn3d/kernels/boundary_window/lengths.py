"""Which vectors of a field are measured, and the quantile of their lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def length_stride(shape: Sequence[int]) -> int:
    """The stride of the planes and rows whose vectors are measured: about 100,000 vectors."""
    return max(1, math.isqrt(math.prod(shape) // 100_000))


def length_quantile(lengths: NDArray[Any], quantile: float) -> float:
    """A quantile of lengths; the maximum of fewer than 1000, which are too few for a quantile."""
    if len(lengths) < 1000:
        return float(lengths.max(initial=0))
    rank = math.ceil(quantile * len(lengths)) - 1
    return float(np.partition(lengths, rank)[rank])
