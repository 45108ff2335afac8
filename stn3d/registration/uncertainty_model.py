"""The expected registration error from its cues: a log-linear model with few coefficients.

The error in length units is ``exp(intercept) * product (cue + floor) ** exponent``. All exponents
have the sign that the cue's meaning demands, so the error rises with every sign of trouble. A body
that has fewer length units has larger errors: all that it shows is smaller too. The
coefficients were fitted by `scripts.bench uncertainty` to pairs with known truth of several kinds,
see docs/uncertainty.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Term:
    """One factor of the model.

    Args:
        floor: Added to the cue; below it, smaller cues mean nothing.
        exponent: Negative where a larger cue means a smaller error.
    """

    floor: float
    exponent: float


@dataclass(frozen=True)
class ErrorModel:
    """A model of the registration error.

    Args:
        intercept: Logarithm of the error in length units where all factors are 1.
        terms: The factors, by the name of the cue.
        bound_factor: The error is below this multiple of the expected error at 90 % of the points.
    """

    intercept: float
    terms: Mapping[str, Term]
    bound_factor: float

    def expected(self, cues: Mapping[str, Tensor]) -> Tensor:
        """The expected error in length units, of the shape of the cues.

        Args:
            cues: By name; those of the terms must be there.
        """
        logarithm = torch.full_like(next(iter(cues.values())), self.intercept)
        for name, term in self.terms.items():
            logarithm += term.exponent * torch.log(cues[name].clamp(min=0) + term.floor)
        return logarithm.clamp(max=math.log(_MOST_UNITS)).exp()


_MOST_UNITS = 100.0  # an error beyond the size of the images is none

FINE_MODEL = ErrorModel(
    intercept=1.013,
    terms={
        "residual": Term(0.1, 0.155),
        "inconsistent": Term(0.1, 0.089),
        "curvature": Term(0.003, -0.202),
        "slope": Term(0.5, 0.819),
        "rough": Term(1, 0.058),
        "backward": Term(0.1, 0.362),
        "size": Term(0, -0.2),
    },
    bound_factor=1.72,
)

COARSE_MODEL = ErrorModel(
    intercept=-0.772,
    terms={
        "residual": Term(0.3, 0.065),
        "inconsistent": Term(0.3, 0.159),
        "difference": Term(0.003, 0.153),
        "curvature": Term(0.003, -0.388),
        "slope": Term(2, 1.678),
        "rough": Term(2, 0.474),
        "size": Term(0, -0.2),
    },
    bound_factor=1.91,
)
