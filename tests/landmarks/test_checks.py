"""Invalid landmarks, weights and options, each with its message."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from stn3d import InputError, register_landmarks
from tests.helpers.landmark_cases import some_points


def line(d: int) -> Tensor:
    return torch.arange(6.0)[:, None] * torch.tensor([1.0, 2, 3][:d]) * 10


FLAT = some_points(3) * torch.tensor([1.0, 1, 0])


BAD: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "shape": (torch.zeros(4, 4), torch.zeros(4, 4), {}, r"fixed .* shape \(4, 4\); give"),
    "pairs": (some_points(3), some_points(3)[1:], {}, "12 fixed and 11 moving landmarks; both"),
    "dimensions": (some_points(3), some_points(2), {}, "are 3D and the moving ones 2D; both"),
    "nan": (some_points(3), some_points(3) / torch.zeros(3), {}, r"moving .* row 1 has NaN or Inf"),
    "few": (some_points(3, 2), some_points(3, 2), {}, "2 landmarks; --kind rigid needs 3 or more"),
    "one": (some_points(3, 1), some_points(3, 1), {}, "there is 1 landmark"),
    "few affine": (some_points(3, 3), some_points(3, 3), {"kind": "affine"}, "needs 4 or more"),
    "line": (line(3), some_points(3, 6), {}, "fixed landmarks lie on one line, .* rigid"),
    "line 2D": (line(2), line(2), {"kind": "tps"}, "lie on one line, .* or use --kind rigid"),
    "plane": (some_points(3), FLAT, {"kind": "affine"}, "moving landmarks lie on one plane"),
    "doubled": (
        torch.cat([some_points(3), some_points(3)[2:3]]),
        some_points(3, 13),
        {},
        "fixed landmarks 3 and 13 have the same position; correct",
    ),
    "kind": (some_points(3), some_points(3), {"kind": "tsp"}, "did you mean tps"),
    "smoothing": (some_points(3), some_points(3), {"smoothing": 1.0}, "applies to --kind tps only"),
    "negative": (some_points(3), some_points(3), {"kind": "tps", "smoothing": -1.0}, "is -1.0"),
    "names": (some_points(3), some_points(3), {"names": ["a"]}, "1 names for 12 landmarks"),
    "weights": (some_points(3), some_points(3), {"weights": [1.0]}, "must be 12 numbers"),
    "weightless": (
        some_points(3),
        some_points(3),
        {"weights": [1.0, 1.0, *[0.0] * 10]},
        "2 landmarks with a weight above 0; --kind rigid needs 3",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_landmarks_are_rejected(case: str) -> None:
    fixed, moving, options, message = BAD[case]
    with pytest.raises(InputError, match=message):
        register_landmarks(fixed, moving, **options)
